"""harness.py - a real Mosquitto with Haltere in it, real clients, and a signer of our own.

One broker per test class or test, each in its own directory on its own free port of 127.0.0.1, so that files and
tests may run side by side. Nothing sleeps to synchronise: everything waits for something to be seen.

    HALTERE_PLUGIN  the module        (else build/mosquitto_haltere.so)
    HALTERE         the command       (else build/haltere)
    MOSQUITTO       the broker        (else /usr/sbin/mosquitto)
    MOSQUITTO_2_1   a broker of 2.1   for what is asked of both versions; without it that is skipped
    HALTERE_ASAN    libasan.so to preload into the broker; empty: none
    HALTERE_KEEP    keep every directory, also after success

    class MyTest(harness.BrokerTest):
        def test_something(self):
            broker = self.start(policy="haltere 1\\nanyone\\n  allow all t/#\\n")
            device = broker.client("d1").connect()
            device.subscribe("t/#")
            device.publish("t/1", "hello")
            self.assertEqual(device.next("t/1").payload, b"hello")
"""
import base64
import hashlib
import hmac
import json
import os
import pathlib
import pwd
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLUGIN = os.environ.get("HALTERE_PLUGIN") or str(ROOT / "build" / "mosquitto_haltere.so")
COMMAND = os.environ.get("HALTERE") or str(ROOT / "build" / "haltere")
MOSQUITTO = os.environ.get("MOSQUITTO") or "/usr/sbin/mosquitto"
MOSQUITTO_2_1 = os.environ.get("MOSQUITTO_2_1") or ""
ASAN = os.environ.get("HALTERE_ASAN") or ""
WAIT = 15.0 if not ASAN else 40.0  # longest time anything may take to be seen
SOON = 1.6 if not ASAN else 6.0  # "within a second", seen by a client on a busy machine

ISSUER = "https://issuer.test"
AUDIENCE = "mqtt"

# What a device may do in most tests: its own tree, and what it is told.
POLICY = """haltere 1
anyone
  allow write devices/%d/telemetry
  allow write devices/%d/status
  allow write devices/%d/will
  allow read devices/%d/commands
  allow read devices/%d/event
role operator
  allow readwrite devices/#
  allow read alerts/#
  allow read system/#
  allow read $SYS/#
  allow readwrite t/#
"""


def wait_until(predicate, what="it", timeout=WAIT):
    """Poll until predicate() is true; returns what it returned."""
    end = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.01)


def broker_version(mosquitto=MOSQUITTO):
    """(2, 0, 11) of the broker under test."""
    out = subprocess.run([mosquitto, "-h"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", out)
    return tuple(int(n) for n in found.groups())


# --- tokens ------------------------------------------------------------------------------------


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, capture_output=True, check=True).stdout


class Key:
    """A signing key independent of our own command: HS256 in Python, the rest by openssl."""

    def __init__(self, directory, alg, name=None, kid=None):
        self.alg, self.kid = alg, kid
        self.name = name or alg.lower()
        if alg == "HS256":
            self.secret = base64.b64encode(os.urandom(32))  # a raw secret's last newline is cut off
            self.public = directory / f"{self.name}.secret"
            self.public.write_bytes(self.secret)
            self.public.chmod(0o600)
            return
        self.private = directory / f"{self.name}.key.pem"
        self.public = directory / f"{self.name}.pub.pem"
        how = {
            "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "ES384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            "RS256": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            "EdDSA": ["-algorithm", "ED25519"],
        }[alg]
        openssl("genpkey", *how, "-out", str(self.private))
        openssl("pkey", "-in", str(self.private), "-pubout", "-out", str(self.public))

    def option(self):
        """The value of plugin_opt_keys_file."""
        words = [f"alg={self.alg}"] if self.alg != "HS256" else []
        if self.kid:
            words.append(f"kid={self.kid}")
        return " ".join(words + [str(self.public)])

    def sign(self, data):
        if self.alg == "HS256":
            return hmac.new(self.secret, data, hashlib.sha256).digest()
        with tempfile.NamedTemporaryFile(dir=self.private.parent) as file:
            file.write(data)
            file.flush()
            if self.alg == "EdDSA":
                return openssl("pkeyutl", "-sign", "-rawin", "-inkey", str(self.private), "-in",
                               file.name)
            bits = "384" if self.alg == "ES384" else "256"
            signature = openssl("dgst", "-sha" + bits, "-sign", str(self.private), file.name)
        return signature if self.alg == "RS256" else raw_ecdsa(signature, int(bits) // 8)

    def token(self, sub, header=None, ttl=600, drop=(), **claims):
        """A token for `sub`. `header` and claims override; claims named in `drop` are left out."""
        now = int(time.time())
        payload = {"sub": sub, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + ttl}
        payload.update(claims)
        for name in drop:
            payload.pop(name, None)
        head = {"alg": self.alg, "typ": "JWT"}
        if self.kid:
            head["kid"] = self.kid
        head.update(header or {})
        return self.compact(json.dumps(head).encode(), json.dumps(payload).encode())

    def compact(self, header, payload):
        """Sign these very bytes."""
        signed = b64(header) + "." + b64(payload)
        return signed + "." + b64(self.sign(signed.encode()))


def raw_ecdsa(der, size):
    """DER SEQUENCE of two INTEGERs to r || s (RFC 7518, 3.4)."""
    at = 2 if der[1] < 0x80 else 3
    out = b""
    for _ in range(2):
        length = der[at + 1]
        out += der[at + 2:at + 2 + length].lstrip(b"\0").rjust(size, b"\0")
        at += 2 + length
    return out


class Authority:
    """Certificates for TLS, made by openssl: a CA and who it vouches for."""

    def __init__(self, directory):
        self.dir = directory
        self.ca = directory / "ca.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=test CA", "-days", "2", "-keyout", str(directory / "ca.key"),
                "-out", str(self.ca))

    def issue(self, name):
        """(certificate, key) for a client or, with the address in it, the broker."""
        key, request, cert, extra = (self.dir / (name + end) for end in
                                     (".key", ".csr", ".pem", ".ext"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                f"/CN={name}", "-keyout", str(key), "-out", str(request))
        extra.write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey",
                str(self.dir / "ca.key"), "-CAcreateserial", "-days", "2", "-extfile", str(extra),
                "-out", str(cert))
        return cert, key

    @staticmethod
    def thumbprint(cert):
        """x5t#S256: SHA-256 of the DER."""
        return b64(hashlib.sha256(openssl("x509", "-in", str(cert), "-outform", "DER")).digest())


# --- clients -----------------------------------------------------------------------------------


class Client:
    """paho, one thread, no reconnecting of its own. Messages wait in a queue."""

    def __init__(self, broker, client_id, token=None, user=None, password=None, version=4,
                 clean=True, session_expiry=None, will=None, will_retain=False, keepalive=60,
                 port=None, tls=None):
        self.broker, self.client_id, self.version = broker, client_id, version
        self.port, self.keepalive = port or broker.port, keepalive
        self.messages = queue.Queue()
        self.kept = []  # messages next() looked past
        self.rc = None
        self.session_present = None
        self.disconnected = threading.Event()
        self.disconnect_rc = None
        self._connected = threading.Event()
        self._acks = {}
        self._ack = threading.Condition()
        self._running = False
        extra = {} if version == 5 else {"clean_session": clean}
        self.paho = paho.Client(client_id, protocol=version, **extra)
        if token is not None:
            self.paho.username_pw_set(user if user is not None else client_id, token)
        elif user is not None or password is not None:
            self.paho.username_pw_set(user, password)
        if will:
            self.paho.will_set(will[0], will[1], qos=will[2] if len(will) > 2 else 0,
                               retain=will_retain)
        if tls:  # CA, and the client's own certificate and key
            self.paho.tls_set(*(str(path) for path in tls))
        self._connect_args = {}
        if version == 5:
            properties = Properties(PacketTypes.CONNECT)
            if session_expiry is not None:
                properties.SessionExpiryInterval = session_expiry
            self._connect_args = {"clean_start": clean, "properties": properties}
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = self._on_disconnect
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_publish = lambda _c, _u, mid: self._acked(("publish", mid), None)
        self.paho.on_subscribe = lambda _c, _u, mid, codes, *_: self._acked(("sub", mid), codes)
        self.paho.on_unsubscribe = lambda _c, _u, mid, *codes: self._acked(("unsub", mid), codes)

    def _on_connect(self, _client, _userdata, flags, rc, _properties=None):
        self.session_present = bool(flags["session present"])
        self.rc = getattr(rc, "value", rc)
        self._connected.set()

    def _on_disconnect(self, _client, _userdata, rc, *_):
        self.disconnect_rc = getattr(rc, "value", rc)
        self.disconnected.set()

    def _acked(self, key, value):
        with self._ack:
            self._acks[key] = value
            self._ack.notify_all()

    def _wait_ack(self, key):
        with self._ack:
            if not self._ack.wait_for(lambda: key in self._acks or self.disconnected.is_set(), WAIT):
                raise AssertionError(f"{self.client_id}: no answer to {key}")
            if key not in self._acks:
                raise AssertionError(f"{self.client_id}: disconnected while waiting for {key}")
            return self._acks.pop(key)

    def _loop(self):
        while self._running:
            if self.paho.loop(0.1) != paho.MQTT_ERR_SUCCESS:
                break
        self.disconnected.set()
        with self._ack:
            self._ack.notify_all()

    def connect(self, expect=0):
        """Connect and check the CONNACK code (5 or 135: not authorised)."""
        self.attempt()
        if self.rc != expect:
            raise AssertionError(f"{self.client_id}: CONNACK {self.rc}, not {expect}\n"
                                 + self.broker.log_tail())
        return self

    def attempt(self):
        """Connect; the CONNACK code, or None if the broker just closed."""
        self.rc = None
        self._connected.clear()
        self.disconnected.clear()
        self.paho.connect("127.0.0.1", self.port, self.keepalive, **self._connect_args)
        self._running = True
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        wait_until(lambda: self._connected.is_set() or self.disconnected.is_set(), "CONNACK")
        if self.rc != 0:
            self._end_thread()
        return self.rc

    @property
    def online(self):
        return self._connected.is_set() and not self.disconnected.is_set()

    def publish(self, topic, payload=b"", qos=1, retain=False, properties=None):
        if isinstance(payload, (dict, list)):
            payload = json.dumps(payload)
        info = self.paho.publish(topic, payload, qos, retain, properties)
        if qos > 0:
            self._wait_ack(("publish", info.mid))
        return self

    def subscribe(self, topic, qos=1):
        """Subscribe; a refusal is a failure. The granted QoS."""
        code = self.try_subscribe(topic, qos)
        if code > 2:
            raise AssertionError(f"{self.client_id}: SUBACK {code} for {topic}\n"
                                 + self.broker.log_tail())
        return code

    def try_subscribe(self, topic, qos=1):
        """The granted code: 0 to 2, or 128 (v3.1.1) / 135 (v5) for a refusal."""
        options = {"options": paho.SubscribeOptions(qos=qos)} if self.version == 5 else {"qos": qos}
        _, mid = self.paho.subscribe(topic, **options)
        codes = self._wait_ack(("sub", mid))
        return getattr(codes[0], "value", codes[0])

    def unsubscribe(self, topic):
        _, mid = self.paho.unsubscribe(topic)
        return self._wait_ack(("unsub", mid))

    def next(self, topic=None, where=None, timeout=WAIT):
        """The next message (on `topic`, for which where(message) holds); others wait their turn."""
        def fits(message):
            return (topic is None or paho.topic_matches_sub(topic, message.topic)) and \
                (where is None or where(message))

        for i, message in enumerate(self.kept):
            if fits(message):
                return self.kept.pop(i)
        end = time.monotonic() + timeout
        while True:
            try:
                message = self.messages.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                seen = [f"{m.topic}: {m.payload[:200]}" for m in self.kept]
                raise AssertionError(f"{self.client_id}: nothing on {topic} within {timeout:.0f} s; "
                                     f"seen: {seen}\n{self.broker.log_tail()}") from None
            if fits(message):
                return message
            self.kept.append(message)

    def next_json(self, topic=None, where=None, timeout=WAIT):
        found = self.next(topic, where and (lambda m: m.payload and where(json.loads(m.payload))),
                          timeout)
        return json.loads(found.payload)

    def drain(self):
        """All that is there now."""
        out, self.kept = self.kept, []
        while True:
            try:
                out.append(self.messages.get_nowait())
            except queue.Empty:
                return out

    def nothing_before(self, marker):
        """All messages that came before the one on topic `marker`."""
        last = self.next(marker)
        before = [m for m in self.drain() if m.timestamp <= last.timestamp]
        return before

    def disconnect(self):
        """A clean DISCONNECT."""
        self.paho.disconnect()
        self.disconnected.wait(WAIT)
        self._end_thread()

    def drop(self):
        """Lose the connection without a word: the will is due."""
        self._running = False
        sock = self.paho.socket()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(WAIT)

    def wait_kicked(self, timeout=WAIT):
        wait_until(self.disconnected.is_set, f"{self.client_id} is disconnected", timeout)
        self._end_thread()

    def _end_thread(self):
        self._running = False
        if getattr(self, "_thread", None) is not None:
            self._thread.join(WAIT)

    def close(self):
        self._end_thread()
        sock = self.paho.socket()
        if sock is not None:
            sock.close()


class Wire:
    """A client that speaks packets: for codes paho hides, AUTH, and what a good client never sends."""

    CONNACK, PUBLISH, PUBACK, PUBREC, PUBCOMP = 2, 3, 4, 5, 7
    SUBACK, UNSUBACK, PINGRESP, DISCONNECT, AUTH = 9, 11, 13, 14, 15

    def __init__(self, port, version=5):
        self.version = version
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self.mid = 0

    @staticmethod
    def text(value):
        data = value.encode() if isinstance(value, str) else value
        return struct.pack("!H", len(data)) + data

    @staticmethod
    def varint(value):
        out = b""
        while True:
            value, digit = value >> 7, value & 0x7F
            out += bytes([digit | (0x80 if value else 0)])
            if not value:
                return out

    def send(self, kind, body=b"", flags=0):
        self.sock.sendall(bytes([kind << 4 | flags]) + self.varint(len(body)) + body)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                return None
            data += more
        return data

    def read(self):
        """(kind, flags, body), or None when the broker closed."""
        try:
            head = self._exactly(1)
            if head is None:
                return None
            length = shift = 0
            while True:
                digit = self._exactly(1)
                if digit is None:
                    return None
                length |= (digit[0] & 0x7F) << shift
                shift += 7
                if not digit[0] & 0x80:
                    break
            body = self._exactly(length) if length else b""
            return None if body is None else (head[0] >> 4, head[0] & 15, body)
        except ConnectionError:
            return None

    def read_kind(self, kind):
        """The body of the next packet of this kind; None when the broker closed."""
        while True:
            packet = self.read()
            if packet is None:
                return None
            if packet[0] == kind:
                return packet[2]

    def connect(self, client_id, user=None, password=None, clean=True, keepalive=60,
                auth=None, will=None, properties=b""):
        """The CONNACK code; None: closed without one. `auth`: (method, data) of MQTT 5."""
        flags = (2 if clean else 0) | (0x80 if user is not None else 0) | \
            (0x40 if password is not None else 0) | (4 if will else 0)
        body = self.text("MQTT") + bytes([self.version, flags]) + struct.pack("!H", keepalive)
        if self.version == 5:
            if auth is not None:
                properties += b"\x15" + self.text(auth[0])
                if auth[1] is not None:
                    properties += b"\x16" + self.text(auth[1])
            body += self.varint(len(properties)) + properties
        body += self.text(client_id)
        if will:
            if self.version == 5:
                extra = will[2] if len(will) > 2 else b""  # its properties
                body += self.varint(len(extra)) + extra
            body += self.text(will[0]) + self.text(will[1])
        if user is not None:
            body += self.text(user)
        if password is not None:
            body += self.text(password)
        self.send(1, body)
        answer = self.read_kind(self.CONNACK)
        return None if answer is None else answer[1]

    def auth(self, method, data):
        """Re-authenticate: the reason code of AUTH (0) or of DISCONNECT; None: closed."""
        properties = b"\x15" + self.text(method) + b"\x16" + self.text(data)
        self.send(self.AUTH, b"\x19" + self.varint(len(properties)) + properties)
        while True:
            packet = self.read()
            if packet is None:
                return None
            if packet[0] in (self.AUTH, self.DISCONNECT, self.CONNACK):
                if packet[0] == self.CONNACK: # 2.0.11 refuses a renewal with a second CONNACK
                    return packet[2][1]
                return packet[2][0] if packet[2] else 0

    def publish(self, topic, payload=b"", qos=1, retain=False):
        """The reason code of PUBACK/PUBREC (0 in v3.1.1, and for 16, "nobody subscribed"); None:
        disconnected. QoS 0: None at once."""
        self.mid = self.mid % 65535 + 1
        body = self.text(topic)
        if qos:
            body += struct.pack("!H", self.mid)
        body += (b"\0" if self.version == 5 else b"") + \
            (payload.encode() if isinstance(payload, str) else payload)
        self.send(self.PUBLISH, body, qos << 1 | (1 if retain else 0))
        if not qos:
            return None
        answer = self.read_kind(self.PUBACK if qos == 1 else self.PUBREC)
        if answer is None:
            return None
        return answer[2] if len(answer) > 2 and answer[2] != 16 else 0

    def _filter(self, kind, answer_kind, topic, suffix):
        self.mid = self.mid % 65535 + 1
        body = struct.pack("!H", self.mid) + (b"\0" if self.version == 5 else b"") + \
            self.text(topic) + suffix
        self.send(kind, body, 2)
        answer = self.read_kind(answer_kind)
        if answer is not None and len(answer) == 2:
            return 0  # v3.1.1's UNSUBACK says nothing
        return None if answer is None else answer[-1]

    def subscribe(self, topic, qos=1):
        return self._filter(8, self.SUBACK, topic, bytes([qos]))

    def unsubscribe(self, topic):
        return self._filter(10, self.UNSUBACK, topic, b"")

    def alive(self):
        """Does the broker still answer a ping?"""
        try:
            self.send(12)
            return self.read_kind(self.PINGRESP) is not None
        except OSError:
            return False

    def disconnect(self):
        self.send(self.DISCONNECT)
        self.sock.close()

    def close(self):
        """Lose the connection without a word."""
        self.sock.close()


# --- the broker --------------------------------------------------------------------------------


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Broker:
    """Mosquitto in a directory of its own. `options`: name -> value or list of values."""

    def __init__(self, directory, policy=POLICY, options=None, rules=None, keys=None, conf="",
                 plugin=True, before="", persistence=False, mosquitto=MOSQUITTO):
        self.mosquitto = mosquitto
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None
        self.starts = 0
        self.keys = keys if keys is not None else [Key(self.dir, "HS256")]
        self.policy = self.dir / "policy.acl"
        self.rules = self.dir / "rules.json"
        self.db = self.dir / "db"
        self.plugin, self.conf, self.before, self.persistence = plugin, conf, before, persistence
        self.options = {"keys_file": [key.option() for key in self.keys], "issuer": ISSUER,
                        "audience": AUDIENCE, "acl_file": str(self.policy),
                        "db_path": str(self.db)}
        self.write_policy(policy)
        if rules is not None:
            self.rules.write_text(rules if isinstance(rules, str) else json.dumps(rules))
            self.options["rules_file"] = str(self.rules)
        self.options.update(options or {})
        self.clients = []

    @property
    def key(self):
        return self.keys[0]

    def token(self, sub, **claims):
        return self.key.token(sub, **claims)

    def write_policy(self, text):
        """Replace the file in one step, as an editor or a deployment does."""
        new = self.dir / "policy.new"
        new.write_text(text)
        new.rename(self.policy)

    def config_text(self):
        lines = [f"listener {self.port} 127.0.0.1", f"user {pwd.getpwuid(os.getuid()).pw_name}",
                 "log_dest stderr", "log_type all", "log_timestamp_format %H:%M:%S",
                 "allow_anonymous false", "set_tcp_nodelay true", "check_retain_source true"]
        if self.persistence:
            lines += ["persistence true", f"persistence_location {self.dir}/",
                      "autosave_interval 1800"]
        lines.append(self.before)
        if self.plugin:
            lines.append(f"plugin {PLUGIN}")
            for name, value in self.options.items():
                for one in value if isinstance(value, list) else [value]:
                    if one is not None:
                        lines.append(f"plugin_opt_{name} {one}")
        lines.append(self.conf)
        return "\n".join(lines) + "\n"

    # --- life

    def start(self):
        for _ in range(5):
            if self._start_once():
                return self
            self.port = free_port()  # somebody took it in between
        raise AssertionError("no free port\n" + self.log_tail())

    def _environment(self):
        env = dict(os.environ)
        if ASAN and self.plugin:  # a broker without our module is not ours to judge: it leaks by itself
            env["LD_PRELOAD"] = ASAN
            env.setdefault("ASAN_OPTIONS", "detect_leaks=1")
            env.setdefault("LSAN_OPTIONS",
                           f"suppressions={ROOT}/tests/lsan.supp:print_suppressions=0")
            env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        return env

    def launch(self):
        """Start the process without waiting for it."""
        (self.dir / "mosquitto.conf").write_text(self.config_text())
        self.starts += 1
        self.log_path = self.dir / f"broker-{self.starts}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([self.mosquitto, "-c", str(self.dir / "mosquitto.conf")],
                                            stdout=log, stderr=log, cwd=self.dir,
                                            env=self._environment())

    def _start_once(self):
        self.launch()

        def ready():
            if self.process.poll() is not None:
                return True
            # It listens before it minds signals: it must answer, if only by closing on who does not begin with CONNECT.
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                    sock.sendall(b"\xc0\0")
                    return sock.recv(1) == b""
            except ConnectionResetError:
                return True
            except OSError:
                return False

        wait_until(ready, "the broker listens")
        if self.process.poll() is None:
            return True
        if "Address already in use" in self.log():
            return False
        raise AssertionError(f"the broker ended with {self.process.returncode}\n" + self.log())

    def fails_to_start(self):
        """Start a broker that must refuse its configuration; its log."""
        self.launch()
        try:
            code = self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the broker started\n" + self.log_tail()) from None
        self.process = None
        log = self.log()
        report = re.search(r"^==\d+==ERROR: LeakSanitizer.*", log, flags=re.M | re.S)
        self.check_sanitizers(log[:report.start()] if report else log)
        # The broker itself frees little when it gives up; what we lost has a frame of our module or,
        # as that is unloaded by then, of no known one.
        leaks = re.findall(r"^(?:Direct|Indirect) leak of .*?^$", report.group(0) if report else "",
                           flags=re.M | re.S)
        ours = [leak for leak in leaks if re.search("mosquitto_haltere|unknown module", leak)]
        if ours:
            raise AssertionError("leaks:\n" + "\n".join(ours))
        if code == 0 or code < 0:
            raise AssertionError(f"exit code {code}\n" + log)
        return log

    def stop(self):
        """SIGTERM; it must end well and without a sanitizer's report."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the broker does not stop\n" + self.log_tail()) from None
        finally:
            self.process = None
        self.check_sanitizers(self.log())
        if code != 0:
            raise AssertionError(f"the broker ended with {code}\n" + self.log_tail())

    @staticmethod
    def check_sanitizers(log):
        if re.search(r"AddressSanitizer|LeakSanitizer|runtime error:|UndefinedBehavior", log):
            raise AssertionError("sanitizer report:\n" + log[-20000:])

    def restart(self):
        self.stop()
        self.start()

    def kill9(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def sighup(self):
        """SIGHUP, and wait until the broker has worked on it and Haltere has read its files again."""
        before = self.count(r"policy read again|policy could not be read again")
        reloads = self.count(r"Reloading config")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.count(r"Reloading config") > reloads, "SIGHUP is seen")
        if self.plugin:
            wait_until(lambda: self.count(r"policy read again|policy could not be read again") > before,
                       "the policy is read again")

    # --- log

    def log(self):
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines=60):
        return "--- broker's log:\n" + "\n".join(self.log().splitlines()[-lines:])

    def count(self, pattern):
        return len(re.findall(pattern, self.log()))

    def wait_log(self, pattern, times=1):
        wait_until(lambda: self.count(pattern) >= times, f"{pattern!r} in the log")

    # --- clients

    def client(self, client_id, token=True, claims=None, **args):
        """A paho client. token True: a good one for this client id, with `claims`."""
        if token is True:
            token = self.token(client_id, **(claims or {}))
        client = Client(self, client_id, token=token, **args)
        self.clients.append(client)
        return client

    def operator(self, client_id="operator", **args):
        """A client that may see everything (role operator of POLICY) and give commands."""
        return self.client(client_id, claims={"roles": ["operator", "haltere-admin"]}, **args)

    def wire(self, version=5):
        wire = Wire(self.port, version)
        self.clients.append(wire)
        return wire

    def command(self, *args, check=True, text=None):
        """Run `haltere`; its stdout."""
        done = subprocess.run([COMMAND, *args], capture_output=True, text=True, input=text,
                              check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"haltere {' '.join(args)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def close_clients(self):
        for client in self.clients:
            client.close()
        self.clients.clear()


def control(client, *commands):
    """Send commands to $CONTROL/haltere/v1 and give back their responses."""
    client.publish("$CONTROL/haltere/v1", {"commands": list(commands)})
    answer = client.next_json("$CONTROL/haltere/v1/response")
    return answer["responses"]


class BrokerTest(unittest.TestCase):
    """Starts brokers and sees to it that each of them ends well. Directories of failed tests are kept."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="haltere-broker-"))
        self.brokers = []

    def make(self, name="broker", **args):
        broker = Broker(self.dir / name, **args)
        self.brokers.append(broker)
        return broker

    def start(self, name="broker", **args):
        return self.make(name, **args).start()

    def tearDown(self):
        problems = []
        for broker in self.brokers:
            broker.close_clients()
        for broker in reversed(self.brokers):
            try:
                broker.stop()
            except AssertionError as problem:
                problems.append(problem)
        outcome = getattr(self, "_outcome", None)
        result = getattr(outcome, "result", None)
        failed = bool(problems) or any(
            test is self or getattr(test, "test_case", None) is self
            for test, _ in (result.failures + result.errors if result else [])) or \
            any(error for _, error in getattr(outcome, "errors", []) or [])
        if failed or os.environ.get("HALTERE_KEEP"):
            print(f"\nkept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        if problems:
            raise problems[0]
