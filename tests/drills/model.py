"""People who use their connection all the time, and what each of them must see.

Each has two accounts at the provider and does one thing after the other, so the answers tell what is stored. An answer that
says neither yes nor no (none came, or 5xx) leaves both: then what is stored is one of several, until a later answer tells.
"""

import collections
import time
from collections import Counter

import redis
import requests

from checks import fingerprint, key
from harness import callback_document, good
from vault import Half, honoured, stored

SECONDS = 15  # in which every answer comes
DUE = """if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'issued_at', ARGV[1], 'expires_at', ARGV[2])"""
ACTS = ("list", "list", "validate", "validate", "token", "token", "due", "connect", "connect", "disconnect")
CLEAN = {503: ("store_unavailable", "overloaded"), 502: ("provider_unreachable",), 404: ("integration_not_found",),
         409: ("reconnect_required",), 400: ("state_invalid", "code_rejected")}


class Chaos:
    """What all of them share: the product, the tallies, and when Redis may have lost what it had acknowledged."""

    def __init__(self, product, caller, drill):
        self.product, self.caller, self.drill = product, caller, drill
        self.answers = Counter()
        self.vended = []  # (fingerprint, the account that it was said to be of)
        self.since = time.monotonic()
        self.kills = []       # (begin, end), end infinite while it goes on
        self.rollbacks = []   # (from when, to when) acknowledged writes may be lost

    def clock(self):
        return time.monotonic() - self.since

    def was_killed(self, begun):
        """Somebody, since then."""
        return any(end >= begun for _, end in self.kills)

    def may_be_lost(self, begun):
        return any(end >= begun for _, end in self.rollbacks)

    def settle(self):
        """What a dead worker has sent has reached Redis: it reads all its connections before it answers the second time."""
        end = time.monotonic() + SECONDS
        while True:
            try:
                return self.product.redis.ping() and self.product.redis.ping()
            except redis.exceptions.RedisError:
                assert time.monotonic() < end, "Redis does not come back"
                time.sleep(0.02)


class Member:
    def __init__(self, chaos, name, draw):
        self.chaos, self.product, self.name, self.draw = chaos, chaos.product, name, draw
        self.accounts = {each["sub"]: each["email"] for each in self.product.stand_in.add_accounts(2, prefix=name)}
        self.session = self.product.session(name, {"acme": "member"})
        self.history = [(time.monotonic(), frozenset([None]))]
        self.begun = 0.0
        self.diary = collections.deque(maxlen=12)  # what was asked and answered of late
        self.doubt = False  # whether a grant may have been revoked behind the back of what is stored

    # What is stored: None, or an account

    @property
    def possible(self):
        found = set(self.history[-1][1])
        for begin, end in self.chaos.rollbacks:
            times = [since for since, _ in self.history[1:]] + [float("inf")]
            # What was so at any time in which a write may have got lost, unless it was settled anew after that.
            if self.history[-1][0] <= end:
                found |= {each for (_, states), until in zip(self.history, times) if until >= begin for each in states}
        return found

    def now(self, *states):
        self.history.append((time.monotonic(), frozenset(states)))

    def wrong(self, kind, what):
        self.chaos.drill.wrong(kind, f"{self.name}: {what}; at {self.chaos.clock():.3f} after " + "; ".join(self.diary))

    def note(self, what):
        self.diary.append(f"{self.begun - self.chaos.since:.3f}-{self.chaos.clock():.3f} {what}")

    # Asking

    def ask(self, what, call):
        """(answer, code): the answer is None where none came, or none that says what is stored now."""
        self.begun = time.monotonic()
        try:
            answer = call()
        except requests.exceptions.Timeout:
            self.wrong("stuck", f"{what}: no answer within {SECONDS} s")
            return None, "timeout"
        except requests.exceptions.RequestException:
            self.chaos.answers["cut"] += 1
            self.note(f"{what} cut")
            return None, "cut"
        is_problem = answer.headers.get("Content-Type") == "application/problem+json"
        code = answer.json()["code"] if is_problem else ""
        self.chaos.answers[f"{what} {answer.status_code} {code}".strip()] += 1
        self.note(f"{what} {answer.status_code} {code}")
        if answer.status_code != 200 and code not in CLEAN.get(answer.status_code, ()):
            self.wrong("failed_open", f"{what}: {answer.status_code} {answer.text[:300]}")
        if answer.status_code >= 500:
            return None, code
        if self.chaos.may_be_lost(self.begun):
            self.doubt = True
        return answer, code

    def act(self):
        getattr(self, self.draw.choice(ACTS))()

    def list(self):
        answer, _ = self.ask("list", lambda: self.session.integrations("acme", timeout=SECONDS))
        if answer is None:
            return
        records = answer.json()["integrations"]
        for record in records:
            if record["user_id"] != self.name:
                self.wrong("wrong_user", f"a record of {record['user_id']}")
        self.sees(records[0]["oauth_user_id"] if records else None, "the list")

    def sees(self, account, where):
        """`account` is stored now, says an answer."""
        if account not in self.possible:
            told = [self.accounts.get(each, each) for each in self.possible]
            kind = "lost" if account is None else "resurrected" if None in self.possible else "wrong_user"
            self.wrong(kind, f"{where} says {self.accounts.get(account, account)}, it must be one of {told}")
        if not self.chaos.may_be_lost(self.begun):  # else it may be gone again by now
            self.now(account)

    def dead(self, what):
        """The connection is said to be dead: its grant must have been revoked behind its back."""
        if not self.doubt:
            self.wrong("lost", f"{what} says that a connection is dead that nobody revoked")

    def validate(self):
        answer, code = self.ask("validate", lambda: self.session.validate("acme", timeout=SECONDS))
        if answer is None:
            return
        if code == "integration_not_found":
            self.sees(None, "validate")
            return
        record = answer.json()["integration"]
        if record["user_id"] != self.name:
            self.wrong("wrong_user", f"validated {record['user_id']}")
        self.sees(record["oauth_user_id"], "validate")
        if record["status"] == "invalid":
            self.dead("validate")

    def token(self):
        answer, code = self.ask("token", lambda: self.chaos.caller.token(self.name, timeout=SECONDS))
        if answer is None:
            return
        if code == "integration_not_found":
            self.sees(None, "token")
        elif code == "reconnect_required":
            self.dead("token")
        elif answer.status_code == 200:
            body = answer.json()
            self.sees(body["oauth_user_id"], "token")
            self.chaos.vended.append((fingerprint(body["access_token"]), body["oauth_user_id"]))

    def due(self):
        """The access token is about to end: the next use refreshes it."""
        now = int(time.time())
        try:
            self.product.redis.eval(DUE, 1, key("credential", self.name), now - 3700, now - 100)
        except redis.exceptions.RedisError:
            return
        self.token()

    def connect(self, account=None):
        account = account or self.draw.choice(list(self.accounts))
        answer, _ = self.ask("auth_link", lambda: self.session.auth_link("acme", replace="true", timeout=SECONDS))
        if answer is None or answer.status_code != 200:
            return
        self.note(f"chose {self.accounts[account]}")
        location = self.product.stand_in.authorize(answer.json()["auth_link"], self.accounts[account])
        document, before = callback_document(location), self.possible
        answer, code = self.ask("callback", lambda: self.session.callback("acme", document, timeout=SECONDS))
        if answer is None:
            self.unsure(before | {account})
        elif answer.status_code == 200:
            record = answer.json()["integration"]
            if (record["user_id"], record["oauth_user_id"]) != (self.name, account):
                self.wrong("wrong_user", f"connected {record['user_id']} {record['oauth_user_id']}")
            if not self.unsettled(before | {account}):
                self.doubt = record["status"] != "valid"  # a dead worker may still be revoking the grant, for all that is known
                self.now(account)
        elif code == "reconnect_required":  # stored, and somebody was just revoking the grant
            if not self.doubt:
                self.wrong("lost", "a new connection is dead at once")
            self.unsure(before | {account})

    def disconnect(self):
        """404 also where somebody died who had done it and not said so: nginx has asked the other instance then."""
        before = self.possible
        answer, code = self.ask("disconnect", lambda: self.session.disconnect("acme", timeout=SECONDS))
        if answer is None:
            self.unsure(before | {None})
        elif code == "integration_not_found" and None not in before and not self.chaos.was_killed(self.begun):
            self.wrong("lost", "a connection was gone before its disconnect")
        elif not self.unsettled(before | {None}):
            self.now(None)

    def unsettled(self, states):
        """What was acknowledged may be lost all the same, when Redis died meanwhile."""
        if self.chaos.may_be_lost(self.begun):
            self.unsure(states)
            return True
        return False

    def unsure(self, states):
        self.doubt = True
        self.chaos.settle()
        self.now(*states)

    # The end

    def check_end(self):
        """Everything is up again: what is stored is whole, is what it must be, and is honoured where it is called valid."""
        self.list()
        self.validate()
        try:
            record, token = stored(self.product, self.name)
        except Half as error:
            self.wrong("lost", str(error))
            return
        self.sees(record["oauth_user_id"] if record else None, "Redis")
        if record and (record["status"] == "valid") != honoured(self.product, token):
            self.wrong("lost" if record["status"] == "valid" else "failed_open",
                       f"the record says {record['status']}, the provider says otherwise")

    def end(self):
        """Both accounts connected and disconnected once more: then the provider honours nothing."""
        for account in self.accounts:
            self.connect(account)
            good(self.session.disconnect("acme"))
