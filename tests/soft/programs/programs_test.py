#!/usr/bin/env python3
"""Programs that none of us wrote, on the soft device.

usage: programs_test.py NDSOFT LATE_CONNECT [unittest's arguments]

NDSOFT is the program `ndsoft`, LATE_CONNECT the library that perftest's clients of
rdma_cm are preloaded with (late_connect.cc). ND_REPEATS: how often each program or
group of programs runs (1). Run it in a network namespace of its own: the programs use
fixed ports. Root becomes nobody.
"""

import dataclasses
import functools
import os
import sys
import unittest

import soft_programs
from soft_programs import (IPV4, IPV6, OTHER_IPV4, finish, has_service, in_group,
                           listens_on, run_on_soft, stop, wait_for)

REPEATS = int(os.environ.get("ND_REPEATS", "1"))

late_connect = ""


def repeated(test):
    """For what is not a pair."""

    @functools.wraps(test)
    def again_and_again(self) -> None:
        for _ in range(REPEATS):
            test(self)

    return again_and_again


@dataclasses.dataclass
class Pair:
    """A server, a client, and how one knows that the server listens."""

    server: list[str]
    client: list[str]
    tcp_port: int = 0  # that the two meet on, or
    cm_port: int = 0   # rdma_cm's
    server_stays: bool = False
    preload: str = ""  # the client's


class SoftTest(unittest.TestCase):
    def run_pair(self, pair: Pair, *expected: str) -> None:
        for _ in range(REPEATS):
            said = self.run_once(pair)
            for pattern in expected:
                self.assertRegex(said, pattern)

    def run_once(self, pair: Pair) -> str:
        """What the client said."""
        server = run_on_soft(pair.server)
        wait_for(lambda: listens_on(pair.tcp_port) if pair.tcp_port
                 else has_service(pair.cm_port), server)
        status, output = finish(run_on_soft(pair.client, preload=pair.preload))
        if pair.server_stays or status != 0:
            server_output, server_status = stop(server), 0
        else:
            server_status, server_output = finish(server)
        said = (f"{' '.join(pair.client)}\nclient {status}:\n{output}\n"
                f"server {server_status}:\n{server_output}")
        self.assertEqual((status, server_status), (0, 0), said)
        return output


class Devices(SoftTest):
    @repeated
    def test_are_listed(self) -> None:
        status, output = finish(run_on_soft(["ibv_devices"]))
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"\bnd0\b")

    @repeated
    def test_describe_themselves(self) -> None:
        status, output = finish(run_on_soft(["ibv_devinfo", "-v"]))
        self.assertEqual(status, 0, output)
        self.assertIn("PORT_ACTIVE", output)
        self.assertIn("Ethernet", output)
        self.assertRegex(output, r"GID\[ +\d+\]:\s+::ffff:10\.98\.0\.1, RoCE v2")

    def test_a_wrong_setting_is_named(self) -> None:
        _, output = finish(run_on_soft(["env", "ND_SOFT_SINGLE_COPY=no", "ibv_devinfo"]))
        self.assertIn("ND_SOFT_SINGLE_COPY: 'no' is neither 0 nor 1", output)


class Pingpong(SoftTest):
    """rdma-core's examples: -c checks every byte."""

    def pingpong(self, kind: str, *options: str) -> None:
        command = [f"ibv_{kind}_pingpong", "-g", "1", "-n", "500", *options]
        self.run_pair(Pair(command, [*command, IPV4], tcp_port=18515),
                      r"500 iters in")

    def test_rc(self) -> None:
        self.pingpong("rc", "-c")

    def test_rc_with_events(self) -> None:
        self.pingpong("rc", "-c", "-e")

    def test_rc_by_the_new_api(self) -> None:
        self.pingpong("rc", "-c", "-N")

    def test_rc_at_every_mtu_and_size(self) -> None:
        for mtu in (256, 512, 1024, 2048, 4096):
            for size in (1, mtu - 1, mtu, mtu + 1, 65536):
                with self.subTest(mtu=mtu, size=size):
                    self.pingpong("rc", "-c", "-m", str(mtu), "-s", str(size))

    def test_rc_with_large_messages_copied_once_or_twice(self) -> None:
        for single_copy in ("1", "0"):
            with self.subTest(single_copy=single_copy):
                command = ["env", f"ND_SOFT_SINGLE_COPY={single_copy}", "ibv_rc_pingpong",
                           "-g", "1", "-n", "200", "-c", "-m", "4096", "-s", "1000001"]
                self.run_pair(Pair(command, [*command, IPV4], tcp_port=18515),
                              r"200 iters in")

    def test_uc(self) -> None:
        self.pingpong("uc", "-c")

    def test_uc_with_events(self) -> None:
        self.pingpong("uc", "-c", "-e")

    def test_ud(self) -> None:
        self.pingpong("ud", "-c", "-s", "1024")

    def test_ud_with_events(self) -> None:
        self.pingpong("ud", "-c", "-e", "-s", "1024")

    def test_srq(self) -> None:
        self.pingpong("srq", "-c")

    def test_srq_with_events(self) -> None:
        self.pingpong("srq", "-c", "-e")


class RdmaCm(SoftTest):
    """rdma-core's programs over the real librdmacm."""

    def rping(self, address: str, *options: str) -> None:
        self.run_pair(
            Pair(["rping", "-s", "-a", address, "-C", "20", "-V", *options],
                 ["rping", "-c", "-a", address, "-C", "20", "-V", *options],
                 cm_port=7174))

    def test_rping_validates(self) -> None:
        self.rping(IPV4)

    def test_rping_over_ipv6(self) -> None:
        self.rping(IPV6)

    def test_rping_with_its_largest_size(self) -> None:
        self.rping(IPV4, "-S", "65535")

    @repeated
    def test_rping_against_a_persistent_server(self) -> None:
        server = run_on_soft(["rping", "-s", "-P", "-a", IPV4])
        wait_for(lambda: has_service(7174), server)
        for _ in range(5):
            status, output = finish(run_on_soft(
                ["rping", "-c", "-a", IPV4, "-C", "5", "-V"]))
            self.assertEqual(status, 0, output)
        stop(server)

    @repeated
    def test_two_servers_have_one_port_on_two_addresses(self) -> None:
        servers = {}
        for address in (IPV4, OTHER_IPV4):
            servers[address] = run_on_soft(["rping", "-s", "-a", address, "-C", "5",
                                            "-V"])
            wait_for(lambda address=address: has_service(7174, address),
                     servers[address])
        for everywhere in ("0.0.0.0", "127.0.0.1"):
            status, output = finish(run_on_soft(
                ["rping", "-s", "-a", everywhere, "-C", "5"]))
            self.assertNotEqual(status, 0, output)
            self.assertIn("rdma_bind_addr", output)
        for address, server in reversed(servers.items()):
            status, output = finish(run_on_soft(
                ["rping", "-c", "-a", address, "-C", "5", "-V"]))
            self.assertEqual(status, 0, output)
            status, output = finish(server)
            self.assertEqual(status, 0, output)

    @repeated
    def test_rping_to_nobody_is_rejected(self) -> None:
        status, output = finish(run_on_soft(["rping", "-c", "-a", IPV4, "-C", "1"]))
        self.assertNotEqual(status, 0)
        self.assertIn("RDMA_CM_EVENT_REJECTED", output)

    def test_ucmatose(self) -> None:
        for connections in ("1", "20"):
            self.run_pair(Pair(["ucmatose", "-c", connections],
                               ["ucmatose", "-c", connections, "-s", IPV4],
                               cm_port=7471), "return status 0")

    def test_udaddy(self) -> None:
        self.run_pair(Pair(["udaddy"], ["udaddy", "-s", IPV4], cm_port=7174),
                      "return status 0")

    def mckey(self, group: str, address: str, dgid: str) -> None:
        """One sends ten datagrams to a group of three, itself included."""
        command = ["mckey", "-m", group, "-b", address]
        receivers = [run_on_soft(command) for _ in range(2)]
        wait_for(lambda: in_group(2), receivers[0])
        sender = run_on_soft([*command, "-s"])
        for process in (sender, *receivers):
            status, output = finish(process)
            self.assertEqual(status, 0, output)
            self.assertIn(f"mckey: joined dgid: {dgid} ", output)
            self.assertIn("data transfers complete", output)
            self.assertIn("return status 0", output)

    @repeated
    def test_mckey(self) -> None:
        self.mckey("239.98.1.2", IPV4, "::ffff:239.98.1.2")

    @repeated
    def test_mckey_over_ipv6(self) -> None:
        self.mckey("ff0e::98:1", IPV6, "ff0e::98:1")

    def test_cmtime(self) -> None:
        self.run_pair(Pair(["cmtime", "-c", "20"],
                           ["cmtime", "-c", "20", "-s", IPV4], cm_port=7471,
                           server_stays=True), "connect")

    def test_rdma_client_and_server(self) -> None:
        self.run_pair(Pair(["rdma_server"], ["rdma_client", "-s", IPV4],
                           cm_port=7471), "rdma_client: end 0")

    def test_rstream_verifies(self) -> None:
        for kind in ("b", "n"):
            options = ["-T", kind, "-T", "v", "-S", "4096", "-I", "10"]
            self.run_pair(Pair(["rstream", *options],
                               ["rstream", *options, "-s", IPV4],
                               cm_port=7471), "4k|custom")


class Perftest(SoftTest):
    def perftest(self, program: str, *options: str) -> None:
        command = [program, "-F", "-n", "500", *options]
        by_cm = "-R" in options
        self.run_pair(Pair(command, [*command, IPV4],
                           tcp_port=0 if by_cm else 18515,
                           cm_port=18515 if by_cm else 0,
                           preload=late_connect if by_cm else ""))

    def test_latency(self) -> None:
        for op in ("send", "write", "read", "atomic"):
            with self.subTest(op):
                self.perftest(f"ib_{op}_lat")

    def test_bandwidth(self) -> None:
        for op in ("send", "write", "read", "atomic"):
            with self.subTest(op):
                self.perftest(f"ib_{op}_bw")

    # As fast as it goes, until what is lent has been chosen and much waits.
    def test_bandwidth_of_long_messages(self) -> None:
        for op in ("send", "write", "read"):
            with self.subTest(op):
                self.perftest(f"ib_{op}_bw", "-s", "1048576", "-n", "3000")

    def test_bandwidth_both_ways(self) -> None:
        for op in ("send", "write", "read"):
            with self.subTest(op):
                self.perftest(f"ib_{op}_bw", "-b")

    def test_by_rdma_cm(self) -> None:
        for op in ("send", "write", "read", "atomic"):
            for measure in ("bw", "lat"):
                program = f"ib_{op}_{measure}"
                with self.subTest(program):
                    self.perftest(program, "-R")

    def test_with_events(self) -> None:
        for op in ("send", "read", "atomic"):
            for measure in ("bw", "lat"):
                program = f"ib_{op}_{measure}"
                with self.subTest(program):
                    self.perftest(program, "-e")

    def test_over_several_qps(self) -> None:
        for op in ("send", "write", "read", "atomic"):
            with self.subTest(op):
                self.perftest(f"ib_{op}_bw", "-q", "8")

    def test_over_uc_and_ud(self) -> None:
        self.perftest("ib_write_lat", "-c", "UC")
        self.perftest("ib_send_bw", "-c", "UC")
        self.perftest("ib_send_lat", "-c", "UD", "-s", "64")


if __name__ == "__main__":
    ndsoft, late_connect = map(os.path.abspath, sys.argv[1:3])
    soft_programs.as_nobody(ndsoft, late_connect)
    soft_programs.use_ndsoft(ndsoft)
    del sys.argv[1:3]
    unittest.main()
