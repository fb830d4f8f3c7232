"""What a new policy changes for the clients that are there, and what a policy in the shadow would change."""
import json
import unittest

import harness

LAMP = "role lamp\n  allow read lamps/%d/#\n  allow write lamps/%d/state\n"
MORE = harness.POLICY + LAMP
RESPONSE = "anyone\n  allow read $CONTROL/haltere/v1/response\n"


class Change(harness.BrokerTest):
    def fleet(self, broker, count):
        """`count` lamps that have subscribed and published, and the events they are told."""
        lamps = []
        for n in range(count):
            lamp = broker.client(f"lamp-{n}", claims={"roles": ["lamp"]}).connect()
            lamp.subscribe(f"devices/lamp-{n}/event")
            lamp.subscribe(f"lamps/lamp-{n}/set")
            lamp.publish(f"lamps/lamp-{n}/state", "on")
            lamps.append(lamp)
        return lamps

    def test_it_tells_how_many_clients_change_and_whom(self):
        broker = self.start(policy=MORE)
        self.fleet(broker, 3)
        others = [broker.client(f"d{n}").connect() for n in range(4)]
        for n, other in enumerate(others):
            other.publish(f"devices/d{n}/telemetry", '{"t":1}')
        broker.write_policy(MORE.replace("allow write lamps/%d/state", "allow write lamps/%d/status"))
        broker.sighup()
        broker.wait_log("3 of 7 clients change, subscriptions lost by 0")
        self.assertRegex(broker.log(), r"policy change: client lamp-\d may no longer write lamps/lamp-\d/state "
                                       r"\(no rule allows it\)")
        broker.write_policy(MORE)
        broker.sighup()
        broker.wait_log("3 of 7 clients change")
        self.assertRegex(broker.log(), r"client lamp-\d may now write lamps/lamp-\d/state "
                                       r"\(.*policy.acl:\d+: allow write lamps/%d/state\)")
        broker.write_policy(MORE + "# nothing but a word\n")
        broker.sighup()
        broker.wait_log("0 of 7 clients change")
        harness.wait_until(lambda: "3 of 7 clients change" in broker.command(
            "audit", "list", "--db", str(broker.db), "--json"), "it is in the audit")

    def test_only_who_loses_a_held_subscription_is_told(self):
        broker = self.start(policy=MORE)
        lamps = self.fleet(broker, 2)
        given_up, never, plain = (broker.client(name, claims={"roles": ["lamp"]}).connect()
                                  for name in ("given-up", "never", "plain"))
        for name, client in (("given-up", given_up), ("never", never), ("plain", plain)):
            client.subscribe(f"devices/{name}/event")
        given_up.subscribe("lamps/given-up/set")
        given_up.unsubscribe("lamps/given-up/set")
        self.assertIn(never.try_subscribe("lamps/other/set"), (0x80, 0x87))
        broker.write_policy(MORE.replace("allow read lamps/%d/#", "allow read lamps/%d/status"))
        broker.sighup()
        for n, lamp in enumerate(lamps):
            event = lamp.next_json(f"devices/lamp-{n}/event", lambda e: e["type"] == "subscription_lost")
            self.assertEqual((event["filters"], event["reason"], event["clientId"]),
                             ([f"lamps/lamp-{n}/set"], "policy", f"lamp-{n}"))
        broker.wait_log("2 of 5 clients change, subscriptions lost by 2")
        operator = broker.operator().connect()
        for name, client in (("given-up", given_up), ("never", never), ("plain", plain)):
            operator.publish(f"devices/{name}/commands", "end")
            client.subscribe(f"devices/{name}/commands")
            operator.publish(f"devices/{name}/commands", "end")
            seen = client.nothing_before(f"devices/{name}/commands")
            self.assertFalse([m for m in seen if b"subscription_lost" in m.payload], name)

    def test_a_clean_start_holds_nothing_of_before(self):
        broker = self.start(policy=MORE)
        token = broker.token("lamp-9", roles=["lamp"])
        wire = broker.wire(4)
        self.assertEqual(wire.connect("lamp-9", "", token), 0)
        self.assertEqual(wire.subscribe("lamps/lamp-9/set"), 1)
        wire.disconnect()
        again = broker.wire(4)
        self.assertEqual(again.connect("lamp-9", "", token), 0)
        broker.write_policy(MORE.replace("allow read lamps/%d/#", "allow read lamps/%d/status"))
        broker.sighup()
        broker.wait_log("0 of 1 clients change, subscriptions lost by 0")

    def test_who_has_left_without_a_durable_session_holds_nothing(self):
        broker = self.start(policy=MORE)
        operator = broker.operator().connect()
        operator.subscribe("devices/lamp-9/event")
        wire = broker.wire(4)
        self.assertEqual(wire.connect("lamp-9", "", broker.token("lamp-9", roles=["lamp"])), 0)
        self.assertEqual(wire.subscribe("lamps/lamp-9/set"), 1)
        wire.disconnect()
        operator.next_json("devices/lamp-9/event", lambda e: e["type"] == "disconnected")
        broker.write_policy(MORE.replace("allow read lamps/%d/#", "allow read lamps/%d/status"))
        broker.sighup()
        broker.wait_log(r"clients change, subscriptions lost by \d")
        self.assertIn("subscriptions lost by 0", broker.log())

    def test_an_offline_session_that_asks_after_the_change_counts_too(self):
        broker = self.start(policy=MORE)
        wire = broker.wire(4)
        self.assertEqual(wire.connect("lamp-9", "", broker.token("lamp-9", roles=["lamp"]), clean=False), 0)
        self.assertEqual(wire.subscribe("lamps/lamp-9/set"), 1)
        wire.disconnect()
        broker.write_policy(MORE.replace("allow read lamps/%d/#", "allow read lamps/%d/status"))
        broker.sighup()
        broker.wait_log("1 of 1 clients change, subscriptions lost by 1")

    def test_renewed_claims_that_allow_less_are_told_as_well(self):
        broker = self.start(policy=MORE)
        lamp = broker.client("lamp-1", claims={"roles": ["lamp"]}).connect()
        lamp.subscribe("devices/lamp-1/event")
        lamp.subscribe("lamps/lamp-1/set")
        lamp.publish("$CONTROL/haltere/v1", {"commands": [{"command": "renew", "token": broker.token("lamp-1")}]})
        lamp.next_json("devices/lamp-1/event", lambda e: e["type"] == "token_renewed")
        lamp.publish("devices/lamp-1/telemetry", '{"t":1}')
        event = lamp.next_json("devices/lamp-1/event", lambda e: e["type"] == "subscription_lost")
        self.assertEqual(event["filters"], ["lamps/lamp-1/set"])


class Shadow(harness.BrokerTest):
    def shadowed(self, shadow, **options):
        broker = self.make(policy=MORE)
        self.shadow = broker.dir / "shadow.acl"
        self.shadow.write_text(shadow)
        broker.options.update({"acl_shadow_file": str(self.shadow), "flush_interval": "100ms", **options})
        return broker.start()

    def report(self, broker, *args):
        return json.loads(broker.command("acl", "shadow", "report", "--db", str(broker.db), "--json", *args))

    def stored(self, broker, checked):
        def enough():
            try:
                return self.report(broker)["checked"] >= checked
            except AssertionError:
                return False  # nothing is written yet

        harness.wait_until(enough, f"{checked} checks are stored")
        return self.report(broker)

    def test_it_has_no_effect_and_tells_what_it_would_have(self):
        stricter = MORE.replace("  allow write devices/%d/telemetry\n", "").replace(
            "  allow write lamps/%d/state\n", "  allow write lamps/%d/state\n  allow write extra/%d\n")
        broker = self.shadowed(stricter + "deny write lamps/lamp-2/state\n")
        wires = {}
        for name in ("lamp-1", "lamp-2"):
            wires[name] = broker.wire(5)
            self.assertEqual(wires[name].connect(name, "", broker.token(name, roles=["lamp"])), 0)
            for _ in range(3):
                self.assertEqual(wires[name].publish(f"devices/{name}/telemetry", '{"t":1}'), 0)
            self.assertEqual(wires[name].publish(f"lamps/{name}/state", "on"), 0)
            self.assertEqual(wires[name].publish(f"extra/{name}", "1"), 135)
        report = self.stored(broker, 10)
        self.assertEqual((report["checked"], report["wouldDeny"], report["wouldAllow"]), (10, 7, 2))
        found = {(d["access"], d["now"], d["shadow"], (d["nowRule"] or "").split(": ")[-1],
                  (d["shadowRule"] or "").split(": ")[-1]): (d["count"], d["devices"])
                 for d in report["differences"]}
        self.assertEqual(found, {
            ("write", "allow", "deny", "allow write devices/%d/telemetry", ""): (6, 2),
            ("write", "allow", "deny", "allow write lamps/%d/state", "deny write lamps/lamp-2/state"): (1, 1),
            ("write", "deny", "allow", "", "allow write extra/%d"): (2, 2)})
        one = self.report(broker, "--device", "lamp-2")["differences"]
        self.assertEqual(sorted(d["count"] for d in one), [1, 1, 3])
        text = broker.command("acl", "shadow", "report", "--db", str(broker.db))
        self.assertRegex(text, r"WOULD DENY  6 x write of 2 devices, last .* ago: devices/lamp-\d/telemetry")
        self.assertIn("no rule allows it", text)
        self.assertRegex(text, r"policy [0-9a-f]{16} in force, [0-9a-f]{16} as its shadow for .*: 10 checks, 7 would be "
                               r"denied, 2 would be allowed")

    def test_counts_go_on_after_a_restart_and_begin_anew_with_another_policy(self):
        broker = self.shadowed(harness.POLICY)
        wire = broker.wire(5)
        self.assertEqual(wire.connect("lamp-1", "", broker.token("lamp-1", roles=["lamp"])), 0)
        self.assertEqual(wire.publish("lamps/lamp-1/state", "on"), 0)
        self.stored(broker, 1)
        broker.restart()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("lamp-1", "", broker.token("lamp-1", roles=["lamp"])), 0)
        self.assertEqual(wire.publish("lamps/lamp-1/state", "on"), 0)
        self.assertEqual(self.stored(broker, 2)["differences"][0]["count"], 2)
        self.shadow.write_text(harness.POLICY + "# another\n")
        broker.wait_log("shadow policy read again: in force")
        self.assertEqual(wire.publish("lamps/lamp-1/state", "on"), 0)
        harness.wait_until(lambda: self.report(broker)["checked"] == 1, "counting began anew")
        self.assertEqual(self.report(broker)["differences"][0]["count"], 1)
        self.shadow.write_text(MORE)  # says what the policy in force says
        broker.wait_log("shadow policy read again: in force", times=2)
        self.assertEqual(wire.publish("lamps/lamp-1/state", "on"), 0)
        harness.wait_until(lambda: self.report(broker)["checked"] == 1 and
                           not self.report(broker)["differences"], "nothing differs")

    def test_a_broken_shadow_is_told_and_the_old_one_goes_on(self):
        broker = self.shadowed(harness.POLICY)
        operator = broker.operator().connect()
        operator.subscribe("alerts/#")
        self.shadow.write_text("haltere 1\nanyone\n  alow read #\n")
        alert = operator.next_json("alerts/warning", lambda a: a["alertname"] == "shadow_reload_failed")
        self.assertIn("shadow.acl:3:3", alert["message"])
        self.shadow.write_text(MORE)
        operator.next_json("alerts/warning", lambda a: a["alertname"] == "shadow_reload_failed" and
                           a["status"] == "resolved")
        broker.stop()
        self.shadow.write_text("haltere 2\n")
        self.assertIn("shadow.acl:1", broker.fails_to_start())

    def test_the_rows_are_bounded_and_the_sums_right(self):
        broker = self.shadowed(harness.POLICY, max_shadow_rows=2)
        for n in range(5):
            wire = broker.wire(5)
            self.assertEqual(wire.connect(f"lamp-{n}", "", broker.token(f"lamp-{n}", roles=["lamp"])), 0)
            self.assertEqual(wire.publish(f"lamps/lamp-{n}/state", "on"), 0)
        report = self.stored(broker, 5)
        self.assertEqual([(d["count"], d["devices"]) for d in report["differences"]], [(5, 2)])

    def test_without_one_there_is_nothing_to_report(self):
        broker = self.start()
        with self.assertRaisesRegex(AssertionError, "no shadow policy is compared"):
            self.report(broker)


if __name__ == "__main__":
    unittest.main()
