"""Who gets in, and who does not: tokens of every kind, good and bad, by password and by enhanced authentication."""
import base64
import json
import unittest

import harness

REFUSED = {4: 5, 5: 135}


class Login(harness.BrokerTest):
    def setUp(self):
        super().setUp()
        keys = [harness.Key(self.dir, "HS256"), harness.Key(self.dir, "ES256", kid="es"),
                harness.Key(self.dir, "RS256", kid="rs"), harness.Key(self.dir, "EdDSA", kid="ed")]
        self.broker = self.start(keys=keys)

    def refused(self, why, client_id="d1", **args):
        """Both protocol versions are told 'not authorised', and the log says why."""
        for version, code in REFUSED.items():
            before = self.broker.count(f"reason={why} ")

            def told():
                client = self.broker.client(client_id, version=version, **args)
                self.assertEqual(client.attempt(), code,
                                 f"v{version} {why}\n{self.broker.log_tail()}")
                return self.broker.count(f"reason={why} ") > before

            # Lines about strangers are limited to some a second: knock until one is written.
            harness.wait_until(told, f"reason={why} in the log")

    def test_a_good_token_of_each_algorithm_gets_in(self):
        for key in self.broker.keys:
            for version in (3, 4, 5):
                with self.subTest(alg=key.alg, version=version):
                    device = self.broker.client("d1", token=key.token("d1"), version=version)
                    device.connect()
                    device.publish("devices/d1/telemetry", {"sensors": {"t": 20}})
                    device.disconnect()

    def test_a_token_issued_by_our_command_gets_in(self):
        private, jwks = self.dir / "issued.key", self.dir / "issued.jwks"
        self.broker.command("key", "new", "--alg", "ES256", "--out", str(private), "--public",
                            str(jwks))
        broker = self.start("second", options={"keys_file": str(jwks)})
        token = broker.command("token", "issue", "--key", str(private), "--sub", "d1", "--iss",
                               harness.ISSUER, "--aud", harness.AUDIENCE, "--exp", "10min").strip()
        broker.client("d1", token=token).connect()

    def test_the_user_name_may_be_absent_the_sub_or_jwt(self):
        token = self.broker.token("d1")
        self.assertEqual(self.broker.wire(5).connect("d1", password=token), 0)
        for user in ("", "d1", "jwt"):
            for version in (4, 5):
                self.assertEqual(self.broker.wire(version).connect("d1", user, token), 0, user)
        self.refused("user_name", user="someone", token=token)

    def test_nobody_gets_in_without_a_token(self):
        self.refused("no_token", token=None)
        self.refused("no_token", token=None, user="d1")
        self.refused("no_token", token=None, user="d1", password="secret")
        self.refused("no_token", token="")
        self.refused("no_token", token="a.b.c")

    def test_a_token_out_of_its_time_is_refused(self):
        key = self.broker.key
        self.refused("expired", token=key.token("d1", ttl=-60))
        now = harness.time.time()
        self.refused("not_yet", token=key.token("d1", nbf=int(now) + 300))
        self.refused("not_yet", token=key.token("d1", iat=int(now) + 300, ttl=900))
        self.refused("claim_missing", token=key.token("d1", drop=("exp",)))
        self.refused("lifetime", token=key.token("d1", ttl=31 * 86400))

    def test_a_token_for_somebody_else_is_refused(self):
        key = self.broker.key
        self.refused("client_id", token=key.token("d2"), user="")
        self.refused("client_id", client_id="d1:2", token=key.token("d1"), user="")
        self.refused("issuer", token=key.token("d1", iss="https://other.test"))
        self.refused("audience", token=key.token("d1", aud="other"))
        self.refused("claim_missing", token=key.token("d1", drop=("sub",)))
        for sub in ("+", "#", "a/b", "$SYS"):
            self.refused("subject", client_id=sub, token=key.token(sub), user="")
        for sub in ("a\u0001", "", "x" * 256):
            self.refused("subject", client_id="x", token=key.token(sub), user="")

    def test_a_forged_token_is_refused(self):
        key = self.broker.key
        good = key.token("d1")
        head, body, signature = good.split(".")
        stranger = harness.Key(self.dir, "HS256", name="stranger")
        self.refused("signature", token=stranger.token("d1"))
        changed = harness.b64(json.dumps({"sub": "d1", "admin": True}).encode())
        self.refused("signature", token=f"{head}.{changed}.{signature}")
        self.refused("signature", token=f"{head}.{body}.{harness.b64(bytes(32))}")
        self.refused("unknown_key", token=self.broker.keys[1].token("d1", header={"kid": "nope"}))

    def test_no_algorithm_is_taken_from_the_token(self):
        key, ec, rsa = self.broker.keys[:3]
        body = key.token("d1").split(".")[1]
        for alg in ("none", "None", "NONE", "nOnE"):
            head = harness.b64(json.dumps({"alg": alg}).encode())
            self.refused("alg", token=f"{head}.{body}.{harness.b64(b'x')}")
        # The RSA public key's text as an HMAC secret: the oldest confusion of all.
        confused = harness.Key(self.dir, "HS256", name="confused", kid="rs")
        confused.secret = rsa.public.read_bytes()
        self.refused("alg", token=confused.token("d1"))
        self.refused("alg", token=ec.token("d1", header={"alg": "RS256"}))

    def test_a_malformed_token_is_refused(self):
        key = self.broker.key
        good = b'{"sub":"d1","iss":"https://issuer.test","aud":"mqtt","iat":1,"exp":9999999999'
        head = b'{"alg":"HS256"}'
        self.refused("malformed", token=key.compact(head, good + b',"sub":"d2"}'))
        self.refused("malformed", token=key.compact(head, good + b"} x"))
        self.refused("malformed", token=key.compact(head, good + b',"a":"\xff"}'))
        self.refused("malformed", token=key.compact(head, good + b',"a":"\\u0000"}'))
        self.refused("malformed", token=key.compact(head, b"[]"))
        self.refused("unsupported", token=key.compact(b'{"alg":"HS256","crit":["x"],"x":1}',
                                                      good + b"}"))
        self.refused("too_large", token=key.token("d1", filler="x" * 9000))
        parts = key.token("d1").split(".")
        padded = base64.urlsafe_b64encode(b'{"alg":"HS256"} ').decode()
        self.assertTrue(padded.endswith("="))
        client = self.broker.client("d1", token=".".join([padded] + parts[1:]))
        self.assertEqual(client.attempt(), 5)

    def test_the_broker_writes_no_token_to_its_log(self):
        token = self.broker.token("d1")
        self.broker.client("d1", token=token).connect()
        self.refused("user_name", token=token, user=self.broker.token("d3"))
        self.assertNotIn(token.split(".")[2], self.broker.log())
        self.assertNotIn(token.split(".")[1], self.broker.log().replace("u'" + token, ""))

    def test_a_refusal_has_its_word_in_log_audit_and_counters(self):
        admin = self.broker.operator().connect()
        db = ["--db", str(self.broker.db)]
        key = self.broker.key
        rows = {"expired": key.token("d1", ttl=-60), "audience": key.token("d1", aud="x"),
                "client_id": key.token("d2"), "no_token": "x"}
        before = harness.control(admin, {"command": "getStatus"})[0]["data"]
        for times, (word, token) in enumerate(rows.items(), 1):
            for _ in range(times):
                self.assertEqual(self.broker.client("d1", token=token, user="").attempt(), 5)
        after = harness.control(admin, {"command": "getStatus"})[0]["data"]
        grown = {word: after["refusals"][word] - before["refusals"][word]
                 for word in after["refusals"]}
        self.assertEqual({word: n for word, n in grown.items() if n},
                         {word: n for n, word in enumerate(rows, 1)})
        self.assertEqual(after["counters"]["refused"] - before["counters"]["refused"], 10)
        self.broker.stop()  # writes what the minute has summed, and the last heartbeat
        told = json.loads(self.broker.command("audit", "list", "--json", "--type", "refusal", *db))
        self.assertEqual({r["reason"]: r["count"] for r in told["records"]},
                         {word: n for n, word in enumerate(rows, 1)})
        status = self.broker.command("fleet", "status", *db)
        self.assertRegex(status, r"refusals\.no_token +4\n")
        self.assertNotIn("refusals.revoked", status)

    def test_enhanced_authentication_takes_a_token(self):
        for key in self.broker.keys:
            wire = self.broker.wire()
            self.assertEqual(wire.connect("d1", auth=("JWT", key.token("d1"))), 0)
            self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), 0)
            wire.disconnect()

    def test_enhanced_authentication_refuses_what_a_password_would_not_get_in_with(self):
        key = self.broker.key
        rows = [("JWT", key.token("d1", ttl=-60), 135), ("JWT", key.token("d2"), 135),
                ("JWT", "", 135), ("JWT", None, 135), ("JWT", b"\0" + key.token("d1").encode(), 135),
                ("SCRAM", key.token("d1"), 140)]
        for method, data, code in rows:
            self.assertEqual(self.broker.wire().connect("d1", auth=(method, data)), code,
                             (method, data))

    def test_a_device_goes_by_its_sub_whatever_it_called_itself(self):
        operator = self.broker.operator().connect()
        operator.subscribe("devices/d9/telemetry")
        wire = self.broker.wire(4)
        self.assertEqual(wire.connect("d9", "jwt", self.broker.token("d9")), 0)
        wire.publish("devices/d9/telemetry", '{"t":1}')
        self.assertEqual(operator.next("devices/d9/telemetry").payload, b'{"t":1}')
        self.assertIn("u'd9'", self.broker.log())


class TokenInUserName(harness.BrokerTest):
    def test_the_token_may_stand_in_the_user_name(self):
        broker = self.start(options={"token_source": "username"})
        token = broker.token("d1")
        wire = broker.wire(4)
        self.assertEqual(wire.connect("d1", token, "ignored"), 0)
        self.assertEqual(broker.wire(4).connect("d1", "d1", token), 5)
        second = broker.wire(4)
        self.assertEqual(second.connect("d1", token), 0)
        self.assertNotIn(token.split(".")[2], broker.log())
        broker.sighup()
        self.assertTrue(second.alive())
        self.assertNotIn(token.split(".")[2], broker.log())


class Relaxed(harness.BrokerTest):
    def test_what_need_not_be_in_a_token_is_said_at_every_start(self):
        broker = self.start(options={"require_exp": "false", "require_iss": "false",
                                     "require_aud": "false", "issuer": None, "audience": None})
        for line in ("require_exp is false", "iss may be missing", "aud may be missing"):
            broker.wait_log("[Ww]arning.*" + line)
        device = broker.client("d1", token=broker.token("d1", drop=("exp", "iss", "aud"))).connect()
        device.publish("devices/d1/telemetry", '{"t":1}')
        self.assertEqual(broker.client("d2", token=broker.token("d2", drop=("sub",))).attempt(), 5)
        self.assertEqual(broker.client("d2", token=broker.token("d2", ttl=-60)).attempt(), 5)


class ClientIdPrefix(harness.BrokerTest):
    def test_a_prefix_lets_one_token_open_several_sessions(self):
        broker = self.start(options={"client_id_match": "prefix"})
        token = broker.token("d1")
        for client_id, code in (("d1", 0), ("d1:a", 0), ("d1:b", 0), ("d1b", 5), ("d2:d1", 5)):
            self.assertEqual(broker.wire(4).connect(client_id, "d1", token), code, client_id)
        self.assertEqual(broker.wire(4).connect("d1:a", "d1:a", broker.token("d1:a")), 5)
        broker.wait_log("client=d1:a .*reason=subject ")


if __name__ == "__main__":
    unittest.main()
