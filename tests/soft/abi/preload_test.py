#!/usr/bin/env python3
"""Programs that know nothing of the hooks, with hooks and stub preloaded.

usage: preload_test.py HOOKS_LIBRARY EARLY_CALLER NDSOFT [unittest arguments]
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

HOOKS, EARLY, NDSOFT = sys.argv[1:4]
DEVICE = "/sys/class/infiniband/nd0"


def run(*command: str, preload: str = HOOKS, **env: str):
    return subprocess.run(
        command,
        env={**os.environ, "LD_PRELOAD": preload, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def output(*command: str, **options: str) -> str:
    done = run(*command, **options)
    assert done.returncode == 0, done
    return done.stdout


class CommonPrograms(unittest.TestCase):
    def test_cat_reads_files(self):
        self.assertEqual(output("cat", DEVICE + "/node_type"), "1: CA\n")

    def test_ls_lists_directories(self):
        names = output("ls", "/sys/class/infiniband", "/dev/infiniband").split()
        self.assertLessEqual({"nd0", "rdma_cm", "uverbs7"}, set(names))
        self.assertIn("ports", output("ls", "-l", DEVICE))

    def test_stat_and_test_and_readlink(self):
        kind = output("stat", "-c", "%F", "/dev/infiniband/rdma_cm")
        self.assertEqual(kind, "character special file\n")
        output("test", "-d", DEVICE + "/ports/1")
        target = output("readlink", DEVICE + "/device/net/lo")
        self.assertEqual(target, "/sys/class/net/lo\n")

    def test_a_shell_and_its_children(self):
        script = f"read x < {DEVICE}/fw_ver; echo $x; cat {DEVICE}/fw_ver | cat"
        self.assertEqual(output("bash", "-c", script), "1.2\n1.2\n")

    def test_python(self):
        script = f"""
import os, subprocess
print(open({DEVICE!r} + "/fw_ver").read(), end="")
print(sorted(os.listdir({DEVICE!r} + "/ports")))
print([e.is_dir() for e in os.scandir({DEVICE!r} + "/ports")])
fd = os.open("/dev/infiniband/rdma_cm", os.O_RDWR)
subprocess.run(["true"], close_fds=True)
print(os.write(fd, b"e123"))
os.close(fd)
"""
        said = output(sys.executable, "-c", script)
        self.assertEqual(said, "1.2\n['1']\n[True]\n4\n")

    def test_inactive_nothing_is_there(self):
        done = run("cat", DEVICE + "/node_type", ND_STUB_INACTIVE="1")
        self.assertIn("No such file", done.stderr)

    @unittest.skipUnless(os.getuid() == 0, "needs root for a namespace")
    def test_the_kernels_entries_are_listed_too(self):
        script = """
            mount -t tmpfs none /dev && mkdir /dev/infiniband &&
            : > /dev/infiniband/uverbs0 && ls /dev/infiniband"""
        names = output("unshare", "-m", "sh", "-c", script).split()
        self.assertEqual(names, ["rdma_cm", "uverbs0", "uverbs7"])

    def test_calls_before_any_constructor(self):
        output("true", preload=f"{HOOKS}:{EARLY}")

    @unittest.skipUnless(shutil.which("ibv_devices"), "no ibv_devices")
    def test_the_real_libibverbs_takes_nothing_for_a_device(self):
        self.assertNotIn("nd0", output("ibv_devices"))


class NdsoftRun(unittest.TestCase):
    """Without its library's device: what it refuses, and what it sets."""

    def ndsoft(self, *arguments: str):
        return subprocess.run(
            [NDSOFT, *arguments], capture_output=True, text=True, timeout=60
        )

    def refuses(self, status: int, reason: str, *arguments: str):
        done = self.ndsoft(*arguments)
        self.assertEqual(done.returncode, status, done)
        self.assertTrue(done.stderr.startswith("ndsoft: "), done)
        self.assertIn(reason, done.stderr)

    def test_help(self):
        done = self.ndsoft("run", "--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--faults", "--personality", "COMMAND"):
            self.assertIn(word, done.stdout)

    def test_command_line(self):
        self.refuses(2, "run what", "run")
        self.refuses(2, "run what", "run", "--")
        self.refuses(2, "--nonsense", "run", "--nonsense", "--", "true")
        self.refuses(2, "", "nonsense")
        self.refuses(2, "")

    def test_refusals(self):
        self.refuses(127, "command not found", "run", "--", "nd-no-such")
        self.refuses(127, "No such file", "run", "--", "/nd/no/such")
        self.refuses(126, "is a directory", "run", "--", "/tmp")
        with tempfile.TemporaryDirectory() as directory:
            text = os.path.join(directory, "text")
            with open(text, "w") as file:
                file.write("hello\n")
            self.refuses(126, "Permission denied", "run", "--", text)
            os.chmod(text, 0o755)
            self.refuses(126, "neither a program", "run", "--", text)

    @unittest.skipUnless(os.getuid() == 0, "needs root to give a file away")
    def test_setuid(self):
        with tempfile.TemporaryDirectory() as directory:
            copy = shutil.copy("/bin/true", directory)
            os.chown(copy, 65534, 65534)
            os.chmod(copy, 0o4755)
            self.assertTrue(os.stat(copy).st_mode & stat.S_ISUID)
            self.refuses(126, "setuid", "run", "--", copy)

    def test_environment_and_exit_status(self):
        with tempfile.TemporaryDirectory() as directory:
            program = shutil.copy(NDSOFT, directory)
            library = shutil.copy(HOOKS, os.path.join(directory, "libndsoft.so"))
            path = subprocess.run([program, "path"], capture_output=True, text=True)
            self.assertEqual(path.stdout, os.path.realpath(library) + "\n")
            script = (
                "echo $ND_DEVICE $ND_SOFT_FAULTS $ND_SOFT_PERSONALITY;"
                "cat /sys/class/infiniband/nd0/fw_ver; exit 7"
            )
            done = subprocess.run(
                [program, "run", "--faults", "drop=1", "--personality", "weak"]
                + ["--", "sh", "-c", script],
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.stdout, "soft drop=1 weak\n1.2\n", done)
            self.assertEqual(done.returncode, 7)

    def test_without_its_library(self):
        with tempfile.TemporaryDirectory() as directory:
            program = shutil.copy(NDSOFT, directory)
            done = subprocess.run(
                [program, "run", "--", "true"], capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 126)
            self.assertIn("libndsoft.so is not", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
