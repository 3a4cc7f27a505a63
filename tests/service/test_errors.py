"""The error table: each code that the routes for users can answer is provoked once through nginx, in its exact form."""

import http.client
import itertools
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from checks import key
from harness import problem

MEMBERS = ["type", "title", "status", "detail", "code", "request_id"]
BASE = "/api/organizations/acme/integrations/google"


def exact(answer, status, code, *more):
    """The whole form of RFC 9457, with no member but those of the contract and `more`."""
    body = problem(answer, status, code)
    assert list(body) == [*MEMBERS, *more]
    assert all(isinstance(body[name], str) for name in MEMBERS if name != "status")
    assert re.fullmatch(r"[0-9a-f]{32}", body["request_id"])
    assert body["detail"].endswith(".") and "\n" not in body["detail"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for name, where in (("WWW-Authenticate", "unauthenticated"), ("Allow", "method_not_allowed")):
        assert (name in answer.headers) == (code == where)
    assert ("Retry-After" in answer.headers) == (code in ("rate_limited", "overloaded", "store_unavailable"))
    return body


def unauthenticated(product, ada):
    answer = product.request("GET", "/api/me")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    return answer


def ambiguous_credentials(product, ada):
    return product.request("GET", "/api/me", bearer=ada.token, cookie=ada.token)


def organization_forbidden(product, ada):
    return ada.integrations("initech")


def cross_origin(product, ada):
    return ada.validate("acme", headers={"Origin": "http://evil.example"})


def misdirected(product, ada):
    return ada.get("/api/me", headers={"Host": "evil.example"})


def route_not_found(product, ada):
    return ada.get("/api/nothing")


def service_not_found(product, ada):
    return ada.validate("acme", service="github")


def integration_not_found(product, ada):
    return ada.validate("acme")


def method_not_allowed(product, ada):
    answer = ada.request("PUT", BASE)
    assert answer.headers["Allow"] == "POST, DELETE"
    return answer


def body_invalid(product, ada):
    return ada.callback("acme", {})


def body_too_large(product, ada):
    return ada.callback("acme", {"code": "4/0AMARKER", "state": "x" * 17_000})


def content_type_unsupported(product, ada):
    return ada.post(BASE + "/callback", data="{}", headers={"Content-Type": "text/plain"})


def request_invalid(product, ada):
    return ada.get("/api/me", headers={"X-Long": "x" * 9000})


def state_invalid(product, ada):
    return ada.callback("acme", {"code": "4/0AMARKER", "state": "A" * 43 + ".acme"})


def issuer_mismatch(product, ada):
    return ada.callback("acme", {**ada.authorize("acme"), "iss": "https://evil.example"})


def consent_declined(product, ada):
    return ada.try_connect("acme", grant="deny")


def authorization_failed(product, ada):
    product.stand_in.fault("authorize", "callback", error="interaction_required")
    return ada.try_connect("acme")


def code_rejected(product, ada):
    return ada.callback("acme", {**ada.authorize("acme"), "code": "4/0AMARKER-invented"})


def identity_invalid(product, ada):
    product.stand_in.fault("exchange", "id_token", sign="bad")
    return ada.try_connect("acme")


def scopes_missing(product, ada):
    return ada.try_connect("acme", grant="none")


def offline_access_missing(product, ada):
    product.stand_in.fault("exchange", "answer", omit=["refresh_token"])
    return ada.try_connect("acme")


def account_mismatch(product, ada):
    ada.connect("acme", account="ada")
    return ada.try_connect("acme", account="grace")


def provider_misconfigured(product, ada):
    product.stand_in.fault("exchange", "error", error="invalid_client", status=401)
    return ada.try_connect("acme")


def provider_unreachable(product, ada):
    product.stand_in.fault("exchange", "html")
    return ada.try_connect("acme")


def rate_limited(product, ada):
    product.redis.set("integrations:limit:validate:{acme:ada}", 20, ex=7)
    answer = ada.validate("acme")
    assert 1 <= int(answer.headers["Retry-After"]) <= 7
    return answer


def internal_error(product, ada):
    """A stored record that is far too long as JSON: each of these is six characters there."""
    ada.connect("acme")
    product.redis.hset(key("integration", "ada"), "scopes", "\x01" * 50_000)
    return ada.integrations("acme")


PROVOKED = {
    401: [unauthenticated], 403: [organization_forbidden, cross_origin], 421: [misdirected], 405: [method_not_allowed],
    404: [route_not_found, service_not_found, integration_not_found], 413: [body_too_large], 415: [content_type_unsupported],
    431: [request_invalid], 422: [scopes_missing], 409: [offline_access_missing, account_mismatch], 429: [rate_limited],
    400: [ambiguous_credentials, body_invalid, state_invalid, issuer_mismatch, consent_declined, authorization_failed,
          code_rejected],
    502: [identity_invalid, provider_misconfigured, provider_unreachable], 500: [internal_error],
}
CASES = [(status, provoke) for status, several in PROVOKED.items() for provoke in several]


@pytest.mark.parametrize("status, provoke", CASES, ids=[provoke.__name__ for _, provoke in CASES])
def test_each_code(product, ada, status, provoke):
    answer = provoke(product, ada)
    more = ("stored_account", "chosen_account", "stored", "offered") if provoke is account_mismatch else ()
    exact(answer, status, provoke.__name__, *more)


def test_without_workers_and_without_redis(make_product):
    """overloaded and store_unavailable; when the part is back, the next request works."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})
    product.redis_server.stop()
    exact(ada.integrations("acme"), 503, "store_unavailable")
    product.redis_server.start()
    assert ada.list("acme") == []
    workers = product.hosts[0].workers()
    product.serve.kill()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    for method, path in (("GET", "/api/me"), ("GET", BASE + "/auth_link"), ("POST", BASE), ("DELETE", BASE)):
        body = exact(ada.request(method, path), 503, "overloaded")
        assert "Retry-After" in body["detail"]
    product.serve.start()
    product.hosts[0].wait_ready()
    assert ada.list("acme") == []


def test_every_code_of_the_service_is_known_here():
    """A new code in fcgi/api_error.c needs a test: here, or in the tests of the routes for programs."""
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "fcgi", "api_error.c"), encoding="utf-8") as file:
        codes = set(re.findall(r'^    "([a-z_]+)",$', file.read(), re.MULTILINE))
    here = {provoke.__name__ for _, provoke in CASES} | {"overloaded", "store_unavailable"}
    assert codes - here <= {"caller_forbidden", "reconnect_required", "provider_refused_token"}
    assert here <= codes


# The order of refusals


def refusals():
    """What can be wrong with one request, in the order in which it is refused. Each changes the request."""
    def wrong(name, value):
        return lambda request: {**request, name: value}
    return [
        (421, "misdirected", wrong("host", "evil.example")),
        (404, "route_not_found", wrong("path", "/api/organizations/{organization}/integrations/{service}/callbacks")),
        (405, "method_not_allowed", wrong("method", "PUT")),
        (400, "ambiguous_credentials", wrong("bearer", "Bearer x")),
        (401, "unauthenticated", wrong("cookie", "session=unknown")),
        (403, "organization_forbidden", wrong("organization", "initech")),
        (403, "cross_origin", wrong("origin", "http://evil.example")),
        (404, "service_not_found", wrong("service", "github")),
        (415, "content_type_unsupported", wrong("content_type", "text/plain")),
        (413, "body_too_large", wrong("body", b"{" + b" " * 17_000)),
        (400, "body_invalid", wrong("body", b"{")),
        (400, "state_invalid", wrong("body", b'{"code":"c","state":"unknown"}')),
    ]


def test_the_order_of_refusals(product, ada):
    """Of two, three or all things that are wrong with a request, the first in the order is answered."""
    fine = {"method": "POST", "path": "/api/organizations/{organization}/integrations/{service}/callback",
            "organization": "acme", "service": "google", "host": product.public_url[7:], "bearer": None,
            "cookie": f"session={ada.token}", "origin": product.public_url, "content_type": "application/json",
            "body": b'{"error":"access_denied"}'}
    connection = http.client.HTTPConnection("127.0.0.1", product.hosts[0].port, timeout=10)

    def ask(request):
        headers = {"Host": request["host"], "Cookie": request["cookie"], "Origin": request["origin"],
                   "Content-Type": request["content_type"]}
        if request["bearer"]:
            headers["Authorization"] = request["bearer"]
        path = request["path"].format(organization=request["organization"], service=request["service"])
        connection.request(request["method"], path, request["body"], headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["code"]

    assert ask(fine) == (400, "consent_declined")
    ordered = refusals()
    combinations = [each for size in (1, 2, 3) for each in itertools.combinations(range(len(ordered)), size)]
    for combination in [*combinations, range(len(ordered))]:
        request = fine
        for place in reversed(combination):  # of two wrong bodies, the one that is refused first is sent
            request = ordered[place][2](request)
        first = min(combination)
        assert ask(request) == ordered[first][:2], [ordered[place][1] for place in combination]
    connection.close()


# Bodies


GOOD_STATE = "A" * 43 + ".acme"
BODIES = {
    "nothing": b"", "no JSON": b"code=x&state=y", "half": b'{"code":"x"', "two": b"{}{}", "a list": b"[]", "a text": b'"x"',
    "null": b"null", "a number": b"1", "an empty object": b"{}", "a code alone": {"code": "c"}, "a state alone": {"state": GOOD_STATE},
    "an iss alone": {"iss": "https://accounts.google.com"}, "code and error": {"code": "c", "state": GOOD_STATE, "error": "access_denied"},
    "a code of a number": {"code": 1, "state": GOOD_STATE}, "a code of null": {"code": None, "state": GOOD_STATE},
    "an empty code": {"code": "", "state": GOOD_STATE}, "a code of 2,049 bytes": {"code": "c" * 2049, "state": GOOD_STATE},
    "a code in a list": {"code": ["c"], "state": GOOD_STATE}, "a state of a number": {"code": "c", "state": 1},
    "a state of null": {"code": "c", "state": None}, "a state in an object": {"code": "c", "state": {}},
    "an error of a number": {"error": 1}, "an error of null": {"error": None}, "an error of true": {"error": True},
    "an iss of a number": {"code": "c", "state": GOOD_STATE, "iss": 1}, "an iss of null": {"code": "c", "state": GOOD_STATE, "iss": None},
    "a code twice": b'{"code":"a","state":"b","code":"c"}', "a code twice, once escaped": b'{"code":"a","state":"b","c\\u006fde":"c"}',
    "another member twice": b'{"x":1,"x":2,"code":"a","state":"b"}', "too deep": b'{"x":' + b"[" * 200 + b"]" * 200 + b"}",
    "no UTF-8": b'{"code":"\xff","state":"b"}', "half a surrogate": b'{"code":"\\ud800","state":"b"}', "a NUL": b'{"code":"a\\u0000b","state":"b"}',
    "a raw NUL": b'{"code":"a\0b","state":"b"}', "a byte order mark": b'\xef\xbb\xbf{"error":"access_denied"}',
    "NaN": b'{"error":"access_denied","x":NaN}', "a comment": b'{"error":"access_denied"/**/}',
    "a comma at the end": b'{"error":"access_denied",}',
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies(product, ada, case):
    body = BODIES[case]
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = ada.post(BASE + "/callback", data=body, headers={"Content-Type": "application/json"})
    exact(answer, 400, "body_invalid")
    assert product.stand_in.counters()["exchanges"] == 0


def test_other_members_are_ignored(ada):
    document = {"error": "access_denied", "error_description": "<script>", "scope": ["x"], "authuser": 0, "more": {"a": [None]}}
    exact(ada.callback("acme", document), 400, "consent_declined")


def test_content_types(ada):
    body = b'{"error":"access_denied"}'
    for content_type in ("application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;charset=UTF-8"):
        exact(ada.post(BASE + "/callback", data=body, headers={"Content-Type": content_type}), 400, "consent_declined")
    for content_type in (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
                         "application/json+x", "json", "text/json", "application/ld+json", "text/plain; application/json"):
        for path in (BASE + "/callback", BASE):
            exact(ada.post(path, data=body, headers={"Content-Type": content_type}), 415, "content_type_unsupported")


def test_sizes(ada):
    def padded(size):
        body = b'{"error":"access_denied","x":"' + b"x" * (size - 32) + b'"}'
        assert len(body) == size
        return body

    def send(body, **more):
        return ada.post(BASE + "/callback", data=body, headers={"Content-Type": "application/json", **more})

    exact(send(padded(16_384)), 400, "consent_declined")
    exact(send(padded(16_385)), 413, "body_too_large")
    exact(send(iter([padded(9000)])), 400, "consent_declined")
    # More of the body comes before the refusal, or after it.
    for _ in range(100):
        exact(send(iter([padded(9000), padded(9000)])), 413, "body_too_large")
        exact(send(iter([padded(900)] * 30)), 413, "body_too_large")
    exact(ada.validate("acme", data=b" " * 20_000, headers={"Content-Type": "application/json"}), 413, "body_too_large")


# What nginx refuses by itself


def raw(product, text, host=True):
    """A request as it is; status and parsed body."""
    head = f"Host: {product.public_url[7:]}\r\n" if host else ""
    data = product.raw(text.replace("HOST\r\n", head).encode("latin-1"))
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode(), body


MALFORMED = {
    "no host": (400, "GET /api/me HTTP/1.1\r\nConnection: close\r\n\r\n"),
    "a second host": (400, "GET /api/me HTTP/1.1\r\nHOST\r\nHost: x\r\n\r\n"),
    "a method in small letters": (400, "get /api/me HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a NUL in the path": (400, "GET /api/%00 HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a raw NUL in the path": (400, "GET /api/\0 HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "half an escape in the path": (400, "GET /api/%4 HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a path above the root": (400, "GET /../api/me HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a NUL in a header": (400, "GET /api/me HTTP/1.1\r\nHOST\r\nX-A: a\0b\r\nConnection: close\r\n\r\n"),
    "a length that is none": (400, "POST /api/me HTTP/1.1\r\nHOST\r\nContent-Length: -1\r\nConnection: close\r\n\r\n"),
    "two lengths": (400, "POST /api/me HTTP/1.1\r\nHOST\r\nContent-Length: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nx"),
    "a length and chunks": (400, "POST /api/me HTTP/1.1\r\nHOST\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks that are none": (400, f"POST {BASE} HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n"),
    "another coding": (400, "POST /api/me HTTP/1.1\r\nHOST\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n"),
    "another version": (400, "GET /api/me HTTP/3.0\r\nHOST\r\nConnection: close\r\n\r\n"),
    "no version": (400, "GET /api/me HTTP\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a method that nginx does not take": (405, "TRACE /api/me HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a tunnel": (400, "CONNECT localhost:443 HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a line of 9,000 bytes": (414, f"GET /api/{'x' * 9000} HTTP/1.1\r\nHOST\r\nConnection: close\r\n\r\n"),
    "a header of 9,000 bytes": (431, f"GET /api/me HTTP/1.1\r\nHOST\r\nX-A: {'x' * 9000}\r\nConnection: close\r\n\r\n"),
    "headers of 40,000 bytes": (431, "GET /api/me HTTP/1.1\r\nHOST\r\n" + f"X-A: {'x' * 4000}\r\n" * 10 + "Connection: close\r\n\r\n"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_nginx_refuses_in_the_same_form(product, case):
    status, text = MALFORMED[case]
    head, body = raw(product, text)
    assert head.startswith(f"HTTP/1.1 {status} "), head
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head.split("\r\n")[1:])}
    code = "method_not_allowed" if status == 405 else "request_invalid"
    document = json.loads(body)
    assert list(document) == MEMBERS
    assert (document["status"], document["code"], document["type"]) == (status, code, f"urn:integrations:{code}")
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"] == document["request_id"]
    assert headers["server"] == "nginx"
    if status == 405:
        assert headers["allow"]


def test_what_a_worker_finds_malformed(ada):
    """No UTF-8 in a header or in the path; what nginx lets pass."""
    exact(ada.get("/api/me", headers={"Origin": b"http://\xff"}), 400, "request_invalid")
    exact(ada.get("/api/organizations/\xff/integrations".encode("latin-1").decode("latin-1")), 403, "organization_forbidden")


@pytest.fixture(scope="module", autouse=True)
def slow_clients(shared_product):
    """Begin at once, so that the others' time is theirs, too: {what is slow: seconds until nginx hung up}."""
    ended, threads = {}, []

    def run(name, data):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", shared_product.hosts[0].port), 30) as connection:
            connection.sendall(data)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
        ended[name] = time.monotonic() - began

    host = f"Host: {shared_product.public_url[7:]}\r\n"
    for name, text in (("line", "GET /api/"), ("header", f"GET /api/me HTTP/1.1\r\n{host}X-Slow: "),
                       ("body", f"POST {BASE} HTTP/1.1\r\n{host}Content-Length: 10\r\nContent-Type: application/json\r\n\r\n{{")):
        threads.append(threading.Thread(target=run, args=(name, text.encode()), daemon=True))
        threads[-1].start()
    return ended, threads


def test_slow_clients_are_let_go(slow_clients):
    """nginx closes them: a header has 5 s, a body 10 s."""
    ended, threads = slow_clients
    for thread in threads:
        thread.join(20)
    assert set(ended) == {"line", "header", "body"}
    assert ended["line"] < 8 and ended["header"] < 8 and ended["body"] < 14, ended
