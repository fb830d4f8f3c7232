"""Files read again while devices are connected: what is good takes effect at once, what is broken leaves the old in force."""
import json
import threading
import time
import unittest

import harness

BROKEN = "haltere 1\nanyone\n  alow all #\n"


class Policy(harness.BrokerTest):
    def test_a_changed_policy_reaches_live_sessions_both_ways(self):
        broker = self.start()
        operator = broker.operator().connect()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        self.assertEqual(wire.publish("t/new"), 135)
        broker.write_policy(harness.POLICY + "anyone\n  allow write t/new\n"
                            "  deny write devices/%d/status\n")
        broker.sighup()
        self.assertEqual(wire.publish("t/new"), 0)
        self.assertEqual(wire.publish("devices/d1/status", '{"status":"online"}'), 135)
        broker.write_policy(harness.POLICY)
        broker.sighup()
        self.assertEqual(wire.publish("t/new"), 135)
        self.assertEqual(wire.publish("devices/d1/status", '{"status":"online"}'), 0)
        self.assertTrue(operator.online)

    def test_a_right_taken_away_stops_an_existing_subscription(self):
        broker = self.start()
        operator = broker.operator().connect()
        device = broker.client("d1").connect()
        device.subscribe("devices/d1/commands")
        device.subscribe("devices/d1/event")
        operator.publish("devices/d1/commands", '{"commandId":"1","command":"x"}')
        device.next("devices/d1/commands")
        broker.write_policy(harness.POLICY.replace("  allow read devices/%d/commands\n",
                                                   "  allow read devices/%d/marker\n"))
        broker.sighup()
        operator.publish("devices/d1/commands", '{"commandId":"2","command":"x"}')
        device.subscribe("devices/d1/marker")
        operator.publish("devices/d1/marker", "")
        seen = device.nothing_before("devices/d1/marker")
        self.assertFalse([m for m in seen if m.topic.endswith("/commands")])

    def test_a_changed_file_is_noticed_without_a_signal(self):
        broker = self.start()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        self.assertEqual(wire.publish("t/new"), 135)
        broker.write_policy(harness.POLICY + "anyone\n  allow write t/new\n")
        harness.wait_until(lambda: wire.publish("t/new") == 0, "the new policy is in force")
        self.assertEqual(broker.count("keys read again"), 0)

    def test_a_change_of_an_included_file_is_noticed_without_a_signal(self):
        broker = self.make(policy=harness.POLICY + "include classes/*.acl\n")
        classes = broker.dir / "classes"
        classes.mkdir()

        def write(name, topic):
            new = broker.dir / "new"
            new.write_text(f"anyone\n  allow write t/{topic}\n")
            new.rename(classes / name)

        def allowed(*topics):
            harness.wait_until(lambda: {t for t in "abcd" if wire.publish("t/" + t) == 0} == set(topics),
                               f"{topics} may be written")

        write("one.acl", "a")
        broker.start()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        allowed("a")
        write("one.acl", "b")  # an edit
        allowed("b")
        write("two.acl", "c")  # one more that fits the pattern
        allowed("b", "c")
        (classes / "one.acl").unlink()
        allowed("c")
        (classes / "two.acl").write_text("anyone\n  alow write t/d\n")
        broker.wait_log("policy could not be read again")
        allowed("c")
        write("two.acl", "d")  # what was broken is mended where it was broken
        allowed("d")
        (classes / "note.txt").write_text("no part of the policy")
        write("three.acl", "a")
        allowed("a", "d")
        self.assertEqual(broker.count("policy read again"), 5)
        self.assertEqual(broker.count("policy could not be read again"), 1)
        self.assertEqual(broker.count("(keys|rules) read again"), 0)

    def test_a_file_that_is_still_being_written_is_not_read(self):
        broker = self.start()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        pause, widest = threading.Event(), 0
        with open(broker.policy, "w") as file:  # in place, its denials last
            last = time.monotonic()
            for line in (harness.POLICY + "anyone\n  allow write t/#\n" + "  # \n" * 100 +
                         "  deny write t/secret\n").splitlines(keepends=True):
                file.write(line)
                file.flush()
                self.assertNotEqual(wire.publish("t/secret"), 0, "half of the policy was in force")
                widest, last = max(widest, time.monotonic() - last), time.monotonic()
                if widest > 0.2:
                    self.skipTest("this machine is too busy to write steadily")
                pause.wait(0.02)
        harness.wait_until(lambda: wire.publish("t/new") == 0, "the new policy is in force")
        self.assertEqual(wire.publish("t/secret"), 135)

    def test_a_broken_policy_keeps_the_old_one_and_says_so(self):
        broker = self.start()
        operator = broker.operator().connect()
        operator.subscribe("alerts/#")
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        broken = (BROKEN, "haltere 2\n", harness.POLICY + "expect allow write t/x as sub=d1\n",
                  "include nowhere.acl\n")
        alert = None
        for text in broken:
            broker.write_policy(text)
            broker.sighup()
            self.assertIn("could not be read again: the old policy stays in force",
                          broker.log().splitlines()[-1] + broker.log_tail())
            self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), 0, text)
            self.assertEqual(wire.publish("devices/d2/telemetry", '{"t":1}'), 135, text)
            if alert is None:
                alert = operator.next_json(
                    "alerts/critical", lambda a: a["alertname"] == "policy_reload_failed")
        self.assertEqual(alert["status"], "firing")
        self.assertEqual(alert["deviceId"], "$broker")
        self.assertIn("policy.acl:3", json.dumps(alert))
        self.assertIn("policy.acl:3", broker.log())
        broker.write_policy(harness.POLICY)
        broker.sighup()
        resolved = operator.next_json(
            "alerts/critical",
            lambda a: a["alertname"] == "policy_reload_failed" and a["status"] == "resolved")
        self.assertEqual(resolved["id"], alert["id"])

    def test_an_mqtt_5_subscriber_is_told_what_an_alert_is(self):
        broker = self.start()
        operator = broker.operator(version=5).connect()
        operator.subscribe("alerts/critical")
        broker.write_policy(BROKEN)
        broker.sighup()
        message = operator.next("alerts/critical")
        alert = json.loads(message.payload)
        self.assertEqual(message.properties.ContentType, "application/json")
        self.assertEqual(message.properties.PayloadFormatIndicator, 1)
        event = dict(message.properties.UserProperty)
        self.assertEqual(event["specversion"], "1.0")
        self.assertEqual(event["id"], alert["id"])
        self.assertEqual(event["time"], alert["updatedAt"])
        self.assertTrue(event["type"] and event["source"])

    def test_a_missing_policy_keeps_the_old_one(self):
        broker = self.start()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        broker.policy.unlink()
        broker.sighup()
        self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), 0)
        self.assertEqual(wire.publish("devices/d2/telemetry", '{"t":1}'), 135)

    def test_the_log_says_that_options_need_a_restart(self):
        broker = self.start()
        broker.sighup()
        self.assertRegex(broker.log(), "plugin_opt .*restart")

    def test_an_admin_may_ask_for_it(self):
        broker = self.start()
        admin = broker.operator().connect()
        broker.write_policy(harness.POLICY + "anyone\n  allow write t/new\n")
        self.assertEqual(harness.control(admin, {"command": "reload"}), [{"command": "reload"}])
        broker.wait_log("policy read again")
        broker.wait_log("keys read again")


class Sender(threading.Thread):
    """A device that publishes one message after the other and keeps what was taken."""

    def __init__(self, broker, name, *topics):
        super().__init__(daemon=True)
        self.wire, self.name, self.topics = broker.wire(5), name, topics
        self.taken = {topic: [] for topic in topics}
        self.sent, self.problem, self.halt = 0, None, threading.Event()
        if self.wire.connect(name, "", broker.token(name)) != 0:
            raise AssertionError(broker.log_tail())

    def run(self):
        while not self.halt.is_set():
            topic, self.sent = self.topics[self.sent % len(self.topics)], self.sent + 1
            code = self.wire.publish(topic, f"{self.name} {self.sent}")
            if code == 0:
                self.taken[topic].append(f"{self.name} {self.sent}")
            elif code != 135:
                self.problem = f"{self.name}: {code} for message {self.sent}"
                return

    def end(self):
        self.halt.set()
        self.join(harness.WAIT)


class Storm(harness.BrokerTest):
    """Good and broken policies follow each other under traffic: what a policy in force forbids does not pass, and what
    all of them allow is not lost."""

    BASE = ("haltere 1\nanyone\n  allow write always/%d\n  deny write never/%d\nrole all\n  allow read #\n"
            "role some\n  allow read marker\nrole op\n  allow write #\n")
    GOOD = (BASE + "anyone\n  allow write first/%d\nrole some\n  allow read first/#\n  allow read probe/first\n",
            BASE + "anyone\n  allow write second/%d\nrole some\n  allow read second/#\n  allow read probe/second\n")
    BROKEN = ("haltere 1\nanyone\n  alow all #\n", GOOD[0] + "expect allow write never/d1 as sub=d1\n", "topic raed a\n",
              "haltere 1\nanyone\n  allow all #\ninclude nowhere.acl\n", "haltere 2\n")
    ROUNDS = 40 if not harness.ASAN else 12

    def test_no_message_passes_wrongly_and_none_is_lost(self):
        # A slow reader loses nothing. (0, "no limit", makes 2.0.11 disconnect whoever it refuses a message.)
        broker = self.start(policy=self.GOOD[0], conf="max_queued_messages 1000000\n")
        operator = broker.client("op", claims={"roles": ["op"]}).connect()
        witness = broker.client("w", claims={"roles": ["all"]}).connect()
        reader = broker.client("r", claims={"roles": ["some"]}).connect()
        for client in witness, reader:
            client.subscribe("#")
        senders = [Sender(broker, name, f"always/{name}", f"first/{name}", f"second/{name}", f"never/{name}")
                   for name in ("d1", "d2", "d3")]
        for sender in senders:
            sender.start()
        for number in range(self.ROUNDS):
            now = number % 2
            broker.write_policy(self.GOOD[now])
            broker.sighup()
            for topic in "probe/first", "probe/second":
                operator.publish(topic, f"{number}")
            broker.write_policy(self.BROKEN[number % len(self.BROKEN)])
            if number % 3 == 0:
                broker.sighup()  # else it is noticed by itself, or not before the next
            for topic in "probe/second", "probe/first":
                operator.publish(topic, f"{number}")
        for sender in senders:
            sender.end()
            self.assertIsNone(sender.problem)
        operator.publish("marker", "")
        self.judge(senders, witness.nothing_before("marker"), reader.nothing_before("marker"))

    def judge(self, senders, witness, reader):
        seen, read = {}, {}
        for where, messages in (seen, witness), (read, reader):
            for message in messages:
                where.setdefault(message.topic, []).append(message.payload.decode())
        for sender in senders:
            always, first, second, never = sender.topics
            self.assertEqual(sender.taken[always], [f"{sender.name} {n}" for n in range(1, sender.sent + 1, 4)])
            self.assertEqual(sender.taken[never], [])
            self.assertGreater(len(sender.taken[first]), 0)
            self.assertGreater(len(sender.taken[second]), 0)
            self.assertLess(len(sender.taken[first]) + len(sender.taken[second]), sender.sent / 4 + self.ROUNDS + 8)
            for topic in sender.topics:
                self.assertEqual(seen.get(topic, []), sender.taken[topic], topic)
            for topic in always, never:
                self.assertNotIn(topic, read)
            for topic in first, second:
                self.assertLessEqual(set(read.get(topic, [])), set(sender.taken[topic]))
        even, odd = ([str(n) for n in range(start, self.ROUNDS, 2) for _ in range(2)] for start in (0, 1))
        self.assertEqual((read["probe/first"], read["probe/second"]), (even, odd))


class Fallback(harness.BrokerTest):
    """A broker that is started on a broken policy."""

    def last_good(self, broker):
        return broker.db / "last-good-policy" / "current"

    def test_a_broken_policy_stops_the_start_unless_told_otherwise(self):
        broker = self.start()
        self.assertTrue(self.last_good(broker).exists())
        broker.stop()
        broker.write_policy(BROKEN)
        self.assertIn("policy.acl:3:3", broker.fails_to_start())
        broker.write_policy(harness.POLICY)
        broker.start()
        self.assertEqual(broker.client("d1").attempt(), 0)

    def test_the_last_good_policy_holds_until_the_file_is_mended(self):
        broker = self.start(options={"acl_fallback": "last_good"})
        (broker.dir / "more").mkdir()
        (broker.dir / "more" / "t.acl").write_text("anyone\n  allow write t/included\n")
        broker.write_policy(harness.POLICY + "include more/*.acl\n")
        broker.sighup()
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        self.assertEqual(wire.publish("t/included"), 0)
        digest = self.last_good(broker).read_text().split()[0]
        broker.stop()
        broker.write_policy(BROKEN)
        (broker.dir / "more" / "t.acl").unlink()
        for _ in range(2):  # falling back leaves what it falls back on where it is
            broker.start()
            self.assertRegex(broker.log(), rf"policy.acl:3:3: error: unknown word.*(?s:.)*{digest}")
            wire = broker.wire(5)
            self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
            self.assertEqual(wire.publish("t/included"), 0)
            self.assertEqual(wire.publish("t/other"), 135)
            operator = broker.operator().connect()
            operator.subscribe("alerts/#")
            alert = operator.next_json(
                "alerts/active/+/policy_reload_failed", lambda a: a["status"] == "firing")
            self.assertIn("policy.acl:3:3", alert["message"])
            operator.close()
            broker.stop()
        broker.start()
        operator = broker.operator().connect()
        operator.subscribe("alerts/critical")
        broker.write_policy(harness.POLICY + "anyone\n  allow write t/mended\n")
        broker.wait_log("policy read again: in force")
        operator.next_json("alerts/critical", lambda a: a["status"] == "resolved")
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1")), 0)
        self.assertEqual((wire.publish("t/mended"), wire.publish("t/included")), (0, 135))
        self.assertNotEqual(self.last_good(broker).read_text().split()[0], digest)
        self.assertEqual(len(list(self.last_good(broker).parent.iterdir())), 2)

    def test_an_alert_of_a_broken_file_ends_with_a_start_on_a_good_one(self):
        broker = self.start()
        broker.write_policy(BROKEN)
        operator = broker.operator().connect()
        operator.subscribe("alerts/critical")
        alert = operator.next_json("alerts/critical")
        self.assertEqual(alert["alertname"], "policy_reload_failed")
        broker.stop()
        broker.write_policy(harness.POLICY)
        broker.start()
        harness.wait_until(lambda: "resolved" in broker.command("alert", "list", "--all", "--db",
                                                                str(broker.db)), "it is over")
        self.assertNotIn("firing", broker.command("alert", "list", "--all", "--db", str(broker.db)))

    def test_with_nothing_kept_the_start_fails_all_the_same(self):
        broker = self.make(options={"acl_fallback": "last_good"}, policy=BROKEN)
        log = broker.fails_to_start()
        self.assertIn("policy.acl:3:3", log)
        self.assertIn("no good policy has been kept", log)

    def test_a_damaged_copy_is_not_used(self):
        broker = self.start(options={"acl_fallback": "last_good"})
        broker.stop()
        copy = next(p for p in self.last_good(broker).parent.rglob("*.acl"))
        copy.write_text("haltere 1\nanyone\n  allow all #\n")
        broker.write_policy(BROKEN)
        self.assertIn("damaged", broker.fails_to_start())


class Keys(harness.BrokerTest):
    def test_a_rotated_secret_lets_in_the_new_and_not_the_old(self):
        broker = self.start()
        old = broker.token("d2")
        device = broker.client("d1").connect()
        broker.keys[0] = harness.Key(broker.dir, "HS256")  # the same file, another secret
        broker.wait_log("keys read again: in force")
        broker.client("d2").connect()
        self.assertEqual(broker.client("d3", token=broker.token("d3")).attempt(), 0)
        self.assertEqual(broker.wire(4).connect("d2", "", old), 5)
        device.publish("devices/d1/telemetry", '{"t":1}')
        self.assertTrue(device.online)

    def test_a_mount_that_is_swapped_as_a_whole_is_noticed(self):
        """Secrets of an orchestrator: keys -> ..data/keys, ..data -> a directory, replaced in one step."""
        mount = self.dir / "mount"

        def swap(name):
            (mount / name).mkdir(parents=True)
            key = harness.Key(mount / name, "ES256", kid=name)
            (mount / "..new").symlink_to(name)
            (mount / "..new").rename(mount / "..data")
            return key

        first = swap("first")
        (mount / "keys.pem").symlink_to(f"..data/{first.public.name}")
        broker = self.start(options={"keys_file": f"alg=ES256 {mount / 'keys.pem'}"})
        token = first.compact(b'{"alg":"ES256"}', self.payload("d1"))
        device = broker.client("d1", token=token).connect()
        second = swap("second")
        broker.wait_log("keys read again: in force")
        self.assertEqual(broker.wire(4).connect("d1", "", token), 5)
        self.assertTrue(device.online)
        broker.client("d2", token=second.compact(b'{"alg":"ES256"}', self.payload("d2"))).connect()
        (mount / "..data").unlink()  # gone: the old keys stay
        broker.wait_log("keys could not be read again")
        broker.client("d3", token=second.compact(b'{"alg":"ES256"}', self.payload("d3"))).connect()

    @staticmethod
    def payload(sub):
        now = int(harness.time.time())
        return json.dumps({"sub": sub, "iss": harness.ISSUER, "aud": harness.AUDIENCE, "iat": now,
                           "exp": now + 600}).encode()

    def test_a_broken_keys_file_keeps_the_old_keys(self):
        broker = self.start()
        operator = broker.operator().connect()
        operator.subscribe("alerts/#")
        good = broker.key.public.read_bytes()
        for bad in (b"short", b"", b'{"keys":[]}'):
            broker.key.public.write_bytes(bad)
            broker.sighup()
            broker.client("d1").connect().disconnect()
        broker.wait_log("keys could not be read again")
        alert = operator.next_json("alerts/+", lambda a: a["alertname"] == "keys_reload_failed")
        self.assertEqual(alert["status"], "firing")
        broker.key.public.write_bytes(good)
        broker.sighup()
        operator.next_json("alerts/+", lambda a: a["alertname"] == "keys_reload_failed" and
                           a["status"] == "resolved")
        self.assertNotIn(broker.key.secret.hex(), broker.log())

    def test_a_secret_others_may_read_is_not_taken(self):
        broker = self.start()
        broker.key.public.chmod(0o644)
        broker.sighup()
        broker.wait_log("keys could not be read again")
        broker.client("d1").connect()


class Rules(harness.BrokerTest):
    def test_changed_rules_take_effect_and_broken_ones_do_not(self):
        broker = self.start(rules={"version": 1, "rules": []})
        operator = broker.operator().connect()
        operator.subscribe("alerts/#")
        broker.rules.write_text("{")
        broker.wait_log("rules could not be read again")
        alert = operator.next_json("alerts/+", lambda a: a["alertname"] == "rules_reload_failed")
        self.assertEqual(alert["status"], "firing")
        broker.rules.write_text('{"version": 1, "rules": []}')
        broker.wait_log("rules read again: in force")
        operator.next_json("alerts/+", lambda a: a["alertname"] == "rules_reload_failed" and
                           a["status"] == "resolved")


if __name__ == "__main__":
    unittest.main()
