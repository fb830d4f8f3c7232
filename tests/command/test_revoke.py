"""haltere token revoke, revocations and haltere audit: what they refuse before they touch anything."""
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
HALTERE = os.environ.get("HALTERE",
                         os.path.join(os.path.dirname(os.path.dirname(HERE)), "build", "haltere"))


class Usage(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="haltere-revoke-")
        self.addCleanup(self.dir.cleanup)

    def refused(self, code, part, *arguments):
        done = subprocess.run([HALTERE, *arguments], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(part, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(os.listdir(self.dir.name), [], "nothing may be made")

    def test_revoke_wants_exactly_one_target(self):
        db = ["--db", self.dir.name]
        self.refused(2, "exactly one", "token", "revoke", *db)
        self.refused(2, "exactly one", "token", "revoke", "--jti", "a", "--sub", "b", *db)
        self.refused(2, "goes with --sub", "token", "revoke", "--jti", "a", "--before", "now", *db)
        self.refused(2, "not a date", "token", "revoke", "--sub", "a", "--before", "monday", *db)
        self.refused(2, "not a date", "token", "revoke", "--sub", "a", "--expires", "5", *db)
        self.refused(2, "in the past", "token", "revoke", "--sub", "a", "--expires",
                     "2020-01-01T00:00:00Z", *db)
        self.refused(2, "1 to 480", "token", "revoke", "--jti", "x" * 481, *db)
        self.refused(2, "not both", "token", "revoke", "--sub", "a", "--host", "h", *db)

    def test_a_list_comes_from_the_store_or_from_the_broker(self):
        for verb in (["token", "revocations"], ["ban", "list"]):
            self.refused(2, "not both", *verb, "--db", self.dir.name, "--host", "h")
            self.refused(2, "--token-file FILE is missing", *verb, "--host", "h")
            self.refused(2, "1 to 65535", *verb, "--port", "0", "--token-file", "x")

    def test_a_token_is_not_taken_for_an_id(self):
        token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA"
        self.refused(2, "that is a token", "token", "revoke", "--jti", token, "--db", self.dir.name)

    def test_no_store_is_begun(self):
        db = ["--db", self.dir.name]
        self.refused(3, "no store", "token", "revoke", "--jti", "a", *db)
        self.refused(3, "no store", "token", "unrevoke", "--jti", "a", *db)
        self.refused(3, "no store", "token", "revocations", *db)
        for verb in ("list", "verify", "export"):
            self.refused(3, "no store", "audit", verb, *db)

    def test_audit_checks_its_options(self):
        db = ["--db", self.dir.name]
        self.refused(2, "did you mean 'login'", "audit", "list", "--type", "logn", *db)
        self.refused(2, "--since", "audit", "export", "--since", "monday", *db)
        self.refused(2, "1 to 1000000", "audit", "list", "--last", "0", *db)
        self.refused(2, "64 hexadecimal", "audit", "verify", "--head", "abc", *db)


if __name__ == "__main__":
    unittest.main()
