"""What the gateway forwards to: an HTTP server on loopback that keeps what it was sent and misbehaves as told, and a
name server that knows one name."""

import contextlib
import socket
import struct
import threading


class Seen:
    """One request, as it came."""

    def __init__(self, head, body):
        line, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = line.split(" ", 2)
        self.headers = {}
        for each in lines:
            name, _, value = each.partition(":")
            assert name.lower() not in self.headers, f"{name} came twice"
            self.headers[name.lower()] = value.strip()
        self.body = body

    def __repr__(self):
        return f"{self.method} {self.target} {sorted(self.headers)} and {len(self.body)} bytes"

    @property
    def token(self):
        scheme, _, token = self.headers["authorization"].partition(" ")
        assert scheme == "Bearer"
        return token


def answer(status=200, headers=(), body=b'{"jsonrpc":"2.0","id":1,"result":{}}', content_type="application/json"):
    """The bytes of an answer; `headers` are lines."""
    lines = [f"HTTP/1.1 {status} Whatever", *headers, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Upstream:
    """`seen` are the requests; `behave(function)`: what to do with one, `function(seen, connection)`."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._connections = set()
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self):
        self.seen = []
        self.behave(lambda seen, connection: connection.sendall(answer()))

    def behave(self, function):
        self._behaviour, self._raw = function, None

    def behave_raw(self, function):
        """As `behave`, but nothing has been read: `function(connection)`."""
        self._raw = function

    def says(self, *arguments, **more):
        self.behave(lambda seen, connection: connection.sendall(answer(*arguments, **more)))

    @property
    def last(self):
        return self.seen[-1]

    def open_connections(self):
        return len(self._connections)

    def stop(self):
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        records = self.seen  # of the test that is running now: an upload that ends later belongs to it, not to the next
        with connection:
            try:
                connection.settimeout(30)
                if self._raw is not None:
                    self._raw(connection)
                    return
                seen = self._read(connection)
                if seen is not None:
                    records.append(seen)
                    self._behaviour(seen, connection)
            except OSError:
                pass  # The other side may close when it likes.
            finally:
                self._connections.discard(connection)

    def _read(self, connection):
        """One request; None when it does not come whole."""
        with connection.makefile("rb") as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                if not line:
                    return None
                head += line
            seen = Seen(head[:-4], b"")
            if seen.headers.get("transfer-encoding") == "chunked":
                seen.body = self._chunks(stream)
            else:
                size = int(seen.headers.get("content-length", 0))
                body = stream.read(size)
                seen.body = body if len(body) == size else None
            return seen if seen.body is not None else None

    @staticmethod
    def _chunks(stream):
        chunks = []
        while line := stream.readline():
            size = int(line, 16)
            chunk = stream.read(size + 2)
            if len(chunk) < size + 2:
                return None
            if size == 0:
                return b"".join(chunks)
            chunks.append(chunk[:-2])
        return None


class NameServer:
    """Answers every question for an IPv4 address of `name` with 127.0.0.1; knows nothing else (RFC 1035)."""

    def __init__(self, name):
        self._name = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, client = self._socket.recvfrom(512)
                end = query.index(b"\0", 12) + 1
                kind = struct.unpack("!H", query[end:end + 2])[0]
                known = query[12:end].lower() == self._name
                found = known and kind == 1
                head = query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, int(found), 0, 0)
                record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\x7f\0\0\1" if found else b""
                self._socket.sendto(head + query[12:end + 4] + record, client)

    def stop(self):
        self._socket.close()
