"""haltere acl import-dynsec: what becomes of a configuration, and what cannot be carried over."""
import json
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
HALTERE = os.environ.get("HALTERE", os.path.join(HERE, "../../build/haltere"))

CLOSED = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True}


def rule(kind, topic, allow=True, priority=0):
    return {"acltype": kind, "topic": topic, "allow": allow, "priority": priority}


class ImportDynsec(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, 0o644)
        return path

    def translate(self, config):
        path = self.write("dynsec.json", config if isinstance(config, str) else json.dumps(config))
        return subprocess.run([HALTERE, "acl", "import-dynsec", path], capture_output=True, text=True,
                              timeout=60, check=False)

    def decide(self, policy, user, access, topic):
        done = subprocess.run([HALTERE, "acl", "decide", "--policy", self.write("p.acl", policy)],
                              input=json.dumps({"user": user, "access": access, "topic": topic}) + "\n",
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["decision"]

    def test_clients_with_the_same_roles_share_one(self):
        config = {"defaultACLAccess": CLOSED, "groups": [], "clients": [
            {"username": name, "roles": [{"rolename": "r"}]} for name in ("a", "b c", "=d")],
            "roles": [{"rolename": "r", "acls": [rule("publishClientSend", "t/+")]}]}
        done = self.translate(config)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.count("\nrole "), 1)
        self.assertIn("\nrole dynsec-1 ordered\n  allow write t/+\n", done.stdout)
        for name in "a", "b c", "=d":
            self.assertEqual(self.decide(done.stdout, name, "write", "t/1"), "allow", name)
        self.assertEqual(self.decide(done.stdout, "stranger", "write", "t/1"), "deny")

    def test_disabled_clients_may_do_nothing_and_anonymous_ones_are_their_group(self):
        config = {"defaultACLAccess": {name: True for name in CLOSED}, "anonymousGroup": "guests",
                  "clients": [{"username": "a", "disabled": True, "roles": [{"rolename": "r"}]},
                              {"username": "b", "clientid": "only\nthis", "roles": []}],
                  "groups": [{"groupname": "guests", "roles": [{"rolename": "r"}], "clients": []}],
                  "roles": [{"rolename": "r", "acls": [rule("publishClientReceive", "x", False)]}]}
        done = self.translate(config)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("# was bound to the client id only\\x0athis: ", done.stdout)
        for user, access, topic, want in (
                ("a", "read", "y", "deny"), ("a", "read", "$SYS/x", "deny"), ("b", "read", "x", "allow"),
                ("b", "read", "$SYS/x", "allow"), (None, "read", "y", "allow"), (None, "read", "x", "deny")):
            self.assertEqual(self.decide(done.stdout, user, access, topic), want, (user, topic))

    def test_what_cannot_be_said_is_told_and_stands_as_a_comment(self):
        bad = ["a/#/b", "a+", "$share/g/t", "p%c", "a/%d", "%{x}", 'a"b', "a\x01b", "%x"]
        config = {"defaultACLAccess": CLOSED, "groups": [], "clients": [
            {"username": "u", "roles": [{"rolename": "r"}]}, {"username": 'q"', "roles": []}],
            "roles": [{"rolename": "r", "acls": [rule("publishClientSend", topic, False) for topic in bad] +
                       [rule("publishClientSend", "ok/%c"), {"acltype": "fly", "topic": "x", "allow": True}]}]}
        done = self.translate(config)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.count("# NOT CARRIED OVER: deny publishClientSend "), len(bad))
        self.assertEqual(done.stdout.count("# NOT CARRIED OVER: "), len(bad) + 2)
        self.assertEqual(done.stderr.count("is not carried over: "), len(bad) + 2)
        self.assertIn("\n  allow write ok/%c\n", done.stdout)
        check = subprocess.run([HALTERE, "acl", "check", self.write("p.acl", done.stdout)],
                               capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(check.returncode, 0, check.stderr)

    def test_what_is_no_configuration_is_refused(self):
        for text in ("", "{", "[]", "{}", '{"clients":[]}', '{"clients":{},"roles":[]}'):
            done = self.translate(text)
            self.assertEqual((done.returncode, done.stdout), (3, ""), text)
            self.assertIn("dynsec.json: error: this is ", done.stderr)
        done = subprocess.run([HALTERE, "acl", "import-dynsec", self.folder + "/none"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 3)


if __name__ == "__main__":
    unittest.main()
