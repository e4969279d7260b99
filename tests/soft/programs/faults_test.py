#!/usr/bin/env python3
"""Real programs on the soft device with faults and as weaker devices.

usage: faults_test.py LIBNDSOFT [unittest arguments]
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import rping as rping_ways  # noqa: E402

LIBRARY = sys.argv[1]
LOSSY = "seed=7;drop=0.01;reorder=0.03;duplicate=0.01"
DEADLINE_S = 30


def environment(faults: str = "", personality: str = "") -> dict[str, str]:
    return {
        **os.environ,
        "LD_PRELOAD": LIBRARY,
        "ND_DEVICE": "soft",
        "ND_SOFT_FAULTS": faults,
        "ND_SOFT_PERSONALITY": personality,
    }


def run(*command: str, deadline_s: float = DEADLINE_S, **options: str):
    return subprocess.run(
        command,
        env=environment(**options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=deadline_s,
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def gid_index() -> str:
    """Of an IPv4 address, which every host has."""
    said = run("ibv_devinfo", "-v").stdout
    for line in said.splitlines():
        if "GID[" in line and "::ffff:" in line:
            return line.split("[")[1].split("]")[0].strip()
    raise AssertionError(said)


def pingpong(*extra: str, **options: str):
    """Both ends of ibv_rc_pingpong; the server's end is cut short when the
    client's is over, for it does not notice that."""
    command = ["ibv_rc_pingpong", "-g", gid_index(), "-c", "-p", free_port(), *extra]
    return both_ends(command, [*command, "127.0.0.1"], **options)


def rping(*extra: str, **options: str):
    address = ["-a", "127.0.0.1", "-p", free_port()]
    client = ["rping", "-c", *address, *extra]
    done = both_ends(["rping", "-s", *address, *extra], client, **options)
    done.returncode = rping_ways.status(done.returncode, done.stdout)
    return done


def both_ends(server: list[str], client: list[str],
              server_faults: str | None = None, **options: str):
    """`server_faults` where the server has others than the client."""
    of_server = options if server_faults is None else {
        **options, "faults": server_faults}
    with subprocess.Popen(
        server,
        env=environment(**of_server),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as serving:
        try:
            time.sleep(0.5)  # until it listens
            done = run(*client, **options)
            try:
                serving.wait(1)
            except subprocess.TimeoutExpired:
                pass
            return done
        finally:
            serving.kill()


class Wrong(unittest.TestCase):
    """What cannot be understood is not ignored."""

    def test_faults(self):
        done = run("ibv_devinfo", faults="seed=7;drop=often")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertIn("ND_SOFT_FAULTS: 'drop=often'", done.stdout)
        self.assertIn("Failed to open device", done.stdout)

    def test_personality(self):
        done = run("ibv_devinfo", personality="mlx6")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertIn("ND_SOFT_PERSONALITY: 'mlx6'", done.stdout)


@unittest.skipUnless(shutil.which("ibv_rc_pingpong"), "no ibv_rc_pingpong")
class Pingpong(unittest.TestCase):
    def test_loss_is_made_good(self):
        done = pingpong("-n", "500", faults="seed=7;drop=0.01")
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("500 iters", done.stdout)
        self.assertNotIn("invalid data", done.stdout)

    def test_receives_that_are_not_found_are_asked_for_again(self):
        done = pingpong("-n", "500", faults="seed=7;rnr=0.02")
        self.assertEqual(done.returncode, 0, done)

    def test_port_comes_back(self):
        done = pingpong("-n", "5000", faults="port-down=after:700ms,for:50ms")
        self.assertEqual(done.returncode, 0, done)

    def test_retries_end(self):
        done = pingpong("-n", "5", faults="drop=1")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertIn("transport retry counter exceeded", done.stdout)

    def test_completion_error(self):
        done = pingpong("-n", "500", faults="seed=7;cqe=REM_OP_ERR@0.05")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertRegex(done.stdout, "remote operation error|retry counter")

    def test_device_removal(self):
        done = pingpong("-n", "100000000", faults="device-removal=after:1s")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertIn("Work Request Flushed Error", done.stdout)


@unittest.skipUnless(shutil.which("rping"), "no rping")
class Rping(unittest.TestCase):
    def test_loss_reordering_and_duplicates(self):
        done = rping("-V", "-C", "100", faults=LOSSY)
        self.assertEqual(done.returncode, 0, done)
        self.assertNotIn("data mismatch", done.stdout)

    def test_shuffled_writes_are_whole_when_they_complete(self):
        done = rping("-V", "-C", "50", "-S", "60000", faults="seed=7;shuffle=0.5")
        self.assertEqual(done.returncode, 0, done)
        self.assertNotIn("data mismatch", done.stdout)

    def test_rejection(self):
        done = rping("-C", "10", faults="cm-reject=1")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertIn("RDMA_CM_EVENT_REJECTED", done.stdout)

    def test_device_removal(self):
        # The server's end would be told to the client.
        done = rping("-C", "100000000", faults="device-removal=after:1500ms",
                     server_faults="")
        self.assertNotEqual(done.returncode, 0, done)
        # Who posts before it has read the event gets EIO.
        self.assertRegex(done.stdout, "device removal|error: 5\\b")

    def test_every_personality(self):
        for personality in ("minimal", "rxe", "mlx5"):
            with self.subTest(personality):
                done = rping("-V", "-C", "10", personality=personality)
                self.assertEqual(done.returncode, 0, done)


class Personality(unittest.TestCase):
    def test_minimal_is_shown(self):
        said = run("ibv_devinfo", "-v", personality="minimal").stdout
        values = dict(
            line.strip().split(":", 1) for line in said.splitlines() if ":" in line
        )
        shown = {name: value.strip() for name, value in values.items()}
        expected = {
            "max_sge": "1",
            "max_qp_rd_atom": "1",
            "max_srq": "0",
            "max_mw": "0",
            "max_cqe": "1023",
        }
        self.assertEqual(expected, {name: shown.get(name) for name in expected})

    @unittest.skipUnless(shutil.which("ibv_srq_pingpong"), "no ibv_srq_pingpong")
    def test_without_srqs(self):
        done = run("ibv_srq_pingpong", "-g", gid_index(), "-p", free_port(),
                   personality="minimal")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertIn("Couldn't create SRQ", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
