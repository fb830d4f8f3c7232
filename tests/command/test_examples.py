"""Every file in examples/ is what it says: it loads, and gives what the pages promise of it."""
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HALTERE = os.environ.get("HALTERE") or str(ROOT / "build" / "haltere")
EXAMPLES = ROOT / "examples"


def haltere(*args, **options):
    return subprocess.run([HALTERE, *map(str, args)], capture_output=True, text=True, check=False,
                          timeout=60, **options)


class All(unittest.TestCase):
    def test_each_file_is_looked_at_by_a_test_here(self):
        known = {"control.json", "jwks-refresh.sh", "mosquitto-minimal.conf", "quickstart.sh", "replay.jsonl",
                 "rules.json"}
        self.assertEqual({path.name for path in EXAMPLES.iterdir()}, known)


class Readme(unittest.TestCase):
    def test_the_policies_in_it_are_good(self):
        """Blocks of policy: the first is whole, the others are sections."""
        blocks = re.findall(r"(?ms)^```\n((?:haltere 1|role )\b.*?)^```$", (ROOT / "README.md").read_text())
        self.assertGreaterEqual(len(blocks), 2)
        for block in blocks:
            with tempfile.NamedTemporaryFile("w", suffix=".acl") as file:
                file.write(block if block.startswith("haltere 1") else "haltere 1\n" + block)
                file.flush()
                done = haltere("acl", "check", file.name)
            self.assertEqual((done.returncode, done.stderr), (0, ""), block)


class Rules(unittest.TestCase):
    def replay(self, rules, *events):
        text = "".join(json.dumps(event) + "\n" for event in events)
        return haltere("replay", "--rules", rules, "-", input=text)

    def test_the_rules_load_and_are_in_force(self):
        """battery_low is a rule of the example alone."""
        done = self.replay(EXAMPLES / "rules.json", {
            "ts": 1795161600000, "clientId": "d1", "topic": "devices/d1/telemetry",
            "payload": {"sensors": {"battery": 4}}})
        self.assertEqual(done.returncode, 0, done.stderr)
        alert = json.loads(done.stdout)["payload"]
        self.assertEqual((alert["alertname"], alert["severity"]), ("battery_low", "critical"))

    def test_a_rule_with_a_mistake_would_be_refused(self):
        text = (EXAMPLES / "rules.json").read_text().replace('"hysteresis"', '"hysterisis"', 1)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(text)
            file.flush()
            done = self.replay(file.name)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("hysterisis", done.stderr)


class Replay(unittest.TestCase):
    def alerts(self, *options):
        done = haltere("replay", *options, EXAMPLES / "replay.jsonl")
        self.assertEqual(done.returncode, 0, done.stderr)
        out = []
        for line in done.stdout.splitlines():
            item = json.loads(line)
            alert = item["payload"]
            self.assertEqual(alert["deviceId"], "boiler-1")
            out.append((item["topic"], alert["alertname"], alert["status"]))
        return out

    def test_the_built_in_rules_see_all_that_is_odd_in_it(self):
        self.assertEqual(self.alerts(), [
            ("alerts/warning", "temperature_high", "firing"),
            ("alerts/critical", "temperature_high", "firing"),
            ("alerts/critical", "spoof", "firing"),
            ("alerts/warning", "malformed", "firing"),
            ("alerts/critical", "temperature_high", "resolved"),
            ("alerts/warning", "temperature_high", "resolved"),
            ("alerts/critical", "spoof", "resolved"),
            ("alerts/warning", "malformed", "resolved"),
            ("alerts/critical", "silence", "firing")])

    def test_the_example_rules_wait_before_they_speak(self):
        """There the heat must last 10 s, and one broken payload is no alert yet."""
        names = {name for _, name, status in self.alerts("--rules", EXAMPLES / "rules.json")
                 if status == "firing"}
        self.assertEqual(names, {"spoof", "silence"})


class Control(unittest.TestCase):
    def setUp(self):
        source = (ROOT / "plugin" / "control.c").read_text()
        table = re.search(r"\} commands\[\] = \{\n(.*?)\n\};", source, re.S).group(1)
        self.commands = re.findall(r'^    \{"(\w+)", cmd_', table, re.M)

    def test_its_commands_are_the_plugins(self):
        self.assertGreater(len(self.commands), 3)
        document = json.loads((EXAMPLES / "control.json").read_text())
        self.assertEqual(list(document), ["commands"])
        for entry in document["commands"]:
            self.assertIn(entry["command"], self.commands)

    def test_their_members_are_those_of_the_page_on_formats(self):
        section = (ROOT / "FORMATS.md").read_text().split("## $CONTROL/haltere/v1")[1]
        rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, re.M))
        self.assertEqual(sorted(rows), sorted(self.commands))
        document = json.loads((EXAMPLES / "control.json").read_text())
        for entry in document["commands"]:
            members = set(entry) - {"command", "correlationData"}
            self.assertEqual(members, set(re.findall(r"`(\w+)`", rows[entry["command"]])))


class Configuration(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="haltere-examples-"))
        self.addCleanup(shutil.rmtree, self.dir)
        done = haltere("key", "new", "--out", "issuer.jwk", "--public", "keys.jwks", cwd=self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        shutil.copy(ROOT / "acl" / "policies" / "haltere.acl", self.dir / "policy.acl")
        (self.dir / "mosquitto_haltere.so").touch()

    def check(self, name):
        """Started by root, the broker's user could not look into the test's directory."""
        text = (EXAMPLES / name).read_text() + f"user {pwd.getpwuid(os.getuid()).pw_name}\n"
        (self.dir / name).write_text(text)
        return haltere("config", "check", name, cwd=self.dir)

    def test_each_configuration_is_without_errors_and_warnings(self):
        names = [path.name for path in EXAMPLES.glob("*.conf")]
        self.assertTrue(names)
        for name in names:
            done = self.check(name)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("0 errors, 0 warnings", done.stdout)

    def test_what_they_say_must_be_there_must_be_there(self):
        for file in ("keys.jwks", "policy.acl"):
            kept = (self.dir / file).read_bytes()
            (self.dir / file).unlink()
            done = self.check("mosquitto-minimal.conf")
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            self.assertIn(file, done.stdout + done.stderr)
            (self.dir / file).write_bytes(kept)
            (self.dir / file).chmod(0o600)


class Quickstart(unittest.TestCase):
    """What it does is tests/broker/test_quickstart.py's."""

    def run_script(self, *args):
        return subprocess.run([str(EXAMPLES / "quickstart.sh"), *args], capture_output=True,
                              text=True, check=False, timeout=60)

    def test_help(self):
        for option in ("--help", "-h"):
            done = self.run_script(option)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            for word in ("--keep", "--seed", "HALTERE_BUILD_DIR"):
                self.assertIn(word, done.stdout)

    def test_wrong_usage_does_nothing(self):
        for args in (["--keeep"], ["--seed"], ["--seed", "x"], ["--seed", ""], ["now"]):
            done = self.run_script(*args)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)
            self.assertIn("usage:", done.stderr)

    def test_bash_can_read_it(self):
        done = subprocess.run(["bash", "-n", str(EXAMPLES / "quickstart.sh")], check=False)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
