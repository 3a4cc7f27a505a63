"""The stand-in's own tests: what the other tests rely on it for is true."""

import hashlib
import http.client
import json
from urllib.parse import urlencode, urlsplit

import pytest

from client import StandInError
from flow_client import API, DRIVE, GMAIL, REDIRECT_URI, SCOPES, Flow, decoded, jwks, verify


def test_flow(google, web):
    flow = Flow(google).approve("grace")
    assert [name for name, _ in flow.answer] == ["state", "iss", "code", "scope", "authuser", "hd",
                                                 "prompt"]
    assert dict(flow.answer)["iss"] == google.provider["issuer"]
    assert "/" in flow.code and "MARKER" in flow.code
    status, answer = web.exchange(flow)
    assert status == 200 and answer["expires_in"] == 3599 and answer["token_type"] == "Bearer"
    granted = answer["scope"].split()
    assert set(granted) == {"openid", API + "userinfo.email", GMAIL, DRIVE}
    assert granted != SCOPES.replace("email", API + "userinfo.email", 1).split()
    claims = verify(answer["id_token"], jwks(web))
    left_half = hashlib.sha256(answer["access_token"].encode()).digest()[:16]
    assert decoded(claims["at_hash"]) == left_half
    assert claims["nonce"] == flow.nonce and claims["hd"] == "workspace.example"
    assert claims["email_verified"] is True and claims["aud"] == google.client_id
    status, refreshed = web.refresh(answer["refresh_token"])
    assert status == 200 and "refresh_token" not in refreshed
    assert "nonce" not in verify(refreshed["id_token"], jwks(web))
    status, body = web.get("/v1/userinfo", refreshed["access_token"])
    assert status == 200 and json.loads(body)["sub"] == claims["sub"]
    counters = google.counters()
    assert counters["exchanges_ok"] == counters["refreshes_ok"] == counters["userinfo"] == 1


@pytest.mark.parametrize("changes, status, error, description", [
    ({"grant_type": "password"}, 400, "unsupported_grant_type", "Invalid grant_type: password"),
    ({"redirect_uri": None}, 400, "invalid_request", "Missing parameter: redirect_uri"),
    ({"client_id": None}, 400, "invalid_request",
     "Could not determine client ID from request."),
    ({"client_secret": None}, 400, "invalid_request", "client_secret is missing."),
    ({"code": None}, 400, "invalid_request", "Missing required parameter: code"),
    ({"code": "4%2F0A"}, 400, "invalid_grant", "Malformed auth code."),
    ({"code": "4/0Aunknown"}, 400, "invalid_grant", "Bad Request"),
    ({"code_verifier": None}, 400, "invalid_grant", "Missing code verifier."),
    ({"code_verifier": "x" * 43}, 400, "invalid_grant", "Invalid code verifier."),
    ({"code_verifier": "x" * 42}, 400, "invalid_grant", "Invalid code verifier."),
    ({"client_id": "unknown"}, 401, "invalid_client", "The OAuth client was not found."),
    ({"client_id": "stand-in-second.apps.googleusercontent.com"}, 400, "invalid_grant",
     "Bad Request"),
    ({"redirect_uri": REDIRECT_URI + "/"}, 400, "redirect_uri_mismatch", "Bad Request"),
    ({"client_secret": "wrong"}, 401, "invalid_client", "Unauthorized"),
])
def test_exchange_refusals(google, web, changes, status, error, description):
    flow = Flow(google).approve()
    assert web.exchange(flow, **changes) == (
        status, {"error": error, "error_description": description})
    assert google.counters()["exchanges_ok"] == 0


def test_code_is_single_use_and_its_reuse_kills(google, web):
    flow = Flow(google).approve()
    _, answer = web.exchange(flow)
    assert web.exchange(flow)[0] == 400
    assert google.counters()["code_reuses"] == 1
    assert not google.honours(refresh_token=answer["refresh_token"])
    assert not google.honours(access_token=answer["access_token"])


def test_code_expires(google, web):
    flow = Flow(google).approve()
    google.advance(601)
    assert web.exchange(flow)[1]["error"] == "invalid_grant"


def test_refresh_token_only_offline_and_consented(google, web):
    assert "refresh_token" not in web.exchange(Flow(google, access_type="online").approve())[1]
    assert "refresh_token" in web.exchange(Flow(google).approve())[1]
    assert "refresh_token" not in web.exchange(Flow(google, prompt=None).approve())[1]


def test_partial_and_declined(google, web):
    answer = web.exchange(Flow(google).approve(grant=[GMAIL]))[1]
    assert DRIVE not in answer["scope"] and GMAIL in answer["scope"]
    assert GMAIL not in web.exchange(Flow(google).approve(grant="none"))[1]["scope"]
    assert Flow(google).approve(grant="deny").answer == [("state", "S.acme"),
                                                         ("error", "access_denied")]


@pytest.mark.parametrize("changes, error", [
    ({"client_id": "unknown"}, "invalid_client"),
    ({"redirect_uri": REDIRECT_URI + "/"}, "redirect_uri_mismatch"),
    ({"scope": None}, "invalid_request"),
    ({"scope": "nonsense"}, "invalid_scope"),
    ({"prompt": "none consent"}, "invalid_request"),
    ({"code_challenge": "short"}, "invalid_request"),
])
def test_own_page_errors(google, changes, error):
    with pytest.raises(StandInError, match=error):
        Flow(google, **changes).approve()


def browse(url, form=None):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)
    if form is None:
        connection.request("GET", parts.path + "?" + parts.query)
    else:
        connection.request("POST", parts.path, urlencode(form, doseq=True), {
            "Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers.get("Location"), text


def test_pages(google):
    flow = Flow(google)
    status, _, text = browse(flow.url)
    assert status == 200 and 'id="account-ada"' in text and "stand-in" in text
    base = google.provider["authorization_endpoint"]
    carried = {"request": urlsplit(flow.url).query, "account": "ada"}
    status, _, text = browse(base + "/account", carried)
    assert text.count('type="checkbox" name="scope"') == 2 and text.count(" checked") == 2
    assert 'id="continue"' in text and 'id="cancel"' in text
    status, location, _ = browse(base + "/decision",
                                 {**carried, "action": "continue", "scope": [GMAIL]})
    assert status == 302 and DRIVE not in location and location.startswith(REDIRECT_URI)
    _, location, _ = browse(base + "/decision", {**carried, "action": "cancel"})
    assert "error=access_denied" in location


@pytest.mark.parametrize("mode, expected", [
    ("approve", "code="), ("deny", "error=access_denied"), ("partial", "code=")])
def test_automatic_modes(google, mode, expected):
    google.account("ada", mode=mode, partial=[GMAIL])
    google.settings(account="ada")
    status, location, _ = browse(Flow(google).url)
    assert status == 302 and expected in location
    assert ("drive.readonly" in location) == (mode == "approve")


def test_revoke_is_project_wide(google, web):
    first = google.mint("ada", ["openid", GMAIL])[0]
    second = google.mint("ada", ["openid"], client_id="stand-in-second.apps.googleusercontent.com")
    other = google.mint("grace", ["openid"])[0]
    assert google.live("ada") == {"access": 2, "refresh": 2}
    assert web.post("/revoke", token=first["access_token"]) == (200, {})
    assert google.live("ada") == {"access": 0, "refresh": 0}
    assert not google.honours(refresh_token=first["refresh_token"])
    assert not google.honours(refresh_token=second[0]["refresh_token"])
    assert google.honours(refresh_token=other["refresh_token"])
    assert web.post("/revoke", token=first["refresh_token"]) == (
        400, {"error": "invalid_token", "error_description": "Token expired or revoked"})
    assert web.refresh(first["refresh_token"])[1]["error"] == "invalid_grant"
    assert web.get("/v1/userinfo", first["access_token"])[0] == 401


def test_rotation_and_reuse_detection(google, web):
    google.settings(personality="rotating")
    first = google.mint("ada", ["openid"])[0]["refresh_token"]
    _, answer = web.refresh(first)
    second = answer["refresh_token"]
    assert second != first and google.honours(refresh_token=second)
    assert web.refresh(first)[1]["error"] == "invalid_grant"
    assert google.counters()["reuse_detections"] == 1
    assert not google.honours(refresh_token=second)
    assert not google.honours(access_token=answer["access_token"])


def test_how_tokens_die(google, web):
    tokens = google.mint("ada", ["openid", GMAIL])[0]
    plain = google.mint("ada", ["openid"])[0]
    google.call("POST", "password_changed", {"account": "ada"})
    assert not google.honours(refresh_token=tokens["refresh_token"])
    assert google.honours(refresh_token=plain["refresh_token"])
    google.settings(refresh_token_cap=2)
    newest = google.mint("ada", ["openid"], count=2)
    assert not google.honours(refresh_token=plain["refresh_token"])
    google.set_grant("ada", ["openid"])
    google.advance(184 * 86400)
    assert not google.honours(refresh_token=newest[-1]["refresh_token"])
    google.settings(publishing="testing")
    minted = google.mint("grace", ["openid", GMAIL])[0]["refresh_token"]
    google.advance(604801)
    assert web.refresh(minted)[1]["error"] == "invalid_grant"


def test_scopes_taken_back_show_at_refresh(google, web):
    token = google.mint("ada", ["openid", GMAIL, DRIVE])[0]
    google.set_grant("ada", ["openid", GMAIL])
    assert set(web.refresh(token["refresh_token"])[1]["scope"].split()) == {"openid", GMAIL}
    assert web.refresh(token["refresh_token"], scope=DRIVE)[1]["error"] == "invalid_scope"
    assert web.get("/drive/v3/files", token["access_token"])[0] == 403


def test_apis(google, web):
    token = google.mint("ada", ["openid", GMAIL, DRIVE])[0]["access_token"]
    narrow = google.mint("grace", ["openid"])[0]["access_token"]
    assert web.get("/gmail/v1/users/me/profile", token)[0] == 200
    assert web.get("/gmail/v1/users/me/profile", narrow)[0] == 403
    assert web.get("/gmail/v1/users/me/profile", "ya29.unknown")[0] == 401
    assert web.send("GET", "/gmail/v1/users/me/profile")[0] == 401
    assert b"<html" in web.get("/gmail/v1/users/me/nowhere", token)[1]
    seen, query = [], "maxResults=25"
    while True:
        page = json.loads(web.get(f"/gmail/v1/users/me/messages?{query}", token)[1])
        seen += [each["id"] for each in page["messages"]]
        if "nextPageToken" not in page:
            break
        query = urlencode({"maxResults": 25, "pageToken": page["nextPageToken"]})
    assert len(seen) == len(set(seen)) == 62
    status, body = web.get("/gmail/v1/users/me/messages?q=nothing-like-it", token)
    assert "messages" not in json.loads(body)
    assert json.loads(web.get(f"/gmail/v1/users/me/messages/{seen[0]}", token)[1])["payload"]
    assert web.get("/drive/v3/about", token)[0] == 400
    assert web.get("/calendar/v3/users/me/calendarList", token)[0] == 403
    assert web.send("POST", "/drive/v3/files", "{}",
                    {"Authorization": "Bearer " + token})[0] == 404
    assert google.counters()["write_verbs"] == 1


def test_no_secret_is_recorded(google, web):
    flow = Flow(google).approve()
    _, answer = web.exchange(flow)
    browse(google.provider["authorization_endpoint"] + "/account",
           {"request": urlsplit(flow.url).query, "account": "ada"})
    web.get("/v1/userinfo", answer["access_token"])
    web.post("/revoke", token=answer["refresh_token"])
    text = json.dumps([google.requests(), google.ledger(), google.faults()])
    for secret in (flow.code, flow.verifier, flow.nonce, web.secret, answer["access_token"],
                   answer["refresh_token"], answer["id_token"], "MARKER"):
        assert secret not in text
    expected = hashlib.sha256(answer["refresh_token"].encode()).hexdigest()[:16]
    assert ["token", f"sha256:{expected}"] in google.requests("revoke")[0]["form"]


def test_tokeninfo_and_many_accounts(google, web):
    accounts = google.add_accounts(1000)
    tokens = google.mint_each([each["key"] for each in accounts], ["openid", "email"])
    assert len({each["sub"] for each in tokens}) == 1000
    info = json.loads(web.send(
        "GET", "/tokeninfo?access_token=" + tokens[-1]["access_token"])[2])
    assert info["email"] == accounts[-1]["email"] and info["email_verified"] == "true"
    assert web.send("GET", "/tokeninfo?access_token=x")[0] == 400
