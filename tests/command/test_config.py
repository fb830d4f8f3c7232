"""haltere config check: exit codes, text and JSON, and the files that the options name."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
HALTERE = os.environ.get("HALTERE", str(HERE / "../../build/haltere"))
SOURCE = pathlib.Path(os.environ.get("HALTERE_SOURCE_DIR", HERE / "../.."))

BROKER = """per_listener_settings false
allow_anonymous false
check_retain_source true
set_tcp_nodelay true
listener 1883 127.0.0.1
user {user}
plugin /usr/lib/mosquitto_haltere.so
"""
OPTIONS = """plugin_opt_keys_file alg=HS256 {dir}/secret
plugin_opt_acl_file {dir}/policy.acl
plugin_opt_db_path {dir}/db
plugin_opt_issuer someone
plugin_opt_audience something
"""


class ConfigCheck(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="haltere-config."))
        self.addCleanup(shutil.rmtree, self.dir)
        self.write("secret", "0123456789abcdef0123456789abcdef0123456789abcdef", 0o600)
        self.write("policy.acl", "haltere 1\nanyone\nallow write devices/%d/telemetry\n"
                                 "allow read devices/%d/commands\n")

    def write(self, name, text, mode=0o644):
        path = self.dir / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def conf(self, more="", options=OPTIONS, user="root"):
        text = BROKER.format(user=user) + options.format(dir=self.dir) + more
        return self.write("mosquitto.conf", text)

    def run_check(self, *args):
        return subprocess.run([HALTERE, "config", "check", *map(str, args)], text=True, timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def check_json(self, path):
        done = self.run_check("--json", path)
        self.assertEqual(done.stderr, "")
        return done.returncode, json.loads(done.stdout)

    def assert_refused(self, path, *words, kind="error"):
        """Exactly one error, with these words."""
        code, document = self.check_json(path)
        errors = [p for p in document["problems"] if p["kind"] == kind]
        self.assertEqual(len(errors), 1, document)
        for word in words:
            self.assertIn(word, errors[0]["text"])
        self.assertEqual(code, 1)
        return errors[0]

    def test_good_configuration(self):
        done = self.run_check(self.conf())
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("0 errors, 0 warnings; 1 key, 2 policy rules, 19 alert rules", done.stdout)

    def test_good_configuration_as_json(self):
        self.assertEqual(self.check_json(self.conf()),
                         (0, {"ok": True, "errors": 0, "warnings": 0, "problems": []}))

    def test_warnings_are_printed_and_the_answer_is_still_yes(self):
        path = self.conf("allow_anonymous true\n")
        done = self.run_check(path)
        self.assertEqual(done.returncode, 0)
        self.assertIn(f"{path}:13: warning: allow_anonymous true", done.stderr)
        code, document = self.check_json(path)
        self.assertEqual((code, document["ok"], document["warnings"]), (0, True, 1))
        problem = document["problems"][0]
        self.assertEqual((problem["kind"], problem["file"], problem["line"], problem["column"]),
                         ("warning", str(path), 13, 0))

    def test_every_mistake_at_once(self):
        self.write("rules.json", '{"version":1,\n"rules":[{"name":"spoof","count":0}]}')
        self.write("policy.acl", "haltere 1\nanyone\nalow read a\n")
        path = self.conf("plugin_opt_leeway soon\nplugin_opt_lewway 1s\n"
                         f"plugin_opt_rules_file {self.dir}/rules.json\nper_listener_settings 1\n")
        code, document = self.check_json(path)
        self.assertEqual((code, document["ok"]), (1, False))
        texts = "\n".join(f"{p['file']}:{p['line']}: {p['text']}" for p in document["problems"])
        for words in (f"{path}:13: plugin_opt_leeway", f"{path}:14: unknown option",
                      f"{path}:16: per_listener_settings", f"{self.dir}/rules.json:2: 'count' 0",
                      f"{self.dir}/policy.acl:3: "):
            self.assertIn(words, texts)
        self.assertEqual(document["errors"], len(document["problems"]))

    def test_missing_files_are_told(self):
        for name in ("secret", "policy.acl"):
            with self.subTest(name):
                (self.dir / name).rename(self.dir / "away")
                self.assert_refused(self.conf(), str(self.dir / name))
                (self.dir / "away").rename(self.dir / name)
        path = self.conf(f"plugin_opt_rules_file {self.dir}/none.json\n")
        self.assert_refused(path, "none.json", "does not exist")

    def test_unsafe_files_are_told(self):
        path = self.conf()
        (self.dir / "secret").chmod(0o644)
        self.assert_refused(path, "chmod o-rwx")
        (self.dir / "secret").chmod(0o600)
        (self.dir / "policy.acl").chmod(0o646)
        self.assert_refused(path, "chmod o-w")

    def test_db_path_is_a_directory_or_can_become_one(self):
        path = self.conf()
        (self.dir / "db").mkdir()
        self.assertEqual(self.run_check(path).returncode, 0)
        (self.dir / "db").rmdir()
        self.write("db", "a file")
        self.assert_refused(path, "plugin_opt_db_path", "not a directory")
        options = OPTIONS.replace("{dir}/db", "{dir}/no/such/db")
        self.assert_refused(self.conf(options=options), "neither it nor the directory above")

    @unittest.skipUnless(os.geteuid() == 0, "only root can look with another user's eyes")
    def test_root_checks_as_the_brokers_user(self):
        self.dir.chmod(0o755)
        code, document = self.check_json(self.conf(user="nobody"))
        texts = " ".join(p["text"] for p in document["problems"])
        self.assertEqual(code, 1)
        self.assertIn(f"{self.dir}/secret may not be read by user", texts)
        self.assertIn("the broker's user may not make it", texts)
        self.assertEqual(document["errors"], 2)
        (self.dir / "db").mkdir()
        shutil.chown(self.dir / "db", "nobody")
        shutil.chown(self.dir / "secret", "nobody")
        self.assertEqual(self.run_check(self.conf(user="nobody")).returncode, 0)
        code, document = self.check_json(self.conf(user="no-such-user-here"))
        self.assertEqual(code, 1)
        self.assertIn("no such user", document["problems"][0]["text"])

    def test_unreadable_configuration(self):
        done = self.run_check(self.dir / "none.conf")
        self.assertEqual(done.returncode, 3)
        self.assertIn("none.conf: error: cannot read it: No such file", done.stderr)
        code, document = self.check_json(self.dir / "none.conf")
        self.assertEqual((code, document["ok"], document["errors"]), (3, False, 1))

    def test_usage(self):
        self.assertEqual(self.run_check().returncode, 2)
        self.assertEqual(self.run_check("a", "b").returncode, 2)
        done = self.run_check("--jsn", "a")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--json", done.stderr)
        done = self.run_check("--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn("haltere config check [--json] mosquitto.conf", done.stdout)

    def test_odd_bytes_do_not_reach_the_terminal(self):
        path = self.dir / "mosquitto.conf"
        path.write_bytes(b"plugin_opt_\x1b[2J 1\n\x1b]0;x\x07 \xff\n")
        done = self.run_check(path)
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("\x1b", done.stderr + done.stdout)
        self.assertIn("\\x1b", done.stderr)

    def test_the_example_is_sound_where_its_files_exist(self):
        text = (SOURCE / "mosquitto.conf.example").read_text()
        for old, new in (("keys_file /etc/haltere/keys.json", f"keys_file {self.dir}/secret"),
                         ("/etc/haltere/policy.acl", f"{self.dir}/policy.acl"),
                         ("/etc/haltere/next.acl", f"{self.dir}/policy.acl"),
                         ("db_path /var/lib/haltere", f"db_path {self.dir}/db"),
                         ("#plugin_opt_", "plugin_opt_"),
                         ("/etc/haltere/rules.json", str(SOURCE / "examples/rules.json"))):
            self.assertIn(old, text)
            text = text.replace(old, new)
        shutil.copy(SOURCE / "examples/rules.json", self.dir / "rules.json")
        text = text.replace(str(SOURCE / "examples/rules.json"), f"{self.dir}/rules.json")
        (self.dir / "rules.json").chmod(0o644)
        done = self.run_check(self.write("mosquitto.conf", text + "user root\n"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
