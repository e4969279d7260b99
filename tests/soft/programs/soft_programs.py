"""What the tests of other people's programs share: starting them on the soft
device, each with a deadline, and knowing when a server listens.

They run in a network namespace of their own (netns.sh), as the programs use
fixed ports.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import rping  # noqa: E402

LIMIT_S = 60

IPV4 = "10.98.0.1"
OTHER_IPV4 = "10.98.0.2"
IPV6 = "fd98::1"

_ndsoft = ""


def use_ndsoft(path: str) -> None:
    """The program `ndsoft` that run_on_soft uses."""
    global _ndsoft
    _ndsoft = os.path.abspath(path)


def run_on_soft(command: list[str], before: list[str] | None = None,
                preload: str = "", **options) -> subprocess.Popen:
    """`before` is a command that runs the program, such as prlimit; `preload` a
    library that comes before the soft device's."""
    more = ["env", f"LD_PRELOAD={preload}"] if preload else []
    return subprocess.Popen([*(before or []), *more, _ndsoft, "run", "--", *command],
                            text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True,
                            **options)


def finish(process: subprocess.Popen, limit_s: float = LIMIT_S) -> tuple[int, str]:
    """Its status and what it said; -1 and SIGKILL where it goes on for longer."""
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        kill(process)
        output, _ = process.communicate()
        return -1, f"{output}\n(still ran after {limit_s} s)"
    return rping.status(process.returncode, output), output


def stop(process: subprocess.Popen) -> str:
    process.terminate()
    return finish(process, 10)[1]


def kill(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # has ended, and nobody is left of it


def listens_on(port: int) -> bool:
    """TCP, without connecting: that would be taken for the peer."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as lines:
            for line in lines:
                fields = line.split()
                if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
                    return True
    return False


def soft_names() -> list[str]:
    """The names by which the soft device's processes of this namespace find one
    another, those that have an owner."""
    with open("/proc/net/unix", encoding="ascii", errors="replace") as lines:
        return [line.split()[-1] for line in lines if "@nd-soft/" in line]


def has_service(port: int, ipv4: str = "") -> bool:
    """Whether a process has bound the port of rdma_cm's port spaces, at this
    address or any: it may not listen yet."""
    place = "".join(f"{int(part):02x}" for part in ipv4.split(".")) if ipv4 else ""
    return any(re.search(rf"@nd-soft/service/[0-9a-f]+{port:04x}/.*{place}$", name)
               for name in soft_names())


def in_group(count: int) -> bool:
    """Whether so many processes are in multicast groups."""
    return sum("@nd-soft/group/" in name for name in soft_names()) >= count


def wait_until(condition, limit_s: float = 30) -> bool:
    """Whether it came to hold in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def wait_for(ready, server: subprocess.Popen) -> None:
    wait_until(lambda: server.poll() is not None or ready())


def as_nobody(*paths: str) -> None:
    """Goes on as a user without privileges where this is root, by running the
    script again: as nobody if that can read the paths, else without capabilities
    in a user namespace of its own."""
    if os.geteuid() != 0 or os.environ.get("ND_AS_NOBODY"):
        return
    os.environ["ND_AS_NOBODY"] = "1"
    script = os.path.abspath(sys.argv[0])
    readable = [part for path in (script, *paths) for part in ("-a", "-r", path)][1:]
    for become in (["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                    "--bounding-set=-all", "--inh-caps=-all"],
                   ["unshare", "--user", "--map-user=65534", "--map-group=65534"]):
        if subprocess.run([*become, "test", *readable], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0:
            os.execvp(become[0], [*become, sys.executable, script, *sys.argv[1:]])
    print("no way to be anyone but root here", file=sys.stderr)
