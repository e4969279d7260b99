"""Waiting for a server."""

import pathlib
import time


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
