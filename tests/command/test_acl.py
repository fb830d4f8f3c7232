"""haltere acl: policies are checked, and questions to them answered, one line each, in order."""
import json
import os
import subprocess
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
HALTERE = os.environ.get("HALTERE", os.path.join(HERE, "../../build/haltere"))
SHIPPED = os.path.join(HERE, "../../acl/policies/haltere.acl")

POLICY = """haltere 1
anyone
  allow write devices/%d/telemetry
  allow read  devices/#
  deny  read  devices/+/secret
anonymous
  deny all #
user bob
  allow write "the lab/#"
role ops
  allow write devices/+/telemetry
"""


def run(*args, stdin=b""):
    return subprocess.run([HALTERE, "acl", *args], input=stdin, capture_output=True, timeout=60, check=False)


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.policy = self.write("p.acl", POLICY)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, 0o644)
        return path

    def ask(self, *questions, code=0):
        lines = [q if isinstance(q, bytes) else json.dumps(q).encode() for q in questions]
        done = run("decide", "--policy", self.policy, stdin=b"".join(line + b"\n" for line in lines))
        self.assertEqual(done.returncode, code, done.stderr)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(answers), len(questions))
        return answers


class Compat(WithFolder):
    LINES = "haltere 1\npattern readwrite #\npattern deny p%c/#\nexpect {} write pd1/x as client=d1\n"

    def test_every_verb_decides_as_the_mosquitto_it_is_told(self):
        question = b'{"clientId":"d1","access":"write","topic":"pd1/x"}\n'
        explain = ("--client", "d1", "write", "pd1/x")
        for args, good in (((), "deny"), (("--acl-compat", "2.0"), "deny"), (("--acl-compat", "2.1"), "allow")):
            policy = self.write(good + ".acl", self.LINES.format(good))
            bad = "deny" if good == "allow" else "allow"
            wrong = self.write("wrong.acl", self.LINES.format(bad))
            for verb in "check", "test":
                self.assertEqual(run(verb, *args, policy).returncode, 0, (verb, args))
                self.assertEqual(run(verb, *args, wrong).returncode, 1, (verb, args))
            done = run("decide", *args, "--policy", policy, stdin=question)
            self.assertEqual(json.loads(done.stdout)["decision"], good, done.stderr)
            done = run("decide", *args, "--policy", wrong, stdin=question)
            self.assertEqual((done.returncode, done.stdout), (3, b""))
            self.assertIn(f"wrong.acl:4:1: error: this test expects {bad}".encode(), done.stderr)
            done = run("explain", *args, "--policy", policy, *explain)
            self.assertEqual(done.returncode, 0 if good == "allow" else 1, done.stderr)
            self.assertEqual(run("diff", *args, policy, policy).returncode, 0)

    def test_explain_takes_it_from_the_configuration(self):
        policy = self.write("p.acl", "pattern readwrite #\npattern deny p%c/#\n")
        for compat, code in ("2.0", 1), ("2.1", 0), ("auto", 1):
            conf = self.write("mosquitto.conf", f"plugin x/mosquitto_haltere.so\nplugin_opt_acl_file {policy}\n"
                              f"plugin_opt_acl_compat {compat}\n")
            done = run("explain", "--config", conf, "--client", "d1", "write", "pd1/x")
            self.assertEqual(done.returncode, code, (compat, done.stderr, done.stdout))
            done = run("explain", "--config", conf, "--acl-compat", "2.1", "--client", "d1", "write", "pd1/x")
            self.assertEqual(done.returncode, 0, (compat, done.stderr))

    def test_there_are_two_of_them(self):
        for args in (("check", self.policy), ("test", self.policy), ("diff", self.policy, self.policy),
                     ("decide", "--policy", self.policy), ("explain", "--policy", self.policy, "read", "a")):
            done = run(args[0], "--acl-compat", "2", *args[1:])
            self.assertEqual(done.returncode, 2, args)
            self.assertIn(b"--acl-compat 2 is neither 2.0 nor 2.1", done.stderr)


class Check(WithFolder):
    def test_a_good_policy_is_counted_and_named(self):
        done = run("check", self.policy)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"ok. 6 rules in 4 sections, 1 file, 0 tests passed, policy ", done.stdout)
        self.assertEqual(done.stderr, b"")

    def test_json_says_the_same(self):
        document = json.loads(run("check", "--json", self.policy).stdout)
        self.assertEqual((document["ok"], document["rules"], document["sections"], document["files"]),
                         (True, 6, 4, 1))
        self.assertRegex(document["digest"], "^[0-9a-f]{16}$")
        self.assertEqual(document["problems"], [])

    def test_each_mistake_has_its_place(self):
        path = self.write("bad.acl", "haltere 1\nanyone\n  allow raed a\n  allow read a+\nuse x\n")
        done = run("check", path)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, b"")
        self.assertIn(b"bad.acl:3:9: error: 'raed' is no access", done.stderr)
        self.assertIn(b"did you mean 'read'?", done.stderr)
        self.assertIn(b"bad.acl:4:14: error: in 'a+'", done.stderr)
        self.assertIn(b"bad.acl:5:5: error: there is no role 'x'", done.stderr)
        done = run("check", path, "--json")
        self.assertEqual(done.returncode, 1)
        document = json.loads(done.stdout)
        self.assertEqual([(p["line"], p["column"], p["kind"]) for p in document["problems"]],
                         [(3, 9, "error"), (4, 14, "error"), (5, 5, "error")])
        self.assertEqual((document["ok"], document["errors"]), (False, 3))
        self.assertNotIn("digest", document)

    def test_a_warning_is_told_and_is_no_error(self):
        path = self.write("warn.acl", "haltere 1\nanyone\nallow read x/%c\n")
        done = run("check", path)
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"warning", done.stderr)

    def test_a_failed_test_in_the_policy_is_an_error(self):
        path = self.write("test.acl", POLICY + "expect allow write devices/b/telemetry as sub=a\n")
        done = run("check", path)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"test.acl:12:1: error: this test expects allow, but it is denied", done.stderr)

    def test_a_file_that_cannot_be_read_is_3_and_wrong_usage_2(self):
        self.assertEqual(run("check", os.path.join(self.folder, "none.acl")).returncode, 3)
        self.assertEqual(run("check").returncode, 2)
        self.assertEqual(run("check", "a", "b").returncode, 2)
        self.assertEqual(run("check", "--jsno", "a").returncode, 2)
        self.assertEqual(run("chekc").returncode, 2)
        self.assertEqual(run("check", "--help").returncode, 0)

    def test_the_shipped_policy_is_good(self):
        done = run("check", SHIPPED)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class Decide(WithFolder):
    def test_the_rule_that_decided_is_named(self):
        answers = self.ask(
            {"user": "d1", "clientId": "d1", "access": "write", "topic": "devices/d1/telemetry",
             "claims": {"sub": "d1"}},
            {"user": "d1", "clientId": "d1", "access": "read", "topic": "devices/d1/secret",
             "claims": {"sub": "d1"}},
            {"user": "d1", "clientId": "d1", "access": "write", "topic": "elsewhere", "claims": {"sub": "d1"}})
        self.assertEqual(answers[0], {
            "decision": "allow", "access": "write", "topic": "devices/d1/telemetry", "reason": "rule",
            "by": {"file": self.policy, "line": 3, "text": "allow write devices/%d/telemetry",
                   "section": "anyone"}, "boundDevice": True})
        self.assertEqual((answers[1]["decision"], answers[1]["by"]["line"]), ("deny", 5))
        self.assertEqual(answers[2], {"decision": "deny", "access": "write", "topic": "elsewhere",
                                      "reason": "default", "boundDevice": False})

    def test_null_and_empty_user_are_anonymous(self):
        question = {"clientId": "x", "access": "read", "topic": "devices/d1/telemetry"}
        for extra in ({}, {"user": None}, {"user": ""}, {"claims": None}):
            answer = self.ask({**question, **extra})[0]
            self.assertEqual((answer["decision"], answer["by"]["section"]), ("deny", "anonymous"), extra)
        self.assertEqual(self.ask({**question, "user": "bob"})[0]["decision"], "allow")

    def test_the_device_is_the_sub_of_the_claims_only(self):
        write = {"access": "write", "topic": "devices/d1/telemetry"}
        self.assertEqual([a["decision"] for a in self.ask(
            {**write, "user": "d1", "clientId": "d1"},
            {**write, "user": "d1", "clientId": "d1", "claims": {}},
            {**write, "user": "d1", "clientId": "d1", "claims": {"sub": "d2"}},
            {**write, "user": "d2", "clientId": "d2", "claims": {"sub": "d1"}},
            {**write, "claims": {"sub": "d1"}})], ["deny", "deny", "deny", "allow", "allow"])

    def test_a_view_is_not_kept_for_another_client(self):
        write = {"access": "write", "topic": "devices/d1/telemetry"}
        claims = [{"sub": "d1"}, {"sub": "d2"}, {"sub": "d2", "roles": ["ops"]}, {"sub": "d2", "roles": ["op"]},
                  {"sub": "d1"}, None, {"sub": "d1"}]
        self.assertEqual([a["decision"] for a in self.ask(*({**write, "claims": c} for c in claims))],
                         ["allow", "deny", "allow", "deny", "allow", "deny", "allow"])
        lab = {"access": "write", "topic": "the lab/a", "clientId": "c"}
        self.assertEqual([a["decision"] for a in self.ask({**lab, "user": "bob"}, {**lab, "user": "bo"},
                                                          {**lab, "user": "bo", "clientId": "bc"},
                                                          {**lab, "user": "bob"})],
                         ["allow", "deny", "deny", "allow"])

    def test_filters_and_malformed_topics(self):
        sub = {"user": "bob", "access": "subscribe"}
        answers = self.ask({**sub, "topic": "devices/#"}, {**sub, "topic": "$share/g/devices/+/x"},
                           {**sub, "topic": "other/#"}, {**sub, "topic": "devices/a#"},
                           {"user": "bob", "access": "unsubscribe", "topic": "other/#"},
                           {"user": "bob", "access": "write", "topic": "devices/+"},
                           {"user": "bob", "access": "write", "topic": ""})
        self.assertEqual([(a["decision"], a["reason"]) for a in answers],
                         [("allow", "rule"), ("allow", "rule"), ("deny", "default"), ("deny", "malformed"),
                          ("allow", "default"), ("deny", "malformed"), ("deny", "malformed")])

    def test_odd_text_comes_back_as_it_was(self):
        topics = ["a/\"b\"", "ä/\u20ac", "a\\b", "tab\there", "the lab/\U0001f600"]
        answers = self.ask(*({"user": "bob", "access": "write", "topic": t} for t in topics))
        self.assertEqual([a["topic"] for a in answers], topics)
        self.assertEqual([a["decision"] for a in answers], ["deny"] * 4 + ["allow"])
        self.assertEqual(answers[4]["by"]["text"], "allow write \"the lab/#\"")

    def test_a_line_that_is_no_question_is_told_in_its_place(self):
        good = {"user": "bob", "access": "read", "topic": "devices/a"}
        bad = [b"", b"nonsense", b"[]", b"{}", b'{"access":"read"}', b'{"topic":"a"}',
               b'{"access":"look","topic":"a"}', b'{"access":"read","topic":7}',
               b'{"access":"read","topic":"a","user":7}', b'{"access":"read","topic":"a","claims":[]}',
               b'{"access":"read","topic":"a","topic":"b"}', b'{"access":"read","topic":"a"} x',
               b'{"access":"read","topic":"a","usr":"x"}', b'{"access":"read","topic":"a\xff"}',
               b'{"access":"read","topic":"a","claims":{"sub":7}}',
               b'{"access":"read","topic":"a","claims":{"sub":"a","sub":"b"}}',
               b'{"access":"read","topic":"a","user":"a\\u0000b"}',
               b'{"access":"read","topic":"' + b"a" * (1 << 20) + b'"}']
        lines = []
        for line in bad:
            lines += [line, good]
        answers = self.ask(*lines, code=1)
        for i, answer in enumerate(answers):
            if i % 2 == 0:
                self.assertEqual(sorted(answer), ["error", "line"], lines[i][:60])
                self.assertEqual(answer["line"], i + 1)
            else:
                self.assertEqual(answer["decision"], "allow")
        self.assertIn("did you mean 'user'?", answers[2 * 12]["error"])

    def test_members_nobody_knows_are_passed_over_and_the_last_line_needs_no_end(self):
        done = run("decide", "--policy", self.policy,
                   stdin=b'{"access":"read","topic":"devices/a","user":"bob","qos":1,"note":{"x":[1,{}]}}')
        self.assertEqual(done.returncode, 0)
        self.assertEqual(json.loads(done.stdout)["decision"], "allow")
        self.assertEqual(run("decide", "--policy", self.policy).stdout, b"")

    def test_an_answer_comes_before_the_next_question(self):
        with subprocess.Popen([HALTERE, "acl", "decide", "--policy", self.policy], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as process:
            for _ in range(3):
                process.stdin.write(b'{"user":"bob","access":"read","topic":"devices/a"}\n')
                process.stdin.flush()
                self.assertEqual(json.loads(process.stdout.readline())["decision"], "allow")
            process.stdin.close()
            self.assertEqual(process.wait(timeout=30), 0)

    def test_no_policy_no_answers(self):
        self.assertEqual(run("decide").returncode, 2)
        self.assertEqual(run("decide", "--policy", os.path.join(self.folder, "none")).returncode, 3)
        bad = self.write("bad.acl", "haltere 1\nxyzzy\n")
        done = run("decide", "--policy", bad, stdin=b'{"access":"read","topic":"a"}\n')
        self.assertEqual((done.returncode, done.stdout), (3, b""))
        self.assertIn(b"bad.acl:2:1", done.stderr)

    def test_a_hundred_thousand_questions_of_many_clients_are_soon_answered(self):
        lines = []
        for i in range(100000):
            lines.append('{"user":"d%d","clientId":"d%d","access":"write","topic":"devices/d%d/telemetry",'
                         '"claims":{"sub":"d%d"}}\n' % (i // 10, i // 10, i // 10 + i % 2, i // 10))
        start = time.monotonic()
        done = run("decide", "--policy", self.policy, stdin="".join(lines).encode())
        spent = time.monotonic() - start
        self.assertEqual(done.returncode, 0)
        answers = done.stdout.splitlines()
        self.assertEqual(len(answers), 100000)
        for i in (0, 1, 99998, 99999):
            self.assertEqual(json.loads(answers[i])["decision"], "deny" if i % 2 else "allow")
        self.assertLess(spent, 10)  # 0.1 s measured; slow machines and sanitizers get room


if __name__ == "__main__":
    unittest.main()
