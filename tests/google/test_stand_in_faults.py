"""Each fault does what it is asked for: else the test that armed it proves nothing."""

import gzip
import http.client
import json
import socket
import ssl
import threading
import time

import pytest
from cryptography.exceptions import InvalidSignature

import keys
from client import StandInError
from flow_client import Flow, decoded, jwks, verify


def id_token(google, web, **fault):
    number = google.fault("exchange", "id_token", **fault)
    token = web.exchange(Flow(google).approve())[1]["id_token"]
    assert google.faults()[-1]["id"] == number and google.faults()[-1]["fired"] == 1
    head, claims, signature = token.split(".")
    return token, json.loads(decoded(head)), json.loads(decoded(claims)), signature


@pytest.mark.parametrize("sign", ["bad", "other_key"])
def test_id_token_bad_signature(google, web, sign):
    token, _, _, _ = id_token(google, web, sign=sign)
    with pytest.raises(InvalidSignature):
        verify(token, jwks(web))


def test_id_token_mutations(google, web):
    before = jwks(web)
    published = {key["kid"] for key in before["keys"]}
    assert id_token(google, web, sign="unknown_kid")[1]["kid"] not in published
    assert "kid" not in id_token(google, web, sign="no_kid")[1]
    _, header, _, signature = id_token(google, web, sign="none")
    assert header["alg"] == "none" and signature == ""
    assert id_token(google, web, sign="hs256")[1]["alg"] == "HS256"
    assert id_token(google, web, header={"typ": "at+jwt"})[1]["typ"] == "at+jwt"
    _, _, claims, _ = id_token(google, web, claims={"nonce": "other", "email": None},
                               shift={"exp": -3600})
    assert claims["nonce"] == "other" and "email" not in claims
    assert claims["exp"] < time.time() - 3000
    token, header, _, _ = id_token(google, web, sign="rotated")
    assert header["kid"] not in published
    verify(token, jwks(web))
    assert len(jwks(web)["keys"]) == 2 and published & {key["kid"] for key in jwks(web)["keys"]}


def test_callback_mutations(google):
    google.fault("authorize", "callback", omit=["iss"], alter=["state"], add=[["x", "1"]])
    answer = Flow(google).approve().answer
    assert "iss" not in dict(answer) and dict(answer)["state"] == "A.acme"
    assert ("x", "1") in answer
    google.fault("authorize", "callback", error="server_error",
                 set={"error_description": "<b>no</b>"})
    assert dict(Flow(google).approve().answer) == {
        "state": "S.acme", "error": "server_error", "error_description": "<b>no</b>"}


def test_answer_mutation_and_account(google, web):
    google.fault("exchange", "answer", account="grace", set={"expires_in": "3599"},
                 omit=["refresh_token"])
    assert "refresh_token" in web.exchange(Flow(google).approve("ada"))[1]
    answer = web.exchange(Flow(google).approve("grace"))[1]
    assert answer["expires_in"] == "3599" and "refresh_token" not in answer


@pytest.mark.parametrize("kind, options, check", [
    ("error", {"error": "invalid_grant", "subtype": "invalid_rapt"},
     lambda s, h, b: s == 400 and json.loads(b)["error_subtype"] == "invalid_rapt"),
    ("status", {"status": 429, "retry_after": "absurd"},
     lambda s, h, b: s == 429 and h["Retry-After"] == "9" * 40),
    ("status", {"status": 503, "retry_after": "date"},
     lambda s, h, b: s == 503 and h["Retry-After"].endswith("GMT")),
    ("raw", {"status": 200, "body": "[]", "headers": {"X-A": "b"}},
     lambda s, h, b: b == b"[]" and h["X-A"] == "b"),
    ("html", {"status": 502}, lambda s, h, b: s == 502 and b.startswith(b"<!DOCTYPE")),
    ("redirect", {}, lambda s, h, b: s == 302 and "127.0.0.1" in h["Location"]),
    ("empty", {}, lambda s, h, b: s == 204 and b == b""),
    ("not_json", {}, lambda s, h, b: s == 200 and b.startswith(b"this")),
    ("nested", {"depth": 5000}, lambda s, h, b: b.count(b"[") == 5000),
    ("big", {"size": 3_000_000}, lambda s, h, b: len(json.loads(b)["access_token"]) == 3_000_000),
    ("big", {"size": 100_000, "length": False}, lambda s, h, b: len(b) > 100_000),
    ("truncate", {}, lambda s, h, b: b.startswith(b"{") and not b.endswith(b"}")),
    ("chunked", {}, lambda s, h, b: "sub" in json.loads(b)),
    ("gzip", {}, lambda s, h, b: "sub" in json.loads(gzip.decompress(b))),
    ("slow", {"interval": 0}, lambda s, h, b: "sub" in json.loads(b)),
    ("close", {}, lambda s, h, b: "sub" in json.loads(b)),
    ("invalid_utf8", {"field": "sub"}, lambda s, h, b: b"\xc3\x28" in b),
    ("nul", {"field": "sub"}, lambda s, h, b: "\0" in json.loads(b)["sub"]),
    ("nul", {"field": "sub", "raw": True}, lambda s, h, b: b"\0" in b),
    ("duplicate", {"field": "sub", "value": "1"}, lambda s, h, b: b.count(b'"sub"') == 2),
    ("wrong_length", {"by": -5}, lambda s, h, b: b.startswith(b"{") and not b.endswith(b"}")),
    ("bomb", {"size": 3_000_000},
     lambda s, h, b: len(b) < 30_000 and len(gzip.decompress(b)) > 3_000_000),
    ("bytes", {"text": "HTTP/1.1 299 Odd\r\n\r\nü", "base64": "AP8="},
     lambda s, h, b: s == 299 and b == "ü".encode() + b"\0\xff"),
])
def test_faults_that_answer(google, web, kind, options, check):
    token = google.mint("ada", ["openid", "email"])[0]["access_token"]
    google.fault("userinfo", kind, **options)
    status, headers, body = web.send("GET", "/v1/userinfo",
                                     headers={"Authorization": "Bearer " + token})
    assert check(status, headers, body)
    assert google.clear_faults()[0]["fired"] == 1
    assert web.get("/v1/userinfo", token)[0] == 200


@pytest.mark.parametrize("endpoint, kind, options", [
    ("userinfo", "refuse", {}), ("userinfo", "reset", {}),
    ("userinfo", "wrong_length", {"by": 10}), ("userinfo", "big_headers", {"size": 1_000_000}),
    ("userinfo", "stall", {}), ("userinfo", "stall", {"when": "headers"}),
    ("userinfo", "stall", {"when": "after"}), ("userinfo", "stall", {"when": "body"}),
    ("userinfo", "bad_chunks", {}), ("userinfo", "bad_chunks", {"how": "too_short"}),
    ("userinfo", "bad_chunks", {"how": "no_end"}), ("userinfo", "bad_chunks", {"how": "no_size"}),
    ("userinfo", "bytes", {"text": "SSH-2.0-nonsense\r\n\r\n"}), ("connection", "old_tls", {}),
    ("connection", "plain_http", {}), ("connection", "reset_handshake", {}),
    ("connection", "refuse_connection", {}), ("connection", "stall_handshake", {"seconds": 1}),
    ("connection", "expired_certificate", {}), ("connection", "wrong_name", {}),
    ("connection", "unknown_ca", {}),
])
def test_faults_that_break_the_connection(google, web, endpoint, kind, options):
    token = google.mint("ada", ["openid"])[0]["access_token"]
    google.fault(endpoint, kind, **options)
    with pytest.raises((OSError, http.client.HTTPException)):
        web.send("GET", "/v1/userinfo", headers={"Authorization": "Bearer " + token}, timeout=0.2)
    assert google.clear_faults()[0]["fired"] == 1


@pytest.mark.parametrize("part", ["body", "headers"])
def test_drip_has_no_end(google, web, part):
    google.fault("userinfo", "drip", part=part, interval=0.01)
    with socket.create_connection(("localhost", web.port), timeout=2) as plain, \
            web.context.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.sendall(b"GET /v1/userinfo HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while received.count(b" ") < 30:
            piece = tls.recv(4096)
            assert piece
            received += piece
    assert (b"\r\n\r\n" in received) == (part == "body")


def begun(google, web, context=None):
    """A TLS connection on which a request for the keys has been sent."""
    plain = socket.create_connection(("localhost", web.port), timeout=5)
    tls = (context or web.context).wrap_socket(plain, server_hostname="localhost")
    tls.sendall(b"GET /oauth2/v3/certs HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return tls


@pytest.mark.parametrize("part", ["body", "headers", "header", "interim", "extension", "trailers"])
def test_endless_has_no_end(google, web, part):
    google.fault("certs", "endless", part=part)
    received = 0
    with begun(google, web) as tls:
        while received < 3_000_000:
            received += len(tls.recv(65536)) or pytest.fail("it ended")
    assert google.clear_faults()[0]["fired"] == 1
    assert web.send("GET", "/oauth2/v3/certs")[0] == 200


@pytest.mark.parametrize("how", ["negative", "overflow", "no_hex"])
def test_bad_chunks_are_on_the_wire(google, web, how):
    google.fault("certs", "bad_chunks", how=how)
    size = {"negative": b"-5", "overflow": b"ffffffffffffffffff", "no_hex": b"zz"}[how]
    with begun(google, web) as tls, tls.makefile("rb") as stream:
        data = stream.read()
    assert b"chunked\r\n\r\n" + size + b"\r\n{" in data


def test_interim_answers_come_before_the_true_one(google, web):
    google.fault("certs", "interim", status=103, count=3)
    with begun(google, web) as tls:
        data = tls.recv(65536)
        while b"HTTP/1.1 200" not in data:
            data += tls.recv(65536)
    assert data.startswith(b"HTTP/1.1 103 Wait\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_there_for_who_takes_it(google, web):
    google.fault("connection", "old_tls")
    context = keys.only_tls11(ssl.create_default_context(cafile=google.ca_file))
    with begun(google, web, context) as tls:
        assert tls.version() == "TLSv1.1" and tls.recv(100).startswith(b"HTTP/1.1 200")


def test_plain_http_is_said_in_plain(google, web):
    google.fault("connection", "plain_http")
    with socket.create_connection(("localhost", web.port), timeout=5) as plain:
        plain.sendall(b"\x16\x03\x01")
        assert plain.recv(100).startswith(b"HTTP/1.1 400")


def test_a_lane_has_faults_of_its_own(google, web):
    fault = google.fault("any", "status", times=None, lane="one", status=503)
    for path in ("/oauth2/v3/certs", "/.well-known/openid-configuration"):
        assert [web.send("GET", lane + path)[0]
                for lane in ("", "/lane/one", "/lane/two")] == [200, 503, 200]
    assert google.clear_faults(fault)[0]["fired"] == 2
    document = json.loads(web.send("GET", "/lane/one/.well-known/openid-configuration")[2])
    assert document["issuer"] == google.https_base + "/lane/one"
    assert document["jwks_uri"] == google.https_base + "/lane/one/oauth2/v3/certs"


def test_hold_effect_and_after(google, web):
    token = google.mint("ada", ["openid"])[0]
    held = google.fault("refresh", "hold", times=None)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(web.refresh(token["refresh_token"])))
    thread.start()
    google.wait_fired(held)
    assert google.counters()["refreshes"] == 1 and google.counters()["refreshes_ok"] == 0
    assert google.release(held) == 1
    thread.join(5)
    assert answers[0][0] == 200
    google.fault("refresh", "error", status=503, error="internal_failure", effect=True)
    assert web.refresh(token["refresh_token"])[0] == 503
    assert google.counters()["refreshes_ok"] == 2


def test_closed_port(google, web):
    google.listen(False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", web.port), timeout=2)
    google.listen(True)
    assert web.send("GET", "/oauth2/v3/certs")[0] == 200


@pytest.mark.parametrize("fault", [
    {"endpoint": "token", "kind": "nonsense"}, {"endpoint": "nowhere", "kind": "delay"},
    {"endpoint": "token", "kind": "delay", "second": 1},
    {"endpoint": "userinfo", "kind": "id_token"}, {"endpoint": "token", "kind": "callback"},
    {"endpoint": "exchange", "kind": "id_token", "sign": "wrong"},
    {"endpoint": "token", "kind": "delay", "account": "nobody"},
])
def test_senseless_faults_are_refused(google, fault):
    with pytest.raises(StandInError, match="400"):
        google.call("POST", "fault", fault)
