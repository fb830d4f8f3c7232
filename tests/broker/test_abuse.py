"""Abuse: failed logins run out, bans hold and end, clones are seen, tokens seen before cost nothing."""
import json
import socket
import subprocess
import time
import unittest

import harness
from harness import control, wait_until

NOT_EXEMPT = "192.0.2.1"  # takes the place of the default, which is this machine


def forged(token):
    head, body, signature = token.split(".")
    return ".".join((head, body, ("A" if signature[0] != "A" else "B") + signature[1:]))


class Abuse(harness.BrokerTest):
    def begin(self, **options):
        options = {"ban_exempt": NOT_EXEMPT, "auth_fail_burst": "8", "auth_fail_rate": "1", **options}
        broker = self.start(options=options)
        self.admin = broker.operator().connect()
        return broker

    def attempt(self, broker, client_id, token):
        client = broker.client(client_id, token=token, user="jwt")
        client.attempt()
        client.close()
        return client.rc

    def status(self):
        return control(self.admin, {"command": "getStatus"})[0]["data"]["counters"]

    def command(self, name, **members):
        return control(self.admin, {"command": name, **members})[0]

    def fail(self, broker, times, client_id=None):
        for i in range(times):
            name = client_id or f"bad{i}"
            self.assertNotEqual(self.attempt(broker, name, forged(broker.token(name))), 0)

    def from_address(self, broker, client_id, address, token):
        """A client that connects from `address` (all of 127.0.0.0/8 is this machine)."""
        wire = harness.Wire.__new__(harness.Wire)
        wire.version, wire.mid = 4, 0
        wire.sock = socket.create_connection(("127.0.0.1", broker.port), timeout=harness.WAIT,
                                             source_address=(address, 0))
        broker.clients.append(wire)
        self.assertEqual(wire.connect(client_id, "", token), 0, broker.log_tail())
        return wire

    # --- bans by failed logins

    def test_a_burst_of_bad_tokens_bans_the_address_and_nobody_who_is_in(self):
        broker = self.begin()
        live = broker.client("live").connect()
        live.subscribe("devices/live/commands")
        known = broker.token("known")
        self.assertEqual(self.attempt(broker, "known", known), 0)
        self.fail(broker, 8)
        broker.wait_log(r"ban address 127\.0\.0\.1 for 600 s by haltere: too many failed logins")
        misses = self.status()["cache_misses"]
        self.assertNotEqual(self.attempt(broker, "fresh", broker.token("fresh")), 0)
        broker.wait_log("auth-fail ip=127.0.0.1 client=fresh .*reason=banned")
        self.assertEqual(self.attempt(broker, "known", known), 0, "a token that was verified before")
        self.assertEqual(self.status()["cache_misses"], misses, "no signature was checked")
        self.admin.publish("devices/live/commands", "still here")
        self.assertEqual(live.next("devices/live/commands").payload, b"still here")
        renewed = control(live, {"command": "renew", "token": broker.token("live", ttl=900)})[0]
        self.assertIn("ban", renewed["error"], "an unknown token costs a signature here too")
        self.assertTrue(live.online)
        listed = self.command("listBans")["data"]
        self.assertEqual(listed["total"], 1)
        self.assertEqual(listed["bans"][0]["address"], "127.0.0.1")
        self.assertTrue(listed["bans"][0]["automatic"])
        self.assertNotIn("error", self.command("removeBan", address="127.0.0.1"))
        self.assertEqual(self.attempt(broker, "fresh", broker.token("fresh")), 0)

    def test_one_bad_device_does_not_ban_its_neighbours(self):
        broker = self.begin()
        self.fail(broker, 4, "broken")
        broker.wait_log(r"ban login 127\.0\.0\.1 broken for 600 s")
        self.fail(broker, 20, "broken")
        self.assertNotEqual(self.attempt(broker, "broken", broker.token("broken")), 0)
        self.assertEqual(self.attempt(broker, "other", broker.token("other")), 0)

    def test_a_ban_for_failures_ends(self):
        broker = self.begin(ban_time="2s")
        self.fail(broker, 8)
        self.assertNotEqual(self.attempt(broker, "fresh", broker.token("fresh")), 0)
        wait_until(lambda: self.attempt(broker, "fresh", broker.token("fresh")) == 0, "the ban's end")
        self.assertEqual(broker.count("ban address"), 1)

    def test_this_machine_is_not_banned_by_default(self):
        broker = self.begin(ban_exempt=None, auth_fail_burst="2")
        self.fail(broker, 10)
        self.assertEqual(self.attempt(broker, "fresh", broker.token("fresh")), 0)

    # --- bans by hand

    def test_a_banned_device_is_out_within_a_second_without_its_will(self):
        broker = self.begin()
        self.admin.subscribe("devices/#")
        device = broker.client("d1", will=("devices/d1/will", "dead", 1)).connect()
        begin = time.monotonic()
        self.assertNotIn("error", self.command("addBan", deviceId="d1", reason="stolen"))
        device.wait_kicked()
        self.assertLess(time.monotonic() - begin, harness.SOON)
        self.admin.next_json("devices/d1/event", lambda m: m.get("reason") == "banned")
        self.assertNotEqual(self.attempt(broker, "d1", broker.token("d1", ttl=900)), 0)
        broker.wait_log("client=d1 .*reason=banned")
        other = broker.client("d2").connect()
        other.publish("devices/d2/telemetry", '{"v":1}')
        self.admin.next("devices/d2/telemetry")
        self.assertFalse([m for m in self.admin.drain() if m.topic == "devices/d1/will"])
        self.assertNotIn("error", self.command("removeBan", deviceId="d1"))
        broker.client("d1").connect()

    def test_a_known_token_does_not_help_a_banned_device(self):
        broker = self.begin()
        token = broker.token("d1")
        self.assertEqual(self.attempt(broker, "d1", token), 0)
        self.command("addBan", deviceId="d1", duration="2s")
        self.assertNotEqual(self.attempt(broker, "d1", token), 0)
        wait_until(lambda: self.attempt(broker, "d1", token) == 0, "the ban's end")

    def test_a_banned_address_keeps_its_sessions(self):
        broker = self.begin()
        live = broker.client("live").connect()
        self.assertNotIn("error", self.command("addBan", address="127.0.0.1", duration="forever"))
        self.assertNotEqual(self.attempt(broker, "fresh", broker.token("fresh")), 0)
        live.publish("devices/live/telemetry", '{"v":1}')
        self.assertTrue(live.online)
        broker.process.send_signal(1)  # SIGHUP asks every client for its password again
        broker.wait_log("policy read again")
        live.publish("devices/live/telemetry", '{"v":2}')
        self.assertTrue(live.online)

    def test_commands_about_bans_are_for_admins_and_say_what_is_wrong(self):
        broker = self.begin()
        device = broker.client("d1").connect()
        for name in ("listBans", "addBan", "removeBan"):
            answer = control(device, {"command": name, "deviceId": "d2"})[0]
            self.assertIn("not authorised", answer["error"])
        for members, part in (({}, "address or deviceId is missing"),
                              ({"address": "host"}, "no IPv4 or IPv6 address"),
                              ({"deviceId": "a+b"}, "no device's id"),
                              ({"deviceId": "d1", "duration": "soon"}, "duration is none"),
                              ({"deviceId": "d1", "duration": "0s"}, "duration is none"),
                              ({"address": NOT_EXEMPT}, "ban_exempt"),
                              ({"deviceId": "d1", "reason": "x" * 128}, "reason is longer")):
            self.assertIn(part, self.command("addBan", **members)["error"])
        self.assertIn("no such ban", self.command("removeBan", deviceId="d1")["error"])
        self.assertTrue(device.online)

    def test_bans_by_the_command_survive_a_restart(self):
        broker = self.begin()
        token = broker.dir / "admin.token"
        token.write_text(broker.token("cli", roles=["haltere-admin"]) + "\n")
        token.chmod(0o600)
        login = ["--port", str(broker.port), "--token-file", str(token)]
        broker.command("ban", "add", "--device", "d1", "--for", "1h", "--reason", "stolen", *login)
        broker.command("ban", "add", "--address", "2001:db8::7", "--for", "forever", *login)
        refused = subprocess.run([harness.COMMAND, "ban", "remove", "--device", "d9", *login],
                                 capture_output=True, text=True, check=False)
        self.assertEqual((refused.returncode, refused.stderr), (1, "haltere: no such ban\n"))
        broker.restart()
        login[1] = str(broker.port)
        self.assertNotEqual(self.attempt(broker, "d1", broker.token("d1")), 0)
        store = broker.options["db_path"]
        bans = json.loads(broker.command("ban", "list", "--db", store, "--json"))["bans"]
        self.assertEqual({(b["kind"], b.get("deviceId"), b.get("address"), b["author"]) for b in bans},
                         {("device", "d1", None, "cli"), ("address", None, "2001:db8::/64", "cli")})
        self.assertIn("stolen", broker.command("ban", "list", "--db", store))
        audit = json.loads(broker.command("audit", "list", "--db", store, "--type", "ban", "--json"))
        self.assertEqual([(r["type"], r.get("subject"), r["actor"]) for r in audit["records"]][:1],
                         [("ban", "d1", "cli")])
        broker.command("ban", "remove", "--device", "d1", *login)
        self.assertEqual(self.attempt(broker, "d1", broker.token("d1")), 0)
        wait_until(lambda: len(json.loads(broker.command("ban", "list", "--db", store,
                                                         "--json"))["bans"]) == 1, "it leaves the store")

    def test_thousands_of_bans_are_listed(self):
        broker = self.begin()
        for first in range(0, 2100, 30):
            control(self.admin, *[{"command": "addBan", "deviceId": f"d{i}"}
                                  for i in range(first, first + 30)])
        token = broker.dir / "admin.token"
        token.write_text(broker.token("cli", roles=["haltere-admin"]))
        token.chmod(0o600)
        login = ["--port", str(broker.port), "--token-file", str(token)]
        told = json.loads(broker.command("ban", "list", "--json", *login))["bans"]
        self.assertEqual({b["deviceId"] for b in told}, {f"d{i}" for i in range(2100)})
        self.assertEqual(len(told), 2100)
        lines = broker.command("ban", "list", *login).splitlines()
        self.assertEqual(len(lines), 2101)
        # what goes while somebody turns the pages takes none of the others with it
        page = self.command("listBans", limit=100)["data"]
        seen = {b["deviceId"] for b in page["bans"]}
        gone = sorted(seen)[:5] + [f"d{i}" for i in range(0, 50)]
        for name in gone:
            self.command("removeBan", deviceId=name)
        while "next" in page:
            page = self.command("listBans", limit=100, after=page["next"])["data"]
            seen |= {b["deviceId"] for b in page["bans"]}
        self.assertGreaterEqual(seen, {f"d{i}" for i in range(50, 2100)} - set(gone))
        self.assertIn("limit 1 to 10000", self.command("listBans", limit=0)["error"])

    # --- clones

    def test_two_ends_of_one_identity_are_named(self):
        broker = self.begin()
        self.admin.subscribe("alerts/critical")
        token = broker.token("d1")
        for i in range(6):
            self.from_address(broker, "d1", "127.0.0.2" if i % 2 else "127.0.0.1", token)
        alert = self.admin.next_json("alerts/critical", lambda m: m["alertname"] == "clone")
        self.assertEqual(alert["deviceId"], "d1")
        self.assertIn("127.0.0.1, then 127.0.0.2", alert["message"])

    def test_a_ping_pong_of_take_overs_at_one_address_is_seen(self):
        broker = self.begin()
        self.admin.subscribe("alerts/critical")
        token = broker.token("d1")
        for _ in range(6):
            self.from_address(broker, "d1", "127.0.0.1", token)
        alert = self.admin.next_json("alerts/critical", lambda m: m["alertname"] == "clone")
        self.assertIn("taken over again and again: 127.0.0.1, then 127.0.0.1", alert["message"])

    # --- tokens seen before

    def test_a_reconnect_costs_no_signature_until_the_keys_change(self):
        broker = self.begin()
        token = broker.token("d1")
        self.assertEqual(self.attempt(broker, "d1", token), 0)
        before = self.status()
        for _ in range(5):
            self.assertEqual(self.attempt(broker, "d1", token), 0)
        after = self.status()
        self.assertEqual(after["cache_hits"] - before["cache_hits"], 5)
        self.assertEqual(after["cache_misses"], before["cache_misses"])

        other = harness.Key(broker.dir, broker.key.alg, "other")
        broker.key.public.write_bytes(other.public.read_bytes())
        broker.wait_log("keys read again: in force")
        self.assertNotEqual(self.attempt(broker, "d1", token), 0, "its key is gone")
        broker.wait_log("client=d1 .*reason=signature")
        self.assertEqual(self.attempt(broker, "d1", other.token("d1")), 0)

    def test_a_known_token_is_judged_anew(self):
        broker = self.begin(leeway="0s")
        token = broker.token("d1", ttl=2)
        self.assertEqual(self.attempt(broker, "d1", token), 0)
        self.assertNotEqual(self.attempt(broker, "d2", token), 0)
        broker.wait_log("client=d2 .*reason=client_id")
        wait_until(lambda: self.attempt(broker, "d1", token) != 0, "its end")
        broker.wait_log("client=d1 .*reason=expired")

    def test_without_a_cache_every_login_costs_a_signature(self):
        broker = self.begin(token_cache="0")
        token = broker.token("d1")
        for _ in range(3):
            self.assertEqual(self.attempt(broker, "d1", token), 0)
        self.assertEqual(self.status()["cache_hits"], 0)


if __name__ == "__main__":
    unittest.main()
