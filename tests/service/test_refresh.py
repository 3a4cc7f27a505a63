"""What the provider answers to a refresh, and what becomes of the connection: one verdict in many ends it, none loses a token."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import CALENDAR, DRIVE, GMAIL, IDENTITY, calls, dump, fingerprint, key, make_due
from harness import good, problem, wait_until
from programs import EVERY_SCOPE, Caller, entries


@pytest.fixture
def ada(duo):
    return duo.session("ada", {"acme": "admin", "globex": "member"}, sid="login-of-ada")


@pytest.fixture
def caller(duo):
    return Caller(duo, mcps="gmail google_calendar google_drive plain_mail")


def forget_failure(product):
    """The memory of the refresh that just failed: nothing waits for it to be written."""
    wait_until(lambda: product.redis.delete(key("integrations:refresh_failure", "ada")), "the failure is noted")


def credential(product, user="ada"):
    return product.redis.hgetall(key("credential", user))


def ask(product, caller, kind, **fault):
    """Let the next refresh go wrong like this, and ask for a token."""
    make_due(product, "ada")
    number = product.stand_in.fault("refresh", kind, **fault)
    answer = caller.token("ada")
    cleared = product.stand_in.clear_faults(number)
    assert [each["fired"] for each in cleared] == [1], (kind, fault)
    return answer


# No new refresh token: the stored one stays


@pytest.mark.parametrize("fault", [None, {"set": {"refresh_token": ""}}, {"set": {"refresh_token": None}}], ids=["absent", "empty", "null"])
def test_the_refresh_token_stays(duo, ada, caller, fault):
    ada.connect("acme")
    before = credential(duo)
    make_due(duo, "ada")
    if fault is not None:
        duo.stand_in.fault("refresh", "answer", **fault)
    caller.fresh("ada")
    after = credential(duo)
    assert after["access_token"] != before["access_token"]
    make_due(duo, "ada")
    caller.fresh("ada")
    (first, second) = [dict(each["form"])["refresh_token"] for each in duo.stand_in.requests("token") if "refresh_token" in each["form_fields"]]
    assert first == second


def test_a_new_refresh_token_is_stored(duo, ada, caller):
    duo.stand_in.settings(personality="rotating")
    ada.connect("acme")
    for _ in range(3):
        before = credential(duo)["refresh_token"]
        make_due(duo, "ada")
        caller.fresh("ada")
        assert credential(duo)["refresh_token"] != before
    assert duo.stand_in.counters()["reuse_detections"] == 0


@pytest.mark.parametrize("members", [{"id_token": "x" * 16_385}, {"scope": "ü"}, {"scope": ["a"]}, {"scope": "x" * 8_193}],
                         ids=["a long id_token", "a scope that is none", "a scope that is no text", "a long scope"])
def test_an_unfit_member_loses_no_new_refresh_token(duo, ada, caller, members):
    duo.stand_in.settings(personality="rotating")
    scopes = ada.connect("acme")["scopes"]
    make_due(duo, "ada")
    duo.stand_in.fault("refresh", "answer", set=members)
    assert caller.fresh("ada")["scopes"] == scopes, "as before"
    make_due(duo, "ada")
    caller.fresh("ada")
    assert duo.stand_in.counters()["reuse_detections"] == 0


@pytest.mark.parametrize("kind, fault, status, code", [
    ("answer", {"set": {"access_token": "x" * 4_097}}, 502, "provider_unreachable"),
    ("answer", {"omit": ["access_token"]}, 502, "provider_unreachable"),
    ("answer", {"omit": ["token_type"]}, 502, "provider_unreachable"),
], ids=["a long access token", "no access token", "no token type"])
def test_a_new_refresh_token_without_an_access_token(duo, ada, caller, kind, fault, status, code):
    """The provider has forgotten the old refresh token: the new one is stored, and the access token not."""
    duo.stand_in.settings(personality="rotating")
    ada.connect("acme")
    caller.fresh("ada")
    wait_until(lambda: credential(duo)["handed_out_until"] != "0", "it is noted that the token was handed out")
    vended = credential(duo)["handed_out_until"]
    record, = ada.list("acme")
    problem(ask(duo, caller, kind, **fault), status, code)
    after = credential(duo)
    assert (after["expires_at"], after["handed_out_until"]) == ("0", vended)
    assert [{**each, "updated_at": None} for each in ada.list("acme")] == [{**record, "updated_at": None}]
    problem(caller.token("ada"), status, code)
    assert duo.stand_in.counters()["refreshes"] == 1, "the failure is remembered with the new tokens"
    forget_failure(duo)
    caller.fresh("ada")
    assert duo.stand_in.counters()["reuse_detections"] == 0


@pytest.mark.parametrize("fit", [True, False])
def test_new_tokens_of_somebody_else(duo, ada, caller, fit):
    """None of them is stored, whether or not there is a fit access token among them."""
    duo.stand_in.settings(personality="rotating")
    ada.connect("acme")
    make_due(duo, "ada")
    before = dump(duo, "ada")
    duo.stand_in.fault("refresh", "id_token", claims={"sub": "108123000000000000999"})
    if not fit:
        duo.stand_in.fault("refresh", "answer", omit=["token_type"])
    problem(caller.token("ada"), 409, "reconnect_required")
    assert dump(duo, "ada") == before


# The error table


def error(code, status, **more):
    return {"kind": "error", "error": code, "status": status, **more}


DEAD = [
    error("invalid_grant", 400), error("invalid_grant", 400, description="Token has been expired or revoked."),
    error("invalid_grant", 400, description="Bad Request"),
    error("invalid_grant", 400, description="reauth related error", subtype="invalid_rapt"),
    error("invalid_grant", 400, subtype="rapt_required"),
]
POLICY = [
    error("invalid_scope", 400), error("admin_policy_enforced", 400), error("admin_policy_enforced", 403),
    error("org_internal", 403), error("access_denied", 403), error("interaction_required", 400),
]
CLIENT = [
    error("invalid_client", 401, description="The OAuth client was not found."), error("invalid_client", 400),
    error("unauthorized_client", 401), error("unauthorized_client", 400), error("deleted_client", 401),
    error("disabled_client", 401), error("redirect_uri_mismatch", 400), error("unsupported_grant_type", 400),
    error("invalid_request", 400, description="client_secret is missing."), error("invalid_dpop_proof", 400),
    error("use_dpop_nonce", 400),
]
TRANSIENT = [
    error("internal_failure", 500), error("internal_failure", 400), error("server_error", 500), error("server_error", 400),
    error("temporarily_unavailable", 503), error("rate_limit_exceeded", 403), error("slow_down", 400),
    # The word alone is not enough: only HTTP 400 with it means what it says.
    error("invalid_grant", 200), error("invalid_grant", 401), error("invalid_grant", 403), error("invalid_grant", 404),
    error("invalid_grant", 408), error("invalid_grant", 429), error("invalid_grant", 500), error("invalid_grant", 503),
    error("invalid_grant ", 400), error("INVALID_GRANT", 400), error("something_new", 400), error("", 400),
    {"kind": "raw", "status": 400, "body": "invalid_grant"}, {"kind": "raw", "status": 400, "body": '["invalid_grant"]'},
    {"kind": "raw", "status": 400, "body": '{"error":{"code":"invalid_grant"}}'},
    {"kind": "raw", "status": 400, "body": '{"error":"server_error","error":"invalid_grant"}'},
    {"kind": "raw", "status": 400, "body": '{"error":"invalid_grant"'}, {"kind": "raw", "status": 400, "body": ""},
    {"kind": "raw", "status": 200, "body": "{}"}, {"kind": "raw", "status": 200, "body": "null"},
    {"kind": "raw", "status": 201, "body": '{"access_token":"ya29.MARKER-201","token_type":"Bearer","expires_in":3599}'},
    {"kind": "html", "status": 403}, {"kind": "html", "status": 500}, {"kind": "html", "status": 502},
    {"kind": "html", "status": 200}, {"kind": "status", "status": 429}, {"kind": "status", "status": 408},
    {"kind": "status", "status": 503}, {"kind": "status", "status": 404}, {"kind": "empty"}, {"kind": "not_json"},
    {"kind": "nested"}, {"kind": "big", "size": 300000}, {"kind": "big_headers", "size": 300000}, {"kind": "redirect"},
    {"kind": "redirect", "status": 307}, {"kind": "reset"}, {"kind": "truncate"},
    {"kind": "invalid_utf8", "field": "access_token"}, {"kind": "nul", "field": "access_token"},
    {"kind": "duplicate", "field": "access_token", "value": "ya29.MARKER-other"},
    {"kind": "answer", "omit": ["access_token"]}, {"kind": "answer", "set": {"access_token": ""}},
    {"kind": "answer", "set": {"access_token": None}}, {"kind": "answer", "set": {"access_token": 7}},
    {"kind": "answer", "set": {"access_token": "ya29.MARKER two words"}},
    {"kind": "answer", "set": {"access_token": "ya29.MARKER\r\nX-Injected: 1"}},
    {"kind": "answer", "set": {"token_type": "mac"}}, {"kind": "answer", "omit": ["token_type"]},
    {"kind": "answer", "set": {"refresh_token": 7}},
]


@pytest.mark.parametrize("faults, status, code, reason, record", [
    (DEAD, 409, "reconnect_required", "grant_revoked", "invalid"),
    (POLICY, 409, "reconnect_required", "provider_policy", "unknown"),
    (CLIENT, 502, "provider_misconfigured", "provider_misconfigured", "unknown"),
    (TRANSIENT, 502, "provider_unreachable", "provider_unreachable", "unknown"),
], ids=["dead", "policy", "client", "transient"])
def test_the_error_table(duo, ada, caller, faults, status, code, reason, record):
    ada.connect("acme")
    for fault in faults:
        duo.redis.hset(key("integration", "ada"), "status", "valid")
        duo.redis.hdel(key("integration", "ada"), "status_reason")
        make_due(duo, "ada")
        tokens, stored = credential(duo), duo.redis.hgetall(key("integration", "ada"))
        answer = ask(duo, caller, **fault)
        forget_failure(duo)
        assert (answer.status_code, answer.json().get("code")) == (status, code), fault
        after = credential(duo)
        assert {**after, "issued_at": 0, "expires_at": 0} == {**tokens, "issued_at": 0, "expires_at": 0}, fault
        now = duo.redis.hgetall(key("integration", "ada"))
        if record == "invalid":
            assert (now["status"], now["status_reason"]) == ("invalid", reason), fault
        else:
            assert now == stored, fault
    refreshed = duo.stand_in.counters()["refreshes"]
    assert refreshed == len(faults) and duo.stand_in.counters()["elsewhere"] == 0
    # The same to the person who validates.
    make_due(duo, "ada")
    duo.stand_in.fault("refresh", **faults[0])
    answer = good(ada.validate("acme"))
    assert answer["is_valid"] is False
    assert (answer["integration"]["status"], answer["integration"]["status_reason"]) == (record, reason)
    # And all is well again when the provider is.
    forget_failure(duo)
    assert good(ada.validate("acme"))["is_valid"] is True
    caller.fresh("ada")


@pytest.mark.parametrize("expires_in, least, most", [("3599", 3590, 3599), (0, 0, 1), (-5, 0, 1), (10**12, 3600, 10**7), (None, 60, 3600),
                                                     ("soon", 60, 3600), (1.5, 1, 3600)])
def test_how_long_a_token_lives(duo, ada, caller, expires_in, least, most):
    ada.connect("acme")
    make_due(duo, "ada")
    duo.stand_in.fault("refresh", "answer", set={"expires_in": expires_in})
    caller.fresh("ada")
    stored = credential(duo)
    assert least <= int(stored["expires_at"]) - int(stored["issued_at"]) <= most


def test_a_kept_connection_that_is_dead(duo, ada, caller):
    """A reset without a byte on a connection from before says nothing: it is tried once more on a new one."""
    ada.connect("acme")
    caller.fresh("ada")
    make_due(duo, "ada")
    duo.stand_in.fault("refresh", "refuse")
    caller.fresh("ada")
    make_due(duo, "ada")
    duo.stand_in.fault("refresh", "refuse", times=2)
    problem(caller.token("ada"), 502, "provider_unreachable")


# How long a failure is remembered


@pytest.mark.parametrize("retry_after, least, most", [(None, 1, 2), (4, 4, 5), ("absurd", 1, 61), ("date", 1, 61), (86400, 1, 61),
                                                      (0, 1, 2), (-1, 1, 2)])
def test_how_long_a_failure_is_remembered(duo, ada, caller, retry_after, least, most):
    ada.connect("acme")
    more = {} if retry_after is None else {"retry_after": retry_after}
    problem(ask(duo, caller, "status", status=429, **more), 502, "provider_unreachable")
    name = key("integrations:refresh_failure", "ada")
    left = wait_until(lambda: max(0, duo.redis.pttl(name)), "the failure is noted") / 1000
    assert least - 0.5 <= left <= most
    for _ in range(3):
        problem(caller.token("ada"), 502, "provider_unreachable")
    assert calls(duo)["refreshes"] == 1


def test_a_failure_holds_back_no_new_tokens(duo, ada, caller):
    """It speaks of the tokens that failed, not of those of a reconnection."""
    ada.connect("acme")
    problem(ask(duo, caller, "status", status=503, retry_after=60), 502, "provider_unreachable")
    ada.connect("acme")
    make_due(duo, "ada")
    caller.fresh("ada")


# What else a refresh says


def test_scopes_follow_the_provider(duo, ada, caller):
    assert sorted(ada.connect("acme")["scopes"]) == EVERY_SCOPE
    duo.stand_in.set_grant("ada", [GMAIL, *IDENTITY])
    make_due(duo, "ada")
    assert sorted(caller.fresh("ada")["scopes"]) == sorted([GMAIL, *IDENTITY])
    record, = ada.list("acme")
    assert sorted(record["scopes"]) == sorted([GMAIL, *IDENTITY]) and sorted(record["missing_scopes"]) == sorted([CALENDAR, DRIVE])
    assert record["status"] == "valid"
    problem(caller.token("ada", json={"scopes": [DRIVE]}), 422, "scopes_missing")
    states = {each["mcp"]: each["state"] for each in good(ada.get("/api/organizations/acme/mcps"))["mcps"] if each["service"] == "google"}
    assert states == {"gmail": "ready", "google_calendar": "missing_scopes", "google_drive": "missing_scopes"}
    make_due(duo, "ada")
    duo.stand_in.fault("refresh", "answer", omit=["scope"])
    assert sorted(caller.fresh("ada")["scopes"]) == sorted([GMAIL, *IDENTITY]), "no scope in the answer: as before"
    duo.stand_in.set_grant("ada", EVERY_SCOPE)
    make_due(duo, "ada")
    assert sorted(caller.fresh("ada", scopes=[DRIVE])["scopes"]) == EVERY_SCOPE
    assert ada.list("acme")[0]["missing_scopes"] == []


@pytest.mark.parametrize("fault", [{"claims": {"sub": "108123000000000000999"}}, {"claims": {"sub": None}}, {"claims": {"iss": "https://evil.example"}},
                                   {"claims": {"aud": "another-client"}}],
                         ids=["another sub", "no sub", "another iss", "another aud"])
def test_an_id_token_of_somebody_else(duo, ada, caller, fault):
    ada.connect("acme")
    first = caller.fresh("ada")["access_token"]
    wait_until(lambda: credential(duo)["handed_out_until"] != "0", "it is noted that the token was handed out")
    make_due(duo, "ada")
    before = dump(duo, "ada")
    duo.stand_in.fault("refresh", "id_token", times=None, **fault)
    problem(caller.token("ada"), 409, "reconnect_required")
    assert dump(duo, "ada") == before, "nothing is stored"
    now = int(time.time())
    duo.redis.hset(key("credential", "ada"), mapping={"issued_at": now - 3500, "expires_at": now + 90})
    forget_failure(duo)
    problem(caller.token("ada"), 409, "reconnect_required")
    answer = good(ada.validate("acme"))
    assert (answer["integration"]["status"], answer["integration"]["status_reason"]) == ("unknown", "identity_changed")
    assert duo.redis.hget(key("credential", "ada"), "access_token") and duo.stand_in.honours(access_token=first)


def test_a_token_that_is_another_accounts_is_nobodys(duo, ada, caller):
    """A validation has found that out. Another one that finds the right account ends it."""
    ada.connect("acme")
    caller.fresh("ada")
    fault = duo.stand_in.fault("userinfo", "answer", set={"sub": "108123000000000000999"})
    assert good(ada.validate("acme"))["integration"]["status_reason"] == "identity_changed"
    duo.stand_in.clear_faults(fault)
    before = calls(duo)
    problem(caller.token("ada"), 409, "reconnect_required")
    make_due(duo, "ada")
    problem(caller.token("ada"), 409, "reconnect_required")
    assert calls(duo) == before
    assert good(ada.validate("acme"))["is_valid"]
    caller.fresh("ada")


def test_an_id_token_that_names_nobody(duo, ada, caller):
    """Nobody gets what came with it, but a provider that rotates has forgotten the old refresh token."""
    duo.stand_in.settings(personality="rotating")
    ada.connect("acme")
    problem(ask(duo, caller, "id_token", sign="garbage"), 502, "provider_unreachable")
    forget_failure(duo)
    caller.fresh("ada")
    assert duo.stand_in.counters()["reuse_detections"] == 0


def test_tokens_of_a_time_to_come(duo, ada, caller):
    """Some clock was ahead when they were stored: when they end nobody knows."""
    ada.connect("acme")
    now = int(time.time())
    duo.redis.hset(key("credential", "ada"), mapping={"issued_at": now + 86400, "expires_at": now + 86400 + 3599})
    before = calls(duo)["refreshes"]
    caller.fresh("ada")
    assert calls(duo)["refreshes"] == before + 1
    assert abs(int(credential(duo)["issued_at"]) - now) < 60
    caller.fresh("ada")
    assert calls(duo)["refreshes"] == before + 1


def test_the_end_of_tokens_that_are_gone(duo, ada, caller):
    """Connected again while the refresh of the old tokens was refused: that says nothing about the new ones."""
    ada.connect("acme")
    document = ada.authorize("acme")
    make_due(duo, "ada")
    hold = duo.stand_in.fault("refresh", "hold")
    duo.stand_in.fault("refresh", "error", error="invalid_grant", status=400)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(caller.fresh, "ada")
        duo.stand_in.wait_fired(hold)
        good(ada.callback("acme", document))
        duo.stand_in.release(hold)
        token = asked.result()["access_token"]
    assert caller.fresh("ada")["access_token"] == token
    assert [entry["event"] for entry in entries(duo)] == ["connected", "reconnected"]


def test_an_id_token_is_not_needed(duo, ada, caller):
    ada.connect("acme")
    make_due(duo, "ada")
    duo.stand_in.fault("refresh", "answer", omit=["id_token"])
    caller.fresh("ada")


@pytest.mark.parametrize("named", [True, False])
def test_a_validation_meanwhile(duo, ada, caller, named):
    """A refresh undoes it only where the provider has just named the account itself."""
    ada.connect("acme")
    make_due(duo, "ada")
    told = {"status": "unknown", "status_reason": "provider_policy", "validated_at": "2020-02-02T02:02:02Z"}
    if not named:
        duo.stand_in.fault("refresh", "answer", omit=["id_token"])
    hold = duo.stand_in.fault("refresh", "hold", after=True)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(caller.fresh, "ada")
        duo.stand_in.wait_fired(hold)
        duo.redis.hset(key("integration", "ada"), mapping=told)
        duo.stand_in.release(hold)
        asked.result()
    record, = ada.list("acme")
    assert (record["status"], record["status_reason"]) == (("valid", None) if named else ("unknown", "provider_policy"))
    assert (record["validated_at"] == told["validated_at"]) == (not named)
    assert record["oauth_email"]


# Sealed values belong where they are


def copied(source, target):
    def spoil(product):
        product.redis.copy(key("credential", *source), key("credential", *target), replace=True)
    return spoil


def changed(field, change):
    def spoil(product):
        name = key("credential", "ada")
        product.redis.hset(name, field, change(product.redis.hget(name, field)))
    return spoil


def swapped(product):
    name = key("credential", "ada")
    stored = product.redis.hgetall(name)
    product.redis.hset(name, mapping={"access_token": stored["refresh_token"], "refresh_token": stored["access_token"]})


def one_field_of(user, field):
    def spoil(product):
        product.redis.hset(key("credential", "ada"), field, product.redis.hget(key("credential", user), field))
    return spoil


SPOILED = {
    "another user's": copied(("bob",), ("ada",)),
    "another organization's": copied(("ada", "globex"), ("ada",)),
    "another service's": copied(("ada", "acme", "plain"), ("ada",)),
    "swapped fields": swapped,
    "another user's access token": one_field_of("bob", "access_token"),
    "another user's refresh token": one_field_of("bob", "refresh_token"),
    "one character": changed("refresh_token", lambda text: text[:-5] + ("A" if text[-5] != "A" else "B") + text[-4:]),
    "cut": changed("access_token", lambda text: text[:-8]),
    "nothing": changed("access_token", lambda text: ""),
    "plain": changed("refresh_token", lambda text: "1//not-sealed"),
    "an unknown key": changed("refresh_token", lambda text: text.replace("k1", "k9", 1)),
    "no tokens": lambda product: product.redis.delete(key("credential", "ada")),
    "no refresh token": lambda product: product.redis.hdel(key("credential", "ada"), "refresh_token"),
}


def test_moved_tokens_do_not_open(duo, ada, caller):
    bob = duo.session("bob", {"acme": "member"})
    bob.connect("acme", account="grace")
    ada.connect("acme")
    ada.connect("globex")
    ada.connect("acme", service="plain")
    for name, spoil in SPOILED.items():
        before = duo.redis.hgetall(key("credential", "ada"))
        asked = calls(duo)
        spoil(duo)
        if name == "another service's":  # it names another client: that is said first, so only the seal is left
            duo.redis.hset(key("credential", "ada"), "client_id", before["client_id"])
        spoiled = credential(duo)
        problem(caller.token("ada"), 409, "reconnect_required")
        answer = good(ada.validate("acme"))
        assert (answer["is_valid"], answer["integration"]["status"], answer["integration"]["status_reason"]) == \
            (False, "unknown", "tokens_unreadable"), name
        assert calls(duo) == asked, f"{name}: something was sent to the provider"
        assert {**credential(duo), "handed_out_until": 0} == {**spoiled, "handed_out_until": 0}, f"{name}: what does not open stays"
        states = {each["mcp"]: each["state"] for each in good(ada.get("/api/organizations/acme/mcps"))["mcps"]}
        assert states["gmail"] == "reconnect_required"
        duo.redis.delete(key("credential", "ada"))
        duo.redis.hset(key("credential", "ada"), mapping=before)
        caller.fresh("ada")
    for user, organization in (("bob", "acme"), ("ada", "globex")):
        caller.fresh(user, organization)


def test_a_record_with_anothers_name_on_it(duo, ada, caller):
    """A whole connection that was copied to another user opens nothing there."""
    ada.connect("acme")
    for kind in ("integration", "credential"):
        duo.redis.copy(key(kind, "ada"), key(kind, "eve"))
    problem(caller.token("eve"), 409, "reconnect_required")
    eve = duo.session("eve", {"acme": "member"})
    record = good(eve.validate("acme"))["integration"]
    assert (record["user_id"], record["status_reason"]) == ("eve", "tokens_unreadable")
    asked = calls(duo)
    assert good(eve.disconnect("acme"))["revocation"] == "not_revoked"
    assert calls(duo) == asked
    assert fingerprint(caller.fresh("ada")["access_token"])
