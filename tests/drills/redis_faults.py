"""A Redis between the service and Redis that does one thing wrong, with one command of one request.

    proxy = FaultProxy(redis_port)             # REDIS_URL: proxy.url(user, password)
    proxy.arm(fault, at=3)                     # the third command from now on meets the fault
    ...
    proxy.fired, proxy.commands                # what was seen meanwhile: Command(number, link, words)
    proxy.disarm()

Commands are numbered as they come, over all connections, the AUTH and SELECT of a new one among them. Redis gets a command
before the next one is looked at, so a fault of the third leaves the first two done and the fourth undone.

    proxy.arm(fault, at=3, gates=[8, 8])       # 8 commands are read before the first reply, then 8 more
"""

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

from processes import wait_until

LATE_S = 0.8  # the service gives up on a reply after 0.5 s (common/redis.h)
QUIET = 0  # a gate: all that come without waiting for a reply
QUIET_S = 0.03
REFUSE, CLOSE, IGNORE = "refuses", "closes", "ignores"  # what becomes of new connections


class Over(Exception):
    """A connection has come to its end."""


@dataclass(frozen=True)
class Command:
    number: int
    link: int
    words: list


class Fault:
    """What is done with a command.

    forwarded: Redis gets it. reply(text, draw): the bytes that the service gets, from those of Redis ("" where it was not
    asked). then: "on", "close", "reset", "hang" (until the service gives up), "late" (the reply comes after that), "drip" (byte
    by byte). afterwards: what becomes of new connections until disarm(). closes: the service must not use the connection again.
    harmless: the request must not fail for it. slow: it takes the service's patience."""

    def __init__(self, name, *, forwarded=False, reply=None, then="on", afterwards=None, closes=True, harmless=False):
        self.name = name
        self.forwarded = forwarded
        self.reply = reply or (lambda text, draw: b"")
        self.then = then
        self.afterwards = afterwards
        self.closes = closes
        self.harmless = harmless
        self.slow = then in ("hang", "late") or afterwards is not None

    def __repr__(self):
        return self.name


def says(*texts):
    return lambda text, draw: draw.choice(texts)


def then_says(*texts):
    return lambda text, draw: text + draw.choice(texts)


def same(text, draw):  # pylint: disable=unused-argument
    return text


def cut(where):
    return lambda text, draw: text[:max(1, min(len(text) - 1, where(len(text), draw)))]


def error(word):
    texts = {"MOVED": "MOVED 866 127.0.0.1:1", "ASK": "ASK 866 127.0.0.1:1"}
    return f"-{texts.get(word, word + ' this is the text of a test')}\r\n".encode()


ERRORS = ("LOADING", "READONLY", "OOM", "MOVED", "ASK", "NOAUTH", "WRONGPASS", "NOPERM", "MISCONF", "BUSY", "NOSCRIPT",
          "MASTERDOWN", "CLUSTERDOWN", "EXECABORT", "TRYAGAIN", "ERR")

FAULTS = [
    Fault("refused", then="close", afterwards=REFUSE),
    Fault("closed again and again", then="close", afterwards=CLOSE),
    Fault("silent for good", then="close", afterwards=IGNORE),
    Fault("hang", then="hang"),
    Fault("dropped before", then="close"),
    Fault("reset before", then="reset"),
    Fault("dropped after", forwarded=True, then="close"),
    Fault("reset after", forwarded=True, then="reset"),
    Fault("late", forwarded=True, reply=same, then="late"),
    Fault("cut after the first byte", forwarded=True, reply=cut(lambda size, draw: 1), then="close"),
    Fault("cut before the last byte", forwarded=True, reply=cut(lambda size, draw: size - 1), then="close"),
    Fault("cut somewhere", forwarded=True, reply=cut(lambda size, draw: draw.randrange(size)), then="close"),
    Fault("cut elsewhere", forwarded=True, reply=cut(lambda size, draw: draw.randrange(size)), then="reset"),
    Fault("stuck somewhere", forwarded=True, reply=cut(lambda size, draw: draw.randrange(size)), then="hang"),
    Fault("byte by byte", forwarded=True, reply=same, then="drip", closes=False, harmless=True),
    Fault("twice", forwarded=True, reply=lambda text, draw: 2 * text),
    Fault("another reply behind", forwarded=True, reply=then_says(b"+OK\r\n", b"$-1\r\n", b":1\r\n")),
    Fault("a beginning behind", forwarded=True, reply=then_says(b"$100\r\nab", b"*7\r\n", b"+", b"$")),
    Fault("a string", reply=says(b"$5\r\nwrong\r\n", b"+wrong\r\n", b"$0\r\n\r\n")),
    Fault("a number", reply=says(b":-7\r\n", b":9223372036854775807\r\n")),
    Fault("an empty list", reply=says(b"*0\r\n")),
    Fault("a short list", reply=says(b"*1\r\n$5\r\nwrong\r\n", b"*1\r\n$-1\r\n")),
    Fault("a long list", reply=lambda text, draw: b"*99\r\n" + 99 * draw.choice((b"$-1\r\n", b"$5\r\nwrong\r\n"))),
    Fault("a list of lists", reply=says(b"*3\r\n*1\r\n:1\r\n*0\r\n*-1\r\n", b"*1\r\n*1\r\n*1\r\n*1\r\n$2\r\nhm\r\n")),
    Fault("nil", reply=says(b"$-1\r\n", b"*-1\r\n"), closes=False),
    Fault("another protocol", reply=says(b"%1\r\n+a\r\n+b\r\n", b"_\r\n", b"#t\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    Fault("a giant string", reply=says(b"$536870912\r\nx", b"$99999999999999999999\r\n", b"$4294967298\r\nab\r\n"),
          then="hang"),
    Fault("a giant list", reply=says(b"*2147483647\r\n", b"*4294967297\r\n$2\r\nhm\r\n", b"*1000000\r\n"), then="hang"),
    Fault("deep nesting", reply=lambda text, draw: draw.choice((8, 100, 100000)) * b"*1\r\n" + b":1\r\n"),
    *(Fault(word, reply=says(error(word)), closes=False) for word in ERRORS),
]


class Link:
    """One connection of the service, and ours to Redis for it."""

    def __init__(self, proxy, client, number):
        self.proxy, self.client, self.number = proxy, client, number
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._redis = socket.create_connection(("127.0.0.1", proxy.redis_port))
        self._redis.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in = b""
        self._replies = self._redis.makefile("rb")
        self._out = b""
        self.fires = False  # with what is sent next, the fault is on its way

    def run(self):
        with contextlib.suppress(OSError, Over, ValueError):
            while True:
                commands = self._gather()
                self.proxy.batches.append(sum(not is_mark(words) for _, words in commands))
                for raw, words in commands:
                    self.proxy.handle(self, raw, words)
                self.flush()
        self.close()

    def _gather(self):
        """As many commands as the gate says, before the first of them is answered."""
        commands = [self._read()]
        if is_mark(commands[0][1]):
            return commands
        count = self.proxy.gate()
        while sum(not is_mark(words) for _, words in commands) < count or count == QUIET and self._more():
            commands.append(self._read())
        return commands

    def _more(self):
        return bool(self._in or select.select([self.client], [], [], QUIET_S)[0])

    def _read(self):
        while (command := parse_command(self._in)) is None:
            data = self.client.recv(65536)
            if not data:
                raise Over
            self._in += data
        raw, words = command
        self._in = self._in[len(raw):]
        return raw, words

    def forward(self, raw):
        self._redis.sendall(raw)
        return read_reply(self._replies)

    def send(self, data):
        self._out += data

    def flush(self):
        data, self._out = self._out, b""
        self.client.sendall(data)
        if self.fires:
            self.fires, self.proxy.fired = False, True

    def drip(self, data):
        self.flush()
        for byte in data:
            self.client.sendall(bytes([byte]))

    def wait_closed(self, seconds):
        """Until the service closes it; False when it does not. What it sends meanwhile is lost."""
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self.client.settimeout(left)
                if not self.client.recv(65536):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    def wait_left(self, seconds):
        """As wait_closed, but what it sends meanwhile waits to be read."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if select.select([self.client], [], [], 0.01)[0] and not self.client.recv(1, socket.MSG_PEEK):
                    return True
            except OSError:
                return True
            time.sleep(0.01)
        return False

    def close(self, reset=False):
        if reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._redis.shutdown(socket.SHUT_RDWR)
        for each in (self._replies, self.client, self._redis):
            with contextlib.suppress(OSError):
                each.close()


class FaultProxy:
    def __init__(self, redis_port, draw):
        self.redis_port = redis_port
        self._draw = draw
        self._lock = threading.Lock()
        self._holder = socket.socket()  # keeps the port ours while nobody listens there
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port = self._holder.getsockname()[1]
        self._listener = None
        self._links = {}
        self._count = 0
        self._gates = []
        self.trace = None  # called after each command that Redis has answered
        self.arm()
        self._listen()

    def url(self, user, password):
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    # Steering

    def arm(self, fault=None, at=None, gates=()):
        with self._lock:
            self.fault, self.at, self._gates = fault, at, list(gates)
            self.fired = False
            self.fault_link = None
            self.commands = []
            self.batches = []
            self.opened = 0
            self._new = None

    def disarm(self):
        with self._lock:
            self.fault, self._gates, self._new = None, [], None
        if self._listener is None:
            self._listen()

    def disconnect(self):
        """End all connections, as when Redis restarts, and wait until the service has noticed."""
        for link in list(self._links.values()):
            with contextlib.suppress(OSError):
                link.client.shutdown(socket.SHUT_WR)
        wait_until(lambda: not self._links, "the service closes its connections")

    def stop(self):
        self.disconnect()
        self._unlisten()
        self._holder.close()

    # Connections

    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _unlisten(self):
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.opened += 1
                if self._new == CLOSE:
                    client.close()
                    continue
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        if self._new == IGNORE:
            with client, contextlib.suppress(OSError):
                while client.recv(65536):
                    pass
            return
        with self._lock:
            self._count += 1
            number = self._count
        with contextlib.suppress(OSError):
            link = self._links[number] = Link(self, client, number)
            link.run()
        self._links.pop(number, None)

    def gate(self):
        """How many commands to read before any is answered."""
        with self._lock:
            return self._gates.pop(0) if self._gates else 1

    # Commands

    def handle(self, link, raw, words):
        if is_mark(words):
            link.send(link.forward(raw))
            return
        with self._lock:
            self.commands.append(Command(len(self.commands) + 1, link.number, words))
            fault = self.fault if len(self.commands) == self.at else None
        if fault is None:
            link.send(link.forward(raw))
            if self.trace is not None:
                self.trace()
            return
        text = link.forward(raw) if fault.forwarded else b""
        data = fault.reply(text, self._draw)
        self.fault_link = link.number
        self._new = fault.afterwards
        if fault.afterwards == REFUSE:
            self._unlisten()
        if fault.then == "late":
            link.flush()
            self.fired = True
            if link.wait_left(LATE_S):
                raise Over  # as it must be: there is nobody any more whom the reply could reach
            link.send(data)
            return
        if fault.then == "drip":
            link.drip(data)
            self.fired = True
            return
        link.send(data)
        if fault.then == "on":
            link.fires = True
            return
        with contextlib.suppress(OSError):
            link.flush()
        self.fired = True
        if fault.then == "hang":
            link.wait_closed(10)
        link.close(reset=fault.then == "reset")
        raise Over


# The protocol


def is_mark(words):
    """The service's own: by its reply it sees that none was lost or came twice. No command of a request."""
    return words[0] == "ECHO"


def read_exactly(stream, size):
    data = stream.read(size)
    if len(data) < size:
        raise Over
    return data


def read_line(stream):
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise Over
    return line


def parse_command(data):
    """The bytes of the first command, and its words; None as long as it is not whole."""
    end = data.find(b"\r\n")
    words = []
    for _ in range(int(data[1:end]) if end >= 0 else 0):
        begin, end = end + 2, data.find(b"\r\n", end + 2)
        if end < 0:
            return None
        begin, end = end + 2, end + 2 + int(data[begin + 1:end])
        if len(data) < end + 2:
            return None
        words.append(data[begin:end].decode("utf-8", "replace"))
    return (data[:end + 2], words) if end >= 0 else None


def read_reply(stream):
    head = read_line(stream)
    kind, rest = head[:1], head[1:-2]
    if kind == b"$" and int(rest) >= 0:
        return head + read_exactly(stream, int(rest) + 2)
    if kind == b"*" and int(rest) > 0:
        return head + b"".join(read_reply(stream) for _ in range(int(rest)))
    return head
