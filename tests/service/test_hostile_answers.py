"""A hostile upstream against members of several organizations who share connections: each gets their own answers alone.

`make hostile` plays all of it; else a share that HOSTILE_SEED repeats.
"""

import os
import secrets

import pytest

from hostile import HOSTILE, good, play
from hostile_clients import MARKER, Plan, Way
from hostile_clients import play as ask
from processes import HAProxy, own_certificate
from test_gateway import TIMEOUT, Gateway

WHOLE = os.environ.get("HOSTILE") == "whole"
SEED = os.environ.get("HOSTILE_SEED") or secrets.token_hex(4)
SILENT = {"mcp": TIMEOUT, "proxy": 30}  # seconds that nginx waits for a silent upstream, by door
TEAMS = {"ada": "acme", "bob": "globex", "cyd": "initech"}

# As it comes, HAProxy keeps connections to nginx and reuses them for the next client.
HAPROXY = """
frontend plain
	bind 127.0.0.1:{ports[0]}
	default_backend nginx
frontend http2
	bind 127.0.0.1:{ports[1]} ssl crt {certificate} alpn h2
	default_backend nginx
frontend http2_all_the_way
	bind 127.0.0.1:{ports[2]} ssl crt {certificate} alpn h2
	default_backend nginx_http2
backend nginx
	http-request set-header Host {host}
	server nginx 127.0.0.1:{plain}
backend nginx_http2
	http-request set-header Host {host}
	server nginx 127.0.0.1:{tls} ssl verify none alpn h2
"""


class Pooled(Gateway):
    """The gateway over HTTP/1.1 and HTTP/2, by itself and behind HAProxy."""

    def __init__(self, directory):
        super().__init__(directory)
        self.host = self.public_url.partition("//")[2]
        self.certificate = os.path.join(self.directory, "own.pem")
        self.tls_port = self.ports.find()
        self.haproxy_ports = [self.ports.find() for _ in range(3)]
        self._server_conf = (f"listen 127.0.0.1:{self.tls_port} ssl http2;\nssl_certificate {self.certificate};\n"
                             f"ssl_certificate_key {self.certificate};\n")
        self.haproxy = HAProxy(self.directory, self.haproxy_ports[0], HAPROXY.format(
            host=self.host, ports=self.haproxy_ports, certificate=self.certificate, plain=self.hosts[0].port, tls=self.tls_port))
        there = f"https://127.0.0.1:{self.tls_port}", *(f"https://127.0.0.1:{port}" for port in self.haproxy_ports[1:])
        plain = f"http://{self.host}", f"http://localhost:{self.haproxy_ports[0]}"
        self.ways = [Way("fetch", "fetch", plain[0]), Way("fetch, haproxy", "fetch", plain[1]),
                     Way("http2", "http2", there[0]), Way("http2, haproxy", "http2", there[1]),
                     Way("http2, haproxy with http2", "http2", there[2]),
                     Way("pipeline", "pipeline", plain[0]), Way("pipeline, haproxy", "pipeline", plain[1])]

    def start(self):
        own_certificate(self.certificate)
        self.ports.release(self.tls_port, *self.haproxy_ports)
        super().start()
        self.haproxy.start()
        return self

    def stop(self, check=True):
        self.haproxy.stop()
        super().stop(check)

    def member(self, user, organization):
        person = self.session(user, {organization: "member"})
        person.connect(organization)
        person.connect(organization, service="rest")
        agent = self.teammate(user, (organization,))
        agent.organization = organization
        return agent


@pytest.fixture
def pooled(tmp_path):
    product = Pooled(tmp_path)
    try:
        yield product.start()
    finally:
        product.stop()


def answer(seen, connection):
    """As the request's marker says."""
    found = MARKER.search(seen.target + " " + seen.headers.get("mcp-session-id", ""))
    marker = found[0].encode()
    play([good(marker)] if found[3] == "good" else HOSTILE[found[3]](marker), connection)


def test_each_member_gets_their_own_answers(pooled):
    members = [pooled.member(user, organization) for user, organization in TEAMS.items()]
    pooled.upstream.behave(answer)
    plan = Plan(SEED, pooled.ways, members, SILENT, WHOLE)
    verdict = ask(plan, pooled.ways, pooled.host)
    assert pooled.haproxy.running(), f"HOSTILE_SEED={SEED}: haproxy ended:\n{pooled.haproxy.tail()}"
    print(f"seed {SEED}: {verdict.line()}")
    for bad in (verdict.wrong, verdict.forged, verdict.hung):
        assert not bad, f"HOSTILE_SEED={SEED}: {verdict.line()}\n" + "\n".join(bad[:20])
    # A good answer is lost where its connection ends for another's bad one, just as the client asks: never many of them.
    assert len(verdict.lost) * 50 <= verdict.good, f"HOSTILE_SEED={SEED}: {verdict.line()}\n" + "\n".join(verdict.lost[:20])
