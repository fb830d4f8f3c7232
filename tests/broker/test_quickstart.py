"""examples/quickstart.sh from end to end: it is the newcomer's first look, and our broadest test.

Three runs side by side, because each takes its 40 seconds: one as it is, one that is kept running,
and one whose rules somebody changed, which must fail.
"""
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import harness

SCRIPT = harness.ROOT / "examples" / "quickstart.sh"
MINIMAL = harness.ROOT / "examples" / "mosquitto-minimal.conf"
LIMIT = 120  # seconds; a run that finds something missing takes about 60


class Run:
    """One run in a temporary directory of its own, with whatever the broker needs around it."""

    def __init__(self, parent, name, *args, before=""):
        self.dir = parent / name
        self.dir.mkdir()
        broker = self.dir / "broker"
        lines = ["#!/bin/sh", before]
        if harness.ASAN: # into the broker alone: nothing else needs it
            options = "" if os.environ.get("ASAN_OPTIONS") else "ASAN_OPTIONS=detect_leaks=1 "
            lines.append(f"export {options}LD_PRELOAD={shlex.quote(harness.ASAN)}")
        lines.append(f'exec {shlex.quote(harness.MOSQUITTO)} "$@"')
        broker.write_text("\n".join(lines) + "\n")
        broker.chmod(0o700)
        self.tmp = self.dir / "tmp"
        self.tmp.mkdir()
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"),
               "TMPDIR": str(self.tmp), "MOSQUITTO": str(broker),
               "HALTERE_BUILD_DIR": str(pathlib.Path(harness.PLUGIN).parent)}
        env.update({name: value for name, value in os.environ.items()
                    if name.endswith("SAN_OPTIONS")})
        self.log = self.dir / "output"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(SCRIPT), *args], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env)

    def output(self):
        return self.log.read_text(errors="replace")

    def end(self):
        """The exit code."""
        return self.process.wait(LIMIT)

    def wait_output(self, pattern):
        harness.wait_until(lambda: re.search(pattern, self.output()) or
                           self.process.poll() is not None, f"{pattern!r} in the output")

    def broker_pid(self):
        return int(re.search(r"127\.0\.0\.1:\d+, process (\d+)", self.output()).group(1))

    def processes(self):
        """Those with a directory of this run below their feet."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if os.readlink(entry / "cwd").startswith(str(self.tmp)):
                    found.append(entry.name)
            except OSError:
                pass
        return found

    def left_over(self):
        return self.processes() + [str(path) for path in self.tmp.iterdir()]


class Quickstart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="haltere-quickstart-test-"))
        cls.as_it_is = Run(cls.dir, "plain")
        cls.kept = Run(cls.dir, "kept", "--keep")
        # The broker's start is the moment between writing the rules and reading them.
        cls.changed = Run(cls.dir, "changed", before=(
            "sed -i -e 's/\"acl_denied\", \"count\": 3/\"acl_denied\", \"count\": 300/' "
            "-e 's/\"clearAfter\": \"2s\"/\"warning\": {\"above\": 10}, &/' rules.json"))

    @classmethod
    def tearDownClass(cls):
        for run in (cls.as_it_is, cls.kept, cls.changed):
            if run.process.poll() is None:
                run.process.terminate()
                run.process.wait(60)
        for stop in cls.kept.tmp.glob("*/stop"):  # a test failed before it came to that
            subprocess.run([str(stop)], check=False, timeout=60)
        if not os.environ.get("HALTERE_KEEP"):
            shutil.rmtree(cls.dir)

    def test_all_that_is_expected_comes_and_nothing_else(self):
        run = self.as_it_is
        code = run.end()
        text = run.output()
        self.assertEqual(code, 0, text)
        for device, alert, status in (
                ("gate", "auth_failure", "firing"), ("oven", "temperature_high", "firing"),
                ("oven", "temperature_high", "resolved"), ("meter", "auth_failure", "firing"),
                ("meter", "silence", "firing"), ("hall", "anomaly", "firing"),
                ("liar", "spoof", "firing"), ("prowler", "acl_denied", "firing"),
                ("cellar", "silence", "firing")):
            self.assertRegex(text, rf"(?m)^  ok +{device} +{alert} +{status} ")
        self.assertIn("24 of 24 sensors without any alert", text)
        self.assertRegex(text, r"the fleet: 24 of 24 devices logged in; (\d+) messages sent, "
                               r"\1 acknowledged, 0 refused; 0 logins refused, 0 connections lost")
        self.assertNotRegex(text, r"(?m)^  (missing|unexpected) ")

    def test_the_story_tells_who_is_not_let_in_and_why(self):
        run = self.as_it_is
        run.end()
        text = run.output()
        for pattern in (r"refused +gate +login, reason=signature: ",
                        r"refused +meter +login, reason=expired: ",
                        r"thrown out +meter ", r"let in +sensor-\* +all 24",
                        r"denied +prowler +write devices/sensor-002/telemetry, reason=policy",
                        r"(?m)^sensor-024 +online +healthy "):
            self.assertRegex(text, pattern)
        self.assertNotIn("\x1b", text)

    def test_nothing_of_it_is_left(self):
        self.as_it_is.end()
        self.assertEqual(self.as_it_is.left_over(), [])

    def test_changed_rules_make_it_fail_and_say_what_is_wrong(self):
        run = self.changed
        code = run.end()
        text = run.output()
        self.assertEqual(code, 1, text)
        self.assertRegex(text, r"(?m)^  missing +prowler +acl_denied ")
        self.assertRegex(text, r"(?m)^  unexpected +sensor-001 temperature_high firing")
        self.assertIn("0 of 24 sensors without any alert", text)
        self.assertEqual(run.processes(), [])
        kept = pathlib.Path(re.search(r"the logs are kept in (\S+)", text).group(1))
        self.assertIn("acl-deny client=prowler", (kept / "broker.log").read_text())
        self.assertEqual([path.name for path in kept.iterdir()
                          if path.suffix in (".jwk", ".jwt")], [])

    def test_kept_it_goes_on_and_the_printed_commands_work(self):
        run = self.kept
        code = run.end()
        text = run.output()
        self.assertEqual(code, 0, text)
        os.kill(run.broker_pid(), 0)
        commands = text.split("It goes on running. Try:\n")[1]
        directory = re.search(r"cd (\S+);", commands).group(1)
        self.try_commands(commands)
        begin = time.monotonic()
        subprocess.run([directory + "/stop"], check=True, timeout=60)
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(run.left_over(), [])

    def try_commands(self, commands):
        """Run them as they are printed; the subscriber ends with its first message."""
        lines = re.sub(r"\\\n", "", commands).splitlines()
        self.assertEqual(len(lines), 7)
        lines = [line for line in lines if "EDITOR" not in line and "./stop" not in line]
        lines[1] = re.sub(r"   +#.*", "", lines[1]) + " -W 30 --retained-only -C 1"
        done = subprocess.run(["bash", "-e", "-c", "\n".join(lines)], capture_output=True,
                              text=True, check=False, timeout=90)
        out = done.stdout
        self.assertEqual(done.returncode, 0, out + done.stderr)
        self.assertRegex(out, r"alerts/active/\S+ \{")
        self.assertRegex(out, r"acl-deny client=kettle access=write topic=devices/oven/telemetry")
        self.assertRegex(out, r"(?m)^sensor-001 +online ")
        self.assertRegex(out, r"kettle +temperature_high|temperature_high +kettle")

    def test_a_signal_ends_it_without_a_trace(self):
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129),
                             (signal.SIGPIPE, 141)):
            run = Run(self.dir, f"signal-{int(number)}")
            run.wait_output(r"let in +sensor-\*")
            run.process.send_signal(number)
            self.assertEqual(run.end(), code, run.output())
            self.assertEqual(run.left_over(), [])


class Minimal(harness.BrokerTest):
    def test_the_minimal_configuration_starts_a_broker(self):
        broker = self.make()
        text = MINIMAL.read_text().replace("listener 1883", f"listener {broker.port}")
        broker.command("key", "new", "--out", str(broker.dir / "issuer.jwk"), "--public",
                       str(broker.dir / "keys.jwks"))
        shutil.copy(harness.ROOT / "acl" / "policies" / "haltere.acl", broker.policy)
        (broker.dir / "mosquitto_haltere.so").symlink_to(harness.PLUGIN)
        user = harness.pwd.getpwuid(os.getuid()).pw_name
        broker.config_text = lambda: f"{text}user {user}\nlog_dest stderr\n"
        broker.start()
        token = broker.command("token", "issue", "--key", str(broker.dir / "issuer.jwk"), "--iss",
                               "https://tokens.example.org", "--aud", "mqtt.example.org", "--sub",
                               "oven").strip()
        broker.client("oven", token=token).connect()
        broker.client("iron", token=token).connect(expect=5)


if __name__ == "__main__":
    unittest.main()
