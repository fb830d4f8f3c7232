"""What was denied to a device last: kept in the store, over a restart, until the device is forgotten."""
import json
import unittest

import harness


class Denials(harness.BrokerTest):
    def denials(self, broker, device):
        document = json.loads(broker.command("device", "denials", "--db", str(broker.db), "--json", device))
        return document["denials"]

    def stored(self, broker, device, count):
        harness.wait_until(lambda: self.count_of(broker, device) >= count, f"{count} denials of {device} stored")
        return self.denials(broker, device)

    def count_of(self, broker, device):
        try:
            return sum(d["count"] for d in self.denials(broker, device))
        except AssertionError:
            return 0  # not known to the store yet

    def test_denials_are_aggregated_and_survive_a_restart(self):
        broker = self.start(options={"flush_interval": "100ms"})
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        for _ in range(3):
            wire.publish("devices/d2/telemetry", "1")
        wire.subscribe("alerts/#")
        kept = self.stored(broker, "d1", 4)
        self.assertEqual(sorted((d["access"], d["topic"], d["reason"], d["count"]) for d in kept),
                         [("subscribe", "alerts/#", "policy", 1), ("write", "devices/d2/telemetry", "policy", 3)])
        self.assertRegex(kept[0]["last"], r"^20\d\d-.*Z$")
        broker.restart()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        wire.publish("devices/d2/telemetry", "1")
        kept = self.stored(broker, "d1", 5)
        self.assertEqual(sorted(d["count"] for d in kept), [1, 4])
        table = broker.command("device", "denials", "--db", str(broker.db), "d1")
        self.assertIn("devices/d2/telemetry", table)
        why = json.loads(broker.command("acl", "explain", "--config", str(broker.dir / "mosquitto.conf"), "--json",
                                        "--device", "d1", "write", "devices/d2/telemetry", check=False))
        self.assertEqual((why["decision"], why["client"]["sub"]), ("deny", "d1"))
        self.assertEqual(why["near"]["why"], "level 2 is 'd2', not 'd1' (%d)")

    def test_a_device_without_denials_and_one_that_is_not_known(self):
        broker = self.start(options={"flush_interval": "100ms"})
        wire = broker.wire(5)
        wire.connect("d1", "", broker.token("d1"))
        wire.publish("devices/d1/telemetry", '{"t":1}')
        harness.wait_until(lambda: "d1" in broker.command("device", "list", "--db", str(broker.db)), "d1 is stored")
        self.assertEqual(self.denials(broker, "d1"), [])
        with self.assertRaisesRegex(AssertionError, "no device 'd9'"):
            self.denials(broker, "d9")

    def test_a_forgotten_device_leaves_no_denials(self):
        broker = self.start(options={"flush_interval": "100ms"},
                            policy=harness.POLICY + "anyone\n  allow read $CONTROL/haltere/v1/response\n")
        wire = broker.wire(5)
        wire.connect("d1", "", broker.token("d1"))
        wire.publish("devices/d2/telemetry", "1")
        self.stored(broker, "d1", 1)
        wire.disconnect()
        operator = broker.operator().connect()
        operator.subscribe("$CONTROL/haltere/v1/response")
        harness.wait_until(lambda: "error" not in harness.control(
            operator, {"command": "forgetDevice", "deviceId": "d1"})[0], "d1 is forgotten")
        wire = broker.wire(5)
        wire.connect("d1", "", broker.token("d1"))
        wire.publish("devices/d1/telemetry", '{"t":1}')
        wire.publish("devices/d3/telemetry", "1")
        harness.wait_until(lambda: [d["topic"] for d in self.stored(broker, "d1", 1)] == ["devices/d3/telemetry"],
                           "what was denied before is gone")


if __name__ == "__main__":
    unittest.main()
