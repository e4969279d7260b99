#!/usr/bin/env python3
"""Runs commands in a QEMU guest that has the kernel's real rdma_rxe.

usage:
  guest.py prepare --dir D
  guest.py run     --dir D [--cwd DIR] [--env K=V] [--timeout S] -- CMD...
  guest.py start   --dir D
  guest.py exec    --dir D [--cwd DIR] [--env K=V] [--timeout S] -- CMD...
  guest.py stop    --dir D

run and start also take --memory MIB (3072), --accel kvm|tcg|auto (auto) and
--tap NAME: the guest's eth0, with rxe2 above it, is the host's tap device NAME.

prepare downloads Debian's current kernel package (it is not installed) and
builds the guest's image in the directory D; it does nothing when that is up to
date. run and start prepare by themselves.

run boots a guest, runs one command in it and ends the guest.

start boots a guest that stays until stop, exec runs a command in it. Several
commands may run at the same time. start leaves a guest that is alive as it is
and replaces one that is dead; stop is content when there is none. A guest of
run and one of start know nothing of each other.

The command
  - sees the host's file system as its own: the same programs and build tree
    under the same names. What it writes goes to memory and ends with the
    guest. The guest caches what it has read: a file that is rebuilt on the
    host while a guest is running may be seen in its old state, so start a new
    guest after a build.
  - is root, with no limit on locked memory, and with rxe0 and rxe1 at either
    end of a wire (network.sh shows it).
  - starts in DIR, by default the current directory, with a small fixed
    environment and the variables given by --env.
  - has no standard input. Its output and errors are passed on as they come.

Ctrl-C sends SIGINT to the command and what it started, a second one SIGKILL.
If this program ends early, so does the command.

Exit status: that of the command; 128 + N if signal N ended it; 124 if it was
ended after --timeout S seconds, which do not include the boot; 125 if the
guest failed, with the reason and the console's last lines on the standard
error output; 126 or 127 if the command could not be started.

KVM is used where it works; D remembers that in kvm.json (remove the file to
try again). Elsewhere the CPU is emulated, about ten times slower: compare
times within one boot only.
"""

import argparse
import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from image import GuestError, Image, locked, prepare, write_atomically
from machine import Channel, Machine, Options, boot

STATUS_TIMEOUT = 124
STATUS_GUEST_FAILED = 125


def main() -> int:
    arguments = parse_arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, exit_by_signal)
    try:
        return COMMANDS[arguments.action](arguments)
    except GuestError as error:
        print(f"guest.py: {error}", file=sys.stderr)
        return STATUS_GUEST_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Nobody reads our output; keep the interpreter from trying again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def exit_by_signal(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, usage=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True,
                                    prog="guest.py", help=argparse.SUPPRESS)
    for name in COMMANDS:
        action = actions.add_parser(name)
        action.add_argument("--dir", type=Path, required=True)
        if name in ("run", "start"):
            action.add_argument("--memory", type=int, default=3072,
                                metavar="MIB")
            action.add_argument("--accel", choices=("auto", "kvm", "tcg"),
                                default="auto")
            action.add_argument("--tap", metavar="NAME")
        if name in ("run", "exec"):
            action.add_argument("--cwd", default=os.getcwd())
            action.add_argument("--env", action="append", default=[],
                                type=variable, metavar="K=V")
            action.add_argument("--timeout", type=float, metavar="S")
            action.add_argument("command", nargs="+", metavar="CMD")
    arguments = parser.parse_args()
    arguments.dir = arguments.dir.absolute()
    return arguments


def variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text} is not K=V")
    return name, value


def do_prepare(arguments: argparse.Namespace) -> int:
    prepare(arguments.dir)
    return 0


def do_run(arguments: argparse.Namespace) -> int:
    machine = boot_machine(arguments, detached=False)
    try:
        return run_command(machine, arguments)
    finally:
        machine.stop()


def do_start(arguments: argparse.Namespace) -> int:
    image = prepare(arguments.dir)
    with locked(arguments.dir / "started.lock"):
        machine = load_started(arguments.dir)
        if machine and machine.alive():
            note_reuse(machine, image)
            return 0
        if machine:
            machine.stop()  # removes what is left of it
        machine = boot_machine(arguments, detached=True)
        save_started(arguments.dir, machine)
    return 0


def do_exec(arguments: argparse.Namespace) -> int:
    machine = load_started(arguments.dir)
    if machine is None:
        raise GuestError(f"no guest was started in {arguments.dir}")
    return run_command(machine, arguments)


def do_stop(arguments: argparse.Namespace) -> int:
    if not arguments.dir.is_dir():
        return 0
    with locked(arguments.dir / "started.lock"):
        if machine := load_started(arguments.dir):
            machine.stop()
            started_file(arguments.dir).unlink(missing_ok=True)
    return 0


COMMANDS = {"prepare": do_prepare, "run": do_run, "start": do_start,
            "exec": do_exec, "stop": do_stop}


def boot_machine(arguments: argparse.Namespace, detached: bool) -> Machine:
    image = prepare(arguments.dir)
    options = Options(arguments.memory, arguments.accel, detached,
                      arguments.tap)
    return boot(image, arguments.dir, options)


def note_reuse(machine: Machine, image: Image) -> None:
    if machine.image != image.initramfs.name:
        print("guest.py: the running guest was booted from an older image",
              file=sys.stderr)


def started_file(directory: Path) -> Path:
    return directory / "started.json"


def save_started(directory: Path, machine: Machine) -> None:
    write_atomically(started_file(directory), json.dumps(vars(machine)))


def load_started(directory: Path) -> Machine | None:
    with contextlib.suppress(FileNotFoundError):
        text = started_file(directory).read_text(encoding="utf-8")
        return Machine(**json.loads(text))
    return None


def run_command(machine: Machine, arguments: argparse.Namespace) -> int:
    with machine.connect() as channel, interrupts_passed_to(channel):
        channel.send("run", argv=arguments.command, cwd=arguments.cwd,
                     env=dict(arguments.env), timeout=arguments.timeout)
        for message in channel.messages():
            if "error" in message:
                raise GuestError(message["error"])
            if "exit" in message:
                note_timeout(message["exit"], arguments)
                return message["exit"]
            for name, file in (("stdout", sys.stdout), ("stderr", sys.stderr)):
                if name in message:
                    file.buffer.write(base64.b64decode(message[name]))
                    file.buffer.flush()
    raise GuestError(machine.explain("the guest has ended"))


@contextlib.contextmanager
def interrupts_passed_to(channel: Channel) -> Iterator[None]:
    numbers = [signal.SIGKILL, signal.SIGINT]

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        number = numbers.pop() if len(numbers) > 1 else numbers[0]
        channel.send("signal", signal=number)

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def note_timeout(status: int, arguments: argparse.Namespace) -> None:
    if status == STATUS_TIMEOUT and arguments.timeout is not None:
        print(f"guest.py: ended after {arguments.timeout:g} s",
              file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
