"""Limits per address where an agent runtime asks for many members from one address."""

import collections
import contextlib
import socket
import threading
import time

import pytest

from harness import good
from processes import wait_until
from test_gateway import Gateway, read_until

RUNTIME = "203.0.113.7"
OTHER = "203.0.113.8"  # another runtime's, which has sent no flood


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Believes X-Forwarded-For, because this machine's own address has no limits. The server around has a limit of its own."""
    product = Gateway(tmp_path_factory.mktemp("gateway"),
                      server_conf="set_real_ip_from 127.0.0.1;\nreal_ip_header X-Forwarded-For;\n"
                                  "limit_conn integrations_connections 10000;\n")
    product.start()
    yield product
    product.stop()


def begin(stack, product, token="none", times=1, address=RUNTIME, path="/mcp/acme/gmail"):
    """A connection from an address on which so many requests have been sent."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", product.hosts[0].port), 30))
    connection.sendall((f"GET {path} HTTP/1.1\r\nHost: {product.public_url[7:]}\r\nX-Forwarded-For: {address}\r\n"
                        f"Authorization: Bearer {token}\r\n\r\n").encode() * times)
    return connection


def test_more_streams_than_members_have_connections(gateway):
    ada = gateway.session("ada", {"acme": "member"})
    ada.connect("acme")
    agents = [gateway.teammate() for _ in range(3)]
    ended = threading.Event()

    def stream(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            connection.sendall(b"data: x\n\n")
            if ended.wait(0.5):
                return

    gateway.upstream.behave(stream)
    with contextlib.ExitStack() as stack:
        stack.callback(ended.set)
        for each in [begin(stack, gateway, agents[i % 3].token) for i in range(250)]:
            assert read_until(each, b"data: x").startswith(b"HTTP/1.1 200 ")
        assert gateway.upstream.open_connections() == 250
        # Nor do they count against the API.
        for _ in range(20):
            good(ada.integrations("acme", headers={"X-Forwarded-For": RUNTIME}))
    wait_until(lambda: gateway.upstream.open_connections() == 0, "the streams have ended")


def test_a_flood_ends_at_its_own_limit(gateway):
    """1,000 a second and 2,000 at once, however long it takes; the API of the same address has its own."""
    number = 5000
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        statuses = collections.Counter()
        for each in [begin(stack, gateway, times=number // 5) for _ in range(5)]:
            answers = b""
            while answers.count(b"\"status\":") < number // 5:
                answers += each.recv(1 << 20)
            statuses["refused"] += answers.count(b"HTTP/1.1 429 ")
            assert answers.count(b"HTTP/1.1 429 ") == answers.count(b'"code":"rate_limited"')
            statuses["asked"] += answers.count(b"HTTP/1.1 401 ")
        seconds = time.monotonic() - begun
        assert sum(statuses.values()) == number and 2000 <= statuses["asked"] <= 2001 + 1000 * seconds, (statuses, seconds)
        answer = gateway.request("GET", "/api/me", headers={"X-Forwarded-For": RUNTIME})
        assert answer.status_code == 401


def test_streams_of_one_session(gateway):
    """100 at once, by whatever connection; another session of the same member has its own, and an end makes room."""
    gateway.session("ada", {"acme": "member"}).connect("acme")
    agent, other = gateway.teammate(), gateway.teammate()
    ended = threading.Event()
    gateway.upstream.behave(lambda seen, connection: (connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n"), ended.wait(120)))
    with contextlib.ExitStack() as stack:
        stack.callback(ended.set)
        opened = [begin(stack, gateway, agent.token, address=OTHER) for _ in range(100)]
        for each in opened:
            assert read_until(each, b"data: x").startswith(b"HTTP/1.1 200 ")
        for each in [begin(stack, gateway, agent.token, address=OTHER) for _ in range(200)]:
            refused = read_until(each, b"}")
            assert refused.startswith(b"HTTP/1.1 429 ") and b"Retry-After: 1" in refused and b'"code":"rate_limited"' in refused
            assert b"gateway-session" not in refused.lower()
        assert gateway.upstream.open_connections() == 100
        for _ in range(50):
            answer = begin(stack, gateway, other.token, address=OTHER)
            assert read_until(answer, b"data: x").startswith(b"HTTP/1.1 200 ")
        opened[0].close()
        wait_until(lambda: b" 200 " in begin(stack, gateway, agent.token, address=OTHER).recv(100), "nginx has seen that the stream ended")


def test_requests_of_one_session_to_the_proxy(gateway):
    """They count with its streams."""
    ada = gateway.session("ada", {"acme": "member"})
    ada.connect("acme")
    ada.connect("acme", service="rest")
    agent, ended = gateway.teammate(), threading.Event()
    gateway.upstream.behave(lambda seen, connection: (connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\ndata: x\n\n"), ended.wait(120)))
    with contextlib.ExitStack() as stack:
        stack.callback(ended.set)
        paths = ["/proxy/acme/rest/one"] * 99 + ["/mcp/acme/gmail"]
        for each in [begin(stack, gateway, agent.token, address=OTHER, path=path) for path in paths]:
            assert read_until(each, b"data: x").startswith(b"HTTP/1.1 200 ")
        refused = read_until(begin(stack, gateway, agent.token, address=OTHER, path=paths[0]), b"}")
        assert refused.startswith(b"HTTP/1.1 429 ") and b'"code":"rate_limited"' in refused


def test_a_429_of_an_upstream_is_its_own(gateway):
    gateway.session("ada", {"acme": "member"}).connect("acme")
    gateway.upstream.reset()
    gateway.upstream.says(429, body=b"theirs")
    with contextlib.ExitStack() as stack:
        assert read_until(begin(stack, gateway, gateway.teammate().token, address=OTHER), b"theirs").startswith(b"HTTP/1.1 429 ")
