"""What else may come over the workers' socket than nginx's requests: none of it disturbs the others, none is waited for."""

import json
import os
import random
import struct
import sys
import time

import pytest

import fastcgi
from fastcgi import Peer
from harness import REPOSITORY, good
from processes import wait_until

sys.path.insert(0, os.path.join(REPOSITORY, "tests", "load"))
from traffic import percentile  # noqa: E402


@pytest.fixture
def socket_path(product):
    return product.hosts[0].socket


@pytest.fixture
def whole(product, ada):
    return fastcgi.request(product, path="/api/me", token=ada.token)


def is_ada(answer):
    status, headers, body = answer
    assert status == 200 and int(headers["Content-Length"]) == len(body), answer
    assert json.loads(body)["user_id"] == "ada"


@pytest.fixture
def undisturbed(product, ada):
    """undisturbed(): the service answers others at once; at the end: with the workers that it had at the beginning."""
    workers = product.hosts[0].workers()

    def check(requests=20, seconds=0.5):
        times = []
        for _ in range(requests):
            begun = time.monotonic()
            assert good(ada.get("/api/me"))["user_id"] == "ada"
            times.append(time.monotonic() - begun)
        assert percentile(times, 0.9) < seconds, times
    yield check
    check()
    assert product.hosts[0].workers() == workers


@pytest.mark.parametrize("path, server, status", [
    ("/api/me", "public", 200), ("/api/me", "internal", 404), ("/api/me", "gateway", 403), ("/healthz", "internal", 200),
    ("/healthz", "public", 404), ("/healthz", "gateway", 403), ("/metrics", "public", 404),
    ("/internal/organizations/acme/users/ada/integrations/google/token", "public", 404), ("/mcp/acme/gmail", "public", 404),
    ("/mcp/acme/gmail", "internal", 404), ("/healthz", "", 404), ("/healthz", "internal ", 404)])
def test_a_route_belongs_to_its_server(product, ada, socket_path, path, server, status):
    with Peer(socket_path) as peer:
        peer.send(fastcgi.request(product, path=path, token=ada.token, INTEGRATIONS_SERVER=server))
        assert peer.answer()[0] == status


def connections(product):
    for line in product.request("GET", "/metrics", internal=True).text.splitlines():
        if line.startswith("integrations_connections "):
            return int(line.split()[1])
    return None


def test_a_peer_that_behaves(socket_path, whole):
    with Peer(socket_path) as peer:
        for _ in range(5):
            peer.send(whole)
            is_ada(peer.answer())


def test_a_request_may_come_in_pieces(socket_path, whole):
    with Peer(socket_path) as peer:
        for cut in range(1, len(whole), 7):
            peer.send(whole[:cut])
            time.sleep(0.001)
            peer.send(whole[cut:])
            is_ada(peer.answer())


def test_half_requests_hold_up_nobody(product, socket_path, whole, undisturbed):
    """More of them than there are workers or fibers to spare, and none of them ever goes on."""
    peers = [Peer(socket_path) for _ in range(40)]
    try:
        for number, peer in enumerate(peers):
            peer.send(whole[:1 + number * (len(whole) - 2) // len(peers)])
        undisturbed()
        peers[7].send(whole[1 + 7 * (len(whole) - 2) // len(peers):])
        is_ada(peers[7].answer())
    finally:
        for peer in peers:
            peer.socket.close()


def test_a_half_request_is_given_up(socket_path, whole, undisturbed):
    with Peer(socket_path) as peer:
        peer.send(whole[:-4])
        begun = time.monotonic()
        undisturbed()
        assert peer.closed()
        assert 9 < time.monotonic() - begun < 14


def test_a_body_that_never_comes(product, ada, socket_path, undisturbed):
    """The length is announced, some of the body comes, its end does not."""
    path = "/api/organizations/acme/integrations/google/callback"
    head = (fastcgi.begin() + fastcgi.record(fastcgi.PARAMS, fastcgi.parameters(
        product, "POST", path, ada.token, "5000", CONTENT_TYPE="application/json")) + fastcgi.record(fastcgi.PARAMS))
    with Peer(socket_path) as none, Peer(socket_path) as some:
        none.send(head)
        some.send(head + fastcgi.record(fastcgi.STDIN, b"x" * 4000))
        undisturbed()


def test_a_length_that_is_not_the_body_s(product, ada, socket_path, undisturbed):
    """libfcgi reads no further than CONTENT_LENGTH says: such a request is not answered, and the next on the connection
    is not taken for its rest."""
    for length, body in (("3", b"{}"), ("2", b"{}{}"), ("1", b""), ("", b"{}"), ("x", b"{}"), ("-1", b"{}"), ("99999999999999999999", b"{}")):
        with Peer(socket_path) as peer:
            peer.send(fastcgi.request(product, body, method="POST", token=ada.token, length=length,
                                      path="/api/organizations/acme/integrations/google/callback",
                                      CONTENT_TYPE="application/json"))
            try:
                status = peer.answer()[0]
            except (EOFError, ConnectionResetError):
                status = None
            assert status in (None, 400, 413), (length, body, status)
    undisturbed()


def test_clients_that_go_away(product, ada, socket_path, whole, undisturbed):
    """Before, while and after a request is worked on; and each answer is still its own."""
    bob = product.session("bob", {"acme": "member"})
    of_bob = fastcgi.request(product, path="/api/me", token=bob.token)
    for number in range(200):
        with Peer(socket_path) as gone, Peer(socket_path) as stays:
            gone.send(whole if number % 4 else whole[:-9])
            if number % 2:
                gone.socket.close()
            stays.send(of_bob)
            if number % 3:
                gone.socket.close()
            assert json.loads(stays.answer()[2])["user_id"] == "bob"
    undisturbed()


def test_a_client_that_goes_away_while_the_provider_is_slow(product, ada, socket_path, undisturbed):
    ada.connect("acme")
    hold = product.stand_in.fault("userinfo", "hold", times=None)
    before = connections(product)
    with Peer(socket_path) as peer:
        peer.send(fastcgi.request(product, method="POST", token=ada.token, path="/api/organizations/acme/integrations/google"))
        product.stand_in.wait_fired(hold)
    undisturbed()
    product.stand_in.release(hold)
    # The work is done to its end, and its connection is closed only then.
    wait_until(lambda: connections(product) <= before, "the connection is closed")
    assert ada.list("acme")[0]["status"] == "valid"


def test_a_client_that_speaks_out_of_turn(product, ada, socket_path, whole, undisturbed):
    """Two requests at once on one connection: the protocol has a place for it, no web server does it."""
    with Peer(socket_path) as peer:
        peer.send(whole + whole)
        assert peer.closed()
    ada.connect("acme")
    hold = product.stand_in.fault("userinfo", "hold", times=None)
    with Peer(socket_path) as peer:
        peer.send(fastcgi.request(product, method="POST", token=ada.token, path="/api/organizations/acme/integrations/google"))
        product.stand_in.wait_fired(hold)
        peer.send(whole)
        undisturbed()
        product.stand_in.release(hold)
        assert peer.closed()


def malformed(product, token):
    """(what, bytes): each is refused as soon as it can be told, by closing."""
    params = fastcgi.parameters(product, token=token)
    record, PARAMS, STDIN = fastcgi.record, fastcgi.PARAMS, fastcgi.STDIN
    rest = record(PARAMS) + record(STDIN)
    yield "another version", record(fastcgi.BEGIN, struct.pack(">HB5x", 1, 1), version=2)
    yield "another role", fastcgi.begin(role=2) + record(PARAMS, params) + rest
    yield "request number 0", fastcgi.begin(0) + record(PARAMS, params, 0) + record(PARAMS, b"", 0) + record(STDIN, b"", 0)
    yield "a short beginning", record(fastcgi.BEGIN, b"\0\1\1") + record(PARAMS, params) + rest
    yield "parameters first", record(PARAMS, params) + rest
    yield "no parameters", fastcgi.begin() + rest
    yield "parameters in two records", fastcgi.begin() + record(PARAMS, params[:50]) + record(PARAMS, params[50:]) + rest
    yield "two numbers", fastcgi.begin() + record(PARAMS, params, 2) + rest
    yield "a management record", record(fastcgi.GET_VALUES, fastcgi.pair("FCGI_MAX_CONNS", ""), 0)
    yield "an unknown management record", record(99, b"x", 0)
    yield "an abort", fastcgi.begin() + record(PARAMS, params) + record(PARAMS) + record(fastcgi.ABORT)
    yield "a length beyond the record", fastcgi.begin() + record(PARAMS, params + b"\x05\x50name") + rest
    yield "a length of 2 GiB", fastcgi.begin() + record(PARAMS, params + b"\xff\xff\xff\xff\xff\xff\xff\xffx") + rest
    yield "a length of one byte of four", fastcgi.begin() + record(PARAMS, params + b"\xff") + rest
    yield "a name without length", fastcgi.begin() + record(PARAMS, params + b"\0\1x") + rest
    yield "NUL in a value", fastcgi.begin() + record(PARAMS, params + fastcgi.pair("HTTP_COOKIE", "a\0b")) + rest
    yield "many parameters", fastcgi.begin() + record(PARAMS, params + fastcgi.pair("X", "y") * 100) + rest
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    yield "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)


def test_malformed_requests(product, ada, socket_path, undisturbed):
    for what, data in malformed(product, ada.token):
        with Peer(socket_path, seconds=3) as peer:
            try:
                peer.send(data)
            except BrokenPipeError:
                pass
            assert peer.closed(), what
    undisturbed(requests=3)


def test_random_bytes(product, ada, socket_path, whole, undisturbed):
    """A request with some of its bytes changed: whatever is answered, the worker lives and others are served."""
    dice = random.Random(20261122)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data) if dice.random() < 0.5 else 40)] = dice.randrange(256)
        with Peer(socket_path) as peer:
            try:
                peer.send(bytes(data))
            except BrokenPipeError:
                pass
    undisturbed()


def test_a_body_with_padding_at_the_largest_size(product, ada, socket_path, undisturbed):
    body = b'{"code":"' + b"x" * (16 * 1024 - 11) + b'"}'
    path = "/api/organizations/acme/integrations/google/callback"
    with Peer(socket_path) as peer:
        for more, expected in ((b"", 400), (b" ", 413), (b" " * 5000, 413), (b" " * 45000, 413), (b"", 400)):
            peer.send(fastcgi.request(product, body + more, padding=7, method="POST", path=path, token=ada.token,
                                      CONTENT_TYPE="application/json"))
            assert peer.answer()[0] == expected


def test_idle_connections_cost_nothing(product, socket_path, undisturbed):
    peers = [Peer(socket_path) for _ in range(300)]
    try:
        undisturbed()
    finally:
        for peer in peers:
            peer.socket.close()
    wait_until(lambda: connections(product) < 50, "the connections are closed")
