"""The routes and commands that call a provider: how each is brought to call it, and what its answer must be.

A route knows its `step` (which of the provider's endpoints meets the fault) and its `bound` (how long it may take). One
case has a user, an account at the provider and a connection of its own, so that hundreds of them run at once.
"""

import json
import os
import re
from dataclasses import dataclass, field

from checks import dump, is_stored, key, make_due
from harness import SERVICE, good, problem, write_file
from people import Person

ORGANIZATION = "acme"
CALLS = 8   # seconds for all of a request's calls
REVOKE = 3  # seconds for a revocation
REMEMBERED = 61_000  # ms at most, however long a provider would have us wait
SLACK = 4   # for a busy machine: what is looked for is a request without any bound

STATUS = {"code_rejected": 400, "authorization_failed": 400, "provider_misconfigured": 502, "provider_unreachable": 502,
          "identity_invalid": 502, "scopes_missing": 422, "offline_access_missing": 409, "account_mismatch": 409,
          "reconnect_required": 409}
# What a verdict means for a record; for who asks for a token; for who comes back with a code.
MEANING = {"good": ("valid", None), "dead": ("invalid", "grant_revoked"), "policy": ("unknown", "provider_policy"),
           "client": ("unknown", "provider_misconfigured"), "unreachable": ("unknown", "provider_unreachable"),
           "identity": ("unknown", "identity_changed")}
TOKEN_CODE = {"dead": "reconnect_required", "policy": "reconnect_required", "identity": "reconnect_required",
              "client": "provider_misconfigured", "unreachable": "provider_unreachable"}
CALLBACK_CODE = {"dead": "code_rejected", "policy": "authorization_failed", "client": "provider_misconfigured",
                 "unreachable": "provider_unreachable"}


class Wrong(AssertionError):
    """What a drill counts: `kind` is one of drill.BAD."""

    def __init__(self, kind, what):
        super().__init__(what)
        self.kind = kind


def holds(condition, kind, what):
    if not condition:
        raise Wrong(kind, what)


@dataclass
class Case:
    route: object
    fault: object
    number: int = 0
    account: dict = None  # at the provider: key, email, sub
    other: dict = None    # a second one
    minted: dict = None   # the tokens of its connection
    session: object = None
    before: list = None   # record and tokens as Redis has them, byte for byte,
    tokens: dict = None   # and the fields of the tokens
    request_id: str = None
    notes: dict = field(default_factory=dict)

    @property
    def user(self):
        return f"user{self.number}"

    @property
    def person(self):
        return Person(self.user, ORGANIZATION, "")

    @property
    def service(self):
        return self.route.service_of(self)

    @property
    def verdict(self):
        return self.fault.judged(self.route.name, self.route.step)

    def __str__(self):
        return f"{self.route.name}, {self.route.step}: {self.fault.name}"


def answered(case, answer, code):
    """The answer is good, or exactly this problem. The body."""
    case.request_id = answer.headers["X-Request-Id"]
    case.notes["ok"] = code is None
    holds(code is None or answer.status_code != 200, "failed_open", f"answered 200 instead of {code}")
    return good(answer) if code is None else problem(answer, STATUS[code], code)


class Route:
    name = step = ""
    seeded = False           # there is a connection before
    due = False              # whose access token has expired
    bound = CALLS + SLACK
    keeps = True             # the connection lives on

    def __init__(self, world):
        self.world = world
        self.product = world.product

    def service_of(self, case):
        return SERVICE

    def faults(self, case):
        """The faults to arm: endpoint, kind, options. The first is the one of the case."""
        return [(self.step, case.fault.kind, {"account": case.account["email"], **case.fault.options})]

    def prepare(self, case):
        pass

    def next_works(self, case):
        """With the fault gone, the stored refresh token gives the next access token, whatever is said of it meanwhile."""
        make_due(self.product, case.user, ORGANIZATION, case.service)
        body = good(case.session.validate(ORGANIZATION, case.service))
        assert body["is_valid"] and body["integration"]["status"] == "valid", body

    def record(self, case):
        return self.product.redis.hgetall(key("integration", case.user, ORGANIZATION, case.service))

    def tokens(self, case):
        return self.product.redis.hgetall(key("credential", case.user, ORGANIZATION, case.service))

    def tokens_stay(self, case, but=()):
        """The stored tokens are what they were, byte for byte; fields of `but` may differ. And it is not long until the
        provider is asked again."""
        now, was = self.tokens(case), case.tokens
        holds(all(now.get(name) == was.get(name) for name in {*now, *was} - set(but)), "lost", "stored tokens changed")
        remembered = self.product.redis.pttl(key("integrations:refresh_failure", case.user, ORGANIZATION, case.service))
        holds(remembered <= REMEMBERED, "stuck", f"the failure is remembered for {remembered} ms")


# ---- routes on a stored connection


class Validate(Route):
    name, seeded = "validate", True

    def ask(self, case):
        return case.session.validate(ORGANIZATION)

    def check(self, case, answer):
        record = answered(case, answer, None)
        status, reason = MEANING[case.verdict]
        shown = record["integration"]
        assert (record["is_valid"], shown["status"], shown["status_reason"]) == (status == "valid", status, reason), record
        stored = self.record(case)
        assert (stored["status"], stored.get("status_reason")) == (status, reason), stored
        holds((shown["user_id"], shown["oauth_user_id"]) == (case.user, case.account["sub"]), "wrong_user", "another's record")
        case.notes["ok"] = status == "valid"


class ValidateRefresh(Validate):
    step, due = "refresh", True

    def check(self, case, answer):
        super().check(case, answer)
        if case.verdict != "good":
            self.tokens_stay(case)


class Rotated(ValidateRefresh):
    """The provider has forgotten the refresh token that it was sent: the new one has to be stored, however odd the answer."""
    name, keeps = "rotated", False


class ValidateUserinfo(Validate):
    step = "userinfo"


class Token(Route):
    name, step, seeded, due = "token", "refresh", True, True

    def ask(self, case):
        return self.world.caller.token(case.user, ORGANIZATION)

    def check(self, case, answer):
        body = answered(case, answer, TOKEN_CODE.get(case.verdict))
        if case.verdict == "good":
            holds(body["oauth_user_id"] == case.account["sub"], "wrong_user", "another's token")
            assert "warning" not in body, body
        self.record_says(case)

    def record_says(self, case):
        """Only invalid_grant changes what is said of the connection, and nothing but a good answer its tokens."""
        stored = self.record(case)
        status = ("invalid", "grant_revoked") if case.verdict == "dead" else ("valid", None)
        assert (stored["status"], stored.get("status_reason")) == status, stored
        if case.verdict != "good":
            self.tokens_stay(case, but=("handed_out_until",))


class TokenEarly(Token):
    """The stored token is still good for a moment: it is handed out when no other can be had."""
    name, due = "token early", False

    def ask(self, case):
        return self.world.caller.token(case.user, ORGANIZATION, json={"minimum_seconds": 1800})

    def check(self, case, answer):
        if case.verdict not in ("unreachable", "client", "policy"):
            super().check(case, answer)
            return
        body = answered(case, answer, None)
        assert body["warning"] == MEANING[case.verdict][1] and body["access_token"] == case.minted["access_token"], "no warning"
        self.record_says(case)


class Gateway(Token):
    name = "gateway"

    def prepare(self, case):
        case.notes["teammate"] = self.product.session(case.user, {ORGANIZATION: "member"}, via="bearer", use="gateway",
                                                      mcps="gmail")

    def ask(self, case):
        return case.notes["teammate"].post(f"/mcp/{ORGANIZATION}/gmail", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})

    def check(self, case, answer):
        verdict = case.verdict
        answered(case, answer, verdict if verdict in STATUS else TOKEN_CODE.get(verdict))
        if verdict not in STATUS:
            self.record_says(case)


# ---- the callback


class Callback(Route):
    replace = None
    grant = "all"
    grants_offline = True

    def prepare(self, case):
        case.notes["document"] = case.session.authorize(ORGANIZATION, case.account["email"], self.grant, case.service,
                                                        replace=self.replace)

    def ask(self, case):
        return case.session.callback(ORGANIZATION, case.notes["document"], case.service)

    def code(self, case):
        return case.verdict if case.verdict in STATUS else CALLBACK_CODE.get(case.verdict)

    def check(self, case, answer):
        code = self.code(case)
        body = answered(case, answer, code)
        if code is None:
            assert body["integration"]["user_id"] == case.user and body["integration"]["status"] == "valid", body
            return
        if case.before:
            now = dump(self.product, case.user, ORGANIZATION, case.service)
            holds(now == case.before, "lost", "a refused callback changed what is stored")
            return
        stored = is_stored(self.product, case.user, ORGANIZATION, case.service)
        holds(not stored, "failed_open", "something is stored of a refused connection")
        case.notes["orphans"] = self.product.stand_in.live(case.account["email"])["refresh"]
        assert not (case.fault.readable and case.notes["orphans"]), "the tokens of a refused exchange live on"

    def next_works(self, case):
        if not is_stored(self.product, case.user, ORGANIZATION, case.service):
            case.session.connect(ORGANIZATION, case.account["email"], service=case.service)
        super().next_works(case)


class Connect(Callback):
    name, step = "connect", "exchange"

    def check(self, case, answer):
        super().check(case, answer)
        if case.fault.name == "id_token: sub of another":  # the connection is another account's now, by the provider's word
            case.notes["done"] = True


class Reconnect(Callback):
    name, step, seeded = "reconnect", "exchange", True

    def next_works(self, case):
        if case.verdict == "account_mismatch":  # the tokens of the other account were revoked, and it was none
            case.notes["done"] = True
        else:
            super().next_works(case)


class ReconnectKeep(Callback):
    """No refresh token comes, so the stored one is tried by a refresh."""
    name, step, seeded = "keep", "refresh", True

    def faults(self, case):
        first = ("exchange", "answer", {"account": case.account["email"], "omit": ["refresh_token"]})
        return [*super().faults(case), first]

    def code(self, case):
        return None if case.verdict == "good" else "offline_access_missing"


class Plain(Callback):
    """A service without keys: userinfo says whose the tokens are."""
    name, step = "plain", "userinfo"

    def service_of(self, case):
        return "plain"

    def next_works(self, case):
        if not is_stored(self.product, case.user, ORGANIZATION, "plain"):
            super().next_works(case)


class Keys(Callback):
    """Each case has a service of its own, whose keys no worker has."""
    name, step = "keys", "certs"

    def service_of(self, case):
        return f"keys{case.number}"

    def faults(self, case):
        return [("certs", case.fault.kind, {"lane": case.service, **case.fault.options})]

    def next_works(self, case):
        if case.verdict != "identity_invalid":  # then a worker has the stranger's keys, and looks for others once a minute
            super().next_works(case)


# ---- revocation


class Revoking(Route):
    step, keeps = "revoke", False

    def revoked(self, case):
        """What the answer to the revocation said."""
        return case.verdict in ("good", "revoked") or case.fault.status == 200

    def is_gone(self, case):
        holds(not is_stored(self.product, case.user), "resurrected", "what was disconnected is still stored")


class Discard(Revoking, Callback):
    """Nothing that anybody needs was granted, so the grant is revoked."""
    name, grant = "discard", "none"
    bound = REVOKE + SLACK

    def code(self, case):
        return "scopes_missing"

    def check(self, case, answer):
        super().check(case, answer)
        if self.revoked(case):  # who says so is believed, even where nothing was done (RFC 7009, 2.2)
            case.notes["orphans"] = 0

    def next_works(self, case):
        case.session.connect(ORGANIZATION, case.account["email"])


class Replace(Revoking, Callback):
    """The new connection stands, whatever becomes of the old grant."""
    name, seeded, replace = "replace", True, "true"
    bound = REVOKE + SLACK

    def prepare(self, case):
        case.notes["document"] = case.session.authorize(ORGANIZATION, case.other["email"], replace="true")

    def code(self, case):
        return None

    def check(self, case, answer):
        Callback.check(self, case, answer)
        assert answer.json()["integration"]["oauth_user_id"] == case.other["sub"]

    def next_works(self, case):
        Route.next_works(self, case)


class Disconnect(Revoking):
    name, seeded = "disconnect", True
    bound = REVOKE + SLACK

    def ask(self, case):
        return case.session.disconnect(ORGANIZATION)

    def check(self, case, answer):
        body = answered(case, answer, None)
        assert body["revocation"] == ("revoked" if self.revoked(case) else "not_revoked"), body
        self.is_gone(case)

    def next_works(self, case):
        assert case.session.list(ORGANIZATION) == []
        case.session.connect(ORGANIZATION, case.account["email"])


# ---- commands: what they print is the answer


class Remove(Revoking):
    name, seeded = "remove", True
    bound = REVOKE + SLACK

    def ask(self, case):
        return self.product.command("remove", "--org", ORGANIZATION, "--user", case.user, check=False)

    def check(self, case, answer):
        said = "revoked" if self.revoked(case) else "not revoked at the provider"
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert f"{case.user} {SERVICE}: forgotten, {said}\n" in answer.stdout, answer.stdout
        self.is_gone(case)
        case.notes["ok"] = True
        self.world.printed(case, answer)

    def next_works(self, case):
        answer = self.product.command("remove", "--org", ORGANIZATION, "--user", case.user)
        assert "0 connections forgotten" in answer.stdout, answer.stdout


class Check(Route):
    keeps = False
    bound = 2 * CALLS + SLACK

    def prepare(self, case):
        google, lane = self.product.stand_in, f"/lane/check{case.number}"
        text = json.dumps(google.provider)
        for base in (google.https_base, f"http://localhost:{google.ports['http']}"):  # each of its addresses, in the lane
            text = text.replace(f"{base}/", f"{base}{lane}/")
        provider = {**json.loads(text), "issuer": google.https_base + lane}
        case.notes["folder"] = os.path.join(self.world.folder, f"check{case.number}")
        os.makedirs(case.notes["folder"])
        write_file(os.path.join(case.notes["folder"], f"{SERVICE}.json"), json.dumps(provider))

    def faults(self, case):
        return [(self.step, case.fault.kind, {"lane": f"check{case.number}", **case.fault.options})]

    def ask(self, case):
        return self.product.command("check", environment={"PROVIDERS_DIR": case.notes["folder"]}, check=False)

    def check(self, case, answer):
        self.world.printed(case, answer)
        case.notes["ok"] = answer.returncode == 0
        findings = [line for line in answer.stdout.splitlines() if line.startswith("FAIL: ")]
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", answer.stdout), "control characters of the provider are printed"
        expected = (0, False) if case.verdict == "good" else (1, True)
        assert (answer.returncode, bool(findings)) == expected, answer.stdout + answer.stderr
        assert all(line.startswith(f"FAIL: {SERVICE}: ") for line in findings), findings

    def next_works(self, case):
        assert self.ask(case).returncode == 0


class CheckKeys(Check):
    name, step = "check", "certs"


class CheckDiscovery(Check):
    name, step = "check", "discovery"


ROUTES = {"exchange": (Connect, Reconnect), "refresh": (ValidateRefresh, Token, TokenEarly, Gateway, ReconnectKeep),
          "userinfo": (ValidateUserinfo, Plain), "revoke": (Disconnect, Remove, Discard, Replace), "certs": (Keys, CheckKeys),
          "discovery": (CheckDiscovery,)}
