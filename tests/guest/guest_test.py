#!/usr/bin/env python3
"""Boots one guest and checks guest.py and the guest's network.

The guest's image is kept in the directory that ND_GUEST_DIR names, by default
a temporary one.
"""

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
GUEST = str(HERE / "guest.py")
NETEM = str(HERE / "netem.sh")

RPING = """
rping -s -a {server} -C 3 &
until rdma resource show cm_id | grep -q LISTEN; do sleep 0.1; done
rping -c -a {server} -I {client} -C 3 -v
wait
"""

directory = ""


def setUpModule() -> None:
    global directory
    directory = os.environ.get("ND_GUEST_DIR", "")
    if not directory:
        scratch = tempfile.TemporaryDirectory()
        unittest.addModuleCleanup(scratch.cleanup)
        directory = scratch.name


def command_line(action: str, *words: str) -> list[str]:
    return [sys.executable, GUEST, action, "--dir", directory, *words]


def guest(action: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command_line(action, *words), text=True,
                          capture_output=True, check=False)


def spawn(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command_line("exec", "--timeout", "60", "--", "sh", "-c", script),
        text=True, stdout=subprocess.PIPE)


class GuestTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.addClassCleanup(guest, "stop")
        started = guest("start")
        if started.returncode != 0:
            raise RuntimeError(started.stderr)

    def shell(self, script: str,
              *options: str) -> subprocess.CompletedProcess[str]:
        return guest("exec", "--timeout", "60", *options, "--", "sh",
                          "-c", script)

    def output(self, script: str) -> str:
        done = self.shell(script)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def packets(self, direction: str) -> int:
        return int(self.output(
            f"cat /sys/class/net/veth0/statistics/{direction}_packets"))

    def test_exit_status_passes_through(self) -> None:
        self.assertEqual(self.shell("exit 7").returncode, 7)
        self.assertEqual(self.shell("kill -9 $$").returncode, 137)
        self.assertEqual(
            guest("exec", "--", "no-such-program").returncode, 127)

    def test_output_and_errors_stay_apart(self) -> None:
        done = self.shell("echo out; echo err >&2")
        self.assertEqual((done.stdout, done.stderr), ("out\n", "err\n"))

    def test_output_arrives_whole(self) -> None:
        self.assertEqual(self.output("seq 100000"),
                         "".join(f"{i}\n" for i in range(1, 100001)))

    def test_directory_and_variables_are_passed(self) -> None:
        done = self.shell('echo "$PWD $WORD"', "--cwd", "/usr/lib", "--env",
                          "WORD=a b=c")
        self.assertEqual(done.stdout, "/usr/lib a b=c\n")

    def test_timeout_kills_the_whole_group(self) -> None:
        done = self.shell("sleep 4321 & sleep 4321", "--timeout", "0.5")
        self.assertEqual(done.returncode, 124)
        self.assertNotEqual(self.shell("pgrep -x sleep").returncode, 0)

    def test_two_commands_run_at_once(self) -> None:
        # Each waits for the other: neither would end alone.
        script = ("touch /tmp/{0}; "
                  "while [ ! -e /tmp/{1} ]; do sleep 0.1; done; echo {0}")
        commands = [spawn(script.format("one", "two")),
                    spawn(script.format("two", "one"))]
        self.assertEqual([c.communicate()[0] for c in commands],
                         ["one\n", "two\n"])

    def test_interrupt_reaches_the_command(self) -> None:
        # The trap runs when the sleep of the moment is over.
        script = "trap 'exit 5' INT; echo; while :; do sleep 1; done"
        with spawn(script) as command:
            assert command.stdout
            command.stdout.readline()
            command.send_signal(signal.SIGINT)
            self.assertEqual(command.wait(30), 5)

    def test_command_ends_with_its_host_process(self) -> None:
        with spawn("echo; exec sleep 1234") as command:
            assert command.stdout
            command.stdout.readline()
            command.kill()
        self.output("while pgrep -f '^sleep 1234'; do sleep 0.1; done")

    def test_limits_suit_rdma(self) -> None:
        self.assertEqual(self.output("ulimit -l; ulimit -n"),
                         "unlimited\n65536\n")

    def test_both_devices_are_active(self) -> None:
        self.assertEqual(self.output("rdma link").count("state ACTIVE"), 2)

    def check_rping_crosses_the_wire(self, client: str, server: str) -> None:
        before = self.packets("tx"), self.packets("rx")
        output = self.output(RPING.format(client=client, server=server))
        self.assertIn("rdma-ping-2", output)
        # Three rounds of SEND, READ and WRITE are over a dozen packets.
        self.assertGreater(self.packets("tx"), before[0] + 12)
        self.assertGreater(self.packets("rx"), before[1] + 12)

    def test_rping_crosses_the_wire_over_ipv4(self) -> None:
        self.check_rping_crosses_the_wire("10.98.0.1", "10.98.0.2")

    def test_rping_crosses_the_wire_over_ipv6(self) -> None:
        self.check_rping_crosses_the_wire("fd98::1", "fd98::2")

    def test_unprivileged_user_may_use_the_devices(self) -> None:
        script = RPING.format(client="10.98.0.2", server="10.98.0.1")
        done = guest("exec", "--timeout", "60", "--", "setpriv",
                          "--reuid=65534", "--regid=65534", "--clear-groups",
                          "sh", "-c", f"ulimit -l 64; {script}")
        self.assertIn("rdma-ping-2", done.stdout, done.stderr)

    def test_netem_loses_packets_until_switched_off(self) -> None:
        ping = "ping -q -i 0.01 -c 50 -W 1 10.98.0.2"
        lossy = self.shell(f"{NETEM} 50% && {ping}; {NETEM} off")
        self.assertNotIn(" 0% packet loss", lossy.stdout)
        self.assertIn(" 0% packet loss", self.output(ping))

    def test_start_keeps_a_living_guest(self) -> None:
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.output(boot)
        self.assertEqual(guest("start").returncode, 0)
        self.assertEqual(self.output(boot), before)


class RunTest(unittest.TestCase):
    """One guest per command, and what becomes of a guest that crashes."""

    def test_run_boots_its_own_guest(self) -> None:
        done = guest("run", "--", "sh", "-c", "rdma link; exit 3")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(done.stdout.count("state ACTIVE"), 2)

    def test_crash_is_a_failure_of_the_guest(self) -> None:
        done = guest("run", "--", "sh", "-c",
                               "echo c > /proc/sysrq-trigger; sleep 60")
        self.assertEqual(done.returncode, 125)
        self.assertIn("sysrq triggered crash", done.stderr)

    def test_exec_without_a_guest_says_so(self) -> None:
        self.assertEqual(guest("stop").returncode, 0)
        done = guest("exec", "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("no guest was started", done.stderr)


if __name__ == "__main__":
    unittest.main()
