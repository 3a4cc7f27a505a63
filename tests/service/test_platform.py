"""The snippets in an nginx that is there already, and serves a platform of its own in the same server."""

import os

import pytest

from harness import Product, good, problem
from processes import wait_until
from upstream import NameServer, Upstream

CODE = "4/0AMARKER-code"
SEARCH = "search-term-MARKER"

CONF = """
daemon off;
pid {run}/nginx.pid;
error_log {run}/nginx-error.log;
{user}
load_module modules/ngx_http_headers_more_filter_module.so;
events {{}}
http {{
	access_log {run}/nginx-platform.log combined;
	client_body_temp_path {run}/nginx-body;
	fastcgi_temp_path {run}/nginx-fastcgi;
	proxy_temp_path {run}/nginx-proxy;
	scgi_temp_path {run}/nginx-scgi;
	uwsgi_temp_path {run}/nginx-uwsgi;
	include snippets/integrations-http.conf;

	server {{
		listen 127.0.0.1:{port};
		include snippets/integrations-server.conf;
		location / {{
			proxy_pass {upstream};
		}}
	}}
	server {{
		listen 127.0.0.1:{internal_port};
		include snippets/integrations-internal.conf;
	}}
}}
"""


class Platform(Product):
    def __init__(self, directory, *settings):
        self.upstream = Upstream()
        self.names = NameServer("localhost")
        super().__init__(directory, api_proxy=True, nginx_conf=self._nginx,
                         nginx_settings=(f"RESOLVER=127.0.0.1:{self.names.port} ipv6=off", *settings))

    def _nginx(self, host):
        return CONF.format(run=host.directory, port=host.port, internal_port=host.internal_port, upstream=self.upstream.address,
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
    problem(product.request("GET", page, headers={"X-A": "x" * 9000}), 431, "request_invalid")
    problem(product.request("GET", f"{page}&x={'x' * 9000}"), 414, "request_invalid")
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
