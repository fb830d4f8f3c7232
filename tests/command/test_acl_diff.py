"""haltere acl diff: which decisions a new policy changes."""
import json
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
HALTERE = os.environ.get("HALTERE", os.path.join(HERE, "../../build/haltere"))
SHIPPED = os.path.join(HERE, "../../acl/policies/haltere.acl")

OLD = """haltere 1
anyone
  allow write devices/%d/telemetry
role ops
  allow read devices/#
"""


class Diff(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.old = self.write("old.acl", OLD)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, 0o644)
        return path

    def diff(self, *args, code, stdin=""):
        done = subprocess.run([HALTERE, "acl", "diff", *args], input=stdin, capture_output=True, text=True,
                              timeout=120, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def test_no_change_is_exit_code_0(self):
        done = self.diff(self.old, self.write("new.acl", OLD.replace("anyone", "# same\nanyone")), code=0)
        self.assertIn("0 of ", done.stdout)
        self.diff(SHIPPED, SHIPPED, code=0)

    def test_a_change_has_rules_and_an_example(self):
        new = self.write("new.acl", OLD.replace("read devices/#", "read devices/+/telemetry")
                         .replace("%d/telemetry", "+/telemetry"))
        done = self.diff(self.old, new, code=1)
        self.assertIn("OPENS  write devices/", done.stdout)
        self.assertIn("CLOSES read devices/", done.stdout)
        document = json.loads(self.diff("--json", self.old, new, code=1).stdout)
        self.assertTrue(document["complete"])
        opened = [c for c in document["changes"] if c["access"] == "write"][0]
        self.assertEqual((opened["from"], opened["to"]), ("deny", "allow"))
        self.assertIsNone(opened["before"])
        self.assertEqual(opened["after"]["text"], "allow write devices/+/telemetry")
        self.assertEqual(opened["example"]["source"], "probe")
        self.assertGreater(document["changed"], 0)

    def test_recorded_questions_are_asked_too(self):
        new = self.write("new.acl", OLD + "  deny read devices/d77/odd\n")
        topics = self.write("asked.jsonl", "".join(json.dumps(q) + "\n" for q in (
            {"access": "read", "topic": "devices/d77/odd", "claims": {"sub": "u", "roles": ["ops"]}},
            {"access": "read", "topic": "devices/d78/odd", "claims": {"sub": "u", "roles": ["ops"]}},
            {"access": "write", "topic": "x", "user": "bob", "clientId": "c"})))
        document = json.loads(self.diff("--json", "--topics", topics, self.old, new, code=1).stdout)
        self.assertEqual(document["asked"]["recorded"], 3)
        recorded = [c for c in document["changes"] if c["example"]["source"] == "recorded"]
        self.assertEqual(recorded[0]["example"],
                         {"topic": "devices/d77/odd", "clientId": "u", "user": "u",
                          "claims": {"sub": "u", "roles": ["ops"]}, "source": "recorded"})
        with open(topics, encoding="utf-8") as asked:
            self.diff("--topics", "-", self.old, new, code=1, stdin=asked.read())

    def test_what_cannot_be_read_is_told(self):
        for line in ("no json", "[]", '{"access":"read"}', '{"access":"raed","topic":"a"}',
                     '{"access":"read","topic":5}', '{"access":"read","topic":"a","claims":[]}'):
            done = self.diff("--topics", self.write("bad.jsonl", "\n" + line + "\n"), self.old, self.old, code=3)
            self.assertIn("bad.jsonl:2: ", done.stderr)
        self.diff(self.old, self.folder + "/none", code=3)
        self.diff("--topics", self.folder + "/none", self.old, self.old, code=3)
        self.diff(self.old, code=2)


if __name__ == "__main__":
    unittest.main()
