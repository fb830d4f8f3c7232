#!/usr/bin/python3
"""broker.py - what Haltere costs inside a real Mosquitto, and how fast it speaks.

Everything is measured in pairs within one run: a round on the one broker, the same round on the other, over and over,
and the ratio of each pair. Times of a shared machine are worth little, such ratios a good deal: their median is judged,
their range is shown. CPU is the broker's own, from the scheduler, all threads, while messages flow (not logins). It is
compared at the same rate of messages, sent in step with the clock: in a closed loop the slower broker finds the
receiver asleep more often, and waking it costs more than all Haltere does. Closed loops are shown as such.

    tests/bench/broker.py [--quick] [--json] [--pairs N] [--only NAME[,NAME]]

Uses build/ (HALTERE_PLUGIN, HALTERE, MOSQUITTO name others; the load generator is bench/load beside the module).
Exit code 0: every budget is met; 1: one is not.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "broker"))
import harness  # noqa: E402

LOAD = os.environ.get("HALTERE_LOAD") or str(pathlib.Path(harness.PLUGIN).parent / "bench" / "load")
TOKEN_BENCH = pathlib.Path(LOAD).parent / "token"
PROCESSORS = sorted(os.sched_getaffinity(0))
# Of a login: a token nobody has seen, one shown before, one with another signature.
KINDS = ("EdDSA", "RS256", "ES256", "ES256 again", "EdDSA forged", "RS256 forged", "ES256 forged")
DEVICES = [f"dev-{n}" for n in range(10)]
RECORDER, ADMIN, PAGER = "recorder", "admin", "pager"
# Rules of the built-in acl_file for each user, messages of a round, and how many a second it can do.
RULES = ((1000, 10000, 10000), (10000, 5000, 2500))
ROUND_LIMIT_S = 60


class Quiet(harness.Broker):
    """The harness's broker with nothing logged for a message; `auth`: lines in place of the plugin."""

    def __init__(self, directory, auth=None, **args):
        self.auth = auth
        super().__init__(directory, plugin=auth is None, **args)

    def config_text(self):
        text = super().config_text().replace("log_type all", "log_type error\nlog_type warning")
        # A queue nobody fills: 2.0.11 loses QoS 1 messages with ten publishers as it is.
        text += "max_queued_messages 100000\n"
        if self.auth is not None:
            text = text.replace("allow_anonymous false", self.auth)
        return text


def credentials(path, clients):
    path.write_text("".join(f"{name} {password}\n" for name, password in clients))
    path.chmod(0o600)
    return str(path)


def load(broker, file, *args, cpu=None):
    """One run of the load generator; `cpu`: where (pin())."""
    done = subprocess.run([LOAD, "--port", str(broker.port), "--credentials", file, "--pid",
                           str(broker.process.pid), *map(str, args)],
                          capture_output=True, text=True, check=False, timeout=4 * ROUND_LIMIT_S,
                          preexec_fn=None if cpu is None else lambda: pin(cpu))
    if done.returncode != 0:
        raise AssertionError(f"load {' '.join(map(str, args))}: {done.stderr}\n{broker.log_tail()}")
    return json.loads(done.stdout)


def at(rate):
    """So many messages a second; the window is there only to end a run that cannot hold it."""
    return ["--rate", rate, "--window", 20000]


class Bench:
    def __init__(self, directory, pairs, quick, progress):
        self.dir, self.pairs, self.quick, self.progress = directory, pairs, quick, progress
        self.key = harness.Key(directory, "ES256")
        self.rows, self.brokers = [], []
        self.version = harness.broker_version()

    # --- brokers and who logs in

    def start(self, name, **args):
        broker = Quiet(self.dir / name, **{"keys": [self.key], **args}).start()
        self.brokers.append(broker)
        return broker

    def stop(self):
        problems = []
        for broker in self.brokers:
            try:
                broker.stop()
            except AssertionError as problem:
                problems.append(str(problem))
        if problems:
            raise AssertionError("\n".join(problems))

    def bare(self, name="bare"):
        return self.start(name, auth="allow_anonymous true"), self.file(name, lambda _: "")

    def haltere(self, name="haltere", policy=None):
        text = policy or (harness.ROOT / "acl/policies/haltere.acl").read_text()
        return self.start(name, policy=text), self.file(name, self.token)

    def token(self, name):
        roles = {RECORDER: ["analytics"], ADMIN: ["administrator"], PAGER: ["analytics", "alert-subscriber"]}
        return self.key.token(name, ttl=7200, roles=roles.get(name, []))

    def file(self, name, password, clients=None):
        clients = clients or [RECORDER, *DEVICES]
        return credentials(self.dir / f"{name}.clients", [(one, password(one)) for one in clients])

    # --- results

    def row(self, what, budget, ratios, met, detail, **more):
        self.rows.append({"what": what, "budget": budget, "ratio": statistics.median(ratios),
                          "low": min(ratios), "high": max(ratios),
                          "verdict": "info" if met is None else "met" if met else "MISSED",
                          "detail": detail, **more})
        if self.progress:
            print(show(self.rows[-1]), flush=True)

    def paired(self, ones, others, *args):
        """Alternate rounds on two (broker, credentials); lists of results."""
        results = ([], [])
        for pair in range(self.pairs):
            order = (0, 1) if pair % 2 == 0 else (1, 0)  # neither always comes first
            for which in order:
                results[which].append(load(*(ones, others)[which], *args))
        return results

    def compare(self, what, ones, others, count, args, floor=None):
        """CPU of `ones` over CPU of `others`; `floor` is the least ratio allowed."""
        count = count // 2 if self.quick else count
        first, second = self.paired(ones, others, "--count", count, "--seconds", ROUND_LIMIT_S, *args)
        ratios = [a["cpuUs"] / b["cpuUs"] for a, b in zip(first, second)]
        main = [a["mainCpuUs"] / b["mainCpuUs"] for a, b in zip(first, second)]
        middle = [statistics.median(r["cpuUs"] for r in side) for side in (first, second)]
        rates = [statistics.median(r["perSecond"] for r in side) for side in (first, second)]
        lost = [sum(r["lost"] for r in side) for side in (first, second)]
        met = None if floor is None else statistics.median(ratios) >= floor
        detail = f"{middle[0]:.2f} / {middle[1]:.2f} us, {rates[0]:,.0f} / {rates[1]:,.0f} messages/s"
        if any(lost):
            detail += f", lost {lost[0]} / {lost[1]}"
        self.row(what, "" if floor is None else f">= {floor:.2f}", ratios, met, detail,
                 mainThreadRatio=statistics.median(main), rounds=[first, second])

    # --- what is measured

    def messages(self):
        bare, haltere = self.bare(), self.haltere()
        floor = 0.82 if self.version < (2, 1) else 0.70
        shapes = [("1:1 QoS 0, bare / Haltere", 50000, ["--subs", 1, *at(50000)], floor),
                  ("1:1 QoS 1, bare / Haltere", 25000, ["--subs", 1, "--qos", 1, *at(25000)], None),
                  ("1:0 QoS 0, bare / Haltere", 50000, at(50000), None),
                  ("10:1 QoS 0, bare / Haltere", 50000, ["--subs", 1, "--pubs", 10, *at(50000)], None),
                  ("1:1 QoS 0, closed loop, bare / Haltere", 100000, ["--subs", 1], None)]
        for what, count, args, least in shapes:
            self.compare(what, bare, haltere, count, args, least)
        alerts = json.loads(haltere[0].command("alert", "list", "--db", str(haltere[0].db), "--json"))
        self.check_no_alerts(alerts)

    @staticmethod
    def check_no_alerts(alerts):
        """Readings like these must not alarm: alerts would be measured with them."""
        items = alerts if isinstance(alerts, list) else alerts.get("alerts", [])
        if items:
            raise AssertionError(f"the load raised alerts: {items[:3]}")

    def rules(self):
        """The broker's own acl_file, and Haltere with as many rules."""
        passwords = self.dir / "passwords"
        self.password_file(passwords, [RECORDER, *DEVICES])
        bare = self.bare("bare-rules")
        for count, messages, rate in RULES:
            text = ""
            for user in [RECORDER, *DEVICES]:
                text += f"user {user}\n"
                text += "".join(f"topic readwrite devices/gate-{n:05}/telemetry\n" for n in range(count - 1))
                text += "topic read devices/+/telemetry\n" if user == RECORDER else \
                    f"topic write devices/{user}/telemetry\n"
            acl = self.dir / f"builtin-{count}.acl"
            acl.write_text(text)
            builtin = self.start(f"builtin-{count}",
                                 auth=f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}")
            ones = builtin, self.file(f"builtin-{count}", lambda name: f"pw-{name}")
            policy = (harness.ROOT / "acl/policies/haltere.acl").read_text()
            policy += "anyone\n" + "".join(f"  allow readwrite devices/gate-{n:05}/telemetry\n"
                                           for n in range(count - 1))
            ours = self.haltere(f"rules-{count}", policy=policy)
            for shape, args, floor in (("closed loop, ", [], 5.0), ("", at(rate), None)):
                self.compare(f"1:1 QoS 0, {count} rules, {shape}acl_file / Haltere", ones, ours, messages,
                             ["--subs", 1, *args], floor)
                # Waking up alone may cost the broker a third of what 1,000 rules do: nobody can be cheaper.
                self.compare(f"the same, {shape}acl_file / no access control", ones, bare, messages,
                             ["--subs", 1, *args])

    @staticmethod
    def password_file(path, names):
        path.write_text("".join(f"{name}:pw-{name}\n" for name in names))
        path.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True, capture_output=True)

    def alerts(self):
        policy = (harness.ROOT / "acl/policies/haltere.acl").read_text()
        broker = self.start("alerts", policy=policy)
        file = self.file("alerts", self.token, [PAGER, ADMIN])
        count = 300 if self.quick else 1000
        for qos in (0, 1):
            rounds = [load(broker, file, "--alerts", count, "--pause-us", 300, "--qos", qos)
                      for _ in range(self.pairs)]
            ratios = [r["p99Us"] / r["hopP99Us"] for r in rounds]
            middle = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
            detail = (f"p50 {middle['p50Us']:.0f} / {middle['hopP50Us']:.0f} us, "
                      f"p99 {middle['p99Us']:.0f} / {middle['hopP99Us']:.0f} us")
            self.row(f"publish to alert / plain hop, p99, QoS {qos}", "<= 2.00", ratios,
                     statistics.median(ratios) <= 2.0, detail, rounds=[rounds])

    # --- logins

    def logins(self):
        """Everybody once a round, one round after the other, --window 20: what a login costs the broker."""
        count = 300 if self.quick else 1000
        names = [f"login-{n}" for n in range(count)]
        keys = {"ES256": self.key, **{alg: harness.Key(self.dir, alg) for alg in ("EdDSA", "RS256")}}
        passwords = self.dir / "login-passwords"
        self.password_file(passwords, names)
        policy = (harness.ROOT / "acl/policies/haltere.acl").read_text()
        haltere = self.start("logins", policy=policy, keys=list(keys.values()))
        stock = self.start("stock", auth=f"allow_anonymous false\npassword_file {passwords}")
        open_to_all = self.start("open", auth="allow_anonymous true")
        brokers = {"no login": open_to_all, "password_file": stock}
        files = {"no login": self.file("open", lambda _: "", names),
                 "password_file": self.file("stock", lambda name: f"pw-{name}", names)}
        for broker in self.brokers:
            self.pin(broker)
        rounds = {kind: [] for kind in [*files, *KINDS]}
        raw = []
        for _ in range(self.pairs):
            for alg, key in keys.items():  # new tokens: none is known yet
                files[alg] = self.issue(alg, key, names)
                files[f"{alg} forged"] = self.forge(files[alg])
            files["ES256 again"] = files["ES256"]
            for kind, some in rounds.items():
                refused = ["--refused"] if kind.endswith("forged") else []
                some.append(load(brokers.get(kind, haltere), files[kind], "--logins", count, "--window", 20,
                                 *refused, cpu=1))
            raw.append(float(self.token_bench("--raw", "ES256")))
        self.show_logins(rounds, raw)

    @staticmethod
    def token_bench(*args, lines=""):
        """bench/token on the processor that the brokers have."""
        return subprocess.run([TOKEN_BENCH, *map(str, args)], input=lines, capture_output=True, text=True,
                              check=True, timeout=ROUND_LIMIT_S, preexec_fn=lambda: pin(0)).stdout

    def issue(self, alg, key, names):
        path = self.dir / f"{alg}.clients"
        path.write_text(self.token_bench("--issue", alg, key.private, harness.ISSUER, harness.AUDIENCE,
                                         lines="".join(f"{name}\n" for name in names)))
        return str(path)

    def forge(self, file):
        """The same tokens, each with another signature."""
        path = pathlib.Path(file + ".forged")
        lines = [line.rsplit(".", 1) for line in pathlib.Path(file).read_text().splitlines()]
        path.write_text("".join(f"{signed}.{'A' if sign[0] != 'A' else 'B'}{sign[1:]}\n" for signed, sign in lines))
        return str(path)

    def show_logins(self, rounds, raw):
        cpu = {kind: [one["cpuUs"] for one in some] for kind, some in rounds.items()}

        def compare(what, budget, ones, others, least=None, rates=None):
            ratios = [a / b for a, b in zip(ones, others)]
            detail = f"{statistics.median(ones):.0f} / {statistics.median(others):.0f} us"
            if rates:
                rate = [statistics.median(one["perSecond"] for one in rounds[kind]) for kind in rates]
                detail += f", {rate[0]:,.0f} / {rate[1]:,.0f} logins/s"
            met = None if least is None else statistics.median(ratios) >= least
            self.row(what, budget, ratios, met, detail, rounds=[rounds[kind] for kind in rates or []])

        stock = "password_file"
        for kind, least in (("no login", None), ("ES256", 1.0), ("EdDSA", None), ("RS256", None),
                            ("ES256 again", 2.0)):
            compare(f"login CPU, {stock} / {kind}", f">= {least:.2f}" if least else "", cpu[stock], cpu[kind],
                    least, (stock, kind))
        # What no plugin can do better: the broker's own work for a connection, and OpenSSL's for a signature.
        floor = [bare + verify for bare, verify in zip(cpu["no login"], raw)]
        compare(f"the same, {stock} / (no login + bare ES256 verify)", "", cpu[stock], floor)
        compare("login CPU, (no login + bare ES256 verify) / ES256", "", floor, cpu["ES256"])
        for alg in ("ES256", "EdDSA", "RS256"):
            compare(f"login CPU, {alg} accepted / forged", ">= 1.00", cpu[alg], cpu[f"{alg} forged"], 1.0,
                    (alg, f"{alg} forged"))

    @staticmethod
    def pin(broker):
        for task in os.listdir(f"/proc/{broker.process.pid}/task"):
            pin(0, int(task))


def pin(which, task=0):
    """Give a thread the first processor we may use, or the last one. Brokers and load must not share one: the
    cheaper a login, the oftener the scheduler lets them (seen: password_file with fewer logins a second than
    ES256, at two thirds of its CPU)."""
    os.sched_setaffinity(task, {PROCESSORS[-which]})


def show(row):
    return (f"{row['what']:<54} {row['budget']:>8} {row['ratio']:>6.2f} ({row['low']:.2f} to {row['high']:.2f})"
            f"  {row['verdict']:<7} {row['detail']}")


def refuse_unfit():
    """A build that measures something else."""
    for file in (harness.PLUGIN, harness.COMMAND, LOAD):
        if not pathlib.Path(file).is_file():
            sys.exit(f"broker.py: {file} is not there; build it first (cmake --preset release)")
    if harness.ASAN or b"__asan_" in pathlib.Path(harness.PLUGIN).read_bytes():
        sys.exit(f"broker.py: {harness.PLUGIN} is an AddressSanitizer build; measure a release build")
    cache = pathlib.Path(harness.PLUGIN).parent / "CMakeCache.txt"
    if cache.is_file() and "CMAKE_BUILD_TYPE:STRING=Debug" in cache.read_text():
        sys.exit(f"broker.py: {harness.PLUGIN} is a debug build; measure a release build")


def main():
    parser = argparse.ArgumentParser(description="What Haltere costs inside a real Mosquitto.")
    parser.add_argument("--quick", action="store_true", help="short rounds: a look, not a figure")
    parser.add_argument("--json", action="store_true", help="every round as JSON instead of a table")
    parser.add_argument("--pairs", type=int, default=0, help="rounds on each broker (default 9, quick 5)")
    parser.add_argument("--only", default="messages,rules,alerts,logins", help="which parts, by comma")
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(parts) <= {"messages", "rules", "alerts", "logins"} or options.pairs < 0:
        parser.error("--only takes messages, rules, alerts, logins")
    refuse_unfit()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="haltere-bench-"))
    bench = Bench(directory, options.pairs or (5 if options.quick else 9), options.quick, not options.json)
    try:
        for part in parts:
            getattr(bench, part)()
            bench.stop()
            bench.brokers.clear()
    finally:
        for broker in bench.brokers:
            if broker.process is not None:
                broker.process.kill()
                broker.process.wait()
        shutil.rmtree(directory, ignore_errors=True)
    version = ".".join(map(str, bench.version))
    if options.json:
        print(json.dumps({"mosquitto": version, "pairs": bench.pairs, "quick": options.quick,
                          "rows": bench.rows}, indent=1))
    else:
        missed = [row["what"] for row in bench.rows if row["verdict"] == "MISSED"]
        print(f"mosquitto {version}, {bench.pairs} pairs, median (lowest to highest)."
              f" Missed: {'; '.join(missed) or 'nothing'}.")
    return 1 if any(row["verdict"] == "MISSED" for row in bench.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
