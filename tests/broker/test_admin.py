"""The command as an admin's client of a broker that speaks TLS: whom it trusts, what it shows, what it says is wrong."""
import json
import socket
import ssl
import subprocess
import threading
import unittest

import harness


class Tls(harness.BrokerTest):
    def setUp(self):
        super().setUp()
        self.authority = harness.Authority(self.dir)
        elsewhere = self.dir / "elsewhere"
        elsewhere.mkdir()
        self.other = harness.Authority(elsewhere)
        self.server = self.authority.issue("server")  # for 127.0.0.1, and no name
        self.admin = self.authority.issue("admin")
        self.stranger = self.other.issue("stranger")
        self.open, self.closed = harness.free_port(), harness.free_port()
        tls = f"cafile {self.authority.ca}\ncertfile {self.server[0]}\nkeyfile {self.server[1]}\n"
        self.broker = self.start(conf=f"listener {self.open} 127.0.0.1\n{tls}"
                                      f"require_certificate false\n"
                                      f"listener {self.closed} 127.0.0.1\n{tls}"
                                      f"require_certificate true\n")
        self.token = self.dir / "admin.token"
        self.write_token()

    def write_token(self, **claims):
        self.token.write_text(self.broker.token("boss", roles=["haltere-admin"], **claims))
        self.token.chmod(0o600)

    def ask(self, *args, host="127.0.0.1", port=None, ca=None, identity=None):
        """The finished `haltere ban list` of an admin."""
        where = ["--host", host, "--port", str(port or self.open), "--token-file", str(self.token)]
        where += ["--cafile", str(ca or self.authority.ca)]
        if identity:
            where += ["--cert", str(identity[0]), "--key", str(identity[1])]
        return subprocess.run([harness.COMMAND, *(args or ("ban", "list", "--json")), *where],
                              capture_output=True, text=True, check=False)

    def answered(self, *args, **where):
        done = self.ask(*args, **where)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def failed(self, pattern, **where):
        done = self.ask(**where)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertRegex(done.stderr, pattern)
        self.assertNotIn(self.token.read_text().split(".")[2], done.stderr)

    def test_orders_are_given_and_lists_are_read_over_tls(self):
        self.answered("ban", "add", "--device", "d1", "--for", "1h")
        self.assertEqual(json.loads(self.answered())["bans"][0]["deviceId"], "d1")
        self.answered("token", "revoke", "--jti", "j1")
        listed = json.loads(self.answered("token", "revocations", "--json"))["revocations"]
        self.assertEqual((listed[0]["jti"], listed[0]["by"]), ("j1", "boss"))

    def test_a_broker_that_asks_for_a_certificate_is_shown_one(self):
        self.answered(port=self.closed, identity=self.admin)
        self.failed("certificate", port=self.closed)
        self.failed("certificate", port=self.closed, identity=self.stranger)
        self.failed("--key is not the key of --cert", port=self.closed,
                    identity=(self.admin[0], self.stranger[1]))

    def test_an_admin_s_token_may_be_bound_to_that_certificate(self):
        self.write_token(cnf={"x5t#S256": self.authority.thumbprint(self.admin[0])})
        self.answered(port=self.closed, identity=self.admin)
        self.failed("refuses the token", port=self.closed,
                    identity=self.authority.issue("colleague"))
        self.failed("refuses the token", identity=self.admin)  # there the broker does not look

    def test_a_broker_by_another_authority_or_name_is_not_trusted(self):
        self.failed("not vouched for by --cafile", ca=self.other.ca)
        self.failed("for another name than --host", host="localhost")

    def test_the_token_is_not_told_to_a_broker_that_is_not_trusted(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.stranger)
        heard = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(harness.WAIT)

            def listen():
                plain, _ = server.accept()
                plain.settimeout(harness.WAIT)
                try:
                    with context.wrap_socket(plain, server_side=True) as sock:
                        heard.append(sock.recv(4096))
                except (ssl.SSLError, OSError) as error:
                    heard.append(str(error).encode())

            thread = threading.Thread(target=listen)
            thread.start()
            self.failed("not vouched for by --cafile", port=server.getsockname()[1])
            thread.join()
        self.assertEqual(len(heard), 1)
        self.assertNotIn(b"boss", heard[0])

    def test_what_is_wrong_with_files_and_ports_is_said(self):
        missing = self.dir / "missing.pem"
        self.failed(f"{missing} does not exist", ca=missing)
        self.failed(f"{missing} does not exist", identity=(missing, self.admin[1]))
        self.failed(f"{missing} does not exist", identity=(self.admin[0], missing))
        self.failed("check cafile", ca=self.token)
        self.admin[1].chmod(0o644)
        self.failed("admin.key.*chmod", identity=self.admin)
        self.failed("no TLS is spoken there|is TLS spoken on that port", port=self.broker.port)
        self.failed("refused", port=harness.free_port())
        plain = subprocess.run([harness.COMMAND, "ban", "list", "--port", str(self.open),
                                "--token-file", str(self.token)], capture_output=True, text=True,
                               check=False)
        self.assertEqual(plain.returncode, 3)
        self.assertIn("give --cafile", plain.stderr)
        for options, why in ((["--cert", "x"], "together"), (["--key", "x"], "together"),
                             (["--cert", "x", "--key", "y"], "goes with --cafile")):
            done = subprocess.run([harness.COMMAND, "ban", "list", *options, "--token-file", "t"],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()
