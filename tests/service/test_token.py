"""The token route as a program meets it: who may ask, for what, and what the answer says."""

import datetime
import json
import secrets
import time

import pytest

from checks import CALENDAR, DRIVE, GMAIL, IDENTITY, calls, dump, fingerprint, key, make_due, only
from cluster import Later
from harness import good, problem, wait_until
from programs import EVERY_SCOPE, Caller, entries, sha256, token_path, watched

@pytest.fixture
def caller(product):
    return Caller(product)


@pytest.fixture
def connected(product, ada):
    """ada's connection, with the ledger counted from here."""
    record = ada.connect("acme")
    product.stand_in.clear_faults()
    return record


def set_life(product, user, issued_ago, left):
    """An access token that was given so many seconds ago and has so many left."""
    now = int(time.time())
    product.redis.hset(key("credential", user), mapping={"issued_at": now - issued_ago, "expires_at": now + left})
    return now + left


def refreshes(product):
    return product.stand_in.counters()["refreshes"]


# Who may ask


def test_without_a_key(product, ada, connected):
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": "Basic YTpi"},
                    {"Authorization": "Bearer unknown-MARKER-key"}, {"Authorization": "Bearer " + "x" * 600},
                    {"Authorization": "Bearer two words"}):
        answer = product.request("POST", token_path("ada"), internal=True, headers=headers, json={})
        problem(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_other_credentials_are_none(product, ada, connected, caller):
    gateway = product.session("ada", {"acme": "member"}, use="gateway", mcps="gmail", via="bearer")
    for session in (ada.bearer(), gateway):
        problem(product.request("POST", token_path("ada"), internal=True, bearer=session.token, json={}),
                401, "unauthenticated")
    for value in (ada.token, caller.key):
        problem(product.request("POST", token_path("ada"), internal=True, cookie=value, json={}), 401, "unauthenticated")


def test_a_caller_is_no_session(product, caller):
    for path in ("/api/me", "/api/organizations/acme/integrations"):
        problem(product.request("GET", path, bearer=caller.key), 401, "unauthenticated")


def test_a_key_ends_with_its_time(product, connected):
    brief = Caller(product, seconds=0.3)
    good(brief.token("ada"))
    wait_until(lambda: brief.token("ada").status_code == 401, "the key has expired", 5)


def test_a_revoked_key(product, connected, caller):
    good(caller.token("ada"))
    product.redis.delete(f"caller:{sha256(caller.key)}")
    problem(caller.token("ada"), 401, "unauthenticated")


def test_not_on_the_public_server(product, connected, caller):
    for path in (token_path("ada"), token_path("ada").replace("/internal", "/%69nternal"), "/" + token_path("ada"),
                 "/api/.." + token_path("ada"), "/api/%2e%2e" + token_path("ada"), "/./" + token_path("ada")[1:]):
        answer = product.raw((f"POST {path} HTTP/1.1\r\nHost: {product.public_url.split('//')[1]}\r\n"
                              f"Authorization: Bearer {caller.key}\r\nContent-Type: application/json\r\n"
                              "Content-Length: 2\r\nConnection: close\r\n\r\n{}").encode())
        status = int(answer.split(b" ")[1])
        assert status in (400, 404), (path, answer[:200])
        assert b"access_token" not in answer


# For what: nothing about the user is read before that is settled


FORBIDDEN = {
    "no organizations": ({"organizations": None}, "acme"),
    "no organization": ({"organizations": ""}, "acme"),
    "another organization": ({"organizations": "globex acme2"}, "acme"),
    "a star among others is not a pattern": ({"organizations": "acm*"}, "acme"),
    "no mcps": ({"mcps": None}, "acme"),
    "an empty list of mcps": ({"mcps": ""}, "acme"),
    "mcps of another service": ({"mcps": "plain_mail slack"}, "acme"),
    "a star is no mcp": ({"mcps": "*"}, "acme"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_outside_its_lists(product, connected, name):
    lists, organization = FORBIDDEN[name]
    caller = Caller(product, **lists)
    with watched(product) as commands:
        answers = [caller.token("ada", organization), caller.token("nobody", organization), caller.token("no%20id", organization),
                   caller.token("ada", organization, data="no JSON")]
    for each in answers:
        problem(each, 403, "caller_forbidden")
    words = [word for command in commands for word in command]
    assert not any(word.startswith(("integration:", "credential:", "removed:", "refresh_lease:")) for word in words), commands


def test_an_organization_id_outside_its_pattern(product):
    everywhere = Caller(product)
    for organization in ("a%20b", "a.b", "x" * 65, "%7Bacme%7D"):
        problem(everywhere.token("ada", organization), 403, "caller_forbidden")
    assert not product.redis.keys("events:*")


def test_a_refusal_is_in_the_audit(product, connected):
    elsewhere = Caller(product, name="crawler", organizations="globex")
    request_id = elsewhere.token("ada").headers["X-Request-Id"]
    mail_only = Caller(product, name="mail", mcps="gmail")
    mail_only.token("ada", json={"scopes": [DRIVE]})
    idle = Caller(product, name="idle", mcps="")
    idle.token("ada")

    def refusals():
        return [entry for entry in entries(product) if entry["event"] == "caller_forbidden"]

    wait_until(lambda: len(refusals()) == 3, "all entries, which nothing waited for")
    refused = refusals()
    assert [(entry["actor"], entry["outcome"]) for entry in refused] == [
        ("caller:crawler", "organization"), ("caller:mail", "scope"), ("caller:idle", "mcp")]
    assert refused[0]["organization"] == "acme" and refused[0]["request_id"] == request_id


def test_the_lists_are_words(product, ada, connected):
    ada.connect("globex", account="grace")
    both = Caller(product, mcps="slack gmail", organizations="initech globex acme")
    assert both.fresh("ada")["oauth_user_id"] == connected["oauth_user_id"]
    assert both.fresh("ada", "globex")["oauth_user_id"] != connected["oauth_user_id"]
    assert Caller(product, organizations="x *").fresh("ada")["token_type"] == "Bearer"


def test_unknown_targets(product, connected, caller):
    problem(caller.token("ada", service="slack"), 404, "service_not_found")
    problem(caller.token("ada", service="Google"), 404, "service_not_found")
    for user in ("nobody", "a.b", "x" * 65, "%7Bada%7D"):
        problem(caller.token(user), 404, "integration_not_found")
    problem(caller.token("ada", "globex"), 404, "integration_not_found")
    answer = product.request("GET", token_path("ada"), internal=True, bearer=caller.key)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    for path in ("/internal/organizations/acme", token_path("ada") + "/", token_path("ada").replace("/acme", "//acme")):
        problem(product.request("POST", path, internal=True, bearer=caller.key, json={}), 404, "route_not_found")


# The body


def test_no_body_is_an_empty_one(product, connected, caller):
    assert good(caller.token("ada", data=b""))["access_token"] == caller.fresh("ada")["access_token"]


BAD_BODIES = {
    "not an object": "[]", "not JSON": "{", "nothing but a space": " ", "trailing": "{} {}", "a string": '"x"', "null": "null",
    "a duplicate": '{"minimum_seconds": 1, "minimum_seconds": 2}',
    "a duplicate unknown": '{"x": 1, "x": 2}',
    "too deep": '{"x": ' + "[" * 100 + "]" * 100 + "}",
    "minimum_seconds below": '{"minimum_seconds": -1}', "minimum_seconds above": '{"minimum_seconds": 1801}',
    "minimum_seconds huge": '{"minimum_seconds": 99999999999999999999}',
    "minimum_seconds a fraction": '{"minimum_seconds": 1.5}', "minimum_seconds as text": '{"minimum_seconds": "300"}',
    "minimum_seconds null": '{"minimum_seconds": null}', "minimum_seconds a boolean": '{"minimum_seconds": true}',
    "minimum_seconds a list": '{"minimum_seconds": [300]}',
    "scopes as text": '{"scopes": "openid"}', "scopes null": '{"scopes": null}', "scopes an object": '{"scopes": {}}',
    "a scope that is no text": '{"scopes": [1]}', "a scope that is null": '{"scopes": [null]}',
    "an empty scope": '{"scopes": [""]}', "a scope with a space": '{"scopes": ["openid email"]}',
    "a scope beyond ASCII": '{"scopes": ["caf\u00e9"]}', "a nested scope": '{"scopes": [["openid"]]}',
    "too many scopes": json.dumps({"scopes": [GMAIL] * 65}),
    "refused too short": '{"refused": "ab"}', "refused in capitals": json.dumps({"refused": "A" * 64}),
    "refused too long": json.dumps({"refused": "a" * 65}), "refused no hash": json.dumps({"refused": "g" * 64}),
    "refused null": '{"refused": null}', "refused a number": '{"refused": 1}', "refused a list": '{"refused": []}',
}


def test_bodies_that_are_wrong(product, connected, caller):
    with watched(product) as commands:
        for name, body in BAD_BODIES.items():
            answer = caller.token("ada", data=body.encode(), headers={"Content-Type": "application/json"})
            assert (name, answer.status_code, answer.json().get("code")) == (name, 400, "body_invalid")
    assert not any(word.startswith("integration:") for command in commands for word in command)


def test_other_bodies(product, connected, caller):
    problem(caller.token("ada", data=b"{}", headers={"Content-Type": "text/plain"}), 415, "content_type_unsupported")
    problem(caller.token("ada", data=b"{}"), 415, "content_type_unsupported")
    problem(caller.token("ada", data=b"{" + b" " * 17000 + b"}", headers={"Content-Type": "application/json"}),
            413, "body_too_large")
    for body in ({"unknown": {"deep": [1]}}, {"minimum_seconds": 0}, {"minimum_seconds": 1800}, {"scopes": []},
                 {"scopes": [GMAIL, GMAIL]}, {"refused": "0" * 64}):
        good(caller.token("ada", json=body))
    assert calls(product) == only(exchanges=1)


# The answer


def test_every_member_and_nothing_else(product, ada, connected, caller):
    answer = caller.token("ada")
    body = good(answer)
    assert set(body) == {"access_token", "token_type", "expires_at", "scopes", "oauth_user_id"}
    assert body["token_type"] == "Bearer"
    assert body["oauth_user_id"] == connected["oauth_user_id"]
    assert sorted(body["scopes"]) == EVERY_SCOPE == sorted(connected["scopes"])
    assert product.stand_in.honours(access_token=body["access_token"])
    expires = datetime.datetime.strptime(body["expires_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    assert abs(expires.timestamp() - time.time() - 3599) < 5
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"


def test_the_refresh_token_never_leaves(product, connected, caller):
    make_due(product, "ada")
    text = caller.token("ada").text
    assert "1//" not in text and "refresh" not in text


def test_the_use_is_in_the_audit(product, connected):
    caller = Caller(product, f"audited-{secrets.token_hex(4)}")  # so that this is its first use in the minute
    answer = caller.token("ada")
    good(answer)
    wait_until(lambda: len(entries(product, use=True)) == 1, "its entry, which no answer waits for")
    make_due(product, "ada")
    second = caller.token("ada")
    good(second)
    wait_until(lambda: len(entries(product, use=True)) >= 2, "the entry of the refresh")
    assert abs(entries(product, use=True)[0].pop("time") / 1000 - time.time()) < 5
    common = {"actor": f"caller:{caller.name}", "organization": "acme", "user": "ada", "service": "google", "outcome": "ok"}
    # The second token is an entry only where another worker gave it.
    assert [{name: value for name, value in entry.items() if name != "time"} for entry in entries(product, use=True)[:2]] == [
        {"event": "token_issued", **common, "request_id": answer.headers["X-Request-Id"]},
        {"event": "refreshed", **common, "request_id": second.headers["X-Request-Id"]}]


def test_a_warm_token_takes_two_rounds(product, somebody, caller):
    """The caller, and the connection: in one step with the note where a worker hands it out for the first time, else by
    plain reads."""
    first, new = somebody("acme"), somebody("acme")
    first.connect("acme")
    caller.fresh(first.user)  # Redis knows the script from now on
    new.connect("acme", account="grace")
    for _ in range(10):  # by any worker
        with watched(product) as commands:
            caller.fresh(new.user)
        # Besides: the test's own connection, the entry of the audit (sent with nobody waiting for it: test_token_store.py
        # holds it back), and the mark at the end of a round.
        names = [command[0] for command in commands if command[0] not in ("AUTH", "XADD", "EVAL", "ECHO")]
        assert names in (["HMGET", "EVALSHA"], ["HMGET", "HMGET", "HMGET", "EXISTS"]), commands
    assert names[-1] == "EXISTS"
    assert calls(product) == only(exchanges=2)


# When it is refreshed


DUE = [
    ({}, 3600, 0, True),
    ({}, 3600, -100, True),
    ({}, 3301, 299, True),
    ({}, 3239, 361, False),
    ({}, 3000, 600, False),
    ({"minimum_seconds": 0}, 3590, 10, False),
    ({"minimum_seconds": 0}, 3600, 0, True),
    ({"minimum_seconds": 60}, 3550, 50, True),
    ({"minimum_seconds": 60}, 3520, 80, False),
    ({"minimum_seconds": 1800}, 1810, 1790, True),
    ({"minimum_seconds": 1800}, 1700, 1900, False),
    # Half of its life is not over: handed out, however much is asked for.
    ({}, 100, 200, False),
    ({"minimum_seconds": 1800}, 1700, 1750, False),
    ({"minimum_seconds": 1800}, 10, 20, False),
    ({"minimum_seconds": 1800}, 20, 20, True),
]


def test_it_is_refreshed_when_due(product, connected, caller):
    for body, issued_ago, left, refreshed in DUE:
        row = (body, issued_ago, left, refreshed)
        before, count = caller.fresh("ada")["access_token"], refreshes(product)
        until = set_life(product, "ada", issued_ago, left)
        answer = caller.fresh("ada", **body)
        assert (row, refreshes(product) - count) == (row, refreshed)
        assert (row, answer["access_token"] != before) == (row, refreshed)
        assert "warning" not in answer
        if not refreshed:
            assert (row, answer["expires_at"]) == (row, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until)))


def test_refreshes_of_a_team_are_spread(product, somebody, caller):
    """Tokens of the same age are not all renewed at the same second: some early, in the last minute before they are due."""
    users = [somebody("acme") for _ in range(12)]
    for user in users:
        user.connect("acme")
        set_life(product, user.user, 3270, 330)
        caller.fresh(user.user)
    assert 0 < refreshes(product) < 12


def test_a_refused_token_is_refreshed_once_in_a_minute(product, connected, caller):
    first = caller.fresh("ada")["access_token"]
    refused = sha256(first)
    assert caller.fresh("ada", refused="0" * 64)["access_token"] == first, "not the stored one"
    second = caller.fresh("ada", refused=refused)["access_token"]
    assert second != first and refreshes(product) == 1, "however young it is"
    for _ in range(3):
        assert caller.fresh("ada", refused=refused)["access_token"] == second
        assert caller.fresh("ada", refused=sha256(second))["access_token"] == second
    assert refreshes(product) == 1
    set_life(product, "ada", 600, 2999)
    assert caller.fresh("ada", refused=sha256(second))["access_token"] == second, "the last forced one counts"
    for forced_at, so_far in ((-60, 2), (3600, 3)):  # seconds from now: long ago, or noted by a clock that was wrong
        stored = caller.fresh("ada")["access_token"]
        product.redis.hset(key("credential", "ada"), "forced_at", int(time.time()) + forced_at)
        assert caller.fresh("ada", refused=sha256(stored))["access_token"] != stored
        assert refreshes(product) == so_far


def test_a_refused_token_is_not_handed_out_with_a_warning(product, connected, caller):
    first = caller.fresh("ada")["access_token"]
    set_life(product, "ada", 61, 3539)
    product.stand_in.fault("refresh", "status", status=503)
    problem(caller.token("ada", json={"refused": sha256(first)}), 502, "provider_unreachable")


# While the provider fails


FAILURES = {
    "unreachable": ({"kind": "status", "status": 503}, "provider_unreachable", 502, "provider_unreachable"),
    "misconfigured": ({"kind": "error", "error": "invalid_client", "status": 401}, "provider_misconfigured", 502,
                      "provider_misconfigured"),
    "policy": ({"kind": "error", "error": "admin_policy_enforced", "status": 400}, "provider_policy", 409,
               "reconnect_required"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_provider_fails(product, connected, caller, name):
    fault, warning, status, code = FAILURES[name]
    first = caller.fresh("ada")["access_token"]
    until = set_life(product, "ada", 3500, 100)
    product.stand_in.fault("refresh", times=None, **fault)
    answer = caller.fresh("ada")
    assert (answer["access_token"], answer["warning"]) == (first, warning)
    assert answer["expires_at"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
    # The failure is remembered for a moment: nobody storms the provider.
    assert refreshes(product) == 1
    assert caller.fresh("ada")["warning"] == warning
    assert refreshes(product) == 1
    set_life(product, "ada", 3700, -10)
    before = dump(product, "ada")
    problem(caller.token("ada"), status, code)
    assert dump(product, "ada") == before
    # And it is over when the provider is well again.
    product.stand_in.clear_faults()
    wait_until(lambda: caller.token("ada").status_code == 200, "a fresh token", 5)
    assert "warning" not in caller.fresh("ada")


@pytest.mark.parametrize("what", ["disconnected", "removed", "replaced"])
def test_the_provider_fails_slowly(product, ada, connected, caller, what):
    """While a refresh is on its way to nothing the connection goes: its old token goes to nobody."""
    first = caller.fresh("ada")["access_token"]
    set_life(product, "ada", 3500, 100)
    hold = product.stand_in.fault("refresh", "hold")
    product.stand_in.fault("refresh", "status", status=503)
    asking = Later(caller.token, "ada")
    product.stand_in.wait_fired(hold)
    if what == "disconnected":
        good(ada.disconnect("acme"))
    elif what == "removed":
        assert product.command("remove", "--org", "acme", "--user", "ada").returncode == 0
    else:
        ada.connect("acme", account="grace", replace="true")
    product.stand_in.release(hold)
    if what == "disconnected":
        problem(asking.answer(), 404, "integration_not_found")
    elif what == "removed":
        problem(asking.answer(), 403, "organization_forbidden")
        assert product.command("restore", "--org", "acme", "--user", "ada").returncode == 0
    else:
        answer = good(asking.answer())
        assert answer["access_token"] != first and "warning" not in answer


def test_what_a_failure_says_in_the_audit(product, connected, caller):
    make_due(product, "ada")
    product.stand_in.fault("refresh", "error", error="invalid_grant")
    answer = caller.token("ada")
    problem(answer, 409, "reconnect_required")
    failed = wait_until(lambda: [entry for entry in entries(product) if entry["event"] == "refresh_failed"], "nobody waited for it")
    assert [(entry["actor"], entry["user"], entry["outcome"], entry["request_id"]) for entry in failed] == [
        ("caller:runtime", "ada", "grant_revoked", answer.headers["X-Request-Id"])]


def test_a_dead_grant(product, ada, connected, caller):
    make_due(product, "ada")
    product.stand_in.revoke_grant("ada")
    tokens = product.redis.hgetall(key("credential", "ada"))
    problem(caller.token("ada"), 409, "reconnect_required")
    record = ada.list("acme")[0]
    assert (record["status"], record["status_reason"]) == ("invalid", "grant_revoked")
    assert record["validated_at"] >= connected["validated_at"]
    assert product.redis.hgetall(key("credential", "ada")) == tokens, "its tokens stay"
    for _ in range(3):
        problem(caller.token("ada"), 409, "reconnect_required")
    assert refreshes(product) == 1, "nobody asks the provider again"
    ada.connect("acme")
    assert "warning" not in caller.fresh("ada")


def test_a_dead_record_hands_out_nothing(product, connected, caller):
    """Even while its access token has time left."""
    product.redis.hset(key("integration", "ada"), mapping={"status": "invalid", "status_reason": "grant_revoked"})
    problem(caller.token("ada"), 409, "reconnect_required")
    assert calls(product) == only(exchanges=1)


def test_tokens_of_another_client(product, connected, caller):
    product.redis.hset(key("credential", "ada"), "client_id", "another")
    before = dump(product, "ada")
    problem(caller.token("ada"), 409, "reconnect_required")
    assert dump(product, "ada") == before
    assert calls(product) == only(exchanges=1)


# Scopes


def test_scopes_that_are_granted(product, ada):
    caller = Caller(product, f"audited-{secrets.token_hex(4)}")
    ada.connect("acme", grant=[GMAIL])
    assert sorted(caller.fresh("ada", scopes=[GMAIL])["scopes"]) == sorted([GMAIL, *IDENTITY]), "the token's, not the asked"
    for scopes in ([CALENDAR], [GMAIL, DRIVE]):
        problem(caller.token("ada", json={"scopes": scopes}), 422, "scopes_missing")
    assert [entry["event"] for entry in entries(product, use=True) if entry["actor"] == f"caller:{caller.name}"] == ["token_issued"]


def test_scopes_that_are_not_the_callers(product, connected):
    mail = Caller(product, mcps="gmail")
    assert DRIVE in mail.fresh("ada", scopes=[GMAIL])["scopes"], "the token itself is not narrowed"
    for scopes in ([DRIVE], [GMAIL, CALENDAR], ["openid"], ["no-such-scope"]):
        with watched(product) as commands:
            problem(mail.token("ada", json={"scopes": scopes}), 403, "caller_forbidden")
        assert not any(word.startswith("integration:") for command in commands for word in command)


# Removed members


def test_a_removed_member(product, ada, connected, caller):
    ada.connect("globex", account="grace")
    product.redis.set("removed:{acme:ada}", "1")
    make_due(product, "ada")
    before = product.stored()
    problem(caller.token("ada"), 403, "organization_forbidden")
    assert refreshes(product) == 0, "nothing is asked of the provider for somebody who was removed"
    assert {name: value for name, value in product.stored().items() if name.startswith(("integration", "credential"))} == \
        {name: value for name, value in before.items() if name.startswith(("integration", "credential"))}
    caller.fresh("ada", "globex")
    product.redis.delete(key("integration", "ada"), key("credential", "ada"))
    problem(caller.token("ada"), 403, "organization_forbidden")
    product.redis.delete("removed:{acme:ada}")
    problem(caller.token("ada"), 404, "integration_not_found")


# What DELETE says about tokens that were handed out


def test_access_until(product, ada, bob, connected, caller):
    bob.connect("acme")  # the same account: ada's disconnect revokes nothing
    assert good(ada.disconnect("acme"))["access_until"] is None, "none was handed out"
    ada.connect("acme")
    until = caller.fresh("ada")["expires_at"]
    answer = good(ada.disconnect("acme"))
    assert (answer["revocation"], answer["access_until"]) == ("not_revoked", until)


def test_access_until_is_the_latest(product, ada, bob, connected, caller):
    bob.connect("acme")
    caller.fresh("ada")
    set_life(product, "ada", 3500, 50)
    second = caller.fresh("ada")["expires_at"]
    assert good(ada.disconnect("acme"))["access_until"] == second


def test_access_until_outlives_a_reconnection(product, ada, bob, connected, caller):
    bob.connect("acme")
    until = caller.fresh("ada")["expires_at"]
    ada.connect("acme")
    product.stand_in.settings(access_token_seconds=1000)
    assert good(ada.disconnect("acme"))["access_until"] == until


def test_access_ends_with_a_revocation(product, ada, connected, caller):
    token = caller.fresh("ada")["access_token"]
    answer = good(ada.disconnect("acme"))
    assert (answer["revocation"], answer["access_until"]) == ("revoked", None)
    assert not product.stand_in.honours(access_token=token)
    problem(caller.token("ada"), 404, "integration_not_found")


def test_tokens_are_fingerprinted_nowhere_else(product, connected, caller):
    """The service's log knows that a token was issued, and not which."""
    token = caller.fresh("ada")["access_token"]
    text = product.serve.text()
    assert token not in text and sha256(token) not in text and fingerprint(token) not in text
