"""Boots QEMU machines and reaches the agent in them.

Each machine has a temporary directory of its own: the console's log, QEMU's
messages, and for each of the agent's ports a socket and a lock that says which
host process uses it (the agent's file describes what is spoken there).
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from image import GuestError, Image, write_atomically

PORTS = 8  # commands that may run at the same time
CPUS = 2
BOOT_S = 180.0
KVM_PROBE_S = 20.0
ANSWER_S = 240.0
STOP_S = 5.0
END_S = 1.0  # from the end of a connection to that of QEMU
CONSOLE_TAIL_LINES = 60

# quiet .. panic: a kernel that oopses ends, and QEMU with it, at once.
# The rest saves boot time, most of it on an emulated CPU.
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 oops=panic mitigations=off "
    "init_on_alloc=0 tsc=reliable no_timer_check cryptomgr.notests "
    "random.trust_cpu=on")
CPU_MODELS = {"kvm": "host", "tcg": "max,la57=off"}
ACCELERATORS = {"kvm": "kvm", "tcg": "tcg,thread=multi"}

Message = dict[str, Any]


class Channel:
    """One host process's conversation with the agent over one port."""

    def __init__(self, connection: socket.socket, lock: IO[str]) -> None:
        self._connection = connection
        self._lock = lock
        self._session = secrets.token_hex(8)
        self._partial = b""
        connection.sendall(b"\n")  # ends a predecessor's torn line

    def send(self, op: str, **fields: Any) -> None:
        line = json.dumps({"session": self._session, "op": op, **fields})
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(line.encode() + b"\n")

    def messages(self) -> Iterator[Message]:
        """Yields the agent's messages until the guest ends."""
        while data := self._read():
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    if message.get("session") == self._session:
                        yield message

    def _read(self) -> bytes:
        try:
            return self._connection.recv(1 << 16)
        except ConnectionResetError:
            return b""

    def ping(self, limit_s: float) -> Message | None:
        """The agent's answer once the guest is set up, or None if it fails."""
        self._connection.settimeout(limit_s)
        self.send("ping")
        try:
            return next(self.messages(), None)
        except TimeoutError:
            return None
        finally:
            self._connection.settimeout(None)

    def close(self) -> None:
        self._connection.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Machine:
    """A QEMU process, perhaps started by another process than this one."""

    pid: int
    directory: str
    accelerator: str
    image: str

    def alive(self) -> bool:
        """Whether that very process runs, not a later one of the same id."""
        try:
            where = os.readlink(f"/proc/{self.pid}/cwd")
        except OSError:  # also for a process that nobody has waited for yet
            return False
        return where.removesuffix(" (deleted)") == self.directory

    def connect(self, limit_s: float = ANSWER_S) -> Channel:
        """Waits for a free port and for the agent's answer on it."""
        deadline = time.monotonic() + limit_s
        while self.alive() and time.monotonic() < deadline:
            if channel := self._try_ports():
                answer = channel.ping(max(0.1, deadline - time.monotonic()))
                if answer and "pong" in answer:
                    return channel
                channel.close()
                if answer:
                    raise GuestError(self.explain(answer["error"]))
                break
            time.sleep(0.02)
        if self.wait_end(END_S):
            raise GuestError(self.explain("the guest has ended"))
        raise GuestError(self.explain(
            f"the guest did not answer within {limit_s:.0f} s"))

    def _try_ports(self) -> Channel | None:
        for number in range(PORTS):
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.suppress(
                    BlockingIOError, FileNotFoundError, ConnectionError))
                lock = stack.enter_context(open(
                    f"{self.directory}/lock{number}", "w", encoding="utf-8"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                connection = stack.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(f"{self.directory}/port{number}")
                channel = Channel(connection, lock)
                stack.pop_all()
                return channel
        return None

    def wait_end(self, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.alive()

    def explain(self, what: str) -> str:
        """The message, and what QEMU and the console said last."""
        text = what
        for name in ("qemu.log", "console.log"):
            with contextlib.suppress(OSError):
                log = Path(self.directory, name).read_text(
                    encoding="utf-8", errors="replace")
                tail = log.replace("\r", "").splitlines()[-CONSOLE_TAIL_LINES:]
                text += "".join(f"\n  {name}: {line}" for line in tail)
        return text

    def stop(self) -> None:
        """Powers the machine off; its state is all in memory."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
            self.wait_end(STOP_S)
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass(frozen=True)
class Options:
    memory_mib: int
    accelerator: str  # kvm, tcg or auto
    detached: bool  # outlives this process
    tap: str | None = None  # the host's end of the guest's eth0


def boot(image: Image, state_dir: Path, options: Options) -> Machine:
    """Boots a machine and waits for its agent.

    If the choice is left to us and /dev/kvm is there for us, a boot under KVM
    with a time limit shows whether KVM works; the verdict is remembered for
    the host's kernel.
    """
    verdict_file = state_dir / "kvm.json"
    verdict = kvm_verdict(verdict_file, options.accelerator)
    if verdict is None:
        try:
            machine = boot_with("kvm", image, options, KVM_PROBE_S)
        except GuestError:
            machine = None
        write_atomically(verdict_file, json.dumps(
            {"host": os.uname().release, "works": machine is not None}))
        if machine:
            return machine
    return boot_with("kvm" if verdict else "tcg", image, options, BOOT_S)


def kvm_verdict(verdict_file: Path, choice: str) -> bool | None:
    """Whether to use KVM; None if that must be tried."""
    if choice != "auto":
        return choice == "kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with contextlib.suppress(OSError, ValueError):
        verdict = json.loads(verdict_file.read_text(encoding="utf-8"))
        if verdict["host"] == os.uname().release:
            return verdict["works"]
    return None


def boot_with(accelerator: str, image: Image, options: Options,
              limit_s: float) -> Machine:
    directory = os.path.realpath(tempfile.mkdtemp(prefix="nd-guest-"))
    command = qemu_command(accelerator, image, options, directory)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        process = spawn(command, directory)
        machine = Machine(process.pid, directory, accelerator,
                          image.initramfs.name)
        undo.callback(process.wait)
        undo.callback(process.kill)
        machine.connect(limit_s).close()
        undo.pop_all()
        return machine


def spawn(command: list[str], directory: str) -> subprocess.Popen[bytes]:
    """In a session of its own: the terminal's Ctrl-C is for the command."""
    with open(f"{directory}/qemu.log", "wb") as log:
        try:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=directory, start_new_session=True)
        except FileNotFoundError:
            raise GuestError(f"{command[0]} is not installed") from None


def qemu_command(accelerator: str, image: Image, options: Options,
                 directory: str) -> list[str]:
    command = [] if options.detached else ["setpriv", "--pdeathsig", "KILL"]
    command += [
        "qemu-system-x86_64", "-name", "nd-guest",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-accel", ACCELERATORS[accelerator], "-cpu", CPU_MODELS[accelerator],
        "-smp", str(CPUS), "-m", str(options.memory_mib),
        "-kernel", str(image.kernel), "-initrd", str(image.initramfs),
        "-append", KERNEL_ARGUMENTS,
        "-serial", f"file:{directory}/console.log",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,"
                   "readonly=on,multidevs=remap",
        "-device", "virtio-serial-pci",
    ]
    if options.tap:
        command += [
            "-netdev", f"tap,id=tap,ifname={options.tap},"
                       "script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=tap,mac=02:00:00:99:00:02",
        ]
    for number in range(PORTS):
        command += [
            "-chardev", f"socket,id=port{number},server=on,wait=off,"
                        f"path={directory}/port{number}",
            "-device", f"virtserialport,chardev=port{number},name=nd{number}",
        ]
    return command
