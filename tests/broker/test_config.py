"""Mistakes in the configuration stop the broker, all of them told at once; the example we ship loads."""
import pathlib
import re
import subprocess
import unittest

import harness

EXAMPLE = harness.ROOT / "mosquitto.conf.example"


class Broken(harness.BrokerTest):
    def test_all_mistakes_are_told_at_once(self):
        broker = self.make(options={"leway": "30s", "max_token_bytes": "lots",
                                    "token_source": "cookie", "acl_file": "/nonexistent/x.acl"})
        log = broker.fails_to_start()
        for word in ("leway", "leeway", "max_token_bytes", "token_source"):
            self.assertIn(word, log)
        self.assertIn("not started", log)

    def test_required_options_are_asked_for(self):
        broker = self.make(options={"keys_file": None, "acl_file": None, "db_path": None})
        log = broker.fails_to_start()
        for word in ("keys_file", "acl_file", "db_path"):
            self.assertIn(word, log)

    def test_broken_files_are_told_together_with_their_lines(self):
        broker = self.make(policy="haltere 1\nanyone\n  alow all #\n  allow fly t/#\n", rules="{,}")
        broker.key.public.write_bytes(b"short")
        log = broker.fails_to_start()
        for place in ("policy.acl:3", "policy.acl:4", "rules.json:1", "hs256.secret"):
            self.assertIn(place, log)

    def test_a_secret_others_may_read_stops_the_broker(self):
        broker = self.make()
        broker.key.public.chmod(0o644)
        self.assertRegex(broker.fails_to_start(), r"chmod .*hs256\.secret")

    def test_a_policy_others_may_write_stops_the_broker(self):
        broker = self.make()
        broker.policy.chmod(0o666)
        self.assertRegex(broker.fails_to_start(), r"chmod .*policy\.acl")

    def test_two_brokers_on_one_store_do_not_start(self):
        first = self.start("first")
        second = self.make("second", options={"db_path": str(first.db)})
        self.assertIn(str(first.process.pid), second.fails_to_start())
        first.client("d1").connect()

    def test_a_plugin_line_without_options_stops_the_broker(self):
        broker = self.make()
        broker.options = {}
        broker.fails_to_start()


@unittest.skipUnless(EXAMPLE.exists(), "mosquitto.conf.example is not written yet")
class Example(harness.BrokerTest):
    def test_the_example_loads_with_its_paths_put_in_place(self):
        """Every path is turned into one below the test's directory, and what must exist is made there."""
        broker = self.make()
        root = broker.dir / "root"
        text = EXAMPLE.read_text()
        text = re.sub(r"^#?listener .*$", "", text, flags=re.M)
        text = re.sub(r"^(user|log_dest|pid_file|cafile|certfile|keyfile) .*$", "", text, flags=re.M)
        for path in re.findall(r"^plugin_opt_\w+(?: \w+=\S+)* (/\S+)$", text, flags=re.M):
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        text = re.sub(r"^plugin \S*mosquitto_haltere\.so$", f"plugin {harness.PLUGIN}", text,
                      flags=re.M)
        text = re.sub(r"(?<= )/(?!.*mosquitto_haltere)(etc|var|usr)/", rf"{root}/\1/", text)
        text = re.sub(r"^plugin .*$", f"plugin {harness.PLUGIN}", text, count=1, flags=re.M)
        for path in map(pathlib.Path, re.findall(rf"{re.escape(str(root))}\S*", text)):
            path.parent.mkdir(parents=True, exist_ok=True)
        keys = re.search(r"^plugin_opt_keys_file (?:\w+=\S+ )*(\S+)$", text, flags=re.M).group(1)
        key = harness.Key(broker.dir, "ES256")
        if keys.endswith((".jwks", ".json")):
            private = broker.dir / "example.key"
            broker.command("key", "new", "--alg", "ES256", "--out", str(private), "--public", keys)
        else:
            pathlib.Path(keys).write_bytes(key.public.read_bytes())
        policy = re.search(r"^plugin_opt_acl_file (\S+)$", text, flags=re.M).group(1)
        shipped = harness.ROOT / "acl" / "policies" / pathlib.Path(policy).name
        pathlib.Path(policy).write_text(shipped.read_text() if shipped.exists() else harness.POLICY)
        rules = re.search(r"^plugin_opt_rules_file (\S+)$", text, flags=re.M)
        if rules:
            pathlib.Path(rules.group(1)).write_text('{"version": 1, "rules": []}')
        broker.config_text = lambda: (
            f"listener {broker.port} 127.0.0.1\nuser {harness.pwd.getpwuid(harness.os.getuid()).pw_name}\n"
            f"log_dest stderr\n{text}")
        broker.start()
        broker.wait_log("haltere: version")
        self.assertEqual(broker.wire(4).connect("d1", "d1", "x"), 5)

    def test_the_example_passes_our_own_check(self):
        done = subprocess.run([harness.COMMAND, "config", "check", str(EXAMPLE)],
                              capture_output=True, text=True, check=False)
        self.assertNotIn("unknown option", done.stderr + done.stdout)
        self.assertIn(done.returncode, (0, 1), done.stderr)


if __name__ == "__main__":
    unittest.main()
