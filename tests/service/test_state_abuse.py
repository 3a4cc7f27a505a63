"""What a member can do with invented states, a program with what it may not have, and a writer to Redis with stored states."""

import secrets

import pytest

from checks import DRIVE, calls, only
from harness import problem, wait_until
from programs import Caller, entries, sha256


def test_invented_states_do_not_fill_the_audit(product, ada):
    for _ in range(30):
        problem(ada.callback("acme", {"code": "4/0AMARKER", "state": f"{secrets.token_urlsafe(32)}.acme"}),
                400, "state_invalid")
    wait_until(lambda: len([entry for entry in entries(product) if entry["event"] == "state_refused"]) == 20, "20 entries")
    problem(ada.callback("globex", {"code": "4/0AMARKER", "state": f"{secrets.token_urlsafe(32)}.globex"}),
            400, "state_invalid")
    wait_until(lambda: len(entries(product, "globex")) == 1, "the other organization's entry")
    assert len(entries(product)) == 20
    assert calls(product) == only()


def test_refusals_do_not_fill_the_audit(product, ada):
    """Each caller's key has its own count; the log has every request."""
    ada.connect("acme")
    crawler = Caller(product, name="crawler", organizations="globex")
    for _ in range(25):
        problem(crawler.token("ada"), 403, "caller_forbidden")
    idle = Caller(product, name="idle", mcps="")
    for _ in range(25):
        problem(idle.token("ada"), 403, "caller_forbidden")
    counted = product.redis.keys("integrations:limit:caller_forbidden:*")
    assert sorted(counted) == sorted(f"integrations:limit:caller_forbidden:{sha256(each.key)}" for each in (crawler, idle))
    assert all(0 < product.redis.ttl(each) <= 60 for each in counted)
    actors = [entry["actor"] for entry in entries(product) if entry["event"] == "caller_forbidden"]
    assert actors == ["caller:crawler"] * 20 + ["caller:idle"] * 20
    product.redis.delete(*counted)
    problem(crawler.token("ada"), 403, "caller_forbidden")
    wait_until(lambda: entries(product)[-1]["actor"] == "caller:crawler", "an entry in the next minute")


def test_invented_organizations_get_no_audit(product, ada):
    """A stream has no expiry. What is in a caller's list is an organization; what else it names is one when it has a stream."""
    ada.connect("acme")
    narrow, everywhere, mail = Caller(product, organizations="acme"), Caller(product, mcps=""), Caller(product, mcps="gmail")
    for caller in (narrow, everywhere):
        problem(caller.token("ada", "invented"), 403, "caller_forbidden")
    problem(mail.token("ada", "invented", json={"scopes": [DRIVE]}), 403, "caller_forbidden")
    named = Caller(product, name="named", mcps="", organizations="initech")
    problem(named.token("ada", "initech"), 403, "caller_forbidden")
    wait_until(lambda: [entry["actor"] for entry in entries(product, "initech")] == ["caller:named"], "the entry")
    assert sorted(product.redis.keys("events:*")) == ["events:{acme}", "events:{initech}"]


@pytest.mark.parametrize("field", ["nonce", "code_verifier", "binding", "credential", "issuer", "client_id", "user", "organization"])
def test_a_stored_state_that_lacks_a_field(product, ada, field):
    document = ada.authorize("acme")
    rows = product.redis.keys("oauth_state:*")
    assert len(rows) == 1 and product.redis.hdel(rows[0], field) == 1
    problem(ada.callback("acme", document), 400, "state_invalid")
    assert calls(product) == only() and not product.redis.exists(rows[0])
