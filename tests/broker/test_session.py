"""How long is a login good? Expiry, renewal, take-over, SIGHUP, durable sessions, crowds."""
import json
import threading
import unittest

import harness

FAST = {"leeway": "0s", "expiry_notice": "0s"}


class Expiry(harness.BrokerTest):
    def test_an_expired_device_is_denied_and_put_out_within_a_second(self):
        broker = self.start(options=FAST)
        operator = broker.operator().connect()
        operator.subscribe("devices/+/event")
        operator.subscribe("devices/+/will")
        clients = {}
        for version in (4, 5):
            name = f"d{version}"
            clients[name] = broker.client(name, version=version, claims={"exp": self.at(3)},
                                          will=(f"devices/{name}/will", "gone")).connect()
        for name, client in clients.items():
            client.publish(f"devices/{name}/telemetry", '{"t":1}')
        for name, client in clients.items():
            client.wait_kicked()
            self.assertLess(harness.time.time(), self.start_s + 3 + harness.SOON)
            self.assertGreaterEqual(harness.time.time(), self.start_s + 3 - 0.1)
            self.assertEqual(operator.next(f"devices/{name}/will").payload, b"gone")
            event = operator.next_json(f"devices/{name}/event",
                                       lambda e: e["type"] == "disconnected")
            self.assertIn("expired", json.dumps(event))

    def at(self, seconds):
        """exp some seconds from now, on the second."""
        self.start_s = int(harness.time.time()) + 1
        return self.start_s + seconds

    def test_nothing_is_allowed_after_exp_even_before_the_kick(self):
        broker = self.start(options=FAST)
        exp = self.at(1)
        wire = broker.wire(5)
        self.assertEqual(wire.connect("d1", "", broker.token("d1", exp=exp)), 0)
        self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), 0)
        codes = set()
        while True:  # publish as fast as the broker answers, across exp, until the kick
            before = harness.time.time()
            code = wire.publish("devices/d1/telemetry", '{"t":1}')
            if code is None:
                break
            codes.add(code)
            if before >= exp + 0.01:
                self.assertEqual(code, 135)
            if harness.time.time() < exp:
                self.assertEqual(code, 0)
        self.assertIn(0, codes)

    def test_a_device_is_told_before_its_token_ends(self):
        broker = self.start(options={"leeway": "0s", "expiry_notice": "5s"})
        device = broker.client("d1", claims={"exp": self.at(3)}).connect()
        event = device.next_json("devices/d1/event", lambda e: e["type"] == "token_expiring")
        self.assertEqual(event["deviceId"], "d1")

    def test_leeway_lets_a_late_token_in(self):
        broker = self.start(options={"leeway": "60s"})
        device = broker.client("d1", token=broker.token("d1", ttl=-5)).connect()
        device.publish("devices/d1/telemetry", '{"t":1}')
        self.assertEqual(broker.client("d2", token=broker.token("d2", ttl=-120)).attempt(), 5)

    def test_a_durable_session_keeps_its_subscription_over_the_kick_and_a_restart(self):
        broker = self.start(options=FAST, persistence=True)
        operator = broker.operator().connect()
        for version in (4, 5):
            extra = {"session_expiry": 3600} if version == 5 else {}
            name = f"d{version}"
            device = broker.client(name, version=version, clean=False,
                                   claims={"exp": self.at(1)}, **extra).connect()
            device.subscribe(f"devices/{name}/commands")
            device.wait_kicked()
            operator.publish(f"devices/{name}/commands", '{"commandId":"1","command":"x"}')
        broker.restart()
        operator = broker.operator().connect()
        for version in (4, 5):
            extra = {"session_expiry": 3600} if version == 5 else {}
            name = f"d{version}"
            operator.publish(f"devices/{name}/commands", '{"commandId":"2","command":"x"}')
            device = broker.client(name, version=version, clean=False, **extra).connect()
            self.assertTrue(device.session_present)
            got = [device.next_json(f"devices/{name}/commands")["commandId"] for _ in range(2)]
            self.assertEqual(got, ["1", "2"])

    def test_offline_after_exp_deny_queues_nothing_for_the_expired(self):
        broker = self.start(options=dict(FAST, offline_after_exp="deny"))
        operator = broker.operator().connect()
        device = broker.client("d1", clean=False, claims={"exp": self.at(1)}).connect()
        device.subscribe("devices/d1/commands")
        device.wait_kicked()
        operator.publish("devices/d1/commands", '{"commandId":"1","command":"x"}')
        device = broker.client("d1", clean=False).connect()
        self.assertTrue(device.session_present)
        operator.publish("devices/d1/commands", '{"commandId":"2","command":"x"}')
        self.assertEqual(device.next_json("devices/d1/commands")["commandId"], "2")


class Renewal(harness.BrokerTest):
    def test_a_command_renews_a_session_without_reconnecting(self):
        broker = self.start(options=FAST)
        exp = int(harness.time.time()) + 2
        for version in (4, 5):
            device = broker.client(f"d{version}", version=version, claims={"exp": exp}).connect()
            answer = harness.control(device, {"command": "renew",
                                              "token": broker.token(f"d{version}")})
            self.assertEqual(answer, [{"command": "renew"}])
        short = broker.client("short", claims={"exp": exp}).connect()
        short.wait_kicked()
        for client in broker.clients:
            if client is not short:
                client.publish(f"devices/{client.client_id}/telemetry", '{"t":1}')
                self.assertTrue(client.online)

    def test_a_renewed_session_has_the_new_token_s_rights(self):
        broker = self.start()
        operator = broker.operator().connect()
        operator.subscribe("t/#")
        device = broker.client("d1").connect()
        device.publish("t/before", "")
        harness.control(device, {"command": "renew",
                                 "token": broker.token("d1", roles=["operator"])})
        device.publish("t/after", "")
        seen = operator.nothing_before("t/after")
        self.assertEqual(seen, [])

    def test_re_authentication_renews_an_enhanced_session(self):
        broker = self.start(options=FAST)
        exp = int(harness.time.time()) + 2
        wire = broker.wire()
        self.assertEqual(wire.connect("d1", auth=("JWT", broker.token("d1", exp=exp))), 0)
        self.assertEqual(wire.auth("JWT", broker.token("d1")), 0)
        short = broker.client("short", claims={"exp": exp}).connect()
        short.wait_kicked()
        self.assertEqual(wire.publish("devices/d1/telemetry", '{"t":1}'), 0)

    def test_re_authentication_with_a_wrong_token_ends_the_session(self):
        broker = self.start()
        old = broker.token("d1", iat=int(harness.time.time()) - 60)
        for token in (broker.token("d2"), broker.token("d1", ttl=-60), "x", old):
            wire = broker.wire()
            self.assertEqual(wire.connect("d1", auth=("JWT", broker.token("d1"))), 0)
            self.assertEqual(wire.auth("JWT", token), 135, token)
            self.assertFalse(wire.alive())


class TakeOver(harness.BrokerTest):
    def test_the_last_login_wins_and_stays_online(self):
        broker = self.start()
        admin = broker.operator().connect()
        clients = []
        for i in range(10):
            clients.append(broker.client("d1", version=4 + i % 2).connect())
            for old in clients[:-1]:
                old.wait_kicked()
        clients[-1].publish("devices/d1/telemetry", '{"t":1}')
        answer = harness.control(admin, {"command": "getDevice", "deviceId": "d1"})[0]
        self.assertTrue(answer["data"]["online"])
        clients[-1].disconnect()

        def offline():
            return not harness.control(admin, {"command": "getDevice",
                                               "deviceId": "d1"})[0]["data"]["online"]
        harness.wait_until(offline, "d1 is offline")

    def test_a_durable_session_that_comes_back_is_online(self):
        broker = self.start()
        admin = broker.operator().connect()
        for version in (4, 5):
            extra = {"session_expiry": 3600} if version == 5 else {}
            name = f"d{version}"
            first = broker.client(name, version=version, clean=False, **extra).connect()
            first.disconnect()
            second = broker.client(name, version=version, clean=False, **extra).connect()
            self.assertTrue(second.session_present)
            second.publish(f"devices/{name}/telemetry", '{"t":1}')
            answer = harness.control(admin, {"command": "getDevice", "deviceId": name})[0]
            self.assertTrue(answer["data"]["online"])

    def test_a_refused_login_with_its_id_does_not_disturb_a_device(self):
        broker = self.start()
        device = broker.client("d1").connect()
        for _ in range(5):
            self.assertEqual(broker.client("d1", token=broker.token("d1", ttl=-60)).attempt(), 5)
        harness.socket.create_connection(("127.0.0.1", broker.port)).close()
        device.publish("devices/d1/telemetry", '{"t":1}')
        self.assertTrue(device.online)


class Sighup(harness.BrokerTest):
    def test_it_throws_nobody_off_who_is_logged_in(self):
        broker = self.start()
        clients = [broker.client("d3", version=3).connect(), broker.client("d4").connect(),
                   broker.client("d5", version=5).connect(),
                   broker.client("jwt", user="jwt").connect(),
                   broker.client("nameless", token=None).__class__(
                       broker, "noname", token=broker.token("noname"), user="").connect()]
        enhanced = broker.wire()
        self.assertEqual(enhanced.connect("dx", auth=("JWT", broker.token("dx"))), 0)
        renewed = broker.client("renewed").connect()
        harness.control(renewed, {"command": "renew", "token": broker.token("renewed")})
        clients.append(renewed)
        for _ in range(3):
            broker.sighup()
        for client in clients:
            client.publish(f"devices/{client.client_id}/telemetry", '{"t":1}')
            self.assertTrue(client.online, client.client_id)
            client.disconnect()
        self.assertTrue(enhanced.alive())
        self.assertEqual(enhanced.publish("devices/dx/telemetry", '{"t":1}'), 0)

    def test_an_offline_session_keeps_its_queue_and_is_not_called_online(self):
        broker = self.start()
        admin = broker.operator().connect()
        for version in (4, 5):
            extra = {"session_expiry": 3600} if version == 5 else {}
            name = f"d{version}"
            device = broker.client(name, version=version, clean=False, **extra).connect()
            device.subscribe(f"devices/{name}/commands")
            device.disconnect()
            admin.publish(f"devices/{name}/commands", '{"commandId":"1","command":"x"}')
            logins = broker.count("auth-fail")
            broker.sighup()
            admin.publish(f"devices/{name}/commands", '{"commandId":"2","command":"x"}')
            answer = harness.control(admin, {"command": "getDevice", "deviceId": name})[0]
            self.assertFalse(answer["data"]["online"])
            self.assertEqual(broker.count("auth-fail"), logins)
            device = broker.client(name, version=version, clean=False, **extra).connect()
            self.assertTrue(device.session_present)
            got = [device.next_json(f"devices/{name}/commands")["commandId"] for _ in range(2)]
            self.assertEqual(got, ["1", "2"])

    def test_an_offline_session_that_ends_later_does_not_hurt_the_broker(self):
        """2.0.11 lists a session twice for expiry when SIGHUP's question about it is answered with
        'no', and reads freed memory when it ends."""
        broker = self.start()
        for name, expiry in (("d1", 1), ("d2", 3600)):
            device = broker.client(name, version=5, clean=False, session_expiry=expiry).connect()
            device.disconnect()
        broker.sighup()
        broker.sighup()
        broker.wait_log("Expiring client d1")
        broker.client("d2", version=5).connect().disconnect()
        crowd = [broker.client(f"c{i}").connect() for i in range(20)]
        for client in crowd:
            client.disconnect()
        broker.stop()

    def test_a_stranger_does_not_get_in_with_a_name_alone_around_sighup(self):
        broker = self.start()
        device = broker.client("d1", clean=False).connect()
        device.disconnect()
        stop = threading.Event()
        let_in = []

        def knock():
            while not stop.is_set():
                for password in ("", None, "x"):
                    wire = harness.Wire(broker.port, 4)
                    if wire.connect("d1", "d1", password) == 0:
                        let_in.append(password)
                    wire.close()

        thread = threading.Thread(target=knock)
        thread.start()
        for _ in range(3):
            broker.sighup()
        stop.set()
        thread.join()
        self.assertEqual(let_in, [])


class Crowd(harness.BrokerTest):
    def test_two_hundred_devices_at_once(self):
        broker = self.start(conf="max_queued_messages 0")
        operator = broker.operator().connect()
        operator.subscribe("devices/+/telemetry")
        tokens = {f"d{i}": broker.token(f"d{i}") for i in range(200)}
        wires = {}
        for name, token in tokens.items():  # all CONNECTs are under way before the first answer
            wire = broker.wire(4)
            body = wire.text("MQTT") + bytes([4, 0xC2]) + b"\0\x3c" + wire.text(name) + \
                wire.text(name) + wire.text(token)
            wire.send(1, body)
            wires[name] = wire
        for name, wire in wires.items():
            self.assertEqual(wire.read_kind(wire.CONNACK)[1], 0, name)
        for name, wire in wires.items():
            wire.publish(f"devices/{name}/telemetry", '{"sensors":{"t":20}}', qos=0)
        seen = {operator.next("devices/+/telemetry").topic for _ in range(200)}
        self.assertEqual(len(seen), 200)
        broker.sighup()
        for name, wire in wires.items():
            self.assertEqual(wire.publish(f"devices/{name}/telemetry", '{"t":1}'), 0, name)
        status = harness.control(operator, {"command": "getStatus"})[0]["data"]
        self.assertIn("200", json.dumps(status).replace("201", "200"))


if __name__ == "__main__":
    unittest.main()
