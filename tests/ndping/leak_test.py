#!/usr/bin/env python3
"""Nothing is left behind by connections that come and go.

usage: leak_test.py [unittest arguments], where scenario.py says.
"""

import unittest

import scenario
from scenario import LOCAL, PEER

TO = (PEER, "--from", LOCAL)


class Leaks(scenario.ScenarioTest):
    def test_200_connections_leave_nothing_in_the_server(self):
        with scenario.server("--address", PEER) as server:
            # The first test makes what a server makes once, gRPC's threads.
            self.assert_passes("connect", *TO, "--connections", "2")
            held = scenario.resources()
            files, threads = server.open_files(), server.threads()

            result = self.assert_passes("connect", *TO, "--connections", "200")

            self.assertEqual(result["connections"], 200)
            scenario.wait_until(lambda: scenario.resources() == held,
                                "the server to hold what it held before")
            scenario.wait_until(lambda: server.open_files() <= files,
                                f"{files} open files, {server.open_files()} now")
            # gRPC keeps a few threads of its own; 200 leaked ones would show.
            self.assertLess(server.threads(), threads + 10)

    def test_64_connections_held_at_once(self):
        with scenario.server("--address", PEER):
            result = self.assert_passes("connect", *TO, "--connections", "64",
                                        "--hold")
            self.assertEqual(result["connections"], 64)


if __name__ == "__main__":
    unittest.main(verbosity=2)
