#!/usr/bin/env python3
"""rdma-core's own test suite, pyverbs, on the soft device.

usage: pyverbs_test.py LIBNDSOFT [--expected FILE] [TEST...]

Runs the suite of the distribution's python3-pyverbs, or those of its tests that
are named (as in test_mr.MWTest), and compares what came of each with
pyverbs_expected.toml. Exit status 77: the suite is not installed.
"""

import argparse
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path

SUITE = Path("/usr/share/doc/rdma-core/tests")
DEVICE = "nd0"
LIMIT_S = 300
SKIPPED = 77


def unpack(to: Path) -> None:
    for file in SUITE.iterdir():
        if file.suffix == ".gz":
            (to / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        else:
            shutil.copy(file, to)


def interpreter() -> str | None:
    """One for which pyverbs is installed: the distribution's, as a rule."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        command = [candidate, "-c", "import pyverbs"]
        if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
            return candidate
    return None


# ---- In the process that has the library preloaded.


def run_suite(directory: str, outcomes: str, names: list[str]) -> None:
    """Writes a line of JSON for each thing that happens to a test."""
    import unittest

    class Record(unittest.TestResult):
        def __init__(self, *_arguments):
            super().__init__()
            self.lines = open(outcomes, "a", buffering=1, encoding="utf-8")

        def say(self, test, kind: str, text: str = "") -> None:
            # A subtest tells of its test; a class that fails has no name.
            test = getattr(test, "test_case", test)
            name = test.id().removeprefix("tests.")
            self.lines.write(json.dumps([name, kind, text]) + "\n")

        def startTest(self, test):
            self.say(test, "begun")

        def addSuccess(self, test):
            self.say(test, "passed")

        def addSkip(self, test, reason):
            self.say(test, "skipped", reason)

        def addError(self, test, err):
            self.say(test, "failed", self._exc_info_to_string(err, test))

        def addFailure(self, test, err):
            self.addError(test, err)

        def addSubTest(self, test, subtest, err):
            if err is not None:
                self.addError(subtest, err)

        def addExpectedFailure(self, test, err):
            self.addSuccess(test)

    os.chdir(directory)
    sys.path.insert(0, directory)
    sys.argv[1:] = ["--dev", DEVICE]
    suite = SourceFileLoader("tests", directory + "/__init__.py").load_module()
    sys.modules["args_parser"].parser.parse_args()
    loader = unittest.TestLoader()
    if names:
        tests = loader.loadTestsFromNames(["tests." + name for name in names])
    else:
        tests = loader.loadTestsFromModule(suite)
    tests.run(Record())


# ---- In the process that judges.


def run_preloaded(library: str, names: list[str]) -> tuple[list, str]:
    """What happened, and what the suite had to say if it came to a bad end."""
    python = interpreter()
    if not SUITE.is_dir() or python is None:
        print("python3-pyverbs or rdma-core's tests are not installed")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as directory:
        unpack(Path(directory))
        outcomes = Path(directory) / "outcomes.json"
        output = Path(directory) / "output.txt"
        command = [python, __file__, "--inside", directory, str(outcomes), *names]
        environment = os.environ | {
            "LD_PRELOAD": os.path.abspath(library),
            "ND_DEVICE": "soft",
        }
        with output.open("w") as to:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=to,
                stderr=to,
                start_new_session=True,
            )
            try:
                status = process.wait(LIMIT_S)
                end = "" if status == 0 else f"the suite ended with {status}"
            except subprocess.TimeoutExpired:
                end = f"the suite still ran after {LIMIT_S} s"
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        lines = outcomes.read_text().splitlines() if outcomes.exists() else []
        if end:
            end += "\n" + "\n".join(output.read_text().splitlines()[-30:])
        return [json.loads(line) for line in lines], end


class Verdict:
    """How the tests came out, the worst of each."""

    ORDER = ["begun", "passed", "skipped", "failed"]

    def __init__(self, happened: list):
        self.kind: dict[str, str] = {}
        self.text: dict[str, str] = {}
        for name, kind, text in happened:
            worst = self.ORDER.index(self.kind.get(name, "begun"))
            if self.ORDER.index(kind) >= worst:
                self.kind[name] = kind
                self.text[name] = text

    def having(self, kind: str) -> list[str]:
        return sorted(name for name, its in self.kind.items() if its == kind)


def reason_fits(expected: dict, name: str, says: str) -> bool:
    """Whether a group of skips has this test, with this reason."""
    for group in expected["skips"]:
        named = any(name.startswith(prefix) for prefix in group["tests"])
        if named and any(says.startswith(text) for text in group["says"]):
            return True
    return False


def complaints(verdict: Verdict, expected: dict, names: list[str]) -> list[str]:
    must_pass = [
        f"{of_class}.{test}"
        for of_class, tests in expected["passes"].items()
        for test in tests
    ]
    if names:
        must_pass = [
            test for test in must_pass if any(test.startswith(name) for name in names)
        ]
    found = [f"FAILED  {name}\n{verdict.text[name]}" for name in verdict.having("failed")]
    found += [f"NO END  {name}" for name in verdict.having("begun")]
    for name in verdict.having("skipped"):
        says = verdict.text[name]
        if name in must_pass:
            found.append(f"SKIPPED {name}, which should pass: {says}")
        elif not reason_fits(expected, name, says):
            found.append(f"SKIPPED {name} for a reason that is not listed: {says}")
    found += [f"NOT RUN {name}" for name in must_pass if name not in verdict.kind]
    return found


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        run_suite(sys.argv[2], sys.argv[3], sys.argv[4:])
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("library", metavar="LIBNDSOFT")
    beside = Path(__file__).with_name("pyverbs_expected.toml")
    parser.add_argument("--expected", type=Path, default=beside)
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_args()
    expected = tomllib.loads(arguments.expected.read_text())
    begin = time.monotonic()
    happened, end = run_preloaded(arguments.library, arguments.tests)
    verdict = Verdict(happened)
    found = complaints(verdict, expected, arguments.tests)
    if end:
        found.append(end)
    for complaint in found:
        print(complaint)
    counts = {kind: len(verdict.having(kind)) for kind in Verdict.ORDER[1:]}
    seconds = time.monotonic() - begin
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()), end="")
    print(f", in {seconds:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
