#!/usr/bin/env python3
"""What ndping says and how it exits where there is no RDMA device.

NDPING names the program. The cases that need devices are in the guest's tests.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import unittest
import unittest.mock

NDPING = os.environ.get("NDPING", "ndping")
HAS_DEVICE = any(pathlib.Path("/sys/class/infiniband").glob("*"))


def run(*args, timeout=30):
    return subprocess.run(
        [NDPING, *args], capture_output=True, text=True, timeout=timeout
    )


def unused_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Usage(unittest.TestCase):
    def expect(self, args, message):
        result = run(*args)
        self.assertEqual(result.returncode, 2, result)
        self.assertEqual(result.stdout, "")
        self.assertIn(message, result.stderr)
        for line in result.stderr.splitlines():
            self.assertTrue(line.startswith("ndping: "), line)

    def test_unknown_option(self):
        self.expect(
            ["lat", "127.0.0.1", "--sise", "8"],
            "lat has no option --sise; did you mean --size?",
        )

    def test_unknown_command(self):
        self.expect(["frob"], "command frob does not exist")

    def test_no_command(self):
        self.expect([], "expected a command")

    def test_bad_values(self):
        self.expect(["lat", "127.0.0.1", "--op", "sned"], "'sned' is not one of send")
        self.expect(["bw", "127.0.0.1", "--size", "8Q"], "--size: '8Q' is not a size")
        self.expect(["bw", "127.0.0.1", "--depth", "0"], "--depth: '0' is not")
        self.expect(["lat", "127.0.0.1", "--fail-if", "p99"], "no comparison")

    def test_missing_address(self):
        self.expect(["lat"], "lat: ADDR is required")

    def test_krping_options(self):
        self.expect(["krping", "client,frob"], "frob")


class Text(unittest.TestCase):
    COMMANDS = (
        "server ping lat bw rate connect register krping devices doctor explain info"
    ).split()

    def test_help_names_every_command(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        for command in self.COMMANDS:
            self.assertIn(f"\n  {command} ", result.stdout)

    def test_every_command_has_a_page_with_an_example(self):
        for command in self.COMMANDS:
            result = run(command, "--help")
            self.assertEqual(result.returncode, 0, command)
            self.assertIn(f"Usage: ndping {command}", result.stdout)
            self.assertIn(f"Examples:\n  ndping {command}", result.stdout)

    def test_version(self):
        self.assertRegex(run("version").stdout, r"^ndping \d+\.\d+\.\d+\n$")

    def test_explain(self):
        result = run("explain", "IBV_WC_RETRY_EXC_ERR")
        self.assertEqual(result.returncode, 0)
        self.assertIn("IBV_WC_RETRY_EXC_ERR (12)", result.stdout)
        self.assertIn("cause:", result.stdout)
        self.assertIn("cure:", result.stdout)
        self.assertEqual(run("explain", "12").stdout, result.stdout)

    def test_explain_lists_all(self):
        self.assertIn("IBV_WC_RNR_RETRY_EXC_ERR", run("explain").stdout)

    def test_explain_of_nothing_known(self):
        result = run("explain", "IBV_WC_NO_SUCH_THING")
        self.assertEqual(result.returncode, 2)
        self.assertIn("IBV_WC_NO_SUCH_THING", result.stderr)


class NobodyThere(unittest.TestCase):
    def test_info_says_who_did_not_answer(self):
        port = unused_port()
        result = run("info", "127.0.0.1", "--port", str(port))
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"127.0.0.1:{port}", result.stderr)
        self.assertIn("ndping server", result.stderr)

    def test_json_has_the_error_too(self):
        result = run("lat", "127.0.0.1", "--port", str(unused_port()), "--json")
        self.assertEqual(result.returncode, 1)
        document = json.loads(result.stdout)
        self.assertEqual(document["schema"], "nd.ndping/1")
        self.assertFalse(document["passed"])
        self.assertIn(document["error"]["message"], result.stderr)


@unittest.skipIf(HAS_DEVICE, "this machine has an RDMA device")
@unittest.mock.patch.dict(os.environ, ND_DEVICE="none")
class NoDevice(unittest.TestCase):
    def test_server_says_what_to_do(self):
        result = run("server", "--port", str(unused_port()))
        self.assertEqual(result.returncode, 1)
        self.assertIn("ndping doctor", result.stderr)

    def test_devices_says_that_there_is_none(self):
        result = run("devices")
        self.assertRegex(result.stdout + result.stderr, "no RDMA (device|support)")

    def test_doctor_finds_what_is_missing(self):
        result = run("doctor")
        self.assertEqual(result.returncode, 1)
        self.assertIn("[fail]", result.stdout)
        checks = json.loads(run("doctor", "--json").stdout)["checks"]
        self.assertTrue(any(check["verdict"] == "fail" for check in checks))


class Signals(unittest.TestCase):
    def test_the_first_ctrl_c_ends_a_connection_attempt(self):
        # A listener that never answers.
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                [NDPING, "lat", "127.0.0.1", "--port", str(port)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            listener.settimeout(20)
            connection, _ = listener.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=20)
            self.assertEqual(process.returncode, 130)


if __name__ == "__main__":
    unittest.main()
