#!/usr/bin/env python3
"""What includes.py refuses, on small trees made for it."""

import pathlib
import tempfile
import unittest

import includes


class Includes(unittest.TestCase):
    def check(self, name: str, line: str) -> int:
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root) / name
            path.parent.mkdir(parents=True)
            path.write_text(line + "\n")
            return includes.main(pathlib.Path(root))

    def test_an_include_that_goes_down_is_fine(self):
        self.assertEqual(self.check("src/verbs/a.h", '#include "base/clock.h"'), 0)

    def test_an_include_that_goes_up_is_refused(self):
        self.assertEqual(self.check("src/base/a.h", '#include "verbs/cm.h"'), 1)

    def test_nothing_above_includes_the_soft_device(self):
        for floor in ("base", "verbs", "transport", "control", "api", "ndping"):
            self.assertEqual(
                self.check(f"src/{floor}/a.h", '#include "soft/wire/bth.h"'), 1)

    def test_the_ground_floor_knows_nothing_of_rdma(self):
        self.assertEqual(
            self.check("src/base/a.h", "#include <infiniband/verbs.h>"), 1)

    def test_grpc_stays_in_control(self):
        self.assertEqual(
            self.check("src/verbs/a.h", "#include <grpcpp/grpcpp.h>"), 1)

    def test_a_public_header_includes_no_abseil_but_status(self):
        self.assertEqual(
            self.check("include/nd/a.h", '#include "absl/time/time.h"'), 1)
        self.assertEqual(
            self.check("include/nd/a.h", '#include "absl/status/status.h"'), 0)

    def test_rooms_of_a_floor_have_their_order_too(self):
        self.assertEqual(
            self.check("src/soft/rc/a.h", '#include "soft/wire/packet.h"'), 0)
        self.assertEqual(
            self.check("src/soft/wire/a.h", '#include "soft/rc/responder.h"'), 1)
        self.assertEqual(
            self.check("src/ndping/engine/a.h", '#include "ndping/cli/cli.h"'), 1)

    def test_a_file_outside_the_rooms_of_its_floor_is_refused(self):
        self.assertEqual(
            self.check("src/ndping/a.h", '#include "ndping/text/units.h"'), 1)

    def test_a_source_includes_its_own_header_first(self):
        for include, status in (('"base/a.h"', 0), ("<vector>", 1)):
            with self.subTest(include), tempfile.TemporaryDirectory() as root:
                folder = pathlib.Path(root) / "src" / "base"
                folder.mkdir(parents=True)
                (folder / "a.h").write_text("")
                (folder / "a.cc").write_text(
                    f'#include {include}\n#include "base/a.h"\n')
                self.assertEqual(includes.main(pathlib.Path(root)), status)

    def test_an_empty_tree_is_a_mistake(self):
        self.assertEqual(self.check("src/base/a.txt", ""), 1)


if __name__ == "__main__":
    unittest.main()
