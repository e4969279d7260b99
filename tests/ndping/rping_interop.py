#!/usr/bin/env python3
"""ndping and rping, which none of us wrote, speak with each other.

Runs in the guest, or on the soft device as scenario.py says; then NDSOFT is the
program `ndsoft`, which preloads it into rping. rping
takes 23 to 65535 bytes (-S) as a client, and as a server no more than its own
-S, so "16 B" is checked from ndping's side alone and "64 KiB" is 65535.
"""

import collections.abc
import contextlib
import os
import re
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from scenario import NDPING, SOFT, cm_listens, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import rping  # noqa: E402

FAMILIES = {"IPv4": ("10.98.0.1", "10.98.0.2"), "IPv6": ("fd98::1", "fd98::2")}
LIMIT_S = 120.0
RPING_SIZES = (23, 64, 1024, 4097, 65535)
NDPING_SIZES = (16, *RPING_SIZES)
PINGS = 100


# What runs a program that is not linked with the device.
ON_DEVICE = [os.environ["NDSOFT"], "run", "--"] if SOFT else []


@contextlib.contextmanager
def running(*command: str) -> collections.abc.Iterator[subprocess.Popen]:
    """Runs a command until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextlib.contextmanager
def ndping_server(address: str, port: int
                  ) -> collections.abc.Iterator[subprocess.Popen]:
    """Runs a server until the block ends; it must then end by itself, with 0."""
    with running(NDPING, "server", "--protocol", "rping", "--address", address,
                 "--port", str(port)) as server:
        wait_until(lambda: cm_listens(port) or server.poll() is not None,
                   "ndping server listens")
        if server.poll() is not None:
            raise AssertionError(server.stdout.read())
        yield server
        server.send_signal(signal.SIGINT)
        output, _ = server.communicate(timeout=LIMIT_S)
        if server.returncode != 0:
            raise AssertionError(f"status {server.returncode}: {output}")


def rping_client(own: str, server: str, port: int, count: int,
                 size: int = 64) -> list[str]:
    return [*ON_DEVICE, "rping", "-c", "-V", "-v", "-I", own, "-a", server, "-p", str(port),
            "-C", str(count), "-S", str(size)]


def ndping_client(own: str, server: str, port: int, *options: str) -> list[str]:
    return [NDPING, "ping", server, "--from", own, "--protocol", "rping",
            "--port", str(port), *options]


def run(command: list[str]) -> subprocess.CompletedProcess:
    # Apart, because rping writes to both streams from different threads: what
    # it says on the one may come in the middle of a line of the other.
    return subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=LIMIT_S)


class PortTest(unittest.TestCase):
    """Each test has a port of its own: none waits for another's TIME_WAIT."""

    next_port = 7200

    def setUp(self) -> None:
        self.port = self.take_port()

    @staticmethod
    def take_port() -> int:
        PortTest.next_port += 1
        return PortTest.next_port

    def check_rping(self, result: subprocess.CompletedProcess, count: int,
                    size: int) -> None:
        self.assertEqual(rping.status(result.returncode, result.stderr), 0,
                         result.stderr)
        pings = re.findall(r"^ping data: (rdma-ping-\d+: .*)$", result.stdout,
                           re.MULTILINE)
        self.assertEqual(len(pings), count, result.stdout[-2000:])
        self.assertEqual(len(pings[-1]), size - 1)
        self.assertTrue(pings[-1].startswith(f"rdma-ping-{count - 1}: "))


class RpingClient(PortTest):
    """`rping -c` against `ndping server`."""

    def test_sizes_and_families(self) -> None:
        for family, (own, peer) in FAMILIES.items():
            port = self.take_port()
            with ndping_server(peer, port):
                for size in RPING_SIZES:
                    with self.subTest(family=family, size=size):
                        result = run(rping_client(own, peer, port, PINGS, size))
                        self.check_rping(result, PINGS, size)

    def test_several_at_once(self) -> None:
        own, peer = FAMILIES["IPv4"]
        with ndping_server(peer, self.port), contextlib.ExitStack() as stack:
            clients = [stack.enter_context(
                running(*rping_client(own, peer, self.port, PINGS)))
                for _ in range(4)]
            for client in clients:
                output, _ = client.communicate(timeout=LIMIT_S)
                self.assertEqual(rping.status(client.returncode, output), 0, output)
                self.assertEqual(output.count("ping data: "), PINGS)

    def test_a_killed_client_leaves_the_server_serving(self) -> None:
        own, peer = FAMILIES["IPv4"]
        with ndping_server(peer, self.port):
            with running(*rping_client(own, peer, self.port, 0)) as endless:
                self.assertIn("rdma-ping-0", endless.stdout.readline())
                endless.kill()
            result = run(rping_client(own, peer, self.port, PINGS))
            self.check_rping(result, PINGS, 64)

    def test_a_server_on_all_addresses_serves_both_families(self) -> None:
        with ndping_server("::", self.port):
            for family, (own, peer) in FAMILIES.items():
                with self.subTest(family=family):
                    result = run(rping_client(own, peer, self.port, 10))
                    self.check_rping(result, 10, 64)


class RpingServer(PortTest):
    """`ndping ping --protocol rping` against `rping -s`."""

    @contextlib.contextmanager
    def rping_server(self, address: str, port: int, *options: str
                     ) -> collections.abc.Iterator[subprocess.Popen]:
        with running(*ON_DEVICE, "rping", "-s", "-P", "-a", address, "-p", str(port),
                     *options) as server:
            wait_until(lambda: cm_listens(port), "rping -s listens")
            yield server

    def test_sizes_and_families(self) -> None:
        for family, (own, peer) in FAMILIES.items():
            port = self.take_port()
            with self.rping_server(peer, port, "-S", "65535"):
                for size in NDPING_SIZES:
                    with self.subTest(family=family, size=size):
                        result = run(ndping_client(
                            own, peer, port, "--count", str(PINGS), "--size",
                            str(size), "--interval", "0s", "--validate"))
                        self.assertEqual(result.returncode, 0, result.stderr)
                        self.assertRegex(
                            result.stdout,
                            rf"{PINGS} transmitted, {PINGS} received")

    def test_the_server_sees_rpings_own_data(self) -> None:
        own, peer = FAMILIES["IPv4"]
        with running(*ON_DEVICE, "stdbuf", "-oL", "rping", "-s", "-v", "-a", peer, "-p",
                     str(self.port)) as server:
            wait_until(lambda: cm_listens(self.port), "rping -s listens")
            result = run(ndping_client(own, peer, self.port, "--count", "2",
                                       "--interval", "0s", "--verbose"))
            self.assertEqual(result.returncode, 0, result.stderr)
            output, _ = server.communicate(timeout=LIMIT_S)
        text = "rdma-ping-1: BCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrs"
        self.assertIn(f"server ping data: {text}\n", output)
        self.assertIn(text[:text.index("\\")], result.stdout)

    def test_a_ping_larger_than_its_buffer_says_what_rping_takes(self) -> None:
        own, peer = FAMILIES["IPv4"]
        with self.rping_server(peer, self.port):
            result = run(ndping_client(own, peer, self.port, "--count", "1",
                                       "--size", "4096"))
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("'rping -s'", result.stderr)

    def test_ctrl_c_ends_it_with_a_summary(self) -> None:
        own, peer = FAMILIES["IPv4"]
        with self.rping_server(peer, self.port):
            with running(*ndping_client(own, peer, self.port, "--interval",
                                        "100ms")) as client:
                first = client.stdout.readline() + client.stdout.readline()
                self.assertIn("64 bytes", first)
                client.send_signal(signal.SIGINT)
                output, _ = client.communicate(timeout=LIMIT_S)
        self.assertRegex(output, r"\d+ transmitted, \d+ received")


if __name__ == "__main__":
    unittest.main(verbosity=2)
