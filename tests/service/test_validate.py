"""Validation asks the provider; only invalid_grant makes a connection invalid, and tokens outlive every other answer."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import (CALENDAR, DRIVE, GMAIL, IDENTITY, age, calls, dump, is_stored, key, live, make_due, only, wait_in_flight)
from harness import SCOPES, SERVICE, good, problem, wait_until

CHANGEABLE = ("status", "status_reason", "updated_at", "validated_at")


@pytest.fixture
def ada(duo):
    ada = duo.session("ada", {"acme": "admin", "globex": "member"}, sid="login-of-ada")
    ada.connect("acme")
    age(duo, "ada")
    duo.stand_in.wait_for(lambda google: google.ledger(lists=False)["in_flight"] == 0)
    return ada


def verdict(answer):
    body = good(answer)
    assert body["is_valid"] is (body["integration"]["status"] == "valid")
    return body["integration"]["status"], body["integration"]["status_reason"]


def fixed(duo):
    """What no failed validation may change: the credential byte for byte, and the record but for its status."""
    record = duo.redis.hgetall(key("integration", "ada"))
    return duo.redis.hgetall(key("credential", "ada")), {name: value for name, value in record.items() if name not in CHANGEABLE}


def since(duo, before):
    return {name: count - before[name] for name, count in calls(duo).items() if count != before[name]}


# What it asks


def test_it_asks_each_time(duo, ada):
    before = calls(duo)
    for _ in range(3):
        assert verdict(ada.validate("acme")) == ("valid", None)
    assert since(duo, before) == {"userinfo": 3}


def test_it_refreshes_when_due(duo, ada):
    make_due(duo, "ada")
    before, generation = calls(duo), duo.redis.hget(key("integration", "ada"), "generation")
    assert verdict(ada.validate("acme")) == ("valid", None)
    assert since(duo, before) == {"refreshes": 1, "userinfo": 1}
    assert duo.redis.hget(key("integration", "ada"), "generation") != generation
    assert verdict(ada.validate("acme")) == ("valid", None)
    assert since(duo, before) == {"refreshes": 1, "userinfo": 2}


@pytest.mark.parametrize("age_, left, due", [(0, 3600, False), (3000, 600, False), (3300, 300 - 1, True), (3599, 1, True), (3600, 0, True),
                                             (10**6, -(10**6), True), (10, 280, False), (160, 140, True)])
def test_when_it_is_due(duo, ada, age_, left, due):
    """With less than five minutes left, but never before half of a token's life is over."""
    now = int(duo.stand_in.call("GET", "health")["time"])
    duo.redis.hset(key("credential", "ada"), mapping={"issued_at": now - age_, "expires_at": now + left})
    before = calls(duo)
    assert verdict(ada.validate("acme")) == ("valid", None)
    assert since(duo, before) == ({"refreshes": 1, "userinfo": 1} if due else {"userinfo": 1})


def test_the_refresh_request(duo, ada):
    make_due(duo, "ada")
    good(ada.validate("acme"))
    request = duo.stand_in.requests("token")[-1]
    assert set(request["form_fields"]) == {"grant_type", "refresh_token", "client_id", "client_secret"}
    assert dict(request["form"])["grant_type"] == "refresh_token"


def test_a_refused_token_is_refreshed_once(duo, ada):
    """401 once: refresh, ask again. 401 for ever: one refresh, and it says nothing about the grant."""
    before = calls(duo)
    duo.stand_in.fault("userinfo", "status", status=401)
    assert verdict(ada.validate("acme")) == ("valid", None)
    assert since(duo, before) == {"refreshes": 1, "userinfo": 1}
    number = duo.stand_in.fault("userinfo", "status", status=401, times=None)
    assert verdict(ada.validate("acme")) == ("unknown", "provider_unreachable")
    assert since(duo, before) == {"refreshes": 2, "userinfo": 1}
    assert [fault["fired"] for fault in duo.stand_in.clear_faults() if fault["id"] == number] == [2]
    assert verdict(ada.validate("acme")) == ("valid", None)


# What the provider says, and what it means


VALID, DEAD = ("valid", None), ("invalid", "grant_revoked")
UNREACHABLE, MISCONFIGURED, POLICY = (("unknown", "provider_" + reason) for reason in ("unreachable", "misconfigured", "policy"))


def refresh_table():
    """Answers of the token endpoint to a refresh: what it is, the fault, its options, the verdict."""
    for description in ("Token has been expired or revoked.", "Bad Request", "Malformed auth code.", None):
        yield f"invalid_grant, {description}", "error", {"error": "invalid_grant", "status": 400, "description": description}, DEAD
    for subtype in ("invalid_rapt", "rapt_required"):
        yield f"invalid_grant, {subtype}", "error", {"error": "invalid_grant", "status": 400, "subtype": subtype}, DEAD
    for status in (401, 403, 404, 500, 503, 429, 408):
        yield f"invalid_grant with {status}", "error", {"error": "invalid_grant", "status": status}, UNREACHABLE
    for error in ("INVALID_GRANT", "invalid_grants", " invalid_grant", "invalid-grant", "invalid_token", "expired_token", ""):
        yield f"the error {error!r}", "error", {"error": error, "status": 400}, UNREACHABLE
    for body in ('{"error":{"code":"invalid_grant"}}', '{"error":["invalid_grant"]}', '"invalid_grant"', "error=invalid_grant", '{"errors":"invalid_grant"}',
                 '{"error":"invalid_grant","error":"server_error"}', '{"error":"invalid_grant"', '{"error_description":"invalid_grant"}',
                 '{"error":"invalid_grant\\u0000"}'):
        yield f"the body {body}", "raw", {"body": body, "status": 400}, UNREACHABLE
    yield "invalid_grant with 200", "error", {"error": "invalid_grant", "status": 200}, UNREACHABLE
    for error, status in (("invalid_client", 401), ("invalid_client", 400), ("unauthorized_client", 401), ("deleted_client", 401), ("invalid_request", 400),
                          ("unsupported_grant_type", 400), ("redirect_uri_mismatch", 400), ("invalid_dpop_proof", 400)):
        yield f"{error} with {status}", "error", {"error": error, "status": status}, MISCONFIGURED
    for error, status in (("admin_policy_enforced", 400), ("invalid_scope", 400), ("access_denied", 403), ("org_internal", 403)):
        yield f"{error} with {status}", "error", {"error": error, "status": status}, POLICY
    for error, status in (("internal_failure", 500), ("server_error", 500), ("temporarily_unavailable", 503), ("temporarily_unavailable", 400),
                          ("invalid_client", 500), ("admin_policy_enforced", 503)):
        yield f"{error} with {status}", "error", {"error": error, "status": status}, UNREACHABLE
    for status in (204, 301, 400, 401, 403, 404, 408, 418, 429, 500, 502, 503, 504):
        yield f"status {status}", "status", {"status": status}, UNREACHABLE
    for retry_after in (1, "date", "absurd"):
        yield f"429, Retry-After {retry_after}", "status", {"status": 429, "retry_after": retry_after}, UNREACHABLE
    for kind, options in (("html", {}), ("html", {"status": 200}), ("html", {"status": 403}), ("redirect", {}), ("redirect", {"status": 307}), ("empty", {}), ("not_json", {}),
                          ("nested", {}), ("big", {}), ("big_headers", {"size": 1_000_000}), ("refuse", {}), ("truncate", {}), ("reset", {}),
                          ("wrong_length", {"by": 10}), ("invalid_utf8", {"field": "access_token"}), ("nul", {"field": "access_token"}),
                          ("duplicate", {"field": "access_token", "value": "ya29.MARKER-x"})):
        yield f"{kind} {options or ''}", kind, options, UNREACHABLE
    for changes in ({"token_type": "mac"}, {"access_token": None}, {"access_token": ""}, {"access_token": ["x"]}, {"refresh_token": 5},
                    {"refresh_token": "1//MARKER with blanks"}, {"refresh_token": "1//MARKER" + "x" * 3000}):
        yield f"the answer with {str(changes)[:40]}", "answer", {"set": changes}, UNREACHABLE
    for changes in ({"scope": 5}, {"id_token": 5}):
        yield f"the answer with {changes}", "answer", {"set": changes}, VALID
    yield "chunks", "chunked", {}, VALID


def userinfo_table():
    for status in (204, 301, 400, 404, 408, 418, 429, 500, 502, 503):
        yield f"status {status}", "status", {"status": status}, UNREACHABLE
    yield "status 403", "api_error", {"status": 403, "reason": "domainPolicy"}, POLICY
    for kind, options in (("html", {}), ("html", {"status": 200}), ("redirect", {}), ("empty", {}), ("not_json", {}), ("nested", {}), ("big", {}), ("refuse", {}),
                          ("truncate", {}), ("reset", {}), ("wrong_length", {"by": 10}), ("answer", {"omit": ["sub"]}), ("answer", {"set": {"sub": None}}),
                          ("answer", {"set": {"sub": {}}}), ("answer", {"set": {"sub": True}}), ("nul", {"field": "sub"}), ("invalid_utf8", {"field": "sub"}),
                          ("duplicate", {"field": "sub", "value": "1"}), ("error", {"error": "invalid_grant", "status": 400})):
        yield f"{kind} {options or ''}", kind, options, UNREACHABLE
    for other in ("999", "", "x" * 300, 7):
        yield f"the account {str(other)[:8]!r}", "answer", {"set": {"sub": other}}, ("unknown", "identity_changed")
    yield "chunks", "chunked", {}, VALID
    yield "one byte at a time", "slow", {"interval": 0.0001}, VALID


def table(endpoint, rows):
    return [pytest.param(endpoint, kind, {name: value for name, value in options.items() if value is not None}, expected, id=f"{endpoint}: {name}")
            for name, kind, options, expected in rows]


@pytest.mark.parametrize("endpoint, kind, options, expected", table("refresh", refresh_table()) + table("userinfo", userinfo_table()))
def test_what_the_provider_says(duo, ada, endpoint, kind, options, expected):
    """One row: the verdict; tokens and account as they were; and when the provider is itself again, so is the connection."""
    if endpoint == "refresh":
        make_due(duo, "ada")
    before = fixed(duo)
    number = duo.stand_in.fault(endpoint, kind, times=None, **options)
    assert verdict(ada.validate("acme")) == expected
    duo.stand_in.wait_fired(number)
    duo.stand_in.clear_faults()
    if expected != VALID:
        assert fixed(duo) == before
    record = ada.list("acme")[0]
    assert (record["status"], record["status_reason"]) == expected
    answered = expected not in (UNREACHABLE,)
    assert (record["validated_at"] > "2026") is answered and record["updated_at"] > "2026"
    assert verdict(ada.validate("acme")) == VALID
    assert duo.stand_in.counters()["elsewhere"] == 0 and live(duo, "ada") == 1


def test_a_provider_that_is_not_there(duo, ada):
    before = fixed(duo)
    duo.stand_in.listen(False)
    assert verdict(ada.validate("acme")) == UNREACHABLE
    make_due(duo, "ada")
    before = fixed(duo)
    assert verdict(ada.validate("acme")) == UNREACHABLE
    assert fixed(duo) == before
    duo.stand_in.listen(True)
    assert verdict(ada.validate("acme")) == VALID


def test_a_provider_that_is_somebody_else(duo, ada):
    """Its certificate is refused, and the refresh token stays here."""
    make_due(duo, "ada")
    before, asked = fixed(duo), calls(duo)
    for kind in ("wrong_name", "unknown_ca", "expired_certificate"):
        duo.stand_in.listen(False)
        duo.stand_in.listen(True)
        number = duo.stand_in.fault("connection", kind, times=None)
        assert verdict(ada.validate("acme")) == UNREACHABLE
        duo.stand_in.wait_fired(number)
        duo.stand_in.clear_faults()
    assert fixed(duo) == before and calls(duo) == asked
    assert verdict(ada.validate("acme")) == VALID


def test_a_revoked_grant(duo, ada):
    """userinfo says 401, the refresh invalid_grant: only that is the end, and a new consent is a new beginning."""
    duo.stand_in.revoke_grant("ada")
    before = fixed(duo)
    for _ in range(2):
        assert verdict(ada.validate("acme")) == DEAD
        assert fixed(duo) == before
    first = ada.list("acme")[0]
    record = ada.connect("acme")
    assert (record["id"], record["status"], record["status_reason"]) == (first["id"], "valid", None)
    events = [(entry["event"], entry["outcome"]) for _, entry in duo.redis.xrange("events:{acme}")]
    assert ("refresh_failed", "grant_revoked") in events


def test_tokens_of_another_client(duo, ada):
    """Whose issuer or client id is no longer the provider file's: they go nowhere."""
    for field in ("client_id", "issuer"):
        was = duo.redis.hget(key("credential", "ada"), field)
        duo.redis.hset(key("credential", "ada"), field, was + ".other")
        before, asked = fixed(duo), calls(duo)
        assert verdict(ada.validate("acme")) == ("unknown", "provider_changed")
        assert fixed(duo) == before and calls(duo) == asked
        duo.redis.hset(key("credential", "ada"), field, was)
        assert verdict(ada.validate("acme")) == VALID


@pytest.mark.parametrize("spoil", ["access_token", "refresh_token", "issuer", "client_id", None])
def test_tokens_that_cannot_be_read(duo, ada, spoil):
    """Garbled or gone: nothing is sent, nothing deleted, and the MCPs ask for a reconnection."""
    name = key("credential", "ada")
    saved = duo.redis.hgetall(name)
    if spoil is None:
        duo.redis.delete(name)
    elif spoil.endswith("token"):
        duo.redis.hset(name, spoil, saved[spoil][:-4] + "AAAA")
    else:
        duo.redis.hdel(name, spoil)
    record, asked = fixed(duo)[1], calls(duo)
    assert verdict(ada.validate("acme")) == ("unknown", "tokens_unreadable")
    assert fixed(duo)[1] == record and calls(duo) == asked
    assert {each["state"] for each in good(ada.get("/api/organizations/acme/mcps"))["mcps"] if each["service"] == SERVICE} == {"reconnect_required"}
    duo.redis.hset(name, mapping=saved)
    assert verdict(ada.validate("acme")) == VALID


@pytest.mark.parametrize("field", ["id", "status", "oauth_user_id", "connected_at", "updated_at", "generation", "organization_id", "scopes"])
def test_a_damaged_record(duo, ada, field):
    """It is shown as what it is, never as not connected."""
    duo.redis.hdel(key("integration", "ada"), field)
    (record,) = ada.list("acme")
    if field not in ("organization_id", "scopes"):
        assert (record["status"], record["status_reason"]) == ("unknown", "tokens_unreadable")
    assert (record["organization_id"], record["user_id"], record["service"]) == ("acme", "ada", "google")
    assert ada.validate("acme").status_code == 200
    good(ada.disconnect("acme"))
    assert not is_stored(duo, "ada")


# What a refresh brings


@pytest.mark.parametrize("nothing", [{"omit": ["refresh_token"]}, {"set": {"refresh_token": None}}, {"set": {"refresh_token": ""}}], ids=str)
def test_a_refresh_without_a_refresh_token_keeps_the_stored_one(duo, ada, nothing):
    duo.stand_in.fault("refresh", "answer", times=None, **nothing)
    for _ in range(3):
        make_due(duo, "ada")
        assert verdict(ada.validate("acme")) == VALID
    assert calls(duo)["refreshes"] == 3


def test_a_rotated_refresh_token_takes_the_place_of_the_old(duo, ada):
    """An old one that was used again would be seen, and everything revoked."""
    duo.stand_in.settings(personality="rotating")
    for _ in range(4):
        make_due(duo, "ada")
        assert verdict(ada.validate("acme")) == VALID
    counters = duo.stand_in.counters()
    assert (counters["refreshes_ok"], counters["reuse_detections"], live(duo, "ada")) == (4, 0, 1)


def test_rotation_after_a_refused_token(duo, ada):
    duo.stand_in.settings(personality="rotating")
    duo.stand_in.fault("userinfo", "status", status=401)
    assert verdict(ada.validate("acme")) == VALID
    make_due(duo, "ada")
    assert verdict(ada.validate("acme")) == VALID
    assert duo.stand_in.counters()["reuse_detections"] == 0


def test_scopes_follow_a_refresh(duo, ada):
    """The user took some back, and gave them again."""
    def refreshed(scopes):
        duo.stand_in.set_grant("ada", scopes + IDENTITY)
        make_due(duo, "ada")
        record = good(ada.validate("acme"))["integration"]
        assert record["status"] == "valid"
        return sorted(record["scopes"]), sorted(record["missing_scopes"])

    assert refreshed([GMAIL]) == (sorted([GMAIL, *IDENTITY]), sorted([CALENDAR, DRIVE]))
    assert [each["state"] for each in good(ada.get("/api/organizations/acme/mcps"))["mcps"][:3]] == ["ready", "missing_scopes", "missing_scopes"]
    assert refreshed(SCOPES) == (sorted(SCOPES + IDENTITY), [])
    duo.stand_in.fault("refresh", "answer", omit=["scope"])
    make_due(duo, "ada")
    assert good(ada.validate("acme"))["integration"]["missing_scopes"] == [], "no scope in the answer: as before"


def test_a_refresh_that_names_another_account(duo, ada):
    """Its tokens are not taken."""
    for options in ({"claims": {"sub": "999"}}, {"claims": {"iss": "https://evil.example"}}):
        make_due(duo, "ada")
        before = fixed(duo)
        duo.stand_in.fault("refresh", "id_token", **options)
        assert verdict(ada.validate("acme")) == ("unknown", "identity_changed")
        assert fixed(duo) == before
    assert verdict(ada.validate("acme")) == VALID


# At the same time


def validate_at_once(product, sessions, hold, hosts=1):
    """All answers of validations that are all under way before the provider answers the first."""
    with ThreadPoolExecutor(len(sessions)) as pool:
        posts = [pool.submit(session.validate, "acme", host=number % hosts) for number, session in enumerate(sessions)]
        product.stand_in.wait_fired(hold)
        for host in range(hosts):
            wait_in_flight(product, len(sessions[host::hosts]), host)
        product.stand_in.release(hold)
        return [good(post.result())["integration"] for post in posts]


@pytest.mark.parametrize("due", [False, True])
def test_validations_at_once_share_one_call(duo, ada, due):
    if due:
        make_due(duo, "ada")
    before = calls(duo)
    hold = duo.stand_in.fault("refresh" if due else "userinfo", "hold")
    records = validate_at_once(duo, [ada] * 12, hold)
    assert {record["status"] for record in records} == {"valid"}
    assert len({str(record) for record in records}) == 1
    assert since(duo, before) == ({"refreshes": 1, "userinfo": 1} if due else {"userinfo": 1})


def test_failed_validations_at_once_share_one_call(duo, ada):
    make_due(duo, "ada")
    before = calls(duo)
    duo.stand_in.fault("refresh", "error", error="invalid_grant", status=400, times=None)
    hold = duo.stand_in.fault("refresh", "hold")
    records = validate_at_once(duo, [ada] * 12, hold)
    assert {(record["status"], record["status_reason"]) for record in records} == {DEAD}
    assert since(duo, before) == {"refreshes": 1}


def test_validations_over_two_hosts_share_one_call(make_product):
    product = make_product(hosts=2, environment={"LIMIT_VALIDATE": "0"})
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    product.stand_in.settings(personality="rotating")
    for endpoint in ("userinfo", "refresh", "refresh"):
        if endpoint == "refresh":
            make_due(product, "ada")
        before = calls(product)
        records = validate_at_once(product, [ada] * 8, product.stand_in.fault(endpoint, "hold"), hosts=2)
        assert {record["status"] for record in records} == {"valid"}
        assert since(product, before) == ({"refreshes": 1, "userinfo": 1} if endpoint == "refresh" else {"userinfo": 1})
    assert product.stand_in.counters()["reuse_detections"] == 0


def test_validations_of_different_people_do_not_wait_for_each_other(duo, ada):
    bob = duo.session("bob", {"acme": "member"})
    bob.connect("acme", account="grace")
    hold = duo.stand_in.fault("userinfo", "hold", account="ada")
    with ThreadPoolExecutor(1) as pool:
        post = pool.submit(ada.validate, "acme")
        duo.stand_in.wait_fired(hold)
        assert verdict(bob.validate("acme")) == VALID
        assert len(ada.list("acme")) == 1 and not post.done()
        duo.stand_in.release(hold)
        assert verdict(post.result()) == VALID


@pytest.mark.parametrize("endpoint", ["refresh", "userinfo"])
def test_a_disconnect_meanwhile(duo, ada, endpoint):
    """No token and no record comes back after a DELETE."""
    make_due(duo, "ada")
    hold = duo.stand_in.fault(endpoint, "hold", after=True)
    with ThreadPoolExecutor(1) as pool:
        post = pool.submit(ada.validate, "acme")
        duo.stand_in.wait_fired(hold)
        assert good(ada.disconnect("acme"))["revocation"] == "revoked"
        duo.stand_in.release(hold)
        problem(post.result(), 404, "integration_not_found")
    assert not is_stored(duo, "ada") and ada.list("acme") == []
    assert live(duo, "ada") == live(duo, "ada", "access") == 0


@pytest.mark.parametrize("account", ["ada", "grace"])
@pytest.mark.parametrize("endpoint", ["refresh", "userinfo"])
def test_a_reconnection_meanwhile(duo, ada, endpoint, account):
    """The late answer to the old tokens touches nothing of the new ones."""
    make_due(duo, "ada")
    hold = duo.stand_in.fault(endpoint, "hold", account="ada", after=True)
    with ThreadPoolExecutor(1) as pool:
        post = pool.submit(ada.validate, "acme")
        duo.stand_in.wait_fired(hold)
        record = ada.connect("acme", account=account, replace="true")
        credential = dump(duo, "ada")[1]
        duo.stand_in.release(hold)
        answer = good(post.result())["integration"]
    assert answer["id"] == record["id"] and answer["oauth_user_id"] == record["oauth_user_id"]
    assert dump(duo, "ada")[1] == credential
    assert verdict(ada.validate("acme")) == VALID


def test_redis_that_is_lost_under_a_refresh(make_product):
    """The provider has rotated: the new token must not be lost with the store, for the old one is dead."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    product.stand_in.settings(personality="rotating")
    make_due(product, "ada")
    hold = product.stand_in.fault("refresh", "hold", after=True)
    with ThreadPoolExecutor(1) as pool:
        post = pool.submit(ada.validate, "acme")
        product.stand_in.wait_fired(hold)
        product.redis_server.stop()
        product.stand_in.release(hold)
        wait_until(lambda: '"redis_unreachable"' in product.serve.text(), "the worker could not store it")
        product.redis_server.start()
        post.result()
    make_due(product, "ada")
    assert verdict(ada.validate("acme")) == VALID
    assert product.stand_in.counters()["reuse_detections"] == 0


def test_the_use_is_in_the_audit(duo):
    one = duo.session(f"audited-{secrets.token_hex(4)}", {"acme": "member"})  # so that this is the first use in the minute
    one.connect("acme")
    make_due(duo, one.user)
    good(one.validate("acme"))
    entries = [entry for _, entry in duo.redis.xrange("events:{acme}:use")]
    assert [(entry["event"], entry["outcome"]) for entry in entries] == [("refreshed", "ok"), ("validated", "valid")]
    assert [entry["event"] for _, entry in duo.redis.xrange("events:{acme}")] == ["connected"]
