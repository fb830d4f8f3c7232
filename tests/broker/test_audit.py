"""The audit: what stands in it, that nobody changes it unseen, and that no secret is in it or anywhere else."""
import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
import time
import unittest

import harness


class AuditTest(harness.BrokerTest):
    def records(self, *args):
        text = self.broker.command("audit", "export", "--db", str(self.broker.db), *args)
        return [json.loads(line) for line in text.splitlines()]

    def verify(self, *args):
        """(exit code, answer) of `haltere audit verify`."""
        done = subprocess.run([harness.COMMAND, "audit", "verify", "--json", "--db",
                               str(self.broker.db), *args], capture_output=True, text=True,
                              check=False)
        return done.returncode, json.loads(done.stdout)


class Records(AuditTest):
    def test_what_happens_to_tokens_and_settings_is_written_down(self):
        self.broker = self.start(options={"leeway": "0s", "expiry_notice": "0s"})
        operator = self.broker.operator().connect()
        short = self.broker.client("short", claims={"exp": int(time.time()) + 2}).connect()
        device = self.broker.client("d1", claims={"jti": "j1"}).connect()
        harness.control(device, {"command": "renew", "token": self.broker.token("d1", jti="j2")})
        for _ in range(3):
            self.broker.client("d9", token=self.broker.token("d9", iss="x")).attempt()
        self.broker.client("d8", token=self.broker.token("d9")).attempt()
        harness.control(operator, {"command": "revokeToken", "jti": "j2", "reason": "test"},
                        {"command": "getDevice", "deviceId": "nobody"})
        device.wait_kicked()
        self.broker.write_policy(harness.POLICY + "# changed\n")
        self.broker.sighup()
        self.broker.write_policy("nonsense\n")
        self.broker.sighup()
        short.wait_kicked()
        self.broker.close_clients()
        self.broker.stop()
        records = self.records()
        self.assertEqual([r["seq"] for r in records], list(range(1, len(records) + 1)))
        self.assertEqual(records[0]["type"], "start")
        self.assertEqual(records[-1]["type"], "stop")

        def find(type_, **members):
            found = [r for r in records if r["type"] == type_ and
                     all(r.get(k) == v for k, v in members.items())]
            self.assertTrue(found, (type_, members, records))
            return found[0]

        self.assertIn("jti=j1", find("login", subject="d1", address="127.0.0.1")["detail"])
        self.assertIn("jti=j2", find("renewal", subject="d1")["detail"])
        find("expiry", subject="short")
        refused = [r for r in records if r["type"] == "refusal"]
        self.assertEqual(sum(r["count"] for r in refused if r["reason"] == "issuer"), 3)
        self.assertEqual(sum(r["count"] for r in refused if r["reason"] == "user_name"), 1)
        self.assertEqual(refused[0]["address"], "127.0.0.1")
        find("revocation", subject="j2", actor="operator", reason="revoked")
        order = find("command", subject="revokeToken", actor="operator", reason="done")
        self.assertIn("jti=j2", order["detail"])
        order = find("command", subject="getDevice", reason="refused")
        self.assertIn("deviceId=nobody", order["detail"])
        find("policy", reason="in_force")
        self.assertIn("policy.acl:1", find("policy", reason="refused")["detail"])
        self.assertIn("HS256", find("keys", reason="in_force")["detail"])
        code, answer = self.verify()
        self.assertEqual((code, answer["intact"], answer["auditSeq"]), (0, True, len(records)))

    def test_the_command_filters_by_time_device_and_type(self):
        self.broker = self.start()
        for name in ("d1", "d2"):
            self.broker.client(name).connect()
        self.broker.close_clients()
        self.broker.stop()
        self.assertEqual([r["subject"] for r in self.records("--type", "login")], ["d1", "d2"])
        self.assertEqual({r["subject"] for r in self.records("--device", "d2")}, {"d2"})
        self.assertEqual(self.records("--until", "2020-01-01T00:00:00Z"), [])
        self.assertEqual(len(self.records("--since", "1h")), len(self.records()))
        out = self.broker.command("audit", "list", "--last", "1", "--json", "--db",
                                  str(self.broker.db))
        self.assertEqual([r["type"] for r in json.loads(out)["records"]], ["stop"])
        self.assertIn("login", self.broker.command("audit", "list", "--db", str(self.broker.db)))
        wrong = subprocess.run([harness.COMMAND, "audit", "list", "--type", "logn", "--db",
                                str(self.broker.db)], capture_output=True, text=True, check=False)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("did you mean 'login'", wrong.stderr)

    def test_a_list_on_a_terminal_of_80_columns_tells_when_and_what(self):
        self.broker = self.start()
        self.broker.client("d" * 60).connect()
        self.broker.close_clients()
        self.broker.stop()
        ours, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        subprocess.run([harness.COMMAND, "audit", "list", "--db", str(self.broker.db)], check=True,
                       stdout=terminal, env={**os.environ, "NO_COLOR": "1", "LC_ALL": "C"})
        os.close(terminal)
        lines = os.read(ours, 65536).decode().splitlines()
        os.close(ours)
        self.assertEqual(len(lines), 1 + len(self.records()))
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertTrue(any("~" in line for line in lines), "the device's id is cut")
        for line, record in zip(lines[1:], self.records()):
            self.assertIn(record["time"][:19] + "Z  " + record["type"], line)


class Chain(AuditTest):
    def heartbeat(self, watch, seq):
        return watch.next_json("system/heartbeat", lambda h: h["auditSeq"] >= seq)

    def test_the_head_in_the_heartbeat_is_that_of_the_store_after_restart_and_kill_9(self):
        self.broker = self.start(options={"heartbeat_interval": "1s", "flush_interval": "200ms"})
        for round_ in range(3):
            watch = self.broker.operator("watch").connect()
            watch.subscribe("system/heartbeat")
            self.broker.client(f"d{round_}").connect()
            last = self.heartbeat(watch, 1)
            last = self.heartbeat(watch, last["auditSeq"])  # nothing happened since
            harness.wait_until(lambda: self.verify()[1]["auditSeq"] >= last["auditSeq"],
                               "the store has it")
            code, answer = self.verify()
            self.assertEqual((code, answer["auditSeq"], answer["auditHead"]),
                             (0, last["auditSeq"], last["auditHead"]))
            self.broker.close_clients()
            if round_ == 1:
                self.broker.kill9()
            else:
                self.broker.stop()
            code, answer = self.verify("--head", last["auditHead"])
            self.assertEqual((code, answer["intact"]), (0, True))
            self.assertEqual(self.verify("--head", "0" * 64)[0], 1)
            self.broker.start()
        harness.wait_until(lambda: [r["type"] for r in self.records()].count("start") == 4,
                           "each start has its record")

    def test_one_changed_byte_is_found_and_named(self):
        self.broker = self.start()
        for i in range(20):
            self.broker.client(f"device-{i}").connect().disconnect()
        self.broker.stop()
        target = [r for r in self.records("--type", "login") if r["subject"] == "device-7"][0]
        path = self.broker.db / "data.mdb"
        data = bytearray(path.read_bytes())
        changed = 0
        at = data.find(b"\x08device-7\x00")
        while at >= 0:  # every copy LMDB has of it, old pages included
            data[at + 8:at + 9] = b"8"
            changed += 1
            at = data.find(b"\x08device-7\x00", at + 1)
        self.assertGreater(changed, 0)
        path.write_bytes(data)
        code, answer = self.verify()
        self.assertEqual((code, answer["intact"], answer["brokenSeq"]), (1, False, target["seq"]))
        text = subprocess.run([harness.COMMAND, "audit", "verify", "--db", str(self.broker.db)],
                              capture_output=True, text=True, check=False)
        self.assertEqual(text.returncode, 1)
        self.assertIn(f"broken at record {target['seq']}", text.stdout)


class Secrets(AuditTest):
    def test_no_token_or_password_is_in_any_log_file_database_or_message(self):
        broker = self.start(persistence=True, options={"allow_other_auth": "true",
                                                       "heartbeat_interval": "1s",
                                                       "flush_interval": "200ms"},
                            conf=f"password_file {self.password_file()}")
        self.broker = broker
        tokens = {}

        def token(name, sub, **claims):
            tokens[name] = broker.token(sub, **claims)
            return tokens[name]

        operator = broker.client("operator", token=token(
            "operator", "operator", roles=["operator", "haltere-admin"])).connect()
        for topic in ("devices/#", "alerts/#", "system/#", "$SYS/#"):
            operator.subscribe(topic)
        device = broker.client("d1", clean=False, token=token("good", "d1", jti="j1")).connect()
        device.subscribe("devices/d1/commands")
        harness.control(device, {"command": "renew", "token": token("renewed", "d1", jti="j2")})
        harness.control(device, {"command": "renew", "token": token("wrong renewal", "d2")})
        five = broker.wire(5)
        self.assertEqual(five.connect("d5", auth=("JWT", token("enhanced", "d5"))), 0)
        self.assertEqual(five.auth("JWT", token("again", "d5")), 0)
        for name, claims in (("expired", {"exp": 5}), ("issuer", {"iss": "x"}),
                             ("early", {"nbf": int(time.time()) + 999})):
            for _ in range(6):  # an alert too
                broker.client("d1", token=token(name, "d1", **claims)).attempt()
        forged = token("forged", "d1")[:-4] + "AAAA"
        tokens["forged as sent"] = forged
        broker.client("d1", token=forged).attempt()
        # in the wrong fields: as user name, as client id, cut
        broker.client("w1", token="x", user=token("as user", "w1")).attempt()
        broker.client("w2", token=token("cut", "w2")[:-50]).attempt()
        broker.client("w3", token="x", user=token("cut user", "w3")[:90]).attempt()
        broker.client("p1", user="p1", password="wrong-horse-battery").attempt()
        broker.client("p1", user="p1", password="correct-horse").connect()
        harness.control(operator, {"command": "revokeToken", "jti": tokens["good"]},
                        {"command": "revokeToken", "jti": "j9", "reason": tokens["good"]},
                        {"command": "getDevice", "deviceId": "d1", "password": "hunter-2-hunter"})
        broker.restart()
        self.assertEqual(broker.client("d1", clean=False,
                                       token=token("after", "d1", jti="j3")).attempt(), 0)
        seen = [f"{m.topic} ".encode() + m.payload for m in operator.drain()]
        broker.close_clients()
        broker.stop()
        secrets = {}
        for name, text in tokens.items():
            head, payload, signature = text.split(".")
            secrets[name + ": signature"] = signature.encode()
            secrets[name + ": signed"] = f"{head[-10:]}.{payload[:40]}".encode()
        for text in ("wrong-horse-battery", "correct-horse", "hunter-2-hunter"):
            secrets[text] = text.encode()
        secrets["key"] = broker.key.secret
        places = {f"message {i}": text for i, text in enumerate(seen)}
        for path in [*broker.dir.glob("broker-*.log"), broker.dir / "mosquitto.db",
                     *(path for path in broker.db.rglob("*") if path.is_file())]:
            places[path.name] = path.read_bytes()
        places["audit"] = broker.command("audit", "export", "--db", str(broker.db)).encode()
        self.assertGreater(len(places["mosquitto.db"]), 100)
        self.assertIn(b"refusal", places["audit"])
        self.assertIn(b"(a token)", places["audit"])
        self.assertTrue(any(b"auth_failure" in text for text in seen))
        for place, text in places.items():
            for name, secret in secrets.items():
                self.assertNotIn(secret, text, f"{name} stands in {place}")
        self.assertEqual(self.verify()[0], 0)

    def password_file(self):
        path = self.dir / "passwords"
        path.write_text("p1:correct-horse\n")
        path.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True)
        return path


if __name__ == "__main__":
    unittest.main()
