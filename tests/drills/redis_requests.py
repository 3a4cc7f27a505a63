"""Every kind of request, as the drill of Redis' faults asks them: what it begins with, what a good answer is, and what of a
user is in Redis before and after.

    place = Place(directory, draw)
    for kind in kinds(place): kind.begin(); kind.ask(); kind.good(answer); kind.stored()
"""

import itertools

from checks import API, age, key, make_due
from harness import Product
from programs import Caller, sha256
from redis_faults import FaultProxy
from upstream import Upstream

VOLATILE = ("id", "oauth_user_id", "generation", "access_token", "refresh_token", "issued_at", "expires_at",
            "handed_out_until", "forced_at", "connected_at", "updated_at", "validated_at")


class Place(Product):
    """A product with one worker, which has one connection to Redis, through a proxy."""

    def __init__(self, directory, draw):
        self.upstream = Upstream()
        super().__init__(directory, workers=1, environment={"LIMIT_AUTH_LINK": "1000000", "LIMIT_VALIDATE": "1000000"})
        self.proxy = FaultProxy(self.redis_server.port, draw)
        self._numbers = itertools.count(1)
        self._accounts = []

    def _environment(self):
        environment = super()._environment()
        there = self.upstream.address
        self.write_provider(mcps=[{**each, "upstream": f"{there}/{each['mcp']}"} for each in self.stand_in.provider["mcps"]])
        return {**environment, "REDIS_URL": self.proxy.url("integrations", self.redis_server.password)}

    def operator(self, *arguments, stdin=""):
        """A command whose Redis is the proxy, too."""
        url = self.proxy.url("integrations-admin", self.redis_server.password)
        return self.command(*arguments, stdin=stdin, check=False,
                            environment={"REDIS_URL": url, "SESSION_REDIS_URL": url, "REDIS_ADMIN_URL": url})

    def stop(self, check=True):
        super().stop(check)
        self.proxy.stop()
        self.upstream.stop()

    def anew(self):
        """As after a start."""
        self.forget()
        self._accounts = []
        self.caller = Caller(self)

    def name(self):
        return f"user{next(self._numbers)}"

    def account(self):
        """One that nobody has used yet."""
        if not self._accounts:
            self._accounts = self.stand_in.add_accounts(50, prefix=f"person{next(self._numbers)}x")
        return self._accounts.pop()["email"]

    def settle(self):
        """Until Redis has all that was sent without waiting; True when all is well."""
        return self.hosts[0].status("/readyz") == 200

    def live(self, account):
        """How many refresh tokens of the account the provider would honour."""
        return sum(token["live"] and token["account"] == account for token in self.stand_in.ledger()["refresh_tokens"])


class Kind:
    """A kind of request: the user and their account begin anew with begin(), if need be."""

    name = None
    allowed = {}  # what may be answered where Redis says that something is not there: {(command, code), ...}
    seconds = 4  # how long it may take with one fault
    again_gone = False  # asked once more, it may say that there is nothing left
    spends = False  # each case needs a user of its own

    def __init__(self, place):
        self.place = place
        self.user = self.account = self.session = None
        self._keys = {}

    def connected(self):
        """Somebody who is connected, and whose connection is old."""
        self.user, self.account = self.place.name(), self.place.account()
        self.session = self.place.session(self.user, {"acme": "member"}, sid=f"login-of-{self.user}")
        self.session.connect("acme", account=self.account)
        age(self.place, self.user)
        self.sub = self.place.redis.hget(key("integration", self.user), "oauth_user_id")

    def prepare(self):
        self.connected()

    def mine(self):
        """The names of all keys of the user, and of flows under way: nobody else has one."""
        patterns = (f"*{{acme:{self.user}}}*", "oauth_state:*", "grant:*", "integrations:revoking:*")
        names = itertools.chain(*(self.place.redis.scan_iter(match=pattern, count=1000) for pattern in patterns))
        return sorted(set(names))

    def begin(self):
        """All as before the first case, or somebody new."""
        redis = self.place.redis
        if self.user is None or self.spends:
            if self.user is not None:
                redis.delete(*self.mine(), "nothing")
            self.prepare()
            self._keys = {name: redis.dump(name) for name in self.mine()}
            if not self.spends:
                self.ask()  # a worker remembers whom it has seen, and asks Redis for less
                assert self.place.settle()
        if not self.spends:
            redis.delete(*self.mine(), "nothing")
            for name, value in self._keys.items():
                redis.restore(name, 0, value, replace=True)
        self._first = {kind: redis.hgetall(key(kind, self.user)) for kind in ("integration", "credential")}

    def at_last(self):
        """Directly before the request."""

    def stored(self):
        """What is kept of the user, so that it can be compared: each value that changes by itself is "as before" or "new"."""
        kept = {"flows": 0, "named": 0}
        for kind in ("integration", "credential"):
            now, first = self.place.redis.hgetall(key(kind, self.user)), self._first[kind]
            kept[kind] = {field: "as before" if value == first.get(field) else "new" if field in VOLATILE else
                          value.replace(self.user, "USER").replace(self.account, "ACCOUNT") for field, value in now.items()}
        kept["flows"] = sum(1 for _ in self.place.redis.scan_iter(match="oauth_state:*", count=1000))
        member = f"acme:{self.user}:google"
        kept["named"] = sum(self.place.redis.sismember(name, member)
                            for name in self.place.redis.scan_iter(match="grant:*", count=1000))
        return kept

    def ask(self):
        raise NotImplementedError

    def is_right(self, answer):
        """Is it right, whole, and of this user?"""
        raise NotImplementedError

    def names(self, answer):
        """The user whom an answer names, or None."""
        return None

    def again(self):
        """The same once more, when the fault is over; the answer."""
        return self.ask()

    def honoured(self):
        """Does the provider honour the refresh token that is stored?"""
        make_due(self.place, self.user)
        self.place.redis.delete(key("integrations:refresh_failure", self.user))
        answer = self.place.caller.token(self.user)
        return answer.status_code == 200 and "warning" not in answer.json()


class Me(Kind):
    name = "me"

    def ask(self):
        return self.session.get("/api/me")

    def is_right(self, answer):
        body = answer.json()
        return body["user_id"] == self.user and body["organizations"] == [{"id": "acme", "role": "member"}]


class Services(Kind):
    name = "services"

    def ask(self):
        return self.session.get("/api/services")

    def is_right(self, answer):
        return [each["service"] for each in answer.json()["services"]] == ["google"]


class List(Kind):
    name = "list"

    def ask(self):
        return self.session.integrations("acme")

    def is_right(self, answer):
        return [(each["user_id"], each["oauth_user_id"], each["status"], each["connected_at"]) for each in
                answer.json()["integrations"]] == [(self.user, self.sub, "valid", "2020-02-02T02:02:02Z")]


class NewConnection(List):
    """Redis has just restarted: AUTH and SELECT come first."""

    name = "list on a new connection"

    def at_last(self):
        self.place.proxy.disconnect()


class Mcps(Kind):
    name = "mcps"

    def ask(self):
        return self.session.get("/api/organizations/acme/mcps")

    def is_right(self, answer):
        return {each["state"] for each in answer.json()["mcps"]} == {"ready"}


class AuthLink(Kind):
    name = "auth_link"

    def ask(self):
        return self.session.auth_link("acme")

    def is_right(self, answer):
        location = self.place.stand_in.authorize(answer.json()["auth_link"], self.account)
        return "code=" in location


class Callback(Kind):
    name = "callback"
    spends = True
    allowed = {("script of oauth_state", "state_invalid")}
    seconds = 9

    def prepare(self):
        self.user, self.account = self.place.name(), self.place.account()
        self.session = self.place.session(self.user, {"acme": "member"}, sid=f"login-of-{self.user}")
        self.document = self.session.authorize("acme", account=self.account)

    def ask(self):
        return self.session.callback("acme", self.document)

    def is_right(self, answer):
        record = answer.json()["integration"]
        return (record["user_id"], record["oauth_email"], record["status"]) == (self.user, self.account, "valid")

    def again(self):
        """A state that is not spent still ends the flow; else the person begins anew."""
        if self.place.redis.exists(f"oauth_state:{sha256(self.document['state'])}"):
            return self.ask()
        return self.session.try_connect("acme", account=self.account)


class Refused(Callback):
    """Another account than the stored one: nothing changes, and what was granted for it is revoked."""

    name = "callback with another account"

    def prepare(self):
        self.connected()
        self.stranger = self.place.account()
        self.document = self.session.authorize("acme", account=self.stranger)

    def is_right(self, answer):
        return answer.json()["code"] == "account_mismatch"

    def again(self):
        if self.place.redis.exists(f"oauth_state:{sha256(self.document['state'])}"):
            return self.ask()
        return self.session.try_connect("acme", account=self.stranger)


class Validate(Kind):
    name = "validate"
    seconds = 9

    def ask(self):
        return self.session.validate("acme")

    def is_right(self, answer):
        body = answer.json()
        return body["is_valid"] is True and body["integration"]["user_id"] == self.user


class ValidateDue(Validate):
    name = "validate with a refresh"

    def prepare(self):
        self.connected()
        make_due(self.place, self.user)


class Disconnect(Kind):
    name = "disconnect"
    spends = True
    again_gone = True

    def ask(self):
        return self.session.disconnect("acme")

    def is_right(self, answer):
        body = answer.json()
        live = self.place.live(self.account)
        return body["service"] == "google" and (body["revocation"], live) in (("revoked", 0), ("not_revoked", 1))


class Token(Kind):
    name = "token"
    caller = None  # its own, where it must not share another's look-up

    def ask(self):
        return (self.caller or self.place.caller).token(self.user)

    def is_right(self, answer):
        body = answer.json()
        return body["oauth_user_id"] == self.sub and "warning" not in body and API + "gmail.readonly" in body["scopes"] and \
            self.place.stand_in.honours(access_token=body["access_token"])


class TokenKnown(Token):
    """It was handed out before, by this worker: the usual case."""

    name = "token handed out before"

    def prepare(self):
        self.connected()
        self.ask()


class TokenFirst(Token):
    """Of somebody whom this worker has not seen."""

    name = "token for the first time"
    spends = True


class TokenDue(Token):
    name = "token with a refresh"
    seconds = 9

    def prepare(self):
        self.connected()
        make_due(self.place, self.user)


class Gateway(Kind):
    name = "gateway"

    def prepare(self):
        self.connected()
        self.teammate = self.place.session(self.user, {"acme": "member"}, via="bearer", use="gateway", mcps="gmail")

    def ask(self):
        self.place.upstream.reset()
        return self.teammate.post("/mcp/acme/gmail", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})

    def is_right(self, answer):
        return answer.json()["result"] == {} and self.place.stand_in.honours(access_token=self.place.upstream.last.token)


class Ready(Kind):
    name = "readyz"

    def ask(self):
        return self.place.request("GET", "/readyz", internal=True)

    def is_right(self, answer):
        return answer.json()["status"] == "ready"


KINDS = (Me, Services, List, NewConnection, Mcps, AuthLink, Callback, Refused, Validate, ValidateDue, Disconnect, Token,
         TokenKnown, TokenFirst, TokenDue, Gateway, Ready)
