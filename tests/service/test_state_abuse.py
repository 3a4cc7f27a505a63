"""What a member can do with invented states, and a writer to Redis with stored ones."""

import secrets

from checks import calls, only
from harness import problem
from programs import entries


def test_invented_states_do_not_fill_the_audit(product, ada):
    for _ in range(30):
        problem(ada.callback("acme", {"code": "4/0AMARKER", "state": f"{secrets.token_urlsafe(32)}.acme"}),
                400, "state_invalid")
    assert len([entry for entry in entries(product) if entry["event"] == "state_refused"]) == 20
    problem(ada.callback("globex", {"code": "4/0AMARKER", "state": f"{secrets.token_urlsafe(32)}.globex"}),
            400, "state_invalid")
    assert len(entries(product, "globex")) == 1
    assert calls(product) == only()
