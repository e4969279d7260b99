"""Servers, and waiting for them."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time


def cpu(number: int, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(number), *command]


def wait_for_port(port: int) -> None:
    """Until someone listens on the TCP port, without connecting to it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in pathlib.Path(table).read_text(encoding="ascii").splitlines():
                fields = line.split()
                if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
                    return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on TCP port {port}")


@contextlib.contextmanager
def server(command: list[str], port: int, stop: signal.Signals = signal.SIGKILL):
    """A program that runs meanwhile, once it listens on the TCP port; `stop` ends it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for_port(port)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
        process.wait()
