"""The snippets in an nginx that is there already, and serves a platform of its own in the same server."""

import concurrent.futures
import contextlib
import os
import socket
import ssl

import pytest

from harness import Product, good, problem
from processes import own_certificate, wait_until
from upstream import NameServer, Upstream

CODE = "4/0AMARKER-code"
SEARCH = "search-term-MARKER"

CONF = """
daemon off;
pid {run}/nginx.pid;
error_log {run}/nginx-error.log;
{user}
load_module modules/ngx_http_headers_more_filter_module.so;
load_module modules/ndk_http_module.so;
load_module modules/ngx_http_lua_module.so;
events {{}}
http {{
	access_log {run}/nginx-platform.log combined;
	client_body_temp_path {run}/nginx-body;
	fastcgi_temp_path {run}/nginx-fastcgi;
	proxy_temp_path {run}/nginx-proxy;
	scgi_temp_path {run}/nginx-scgi;
	uwsgi_temp_path {run}/nginx-uwsgi;
	fastcgi_cache_path {run}/cache keys_zone=platform:1m;
	include snippets/integrations-http.conf;

	server {{
		listen 127.0.0.1:{port};
		listen 127.0.0.1:{tls_port} ssl;
		{own}
		include snippets/integrations-server.conf;
	}}
	server {{
		listen 127.0.0.1:{internal_port};
		{own}
		include snippets/integrations-internal.conf;
	}}
	# The platform as it was before.
	server {{
		listen 127.0.0.1:{bare_port};
		listen 127.0.0.1:{bare_tls_port} ssl;
		{own}
	}}
}}
"""

OWN = """
set_real_ip_from 127.0.0.1;
real_ip_header X-Forwarded-For;
fastcgi_cache platform;
fastcgi_cache_key $request_method$request_uri;
fastcgi_cache_valid any 1m;
client_max_body_size 2m;
client_header_buffer_size 4k;
large_client_header_buffers 4 16k;
client_body_timeout 60s;
send_timeout 60s;
ssl_certificate RUN/platform.pem;
ssl_certificate_key RUN/platform.pem;
ssl_client_certificate RUN/platform.pem;
ssl_verify_client on;
recursive_error_pages on;
error_page 404 /missing;
location = /missing { internal; return 404 "missing here"; }
location / { proxy_pass UPSTREAM; }
location /intercepted/ { proxy_intercept_errors on; proxy_pass UPSTREAM; }
location /own-page/ { error_page 404 503 =200 /sorry; proxy_intercept_errors on; proxy_pass UPSTREAM; }
location = /sorry { internal; return 200 "sorry"; }
location ~* \\.(js|css|svg)$ { return 404; }
location ~ ^/(healthz|readyz|metrics|integrations|mcps)$ { return 404; }
location ~ callback { return 404; }
location ~ /(api|mcp|proxy|internal)/ { return 404; }
location /files/ { root /nonexistent; }
location = /redirect { return 302 http://there.example/; }
location = /empty { empty_gif; }
location = /400 { return 400; }
location = /403 { return 403; }
location = /405 { return 405; }
location = /429 { return 429; }
location = /500 { return 500; }
location = /501 { return 501; }
location = /503 { return 503; }
"""


class Platform(Product):
    def __init__(self, directory, *settings):
        self.upstream = Upstream()
        self.names = NameServer("localhost")
        self.bare_port = self.tls_port = self.bare_tls_port = None
        super().__init__(directory, api_proxy=True, nginx_conf=self._nginx,
                         nginx_settings=(f"RESOLVER=127.0.0.1:{self.names.port} ipv6=off", *settings))

    def _nginx(self, host):
        self.bare_port, self.tls_port, self.bare_tls_port = ports = [self.ports.find() for _ in range(3)]
        self.ports.release(*ports)
        certificate = os.path.join(host.directory, "platform.pem")
        own_certificate(certificate, "platform")
        return CONF.format(run=host.directory, port=host.port, internal_port=host.internal_port, bare_port=self.bare_port,
                           tls_port=self.tls_port, bare_tls_port=self.bare_tls_port,
                           own=OWN.replace("UPSTREAM", self.upstream.address).replace("RUN", host.directory),
                           user="user root;" if os.getuid() == 0 else "")

    def stop(self, check=True):
        super().stop(check)
        self.upstream.stop()
        self.names.stop()

    def logged(self, name):
        with open(os.path.join(self.hosts[0].directory, name), encoding="utf-8") as file:
            return file.read()


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory):
    product = Platform(tmp_path_factory.mktemp("platform"))
    product.start()
    yield product
    product.stop()


@pytest.fixture
def platform(shared_platform):
    shared_platform.forget()
    shared_platform.upstream.reset()
    yield shared_platform
    shared_platform.scan(whole=False)


def ask_with_secrets(product):
    """Everything that may come with a secret in its query, answered or refused; the last of the request ids."""
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    teammate = product.session("ada", {"acme": "member"}, via="bearer", use="gateway", mcps="gmail google_calendar google_drive")
    page = f"/integrations/google/callback?code={CODE}&state=s.acme"
    assert product.request("GET", page).status_code == 200
    assert product.request("GET", page, headers={"Host": "elsewhere.example"}, may_hold_token=True).status_code == 308
    problem(product.request("POST", page), 405, "method_not_allowed")
    problem(product.request("GET", page.replace("google", "Google")), 404, "route_not_found")
    problem(product.request("GET", page, headers={"X-A": "x" * 17_000}), 431, "request_invalid")
    problem(product.request("GET", f"{page}&x={'x' * 17_000}"), 414, "request_invalid")
    problem(ada.get(page.replace("/integrations/", "/api/")), 404, "route_not_found")
    search = f"/proxy/acme/google/gmail/v1/users/me/messages?q={SEARCH}"
    good(teammate.get(search))
    problem(product.request("GET", search), 401, "unauthenticated")
    problem(teammate.delete(search), 405, "method_not_allowed")
    return problem(teammate.get(f"/mcp/acme/none?q={SEARCH}"), 404, "route_not_found")["request_id"]


def test_no_log_of_the_server_around_has_a_secret(platform):
    last = ask_with_secrets(platform)
    assert platform.request("GET", "/its-own?x=seen").status_code == 200
    wait_until(lambda: last in platform.logged("nginx-access.log"), "our log is written")
    assert '"path":"/api/google/callback"' in platform.logged("nginx-access.log")
    theirs = platform.logged("nginx-platform.log")
    assert "GET /its-own?x=seen" in theirs
    for text in (theirs, platform.logged("nginx-access.log"), platform.logged("nginx-error.log")):
        assert "code=" not in text and "MARKER" not in text and "s.acme" not in text and "q=" not in text


def test_no_log_at_all(tmp_path):
    product = Platform(tmp_path, "ACCESS_LOG=off")
    try:
        product.start()
        ask_with_secrets(product)
        assert product.request("GET", "/its-own").status_code == 200
        lines = product.logged("nginx-platform.log").splitlines()
        assert [line.split('"')[1] for line in lines] == ["GET /its-own HTTP/1.1"]
        assert not os.path.exists(os.path.join(product.hosts[0].directory, "nginx-access.log"))
    finally:
        product.stop()


def test_no_cache_of_the_server_around_has_an_answer(platform):
    """Two members ask for the same address: each gets their own answer, or their own refusal."""
    ada, grace = (platform.session(user, {"acme": "member"}) for user in ("ada", "grace"))
    ada.connect("acme")
    for each in (ada, grace, ada):
        assert good(each.get("/api/me"))["user_id"] == each.user
    mcps = {"via": "bearer", "use": "gateway", "mcps": "gmail google_calendar google_drive"}
    teammate, other = (platform.session(user, {"acme": "member"}, **mcps) for user in ("ada", "grace"))
    path = "/proxy/acme/google/gmail/v1/users/me/messages"
    good(teammate.get(path))
    problem(other.get(path), 404, "integration_not_found")


# What is the platform's stays as it was


def ask(port, data, tls=False):
    """The answer without its time."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = stack.enter_context(context.wrap_socket(connection))
        connection.sendall(data)
        whole = b""
        while chunk := connection.recv(65536):
            whole += chunk
    return [line for line in whole.split(b"\r\n") if not line.startswith(b"Date: ")]


def request(path, method="GET", headers="", body=b"", version="1.1"):
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/{version}\r\nHost: platform\r\n{headers}{length}Connection: close\r\n\r\n".encode("latin-1") + body


THEIRS = {
    **{f"its own {path}": request(path) for path in ("/", "/redirect", "/empty", "/400", "/403", "/405", "/429", "/500", "/501",
                                                    "/503", "/files/none", "/files/", "/missing", "/integration")},
    "a method for a file": request("/empty", "POST", body=b"x"),
    "an upload of 20 KB": request("/upload", "POST", body=b"x" * 20_000),
    "an upload of 1 MB": request("/upload", "PUT", body=b"x" * 1_000_000),
    "an upload that is too large": request("/upload", "POST", "Content-Length: 2097153\r\n"),
    "a header of 12,000 bytes": request("/", headers=f"X-A: {'x' * 12_000}\r\n"),
    "a header that is too long": request("/", headers=f"X-A: {'x' * 17_000}\r\n"),
    "a NUL in a header": request("/", headers="X-A: a\0b\r\n"),
    "TRACE": request("/", "TRACE"),
    "another coding": request("/", "POST", "Transfer-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("case", THEIRS)
def test_a_request_for_the_platform(platform, case):
    host = platform.hosts[0]
    platform.upstream.says(200, body=b"the platform's own")
    expected = ask(platform.bare_port, THEIRS[case])
    for port in (host.port, host.internal_port):
        assert ask(port, THEIRS[case]) == expected
    bodies = [seen.body for seen in platform.upstream.seen]
    assert len(bodies) in (0, 3) and len(set(bodies)) <= 1, "each upload arrives whole"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 414, 429, 500, 501, 502, 503, 504])
@pytest.mark.parametrize("path", ["/", "/own-page/x"])
def test_an_answer_of_the_platform(platform, path, status):
    host = platform.hosts[0]
    platform.upstream.says(status, ["X-Theirs: yes"], body=b"the platform's own")
    expected = ask(platform.bare_port, request(path))
    for port in (host.port, host.internal_port):
        assert ask(port, request(path)) == expected


def test_an_answer_that_the_platform_intercepts(platform):
    """But for what the server itself is given: nobody can tell an upstream's 400 from a request that nginx refuses."""
    host = platform.hosts[0]
    for status in (401, 403, 404, 408, 413, 429, 500, 502, 503, 504):
        platform.upstream.says(status, body=b"the platform's own")
        expected = ask(platform.bare_port, request("/intercepted/x"))
        for port in (host.port, host.internal_port):
            assert ask(port, request("/intercepted/x")) == expected


def test_the_platform_has_no_limits_of_ours(platform):
    platform.upstream.says(200)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda _: ask(platform.hosts[0].port, request("/", headers="X-Forwarded-For: 203.0.113.7\r\n"))[0], range(400))
        assert set(answers) == {b"HTTP/1.1 200 Whatever"}


@pytest.mark.parametrize("tls", [False, True], ids=["plain text to the TLS port", "no client certificate"])
def test_what_tls_does_not_take(platform, tls):
    assert ask(platform.tls_port, request("/"), tls) == ask(platform.bare_tls_port, request("/"), tls)
    lines = ask(platform.tls_port, request("/api/me"), tls)
    assert lines[0] == b"HTTP/1.1 400 Bad Request" and b"Content-Type: application/problem+json" in lines


OURS = {
    "a NUL in a header": (400, request("/api/me", headers="X-A: a\0b\r\n")),
    "a header that is too long": (431, request("/api/me", headers=f"X-A: {'x' * 17_000}\r\n")),
    "no path yet": (400, request("/api/%00")),
    "TRACE": (405, request("/mcp/acme/gmail", "TRACE")),
    "another coding": (400, request("/proxy/acme/google/x", "POST", "Transfer-Encoding: gzip\r\n")),
    "/api": (404, request("/api")),
    "/api/nothing": (404, request("/api/nothing")),
    "another host": (421, request("/api/me")),
    "a page that is posted": (405, request("/mcps", "POST", body=b"x" * 3_000_000)),
    "a file that is not there": (404, request("/integrations-assets/none")),
}


@pytest.mark.parametrize("case", OURS)
def test_what_is_ours_has_our_form(platform, case):
    status, data = OURS[case]
    if status in (404, 405):
        data = data.replace(b"Host: platform", f"Host: {platform.public_url[7:]}".encode())
    lines = ask(platform.hosts[0].port, data)
    assert lines[0].startswith(f"HTTP/1.1 {status} ".encode()), lines
    assert b"Content-Type: application/problem+json" in lines and b"Server: nginx" in lines


def test_no_pattern_of_the_platform_takes_a_path_of_ours(platform):
    """It has some that would fit."""
    for path in ("/none.js", "/callback", "/x/api/y"):
        assert platform.request("GET", path).text == "missing here"
    for path in ("/integrations", "/mcps", "/integrations/google/callback", "/integrations-assets/style.css",
                 "/integrations-assets/common.js", "/integrations-assets/icon.svg"):
        answer = platform.request("GET", path)
        assert answer.status_code == 200 and answer.headers["X-Content-Type-Options"] == "nosniff", path
    ada = platform.session("ada", {"acme": "member"})
    ada.connect("acme")
    problem(platform.request("GET", "/mcp/acme/gmail"), 401, "unauthenticated")
    problem(platform.request("GET", "/proxy/acme/google/gmail/v1/a.js"), 401, "unauthenticated")
    token = "/internal/organizations/acme/users/ada/integrations/google/token"
    problem(platform.request("POST", token, internal=True, bearer="x", json={}), 401, "unauthenticated")
    problem(platform.request("GET", "/internal", internal=True), 404, "route_not_found")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert platform.request("GET", path, internal=True).status_code == 200


def test_a_body_that_is_too_long_for_us(platform):
    ada = platform.session("ada", {"acme": "member"})
    too_long = {"data": b" " * 20_000, "headers": {"Content-Type": "application/json"}}
    problem(ada.validate("acme", **too_long), 413, "body_too_large")
    problem(platform.request("POST", "/internal/organizations/acme/users/ada/integrations/google/token", internal=True,
                             bearer="x", **too_long), 401, "unauthenticated")
