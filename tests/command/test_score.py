"""haltere score: scores come row by row, causally, and bad input is refused with its line."""
import csv
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HALTERE = os.environ.get("HALTERE", os.path.join(SOURCE, "build", "haltere"))
NAB = os.environ.get("HALTERE_NAB", os.path.join(os.path.dirname(SOURCE), "shared", "nab"))
NAB_SLICE = [
    "artificialNoAnomaly/art_daily_small_noise.csv",
    "artificialWithAnomaly/art_daily_flatmiddle.csv",
    "realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv",
]


def score(text, *options):
    data = text if isinstance(text, bytes) else text.encode()
    return subprocess.run([HALTERE, "score", *options], input=data, capture_output=True, timeout=60)


def series(values, begin=1400000000, step=300):
    rows = ["%d,%r" % (begin + i * step, v) for i, v in enumerate(values)]
    return "timestamp,value\n" + "".join(row + "\n" for row in rows)


def noise(count, seed=1):
    source = random.Random(seed)
    return [source.gauss(20, 1) for _ in range(count)]


class Score(unittest.TestCase):
    def scores(self, text, *options):
        done = score(text, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [float(line) for line in done.stdout.split()]

    def refused(self, text, code, *words):
        done = score(text)
        self.assertEqual(done.returncode, code, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr.decode())
        return done

    def test_one_score_per_row_and_the_time_per_point(self):
        done = score(series(noise(500)))
        self.assertEqual(done.returncode, 0)
        scores = [float(line) for line in done.stdout.split()]
        self.assertEqual(len(scores), 500)
        self.assertTrue(all(0 <= s < 0.5 for s in scores))
        self.assertRegex(done.stderr.decode(), r"^ns_per_point=[0-9]+\.[0-9]\n$")

    def test_a_jump_alerts_with_every_detector(self):
        for name in "ewma", "zscore", "default":
            with self.subTest(name):
                scores = self.scores(series(noise(500) + [40]), "--detector", name)
                self.assertGreaterEqual(scores[-1], 0.5)

    def test_the_default_is_ewma(self):
        text = series(noise(300) + [40] * 20)
        self.assertEqual(score(text).stdout, score(text, "--detector=ewma").stdout)
        self.assertNotEqual(score(text).stdout, score(text, "--detector=zscore").stdout)

    def test_zscore_alerts_beyond_three_deviations(self):
        base = [1, -1] * 50
        self.assertLess(self.scores(series(base + [3]), "--detector", "zscore")[-1], 0.5)
        self.assertGreaterEqual(
            self.scores(series(base + [3.0001]), "--detector", "zscore")[-1], 0.5)

    def test_later_rows_never_change_a_score(self):
        for name in "ewma", "zscore":
            lines = series(noise(3000) + noise(200, 2) + [60] * 30).splitlines(True)
            whole = score("".join(lines), "--detector", name).stdout.splitlines()
            for cut in 1, 30, 1024, 1025, 3001:
                part = score("".join(lines[:cut + 1]), "--detector", name).stdout.splitlines()
                self.assertEqual(part, whole[:cut])

    def test_scores_stream(self):
        with subprocess.Popen([HALTERE, "score"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as child:
            self.addCleanup(child.kill)
            child.stdin.write(b"timestamp,value\n1400000000,20\n140000")
            child.stdin.flush()
            self.assertTrue(select.select([child.stdout], [], [], 30)[0], "no score came")
            self.assertEqual(child.stdout.readline(), b"0\n")
            rest, _ = child.communicate(b"0300,21\n", timeout=30)
            self.assertEqual(rest, b"0\n")

    def test_timestamps_in_every_spelling(self):
        spellings = ["2014-04-01 00:05:00", "2014-04-01 00:05:00.123456", "2014-04-01T00:05:00Z",
                     "2014-04-01T02:05:00.5+02:00", "1396310700", "1396310700.25", "1396310700123"]
        text = "timestamp,value\n" + "".join("%s,1\n" % s for s in spellings)
        self.assertEqual(len(self.scores(text)), len(spellings))

    def test_line_ends_and_values(self):
        self.assertEqual(len(self.scores("Timestamp,Value\r\n1,2\r\n2,-3.5e-2\r\n3,+4")), 3)
        self.assertEqual(len(self.scores("timestamp,value\n1,2\n\n\n")), 1)
        self.assertEqual(self.scores("timestamp,value\n"), [])

    def test_bad_input_is_refused_with_its_line(self):
        head = "timestamp,value\n1,1\n"
        cases = [("", "empty"), ("1,2\n", "stdin:1:"), ("time,value\n1,2\n", "stdin:1:"),
                 (head + "2\n", "stdin:3:"), (head + "2,\n", "stdin:3:"),
                 (head + "2,abc\n", "stdin:3:"), (head + "2,nan\n", "stdin:3:"),
                 (head + "2,inf\n", "stdin:3:"), (head + "2,1e999\n", "stdin:3:"),
                 (head + "2,0x10\n", "stdin:3:"), (head + "2, 5\n", "stdin:3:"),
                 (head + "2,1,5\n", "stdin:3:"), (head + "yesterday,1\n", "stdin:3:"),
                 (head + "2014-13-01 00:00:00,1\n", "stdin:3:"),
                 (head + "2014-04-01 24:00:00,1\n", "stdin:3:"), (head + ",1\n", "stdin:3:"),
                 (head + "1e300,1\n", "stdin:3:"), (head + "\n2,1\n", "stdin:3:")]
        for text, word in cases:
            with self.subTest(text):
                done = self.refused(text, 3, word)
                self.assertEqual(len(done.stderr.splitlines()), 1)
                self.assertNotIn(b"ns_per_point", done.stderr)

    def test_rows_before_a_bad_one_are_scored(self):
        done = self.refused(series([1, 2, 3]) + "x,y\n" + "9,9\n", 3, "stdin:5:")
        self.assertEqual(done.stdout, b"0\n0\n0\n")

    def test_long_and_binary_lines_are_refused(self):
        self.refused("timestamp,value\n1," + "1" * 5000 + "\n", 3, "stdin:2:", "too long")
        self.refused("timestamp,value\n" + "1" * 3000000, 3, "stdin:2:", "too long")
        self.refused("x" * 3000000, 3, "stdin:1:", "too long")
        self.refused(b"timestamp,value\n1,2\x003\n", 3, "stdin:2:", "NUL")
        self.refused(bytes(range(256)) * 300, 3, "stdin:1:")
        self.refused(b"timestamp,value\n\xff\xfe\x1b[2J,1\n", 3, "stdin:2:")

    def test_a_long_line_is_taken_up_to_the_limit(self):
        for length, fine in ((4096, True), (4097, False)):
            row = "1," + "0" * (length - 3) + "5"
            done = score("timestamp,value\n" + row + "\n")
            self.assertEqual(done.returncode, 0 if fine else 3, length)

    def test_usage(self):
        for options in (["--detector", "none"], ["--detector"], ["--nonsense"], ["file.csv"]):
            with self.subTest(options):
                self.assertEqual(score("", *options).returncode, 2)
        self.assertIn(b"'ewma'", score("", "--detector", "emwa").stderr)
        listed = score("", "--list")
        self.assertEqual(listed.returncode, 0)
        self.assertRegex(listed.stdout.decode(), r"^ewma .*\(default\)\nzscore ")
        self.assertIn(b"--detector", score("", "--help").stdout)

    def test_a_full_disk_is_no_success(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([HALTERE, "score"], input=series(noise(10)).encode(),
                                  stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 3)

    def test_a_hundred_thousand_rows_take_well_under_a_second(self):
        text = series(noise(100000))
        begin = time.monotonic()
        self.assertEqual(len(self.scores(text)), 100000)
        limit = 1.0 if not os.environ.get("HALTERE_ASAN") else 20.0
        self.assertLess(time.monotonic() - begin, limit)


class Nab(unittest.TestCase):
    """A slice of the NAB data: no scorer, only that alerts fall where they should."""

    def setUp(self):
        if not os.path.isdir(os.path.join(NAB, "data")):
            self.skipTest("no NAB data: set HALTERE_NAB to a directory with data/")

    def test_every_row_is_scored_and_alerts_are_few(self):
        for name in NAB_SLICE:
            with self.subTest(name), open(os.path.join(NAB, "data", name), newline="") as handle:
                text = handle.read()
                rows = len(list(csv.reader(text.splitlines()))) - 1
                done = score(text)
                self.assertEqual(done.returncode, 0, done.stderr)
                scores = [float(line) for line in done.stdout.split()]
                self.assertEqual(len(scores), rows)
                alerts = sum(s >= 0.5 for s in scores[1000:])
                self.assertLessEqual(alerts, 10, "alerts in %d rows" % rows)

    def test_half_a_file_scores_the_same(self):
        with open(os.path.join(NAB, "data", NAB_SLICE[2]), newline="") as handle:
            lines = handle.read().splitlines(True)
        half = len(lines) // 2
        self.assertEqual(score("".join(lines[:half])).stdout.splitlines(),
                         score("".join(lines)).stdout.splitlines()[:half - 1])

    def test_the_scorer_is_satisfied(self):
        runner = os.path.join(NAB, "run_nab.py")
        if not os.path.exists(runner):
            self.skipTest("no run_nab.py beside the NAB data")
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run(
                [sys.executable, runner, "--detector", "%s score" % HALTERE, "--data",
                 os.path.join(NAB, "data"), "--out", out], capture_output=True, text=True,
                timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        standard = [line.split() for line in done.stdout.splitlines() if
                    line.startswith("standard")]
        self.assertGreater(float(standard[0][1]), 45, done.stdout)


if __name__ == "__main__":
    unittest.main()
