"""Every 200 answer of the routes for users: exactly these members, of these types, and the headers of every answer."""

import re

import pytest

from checks import CALENDAR, DRIVE, GMAIL, IDENTITY, age, key
from harness import SCOPES, good, problem

TIME = re.compile(r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ\Z")
RECORD = {"id", "organization_id", "user_id", "service", "status", "status_reason", "oauth_user_id", "oauth_email",
          "scopes", "missing_scopes", "connected_at", "updated_at", "validated_at"}
REASONS = {None, "grant_revoked", "provider_unreachable", "provider_misconfigured", "provider_policy",
           "provider_changed", "identity_changed", "tokens_unreadable"}


def check_record(record):
    assert set(record) == RECORD
    assert re.fullmatch(r"[0-9a-f]{32}", record["id"])
    assert record["status"] in ("valid", "invalid", "unknown")
    assert record["status_reason"] in REASONS
    for name in ("scopes", "missing_scopes"):
        assert isinstance(record[name], list) and all(isinstance(scope, str) for scope in record[name])
    for name in ("connected_at", "updated_at", "validated_at"):
        assert TIME.match(record[name]), name


def check_headers(answer, content_type="application/json"):
    assert answer.headers["Content-Type"] == content_type
    assert answer.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    for name in answer.headers:
        assert not name.lower().startswith(("access-control-", "set-cookie", "x-accel", "x-powered")), name
    assert answer.headers["Server"] == "nginx"
    return answer


def test_me(product, ada):
    assert good(check_headers(ada.get("/api/me"))) == {
        "user_id": "ada", "email": "ada@example.com", "name": "Ada Lovelace",
        "organizations": [{"id": "acme", "role": "admin"}, {"id": "globex", "role": "member"}]}
    bare = product.session("nobody", {})
    assert good(bare.get("/api/me")) == {"user_id": "nobody", "email": None, "name": None, "organizations": []}


def test_services(duo):
    ada = duo.session("ada", {})
    services = good(check_headers(ada.get("/api/services")))["services"]
    assert [each["service"] for each in services] == ["google", "plain"]
    google = services[0]
    assert set(google) == {"service", "name", "description", "scopes", "mcps"}
    assert (google["name"], google["description"]) == (
        "Google", "Connect Gmail, Calendar, and Drive with read-only access.")
    assert google["scopes"] == ["openid", "email", *SCOPES]
    assert [(each["mcp"], each["name"], each["scopes"]) for each in google["mcps"]] == [
        ("gmail", "Gmail", [GMAIL]), ("google_calendar", "Google Calendar", [CALENDAR]),
        ("google_drive", "Google Drive", [DRIVE])]
    assert all(set(each) == {"mcp", "name", "description", "scopes"} for each in google["mcps"])


def test_list_and_callback(ada):
    answer = check_headers(ada.integrations("acme"))
    assert answer.json() == {"integrations": []}
    answer = check_headers(ada.try_connect("acme", account="ada"))
    assert set(answer.json()) == {"integration"}
    record = answer.json()["integration"]
    check_record(record)
    assert record["connected_at"] == record["updated_at"] == record["validated_at"]
    assert sorted(record["scopes"]) == sorted(SCOPES + IDENTITY)
    assert {name: record[name] for name in ("organization_id", "user_id", "service", "status", "status_reason",
                                            "oauth_email", "missing_scopes")} == {
        "organization_id": "acme", "user_id": "ada", "service": "google", "status": "valid", "status_reason": None,
        "oauth_email": "ada@example.com", "missing_scopes": []}
    assert re.fullmatch(r"[0-9]+", record["oauth_user_id"])
    assert check_headers(ada.integrations("acme")).json() == {"integrations": [record]}


def test_list_is_sorted_by_service(duo):
    ada = duo.session("ada", {"acme": "member"})
    ada.connect("acme", service="plain")
    ada.connect("acme", service="google")
    assert [record["service"] for record in ada.list("acme")] == ["google", "plain"]
    for record in ada.list("acme"):
        check_record(record)


def test_auth_link(ada):
    answer = check_headers(ada.auth_link("acme"))
    assert set(answer.json()) == {"auth_link"}
    assert answer.json()["auth_link"].startswith("http")


@pytest.mark.parametrize("body", [None, {}, {"anything": [1, {"more": None}]}], ids=str)
def test_validate(product, ada, body):
    ada.connect("acme")
    age(product, "ada")
    answer = check_headers(ada.validate("acme", json=body))
    assert set(answer.json()) == {"is_valid", "integration"}
    assert answer.json()["is_valid"] is True
    record = answer.json()["integration"]
    check_record(record)
    assert record["connected_at"] == "2020-02-02T02:02:02Z"
    assert record["validated_at"] == record["updated_at"] > "2026"
    assert ada.list("acme") == [record]


def test_disconnect(ada):
    ada.connect("acme")
    answer = check_headers(ada.disconnect("acme"))
    assert answer.json() == {"service": "google", "revocation": "revoked", "access_until": None}


def test_mcps(product, ada):
    def states():
        mcps = good(check_headers(ada.get("/api/organizations/acme/mcps")))["mcps"]
        for each in mcps:
            assert set(each) == {"mcp", "name", "service", "state", "missing_scopes", "connect_url"}
            assert (each["service"], each["connect_url"]) == ("google", "/integrations")
        assert [(each["mcp"], each["name"]) for each in mcps] == [
            ("gmail", "Gmail"), ("google_calendar", "Google Calendar"), ("google_drive", "Google Drive")]
        return [(each["state"], each["missing_scopes"]) for each in mcps]

    def stored(**fields):
        product.redis.hset(key("integration", "ada"), mapping=fields)

    assert states() == [("not_connected", [])] * 3
    ada.connect("acme", grant=[GMAIL, DRIVE])
    assert states() == [("ready", []), ("missing_scopes", [CALENDAR]), ("ready", [])]
    stored(status="unknown", status_reason="provider_unreachable")
    assert states() == [("ready", []), ("missing_scopes", [CALENDAR]), ("ready", [])]
    stored(status="unknown", status_reason="tokens_unreadable")
    assert states() == [("reconnect_required", []), ("reconnect_required", [CALENDAR]), ("reconnect_required", [])]
    stored(status="invalid", status_reason="grant_revoked")
    assert states() == [("reconnect_required", []), ("reconnect_required", [CALENDAR]), ("reconnect_required", [])]
    ada.disconnect("acme")
    assert states() == [("not_connected", [])] * 3


def test_head_is_get_without_a_body(product, ada):
    ada.connect("acme")
    for path in ("/api/me", "/api/services", "/api/organizations/acme/integrations", "/api/organizations/acme/mcps"):
        get = check_headers(ada.get(path))
        head = check_headers(ada.request("HEAD", path))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.content))
    refused = product.request("HEAD", "/api/me")
    assert (refused.status_code, refused.content) == (401, b"")
    answer = ada.request("HEAD", "/api/organizations/acme/integrations/google/auth_link")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
    assert product.redis.keys("oauth_state:*") == []


def test_a_refusal_has_the_same_headers(product, ada):
    for answer in (product.request("GET", "/api/me"), ada.get("/api/nothing"), ada.validate("acme"),
                   ada.integrations("initech"), product.request("GET", "/api/me", headers={"Host": "evil.example"})):
        check_headers(answer, "application/problem+json")


def test_request_ids_are_our_own(ada):
    answers = [ada.get("/api/me", headers={"X-Request-Id": "chosen-by-the-client"}) for _ in range(3)]
    numbers = {check_headers(answer).headers["X-Request-Id"] for answer in answers}
    assert len(numbers) == 3


def test_the_log_tells_each_request_by_its_id(product, ada):
    answer = ada.integrations("initech")
    body = problem(answer, 403, "organization_forbidden")
    line = product.stand_in.wait_for(
        lambda _: [line for line in product.log() if line.get("request_id") == body["request_id"] and "status" in line])[0]
    assert line["status"] == 403
