"""What a provider may do wrong, and what the service is to make of it.

A fault's `verdict` is how a call that meets it is judged: "good", "dead" (invalid_grant, exactly), "policy", "client" (an
operator must act), "identity" (another account is named), or "unreachable", which is all the rest. `at` names the steps and
routes where it is judged otherwise: by a verdict, or by the code of the problem that is answered. In a redirect's location
{http} is the stand-in's plain address.
"""

import base64
import json
from dataclasses import dataclass, field

from checks import DRIVE, IDENTITY

STRANGER = "109000000000000000009"  # an account that nobody has
API_SCOPE = "https://www.googleapis.com/auth/"


@dataclass
class Fault:
    name: str
    kind: str
    options: dict = field(default_factory=dict)
    verdict: str = "unreachable"
    at: dict = field(default_factory=dict)
    status: int = 0         # of the answer that the service sees, 0 for none: what a revocation goes by
    slow: bool = False      # it takes the whole time that a call may take
    readable: bool = False  # tokens can be read from the answer, unfit as it is

    def judged(self, *places):
        """The verdict at the first of these places (a route, a step) where it has one of its own."""
        return next((self.at[place] for place in places if place in self.at), self.verdict)


def bits(value):
    """A value as part of a fault's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:12]}… of {len(text)}"


# ---- what can befall any call


def broken():
    """No whole answer, or one that is no HTTP."""
    yield Fault("reset during the request", "refuse")
    yield Fault("reset after the request was processed", "refuse", {"effect": True})
    yield Fault("reset in the body", "reset")
    yield Fault("stall before the answer", "stall", slow=True)
    yield Fault("stall after the request was processed", "stall", {"effect": True}, slow=True)
    for when in ("headers", "after", "body"):
        yield Fault(f"stall: {when}", "stall", {"when": when}, slow=True)
    for part in ("headers", "body"):
        yield Fault(f"drip: {part}", "drip", {"part": part}, slow=True)
    yield Fault("a byte at a time", "slow", slow=True)
    yield Fault("a body shorter than its length", "wrong_length", {"by": 10})
    for how in ("no_hex", "negative", "overflow", "too_short", "no_end", "no_size"):
        yield Fault(f"chunks: {how}", "bad_chunks", {"how": how})
    for part in ("body", "headers", "header", "interim", "trailers"):
        yield Fault(f"endless: {part}", "endless", {"part": part})
    yield Fault("50 MB", "big")
    yield Fault("50 MB without a length", "big", {"length": False})
    yield Fault("10 MB of headers", "big_headers")
    for name, text in {"nothing": "", "SSH": "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/0.9": '{"error":"invalid_grant"}',
                       "half a status line": "HTTP/1.1 4", "no status": "HTTP/1.1\r\n\r\n",
                       "a word for status": "HTTP/1.1 OK 200\r\n\r\n",
                       "HTTP/2": "HTTP/2 503\r\n\r\n{}", "headers without end": "HTTP/1.1 400 Bad Request\r\nA: b\r\n"}.items():
        yield Fault(f"on the wire: {name}", "bytes", {"text": text})
    junk = '{"error":"invalid_grant"}'
    for name, head in {"two lengths": "Content-Length: 2\r\nContent-Length: 25\r\n",
                       "a negative length": "Content-Length: -25\r\n",
                       "a length that is none": "Content-Length: many\r\n", "a NUL in a header": "X: a\0b\r\n",
                       "a header without a name": ": b\r\n",
                       "a transfer nobody knows": "Transfer-Encoding: x-none\r\n"}.items():
        text = f"HTTP/1.1 503 Odd\r\n{head}Connection: close\r\n\r\n{junk}"
        yield Fault(f"on the wire: {name}", "bytes", {"text": text}, status=503)


def harmless():
    """Odd, but right."""
    yield Fault("in small chunks", "chunked", verdict="good", status=200)
    yield Fault("closed after a whole answer", "close", verdict="good", status=200)
    for status, count in ((100, 1), (102, 3), (103, 20)):
        options = {"status": status, "count": count}
        yield Fault(f"{count} interim answers {status}", "interim", options, verdict="good", status=200)


def bodies():
    """Whole answers with 200 that say nothing of use."""
    yield Fault("cut JSON", "truncate", status=200)
    yield Fault("a body longer than its length", "wrong_length", {"by": -5}, status=200)
    yield Fault("gzip", "gzip", status=200)
    yield Fault("gzip bomb", "bomb", status=200)
    yield Fault("HTML with 200", "html", {"status": 200}, status=200)
    yield Fault("not JSON", "not_json", status=200)
    yield Fault("deep nesting", "nested", status=200)
    for body in ("", "[]", "null", '"text"', "7", "true", "{}{}", "\ufeff{}", '{"a":1,}', "{'a':1}", '{"a":NaN}', "[" * 5000,
                 "{" * 200, '{"\\ud800":1}', '{"a":"\t"}'):
        yield Fault(f"body {bits(body)}", "raw", {"body": body}, status=200)
    yield Fault("UTF-16", "raw", {"body_base64": base64.b64encode('{"a":1}'.encode("utf-16")).decode()}, status=200)


def statuses():
    yield Fault("204", "empty", status=204)
    for status in (400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423,
                   424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 508, 511, 520, 599, 600, 999):
        at = {401: {"plain": "identity_invalid"}, 403: {"userinfo": "policy", "plain": "identity_invalid"},
              404: {"discovery": "good"}}.get(status, {})
        yield Fault(f"{status}", "status", {"status": status}, at=at, status=status)
    for status in (201, 202, 203, 205, 206, 226, 299, 300, 304, 305, 306):
        yield Fault(f"{status}", "status", {"status": status}, status=status)
    for status in (500, 502, 503):
        yield Fault(f"HTML with {status}", "html", {"status": status}, status=status)
    for status in (429, 503):
        for wait in (0, 1, 30, -1, "date", "absurd", "soon"):
            yield Fault(f"{status}, Retry-After {wait}", "status", {"status": status, "retry_after": wait}, status=status)


def redirects():
    there = {"another host": None, "plain HTTP": "{http}/elsewhere", "a file": "file:///etc/passwd"}
    for status in (301, 302, 303, 307, 308):
        for name, location in there.items():
            options = {"status": status, **({"location": location} if location else {})}
            yield Fault(f"{status} to {name}", "redirect", options, status=status)
    for location in ("/elsewhere", "//127.0.0.1/elsewhere", "gopher://127.0.0.1/x", "",
                     "https://user:pass@127.0.0.1/elsewhere"):
        yield Fault(f"302 to {bits(location)}", "redirect", {"location": location}, status=302)


def anything():
    return [*broken(), *harmless(), *bodies(), *statuses(), *redirects()]


# ---- the token endpoint

POLICY = ("access_denied", "account_selection_required", "admin_policy_enforced", "consent_required", "interaction_required",
          "invalid_scope", "login_required", "org_internal")
CLIENT = ("deleted_client", "disabled_client", "invalid_client", "invalid_dpop_proof", "invalid_request",
          "redirect_uri_mismatch", "unauthorized_client", "unsupported_grant_type", "use_dpop_nonce")
PASSING = ("internal_failure", "rate_limit_exceeded", "server_error", "slow_down", "temporarily_unavailable", "no_such_error")


def oauth_errors():
    for verdict, errors in (("policy", POLICY), ("client", CLIENT), ("unreachable", PASSING)):
        for error in errors:
            for status in (400, 401, 500):
                yield Fault(f"{error} with {status}", "error", {"error": error, "status": status},
                            "unreachable" if status == 500 else verdict)
    yield Fault("invalid_grant with 400", "error", {"error": "invalid_grant"}, "dead")
    for subtype in ("invalid_rapt", "rapt_required"):
        options = {"error": "invalid_grant", "subtype": subtype, "description": "Bad Request"}
        yield Fault(f"invalid_grant, {subtype}", "error", options, "dead")
    for status in (200, 201, 302, 401, 403, 404, 408, 410, 418, 422, 429, 500, 502, 503):
        yield Fault(f"invalid_grant with {status}", "error", {"error": "invalid_grant", "status": status})


def said(name, body, verdict="unreachable", status=400, content_type="application/json"):
    body = body if isinstance(body, str) else json.dumps(body)
    return Fault(name, "raw", {"status": status, "body": body, "headers": {"Content-Type": content_type}}, verdict)


def misread():
    """invalid_grant somewhere in an answer; and where it is one, in odd clothes."""
    for body in ({"error_description": "invalid_grant"}, {"error": {"code": "invalid_grant"}}, {"error": ["invalid_grant"]},
                 {"error": None, "error_description": "invalid_grant"},
                 {"error": "server_error", "error_description": "invalid_grant"}, {"errors": [{"error": "invalid_grant"}]},
                 {"Error": "invalid_grant"}, {"error": True}, {"error": 400}, "invalid_grant",
                 '"invalid_grant"', '[{"error":"invalid_grant"}]', "{'error':'invalid_grant'}", "error=invalid_grant",
                 '{"error":"invalid_grant"', '{"error":"invalid_grant"}}', '\ufeff{"error":"invalid_grant"}',
                 '{"error":"invalid_client","error":"invalid_grant"}', '{"error":"invalid_grant","error":"invalid_grant"}',
                 '{"error":"invalid_grant\\u0000"}', '{"error":"invalid_grant","x":"\\ud800"}', "<title>invalid_grant</title>"):
        yield said(f"400 with {bits(body)}", body)
    for error in ("", "INVALID_GRANT", "Invalid_grant", "invalid_grant ", " invalid_grant", "invalid_grant\n", "invalid-grant",
                  "invalid_granted", "urn:invalid_grant"):
        yield said(f"error {bits(json.dumps(error))}", {"error": error})
    dead = {"error": "invalid_grant"}
    yield said("invalid_grant, spelled with an escape", '{"error":"invalid\\u005fgrant"}', "dead")
    yield said("invalid_grant as HTML", dead, "dead", content_type="text/html")
    yield said("invalid_grant among much else", {"x": [1, {"y": None}], **dead, "access_token": "ya29.MARKER-none"}, "dead")


def changed(name, verdict="unreachable", at=None, readable=True, omit=(), status=None, **members):
    """The true answer with other members."""
    options = {"set": members, "omit": list(omit), **({"status": status} if status else {})}
    return Fault(name, "answer", options, verdict, at or {}, readable=readable and verdict == "unreachable")


NO_TEXT = (None, "", 7, True, [], {}, ["ya29.MARKER"], {"a": "ya29.MARKER"})
NO_TOKEN = ("ya29.MARKER a", "ya29.MARKER\r\nX-A: b", "ya29.MARKER\x7f", "ya29.MARKER-ü", "\tya29.MARKER")
KEPT = {"connect": "offline_access_missing"}  # the refresh token that is stored, if one is, serves on
ABSENT = {"refresh": "good"}  # what is unfit counts as absent there, so that a new refresh token is not lost over it


def token_members():
    yield changed("no access_token", omit=["access_token"])
    for value in (*NO_TEXT, *NO_TOKEN, "x" * 4097):
        yield changed(f"access_token {bits(value)}", access_token=value)
    yield changed("an access_token that fills the answer", readable=False, access_token="x" * 70_000)
    yield changed("no refresh_token", "good", KEPT, omit=["refresh_token"])
    for value in (None, ""):
        yield changed(f"refresh_token {bits(value)}", "good", KEPT, refresh_token=value)
    for value in (*NO_TEXT[2:], *NO_TOKEN, "x" * 2049):
        yield changed(f"refresh_token {bits(value)}", refresh_token=value)
    for value in (None, "", 7, [], "mac", "Bearer ", "DPoP", "bearer token"):
        yield changed(f"token_type {bits(value)}", token_type=value)
    yield changed("no token_type", omit=["token_type"])
    for value in ("bearer", "BEARER"):
        yield changed(f"token_type {value}", "good", token_type=value)
    yield changed("no expires_in", "good", omit=["expires_in"])
    for value in (0, -1, 1, 59.5, "3599", "abc", "", None, True, [], {}, 1e300, -1e300, 10**30, -10**30, 2**63, "9" * 40):
        yield changed(f"expires_in {bits(value)}", "good", expires_in=value)
    for value in (7, [], {}, True, f"{DRIVE}\n", "ü", "x" * 9000):
        yield changed(f"scope {bits(value)}", at=ABSENT, scope=value)
    yield changed("scope null", "good", scope=None)
    yield changed("no scope", "good", omit=["scope"])
    nothing = {"exchange": "scopes_missing", "gateway": "scopes_missing"}
    yield changed("an empty scope", "good", nothing, scope="")
    yield changed("identity alone", "good", nothing, scope=" ".join(IDENTITY))
    yield changed("fewer scopes", "good", {"gateway": "scopes_missing"}, scope=" ".join([*IDENTITY, DRIVE]))
    yield changed("more scopes", "good", scope=" ".join([*IDENTITY, *(API_SCOPE + each for each in (
        "drive.readonly", "gmail.readonly", "calendar.readonly", "gmail.send", "drive"))]))
    yield changed("members that nobody knows", "good", x=[1, {"y": None}], error_description="invalid_grant", ok=False)
    for error in ("invalid_grant", "server_error", ""):
        yield changed(f"tokens and the error {bits(error)}", error=error)
    for status in (201, 202, 203, 206, 299, 400, 401, 403, 404, 500, 503):
        yield changed(f"tokens with {status}", status=status)


def token_spoiled():
    """The true answer, so spoiled that nothing in it can be read."""
    for name in ("access_token", "token_type", "expires_in", "scope"):
        yield Fault(f"{name} twice", "duplicate", {"field": name, "value": "ya29.MARKER-other"})
    for name in ("access_token", "scope", "id_token", "unknown"):
        yield Fault(f"a NUL in {name}", "nul", {"field": name})
        yield Fault(f"a raw NUL in {name}", "nul", {"field": name, "raw": True})
        yield Fault(f"no UTF-8 in {name}", "invalid_utf8", {"field": name})


def id_tokens():
    """After a refresh only who is named, and for whom, counts: the answer comes straight from the provider over TLS."""
    wrong = {"exchange": "identity_invalid"}

    def claims(name, verdict, at=None, **options):
        return Fault(f"id_token: {name}", "id_token", options, verdict, wrong if at is None else at, readable=True)

    for sign in ("bad", "other_key", "unknown_kid", "none", "hs256", "hs256_secret", "rs512"):
        yield claims(f"sign {sign}", "good", sign=sign)
    yield claims("no kid", "good", {}, sign="no_kid")
    yield claims("no signature", "good", sign="missing")
    yield claims("garbage", "unreachable", sign="garbage")
    yield claims("alg of a number", "good", header={"alg": 7})
    yield claims("critical extensions", "good", header={"crit": ["b64"]})
    for iss in ("https://accounts.example", "", None, 7, ["https://accounts.google.com"]):
        yield claims(f"iss {bits(iss)}", "identity", claims={"iss": iss})
    for aud in ("another.apps.googleusercontent.com", "", None, 7, [], ["another"], {}):
        yield claims(f"aud {bits(aud)}", "identity", claims={"aud": aud})
    for nonce in ("another-nonce", "", None, 7):
        yield claims(f"nonce {bits(nonce)}", "good", claims={"nonce": nonce})
    for sub in ("", None, 7, [], "a b", "1" * 256):
        yield claims(f"sub {bits(json.dumps(sub))}", "identity", claims={"sub": sub})
    yield claims("a NUL in sub", "unreachable", claims={"sub": "a\u0000b"})
    yield claims("sub of another", "identity", {"connect": "good", "reconnect": "account_mismatch"}, claims={"sub": STRANGER})
    yield claims("azp of another", "good", claims={"azp": "another"})
    yield claims("at_hash of another token", "good", claims={"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})
    for value in (None, "3000000000", [], 1e300, -1, 2**63):
        yield claims(f"exp {bits(value)}", "good", claims={"exp": value})
    yield claims("expired", "good", shift={"exp": -3600, "iat": -7200})
    yield claims("expired a moment ago", "good", {}, shift={"exp": -60, "iat": -3600})
    yield claims("issued in the future", "good", shift={"iat": 3600, "exp": 7200})
    yield claims("not yet valid", "good", shift={"nbf": 3600})
    yield claims("a life of years", "good", shift={"exp": 100_000_000})
    yield claims("no e-mail", "good", {}, claims={"email": None})
    yield claims("an e-mail of a number", "good", {}, claims={"email": 7})
    yield changed("no id_token", "good", {"exchange": "identity_invalid"}, omit=["id_token"])
    for value in (None, ""):
        yield changed(f"id_token {bits(value)}", "good", {"exchange": "identity_invalid"}, id_token=value)
    for value in (7, True, [], {}, "a b.c.d", "x" * 17_000):
        yield changed(f"id_token {bits(value)}", at=ABSENT, id_token=value)
    for value in ("a", "..", "a.b.c", "W10.W10.AA"):
        yield changed(f"id_token {value}", at={"exchange": "identity_invalid"}, id_token=value)
    yield changed("id_token e30.e30.", "identity", {"exchange": "identity_invalid"}, id_token="e30.e30.")


def at_token():
    return [*anything(), *oauth_errors(), *misread(), *token_members(), *token_spoiled(), *id_tokens()]


# ---- the other endpoints


def at_userinfo():
    yield from anything()
    nobody = {"plain": "identity_invalid"}
    yield changed("another sub", "identity", {"plain": "good"}, sub=STRANGER)
    yield changed("a sub of a number", "identity", {"plain": "good"}, sub=7)
    for value in ("", "a b", "1" * 300, "a\nb"):
        yield changed(f"sub {bits(json.dumps(value))}", "identity", nobody, sub=value)
    for value in (None, True, [], {}):
        yield changed(f"sub {bits(value)}", sub=value)
    yield changed("no sub", omit=["sub"])
    for value in (None, "", 7, [], "x" * 400):
        yield changed(f"email {bits(value)}", "good", email=value)
    yield changed("an account and an error", "good", error="invalid_grant")
    yield changed("an account with 201", status=201)
    for name in ("sub", "email"):
        yield Fault(f"{name} twice", "duplicate", {"field": name, "value": "1"})
        yield Fault(f"a NUL in {name}", "nul", {"field": name})
        yield Fault(f"no UTF-8 in {name}", "invalid_utf8", {"field": name})
    for status, verdict in ((401, "unreachable"), (403, "policy"), (429, "unreachable"), (500, "unreachable")):
        at = nobody if status in (401, 403) else {}
        yield Fault(f"an API's error with {status}", "api_error", {"status": status}, verdict, at)
    yield Fault("invalid_grant with 400", "error", {"error": "invalid_grant"})


def at_revoke():
    yield from anything()
    yield Fault("dead already", "error", {"error": "invalid_token"}, "revoked", status=400)
    for error, status in (("invalid_token", 401), ("invalid_token", 500), ("unsupported_token_type", 400),
                          ("invalid_request", 400), ("invalid_grant", 400), ("invalid_client", 401),
                          ("temporarily_unavailable", 503)):
        yield Fault(f"{error} with {status}", "error", {"error": error, "status": status}, status=status)
    yield Fault("invalid_token in the text", "error", {"error": "server_error", "description": "invalid_token"}, status=400)


def at_keys(stranger):
    """`stranger`: a sound public key that the provider does not sign with."""
    yield from anything()
    for keys in ([], None, {}, "x", 7, [None], [7], [[]], [{}], [{"kty": "oct", "k": "AAAA", "kid": "1", "alg": "HS256"}],
                 [{**stranger, "kty": "EC"}], [{**stranger, "n": None}], [{**stranger, "n": ""}], [{**stranger, "n": "!!"}],
                 [{**stranger, "n": stranger["n"][:40]}], [{**stranger, "e": "AA"}], [{**stranger, "use": "enc"}],
                 [{**stranger, "alg": "none"}]):
        yield Fault(f"keys {bits(keys)} {len(json.dumps(keys))}", "raw", {"body": json.dumps({"keys": keys})})
    yield Fault("no keys", "raw", {"body": "{}"})
    yield Fault("a stranger's key", "raw", {"body": json.dumps({"keys": [stranger]})},
                at={"keys": "identity_invalid", "check": "good"}, readable=True)
    yield Fault("keys twice", "duplicate", {"field": "keys", "value": []})


def at_discovery():
    yield from anything()
    yield changed("no issuer", omit=["issuer"])
    for value in (None, "", 7, [], "https://accounts.example", "https://a.example/\u001b[2J\u202e", "x" * 5000):
        yield changed(f"issuer {bits(json.dumps(value))}", issuer=value)
    for name in ("token_endpoint", "jwks_uri", "revocation_endpoint", "userinfo_endpoint", "authorization_endpoint"):
        yield changed(f"another {name}", **{name: "https://evil.example/\u001b[2J\n"})
        yield changed(f"no {name}", "good", omit=[name])
        yield changed(f"{name} of a number", "good", **{name: 7})
    yield Fault("issuer twice", "duplicate", {"field": "issuer", "value": "https://accounts.example"})


# ---- before a request can be sent: it hits every call to the provider while it lasts


CONNECTION = ("refused", "refuse_connection", "reset_handshake", "stall_handshake", "expired_certificate", "wrong_name",
              "unknown_ca", "old_tls", "plain_http")
