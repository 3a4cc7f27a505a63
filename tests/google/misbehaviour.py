"""Answers whose bytes go wrong on the way: the wire half of the faults."""

import base64
import functools
import gzip
import json

from wire import Response

CHUNK = b"x" * 65536


async def send(fault, connection, request, response):
    """Send `response` (the true answer, or None) as the fault says. True when the connection may
    carry another request."""
    return await SENDERS[fault.kind](fault.options, connection, request, response)


async def refuse(options, connection, request, response):
    connection.reset()
    return False


async def stall(options, connection, request, response):
    """`when`: before the headers, in them, after them, or in the middle of the body."""
    body = response.encoded()
    head = response.head([("Content-Length", len(body))])
    sent = {"before": b"", "headers": head[:len(head) // 2], "after": head,
            "body": head + body[:len(body) // 2]}[options.get("when", "before")]
    if sent:
        await connection.send(sent)
    await connection.pause(options.get("seconds", 60))
    connection.reset()
    return False


async def reset(options, connection, request, response):
    body = response.encoded()
    await connection.send(response.head([("Content-Length", len(body))]) + body[:len(body) // 2])
    # The first half must have left before the reset, or the kernel throws it away.
    await connection.pause(0.05)
    connection.reset()
    return False


async def truncate(options, connection, request, response):
    """Half of the JSON, as a complete HTTP message."""
    body = response.encoded()
    await connection.respond(request, Response(response.status, response.headers,
                                               body[:len(body) // 2]))
    return request.keep_alive


async def wrong_length(options, connection, request, response):
    body = response.encoded()
    length = max(0, len(body) + options.get("by", 10))
    await connection.send(response.head([("Content-Length", length)]) + body)
    if options.get("by", 10) > 0:
        await connection.pause(options.get("seconds", 0.2))
    return False


async def chunked(options, connection, request, response):
    """Right, in small pieces."""
    body = response.encoded()
    size = options.get("size", 7)
    await connection.send(response.head([("Transfer-Encoding", "chunked")]))
    for start in range(0, len(body), size):
        piece = body[start:start + size]
        await connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    await connection.send(b"0\r\n\r\n")
    return request.keep_alive


# What may be wrong with a body in pieces; {} is where the true answer's JSON goes.
BAD_CHUNKS = {
    "no_hex": b"zz\r\n{}\r\n0\r\n\r\n",
    "negative": b"-5\r\n{}\r\n0\r\n\r\n",
    "overflow": b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "too_short": b"4\r\n{}\r\n0\r\n\r\n",
    "no_end": b"ffff\r\n{}",
    "no_size": b"{}",
}


async def bad_chunks(options, connection, request, response):
    body = BAD_CHUNKS[options.get("how", "no_hex")].replace(b"{}", response.encoded())
    await connection.send(response.head([("Transfer-Encoding", "chunked")]) + body)
    return False


async def interim(options, connection, request, response):
    """The true answer, after `count` interim ones."""
    before = b"HTTP/1.1 %d Wait\r\n\r\n" % options.get("status", 102)
    await connection.send(before * options.get("count", 1))
    await connection.respond(request, response)
    return request.keep_alive


async def gzipped(options, connection, request, response):
    """Compressed, whether the client offered that or not."""
    await connection.respond(request, Response(
        response.status, [*response.headers, ("Content-Encoding", "gzip")],
        gzip.compress(response.encoded())))
    return request.keep_alive


async def slow(options, connection, request, response):
    """The whole true answer, one byte at a time."""
    body = response.encoded()
    data = response.head([("Content-Length", len(body))]) + body
    for start in range(len(data)):
        await connection.send(data[start:start + 1])
        if not await connection.pause(options.get("interval", 0.05)):
            return False
    return request.keep_alive


async def close(options, connection, request, response):
    """A right answer, after which a connection that was promised to stay is closed."""
    await connection.respond(request, response)
    return False


def field_of(options, document):
    """The member to spoil: as asked, else the first that holds a string."""
    if "field" in options:
        return options["field"]
    return next((name for name, value in document.items() if isinstance(value, str)), "field")


async def spoiled(connection, request, response, field, replacement):
    document = dict(response.document or {})
    document[field] = "\ue000"
    body = json.dumps(document, ensure_ascii=False).encode().replace("\ue000".encode(), replacement)
    await connection.respond(request, Response(response.status, response.headers, body))
    return request.keep_alive


async def invalid_utf8(options, connection, request, response):
    field = field_of(options, response.document or {})
    return await spoiled(connection, request, response, field, b"ya29.MARKER-\xc3\x28\xff")


async def nul(options, connection, request, response):
    """`raw`: a NUL byte; else the JSON escape of one."""
    field = field_of(options, response.document or {})
    within = b"\0" if options.get("raw") else b"\\u0000"
    return await spoiled(connection, request, response, field, b"ya29.MARKER-" + within + b"tail")


async def duplicate(options, connection, request, response):
    """The member twice: first with another value, then with the true one."""
    field = field_of(options, response.document or {})
    other = json.dumps({field: options.get("value", "ya29.MARKER-duplicate")}).encode()
    body = other[:-1] + b", " + response.encoded()[1:]
    await connection.respond(request, Response(response.status, response.headers, body))
    return request.keep_alive


async def big(options, connection, request, response):
    """A JSON object of `size` bytes; `length` false sends it without Content-Length."""
    size = options.get("size", 50 * 1024 * 1024)
    opening, ending = b'{"access_token":"', b'"}'
    headers = [("Content-Type", "application/json")]
    if options.get("length", True):
        headers.append(("Content-Length", len(opening) + size + len(ending)))
    else:
        headers.append(("Connection", "close"))
    await connection.send(Response(options.get("status", 200), headers).head() + opening)
    while size > 0 and not connection.gone.is_set():
        await connection.send_of_many(CHUNK[:size])
        size -= len(CHUNK)
    await connection.send(ending)
    return False


async def big_headers(options, connection, request, response):
    size = options.get("size", 10 * 1024 * 1024)
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    for number in range(0, size, 4096):
        if connection.gone.is_set():
            return False
        await connection.send_of_many(b"X-Filler-%d: %s\r\n" % (number, CHUNK[:4000]))
    await connection.send(b"Content-Length: 2\r\n\r\n{}")
    return False


async def drip(options, connection, request, response):
    """A byte now and then, without end: in the body, or in the headers."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    if options.get("part", "body") == "headers":
        await connection.send(b"X-Filler: ")
    else:
        await connection.send(b"Connection: close\r\n\r\n{")
    while await connection.pause(options.get("interval", 0.2)):
        await connection.send(b" ")
    return False


ENDLESS = {
    "body": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
             b"10000\r\n" + CHUNK + b"\r\n"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Filler: filler\r\n" * 1000),
    "header": (b"HTTP/1.1 200 OK\r\nX-Filler: ", CHUNK),
    "interim": (b"", b"HTTP/1.1 102 Wait\r\n\r\n" * 1000),
    "extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=", CHUNK),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
                 b"X-Filler: filler\r\n" * 1000),
}


async def endless(options, connection, request, response):
    """As fast as it is taken, and until the peer has had enough."""
    opening, piece = ENDLESS[options.get("part", "body")]
    await connection.send(opening)
    while not connection.gone.is_set():
        await connection.send_of_many(piece)
    return False


@functools.lru_cache
def packed(size):
    return gzip.compress(b'{"access_token":"' + b"x" * size + b'"}')


async def bomb(options, connection, request, response):
    """Some kilobytes that unpack to `size` bytes of JSON."""
    await connection.respond(request, Response(200, [
        ("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
        packed(options.get("size", 16 * 1024 * 1024))))
    return request.keep_alive


async def send_bytes(options, connection, request, response):
    """These and no others, whether that is HTTP or not."""
    data = options.get("text", "").encode("utf-8", "surrogatepass")
    await connection.send(data + base64.b64decode(options.get("base64", "")))
    return False


SENDERS = {
    "refuse": refuse, "stall": stall, "reset": reset, "truncate": truncate,
    "wrong_length": wrong_length, "chunked": chunked, "gzip": gzipped, "slow": slow,
    "close": close, "invalid_utf8": invalid_utf8, "nul": nul, "duplicate": duplicate,
    "big": big, "big_headers": big_headers, "drip": drip, "endless": endless, "bomb": bomb,
    "bytes": send_bytes, "bad_chunks": bad_chunks, "interim": interim,
}
