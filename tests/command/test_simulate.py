"""haltere simulate: real clients at a real broker; what was asked for arrives, refusals are told."""
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import paho.mqtt.client as mqtt

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HALTERE = os.environ.get("HALTERE", os.path.join(SOURCE, "build", "haltere"))
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def haltere(*arguments):
    return subprocess.run([HALTERE, "simulate", *arguments], capture_output=True, text=True,
                          timeout=60)


class Broker:
    """A plain broker on a free port; everything published is kept."""

    def __init__(self, directory, anonymous=True):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        conf = os.path.join(directory, "mosquitto.conf")
        with open(conf, "w") as file:
            file.write("listener %d 127.0.0.1\nallow_anonymous true\n" % self.port)
            if not anonymous:
                passwords = os.path.join(directory, "passwords")
                open(passwords, "w").close()
                os.chmod(passwords, 0o644)
                os.chmod(directory, 0o755)
                file.write("allow_anonymous false\npassword_file %s\n" % passwords)
        self.process = subprocess.Popen([MOSQUITTO, "-c", conf], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise
        self.got = []
        self.client = None

    def listen(self):
        ready = threading.Event()
        self.client = mqtt.Client()
        self.client.on_message = lambda c, u, m: self.got.append((m.topic, m.payload))
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_connect = lambda c, *_: c.subscribe("#", 1)
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        assert ready.wait(10)

    def messages(self, count):
        """All messages, once at least `count` are there (QoS 1: they come)."""
        deadline = time.monotonic() + 10
        while len(self.got) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return list(self.got)

    def stop(self):
        if getattr(self, "client", None) is not None:
            self.client.disconnect()
            self.client.loop_stop()
        self.process.terminate()
        self.process.wait(10)


class WithBroker(unittest.TestCase):
    anonymous = True

    def setUp(self):
        if MOSQUITTO is None:
            self.skipTest("mosquitto is not installed")
        self.top = tempfile.TemporaryDirectory()
        self.addCleanup(self.top.cleanup)
        self.broker = Broker(self.top.name, self.anonymous)
        self.addCleanup(self.broker.stop)

    def simulate(self, *arguments):
        return haltere("--host", "127.0.0.1", "--port", str(self.broker.port), *arguments)


class Fleet(WithBroker):
    def setUp(self):
        super().setUp()
        self.broker.listen()

    def run_and_collect(self, *arguments):
        done = self.simulate("--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        return done, result, self.broker.messages(result["sent"])

    def test_every_device_says_all_it_sent(self):
        done, result, got = self.run_and_collect("--devices", "12", "--prefix", "unit", "--interval",
                                                 "100ms", "--duration", "1s", "--status")
        self.assertEqual((result["devices"], result["loggedIn"]), (12, 12))
        self.assertEqual(len(got), result["sent"])
        self.assertEqual(result["acknowledged"], result["sent"])
        for i in range(1, 13):
            name = "unit-%03d" % i
            self.assertIn("%s connected" % name, done.stderr)
            own = [json.loads(p) for t, p in got if t == "devices/%s/telemetry" % name]
            self.assertGreaterEqual(len(own), 3)
            for message in own:
                self.assertEqual(message["deviceId"], name)
                self.assertEqual(set(message["sensors"]),
                                 {"temperature", "humidity", "pressure", "battery"})
            status = [json.loads(p) for t, p in got if t == "devices/%s/status" % name]
            self.assertEqual(len(status), 1)
            self.assertEqual(status[0]["status"], "online")

    def test_quality_0_and_mqtt_3_work_too(self):
        _, result, got = self.run_and_collect("--devices", "3", "--interval", "100ms", "--duration",
                                              "500ms", "--qos", "0", "--version", "3.1.1")
        self.assertEqual(result["loggedIn"], 3)
        self.assertEqual(len(got), result["sent"])
        self.assertEqual(result["acknowledged"], 0)

    def test_a_profile_can_be_one_devices(self):
        _, _, got = self.run_and_collect("--devices", "3", "--interval", "50ms", "--duration", "1s",
                                         "--profile", "sensor-002=overheat", "--at", "300ms",
                                         "--quiet")
        hot = {t for t, p in got if json.loads(p)["sensors"]["temperature"] > 80}
        self.assertEqual(hot, {"devices/sensor-002/telemetry"})

    def test_spoof_denied_and_malformed_are_three_messages_each(self):
        done, _, got = self.run_and_collect(
            "--devices", "3", "--interval", "50ms", "--duration", "1s", "--at", "200ms",
            "--profile", "sensor-001=spoof", "--profile", "sensor-002=denied",
            "--profile=sensor-003=malformed", "--other", "victim")
        self.assertIn("sensor-001 spoof: ", done.stderr)
        self.assertEqual(sum(t == "devices/victim/telemetry" for t, _ in got), 3)
        self.assertEqual(sum(t == "devices/sensor-001/telemetry" and
                             json.loads(p)["deviceId"] == "victim" for t, p in got), 3)
        broken = 0
        for topic, payload in got:
            try:
                json.loads(payload)
            except ValueError:
                self.assertEqual(topic, "devices/sensor-003/telemetry")
                broken += 1
        self.assertEqual(broken, 3)

    def test_silent_stays_connected_and_says_nothing(self):
        done, result, got = self.run_and_collect("--id", "mute", "--interval", "50ms", "--duration",
                                                 "800ms", "--profile", "silent", "--at", "0")
        self.assertEqual((result["loggedIn"], result["connectionsLost"], got), (1, 0, []))
        self.assertIn("mute silent: ", done.stderr)

    def test_host_is_this_machine(self):
        _, _, got = self.run_and_collect("--id", "here", "--interval", "100ms", "--duration", "600ms",
                                         "--profile", "host")
        last = json.loads(got[-1][1])["sensors"]
        self.assertTrue({"cpu", "load1", "memory"} <= set(last), last)
        self.assertTrue(0 <= last["cpu"] <= 100 and 0 < last["memory"] < 100)

    def test_hundreds_of_devices_fit(self):
        _, result, got = self.run_and_collect("--devices", "300", "--interval", "500ms",
                                              "--duration", "3s", "--quiet")
        self.assertEqual(result["loggedIn"], 300)
        self.assertEqual(len({t for t, _ in got}), 300)
        self.assertEqual(len(got), result["sent"])

    def test_an_interrupt_ends_it_in_good_order(self):
        process = subprocess.Popen(
            [HALTERE, "simulate", "--host", "127.0.0.1", "--port", str(self.broker.port),
             "--interval", "50ms", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        self.broker.messages(3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 0)
        result = json.loads(out)
        self.assertGreaterEqual(result["sent"], 3)
        self.assertEqual(result["acknowledged"], result["sent"])

    def test_a_token_is_signed_for_every_login(self):
        key = os.path.join(self.top.name, "key.jwk")
        secret = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        with open(key, "w") as file:
            json.dump({"kty": "oct", "kid": "k", "alg": "HS256", "k": secret}, file)
        options = ["--key", key, "--issuer", "me", "--role", "sensor", "--duration", "300ms",
                   "--interval", "100ms"]
        os.chmod(key, 0o644)
        done = self.simulate(*options)
        self.assertEqual(done.returncode, 3)
        self.assertIn("chmod", done.stderr)
        os.chmod(key, 0o600)
        done = self.simulate(*options)
        self.assertEqual(done.returncode, 0, done.stderr)


class Refused(WithBroker):
    anonymous = False

    def test_refused_logins_are_told_and_counted(self):
        for version, text in (("5", "CONNACK 135"), ("3.1.1", "CONNACK 5")):
            done = self.simulate("--devices", "2", "--version", version, "--retry", "3",
                                 "--retry-interval", "20ms", "--json")
            self.assertEqual(done.returncode, 1)
            result = json.loads(done.stdout)
            self.assertEqual((result["loggedIn"], result["refusedLogins"], result["sent"]), (0, 6, 0))
            self.assertEqual(done.stderr.count("sensor-001 refused: "), 3)
            self.assertEqual(done.stderr.count(text), 6)


class Usage(unittest.TestCase):
    def test_a_broker_that_is_not_there_is_an_error(self):
        with socket.socket() as taken:  # bound, not listening
            taken.bind(("127.0.0.1", 0))
            done = haltere("--host", "127.0.0.1", "--port", str(taken.getsockname()[1]))
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("cannot reach the broker at 127.0.0.1:", done.stderr)

    def test_options_that_make_no_sense_are_refused(self):
        rows = [
            (["--devices", "0"], "from 1 to"), (["--devices", "10001"], "from 1 to 10000"),
            (["--devices", "x"], "not a number"), (["--qos", "3"], "from 0 to 2"),
            (["--port", "65536"], "from 1 to 65535"), (["--version", "4"], "neither 3.1.1 nor 5"),
            (["--interval", "0"], "above 0"), (["--interval", "soon"], "not a duration"),
            (["--id", "a", "--devices", "2"], "does not go with"),
            (["--id", "a/b"], "cannot be a device id"), (["--id", ""], "cannot be a device id"),
            (["--id", "x" * 256], "cannot be a device id"),
            (["--profile", "overheta"], "did you mean 'overheat'?"),
            (["--profile", "spoof"], "needs --other"), (["--profile", "denied"], "needs --other"),
            (["--profile", "sensor-002=jump"], "no device of this run"),
            (["--issuer", "x"], "give --key"), (["--token-file", "x", "--key", "y"], "one of them"),
            (["--token-file", "x", "--devices", "2"], "one device's token"),
        ]
        for words, text in rows:
            done = haltere(*words)
            self.assertEqual((words, done.returncode, done.stdout), (words, 2, ""))
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    unittest.main()
