"""haltere store: check judges by exit code, stat tells numbers, backup copies; none of them writes."""
import contextlib
import ctypes
import ctypes.util
import fcntl
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HALTERE = os.environ.get("HALTERE", os.path.join(SOURCE, "build", "haltere"))

LMDB = ctypes.CDLL(ctypes.util.find_library("lmdb") or "liblmdb.so.0")
XXHASH = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
XXHASH.XXH3_64bits.restype = ctypes.c_uint64
XXHASH.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
MDB_CREATE = 0x40000
MDB_RDONLY = 0x20000
DATABASES = ["meta", "devices", "metrics", "alerts", "identities", "counters"]


class Value(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p)]


def value_of(data):
    buffer = ctypes.create_string_buffer(data, len(data))
    return Value(len(data), ctypes.cast(buffer, ctypes.c_void_p)), buffer


def must(rc):
    if rc != 0:
        raise RuntimeError("LMDB says %d" % rc)


def blob(data):
    """A record as shared/record.h has it: layout 1.0, length, checksum, bytes."""
    checksum = XXHASH.XXH3_64bits(data, len(data)) & 0xFFFFFFFF
    return struct.pack("<HHI", 0x0100, 8 + len(data), checksum) + data


@contextlib.contextmanager
def environment(path, flags=0):
    env = ctypes.c_void_p()
    must(LMDB.mdb_env_create(ctypes.byref(env)))
    must(LMDB.mdb_env_set_maxdbs(env, 16))
    must(LMDB.mdb_env_set_mapsize(env, ctypes.c_size_t(64 << 20)))
    must(LMDB.mdb_env_open(env, path.encode(), flags, 0o660))
    try:
        yield env
    finally:
        LMDB.mdb_env_close(env)


def write_records(path, records, databases=DATABASES):
    """Put {(database, key): value} the way the broker would."""
    with environment(path) as env:
        txn = ctypes.c_void_p()
        must(LMDB.mdb_txn_begin(env, None, 0, ctypes.byref(txn)))
        handles = {}
        for name in databases:
            dbi = ctypes.c_uint()
            must(LMDB.mdb_dbi_open(txn, name.encode(), MDB_CREATE, ctypes.byref(dbi)))
            handles[name] = dbi
        for (database, key), data in records.items():
            key_value, _keep_key = value_of(key)
            data_value, _keep_data = value_of(data)
            must(LMDB.mdb_put(txn, handles[database], ctypes.byref(key_value),
                              ctypes.byref(data_value), 0))
        must(LMDB.mdb_txn_commit(txn))


def number(value):
    return blob(struct.pack("<Q", value))


META = {
    ("meta", b"schema"): number(1), ("meta", b"boot"): number(3),
    ("meta", b"created"): number(1700000000000), ("meta", b"flushed"): number(1700000005000),
    ("meta", b"uuid"): blob(b"01234567-89ab-4def-8123-456789abcdef"), ("meta", b"clean"): blob(b"1"),
}


def haltere(*arguments):
    return subprocess.run([HALTERE, "store", *arguments], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)


class Store(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.db = self.path("db")

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def make(self, devices=500, extra=None):
        os.mkdir(self.db)
        records = dict(META)
        for i in range(devices):
            records["devices", b"device-%06d" % i] = blob(b"state of device %d" % i)
        records.update(extra or {})
        write_records(self.db, records)

    def overwrite(self, change):
        with open(os.path.join(self.db, "data.mdb"), "r+b") as file:
            data = bytearray(file.read())
            change(data)
            file.seek(0)
            file.write(data)
            file.truncate(len(data))

    def check(self, *arguments):
        return haltere("check", "--db", self.db, *arguments)

    # --- check ---

    def test_a_sound_store_is_called_sound(self):
        self.make()
        done = self.check()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("sound, 506 records", done.stdout)
        told = json.loads(self.check("--json").stdout)
        self.assertEqual(told, {"path": self.db, "sound": True, "structure": True, "records": 506,
                                "damaged": 0})

    def test_garbage_over_the_pages_is_damage_and_not_a_crash(self):
        for seed in range(1, 12):
            self.make(2000)

            def garbage(data, seed=seed):
                state = seed
                for at in range(2 * 4096, len(data)):
                    state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                    data[at] = state >> 16 & 0xFF
            self.overwrite(garbage)
            done = self.check("--json")
            self.assertEqual(done.returncode, 1, (seed, done.stderr))
            told = json.loads(done.stdout)
            self.assertFalse(told["sound"])
            self.assertFalse(told["structure"])
            self.assertTrue(told["reason"])
            self.assertEqual(self.check("--structure").returncode, 1)
            shutil.rmtree(self.db)

    def test_a_file_cut_short_is_damaged(self):
        self.make(5000)

        def cut(data):
            del data[len(data) // 2:]
        self.overwrite(cut)
        done = self.check()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("damaged", done.stdout)
        self.assertIn("moves it aside", done.stdout)

    def test_no_store_at_all_inside_the_file_is_damaged(self):
        os.mkdir(self.db)
        for name in ("data.mdb", "lock.mdb"):
            with open(os.path.join(self.db, name), "wb") as file:
                file.write(b"\0" * 16384 if name == "data.mdb" else b"")
        self.assertEqual(self.check().returncode, 1)

    def test_a_damaged_record_is_counted_and_the_structure_is_sound(self):
        bad = bytearray(blob(b"state"))
        bad[-1] ^= 1
        self.make(extra={("devices", b"bad"): bytes(bad), ("alerts", b"short"): b"x"})
        done = self.check()
        self.assertEqual(done.returncode, 1)
        self.assertIn("2 of 508 records are damaged", done.stdout)
        done = self.check("--structure", "--json")
        self.assertEqual(done.returncode, 0)
        told = json.loads(done.stdout)
        self.assertEqual((told["sound"], told["damaged"]), (True, 2))

    def test_a_free_list_that_gives_away_used_pages_is_damaged(self):
        # a page number beyond the file's end, in LMDB's own database of free pages
        self.make(2000)
        write_records(self.db, {("devices", b"device-000001"): blob(b"again")})

        def free_wrongly(data):
            # a page's header: number u64, pad u16, flags u16 (leaf 0x02); the free list's records:
            # transaction id as key, count and page numbers as value
            roots = [struct.unpack_from("<Q", data, 4096 * meta + 16 + 24 + 40)[0] for meta in (0, 1)]
            for root in roots:
                if root == 0xFFFFFFFFFFFFFFFF:
                    continue
                page = int(root) * 4096
                node = struct.unpack_from("<H", data, page + 16)[0]
                key_len = struct.unpack_from("<H", data, page + node + 6)[0]
                struct.pack_into("<Q", data, page + node + 8 + key_len + 8, 1 << 40)
        self.overwrite(free_wrongly)
        done = self.check("--structure")
        self.assertEqual(done.returncode, 1, done.stdout)

    def test_no_store_or_an_unreadable_one_is_told_and_not_judged(self):
        done = self.check()
        self.assertEqual(done.returncode, 3)
        self.assertIn(self.db, done.stderr)
        self.assertFalse(os.path.exists(self.db))
        self.make()
        os.rename(os.path.join(self.db, "data.mdb"), self.path("elsewhere"))
        os.mkdir(os.path.join(self.db, "data.mdb"))
        self.assertEqual(self.check().returncode, 3)
        self.assertEqual(haltere("check", "--db").returncode, 2)
        self.assertEqual(haltere("check", "--dp", self.db).returncode, 2)

    def test_one_of_a_newer_schema_is_not_judged(self):
        self.make(extra={("meta", b"schema"): number(2)})
        done = self.check()
        self.assertEqual(done.returncode, 3)
        self.assertIn("newer Haltere", done.stderr)

    # --- stat ---

    def test_stat_tells_what_is_in_the_store(self):
        self.make(1000)
        told = json.loads(haltere("stat", "--db", self.db, "--json").stdout)
        self.assertEqual(told["uuid"], "01234567-89ab-4def-8123-456789abcdef")
        self.assertEqual((told["schema"], told["boot"], told["clean"]), (1, 3, True))
        self.assertEqual(told["created"], "2023-11-14T22:13:20.000Z")
        self.assertEqual(told["flushed"], "2023-11-14T22:13:25.000Z")
        self.assertEqual(told["databases"]["devices"]["records"], 1000)
        self.assertEqual(told["databases"]["meta"]["records"], 6)
        self.assertEqual(told["databases"]["alerts"], {"records": 0, "bytes": 0})
        self.assertEqual(told["fileBytes"], os.path.getsize(os.path.join(self.db, "data.mdb")))
        self.assertNotIn("brokerPid", told)
        self.assertEqual(told["readers"], {"open": 0, "max": told["readers"]["max"]})
        text = haltere("stat", "--db", self.db)
        self.assertEqual(text.returncode, 0)
        self.assertRegex(text.stdout, r"(?m)^devices +1000 +\d")
        self.assertIn("its last stop was clean", text.stdout)

    def test_stat_names_the_broker_that_holds_the_store(self):
        self.make()
        with open(os.path.join(self.db, "owner"), "w", encoding="ascii") as owner:
            owner.write("4242\n")
            owner.flush()
            # F_OFD_SETLK with struct flock {F_WRLCK, SEEK_SET, 0, 0, 0}
            fcntl.fcntl(owner, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
            told = json.loads(haltere("stat", "--db", self.db, "--json").stdout)
            self.assertEqual(told["brokerPid"], 4242)
        told = json.loads(haltere("stat", "--db", self.db, "--json").stdout)
        self.assertNotIn("brokerPid", told)

    def test_stat_names_the_oldest_reader(self):
        self.make()
        ready, tell = os.pipe()
        reader = os.fork()
        if reader == 0:  # holds a snapshot until it is killed
            with environment(self.db, MDB_RDONLY) as env:
                txn = ctypes.c_void_p()
                must(LMDB.mdb_txn_begin(env, None, MDB_RDONLY, ctypes.byref(txn)))
                os.write(tell, b"r")
                signal.pause()
        try:
            os.read(ready, 1)
            for _ in range(3):
                write_records(self.db, {("devices", b"one"): blob(b"more")})
            told = json.loads(haltere("stat", "--db", self.db, "--json").stdout)["readers"]
            self.assertEqual((told["open"], told["oldestPid"], told["oldestLag"]), (1, reader, 3))
        finally:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
            os.close(ready)
            os.close(tell)

    # --- backup ---

    def test_a_backup_is_a_sound_copy(self):
        self.make(3000)
        to = self.path("copy")
        os.mkdir(to)
        done = haltere("backup", "--db", self.db, to)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(os.listdir(to), ["data.mdb"])
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(to, "data.mdb")).st_mode) & 0o137, 0)
        done = haltere("check", "--db", to, "--json")
        self.assertEqual(json.loads(done.stdout)["records"], 3006)
        self.assertEqual(os.listdir(to), ["data.mdb"], "the check left something")
        ours, theirs = (json.loads(haltere("stat", "--db", path, "--json").stdout)
                        for path in (self.db, to))
        self.assertEqual(ours["uuid"], theirs["uuid"])
        self.assertLessEqual(theirs["fileBytes"], ours["fileBytes"])

    def test_a_backup_goes_only_into_an_empty_directory(self):
        self.make()
        to = self.path("copy")
        self.assertEqual(haltere("backup", "--db", self.db, to).returncode, 2)
        self.assertFalse(os.path.exists(to))
        os.mkdir(to)
        with open(os.path.join(to, "data.mdb"), "w", encoding="ascii") as file:
            file.write("precious")
        done = haltere("backup", "--db", self.db, to)
        self.assertEqual(done.returncode, 2)
        self.assertIn("not empty", done.stderr)
        with open(os.path.join(to, "data.mdb"), encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")
        self.assertEqual(haltere("backup", "--db", self.db).returncode, 2)
        self.assertEqual(haltere("backup", "--db", self.path("none"), to).returncode, 3)

    def test_reading_changes_no_byte_of_the_store(self):
        self.make()
        names = sorted(os.listdir(self.db))
        with open(os.path.join(self.db, "data.mdb"), "rb") as file:
            before = file.read()
        os.mkdir(self.path("copy"))
        for arguments in (["check"], ["stat"], ["backup", self.path("copy")]):
            self.assertEqual(haltere(*arguments, "--db", self.db).returncode, 0)
        with open(os.path.join(self.db, "data.mdb"), "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertEqual(sorted(os.listdir(self.db)), names)


if __name__ == "__main__":
    unittest.main()
