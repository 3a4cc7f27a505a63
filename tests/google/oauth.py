"""The endpoints that a client calls: token, revoke, userinfo, tokeninfo, keys and discovery."""

import base64
import hashlib
import hmac
import re
import secrets
from urllib.parse import unquote_plus

import keys
from state import IDENTITY, canonical, reordered
from wire import Response, json_response

NO_STORE = [("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate"),
            ("Pragma", "no-cache")]
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")
DEAD = "Token has been expired or revoked."


class Refused(Exception):
    def __init__(self, error, description=None, status=400, headers=()):
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers


def error_response(error, description=None, status=400, headers=(), subtype=None):
    document = {"error": error}
    if description is not None:
        document["error_description"] = description
    if subtype is not None:
        document["error_subtype"] = subtype
    return json_response(document, status, [*NO_STORE, *headers])


def equal(one, other):
    return hmac.compare_digest(one.encode(), other.encode())


class OAuth:
    def __init__(self, state, signing_keys, issuer, https_base, http_base):
        self.state = state
        self.ledger = state.ledger
        self.keys = signing_keys
        self.issuer = issuer
        self.https_base = https_base
        self.http_base = http_base

    # Who a request concerns, so that a fault can be armed for one account

    def account_of(self, request):
        if request.path == "/token":
            code = self.state.codes.get(request.parameter("code"))
            found = code or self.state.find(request.parameter("refresh_token"))
        elif request.path == "/revoke":
            found = self.state.find(request.parameter("token"))
        else:
            found = self.state.find(request.bearer or request.parameter("access_token"))
        return found.account if found else None

    # POST /token

    def token(self, request, id_token_fault=None):
        kind = {"authorization_code": "exchanges",
                "refresh_token": "refreshes"}.get(request.parameter("grant_type"))
        try:
            document = self._token(request, id_token_fault)
        except Refused as refusal:
            if kind:
                self.ledger.count(kind + "_refused")
            return error_response(refusal.error, refusal.description, refusal.status,
                                  refusal.headers)
        self.ledger.count(kind + "_ok")
        return json_response(document, headers=NO_STORE)

    def _token(self, request, id_token_fault):
        if request.method != "POST":
            raise Refused("invalid_request", "Method not allowed", 405, [("Allow", "POST")])
        if request.content_type != "application/x-www-form-urlencoded":
            raise Refused("invalid_request", "Content type must be form-encoded.")
        form = {}
        for name, value in request.form:
            if name in form:
                raise Refused("invalid_request", f"Duplicate parameter: {name}")
            form[name] = value
        client_id, secret, basic = self._credentials(request, form)
        grant_type = form.get("grant_type", "")
        if grant_type == "authorization_code":
            return self._exchange(form, client_id, secret, basic, id_token_fault)
        if grant_type == "refresh_token":
            return self._refresh(form, client_id, secret, basic, id_token_fault)
        raise Refused("unsupported_grant_type", f"Invalid grant_type: {grant_type}")

    @staticmethod
    def _credentials(request, form):
        scheme, _, encoded = (request.header("authorization") or "").partition(" ")
        if scheme.lower() != "basic":
            return form.get("client_id"), form.get("client_secret"), False
        if "client_secret" in form:
            raise Refused("invalid_request", "Client credentials were sent twice.")
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            raise Refused("invalid_client", "Unauthorized", 401,
                          [("WWW-Authenticate", 'Basic realm="https://accounts.google.com/"')])
        return unquote_plus(user), unquote_plus(password), True

    @staticmethod
    def _credentials_present(client_id, secret):
        if not client_id:
            raise Refused("invalid_request", "Could not determine client ID from request.")
        if not secret:
            raise Refused("invalid_request", "client_secret is missing.")

    def _client(self, client_id, basic):
        client = self.state.clients.get(client_id)
        if client is None:
            raise self._unauthorized("The OAuth client was not found.", basic)
        if client.deleted:
            raise Refused("deleted_client", "The OAuth client was deleted.", 401)
        return client

    def _check_secret(self, client, secret, basic):
        if not equal(client.secret, secret):
            raise self._unauthorized("Unauthorized", basic)

    @staticmethod
    def _unauthorized(description, basic):
        headers = [("WWW-Authenticate", 'Basic realm="https://accounts.google.com/"')]
        return Refused("invalid_client", description, 401, headers if basic else ())

    def _exchange(self, form, client_id, secret, basic, id_token_fault):
        state = self.state
        if not form.get("redirect_uri"):
            raise Refused("invalid_request", "Missing parameter: redirect_uri")
        self._credentials_present(client_id, secret)
        if not form.get("code"):
            raise Refused("invalid_request", "Missing required parameter: code")
        if not form["code"].startswith("4/"):
            raise Refused("invalid_grant", "Malformed auth code.")
        code = state.codes.get(form["code"])
        if code is None or not state.code_is_live(code):
            self._note_reuse(code)
            raise Refused("invalid_grant", "Bad Request")
        self._check_verifier(code, form.get("code_verifier"))
        client = self._client(client_id, basic)
        if code.client is not client:
            raise Refused("invalid_grant", "Bad Request")
        if form["redirect_uri"] != code.redirect_uri:
            raise Refused("redirect_uri_mismatch", "Bad Request")
        self._check_secret(client, secret, basic)

        state.end_code(code, "exchanged")
        code.family = secrets.token_hex(8)
        refresh = None
        if code.offline and code.consented:
            refresh = state.issue_refresh(client, code.account, code.scopes, code.family)
        access = state.issue_access(client, code.account, code.scopes, code.family, refresh)
        document = {"access_token": access.value,
                    "expires_in": state.settings["access_token_seconds"]}
        if refresh:
            document["refresh_token"] = refresh.value
            if refresh.expires_at is not None:
                document["refresh_token_expires_in"] = int(refresh.expires_at
                                                           - refresh.issued_at) - 1
        document["scope"] = " ".join(reordered(code.scopes, code.requested))
        document["token_type"] = "Bearer"
        if IDENTITY & set(code.scopes):
            document["id_token"] = self._id_token(access, code.nonce, id_token_fault)
        return document

    def _note_reuse(self, code):
        """A code that comes a second time may be stolen: what it gave dies with it."""
        if code is None or code.status != "exchanged":
            return
        self.ledger.count("code_reuses")
        self.ledger.event("reused", "code", code.value, code.client.client_id, code.account.email)
        if self.state.settings["code_reuse_revokes"]:
            self.state.end_family(code.family, "code_reuse",
                                  self.state.grant(code.account, code.client.project))

    def _check_verifier(self, code, verifier):
        if code.challenge is None:
            if verifier:
                raise Refused("invalid_grant", "code_verifier or verifier is not needed.")
            return
        if not verifier:
            raise Refused("invalid_grant", "Missing code verifier.")
        computed = verifier
        if code.challenge_method == "S256":
            digest = hashlib.sha256(verifier.encode("utf-8", "replace")).digest()
            computed = keys.base64url(digest)
        if not VERIFIER.match(verifier) or not equal(computed, code.challenge):
            # Whoever holds a code without its verifier gets one try only.
            self.state.end_code(code, "refused")
            raise Refused("invalid_grant", "Invalid code verifier.")

    def _refresh(self, form, client_id, secret, basic, id_token_fault):
        state = self.state
        self._credentials_present(client_id, secret)
        if not form.get("refresh_token"):
            raise Refused("invalid_request", "Missing required parameter: refresh_token")
        client = self._client(client_id, basic)
        self._check_secret(client, secret, basic)
        token = state.find(form["refresh_token"], "refresh")
        if token is None:
            raise Refused("invalid_grant", "Bad Request")
        if token.client is not client:
            raise Refused("unauthorized_client", "Unauthorized", 401)
        if token.status == "rotated":
            self.ledger.count("reuse_detections")
            self.ledger.event("reused", "refresh", token.value, client_id, token.account.email)
            state.end_family(token.family, "rotation_reuse",
                             state.grant(token.account, client.project))
        if not state.is_live(token):
            raise Refused("invalid_grant", DEAD)
        if token.account.policy:
            raise Refused("admin_policy_enforced", "Access is restricted by your administrator.")
        granted = state.present_scopes(token)
        scopes = granted
        if form.get("scope"):
            scopes = canonical(form["scope"])
            if not set(scopes) <= set(granted):
                raise Refused("invalid_scope", "Some requested scopes cannot be shown.")
        state.use(token)
        current = token
        if state.settings["personality"] == "rotating":
            current = state.rotate(token)
        access = state.issue_access(client, token.account, scopes, token.family, current)
        document = {"access_token": access.value,
                    "expires_in": state.settings["access_token_seconds"],
                    "scope": " ".join(reordered(scopes)), "token_type": "Bearer"}
        if current is not token:
            document["refresh_token"] = current.value
        if IDENTITY & set(scopes):
            document["id_token"] = self._id_token(access, None, id_token_fault)
        return document

    def _id_token(self, access, nonce, fault):
        now = int(self.state.clock.now())
        client_id = access.client.client_id
        claims = {"iss": self.issuer, "azp": client_id, "aud": client_id,
                  **access.account.claims(access.scopes),
                  "at_hash": keys.at_hash(access.value), "iat": now, "exp": now + 3600}
        if nonce:
            claims["nonce"] = nonce
        options = fault.options if fault else {}
        for name, value in options.get("claims", {}).items():
            claims.pop(name, None)
            if value is not None:
                claims[name] = value
        for name, seconds in options.get("shift", {}).items():
            claims[name] = now + seconds
        return self.keys.id_token(claims, options.get("header"), options.get("sign", "good"),
                                  access.client.secret)

    # POST /revoke

    def revoke(self, request, after):
        """`after(seconds, call)` lets the effect show later, as Google reserves for itself."""
        if request.method != "POST":
            return error_response("invalid_request", "Method not allowed", 405, [("Allow", "POST")])
        value = request.parameter("token")
        if not value:
            self.ledger.count("revokes_refused")
            return error_response("invalid_request", "Missing required parameter: token")
        token = self.state.find(value)
        if not self.state.is_live(token):
            self.ledger.count("revokes_refused")
            return error_response("invalid_token", "Token expired or revoked")
        self.ledger.count("revokes")
        after(self.state.settings["revoke_delay"],
              lambda: self.state.revoke_grant(token.account, token.client.project, "revoked"))
        return json_response({}, headers=NO_STORE)

    # GET /v1/userinfo

    def userinfo(self, request):
        token = self.state.find(request.bearer, "access")
        scopes = self.state.present_scopes(token) if self.state.is_live(token) else []
        if not IDENTITY & set(scopes):
            self.ledger.count("userinfo_refused")
            return error_response(
                "invalid_request", "Invalid Credentials", 401,
                [("WWW-Authenticate",
                  'Bearer realm="https://accounts.google.com/", error="invalid_request"')])
        self.state.use(token)
        self.ledger.count("userinfo")
        return json_response(token.account.claims(scopes), headers=NO_STORE)

    # GET or POST /tokeninfo

    def tokeninfo(self, request):
        self.ledger.count("tokeninfo")
        token = self.state.find(request.bearer or request.parameter("access_token"), "access")
        if not self.state.is_live(token):
            return error_response("invalid_token", "Invalid Value")
        scopes = self.state.present_scopes(token)
        document = {"azp": token.client.client_id, "aud": token.client.client_id,
                    "scope": " ".join(reordered(scopes)), "exp": str(int(token.expires_at)),
                    "expires_in": str(int(token.expires_at - self.state.clock.now())),
                    "access_type": "offline" if token.parent else "online"}
        claims = token.account.claims(scopes)
        if "openid" in scopes:
            document["sub"] = claims["sub"]
        if "email" in claims:
            document["email"] = claims["email"]
            document["email_verified"] = "true" if claims["email_verified"] else "false"
        return json_response(document, headers=NO_STORE)

    # GET /oauth2/v3/certs and /.well-known/openid-configuration

    def certs(self, _request):
        self.ledger.count("certs")
        age = self.state.settings["certs_max_age"]
        return json_response(self.keys.jwks(), headers=[
            ("Cache-Control", f"public, max-age={age}, must-revalidate, no-transform")])

    def discovery(self, request):
        """In a lane, all that it names lies in that lane."""
        self.ledger.count("discovery")
        lane = f"/lane/{request.lane}" if request.lane else ""
        issuer, https_base = self.issuer + lane, self.https_base + lane
        return json_response({
            "issuer": issuer,
            "authorization_endpoint": self.http_base + lane + "/o/oauth2/v2/auth",
            "token_endpoint": https_base + "/token",
            "userinfo_endpoint": https_base + "/v1/userinfo",
            "revocation_endpoint": https_base + "/revoke",
            "jwks_uri": https_base + "/oauth2/v3/certs",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "claims_supported": ["aud", "email", "email_verified", "exp", "family_name",
                                 "given_name", "iat", "iss", "name", "sub"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "authorization_response_iss_parameter_supported": True,
        }, headers=[("Cache-Control", "public, max-age=3600")])


def not_found():
    """An unknown path is answered in HTML, as Google's front end does."""
    return Response(404, [("Content-Type", "text/html; charset=UTF-8")],
                    b"<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)</title>"
                    b"<p>The requested URL was not found on this server.</html>")
