"""The MCP gateway and the API proxy: what goes to an upstream, what comes back, and what never does."""

import contextlib
import hashlib
import itertools
import json
import os
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from checks import metric
from harness import Product, good, problem
from processes import REPOSITORY, Process, minimal_environment, wait_until
from programs import entries
from upstream import NameServer, Upstream, answer

TIMEOUT = 2  # seconds that an MCP may be silent, in these tests
MCP = os.path.join(REPOSITORY, "tests", "service", "mcp")
GMAIL = "https://www.googleapis.com/auth/gmail.readonly"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


def mcp(name, upstream=None):
    return {"mcp": name, "name": name, "scopes": [GMAIL], **({"upstream": upstream} if upstream else {})}


class Gateway(Product):
    """A product whose provider files lead to an upstream of the tests; a session for each member and each MCP."""

    def __init__(self, directory, nginx_more=(), **settings):
        self.names = NameServer("localhost")
        self.upstream = Upstream()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.closed_port = listener.getsockname()[1]
        there = self.upstream.address
        proxies = {"rest": {"api_base": there, "api_paths": ["/gmail/v1/", "/one"]},
                   "based": {"api_base": f"{there}/base", "api_paths": ["/one"]},
                   "based_slash": {"api_base": f"{there}/base/", "api_paths": ["/one"]},
                   "everything": {"api_base": there, "api_paths": ["/"]},
                   "pathless": {"api_base": there, "api_paths": None},
                   "proxyless": {"api_base": None, "api_paths": None}}
        super().__init__(directory, api_proxy=True,
                         services={name: {**members, "mcps": [mcp(f"{name}_mcp")]} for name, members in proxies.items()},
                         nginx_settings=(f"RESOLVER=127.0.0.1:{self.names.port} ipv6=off", f"GATEWAY_TIMEOUT={TIMEOUT}s", *nginx_more),
                         **settings)
        self.mcp_port = self.ports.find()

    def _environment(self):
        environment = super()._environment()
        there = self.upstream.address
        mcps = [{**each, "upstream": f"{there}/up/{each['mcp']}"} for each in self.stand_in.provider["mcps"]]
        mcps += [mcp("closed", f"http://127.0.0.1:{self.closed_port}/"), mcp("nameless", "https://unknown.example/mcp"),
                 mcp("bare", there), mcp("question", f"{there}?key=x"), mcp("elsewhere"),
                 mcp("official", f"http://127.0.0.1:{self.mcp_port}/mcp"),
                 mcp("secure", f"{self.stand_in.https_base}/gmail/v1/users/me/profile")]
        self.mcps = " ".join([*(each["mcp"] for each in mcps), *(f"{service}_mcp" for service in self._services)])
        self.write_provider(mcps=mcps)
        return environment

    def stop(self, check=True):
        super().stop(check)
        self.upstream.stop()
        self.names.stop()

    def teammate(self, user="ada", organizations=("acme",), mcps=None, **fields):
        """The session that an AI teammate gets."""
        return self.session(user, {each: "member" for each in organizations}, via="bearer", use="gateway",
                            mcps=self.mcps if mcps is None else mcps, **fields)


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory):
    product = Gateway(tmp_path_factory.mktemp("gateway"))
    product.start()
    yield product
    product.stop()


@pytest.fixture
def gateway(shared_gateway):
    shared_gateway.forget()
    shared_gateway.upstream.reset()
    yield shared_gateway
    shared_gateway.scan(whole=False)


@pytest.fixture
def ada(gateway):
    ada = gateway.session("ada", {"acme": "member"})
    ada.connect("acme")
    return ada


@pytest.fixture
def agent(gateway, ada):  # pylint: disable=unused-argument
    return gateway.teammate()


def call(session, mcp="gmail", organization="acme", **more):
    more.setdefault("json", CALL)
    return session.post(f"/mcp/{organization}/{mcp}", **more)


def connect(product, session, method, path):
    """A connection to nginx on which a request has been sent, as it stands here."""
    connection = socket.create_connection(("127.0.0.1", product.hosts[0].port), 10)
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: {product.public_url[7:]}\r\nAuthorization: Bearer {session.token}\r\n"
                       f"Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
    return connection


def read_until(connection, end=None):
    """What comes until `end`, or until the other side closes."""
    read = b""
    while end is None or end not in read:
        chunk = connection.recv(65536)
        if not chunk:
            assert end is None, f"closed after {read[:500]}"
            break
        read += chunk
    return read


def exchange(product, session, method, path, until=None):
    with connect(product, session, method, path) as connection:
        return read_until(connection, until)


def issued(product):
    """Fingerprints of the access tokens that the provider has given."""
    return [each["fingerprint"] for each in product.stand_in.ledger()["access_tokens"]]


def fingerprint(token):
    return hashlib.sha256(token.encode()).hexdigest()[:16]


# Through


def test_a_request_goes_through_with_the_provider_s_token(gateway, agent):
    gateway.upstream.says(headers=["Mcp-Session-Id: abc", "MCP-Protocol-Version: 2025-11-25"])
    reply = call(agent)
    assert good(reply)["result"] == {}
    seen = gateway.upstream.last
    assert (seen.method, seen.target) == ("POST", "/up/gmail")
    assert json.loads(seen.body) == CALL
    assert fingerprint(seen.token) in issued(gateway)
    assert reply.headers["Mcp-Session-Id"] == "abc"
    assert reply.headers["MCP-Protocol-Version"] == "2025-11-25"
    assert reply.headers["Content-Security-Policy"] == "sandbox"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-store"
    assert len(reply.headers["X-Request-Id"]) == 32


def test_each_mcp_has_its_own_upstream(gateway, agent):
    for name in ("gmail", "google_calendar", "google_drive"):
        assert call(agent, name).status_code == 200
        assert gateway.upstream.last.target == f"/up/{name}"


def test_only_known_headers_reach_the_upstream(gateway, agent):
    passed = {"Accept": "application/json, text/event-stream", "Accept-Language": "en", "Content-Type": "application/json",
              "MCP-Protocol-Version": "2025-11-25", "Mcp-Method": "tools/call", "Mcp-Name": "search", "Mcp-Session-Id": "s",
              "Last-Event-ID": "7"}
    held_back = {"Cookie": "session=other; more=1", "Referer": "http://there.example/", "Origin": gateway.public_url,
                 "X-Forwarded-For": "9.9.9.9", "Forwarded": "for=9.9.9.9", "X-Goog-User-Project": "foreign", "Via": "1.1 there",
                 "Proxy-Authorization": "Basic x", "X-Gateway-Upstream": "http://127.0.0.1:1/", "X-Request-Id": "mine",
                 "X-Gateway-Authorization": "Bearer mine", "X-HTTP-Method-Override": "DELETE", "Range": "bytes=0-1",
                 "Accept-Encoding": "gzip", "Expect": "100-continue", "Upgrade": "websocket"}
    assert call(agent, headers={**passed, **held_back}).status_code == 200
    sent = dict(gateway.upstream.last.headers)
    assert fingerprint(gateway.upstream.last.token) in issued(gateway)
    assert sent.pop("host") == f"127.0.0.1:{gateway.upstream.port}"
    assert sent.pop("user-agent") == "integrations"
    assert sent.pop("content-length") == str(len(json.dumps(CALL)))
    assert sent.pop("connection") == "close"
    del sent["authorization"]
    assert sent == {name.lower(): value for name, value in passed.items()}


def test_only_known_headers_come_back(gateway, agent):
    hostile = ["Set-Cookie: session=stolen", "Set-Cookie2: a=b", "Location: http://there.example/", "Refresh: 0; url=http://there.example/",
               "WWW-Authenticate: Basic realm=x", "Proxy-Authenticate: Basic", "Access-Control-Allow-Origin: *",
               "Access-Control-Allow-Credentials: true", "Access-Control-Expose-Headers: *", "X-Accel-Redirect: /integrations",
               "X-Accel-Buffering: yes", "X-Accel-Limit-Rate: 1", "X-Accel-Charset: utf-7", "X-Accel-Expires: 3600",
               "Server: there", "X-Powered-By: there", "Alt-Svc: h2=\":443\"", "Link: <http://there.example/>; rel=preload",
               "Clear-Site-Data: \"*\"", "Strict-Transport-Security: max-age=0", "Content-Security-Policy: default-src *",
               "Public-Key-Pins: x", "NEL: {}", "Report-To: {}", "Service-Worker-Allowed: /", "SourceMap: /x", "Cache-Control: public",
               "Expires: Thu, 01 Jan 2099 00:00:00 GMT", "Vary: *", "Pragma: x", "Age: 1", "Content-Location: /x", "P3P: x",
               "X-Gateway-Authorization: Bearer x", "X-Gateway-Upstream: http://there.example/", "X-Gateway-Code: internal_error", "X-Gateway-Session: x",
               "X-Request-Id: theirs", "Timing-Allow-Origin: *", "Cross-Origin-Resource-Policy: cross-origin", "Origin-Agent-Cluster: ?0",
               "Permissions-Policy: camera=*", "X-Frame-Options: ALLOWALL", "Referrer-Policy: unsafe-url", "X-Content-Type-Options: x",
               "1x: y", "_x: y", "!x: y", "~x: y", "'x: y", "-x: y", "--: y", "-x_y: y", "Trailer: x", "Upgrade: h2c", "Keep-Alive: timeout=99", "Date: x"]
    gateway.upstream.says(headers=[*hostile, "Retry-After: 5", "Mcp-Session-Id: s"])
    reply = call(agent)
    assert reply.status_code == 200
    assert {name.lower() for name in reply.headers} == {
        "server", "date", "content-type", "content-length", "connection", "x-request-id", "x-content-type-options",
        "referrer-policy", "cross-origin-resource-policy", "cache-control", "content-security-policy", "retry-after",
        "mcp-session-id"}
    assert reply.headers["Server"] == "nginx"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Content-Security-Policy"] == "sandbox"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert reply.headers["X-Request-Id"] != "theirs"
    assert reply.json()["result"] == {}, "X-Accel-Redirect was not obeyed"


@pytest.mark.parametrize("name", ["(x)", "\"x\"", "x(", "x y", "@x"])
def test_what_is_not_a_header_name_is_refused(gateway, agent, name):
    gateway.upstream.says(headers=[f"{name}: y"])
    problem(call(agent), 502, "provider_unreachable")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 400, 402, 403, 404, 405, 406, 408, 409, 410, 415, 422, 429, 500, 501, 503])
def test_statuses_pass(gateway, agent, status):
    body = b"" if status in (202, 204) else b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"theirs"}}'
    gateway.upstream.says(status, body=body)
    reply = call(agent)
    assert (reply.status_code, reply.content) == (status, body)


def test_a_status_that_may_be_nginx_s_own(gateway, agent):
    gateway.upstream.says(413, body=b"theirs")
    problem(call(agent), 413, "body_too_large")
    assert len(gateway.upstream.seen) == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_get_and_delete_go_through(gateway, agent, method):
    reply = agent.request(method, "/mcp/acme/google_drive", headers={"Mcp-Session-Id": "s"})
    assert reply.status_code == 200
    assert (gateway.upstream.last.method, gateway.upstream.last.headers["mcp-session-id"]) == (method, "s")


def test_the_upstream_gets_no_query_but_its_own(gateway, agent):
    assert call(agent, "gmail?alt=sse&access_token=x").status_code == 200
    assert gateway.upstream.last.target == "/up/gmail"


def test_events_come_one_by_one(gateway, agent):
    """The second event is sent only after the first has arrived."""
    arrived = threading.Event()

    def events(seen, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: yes\r\n\r\ndata: 1\n\n")
        assert arrived.wait(10)
        connection.sendall(b"data: 2\n\n")

    gateway.upstream.behave(events)
    reply = agent.get("/mcp/acme/gmail", headers={"Accept": "text/event-stream"}, stream=True, may_hold_token=True)
    assert reply.headers["Content-Type"] == "text/event-stream"
    chunks = reply.iter_content(None)
    assert next(chunks) == b"data: 1\n\n"
    arrived.set()
    assert b"".join(chunks) == b"data: 2\n\n"


def test_a_request_streams_too(gateway, agent):
    """The upstream gets the start of a body whose end has not been sent."""
    begun = threading.Event()

    def body():
        yield b'{"jsonrpc":'
        assert begun.wait(10)
        yield b'"2.0"}'

    def serve(connection):
        read = b""
        while b'{"jsonrpc":' not in read:
            read += connection.recv(65536)
        begun.set()
        while b'"2.0"}' not in read:
            read += connection.recv(65536)
        connection.sendall(answer())

    gateway.upstream.behave_raw(serve)
    assert agent.post("/mcp/acme/gmail", data=body(), headers={"Content-Type": "application/json"}).status_code == 200


def test_large_bodies_both_ways(gateway, agent):
    text = "x" * (2 * 1024 * 1024)
    gateway.upstream.behave(lambda seen, connection: connection.sendall(answer(body=seen.body)))
    reply = call(agent, json={**CALL, "params": text})
    assert reply.json()["params"] == text
    before = len(gateway.upstream.seen)
    assert problem(call(agent, data=b"x" * (4 * 1024 * 1024 + 1)), 413, "body_too_large")["detail"].count("4 MiB")
    assert len(gateway.upstream.seen) == before

    def chunks():
        for _ in range(65):
            yield b"x" * 65536
    problem(agent.post("/mcp/acme/gmail", data=chunks()), 413, "body_too_large")


def test_who_leaves_ends_the_stream(gateway, agent):
    ended = threading.Event()

    def never(seen, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: begin\n\n")
        connection.recv(1)
        ended.set()

    gateway.upstream.behave(never)
    with connect(gateway, agent, "GET", "/mcp/acme/gmail") as connection:
        read_until(connection, b": begin")
    assert ended.wait(TIMEOUT / 2), "the upstream is told before any time-out"


# Refusals


def test_no_session(gateway, agent):
    nobody = [{}, {"bearer": "unknown-MARKER"}, {"headers": {"Authorization": "Basic YTpi"}}, {"headers": {"Authorization": "Bearer"}},
              {"bearer": gateway.session("ada", {"acme": "member"}).token},
              {"bearer": gateway.session("ada", {"acme": "member"}, use="other", mcps=gateway.mcps).token},
              {"cookie": agent.token}, {"cookie": gateway.session("ada", {"acme": "member"}).token}]
    for credentials in nobody:
        for path in ("/mcp/acme/gmail", "/proxy/acme/google/gmail/v1/users/me/profile"):
            reply = gateway.request("GET", path, **credentials)
            problem(reply, 401, "unauthenticated")
            assert reply.raw.headers.getlist("WWW-Authenticate") == ["Bearer"], "once"
    assert gateway.upstream.seen == []


def test_a_gateway_session_is_good_for_nothing_else(gateway, agent):
    for session in (agent, type(agent)(gateway, agent.token, "ada", "cookie")):
        problem(session.integrations("acme"), 401, "unauthenticated")
        problem(session.get("/api/me"), 401, "unauthenticated")
        problem(session.validate("acme"), 401, "unauthenticated")


def test_a_cookie_beside_the_bearer_is_ignored(gateway, agent):
    other = gateway.session("bob", {"acme": "member"})
    assert gateway.request("POST", "/mcp/acme/gmail", bearer=agent.token, cookie=other.token, json=CALL).status_code == 200


def test_another_organization(gateway, agent):
    for organization in ("globex", "nowhere", "a.b", "%2561cme"):
        problem(call(agent, organization=organization), 403, "organization_forbidden")
    assert gateway.upstream.seen == []


def test_an_mcp_that_the_session_does_not_have(gateway, agent):
    narrow = gateway.teammate(mcps="gmail")
    assert call(narrow).status_code == 200
    problem(call(narrow, "google_drive"), 403, "caller_forbidden")
    problem(call(gateway.teammate(mcps="")), 403, "caller_forbidden")
    problem(call(gateway.teammate(mcps="gmai gmaill")), 403, "caller_forbidden")
    problem(call(agent, "unknown"), 404, "route_not_found")
    assert len(gateway.upstream.seen) == 1


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/mcp/acme", "/mcp/acme/", "/mcp/acme/gmail/", "/mcp/acme/gmail/more", "/mcp//acme/gmail",
                                  "/mcp/acme//gmail", "/mcp/acme/./gmail", "/mcp/acme/../acme/gmail", "/%6dcp/acme/gmail", "/MCP/acme/gmail",
                                  "/mcp/acme/gm%61il", "/mcp/acme/gmail;x", "/mcp/acme/gmail%00", "/mcp%2facme/gmail", "//mcp/acme/gmail"])
def test_other_paths(gateway, agent, path):
    reply = gateway.raw(f"GET {path} HTTP/1.1\r\nHost: {gateway.public_url[7:]}\r\nAuthorization: Bearer {agent.token}\r\n"
                        f"Connection: close\r\n\r\n".encode())
    assert reply.split(b" ")[1] in (b"400", b"404"), reply
    assert b"application/problem+json" in reply
    assert gateway.upstream.seen == []


def test_methods(gateway, agent):
    for method in ("PUT", "PATCH", "OPTIONS", "HEAD", "BREW"):
        reply = agent.request(method, "/mcp/acme/gmail")
        assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, POST, DELETE")
        if method != "HEAD":
            problem(reply, 405, "method_not_allowed")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"):
        reply = agent.request(method, "/proxy/acme/google/gmail/v1/users/me/profile")
        problem(reply, 405, "method_not_allowed")
        assert reply.headers["Allow"] == "GET, HEAD"
    assert gateway.stand_in.counters()["write_verbs"] == 0
    assert gateway.upstream.seen == []


def test_a_foreign_origin(gateway, agent):
    for origin in ("http://there.example", "null", gateway.public_url + ".there.example"):
        problem(call(agent, headers={"Origin": origin}), 403, "cross_origin")
    assert gateway.upstream.seen == []
    assert call(agent, headers={"Origin": gateway.public_url}).status_code == 200


def test_another_host(gateway, agent):
    problem(call(agent, headers={"Host": "there.example"}), 421, "misdirected")
    assert gateway.upstream.seen == []


def test_not_connected(gateway):
    body = problem(call(gateway.teammate()), 404, "integration_not_found")
    assert "/integrations" in body["detail"]


def test_another_member_s_connection_is_not_used(gateway, agent):
    problem(call(gateway.teammate("bob")), 404, "integration_not_found")
    problem(call(gateway.teammate("ada", ["globex"]), organization="globex"), 404, "integration_not_found")
    assert gateway.upstream.seen == []


def test_a_dead_grant(gateway, agent):
    gateway.stand_in.revoke_grant("ada")
    gateway.redis.delete(*gateway.redis.keys("integrations:*") or ["none"])
    expire(gateway)
    body = problem(call(agent), 409, "reconnect_required")
    assert "/integrations" in body["detail"]
    assert gateway.session("ada", {"acme": "member"}).list("acme")[0]["status"] == "invalid"
    assert gateway.upstream.seen == []


def expire(product, seconds=7200):
    """As if the stored access tokens were that old. Their end stands beside them in the clear."""
    for key in product.redis.keys("credential:*"):
        row = product.redis.hgetall(key)
        product.redis.hset(key, mapping={name: shifted(value, seconds) for name, value in row.items() if name.endswith("_at")})


def shifted(value, seconds):
    return str(int(value) - seconds)


def test_a_missing_scope(gateway):
    ada = gateway.session("ada", {"acme": "member"})
    ada.connect("acme", grant=["https://www.googleapis.com/auth/gmail.readonly"])
    agent = gateway.teammate()
    assert call(agent).status_code == 200
    body = problem(call(agent, "google_drive"), 422, "scopes_missing")
    assert "/integrations" in body["detail"]
    assert len(gateway.upstream.seen) == 1


def test_a_removed_member(gateway, agent):
    gateway.redis.set("removed:{acme:ada}", "1")
    problem(call(agent), 403, "organization_forbidden")
    assert gateway.upstream.seen == []


def test_an_expired_token_is_refreshed_first(gateway, agent):
    expire(gateway)
    assert call(agent).status_code == 200
    assert gateway.stand_in.counters()["refreshes_ok"] == 1
    assert gateway.stand_in.honours(access_token=gateway.upstream.last.token)


def test_redis_down(gateway, agent):
    gateway.redis_server.pause()
    try:
        begun = time.monotonic()
        reply = call(agent)
        seconds = time.monotonic() - begun
    finally:
        gateway.redis_server.resume()
    problem(reply, 503, "store_unavailable")
    assert seconds < 2
    wait_until(lambda: call(agent).status_code == 200, "the gateway is back")


def test_no_worker(gateway, agent):
    gateway.serve.stop()
    try:
        for path in ("/mcp/acme/gmail", "/proxy/acme/google/gmail/v1/users/me/profile"):
            reply = agent.get(path)
            problem(reply, 503, "overloaded")
            assert int(reply.headers["Retry-After"]) > 0
    finally:
        gateway.serve.start()
        gateway.hosts[0].wait_ready()
    assert gateway.upstream.seen == []
    assert call(agent).status_code == 200


# A hostile upstream


def test_the_upstream_refuses_the_token(gateway, agent):
    gateway.upstream.says(401, ["WWW-Authenticate: Bearer realm=\"theirs\", error=\"invalid_token\""], b"theirs")
    reply = call(agent)
    problem(reply, 502, "provider_refused_token")
    assert "WWW-Authenticate" not in reply.headers
    refused = gateway.upstream.last.token
    again = call(agent)
    problem(again, 502, "provider_refused_token")
    assert gateway.upstream.last.token != refused, "a new token after the refusal"
    for _ in range(3):
        problem(call(agent), 502, "provider_refused_token")
    assert gateway.stand_in.counters()["refreshes_ok"] == 1, "not one for each refusal"
    gateway.upstream.reset()
    assert call(agent).status_code == 200


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_redirects_are_neither_followed_nor_passed_on(gateway, agent, status):
    gateway.upstream.says(status, [f"Location: {gateway.upstream.address}/elsewhere"])
    reply = call(agent)
    problem(reply, 502, "provider_unreachable")
    assert "Location" not in reply.headers
    assert len(gateway.upstream.seen) == 1


def lines(connection, text):
    """More headers than anybody wants, as long as they are taken."""
    for number in range(10 * 1024 * 1024 // 1024):
        connection.sendall(f"X-{number}: {text * 1000}\r\n".encode())


HOSTILE = {
    "ten megabytes of headers": lambda seen, connection: (connection.sendall(b"HTTP/1.1 200 OK\r\n"), lines(connection, "x")),
    "one long header": lambda seen, connection: connection.sendall(answer(headers=["X: " + "x" * 100_000])),
    "nothing": lambda seen, connection: None,
    "half a header": lambda seen, connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX-Y"),
    "silence": lambda seen, connection: connection.recv(1),
    "502": lambda seen, connection: connection.sendall(answer(502, body=b"theirs")),
    "504": lambda seen, connection: connection.sendall(answer(504, body=b"theirs")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_usable_answer(gateway, agent, name):
    gateway.upstream.behave(HOSTILE[name])
    begun = time.monotonic()
    problem(call(agent), 502, "provider_unreachable")
    assert time.monotonic() - begun < TIMEOUT + 2
    gateway.upstream.reset()
    assert call(agent).status_code == 200


def test_a_refusal_before_the_body_was_read(gateway, agent):
    def refuse(connection):
        connection.recv(1000)
        connection.sendall(answer(401))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    gateway.upstream.behave_raw(refuse)
    problem(call(agent, data=b"x" * (3 * 1024 * 1024)), 502, "provider_refused_token")
    problem(call(agent, data=iter([b"x" * 65536] * 40)), 502, "provider_refused_token")
    # What is left of the body would be taken for the next request, so there is none, and the caller is told.
    with contextlib.closing(socket.create_connection(("127.0.0.1", gateway.hosts[0].port), 10)) as connection:
        connection.sendall(f"POST /mcp/acme/gmail HTTP/1.1\r\nHost: {gateway.public_url[7:]}\r\nAuthorization: Bearer {agent.token}\r\n"
                           "Content-Type: application/json\r\nContent-Length: 3000000\r\n\r\n".encode() + b"x" * 1000)
        head = read_until(connection, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ") and b"\r\nConnection: close\r\n" in head, head


def test_a_stream_without_end_holds_nobody_else(gateway, ada, agent):
    def endless(seen, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            connection.sendall(b"data: " + b"x" * 65536 + b"\n\n")

    gateway.upstream.behave(endless)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(connect(gateway, agent, "GET", "/mcp/acme/gmail")) for _ in range(4)]
        for each in streams:
            read_until(each, b"data: ")
        for _ in range(20):
            good(ada.get("/api/me"))
        gateway.upstream.reset()
        assert call(agent).status_code == 200
    wait_until(lambda: gateway.upstream.open_connections() == 0, "the upstream's connections are closed")


NO_HTTP = [b"HTTP/1.1 200\tOK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi", b"hTtP/1.1 2000 OK\r\n\r\nhi", b"\0\1\2",
           b" HTTP/1.1 200 OK\r\n\r\nhi", b"HHTTP/TTP/1.1 200 OK\r\n\r\nhi", b"<html>hi"]
# What would be a whole answer, if it were not behind one that is not final.
SPLIT = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 6\r\n\r\nforged"
INTERIM = [*(b"HTTP/1.1 %s x\r\n\r\n" % status for status in (b"000", b"001", b"009", b"099", b"100", b"101", b"102", b"103", b"199")),
           b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 102 x\r\n\r\n", b"HTTP/1.1 103 x\r\nContent-Length: 200\r\n\r\n",
           b"HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n71\r\n", b"HTTP/1.1 103 x\r\nContent-Encoding: gzip\r\n\r\n",
           b"HTTP/1.1 103 x\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.0 103 x\r\n\r\n",
           b"HTTP/1.1 103 x\r\nConnection: keep-alive\r\n\r\n", b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"]
FORWARDED = [("GET", "/mcp/acme/gmail"), ("POST", "/mcp/acme/gmail"), ("HEAD", "/proxy/acme/rest/one"), ("GET", "/proxy/acme/rest/one")]


def upgrading(product, session, method, path):
    """All that nginx answers on a connection that asked to be kept and offered to be made another protocol's."""
    with socket.create_connection(("127.0.0.1", product.hosts[0].port), 10) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: {product.public_url[7:]}\r\nAuthorization: Bearer {session.token}\r\n"
                           "Content-Length: 0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
        return read_until(connection)


def saying(raw, step, ended):
    """An upstream that says `raw` and then nothing more."""
    def serve(_, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), step):
            connection.sendall(raw[at:at + step])
        ended.wait(10)
    return serve


@pytest.mark.parametrize("interim", INTERIM)
@pytest.mark.parametrize("rest", [b"", SPLIT])
@pytest.mark.parametrize("step", [1, 65536])
def test_an_answer_without_a_final_status_is_dropped(gateway, proxied, interim, rest, step):
    """At once, although the upstream holds its connection; 502 from a worker; the client's connection is closed."""
    before = metric(gateway, "integrations_gateway_split_answers_total")
    ended = threading.Event()
    gateway.upstream.behave(saying(interim + rest, step, ended))
    begun = time.monotonic()
    for method, path in FORWARDED:
        head, _, body = upgrading(gateway, proxied, method, path).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 502 ") and b"\r\nConnection: close" in head and b"a=b" not in head
        assert method == "HEAD" and not body or json.loads(body)["code"] == "provider_unreachable"
    assert time.monotonic() - begun < TIMEOUT
    ended.set()
    wait_until(lambda: gateway.upstream.open_connections() == 0, "the upstream's connections are closed")
    assert metric(gateway, "integrations_gateway_split_answers_total") == before + len(FORWARDED)
    shown = gateway.request("GET", "/metrics", internal=True).text
    assert 'integrations_gateway_split_answers_total{mcp="gmail"}' in shown, "which MCP"
    wait_until(lambda: [(line.get("mcp"), line.get("service")) for line in gateway.log() if line["event"] == "gateway_split_answer"]
               [-4:] == [("gmail", None)] * 2 + [(None, "rest")] * 2, "the log names the MCP, or the service of the proxy")
    gateway.upstream.reset()
    assert call(proxied).status_code == 200


@pytest.mark.parametrize("raw", NO_HTTP)
def test_what_is_no_http_is_dropped(gateway, proxied, raw):
    ended = threading.Event()
    gateway.upstream.behave(saying(raw, 65536, ended))
    for method, path in FORWARDED:
        received = upgrading(gateway, proxied, method, path)
        assert received == b"" or received.startswith(b"HTTP/1.1 502 ")
    ended.set()
    gateway.upstream.reset()
    assert call(proxied).status_code == 200


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 204 x\r\n\r\n", b"HTTP/1.1 304 x\r\n\r\n",
                                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"])
@pytest.mark.parametrize("step", [1, 65536])
def test_what_follows_an_answer_is_dropped(gateway, proxied, raw, step):
    ended = threading.Event()
    ended.set()
    gateway.upstream.behave(saying(raw + SPLIT, step, ended))
    for method, path in FORWARDED:
        received = exchange(gateway, proxied, method, path)
        assert received.count(b"HTTP/1.1 ") == 1 and b"forged" not in received and b"a=b" not in received
        assert received.startswith(raw[:12])


@pytest.fixture(scope="module")
def without_lua(tmp_path_factory):
    product = Gateway(tmp_path_factory.mktemp("gateway"), nginx_more=("LUA=off",))
    product.start()
    yield product
    product.stop()


def connected(product):
    product.forget()
    product.upstream.reset()
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    ada.connect("acme", service="rest")
    return product.teammate()


@pytest.mark.parametrize("raw", NO_HTTP)
def test_what_is_no_http_is_not_made_http_without_lua(without_lua, raw):
    """nginx sends it on as it is, head and all."""
    agent = connected(without_lua)
    without_lua.upstream.behave(lambda seen, connection: connection.sendall(raw))
    received = exchange(without_lua, agent, "GET", "/mcp/acme/gmail", until=raw[-2:])
    assert b"http/" not in received.lower()


@pytest.mark.parametrize("interim", INTERIM)
def test_no_second_head_comes_without_lua(without_lua, interim):
    """Whatever a client makes of a status below 200: no second head comes behind nginx's own."""
    agent = connected(without_lua)
    without_lua.upstream.behave(lambda seen, connection: connection.sendall(interim + SPLIT))
    for method, path in (("GET", "/mcp/acme/gmail"), ("POST", "/mcp/acme/gmail"), ("GET", "/proxy/acme/rest/one")):
        received = exchange(without_lua, agent, method, path)
        assert received.lower().count(b"http/") <= 1, received
        assert b"HTTP/1.1 200" not in received
    without_lua.upstream.reset()
    assert call(agent).status_code == 200


@pytest.fixture(scope="module")
def bounded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("gateway")
    product = Gateway(directory, nginx_more=("GATEWAY_STREAM_SECONDS=5",), server_conf=f"listen unix:{directory}/http2 http2;")
    product.http2 = f"{directory}/http2"
    product.start()
    yield product
    product.stop()


@pytest.mark.parametrize("pause", [0.3, 60])
@pytest.mark.parametrize("path", ["/mcp/acme/gmail", "/proxy/acme/rest/one"])
@pytest.mark.parametrize("head, end", [(b"", b"\r\n0\r\n\r\n"), (b"Content-Length: 100000\r\n", b"data: x\n\n")])
def test_every_stream_ends(bounded, head, end, path, pause):
    """In five seconds, whether the upstream speaks or not: whole where it has no length; the upstream's connection is closed."""
    if path.startswith("/proxy") and pause == 60:
        pytest.skip("its upstream may be silent for 30 seconds, whatever the stream's time is")
    agent = connected(bounded)
    ended = threading.Event()

    def stream(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + head + b"\r\n")
        while not ended.is_set() and time.monotonic() < begun + 8:
            connection.sendall(b"data: x\n\n")
            ended.wait(pause)

    bounded.upstream.behave(stream)
    begun = time.monotonic()
    received = exchange(bounded, agent, "GET", path)
    assert received.endswith(end) and b"data: x" in received
    assert (1.5 if pause == 60 else 2.5) < time.monotonic() - begun < 5
    if pause < 1:
        wait_until(lambda: bounded.upstream.open_connections() == 0, "the upstream's connection is closed")
    ended.set()
    wait_until(lambda: bounded.upstream.open_connections() == 0, "the upstream's connection is closed")


@pytest.mark.parametrize("pause", [0.3, 60])
def test_every_stream_ends_in_http2(bounded, pause):
    """With END_STREAM, without which curl calls an answer partial."""
    agent = connected(bounded)
    ended = threading.Event()

    def stream(_, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while not ended.is_set():
            connection.sendall(b"data: x\n\n")
            ended.wait(pause)

    bounded.upstream.behave(stream)
    done = subprocess.run(["curl", "-sS", "-m", "8", "--http2-prior-knowledge", "--unix-socket", bounded.http2, "-K", "-",
                           f"{bounded.public_url}/mcp/acme/gmail"], input=f'header = "Authorization: Bearer {agent.token}"\n',
                          env=minimal_environment(), capture_output=True, text=True, check=False)
    ended.set()
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("data: x\n\n")
    wait_until(lambda: bounded.upstream.open_connections() == 0, "the upstream's connection is closed")


def test_a_stream_that_is_cut_off_is_not_whole(gateway, agent):
    cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\ndata: x\n"
    gateway.upstream.behave(lambda seen, connection: connection.sendall(cut))
    received = exchange(gateway, agent, "GET", "/mcp/acme/gmail")
    assert received.startswith(b"HTTP/1.1 200 ") and not received.endswith(b"0\r\n\r\n")


def test_an_answer_that_is_cut_off_is_not_whole(gateway, agent):
    gateway.upstream.behave(lambda seen, connection: connection.sendall(answer(body=b"x" * 1000)[:-500]))
    head, body = exchange(gateway, agent, "GET", "/mcp/acme/gmail").split(b"\r\n\r\n")
    assert b"Content-Length: 1000" in head and len(body) == 500


def test_nobody_listens(gateway, agent):
    problem(call(agent, "closed"), 502, "provider_unreachable")
    problem(call(agent, "nameless"), 502, "provider_unreachable")


def test_no_cache_of_the_server_around_keeps_a_refusal(tmp_path):
    def cached(host):
        with open(os.path.join(host.directory, "nginx/integrations.conf"), encoding="utf-8") as file:
            return file.read().replace("http {", f"http {{ proxy_cache_path {host.directory}/cache keys_zone=around:1m; "
                                                 "proxy_cache around; proxy_cache_valid any 1m;", 1)

    product = Gateway(tmp_path, nginx_conf=cached)
    try:
        product.start()
        product.session("ada", {"acme": "member"}).connect("acme")
        product.upstream.says(307)
        problem(product.teammate().get("/mcp/acme/gmail"), 502, "provider_unreachable")
        product.upstream.says()
        assert product.teammate().get("/mcp/acme/gmail").status_code == 200
    finally:
        product.stop()


def test_an_mcp_without_an_upstream(agent):
    problem(call(agent, "elsewhere"), 404, "route_not_found")


def test_an_address_without_a_path(gateway, agent):
    assert call(agent, "bare").status_code == 200
    assert gateway.upstream.last.target == "/"
    assert call(agent, "question").status_code == 200
    assert gateway.upstream.last.target == "/?key=x"


# The sub-request


SPELLINGS = ["/integrations-gateway/token", "/integrations-gateway/token?x", "/integrations-gateway/token/", "/integrations-gateway/./token",
             "/integrations-gateway/../integrations-gateway/token", "//integrations-gateway//token", "/integrations-gateway/%74oken",
             "/%69ntegrations-gateway/token", "/integrations-gateway%2ftoken", "/integrations-gateway%2Ftoken", "/Integrations-Gateway/Token",
             "/integrations-gateway/token%00", "/integrations-gateway/token%20", "/integrations-gateway/token;x", "/integrations-gateway\\token",
             "/x/../integrations-gateway/token", "/mcp/../integrations-gateway/token", "/mcp/acme/..%2f..%2fintegrations-gateway/token",
             "/api/../integrations-gateway/token", "/proxy/acme/google/../../../integrations-gateway/token", "/%2e/integrations-gateway/token",
             "/integrations-gateway/token#x", "http://localhost/integrations-gateway/token", "/@integrations_gateway_mcp",
             "/integrations-problem/gateway_overloaded", "/none", "/dev/null/none"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_sub_request_cannot_be_reached(gateway, agent, spelling):
    for method, host in itertools.product(("GET", "POST"), (gateway.public_url[7:], "localhost")):
        reply = gateway.raw(f"{method} {spelling} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {agent.token}\r\n"
                            "X-Accel-Redirect: /integrations-gateway/token\r\nX-Original-URI: /mcp/acme/gmail\r\nX-Rewrite-URL: "
                            "/integrations-gateway/token\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        assert reply.split(b" ")[1] in (b"400", b"404", b"405", b"421"), reply
        assert b"x-gateway" not in reply.lower()
    internal = gateway.raw(f"GET {spelling} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {agent.token}\r\n"
                           "Connection: close\r\n\r\n".encode(), internal=True)
    assert internal.split(b" ")[1] in (b"400", b"404"), internal
    assert gateway.upstream.seen == []


def test_an_upstream_cannot_reach_it_either(gateway, agent):
    gateway.upstream.says(headers=["X-Accel-Redirect: /integrations-gateway/token"])
    assert call(agent).json()["result"] == {}
    gateway.upstream.says(404, headers=["X-Accel-Redirect: @integrations_gateway_refused"])
    assert call(agent).status_code == 404


# TLS: the stand-in's own APIs, by name


def test_over_tls(agent):
    assert good(agent.get("/mcp/acme/secure"))["emailAddress"] == "ada@example.com"


@pytest.mark.parametrize("kind", ["unknown_ca", "wrong_name", "expired_certificate", "refuse_connection"])
def test_over_tls_that_is_not_to_be_trusted(gateway, agent, kind):
    gateway.stand_in.fault("connection", kind, times=None)
    problem(agent.get("/mcp/acme/secure"), 502, "provider_unreachable")
    assert gateway.stand_in.clear_faults()[0]["fired"] >= 1
    assert not gateway.stand_in.requests("gmail")


# The API proxy


PROFILE = "/proxy/acme/google/gmail/v1/users/me/profile"


def asked(product):
    return [f"{each['path']}?{each['query']}" if each["query"] else each["path"] for each in product.stand_in.requests("gmail")]


def test_the_proxy_reads(gateway, agent):
    assert good(agent.get(PROFILE))["emailAddress"] == "ada@example.com"
    reply = agent.request("HEAD", PROFILE)
    assert (reply.status_code, reply.content) == (200, b"")
    assert good(agent.get("/proxy/acme/google/gmail/v1/users/me/messages?q=is%3Aunread&maxResults=1"))
    assert good(agent.get("/proxy/acme/google/calendar/v3/users/me/calendarList"))
    assert good(agent.get("/proxy/acme/google/drive/v3/files?pageSize=1"))


@pytest.fixture
def proxied(gateway, ada, agent):  # pylint: disable=unused-argument
    ada.connect("acme", service="rest")
    return agent


def test_the_proxy_forwards_little(gateway, proxied):
    passed = {"Accept": "application/json", "Accept-Language": "en", "If-None-Match": "\"x\"", "Range": "bytes=0-1", "If-Range": "\"x\"",
              "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    gateway.upstream.says(206, ["ETag: \"y\"", "Content-Range: bytes 0-1/9", "Accept-Ranges: bytes", "Set-Cookie: a=b",
                                "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT", "Content-Disposition: attachment", "Location: /x",
                                "Access-Control-Allow-Origin: *", "X-Goog-Secret: x"], b"ab", "text/html")
    reply = proxied.get("/proxy/acme/rest/gmail/v1/a?b=c&d=%2F..%2F&e", headers={**passed, "Cookie": "session=x", "Referer": "x",
                        "Content-Type": "text/plain", "X-Goog-User-Project": "x", "Mcp-Session-Id": "x"}, data=b"a body")
    seen = gateway.upstream.last
    assert (seen.method, seen.target, seen.body) == ("GET", "/gmail/v1/a?b=c&d=%2F..%2F&e", b"")
    sent = {name: value for name, value in seen.headers.items() if name not in ("authorization", "host", "connection", "user-agent")}
    assert sent == {name.lower(): value for name, value in passed.items()}
    assert fingerprint(seen.token) in issued(gateway)
    assert (reply.status_code, reply.content) == (206, b"ab")
    assert {name.lower() for name in reply.headers} == {
        "server", "date", "content-type", "content-length", "connection", "x-request-id", "x-content-type-options",
        "referrer-policy", "cross-origin-resource-policy", "cache-control", "content-security-policy", "etag", "content-range",
        "accept-ranges", "last-modified", "content-disposition"}
    assert (reply.headers["Content-Security-Policy"], reply.headers["X-Content-Type-Options"]) == ("sandbox", "nosniff")
    assert reply.headers["ETag"] == "\"y\"" and reply.headers["Last-Modified"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    gateway.upstream.says(304, body=b"")
    assert proxied.get("/proxy/acme/rest/one").status_code == 304


def test_the_proxy_forwards_no_body(gateway, proxied):
    read = []

    def serve(connection):
        head = read_until(connection, b"\r\n\r\n")
        connection.sendall(answer())
        connection.shutdown(socket.SHUT_WR)
        read.append((head, read_until(connection)))

    gateway.upstream.behave_raw(serve)
    for body in (b"a body", iter([b"a body"])):
        assert proxied.get("/proxy/acme/rest/one", data=body).status_code == 200
    wait_until(lambda: len(read) == 2, "nginx has closed both connections")
    for head, rest in read:
        assert head.endswith(b"\r\n\r\n") and rest == b""
        assert b"content-length" not in head.lower() and b"transfer-encoding" not in head.lower()


@pytest.mark.parametrize("path", ["/gmail/v1", "/gmail/v1/", "/gmail/v1/x", "/one", "/one/", "/one/a%20b/%C3%A9", "/one/@me:x,y(1)"])
def test_paths_of_the_proxy(gateway, proxied, path):
    assert proxied.get("/proxy/acme/rest" + path).status_code == 200
    assert gateway.upstream.last.target == path


@pytest.mark.parametrize("path", [
    "", "/", "/two", "/onetwo", "/gmail/v10", "/gmail", "/gmail/v", "/Gmail/v1/x", "/one/../two", "/one/..", "/one/./x", "/one/.", "//one", "/one//x",
    "/one/%2e%2e/two", "/one/%2E%2E/two", "/one/.%2e/two", "/one%2ftwo", "/one/%2F..%2Ftwo", "/one/..%2ftwo", "/one/%252e%252e/two",
    "/one/;x", "/one;x", "/one/..;/two", "/one/\\..\\two", "/one/%5c..%5ctwo", "/one/%00", "/one#/../two", "/one/.hidden", "@two/one", ":1/one",
    ".two.example/one", "/two/../one", "/%6fne/x"])
def test_traps_for_the_proxy(gateway, proxied, path):
    reply = gateway.raw(f"GET /proxy/acme/rest{path} HTTP/1.1\r\nHost: {gateway.public_url[7:]}\r\n"
                        f"Authorization: Bearer {proxied.token}\r\nConnection: close\r\n\r\n".encode())
    assert reply.split(b" ")[1] in (b"400", b"404"), reply
    assert b"application/problem+json" in reply
    assert gateway.upstream.seen == []


def test_the_longest_query(gateway, proxied):
    path = "/proxy/acme/rest/one?" + "q" * (8192 - 200)
    assert proxied.get(path).status_code == 200
    assert gateway.upstream.last.target == path.removeprefix("/proxy/acme/rest")
    reply = proxied.get(path + "q" * 300)
    problem(reply, 414, "request_invalid")


def test_no_path_is_allowed_unless_it_is_named(gateway, ada, agent):
    for service in ("pathless", "proxyless"):
        ada.connect("acme", service=service)
        problem(agent.get(f"/proxy/acme/{service}/one"), 404, "route_not_found")
    assert gateway.upstream.seen == []
    ada.connect("acme", service="everything")
    assert agent.get("/proxy/acme/everything/whatever/there/is").status_code == 200


def test_the_shipped_provider_has_no_proxy():
    with open(os.path.join(REPOSITORY, "deploy", "providers", "google.json"), encoding="utf-8") as file:
        assert not {"api_base", "api_paths"} & set(json.load(file))


@pytest.mark.parametrize("service", ["based", "based_slash"])
def test_an_api_base_may_have_a_path(gateway, ada, agent, service):
    ada.connect("acme", service=service)
    assert agent.get(f"/proxy/acme/{service}/one").status_code == 200
    assert gateway.upstream.last.target == "/base/one"


def test_the_proxy_needs_every_mcp_of_the_service(gateway, agent):
    problem(gateway.teammate(mcps="gmail google_drive").get(PROFILE), 403, "caller_forbidden")
    problem(agent.get("/proxy/acme/unknown/one"), 404, "service_not_found")
    problem(agent.get("/proxy/globex/google/gmail/v1/x"), 403, "organization_forbidden")
    problem(agent.get(PROFILE, headers={"Origin": "http://there.example"}), 403, "cross_origin")
    assert not gateway.stand_in.requests("gmail")


def test_the_proxy_s_upstream_refuses_or_redirects(gateway, proxied):
    gateway.upstream.says(401, ["WWW-Authenticate: Bearer"])
    problem(proxied.get("/proxy/acme/rest/one"), 502, "provider_refused_token")
    gateway.upstream.says(302, ["Location: /two"])
    problem(proxied.get("/proxy/acme/rest/one"), 502, "provider_unreachable")
    assert [each.target for each in gateway.upstream.seen] == ["/one", "/one"]
    gateway.upstream.says(403, body=b'{"error":{"code":403}}')
    assert proxied.get("/proxy/acme/rest/one").json() == {"error": {"code": 403}}


# An official client, and an official server behind the gateway


class McpServer(Process):
    """tests/service/mcp/server.mjs."""

    def __init__(self, product):
        self.port = product.mcp_port
        super().__init__("mcp", ["node", os.path.join(MCP, "server.mjs"), str(self.port)], os.path.join(product.directory, "mcp.log"),
                         minimal_environment())

    def start(self):
        super().start()
        wait_until(lambda: "ready" in self.text(), "the MCP server listens", 30)
        return self

    def seen(self):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{self.port}/seen") as reply:
            return json.load(reply)


@pytest.fixture(scope="module")
def mcp_server(shared_gateway):
    subprocess.run(["/bin/sh", os.path.join(MCP, "npm.sh")], check=True)
    shared_gateway.ports.release(shared_gateway.mcp_port)
    server = McpServer(shared_gateway).start()
    yield server
    server.stop()


def test_an_official_client_and_server(gateway, agent, mcp_server):
    done = subprocess.run(["node", "--dns-result-order=ipv4first", os.path.join(MCP, "client.mjs")], capture_output=True, text=True, timeout=120, check=False,
                          input=json.dumps({"url": f"{gateway.public_url}/mcp/acme/official", "token": agent.token}),
                          env=minimal_environment())
    gateway.scanner.check((done.stdout + done.stderr).encode(), "what the client knows")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["server"] == "upstream" and found["session"]
    assert found["tools"] == ["announce", "cancelled", "echo", "fail", "go", "large", "steps", "wait"]
    assert found["echo"] == "Grüße, 世界"
    assert found["large"] == 2 * 1024 * 1024 and found["largeBack"]
    assert found["progress"] == [1, 2, 3] and found["steps"] == "all steps"
    assert found["failed"] == {"isError": True, "text": "The tool failed."}
    assert found["invalid"] is True
    assert found["unknownMethod"]["code"] == -32601
    assert "enough" in found["aborted"]["message"] and found["cancelled"] == "1"
    assert found["announced"] is True
    assert found["atOnce"] == [str(number) for number in range(20)]
    assert found["terminated"]["code"] == 400, "the server's own answer to who has no session"
    assert "unauthenticated" in found["stranger"]["message"]

    seen = mcp_server.seen()
    assert {each["method"] for each in seen} == {"GET", "POST", "DELETE"}
    assert {each["scheme"] for each in seen} == {"Bearer"}
    assert {each["token"] for each in seen} <= set(issued(gateway)), "the upstream saw the provider's tokens only"
    allowed = {"accept", "accept-language", "connection", "content-length", "content-type", "host", "last-event-id",
               "mcp-protocol-version", "mcp-session-id", "transfer-encoding", "user-agent"}
    assert set().union(*(each["headers"] for each in seen)) <= allowed


# Logs


def test_no_query_in_any_log(gateway, proxied):
    secret = "searched-for-" + "s" * 20
    gateway.scanner.record(secret, "a query")
    proxied.get(f"/proxy/acme/rest/one?q={secret}")
    gateway.upstream.behave(HOSTILE["nothing"])
    problem(proxied.get(f"/proxy/acme/rest/one?q={secret}"), 502, "provider_unreachable")
    gateway.upstream.behave(HOSTILE["one long header"])
    problem(proxied.get(f"/proxy/acme/rest/one?q={secret}"), 502, "provider_unreachable")
    problem(proxied.get(f"/proxy/acme/rest/two?q={secret}"), 404, "route_not_found")


def test_no_query_in_any_log_without_a_worker(gateway, proxied):
    """The workers are gone when their words for a refusal are wanted: nginx has an error to log."""
    secret = "searched-for-" + "t" * 20
    gateway.scanner.record(secret, "a query")

    def end_workers(_, connection):
        workers = gateway.hosts[0].workers()
        gateway.serve.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, 9)
        connection.sendall(answer(502))

    gateway.upstream.behave(end_workers)
    try:
        problem(proxied.get(f"/proxy/acme/rest/one?q={secret}"), 503, "overloaded")
    finally:
        gateway.serve.start()
        gateway.hosts[0].wait_ready()


def test_the_service_s_log_names_the_route(gateway, agent):
    call(agent)
    problem(call(agent, "unknown"), 404, "route_not_found")
    wait_until(lambda: any(line.get("route") == "/mcp/{organization_id}/{mcp}" and line.get("code") == "route_not_found"
                           for line in gateway.log()), "the refusal is logged")


@pytest.mark.parametrize("what, status, code, user", [
    ("nobody", 401, "unauthenticated", None), ("not connected", 404, "integration_not_found", "grace"),
    ("not an mcp of the session", 403, "caller_forbidden", "grace"), ("no upstream", 502, "provider_unreachable", "ada")])
def test_a_refusal_is_told_once_and_as_it_is(gateway, agent, what, status, code, user):
    """nginx asks twice, and a worker first says 401 or 403, whatever the refusal is."""
    def counted():
        text = gateway.request("GET", "/metrics", internal=True).text
        return {line.split('status="')[1][:3]: int(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                if line.startswith('integrations_http_requests_total{route="/mcp/{organization_id}/{mcp}",method="POST"')}

    before = counted()
    if what == "nobody":
        answer = gateway.request("POST", "/mcp/acme/gmail", bearer="MARKER-of-nobody", json=CALL)
    elif what == "no upstream":
        answer = call(agent, "closed")
    else:
        grace = gateway.teammate("grace", mcps="gmail" if what == "not connected" else "google_drive")
        answer = call(grace)
    problem(answer, status, code)
    expected = {(status, code, user)}
    if what == "no upstream":  # a second thing to say: the first was that the request may pass
        expected = {(200, None, user), (status, code, None)}
    told = {each: n - before.get(each, 0) for each, n in counted().items() if n != before.get(each, 0)}
    assert told == {str(each): 1 for each, _, _ in expected}

    def lines():
        return [(line["status"], line.get("code"), line.get("user")) for line in gateway.log()
                if line.get("request_id") == answer.headers["X-Request-Id"]]

    wait_until(lambda: len(lines()) >= len(expected), "the log, which is written after the answer")
    assert set(lines()) == expected and len(lines()) == len(expected)


def test_a_teammate_who_tries_other_mcps_is_in_the_audit(gateway, ada):  # pylint: disable=unused-argument
    agent = gateway.teammate(mcps="gmail")
    first = problem(call(agent, "google_drive"), 403, "caller_forbidden")["request_id"]
    second = problem(agent.get("/proxy/acme/google/gmail/v1/x"), 403, "caller_forbidden")["request_id"]

    def refused():
        return [entry for entry in entries(gateway) if entry["event"] == "caller_forbidden"]

    wait_until(lambda: len(refused()) == 2, "both entries, which nothing waited for")
    assert [(each["actor"], each["user"], each["service"], each["outcome"], each["request_id"]) for each in refused()] == \
        [("user:ada", "ada", "google", "mcp", number) for number in (first, second)]


def test_the_agent_of_a_session_is_in_the_audit(gateway, ada):  # pylint: disable=unused-argument
    mates = [gateway.teammate(), gateway.teammate(agent=""), gateway.teammate(agent="helper-1")]
    for mate in mates:
        assert call(mate).status_code == 200
    wait_until(lambda: any(each["actor"] != "user:ada" for each in entries(gateway, use=True)), "the entry, which nothing waited for")
    assert [(each["event"], each["actor"], each["user"]) for each in entries(gateway, use=True)
            if each["actor"] != "user:ada"] == [("token_issued", "agent:helper-1 for user:ada", "ada")]


@pytest.mark.parametrize("agent", ["a helper", "helper\n", "h\0", "a:b", "a" * 65, "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_an_agent_that_is_no_name_has_no_session(gateway, ada, agent):  # pylint: disable=unused-argument
    problem(call(gateway.teammate(agent=agent)), 401, "unauthenticated")


# The command


def test_the_command_makes_such_a_session(gateway, agent):
    done = gateway.command("session", "create", "--user", "ada", "--org", "acme", "--use", "gateway", "--mcps", "gmail")
    token = done.stdout.strip().splitlines()[-1]
    gateway.scanner.record(token, "a session made by the command")
    assert gateway.request("POST", "/mcp/acme/gmail", bearer=token, json=CALL).status_code == 200
    problem(gateway.request("POST", "/mcp/acme/google_drive", bearer=token, json=CALL), 403, "caller_forbidden")
    problem(gateway.request("GET", "/api/me", bearer=token), 401, "unauthenticated")
