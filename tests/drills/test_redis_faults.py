"""Redis, or the way to it, does one thing wrong with one command of one request: what is answered, what is stored, and whether
all is well with the next request.

Each command that a request sends (they are counted by watching it once) meets each fault of redis_faults.py. Whatever comes:

- a read says 503 store_unavailable, never 401, never "not connected", never an empty list, never anything wrong;
- a write is as before the command or as after it, and which of the two is known where the fault tells;
- the same request once more is good, nothing is lost, done twice, or back again;
- a connection on which something was wrong is not used again.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import key
from drill import SHARE, Drill
from harness import SANITIZED, wait_until
from processes import NotReached
from programs import Caller
from redis_faults import FAULTS, QUIET
from redis_proxy import step
from redis_requests import KINDS, Disconnect, List, Mcps, Me, Place, Refused, Token

THINNER = (1, 1) if SHARE == 1 else (3, 4)  # of the drawn cases, and of those that wait for a time limit, one of so many runs
PATIENCE = 3 if SANITIZED else 1
# What Redis could have said as well, had it other keys: by the form of the reply nobody can tell.
POSSIBLE = {("an empty list", "hgetall"), ("an empty list", "xrange"),
            *(("a string", name) for name in ("revocation", "failure_read", "get")),
            *((f"{size} list", name) for size in ("an empty", "a short", "a long")
              for name in ("grant_members", "script of integrations:states"))}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    drill = Drill("redis-faults")
    place = Place(tmp_path_factory.mktemp("place"), drill.random)
    place.start()
    yield place
    place.proxy.disarm()
    place.stop()


def watch(place, kind):
    """The commands of the request, and what is stored before the first and after each."""
    place.anew()
    kind.user = None
    names, seen = None, []
    while names is None or names != seen:  # scripts are sent whole where Redis does not know them yet
        seen = names
        kind.begin()
        states = [kind.stored()]
        assert place.settle()
        kind.at_last()
        place.proxy.arm()
        place.proxy.trace = lambda states=states: states.append(kind.stored())
        answer = kind.ask()
        assert is_good(kind, answer), (kind.name, answer.status_code, answer.text)
        assert place.settle()
        place.proxy.trace = None
        commands = place.proxy.commands[:-1]  # the last one is the PING of settle
        names = [step(command.words) for command in commands]
    return names, states[:len(names) + 1]


def is_good(kind, answer):
    return answer.status_code == (409 if isinstance(kind, Refused) else 200) and kind.is_right(answer)


def fires(proxy, drill, what):
    try:
        wait_until(lambda: proxy.fired, what, 3)
        drill.fired += 1
    except NotReached:
        sent = [step(command.words) for command in proxy.commands]
        proxy.disarm()
        drill.wrong("stuck", f"{what}: the fault did not fire; sent were {sent}")
    return proxy.fired


def is_used_again(proxy, fault, at):
    """Did /readyz, which came afterwards, ask over the connection of the fault? With half a reply before others it may, at
    first: nobody can tell yet."""
    asked = [command.link for command in proxy.commands[at:] if command.words[0] == "PING"]
    return proxy.fault_link in (asked if fault.then == "late" else asked[-1:])


class Case:
    def __init__(self, kind, at, names, states, fault):
        self.kind, self.at, self.fault = kind, at, fault
        self.name = names[at - 1]
        self.states = states
        self.what = f"{kind.name}: {fault} at {at} of {len(names)} ({self.name})"

    def run(self, place, drill):
        kind, proxy, fault = self.kind, place.proxy, self.fault
        kind.begin()
        assert place.settle(), "Redis is there before the case"
        kind.at_last()
        workers, reuses = place.hosts[0].workers(), place.stand_in.counters()["code_reuses"]
        proxy.arm(fault, self.at)
        drill.injected += 1
        began = time.monotonic()
        answer = kind.ask()
        took = time.monotonic() - began
        if not fires(proxy, drill, self.what):
            return
        met_name = step(proxy.commands[self.at - 1].words)
        if self.name != "ping" and any(command.words[0] == "PING" for command in proxy.commands[:self.at]):
            # Of a /readyz of the case before, which was given up and went on: the fault met another command than meant.
            drill.injected -= 1
            drill.fired -= 1
            proxy.disarm()
            assert wait_until(place.settle, f"Redis is there again: {self.what}", 10)
            self.run(place, drill)
            return
        assert met_name == self.name, f"{self.what}: this time it was {met_name}"
        opened, met = proxy.opened, proxy.fault_link
        proxy.disarm()
        if took > kind.seconds * PATIENCE:
            drill.wrong("stuck", f"{self.what}: {took:.1f} s")
        good = self.judge(drill, answer)
        if good and opened > 3:
            drill.wrong("stuck", f"{self.what}: connected {opened} times")
        if not wait_until(place.settle, f"Redis is there again: {self.what}", 10):
            return
        if fault.closes and not self.is_possible() and is_used_again(proxy, self.fault, self.at):
            drill.wrong("failed_open", f"{self.what}: the connection went on being used")
        if not self.is_possible():
            self.compare(drill, good, proxy, met)
        self.repeat(place, drill, answer, good)
        if place.hosts[0].workers() != workers:
            drill.wrong("deaths", self.what)
        if place.stand_in.counters()["code_reuses"] != reuses:
            drill.wrong("duplicated", f"{self.what}: a code was sent twice")

    def is_possible(self):
        """Could Redis have said so, had the keys been others?"""
        return (self.fault.name, self.name) in POSSIBLE

    def judge(self, drill, answer):
        """Is it the good answer? Else it must be the right error."""
        if is_good_status(answer, self.kind):
            if not is_good(self.kind, answer):
                drill.wrong("failed_open", f"{self.what}: {answer.status_code} {answer.text[:300]}")
            drill.ok += 1
            return True
        drill.clean_errors += 1
        if answer.status_code == 503 and self.kind.name == "readyz":
            if answer.json()["status"] != "not ready":
                drill.wrong("failed_open", f"{self.what}: {answer.text}")
            return False
        code = answer.json().get("code") if "json" in answer.headers.get("Content-Type", "") else None
        fine = {"store_unavailable"} | ({"overloaded"} if "giant" in self.fault.name else set())
        if (answer.status_code, code) == (503, code) and code in fine:
            if self.fault.harmless:
                drill.wrong("stuck", f"{self.what}: failed for nothing")
        elif self.fault.name != "nil" or (self.name, code) not in self.kind.allowed:
            drill.wrong("failed_open", f"{self.what}: {answer.status_code} {answer.text[:300]}")
        return False

    def compare(self, drill, good, proxy, met):
        """Before or after, and nothing between. What was sent with the command, Redis has done, too: what of that is seen
        in the store has come through the proxy by then."""
        kept = self.kind.stored()
        behind = sum(command.link == met for command in proxy.commands[self.at:])
        if kept["integration"] and not kept["named"]:
            drill.wrong("lost", f"{self.what}: the connection is not among those that use its grant")
        kept.pop("named")
        states = [{name: value for name, value in state.items() if name != "named"} for state in self.states]
        after = self.at if self.fault.forwarded else self.at - 1
        if kept not in ([states[-1]] if good else states[after:after + 2 + behind if behind else after + 1]):
            known = [number for number, state in enumerate(states) if state == kept]
            drill.wrong("lost", f"{self.what}: stored is {known or kept}, not as after {after}"
                        f" (answer {'good' if good else 'refused'})")

    def repeat(self, place, drill, answer, good):
        """The next request is as ever; a lease whose owner could not give it back is over by itself."""
        kind = self.kind
        for lease in ("refresh_lease", "integrations:validate_lease", "integrations:unrevoked_claim"):
            left = place.redis.pttl(key(lease, kind.user))
            if left == -1 or left > 4000:
                drill.wrong("stuck", f"{self.what}: a lease for {left} ms")
            if left > 0:
                place.redis.delete(key(lease, kind.user))
        gone = kind.again_gone and not place.redis.exists(key("integration", kind.user))
        once_more = kind.again()
        if not is_good(kind, once_more) and not (gone and once_more.status_code == 404):
            drill.wrong("lost", f"{self.what}: once more: {once_more.status_code} {once_more.text[:200]}")
        if place.redis.exists(key("integration", kind.user)):
            if isinstance(kind, Disconnect):
                drill.wrong("resurrected", f"{self.what}: the connection is there again")
            elif kind.spends and not kind.honoured():
                drill.wrong("lost", f"{self.what}: the provider does not honour what is stored")
        if isinstance(kind, Refused) and place.live(kind.stranger):
            drill.wrong("leaked", f"{self.what}: a live grant that nobody holds")


def is_good_status(answer, kind):
    if isinstance(kind, Refused):
        return answer.status_code == 409
    return answer.status_code == 200


def draw(drill, cases, fault_of):
    quick, slow = ([case for case in cases if fault_of(case).slow == slow] for slow in (False, True))
    return drill.thin(quick)[::THINNER[0]] + drill.thin(slow)[::THINNER[1]]


def all_cases(place):
    for kind in [each(place) for each in KINDS]:
        names, states = watch(place, kind)
        for at in range(1, len(names) + 1):
            yield from (Case(kind, at, names, states, fault) for fault in FAULTS)


def test_every_command_of_every_request(place):
    with Drill("redis-faults") as drill:
        cases = list(all_cases(place))
        only = os.environ.get("DRILL_ONLY", "")
        cases = [case for case in cases if only in case.what]
        chosen = draw(drill, cases, lambda case: case.fault)
        last = None
        for case in sorted(chosen, key=lambda case: case.kind.name):
            if case.kind is not last:
                place.anew()
                case.kind.user = None
                last = case.kind
            case.run(place, drill)


# Several people on one connection

CROWD = (Me, List, Token, Mcps, List, Token, Me, List)


def learn(place, person):
    """How many commands the request sends at once, at first and after each answer."""
    person.begin()
    assert place.settle()
    place.proxy.arm(gates=[QUIET] * 20)
    assert is_good(person, person.ask()), person.name
    assert place.settle()
    return place.proxy.batches[:-1]


class Crowd:
    """People who ask at the same time. All of a round is sent before the first of it is answered."""

    def __init__(self, place):
        self.place = place
        place.anew()
        self.people = [kind(place) for kind in CROWD]
        for person in self.people:
            if isinstance(person, Token):
                person.caller = Caller(place)
            person.begin()
        rounds = {kind: learn(place, kind(place)) for kind in set(CROWD)}
        self.gates = [sum(rounds[kind][number] for kind in CROWD if len(rounds[kind]) > number)
                      for number in range(2)]

    def run(self, drill, fault, at, pool):
        proxy = self.place.proxy
        what = f"{len(self.people)} people: {fault} at {at} of {self.gates}"
        for person in self.people:
            person.begin()
        assert self.place.settle()
        proxy.arm(fault, at, gates=self.gates)
        drill.injected += 1
        asked = [pool.submit(person.ask) for person in self.people]
        answers = [each.result() for each in asked]
        if not fires(proxy, drill, what):
            return
        name = step(proxy.commands[at - 1].words)
        proxy.disarm()
        for person, answer in zip(self.people, answers):
            self.judge(drill, f"{what}: {person.user}, {person.name}", person, answer)
        wait_until(self.place.settle, f"Redis is there again: {what}")
        if fault.closes and (fault.name, name) not in POSSIBLE and is_used_again(proxy, fault, at):
            drill.wrong("failed_open", f"{what}: the connection went on being used")
        for person in self.people:
            if not is_good(person, person.ask()):
                drill.wrong("lost", f"{what}: once more: {person.name}")

    def judge(self, drill, what, person, answer):
        others = [each for each in self.people if each is not person]
        if any(each.user in answer.text or each.sub in answer.text for each in others):
            drill.wrong("wrong_user", f"{what}: {answer.status_code} {answer.text[:300]}")
        if is_good_status(answer, person):
            drill.ok += 1
            if not is_good(person, answer):
                drill.wrong("failed_open", f"{what}: {answer.text[:300]}")
        else:
            drill.clean_errors += 1
            if answer.status_code != 503 or answer.json()["code"] not in ("store_unavailable", "overloaded"):
                drill.wrong("failed_open", f"{what}: {answer.status_code} {answer.text[:300]}")


def test_neighbours(place):
    with Drill("redis-neighbours") as drill, ThreadPoolExecutor(len(CROWD)) as pool:
        crowd = Crowd(place)
        cases = [(fault, at) for at in range(1, sum(crowd.gates) + 1) for fault in FAULTS]
        only = os.environ.get("DRILL_ONLY", "")
        cases = [case for case in cases if only in case[0].name]
        for fault, at in draw(drill, cases, lambda case: case[0]):
            crowd.run(drill, fault, at, pool)
