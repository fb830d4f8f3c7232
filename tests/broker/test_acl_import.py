"""haltere acl import-dynsec: generated configurations go to the real dynamic-security plugin and, as the policy made of
them, to `haltere acl decide`. Both get the same questions: writes, deliveries, subscriptions.

    HALTERE_ACL_PROBES  how many questions (default 2500)
"""
import base64
import hashlib
import json
import os
import pathlib
import random
import subprocess
import tempfile
import unittest

import harness
from test_acl_plain import stock
from test_dynsec import dynsec_module

PROBES = int(os.environ.get("HALTERE_ACL_PROBES") or 2500)
SEED = int(os.environ.get("HALTERE_ACL_SEED") or 9)
TYPES = ["publishClientSend", "publishClientReceive", "subscribeLiteral", "subscribePattern",
         "unsubscribeLiteral", "unsubscribePattern"]
LEVELS = ["a", "b", "c", "x y", "$S"]


def one_filter(rng, wild=True, dollar=0.0):
    """`dollar`: how often it begins with $S; of such topics the defaults are not carried over."""
    levels = [rng.choice(LEVELS[:4] + (["+"] if wild else [])) for _ in range(rng.randint(1, 3))]
    if rng.random() < dollar:
        levels[0] = "$S"
    if wild and rng.random() < 0.3:
        levels.append("#")
    return "/".join(levels)


def user(name, roles, **more):
    salt = b"saltsaltsalt"
    key = hashlib.pbkdf2_hmac("sha512", b"pw", salt, 1, 64)
    return {"username": name, "password": base64.b64encode(key).decode(),
            "salt": base64.b64encode(salt).decode(), "iterations": 1, "roles": roles, **more}


def rule(kind, topic, allow=True, priority=0):
    return {"acltype": kind, "topic": topic, "priority": priority, "allow": allow}


def one_config(rng):
    names = ["r1", "r2", "r3", "r4"]
    roles = []
    for name in names:
        # one type and topic at most once: a second is not taken by the plugin
        acls = {(kind, topic): rule(kind, topic, rng.random() < 0.6, rng.randint(-1, 3))
                for kind in TYPES for topic in [one_filter(rng, dollar=0.1) for _ in range(rng.randint(0, 4))]}
        acls = list(acls.values())
        rng.shuffle(acls)
        roles.append({"rolename": name, "acls": acls})
    # what lets the test see deliveries
    roles.append({"rolename": "probe", "acls": [rule("subscribeLiteral", "#"),
                                                rule("subscribeLiteral", "$S/#")]})
    roles.append({"rolename": "root", "acls": [rule("publishClientSend", "#"),
                                               rule("publishClientSend", "$S/#")]})

    def some():
        return [{"rolename": name, "priority": rng.randint(-1, 2)}
                for name in rng.sample(names, rng.randint(0, 3))]

    users = ["u1", "u2", "u 3"]
    groups = [{"groupname": name, "roles": some(),
               "clients": [{"username": one, "priority": rng.randint(-1, 2)}
                           for one in rng.sample(users, rng.randint(0, 3))]} for name in ("g1", "g2", "g3")]
    return {"defaultACLAccess": {name: rng.random() < 0.4 for name in
                                 ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")},
            "clients": [user(name, some() + [{"rolename": "probe", "priority": 9}]) for name in users] +
            [user("root", [{"rolename": "root"}])],
            "groups": groups, "roles": roles}


@unittest.skipIf(dynsec_module() is None, "mosquitto_dynamic_security.so is not installed")
class ImportDynsec(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="haltere-import-"))
        self.brokers = []

    def tearDown(self):
        for broker in self.brokers:
            broker.close_clients()
            if broker.process is not None:
                broker.stop()
        subprocess.run(["rm", "-rf", str(self.dir)], check=False)

    def translate(self, config):
        path = self.dir / "dynsec.json"
        path.write_text(json.dumps(config))
        return subprocess.run([harness.COMMAND, "acl", "import-dynsec", str(path)], capture_output=True,
                              text=True, check=False)

    def decide(self, policy, questions):
        path = self.dir / "policy.acl"
        path.write_text(policy)
        text = "".join(json.dumps({"user": user, "clientId": "c", "access": access, "topic": topic}) + "\n"
                       for user, access, topic in questions)
        done = subprocess.run([harness.COMMAND, "acl", "decide", "--policy", str(path)], input=text,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line)["decision"] == "allow" for line in done.stdout.splitlines()]

    def ask(self, broker, root, name, writes, reads, filters):
        wire = broker.wire()
        self.assertEqual(wire.connect("c", name, "pw"), 0)
        for topic in "#", "$S/#":
            self.assertLess(wire.subscribe(topic, 0), 3)
        out = [(name, "write", topic, wire.publish(topic, "w") in (0, 16)) for topic in writes]
        got = set()
        self.assertTrue(wire.alive())
        for number, topic in enumerate(reads):
            self.assertEqual(root.publish(topic, f"r{number}"), 0, topic)
        wire.send(12)
        while True:
            kind, _, body = wire.read()
            if kind == wire.PINGRESP:
                break
            payload = body[2 + int.from_bytes(body[:2], "big") + 1:]
            if kind == wire.PUBLISH and payload[:1] == b"r":
                got.add(int(payload[1:]))
        out += [(name, "read", topic, number in got) for number, topic in enumerate(reads)]
        out += [(name, "subscribe", one, wire.subscribe(one, 0) < 3) for one in filters]
        out += [(name, "unsubscribe", one, wire.unsubscribe(one) < 0x80) for one in filters]
        wire.disconnect()
        return out

    def compare(self, number, rng):
        config = one_config(rng)
        done = self.translate(config)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        broker = stock(self.dir / f"b{number}", "")
        self.brokers.append(broker)
        file = self.dir / f"b{number}.json"
        file.write_text(json.dumps(config))
        text = "\n".join(line for line in broker.config_text().splitlines() if "acl_file" not in line)
        text = text.replace("allow_anonymous true", "allow_anonymous false")
        broker.config_text = lambda: f"{text}\nplugin {dynsec_module()}\nplugin_opt_config_file {file}\n"
        broker.start()
        root = broker.wire()
        self.assertEqual(root.connect("root", "root", "pw"), 0)
        truth = []
        for name in "u1", "u2", "u 3":
            truth += self.ask(broker, root, name, [one_filter(rng, False) for _ in range(8)],
                              [one_filter(rng, False) for _ in range(8)],
                              [one_filter(rng, rng.random() < 0.5) for _ in range(8)])
        root.disconnect()
        broker.stop()
        answers = self.decide(done.stdout, [(name, access, topic) for name, access, topic, _ in truth])
        for (name, access, topic, theirs), ours in zip(truth, answers, strict=True):
            self.assertEqual(ours, theirs, f"{name} {access} {topic}: the plugin says "
                             f"{'allow' if theirs else 'deny'}, seed {SEED}, {number}\n"
                             f"{json.dumps(config, indent=1)}\n{done.stdout}")
        return len(truth), sum(answer[3] for answer in truth)

    def test_generated_configurations_are_decided_alike(self):
        rng = random.Random(SEED)
        asked = allowed = number = 0
        while asked < PROBES:
            number += 1
            count, granted = self.compare(number, rng)
            asked, allowed = asked + count, allowed + granted
        print(f"\n{asked} questions over {number} configurations, {allowed} allowed, no difference")
        self.assertGreater(allowed, asked / 10)
        self.assertLess(allowed, asked * 9 / 10)


if __name__ == "__main__":
    unittest.main()
