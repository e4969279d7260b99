#!/usr/bin/env python3
"""Fails when a gtest program has a suite that is not listed, or lacks a listed one.

usage: suites.py PROGRAM SUITE...
"""

import subprocess
import sys


def main(program: str, listed: set[str]) -> int:
    output = subprocess.run([program, "--gtest_list_tests"], check=True,
                            capture_output=True, text=True).stdout
    # "Suite.", "Prefix/Suite.", "Suite/0." and "/Suite." name a suite.
    names = {line.split("#")[0].strip().rstrip(".")
             for line in output.splitlines() if line and not line[0].isspace()
             and line.split("#")[0].strip().endswith(".")}
    suites = {next(part for part in name.split("/")[::-1] if not part.isdigit())
              for name in names}
    for suite in sorted(suites ^ listed):
        what = "is not listed" if suite in suites else "is listed but does not exist"
        print(f"{program}: suite {suite} {what}")
    return suites != listed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], set(sys.argv[2:])))
