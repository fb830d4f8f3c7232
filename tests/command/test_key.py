"""haltere key: the files it makes, who may read them, and what it refuses."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
HALTERE = os.environ.get("HALTERE", os.path.join(HERE, "..", "..", "build", "haltere"))
ALGS = {
    "HS256": "oct", "HS384": "oct", "HS512": "oct", "RS256": "RSA", "PS256": "RSA", "ES256": "EC",
    "ES384": "EC", "ES512": "EC", "ES256K": "EC", "EdDSA": "OKP",
}
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k"}


class Key(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="hlt-key-")
        self.addCleanup(shutil.rmtree, self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def run_key(self, *args, code=0):
        done = subprocess.run([HALTERE, "key", *args], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def load(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return json.load(file)

    def mode(self, name):
        return stat.S_IMODE(os.stat(self.path(name)).st_mode)

    def test_a_pair_is_a_private_key_and_a_public_set(self):
        for alg in ("RS256", "PS256", "ES256", "ES384", "ES512", "ES256K", "EdDSA"):
            with self.subTest(alg=alg):
                private, public = alg + ".jwk", alg + ".pub"
                bits = ("--bits", "2048") if ALGS[alg] == "RSA" else ()
                self.run_key("new", "--alg", alg, *bits, "--out", self.path(private),
                             "--public", self.path(public))
                mine, theirs = self.load(private), self.load(public)["keys"]
                self.assertEqual((mine["kty"], mine["alg"]), (ALGS[alg], alg))
                self.assertIn("d", mine)
                self.assertEqual(len(theirs), 1)
                self.assertFalse(PRIVATE & set(theirs[0]))
                self.assertEqual(theirs[0]["kid"], mine["kid"])
                self.assertEqual(len(mine["kid"]), 43)
                self.assertEqual(self.mode(private), 0o600)
                self.assertEqual(self.mode(public), 0o644)

    def test_a_secret_is_as_long_as_its_hash_and_for_the_owner_alone(self):
        for alg, size in (("HS256", 43), ("HS384", 64), ("HS512", 86)):
            with self.subTest(alg=alg):
                self.run_key("new", "--alg", alg, "--out", self.path(alg))
                key = self.load(alg)["keys"][0]
                self.assertEqual((key["kty"], key["alg"], len(key["k"])), ("oct", alg, size))
                self.assertEqual(self.mode(alg), 0o600)

    def test_two_keys_are_never_the_same(self):
        for name in ("a", "b"):
            self.run_key("new", "--alg", "HS256", "--out", self.path(name))
        self.assertNotEqual(self.load("a"), self.load("b"))

    def test_the_report_names_the_key(self):
        out = self.run_key("new", "--kid", 'k "1"', "--out", self.path("a"), "--json").stdout
        report = json.loads(out)
        self.assertEqual((report["kid"], report["alg"]), ('k "1"', "ES256"))
        self.assertEqual(self.load("a")["kid"], 'k "1"')
        self.assertNotIn(self.load("a")["d"], out)

    def test_nothing_is_written_over_without_force(self):
        self.run_key("new", "--out", self.path("a"), "--public", self.path("p"))
        before = self.load("a"), self.load("p")
        done = self.run_key("new", "--out", self.path("a"), code=3)
        self.assertIn("--force", done.stderr)
        self.run_key("new", "--out", self.path("b"), "--public", self.path("p"), code=3)
        self.assertEqual((self.load("a"), self.load("p")), before)
        self.run_key("new", "--out", self.path("a"), "--public", self.path("p"), "--force")
        self.assertNotEqual((self.load("a"), self.load("p")), before)
        self.assertEqual(self.mode("a"), 0o600)

    def test_force_closes_a_file_that_was_open(self):
        with open(self.path("a"), "w", encoding="utf-8") as file:
            file.write("old")
        os.chmod(self.path("a"), 0o666)
        self.run_key("new", "--out", self.path("a"), "--force")
        self.assertEqual(self.mode("a"), 0o600)

    def test_a_directory_that_is_not_there_is_told(self):
        done = self.run_key("new", "--out", self.path("none/a"), code=3)
        self.assertIn("none/a", done.stderr)

    def test_wrong_usage_makes_no_file(self):
        out = self.path("a")
        for args in (
            ("new",),
            ("new", "--alg", "ES255", "--out", out),
            ("new", "--alg", "none", "--out", out),
            ("new", "--alg", "RS256", "--bits", "2047", "--out", out),
            ("new", "--alg", "RS256", "--bits", "2048x", "--out", out),
            ("new", "--alg", "RS256", "--bits", "", "--out", out),
            ("new", "--alg", "RS256", "--bits", "16385", "--out", out),
            ("new", "--alg", "ES256", "--bits", "2048", "--out", out),
            ("new", "--alg", "HS256", "--out", out, "--public", self.path("p")),
            ("new", "--kid", "", "--out", out),
            ("new", "--kid", "k" * 256, "--out", out),
            ("new", "--nonsense", "--out", out),
            ("old",),
            (),
        ):
            with self.subTest(args=args):
                self.run_key(*args, code=2)
                self.assertFalse(os.path.exists(out))
        self.assertIn("ES256", self.run_key("new", "--alg", "ES255", "--out", out, code=2).stderr)

    def test_help_is_help(self):
        self.assertIn("--public", self.run_key("new", "--help").stdout)


if __name__ == "__main__":
    unittest.main()
