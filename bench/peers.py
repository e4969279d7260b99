"""Other people's messages between two CPUs of this host, and what they print."""

import os
import subprocess

from ports import cpu, server

LIMIT_S = 60
NATIVE = "127.0.0.1"


def fields_after(output: str, head: str) -> list[str]:
    """The line below that which begins with `head`."""
    lines = output.splitlines()
    for line, following in zip(lines, lines[1:]):
        if line.split()[:1] == [head]:
            return following.split()
    raise RuntimeError(f"no results in:\n{output}")


def _client(command: list[str]) -> str:
    return subprocess.run(cpu(1, command), check=True, text=True, timeout=LIMIT_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def _ucx(transport: str, test: str, size: int, count: int) -> list[str]:
    """The fields of its final line."""
    os.environ["UCX_TLS"] = transport
    with server(cpu(0, ["ucx_perftest"]), 13337):
        output = _client(["ucx_perftest", NATIVE, "-t", test, "-s", str(size), "-n", str(count)])
    return [line.split() for line in output.splitlines() if line.startswith("Final:")][0]


def ucx_lat(transport: str, count: int) -> float:
    """Nanoseconds of 64 bytes, the 50th percentile."""
    return float(_ucx(transport, "tag_lat", 64, count)[2]) * 1000


def ucx_bw(transport: str, count: int) -> float:
    """Bytes a second of 1 MiB."""
    return float(_ucx(transport, "tag_bw", 1 << 20, count)[6]) * (1 << 20)


def _fabric(provider: str, size: int, count: int) -> list[str]:
    command = ["fi_pingpong", "-p", provider, "-e", "rdm", "-S", str(size), "-I", str(count)]
    with server(cpu(0, command), 47592):
        output = _client([*command, NATIVE])
    return fields_after(output, "bytes")


def fabric_lat(provider: str) -> float:
    """Nanoseconds of 64 bytes."""
    return float(_fabric(provider, 64, 20000)[6]) * 1000


def fabric_bw(provider: str) -> float:
    """Bytes a second of 1 MiB, of a ping-pong."""
    return float(_fabric(provider, 1 << 20, 500)[5]) * 1e6
