"""What nginx does by itself: pages and their headers, limits per address, logs, the way to the workers."""

import collections
import concurrent.futures
import json
import os
import socket
import stat

import pytest
import requests

from harness import Product, problem
from processes import wait_until

CONTENT_SECURITY_POLICY = {"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
                           "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"}


def nginx_logs(product):
    """The text of all logs of nginx."""
    folder = product.hosts[0].directory
    texts = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("nginx") and name.endswith(".log"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                texts.append(file.read())
    return "".join(texts)


def logged(product, request_id):
    """The line of the access log, once it is written."""
    path = os.path.join(product.hosts[0].directory, "nginx-access.log")

    def line():
        with open(path, encoding="utf-8") as file:
            return next((each for each in file if request_id in each), None)
    return json.loads(wait_until(line, "the access log is written"))


@pytest.mark.parametrize("path, cached", [("/integrations", "no-cache"), ("/mcps", "no-cache"),
                                          ("/integrations/google/callback?code=4/0AMARKER-x&state=s.acme", "no-store")])
def test_pages(product, path, cached):
    answer = product.request("GET", path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert set(answer.headers["Content-Security-Policy"].split("; ")) == CONTENT_SECURITY_POLICY
    assert answer.headers["Cache-Control"] == cached
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert len(answer.headers["X-Request-Id"]) == 32
    assert "Strict-Transport-Security" not in answer.headers, "the address is plain http"
    assert "Set-Cookie" not in answer.headers


def test_strict_transport_security_with_https(make_product):
    product = make_product(nginx_settings=["PUBLIC_URL=https://app.example.com"])
    for path in ("/integrations", "/api/me", "/nothing"):
        answer = product.request("GET", path, headers={"Host": "app.example.com"})
        assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"


def test_assets_have_their_types(product):
    for name, kind in (("common.js", "text/javascript; charset=utf-8"), ("style.css", "text/css; charset=utf-8"),
                       ("icon.svg", "image/svg+xml")):
        answer = product.request("GET", f"/integrations-assets/{name}", headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
        again = product.request("GET", f"/integrations-assets/{name}",
                                headers={"Accept-Encoding": "gzip", "If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304


@pytest.mark.parametrize("path", ["/integrations-assets/", "/integrations-assets/../integrations.html",
                                  "/integrations-assets../integrations.html", "/integrations-assets/..%2fintegrations.html",
                                  "/integrations-assets/%2e%2e/%2e%2e/install.sh", "/integrations.html", "/assets/common.js",
                                  "/integrations-assets/.git", "/integrations-problem/overloaded", "/server.d/test.conf"])
def test_nothing_else_is_served(product, path):
    answer = product.raw(f"GET {path} HTTP/1.1\r\nHost: {product.public_url.split('//')[1]}\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"404", b"400"), answer


def test_the_way_to_the_workers_is_closed_to_others(product):
    mode = os.stat(product.hosts[0].socket).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660


def test_no_log_holds_a_query(product, ada):
    callback = product.request("GET", "/integrations/google/callback?code=4/0AMARKER-in-the-query&state=s.acme")
    ada.auth_link("acme", replace="true")
    ada.auth_link("acme", replace_with="no-account-in-a-log")
    refused = product.request("GET", "/api/nothing?code=4/0AMARKER-in-the-query")
    assert logged(product, callback.headers["X-Request-Id"])["path"] == "/callback.html"
    line = logged(product, refused.headers["X-Request-Id"])
    assert (line["path"], line["status"]) == ("/api/nothing", 404)
    assert "in-the-query" not in nginx_logs(product)
    assert "replace=" not in nginx_logs(product) and "no-account-in-a-log" not in nginx_logs(product)


def test_the_callback_page_is_never_in_the_error_log(make_product):
    """An entry of the error log quotes the request line; here one is provoked, by a page that is not there."""
    product = make_product(nginx_settings=["WWW=/nonexistent"])
    path = "/integrations/google/callback?code=4/0AMARKER-in-the-query"
    problem(product.request("GET", path), 404, "route_not_found")
    problem(product.request("GET", "/integrations-assets/none"), 404, "route_not_found")
    text = wait_until(lambda: "integrations-assets/none" in nginx_logs(product) and nginx_logs(product),
                      "the other failure is in the error log")
    assert "in-the-query" not in text


@pytest.fixture(scope="module")
def addressed(tmp_path_factory):
    """Believes X-Forwarded-For, because this machine's own address has no limits."""
    product = Product(tmp_path_factory.mktemp("addressed"),
                      server_conf="set_real_ip_from 127.0.0.1;\nreal_ip_header X-Forwarded-For;\n")
    product.start()
    yield product
    product.stop()


def test_requests_per_address(addressed):
    product = addressed

    def ask(address):
        return product.request("GET", "/api/me", headers={"X-Forwarded-For": address})

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, ["203.0.113.7"] * 500))
        statuses = collections.Counter(answer.status_code for answer in answers)
        assert set(statuses) == {401, 429} and statuses[401] >= 200, statuses
        refused = next(answer for answer in answers if answer.status_code == 429)
        problem(refused, 429, "rate_limited")
        assert refused.headers["Retry-After"] == "1"
        # Another address is not held back, nor is this machine itself.
        for address in ("203.0.113.8", "127.0.0.1"):
            assert {answer.status_code for answer in pool.map(ask, [address] * 100)} == {401}


def test_a_plain_address_is_served_in_clear(addressed):
    """Its proxy says http, too, and a redirect would lead to itself."""
    for address in ("203.0.113.11", "127.0.0.1"):
        headers = {"X-Forwarded-For": address, "X-Forwarded-Proto": "http"}
        assert addressed.request("GET", "/integrations", headers=headers).status_code == 200
        assert addressed.request("GET", "/api/me", headers=headers).status_code == 401


def test_connections_per_address(addressed):
    """200 whose requests are under way: nginx waits for their bodies."""
    host = addressed.public_url.split("//")[1]

    def begin(address):
        connection = socket.create_connection(("127.0.0.1", addressed.hosts[0].port), 10)
        connection.sendall((f"POST /api/organizations/acme/integrations/google HTTP/1.1\r\nHost: {host}\r\n"
                            f"X-Forwarded-For: {address}\r\nContent-Length: 2\r\n\r\n").encode())
        return connection

    def ask(address):
        return addressed.request("GET", "/api/me", headers={"X-Forwarded-For": address})

    def refused():
        """For its connection. While requests are too many as well, one that is held may have been refused: hold another."""
        answer = ask("203.0.113.9")
        held.append(begin("203.0.113.9"))
        lines = [line for line in nginx_logs(addressed).splitlines() if "limiting connections" in line]
        return answer.status_code == 429 and any("GET /api/me" in line for line in lines) and [answer]

    held = [begin("203.0.113.9") for _ in range(200)]
    problem(wait_until(refused, "the 201st is refused")[0], 429, "rate_limited")
    assert ask("203.0.113.10").status_code == 401
    for each in held:
        each.close()
    wait_until(lambda: ask("203.0.113.9").status_code == 401, "there is room again")


def test_a_write_is_never_sent_twice(make_product):
    """All workers die with the request in them: nginx answers 503 and does not try the next."""
    product = make_product()
    ada = product.session("ada", {"acme": "admin"})
    ada.connect("acme")
    held = product.stand_in.fault("userinfo", "hold")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ada.validate, "acme")
        product.stand_in.wait_fired(held)
        for worker in product.hosts[0].workers():
            os.kill(worker, 9)
        problem(answer.result(), 503, "overloaded")
    product.stand_in.release()
    assert product.stand_in.counters()["userinfo"] == 0, "the held call was the only one"
    wait_until(lambda: ada.integrations("acme").status_code == 200, "the workers are replaced")


def test_connections_are_kept(product):
    with requests.Session() as session:
        session.trust_env = False
        host = {"Host": product.public_url.split("//")[1]}
        answers = [session.get(f"http://127.0.0.1:{product.hosts[0].port}/api/me", headers=host, timeout=10) for _ in range(3)]
    assert [answer.headers["Connection"] for answer in answers] == ["keep-alive"] * 3
