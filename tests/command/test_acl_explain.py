"""haltere acl explain and test: why a policy says what it says, and whether it says what is expected."""
import json
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
HALTERE = os.environ.get("HALTERE", os.path.join(HERE, "../../build/haltere"))
SHIPPED = os.path.join(HERE, "../../acl/policies/haltere.acl")

POLICY = """haltere 1
anyone
  allow write devices/%d/telemetry
  allow read  devices/%d/commands
role gateway from device_class
  allow write devices/%{children}/telemetry
"""


def run(*args):
    return subprocess.run([HALTERE, "acl", *args], capture_output=True, timeout=60, check=False, text=True)


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

    def explain(self, *args, code):
        done = run("explain", "--policy", self.policy, "--json", *args)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)


class Explain(WithFolder):
    def test_an_allow_names_the_rule_and_what_it_stands_for(self):
        answer = self.explain("--claim", "sub=d1", "write", "devices/d1/telemetry", code=0)
        self.assertEqual(answer["decision"], "allow")
        self.assertEqual(answer["reason"], "rule")
        self.assertEqual((answer["by"]["line"], answer["by"]["bound"]), (3, "devices/d1/telemetry"))
        self.assertEqual(answer["by"]["file"], self.policy)
        self.assertEqual(answer["client"], {"id": "d1", "user": "d1", "sub": "d1"})
        self.assertEqual(answer["sections"], ["anyone"])
        self.assertRegex(answer["policy"], "^[0-9a-f]{16}$")
        self.assertNotIn("near", answer)

    def test_a_denial_names_the_rule_that_nearly_allowed(self):
        answer = self.explain("--claims", '{"sub":"d1"}', "write", "devices/d2/telemetry", code=1)
        self.assertEqual((answer["decision"], answer["reason"]), ("deny", "default"))
        self.assertEqual(answer["near"]["line"], 3)
        self.assertEqual(answer["near"]["why"], "level 2 is 'd2', not 'd1' (%d)")

    def test_claims_given_again_are_an_array_and_json_values_are_json(self):
        answer = self.explain("--claim", "sub=g", "--claim", "device_class=gateway", "--claim", "children=d7",
                              "--claim", "children=d8", "write", "devices/d8/telemetry", code=0)
        self.assertEqual(answer["by"]["bound"], "devices/d8/telemetry")
        answer = self.explain("--claim", "sub=g", "--claim", "device_class=gateway", "--claim",
                              'children=["d7"]', "write", "devices/d7/telemetry", code=0)
        self.assertEqual(answer["sections"], ["anyone", "role gateway from device_class"])

    def test_an_unusable_claim_is_the_reason(self):
        answer = self.explain("--claim", "sub=g", "--claim", "device_class=gateway", "write",
                              "devices/d8/telemetry", code=1)
        self.assertEqual(answer["reason"], "unusable-variable")
        self.assertIn("%{children} has no usable value", answer["near"]["why"])

    def test_own_topics_and_the_broker_stand_above_the_policy(self):
        self.policy = self.write("all.acl", "haltere 1\nanyone\n allow all #\n allow all $SYS/#\n")
        for topic, reason in (("alerts/critical", "own-topic"), ("devices/d1/health", "own-topic"),
                              ("system/heartbeat", "own-topic"), ("$CONTROL/haltere/v1/response", "own-topic"),
                              ("$SYS/x", "broker:$SYS")):
            answer = self.explain("--claim", "sub=d1", "write", topic, code=1)
            self.assertEqual((answer["decision"], answer["reason"]), ("deny", reason), topic)
        self.explain("--claim", "sub=d1", "read", "alerts/critical", code=0)
        self.explain("--claim", "sub=d1", "write", "devices/d1/telemetry", code=0)

    def test_the_limits_of_an_allowed_publish_are_listed(self):
        self.policy = self.write("l.acl", POLICY + "anyone\n  limit payload 1KiB\n  limit qos 1 on other\n")
        answer = self.explain("--claim", "sub=d1", "write", "devices/d1/telemetry", code=0)
        self.assertEqual([limit["text"] for limit in answer["limits"]], ["limit payload 1KiB"])
        done = run("explain", "--policy", self.policy, "--claim", "sub=d1", "write", "devices/d1/telemetry")
        self.assertIn("l.acl:8: limit payload 1KiB (anyone)", done.stdout)

    def test_the_text_for_people_has_the_same(self):
        done = run("explain", "--policy", self.policy, "--claim", "sub=d1", "read", "devices/d1/telemetry")
        self.assertEqual(done.returncode, 1)
        self.assertIn("deny: read devices/d1/telemetry", done.stdout)
        self.assertIn("p.acl:3: allow write devices/%d/telemetry (anyone)", done.stdout)
        self.assertIn("access is write only", done.stdout)

    def test_wrong_usage_is_told(self):
        for args, text in ((("reed", "a"), "is no access"), (("--claim", "x", "read", "a"), "NAME=VALUE"),
                           (("--claims", "{", "read", "a"), "--claims"),
                           (("--claims", '{"sub":5}', "read", "a"), "sub must be a string"),
                           (("--claims", "{}", "--claim", "a=b", "read", "a"), "--claims is all"),
                           (("read",), "explain")):
            done = run("explain", "--policy", self.policy, *args)
            self.assertEqual(done.returncode, 2, args)
            self.assertIn(text, done.stderr)
        self.assertEqual(run("explain", "read", "a").returncode, 2)
        self.assertEqual(run("explain", "--policy", self.folder + "/none", "read", "a").returncode, 3)
        self.assertEqual(run("explain", "--policy", self.policy, "--db", self.folder + "/none", "--device", "d",
                             "read", "a").returncode, 3)


class Tests(WithFolder):
    def test_the_shipped_policy_passes_its_tests(self):
        done = run("test", SHIPPED)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"haltere.acl: \d+ tests, 0 failed")

    def test_a_failed_test_is_explained(self):
        good = self.write("good.acl", POLICY + "expect allow read devices/d1/commands as sub=d1\n")
        bad = self.write("bad.acl", POLICY + "expect allow read devices/d2/commands as sub=d1\n"
                                             "expect deny write devices/d1/telemetry as sub=d1\n")
        done = run("test", good, bad)
        self.assertEqual(done.returncode, 1)
        self.assertIn("good.acl: 1 test, 0 failed", done.stdout)
        self.assertIn("bad.acl:7: expected allow, is deny: read devices/d2/commands", done.stdout)
        self.assertIn("level 2 is 'd2', not 'd1' (%d)", done.stdout)
        self.assertIn("bad.acl: 2 tests, 2 failed", done.stdout)
        document = json.loads(run("test", "--json", good, bad).stdout)
        self.assertFalse(document["ok"])
        self.assertEqual([(p["tests"], p["failed"]) for p in document["policies"]], [(1, 0), (2, 2)])
        failure = document["policies"][1]["failures"][1]
        self.assertEqual((failure["line"], failure["expected"], failure["decision"], failure["by"]["line"]),
                         (8, "deny", "allow", 3))

    def test_a_file_with_errors_is_not_a_failed_test(self):
        self.assertEqual(run("test", self.write("x.acl", "haltere 1\nanyone\n allow a\n")).returncode, 3)
        self.assertEqual(run("test", self.folder + "/none").returncode, 3)
        self.assertEqual(run("test").returncode, 2)


if __name__ == "__main__":
    unittest.main()
