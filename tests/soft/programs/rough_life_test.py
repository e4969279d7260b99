#!/usr/bin/env python3
"""What befalls programs: their peers are killed, they fork, they lose their
descriptors, memory, clock or file systems. Each ends in time, with a clear status,
and leaves nothing behind.

usage: rough_life_test.py NDSOFT DIRECTORY [unittest's arguments]

NDSOFT is the program `ndsoft`, DIRECTORY has the helpers that are built beside
this test. ND_MOMENTS: at how many moments each is killed (8). In a network namespace of its own, as its root.
"""

import contextlib
import glob
import os
import random
import signal
import subprocess
import sys
import time
import unittest

import soft_programs
from soft_programs import (IPV4, finish, has_service, kill, listens_on,
                           run_on_soft, soft_names, stop, wait_for, wait_until)

DIRECTORY = ""
PORT = 7174  # rping's
MOMENTS = int(os.environ.get("ND_MOMENTS", "8"))
# Until the peer of a killed program must have ended: what is told of its death it
# hears at once, what is not shows in 8 timeouts.
LIMIT_S = 30
# To each address of the loopback, one that a packet leaves the namespace for.
OTHER_HOST = "10.99.0.2"
OUR_SIDE = "10.99.0.1"


def helper(name: str) -> str:
    return os.path.join(DIRECTORY, name)


def crashed(status: int) -> bool:
    """Ended by a signal, or by the deadline."""
    return status < 0


def sockets_on_udp(port: int) -> set[str]:
    """Inodes, of this network namespace."""
    found = set()
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        with open(table, encoding="ascii") as lines:
            found |= {line.split()[9] for line in lines
                      if line.split()[1].endswith(f":{port:04X}")}
    return found


def holds_one_of(pid: int, inodes: set[str]) -> bool:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}")
                 for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(f"socket:[{inode}]" in links for inode in inodes)


def children_of(process: subprocess.Popen) -> list[int]:
    """It and those below it."""
    pids = [process.pid]
    for pid in pids:
        for children in glob.glob(f"/proc/{pid}/task/*/children"):
            with contextlib.suppress(OSError), open(children, encoding="ascii") as file:
                pids += [int(child) for child in file.read().split()]
    return pids


class RoughTest(unittest.TestCase):
    """Fails a test that leaves something behind on the host."""

    def setUp(self) -> None:
        self.shared_memory = sorted(os.listdir("/dev/shm"))
        self.assertEqual(soft_names(), [], "from before")

    def tearDown(self) -> None:
        self.assertTrue(wait_until(lambda: soft_names() == [], 10), soft_names())
        self.assertEqual(sorted(os.listdir("/dev/shm")), self.shared_memory)

    def start(self, command: list[str], **options) -> subprocess.Popen:
        process = run_on_soft(command, **options)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(kill, process)
        return process

    def start_server(self, command: list[str], cm_port: int = 0, tcp_port: int = 0,
                     **options) -> subprocess.Popen:
        server = self.start(command, **options)
        wait_for(lambda: has_service(cm_port) if cm_port else listens_on(tcp_port),
                 server)
        if cm_port:
            time.sleep(0.2)  # between its binding and its listening
        return server

    def must_end(self, process: subprocess.Popen, limit_s: float = LIMIT_S) -> str:
        """In time, by itself."""
        status, output = finish(process, limit_s)
        self.assertFalse(crashed(status), f"status {status}: {output}")
        return output

    def must_tell(self, process: subprocess.Popen) -> str:
        """That it lost its peer: by its status or, as rping for some moments of a
        connection, in words."""
        status, output = finish(process, LIMIT_S)
        self.assertFalse(crashed(status), f"status {status}: {output}")
        if status == 0:
            self.assertRegex(output, "DISCONNECT EVENT|cq completion failed")
        return output

    def must_fail(self, process: subprocess.Popen, limit_s: float = LIMIT_S) -> str:
        status, output = finish(process, limit_s)
        self.assertGreater(status, 0, output)
        return output

    def must_succeed(self, process: subprocess.Popen, limit_s: float = 60) -> str:
        status, output = finish(process, limit_s)
        self.assertEqual(status, 0, output)
        return output

    def check_rping(self) -> None:
        """The namespace still serves."""
        server = self.start_server(["rping", "-s", "-C", "5", "-a", IPV4],
                                   cm_port=PORT)
        self.must_succeed(self.start(["rping", "-c", "-V", "-C", "5", "-a", IPV4]))
        self.must_succeed(server)


class Killed(RoughTest):
    """At moments from the look-up of addresses to full traffic."""

    @staticmethod
    def moments(seed: int) -> list[float]:
        """Seconds; dense where connections are made."""
        chance = random.Random(seed)
        return [chance.uniform(0, 0.1 if i % 2 else 0.5) for i in range(MOMENTS)]

    def test_rping_servers(self) -> None:
        for moment in self.moments(1):
            server = self.start_server(["rping", "-s", "-a", IPV4], cm_port=PORT)
            client = self.start(["rping", "-c", "-V", "-a", IPV4])
            time.sleep(moment)
            kill(server)
            finish(server)
            self.must_tell(client)

    def test_rping_clients(self) -> None:
        """One that was killed before it came leaves the server waiting for the
        next, who is served."""
        for moment in self.moments(2):
            server = self.start_server(["rping", "-s", "-a", IPV4], cm_port=PORT)
            client = self.start(["rping", "-c", "-V", "-a", IPV4])
            time.sleep(moment)
            kill(client)
            finish(client)
            if not wait_until(lambda server=server: server.poll() is not None, 2):
                self.must_end(self.start(["rping", "-c", "-C", "1", "-a", IPV4]))
                finish(server, 5)
            self.must_tell(server)

    def test_perftest_servers(self) -> None:
        command = ["ib_write_bw", "-F", "-D", "60"]
        for moment in self.moments(3):
            server = self.start_server(command, tcp_port=18515)
            client = self.start([*command, IPV4])
            time.sleep(moment)
            kill(server)
            finish(server)
            self.must_fail(client)

    def test_perftest_clients(self) -> None:
        command = ["ib_send_lat", "-F", "-D", "60"]
        for moment in self.moments(4):
            server = self.start_server(command, tcp_port=18515)
            client = self.start([*command, IPV4])
            time.sleep(moment)
            kill(client)
            finish(client)
            if listens_on(18515):
                kill(server)  # nobody has come
                finish(server)
                continue
            # Who waits for a message polls for ever: nothing is lost that it sent.
            if not wait_until(lambda server=server: server.poll() is not None, 3):
                kill(server)
            finish(server)

    def test_a_server_of_many_keeps_nothing_of_the_killed(self) -> None:
        server = self.start_server(["rping", "-s", "-P", "-a", IPV4], cm_port=PORT)
        pid = children_of(server)[-1]

        def held() -> tuple[int, int]:
            return (len(os.listdir(f"/proc/{pid}/fd")),
                    len(os.listdir(f"/proc/{pid}/task")))

        self.must_succeed(self.start(["rping", "-c", "-C", "1", "-a", IPV4]))
        time.sleep(0.5)
        before = held()
        for _ in range(10):
            # Not while it connects: rping's server ends when a connection fails.
            client = self.start(["stdbuf", "-oL", "rping", "-c", "-v", "-a", IPV4])
            self.assertIn("ping data", client.stdout.readline())
            kill(client)
            finish(client)
        self.must_succeed(self.start(["rping", "-c", "-V", "-C", "5", "-a", IPV4]))
        self.assertTrue(wait_until(lambda: held() <= before, 20),
                        f"descriptors and threads {before}, now {held()}")
        stop(server)


class Forks(RoughTest):
    """Of a client under traffic, every 5 ms. rping -V checks all data."""

    def fork(self, child: str) -> None:
        count = "300"
        server = self.start_server(
            ["rping", "-s", "-S", "16384", "-C", count, "-a", IPV4], cm_port=PORT)
        client = self.start(
            ["rping", "-c", "-V", "-S", "16384", "-C", count, "-a", IPV4],
            preload=helper("libforking.so"),
            env={**os.environ, "ND_FORK_CHILD": child})
        self.must_succeed(client)
        self.must_succeed(server)

    def test_child_exits(self) -> None:
        self.fork("exit")

    def test_child_closes_what_it_inherited(self) -> None:
        self.fork("close")

    def test_child_opens_the_device(self) -> None:
        self.fork("open")

    def test_child_runs_another_verbs_program(self) -> None:
        self.fork("ibv_devinfo >/dev/null")

    def test_a_child_does_not_keep_the_port_of_a_killed_parent(self) -> None:
        """UDP port 4791, which others wait for."""
        parent = self.start_server(
            ["rping", "-s", "-P", "-a", IPV4], cm_port=PORT,
            preload=helper("libforking.so"),
            env={**os.environ, "ND_FORK_CHILD": "sleep 30"})
        self.assertTrue(wait_until(lambda: sockets_on_udp(4791)))
        self.assertTrue(wait_until(lambda: len(children_of(parent)) > 1))
        os.kill(parent.pid, signal.SIGKILL)
        self.assertTrue(wait_until(lambda: not sockets_on_udp(4791), 5))
        self.assertTrue(wait_until(lambda: not soft_names(), 5))


class Descriptors(RoughTest):
    def test_closed_before_the_device_is_opened(self) -> None:
        closing = ["python3", "-c",
                   "import os, sys; os.closerange(3, 4096);"
                   "os.execvp(sys.argv[1], sys.argv[1:])"]
        server = self.start_server(["rping", "-s", "-C", "5", "-a", IPV4],
                                   cm_port=PORT, before=closing)
        self.must_succeed(self.start(["rping", "-c", "-V", "-C", "5", "-a", IPV4],
                                     before=closing))
        self.must_succeed(server)

    def test_closed_after_the_device_was_opened(self) -> None:
        for way in ("closefrom", "close", "dup2"):
            with self.subTest(way):
                self.must_succeed(self.start([helper("soft_closed_fds"), way]))

    def test_rdma_cms_is_moved(self) -> None:
        self.must_succeed(self.start([helper("soft_moved_channel")]))

    def test_too_few(self) -> None:
        """The program says so, or has enough. rping's server ends when a client
        leaves it in the middle of connecting."""
        server = self.start_server(["rping", "-s", "-P", "-a", IPV4], cm_port=PORT)
        for limit in (*range(4, 24), 32, 64):
            for command in (["ibv_devinfo"],
                            ["rping", "-c", "-V", "-C", "2", "-a", IPV4]):
                with self.subTest(limit=limit, command=command[0]):
                    status, output = finish(self.start(
                        command, before=["prlimit", f"--nofile={limit}"]), LIMIT_S)
                    self.assertFalse(crashed(status), f"status {status}: {output}")
                    self.assertTrue(status == 0 or output, "said nothing")
                if server.poll() is not None:
                    self.must_end(server)
                    server = self.start_server(["rping", "-s", "-P", "-a", IPV4],
                                               cm_port=PORT)
        self.must_succeed(self.start(
            ["rping", "-c", "-V", "-C", "2", "-a", IPV4],
            before=["prlimit", "--nofile=64"]))
        stop(server)


class Limits(RoughTest):
    def test_no_memory_can_be_locked(self) -> None:
        command = ["ibv_rc_pingpong", "-g", "1", "-c", "-s", "1048576"]
        nothing = ["prlimit", "--memlock=0"]
        if os.geteuid() == 0:
            nothing += ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]
        server = self.start_server(command, tcp_port=18515, before=nothing)
        self.must_succeed(self.start([*command, IPV4], before=nothing))
        self.must_succeed(server)

    def test_a_hundred_processes_at_once(self) -> None:
        ports = [str(port) for port in range(20000, 20050)]
        options = ["-S", "100", "-C", "20"]
        servers = [self.start(["rping", "-s", "-a", IPV4, "-p", port, *options])
                   for port in ports]
        for port, server in zip(ports, servers):
            wait_for(lambda port=port: has_service(int(port)), server)
        time.sleep(0.5)
        clients = [self.start(["rping", "-c", "-V", "-a", IPV4, "-p", port, *options])
                   for port in ports]
        for process in (*clients, *servers):
            self.must_succeed(process, 120)

    def test_the_time_of_day_jumps(self) -> None:
        """With loss, so that timers run. The programs' own use of it aside. What the
        server sends arrives: it ends with its last acknowledgement, which nobody
        would repeat. (Faults are those of what a process receives.)"""
        clock = helper("libjumping_clock.so")
        lossy = {**os.environ, "ND_SOFT_FAULTS": "seed=7;drop=0.02"}
        command = ["ibv_rc_pingpong", "-g", "1", "-c", "-n", "300"]
        began = time.monotonic()
        server = self.start_server(command, tcp_port=18515, preload=clock, env=lossy)
        self.must_succeed(self.start([*command, IPV4], preload=clock))
        finish(server, 5)
        server = self.start_server(["rping", "-s", "-C", "20", "-a", IPV4],
                                   cm_port=PORT, preload=clock)
        self.must_succeed(self.start(["rping", "-c", "-V", "-C", "20", "-a", IPV4],
                                     preload=clock))
        self.must_succeed(server)
        self.assertLess(time.monotonic() - began, 60)


class NoSharedMemoryFileSystem(RoughTest):
    """A container's /dev may have no shm, or one that nobody may write to."""

    def rping_in(self, mounts: str) -> None:
        inside = ["unshare", "--mount", "sh", "-euc", mounts + '; exec "$@"', "sh"]
        server = self.start_server(["rping", "-s", "-C", "5", "-a", IPV4],
                                   cm_port=PORT, before=inside)
        self.must_succeed(self.start(["rping", "-c", "-V", "-C", "5", "-a", IPV4],
                                     before=inside))
        self.must_succeed(server)

    def test_read_only(self) -> None:
        self.rping_in("mount -t tmpfs -o ro none /dev/shm")

    def test_absent(self) -> None:
        self.rping_in("d=$(mktemp -d); mount -t tmpfs none $d; for f in null zero "
                      "random urandom; do : > $d/$f; mount --bind /dev/$f $d/$f; "
                      "done; mount --move $d /dev; rmdir $d; test ! -e /dev/shm")


class LaterAddresses(RoughTest):
    """The host gets an address after programs have opened the device."""

    LATER = "10.98.7.7"

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(subprocess.run, ["ip", "addr", "del", f"{self.LATER}/32",
                                         "dev", "lo"], check=False,
                        stderr=subprocess.DEVNULL)

    def add(self) -> None:
        subprocess.run(["ip", "addr", "add", f"{self.LATER}/32", "dev", "lo"],
                       check=True)

    def test_servers_of_all_addresses_serve_it(self) -> None:
        server = self.start_server(["rping", "-s", "-P", "-a", "0.0.0.0"],
                                   cm_port=PORT)
        self.add()
        for _ in range(5):
            self.must_succeed(self.start(
                ["rping", "-c", "-V", "-C", "5", "-a", self.LATER]))
        stop(server)

    def test_programs_are_told(self) -> None:
        # Into a file: it does not flush.
        watcher = self.start(["stdbuf", "-oL", "ibv_asyncwatch", "-d", "nd0"])
        self.assertTrue(wait_until(lambda: bool(soft_names())))
        time.sleep(0.5)
        self.add()
        time.sleep(0.5)
        self.assertIn("GID_CHANGE", stop(watcher).upper().replace(" ", "_"))

    def test_one_that_goes_leaves_the_others_their_places(self) -> None:
        self.add()
        command = ["ibv_rc_pingpong", "-g", "1", "-n", "20000"]
        server = self.start_server(command, tcp_port=18515)
        client = self.start([*command, IPV4])
        time.sleep(0.3)
        subprocess.run(["ip", "addr", "del", f"{self.LATER}/32", "dev", "lo"],
                       check=True)
        self.must_succeed(client)
        self.must_succeed(server)


def packets_received(interface: str) -> int:
    """Of the third column of /proc/net/dev."""
    with open("/proc/self/net/dev", encoding="ascii") as file:
        fields = [line.replace(":", " ").split() for line in file]
    return next(int(packets) for name, _, packets, *_ in fields if name == interface)


def other_user() -> list[str]:
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@unittest.skipUnless(
    subprocess.run([*other_user(), "true"], check=False,
                   stderr=subprocess.DEVNULL).returncode == 0,
    "there is one user here")
class TwoUsers(RoughTest):
    """Root is heard by everyone, as root can do everything; two others are kept
    apart."""

    ONE = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"]

    def test_do_not_reach_each_other(self) -> None:
        server = self.start_server(["rping", "-s", "-P", "-a", IPV4], cm_port=PORT,
                                   before=self.ONE)
        # Nobody answers it, so that its requests have to be repeated often enough.
        refused = self.must_fail(self.start(
            ["rping", "-c", "-C", "1", "-a", IPV4], before=other_user()), 120)
        self.assertRegex(refused, "RDMA_CM_EVENT_(UNREACHABLE|REJECTED)")
        # The same user's are served meanwhile.
        self.must_succeed(self.start(["rping", "-c", "-V", "-C", "5", "-a", IPV4],
                                     before=self.ONE))
        stop(server)

    def test_raw_queue_pairs_do_not_either(self) -> None:
        command = ["ibv_rc_pingpong", "-g", "1", "-n", "10"]
        server = self.start_server(command, tcp_port=18515, before=self.ONE)
        said = self.must_fail(self.start([*command, IPV4], before=other_user()))
        self.assertIn("transport retry counter exceeded", said)
        kill(server)
        finish(server)


class OtherHost(RoughTest):
    """Two hosts on a wire. Each has processes that take UDP port 4791 in turn."""

    def setUp(self) -> None:
        super().setUp()
        self.host = subprocess.Popen(["unshare", "--net", "sh", "-c",
                                      "echo ready; exec sleep 600"],
                                     stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.host.stdout.close)
        self.addCleanup(self.host.wait)
        self.addCleanup(self.host.kill)
        self.host.stdout.readline()
        self.there = ["nsenter", f"--net=/proc/{self.host.pid}/ns/net"]
        for command in (
                f"ip link add wire0 type veth peer name wire1 netns {self.host.pid}",
                f"ip addr add {OUR_SIDE}/24 dev wire0", "ip link set wire0 up"):
            subprocess.run(command.split(), check=True)
        self.addCleanup(subprocess.run, "ip link del wire0".split(), check=False,
                        stderr=subprocess.DEVNULL)
        for command in ("ip link set lo up", f"ip addr add {OTHER_HOST}/24 dev wire1",
                        "ip link set wire1 up"):
            subprocess.run([*self.there, *command.split()], check=True)

    def hold_ports(self, before: list[str], user: list[str]) -> list[subprocess.Popen]:
        """Of whom the first has the port, and the others wait for it."""
        return [self.start(["rping", "-s", "-P", "-a", "0.0.0.0", "-p", str(port)],
                           before=[*before, *user]) for port in (9001, 9002, 9003)]

    def traffic_survives(self, user: list[str]) -> None:
        holders = self.hold_ports(self.there, user) + self.hold_ports([], user)
        time.sleep(1)
        command = ["rping", "-a", OTHER_HOST, "-S", "4096"]  # until they are killed
        ends = [self.start([*command, "-s"], before=self.there)]
        time.sleep(0.5)
        ends.append(self.start([*command, "-c", "-V", "-I", OUR_SIDE]))
        self.traffic_goes_on(ends)
        for holder in holders:
            kill(holder)
            finish(holder)
            self.traffic_goes_on(ends)
        for end in ends:
            kill(end)
            finish(end)

    def traffic_goes_on(self, ends: list[subprocess.Popen]) -> None:
        """By far more packets than a connection repeats before it is given up."""
        before = packets_received("wire0")
        self.assertTrue(wait_until(
            lambda: packets_received("wire0") > before + 1000
            or any(end.poll() is not None for end in ends), 60), "it stopped")
        for end in ends:
            self.assertIsNone(end.poll(), end.args)

    def test_traffic_survives_the_deaths_of_the_ports_holders(self) -> None:
        self.traffic_survives([])

    @unittest.skipUnless(
        subprocess.run([*other_user(), "true"], check=False,
                       stderr=subprocess.DEVNULL).returncode == 0,
        "there is one user here")
    def test_and_those_may_be_another_users(self) -> None:
        self.traffic_survives(other_user())


if __name__ == "__main__":
    soft_programs.use_ndsoft(sys.argv[1])
    DIRECTORY = os.path.abspath(sys.argv[2])
    del sys.argv[1:3]
    unittest.main()
