#!/usr/bin/env python3
"""An application outside the tree builds with what `cmake --install` puts down, by
CMake and by pkg-config, and runs.

usage: install_test.py CMAKE BUILD_DIRECTORY LIBRARY_DIRECTORY EXAMPLE
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CMAKE, BUILD, LIB, EXAMPLE = sys.argv[1:]
LISTS = """
cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES CXX)
find_package(nd 0.1 REQUIRED)
add_executable(application application.cc)
target_link_libraries(application PRIVATE nd::soft nd::nd)
"""


def output(*command: object, **options) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True,
                          text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout


class Outside(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.place.cleanup)
        first, cls.prefix = (Path(cls.place.name, name) for name in ("a", "moved"))
        for component in ("nd", "soft"):
            output(CMAKE, "--install", BUILD, "--prefix", first, "--component",
                   component)
        os.rename(first, cls.prefix)
        cls.source = Path(cls.place.name, "source")
        cls.source.mkdir()
        shutil.copy(EXAMPLE, cls.source / "application.cc")
        (cls.source / "CMakeLists.txt").write_text(LISTS)

    def expect_echo(self, program: Path, **environment: str) -> None:
        said = output(program, env={**os.environ, "ND_DEVICE": "soft", **environment})
        self.assertRegex(said, r"one: [\d.]+ us\ntwo: .*\nthree: .*\nOK\nOK\n")

    def test_by_cmake(self):
        build = self.source / "build"
        output(CMAKE, "-S", self.source, "-B", build,
               f"-DCMAKE_PREFIX_PATH={self.prefix}")
        output(CMAKE, "--build", build)
        self.expect_echo(build / "application")

    def test_by_pkg_config(self):
        library = self.prefix / LIB
        path = {**os.environ, "PKG_CONFIG_PATH": str(library / "pkgconfig")}
        flags = output("pkg-config", "--cflags", "--libs", "nd", env=path).split()
        program = self.source / "application"
        output("c++", self.source / "application.cc", "-Wl,--no-as-needed",
               f"-L{library}", "-lndsoft", *flags, "-o", program)
        self.expect_echo(program, LD_LIBRARY_PATH=str(library))

    def test_the_build_tree_is_not_needed(self):
        for path in self.prefix.rglob("*"):
            if path.is_file() and not path.is_symlink():
                self.assertNotIn(os.fsencode(BUILD), path.read_bytes(), path)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
