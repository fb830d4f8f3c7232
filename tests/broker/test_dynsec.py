"""Beside Mosquitto's own dynamic-security plugin: both kinds of clients, each judged by its own."""
import json
import pathlib
import subprocess
import unittest

import harness


def dynsec_module():
    beside = pathlib.Path(harness.MOSQUITTO).parent
    for pattern in ("../plugins/dynamic-security/mosquitto_dynamic_security.so",
                    "../lib/*/mosquitto_dynamic_security.so"):
        for path in beside.glob(pattern):
            return str(path)
    for path in pathlib.Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"):
        return str(path)
    return None


@unittest.skipIf(dynsec_module() is None, "mosquitto_dynamic_security.so is not installed")
class DynamicSecurity(harness.BrokerTest):
    def setUp(self):
        super().setUp()
        config = self.dir / "dynsec.json"
        done = subprocess.run(["mosquitto_ctrl", "dynsec", "init", str(config), "admin", "secret"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.broker = self.start(
            policy=harness.POLICY, options={"allow_other_auth": "true"},
            conf=f"plugin {dynsec_module()}\nplugin_opt_config_file {config}\n")
        self.admin = self.broker.client("dynsec-admin", token=None, user="admin",
                                        password="secret").connect()
        self.dynsec({"command": "createRole", "rolename": "lamp", "acls": [
            {"acltype": "publishClientSend", "topic": "lamps/#", "allow": True},
            {"acltype": "publishClientReceive", "topic": "lamps/#", "allow": True},
            {"acltype": "subscribePattern", "topic": "lamps/#", "allow": True}]},
            {"command": "createClient", "username": "lamp", "password": "light",
             "roles": [{"rolename": "lamp"}]},
            {"command": "createClient", "username": "d1", "password": "light",
             "roles": [{"rolename": "lamp"}]})

    def dynsec(self, *commands):
        self.admin.subscribe("$CONTROL/dynamic-security/v1/response")
        self.admin.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": list(commands)}))
        answer = self.admin.next_json("$CONTROL/dynamic-security/v1/response")
        for response in answer["responses"]:
            self.assertNotIn("error", response)

    def lamp(self, client_id="lamp-1", user="lamp", password="light", version=5):
        wire = self.broker.wire(version)
        return wire, wire.connect(client_id, user, password)

    def test_its_users_get_in_and_are_held_to_its_rules(self):
        for version, refused in ((4, 0), (5, 135)):
            wire, code = self.lamp(version=version)
            self.assertEqual(code, 0)
            self.assertEqual(wire.subscribe("lamps/1"), 1)
            self.assertEqual(wire.publish("lamps/1", "on"), 0)
            self.assertEqual(wire.publish("devices/d9/telemetry", '{"t":1}'), refused)
            self.assertEqual(wire.publish("alerts/critical", "forged"), refused)
            wire.close()
        self.assertEqual(self.lamp(password="wrong")[1], 135)
        self.assertEqual(self.lamp(user="nobody")[1], 135)

    def test_a_device_gets_in_beside_them_and_is_held_to_ours(self):
        wire = self.broker.wire(5)
        self.assertEqual(wire.connect("d9", "", self.broker.token("d9")), 0)
        self.assertEqual(wire.publish("devices/d9/telemetry", '{"t":1}'), 0)
        self.assertEqual(wire.publish("lamps/1", "on"), 135)
        self.assertEqual(self.broker.wire(5).connect("d9", "", self.broker.token("d9", ttl=-99)),
                         135)

    def test_its_users_may_not_take_a_device_s_id_or_name(self):
        self.assertEqual(self.lamp(client_id="d1", user="lamp")[1], 0)  # no device yet
        self.broker.client("d1").connect().disconnect()
        self.assertEqual(self.lamp(client_id="d1", user="lamp")[1], 135)
        self.assertEqual(self.lamp(client_id="x", user="d1")[1], 135)
        self.broker.wait_log("reason=id_reserved", 2)

    def test_its_users_send_us_no_commands_and_ours_go_to_us(self):
        wire, _ = self.lamp()
        command = json.dumps({"commands": [{"command": "reload"}]})
        self.assertEqual(wire.publish("$CONTROL/haltere/v1", command), 135)
        self.assertEqual(self.broker.count("policy read again"), 0)
        admin = self.broker.operator().connect()
        self.assertIn("data", harness.control(admin, {"command": "getStatus"})[0])

    def test_nobody_comes_in_anonymously(self):
        self.assertEqual(self.broker.wire(5).connect("anon"), 135)

    def test_sighup_throws_neither_kind_off(self):
        wire, _ = self.lamp()
        device = self.broker.client("d9").connect()
        self.broker.sighup()
        self.assertTrue(wire.alive())
        device.publish("devices/d9/telemetry", '{"t":1}')
        self.assertTrue(device.online)


if __name__ == "__main__":
    unittest.main()
