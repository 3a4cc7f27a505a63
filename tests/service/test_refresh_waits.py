"""Whoever waits for another's refresh: what it costs, how it ends; and what is believed of damaged values in Redis."""

import json
import threading
import time

import pytest

from checks import calls, key, make_due, only, wait_in_flight
from harness import good, problem
from programs import Caller

LARGE_ACCESS = "ya29.MARKER-" + "a" * 4000
LARGE_REFRESH = "1//MARKER-" + "r" * 2000


@pytest.fixture
def caller(product):
    return Caller(product)


def give_large_tokens(product, caller, user):
    make_due(product, user)
    product.stand_in.fault("refresh", "raw", status=200, headers={"Content-Type": "application/json"}, body=json.dumps({
        "access_token": LARGE_ACCESS, "refresh_token": LARGE_REFRESH, "token_type": "Bearer", "expires_in": 3599}))
    assert caller.fresh(user)["access_token"] == LARGE_ACCESS
    product.stand_in.clear_faults()


def test_waiting_does_not_use_up_memory(product, ada, caller):
    """The largest tokens that are taken, and a lease that is held for longer than a request lasts."""
    ada.connect("acme")
    give_large_tokens(product, caller, "ada")
    make_due(product, "ada")
    product.redis.set(key("refresh_lease", "ada"), "somebody else", px=20000)
    begun = time.monotonic()
    problem(caller.token("ada"), 502, "provider_unreachable")
    assert 6 < time.monotonic() - begun < 9
    assert "memory_exhausted" not in product.serve.text()


def test_what_the_owner_stored_is_seen_at_once(product, ada, caller):
    ada.connect("acme")
    first = caller.fresh("ada")["access_token"]
    make_due(product, "ada")
    product.redis.set(key("refresh_lease", "ada"), "somebody else", px=20000)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(caller.token("ada")))
    waiting.start()
    wait_in_flight(product, 1)
    now = int(time.time())
    with product.redis.pipeline() as together:
        generation = "0123456789abcdef0123456789abcdef"
        together.hset(key("credential", "ada"), mapping={"issued_at": now, "expires_at": now + 3000, "generation": generation})
        together.hset(key("integration", "ada"), "generation", generation)
        together.execute()
    stored = time.monotonic()
    waiting.join()
    assert time.monotonic() - stored < 0.5
    assert good(answers[0])["access_token"] == first
    assert calls(product) == only(exchanges=1)


@pytest.mark.parametrize("number", ["0", "10", "50", "64", "99", "-1", "x", ""])
def test_a_remembered_failure_that_is_none(product, ada, caller, number):
    ada.connect("acme")
    make_due(product, "ada")
    generation = product.redis.hget(key("integration", "ada"), "generation")
    product.redis.set(key("integrations:refresh_failure", "ada"), f"{generation} {number}", px=60000)
    good(caller.token("ada"))
    assert "worker_died" not in product.serve.text()


def test_a_generation_that_cannot_be_compared(product, ada, caller):
    """The provider is asked once, not again and again until the request's time is over."""
    ada.connect("acme")
    make_due(product, "ada")
    for kind in ("integration", "credential"):
        product.redis.hset(key(kind, "ada"), "generation", b"a\x00b")
    problem(caller.token("ada"), 409, "reconnect_required")
    assert product.stand_in.counters()["refreshes"] == 1


@pytest.mark.parametrize("field", ["id", "status_reason", "oauth_user_id", "oauth_email", "scopes", "missing_scopes", "connected_at",
                                   "updated_at", "validated_at"])
def test_a_field_that_is_no_text(product, ada, field):
    """The record is shown as damaged; it does not take the list away."""
    ada.connect("acme")
    product.redis.hset(key("integration", "ada"), field, b"\xff\xfe")
    record, = ada.list("acme")
    assert (record["status"], record["status_reason"]) == ("unknown", "tokens_unreadable")
    good(product.request("GET", "/api/organizations/acme/mcps", cookie=ada.token))
