"""Keys, TLS, certificates that change, and the sandbox, with real processes."""
import http.client
import json
import os
import pathlib
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

from cluster import BIN, GOLDEN, Cluster, greedy

TINY = GOLDEN / "tiny"
SECONDS = 60
CONNECTIONS_OF_A_MACHINE = 64


class Authority:
    """An authority of its own, by the openssl program."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.file = folder, folder / "ca.pem"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test authority",
                     "-keyout", folder / "ca.key", "-out", self.file)

    def openssl(self, *arguments) -> None:
        result = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, cwd=self.folder)
        assert result.returncode == 0, result.stderr

    def issue(self, name: str, names: str = "IP:127.0.0.1,DNS:localhost", days: int = 2) -> tuple[pathlib.Path, pathlib.Path]:
        certificate, key, request, extension = (self.folder / f"{name}{end}" for end in (".pem", ".key", ".csr", ".ext"))
        extension.write_text(f"subjectAltName={names}\n")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{key}.new", "-out", request)
        self.openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days", days,
                     "-extfile", extension, "-out", f"{certificate}.new")
        os.replace(f"{key}.new", key)
        os.replace(f"{certificate}.new", certificate)
        return certificate, key


def wait_for(condition, what: str) -> None:
    """Asked again and again: there is no event to wait for across processes."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.05)


def own_address() -> str | None:
    """One under which this machine is another one to itself. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


def closed(connections: list[socket.socket]) -> list[socket.socket]:
    """Those that the other end has closed; what it has said so far is read."""
    found = []
    for connection in connections:
        connection.setblocking(False)
        try:
            while connection.recv(4096):
                pass
            found.append(connection)
        except BlockingIOError:
            pass
        except ConnectionError:
            found.append(connection)
    return found


class SecurityTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tandem-tls-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.keys = self.folder / "keys"

    def key(self, action: str, *arguments: str) -> str:
        result = subprocess.run([str(BIN / "tandem"), "key", action, *arguments, "--file", str(self.keys)], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()

    def https(self, c: Cluster, path: str, key: str | None, authority: pathlib.Path, body: dict | None = None):
        connection = http.client.HTTPSConnection(c.http, timeout=SECONDS, context=ssl.create_default_context(cafile=str(authority)))
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, text

    def serial(self, c: Cluster, authority: pathlib.Path) -> str:
        host, port = c.http.rsplit(":", 1)
        context = ssl.create_default_context(cafile=str(authority))
        with socket.create_connection((host, int(port)), timeout=SECONDS) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
            return secure.getpeercert()["serialNumber"]

    def test_keys_and_certificates_change_while_it_serves(self):
        authority = Authority(self.folder)
        certificate, private = authority.issue("server")
        alice = self.key("add", "alice", "--requests_per_minute", "1000")
        metrics = self.key("add", "metrics", "--scopes", "metrics")
        self.assertNotIn(alice, self.keys.read_text())
        with Cluster(TINY, npu="cpu", gpu="none", api_key_file=self.keys, tls_cert=certificate, tls_key=private) as c:
            question = {"model": "tiny", "prompt": "The", **greedy(4)}
            self.assertEqual(self.https(c, "/v1/completions", alice, authority.file, question)[0], 200)
            self.assertEqual(self.https(c, "/v1/models", None, authority.file)[0], 401)
            self.assertEqual(self.https(c, "/v1/models", metrics, authority.file)[0], 403)
            self.assertEqual(self.https(c, "/metrics", metrics, authority.file)[0], 200)
            # This user's own programs need neither.
            self.assertEqual(c.status()["state"], "ready")
            self.assertEqual(c.tandem("chat", "--once", "Hello", "--max_tokens", "2").returncode, 0)
            self.remote_chat(c, authority, alice)
            # A new certificate, and keys that come and go.
            before = self.serial(c, authority.file)
            authority.issue("server")
            wait_for(lambda: self.serial(c, authority.file) != before, "the new certificate is shown")
            bob = self.key("add", "bob")
            self.key("remove", "alice")
            wait_for(lambda: self.https(c, "/v1/models", bob, authority.file)[0] == 200, "the new key opens")
            self.assertEqual(self.https(c, "/v1/models", alice, authority.file)[0], 401)
            # Half a file, and a certificate without its key, change nothing.
            self.keys.write_text("what is this\n")
            certificate.write_text("no certificate")
            log = c.folder / "tandem/default/logs/gateway.log"
            wait_for(lambda: "the keys stay as they were" in log.read_text() and "the one before stays" in log.read_text(), "both are in the log")
            self.assertEqual(self.https(c, "/v1/models", bob, authority.file)[0], 200)
            self.assertNotIn(alice, log.read_text())
            self.assertEqual(c.read_state()["processes"][-1]["restarts"], 0)

    def remote_chat(self, c: Cluster, authority: Authority, key: str) -> None:
        """As from another machine: with the key and the authority, and not without."""
        shown = self.folder / "shown"
        shown.write_text(key + "\n")
        remote = ["chat", "--once", "Hello", "--max_tokens", "2", f"--grpc={c.grpc}"]
        self.assertEqual(c.tandem(*remote, f"--api_key_file={shown}", f"--tls_ca={authority.file}").returncode, 0)
        without_key = c.tandem(*remote, f"--tls_ca={authority.file}")
        self.assertEqual(without_key.returncode, 1)
        self.assertIn("API key", without_key.stderr)

    def test_other_machines_are_served_with_key_and_tls_alone(self):
        for flags, word in (({}, "an API key and TLS"), ({"api_key_file": "KEYS"}, "without TLS")):
            self.key("add", "a") if not self.keys.exists() else None
            chosen = {name: str(self.keys) for name in flags}
            result = Cluster(TINY, npu="cpu", gpu="none", **(chosen | {"http": "0.0.0.0:0"})).up()
            self.assertEqual(result.returncode, 1)
            self.assertIn(word, result.stderr)
            self.assertIn("--insecure", result.stderr)
        with Cluster(TINY, npu="cpu", gpu="none", http="0.0.0.0:0", insecure="true") as c:
            self.assertEqual(c.status()["state"], "ready")

    def test_limits_of_clients_are_settings(self):
        limits = {"max_body": "4KiB", "max_head": "2KiB", "head_timeout": "300ms", "body_timeout": "400ms", "idle_timeout": "500ms",
                  "max_connections": "8"}
        with Cluster(TINY, npu="cpu", gpu="none", **limits) as c:
            self.assertEqual(c.request("POST", "/v1/completions", b"x" * 4097)[0], 413)
            self.assertEqual(c.request("POST", "/v1/completions", b"x" * 4096)[0], 400)
            self.assertEqual(c.request("GET", "/healthz", headers={"X-Long": "y" * 2048})[0], 431)
            head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            for sent, least in ((head, 0.3), (head + b"Content-Length: 10\r\n\r\n{", 0.4), (b"", 0.5)):
                host, port = c.http.rsplit(":", 1)
                with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
                    begin = time.monotonic()
                    connection.sendall(sent)
                    self.assertEqual(connection.recv(1), b"", sent)
                    self.assertGreater(time.monotonic() - begin, least - 0.1)
            # The ninth connection is taken, and the one that did nothing for longest goes.
            many = [socket.create_connection((host, int(port)), timeout=SECONDS) for _ in range(9)]
            self.assertEqual(many[0].recv(1), b"")
            for connection in many:
                connection.close()

    def test_another_machine_takes_its_share_of_connections_alone(self):
        own = own_address()
        if own is None:
            self.skipTest("this machine has no address but loopback")
        with Cluster(TINY, npu="cpu", gpu="none", http="0.0.0.0:0", grpc="0.0.0.0:0", insecure="true") as c:
            for address in (c.http, c.grpc):
                port = int(address.rsplit(":", 1)[1])
                # The oldest and idle, but from this machine.
                near = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
                far = [socket.create_connection((own, port), timeout=SECONDS) for _ in range(CONNECTIONS_OF_A_MACHINE)]
                self.assertEqual(closed([near, *far]), [], address)
                far.append(socket.create_connection((own, port), timeout=SECONDS))
                wait_for(lambda: closed([near, *far]), f"a connection of another machine gives way at {address}")
                self.assertEqual(closed([near, *far]), [far[0]], address)
                for connection in (near, *far):
                    connection.close()

    def test_processes_cannot_do_what_they_need_not(self):
        with Cluster(TINY, npu="cpu", gpu="none", sandbox="true") as c:
            c.complete("The", **greedy(4))
            for name, pid in c.pids.items():
                status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
                self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), name)
        with Cluster(TINY, npu="cpu", gpu="none", sandbox="false") as c:
            self.assertIn("Seccomp:\t0", pathlib.Path(f"/proc/{c.pids['gateway']}/status").read_text())


class HostsTest(unittest.TestCase):
    """A cluster over TCP, as over several hosts: every process shows a certificate."""

    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tandem-tls-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.processes: list[subprocess.Popen] = []
        self.addCleanup(self.end)
        self.authority = Authority(self.folder)

    def end(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(SECONDS)

    def start(self, program: str, certificate: tuple[pathlib.Path, pathlib.Path], **flags) -> str:
        """Its address, or "" when it ended."""
        ready = self.folder / f"{program}.ready"
        ready.unlink(missing_ok=True)
        flags |= {"ready_file": ready, "cluster_cert": certificate[0], "cluster_key": certificate[1], "cluster_ca": self.authority.file}
        with open(self.folder / f"{program}.log", "a") as log:
            process = subprocess.Popen([str(BIN / program), *(f"--{k}={v}" for k, v in flags.items())], stdout=log, stderr=log)
        self.processes.append(process)
        wait_for(lambda: ready.exists() or process.poll() is not None, f"{program} starts")
        return ready.read_text().strip() if ready.exists() else ""

    def test_serves_over_tcp_and_believes_only_its_authority(self):
        good = self.authority.issue("process")
        loader = self.start("tandem-loader", good, model=TINY, listen="127.0.0.1:0", region_socket=self.folder / "regions")
        worker = self.start("tandem-npu-worker", good, device="cpu", listen="127.0.0.1:0", fd_socket=self.folder / "npu0.fd", name="npu0")
        gateway = {"loader": loader, "worker": f"npu0=npu={worker}", "http": "127.0.0.1:0", "grpc": "127.0.0.1:0"}
        (self.folder / "other").mkdir()
        stranger = Authority(self.folder / "other").issue("stranger")
        self.start("tandem-gateway", stranger, **gateway, start_timeout="3s")
        self.assertEqual(self.processes[-1].wait(SECONDS), 1, "the loader does not answer a stranger")
        self.assertIn("loader", (self.folder / "tandem-gateway.log").read_text().splitlines()[-1])
        address = json.loads(self.start("tandem-gateway", good, **gateway))["http"]

        def answered() -> bool:
            connection = http.client.HTTPConnection(address, timeout=SECONDS)
            connection.request("GET", "/readyz")
            status = connection.getresponse().status
            connection.close()
            return status == 200
        wait_for(answered, "ready")
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        connection.request("POST", "/v1/completions", json.dumps({"model": "tiny", "prompt": "The", **greedy(4)}), {"Content-Type": "application/json"})
        self.assertEqual(connection.getresponse().status, 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
