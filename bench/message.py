#!/usr/bin/env python3
"""Messages of nd's sessions against its own raw verbs, UCX and libfabric: ratios,
with their spread; and how well a stream of the latency class is kept apart from a
bulk stream.

usage: message.py message|isolation NDPING [--rounds N] [--only NAME] [--json FILE]
                                    [--local ADDRESS --peer ADDRESS]

Natively (./dev bench message, ./dev bench isolation) on the userspace device, on
two CPUs of a machine that does nothing else; with --local and --peer on the
devices that have these addresses, as the guest's (rxe0: 10.98.0.1, rxe1: 10.98.0.2).

In each round every program runs once, one after the other, every other round in
the opposite order. A line shows the medians of the rounds, and the ratio of ours
to theirs: the median of the ratios that the rounds gave, with the range that holds
it with 90 % confidence (by bootstrap). Latencies are p50 of half the round trip
(isolation: p99), bandwidths are means.

A raw WRITE goes from the same 1 MiB to the same 1 MiB each time, which some second
caches hold; on two QPs it does so with two of each. Messages come into four in turn.

isolation: the latency class' p99 while a bulk stream of the same session sends as
much as goes through, to its p99 when idle; and the same with the bulk stream in
the latency class, which is what there would be without classes.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys

from peers import NATIVE, fabric_bw, fabric_lat, ucx_bw, ucx_lat
from ports import cpu, server
from ratios import ratio

LIMIT_S = 120
FABRIC = "tcp;ofi_rxm"


def run(command: list[str]) -> str:
    return subprocess.run(cpu(1, command), check=True, text=True, timeout=LIMIT_S,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout


class Ndping:
    def __init__(self, program: str, local: str, peer: str):
        self.program, self.local, self.peer = program, local, peer

    def phase(self, *arguments: str) -> dict:
        with server(cpu(0, [self.program, "server", "--address", self.peer]), 7470):
            output = run([self.program, arguments[0], self.peer, "--from", self.local,
                          *arguments[1:], "--json"])
        return json.loads(output)["phases"][0]

    def lat(self, *arguments: str) -> float:
        """Nanoseconds."""
        return self.phase("lat", "--size", "64", "--warmup", "1000", *arguments)["latency"]["p50_ns"]

    def bw(self, *arguments: str) -> float:
        """Bytes a second."""
        return self.phase("bw", "--size", "1M", "--warmup", "100",
                          *arguments)["bytes_per_second"]

    def p99(self, *arguments: str) -> float:
        """Of a latency stream, in nanoseconds."""
        return self.phase("lat", "--over", "message", "--size", "64", "--warmup", "1000",
                          *arguments)["latency"]["p99_ns"]


Line = collections.namedtuple("Line", "name measure unit wanted")
Table = collections.namedtuple("Table", "title ours lines")


def message_tables(ndping: Ndping, native: bool) -> list[Table]:
    rounds = ("100000", "5000") if native else ("2000", "100")
    lat = ("--iterations", rounds[0])
    bw = ("--iterations", rounds[1])
    latency = [
        Line("nd message", lambda: ndping.lat("--over", "message", *lat), "ns", ""),
        Line("nd raw SEND", lambda: ndping.lat("--op", "send", *lat), "ns", "<= 1.15"),
    ]
    bandwidth = [
        Line("nd message", lambda: ndping.bw("--over", "message", *bw), "GB/s", ""),
        Line("nd raw WRITE", lambda: ndping.bw("--op", "write", *bw), "GB/s", ">= 0.95"),
        Line("nd raw WRITE, 2 QPs",
             lambda: ndping.bw("--op", "write", "--qps", "2", *bw), "GB/s", ""),
    ]
    if native:  # these know no device of nd's
        latency += [Line("UCX tag, TCP", lambda: ucx_lat("tcp,self", 20000), "ns", ""),
                    Line("libfabric, TCP", lambda: fabric_lat(FABRIC), "ns", "")]
        bandwidth += [Line("UCX tag, TCP", lambda: ucx_bw("tcp,self", 2000), "GB/s", ""),
                      Line("libfabric, TCP", lambda: fabric_bw(FABRIC), "GB/s", "")]
    return [Table("latency, 64 B", "nd message", latency),
            Table("bandwidth, 1 MiB", "nd message", bandwidth)]


def isolation_tables(ndping: Ndping, native: bool) -> list[Table]:
    count = ("--iterations", "100000" if native else "1000")
    idle = Line("idle", lambda: ndping.p99(*count), "ns", "")
    return [
        Table(f"p99 under a bulk stream, {title}", "under load", [
            Line("under load", lambda more=more: ndping.p99("--under-load", *more, *count), "ns",
                 ""),
            idle._replace(wanted=wanted)])
        for title, more, wanted in (
            ("classes on", (), "<= 2"),
            ("classes off", ("--load-class", "latency"), ""))]


def measure(table: Table, rounds: int, only: str) -> dict[str, list[float]]:
    chosen = [line for line in table.lines if only in line.name or line.name == table.ours]
    figures: dict[str, list[float]] = {line.name: [] for line in chosen}
    failed = set()
    for number in range(rounds):
        for line in chosen if number % 2 == 0 else reversed(chosen):
            if line.name in failed:
                continue
            try:
                figures[line.name].append(line.measure())
            except (subprocess.SubprocessError, RuntimeError, IndexError, TimeoutError,
                    FileNotFoundError) as error:
                said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
                print(f"{line.name}: {said[0] if said else error}", file=sys.stderr)
                failed.add(line.name)
    for line in chosen:
        show(line, figures, table.ours)
    return figures


def show(line: Line, figures: dict[str, list[float]], ours: str) -> None:
    theirs = figures[line.name]
    if not theirs:
        print(f"{line.name:20} did not run")
        return
    scale, digits = (1e9, 3) if line.unit == "GB/s" else (1, 0)
    text = f"{line.name:20} {statistics.median(theirs) / scale:12.{digits}f} {line.unit:5}"
    if line.name != ours and len(figures[ours]) == len(theirs):
        text += f" {ratio(figures[ours], theirs)}  {line.wanted}"
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("message", "isolation"))
    parser.add_argument("ndping", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="the lines whose names contain this")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--local", default=NATIVE)
    parser.add_argument("--peer", default=NATIVE)
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    native = options.peer == NATIVE
    if native:
        os.environ["ND_DEVICE"] = "soft"
        if not options.within:
            os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--net",
                                  sys.executable, *sys.argv, "--within"])
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    ndping = Ndping(str(options.ndping.resolve()), options.local, options.peer)
    tables = message_tables if options.what == "message" else isolation_tables
    figures = {}
    for table in tables(ndping, native):
        print(f"\n{table.title}\n{'':20} {'median':>12} {'':5} "
              f"{table.ours + ' to it':22}  wanted", flush=True)
        figures[table.title] = measure(table, options.rounds, options.only)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
