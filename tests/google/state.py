"""Accounts, clients, codes, grants and tokens, and the rules by which they live and die."""

import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field

from ledger import fingerprint

SCOPE_PREFIX = "https://www.googleapis.com/auth/"
ALIASES = {"email": SCOPE_PREFIX + "userinfo.email", "profile": SCOPE_PREFIX + "userinfo.profile"}
EMAIL, PROFILE = ALIASES["email"], ALIASES["profile"]
IDENTITY = {"openid", EMAIL, PROFILE}
GMAIL_SCOPES = {SCOPE_PREFIX + each for each in ("gmail.readonly", "gmail.metadata",
                                                 "gmail.labels")} | {"https://mail.google.com/"}

IDLE_SECONDS = 183 * 86400
TESTING_SECONDS = 604800

SETTINGS = {
    "personality": "google",          # or "rotating": every refresh gives a new refresh token
    "account": None,                  # the account that is signed in, for automatic modes
    "access_token_seconds": 3599,
    "code_seconds": 600,
    "refresh_token_cap": 100,         # per account and client; the oldest dies
    "publishing": "production",       # or "testing": test users only, seven days
    "test_users": [],
    "callback_iss": True,
    "callback_iss_on_errors": False,
    "boxes_ticked": True,
    "code_reuse_revokes": True,
    "revoke_delay": 0,                # seconds until a revocation shows
    "certs_max_age": 19800,
    "export_cap": 10 * 1024 * 1024,
}

MODES = ("ask", "approve", "deny", "partial", "never")


class Clock:
    """Our own time; tests move it."""

    def __init__(self):
        self.offset = 0

    def now(self):
        return time.time() + self.offset


@dataclass
class Account:
    key: str
    email: str
    sub: str
    name: str
    hd: str = None
    mode: str = "ask"
    partial: list = field(default_factory=list)
    policy: str = None                # why it is refused: admin_policy_enforced, org_internal
    email_verified: bool = True

    def claims(self, scopes):
        claims = {"sub": self.sub}
        if EMAIL in scopes:
            claims.update(email=self.email, email_verified=self.email_verified)
        if PROFILE in scopes:
            given, _, family = self.name.partition(" ")
            claims.update(name=self.name, given_name=given)
            if family:
                claims["family_name"] = family
        if self.hd:
            claims["hd"] = self.hd
        return claims


@dataclass
class Client:
    client_id: str
    secret: str
    project: str
    redirect_uris: list
    deleted: bool = False


@dataclass
class Code:
    value: str
    client: Client
    account: Account
    redirect_uri: str
    scopes: list                      # as granted
    requested: list                   # in the order of the request
    nonce: str
    challenge: str
    challenge_method: str
    offline: bool
    consented: bool
    issued_at: float
    status: str = "live"
    family: str = None
    ended_at: float = None


@dataclass
class Token:
    """An access or a refresh token. Tokens of one `family` come from one code exchange."""
    kind: str
    value: str
    client: Client
    account: Account
    scopes: list
    family: str
    issued_at: float
    expires_at: float = None
    parent: str = None
    status: str = "live"
    reason: str = None
    ended_at: float = None
    last_used: float = None
    uses: int = 0


@dataclass
class Grant:
    """What one account has granted to one project; revoking it kills everything under it."""
    account: Account
    project: str
    scopes: set
    granted_at: float
    tokens: list = field(default_factory=list)


class State:
    def __init__(self, clock, ledger):
        self.clock = clock
        self.ledger = ledger
        self.settings = dict(SETTINGS)
        self.accounts = {}
        self.clients = {}
        self.codes = {}
        self.tokens = {}
        self.grants = {}
        self.by_email = {}
        self.by_sub = {}
        self.add_account("ada@example.com", sub="108123000000000000001", name="Ada Lovelace")
        self.add_account("grace@workspace.example", sub="108123000000000000002",
                         name="Grace Hopper", hd="workspace.example")
        self.add_account("linus@example.org", sub="108123000000000000003", name="Linus Pauling")

    # Accounts and clients

    def add_account(self, email, sub=None, name=None, hd=None, key=None):
        key = key or re.sub(r"[^a-z0-9]+", "-", email.partition("@")[0].lower()).strip("-")
        if not key or key in self.accounts or email in self.by_email:
            raise ValueError(f"account exists already: {email}")
        digits = str(int(hashlib.sha256(email.encode()).hexdigest(), 16))
        account = Account(key, email, sub or "109" + digits[:18], name or key.title(), hd)
        self.accounts[key] = account
        self.by_email[email] = account
        self.by_sub[account.sub] = account
        return account

    def account(self, key_email_or_sub):
        for index in (self.accounts, self.by_email, self.by_sub):
            if key_email_or_sub in index:
                return index[key_email_or_sub]
        return None

    # Authorization

    def grant(self, account, project):
        return self.grants.get((account.key, project))

    def approve(self, account, client, scopes):
        grant = self.grant(account, client.project)
        if grant is None:
            grant = Grant(account, client.project, set(), self.clock.now())
            self.grants[account.key, client.project] = grant
        grant.scopes |= set(scopes)
        return grant

    def issue_code(self, **fields):
        value = "4/0AMARKER-" + secrets.token_urlsafe(48)
        code = Code(value=value, issued_at=self.clock.now(), **fields)
        self.codes[value] = code
        self.ledger.count("authorizations")
        self.ledger.event("issued", "code", value, code.client.client_id, code.account.email)
        return code

    def code_is_live(self, code):
        return (code.status == "live"
                and self.clock.now() < code.issued_at + self.settings["code_seconds"])

    def end_code(self, code, status):
        code.status, code.ended_at = status, self.clock.now()
        self.ledger.event(status, "code", code.value, code.client.client_id, code.account.email)

    # Tokens

    def issue(self, kind, client, account, scopes, family, seconds=None, parent=None):
        prefix = "ya29.MARKER-" if kind == "access" else "1//MARKER-"
        now = self.clock.now()
        token = Token(kind, prefix + secrets.token_urlsafe(48), client, account, list(scopes),
                      family, now, now + seconds if seconds is not None else None,
                      fingerprint(parent.value) if parent else None)
        self.tokens[token.value] = token
        self.approve(account, client, scopes).tokens.append(token)
        self.ledger.event("issued", kind, token.value, client.client_id, account.email)
        if kind == "refresh" and parent is None:
            self._enforce_cap(client, account)
        return token

    def issue_access(self, client, account, scopes, family, parent=None):
        return self.issue("access", client, account, scopes, family,
                          self.settings["access_token_seconds"], parent)

    def issue_refresh(self, client, account, scopes, family, parent=None):
        testing = self.settings["publishing"] == "testing" and set(scopes) - IDENTITY
        return self.issue("refresh", client, account, scopes, family,
                          TESTING_SECONDS if testing else None, parent)

    def _enforce_cap(self, client, account):
        live = [token for token in self.grant(account, client.project).tokens
                if token.kind == "refresh" and token.status == "live" and token.client is client]
        for token in live[:max(0, len(live) - self.settings["refresh_token_cap"])]:
            self.end(token, "cap")

    def end(self, token, reason):
        if token.status == "live":
            token.status = "rotated" if reason == "rotated" else "revoked"
            token.reason, token.ended_at = reason, self.clock.now()
            self.ledger.event(token.status, token.kind, token.value, token.client.client_id,
                              token.account.email, reason=reason)

    def find(self, value, kind=None):
        token = self.tokens.get(value)
        return token if token and kind in (None, token.kind) else None

    def is_live(self, token):
        now = self.clock.now()
        if token is None or token.status != "live":
            return False
        if token.expires_at is not None and now >= token.expires_at:
            return False
        if token.kind == "refresh" and now >= (token.last_used or token.issued_at) + IDLE_SECONDS:
            return False
        return True

    def use(self, token):
        token.uses += 1
        token.last_used = self.clock.now()
        self.ledger.event("used", token.kind, token.value, token.client.client_id,
                          token.account.email)

    def present_scopes(self, token):
        """The token's scopes as far as the account still grants them."""
        grant = self.grant(token.account, token.client.project)
        return [scope for scope in token.scopes if grant and scope in grant.scopes]

    def rotate(self, token):
        replacement = self.issue_refresh(token.client, token.account, token.scopes, token.family,
                                         token)
        self.end(token, "rotated")
        return replacement

    def end_family(self, family, reason, grant):
        for token in list(grant.tokens if grant else ()):
            if token.family == family:
                self.end(token, reason)

    def revoke_grant(self, account, project, reason):
        """Project-wide: every client's tokens of this account, and the grant itself."""
        grant = self.grants.pop((account.key, project), None)
        if grant is None:
            return 0
        ended = 0
        for token in grant.tokens:
            if token.status == "live":
                self.end(token, reason)
                ended += 1
        return ended

    def password_changed(self, account):
        """Kills the refresh tokens that hold Gmail scopes."""
        ended = 0
        for (key, _), grant in self.grants.items():
            for token in grant.tokens if key == account.key else ():
                if token.kind == "refresh" and GMAIL_SCOPES & set(token.scopes):
                    if token.status == "live":
                        self.end(token, "password_changed")
                        ended += 1
        return ended

    def listing(self):
        return {
            "codes": [{
                "fingerprint": fingerprint(code.value), "client": code.client.client_id,
                "account": code.account.email, "issued_at": code.issued_at,
                "status": code.status, "ended_at": code.ended_at, "scopes": code.scopes,
            } for code in self.codes.values()],
            **{kind + "_tokens": [{
                "fingerprint": fingerprint(token.value), "client": token.client.client_id,
                "account": token.account.email, "issued_at": token.issued_at,
                "expires_at": token.expires_at, "status": token.status, "reason": token.reason,
                "ended_at": token.ended_at, "last_used": token.last_used, "uses": token.uses,
                "scopes": token.scopes, "family": token.family, "parent": token.parent,
                "live": self.is_live(token),
            } for token in self.tokens.values() if token.kind == kind]
               for kind in ("access", "refresh")},
        }


def canonical(scope_text):
    """The scopes of a request, aliases mapped, in its order, each once."""
    return list(dict.fromkeys(ALIASES.get(each, each) for each in scope_text.split()))


def reordered(scopes, requested=()):
    """As Google answers: in an order of its own, never in that of the request."""
    ordered = sorted(scopes)
    same = [scope for scope in requested if scope in ordered]
    return ordered[::-1] if ordered == same else ordered
