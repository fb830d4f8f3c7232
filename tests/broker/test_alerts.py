"""test_alerts.py - telemetry to alert and back, as a subscriber of a real broker sees it."""
import json
import math
import subprocess
import unittest

import harness

RULES = {
    "version": 1,
    "defaults": {"cooldown": "0s"},
    "rules": [
        {"name": "temperature_high", "clearAfter": "0s", "exceptClasses": ["host"]},
        {"name": "silence", "after": "2s", "cadenceFactor": 0},
        {"name": "spoof", "clearAfter": "1s"},
        {"name": "malformed", "clearAfter": "1s"},
        {"name": "auth_failure", "count": 3, "clearAfter": "1s"},
        {"name": "acl_denied", "count": 3, "clearAfter": "1s"},
    ],
}
QUIET = {"version": 1, "defaults": {"cooldown": "0s"},
         "rules": [{"name": "temperature_high", "clearAfter": "0s"},
                   {"name": "silence", "enabled": False}]}


def named(alertname, status="firing", device=None):
    return lambda a: a["alertname"] == alertname and a["status"] == status and \
        (device is None or a["deviceId"] == device)


class Alerts(harness.BrokerTest):
    def setUp(self):
        super().setUp()
        self.broker = self.start(rules=QUIET, options={"health_interval": "1s"})
        self.watch = self.broker.operator("watch", version=5).connect()
        self.watch.subscribe("alerts/#")
        self.watch.subscribe("devices/+/health")
        self.watch.subscribe("devices/+/availability")

    def reading(self, device, **sensors):
        device.publish(f"devices/{device.client_id}/telemetry", {"sensors": sensors})

    def test_a_hot_device_alerts_and_resolves(self):
        oven = self.broker.client("oven").connect()
        self.reading(oven, temperature=25.0)
        self.reading(oven, temperature=95.0)
        alert = self.watch.next_json("alerts/critical", named("temperature_high"))
        self.assertEqual((alert["v"], alert["deviceId"], alert["metric"], alert["value"],
                          alert["threshold"], alert["severity"]),
                         (1, "oven", "temperature", 95, 80, "critical"))
        for member in ("id", "stream", "seq", "count", "message", "labels", "annotations",
                       "startsAt", "updatedAt", "ts"):
            self.assertIn(member, alert)
        active = self.watch.next_json("alerts/active/oven/+")
        self.assertEqual(active["id"], alert["id"])
        self.reading(oven, temperature=30.0)
        resolved = self.watch.next_json("alerts/critical", named("temperature_high", "resolved"))
        self.assertEqual(resolved["id"], alert["id"])
        self.assertIn("endsAt", resolved)
        self.assertEqual(resolved["seq"], alert["seq"] + 1)
        self.assertEqual(self.watch.next("alerts/active/oven/+").payload, b"")

    def test_alert_messages_say_what_they_are_on_mqtt_5(self):
        oven = self.broker.client("oven").connect()
        self.reading(oven, temperature=95.0)
        message = self.watch.next("alerts/critical")
        self.assertEqual(message.properties.ContentType, "application/json")
        self.assertEqual(message.qos, 1)
        self.assertFalse(message.retain)

    def test_a_jump_is_an_anomaly(self):
        device = self.broker.client("d1").connect()
        for i in range(120):
            self.reading(device, humidity=45 + math.sin(i * 1.7))
        self.reading(device, humidity=75)
        alert = self.watch.next_json("alerts/warning", named("anomaly"))
        self.assertEqual((alert["deviceId"], alert["metric"], alert["value"]), ("d1", "humidity", 75))
        self.assertGreater(alert["score"], 0.5)
        self.assertAlmostEqual(alert["expected"], 45, delta=2)

    def test_readings_of_every_shape_count(self):
        device = self.broker.client("d1").connect()
        for payload, metric in (('{"sensors":{"temperature":99}}', "temperature"),
                                ('{"deviceId":"d1","timestamp":"2026-01-01T00:00:00Z",'
                                 '"sensors":{"temperature":99},"location":{"latitude":1,"longitude":2}}',
                                 "temperature"), ('{"temperature":99,"unit":"C"}', "temperature")):
            device.publish("devices/d1/telemetry", payload)
            alert = self.watch.next_json("alerts/critical", named("temperature_high"))
            self.assertEqual(alert["metric"], metric)
            self.reading(device, temperature=20.0)
            self.watch.next_json("alerts/critical", named("temperature_high", "resolved"))
        device.publish("devices/d1/telemetry", "21.5")
        operator = self.broker.operator("admin").connect()
        answer = harness.control(operator, {"command": "getStatus"})[0]
        self.assertEqual(answer["data"]["counters"]["malformed"], 0)
        self.assertEqual(answer["data"]["counters"]["readings"], 7)

    def test_health_and_availability_follow_the_device(self):
        device = self.broker.client("d1").connect()
        self.assertEqual(self.watch.next("devices/d1/availability").payload, b"online")
        self.reading(device, temperature=20.0)
        health = self.watch.next_json("devices/d1/health", lambda h: h["band"] == "healthy")
        self.assertEqual((health["health"], health["online"], health["state"]), (1, True, "ready"))
        device.publish("devices/d1/status", {"status": "error", "health": {"battery": 4}})
        health = self.watch.next_json("devices/d1/health", lambda h: h["band"] == "critical")
        self.assertEqual({r["factor"] for r in health["reasons"]}, {"status", "battery"})
        device.drop()
        self.assertEqual(self.watch.next("devices/d1/availability").payload, b"offline")
        late = self.broker.operator("late").connect()
        late.subscribe("devices/d1/#")
        retained = late.next("devices/d1/availability")
        self.assertTrue(retained.retain)
        self.assertEqual(retained.payload, b"offline")

    def test_a_killed_client_is_offline_for_a_plain_mosquitto_sub(self):
        token = self.broker.token("plain", roles=["operator"])
        with subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.broker.port),
                               "-i", "plain", "-u", "plain", "-P", token, "-v", "-t",
                               "devices/d9/availability"], stdout=subprocess.PIPE, text=True) as sub:
            self.broker.wait_log(r"SUBACK to plain")
            victim = subprocess.Popen(
                ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.broker.port), "-i", "d9", "-u",
                 "d9", "-P", self.broker.token("d9"), "-t", "devices/d9/commands"])
            self.assertEqual(sub.stdout.readline().strip(), "devices/d9/availability online")
            victim.kill()
            victim.wait()
            self.assertEqual(sub.stdout.readline().strip(), "devices/d9/availability offline")
            sub.kill()

    def test_two_hundred_clients_at_once(self):
        devices = [self.broker.client(f"d{i:03}") for i in range(200)]
        for device in devices:
            device.connect()
        for device in devices:
            device.publish(f"devices/{device.client_id}/telemetry", '{"temperature":20}', qos=0)
        hot = devices[137]
        self.reading(hot, temperature=95.0)
        alert = self.watch.next_json("alerts/critical", named("temperature_high"))
        self.assertEqual(alert["deviceId"], "d137")
        operator = self.broker.operator("admin").connect()
        harness.wait_until(lambda: harness.control(operator, {"command": "getStatus"})[0]["data"]
                           ["counters"]["telemetry"] == 201, "all messages are counted")
        for device in devices:
            self.assertTrue(device.online)


class Counted(harness.BrokerTest):
    def setUp(self):
        super().setUp()
        self.broker = self.start(rules=RULES)
        self.watch = self.broker.operator("watch").connect()
        self.watch.subscribe("alerts/+")

    def test_a_spoof_is_told_and_not_delivered(self):
        device = self.broker.client("d1").connect()
        self.watch.subscribe("devices/+/telemetry")
        device.publish("devices/d1/telemetry", {"deviceId": "d2", "sensors": {"temperature": 20}})
        device.publish("devices/d1/telemetry", {"deviceId": "d1", "sensors": {"temperature": 21}})
        alert = self.watch.next_json("alerts/critical", named("spoof"))
        self.assertEqual(alert["deviceId"], "d1")
        self.assertIn("d2", alert["message"])
        seen = json.loads(self.watch.next("devices/d1/telemetry").payload)
        self.assertEqual(seen["sensors"]["temperature"], 21, "the forged one was not delivered")
        self.watch.next_json("alerts/critical", named("spoof", "resolved"))

    def test_malformed_payloads_crash_nothing_and_are_one_alert(self):
        device = self.broker.client("d1").connect()
        payloads = [b"", b"{", b"}", b"[]", b"null", b'"text"', b"\xff\xfe", b"\x00", b'{"sensors":[]}',
                    b'{"sensors":{"a":"b"}}', b'{"sensors":{"a":1e999}}', b'{"a":NaN}', b"{" * 100,
                    b"[" * 5000, b'{"sensors":{"a":1},"sensors"', b'{"timestamp":"yesterday","sensors":{"a":1}}',
                    b'{"deviceId":7,"sensors":{"a":1}}', b"x" * 300000, b'{"sensors":{}}']
        for payload in payloads:
            device.publish("devices/d1/telemetry", payload)
            device.publish("devices/d1/status", payload)
        alert = self.watch.next_json("alerts/warning", named("malformed"))
        self.assertEqual(alert["deviceId"], "d1")
        self.watch.next_json("alerts/warning", named("malformed", "resolved"))
        operator = self.broker.operator("admin").connect()
        counters = harness.control(operator, {"command": "getStatus"})[0]["data"]["counters"]
        self.assertEqual(counters["telemetry"], len(payloads))
        self.assertGreaterEqual(counters["malformed"], len(payloads))
        self.assertTrue(device.online)

    def test_silence_is_told_and_ends_with_the_next_message(self):
        device = self.broker.client("d1").connect()
        device.publish("devices/d1/telemetry", '{"a":1}')
        alert = self.watch.next_json("alerts/critical", named("silence", device="d1"))
        self.assertGreaterEqual(alert["value"], 2)
        device.publish("devices/d1/telemetry", '{"a":1}')
        self.watch.next_json("alerts/critical", named("silence", "resolved", "d1"))

    def test_refused_logins_alert_on_the_device_they_claim(self):
        self.broker.client("d1").connect().disconnect()
        other = harness.Key(self.dir, "HS256", name="forger")
        for _ in range(3):
            self.broker.client("d1", token=other.token("d1")).connect(expect=5)
        alert = self.watch.next_json("alerts/warning", named("auth_failure"))
        self.assertEqual(alert["deviceId"], "d1")
        self.assertIn("signature", alert["message"])
        self.watch.next_json("alerts/warning", named("auth_failure", "resolved"))
        for _ in range(3):
            self.broker.client("stranger", token=other.token("stranger")).connect(expect=5)
        alert = self.watch.next_json("alerts/warning", named("auth_failure"))
        self.assertEqual(alert["deviceId"], "$broker")

    def test_denied_publishes_alert(self):
        device = self.broker.client("d1").connect()
        for _ in range(3):
            device.publish("devices/d2/telemetry", "1")
        alert = self.watch.next_json("alerts/warning", named("acl_denied"))
        self.assertEqual(alert["deviceId"], "d1")
        self.assertIn("devices/d2/telemetry", alert["message"])


if __name__ == "__main__":
    unittest.main()
