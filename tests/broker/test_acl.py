"""May it? Publishing, subscribing, wills and Haltere's own topics, for token sessions, others and bridges."""
import json
import unittest

import harness

ALLOWED, DENIED = 0, 135  # MQTT 5 reason codes
SUB_DENIED = {4: 128, 5: 135}

OWN_TOPICS = ("alerts/critical", "alerts/warning", "alerts/active/d1/x", "alerts/x",
              "devices/d1/health", "devices/d1/availability", "devices/d1/event",
              "system/heartbeat", "$CONTROL/haltere/v1/response", "$CONTROL/haltere/v2")

# As careless as can be: what Haltere guards must hold even so.
OPEN = "haltere 1\nanyone\n  allow all #\n  allow all $CONTROL/#\n"


class Acl(harness.BrokerTest):
    def device(self, broker, client_id="d1", version=5, **claims):
        wire = broker.wire(version)
        self.assertEqual(wire.connect(client_id, "", broker.token(client_id, **claims)), 0,
                         broker.log_tail())
        return wire

    def test_a_device_publishes_to_its_own_topics_and_no_others(self):
        broker = self.start()
        wire = self.device(broker)
        for qos in (1, 2):
            for topic, code in (("devices/d1/telemetry", ALLOWED), ("devices/d1/status", ALLOWED),
                                ("devices/d2/telemetry", DENIED), ("devices/d1/commands", DENIED),
                                ("devices/d1", DENIED), ("devices/d1/telemetry/x", DENIED),
                                ("devices/D1/telemetry", DENIED), ("t/1", DENIED),
                                ("/devices/d1/telemetry", DENIED)):
                self.assertEqual(wire.publish(topic, '{"t":1}', qos=qos), code, topic)

    def test_a_refused_publish_reaches_nobody_in_either_version(self):
        broker = self.start()
        operator = broker.operator().connect()
        operator.subscribe("devices/#")
        for version in (4, 5):
            device = broker.client("d1", version=version).connect()
            device.publish("devices/d2/telemetry", "stolen")
            device.publish("devices/d1/telemetry", '{"t":1}')
            seen = operator.nothing_before("devices/d1/telemetry")
            self.assertNotIn(b"stolen", [m.payload for m in seen])
            device.disconnect()

    def test_a_subscription_is_granted_or_refused_in_both_versions(self):
        broker = self.start()
        for version, refused in SUB_DENIED.items():
            wire = self.device(broker, version=version)
            for topic, code in (("devices/d1/commands", 1), ("devices/d2/commands", refused),
                                ("alerts/critical", refused), ("$SYS/#", refused),
                                ("$share/g/devices/d1/commands", 1),
                                ("$share/g/devices/d2/commands", refused)):
                self.assertEqual(wire.subscribe(topic), code, (version, topic))

    def test_a_wide_subscription_gives_what_may_be_read(self):
        broker = self.start(policy=harness.POLICY + "role wide\n  allow read devices/%d/telemetry\n")
        device = broker.client("d1", claims={"roles": ["wide"]}).connect()
        other = broker.client("d2").connect()
        device.subscribe("devices/+/telemetry")
        other.publish("devices/d2/telemetry", '{"t":2}')
        device.publish("devices/d1/telemetry", '{"t":1}')
        seen = device.nothing_before("devices/d1/telemetry")
        self.assertEqual(seen, [])

    def test_a_shared_subscription_delivers_only_what_may_be_read(self):
        broker = self.start()
        operator = broker.operator().connect()
        device = broker.client("d1").connect()
        self.assertEqual(device.subscribe("$share/g/devices/d1/commands"), 1)
        operator.publish("devices/d1/commands", '{"commandId":"1","command":"x"}')
        self.assertIn(b"commandId", device.next("devices/d1/commands").payload)

    def test_unsubscribing_is_answered(self):
        broker = self.start()
        for version in (4, 5):
            wire = self.device(broker, version=version)
            wire.subscribe("devices/d1/commands")
            self.assertEqual(wire.unsubscribe("devices/d1/commands"), 0)

    def test_a_will_is_held_to_the_policy(self):
        broker = self.start()
        operator = broker.operator().connect()
        operator.subscribe("devices/#")
        for version in (4, 5):
            good = broker.client("d1", version=version, will=("devices/d1/will", "gone")).connect()
            good.drop()
            self.assertEqual(operator.next("devices/d1/will").payload, b"gone")
            bad = broker.client("d2", version=version, will=("devices/d1/will", "forged")).connect()
            bad.drop()
            broker.wait_log(r"acl-deny client=d2 access=write topic=devices/d1/will")
            operator.publish("devices/marker", "")
            seen = operator.nothing_before("devices/marker")
            self.assertNotIn(b"forged", [m.payload for m in seen])

    def test_the_will_of_a_connection_taken_over_is_sent(self):
        broker = self.start()
        operator = broker.operator().connect()
        operator.subscribe("devices/+/will")
        for version in (4, 5):
            first = broker.client("d1", version=version, will=("devices/d1/will", "taken")).connect()
            second = broker.client("d1", version=version).connect()
            first.wait_kicked()
            self.assertEqual(operator.next("devices/d1/will").payload, b"taken")
            second.publish("devices/d1/telemetry", '{"t":1}')
            self.assertTrue(second.online)
            second.disconnect()


class OwnTopics(harness.BrokerTest):
    """Topics only Haltere writes stay so whatever the policy says (DESIGN 11.10)."""

    def test_nobody_publishes_on_haltere_s_own_topics(self):
        broker = self.start(policy=OPEN)
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1", roles=["haltere-admin"])), 0)
        for topic in OWN_TOPICS:
            for retain in (False, True):
                self.assertEqual(wire.publish(topic, "forged", retain=retain), DENIED, topic)
        self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), ALLOWED)
        self.assertEqual(wire.publish("devices/d1/healthy", ""), ALLOWED)
        self.assertEqual(wire.publish("alertsx", ""), ALLOWED)

    def test_no_will_is_sent_on_haltere_s_own_topics_nor_as_a_command(self):
        broker = self.start(policy=OPEN)
        watcher = broker.client("w").connect()
        watcher.subscribe("#")
        watcher.subscribe("$CONTROL/#")
        command = json.dumps({"commands": [{"command": "reload"}]})
        for i, topic in enumerate(OWN_TOPICS + ("$CONTROL/haltere/v1",)):
            client = broker.client(f"c{i}", will=(topic, "forged " + command, 1),
                                   claims={"roles": ["haltere-admin"]})
            if client.attempt() is None and topic.startswith("$CONTROL"):
                continue  # 2.1 does not take such a will to begin with
            self.assertEqual(client.rc, 0)
            client.drop()
            broker.wait_log(f"acl-deny client=c{i} access=write ")
        watcher.publish("marker", "")
        self.assertFalse([m for m in watcher.nothing_before("marker") if b"forged" in m.payload])
        self.assertEqual(broker.count("policy read again"), 0)

    def test_a_retained_forgery_from_before_is_invisible(self):
        broker = self.start(persistence=True, plugin=False, conf="allow_anonymous true")
        forger = harness.Client(broker, "forger").connect()
        forger.publish("alerts/active/d1/fire", '{"alertname":"fire"}', retain=True)
        forger.publish("devices/d1/health", '{"state":"fine"}', retain=True)
        forger.publish("t/plain", "kept", retain=True)
        forger.disconnect()
        broker.stop()
        broker.plugin, broker.conf = True, "check_retain_source false"
        broker.policy.write_text(OPEN)
        broker.start()
        watcher = broker.client("w").connect()
        watcher.subscribe("#")
        self.assertEqual(watcher.next("t/plain").payload, b"kept")
        watcher.publish("t/marker", "")
        seen = watcher.nothing_before("t/marker")
        self.assertFalse([m for m in seen if m.retain and m.topic in
                          ("alerts/active/d1/fire", "devices/d1/health")])

    def test_what_haltere_retains_is_visible(self):
        broker = self.start()
        broker.client("d1").connect()
        operator = broker.operator().connect()
        operator.subscribe("devices/d1/availability")
        self.assertEqual(operator.next("devices/d1/availability").payload, b"online")

    def test_a_bridge_forges_nothing_and_commands_nothing(self):
        remote = self.start("remote", plugin=False, conf="allow_anonymous true")
        broker = self.start(policy=OPEN, conf=f"""
connection bridge
address 127.0.0.1:{remote.port}
bridge_protocol_version mqttv311
topic # in 1
topic $CONTROL/# in 1
""")
        broker.wait_log("Received CONNACK on connection")
        watcher = broker.client("w").connect()
        watcher.subscribe("#")
        outside = harness.Client(remote, "outside").connect()
        wait = "bridged/first"
        remote.wait_log("Sending SUBACK to .*bridge")
        outside.publish(wait, "", retain=True)
        watcher.next(wait)
        for topic in OWN_TOPICS:
            outside.publish(topic, "forged")
        outside.publish("$CONTROL/haltere/v1", {"commands": [{"command": "reload"}]})
        outside.publish("bridged/last", "")
        seen = watcher.nothing_before("bridged/last")
        self.assertFalse([m for m in seen if b"forged" in m.payload])
        broker.wait_log("acl-deny .*topic=alerts/critical reason=own_topic")
        self.assertEqual(broker.count("policy read again"), 0)
        outside.disconnect()


class Commands(harness.BrokerTest):
    """$CONTROL/haltere/v1: each command is authorised on its own (DESIGN 11.2)."""

    def test_an_admin_asks_for_status_and_devices(self):
        broker = self.start()
        admin = broker.operator().connect()
        broker.client("d1").connect().publish("devices/d1/telemetry", {"sensors": {"t": 20}})
        answers = harness.control(admin, {"command": "getStatus", "correlationData": "c1"},
                                  {"command": "getDevice", "deviceId": "d1"},
                                  {"command": "getDevice", "deviceId": "nobody"},
                                  {"command": "getDevice"}, {"command": "dance"}, {})
        self.assertEqual([("data" in a, "error" in a) for a in answers],
                         [(True, False), (True, False)] + [(False, True)] * 4)
        self.assertEqual(answers[0]["correlationData"], "c1")
        self.assertIn("uptime", json.dumps(answers[0]["data"]))
        self.assertEqual(answers[1]["data"]["deviceId"], "d1")
        self.assertTrue(answers[1]["data"]["online"])

    def test_a_device_may_renew_and_nothing_else(self):
        broker = self.start()
        device = broker.client("d1").connect()
        for command in ("getStatus", "getDevice", "reload", "acknowledgeAlert", "forgetDevice"):
            answer = harness.control(device, {"command": command, "deviceId": "d2", "id": "x"})[0]
            self.assertIn("not authorised", answer["error"])
        answer = harness.control(device, {"command": "renew", "token": broker.token("d1")})[0]
        self.assertEqual(answer, {"command": "renew"})
        for token in (broker.token("d2"), broker.token("d1", ttl=-60), "x", None, 7):
            answer = harness.control(device, {"command": "renew", "token": token})[0]
            self.assertIn("error", answer, token)
        self.assertTrue(device.online)

    def test_a_device_forgets_only_when_it_is_offline(self):
        broker = self.start()
        admin = broker.operator().connect()
        device = broker.client("d1").connect()
        self.assertIn("online", harness.control(admin, {"command": "forgetDevice",
                                                        "deviceId": "d1"})[0]["error"])
        device.disconnect()
        harness.wait_until(lambda: not harness.control(
            admin, {"command": "getDevice", "deviceId": "d1"})[0]["data"]["online"], "d1 is offline")
        self.assertEqual(harness.control(admin, {"command": "forgetDevice", "deviceId": "d1"})[0],
                         {"command": "forgetDevice"})
        self.assertIn("error", harness.control(admin, {"command": "getDevice",
                                                       "deviceId": "d1"})[0])

    def test_what_is_not_a_request_is_answered_with_an_error(self):
        broker = self.start()
        admin = broker.operator().connect()
        requests = [b"", b"{", b"[]", b"{}", b'{"commands":{}}', b'{"commands":[{"a":1}]} x', b"\xff",
                    b'{"commands":[' + b"[" * 100 + b"]" * 100 + b"]}",
                    json.dumps({"commands": [{"command": "reload"}] * 33}).encode(),
                    b'{"commands":[],"x":"' + b"x" * 65536 + b'"}']
        for request in requests:
            admin.publish("$CONTROL/haltere/v1", request)
            answer = admin.next_json("$CONTROL/haltere/v1/response")["responses"]
            self.assertEqual(len(answer), 1, request[:40])
            self.assertIn("error", answer[0], request[:40])
        answer = harness.control(admin, *[{"command": "getStatus"}] * 32)
        self.assertEqual(len(answer), 32)
        self.assertEqual(broker.count("policy read again"), 0)
        admin.publish("$CONTROL/haltere/v1", {"commands": []})
        self.assertEqual(admin.next_json("$CONTROL/haltere/v1/response"), {"responses": []})

    def test_the_answer_goes_to_the_requester_alone(self):
        broker = self.start(policy=OPEN)
        spy = broker.client("spy").connect()
        spy.subscribe("$CONTROL/#")
        spy.subscribe("#")
        admin = broker.operator().connect()
        harness.control(admin, {"command": "getStatus"})
        admin.publish("marker", "")
        self.assertFalse([m for m in spy.nothing_before("marker") if "$CONTROL" in m.topic])


if __name__ == "__main__":
    unittest.main()
