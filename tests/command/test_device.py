"""Reading commands where there is nothing to read: they say what is missing and create nothing.

What they show of a store that is there: tests/unit/command_device.c."""
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HALTERE = os.environ.get("HALTERE", os.path.join(SOURCE, "build", "haltere"))
READERS = [["device", "list"], ["device", "show", "x"], ["alert", "list"], ["fleet", "status"]]


def haltere(*arguments):
    return subprocess.run([HALTERE, *arguments], capture_output=True, text=True, timeout=60)


class NoStore(unittest.TestCase):
    def setUp(self):
        self.top = tempfile.TemporaryDirectory()
        self.addCleanup(self.top.cleanup)

    def path(self, *names):
        return os.path.join(self.top.name, *names)

    def test_a_missing_store_is_named_and_not_created(self):
        for words in READERS:
            done = haltere(*words, "--db", self.path("none"))
            self.assertEqual((words, done.returncode, done.stdout), (words, 3, ""))
            self.assertIn(self.path("none"), done.stderr)
        self.assertEqual(os.listdir(self.top.name), [])

    def test_an_empty_directory_is_no_store(self):
        done = haltere("device", "list", "--db", self.path(), "--json")
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertEqual(os.listdir(self.top.name), [])

    def test_a_file_that_is_no_store_is_refused(self):
        with open(self.path("data.mdb"), "wb") as file:
            file.write(b"this is not a database" * 1000)
        done = haltere("device", "list", "--db", self.path())
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("cannot read the store", done.stderr)

    def test_the_store_is_found_by_the_brokers_configuration(self):
        conf = self.path("mosquitto.conf")
        with open(conf, "w") as file:
            file.write("listener 1883\nallow_anonymous false\nplugin /x/mosquitto_haltere.so\n"
                       "plugin_opt_db_path %s\n" % self.path("the-store"))
        for words in READERS:
            done = haltere(*words, "--config", conf)
            self.assertEqual((words, done.returncode), (words, 3))
            self.assertIn(self.path("the-store"), done.stderr)

    def test_a_configuration_without_a_store_is_told(self):
        conf = self.path("mosquitto.conf")
        with open(conf, "w") as file:
            file.write("listener 1883\n")
        done = haltere("fleet", "status", "--config", conf)
        self.assertEqual(done.returncode, 3)
        self.assertIn("db_path", done.stderr)
        self.assertIn("--db", done.stderr)
        done = haltere("fleet", "status", "--config", self.path("none.conf"))
        self.assertEqual(done.returncode, 3)
        self.assertIn("none.conf", done.stderr)


if __name__ == "__main__":
    unittest.main()
