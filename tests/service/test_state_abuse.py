"""What a member can do with invented states, and a writer to Redis with stored ones."""

import secrets

import pytest

from checks import calls, only
from harness import problem, wait_until
from programs import entries


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


@pytest.mark.parametrize("field", ["nonce", "code_verifier", "binding", "credential", "issuer", "client_id", "user", "organization"])
def test_a_stored_state_that_lacks_a_field(product, ada, field):
    document = ada.authorize("acme")
    rows = product.redis.keys("oauth_state:*")
    assert len(rows) == 1 and product.redis.hdel(rows[0], field) == 1
    problem(ada.callback("acme", document), 400, "state_invalid")
    assert calls(product) == only() and not product.redis.exists(rows[0])
