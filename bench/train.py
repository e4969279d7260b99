#!/usr/bin/env python3
"""What a profiled build is laid out by: ndping's tests over the userspace device.

usage: train.py NDPING

NDPING was built with ND_PROFILE=record; when it ends it leaves beside its objects
how often it passed what.
"""

import os
import signal
import subprocess
import sys

from ports import cpu, server

ADDRESS = "127.0.0.1"
LIMIT_S = 120
TESTS = (
    "lat --over message --size 64 --iterations 200000",
    "lat --over message --size 64 --iterations 20000 --under-load",
    "lat --over message --size 64 --iterations 20000 --cq adaptive",
    "lat --over message --size 64 --iterations 20000 --ring --digest",
    "lat --over message --size 1K,8K,64K --iterations 5000",
    "bw --over message --size 64 --iterations 200000",
    "bw --over message --size 1M --iterations 3000",
    "lat --op send --size 64 --iterations 200000",
    "lat --op write --size 64 --iterations 50000",
    "lat --op read --size 64 --iterations 50000",
    "bw --op send --size 64,4K,64K --iterations 50000",
    "bw --op write --size 1M --iterations 3000",
    "bw --op read --size 1M --iterations 1000",
)


def main() -> int:
    if len(sys.argv) == 2:
        os.environ["ND_DEVICE"] = "soft"
        os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--net",
                              sys.executable, *sys.argv, "--within"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    program = sys.argv[1]
    with server(cpu(0, [program, "server", "--address", ADDRESS]), 7470, stop=signal.SIGTERM):
        for test in TESTS:
            name, *options = test.split()
            subprocess.run(cpu(1, [program, name, ADDRESS, "--from", ADDRESS, *options]),
                           check=True, timeout=LIMIT_S, stdout=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
