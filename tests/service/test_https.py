"""Whether a request came over TLS: where nginx ends TLS itself, where a proxy does, and what others say about it."""

import http.client
import json
import os
import ssl
import subprocess

import pytest

from harness import Product
from processes import REPOSITORY, HAProxy, own_certificate

PUBLIC_URL = "https://app.example.com"
ELSEWHERE = "127.0.0.2"  # a client that is not the proxy
PAGES = ["/integrations", "/mcps", "/integrations/google/callback?code=x&state=y", "/integrations-assets/style.css"]
PROGRAMS = ["/api/me", "/api/organizations/acme/integrations", "/mcp/acme/gmail", "/proxy/acme/google/gmail/v1/users/me/profile"]

# One frontend with TLS and one in clear, as a site has them. The third lets through what the client says of itself.
PROXY = """
frontend tls
	bind 127.0.0.1:{ports[0]} ssl crt {certificate}
	http-request set-header X-Forwarded-Proto https
	default_backend nginx
frontend clear
	bind 127.0.0.1:{ports[1]}
	http-request set-header X-Forwarded-Proto http
	default_backend nginx
frontend careless
	bind 127.0.0.1:{ports[2]} ssl crt {certificate}
	default_backend nginx
backend nginx
	option forwardfor
	server nginx 127.0.0.1:{nginx}
"""


class Secure(Product):
    """nginx that listens with TLS and without in one server, and HAProxy before it."""

    def __init__(self, directory, tls, server_conf=""):
        super().__init__(directory, environment={"PUBLIC_URL": PUBLIC_URL}, api_proxy=True,
                         nginx_settings=(f"PUBLIC_URL={PUBLIC_URL}", f"TLS={tls}"))
        self.port = self.hosts[0].port
        self.tls_port, *self.proxy_ports = self._late_ports = [self.ports.find() for _ in range(4)]
        self.certificate = os.path.join(self.directory, "own.pem")
        self._server_conf = (f"listen 127.0.0.1:{self.tls_port} ssl;\nssl_certificate {self.certificate};\n"
                             f"ssl_certificate_key {self.certificate};\n{server_conf}")
        self.proxy = HAProxy(self.directory, self.proxy_ports[0],
                             PROXY.format(ports=self.proxy_ports, certificate=self.certificate, nginx=self.port))

    def start(self):
        own_certificate(self.certificate)
        self.ports.release(*self._late_ports)
        super().start()
        self.proxy.start()
        return self

    def stop(self, check=True):
        self.proxy.stop()
        super().stop(check)

    def ask(self, port, path, *, source="127.0.0.1", method="GET", **headers):
        """(status, where it leads, body) of a request of ada's."""
        if port in (self.tls_port, self.proxy_ports[0], self.proxy_ports[2]):
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, source_address=(source, 0),
                                                     context=ssl._create_unverified_context())  # pylint: disable=protected-access
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(source, 0))
        sent = {"Host": PUBLIC_URL.partition("//")[2], "Authorization": f"Bearer {self.token}",
                **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, headers=sent)
        answer = connection.getresponse()
        body = answer.read().decode("latin-1")
        connection.close()
        return answer.status, answer.headers.get("Location"), body

    def serves(self, port, **more):
        """Pages and the API are served, and the gateway and the API proxy ask who it is."""
        pages = [self.ask(port, path, **more)[0] for path in PAGES]
        programs = [self.ask(port, path, **more)[0] for path in PROGRAMS]
        return (pages, programs) == ([200] * 4, [200, 200, 401, 401])

    def refuses(self, port, **more):
        """Every page leads to PUBLIC_URL; no bearer is looked at."""
        pages = [self.ask(port, path, **more)[:2] for path in PAGES]
        programs = [self.ask(port, path, **more) for path in PROGRAMS]
        return pages == [(308, PUBLIC_URL + path) for path in PAGES] and \
            [(status, json.loads(body)["code"]) for status, _, body in programs] == [(421, "misdirected")] * 4


def secure(directory, *arguments):
    product = Secure(directory, *arguments)
    try:
        product.start()
        product.token = product.session("ada", {"acme": "member"}).token
        yield product
    finally:
        product.stop()


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    yield from secure(tmp_path_factory.mktemp("here"), "here")


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    yield from secure(tmp_path_factory.mktemp("front"), "front", "set_real_ip_from 127.0.0.1;\nreal_ip_header X-Forwarded-For;\n")


# nginx ends TLS


def test_what_comes_in_clear_is_refused(here):
    assert here.serves(here.tls_port)
    assert here.refuses(here.port)
    assert here.ask(here.port, "/api/me", method="POST", Content_Length="20000")[0] == 421
    # Whatever the client says of itself.
    for proto in ("https", "http"):
        assert here.refuses(here.port, X_Forwarded_Proto=proto, X_Forwarded_For="203.0.113.7", Sec_Fetch_Site="none")
        assert here.serves(here.tls_port, X_Forwarded_Proto=proto, X_Forwarded_For="203.0.113.7")


def test_the_address_that_was_asked_for_leads_nowhere(here):
    for port in (here.port, here.tls_port):
        assert here.refuses(port, Host="evil.example", X_Forwarded_Host="evil.example", X_Forwarded_Proto="https")


# A proxy ends TLS


def test_a_proxy_says_what_came_in_clear(front):
    tls, clear, careless = front.proxy_ports
    assert front.serves(tls, source=ELSEWHERE)
    assert front.refuses(clear, source=ELSEWHERE)
    assert front.refuses(clear, source=ELSEWHERE, X_Forwarded_Proto="https", X_Forwarded_For="203.0.113.7")
    # A proxy that lets it through: who says so is sent to PUBLIC_URL, and to no other address.
    assert front.refuses(careless, source=ELSEWHERE, X_Forwarded_Proto="http")
    assert front.refuses(careless, source=ELSEWHERE, X_Forwarded_Proto="http", Host="evil.example")
    for proto in ("https", "http://", "https, http", "http, https", "x http/", "1"):
        assert front.serves(careless, source=ELSEWHERE, X_Forwarded_Proto=proto), proto


def test_the_proxy_alone_is_believed(front):
    forged = {"X_Forwarded_Proto": "http", "X_Forwarded_For": "203.0.113.7"}
    for port in (front.port, front.tls_port):
        assert front.serves(port, source=ELSEWHERE)
        assert front.serves(port, source=ELSEWHERE, **forged)
        # The proxy's own address, without a client behind it: a probe.
        assert front.serves(port, X_Forwarded_Proto="http")


def test_no_redirect_leads_to_itself(front):
    """A proxy behind another says http whatever the browser speaks. The browser's own header is sent over TLS alone."""
    assert front.serves(front.proxy_ports[1], source=ELSEWHERE, Sec_Fetch_Site="none")
    assert front.ask(front.proxy_ports[1], "/integrations", source=ELSEWHERE, Sec_Fetch_Site="none", Host="evil.example")[:2] == \
        (308, f"{PUBLIC_URL}/integrations")


# What nginx/install.sh takes


def install(directory, *settings):
    done = subprocess.run([os.path.join(REPOSITORY, "nginx", "install.sh"), str(directory), *settings], capture_output=True,
                          text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("setting, sent", [([], "max-age=63072000"), (["HSTS=off"], ""),
                                           (["HSTS=max-age=300; includeSubDomains"], "max-age=300; includeSubDomains")])
def test_strict_transport_security(tmp_path, setting, sent):
    assert install(tmp_path, f"PUBLIC_URL={PUBLIC_URL}", *setting) == (0, "")
    with open(tmp_path / "snippets" / "integrations-headers.conf", encoding="utf-8") as file:
        assert f'add_header Strict-Transport-Security "{sent}" always;' in file.read()


@pytest.mark.parametrize("setting, said", [("TLS=there", "TLS must be here or front"), ("HSTS=on", "HSTS must begin with max-age=, or be off"),
                                           ("HSTS=", "HSTS must begin with max-age=, or be off"),
                                           ("PUBLIC_URL=http://localhost:8080", "TLS=here needs a PUBLIC_URL that begins with https")])
def test_settings_that_mean_nothing(tmp_path, setting, said):
    assert install(tmp_path, "TLS=here", f"PUBLIC_URL={PUBLIC_URL}", setting) == (1, f"nginx/install.sh: {said}\n")
