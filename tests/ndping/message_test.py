#!/usr/bin/env python3
"""Tests over the streams of a session: every way of them, each byte checked.

usage: message_test.py [unittest arguments], where scenario.py says.
"""

import itertools
import signal
import unittest

import scenario
from scenario import CQ_MODES, LOCAL, PEER

TO = (PEER, "--from", LOCAL, "--over", "message")
CLASSES = ("latency", "bulk")
# Around the longest message of a slot, and of one WRITE.
SIZES = "0,1,8160,8161,64K"


class MessageTest(scenario.ScenarioTest):
    def assert_ping_passes(self, stream_class: str) -> None:
        done = scenario.ndping("ping", *TO, "--stream-class", stream_class, "--count", "3",
                               "--interval", "10ms", "--verify")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 transmitted, 3 received", done.stdout)
        self.assertIn("every byte that came back was right", done.stdout)


class Messages(MessageTest):
    def check(self, *arguments: str) -> dict:
        with self.subTest(" ".join(arguments)):
            result = self.assert_passes(*arguments, "--verify")
            self.assert_all_verified(result)
            return result

    def test_latency_and_bandwidth_in_both_classes_and_every_mode(self):
        with scenario.server("--address", PEER):
            for kind, stream_class, cq in itertools.product(
                    ("lat", "bw"), CLASSES, CQ_MODES):
                result = self.check(kind, *TO, "--stream-class", stream_class, "--cq", cq,
                                    "--size", SIZES, "--iterations", "50", "--warmup", "2")
                self.assertEqual(result["options"]["stream_class"], stream_class)

    def test_rate_in_both_classes(self):
        with scenario.server("--address", PEER):
            for stream_class in CLASSES:
                result = self.check("rate", *TO, "--stream-class", stream_class,
                                    "--duration", "300ms", "--warmup", "10")
                self.assertEqual(result["options"]["streams"], 8)
                self.assertGreater(result["phases"][0]["messages_per_second"], 0)

    def test_ping_in_both_classes(self):
        with scenario.server("--address", PEER):
            for stream_class in CLASSES:
                self.assert_ping_passes(stream_class)

    def test_layouts_and_streams(self):
        with scenario.server("--address", PEER):
            for more in (("--streams", "16"), ("--connections", "3"), ("--digest",),
                         ("--ring",), ("--ring", "--digest", "--slots", "4"), ("--slots", "4"), ("--eager-limit", "0"),
                         ("--eager-limit", "70000", "--slots", "8"), ("--depth", "1"),
                         ("--bidirectional", "--streams", "3"), ("--rate-limit", "100M")):
                self.check("bw", *TO, "--size", "64,20000", "--iterations", "100", *more)
            self.check("bw", *TO, "--size", "64,20000", "--duration", "300ms")
            self.check("lat", *TO, "--interval", "5ms", "--iterations", "20", "--streams", "2")
            self.check("lat", *TO, "--size", "8M", "--iterations", "5", "--warmup", "1")

    def test_a_load_beside_it_in_its_own_class_and_in_the_same(self):
        with scenario.server("--address", PEER):
            for load_class, more in itertools.product(CLASSES, ((), ("--cq", "event"))):
                result = self.check("lat", *TO, "--under-load", "--load-class", load_class,
                                    "--load-size", "64K", "--iterations", "50", "--warmup", "5",
                                    *more)
                load = result["phases"][0]["load"]
                self.assertGreater(load["messages"], 0)
                self.assertGreater(load["bytes_per_second"], 0)

    def test_ipv6(self):
        with scenario.server("--address", scenario.PEER6):
            self.check("lat", scenario.PEER6, "--from", scenario.LOCAL6, "--over", "message",
                       "--iterations", "20")


class MessagesLoss(MessageTest):
    """Few messages: one that is lost alone costs the connection manager's timeout,
    two seconds."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(scenario.packets_lost(0.01))

    def test_everything_arrives_once_though_one_packet_in_a_hundred_is_lost(self):
        with scenario.server("--address", PEER):
            # Each two of these ways meet.
            for kind, stream_class, layout in (
                    ("lat", "latency", ()), ("bw", "latency", ("--ring", "--digest")),
                    ("bw", "bulk", ("--digest",)), ("lat", "bulk", ("--ring",))):
                result = self.assert_passes(
                    kind, *TO, "--stream-class", stream_class, *layout, "--cq", "event",
                    "--size", "64,20000", "--iterations", "20", "--warmup", "0", "--verify")
                self.assert_all_verified(result)
            self.assert_ping_passes("bulk")


class MessagesBadCases(scenario.ScenarioTest):
    def assert_fails(self, done, status: int, *words: str) -> None:
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_options_of_verbs_are_refused(self):
        for flag, value in (("--op", "write"), ("--qps", "2"), ("--inline", "64"),
                            ("--mtu", "1024"), ("--sl", "1"), ("--tos", "1"), ("--retry", "3"),
                            ("--rnr-retry", "3"), ("--ack-timeout", "14"),
                            ("--provoke", "wrong-rkey")):
            self.assert_fails(scenario.ndping("lat", *TO, flag, value), 2,
                              f"{flag}: not with --over message")
        self.assert_fails(scenario.ndping("bw", *TO, "--signal-every", "4"), 2,
                          "--signal-every: not with --over message")

    def test_options_of_messages_are_refused_over_verbs(self):
        for flag in (("--stream-class", "bulk"), ("--streams", "2"), ("--digest",),
                     ("--ring",), ("--under-load",), ("--eager-limit", "0"), ("--slots", "8"),
                     ("--connections", "2"), ("--load-size", "1M")):
            self.assert_fails(scenario.ndping("lat", PEER, *flag), 2,
                              f"{flag[0]}: only with --over message")

    def test_the_servers_limits_hold(self):
        with scenario.server("--address", PEER, "--max-size", "1M", "--max-qps", "4"):
            self.assert_fails(scenario.ndping("lat", *TO, "--size", "2M"), 1, "--size")
            self.assert_fails(scenario.ndping("lat", *TO, "--streams", "5"), 1, "5 are more")
            self.assert_fails(scenario.ndping("lat", *TO, "--under-load", "--load-size", "2M"), 1,
                              "--load-size")

    def test_server_killed_in_a_test(self):
        with scenario.server("--address", PEER) as server:
            client = scenario.start("bw", *TO, "--duration", "60s")
            scenario.wait_until(scenario.is_under_way, "the test to run")
            server.kill()
            _, errors = client.communicate(timeout=60)
            self.assertEqual(client.returncode, 1, errors)
            self.assertIn(PEER, errors)

    def test_client_killed_in_a_test(self):
        with scenario.server("--address", PEER):
            client = scenario.start("lat", *TO, "--under-load", "--duration", "60s")
            scenario.wait_until(scenario.is_under_way, "the test to run")
            client.kill()
            client.communicate()
            scenario.wait_until(scenario.no_test_is_left, "the server to free the test", 30)
            self.assert_passes("lat", *TO, "--iterations", "10")

    def test_interrupt_ends_a_test_cleanly_on_both_sides(self):
        self.assert_interrupt_ends_cleanly("bw", *TO)
        self.assert_interrupt_ends_cleanly("lat", *TO, "--under-load")

    def test_more_tests_than_the_server_runs(self):
        with scenario.server("--address", PEER, "--max-tests", "1"):
            first = scenario.start("lat", *TO, "--duration", "20s")
            scenario.wait_until(scenario.is_under_way, "the first test to run")
            self.assert_fails(scenario.ndping("lat", *TO), 1, "test")
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=60)
            self.assertEqual(first.returncode, 130)


if __name__ == "__main__":
    unittest.main(verbosity=2)
