#!/usr/bin/env python3
"""ndping against perftest on the kernel's rdma_rxe: ratios, with their spread.

usage: rxe.py NDPING IDLE_THREAD [--rounds N] [--only NAME] [--json FILE]

Runs in the guest (./dev bench rxe). In each round perftest, perftest with a
second thread that sleeps (the library IDLE_THREAD, preloaded) and ndping run one
after the other with the same operation, size, count and queue depth, every other
round in the opposite order, so that all meet the same machine. A line shows the
medians of the rounds, and ndping's ratio to each: the median of the ratios that
the rounds gave, with the range that holds it with 90 % confidence (by bootstrap).
Whoever posts to rxe makes a system call, which costs more in a process that has
threads, as ndping has gRPC's; the second ratio is what is ndping's own. The
guest's CPU is mostly emulated: absolute times say nothing, and for seconds at a
time everything there runs at half its speed. A round is mostly at one of the two,
which is why ratios are taken within it; few rounds prove little.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys

from ports import wait_for_port
from ratios import ratio

LOCAL, PEER = "10.98.0.1", "10.98.0.2"
LOCAL_DEVICE, PEER_DEVICE = "rxe0", "rxe1"
LIMIT_S = 120


@dataclasses.dataclass(frozen=True)
class Case:
    op: str  # send, write, read
    kind: str  # lat, bw
    size: int
    iterations: int
    events: bool
    floor: str  # what the project asks of the ratio

    @property
    def name(self) -> str:
        return f"{self.op}_{self.kind}-{self.size}{'-e' if self.events else ''}"


def cases() -> list[Case]:
    found = []
    for events in (False, True):
        for op in ("send", "write", "read"):
            # perftest has no events for WRITE.
            if events and op == "write":
                continue
            found.append(Case(op, "lat", 64, 2000, events, "<= 1.05"))
            found.append(Case(op, "bw", 1 << 16, 1000, events, ">= 0.97"))
            found.append(Case(op, "bw", 1 << 20, 100, events, ">= 0.97"))
    return found


def gid_index(device: str, address: str) -> str:
    """The index of the device's RoCE v2 GID for an IPv4 address."""
    numbers = [int(part) for part in address.split(".")]
    wanted = "0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x" % tuple(numbers)
    port = f"/sys/class/infiniband/{device}/ports/1/gids"
    for index in range(64):
        with open(f"{port}/{index}", encoding="ascii") as gid:
            if gid.read().strip() == wanted:
                return str(index)
    raise LookupError(f"{device} has no GID for {address}")


def perftest(case: Case, preload: str = "") -> float:
    """Microseconds (the median) of a lat case, MiB/s (the mean) of a bw case."""
    program = f"ib_{case.op}_{case.kind}"
    common = ["-F", "-s", str(case.size), "-n", str(case.iterations)]
    common += ["-e"] if case.events else []
    env = {**os.environ, "LD_PRELOAD": preload}
    server = subprocess.Popen(
        [program, "-d", PEER_DEVICE, "-x", gid_index(PEER_DEVICE, PEER), *common],
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=env)
    try:
        wait_for_port(18515)
        client = subprocess.run(
            [program, "-d", LOCAL_DEVICE, "-x", gid_index(LOCAL_DEVICE, LOCAL),
             *common, PEER],
            capture_output=True, text=True, timeout=LIMIT_S, check=True, env=env)
        server.wait(LIMIT_S)
    finally:
        server.kill()
        server.wait()
    for line in client.stdout.splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[0] == str(case.size):
            # lat: bytes iterations min max typical; bw: bytes iterations peak mean
            return float(fields[4] if case.kind == "lat" else fields[3])
    raise RuntimeError(f"{program} printed no result:\n{client.stdout}")


def ndping(binary: str, case: Case) -> float:
    """The same figures of ndping, in the same units."""
    command = [binary, case.kind, PEER, "--from", LOCAL, "--op", case.op,
               "--size", str(case.size), "--iterations", str(case.iterations),
               "--cq", "event" if case.events else "busy", "--json"]
    if case.kind == "bw":  # perftest's depth and moderation of completions
        command += ["--depth", "128", "--signal-every", "100"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                            timeout=LIMIT_S, check=True).stdout
    phase = json.loads(output)["phases"][0]
    if case.kind == "lat":
        return phase["latency"]["p50_ns"] / 1000
    return phase["bytes_per_second"] / (1 << 20)


@dataclasses.dataclass
class Result:
    case: Case
    perftest: list[float]
    threaded: list[float]  # perftest with a second thread
    ndping: list[float]

    def line(self) -> str:
        unit = "us" if self.case.kind == "lat" else "MiB/s"
        medians = (statistics.median(figures) for figures in
                   (self.perftest, self.threaded, self.ndping))
        columns = " ".join(f"{median:9.1f}" for median in medians)
        return (f"{self.case.name:18} {columns} {unit:5} "
                f"{ratio(self.ndping, self.perftest)}  "
                f"{ratio(self.ndping, self.threaded)}  {self.case.floor}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ndping")
    parser.add_argument("idle_thread")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="the cases whose names contain this")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    server = subprocess.Popen([options.ndping, "server", "--address", PEER],
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    results = []
    try:
        wait_for_port(7470)
        print(f"{'case':18} {'perftest':>9} {'+ thread':>9} {'ndping':>9} {'':5} "
              f"{'ndping to perftest':22}  {'to it with a thread':22}  wanted",
              flush=True)
        for case in cases():
            if options.only not in case.name:
                continue
            result = Result(case, [], [], [])
            runs = [
                lambda: result.perftest.append(perftest(case)),
                lambda: result.threaded.append(perftest(case, options.idle_thread)),
                lambda: result.ndping.append(ndping(options.ndping, case)),
            ]
            for number in range(options.rounds):
                for run in runs if number % 2 == 0 else reversed(runs):
                    run()
            results.append(result)
            print(result.line(), flush=True)
    finally:
        server.terminate()
        server.wait()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([dataclasses.asdict(result) for result in results], file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
