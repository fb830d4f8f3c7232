"""Tokens revoked before their time: who is put out, who may come back, and what survives a restart."""
import json
import subprocess
import time
import unittest

import harness


class RevocationTest(harness.BrokerTest):
    def command(self, *commands):
        return harness.control(self.operator, *commands)

    def revoke(self, **what):
        self.assertEqual(self.command(dict(what, command="revokeToken")),
                         [{"command": "revokeToken"}])

    def begin(self, **args):
        self.broker = self.start(**args)
        self.operator = self.broker.operator().connect()
        self.operator.subscribe("devices/+/event")
        self.operator.subscribe("devices/+/will")

    def device(self, name, version=4, **args):
        return self.broker.client(name, version=version,
                                  will=(f"devices/{name}/will", "gone"), **args).connect()

    def expect_put_out(self, device, since):
        device.wait_kicked()
        self.assertLess(time.monotonic() - since, harness.SOON)
        name = device.client_id
        told = self.operator.next_json(f"devices/{name}/event",
                                       lambda e: e["type"] == "token_revoked")
        self.assertEqual(told["deviceId"], name)
        self.operator.next_json(f"devices/{name}/event", lambda e: e["type"] == "disconnected" and
                                e["reason"] == "token_revoked")

    def expect_no_will(self):
        self.operator.subscribe("t/end")
        self.operator.publish("t/end", "x")
        before = self.operator.nothing_before("t/end")
        self.assertEqual([m.topic for m in before if m.topic.endswith("/will")], [])


class Live(RevocationTest):
    def test_each_kind_ends_a_live_session_at_once_and_without_its_will(self):
        self.begin()
        now = int(time.time())
        rows = [("jti", {"jti": "j-1"}, {"jti": "j-1"}),
                ("sub", {}, {"sub": "d-sub"}),
                ("before", {"iat": now - 100}, {"sub": "d-before", "issuedBefore": now - 50})]
        for version in (4, 5):
            for kind, claims, order in rows:
                name = f"d-{kind}"
                with self.subTest(kind=kind, version=version):
                    device = self.device(name, version, claims=claims)
                    other = self.device("other", version, claims={"jti": "j-2"})
                    since = time.monotonic()
                    self.revoke(**order)
                    self.expect_put_out(device, since)
                    self.assertIn(self.broker.client(name, version=version,
                                                     claims=claims).attempt(), (5, 135))
                    self.broker.wait_log(f"client={name} .*reason=revoked")
                    other.publish("devices/other/telemetry", '{"t":1}')
                    self.assertTrue(other.online)
                    other.disconnect()
                    lift = dict(order, command="unrevokeToken")
                    self.assertEqual(self.command(lift), [{"command": "unrevokeToken"}])
                    self.assertIsNotNone(self.command(lift)[0].get("error"))
                    self.device(name, version, claims=claims).disconnect()
        self.expect_no_will()

    def test_a_kid_ends_every_session_of_that_key_also_of_tokens_that_do_not_name_it(self):
        old = harness.Key(self.dir, "ES256", kid="old")
        new = harness.Key(self.dir, "HS256", kid="new")
        self.begin(keys=[new, old])
        named = self.broker.client("d1", token=old.token("d1")).connect()
        nameless = old.compact(b'{"alg":"ES256"}', json.dumps(
            {"sub": "d2", "iss": harness.ISSUER, "aud": harness.AUDIENCE,
             "iat": int(time.time()), "exp": int(time.time()) + 600}).encode())
        silent = self.broker.client("d2", token=nameless).connect()
        since = time.monotonic()
        self.revoke(kid="old", reason="leaked")
        self.expect_put_out(named, since)
        self.expect_put_out(silent, since)
        self.assertTrue(self.operator.online)
        for name, token in (("d1", old.token("d1")), ("d2", nameless)):
            self.assertEqual(self.broker.client(name, token=token).attempt(), 5)
        self.broker.client("d1", token=new.token("d1")).connect()

    def test_nothing_is_allowed_between_the_order_and_the_kick(self):
        self.begin()
        wire = self.broker.wire(5)
        self.assertEqual(wire.connect("d1", "", self.broker.token("d1")), 0)
        self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), 0)
        self.revoke(sub="d1")
        while True:
            code = wire.publish("devices/d1/telemetry", '{"t":1}')
            if code is None:
                break
            self.assertEqual(code, 135)

    def test_issued_before_lets_a_newer_token_in_and_bars_one_without_iat(self):
        self.begin(options={"require_exp": "true"})
        now = int(time.time())
        self.device("d1", claims={"iat": now - 10})
        self.revoke(sub="d1", issuedBefore=now - 5)
        self.assertEqual(self.broker.client("d1", claims={"iat": now - 6}).attempt(), 5)
        self.assertEqual(self.broker.client(
            "d1", token=self.broker.token("d1", drop=["iat"])).attempt(), 5)
        back = self.broker.client("d1", claims={"iat": now - 5}).connect()
        # a renewal with an older, revoked token is refused, and the session goes on
        answer = harness.control(back, {"command": "renew",
                                        "token": self.broker.token("d1", iat=now - 6)})
        self.assertIn("revoked", answer[0]["error"])
        back.publish("devices/d1/telemetry", '{"t":1}')

    def test_orders_that_are_wrong_are_refused_and_say_why(self):
        self.begin()
        token = self.broker.token("d1")
        for wrong, why in [({}, "jti, sub and kid"), ({"jti": "a", "sub": "b"}, "exactly one"),
                           ({"jti": 5}, "string"), ({"jti": ""}, "1 to"),
                           ({"kid": "k", "issuedBefore": 5}, "goes with sub"),
                           ({"sub": "d1", "issuedBefore": "yesterday"}, "not a date"),
                           ({"sub": "d1", "expires": 5}, "in the past"),
                           ({"jti": "x" * 481}, "1 to 480"),
                           ({"jti": token}, "that is a token")]:
            answer = self.command(dict(wrong, command="revokeToken"))[0]
            self.assertIn(why, answer["error"], wrong)
            self.assertNotIn(token, json.dumps(answer))
        self.assertEqual(self.command({"command": "listRevocations"})[0]["data"],
                         {"revocations": [], "total": 0})
        plain = self.broker.client("plain").connect()
        answer = harness.control(plain, {"command": "revokeToken", "sub": "operator"})
        self.assertIn("not authorised", answer[0]["error"])
        self.assertTrue(self.operator.online)

    def test_a_full_table_refuses_and_raises_an_alert(self):
        self.begin(options={"max_revocations": "100"})
        self.operator.subscribe("alerts/critical")
        for first in range(0, 100, 25):
            self.command(*[{"command": "revokeToken", "jti": f"j{first + i}"} for i in range(25)])
        answer = self.command({"command": "revokeToken", "jti": "one too many"})[0]
        self.assertIn("max_revocations", answer["error"])
        alert = self.operator.next_json("alerts/critical")
        self.assertEqual((alert["alertname"], alert["status"]), ("revocations_full", "firing"))
        self.revoke(jti="j5", reason="known already: no new place is needed")
        listed = self.command({"command": "listRevocations"})[0]["data"]
        self.assertEqual((listed["total"], len(listed["revocations"])), (100, 100))
        self.assertNotIn("next", listed)


class Listed(RevocationTest):
    def revoke_many(self, count):
        for first in range(0, count, 32):
            self.command(*[{"command": "revokeToken", "jti": f"j{i}"}
                           for i in range(first, min(first + 32, count))])

    def test_the_command_shows_thousands_as_the_running_broker_tells_them(self):
        self.begin(options={"heartbeat_interval": "1h"})
        self.revoke_many(3300)
        self.revoke(sub="d1", issuedBefore=int(time.time()), reason="last")
        file = self.dir / "admin.token"
        file.write_text(self.broker.token("boss", roles=["haltere-admin"]))
        file.chmod(0o600)
        where = ["--host", "127.0.0.1", "--port", str(self.broker.port), "--token-file", str(file)]
        told = json.loads(self.broker.command("token", "revocations", "--json", *where))["revocations"]
        self.assertEqual([e.get("jti") for e in told[:-1]], [f"j{i}" for i in range(3300)])
        self.assertEqual((told[-1]["sub"], told[-1]["reason"], told[-1]["by"]),
                         ("d1", "last", "operator"))
        table = self.broker.command("token", "revocations", *where).splitlines()
        self.assertEqual(len(table), 3302)
        self.assertRegex(table[-1], r"^sub issued before +d1 +20\S+Z +20\S+Z +operator +last")

        def stored():
            text = self.broker.command("token", "revocations", "--json", "--db", str(self.broker.db))
            return json.loads(text)["revocations"]

        harness.wait_until(lambda: len(stored()) == 3301, "the store has them")
        key = lambda e: (e.get("jti", ""), e.get("sub", ""))
        self.assertEqual(sorted(stored(), key=key), sorted(told, key=key))

    def test_what_comes_and_goes_between_two_pages_hides_nothing(self):
        self.begin()
        self.revoke_many(30)

        def page(**members):
            return self.command(dict(members, command="listRevocations"))[0]["data"]

        first = page(limit=10)
        self.assertEqual([e["jti"] for e in first["revocations"]], [f"j{i}" for i in range(10)])
        for i in (0, 5, 9, 12):
            self.command({"command": "unrevokeToken", "jti": f"j{i}"})
        self.revoke(jti="new")
        second = page(limit=10, after=first["next"])
        third = page(limit=10, after=second["next"])
        rest = second["revocations"] + third["revocations"]
        self.assertEqual([e["jti"] for e in rest],
                         [f"j{i}" for i in range(10, 30) if i != 12] + ["new"])
        self.assertNotIn("next", third)
        self.assertEqual(page(after=10 ** 15)["revocations"], [])
        for wrong in ({"after": -1}, {"after": "x"}, {"limit": 0}, {"limit": 10001}, {"limit": []}):
            self.assertIn("limit 1 to 10000",
                          self.command(dict(wrong, command="listRevocations"))[0]["error"], wrong)

    def test_who_may_not_ask_is_told_so(self):
        self.begin()
        file = self.dir / "plain.token"
        file.write_text(self.broker.token("plain"))
        file.chmod(0o600)
        where = ["--host", "127.0.0.1", "--port", str(self.broker.port), "--token-file", str(file)]
        for verb in (["token", "revocations"], ["ban", "list"]):
            done = subprocess.run([harness.COMMAND, *verb, *where], capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("none of admin_roles", done.stderr)


class Offline(RevocationTest):
    def test_a_revoked_offline_session_is_given_nothing(self):
        self.begin(persistence=True)
        device = self.broker.client("d1", clean=False, claims={"jti": "j1"}).connect()
        device.subscribe("devices/d1/commands")
        device.disconnect()
        self.operator.publish("devices/d1/commands", '{"commandId":"1","command":"x"}')
        self.revoke(jti="j1")
        self.operator.publish("devices/d1/commands", '{"commandId":"2","command":"x"}')
        self.broker.restart()
        self.operator = self.broker.operator().connect()
        self.operator.publish("devices/d1/commands", '{"commandId":"3","command":"x"}')
        self.assertEqual(self.broker.client("d1", clean=False, claims={"jti": "j1"}).attempt(), 5)
        device = self.broker.client("d1", clean=False, claims={"jti": "j2"}).connect()
        self.operator.publish("devices/d1/commands", '{"commandId":"4","command":"x"}')
        seen = []
        while not seen or seen[-1] != "4":
            seen.append(device.next_json("devices/d1/commands")["commandId"])
        self.assertNotIn("2", seen)
        self.assertNotIn("3", seen)

    def test_the_will_of_a_revoked_device_is_not_sent(self):
        self.begin()
        device = self.device("d1")
        harness.control(self.operator, {"command": "revokeToken", "sub": "d1"})
        device.drop()  # its connection is lost before the kick
        self.operator.next_json("devices/d1/event", lambda e: e["type"] == "disconnected")
        self.expect_no_will()


class Restart(RevocationTest):
    def listed(self):
        text = self.broker.command("token", "revocations", "--db", str(self.broker.db), "--json")
        return json.loads(text)["revocations"]

    def test_it_survives_kill_9_once_the_store_has_it_and_a_clean_restart(self):
        self.begin()
        self.revoke(jti="j1", reason="stolen")
        self.revoke(sub="d2", issuedBefore=int(time.time()) + 5)
        harness.wait_until(lambda: len(self.listed()) == 2, "the store has both", 2.0)
        self.broker.kill9()
        self.broker.close_clients()
        self.broker.start()
        for again in range(2):
            self.assertEqual(self.broker.client("d1", claims={"jti": "j1"}).attempt(), 5)
            self.assertEqual(self.broker.client("d2").attempt(), 5)
            self.broker.client("d1", claims={"jti": "j2"}).connect().disconnect()
            self.assertEqual(len(self.listed()), 2, again)
            self.broker.close_clients()
            self.broker.restart()
        entry = [e for e in self.listed() if "jti" in e][0]
        self.assertEqual((entry["jti"], entry["reason"], entry["by"]), ("j1", "stolen", "operator"))

    def test_an_entry_ends_when_it_is_told_to(self):
        self.begin()
        self.revoke(jti="j1", expires=time.time() + 1.5)
        self.assertEqual(self.broker.client("d1", claims={"jti": "j1"}).attempt(), 5)
        harness.wait_until(lambda: self.broker.client("d1", claims={"jti": "j1"}).attempt() == 0,
                           "it has ended")
        harness.wait_until(lambda: self.command({"command": "listRevocations"})[0]["data"]["total"]
                           == 0, "it is gone")

    def test_the_command_revokes_while_the_broker_is_down_and_not_while_it_runs(self):
        self.begin()
        self.broker.client("d1", clean=False, claims={"jti": "j1"}).connect().disconnect()
        busy = subprocess.run([harness.COMMAND, "token", "revoke", "--jti", "j1", "--db",
                               str(self.broker.db)], capture_output=True, text=True, check=False)
        self.assertEqual(busy.returncode, 3)
        self.assertIn("a broker runs", busy.stderr)
        self.broker.close_clients()
        self.broker.stop()
        db = str(self.broker.db)
        self.broker.command("token", "revoke", "--jti", "j1", "--reason", "lost", "--db", db)
        self.broker.command("token", "revoke", "--sub", "d2", "--before", "now", "--db", db)
        self.broker.command("token", "revoke", "--kid", "k9", "--db", db)
        self.broker.command("token", "unrevoke", "--kid", "k9", "--db", db)
        self.broker.command("audit", "verify", "--db", db)
        self.assertEqual(len(self.listed()), 2)
        nobody = subprocess.run([harness.COMMAND, "token", "revoke", "--jti", "x", "--db",
                                 str(self.dir / "nothing")], capture_output=True, text=True,
                                check=False)
        self.assertEqual(nobody.returncode, 3)
        self.assertFalse((self.dir / "nothing").exists())
        self.broker.start()
        self.assertEqual(self.broker.count("not clean|moved aside|store check"), 0)
        self.assertEqual(self.broker.client("d1", claims={"jti": "j1"}).attempt(), 5)
        self.assertEqual(self.broker.client(
            "d2", token=self.broker.token("d2", iat=int(time.time()) - 60)).attempt(), 5)
        self.broker.client("d2", claims={"iat": int(time.time()) + 2}).connect()
        self.broker.command("audit", "verify", "--db", db)

    def test_the_command_gives_the_order_to_a_running_broker(self):
        self.begin()
        device = self.device("d1")
        file = self.dir / "admin.token"
        file.write_text(self.broker.token("boss", roles=["haltere-admin"]))
        file.chmod(0o600)
        where = ["--host", "127.0.0.1", "--port", str(self.broker.port), "--token-file", str(file)]
        since = time.monotonic()
        self.broker.command("token", "revoke", "--sub", "d1", "--reason", "test", *where)
        self.expect_put_out(device, since)
        self.assertEqual(self.broker.client("d1").attempt(), 5)
        self.broker.command("token", "unrevoke", "--sub", "d1", *where)
        self.broker.client("d1").connect()
        again = subprocess.run([harness.COMMAND, "token", "unrevoke", "--sub", "d1", *where],
                               capture_output=True, text=True, check=False)
        self.assertEqual(again.returncode, 1)


if __name__ == "__main__":
    unittest.main()
