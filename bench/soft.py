#!/usr/bin/env python3
"""The userspace device against what it stands beside: ratios, with their spread.

usage: soft.py BUILD_DIR [--rounds N] [--only NAME] [--json FILE]

Runs natively (./dev bench soft), on two CPUs of a machine that does nothing
else. In each round every program of a group runs once, one after the other; a
line shows the medians of the rounds, and what divides them, with its lowest and
highest value of a round. Latencies are halves of round trips.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

from peers import fabric_lat, fields_after, ucx_lat
from ports import cpu, server

LIMIT_S = 60
PORT = 18515
LONE_ADDRESS = {"here": "10.99.0.1", "there": "10.99.0.2",
                "here6": "fd99::1", "there6": "fd99::2"}


class Bench:
    def __init__(self, build: pathlib.Path):
        self.build = build
        self.peers = str(build / "bench/bare_peers")
        self.grpc = str(build / "bench/grpc_peer")
        self.soft = [str(build / "src/soft/ndsoft"), "run", "--"]
        self.ndping = str(build / "src/ndping/ndping")

    def run(self, command: list[str]) -> str:
        return subprocess.run(command, check=True, text=True, timeout=LIMIT_S,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

    def perftest(self, program: str, *options: str) -> list[str]:
        """The fields of perftest's line of results."""
        command = [*self.soft, program, "-F", *options]
        with server(cpu(0, command), PORT):
            output = self.run(cpu(1, [*command, "127.0.0.1"]))
        return fields_after(output, "#bytes")

    def lat(self, program: str) -> float:
        return float(self.perftest(program, "-s", "64", "-n", "200000")[4]) * 1000

    def bw(self, program: str) -> float:
        return float(self.perftest(program, "-s", str(1 << 20), "-n", "5000")[3]) * (1 << 20)

    def ndping_lat(self, op: str) -> float:
        os.environ["ND_DEVICE"] = "soft"
        with server(cpu(0, [self.ndping, "server"]), 7470):
            output = subprocess.run(
                cpu(1, [self.ndping, "lat", "127.0.0.1", "--op", op, "--size", "64",
                        "--iterations", "200000", "--json"]),
                check=True, text=True, timeout=LIMIT_S, stdout=subprocess.PIPE).stdout
        return json.loads(output)["phases"][0]["latency"]["p50_ns"]

    def grpc_lat(self) -> float:
        with server(cpu(0, [self.grpc, "serve", "127.0.0.1:7471"]), 7471):
            return float(self.run(cpu(1, [self.grpc, "ping", "127.0.0.1:7471", "5000"])))

    def shared_memory(self) -> float:
        return float(self.run(["taskset", "-c", "0,1", self.peers, "pingpong", "500000"]))

    def memcpy(self) -> float:
        return float(self.run(cpu(1, [self.peers, "memcpy", str(1 << 20)])))

    def copies(self) -> float:
        return float(self.run([self.peers, "copies", str(1 << 20), "1", "0"]))


class Wire:
    """Another network namespace, by a pair of veth that takes 4,200 bytes; this
    process has to be in a user and network namespace of its own."""

    def __init__(self):
        self.other = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        time.sleep(0.2)
        here, there = LONE_ADDRESS["here"], LONE_ADDRESS["there"]
        here6, there6 = LONE_ADDRESS["here6"], LONE_ADDRESS["there6"]
        subprocess.run(["sh", "-euc", f"""
ip link set lo up
ip link add wire0 mtu 4200 type veth peer name wire1 mtu 4200 netns {self.other.pid}
ip addr add {here}/24 dev wire0
ip addr add {here6}/64 dev wire0 nodad
ip link set wire0 up
nsenter -t {self.other.pid} -n sh -euc '
  ip link set lo up
  ip addr add {there}/24 dev wire1
  ip addr add {there6}/64 dev wire1 nodad
  ip link set wire1 up'
# Whoever sends first waits for the neighbour's address otherwise.
ping -q -c 4 -i 0.2 {there} >/dev/null
ping -q -c 4 -i 0.2 {there6} >/dev/null
"""], check=True)

    def there(self, command: list[str]) -> list[str]:
        return ["nsenter", "-t", str(self.other.pid), "-n", *command]

    def close(self) -> None:
        self.other.kill()
        self.other.wait()

    def plain_udp(self, bench: Bench) -> float:
        sink = subprocess.Popen(self.there(cpu(0, [bench.peers, "udp-sink", "5555"])),
                                stdout=subprocess.PIPE, text=True)
        time.sleep(0.2)
        bench.run(cpu(1, [bench.peers, "udp-source", LONE_ADDRESS["there6"], "5555", "4112", "1"]))
        return float(sink.communicate(timeout=LIMIT_S)[0])

    def write_bw(self, bench: Bench, gid: list[str]) -> float:
        """`gid`: perftest's options for the way that the packets take."""
        command = [*bench.soft, "ib_write_bw", "-F", "-s", str(1 << 20), "-n", "1000",
                   "-m", "4096", *gid]
        server = subprocess.Popen(self.there(cpu(0, command)), stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        time.sleep(1)
        try:
            output = bench.run(cpu(1, [*command, LONE_ADDRESS["there"]]))
        finally:
            server.kill()
            server.wait()
        return float(fields_after(output, "#bytes")[3]) * (1 << 20)


Line = collections.namedtuple("Line", "name measure unit versus wanted")


def groups(bench: Bench) -> dict[str, list[Line]]:
    """In each, the first line is what the others are divided by, or divide."""
    floor = "bare shared memory"
    return {
        "latency": [
            Line(floor, bench.shared_memory, "ns", None, ""),
            Line("ib_send_lat", lambda: bench.lat("ib_send_lat"), "ns", floor,
                 "<= 1.5 x + 500 ns"),
            Line("ndping lat send", lambda: bench.ndping_lat("send"), "ns", floor, ""),
            Line("ndping lat write", lambda: bench.ndping_lat("write"), "ns", floor,
                 "<= 1.5 x + 500 ns"),
            Line("ib_write_lat (nobody polls)", lambda: bench.lat("ib_write_lat"), "ns", floor, ""),
            Line("UCX tag, TCP", lambda: ucx_lat("tcp", 50000), "ns", floor, ""),
            Line("libfabric, TCP", lambda: fabric_lat("tcp;ofi_rxm"), "ns", floor, ""),
            Line("libfabric, UDP", lambda: fabric_lat("udp;ofi_rxd"), "ns", floor, ""),
            Line("gRPC call", bench.grpc_lat, "ns", floor, ""),
        ],
        "bandwidth": [
            Line("memcpy 1 MiB", bench.memcpy, "GB/s", None, ""),
            Line("two bare copies, by a process each", bench.copies, "GB/s", "memcpy 1 MiB", ""),
            Line("ib_write_bw 1 MiB", lambda: bench.bw("ib_write_bw"), "GB/s", "memcpy 1 MiB",
                 ">= 0.5"),
            Line("ib_send_bw 1 MiB", lambda: bench.bw("ib_send_bw"), "GB/s", "memcpy 1 MiB", ""),
            Line("ib_read_bw 1 MiB", lambda: bench.bw("ib_read_bw"), "GB/s", "memcpy 1 MiB", ""),
        ],
    }


def report(lines: list[Line], rounds: int, only: str) -> dict[str, list[float]]:
    chosen = [line for line in lines if only in line.name or line.versus is None]
    figures: dict[str, list[float]] = {line.name: [] for line in chosen}
    for _ in range(rounds):
        for line in chosen:
            try:
                figures[line.name].append(line.measure())
            except (subprocess.SubprocessError, RuntimeError, IndexError, TimeoutError,
                    FileNotFoundError) as error:
                print(f"{line.name}: {str(error).splitlines()[0]}", file=sys.stderr)
    for line in chosen:
        mine = figures[line.name]
        if not mine:
            print(f"{line.name:30} did not run")
            continue
        scale = 1e9 if line.unit == "GB/s" else 1
        text = f"{line.name:30} {statistics.median(mine) / scale:10.2f} {line.unit:5}"
        if line.versus and len(figures[line.versus]) == len(mine):
            ratios = [a / b for a, b in zip(mine, figures[line.versus])]
            text += (f" {statistics.median(ratios):8.2f}"
                     f" [{min(ratios):.2f} .. {max(ratios):.2f}]  {line.wanted}")
        print(text, flush=True)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="the lines whose names contain this")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.within:
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--net", sys.executable,
                              *sys.argv, "--within"])
    bench = Bench(options.build.resolve())
    wire = Wire()
    figures = {}
    try:
        tables = groups(bench)
        plain = "plain UDP, segments of 4,112 B"
        tables["between two namespaces"] = [
            Line(plain, lambda: wire.plain_udp(bench), "GB/s", None, ""),
            Line("ib_write_bw 1 MiB, IPv6", lambda: wire.write_bw(bench, ["--ipv6", "-x", "1"]),
                 "GB/s", plain, ">= 0.8"),
            Line("ib_write_bw 1 MiB, IPv4", lambda: wire.write_bw(bench, ["-x", "0"]),
                 "GB/s", plain, "")]
        for title, lines in tables.items():
            print(f"\n{title:30} {'median':>10} {'':5} {'ratio':>8} [of the rounds]  wanted")
            figures[title] = report(lines, options.rounds, options.only)
        print("\n1,000 queue pairs of one process")
        text = bench.run([*bench.soft, str(bench.build / "bench/many_qps"), "500"])
        figures["qps"] = json.loads(text)
        print(re.sub(r'[{}"]', "", text).strip())
    finally:
        wire.close()
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
