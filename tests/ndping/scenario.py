"""What the scenario tests share: a server and clients of the ndping program, each
with a deadline, and a look at what the kernel still holds.

They run in the guest, on the kernel's rdma_rxe, where LOCAL is rxe0's address,
PEER rxe1's, and packets between them cross a wire; and on the soft device, in a
network namespace with these addresses, where the environment has ND_DEVICE=soft.
The program comes from the environment too: NDPING.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest
from collections.abc import Iterator

NDPING = os.environ["NDPING"]
SOFT = os.environ.get("ND_DEVICE") == "soft"
NETEM = str(pathlib.Path(__file__).parent.parent / "guest" / "netem.sh")
LOCAL, PEER = "10.98.0.1", "10.98.0.2"
LOCAL6, PEER6 = "fd98::1", "fd98::2"
OPERATIONS = ("send", "send-imm", "write", "write-imm", "read", "cas", "fetch-add")
CQ_MODES = ("busy", "event", "adaptive")
GRPC_PORT = 7470
# Who else has objects on a device.
KERNEL_OWNERS = ("ib_core", "ib_mad", "rdma_cm")


def wait_until(condition, what: str, limit_s: float = 60.0) -> None:
    """Polls until the condition holds; a test that waits in vain has failed."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain for {limit_s} s: {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as lines:
            if any(line.split()[1].endswith(wanted) and line.split()[3] == "0A"
                   for line in lines):
                return True
    return False


def cm_listens(port: int) -> bool:
    if SOFT:
        with open("/proc/net/unix", encoding="ascii", errors="replace") as lines:
            return any("@nd-soft/service/" in line and f"{port:04x}/" in line
                       for line in lines)
    found = subprocess.run(["rdma", "resource", "show", "cm_id"],
                           capture_output=True, text=True, check=True).stdout
    return any("LISTEN" in line and f":{port}" in line
               for line in found.splitlines())


class Server:
    """A running `ndping server`."""

    def __init__(self, process: subprocess.Popen, log):
        self.process = process
        self._log = log

    def log(self) -> str:
        """What it has written to its standard error so far."""
        self._log.seek(0)
        return self._log.read().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


@contextlib.contextmanager
def server(*options: str, ready=lambda: listens(GRPC_PORT)) -> Iterator[Server]:
    """Runs a server until the block ends; it must then end by itself, with 0."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([NDPING, "server", *options],
                                   stdout=subprocess.DEVNULL, stderr=log)
        running = Server(process, log)
        try:
            def up() -> bool:
                if process.poll() is not None:
                    raise AssertionError(f"the server ended: {running.log()}")
                return ready()
            wait_until(up, "the server to listen")
            yield running
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                if process.wait(60) != 0:
                    raise AssertionError(
                        f"the server ended with {process.returncode}: {running.log()}")
        finally:
            if process.poll() is None:
                running.kill()


def ndping(*arguments: str, limit_s: float = 120.0) -> subprocess.CompletedProcess:
    return subprocess.run([NDPING, *arguments], capture_output=True, text=True,
                          timeout=limit_s)


def info(address: str = PEER) -> dict:
    """What the server says of itself; nothing where it does not answer."""
    done = ndping("info", address, "--json")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def is_under_way() -> bool:
    """Its connections too."""
    said = info()
    return said.get("tests_running", 0) > 0 and said["requests_accepted"] > 0


def no_test_is_left() -> bool:
    return info().get("tests_running") == 0


@contextlib.contextmanager
def packets_lost(rate: float) -> Iterator[None]:
    """By the wire, or by the device of what is started meanwhile."""
    if SOFT:
        os.environ["ND_SOFT_FAULTS"] = f"seed=11;drop={rate}"
    else:
        subprocess.run([NETEM, f"{rate:%}"], check=True)
    try:
        yield
    finally:
        if SOFT:
            del os.environ["ND_SOFT_FAULTS"]
        else:
            subprocess.run([NETEM, "off"], check=True)


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([NDPING, *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def resources() -> dict[str, int]:
    """Objects of user programs that the kernel's RDMA devices hold, by kind. What
    the soft device has is gone with its process."""
    counts: dict[str, int] = {}
    if SOFT:
        return counts
    for kind in ("qp", "cq", "mr", "pd", "cm_id"):
        listed = subprocess.run(["rdma", "-j", "resource", "show", kind],
                                capture_output=True, text=True, check=True).stdout
        counts[kind] = sum(entry.get("comm") not in KERNEL_OWNERS
                           for entry in json.loads(listed or "[]"))
    return counts


class ScenarioTest(unittest.TestCase):
    """Fails a test that leaves RDMA objects behind."""

    def setUp(self) -> None:
        self.assertEqual(sum(resources().values()), 0, "objects from before")

    def tearDown(self) -> None:
        wait_until(lambda: sum(resources().values()) == 0,
                   "every RDMA object to be gone")

    def assert_passes(self, *arguments: str, limit_s: float = 120.0) -> dict:
        """Runs a test with --json, which must pass; returns what it printed."""
        done = ndping(*arguments, "--json", limit_s=limit_s)
        self.assertEqual(done.returncode, 0,
                         f"{' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr}")
        return json.loads(done.stdout)

    def assert_interrupt_ends_cleanly(self, *arguments: str) -> None:
        """Ctrl-C in the middle of a test, of which the server does not complain."""
        with server("--address", PEER) as its:
            client = start(*arguments, "--duration", "60s", "--verify")
            wait_until(is_under_way, "the test to run")
            client.send_signal(signal.SIGINT)
            output, errors = client.communicate(timeout=60)
            self.assertEqual(client.returncode, 130, errors)
            self.assertIn("interrupted", output + errors)
            self.assertNotIn("rror", its.log())

    def assert_all_verified(self, result: dict) -> None:
        for phase in result["phases"]:
            self.assertEqual(phase["verified_percent"], 100.0, phase["size"])
            for side in ("client", "server"):
                self.assertEqual(phase[side]["mismatched"], 0)
