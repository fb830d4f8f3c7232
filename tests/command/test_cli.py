"""The frame of the command: help, suggestions, exit codes, and outputs that cannot be written."""
import os
import re
import subprocess
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HALTERE = os.environ.get("HALTERE", os.path.join(SOURCE, "build", "haltere"))
GROUPS = ["key", "token", "acl", "ban", "device", "alert", "fleet", "store", "config", "score", "replay",
          "simulate"]
VERBS = {
    "key": ["new", "list", "show", "check", "rotate"], "token": ["issue", "verify", "show"], "acl": ["decide", "check", "test", "explain", "diff", "shadow", "import-dynsec"],
    "ban": ["list", "add", "remove"], "device": ["list", "show", "denials"], "alert": ["list"], "fleet": ["status"],
    "store": ["check", "stat", "backup"], "config": ["check"],
}


def haltere(*arguments, **options):
    return subprocess.run([HALTERE, *arguments], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, **options)


class Frame(unittest.TestCase):
    def test_help_names_every_group(self):
        for arguments in (["--help"], ["-h"], ["help"]):
            done = haltere(*arguments)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(done.stderr, "")
            self.fits_a_terminal(done.stdout)
            for group in GROUPS:
                self.assertRegex(done.stdout, r"(?m)^  %s  +\w" % group)

    def fits_a_terminal(self, text):
        """No line is too long, and no sentence is broken where its next word had room."""
        lines = text.splitlines()
        for line, following in zip(lines, lines[1:] + [""]):
            self.assertLessEqual(len(line.encode()), 80, line)
            if line[:1].isalnum() and following[:1].islower():
                first = re.sub(r" .*", "", following)
                self.assertGreater(len(line + " " + first), 80, line + "\n" + following)

    def test_nothing_at_all_is_wrong_usage(self):
        done = haltere()
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, "")
        self.assertIn("Usage:", done.stderr)

    def test_version(self):
        self.assertRegex(haltere("--version").stdout, r"^haltere \d+\.\d+\.\d+\n$")

    def test_every_verb_has_help_with_options_and_a_synopsis(self):
        for group in GROUPS:
            for verb in VERBS.get(group, [None]):
                words = [group] + ([verb] if verb else [])
                done = haltere(*words, "--help")
                self.assertEqual((words, done.returncode, done.stderr), (words, 0, ""))
                self.assertTrue(done.stdout.startswith("Usage: haltere " + " ".join(words)), words)
                self.assertIn("\nOptions:\n", done.stdout)
                self.assertRegex(done.stdout, r"(?m)^  --help +this text$")
                self.assertEqual(haltere("help", *words).stdout, done.stdout)
                self.fits_a_terminal(done.stdout)

    def test_every_group_lists_its_verbs(self):
        for group, verbs in VERBS.items():
            done = haltere(group, "--help")
            self.assertEqual(done.returncode, 0)
            for verb in verbs:
                self.assertRegex(done.stdout, r"(?m)^  %s  +\w" % verb)
            done = haltere(group)
            self.assertEqual(done.returncode, 2)
            self.assertIn("needs a verb", done.stderr)

    def test_misspelt_words_get_a_suggestion(self):
        rows = [
            (["devcie"], "did you mean 'device'?"),
            (["device", "lsit"], "did you mean 'device list'?"),
            (["device", "list", "--jsno"], "did you mean '--json'?"),
            (["help", "simulat"], "did you mean 'simulate'?"),
            (["frobnicate"], "see 'haltere --help'"),
            (["device", "frobnicate"], "see 'haltere device --help'"),
            (["device", "list", "--frobnicate"], "try --help"),
            (["--frobnicate"], "see 'haltere --help'"),
        ]
        for words, text in rows:
            done = haltere(*words)
            self.assertEqual((words, done.returncode, done.stdout), (words, 2, ""))
            self.assertIn(text, done.stderr)

    def test_options_are_checked(self):
        rows = [
            (["device", "list", "--json=yes"], "--json takes no value"),
            (["device", "list", "--prefix"], "--prefix needs a value"),
            (["device", "list", "--prefix", "--json"], "--prefix needs a value"),
            (["device", "list", "-j"], "two dashes"),
            (["device", "list", "x"], "'x' is one argument too many"),
            (["device", "show"], "an argument is missing"),
            (["device", "show", "--", "--json", "y"], "'y' is one argument too many"),
        ]
        for words, text in rows:
            done = haltere(*words)
            self.assertEqual((words, done.returncode), (words, 2))
            self.assertIn(text, done.stderr)
            self.assertIn("Usage: haltere device", done.stderr)

    def test_a_word_of_control_bytes_is_shown_harmless(self):
        done = haltere("\x1b[31mboo\n")
        self.assertEqual(done.returncode, 2)
        self.assertNotIn("\x1b", done.stderr)
        self.assertIn("\\x1b[31mboo\\x0a", done.stderr)

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w") as full:
            for words in (["--help"], ["device", "list", "--help"]):
                done = subprocess.run([HALTERE, *words], stdout=full, stderr=subprocess.PIPE,
                                      text=True, timeout=60)
                self.assertEqual(done.returncode, 3)
                self.assertIn("cannot write", done.stderr)

    def test_a_reader_that_goes_away_ends_the_command_quietly(self):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([HALTERE, "--help"], stdout=writer, stderr=subprocess.PIPE,
                              timeout=60)
        os.close(writer)
        self.assertEqual(done.returncode, -13)  # SIGPIPE, as of any filter
        self.assertEqual(done.stderr, b"")


class Manual(unittest.TestCase):
    """haltere.1 and --help tell the same options."""

    def test_the_manual_page_names_every_verb_and_option(self):
        with open(os.path.join(SOURCE, "cli", "haltere.1")) as file:
            page = file.read().replace("\\-", "-").replace("\\&", "")
        for group in GROUPS:
            for verb in VERBS.get(group, [None]):
                words = " ".join([group] + ([verb] if verb else []))
                self.assertIn(".SS haltere %s\n" % words, page)
                part = page.split(".SS haltere %s\n" % words)[1].split("\n.S")[0]
                text = haltere(*words.split(), "--help").stdout
                offered = set(re.findall(r"(?m)^  --([a-z0-9-]+)", text)) - {"help"}
                told = set(re.findall(r"--([a-z0-9][a-z0-9-]*)", part))
                self.assertEqual((words, offered - told), (words, set()), "missing in haltere.1")
                self.assertEqual((words, told - offered), (words, set()), "only in haltere.1")

    def test_the_manual_page_is_well_formed(self):
        try:
            done = subprocess.run(["man", "--warnings=all", "-E", "UTF-8", "-l", "-Tutf8", "-Z",
                                   os.path.join(SOURCE, "cli", "haltere.1")],
                                  capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            self.skipTest("man is not installed")
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
