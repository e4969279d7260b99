#!/usr/bin/env python3
"""The soft device and the kernel's rdma_rxe, over a wire.

usage: interop_test.py NDSOFT LATE_CONNECT GUEST_DIR RESULT_DIR
                       [unittest's arguments]

NDSOFT is the program `ndsoft`, LATE_CONNECT the library that rdma_cm's clients
are preloaded with (programs/late_connect.cc), GUEST_DIR is as for guest.py
--dir. One guest is booted, with a tap between it and a network namespace of
this test's own, and each pair of programs runs twice, with the server at either
end. What went over the tap is kept in RESULT_DIR, a capture for each test class,
and is held to the rules of wire_rules.py.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

import wire_rules
from ends import STATUS_TIMEOUT, End, Guest, Host

from image import prepare
from machine import Options, boot

NDSOFT = LATE_CONNECT = GUEST_DIR = RESULT_DIR = Path()
NETEM = Path(__file__).resolve().parents[2] / "guest" / "netem.sh"

# Of a server whose client has ended.
UNANSWERED = "transport retry counter exceeded"
SKIPPED = 77  # as ctest is told

host: Host
guest: Guest


def setUpModule() -> None:
    global host, guest
    subprocess.run(["sh", "-euc", """
        ip link set lo up
        ip tuntap add dev tap0 mode tap
        echo 0 > /proc/sys/net/ipv6/conf/tap0/accept_dad
        ip link set tap0 up
        ip address add 10.99.0.1/24 dev tap0
        ip address add fd99::1/64 dev tap0 nodad"""], check=True)
    RESULT_DIR.mkdir(parents=True, exist_ok=True)
    machine = boot(prepare(GUEST_DIR), GUEST_DIR,
                   Options(2048, "auto", False, tap="tap0"))
    unittest.addModuleCleanup(machine.stop)
    host, guest = Host(NDSOFT), Guest(machine)


class Capture:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = subprocess.Popen(
            ["dumpcap", "-q", "-P", "-B", "64", "-i", "tap0",
             "-f", f"udp port {wire_rules.ROCE_PORT}", "-w", path],
            text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for line in self._process.stderr:
            if line.startswith("File:"):
                return
        raise RuntimeError(f"dumpcap ended with {self._process.wait()}")

    def stop(self) -> None:
        time.sleep(1)  # for what dumpcap has not read yet
        self._process.send_signal(signal.SIGINT)
        self._process.communicate()


class Interop(unittest.TestCase):
    link_mtu: int
    path_mtu: int
    loss = "off"

    @classmethod
    def setUpClass(cls) -> None:
        host.run("ip", "link", "set", "tap0", "mtu", str(cls.link_mtu))
        guest.run("ip", "link", "set", "eth0", "mtu", str(cls.link_mtu))
        guest.run("sh", str(NETEM), cls.loss)
        cls.capture = Capture(RESULT_DIR / f"{cls.__name__}.pcap")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.capture.stop()
        path = cls.capture.path
        packets = wire_rules.read_capture(path)
        ours = {socket.inet_pton(family, host.addresses[version])
                for family, version in ((socket.AF_INET, 4),
                                        (socket.AF_INET6, 6))}
        faults = (wire_rules.rule_faults(packets, cls.path_mtu, ours)
                  + wire_rules.tshark_faults(path))
        print(f"{path}: {len(packets)} packets", flush=True)
        if faults:
            raise AssertionError(f"{path}: {len(faults)} of {len(packets)} "
                                 "packets, the first:\n"
                                 + "\n".join(faults[:20]))

    def rping(self, version: int, *options: str) -> None:
        command = ("rping", "-a", "{server}", "-V", *options)
        self.both_ways((*command, "-s"), (*command, "-c"), 7174, version,
                       by_cm=True)

    def pingpong(self, kind: str, version: int, *options: str) -> None:
        command = (f"ibv_{kind}_pingpong", "-d", "{device}", "-g", "{gid}",
                   "-c", *options)
        if kind != "ud":
            command += ("-m", "{mtu}")
        self.both_ways(command, (*command, "{server}"), 18515, version)

    # -u 18: an emulated CPU takes longer than the default's 67 ms.
    def perftest(self, program: str, version: int, *options: str) -> None:
        command = (program, "-F", "-d", "{device}", "-x", "{gid}",
                   "-m", "{mtu}", "-u", "18", *options)
        self.both_ways(command, (*command, "{server}"), 18515, version,
                       by_cm="-R" in options)

    def both_ways(self, server: tuple[str, ...], client: tuple[str, ...],
                  port: int, version: int, by_cm: bool = False) -> None:
        """`port` is the server's, of TCP or of rdma_cm."""
        for near, far in ((host, guest), (guest, host)):
            at = near.addresses[version if by_cm else 4]

            def words(end: End, command: tuple[str, ...]) -> list[str]:
                return [word.format(device=end.device, gid=end.gids[version],
                                    mtu=self.path_mtu, server=at)
                        for word in command]

            serve, call = words(near, server), words(far, client)
            with self.subTest(f"server on {near.device}: {' '.join(call)}"):
                self.run_pair(near, serve, far, call, port, by_cm)

    def run_pair(self, near: End, serve: list[str], far: End, call: list[str],
                 port: int, by_cm: bool) -> None:
        begin = time.monotonic()
        server = near.start(serve)
        near.wait_for_listener(port, by_cm)
        late = {"LD_PRELOAD": str(LATE_CONNECT)} if by_cm else {}
        status, said = far.start(call, late).wait()
        # The kernel does not repeat the DREQ of an id that is destroyed: where
        # that is lost the server stays.
        may_stay = by_cm and self.loss != "off"
        if status != 0 or may_stay:
            server.stop()
        server_status, server_said = server.wait()
        # Nor does a client that has ended repeat the ACK of the server's last
        # SEND: where that is lost the server repeats the SEND, in vain. To rxe a
        # retry count of 7 has no end.
        may_stay |= (self.loss != "off" and status == 0
                     and (server_status == STATUS_TIMEOUT
                          or UNANSWERED in server_said))
        print(f"{time.monotonic() - begin:5.1f} s  {far.device}: "
              f"{' '.join(call)}", flush=True)
        self.assertEqual(
            (status, 0 if may_stay else server_status), (0, 0),
            f"\n--- client on {far.device}: {' '.join(call)}\n{said}"
            f"\n--- server on {near.device}: {' '.join(serve)}\n{server_said}")


class Mtu4096(Interop):
    link_mtu, path_mtu = 4200, 4096

    def test_rping(self) -> None:
        for version in (4, 6):
            self.rping(version, "-C", "10")
            self.rping(version, "-C", "5", "-S", "65535")

    def test_pingpong(self) -> None:
        self.pingpong("rc", 4, "-n", "100", "-s", "4096")
        self.pingpong("rc", 6, "-n", "100", "-s", "10000")
        self.pingpong("uc", 4, "-n", "100", "-s", "4096")
        self.pingpong("ud", 6, "-n", "100", "-s", "1000")

    def test_latency(self) -> None:
        for op in ("write", "read"):
            self.perftest(f"ib_{op}_lat", 4, "-n", "50")
        for op in ("send", "atomic"):
            self.perftest(f"ib_{op}_lat", 4, "-n", "50", "-R")

    def test_bandwidth(self) -> None:
        long = ("-n", "20", "-s", "65536")
        self.perftest("ib_send_bw", 4, *long, "-b")
        for op in ("send", "write", "read"):
            self.perftest(f"ib_{op}_bw", 6, *long)
            self.perftest(f"ib_{op}_bw", 4, *long, "-R")

    def test_bandwidth_of_atomics(self) -> None:
        self.perftest("ib_atomic_bw", 6, "-n", "50")
        self.perftest("ib_atomic_bw", 4, "-n", "50", "-R")


class Mtu1024(Interop):
    link_mtu, path_mtu = 1500, 1024

    def test_rping(self) -> None:
        for version in (4, 6):
            self.rping(version, "-C", "5", "-S", "65535")

    def test_pingpong(self) -> None:
        self.pingpong("rc", 4, "-n", "100", "-s", "4096")
        self.pingpong("rc", 6, "-n", "100", "-s", "4096")

    def test_bandwidth(self) -> None:
        for op in ("send", "write", "read"):
            self.perftest(f"ib_{op}_bw", 4, "-n", "20", "-s", "65536")


class OnePercentLost(Interop):
    link_mtu, path_mtu, loss = 1500, 1024, "1%"

    def test_rping(self) -> None:
        for version in (4, 6):
            self.rping(version, "-C", "5", "-S", "20000")

    def test_pingpong(self) -> None:
        self.pingpong("rc", 4, "-n", "200", "-s", "4096")

    def test_bandwidth(self) -> None:
        for op in ("send", "write", "read"):
            self.perftest(f"ib_{op}_bw", 4, "-n", "20", "-s", "65536")

    def test_latency_of_atomics(self) -> None:
        self.perftest("ib_atomic_lat", 4, "-n", "100")


def enter_namespace(arguments: list[str]) -> None:
    """Starts again in a network namespace of its own. The guest's image is
    there by then: to get it takes a network."""
    prepare(GUEST_DIR)
    os.environ["ND_INTEROP_INSIDE"] = "1"
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--net",
                          sys.executable, *arguments])


if __name__ == "__main__":
    all_arguments = sys.argv[:]
    NDSOFT, LATE_CONNECT, GUEST_DIR, RESULT_DIR = (
        Path(sys.argv.pop(1)).absolute() for _ in range(4))
    if not NDSOFT.exists():
        sys.exit(f"{NDSOFT} is not there: ./dev build")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        print("skipped: without /dev/net/tun there is no wire to a guest")
        sys.exit(SKIPPED)
    if "ND_INTEROP_INSIDE" not in os.environ:
        enter_namespace(all_arguments)
    # The guest is not waited for as a child: no warning about that.
    unittest.main(warnings="ignore")
