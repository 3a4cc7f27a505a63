"""A client of the stand-in for its own tests: an authorization request, the calls of a service."""

import base64
import hashlib
import http.client
import json
import secrets
import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

REDIRECT_URI = "http://localhost:8080/integrations/google/callback"
API = "https://www.googleapis.com/auth/"
GMAIL, DRIVE = API + "gmail.readonly", API + "drive.readonly"
SCOPES = f"openid email {GMAIL} {DRIVE}"


class Http:
    """One TLS client that checks the stand-in's certificate."""

    def __init__(self, stand_in):
        self.stand_in = stand_in
        self.port = stand_in.ports["https"]
        self.context = ssl.create_default_context(cafile=stand_in.ca_file)
        with open(stand_in.client_secret_file, encoding="utf-8") as file:
            self.secret = file.read().strip()

    def send(self, method, path, body=None, headers=None, timeout=5):
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=timeout,
                                                 context=self.context)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def post(self, path, **form):
        status, _, body = self.send("POST", path, urlencode(form), {
            "Content-Type": "application/x-www-form-urlencoded"})
        return status, json.loads(body)

    def get(self, path, token):
        status, _, body = self.send("GET", path, headers={"Authorization": "Bearer " + token})
        return status, body

    def client(self, **changes):
        return {"client_id": self.stand_in.client_id, "client_secret": self.secret, **changes}

    def exchange(self, flow, **changes):
        form = self.client(grant_type="authorization_code", code=flow.code,
                           redirect_uri=REDIRECT_URI, code_verifier=flow.verifier)
        form.update(changes)
        return self.post("/token", **{name: value for name, value in form.items()
                                      if value is not None})

    def refresh(self, token, **changes):
        return self.post("/token", **self.client(grant_type="refresh_token", refresh_token=token,
                                                 **changes))


class Flow:
    """An authorization request and, once approved, its code."""

    def __init__(self, stand_in, **changes):
        self.stand_in = stand_in
        self.verifier = secrets.token_urlsafe(32)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.nonce = secrets.token_urlsafe(16)
        parameters = {
            "client_id": stand_in.client_id, "redirect_uri": REDIRECT_URI,
            "response_type": "code", "scope": SCOPES, "access_type": "offline",
            "prompt": "consent select_account", "state": "S.acme", "nonce": self.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256", **changes}
        self.url = stand_in.provider["authorization_endpoint"] + "?" + urlencode(
            {name: value for name, value in parameters.items() if value is not None})

    def approve(self, account="ada", grant="all"):
        location = self.stand_in.authorize(self.url, account, grant)
        self.answer = parse_qsl(urlsplit(location).query)
        self.code = dict(self.answer).get("code")
        return self


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify(token, jwks):
    """The claims of an ID token, after a check of its RS256 signature."""
    head, claims, signature = token.split(".")
    header = json.loads(decoded(head))
    assert header["alg"] == "RS256"
    key = {key["kid"]: key for key in jwks["keys"]}[header["kid"]]
    number = rsa.RSAPublicNumbers(int.from_bytes(decoded(key["e"]), "big"),
                                  int.from_bytes(decoded(key["n"]), "big"))
    number.public_key().verify(decoded(signature), f"{head}.{claims}".encode(),
                               padding.PKCS1v15(), hashes.SHA256())
    return json.loads(decoded(claims))


def jwks(web):
    return json.loads(web.send("GET", "/oauth2/v3/certs")[2])
