"""What a hostile upstream answers: statuses, heads, bodies and timing, by name.

Each answer is a list of steps for one connection: bytes go out as they are, a number is a pause in seconds, DRIP sends the
next bytes one at a time, SILENCE waits until the other side closes, RESET ends the connection with a reset. After the last
step the connection is closed. No client may see the word "forged", in no head and no body; what a client may see says
"coded" in its place.
"""

import gzip
import socket
import struct
import time
import zlib

DRIP, SILENCE, RESET = object(), object(), object()

FORGED_HEAD = (b"Set-Cookie: forged=1\r\nWWW-Authenticate: Bearer forged\r\nAccess-Control-Allow-Origin: https://evil.example\r\n"
               b"Access-Control-Allow-Credentials: true\r\nLocation: https://evil.example/forged\r\nRefresh: 0;url=https://evil.example/\r\n"
               b"X-Request-Id: forged\r\nStrict-Transport-Security: forged\r\nX-Accel-Redirect: /forged\r\nX-Gateway-Code: forged\r\n"
               b"Content-Security-Policy: forged\r\nContent-Type: text/html\r\n")
SLOW = set()  # names of the answers after which only the gateway's time-out helps
HOSTILE = {}  # name: function(marker) that returns the steps


def forged(marker, status=b"200 OK"):
    """A whole answer that must reach no client: the marker says to whom it would belong."""
    body = b"<script>forged</script>" + marker
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, FORGED_HEAD, len(body), body)


def good(marker, headers=b"", body=None, status=b"200 OK", version=b"HTTP/1.1"):
    body = b'{"marker":"%s"}' % marker if body is None else body
    return b"%s %s\r\nMcp-Session-Id: %s\r\nETag: \"%s\"\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s" % (
        version, status, marker, marker, headers, len(body), body)


def chunked(marker, chunks, headers=b""):
    return b"HTTP/1.1 200 OK\r\nMcp-Session-Id: %s\r\nContent-Type: application/json\r\n%sTransfer-Encoding: chunked\r\n\r\n%s" % (
        marker, headers, chunks)


def hostile(name, *, slow=False):
    def note(function):
        HOSTILE[name] = function
        if slow:
            SLOW.add(name)
        return function
    return note


def play(steps, connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    drip = False
    for step in steps:
        if step is DRIP:
            drip = True
        elif step is SILENCE:
            connection.settimeout(60)
            connection.recv(1)
        elif step is RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif isinstance(step, float):
            time.sleep(step)
        elif drip:
            for each in step:
                connection.sendall(bytes([each]))
                time.sleep(0.0002)
        else:
            connection.sendall(step)


def _interim():
    """An answer that is not final, and what an attacker would have behind it."""
    for status in (b"000", b"001", b"009", b"042", b"099", b"100", b"101", b"102", b"103", b"150", b"199"):
        hostile(f"status-{status.decode()}")(lambda marker, status=status: [b"HTTP/1.1 %s x\r\n\r\n" % status + forged(marker)])
    for name, head in (("length", b"Content-Length: 300\r\n"), ("length-0", b"Content-Length: 0\r\n"), ("keep-alive", b"Connection: keep-alive\r\n"),
                       ("gzip", b"Content-Encoding: gzip\r\n"), ("forged-head", FORGED_HEAD), ("type", b"Content-Type: text/event-stream\r\n")):
        hostile(f"103-{name}")(lambda marker, head=head: [b"HTTP/1.1 103 x\r\n%s\r\n" % head + forged(marker)])
        hostile(f"103-{name}-bytes")(lambda marker, head=head: [DRIP, b"HTTP/1.1 103 x\r\n%s\r\n" % head + forged(marker)])
    for status in (b"100", b"101", b"103"):
        hostile(f"{status.decode()}-silence", slow=True)(lambda marker, status=status: [b"HTTP/1.1 %s x\r\n\r\n" % status, SILENCE])
        hostile(f"{status.decode()}-close")(lambda marker, status=status: [b"HTTP/1.1 %s x\r\n\r\n" % status])
        hostile(f"{status.decode()}-good")(lambda marker, status=status: [b"HTTP/1.1 %s x\r\n\r\n" % status + good(marker)])


_interim()


@hostile("103-chunked")
def _(marker):
    whole = forged(marker)
    return [b"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(whole), whole)]


@hostile("103-chunked-empty")
def _(marker):
    return [b"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + forged(marker)]


@hostile("103-length-0-silence", slow=True)
def _(_marker):
    return [b"HTTP/1.1 103 x\r\nContent-Length: 0\r\n\r\n", SILENCE]


@hostile("103-length-silence", slow=True)
def _(_marker):
    return [b"HTTP/1.1 103 x\r\nContent-Length: 10\r\n\r\nfo", SILENCE]


@hostile("103-later")
def _(marker):
    return [b"HTTP/1.1 103 x\r\n\r\n", 0.3, forged(marker)]


@hostile("103-split-name")
def _(marker):
    whole = forged(marker)
    return [b"HTTP/1.1 103 x\r\n\r\n" + whole[:3], 0.1, whole[3:]]


@hostile("two-interim")
def _(marker):
    return [b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 102 x\r\n\r\n" + forged(marker)]


@hostile("fifty-interim")
def _(marker):
    return [b"HTTP/1.1 103 x\r\n\r\n" * 50 + forged(marker)]


@hostile("101-upgrade")
def _(marker):
    return [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + forged(marker)]


@hostile("101-upgrade-silence", slow=True)
def _(marker):
    return [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + forged(marker), SILENCE]


@hostile("http-1.0-interim")
def _(marker):
    return [b"HTTP/1.0 103 x\r\n\r\n" + forged(marker)]


# Not HTTP/1, or not quite

def _lines():
    """Odd status lines before a forged head."""
    for name, line in (("0.9", b"<p>forged\r\n\r\n"), ("0.9-empty-lines", b"\r\n\r\n"), ("0.9-newline", b"\n"), ("space", b" HTTP/1.1 200 OK\r\n\r\n"),
                       ("tab", b"HTTP/1.1\t200 OK\r\n\r\n"), ("four-digits", b"HTTP/1.1 2000 OK\r\n\r\n"), ("two-digits", b"HTTP/1.1 20 OK\r\n\r\n"),
                       ("negative", b"HTTP/1.1 -200 OK\r\n\r\n"), ("no-status", b"HTTP/1.1\r\n\r\n"), ("lower-case", b"http/1.1 200 OK\r\n\r\n"),
                       ("nul", b"\0\r\n\r\n"), ("version-2", b"HTTP/2.0 103 x\r\n\r\n"), ("version-9", b"HTTP/9.9 000 x\r\n\r\n"),
                       ("version-0.9", b"HTTP/0.9 200 OK\r\n\r\n"), ("half", b"HTTP"), ("nested", b"HHTTP/TTP/1.1 200 OK\r\n\r\n"),
                       ("icy", b"ICY 200 OK\r\n\r\n"), ("http-2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
                       ("frame", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), ("tls", b"\x15\x03\x01\x00\x02\x02\x28"), ("request", b"GET / HTTP/1.1\r\n\r\n")):
        hostile(f"line-{name}")(lambda marker, line=line: [line + forged(marker)])


_lines()


@hostile("line-0.9-bytes")
def _(marker):
    return [DRIP, b"\r\n" + forged(marker)]


@hostile("line-0.9-silence", slow=True)
def _(_marker):
    return [b"\r\n\r\n", SILENCE]


@hostile("line-half-silence", slow=True)
def _(_marker):
    return [b"HTTP/1.1 2", SILENCE]


@hostile("http-1.0")
def _(marker):
    return [b"HTTP/1.0 200 OK\r\nMcp-Session-Id: %s\r\nContent-Type: application/json\r\n\r\n{}" % marker]


@hostile("http-1.0-keep-alive")
def _(marker):
    return [good(marker, b"Connection: keep-alive\r\n", version=b"HTTP/1.0") + forged(marker)]


# More than the one answer

@hostile("after-length")
def _(marker):
    return [good(marker) + forged(marker)]


@hostile("after-length-later")
def _(marker):
    return [good(marker), 0.05, forged(marker)]


@hostile("after-length-bytes")
def _(marker):
    return [DRIP, good(marker) + forged(marker)]


@hostile("after-length-0")
def _(marker):
    return [good(marker, body=b"") + forged(marker)]


@hostile("after-last-chunk")
def _(marker):
    return [chunked(marker, b"2\r\n{}\r\n0\r\n\r\n") + forged(marker)]


@hostile("after-last-chunk-bytes")
def _(marker):
    return [DRIP, chunked(marker, b"2\r\n{}\r\n0\r\n\r\n") + forged(marker)]


@hostile("in-the-trailer")
def _(marker):
    return [chunked(marker, b"2\r\n{}\r\n0\r\n%s\r\n" % FORGED_HEAD, b"Trailer: Set-Cookie\r\n") + forged(marker)]


def _bodiless():
    """A status that has no body, with one."""
    for status in (b"204", b"304"):
        hostile(f"after-{status.decode()}")(lambda marker, status=status: [b"HTTP/1.1 %s x\r\n\r\n" % status + forged(marker)])
    hostile("after-205")(lambda marker: [good(marker, status=b"205 x") + forged(marker)])
    hostile("after-204-length")(lambda marker: [b"HTTP/1.1 204 x\r\nContent-Length: 300\r\n\r\n" + forged(marker)])
    hostile("after-304-chunked")(lambda marker: [b"HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + forged(marker)])
    hostile("after-304-length")(lambda marker: [b"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n" + forged(marker)])


_bodiless()


# Where the body ends

def _framing():
    """Heads that two readers may frame in two ways; what the first does not read is a forged head."""
    for name, head in (("two-lengths", b"Content-Length: 2\r\nContent-Length: 0\r\n"), ("lengths-alike", b"Content-Length: 2\r\nContent-Length: 2\r\n"),
                       ("length-list", b"Content-Length: 2, 2\r\n"), ("length-plus", b"Content-Length: +2\r\n"), ("length-minus", b"Content-Length: -2\r\n"),
                       ("length-hex", b"Content-Length: 0x2\r\n"), ("length-empty", b"Content-Length:\r\n"), ("length-letters", b"Content-Length: two\r\n"),
                       ("length-huge", b"Content-Length: 18446744073709551617\r\n"), ("length-space", b"Content-Length : 2\r\n"),
                       ("length-and-chunked", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"),
                       ("chunked-and-length", b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"),
                       ("coding-twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
                       ("coding-gzip", b"Transfer-Encoding: gzip, chunked\r\n"), ("coding-unknown", b"Transfer-Encoding: x\r\nContent-Length: 2\r\n"),
                       ("coding-identity", b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n"),
                       ("coding-tab", b"Transfer-Encoding:\tchunked\r\n")):
        hostile(f"frame-{name}")(lambda marker, head=head: [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%s\r\n2\r\n{}\r\n0\r\n\r\n" % head])
    for name, chunks in (("bad", b"xyz\r\n{}\r\n0\r\n\r\n"), ("minus", b"-2\r\n{}\r\n0\r\n\r\n"), ("huge", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
                         ("long", b"9\r\n{}\r\n0\r\n\r\n"), ("short", b"1\r\n{}\r\n0\r\n\r\n"), ("extension", b"2;a=\"b\r\n{}\r\n0\r\n\r\n"),
                         ("extension-long", b"2;" + b"a" * 9000 + b"\r\n{}\r\n0\r\n\r\n"), ("newline", b"2\n{}\n0\n\n"), ("space", b"2 \r\n{}\r\n0 \r\n\r\n"),
                         ("zeros", b"0000000000000000000000002\r\n{}\r\n000\r\n\r\n"), ("no-last", b"2\r\n{}\r\n"), ("no-end", b"2\r\n{}\r\n0\r\n")):
        hostile(f"chunk-{name}")(lambda marker, chunks=chunks: [chunked(marker, chunks)])


_framing()


# Heads

def _heads():
    """Header lines that must not turn into others on their way."""
    for name, head in (("bare-cr", b"Mcp-Session-Id: a\rSet-Cookie: forged\r\n"), ("nul", b"ETag: a\0Set-Cookie: forged\r\n"),
                       ("control", b"X-Odd: a\x01\x7f\x1bforged\r\n"), ("control-passed", b"Retry-After: 1\x01\x0b\r\n"), ("high", b"Allow: \xff\xc0\x80\r\n"),
                       ("fold", b"X-Odd: a\r\n Set-Cookie: forged\r\n"), ("fold-passed", b"Mcp-Protocol-Version: a\r\n\tSet-Cookie: forged\r\n"),
                       ("space-in-name", b"X Odd: a\r\nSet Cookie: forged\r\n"), ("space-before-colon", b"Set-Cookie : forged\r\n"),
                       ("no-colon", b"Set-Cookie forged\r\n"), ("no-name", b": forged\r\n"), ("underscore", b"Set_Cookie: forged\r\n"),
                       ("odd-names", b"-Odd: forged\r\n(x): forged\r\n\"x\": forged\r\n"), ("case", b"sEt-cOOkie: forged\r\n"),
                       ("connection", b"Connection: close, Set-Cookie\r\nKeep-Alive: forged\r\nUpgrade: forged\r\n"),
                       ("accel", b"X-Accel-Redirect: /integrations-gateway/token\r\nX-Accel-Buffering: yes\r\nX-Accel-Charset: forged\r\n"
                                 b"X-Accel-Expires: 900\r\nX-Accel-Limit-Rate: 1\r\n"), ("all", FORGED_HEAD),
                       ("many", b"X-Odd: forged\r\n" * 500), ("twice", b"Mcp-Protocol-Version: a\r\nMcp-Protocol-Version: forged\r\n")):
        hostile(f"head-{name}")(lambda marker, head=head: [good(marker, head)])
    hostile("head-newlines")(lambda marker: [good(marker, FORGED_HEAD).replace(b"\r\n", b"\n")])
    hostile("head-huge")(lambda marker: [good(marker, b"X-Odd: forged" + b"x" * 70000 + b"\r\n")])
    hostile("head-bytes")(lambda marker: [DRIP, good(marker, FORGED_HEAD)])
    hostile("head-endless", slow=True)(lambda marker: [b"HTTP/1.1 200 OK\r\nX-Odd: ", SILENCE])


_heads()


# Statuses that are the gateway's own to say, and bodies

def _statuses():
    for status in (b"300", b"301", b"302", b"307", b"308", b"400", b"401", b"403", b"407", b"408", b"413", b"421", b"426", b"429", b"431",
                   b"444", b"494", b"497", b"499", b"500", b"502", b"503", b"504", b"505", b"599", b"600", b"999"):
        hostile(f"status-{status.decode()}")(
            lambda marker, status=status: [b"HTTP/1.1 %s x\r\n%sContent-Length: 5\r\n\r\ncoded" % (status, FORGED_HEAD)])


_statuses()
CODED = b"HTTP/1.1 200 OK\r\nSet-Cookie: coded=1\r\nContent-Length: 0\r\n\r\n"


@hostile("body-head")
def _(marker):
    return [good(marker, body=CODED * 3)]


@hostile("body-head-chunked")
def _(marker):
    return [chunked(marker, b"%x\r\n%s\r\n0\r\n\r\n" % (len(CODED), CODED))]


@hostile("body-gzip")
def _(marker):
    return [good(marker, b"Content-Encoding: gzip\r\n", gzip.compress(CODED))]


@hostile("body-gzip-stored")
def _(marker):
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)  # the text stands in it as it is
    return [good(marker, b"Content-Encoding: gzip\r\n", packer.compress(CODED) + packer.flush())]


@hostile("body-gzip-not")
def _(marker):
    return [good(marker, b"Content-Encoding: gzip\r\n", CODED)]


@hostile("body-gzip-behind-103")
def _(marker):
    return [b"HTTP/1.1 103 x\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(forged(marker))]


@hostile("body-half")
def _(marker):
    return [good(marker, body=CODED * 20)[:-500]]


@hostile("body-half-silence", slow=True)
def _(marker):
    return [good(marker, body=CODED * 20)[:-500], SILENCE]


@hostile("body-half-reset")
def _(marker):
    return [good(marker, body=CODED * 20)[:-500], RESET]


@hostile("body-until-close")
def _(marker):
    return [b"HTTP/1.1 200 OK\r\nMcp-Session-Id: %s\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n" % marker, 0.05, CODED]


@hostile("body-until-close-silence", slow=True)
def _(marker):
    return [b"HTTP/1.1 200 OK\r\nMcp-Session-Id: %s\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n" % marker, SILENCE]


@hostile("body-until-close-reset")
def _(marker):
    return [b"HTTP/1.1 200 OK\r\nMcp-Session-Id: %s\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n" % marker, RESET]


# Nothing, or not in time

@hostile("silence", slow=True)
def _(_marker):
    return [SILENCE]


@hostile("close")
def _(_marker):
    return []


@hostile("reset")
def _(_marker):
    return [RESET]


@hostile("half-head-close")
def _(_marker):
    return [b"HTTP/1.1 200 OK\r\nContent-"]


@hostile("half-head-reset")
def _(_marker):
    return [b"HTTP/1.1 200 OK\r\nSet-Cookie: forged\r\n", RESET]


@hostile("answer-and-stay", slow=True)
def _(marker):
    return [good(marker), SILENCE]
