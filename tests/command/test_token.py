"""haltere token: what it signs it accepts, what is wrong it refuses with the word for it."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
HALTERE = os.environ.get("HALTERE", os.path.join(HERE, "..", "..", "build", "haltere"))
USUAL = ("--sub", "pump-7", "--iss", "https://id", "--aud", "broker")
ALGS = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
        "ES384", "ES512", "ES256K", "EdDSA")


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def payload_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def header_of(token):
    part = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Token(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="hlt-token-")
        cls.key, cls.keys = cls.new_key("main", "ES256")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.dir, name)

    @classmethod
    def new_key(cls, name, alg):
        """The private and the public file of a new key."""
        private, public = cls.path(name + ".jwk"), cls.path(name + ".pub")
        args = [HALTERE, "key", "new", "--alg", alg, "--kid", name, "--out", private]
        if alg.startswith(("RS", "PS")):
            args += ["--bits", "2048"]
        if not alg.startswith("HS"):
            args += ["--public", public]
        subprocess.run(args, check=True, capture_output=True, timeout=60)
        return private, private if alg.startswith("HS") else public

    def write(self, name, data, mode=0o600):
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path, mode)
        return path

    def run_token(self, *args, stdin="", code=0):
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        done = subprocess.run([HALTERE, "token", *args], input=data, capture_output=True,
                              timeout=60)
        out = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, code, out)
        done.out, done.err = out
        return done

    def issue(self, *args, key=None):
        return self.run_token("issue", "--key", key or self.key, *USUAL, *args).out.strip()

    def reason(self, token, *args, keys=None):
        code = 0 if "ok" in args else 1
        args = [arg for arg in args if arg != "ok"]
        done = self.run_token("verify", "--keys", keys or self.keys, "--json", *args, stdin=token,
                              code=code)
        answer = json.loads(done.out)
        self.assertEqual(answer["valid"], answer["reason"] == "ok")
        return answer["reason"]

    # --- issue ---

    def test_every_algorithm_is_issued_and_verified(self):
        for alg in ALGS:
            with self.subTest(alg=alg):
                private, public = self.new_key(alg, alg)
                token = self.issue(key=private)
                self.assertEqual(header_of(token), {"alg": alg, "kid": alg, "typ": "JWT"})
                self.assertEqual(self.reason(token, "ok", keys=public), "ok")

    def test_the_claims_are_the_options(self):
        token = self.issue("--aud", "second", "--role", "a", "--role", "b", "--device-class", "pump",
                           "--jti", "j1", "--iat", "@1000", "--nbf", "@2000", "--exp",
                           "2026-11-20T22:00:00Z", "--claim", 'site={"a":[1,2]}', "--claim",
                           "town=Lyon", "--claim", "n=1.5", "--claim", 'q="7"', "--header", "x=1",
                           "--header", "typ=at+jwt")
        self.assertEqual(payload_of(token), {
            "sub": "pump-7", "iss": "https://id", "aud": ["broker", "second"], "roles": ["a", "b"],
            "device_class": "pump", "jti": "j1", "iat": 1000, "nbf": 2000, "exp": 1795212000,
            "site": {"a": [1, 2]}, "town": "Lyon", "n": 1.5, "q": "7"})
        self.assertEqual(header_of(token), {"alg": "ES256", "kid": "main", "typ": "at+jwt", "x": 1})

    def test_the_defaults_are_an_hour_and_a_random_name(self):
        one, two = payload_of(self.issue()), payload_of(self.issue())
        self.assertEqual(one["exp"] - one["iat"], 3600)
        self.assertEqual(one["aud"], "broker")
        self.assertNotIn("roles", one)
        self.assertEqual(len(one["jti"]), 22)
        self.assertNotEqual(one["jti"], two["jti"])

    def test_a_claim_takes_the_place_of_an_option(self):
        self.assertEqual(payload_of(self.issue("--claim", "exp=null"))["exp"], None)
        self.assertNotIn("exp", payload_of(self.issue("--exp", "never")))

    def test_pem_keys_and_secrets_sign(self):
        pem, public = self.path("rsa.pem"), self.path("rsa.pub")
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt",
                        "rsa_keygen_bits:2048", "-out", pem], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", pem, "-pubout", "-out", public], check=True,
                       capture_output=True)
        os.chmod(pem, 0o600)
        token = self.issue("--alg", "PS384", key=pem)
        self.assertEqual(header_of(token), {"alg": "PS384", "typ": "JWT"})
        self.assertEqual(self.reason(token, "ok", keys="alg=PS384 " + public), "ok")
        self.assertEqual(self.reason(token, keys=public), "unknown_key")
        named = self.issue("--kid", "k9", key=pem)
        self.assertEqual(self.reason(named, "ok", keys="kid=k9 " + public), "ok")
        secret = self.write("secret", b"0123456789abcdef0123456789abcdef\n")
        self.assertEqual(self.reason(self.issue(key=secret), "ok", keys=secret), "ok")

    def test_of_a_set_the_kid_chooses(self):
        keys = []
        for name in ("s1", "s2"):
            with open(self.new_key(name, "HS256")[0], encoding="utf-8") as file:
                keys += json.load(file)["keys"]
        both = self.write("both", json.dumps({"keys": keys}))
        self.run_token("issue", "--key", both, *USUAL, code=3)
        self.run_token("issue", "--key", both, "--kid", "s3", *USUAL, code=3)
        token = self.issue("--kid", "s2", key=both)
        self.assertEqual(header_of(token)["kid"], "s2")
        self.assertEqual(self.reason(token, "ok", keys=both), "ok")

    def test_a_key_that_others_can_read_does_not_sign(self):
        with open(self.key, "rb") as file:
            path = self.write("open.jwk", file.read(), 0o644)
        self.assertIn("chmod", self.run_token("issue", "--key", path, *USUAL, code=3).err)

    def test_a_public_key_does_not_sign(self):
        with open(self.keys, "rb") as file:
            path = self.write("public.jwk", file.read())
        self.assertIn("private", self.run_token("issue", "--key", path, *USUAL, code=3).err)

    def test_wrong_usage_of_issue(self):
        for args in (
            (),
            ("--key", self.key),
            ("--key", self.key, *USUAL, "--exp", "soon"),
            ("--key", self.key, *USUAL, "--exp", "@12x"),
            ("--key", self.key, *USUAL, "--claim", "novalue"),
            ("--key", self.key, *USUAL, "--claim", "=1"),
            ("--key", self.key, *USUAL, "--claim", 'x={"a":1'),
            ("--key", self.key, *USUAL, "--header", "alg=none"),
            ("--key", self.key, "--sub", b"a\xff"),
        ):
            with self.subTest(args=args):
                done = self.run_token("issue", *args, code=2)
                self.assertEqual(done.out, "")

    def test_the_alg_of_a_key_is_not_changed(self):
        self.run_token("issue", "--key", self.key, "--alg", "ES384", *USUAL, code=3)

    # --- verify ---

    def test_a_refusal_has_its_word(self):
        rows = (
            (("--exp", "-1h"), "expired"),
            (("--exp", "-31s"), "expired"),
            (("--exp", "-20s"), "ok"),
            (("--nbf", "1h", "--exp", "2h"), "not_yet"),
            (("--iat", "1h", "--exp", "2h"), "not_yet"),
            (("--exp", "31d"), "lifetime"),
            (("--exp", "never"), "claim_missing"),
            (("--claim", 'exp="1"'), "claim_invalid"),
            (("--claim", "exp=1e300"), "claim_invalid"),
            (("--claim", 'roles="admin"'), "claim_invalid"),
            (("--claim", "sub=a/b"), "subject"),
            (("--header", 'crit=["x"]'), "unsupported"),
            (("--header", "b64=false"), "unsupported"),
            (("--header", "kid=other"), "unknown_key"),
        )
        for args, word in rows:
            with self.subTest(args=args):
                verdict = self.reason(self.issue(*args), *(("ok",) if word == "ok" else ()))
                self.assertEqual(verdict, word)

    def test_issuer_and_audience_are_lists(self):
        token = self.issue()
        good = ("--issuer", "x", "--issuer", "https://id", "--audience", "y", "--audience", "broker")
        self.assertEqual(self.reason(token, "ok", *good), "ok")
        self.assertEqual(self.reason(token, "--issuer", "x"), "issuer")
        self.assertEqual(self.reason(token, "--audience", "y"), "audience")
        self.assertEqual(self.reason(token, keys="issuer=https://other " + self.keys), "issuer")

    def test_options_relax_what_is_required(self):
        bare = self.run_token("issue", "--key", self.key, "--sub", "d", "--exp", "never").out
        self.assertEqual(self.reason(bare), "claim_missing")
        self.assertEqual(
            self.reason(bare, "ok", "--allow-no-exp", "--allow-no-iss", "--allow-no-aud"), "ok")

    def test_time_and_limits_are_options(self):
        token = self.issue("--iat", "@1000", "--exp", "@2000")
        self.assertEqual(self.reason(token, "ok", "--at", "@2029"), "ok")
        self.assertEqual(self.reason(token, "--at", "@2030"), "expired")
        self.assertEqual(self.reason(token, "ok", "--at", "@2030", "--leeway", "1min"), "ok")
        self.assertEqual(self.reason(token, "ok", "--at", "1970-01-01T00:20:00Z"), "ok")
        self.assertEqual(self.reason(token, "--at", "@1500", "--max-lifetime", "999s"), "lifetime")
        self.assertEqual(self.reason(token, "--at", "@1500", "--max-bytes", "100"), "too_large")

    def test_forged_and_foreign_tokens(self):
        token = self.issue()
        head, body, tail = token.split(".")
        forged = b64u(json.dumps({**payload_of(token), "roles": ["admin"]}).encode())
        other = self.issue("--header", "kid=main", key=self.new_key("other", "ES256")[0])
        none = b64u(b'{"alg":"none"}')
        self.assertEqual(self.reason(f"{head}.{forged}.{tail}"), "signature")
        self.assertEqual(self.reason(f"{head}.{body}."), "signature")
        self.assertEqual(self.reason(other), "signature")
        self.assertEqual(self.reason(f"{none}.{body}."), "alg")
        self.assertEqual(self.reason(f"{none}.{body}.{tail}"), "alg")
        self.assertEqual(self.reason(f"{head}.{body}.{tail}=="), "malformed")
        self.assertEqual(self.reason("e30.e30.e30.e30.e30"), "unsupported")
        self.assertEqual(self.reason("secret"), "no_token")
        self.assertEqual(self.reason(""), "no_token")
        self.assertEqual(self.reason("x" * 100000), "too_large")

    def test_a_nul_does_not_hide_what_follows(self):
        done = self.run_token("verify", "--keys", self.keys,
                              stdin=self.issue().encode() + b"\0junk", code=1)
        self.assertIn("NUL", done.err)

    def test_the_token_is_read_from_a_file_or_standard_input(self):
        token = self.issue()
        path = self.write("pump.token", token + "\n")
        self.assertIn("valid: pump-7",
                      self.run_token("verify", "--keys", self.keys, "--token-file", path).out)
        self.assertIn("valid", self.run_token("verify", "--keys", self.keys, "-", stdin=token).out)
        done = self.run_token("verify", "--keys", self.keys, token, code=2)
        self.assertNotIn(token, done.out + done.err)
        self.run_token("verify", "--keys", self.keys, "--token-file", self.path("none"), code=3)

    def test_the_answer_for_people(self):
        done = self.run_token("verify", "--keys", self.keys, stdin=self.issue("--exp", "-1h"), code=1)
        self.assertIn("refused: expired: ", done.out)

    def test_the_answer_holds_the_claims(self):
        done = self.run_token("verify", "--keys", self.keys, "--json", stdin=self.issue())
        answer = json.loads(done.out)
        self.assertEqual((answer["alg"], answer["kid"]), ("ES256", "main"))
        self.assertEqual(answer["claims"]["sub"], "pump-7")

    def test_bad_keys_are_told_and_nothing_is_judged(self):
        bad = self.write("bad.json", '{"keys":"x"}')
        done = self.run_token("verify", "--keys", bad, stdin=self.issue(), code=3)
        self.assertIn("array", done.err)
        self.run_token("verify", stdin=self.issue(), code=2)
        self.run_token("verify", "--keys", "algo=ES256 " + self.keys, code=2)
        done = self.run_token("verify", "--keys", self.key, stdin=self.issue(), code=3)
        self.assertIn("private", done.err)

    def test_several_key_files_make_one_set(self):
        private, public = self.new_key("second", "EdDSA")
        for key in (self.key, private):
            self.run_token("verify", "--keys", self.keys, "--keys", public,
                           stdin=self.issue(key=key))

    # --- show ---

    def test_show_decodes_and_says_that_nothing_was_checked(self):
        token = self.issue("--exp", "-1h")
        done = self.run_token("show", stdin=token[:-4] + "AAAA")
        self.assertTrue(done.out.startswith("NOT VERIFIED"))
        self.assertIn('"sub": "pump-7"', done.out)
        shown = json.loads(self.run_token("show", "--json", stdin=token).out)
        self.assertIs(shown["verified"], False)
        self.assertEqual(shown["claims"], payload_of(token))
        self.assertEqual(shown["header"], header_of(token))

    def test_show_lets_no_token_steer_the_terminal(self):
        body = '{"a":"\\u001b[2J\\u009b2J\\u007f\\n"}'.encode()
        raw = '{"a":"\u009b2J\u007f"}'.encode()
        for payload in (body, raw):
            token = ".".join((b64u(b'{"alg":"none"}'), b64u(payload), "AA"))
            shown = self.run_token("show", stdin=token).stdout
            for control in (b"\x1b", b"\x7f", "\u009b".encode()):
                self.assertNotIn(control, shown)

    def test_show_refuses_what_is_no_token(self):
        for text in ("", "a.b", "a.b.c.d", "e30.W10.AA", "e30.e3.AA", b64u(b'{"a":1,"a":2}') + ".e30.AA"):
            with self.subTest(text=text):
                self.assertEqual(self.run_token("show", stdin=text, code=1).out, "")

    def test_verbs_have_help(self):
        for verb in ("issue", "verify", "show"):
            self.assertIn("Usage: haltere token " + verb, self.run_token(verb, "--help").out)
        self.run_token("nonsense", code=2)


if __name__ == "__main__":
    unittest.main()
