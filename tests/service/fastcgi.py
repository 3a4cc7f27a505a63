"""FastCGI as nginx speaks it, and as a broken or hostile peer might: bytes straight to the workers' socket."""

import socket
import struct

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES = range(1, 10)
RESPONDER = 1
KEEP = 1


def record(kind, content=b"", number=1, padding=0, version=1):
    return struct.pack(">BBHHBx", version, kind, number, len(content), padding) + content + bytes(padding)


def pair(name, value):
    def length(text):
        return struct.pack(">B", len(text)) if len(text) < 128 else struct.pack(">I", len(text) | 1 << 31)
    name, value = name.encode(), value.encode()
    return length(name) + length(value) + name + value


def begin(number=1, role=RESPONDER, flags=KEEP):
    return record(BEGIN, struct.pack(">HB5x", role, flags), number)


def parameters(product, method="GET", path="/api/me", token=None, length="", internal=False, **more):
    host = product.public_url.split("//")[1]
    names = {"REQUEST_METHOD": method, "REQUEST_URI": path, "HTTP_HOST": host, "REQUEST_HOST": host.split(":")[0],
             "HTTP_X_REQUEST_ID": "0" * 32, "INTEGRATIONS_SERVER": "internal" if internal else "public",
             "CONTENT_LENGTH": length, **more}
    if token is not None:
        names["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return b"".join(pair(name, value) for name, value in names.items())


def request(product, body=b"", number=1, padding=0, **what):
    """A whole request, as nginx sends it."""
    if body:
        what.setdefault("length", str(len(body)))
    return (begin(number) + record(PARAMS, parameters(product, **what), number, padding) + record(PARAMS, b"", number)
            + (record(STDIN, body, number, padding) if body else b"") + record(STDIN, b"", number))


class Peer:
    """A connection to the workers."""

    def __init__(self, path, seconds=15):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(path)
        self._bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def closed(self):
        """Wait until the worker closes; False when it sends something instead."""
        try:
            return self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True

    def _exactly(self, length):
        while len(self._bytes) < length:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(f"closed after {len(self._bytes)} of {length} bytes")
            self._bytes += more
        taken, self._bytes = self._bytes[:length], self._bytes[length:]
        return taken

    def answer(self, number=1):
        """The whole answer: (status, headers, body)."""
        out = b""
        while True:
            _, kind, of, length, padding = struct.unpack(">BBHHBx", self._exactly(8))
            content = self._exactly(length + padding)[:length]
            assert of == number, (of, number)
            if kind == STDOUT:
                out += content
            elif kind == END:
                assert content[4] == 0, "the protocol status is not 'complete'"
                break
            else:
                assert kind == STDERR and not content, (kind, content)
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return int(headers["Status"].split()[0]), headers, body
