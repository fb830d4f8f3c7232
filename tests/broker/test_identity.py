"""Whose token is it? Binding to the TLS client certificate, tokens in the user name, renewal, and what becomes of a
session when its pointer, its kick or its broker is not what it was."""
import json
import socket
import threading
import unittest

import harness

FAST = {"leeway": "0s", "expiry_notice": "0s"}
ROLES = """haltere 1
anyone
  allow write devices/%d/telemetry
  allow read devices/%d/commands
  allow read devices/%d/event
role operator
  allow readwrite devices/#
  allow readwrite t/#
role fitter
  allow write fit/%d
"""


def second(seconds):
    """A time some seconds from now, on the second."""
    return int(harness.time.time()) + 1 + seconds


class Binding(harness.BrokerTest):
    """RFC 8705: the token names a certificate, and only who shows it on this connection gets in."""

    def setUp(self):
        super().setUp()
        self.authority = harness.Authority(self.dir)
        server = self.authority.issue("server")
        self.mine, self.other = self.authority.issue("d1"), self.authority.issue("thief")
        self.ports = harness.free_port(), harness.free_port()
        tls = f"cafile {self.authority.ca}\ncertfile {server[0]}\nkeyfile {server[1]}\n"
        self.broker = self.start(conf=f"listener {self.ports[0]} 127.0.0.1\n{tls}"
                                      f"require_certificate true\n"
                                      f"listener {self.ports[1]} 127.0.0.1\n{tls}"
                                      f"require_certificate false\n")
        self.cnf = {"x5t#S256": self.authority.thumbprint(self.mine[0])}

    def device(self, identity, port=None, cnf=True, **args):
        tls = (self.authority.ca, *identity) if identity else (self.authority.ca,)
        claims = {"cnf": self.cnf if cnf is True else cnf} if cnf is not None else {}
        return self.broker.client("d1", claims=claims, tls=tls, port=port or self.ports[0], **args)

    def test_a_bound_token_is_good_with_its_certificate_alone(self):
        for version in (4, 5):
            device = self.device(self.mine, version=version).connect()
            device.publish("devices/d1/telemetry", {"sensors": {"t": 20}})
            device.disconnect()
            self.assertEqual(self.device(self.other, version=version).attempt(),
                             5 if version == 4 else 135)
        self.broker.wait_log("reason=binding ", 2)

    def test_where_no_certificate_is_visible_a_bound_token_is_refused(self):
        self.assertEqual(self.device(None, self.ports[1]).attempt(), 5)
        self.assertEqual(self.broker.client("d1", claims={"cnf": self.cnf}).attempt(), 5)
        self.broker.wait_log("reason=binding ", 2)

    def test_what_is_bound_to_anything_else_is_refused(self):
        for cnf in ({"jkt": self.cnf["x5t#S256"]}, {}, {"kid": "k"}):
            self.assertEqual(self.device(self.mine, cnf=cnf).attempt(), 5, cnf)
        self.broker.wait_log("reason=binding ", 3)

    def test_an_unbound_token_is_good_on_such_a_listener(self):
        self.device(self.mine, cnf=None).connect()

    def test_renewal_asks_for_the_same_binding(self):
        device = self.device(self.mine).connect()

        def renew(**claims):
            command = {"command": "renew", "token": self.broker.token("d1", **claims)}
            return harness.control(device, command)[0].get("error", "")

        self.assertEqual(renew(cnf=self.cnf), "")
        self.assertIn("certificate", renew())
        self.assertIn("certificate",
                      renew(cnf={"x5t#S256": self.authority.thumbprint(self.other[0])}))
        self.assertTrue(device.online)

    def test_sighup_throws_no_bound_device_off(self):
        device = self.device(self.mine).connect()
        self.broker.sighup()
        device.publish("devices/d1/telemetry", {"sensors": {"t": 20}})
        self.assertTrue(device.online)


class TokenInUserName(harness.BrokerTest):
    def test_it_is_refused_and_renewed_as_in_the_password(self):
        broker = self.start(options=dict(FAST, token_source="username"))
        key = broker.key
        rows = [(key.token("d1", ttl=-60), "x"), (key.token("d2"), "x"), ("d1", key.token("d1")),
                ("", key.token("d1")), (None, None)]
        for user, password in rows:
            for version, code in ((4, 5), (5, 135)):
                self.assertEqual(broker.wire(version).connect("d1", user, password), code,
                                 (user, password))
        tokens = []
        for version in (4, 5):
            name, exp = f"d{version}", second(1)
            tokens += [key.token(name, exp=exp), key.token(name), key.token("short", exp=exp)]
            device = broker.client(name, token="", user=tokens[-3], version=version).connect()
            harness.control(device, {"command": "renew", "token": tokens[-2]})
            broker.client("short", token="", user=tokens[-1]).connect().wait_kicked()
            self.assertGreaterEqual(harness.time.time(), exp)
            device.publish(f"devices/{name}/telemetry", '{"t":1}')
            self.assertTrue(device.online)
            broker.sighup()
            device.publish(f"devices/{name}/telemetry", '{"t":1}')
        for token in tokens:
            self.assertNotIn(token.split(".")[2], broker.log())

    def test_enhanced_authentication_takes_its_token_as_ever(self):
        broker = self.start(options={"token_source": "username"})
        wire = broker.wire()
        self.assertEqual(wire.connect("d1", auth=("JWT", broker.token("d1"))), 0)
        self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), 0)


class Renewal(harness.BrokerTest):
    def refusals(self, broker):
        """By their reason."""
        now = int(harness.time.time())
        return {"older": broker.token("d1", iat=now - 60), "client_id": broker.token("d2"),
                "expired": broker.token("d1", ttl=-60), "no_token": "x",
                "signature": broker.token("d1")[:-4] + "AAAA"}

    def test_a_command_with_a_wrong_token_changes_nothing(self):
        broker = self.start()
        for version in (4, 5):
            device = broker.client("d1", version=version).connect()
            for what, token in self.refusals(broker).items():
                answer = harness.control(device, {"command": "renew", "token": token})[0]
                self.assertIn("error", answer, what)
                broker.wait_log(f"client=d1 .*reason={what} ")
                self.assertNotIn(token, json.dumps(answer), what)
                device.publish("devices/d1/telemetry", '{"t":1}')
            device.disconnect()

    def test_a_wrong_token_by_re_authentication_ends_the_session(self):
        broker = self.start()
        for what, token in self.refusals(broker).items():
            wire = broker.wire()
            self.assertEqual(wire.connect("d1", auth=("JWT", broker.token("d1"))), 0)
            self.assertEqual(wire.auth("JWT", token), 135, what)
            self.assertFalse(wire.alive(), what)
            broker.wait_log(f"client=d1 .*reason={what} ")

    def test_a_role_gained_or_lost_shows_in_the_very_next_publish(self):
        broker = self.start(policy=ROLES)
        wire = broker.wire()
        self.assertEqual(wire.connect("d1", auth=("JWT", broker.token("d1"))), 0)
        self.assertEqual(wire.publish("fit/d1", "1"), 135)
        for roles, code in ((["fitter"], 0), ([], 135), (["fitter"], 0)):
            self.assertEqual(wire.auth("JWT", broker.token("d1", roles=roles)), 0)
            self.assertEqual(wire.publish("fit/d1", "1"), code, roles)

    def test_the_same_by_command_for_both_versions(self):
        broker = self.start(policy=ROLES)
        operator = broker.operator().connect()
        operator.subscribe("t/#")
        for version in (4, 5):
            device = broker.client("d1", version=version).connect()
            for i, roles in enumerate((["operator"], [], ["operator"])):
                harness.control(device, {"command": "renew",
                                         "token": broker.token("d1", roles=roles)})
                device.publish(f"t/{version}/{i}", "")
            self.assertEqual(operator.next(f"t/{version}/0").payload, b"")
            self.assertEqual([m.topic for m in operator.nothing_before(f"t/{version}/2")], [])
            device.disconnect()


class KeyUse(harness.BrokerTest):
    def test_an_admin_sees_which_keys_are_still_used(self):
        old, new = (harness.Key(self.dir, "ES256", name=kid, kid=kid) for kid in ("old", "new"))
        plain = harness.Key(self.dir, "HS256")
        broker = self.start(keys=[plain, old, new])

        def listed(*files):
            out = json.loads(broker.command("key", "list", "--json", "--db", str(broker.db), *files))
            return {key["kid"]: key for key in out["keys"]}

        for _ in range(3):
            broker.client("d1", token=old.token("d1")).connect()
        device = broker.client("d1", token=old.token("d1")).connect()
        harness.control(device, {"command": "renew", "token": new.token("d1")})
        admin = broker.operator().connect()
        self.assertEqual(broker.client("d1", token=new.token("d1", ttl=-60)).attempt(), 5)
        use = harness.control(admin, {"command": "getStatus"})[0]["data"]["keyUse"]
        self.assertEqual({key["kid"]: (key["alg"], key["count"]) for key in use},
                         {"": ("HS256", 1), "old": ("ES256", 4), "new": ("ES256", 1)})
        broker.restart()
        broker.client("d2", token=new.token("d2")).connect()
        harness.wait_until(lambda: listed().get("new", {}).get("logins") == 2, "the store has it")
        keys = listed(f"alg=ES256 kid=new {new.public}")
        self.assertEqual({kid: (key["loaded"], key["logins"]) for kid, key in keys.items()},
                         {"new": (True, 2), "old": (False, 4), "": (False, 1)})
        self.assertLess(keys["old"]["lastUsed"], keys["new"]["lastUsed"])
        self.assertIn("none of the files", broker.command("key", "list", "--db", str(broker.db)))


class Pointers(harness.BrokerTest):
    def test_a_wrong_password_is_refused_wherever_the_broker_keeps_the_client(self):
        """Freed clients' memory is given to the next ones: a known address is no identity."""
        broker = self.start()
        for round_ in range(30):
            wire = broker.wire(4)
            self.assertEqual(wire.connect("d1", "d1", broker.token("d1")), 0)
            wire.close() if round_ % 2 else wire.disconnect()
            for user, password in (("d1", "wrong"), ("d1", ""), ("d1", None), (None, None)):
                stranger = broker.wire(4)
                self.assertEqual(stranger.connect("d1", user, password), 5)

    def test_a_second_connect_on_a_live_connection_gets_nothing(self):
        broker = self.start()
        for version in (4, 5):
            wire = broker.wire(version)
            self.assertEqual(wire.connect("d1", "d1", broker.token("d1")), 0)
            self.assertNotEqual(wire.connect("d1", "d1", "wrong"), 0)
            self.assertFalse(wire.alive())


class Kicks(harness.BrokerTest):
    def test_who_comes_back_with_a_fresh_token_while_the_kick_is_due_stays(self):
        """Knocking across exp: whichever moment is hit, the new login is never the one kicked."""
        broker = self.start(options=FAST)

        def after(when):
            harness.wait_until(lambda: harness.time.time() >= when, "the time")

        for version in (4, 5):
            for lead in (0.0, 0.02, 0.06):
                exp = second(1)
                old = broker.client("d1", version=version, claims={"exp": exp}).connect()
                fresh = broker.client("d1", version=version)
                after(exp + lead)
                fresh.connect()
                old.wait_kicked()
                after(exp + 1.2)  # by then a kick for the old login would have come
                fresh.publish("devices/d1/telemetry", '{"t":1}')
                self.assertTrue(fresh.online, (version, lead))
                fresh.disconnect()

    def test_the_will_is_sent_on_plain_expiry(self):
        policy = ROLES.replace("role operator", "  allow write devices/%d/will\nrole operator")
        broker = self.start(options=FAST, policy=policy)
        operator = broker.operator().connect()
        operator.subscribe("devices/+/will")
        for version in (4, 5):
            name = f"d{version}"
            device = broker.client(name, version=version, claims={"exp": second(0)},
                                   will=(f"devices/{name}/will", "gone")).connect()
            device.wait_kicked()
            self.assertEqual(operator.next(f"devices/{name}/will").payload, b"gone")
        wire = broker.wire()
        self.assertEqual(wire.connect("dx", auth=("JWT", broker.token("dx", exp=second(0))),
                                      will=("devices/dx/will", "gone")), 0)
        self.assertEqual(operator.next("devices/dx/will").payload, b"gone")


class Durable(harness.BrokerTest):
    def logins(self, version):
        return {"version": version, "clean": False,
                **({"session_expiry": 3600} if version == 5 else {})}

    def commands(self, broker, name, count, version):
        device = broker.client(name, **self.logins(version)).connect()
        self.assertTrue(device.session_present, name)
        got = [device.next_json(f"devices/{name}/commands")["commandId"] for _ in range(count)]
        device.disconnect()
        return got

    def test_a_session_outlives_expiry_kick_stop_and_crash_with_its_queue(self):
        broker = self.start(options=FAST, persistence=True)
        operator = broker.operator().connect()
        sent = 0

        def send():
            nonlocal sent
            sent += 1
            for version in (4, 5):
                operator.publish(f"devices/d{version}/commands",
                                 {"commandId": str(sent), "command": "x"})

        for version in (4, 5):
            device = broker.client(f"d{version}", claims={"exp": second(1)},
                                   **self.logins(version)).connect()
            device.subscribe(f"devices/d{version}/commands")
            device.wait_kicked()
        send()  # to expired sessions
        broker.restart()
        operator = broker.operator().connect()
        send()  # to sessions restored from the broker's store
        broker.sighup()
        send()  # to sessions SIGHUP has asked about
        for version in (4, 5):
            self.assertEqual(self.commands(broker, f"d{version}", 3, version), ["1", "2", "3"])
        send()
        self.assertEqual(self.commands(broker, "d4", 1, 4), ["4"])
        self.assertEqual(self.commands(broker, "d5", 1, 5), ["4"])

    def test_nobody_takes_over_a_durable_session_by_name(self):
        broker = self.start(options=FAST, persistence=True)
        operator = broker.operator().connect()
        device = broker.client("d1", **self.logins(4)).connect()
        device.subscribe("devices/d1/commands")
        device.disconnect()
        for _ in range(2):
            for user, password in (("d1", None), ("d1", "x"), ("d1", broker.token("d2")),
                                   (None, None)):
                self.assertEqual(broker.wire(4).connect("d1", user, password, clean=False), 5)
            broker.restart()
            operator = broker.operator().connect()
        operator.publish("devices/d1/commands", {"commandId": "1", "command": "x"})
        self.assertEqual(self.commands(broker, "d1", 1, 4), ["1"])

    def test_offline_after_exp_deny_queues_nothing_even_over_a_restart(self):
        broker = self.start(options=dict(FAST, offline_after_exp="deny"), persistence=True)
        device = broker.client("d1", claims={"exp": second(1)}, **self.logins(4)).connect()
        device.subscribe("devices/d1/commands")
        device.wait_kicked()
        broker.operator().connect().publish("devices/d1/commands", {"commandId": "1", "command": "x"})
        broker.restart()
        operator = broker.operator().connect()
        operator.publish("devices/d1/commands", {"commandId": "2", "command": "x"})
        device = broker.client("d1", **self.logins(4)).connect()
        self.assertTrue(device.session_present)
        operator.publish("devices/d1/commands", {"commandId": "3", "command": "x"})
        self.assertEqual(device.next_json("devices/d1/commands")["commandId"], "3")


class Hundred(harness.BrokerTest):
    def test_sighup_throws_none_of_a_hundred_clients_of_all_kinds_off(self):
        broker = self.start(conf="max_queued_messages 0", persistence=True)
        operator = broker.operator().connect()
        live, enhanced, offline = [], [], []
        for i in range(25):
            for version in (4, 5):
                wire = broker.wire(version)
                self.assertEqual(wire.connect(f"p{version}-{i}", "", broker.token(f"p{version}-{i}")), 0)
                live.append((f"p{version}-{i}", wire))
            wire = broker.wire()
            self.assertEqual(wire.connect(f"x-{i}", auth=("JWT", broker.token(f"x-{i}"))), 0)
            enhanced.append((f"x-{i}", wire))
            name, version = f"off-{i}", 4 + i % 2
            wire = broker.wire(version)
            keep = b"\x11\0\0\x0e\x10" if version == 5 else b""  # session expiry: an hour
            self.assertEqual(wire.connect(name, name, broker.token(name), clean=False,
                                          properties=keep), 0)
            self.assertEqual(wire.subscribe(f"devices/{name}/commands"), 1)
            wire.disconnect()
            offline.append((name, version, keep))
        for name, wire in enhanced[::2]:  # renewed ones are asked about like the others
            self.assertEqual(wire.auth("JWT", broker.token(name)), 0)
        refused = broker.count("auth-fail")
        stop = threading.Event()

        def talk():  # SIGHUP amid traffic
            sock = None
            while not stop.is_set():
                sock = socket.create_connection(("127.0.0.1", broker.port))
                sock.close()

        thread = threading.Thread(target=talk)
        thread.start()
        for _ in range(3):
            broker.sighup()
        stop.set()
        thread.join()
        for name, wire in live + enhanced:
            self.assertEqual(wire.publish(f"devices/{name}/telemetry", '{"t":1}'), 0, name)
        self.assertEqual(broker.count("auth-fail"), refused)
        for name, version, keep in offline:
            operator.publish(f"devices/{name}/commands", {"commandId": name, "command": "x"})
            wire = broker.wire(version)
            self.assertEqual(wire.connect(name, name, broker.token(name), clean=False,
                                          properties=keep), 0)
            self.assertIn(name.encode(), wire.read_kind(wire.PUBLISH))


if __name__ == "__main__":
    unittest.main()
