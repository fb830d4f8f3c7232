"""A plain acl_file is decided as the broker decides it: generated files go to the real broker without Haltere, to one
with Haltere, and to `haltere acl decide`, and all get the same questions. A write is told by the PUBACK of MQTT 5, a
read by what is delivered to a subscriber. What the broker will not start with, `haltere acl check` refuses.

    HALTERE_ACL_PROBES  how many questions (default 6000)
    MOSQUITTO_2_1       a broker of 2.1, which is asked, too, and decides some lines otherwise (acl_compat)
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

PROBES = int(os.environ.get("HALTERE_ACL_PROBES") or 6000)
SEED = int(os.environ.get("HALTERE_ACL_SEED") or 4)
USERS = [None, "u", "v", "u v", "a/b", "u+", "%c", "$S", "", "/", "uu"]
IDS = ["c", "u", "a/b", "$S", "c#", "%u", "a", "x/y/z", "+", "/", "cc", "c/"]
LEVELS = ["a", "b", "c", "u", "x", "", "$S", "$SYS", "a-long-level-of-a-topic"]
NAMED = ["%c", "%u", "p%c", "%u-%c", "%%c", "%", "%cx", "%c%u"]
PASSWORD = "for everybody"
# The publisher's own lines, behind all others: what it may send changes nobody else's rights.
ROOT = "user root\n" + "".join(f"topic write {t}\n" for t in ["#", "$S/#"])


def stock(directory, acl_text, mosquitto=harness.MOSQUITTO):
    """A broker without Haltere that has this acl_file and takes any user name."""
    broker = harness.Broker(directory, plugin=False, mosquitto=mosquitto)
    (directory / "acl").write_bytes(acl_text if isinstance(acl_text, bytes) else acl_text.encode())
    text = broker.config_text().replace("allow_anonymous false",
                                        f"allow_anonymous true\nacl_file {directory / 'acl'}")
    broker.config_text = lambda: text.replace(text.splitlines()[0],
                                              f"listener {broker.port} 127.0.0.1")
    return broker


def with_haltere(directory, acl_text, mosquitto, compat):
    """A broker whose policy this is, and where the names above get in by a password, for Haltere to decide for."""
    salt = b"twelve bytes"
    digest = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt, 101)
    secret = "$7$101$" + base64.b64encode(salt).decode() + "$" + base64.b64encode(digest).decode()
    broker = harness.Broker(directory, policy=acl_text, mosquitto=mosquitto, options={
        "allow_other_auth": "true", "acl_compat": compat}, conf=f"password_file {directory / 'users'}")
    (directory / "users").write_text("".join(f"{user}:{secret}\n" for user in USERS + ["root"] if user))
    (directory / "users").chmod(0o600)
    text = broker.config_text().replace("allow_anonymous false", "allow_anonymous true")
    broker.config_text = lambda: text.replace(text.splitlines()[0], f"listener {broker.port} 127.0.0.1")
    return broker


def one_filter(rng, pattern):
    pool = LEVELS + ["+", "+"] + (NAMED * 2 if pattern or rng.random() < 0.2 else [])
    levels = [rng.choice(pool) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.35:
        levels.append("#")
    return "/".join(levels) or "#"


def one_file(rng):
    lines = []
    for _ in range(rng.randint(2, 16)):
        if rng.random() < 0.3:
            lines.append("user " + rng.choice([user for user in USERS if user]))
        pattern = rng.random() < 0.5
        access = rng.choice(["deny ", "read ", "write ", "readwrite ", ""])
        lines.append(("pattern " if pattern else "topic ") + access + one_filter(rng, pattern))
    return "\n".join(lines) + "\n"


def one_topic(rng, source, user, client):
    """Half of the topics come from a filter of the file, so that something is granted."""
    filters = [line.split()[-1] for line in source.splitlines() if not line.startswith("user")]
    if rng.random() < 0.6:
        text = rng.choice(filters).replace("%c", client)
        text = text.replace("%u", user) if user else text
        levels = [rng.choice(["a", "x", "b", ""]) if level == "+" else level
                  for level in text.split("/")]
        if levels[-1] == "#":
            levels[-1:] = rng.choice([[], ["a"], ["x", "y"]])
        text = "/".join(levels)
    else:
        text = "/".join(rng.choice(LEVELS + ["pc", "u-c", "%c", "y"]) for _ in range(rng.randint(1, 4)))
    return text if text and "+" not in text and "#" not in text else "a/b"


class PlainAclFile(unittest.TestCase):
    MOSQUITTO = harness.MOSQUITTO

    def setUp(self):
        if not self.MOSQUITTO:
            self.skipTest("no broker of 2.1 here: the environment variable MOSQUITTO_2_1 names one")
        self.compat = "2.1" if harness.broker_version(self.MOSQUITTO) >= (2, 1) else "2.0"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="haltere-acl-"))
        self.brokers = []

    def tearDown(self):
        for broker in self.brokers:
            broker.close_clients()
            if broker.process is not None:
                broker.stop()
        subprocess.run(["rm", "-rf", str(self.dir)], check=False)

    def broker(self, name, text):
        broker = stock(self.dir / name, text, self.MOSQUITTO)
        self.brokers.append(broker)
        return broker

    def decide(self, acl, questions):
        path = self.dir / "policy.acl"
        path.write_text(acl)
        text = "".join(json.dumps({"user": user, "clientId": client, "access": access, "topic": topic})
                       + "\n" for user, client, access, topic in questions)
        done = subprocess.run([harness.COMMAND, "acl", "decide", "--acl-compat", self.compat, "--policy", str(path)],
                              input=text, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line)["decision"] == "allow" for line in done.stdout.splitlines()]

    def ask_client(self, broker, root, user, client, writes, reads):
        """What this client may write and read of these topics."""
        wire = broker.wire()
        self.assertEqual(wire.connect(client, user, PASSWORD if user else None), 0, (user, client))
        for topic in "#", "$S/#":
            self.assertLess(wire.subscribe(topic, 0), 3)
        answers = [wire.publish(topic, "w") in (0, 16) for topic in writes]
        self.assertTrue(wire.alive())  # its own messages are behind us
        got = set()
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
        wire.disconnect()
        return answers + [number in got for number in range(len(reads))]

    def ask_broker(self, broker, clients):
        self.brokers.append(broker)
        root = broker.start().wire()
        self.assertEqual(root.connect("root-id", "root", PASSWORD), 0)
        answers = []
        for user, client, writes, reads in clients:
            answers += self.ask_client(broker, root, user, client, writes, reads)
        root.disconnect()
        broker.stop()
        return answers

    def compare(self, number, rng):
        acl = one_file(rng) + ROOT
        owners = [line[5:] for line in acl.splitlines() if line.startswith("user ")][:-1] * 6
        clients, questions = [], []
        for _ in range(5):
            user, client = rng.choice(owners + USERS), rng.choice(IDS)
            topics = [one_topic(rng, acl.split("user root")[0], user, client) for _ in range(20)]
            writes = topics[:10] + ["$SYS/x", "$SYSTEM"]
            reads = [t for t in topics[10:] if t.split("/")[0] == "$S" or t[0] != "$"]
            clients.append((user, client, writes, reads))
            questions += [(user, client, "write", topic) for topic in writes]
            questions += [(user, client, "read", topic) for topic in reads]
        truth = self.ask_broker(stock(self.dir / f"stock{number}", acl, self.MOSQUITTO), clients)
        inside = self.ask_broker(with_haltere(self.dir / f"haltere{number}", acl, self.MOSQUITTO, self.compat), clients)
        for who, answers in ("haltere acl decide", self.decide(acl, questions)), ("the broker with Haltere", inside):
            for question, ours, theirs in zip(questions, answers, truth, strict=True):
                self.assertEqual(ours, theirs, f"{question}: {who} differs, the broker says "
                                 f"{'allow' if theirs else 'deny'} with seed {SEED}, file {number}:\n{acl}")
        return len(questions), sum(truth)

    def test_generated_files_are_decided_alike(self):
        rng = random.Random(SEED)
        asked = allowed = number = 0
        while asked < PROBES:
            number += 1
            count, granted = self.compare(number, rng)
            asked, allowed = asked + count, allowed + granted
        print(f"\n{asked} questions over {number} files as {self.compat}, {allowed} allowed, no difference")
        self.assertGreater(allowed, asked / 20)
        self.assertLess(allowed, asked * 9 / 10)

    def test_what_no_line_is_asked_for_is_refused(self):
        path = self.dir / "p.acl"
        path.write_text("pattern $SYS/#\npattern a\n")
        for client, access, topic, reason in (("c+", "read", "a", "refused"), ("c", "write", "$SYS/x", "refused"),
                                              ("c", "read", "b", "default"), ("c", "read", "a", "rule")):
            done = subprocess.run([harness.COMMAND, "acl", "decide", "--policy", str(path)], text=True,
                                  input=json.dumps({"clientId": client, "access": access, "topic": topic}),
                                  capture_output=True, check=False)
            self.assertEqual(json.loads(done.stdout)["reason"], reason, (client, topic))

    def test_both_refuse_the_same_files(self):
        rows = [b"topic\n", b"topic  \n", b"user\n", b"user  \n", b"topic raed a\n", b"topic a b\n",
                b"topic Read a\n", b"Topic a\n", b"topic read\ta b\n", b"topic\tread a\n", b"\ttopic a\n",
                b"  # note\n", b"topic read a # note\n", b"topic a+\n", b"topic +a\n", b"topic a/#/b\n",
                b"topic a#\n", b"pattern %c+\n", b"pattern read +%c\n", b"\xef\xbb\xbftopic a\n",
                b"topic read " + b"/" * 201 + b"\n", b"pattern\n", b"topic topic read\n",
                b"topic read a\nfoo\n", b"haltere 1\n", b"deny a\n", b"user\tu\n", b"topic  read  \t\n",
                # and what it takes, however odd
                b"", b"# only\n", b"topic deny\n", b"topic read\n", b"topic read\ta\n", b" topic a\n",
                b"topic read a  \r\n", b"topic read " + b"/" * 200 + b"\n", b"topic a\0 b c\n",
                b"\0foo\n", b"topic \xff\n", b"user u v\ntopic a\n", b"pattern a\n", b"   \n\t\n",
                b"topic read a b\n", b"user #\n", b"topic %c+/a\n".replace(b"%c+", b"+"), b"topic a"]
        for number, text in enumerate(rows):
            path = self.dir / "odd.acl"
            path.write_bytes(text)
            ours = subprocess.run([harness.COMMAND, "acl", "check", str(path)], capture_output=True,
                                  check=False).returncode
            broker = self.broker(f"odd{number}", text)
            try:
                broker.start()
                theirs = 0
            except AssertionError as problem:
                self.assertIn("the broker ended", str(problem))
                broker.process = None
                theirs = 1
            if broker.process is not None:
                broker.stop()
            if text == b"haltere 1\n":
                self.assertEqual((ours, theirs), (0, 1))  # ours alone
                continue
            self.assertEqual(ours, theirs, text)


class PlainAclFile21(PlainAclFile):
    """The same on a broker of 2.1, where the one under test is an older one."""

    MOSQUITTO = harness.MOSQUITTO_2_1

    def test_what_no_line_is_asked_for_is_refused(self):
        self.skipTest("asks no broker")


class InsideHaltere(harness.BrokerTest):
    """The same file as Haltere's policy: what stands above the policy stays above it."""

    ACL = ("topic read lobby\nuser d1\ntopic write devices/d1/#\ntopic readwrite alerts/#\n"
           "pattern readwrite p/%c/#\npattern deny p/%c/secret\n")

    def test_a_device_is_held_to_the_lines_of_its_sub(self):
        broker = self.start(policy=self.ACL)
        wire, other = broker.wire(), broker.wire()
        self.assertEqual(wire.connect("d1", "d1", broker.token("d1")), 0)
        self.assertEqual(other.connect("d2", "d2", broker.token("d2")), 0)
        self.assertEqual(wire.subscribe("#"), 1)  # as Mosquitto: reading is filtered at delivery
        for client, topic, code in ((wire, "devices/d1/telemetry", 0), (other, "devices/d1/telemetry", 0x87),
                                    (wire, "p/d1/x", 0), (wire, "p/d1/secret", 0x87), (other, "p/d1/x", 0x87),
                                    (wire, "lobby", 0x87), (wire, "alerts/critical", 0x87)):
            self.assertEqual(client.publish(topic, "5"), code, topic)

    def test_deliveries_are_filtered(self):
        broker = self.start(policy=self.ACL + "user d2\ntopic write #\n")
        device, other = broker.client("d1").connect(), broker.client("d2").connect()
        device.subscribe("#")
        for topic in "p/d1/secret", "p/d2/x", "lobby", "elsewhere", "p/d1/last":
            other.publish(topic, "x")
        self.assertEqual([m.topic for m in device.nothing_before("p/d1/last")], [])

    def test_a_broken_line_on_sighup_keeps_the_old_lines(self):
        broker = self.start(policy=self.ACL)
        wire = broker.wire()
        self.assertEqual(wire.connect("d1", "d1", broker.token("d1")), 0)
        broker.write_policy(self.ACL + "topic raed x\n")
        broker.sighup()
        broker.wait_log("policy could not be read again")
        self.assertEqual(wire.publish("elsewhere", "5"), 0x87)  # Mosquitto 2.0.11 would be open here
        self.assertEqual(wire.publish("p/d1/x", "5"), 0)
        broker.write_policy(self.ACL + "topic readwrite elsewhere\nuser d1\ntopic elsewhere\n")
        broker.sighup()
        self.assertEqual(wire.publish("elsewhere", "5"), 0)

    def test_acl_compat_says_how_names_are_put_in(self):
        for compat, code in (("2.0", 0x87), ("2.1", 0), (None, 0x87 if harness.broker_version() < (2, 1) else 0)):
            broker = self.start(f"c{compat}", policy="pattern readwrite #\npattern deny p%c/#\n",
                                options={"acl_compat": compat})
            wire = broker.wire()
            self.assertEqual(wire.connect("d1", "d1", broker.token("d1")), 0)
            self.assertEqual(wire.publish("pd1/x", "5"), code, compat)

    def test_expects_are_put_to_the_mosquitto_in_force(self):
        policy = ("haltere 1\npattern readwrite #\npattern deny p%c/#\n"
                  "expect {} write pd1/x as client=d1\n")
        for compat, good, bad in ("2.0", "deny", "allow"), ("2.1", "allow", "deny"):
            log = self.make(f"bad{compat}", policy=policy.format(bad),
                            options={"acl_compat": compat}).fails_to_start()
            self.assertIn(f"policy.acl:4:1: error: this test expects {bad}", log)
            broker = self.start(f"good{compat}", policy=policy.format(good), options={"acl_compat": compat})
            broker.write_policy(policy.format(bad))
            broker.sighup()
            broker.wait_log("policy could not be read again")
            broker.write_policy(policy.format(good) + "anyone\n  allow read x\n")
            broker.sighup()
            broker.wait_log("policy read again: in force")


if __name__ == "__main__":
    unittest.main()
