#!/usr/bin/env python3
"""What goes wrong, and what the user is told: message and exit status.

usage: bad_cases_test.py [unittest arguments], where scenario.py says.
"""

import contextlib
import os
import signal
import subprocess
import time
import unittest
import unittest.mock

import scenario
from scenario import LOCAL, PEER

TO = (PEER, "--from", LOCAL)
# An address of the wire's subnet that nobody has.
NOBODY = "10.98.0.99"


class BadCases(scenario.ScenarioTest):
    def assert_fails(self, done: subprocess.CompletedProcess, status: int,
                     *words: str) -> None:
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertTrue(done.stderr.startswith("ndping: "), done.stderr)
        self.assertNotIn("ERROR: AddressSanitizer", done.stderr)

    def test_nobody_listens_for_grpc(self):
        self.assert_fails(scenario.ndping("lat", *TO), 1, f"{PEER}:7470")

    def test_nobody_listens_for_rdma(self):
        done = scenario.ndping("ping", *TO, "--protocol", "rping", "--count", "1")
        self.assert_fails(done, 1, f"{PEER}:7174", "nobody listens")

    def test_no_route(self):
        done = scenario.ndping("ping", "203.0.113.1", "--protocol", "rping",
                               "--count", "1")
        self.assert_fails(done, 1, "203.0.113.1")

    def test_host_that_does_not_answer(self):
        began = time.monotonic()
        done = scenario.ndping("ping", NOBODY, "--from", LOCAL, "--protocol",
                               "rping", "--count", "1")
        self.assert_fails(done, 1, NOBODY)
        self.assertLess(time.monotonic() - began, 60)

    def test_request_without_a_token(self):
        with scenario.server("--address", PEER) as server:
            done = scenario.ndping("ping", *TO, "--protocol", "rping", "--port",
                                   "7471", "--count", "1")
            self.assert_fails(done, 1, PEER)
            info = scenario.ndping("info", PEER)
            self.assertRegex(info.stdout, r"\b1 rejected")
            self.assertNotIn("AddressSanitizer", server.log())

    def test_unknown_option(self):
        done = scenario.ndping("lat", *TO, "--sizes", "8")
        self.assert_fails(done, 2, "--sizes")

    def test_unknown_value(self):
        done = scenario.ndping("lat", *TO, "--op", "push")
        self.assert_fails(done, 2, "push", "fetch-add")

    def test_size_over_the_servers_limit(self):
        with scenario.server("--address", PEER, "--max-size", "1M"):
            done = scenario.ndping("lat", *TO, "--size", "2M")
            self.assert_fails(done, 1, "size")

    def test_more_tests_than_the_server_runs(self):
        with scenario.server("--address", PEER, "--max-tests", "1") as server:
            first = scenario.start("lat", *TO, "--duration", "20s")
            scenario.wait_until(scenario.is_under_way,
                                "the first test to run")
            done = scenario.ndping("lat", *TO)
            self.assert_fails(done, 1, "test")
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=60)
            self.assertEqual(first.returncode, 130)
            self.assertIsNone(server.process.poll())

    @unittest.skipIf(scenario.SOFT, "no memory is locked for the soft device")
    def test_memlock_too_small(self):
        with scenario.server("--address", PEER):
            done = subprocess.run(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                 "--bounding-set=-all", "--inh-caps=-all",
                 "prlimit", "--memlock=65536:65536",
                 scenario.NDPING, "bw", *TO, "--size", "1M"],
                capture_output=True, text=True, timeout=120)
            self.assert_fails(done, 1, "locked", "ulimit -l")

    def test_wrong_rkey(self):
        with scenario.server("--address", PEER):
            for op in ("write", "read", "fetch-add"):
                done = scenario.ndping("bw", *TO, "--op", op, "--iterations", "10",
                                       "--provoke", "wrong-rkey")
                self.assert_fails(done, 1, "IBV_WC_REM_ACCESS_ERR", PEER, "rkey")

    def test_no_receives(self):
        with scenario.server("--address", PEER):
            done = scenario.ndping("bw", *TO, "--op", "send", "--iterations", "10",
                                   "--rnr-retry", "1", "--provoke", "no-receives")
            self.assert_fails(done, 1, "IBV_WC_RNR_RETRY_EXC_ERR", PEER)

    def test_server_killed_in_a_test(self):
        with scenario.server("--address", PEER) as server:
            client = scenario.start("bw", *TO, "--duration", "60s")
            scenario.wait_until(scenario.is_under_way, "the test to run")
            server.kill()
            began = time.monotonic()
            _, errors = client.communicate(timeout=60)
            self.assertLess(time.monotonic() - began, 15)
            self.assertEqual(client.returncode, 1, errors)
            self.assertIn(PEER, errors)

    def test_client_killed_in_a_test(self):
        with scenario.server("--address", PEER) as server:
            client = scenario.start("bw", *TO, "--duration", "60s")
            scenario.wait_until(scenario.is_under_way, "the test to run")
            client.kill()
            client.communicate()
            scenario.wait_until(scenario.no_test_is_left,
                                "the server to free the test", 15)
            # Within a host TCP takes the address of the server for both ends.
            self.assertIn(PEER if scenario.SOFT else LOCAL, server.log())
            self.assert_passes("lat", *TO, "--iterations", "10")

    def test_interrupt_ends_a_test_cleanly_on_both_sides(self):
        self.assert_interrupt_ends_cleanly("bw", *TO)

    def test_two_servers_on_one_port(self):
        with scenario.server("--address", PEER):
            done = scenario.ndping("server", "--address", PEER, "--rdma-port",
                                   "7481")
            self.assert_fails(done, 1, "7470")
            done = scenario.ndping("server", "--address", PEER, "--port", "7480")
            self.assert_fails(done, 1, "7471")


class DeviceRemoval(scenario.ScenarioTest):
    """Last in this file: the device that it makes anew has other indices. Of the
    soft device, each process loses its own."""

    def tearDown(self) -> None:
        if not scenario.SOFT and not os.path.exists("/sys/class/infiniband/rxe0"):
            subprocess.run(["rdma", "link", "add", "rxe0", "type", "rxe",
                            "netdev", "veth0"], check=True)
        super().tearDown()

    def test_device_removed_in_a_test(self):
        with scenario.server("--address", PEER) as server:
            errors = (self.remove_soft_device() if scenario.SOFT
                      else self.remove_rxe0())
            self.assertIn("device nd0" if scenario.SOFT else "device rxe0", errors)
            self.assertIn("RDMA_CM_EVENT_DEVICE_REMOVAL", errors)
            self.assertIsNone(server.process.poll())


    def remove_rxe0(self) -> str:
        client = scenario.start("bw", *TO, "--duration", "60s")
        scenario.wait_until(scenario.is_under_way, "the test to run")
        # Ends when the last program that has the device open does.
        removal = subprocess.Popen(["rdma", "link", "del", "rxe0"])
        errors = self.errors_of(client)
        self.assertEqual(removal.wait(60), 0)
        return errors

    def remove_soft_device(self) -> str:
        with unittest.mock.patch.dict(
                os.environ, ND_SOFT_FAULTS="device-removal=after:4s"):
            client = scenario.start("bw", *TO, "--duration", "60s")
        scenario.wait_until(scenario.is_under_way, "the test to run")
        return self.errors_of(client)

    def errors_of(self, client: subprocess.Popen) -> str:
        _, errors = client.communicate(timeout=60)
        self.assertEqual(client.returncode, 1, errors)
        return errors


class SilentHost(scenario.ScenarioTest):
    @staticmethod
    @contextlib.contextmanager
    def silenced(server: scenario.Server):
        """Within a host there is no wire to cut: the process stands still."""
        if scenario.SOFT:
            server.process.send_signal(signal.SIGSTOP)
        else:
            subprocess.run([scenario.NETEM, "100%"], check=True)
        try:
            yield
        finally:
            if scenario.SOFT:
                server.process.send_signal(signal.SIGCONT)
            else:
                subprocess.run([scenario.NETEM, "off"], check=True)

    def test_host_that_falls_silent_is_noticed(self):
        """Nothing of it comes any more, no RST either: its power has gone."""
        with scenario.server("--address", PEER) as server:
            client = scenario.start("lat", *TO, "--duration", "60s")
            scenario.wait_until(scenario.is_under_way, "the test to run")
            with self.silenced(server):
                _, errors = client.communicate(timeout=30)
                self.assertEqual(client.returncode, 1, errors)
                self.assertIn(PEER, errors)
                if not scenario.SOFT:  # else it cannot do anything
                    scenario.wait_until(lambda: scenario.resources()["qp"] == 0,
                                        "the server to free the test", 30)
            scenario.wait_until(scenario.no_test_is_left,
                                "the server to free the test", 30)
            self.assert_passes("lat", *TO, "--iterations", "10")


if __name__ == "__main__":
    unittest.main(verbosity=2)
