"""More than a worker can take: requests, memory, file descriptors. It says so in its answers, lives, and serves on."""

import os
import resource
import threading
import time

import pytest

from fastcgi import Peer, request
from harness import Product, good, problem, wait_until


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One worker that works on one request at a time."""
    product = Product(tmp_path_factory.mktemp("small"), workers=1, environment={"MAX_IN_FLIGHT": "1", "LIMIT_VALIDATE": "0"})
    product.start()
    yield product
    product.stop()


@pytest.fixture
def ada(small):
    small.forget()
    return small.session("ada", {"acme": "admin"})


class Held:
    """ada's validation, held at the provider: the worker's one place is taken."""

    def __init__(self, product, ada):
        self.product, self.ada, self.answer = product, ada, None
        self.hold = product.stand_in.fault("userinfo", "hold", times=None)
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        self.answer = self.ada.validate("acme")

    def __enter__(self):
        self._thread.start()
        self.product.stand_in.wait_fired(self.hold, 1)
        return self

    def __exit__(self, *_):
        self.product.stand_in.release(self.hold)
        self._thread.join()
        self.product.stand_in.clear_faults()


def metric(product, name):
    text = product.request("GET", "/metrics", internal=True).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


def test_requests_that_wait_too_long(small, ada):
    ada.connect("acme")
    before = metric(small, "integrations_overloaded_total")
    with Held(small, ada) as held:
        began = time.monotonic()
        body = problem(ada.integrations("acme"), 503, "overloaded")
        assert 0.9 < time.monotonic() - began < 4, "it waits a second for a place"
        assert "Retry-After" in ada.integrations("acme").headers and body["request_id"]
    assert good(held.answer)["is_valid"]
    assert len(ada.list("acme")) == 1
    assert metric(small, "integrations_overloaded_total") == before + 2


def test_requests_that_wait_get_their_turn(small, ada):
    """One whose peer has gone meanwhile costs nothing but its turn."""
    ada.connect("acme")
    with Held(small, ada):
        whole = request(small, path="/api/organizations/acme/integrations", token=ada.token)
        gone = Peer(small.hosts[0].socket)
        gone.send(whole)
        stays = Peer(small.hosts[0].socket)
        stays.send(whole)
        gone.socket.close()
    with stays:
        assert stays.answer()[0] == 200
    assert len(ada.list("acme")) == 1


@pytest.mark.parametrize("size, event", [(700_000, "memory_exhausted"), (1_500_000, "redis_reply_too_large")])
def test_a_record_that_is_far_too_large(small, ada, size, event):
    """What a request may need is bounded; who asks is told, and nobody else sees anything."""
    ada.connect("acme")
    workers = small.hosts[0].workers()
    bob = small.session("bob", {"acme": "member"})
    small.redis.hset("integration:{acme:ada}:google", "scopes", " ".join(f"s{i:08d}" for i in range(size // 10)))
    problem(ada.integrations("acme"), 503, "overloaded")
    assert bob.list("acme") == []
    assert small.hosts[0].workers() == workers
    wait_until(lambda: any(line["event"] == event for line in small.log()), f"{event} is logged")
    small.redis.delete("integration:{acme:ada}:google")
    assert ada.list("acme") == []


def test_no_file_descriptor_is_left(small, ada):
    """Connections wait in the socket's queue until there is one; kept ones are served meanwhile."""
    worker = small.hosts[0].workers()[0]
    assert ada.list("acme") == []
    soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    opened = 1 + max(int(name) for name in os.listdir(f"/proc/{worker}/fd"))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (opened, hard))
    try:
        # The lowest free numbers are used first, so some connections may still find one.
        peers = [Peer(small.hosts[0].socket) for _ in range(opened + 1)]
        wait_until(lambda: any(line["event"] == "accept_failed" for line in small.log()), "it is logged")
        assert small.hosts[0].workers() == [worker]
    finally:
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
    peers[-1].send(request(small, token=ada.token))
    assert peers[-1].answer()[0] == 200
    for peer in peers:
        peer.socket.close()
    assert ada.list("acme") == []
