"""Runs the host's commands inside the guest.

The host reaches the agent through several virtio-serial ports; a port serves
one host process and one command at a time. Both sides write lines of JSON. A
host process names itself by a random `session`, which every line of either
side carries, so that what is left over from a predecessor that died is told
apart and dropped.

The host sends
    {"session", "op": "ping"}
    {"session", "op": "run", "argv", "cwd", "env", "timeout"}
    {"session", "op": "signal", "signal"}
and the agent answers
    {"session", "pong": ""}         the guest is set up
    {"session", "stdout": BASE64}   or "stderr", as it comes
    {"session", "exit": STATUS}     the command's end, always the last line
    {"session", "error": TEXT}      the guest cannot do what was asked

A command runs in a session and a process group of its own. Signals go to the
whole group. When its time is up, or when the host hangs up, the group gets
SIGTERM and two seconds later SIGKILL. The status is the command's exit status,
128 + N after signal N, 124 after a timeout, 126 or 127 if it cannot start.
"""

import base64
import errno
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Iterator

STATUS_FILE = "/run/guest/status"
PORTS = "/sys/class/virtio-ports"
CHUNK = 65536
GRACE_S = 2.0  # between SIGTERM and SIGKILL
HANGUP_S = 0.5  # how long a port is without a host process that has gone
LINGER_S = 0.3  # for output still on its way when the command has ended
STATUS_TIMEOUT = 124
STATUS_NOT_EXECUTABLE = 126
STATUS_NOT_FOUND = 127

Message = dict[str, Any]


class HostGone(Exception):
    """The host process closed its end of the port."""


class Port:
    """One virtio-serial port, seen as a stream of messages."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._partial = b""

    def receive(self) -> Iterator[Message]:
        """Yields what has arrived; raises HostGone after the last of it."""
        while True:
            try:
                data = os.read(self.fd, CHUNK)
            except BlockingIOError:
                return
            if not data:
                if self._hung_up():
                    raise HostGone
                continue
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # the torn line of a host process that died
                if isinstance(message, dict):
                    yield message

    def send(self, session: str, **fields: Any) -> None:
        data = json.dumps({"session": session, **fields}).encode() + b"\n"
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:
                self._wait_writable()

    def _wait_writable(self) -> None:
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        if poll.poll()[0][1] & select.POLLHUP and self._hung_up():
            raise HostGone

    def _hung_up(self) -> bool:
        """Whether nobody is at the other end, and that for some time.

        The kernel learns from one queue that a host process has come or gone
        and gets its data from another one, so it may report a predecessor's
        departure when the successor's first message has already been read.
        """
        poll = select.poll()
        poll.register(self.fd, 0)  # POLLHUP is always reported
        end = time.monotonic() + HANGUP_S
        while time.monotonic() < end:
            if not poll.poll(0):
                return False
            time.sleep(0.01)
        return True


class Command:
    """One running command; its owner waits on `fds` and calls `advance`."""

    def __init__(self, port: Port, request: Message) -> None:
        self._port = port
        self.session: str = request["session"]
        self._process = subprocess.Popen(
            request["argv"],
            cwd=request["cwd"],
            env={**os.environ, **request["env"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._streams = {"stdout": self._process.stdout,
                         "stderr": self._process.stderr}
        for stream in self._streams.values():
            os.set_blocking(stream.fileno(), False)
        self._timed_out = False
        self._kill_at: float | None = None
        self._linger_until: float | None = None
        timeout = request["timeout"]
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def fds(self) -> list[int]:
        fds = [stream.fileno() for stream in self._streams.values()]
        return fds if self._linger_until else fds + [self._pidfd]

    def time_left(self) -> float | None:
        """Seconds until `advance` must be called even if nothing happens."""
        times = [t for t in (self._deadline, self._kill_at, self._linger_until)
                 if t is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def stop(self) -> None:
        """SIGTERM now, SIGKILL soon."""
        self.signal(signal.SIGTERM)
        self._kill_at = time.monotonic() + GRACE_S

    def advance(self) -> bool:
        """Does what is due; returns whether the command goes on."""
        for name in list(self._streams):
            self._relay(name)
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._timed_out = True
            self.stop()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self.signal(signal.SIGKILL)
        if self._process.poll() is None:
            return True
        if self._linger_until is None:
            self._linger_until = now + LINGER_S
        if self._streams and now < self._linger_until:
            return True
        self._finish()
        return False

    def _relay(self, name: str) -> None:
        """Sends one piece of a stream, if there is one; drops it at its end."""
        stream = self._streams[name]
        data = stream.read(CHUNK)
        if data:
            text = base64.b64encode(data).decode()
            self._port.send(self.session, **{name: text})
        elif data == b"":
            stream.close()
            del self._streams[name]

    def _finish(self) -> None:
        if self._kill_at is not None:  # told to stop: leave nobody behind
            self.signal(signal.SIGKILL)
        self.close()
        status = self._process.returncode
        if self._timed_out:
            status = STATUS_TIMEOUT
        elif status < 0:
            status = 128 - status
        self._port.send(self.session, exit=status)

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams = {}
        os.close(self._pidfd)

    def kill(self) -> None:
        """For a host that is gone: ends the group, sends nothing."""
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        self.signal(signal.SIGKILL)
        self._process.wait()
        self.close()


class Server:
    """Serves one port for ever, in a thread of its own."""

    def __init__(self, path: str) -> None:
        self._port = Port(path)
        self._command: Command | None = None
        # A port without a host process is always ready, with POLLHUP. Edge
        # triggering waits for the moment when that changes.
        self._epoll = select.epoll()
        self._epoll.register(self._port.fd, select.EPOLLIN | select.EPOLLET)

    def serve(self) -> None:
        while True:
            self._wait()
            try:
                for message in self._port.receive():
                    self._handle(message)
                if self._command and not self._command.advance():
                    self._command = None
            except HostGone:
                self._abandon()

    def _wait(self) -> None:
        if self._command is None:
            self._epoll.poll()
            return
        fds = self._command.fds()
        for fd in fds:
            self._epoll.register(fd, select.EPOLLIN)
        self._epoll.poll(self._command.time_left())
        for fd in fds:
            self._epoll.unregister(fd)

    def _handle(self, message: Message) -> None:
        if self._command and self._command.session != message["session"]:
            self._abandon()
        match message["op"]:
            case "ping":
                self._answer_ping(message["session"])
            case "run":
                self._run(message)
            case "signal" if self._command:
                self._command.signal(message["signal"])

    def _answer_ping(self, session: str) -> None:
        while not os.path.exists(STATUS_FILE):
            time.sleep(0.02)
        with open(STATUS_FILE, encoding="utf-8") as file:
            status = file.read().strip()
        if status == "ready":
            self._port.send(session, pong="")
        else:
            self._port.send(session, error=status)

    def _run(self, request: Message) -> None:
        session, argv, cwd = request["session"], request["argv"], request["cwd"]
        if not os.path.isdir(cwd):
            self._port.send(session, error=f"no directory {cwd} in the guest")
            return
        try:
            self._command = Command(self._port, request)
        except OSError as error:
            text = f"guest: {argv[0]}: {os.strerror(error.errno)}\n".encode()
            self._port.send(session, stderr=base64.b64encode(text).decode())
            found = error.errno not in (errno.ENOENT, errno.ENOTDIR)
            self._port.send(session, exit=STATUS_NOT_EXECUTABLE if found
                            else STATUS_NOT_FOUND)

    def _abandon(self) -> None:
        if self._command:
            self._command.kill()
            self._command = None


def serve_or_die(path: str) -> None:
    try:
        Server(path).serve()
    except BaseException:  # a thread's end must not go unnoticed
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def set_defaults() -> None:
    """What every command inherits."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        # The shell ignores them for what it starts in the background.
        signal.signal(number, signal.SIG_DFL)
    unlimited = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (unlimited, unlimited))
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    os.environ.clear()
    os.environ.update(
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME="/root", USER="root", LOGNAME="root", LANG="C.UTF-8")


def main() -> None:
    set_defaults()
    threads = [threading.Thread(target=serve_or_die, args=[f"/dev/{name}"])
               for name in os.listdir(PORTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
