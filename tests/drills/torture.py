"""A product with one worker, in which one thing at a time fails, and the kinds of request that are tried on it.

    world = World(directory)
    for shape in SHAPES: world.warm(shape); world.case(drill, shape, "what fails", arm)
    world.close(drill)

Each case begins with the same things stored, and ends with the same request once more, without a fault, on the same
worker. What is judged between them: the answer, what is stored, what the provider honours, and whether the worker lives.
"""

import dataclasses
import json
import os
import re
import signal
import threading
import time
from typing import Callable

from checks import key, make_due
from fault_plan import FAIL, FIRST, OFF, Faults
from harness import PROGRAM, Product, callback_document, good, problem
from processes import wait_until
from programs import Caller
from upstream import NameServer, Upstream

MISSED = 0.1  # of all faults may not come about
LONGEST = 9.5  # seconds that an answer may take: 8 for its calls, and then nginx must have it
# Drawn anew at each write, so that a connection is compared without them.
VOLATILE = {"id", "generation", "access_token", "refresh_token", "issued_at", "expires_at", "handed_out_until", "forced_at",
            "connected_at", "updated_at", "validated_at"}
TOKENS = {"generation", "access_token", "refresh_token", "issued_at", "expires_at", "handed_out_until", "forced_at", "updated_at",
          "validated_at"}
TRANSPORT = ("libcurl", "libssl", "libcrypto")
PASSING = ("refresh_lease:", "integrations:")  # what helps for a moment, and has an expiry
FAULT = {"overloaded", "store_unavailable", "internal_error"}  # what may be said of any fault
PROVIDER = FAULT | {"provider_unreachable"}
# Where a fault ends the worker, and why: the library, with the function of ours or of it where not all of it may.
FATAL = {
    "libfcgi": "asserts that every allocation succeeds, about twenty for each request",
    "libhiredis": "aborts when memory for a new connection is missing",
    "libev": "aborts when one of its tables cannot grow",
    ("libcrypto", "random_bytes"): "without random bytes nothing may go on: the generator was to be seeded, once in a worker",
}


class World(Product):
    def __init__(self, directory):
        self.faults = Faults(os.path.join(str(directory), "faults"), os.path.realpath(PROGRAM))
        self.names = NameServer("localhost")
        self.upstream = Upstream()
        super().__init__(directory, workers=1, environment={**self.faults.environment, "LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0"},
                         nginx_settings=(f"RESOLVER=127.0.0.1:{self.names.port} ipv6=off",))
        self.deaths = []  # (site, what was told of its stack)
        self.missed = self.forgotten = 0
        self.killed = set()  # by the drill itself
        self.rotating = False
        self._watching = True
        self._revived = threading.Event()
        self._revived.set()
        self.snapshot = {}

    def _environment(self):
        environment = super()._environment()
        self.write_provider(mcps=[{**each, "upstream": f"{self.upstream.address}/{each['mcp']}"}
                                  for each in self.stand_in.provider["mcps"]])
        return environment

    def start(self):
        super().start()
        self.stand_in.settings(refresh_token_cap=1000000)
        # The grant that is stored before each case must be alive in the next one, too.
        self.stand_in.fault("revoke", "raw", times=None, status=200, body="{}", headers={"Content-Type": "application/json"})
        self.ada = self.session("ada", {"acme": "admin"}, email="ada@example.com", name="Ada")
        self.new = self.session("new", {"acme": "member"})
        self.caller = Caller(self)
        self.agent = self.session("ada", {"acme": "member"}, via="bearer", use="gateway", mcps="gmail")
        self.record = self.ada.connect("acme", account="ada")
        self.snapshot = self.keep()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def stop(self, check=True):
        self._watching = False
        self.faults.off()
        super().stop(check)
        self.upstream.stop()
        self.names.stop()

    # What is stored

    def keep(self):
        """Every key as Redis can restore it."""
        keys = sorted(self.raw_redis.keys())
        with self.raw_redis.pipeline(transaction=False) as pipeline:
            for each in keys:
                pipeline.dump(each)
                pipeline.pttl(each)
            values = pipeline.execute()
        return {each: (values[2 * number], max(values[2 * number + 1], 0)) for number, each in enumerate(keys)
                if not each.startswith((b"events:", b"integrations:"))}

    def restore(self):
        if self.rotating:
            self.rotating = False
            self.stand_in.settings(personality="google")
        with self.raw_redis.pipeline(transaction=False) as pipeline:
            pipeline.flushdb()
            for name, (value, milliseconds) in self.snapshot.items():
                pipeline.restore(name, milliseconds, value)
            pipeline.execute()

    @property
    def raw_redis(self):
        if not hasattr(self, "_raw_redis"):
            self._raw_redis = self.redis_server.client()
            self._raw_redis.connection_pool.connection_kwargs["decode_responses"] = False
        return self._raw_redis

    def picture(self):
        """What is stored, without the audit and what passes: {key: fields}."""
        keys = [each for each in sorted(self.redis.keys()) if not each.startswith("events:")]
        readers = {"oauth_state": "hgetall", "session": "hgetall", "caller": "hgetall", "integration": "hgetall",
                   "credential": "hgetall", "grant": "smembers"}
        seen = {}
        with self.redis.pipeline(transaction=False) as pipeline:
            for each in keys:
                getattr(pipeline, readers.get(each.split(":")[0], "pttl"))(each)
            for each, value in zip(keys, pipeline.execute()):
                if each.startswith(PASSING):
                    assert value != -1, f"{each} has no expiry"
                else:
                    assert each.split(":")[0] in readers, each
                    seen[each] = value
        return seen

    # The worker

    def is_dead(self, pid):
        """Gone, or on its way: its files are closed only after this shows."""
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(") ", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return fields[0] in "ZX" or int(fields[6]) & 0x4  # PF_EXITING

    def _watch(self):
        """When a fault has ended the worker, have a new one at once: the parent itself waits longer after each death."""
        while self._watching:
            if self.faults.plan.armed == FAIL and self.faults.plan.target and self.is_dead(self.faults.plan.target):
                self._revived.clear()
                self.faults.off()
                self.replace()
                self._revived.set()
            time.sleep(0.002)

    def replace(self):
        """A worker that has done nothing yet. Older ones would serve the connections that nginx keeps, for seconds."""
        reloaded = self.serve.text().count('"reloaded"')
        self.serve.send(signal.SIGHUP)
        wait_until(lambda: self.serve.text().count('"reloaded"') > reloaded, "a new worker serves", 20)
        for old in self.serve.children():
            if old != self.faults.worker:
                self.killed.add(old)
                os.kill(old, signal.SIGKILL)
                wait_until(lambda old=old: self.is_dead(old), "an old worker has ended")

    def settle(self, worker):
        """After a fault: True when the worker has survived. Else there is a new one, and all that the old one sent has
        been done."""
        if not self.is_dead(worker):
            self.faults.off()
            self.request("GET", "/readyz", internal=True)  # and what it sent Redis without waiting is there, too
            return True
        wait_until(lambda: self.faults.plan.armed == OFF, "the death of a worker is seen")
        wait_until(self._revived.is_set, "there is a new worker", 30)
        wait_until(lambda: len([1 for each in self.redis.client_list() if each["user"] == "integrations"]) <= 1,
                   "Redis has heard the old worker to its end")
        return False

    # One case

    def warm(self, shape):
        """The shape, twice without a fault; what is stored after it, without what is drawn anew each time."""
        for _ in range(2):
            self.restore()
            shape.prepare(self)
            answer = shape.ask(self)
            assert shape.is_good(self, answer), f"{shape.name}: {answer.status_code} {answer.text}"
        shape.after = masked(self.picture(), shape)

    def prepare(self, shape):
        self.restore()
        shape.prepare(self)
        if shape.cold:
            self.replace()

    def case(self, drill, shape, what, arm):
        """One fault. A request may do with fewer calls than when they were counted: then there was none."""
        name = f"{shape.name}, {what}"
        self.prepare(shape)
        before = self.picture()
        worker = self.faults.worker
        arm()
        began = time.monotonic()
        answer = shape.ask(self)
        took = time.monotonic() - began
        lives = self.settle(worker)
        if self.faults.fired == 0:
            self.missed += 1
            return
        site, told = self.faults.site(), self.faults.told()
        where = f"{name}: {told}"
        drill.injected += 1
        drill.fired += 1
        if took > LONGEST:
            drill.wrong("stuck", f"{took:.1f} s for {where}")
        if not lives:
            self.deaths.append((site, where))
            drill.deaths += 1
        self._judge_answer(drill, shape, answer, where)
        self._judge_stored(drill, shape, before, self.picture(), where)
        self._again(drill, shape, worker if lives else None, where)

    def calls(self, shape, kind, **more):
        """What the shape does without a fault: the stacks of its calls of this kind, in their order."""
        self.prepare(shape)
        self.faults.count(kind, **more)
        answer = shape.ask(self)
        self.faults.off()
        assert shape.is_good(self, answer), f"{shape.name}: {answer.status_code} {answer.text}"
        return self.faults.stacks()

    def close(self, drill):
        """After the last case: nearly all came to their fault, and workers ended where that is known to happen, and by
        aborting, not by a wrong step in memory."""
        assert self.missed <= drill.fired * MISSED, f"{self.missed} faults did not come about, {drill.fired} did"
        for (library, function, caller), where in self.deaths:
            if library not in FATAL and (library, caller) not in FATAL:
                drill.wrong("stuck", f"{library}:{function}, called by {caller}, ended the worker: {where}")
        for line in self.serve.text().splitlines():
            # A library that gives up may say so in front of a line.
            if '"worker_died"' in line:
                died = json.loads(line[line.index('{"time"'):])
                if died.get("signal") != signal.SIGABRT and died["worker"] not in self.killed:
                    drill.wrong("stuck", line)
            if "corruption" in line or "free()" in line:
                drill.wrong("stuck", f"the heap was damaged: {line}")

    def _judge_answer(self, drill, shape, answer, where):
        if shape.is_good(self, answer):
            drill.ok += 1
        elif is_problem(answer, shape.codes) or shape.is_degraded(self, answer) or (
                self._may_be_forgotten(shape) and answer.json().get("code") == "reconnect_required"):
            drill.clean_errors += 1
        else:
            drill.wrong("failed_open", f"{answer.status_code} {answer.text[:300]} for {where}")

    def _judge_stored(self, drill, shape, before, now, where):
        seen = masked(now, shape)
        if seen == masked(before, shape):
            if not changed(before, now) <= shape.touches:
                drill.wrong("lost", f"{changed(before, now) - shape.touches} changed by {where}")
        elif seen != shape.after and not shape.is_between(self, before, now) and not self._may_be_forgotten(shape):
            drill.wrong("lost", f"neither before nor after: {sorted(now)} for {where}")
        for each in now:
            kind, _, place = each.partition(":")
            if kind == "integration":
                name = place.replace("{", "").replace("}", "")
                if f"credential:{place}" not in now:
                    drill.wrong("lost", f"{each} has no tokens, after {where}")
                if not any(name in members for grant, members in now.items() if grant.startswith("grant:")):
                    drill.wrong("lost", f"no grant names {each}, after {where}")

    def _may_be_forgotten(self, shape):
        """Not promised: a provider that rotates has forgotten the old refresh token when the new one is lost on its way."""
        return shape.rotates and any(library in TRANSPORT for library, _ in self.faults.frames(FIRST))

    def _again(self, drill, shape, worker, where):
        """What is stored now is of use: the connection's tokens can be refreshed. And the same request is answered, by the
        same worker unless it died."""
        if shape.changes_tokens and self.redis.exists(key("credential", "ada")):
            self.redis.delete("none", *(each for each in self.redis.keys() if each.startswith(PASSING)))
            make_due(self, "ada")
            answer = self.caller.token("ada")
            if answer.status_code == 409 and self._may_be_forgotten(shape):
                self.forgotten += 1
            elif answer.status_code != 200:
                drill.wrong("lost" if answer.status_code == 409 else "stuck", f"a refresh is answered {answer.status_code} {answer.text[:200]} after {where}")
        self.restore()
        shape.prepare(self)
        answer = shape.ask(self)
        if not shape.is_good(self, answer):
            drill.wrong("stuck", f"the next is answered {answer.status_code} {answer.text[:300]} after {where}")
        if worker is not None and self.faults.worker != worker:
            drill.wrong("stuck", f"the worker died later, after {where}")


def masked(picture, shape):
    """Without what is drawn anew at each write, and what the shape may change."""
    return {re.sub("^oauth_state:.*", "oauth_state:", each):
            "a state" if each.startswith("oauth_state:") else
            {name: "*" if name in VOLATILE else value for name, value in fields.items() if name not in shape.touches}
            if isinstance(fields, dict) else fields
            for each, fields in picture.items()}


def changed(before, now):
    """Names of fields that are not as they were."""
    return {name for each, fields in before.items() if isinstance(fields, dict) and each in now
            for name in {*fields, *now[each]} if fields.get(name) != now[each].get(name)}


def is_problem(answer, codes):
    try:
        body = answer.json()
        problem(answer, answer.status_code, body["code"])
    except (AssertionError, ValueError, KeyError, TypeError):
        return False
    return body["code"] in codes and body["status"] >= 500


# ---- the kinds of request


@dataclasses.dataclass
class Shape:
    name: str
    ask: Callable
    is_good: Callable = lambda world, answer: answer.status_code == 200
    prepare: Callable = lambda world: None
    is_degraded: Callable = lambda world, answer: False  # not as without a fault, and still true
    is_between: Callable = lambda world, before, now: False  # stored things that are neither as before nor as after
    codes: set = dataclasses.field(default_factory=lambda: FAULT)
    touches: set = dataclasses.field(default_factory=set)
    changes_tokens: bool = False
    asks_provider: bool = False
    cold: bool = False
    rotates: bool = False  # the provider forgets the old refresh token as it gives a new one
    after: dict = None


def says(status, code):
    def check(_, answer):
        return answer.status_code == status and answer.json().get("code") == code
    return check


def lists_the_record(world, answer):
    return answer.status_code == 200 and answer.json()["integrations"] == [world.record]


def is_a_token(world, answer):
    return answer.status_code == 200 and world.stand_in.honours(access_token=answer.json()["access_token"])


def prepare_callback(world, session, account, **more):
    location = world.stand_in.authorize(session.begin("acme", **more), account)
    world.document = callback_document(location)


def prepare_rotation(world):
    """A grant of its own for each case, whose refresh token is good for one refresh."""
    world.rotating = True
    world.stand_in.settings(personality="rotating")
    world.ada.connect("acme")
    make_due(world, "ada")


def is_connected(world, answer):
    return answer.status_code == 200 and answer.json()["integration"]["status"] == "valid"


def has_spent_the_state(world, before, now):
    """The state was taken, and the account may be noted, in which a grant names too many."""
    def without(picture):
        return {each: fields for each, fields in picture.items() if not each.startswith(("oauth_state:", "grant:"))}
    grants = {each: fields for each, fields in before.items() if each.startswith("grant:")}
    return without(before) == without(now) and all(fields <= now.get(each, set()) for each, fields in grants.items())


def is_gone(world, before, now):
    """The connection is, and its grant may still be named."""
    connection = {key("integration", "ada"), key("credential", "ada")}
    return {each for each in before if not each.startswith("grant:")} - connection == {
        each for each in now if not each.startswith("grant:")}


def is_unknown(world, answer):
    body = answer.json()
    return (answer.status_code == 200 and body["is_valid"] is False and body["integration"]["status"] == "unknown" and
            body["integration"]["status_reason"] == "provider_unreachable")


def mcp(session):
    return session.post("/mcp/acme/gmail", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})


def close_redis(world):
    """The worker's connection to Redis, as when Redis was restarted."""
    for each in world.redis.client_list():
        if each["user"] == "integrations":
            world.redis.client_kill_filter(_id=each["id"])


BIG = "x" * 12000

SHAPES = [
    Shape("list", lambda world: world.ada.integrations("acme"), lists_the_record),
    Shape("list by bearer", lambda world: world.ada.bearer().integrations("acme"), lists_the_record),
    Shape("list with Redis just closed", lambda world: world.ada.integrations("acme"), lists_the_record, close_redis),
    Shape("list, cold", lambda world: world.ada.integrations("acme"), lists_the_record, cold=True),
    Shape("me", lambda world: world.ada.get("/api/me")),
    Shape("services", lambda world: world.ada.get("/api/services")),
    Shape("mcps", lambda world: world.ada.get("/api/organizations/acme/mcps")),
    Shape("readyz", lambda world: world.request("GET", "/readyz", internal=True),
          is_degraded=lambda world, answer: answer.status_code == 503 and answer.json()["status"] == "not ready"),
    Shape("metrics", lambda world: world.request("GET", "/metrics", internal=True)),
    Shape("not signed in", lambda world: world.request("GET", "/api/me"), says(401, "unauthenticated")),
    Shape("no such path", lambda world: world.ada.get("/api/nothing"), says(404, "route_not_found")),
    Shape("not a member", lambda world: world.ada.integrations("globex"), says(403, "organization_forbidden")),
    Shape("large body", lambda world: world.ada.callback("acme", {"code": "4/0AMARKER", "state": BIG}), says(400, "state_invalid")),
    Shape("auth_link", lambda world: world.ada.auth_link("acme"), is_between=lambda world, before, now:
          {each: fields for each, fields in now.items() if not each.startswith("oauth_state:")} == before),
    Shape("callback", lambda world: world.new.callback("acme", world.document), is_connected,
          lambda world: prepare_callback(world, world.new, "grace"), is_between=has_spent_the_state, codes=PROVIDER,
          asks_provider=True),
    Shape("callback again", lambda world: world.ada.callback("acme", world.document), is_connected,
          lambda world: prepare_callback(world, world.ada, "ada"), is_between=has_spent_the_state, codes=PROVIDER,
          touches=TOKENS, changes_tokens=True, asks_provider=True),
    Shape("consent declined", lambda world: world.ada.callback("acme", {"error": "access_denied", "state": world.document["state"]}),
          says(400, "consent_declined"), lambda world: prepare_callback(world, world.ada, "ada"), is_between=has_spent_the_state),
    Shape("validate", lambda world: world.ada.validate("acme"), lambda world, answer: answer.status_code == 200 and
          answer.json()["is_valid"] is True, is_degraded=is_unknown, codes=PROVIDER, touches={"status", "status_reason", *TOKENS},
          is_between=lambda world, before, now: False, changes_tokens=True, asks_provider=True),
    Shape("validate with refresh", lambda world: world.ada.validate("acme"), lambda world, answer: answer.status_code == 200 and
          answer.json()["is_valid"] is True, lambda world: make_due(world, "ada"), is_degraded=is_unknown, codes=PROVIDER,
          touches={"status", "status_reason", *TOKENS}, changes_tokens=True, asks_provider=True),
    Shape("token", lambda world: world.caller.token("ada"), is_a_token, codes=PROVIDER, touches={"handed_out_until"},
          changes_tokens=True),
    Shape("token with refresh", lambda world: world.caller.token("ada"), is_a_token, lambda world: make_due(world, "ada"),
          codes=PROVIDER, touches=TOKENS, changes_tokens=True, asks_provider=True),
    Shape("token with a refresh that rotates", lambda world: world.caller.token("ada"), is_a_token, prepare_rotation,
          codes=PROVIDER, touches=TOKENS, changes_tokens=True, rotates=True),
    Shape("gateway", lambda world: mcp(world.agent), codes=PROVIDER, touches={"handed_out_until"}, changes_tokens=True),
    Shape("gateway, not an MCP of the session", lambda world: world.agent.post("/mcp/acme/google_drive", json={}),
          lambda world, answer: answer.status_code == 403),
    Shape("disconnect", lambda world: world.ada.disconnect("acme"), lambda world, answer: answer.status_code == 200 and
          answer.json()["revocation"] == "revoked", is_degraded=lambda world, answer: answer.status_code == 200 and
          answer.json()["revocation"] == "not_revoked", is_between=is_gone, codes=PROVIDER, asks_provider=True),
]
