#!/usr/bin/env python3
"""What `cmake --install` puts down works from wherever it is moved to.

usage: install_test.py CMAKE BUILD_DIRECTORY LIBRARY_DIRECTORY COMPONENT...
"""

import os
import subprocess
import sys
import tempfile
import unittest

CMAKE, BUILD, LIB, *COMPONENTS = sys.argv[1:]
LIBRARY = f"{LIB}/libndsoft.so"
FILES = {"soft": {"bin/ndsoft", LIBRARY}, "ndping": {"bin/ndping"}}


def output(*command: str, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60,
                          check=False, **options)
    assert done.returncode == 0, done
    return done.stdout


class Installed(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        first = os.path.join(directory.name, "first")
        for component in COMPONENTS:
            output(CMAKE, "--install", BUILD, "--prefix", first,
                   "--component", component)
        self.prefix = os.path.join(os.path.realpath(directory.name), "moved")
        os.rename(first, self.prefix)

    def path(self, name: str) -> str:
        return os.path.join(self.prefix, name)

    def test_these_files_are_there(self):
        found = {os.path.relpath(os.path.join(directory, name), self.prefix)
                 for directory, _, names in os.walk(self.prefix) for name in names}
        self.assertEqual(found, set().union(*(FILES[part] for part in COMPONENTS)))

    def test_programs_run_on_the_device(self):
        listed = output(self.path("bin/ndsoft"), "run", "--", "ibv_devices", cwd="/")
        self.assertIn("nd0", listed)

    def test_by_a_link_too(self):
        link = self.path("a_link")
        os.symlink(self.path("bin/ndsoft"), link)
        self.assertEqual(output(link, "path", cwd="/").strip(),
                         self.path(LIBRARY))

    def test_the_build_tree_is_not_needed(self):
        for component in COMPONENTS:
            for name in FILES[component]:
                self.assertNotIn(BUILD, output("readelf", "-d", self.path(name)))

    @unittest.skipUnless("ndping" in COMPONENTS, "without ndping")
    def test_ndping_finds_the_library(self):
        needs = output("ldd", self.path("bin/ndping"), cwd="/")
        self.assertIn(f"libndsoft.so => {self.prefix}", needs)
        self.assertIn("nd0", output(self.path("bin/ndping"), "devices", cwd="/"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
