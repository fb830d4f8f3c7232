"""Limits of the policy on a running broker: what is too big, too often, too lasting or too many."""
import subprocess
import unittest

import harness

ALLOWED, DENIED = 0, 135  # MQTT 5 reason codes

POLICY = """haltere 1
anyone
  allow write devices/%d/telemetry
  allow write devices/%d/status
  allow write devices/%d/will
  allow write free/#
  allow read  devices/%d/#
  limit payload 32 on devices/+/telemetry
  limit qos 1 on devices/%d/status
  limit retain no on devices/#
  limit payload 16 on devices/%d/will
role slow
  limit messages 3/h burst 5
role thrifty
  limit bytes 100/h
role narrow
  limit subscriptions 2
role boss
  allow read #
"""


class Limits(harness.BrokerTest):
    def setUp(self):
        super().setUp()
        self.broker = self.start(policy=POLICY, options={"heartbeat_interval": "1s"}, rules={"version": 1, "rules": [
            {"name": "limit_exceeded", "count": 3}, {"name": "acl_denied", "count": 1}]})

    def device(self, client_id="d1", version=5, clean=True, **claims):
        wire = self.broker.wire(version)
        self.assertEqual(wire.connect(client_id, "", self.broker.token(client_id, **claims),
                                      clean=clean), 0, self.broker.log_tail())
        return wire

    def test_a_payload_at_the_limit_passes_and_one_byte_more_is_denied(self):
        wire = self.device()
        for qos in (1, 2):
            self.assertEqual(wire.publish("devices/d1/telemetry", "1" * 32, qos=qos), ALLOWED)
            self.assertEqual(wire.publish("devices/d1/telemetry", "1" * 33, qos=qos), DENIED)
        self.assertEqual(wire.publish("free/x", "1" * 1000), ALLOWED)
        self.broker.wait_log(r"acl-deny client=d1 access=write topic=devices/d1/telemetry "
                             r"reason=limit:payload")

    def test_what_is_denied_reaches_nobody(self):
        boss = self.broker.client("boss", claims={"roles": ["boss"]}).connect()
        boss.subscribe("devices/#")
        wire = self.device()
        wire.publish("devices/d1/telemetry", "7" * 33)
        wire.publish("devices/d1/telemetry", "5", retain=True)
        wire.publish("devices/d1/telemetry", "20.5")
        seen = boss.nothing_before("devices/d1/telemetry")
        self.assertNotIn("devices/d1/telemetry", [m.topic for m in seen])

    def test_qos_and_retain(self):
        wire = self.device()
        self.assertEqual(wire.publish("devices/d1/status", '{"status":"online"}', qos=1), ALLOWED)
        self.assertEqual(wire.publish("devices/d1/status", '{"status":"online"}', qos=2), DENIED)
        self.assertEqual(wire.publish("devices/d1/telemetry", "1", retain=True), DENIED)
        self.assertEqual(wire.publish("free/x", "1", qos=2, retain=True), ALLOWED)
        self.broker.wait_log("reason=limit:qos")
        self.broker.wait_log("reason=limit:retain")

    def test_a_burst_passes_and_then_nothing_until_time_has_gone_by(self):
        wire = self.device(roles=["slow"])
        answers = [wire.publish("devices/d1/telemetry", "1", qos=1 + i % 2) for i in range(7)]
        self.assertEqual(answers, [ALLOWED] * 5 + [DENIED] * 2)
        self.broker.wait_log("topic=devices/d1/telemetry reason=limit:messages", times=2)
        self.assertTrue(wire.alive(), "a denied message ends no connection")
        # neither a new connection nor a reload of the policy is an amnesty
        again = self.device(roles=["slow"])
        self.assertEqual(again.publish("devices/d1/telemetry", "1"), DENIED)
        self.broker.write_policy(POLICY + "# changed\n")
        self.broker.sighup()
        self.assertEqual(again.publish("devices/d1/telemetry", "1"), DENIED)
        # others have their own
        self.assertEqual(self.device("d2", roles=["slow"]).publish("devices/d2/telemetry", "1"), ALLOWED)

    def test_bytes_are_counted(self):
        wire = self.device(roles=["thrifty"])
        self.assertEqual(wire.publish("free/x", "1" * 60), ALLOWED)
        self.assertEqual(wire.publish("free/x", "1" * 60), DENIED)
        self.assertEqual(wire.publish("free/x", "1" * 40), ALLOWED)
        self.assertEqual(wire.publish("free/x", "1"), DENIED)
        self.broker.wait_log("topic=free/x reason=limit:bytes", times=2)

    def test_subscriptions_are_counted_and_given_back(self):
        # The same filter twice counts once (tests/unit/policy_limit.c): asked here, 2.0.11 itself loses 29 bytes.
        wire = self.device(roles=["narrow"])
        self.assertEqual(wire.subscribe("devices/d1/a"), 1)
        self.assertEqual(wire.subscribe("devices/d1/b"), 1)
        self.assertEqual(wire.subscribe("devices/d1/c"), DENIED)
        self.assertEqual(wire.unsubscribe("devices/d1/a"), 0)
        self.assertEqual(wire.subscribe("devices/d1/c"), 1)
        self.broker.wait_log("access=subscribe topic=devices/d1/c reason=limit:subscriptions")
        wire.disconnect()
        # a clean start begins with none
        again = self.device(roles=["narrow"])
        self.assertEqual(again.subscribe("devices/d1/d"), 1)
        self.assertEqual(again.subscribe("devices/d1/e"), 1)
        self.assertEqual(again.subscribe("devices/d1/f"), DENIED)

    def test_a_durable_session_keeps_its_subscriptions_in_the_count(self):
        wire = self.device("keeper", version=4, clean=False, roles=["narrow"])
        self.assertEqual(wire.subscribe("devices/keeper/a"), 1)
        self.assertEqual(wire.subscribe("devices/keeper/b"), 1)
        wire.disconnect()
        again = self.device("keeper", version=4, clean=False, roles=["narrow"])
        self.assertEqual(again.subscribe("devices/keeper/c"), 128)

    def test_a_will_is_judged_by_what_it_is(self):
        boss = self.broker.client("boss", claims={"roles": ["boss"]}).connect()
        boss.subscribe("devices/+/will")
        boss.subscribe("free/#")
        for name, will in (("w1", "x" * 17), ("w2", "x" * 16)):
            wire = self.broker.wire(5)
            self.assertEqual(wire.connect(name, "", self.broker.token(name),
                                          will=(f"devices/{name}/will", will)), 0)
            wire.close()
        self.assertEqual(boss.next("devices/w2/will").payload, b"x" * 16)
        self.broker.wait_log("topic=devices/w1/will reason=limit:payload")

    def test_repeated_breaches_are_an_alert_and_are_counted(self):
        boss = self.broker.client("boss", claims={"roles": ["boss", "haltere-admin"]}).connect()
        boss.subscribe("alerts/warning")
        wire = self.device()
        for _ in range(3):
            wire.publish("devices/d1/telemetry", "1" * 40)
        alert = boss.next_json("alerts/warning")
        self.assertEqual((alert["alertname"], alert["deviceId"]), ("limit_exceeded", "d1"))
        self.assertIn("limit:payload", alert["message"])
        boss.subscribe("system/heartbeat")
        beat = boss.next_json("system/heartbeat", lambda b: b["counters"]["limit_denied"] >= 3)
        self.assertGreaterEqual(beat["counters"]["limit_denied"], 3)

    def test_a_client_without_limits_is_not_counted(self):
        wire = self.device()
        for _ in range(50):
            self.assertEqual(wire.publish("free/x", "1" * 500), ALLOWED)


class OtherLogins(harness.BrokerTest):
    def test_limits_on_the_message_itself_hold_for_other_logins(self):
        broker = self.make(policy="haltere 1\nuser bob\n allow write t/#\n limit payload 4\n",
                           options={"allow_other_auth": "true"})
        passwords = broker.dir / "passwd"
        subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "bob", "secret"], check=True,
                       capture_output=True)
        broker.conf = f"password_file {passwords}"
        broker.start()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("bob1", "bob", "secret"), 0, broker.log_tail())
        self.assertEqual(wire.publish("t/x", "1234"), ALLOWED)
        self.assertEqual(wire.publish("t/x", "12345"), DENIED)
        broker.wait_log("client=bob1 access=write topic=t/x reason=limit:payload")


if __name__ == "__main__":
    unittest.main()
