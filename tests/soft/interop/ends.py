"""The two ends of the wire, this host with the soft device and a guest with the
kernel's rdma_rxe, and programs that run at them."""

import base64
import functools
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "guest"))
from machine import Machine  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import rping  # noqa: E402

LIMIT_S = 60
STATUS_TIMEOUT = 124


# A program that runs has these:
#   wait() -> its exit status, 124 if its time was up, and all that it said
#   stop()    ends it early; wait is still to be called


class HostProgram:
    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env={**os.environ, **env}, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True)

    def wait(self) -> tuple[int, str]:
        try:
            output, _ = self._process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return STATUS_TIMEOUT, self._process.communicate()[0]
        return rping.status(self._process.returncode, output), output

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)


class GuestProgram:
    def __init__(self, machine: Machine, command: list[str],
                 env: dict[str, str]) -> None:
        self._channel = machine.connect()
        self._channel.send("run", argv=command, cwd="/", env=env,
                           timeout=LIMIT_S)
        self._status = -1
        self._output = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for message in self._channel.messages():
            for name in ("stdout", "stderr"):
                self._output += base64.b64decode(message.get(name, ""))
            self._output += message.get("error", "").encode()
            if "exit" in message or "error" in message:
                self._status = message.get("exit", -1)
                return
        self._output += b"(the guest has ended)"

    def wait(self) -> tuple[int, str]:
        self._reader.join()
        self._channel.close()
        output = self._output.decode(errors="replace")
        return rping.status(self._status, output), output

    def stop(self) -> None:
        self._channel.send("signal", signal=signal.SIGTERM)


class End:
    """Where programs run, each with the device `device`."""

    device: str
    addresses: dict[int, str]  # by IP version
    tcp_listens = ("cat /proc/net/tcp /proc/net/tcp6 |"
                   " grep -q ':{port:04X} [0-9A-F:]* 0A'")
    cm_listens: str

    def start(self, command: list[str], env: dict[str, str] = {},
              ) -> "HostProgram | GuestProgram":
        raise NotImplementedError

    def run(self, *command: str) -> str:
        status, output = self.start(list(command)).wait()
        if status != 0:
            raise RuntimeError(f"{' '.join(command)}: {status}\n{output}")
        return output

    def wait_for_listener(self, port: int, by_cm: bool) -> None:
        """Returns without one after some seconds: the client will say so."""
        listens = (self.cm_listens if by_cm else self.tcp_listens).format(
            port=port)
        self.run("sh", "-c", f"for i in $(seq 100); do {listens} && exit; "
                             "sleep 0.1; done")

    @functools.cached_property
    def gids(self) -> dict[int, int]:
        """The GID index of the address of each IP version."""
        said = self.run("ibv_devinfo", "-v", "-d", self.device)
        return {version: int(re.search(
                    rf"GID\[ *(\d+)\]:\s+(?:::ffff:)?{address},", said)[1])
                for version, address in self.addresses.items()}


class Host(End):
    device = "nd0"
    addresses = {4: "10.99.0.1", 6: "fd99::1"}
    # rdma_cm's port is bound, if not listened at.
    cm_listens = "grep -q '@nd-soft/service/[0-9a-f]*{port:04x}/' /proc/net/unix"

    def __init__(self, ndsoft: Path) -> None:
        self._ndsoft = str(ndsoft)

    def start(self, command: list[str],
              env: dict[str, str] = {}) -> HostProgram:
        return HostProgram([self._ndsoft, "run", "--", *command], env)


class Guest(End):
    device = "rxe2"
    addresses = {4: "10.99.0.2", 6: "fd99::2"}
    cm_listens = "rdma resource show cm_id | grep -q 'state LISTEN.*:{port} '"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self, command: list[str],
              env: dict[str, str] = {}) -> GuestProgram:
        return GuestProgram(self._machine, command, env)
