"""Processes that a test starts: each with its log, ended by its pid and nothing else."""

import os
import signal
import socket
import subprocess
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class NotReached(AssertionError):
    """A condition that a test waits for did not come about in its time."""


def wait_until(condition, what, seconds=10.0):
    """Ask until condition() is true and return what it said: a bound, not a sleep for luck."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise NotReached(f"not reached within {seconds:g} s: {what}")
        time.sleep(0.01)


class Ports:
    """Free loopback ports. Each stays bound here until it is wanted, so that two seekers never find the same one."""

    def __init__(self):
        self._held = {}

    def find(self):
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        self._held[port] = holder
        return port

    def release(self, *ports):
        for port in ports:
            holder = self._held.pop(port, None)
            if holder is not None:
                holder.close()


class Process:
    """One program. `log` gets its standard output and error, appended over restarts."""

    def __init__(self, name, command, log, environment=None):
        self.name = name
        self.command = command
        self.log = log
        self.environment = environment
        self.process = None

    def start(self):
        assert self.process is None, f"{self.name} runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=subprocess.STDOUT, cwd="/", start_new_session=True)
        return self

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def send(self, number):
        self.process.send_signal(number)

    def pause(self):
        self.send(signal.SIGSTOP)

    def resume(self):
        self.send(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM, seconds=30):
        """End it and return its exit status; killed, and an error, when it does not end in time."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise NotReached(f"{self.name} did not end within {seconds} s of signal {number}") from None

    def kill(self):
        return self.stop(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def tail(self, lines=30):
        return "\n".join(self.text().splitlines()[-lines:])

    def children(self):
        """Pids of its direct children, in the order of their start."""
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
                return [int(pid) for pid in file.read().split()]
        except FileNotFoundError:
            return []


def own_certificate(path, name="localhost"):
    """A certificate that only this test trusts, and its key, in one file."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                    "-days", "2", "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    with open(path, "a", encoding="ascii") as file, open(f"{path}.crt", encoding="ascii") as issued:
        file.write(issued.read())


class HAProxy(Process):
    """Debian's HAProxy with its own defaults; `sections`: frontends and backends, whose first port is `port`."""

    def __init__(self, directory, port, sections):
        self.port = port
        self._path = os.path.join(directory, "haproxy.cfg")
        self._sections = sections
        super().__init__("haproxy", ["/usr/sbin/haproxy", "-db", "-f", self._path], os.path.join(directory, "haproxy.log"),
                         minimal_environment())

    def start(self):
        with open(self._path, "w", encoding="ascii") as file:
            file.write("defaults\n\tmode http\n\ttimeout connect 5s\n\ttimeout client 60s\n\ttimeout server 60s\n" + self._sections)
        super().start()

        def listens():
            assert self.running(), f"haproxy ended:\n{self.tail()}"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        wait_until(listens, "haproxy listens")
        return self


def minimal_environment(**more):
    """What every program gets: nothing of the caller's settings, so that a run means the same everywhere."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **more}
