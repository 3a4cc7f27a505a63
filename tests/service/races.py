"""Several things at once to one connection, in an order that is drawn from a seed.

Each seed draws in which order the commands and answers of all workers pass Redis, and how long the provider takes. What
must hold is the same in any order. RACES=1000 for the long run, RACE_SEED=17 RACES=1 for one again.
"""

import collections
import os
import random
import time
import traceback

from checks import fingerprint, is_stored, key, live, make_due
from cluster import Later, Person
from harness import good

RACES = int(os.environ.get("RACES", "50"))
FIRST = int(os.environ.get("RACE_SEED", "1"))
HEADSTARTS = (0, 0, 0.005, 0.01, 0.02, 0.03, 0.04)  # so that what takes fewer steps is not always first


class Starved(Exception):
    """So little of the machine was left that Redis seemed to be away: the order is tried again."""


class Race:
    """One seed: what is drawn from it, and the tokens that were handed out in it."""

    def __init__(self, cluster, kind, seed, number):
        self.cluster = cluster
        self.product = cluster.product
        self.draw = random.Random(f"{kind} {seed}")
        self.name = f"{seed}-{number}"
        self.person = Person(cluster, f"{kind}{self.name}")
        self.vended = []

    def slow(self, *endpoints, person=None):
        for endpoint in endpoints:
            seconds = self.draw.choice((0, 0, 0.003, 0.01, 0.03))
            if seconds:
                (person or self.person).fault(endpoint, "delay", seconds=seconds, after=self.draw.random() < 0.5)

    def run(self, **requests):
        """All of them at once, each through another host, in an order drawn from the seed: their answers by name."""
        def begin(call, host, seconds):
            time.sleep(seconds)
            return call(host)
        with self.cluster.proxy.shuffled(self.draw.random()):
            running = {name: Later(begin, call, host, self.draw.choice(HEADSTARTS))
                       for host, (name, call) in enumerate(requests.items(), start=1)}
            answers = {name: later.answer() for name, later in running.items()}
        for answer in answers.values():
            if getattr(answer, "status_code", 0) == 503 and answer.json()["code"] == "store_unavailable":
                raise Starved
        return answers

    def token(self, host=0, person=None):
        """Ask for a token and keep it, to see later whose it really is."""
        answer = self.cluster.caller.token((person or self.person).name, host=host)
        if answer.status_code == 200:
            self.vended.append((answer.json()["access_token"], answer.json()["oauth_user_id"]))
        return answer

    def disconnect(self, host=0, person=None):
        return (person or self.person).session.disconnect("acme", host=host)

    def names(self):
        """All connections that the sets of shared grants name."""
        return {each for grant in self.cluster.redis.scan_iter("grant:*") for each in self.cluster.redis.smembers(grant)}

    def stored(self, person=None):
        """The record, or None; never half a connection."""
        person = person or self.person
        record = self.cluster.redis.hgetall(key("integration", person.name))
        assert bool(record) == bool(self.cluster.redis.exists(key("credential", person.name))), "half a connection"
        return record or None

    def check_working(self, person=None):
        """A connection that is called valid works, with its own account's tokens."""
        person = person or self.person
        make_due(self.product, person.name)
        good(self.token(person=person))
        token, account = self.vended[-1]
        assert self.product.stand_in.honours(access_token=token)
        assert account == self.stored(person)["oauth_user_id"]
        assert f"acme:{person.name}:google" in self.names()

    def check_gone(self, revocation, status=404):
        """Nothing is left of the connection, now and after another request."""
        assert not is_stored(self.product, self.person.name), "the record is back"
        assert self.token().status_code == status
        assert not is_stored(self.product, self.person.name)
        if revocation == "revoked":
            assert live(self.product, self.person.account) == 0 == live(self.product, self.person.account, "access")


def attempt(cluster, kind, seed, one):
    """The race, and what came out."""
    for number in range(3):
        race = Race(cluster, kind, seed, number)
        try:
            return race, one(race), None
        except Starved:
            outcome, failure = "starved", None
        except Exception as error:  # pylint: disable=broad-except
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            outcome, failure = "failed", where + "".join(traceback.format_exception_only(type(error), error))
        if outcome == "failed":
            break
    return race, outcome, failure


def strangers(cluster, vended):
    """`vended`: a token's fingerprint to (seed, account that it was said to be of). The seeds where it was another's."""
    vended, found = dict(vended), {}
    subs = {account["email"]: account["sub"] for account in cluster.product.stand_in.call("GET", "accounts")["accounts"]}
    for token in cluster.product.stand_in.ledger()["access_tokens"]:
        seed, account = vended.pop(token["fingerprint"], (None, None))
        if seed is not None and subs[token["account"]] != account:
            found[seed] = "a token of another account was handed out"
    assert not vended, "tokens that the provider does not know"
    return found


def races(cluster, kind, one, seeds=range(FIRST, FIRST + RACES)):
    """Run `one` for each seed. Then: was every token that was handed out of the account that it was said to be of?"""
    failed, vended, outcomes = {}, {}, collections.Counter()
    for seed in seeds:
        race, outcome, failure = attempt(cluster, kind, seed, one)
        outcomes[outcome] += 1
        if failure is not None:
            failed[seed] = failure
        vended.update((fingerprint(token), (seed, account)) for token, account in race.vended)
    failed.update(strangers(cluster, vended))
    print(f"{kind}, {len(seeds)} orders: {dict(outcomes)}")
    assert not failed, f"{len(failed)} of {len(seeds)} orders failed, seeds {sorted(failed)}; the first:\n{failed[min(failed)]}"
    assert outcomes["starved"] <= len(seeds) // 10
    assert len(outcomes) > 1 or len(seeds) < 20, "all orders came out the same: nothing was raced"
