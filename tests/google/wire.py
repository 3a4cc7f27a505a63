"""HTTP/1.1 over plain TCP and TLS, written by hand so that a test can also ask for wrong bytes.

One task per connection, none per request and no thread: a thousand connections that all wait
for a delayed answer cost a thousand small tasks.
"""

import asyncio
import json
import socket
import ssl
import struct
import sys
import traceback
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 1024 * 1024

REASONS = {
    200: "OK", 201: "Created", 204: "No Content", 301: "Moved Permanently", 302: "Found",
    303: "See Other", 304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 413: "Content Too Large", 415: "Unsupported Media Type",
    429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout",
}


class BadRequest(Exception):
    """The request cannot be read; it is answered with 400 and the connection ends."""


class Request:
    def __init__(self, method, target, version, headers, body, connection):
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.body = body
        self.connection = connection
        path, _, self.query_string = target.partition("?")
        self.raw_path = path
        self.path = unquote(path)
        self.lane = None
        self.query = parse_qsl(self.query_string, keep_blank_values=True)
        self.form = []
        if self.content_type == "application/x-www-form-urlencoded":
            text = body.decode("utf-8", "replace")
            self.form = parse_qsl(text, keep_blank_values=True)

    def header(self, name):
        for key, value in self.headers:
            if key == name:
                return value
        return None

    @property
    def content_type(self):
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def bearer(self):
        scheme, _, credential = (self.header("authorization") or "").partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else None

    def parameter(self, name):
        """From the form, else from the query."""
        for pairs in (self.form, self.query):
            for key, value in pairs:
                if key == name:
                    return value
        return None

    @property
    def keep_alive(self):
        tokens = (self.header("connection") or "").lower()
        if self.version == "HTTP/1.0":
            return "keep-alive" in tokens
        return "close" not in tokens


class Response:
    """An answer; `document` stays an object until it is sent, so that a fault can change it."""

    def __init__(self, status=200, headers=(), body=b"", document=None):
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.document = document

    def encoded(self):
        if self.document is None:
            return self.body
        return json.dumps(self.document, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def head(self, extra=()):
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}"]
        lines.append("Date: " + formatdate(usegmt=True))
        lines += [f"{name}: {value}" for name, value in (*self.headers, *extra)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def json_response(document, status=200, headers=()):
    return Response(status, [("Content-Type", "application/json; charset=utf-8"), *headers],
                    document=document)


def html_response(text, status=200, headers=()):
    return Response(status, [("Content-Type", "text/html; charset=utf-8"), *headers],
                    text.encode("utf-8"))


def linger(connected):
    """Have the next close send RST."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class WatchedProtocol(asyncio.StreamReaderProtocol):
    """Says when the peer has gone, so that a stalled answer does not outlive its reader."""

    def __init__(self, reader):
        super().__init__(reader)
        self.gone = asyncio.Event()

    def eof_received(self):
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, error):
        self.gone.set()
        super().connection_lost(error)


class Connection:
    def __init__(self, listener, number, reader, writer, protocol):
        self.listener = listener
        self.number = number
        self.reader = reader
        self.writer = writer
        self.gone = protocol.gone
        self.requests = 0

    async def pause(self, seconds):
        """Wait, but not longer than the peer stays. True while it is still there."""
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except asyncio.TimeoutError:
            return True
        return False

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def send_of_many(self, data):
        """As `send`, but the others get their turn even where the peer takes all at once."""
        await self.send(data)
        await asyncio.sleep(0)

    def reset(self):
        """End the connection with RST, as a crashed server's kernel would."""
        raw = self.writer.get_extra_info("socket")
        if raw is not None:
            try:
                linger(raw)
            except OSError:
                pass
        self.writer.transport.abort()

    async def respond(self, request, response):
        body = response.encoded()
        extra = [] if response.status == 204 else [("Content-Length", len(body))]
        if not request.keep_alive:
            extra.append(("Connection", "close"))
        if request.method == "HEAD" or response.status == 204:
            body = b""
        await self.send(response.head(extra) + body)


async def read_request(connection):
    """The next request, or None when the peer has no more."""
    reader = connection.reader
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest("head too long") from None
    lines = head[:-4].decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest("request line")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise BadRequest("header line")
        headers.append((name.lower(), value.strip()))
    fields = dict(headers)
    if fields.get("expect", "").lower() == "100-continue":
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = await read_chunks(reader)
    else:
        length = fields.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            raise BadRequest("content length")
        try:
            body = await reader.readexactly(int(length))
        except asyncio.IncompleteReadError:
            return None
    return Request(parts[0], parts[1], parts[2], headers, body, connection)


async def read_chunks(reader):
    body = b""
    while True:
        try:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            chunk = await reader.readexactly(size + 2)
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise BadRequest("chunk") from None
        if size == 0:
            return body
        body += chunk[:-2]
        if len(body) > BODY_LIMIT:
            raise BadRequest("body too long")


class Listener:
    """One port on loopback. It can be closed and opened again on the same port, so that a test
    sees the real refusal of a server that is down."""

    def __init__(self, name, port, application, context=None):
        self.name = name
        self.port = port
        self.application = application
        self.context = context
        self.connections = set()
        self.accepted = 0
        self._socket = None
        self._accepting = None
        self._tasks = set()

    @property
    def is_open(self):
        return self._socket is not None

    def open(self):
        if self.is_open:
            return
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen(4096)
        listening.setblocking(False)
        self._socket = listening
        self.port = listening.getsockname()[1]
        self._accepting = asyncio.get_running_loop().create_task(self._accept(listening))

    async def close(self):
        """Stop listening and cut every connection."""
        if not self.is_open:
            return
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._socket.close()
        self._socket = None
        for connection in list(self.connections):
            connection.reset()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening):
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError:
                # Out of descriptors: the backlog holds the peer until one is free.
                await asyncio.sleep(0.05)
                continue
            self.accepted += 1
            task = loop.create_task(self._serve(accepted, self.accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _say_plainly(accepted, data):
        """To a peer that has begun a handshake; with nothing to say, a reset."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_recv(accepted, 65536)
            if data:
                await loop.sock_sendall(accepted, data)
            else:
                linger(accepted)
        except OSError:
            pass
        accepted.close()

    async def _serve(self, accepted, number):
        loop = asyncio.get_running_loop()
        context = self.context
        if context is not None:
            context = await self.application.greet(context)
            if context is None:
                accepted.close()
                return
            if isinstance(context, bytes):
                await self._say_plainly(accepted, context)
                return
        reader = asyncio.StreamReader(limit=HEAD_LIMIT)
        protocol = WatchedProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, accepted, ssl=context,
                ssl_handshake_timeout=30 if context else None)
        except (OSError, ssl.SSLError, asyncio.TimeoutError):
            accepted.close()
            self.application.handshake_failed()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = Connection(self, number, reader, writer, protocol)
        self.connections.add(connection)
        self.application.connection_count(self.name, len(self.connections))
        try:
            await self._converse(connection)
        except (OSError, ssl.SSLError):
            connection.writer.transport.abort()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            connection.writer.transport.abort()
        finally:
            self.connections.discard(connection)
            writer.close()

    async def _converse(self, connection):
        while True:
            try:
                request = await read_request(connection)
            except BadRequest as error:
                refusal = Response(400, [("Connection", "close"), ("Content-Length", 0)])
                await connection.send(refusal.head())
                self.application.unreadable(str(error))
                return
            if request is None:
                return
            connection.requests += 1
            if not await self.application.serve(connection, request):
                return
            if not request.keep_alive:
                return
