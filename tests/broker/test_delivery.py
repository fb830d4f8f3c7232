"""What reaches whom where sender or receiver is not there: retained messages, wills, offline durable sessions, shared
subscriptions, and the sender that the broker makes up for a retained message (check_retain_source)."""
import unittest

import harness

POLICY = """haltere 1
anyone
  allow write devices/%d/status
  allow read devices/%d/commands
  allow read marker
role operator
  allow readwrite #
role group
  allow read jobs/#
"""
MAY_REPORT = "  allow write devices/%d/status\n"
MAY_READ = "  allow read devices/%d/commands\n"


class Delivery(harness.BrokerTest):
    def start(self, name="broker", **args):
        broker = super().start(name, **dict({"policy": POLICY}, **args))
        self.operator = broker.client("op", claims={"roles": ["operator"]}).connect()
        return broker

    def policy(self, broker, without=""):
        broker.write_policy(POLICY.replace(without, "") if without else POLICY)
        broker.sighup()

    def arrived(self, client):
        """All that came to a subscriber of `marker` up to now."""
        self.operator.publish("marker", "")
        return [m.payload.decode() for m in client.nothing_before("marker")]

    def reader(self, broker, client_id, *topics, **args):
        client = broker.client(client_id, **args).connect()
        for topic in topics + ("marker",):
            client.subscribe(topic)
        return client


class Retained(Delivery):
    def test_it_goes_to_who_may_read_it(self):
        broker = self.start()
        for topic in "devices/d1/commands", "devices/d2/commands", "elsewhere":
            self.operator.publish(topic, topic, retain=True)
        for version in 4, 5:
            self.assertEqual(self.arrived(self.reader(broker, "d1", "#", version=version)), ["devices/d1/commands"])

    def test_it_is_gone_for_who_may_no_longer_read_it(self):
        broker = self.start()
        self.operator.publish("devices/d1/commands", "old", retain=True)
        self.policy(broker, without=MAY_READ)
        self.assertEqual(self.arrived(self.reader(broker, "d1", "#")), [])
        self.policy(broker)
        self.assertEqual(self.arrived(self.reader(broker, "d1", "#")), ["old"])

    def seen_by_operator(self, broker):
        reader = self.reader(broker, "op2", "devices/+/status", claims={"roles": ["operator"]})
        seen = self.arrived(reader)
        reader.disconnect()
        return sorted(seen)

    def report(self, broker, version, durable):
        """Retain a status of the device dVERSION."""
        extra = {"session_expiry": 3600} if version == 5 and durable else {}
        device = broker.client(f"d{version}", version=version, clean=not durable, **extra).connect()
        device.publish(f"devices/d{version}/status", f'{{"status":"online","v":{version}}}', retain=True)
        return device

    def test_a_sender_is_judged_anew_wherever_it_is(self):
        """check_retain_source: the broker asks for a WRITE by a client it makes up from id and user name."""
        both = ['{"status":"online","v":4}', '{"status":"online","v":5}']
        for place in "online", "left", "durable", "durable, restart", "left, restart":
            with self.subTest(senders=place):
                broker = self.start(place.replace(", ", "-"), persistence=True)
                devices = [self.report(broker, version, place.startswith("durable")) for version in (4, 5)]
                if place != "online":
                    for device in devices:
                        device.disconnect()
                if "restart" in place:
                    broker.restart()
                    self.operator = broker.client("op", claims={"roles": ["operator"]}).connect()
                self.assertEqual(self.seen_by_operator(broker), both)
                self.policy(broker, without=MAY_REPORT)
                self.assertEqual(self.seen_by_operator(broker), [])
                self.policy(broker)
                self.assertEqual(self.seen_by_operator(broker), both)

    def test_who_takes_a_sender_s_id_later_changes_nothing(self):
        broker = self.start()
        self.report(broker, 4, durable=False).disconnect()
        self.assertNotEqual(broker.client("d4", token=broker.token("d2")).attempt(), 0)
        self.assertEqual(self.seen_by_operator(broker), ['{"status":"online","v":4}'])


class Wills(Delivery):
    def test_it_is_judged_when_it_is_sent(self):
        broker = self.start()
        watcher = self.reader(broker, "op2", "devices/+/status", claims={"roles": ["operator"]})
        for version in 4, 5:
            first = broker.client("d1", version=version, will=("devices/d1/status", '{"status":"offline"}')).connect()
            second = broker.client("d2", version=version, will=("devices/d2/status", '{"status":"offline"}')).connect()
            self.policy(broker, without=MAY_REPORT)
            first.drop()
            broker.wait_log("acl-deny client=d1 access=write topic=devices/d1/status", version - 3)
            self.policy(broker)
            second.drop()
            self.assertEqual(watcher.next("devices/+/status").topic, "devices/d2/status")
            self.assertEqual(self.arrived(watcher), [])

    def test_a_delayed_one_too(self):
        broker = self.start()
        watcher = self.reader(broker, "op2", "devices/+/status", claims={"roles": ["operator"]})
        delay, keep = b"\x18" + (1).to_bytes(4, "big"), b"\x11" + (60).to_bytes(4, "big")
        for name in "d1", "d2":
            wire = broker.wire()
            self.assertEqual(wire.connect(name, "", broker.token(name), properties=keep, will=(
                f"devices/{name}/status", '{"status":"offline"}', delay)), 0)
            if name == "d1":
                wire.close()
                self.policy(broker, without=MAY_REPORT)
                broker.wait_log("acl-deny client=d1 access=write topic=devices/d1/status")
                self.policy(broker)
            else:
                wire.close()
        self.assertEqual(watcher.next("devices/+/status").topic, "devices/d2/status")


class Offline(Delivery):
    def away(self, broker, version):
        extra = {"session_expiry": 3600} if version == 5 else {}
        return broker.client(f"d{version}", version=version, clean=False, **extra)

    def leave(self, broker, version):
        """A durable session that is offline: its subscriptions stay."""
        device = self.away(broker, version).connect()
        for topic in f"devices/d{version}/commands", "marker":
            device.subscribe(topic)
        device.disconnect()

    def come_back(self, broker, version):
        device = self.away(broker, version).connect()
        self.assertTrue(device.session_present)
        seen = self.arrived(device)
        device.disconnect()
        return seen

    def test_what_is_queued_is_judged_again_at_delivery(self):
        for version in 4, 5:
            broker = self.start(f"b{version}")
            self.leave(broker, version)
            self.operator.publish(f"devices/d{version}/commands", "queued")
            self.policy(broker, without=MAY_READ)
            self.assertEqual(self.come_back(broker, version), [])

    def test_what_may_not_be_read_is_not_queued(self):
        for version in 4, 5:
            broker = self.start(f"b{version}")
            self.leave(broker, version)
            self.policy(broker, without=MAY_READ)
            self.operator.publish(f"devices/d{version}/commands", "not for it")
            self.policy(broker)
            self.operator.publish(f"devices/d{version}/commands", "queued")
            self.assertEqual(self.come_back(broker, version), ["queued"])

    def test_a_restored_session_is_held_to_the_policy_before_it_is_back(self):
        for version in 4, 5:
            broker = self.start(f"b{version}", persistence=True)
            self.leave(broker, version)
            broker.restart()
            self.operator = broker.client("op", claims={"roles": ["operator"]}).connect()
            self.operator.publish(f"devices/d{version}/commands", "before")
            self.policy(broker, without=MAY_READ)
            self.operator.publish(f"devices/d{version}/commands", "meanwhile")
            self.policy(broker)
            self.operator.publish(f"devices/d{version}/commands", "after")
            self.assertEqual(self.come_back(broker, version), ["before", "after"])


class Shared(Delivery):
    def test_a_member_gets_what_it_may_read_and_a_right_taken_away_ends_it(self):
        for version in 4, 5:
            broker = self.start(f"b{version}")
            self.assertGreater(broker.client("x", version=version).connect().try_subscribe("$share/g/jobs/+"), 2)
            member = self.reader(broker, "d1", "$share/g/jobs/+", version=version, claims={"roles": ["group"]})
            self.operator.publish("jobs/1", "one")
            self.assertEqual(self.arrived(member), ["one"])
            self.policy(broker, without="  allow read jobs/#\n")
            self.operator.publish("jobs/2", "two")
            self.assertEqual(self.arrived(member), [])
            self.policy(broker)
            self.operator.publish("jobs/3", "three")
            self.assertEqual(self.arrived(member), ["three"])

    def test_the_topic_is_judged_not_the_filter(self):
        broker = self.start(policy=POLICY + "  deny read jobs/secret\n")
        member = self.reader(broker, "d1", "$share/g/jobs/#", claims={"roles": ["group"]})
        for name in "secret", "open":
            self.operator.publish(f"jobs/{name}", name)
        self.assertEqual(self.arrived(member), ["open"])


if __name__ == "__main__":
    unittest.main()
