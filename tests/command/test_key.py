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

    def make_set(self, *args):
        self.run_key("new", *args, "--out", self.path("one.jwk"), "--public", self.path("keys"))
        return self.path("keys")

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text if isinstance(text, str) else json.dumps(text))
        return self.path(name)

    def test_check_says_what_the_broker_would(self):
        keys = self.make_set()
        self.assertIn("1 key", self.run_key("check", keys).stdout)
        key = self.load("keys")["keys"][0]
        encryption = dict(key, use="enc", kid="enc")
        mixed = self.write("mixed", {"keys": [encryption, key]})
        done = self.run_key("check", mixed)
        self.assertIn('key 1 (kid "enc"): passed over', done.stderr)
        self.assertIn("1 key", done.stdout)
        report = json.loads(self.run_key("check", "--json", mixed).stdout)
        self.assertEqual((report["good"], report["keys"]), (True, 1))
        self.assertEqual([(p["kind"], p["file"], p["line"]) for p in report["problems"]],
                         [("warning", mixed, 1)])
        for name, text in (("enc", {"keys": [encryption]}), ("empty", ""), ("none", {"keys": []}),
                           ("twice", {"keys": [key, key]}), ("text", "short")):
            path = self.write(name, text)
            done = self.run_key("check", path, code=1)
            self.assertIn(path, done.stderr)
            self.assertEqual(done.stdout, "")
            report = json.loads(self.run_key("check", "--json", keys, path, code=1).stdout)
            self.assertFalse(report["good"])
            self.assertIn("error", {p["kind"] for p in report["problems"]})
        self.assertIn("private members", self.run_key("check", self.path("one.jwk"), code=1).stderr)
        self.run_key("check", self.path("nowhere"), code=3)
        self.run_key("check", keys, self.path("nowhere"), code=3)
        self.run_key("check", code=2)
        self.run_key("check", "alg=ES265 " + keys, code=2)

    def test_list_shows_every_key_of_all_files(self):
        keys = self.make_set("--kid", "a")
        self.run_key("new", "--alg", "HS256", "--kid", "b", "--out", self.path("secret"))
        out = self.run_key("list", "issuer=https://id.example " + keys, self.path("secret")).stdout
        rows = [line.split() for line in out.splitlines()]
        self.assertEqual(rows[0], ["KID", "ALG", "BITS", "USE", "ISSUER", "FILE"])
        self.assertEqual(rows[1], ["a", "ES256", "256", "sig", "https://id.example", keys])
        self.assertEqual(rows[2][:5], ["b", "HS256", "256", "sig", "any"])
        listed = json.loads(self.run_key("list", "--json", keys).stdout)["keys"]
        self.assertEqual(listed, [{"kid": "a", "alg": "ES256", "bits": 256, "use": "sig",
                                   "file": keys, "loaded": True}])
        self.run_key("list", code=2)
        self.run_key("list", self.path("nowhere"), code=3)
        self.run_key("list", "--db", self.path("nowhere"), keys, code=3)

    def test_show_tells_no_secret(self):
        for alg in ("RS256", "ES256", "ES512", "EdDSA", "HS256"):
            private = self.path(alg)
            self.run_key("new", "--alg", alg, "--out", private)
            key = self.load(alg)
            key = key["keys"][0] if "keys" in key else key
            shown = self.run_key("show", private).stdout
            document = json.loads(self.run_key("show", "--json", private).stdout)
            self.assertEqual((document["alg"], document["kty"]), (alg, ALGS[alg]))
            self.assertEqual(document["bits"], {"RS256": 3072, "ES512": 521}.get(alg, 256))
            self.assertTrue(document["private"])
            for name in PRIVATE & set(key):
                self.assertNotIn(key[name], shown + json.dumps(document))
            if alg != "HS256":
                self.assertEqual(document["thumbprint"], key["kid"])
                self.assertFalse(PRIVATE & set(document["public"]))
        pem = self.path("pem")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", pem], check=True,
                       capture_output=True)
        self.assertEqual(json.loads(self.run_key("show", "--json", pem).stdout)["crv"], "Ed25519")
        self.run_key("show", self.path("nowhere"), code=3)
        self.run_key("show", "--kid", "x", self.path("RS256"), code=1)

    def test_rotate_adds_a_key_and_loses_none(self):
        keys = self.make_set("--alg", "EdDSA", "--kid", "old")
        os.chmod(keys, 0o640)
        text = self.load("keys")
        text["comment"] = ["kept", {"as": "it is"}]
        self.write("keys", json.dumps(text, indent=2))
        out = self.run_key("rotate", "--keys", keys, "--key", self.path("two.jwk"), "--kid", "new")
        self.assertIn("Next:", out.stdout)
        after = self.load("keys")
        self.assertEqual([key["kid"] for key in after["keys"]], ["old", "new"])
        self.assertEqual(after["keys"][0], text["keys"][0])
        self.assertEqual(after["comment"], text["comment"])
        self.assertFalse(PRIVATE & set(after["keys"][1]))
        self.assertEqual(self.mode("keys"), 0o640)
        self.assertEqual(self.mode("two.jwk"), 0o600)
        self.assertEqual(self.load("two.jwk")["alg"], "EdDSA")
        self.run_key("check", keys)
        report = json.loads(self.run_key("rotate", "--keys", keys, "--key", self.path("three"),
                                         "--alg", "ES384", "--json").stdout)
        self.assertEqual((report["alg"], report["count"]), ("ES384", 3))
        for private, kid in (("one.jwk", "old"), ("two.jwk", "new"), ("three", report["kid"])):
            token = subprocess.run([HALTERE, "token", "issue", "--key", self.path(private), "--sub",
                                    "d1", "--iss", "i", "--aud", "a", "--exp", "10min"],
                                   capture_output=True, text=True, check=True).stdout.strip()
            verified = subprocess.run([HALTERE, "token", "verify", "--keys", keys, "--issuer", "i",
                                       "--audience", "a", "-"], input=token, capture_output=True,
                                      text=True, check=False)
            self.assertEqual(verified.returncode, 0, kid + verified.stderr + verified.stdout)

    def test_rotate_makes_a_set_of_a_single_key_and_of_secrets(self):
        keys = self.make_set("--kid", "old")
        single = self.write("single", self.load("keys")["keys"][0])
        self.run_key("rotate", "--keys", single, "--key", self.path("two"))
        self.assertEqual(len(self.load("single")["keys"]), 2)
        self.run_key("new", "--alg", "HS512", "--out", self.path("secrets"))
        self.run_key("rotate", "--keys", self.path("secrets"), "--key", self.path("mine"))
        self.assertEqual([key["alg"] for key in self.load("secrets")["keys"]], ["HS512", "HS512"])
        self.assertEqual(self.mode("secrets"), 0o600)
        self.run_key("check", self.path("secrets"))
        self.run_key("rotate", "--keys", keys, "--alg", "HS256", "--key", self.path("no"), code=1)

    def test_rotate_refuses_what_would_lose_a_key(self):
        keys = self.make_set("--kid", "old")
        before = self.load("keys")
        new = self.path("new.jwk")
        nameless = dict(before["keys"][0])
        del nameless["kid"]
        cases = (
            (keys, self.path("one.jwk"), (), 1),  # the key that signs now
            (keys, new, ("--kid", "old"), 1),     # two of a name
            (self.write("nameless", {"keys": [nameless]}), new, (), 1),
            (self.write("broken", '{"keys":[{}]}'), new, (), 3),
            (self.write("pem", "-----BEGIN PUBLIC KEY-----\n"), new, (), 1),
            (self.path("nowhere"), new, (), 3),
            (keys, new, ("--alg", "ES265"), 2),
            (keys, new, ("--bits", "2048"), 2),
            (keys, self.path("no/such/directory"), (), 3),
        )
        private = self.load("one.jwk")
        for path, key, more, code in cases:
            with self.subTest(path=path, more=more):
                self.run_key("rotate", "--keys", path, "--key", key, *more, code=code)
                self.assertFalse(os.path.exists(new))
                self.assertEqual(self.load("keys"), before)
                self.assertEqual(self.load("one.jwk"), private)
        self.run_key("rotate", "--keys", keys, code=2)

    def refresh(self, body, fails=False):
        """Run the example with a curl that gives `body`."""
        tools = self.path("bin")
        os.makedirs(tools, exist_ok=True)
        os.path.exists(self.path("bin/haltere")) or os.symlink(os.path.abspath(HALTERE),
                                                               self.path("bin/haltere"))
        self.write("body", body)
        with open(self.path("bin/curl"), "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\n%swhile [ "$1" != --output ]; do shift; done\ncp "%s" "$2"\n'
                       % ("exit 22\n" if fails else "", self.path("body")))
        os.chmod(self.path("bin/curl"), 0o755)
        script = os.path.join(HERE, "..", "..", "examples", "jwks-refresh.sh")
        os.makedirs(self.path("etc"), exist_ok=True)
        done = subprocess.run(["bash", script, "https://id.example/jwks", self.path("etc/keys")],
                              env=dict(os.environ, PATH=tools + ":" + os.environ["PATH"]),
                              capture_output=True, text=True, check=False, timeout=60)
        self.assertLessEqual(set(os.listdir(self.path("etc"))), {"keys"})
        return done

    def test_a_fetched_key_set_replaces_the_old_one_only_if_the_broker_would_take_it(self):
        self.make_set()
        good = json.dumps(self.load("keys"))
        done = self.refresh(good)
        self.assertEqual((done.returncode, done.stdout), (0, self.path("etc/keys") + ": replaced\n"),
                         done.stderr)
        self.assertEqual(self.mode("etc/keys"), 0o644)
        self.assertEqual(self.refresh(good).stdout, "")  # nothing new
        for body, fails in (("<html>", False), ('{"keys":[]}', False), (good, True)):
            self.assertNotEqual(self.refresh(body, fails).returncode, 0)
            self.assertEqual(self.load("etc/keys"), json.loads(good))

    def test_help_is_help(self):
        self.assertIn("--public", self.run_key("new", "--help").stdout)


if __name__ == "__main__":
    unittest.main()
