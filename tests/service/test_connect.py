"""From auth_link to the stored connection: what is asked of the provider, scopes, pinning, failed reconnections."""

import concurrent.futures
import itertools
import urllib.parse

import pytest

from checks import (CALENDAR, DRIVE, GMAIL, IDENTITY, age, alike, calls, challenge_fingerprint, dump, fingerprint, is_stored, key,
                    live, make_due, only)
from harness import SCOPES, SERVICE, good, problem, wait_until


@pytest.fixture
def ada(duo):
    return duo.session("ada", {"acme": "admin", "globex": "member"}, sid="login-of-ada")


@pytest.fixture
def bob(duo):
    return duo.session("bob", {"acme": "member"}, sid="login-of-bob")


def query(url):
    pairs = urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, strict_parsing=True)
    assert len(pairs) == len(dict(pairs)), "a parameter came twice"
    return dict(pairs)


def secret_of(duo):
    with open(duo.stand_in.client_secret_file, encoding="utf-8") as file:
        return file.read().strip()


# What is asked of the provider


def test_the_authorization_url(duo, ada):
    """Exactly these parameters; nothing secret among them."""
    url = ada.begin("acme")
    assert url.split("?")[0] == duo.stand_in.provider["authorization_endpoint"]
    asked = query(url)
    assert set(asked) == {"response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
                          "code_challenge_method", "access_type", "prompt"}
    assert {name: asked[name] for name in ("response_type", "client_id", "redirect_uri", "code_challenge_method", "access_type", "prompt")} == {
        "response_type": "code", "client_id": duo.stand_in.client_id,
        "redirect_uri": f"{duo.public_url}/integrations/google/callback", "code_challenge_method": "S256",
        "access_type": "offline", "prompt": "consent select_account"}
    assert asked["scope"].split(" ") == ["openid", "email", *SCOPES]
    assert asked["state"].endswith(".acme")
    assert len(asked["state"]) == 48 and len(asked["nonce"]) >= 43 and len(asked["code_challenge"]) == 43
    assert secret_of(duo) not in urllib.parse.unquote(url)


def test_the_authorization_url_of_a_service_without_keys(duo, ada):
    assert "nonce" not in query(ada.begin("acme", service="plain"))


def test_everything_is_fresh_each_time(duo, ada):
    asked = [query(ada.begin("acme")) for _ in range(8)]
    for name in ("state", "nonce", "code_challenge"):
        assert len({each[name] for each in asked}) == 8
    assert len({value for each in asked for value in (each["state"], each["nonce"], each["code_challenge"])}) == 24


def test_the_redirect_uri_is_not_the_clients_to_choose(duo, ada):
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    answer = ada.get("/api/organizations/acme/integrations/google/auth_link?redirect_uri=https://evil.example&scope=x&client_id=y&state=z",
                     headers=headers)
    asked = query(good(answer)["auth_link"])
    assert asked["redirect_uri"] == f"{duo.public_url}/integrations/google/callback"
    assert (asked["client_id"], asked["scope"].split()[0]) == (duo.stand_in.client_id, "openid")
    assert asked["state"].endswith(".acme")


def test_the_token_request(duo, ada):
    url = ada.begin("acme")
    location = duo.stand_in.authorize(url)
    came = query(location)
    good(ada.callback("acme", {"code": came["code"], "state": came["state"]}))
    (request,) = duo.stand_in.requests("token")
    assert (request["method"], request["path"], request["query"]) == ("POST", "/token", [])
    assert request["content_type"] == "application/x-www-form-urlencoded"
    assert request["authorization"] is None
    assert len(request["form_fields"]) == 6
    form = dict(request["form"])
    assert form == {"grant_type": "authorization_code", "code": f"sha256:{fingerprint(came['code'])}",
                    "redirect_uri": query(url)["redirect_uri"], "client_id": duo.stand_in.client_id,
                    "client_secret": f"sha256:{fingerprint(secret_of(duo))}",
                    "code_verifier": f"sha256:{challenge_fingerprint(query(url)['code_challenge'])}"}
    names = {name.lower() for name in request["header_names"]}
    assert not names & {"cookie", "referer", "origin", "x-request-id", "dpop", "expect"}
    assert request["port"] == "https"
    assert request["host"] == f"localhost:{duo.stand_in.ports['https']}"


def test_the_token_request_with_basic(duo, ada):
    ada.connect("acme", service="plain")
    (request,) = duo.stand_in.requests("token")
    assert request["authorization"]["scheme"] == "Basic"
    assert set(request["form_fields"]) == {"grant_type", "code", "redirect_uri", "code_verifier"}


def test_no_credential_in_any_url(duo, ada):
    """Nor a client's secret or a code where it does not belong; every call over TLS."""
    ada.connect("acme")
    make_due(duo, "ada")
    good(ada.validate("acme"))
    good(ada.disconnect("acme"))
    seen = set()
    for request in duo.stand_in.requests():
        if request["endpoint"] not in ("exchange", "refresh", "token", "revoke", "userinfo", "certs"):
            continue
        seen.add(request["endpoint"])
        assert request["port"] == "https" and request["query"] == [] and "?" not in request["path"]
        if request["endpoint"] == "userinfo":
            assert request["form_fields"] == [] and request["authorization"]["scheme"] == "Bearer"
        if request["endpoint"] in ("revoke", "token"):
            assert request["authorization"] is None
    assert {"userinfo", "revoke", "token"} <= seen


def test_a_redirect_is_not_followed(duo, ada):
    """Neither with the code and the client's secret, nor with a token."""
    for status in (301, 302, 303, 307, 308):
        duo.stand_in.fault("exchange", "redirect", status=status)
        problem(ada.try_connect("acme"), 502, "provider_unreachable")
    ada.connect("acme")
    duo.stand_in.fault("userinfo", "redirect")
    assert good(ada.validate("acme"))["integration"]["status_reason"] == "provider_unreachable"
    assert duo.stand_in.counters()["elsewhere"] == 0


def test_a_code_is_sent_once(duo, ada):
    """Also when the connection breaks under it: it may be spent, so that only the user can begin again."""
    for kind in ("refuse", "reset", "stall", "close", "empty", "html"):
        options = {"when": "after", "seconds": 0.1} if kind == "stall" else {}
        duo.stand_in.fault("exchange", kind, times=None, **options)
        before = calls(duo)["exchanges"]
        answer = ada.try_connect("acme")
        if kind != "close":
            problem(answer, 502, "provider_unreachable")
        assert calls(duo)["exchanges"] == before + 1, kind
        duo.stand_in.clear_faults()


# Scopes


SUBSETS = [list(each) for size in (1, 2) for each in itertools.combinations(SCOPES, size)]


@pytest.mark.parametrize("granted", SUBSETS, ids=lambda granted: " ".join(each.split("/")[-1] for each in granted))
def test_partial_consent(ada, granted):
    """What was granted is stored, what is missing is named, and each MCP knows what it lacks."""
    record = ada.connect("acme", grant=granted)
    missing = [scope for scope in SCOPES if scope not in granted]
    assert record["status"] == "valid"
    assert sorted(record["scopes"]) == sorted(granted + IDENTITY)
    assert sorted(record["missing_scopes"]) == sorted(missing)
    mcps = good(ada.get("/api/organizations/acme/mcps"))["mcps"][:3]
    assert [each["state"] for each in mcps] == ["ready" if scope in granted else "missing_scopes" for scope in (GMAIL, CALENDAR, DRIVE)]
    assert [scope for each in mcps for scope in each["missing_scopes"]] == [scope for scope in (GMAIL, CALENDAR, DRIVE) if scope in missing]


def test_nothing_that_an_mcp_needs(duo, ada):
    problem(ada.try_connect("acme", grant="none"), 422, "scopes_missing")
    assert not is_stored(duo, "ada")
    assert duo.stand_in.counters()["revokes"] == 1 and live(duo, "ada") == live(duo, "ada", "access") == 0
    ada.connect("acme", grant="all")


def test_more_consent_later(ada):
    first = ada.connect("acme", grant=[GMAIL])
    second = ada.connect("acme", grant="all")
    assert second["missing_scopes"] == [] and second["id"] == first["id"]
    third = ada.connect("acme", grant=[DRIVE])
    assert sorted(third["missing_scopes"]) == sorted([GMAIL, CALENDAR])


def test_an_answer_without_scope_grants_what_was_asked(duo, ada):
    duo.stand_in.fault("exchange", "answer", omit=["scope"])
    record = ada.connect("acme")
    assert record["missing_scopes"] == [] and sorted(record["scopes"]) == sorted(SCOPES + IDENTITY)


def test_the_scope_of_the_redirect_is_not_believed(duo, ada):
    """It passed through the browser; the token endpoint's counts."""
    duo.stand_in.fault("authorize", "callback", set={"scope": " ".join(SCOPES)})
    assert sorted(ada.connect("acme", grant=[GMAIL])["missing_scopes"]) == sorted([CALENDAR, DRIVE])


@pytest.mark.parametrize("scope, good_one", [("", False), ("  ", False), (GMAIL.upper(), False), (GMAIL + "x", False),
                                             (f" {GMAIL}  {GMAIL} ", True), (f"{GMAIL} https://other.example/scope", True)])
def test_scopes_are_compared_as_sets(duo, ada, scope, good_one):
    duo.stand_in.fault("exchange", "answer", set={"scope": scope})
    answer = ada.try_connect("acme")
    if good_one:
        assert sorted(good(answer)["integration"]["missing_scopes"]) == sorted([CALENDAR, DRIVE])
        assert good(answer)["integration"]["scopes"].count(GMAIL) == 1
    else:
        problem(answer, 422, "scopes_missing")


# Token answers that are strange but right, and some that are wrong


STRANGE = [({"expires_in": "3599"}, 200), ({"expires_in": 0}, 200), ({"expires_in": -5}, 200), ({"expires_in": 10**15}, 200),
           ({"expires_in": None}, 200), ({"expires_in": "soon"}, 200), ({"token_type": "bearer"}, 200), ({"token_type": "BEARER"}, 200),
           ({"more": {"deep": [1, 2]}}, 200), ({"token_type": "mac"}, 502), ({"token_type": None}, 502), ({"access_token": None}, 502),
           ({"access_token": ""}, 502), ({"access_token": 7}, 502), ({"access_token": "ya29.MARKER with blanks"}, 502),
           ({"access_token": "ya29.MARKER\n"}, 502), ({"access_token": "ya29.MARKER" + "x" * 4096}, 502), ({"scope": ["a"]}, 502),
           ({"error": "server_error"}, 502)]


@pytest.mark.parametrize("changes, status", STRANGE, ids=lambda value: str(value)[:40])
def test_strange_answers(duo, ada, changes, status):
    duo.stand_in.fault("exchange", "answer", set=changes)
    answer = ada.try_connect("acme")
    if status == 200:
        assert good(answer)["integration"]["status"] == "valid"
        expires = int(duo.redis.hget(key("credential", "ada"), "expires_at")) - int(duo.redis.hget(key("credential", "ada"), "issued_at"))
        assert 1 <= expires <= 86_400
    else:
        problem(answer, 502, "provider_unreachable")
        assert not is_stored(duo, "ada")
        assert live(duo, "ada") == 0, "what was given with it is revoked"


TRANSPORT = [("chunked", {}, 200), ("gzip", {}, None), ("truncate", {}, 502), ("wrong_length", {"by": 10}, 502),
             ("wrong_length", {"by": -10}, 502), ("reset", {}, 502), ("empty", {}, 502), ("not_json", {}, 502), ("nested", {}, 502), ("big", {}, 502),
             ("big", {"length": False}, 502), ("big_headers", {"size": 1_000_000}, 502), ("invalid_utf8", {"field": "access_token"}, 502),
             ("nul", {"field": "access_token"}, 502), ("nul", {"field": "access_token", "raw": True}, 502),
             ("duplicate", {"field": "access_token", "value": "ya29.MARKER-other"}, 502)]


@pytest.mark.parametrize("kind, options, status", TRANSPORT, ids=lambda value: str(value)[:30])
def test_spoiled_answers(duo, ada, kind, options, status):
    number = duo.stand_in.fault("exchange", kind, **options)
    answer = ada.try_connect("acme")
    duo.stand_in.wait_fired(number)
    if answer.status_code != 200 or status == 502:
        problem(answer, 502, "provider_unreachable")
        assert not is_stored(duo, "ada")
    assert status in (None, answer.status_code)


@pytest.mark.parametrize("size, status", [(60_000, 200), (70_000, 502)])
def test_how_large_an_answer_may_be(duo, ada, size, status):
    """64 KiB, however good the rest is."""
    number = duo.stand_in.fault("exchange", "answer", set={"more": "x" * size})
    assert ada.try_connect("acme").status_code == status
    duo.stand_in.wait_fired(number)
    assert is_stored(duo, "ada") == (status == 200)


@pytest.mark.parametrize("kind", ["expired_certificate", "wrong_name", "unknown_ca", "refuse_connection"])
def test_a_provider_that_is_not_who_it_says(duo, ada, kind):
    """The certificate is checked before a byte of the request leaves."""
    document = ada.authorize("acme")
    number = duo.stand_in.fault("connection", kind, times=None)
    problem(ada.callback("acme", document), 502, "provider_unreachable")
    duo.stand_in.wait_fired(number)
    duo.stand_in.clear_faults()
    assert calls(duo) == only() and not is_stored(duo, "ada")


# Account pinning


def test_the_same_account_keeps_id_and_time(duo, ada):
    first = ada.connect("acme")
    age(duo, "ada")
    duo.redis.hset(key("integration", "ada"), mapping={"status": "invalid", "status_reason": "grant_revoked"})
    generation = duo.redis.hget(key("integration", "ada"), "generation")
    for replace in (None, "true", "false"):
        record = ada.connect("acme", replace=replace)
        assert (record["id"], record["connected_at"]) == (first["id"], "2020-02-02T02:02:02Z")
        assert (record["status"], record["status_reason"]) == ("valid", None)
        assert record["updated_at"] > "2026" and record["validated_at"] > "2026"
    assert duo.redis.hget(key("integration", "ada"), "generation") != generation
    assert duo.stand_in.counters()["revokes"] == 0


def test_another_account(duo, ada):
    """Refused, both named, what is stored is as it was byte for byte, and the refused tokens are dead."""
    ada.connect("acme", account="ada")
    before = dump(duo, "ada")
    body = problem(ada.try_connect("acme", account="grace"), 409, "account_mismatch")
    assert (body["stored_account"], body["chosen_account"]) == ("ada@example.com", "grace@workspace.example")
    assert dump(duo, "ada") == before
    assert live(duo, "grace") == live(duo, "grace", "access") == 0 and live(duo, "ada") == 1
    assert duo.stand_in.counters()["revokes"] == 1


def test_a_namesake_of_another_issuer(duo, ada):
    """The same account id where the stored tokens are of another issuer: that is another account."""
    ada.connect("acme", account="ada")
    duo.redis.hset(key("credential", "ada"), "issuer", "https://other.example")
    before = dump(duo, "ada")
    problem(ada.try_connect("acme", account="ada"), 409, "account_mismatch")
    assert dump(duo, "ada") == before


def test_another_account_that_somebody_uses(duo, ada, bob):
    """Its tokens are not revoked: that would end the other's connection."""
    ada.connect("acme", account="ada")
    bob.connect("acme", account="grace")
    before = dump(duo, "ada"), dump(duo, "bob")
    problem(ada.try_connect("acme", account="grace"), 409, "account_mismatch")
    assert (dump(duo, "ada"), dump(duo, "bob")) == before
    assert duo.stand_in.counters()["revokes"] == 0 and good(bob.validate("acme"))["is_valid"] is True


def exchange_without_a_name(duo, person, organization, service, times):
    """An exchange whose answer says nothing about the account, nor does userinfo `times` times (None: as often as asked)."""
    duo.stand_in.fault("exchange", "answer", omit=["id_token"])
    if times != 0:
        duo.stand_in.fault("userinfo", "status", status=500, times=times)
    answer = person.try_connect(organization, service=service)
    assert answer.status_code == 502
    assert all(each["fired"] for each in duo.stand_in.clear_faults())
    return answer


@pytest.mark.parametrize("used", [True, False], ids=["used elsewhere", "used by nobody"])
@pytest.mark.parametrize("service, times", [("google", 0), ("plain", 1)])
def test_tokens_whose_account_came_late(duo, ada, service, times, used):
    """The provider is asked once more before they are revoked: theirs may be a grant that serves."""
    if used:
        ada.connect("acme", service=service)
    exchange_without_a_name(duo, ada, "globex", service, times)
    assert duo.stand_in.counters()["revokes"] == (0 if used else 1)
    if used:
        assert good(ada.validate("acme", service=service))["is_valid"] is True
    else:
        assert live(duo, "ada") == live(duo, "ada", "access") == 0


@pytest.mark.parametrize("organization", ["acme", "globex"])
@pytest.mark.parametrize("service", ["google", "plain"])
def test_tokens_whose_account_nobody_can_tell(duo, ada, service, organization):
    """They are left, because their grant may serve somebody, here or elsewhere; the log says so, and what to do."""
    ada.connect("acme", service=service)
    answer = exchange_without_a_name(duo, ada, organization, service, None)
    assert duo.stand_in.counters()["revokes"] == 0
    assert good(ada.validate("acme", service=service))["is_valid"] is True
    line, = wait_until(lambda: [line for line in duo.log() if line.get("request_id") == answer.headers["X-Request-Id"]
                                and "their account is not known" in line.get("message", "")], "it is logged")
    assert line["level"] == "error" and "have the user connect" in line["action"]


def test_a_forged_account_ends_no_connection(duo, ada):
    """Tokens of the connected account that claim to be another's: to revoke them would end the connection."""
    ada.connect("acme")
    duo.stand_in.fault("exchange", "id_token", sign="bad", claims={"sub": "108000000000000000000"})
    problem(ada.try_connect("acme"), 502, "identity_invalid")
    assert all(each["fired"] for each in duo.stand_in.clear_faults())
    assert duo.stand_in.counters()["revokes"] == 0 and good(ada.validate("acme"))["is_valid"] is True


@pytest.mark.parametrize("replace", ["", "false", "1", "yes", "TRUE", "True", "true ", "true&replace=true", "true&replace=false", "%ff"])
def test_only_true_replaces(ada, replace):
    ada.connect("acme", account="ada")
    problem(ada.try_connect("acme", account="grace", replace=replace), 409, "account_mismatch")


def test_replace(duo, ada):
    first = ada.connect("acme", account="ada")
    age(duo, "ada")
    record = ada.connect("acme", account="grace", replace="true")
    assert record["id"] != first["id"] and record["connected_at"] > "2026"
    assert (record["oauth_email"], record["status"]) == ("grace@workspace.example", "valid")
    assert ada.list("acme") == [record]
    assert live(duo, "ada") == live(duo, "ada", "access") == 0 and live(duo, "grace") == 1
    assert good(ada.disconnect("acme"))["revocation"] == "revoked"


def test_replace_of_a_shared_grant(duo, ada, bob):
    bob.connect("acme", account="ada")
    ada.connect("acme", account="ada")
    ada.connect("acme", account="grace", replace="true")
    assert duo.stand_in.counters()["revokes"] == 0
    assert good(bob.validate("acme"))["is_valid"] is True


def test_replace_by_a_scope_that_is_none(duo, ada):
    """A replacing flow that fails replaces nothing."""
    ada.connect("acme", account="ada")
    before = dump(duo, "ada")
    problem(ada.try_connect("acme", account="grace", grant="none", replace="true"), 422, "scopes_missing")
    assert dump(duo, "ada") == before and live(duo, "ada") == 1 and live(duo, "grace") == 0


def test_replace_is_of_its_own_flow(ada):
    """What the state says counts, not what the post says."""
    ada.connect("acme", account="ada")
    document = ada.authorize("acme", account="grace")
    answer = ada.post("/api/organizations/acme/integrations/google/callback?replace=true", json={**document, "replace": True})
    problem(answer, 409, "account_mismatch")


# The account that is asked for, and the one that may replace


def sub_of(duo, account):
    return next(each["sub"] for each in duo.stand_in.call("GET", "accounts")["accounts"] if each["key"] == account)


def test_the_hint_of_a_reconnection(duo, ada):
    """The stored account is named, and it alone: the address where it is known, else the id."""
    assert "login_hint" not in query(ada.begin("acme"))
    ada.connect("acme", account="grace")
    assert query(ada.begin("acme"))["login_hint"] == "grace@workspace.example"
    assert ada.connect("acme", account=None)["oauth_email"] == "grace@workspace.example"
    assert "login_hint" not in query(ada.begin("globex")) and "login_hint" not in query(ada.begin("acme", replace="true"))
    duo.redis.hset(key("integration", "ada"), "oauth_email", "a+b&state=x@example.com")
    url = ada.begin("acme")
    assert "&login_hint=a%2Bb%26state%3Dx%40example.com&" in url and query(url)["state"].endswith(".acme")
    duo.redis.hdel(key("integration", "ada"), "oauth_email")
    assert query(ada.begin("acme"))["login_hint"] == sub_of(duo, "grace")


def test_the_hint_of_a_replacement(duo, ada):
    """It names the account that is to come; its address is known where it is the stored one."""
    ada.connect("acme", account="ada")
    assert query(ada.begin("acme", replace_with=sub_of(duo, "grace")))["login_hint"] == sub_of(duo, "grace")
    assert query(ada.begin("acme", replace_with=sub_of(duo, "ada")))["login_hint"] == "ada@example.com"
    assert query(ada.begin("globex", replace_with=sub_of(duo, "grace")))["login_hint"] == sub_of(duo, "grace")


def test_no_hint_that_the_provider_file_does_not_allow(duo, ada):
    ada.connect("acme", service="plain")
    assert "login_hint" not in query(ada.begin("acme", service="plain"))
    assert "login_hint" not in query(ada.begin("acme", service="plain", replace_with="1"))


def test_no_hint_for_another_issuer(duo, ada):
    """What one provider told of an account is not sent to another."""
    ada.connect("acme")
    duo.redis.hset(key("credential", "ada"), "issuer", "https://other.example")
    assert "login_hint" not in query(ada.begin("acme"))


def test_no_log_holds_the_accounts(duo, ada):
    ada.connect("acme", account="ada")
    begun = ada.auth_link("acme", replace_with=sub_of(duo, "linus"))
    refused = ada.try_connect("acme", account="grace")
    problem(refused, 409, "account_mismatch")
    seen = {each.headers["X-Request-Id"] for each in (begun, refused)}
    lines = wait_until(lambda: [line for line in duo.log() if line.get("request_id") in seen], "they are logged")
    for secret in ("ada@example.com", "grace@workspace.example", *(sub_of(duo, each) for each in ("ada", "grace", "linus"))):
        assert secret not in str(lines)


def test_a_mismatch_names_both_accounts(duo, ada):
    ada.connect("acme", account="ada")
    body = problem(ada.try_connect("acme", account="grace"), 409, "account_mismatch")
    assert body["stored"] == {"oauth_user_id": sub_of(duo, "ada"), "oauth_email": "ada@example.com"}
    assert body["offered"] == {"oauth_user_id": sub_of(duo, "grace"), "oauth_email": "grace@workspace.example"}
    duo.redis.hdel(key("integration", "ada"), "oauth_email")
    duo.stand_in.fault("exchange", "id_token", claims={"email": None})
    body = problem(ada.try_connect("acme", account="grace"), 409, "account_mismatch")
    assert body["stored"] == {"oauth_user_id": sub_of(duo, "ada"), "oauth_email": None}
    assert body["offered"] == {"oauth_user_id": sub_of(duo, "grace"), "oauth_email": None}


def test_a_mismatch_of_long_addresses(duo, ada):
    """As long as they may be, and every byte escaped in JSON."""
    ada.connect("acme", account="ada")
    address = "\x01" * 320
    duo.redis.hset(key("integration", "ada"), "oauth_email", address)
    duo.stand_in.fault("exchange", "id_token", claims={"email": address})
    body = problem(ada.try_connect("acme", account="grace"), 409, "account_mismatch")
    assert body["stored"]["oauth_email"] == body["offered"]["oauth_email"] == address


def test_replace_with(duo, ada):
    """That account takes the stored one's place, or the stored one is connected again; a third is refused as before."""
    grace = sub_of(duo, "grace")
    first = ada.connect("acme", account="ada")
    before = dump(duo, "ada")
    body = problem(ada.try_connect("acme", account="linus", replace_with=grace), 409, "account_mismatch")
    assert [body[name]["oauth_email"] for name in ("stored", "offered")] == ["ada@example.com", "linus@example.org"]
    assert dump(duo, "ada") == before and live(duo, "linus") == 0 and live(duo, "ada") == 1
    assert ada.connect("acme", account="ada", replace_with=grace)["id"] == first["id"]
    record = ada.connect("acme", account=None, replace_with=grace)
    assert record["id"] != first["id"] and record["oauth_user_id"] == grace
    assert ada.list("acme") == [record] and live(duo, "ada") == 0


def test_replace_with_the_account_stored_meanwhile(duo, ada):
    """What is stored at the end counts, not what was stored when the flow began."""
    ada.connect("acme", account="ada")
    document = ada.authorize("acme", account="ada", replace_with=sub_of(duo, "grace"))
    ada.connect("acme", account="linus", replace="true")
    problem(ada.callback("acme", document), 409, "account_mismatch")
    assert [each["oauth_email"] for each in ada.list("acme")] == ["linus@example.org"]


def test_replace_with_where_nothing_is_stored(ada, duo):
    """Nothing is replaced then: it is a first connection, of any account."""
    assert ada.connect("acme", account="linus", replace_with=sub_of(duo, "grace"))["oauth_email"] == "linus@example.org"


@pytest.mark.parametrize("account, code", [("grace", "offline_access_missing"), ("linus", "account_mismatch")])
def test_replace_with_and_no_refresh_token(duo, ada, account, code):
    ada.connect("acme", account="ada")
    before = dump(duo, "ada")
    duo.stand_in.fault("exchange", "answer", omit=["refresh_token"])
    problem(ada.try_connect("acme", account=account, replace_with=sub_of(duo, "grace")), 409, code)
    assert dump(duo, "ada") == before


def test_a_worker_before_replace_with_replaces_nothing(duo, ada):
    """It reads `replace` alone. A row that it wrote has no `replace_with`, and replaces nothing here."""
    ada.connect("acme", account="ada")
    document = ada.authorize("acme", account="grace", replace_with=sub_of(duo, "grace"))
    row, = duo.redis.keys("oauth_state:*")
    assert duo.redis.hget(row, "replace") == "0" and duo.redis.hget(row, "replace_with") == sub_of(duo, "grace")
    duo.redis.hdel(row, "replace_with")
    problem(ada.callback("acme", document), 409, "account_mismatch")


@pytest.mark.parametrize("value", ["", "a%20b", "%C3%A4", "x" * 256, "1&replace_with=1", "1&replace_with=2", "%ff&replace_with=1",
                                   "1&x=%ff", "1&replace=true"])
def test_replace_with_what_is_no_account(duo, ada, value):
    problem(ada.auth_link("acme", replace_with=value), 400, "request_invalid")
    assert duo.redis.keys("oauth_state:*") == []


@pytest.mark.parametrize("value", ["x" * 255, "a%2Bb%25", "1&replace=false"])
def test_replace_with_any_account(ada, value):
    assert query(ada.begin("acme", replace_with=value))["login_hint"] == urllib.parse.unquote(value.split("&")[0])


def race(duo, ada, accounts):
    """Callbacks of several flows whose exchanges are all at the provider at the same time."""
    documents = [ada.authorize("acme", account=account) for account in accounts]
    hold = duo.stand_in.fault("exchange", "hold", times=None)
    with concurrent.futures.ThreadPoolExecutor(len(accounts)) as pool:
        posts = [pool.submit(ada.callback, "acme", document) for document in documents]
        duo.stand_in.wait_fired(hold, len(accounts))
        duo.stand_in.release(hold)
        return [post.result() for post in posts]


@pytest.mark.parametrize("round_", range(3))
def test_a_race_of_two_accounts(duo, ada, round_):
    """One wins, the other is told so, and what it got is dead."""
    answers = race(duo, ada, ["ada", "grace"])
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    record = next(good(answer)["integration"] for answer in answers if answer.status_code == 200)
    assert ada.list("acme") == [record]
    winner, loser = ("ada", "grace") if record["oauth_email"].startswith("ada") else ("grace", "ada")
    assert (live(duo, winner), live(duo, loser)) == (1, 0)
    assert good(ada.validate("acme"))["is_valid"] is True


def test_a_race_of_one_account(duo, ada):
    """All succeed, and there is one connection."""
    records = [good(answer)["integration"] for answer in race(duo, ada, ["ada"] * 4)]
    assert len({(record["id"], record["connected_at"]) for record in records}) == 1
    assert good(ada.validate("acme"))["is_valid"] is True
    assert duo.stand_in.counters()["revokes"] == 0


# Without a refresh token


def test_no_refresh_token_and_nothing_stored(duo, ada):
    duo.stand_in.fault("exchange", "answer", omit=["refresh_token"])
    problem(ada.try_connect("acme"), 409, "offline_access_missing")
    assert not is_stored(duo, "ada") and live(duo, "ada", "access") == 0


@pytest.mark.parametrize("nothing", [{"omit": ["refresh_token"]}, {"set": {"refresh_token": None}}, {"set": {"refresh_token": ""}}], ids=str)
def test_no_refresh_token_but_one_that_works(duo, ada, nothing):
    """The stored one of the same account serves on."""
    first = ada.connect("acme", grant=[GMAIL])
    age(duo, "ada")
    duo.stand_in.fault("exchange", "answer", **nothing)
    record = ada.connect("acme")
    assert (record["id"], record["connected_at"], record["status"]) == (first["id"], "2020-02-02T02:02:02Z", "valid")
    assert record["missing_scopes"] == []
    assert calls(duo)["refreshes"] == 1
    make_due(duo, "ada")
    assert good(ada.validate("acme"))["is_valid"] is True


def failed_refreshes():
    yield "a dead grant", lambda duo: duo.stand_in.fault("refresh", "error", error="invalid_grant", status=400, times=None)
    yield "a provider that is down", lambda duo: duo.stand_in.fault("refresh", "html", times=None)
    yield "a wrong client", lambda duo: duo.stand_in.fault("refresh", "error", error="invalid_client", status=401, times=None)


@pytest.mark.parametrize("arm", [arm for _, arm in failed_refreshes()], ids=[name for name, _ in failed_refreshes()])
def test_no_refresh_token_and_one_that_does_not_work(duo, ada, arm):
    """Refused, and nothing is changed."""
    ada.connect("acme")
    before = dump(duo, "ada")
    duo.stand_in.fault("exchange", "answer", omit=["refresh_token"])
    arm(duo)
    problem(ada.try_connect("acme"), 409, "offline_access_missing")
    assert dump(duo, "ada") == before
    duo.stand_in.clear_faults()
    assert good(ada.validate("acme"))["is_valid"] is True


@pytest.mark.parametrize("replace, code", [(None, "account_mismatch"), ("true", "offline_access_missing")])
def test_no_refresh_token_of_another_account(duo, ada, replace, code):
    """The stored one is not that account's: nothing is changed, and it is not even tried."""
    ada.connect("acme", account="ada")
    before = dump(duo, "ada")
    duo.stand_in.fault("exchange", "answer", omit=["refresh_token"])
    problem(ada.try_connect("acme", account="grace", replace=replace), 409, code)
    assert dump(duo, "ada") == before
    assert calls(duo)["refreshes"] == 0 and live(duo, "grace", "access") == 0 and live(duo, "ada") == 1


def test_barred_while_the_stored_refresh_token_is_tried(duo, ada):
    """That somebody was removed is asked in the step that stores."""
    ada.connect("acme")
    document = ada.authorize("acme")
    duo.stand_in.fault("exchange", "answer", omit=["refresh_token"])
    hold = duo.stand_in.fault("refresh", "hold")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        post = pool.submit(ada.callback, "acme", document)
        duo.stand_in.wait_fired(hold)
        duo.redis.set("removed:{acme:ada}", "1")
        duo.stand_in.release(hold)
        problem(post.result(), 403, "organization_forbidden")
    assert [entry["event"] for _, entry in duo.redis.xrange("events:{acme}")] == ["connected"]


# A reconnection that fails


def failures():
    """How a reconnection can fail: (name, what to arm, how the callback is changed, what comes of it)."""
    def fault(*args, **options):
        return lambda duo: duo.stand_in.fault(*args, **options)

    def nothing(duo):
        return None

    yield "declined", nothing, lambda document: {"error": "access_denied", "state": document["state"]}, (400, "consent_declined")
    yield "failed", nothing, lambda document: {"error": "server_error", "state": document["state"]}, (400, "authorization_failed")
    yield "a wrong issuer", nothing, lambda document: {**document, "iss": "https://evil.example"}, (400, "issuer_mismatch")
    yield "an altered state", nothing, lambda document: {**document, "state": ("B" if document["state"][0] == "A" else "A") + document["state"][1:]}, (400, "state_invalid")
    yield "an altered code", nothing, lambda document: {**document, "code": document["code"] + "x"}, (400, "code_rejected")
    yield "a refused code", fault("exchange", "error", error="invalid_grant", status=400), None, (400, "code_rejected")
    yield "a wrong client", fault("exchange", "error", error="invalid_client", status=401), None, (502, "provider_misconfigured")
    yield "a wrong redirect URI", fault("exchange", "error", error="redirect_uri_mismatch", status=400), None, (502, "provider_misconfigured")
    yield "a policy", fault("exchange", "error", error="admin_policy_enforced", status=400), None, (400, "authorization_failed")
    yield "a broken provider", fault("exchange", "status", status=503), None, (502, "provider_unreachable")
    yield "a busy provider", fault("exchange", "status", status=429, retry_after=30), None, (502, "provider_unreachable")
    yield "a refused connection", fault("exchange", "refuse"), None, (502, "provider_unreachable")
    yield "a forged identity", fault("exchange", "id_token", sign="bad"), None, (502, "identity_invalid")
    yield "no identity", fault("exchange", "id_token", sign="missing"), None, (502, "identity_invalid")
    yield "no id_token", fault("exchange", "answer", omit=["id_token"]), None, (502, "identity_invalid")
    yield "a wrong nonce", fault("exchange", "id_token", claims={"nonce": "MARKER-other"}), None, (502, "identity_invalid")
    yield "no scope", fault("exchange", "answer", set={"scope": "openid"}), None, (422, "scopes_missing")


FAILURES = list(failures())


@pytest.mark.parametrize("arm, change, expected", [each[1:] for each in FAILURES], ids=[each[0] for each in FAILURES])
def test_a_failed_reconnection_changes_nothing(duo, ada, arm, change, expected):
    """The working connection is as it was byte for byte, and works."""
    ada.connect("acme")
    before = dump(duo, "ada")
    arm(duo)
    document = ada.authorize("acme")
    answer = ada.callback("acme", change(document) if change else document)
    problem(answer, *expected)
    assert dump(duo, "ada") == before
    faults = duo.stand_in.clear_faults()
    assert all(fault["fired"] for fault in faults)
    make_due(duo, "ada")
    assert good(ada.validate("acme"))["is_valid"] is True


def test_what_the_provider_says_is_not_passed_on(duo, ada):
    for text in ("<script>alert(1)</script>", "Provider's own words"):
        duo.stand_in.fault("exchange", "error", error="invalid_grant", status=400, description=text)
        assert text not in ada.try_connect("acme").text
        duo.stand_in.fault("exchange", "error", error=text, status=400, description=text)
        assert text not in ada.try_connect("acme").text
        assert text not in ada.callback("acme", {"error": text}).text
    assert "own words" not in duo.serve.text()


def test_refused_clients(duo, ada):
    """Every way in which the provider refuses us as a client is an operator's matter."""
    for error, status in (("invalid_client", 401), ("invalid_client", 400), ("unauthorized_client", 401), ("deleted_client", 401),
                          ("unsupported_grant_type", 400), ("invalid_request", 400), ("redirect_uri_mismatch", 400)):
        duo.stand_in.fault("exchange", "error", error=error, status=status)
        assert alike(ada.try_connect("acme"))[0] == 502
        line = wait_until(lambda: [line for line in duo.log() if line.get("message") == error], f"{error} is logged")[-1]
        assert line["level"] == "error" and "client" in line["action"], "it says what an operator should do"


def test_connections_of_services_stand_side_by_side(duo, ada):
    """The same account for two services and in two organizations: four records, each with its own life."""
    records = {(organization, service): ada.connect(organization, service=service)
               for organization in ("acme", "globex") for service in (SERVICE, "plain")}
    assert len({record["id"] for record in records.values()}) == 4
    assert len({record["oauth_user_id"] for record in records.values()}) == 1
    good(ada.disconnect("acme", service="plain"))
    assert ada.list("acme") == [records["acme", SERVICE]]
    assert ada.list("globex") == [records["globex", SERVICE], records["globex", "plain"]]


def test_the_audit(duo, ada):
    steps = [lambda: ada.connect("acme"), lambda: ada.connect("acme"), lambda: ada.try_connect("acme", account="grace"),
             lambda: ada.connect("acme", account="grace", replace="true"), lambda: ada.disconnect("acme")]
    for number, step in enumerate(steps, 1):
        step()
        wait_until(lambda: duo.redis.xlen("events:{acme}") == number, "the entry, which no answer waits for, is there")
    entries = [entry for _, entry in duo.redis.xrange("events:{acme}")]
    assert [entry["event"] for entry in entries] == ["connected", "reconnected", "account_mismatch", "replaced", "disconnected"]
    for entry in entries:
        assert set(entry) == {"event", "actor", "organization", "user", "service", "outcome", "request_id"}
        assert (entry["actor"], entry["organization"], entry["user"], entry["service"]) == ("user:ada", "acme", "ada", "google")
