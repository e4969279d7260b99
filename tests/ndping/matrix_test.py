#!/usr/bin/env python3
"""Every operation in every way, each byte checked.

usage: matrix_test.py [unittest arguments], where scenario.py says.
"""

import itertools
import unittest

import scenario
from scenario import LOCAL, OPERATIONS, PEER, CQ_MODES

# Around the path MTU of 4096 and its packets' edges; 0 where it can be seen.
SIZES = "1,8,4095,4096,4097,64K"
BIG = "8M"
TO = (PEER, "--from", LOCAL)


def sizes_of(kind: str, op: str) -> str:
    if op in ("cas", "fetch-add"):
        return "8"
    # Nothing arrives of a WRITE of no bytes, so its latency cannot be measured.
    return SIZES if (kind, op) == ("lat", "write") else "0," + SIZES


class Matrix(scenario.ScenarioTest):
    def check(self, *arguments: str) -> None:
        with self.subTest(" ".join(arguments)):
            self.assert_all_verified(self.assert_passes(*arguments, "--verify"))

    def check_all(self, kind: str, qps: int, iterations: int) -> None:
        # With several QPs on an emulated CPU, each operation in one mode.
        every = list(itertools.product(OPERATIONS, CQ_MODES))
        if qps > 1 and not scenario.SOFT:
            every = list(zip(OPERATIONS, itertools.cycle(CQ_MODES)))
        with scenario.server("--address", PEER):
            for op, cq in every:
                self.check(kind, *TO, "--op", op, "--cq", cq, "--qps", str(qps),
                           "--size", sizes_of(kind, op),
                           "--iterations", str(iterations), "--warmup", "2")

    def test_latency_with_one_qp(self):
        self.check_all("lat", 1, 20)

    def test_latency_with_two_qps(self):
        self.check_all("lat", 2, 20)

    def test_latency_with_64_qps(self):
        self.check_all("lat", 64, 64)

    def test_bandwidth_with_one_qp(self):
        self.check_all("bw", 1, 200)

    def test_bandwidth_with_two_qps(self):
        self.check_all("bw", 2, 200)

    def test_bandwidth_with_64_qps(self):
        self.check_all("bw", 64, 128)

    def test_big_messages(self):
        with scenario.server("--address", PEER):
            for kind, op in itertools.product(("lat", "bw"), OPERATIONS[:5]):
                self.check(kind, *TO, "--op", op, "--size", BIG,
                           "--iterations", "8", "--warmup", "1")

    def test_both_directions_at_once(self):
        with scenario.server("--address", PEER):
            for op in OPERATIONS:
                self.check("bw", *TO, "--op", op, "--bidirectional", "--qps", "2",
                           "--size", "8" if op in OPERATIONS[5:] else "8,4097,64K",
                           "--iterations", "200")

    def test_ipv6(self):
        with scenario.server("--address", scenario.PEER6):
            for kind, op in itertools.product(("lat", "bw"), OPERATIONS):
                self.check(kind, scenario.PEER6, "--from", scenario.LOCAL6,
                           "--op", op, "--iterations", "50",
                           *(() if op in OPERATIONS[5:] else ("--size", "1,4K")))

    def test_options_of_the_path_and_of_the_queues(self):
        with scenario.server("--address", PEER):
            for more in (("--mtu", "256"), ("--mtu", "4096"), ("--tos", "32"),
                         ("--sl", "3"), ("--inline", "64"), ("--inline", "0"),
                         ("--depth", "1"), ("--depth", "16", "--signal-every", "16"),
                         ("--signal-every", "1"), ("--rate-limit", "200M"),
                         ("--duration", "300ms")):
                self.check("bw", *TO, "--op", "send", "--size", "64,64K",
                           *(() if more[0] == "--duration" else ("--iterations", "100")),
                           *more)
            self.check("lat", *TO, "--interval", "5ms", "--iterations", "20")
            self.check("lat", *TO, "--duration", "300ms", "--op", "write")


class Loss(scenario.ScenarioTest):
    def setUp(self) -> None:
        super().setUp()
        self.enterContext(scenario.packets_lost(0.01))

    def test_everything_arrives_once_though_one_packet_in_a_hundred_is_lost(self):
        with scenario.server("--address", PEER):
            for kind, op in itertools.product(("lat", "bw"), OPERATIONS):
                result = self.assert_passes(
                    kind, *TO, "--op", op, "--verify", "--iterations", "200",
                    "--warmup", "0", "--ack-timeout", "12",
                    *(() if op in OPERATIONS[5:] else ("--size", "64,16K")))
                self.assert_all_verified(result)


if __name__ == "__main__":
    unittest.main(verbosity=2)
