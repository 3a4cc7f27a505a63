"""One refresh over all workers and hosts: crowds, holders of the lease that die or sleep, providers that rotate."""

import asyncio
import concurrent.futures
import json
import os
import signal
import statistics
import threading
import time

import pytest

from checks import dump, is_stored, key, make_due, wait_in_flight
from cluster import Cluster, Later, Person
from harness import good, problem, wait_until
from programs import Caller, entries, token_path

ROUNDS = int(os.environ.get("CROWD_ROUNDS", "5"))
CROWD = int(os.environ.get("CROWD", "1000"))
WAITERS = 32  # of a worker for one connection: WAITS_PER_CONNECTION
ROTATIONS = int(os.environ.get("ROTATIONS", "100"))


def good_tokens(answers):
    """All of them good, and all the same token."""
    bodies = [good(answer) for answer in answers]
    assert not any("warning" in body for body in bodies)
    token, = {body["access_token"] for body in bodies}
    return token


# One owner


def test_redis_stands_still_while_the_provider_is_asked(make_product):
    """The owner of the lease loses its connection, and has nothing to ask for but the renewal: it stays the owner."""
    product = make_product(hosts=2, workers=1)
    product.stand_in.settings(personality="rotating")
    product.session("ada", {"acme": "member"}).connect("acme")
    caller = Caller(product)
    make_due(product, "ada")
    hold = product.stand_in.fault("refresh", "hold")
    asked = Later(caller.token, "ada", host=1)
    product.stand_in.wait_fired(hold)
    product.redis_server.pause()
    wait_until(lambda: '"redis_connection_lost"' in product.hosts[1].serve.text(), "a renewal is not answered")
    product.redis_server.resume()
    lost = time.monotonic()
    wait_until(lambda: time.monotonic() > lost + 4.5, "more than a lease lasts")
    assert product.redis.pttl(key("refresh_lease", "ada")) > 0
    product.stand_in.release(hold)
    good(asked.answer())
    assert product.stand_in.counters()["refreshes"] == 1


# A crowd


async def ask_at_once(product, key_of_caller, count):
    """`count` token requests for ada at the same moment, half of them to each host: a list of (status, body)."""
    async def ask(host):
        reader, writer = await asyncio.open_connection("127.0.0.1", product.hosts[host].internal_port)
        try:
            writer.write((f"POST {token_path('ada')} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key_of_caller}\r\n"
                          "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").encode())
            answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(body)
    return await asyncio.wait_for(asyncio.gather(*(ask(number % len(product.hosts)) for number in range(count))), 60)


def test_a_crowd_and_one_expired_token(make_product):
    """CROWD_ROUNDS=200 for the long run."""
    product = make_product(hosts=2, workers=2)
    ada = product.session("ada", {"acme": "admin"})
    caller = Caller(product)
    ada.connect("acme")
    good_answers = refreshed = 0
    for number in range(ROUNDS):
        make_due(product, "ada")
        if number % 2 == 0:  # a crowd waits before the provider answers the one
            hold = product.stand_in.fault("refresh", "hold")
            release = threading.Thread(target=lambda: (wait_in_flight(product, WAITERS), wait_in_flight(product, WAITERS, host=1),
                                                       product.stand_in.release(hold)))
            release.start()
            answers = asyncio.run(ask_at_once(product, caller.key, CROWD))
            release.join()
        else:
            answers = asyncio.run(ask_at_once(product, caller.key, CROWD))
        refusals = [body for status, body in answers if status != 200]
        assert {body["code"] for body in refusals} <= {"overloaded"}, refusals[:3]
        token, = {body["access_token"] for status, body in answers if status == 200}
        assert product.stand_in.honours(access_token=token)
        # Of two workers of a host, one at least has as many; without a hold the refresh may be over before.
        assert number % 2 == 1 or len(answers) - len(refusals) >= 2 * WAITERS
        good_answers += len(answers) - len(refusals)
        refreshed = product.stand_in.counters()["refreshes"]
        assert refreshed == number + 1, f"round {number}: {refreshed} refreshes"
    print(f"{ROUNDS} rounds: {good_answers} good answers, {refreshed} refreshes")


def test_a_crowd_and_a_provider_that_fails(make_product):
    """A failure is shared as a success is: nobody storms the provider."""
    product = make_product(hosts=2, workers=2)
    product.session("ada", {"acme": "admin"}).connect("acme")
    caller = Caller(product)
    make_due(product, "ada")
    hold = product.stand_in.fault("refresh", "hold", times=1)
    product.stand_in.fault("refresh", "status", status=503, times=None)
    release = threading.Thread(target=lambda: (wait_in_flight(product, WAITERS), wait_in_flight(product, WAITERS, host=1),
                                               product.stand_in.release(hold)))
    release.start()
    answers = asyncio.run(ask_at_once(product, caller.key, 2 * WAITERS))
    release.join()
    assert {(status, body["code"]) for status, body in answers} == {(502, "provider_unreachable")}
    assert product.stand_in.counters()["refreshes"] == 1
    failed = [entry for entry in entries(product) if entry["event"] == "refresh_failed"]
    assert len(failed) == 1


# The holder of the lease dies, sleeps, or is slow. They are many at once, because each waits for the end of a lease.


def killed_at_the_provider(person, after):
    hold = person.fault("refresh", "hold", after=after)
    first = person.expired().ask()
    person.product.stand_in.wait_fired(hold)
    crowd = person.crowd()
    began = time.monotonic()
    person.cluster.kill(person.host)
    good_tokens([each.answer() for each in crowd])
    assert time.monotonic() - began < 8
    assert first.answer().status_code in (200, 503), "what a killed worker was doing is lost, or done by another"
    assert person.works()


def killed_at_redis(person, name, after):
    """A provider that does not rotate: wherever its worker dies, nothing is lost."""
    person.expired()
    held = person.cluster.proxy.hold(name, after=after, pid=person.cluster.worker(person.host))
    first = person.ask()
    held.wait()
    person.cluster.kill(person.host)
    began = time.monotonic()
    good_tokens([each.answer() for each in person.crowd()])
    assert time.monotonic() - began < 8
    assert first.answer().status_code in (200, 503)
    assert person.refreshes() == (2 if (name, after) == ("refresh", False) else 1)
    assert person.works()


def stopped_past_its_lease(person):
    """Its late result is refused, the lease of a successor is not touched, and the stored tokens are the others'."""
    cluster, stand_in = person.cluster, person.product.stand_in
    hold = person.fault("refresh", "hold")
    sleeper = cluster.worker(person.host)
    first = person.expired().ask()
    stand_in.wait_fired(hold)
    os.kill(sleeper, signal.SIGSTOP)
    try:
        owner = person.lease()
        crowd = person.crowd()
        began = time.monotonic()
        token = good_tokens([each.answer() for each in crowd])
        assert time.monotonic() - began < 8
        # Another refresh is under way when the sleeper wakes up.
        make_due(person.product, person.name)
        second_hold = person.fault("refresh", "hold")
        second = person.ask(host=0)
        stand_in.wait_fired(second_hold)
        successor = person.lease()
        assert successor not in (None, owner)
        generation = cluster.redis.hget(key("integration", person.name), "generation")
        stored = dump(person.product, person.name)
        late = cluster.proxy.hold("refresh", after=True, pid=sleeper)
        contending = cluster.proxy.hold("lease", after=True, pid=sleeper)
    finally:
        stand_in.release(hold)
        os.kill(sleeper, signal.SIGCONT)
    late.wait()
    assert dump(person.product, person.name) == stored, "the late result is refused"
    late.release()
    contending.wait()
    assert person.lease() == successor
    contending.release()
    stand_in.release(second_hold)
    newest = good(second.answer())["access_token"]
    assert newest != token and cluster.redis.hget(key("integration", person.name), "generation") != generation
    # Who comes late gets what is stored, not what it brought, if there is time left for it.
    answer = first.answer()
    assert answer.status_code == 502 or good(answer)["access_token"] == newest
    assert person.works()


def slow_provider(person):
    """The owner is alive and renews its lease: nobody else asks, however long the provider takes."""
    hold = person.fault("refresh", "hold")
    first = person.expired().ask()
    person.product.stand_in.wait_fired(hold)
    crowd = person.crowd()
    owner, renewed, before = person.lease(), 0, 0
    end = time.monotonic() + 4.5
    while time.monotonic() < end:
        left = person.cluster.redis.pttl(key("refresh_lease", person.name))
        renewed += left > before + 500
        before = left
        assert person.lease() == owner
        time.sleep(0.05)
    assert renewed >= 3
    person.product.stand_in.release(hold)
    good_tokens([each.answer() for each in (first, *crowd)])
    assert person.refreshes() == 1


HOLDERS = {
    "killed before the provider's work": (killed_at_the_provider, False),
    "killed after the provider's work": (killed_at_the_provider, True),
    "killed with the lease": (killed_at_redis, "lease", True),
    "killed before storing": (killed_at_redis, "refresh", False),
    "killed having stored": (killed_at_redis, "refresh", True),
    "killed before releasing": (killed_at_redis, "lease_release", False),
    "killed having released": (killed_at_redis, "lease_release", True),
    "stopped past its lease": (stopped_past_its_lease,),
    "slow": (slow_provider,),
}


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    """One host for each of them, and one for the crowds."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), hosts=1 + len(HOLDERS))
    yield cluster
    cluster.stop()


def test_holders_of_the_lease(cluster):
    with concurrent.futures.ThreadPoolExecutor(len(HOLDERS)) as pool:
        running = {name: pool.submit(run, Person(cluster, f"person{host}", host), *arguments)
                   for host, (name, (run, *arguments)) in enumerate(HOLDERS.items(), start=1)}
    failed = {name: each.exception() for name, each in running.items() if each.exception() is not None}
    for error in failed.values():
        raise AssertionError(f"{list(failed)}") from error
    wait_until(lambda: not list(cluster.redis.scan_iter("refresh_lease:*")), "no lease is left")


def test_the_lease_of_another(cluster):
    """Who was stopped for so long that somebody else has it by now neither renews nor releases it."""
    person = Person(cluster, "overtaken")
    hold = person.fault("refresh", "hold")
    asked = person.expired().ask()
    cluster.product.stand_in.wait_fired(hold)
    lease = key("refresh_lease", person.name)
    cluster.redis.set(lease, "another", px=60_000)
    for name in ("lease_renew", "lease_release"):
        held = cluster.proxy.hold(name, after=True, pid=cluster.worker(1))
        if name == "lease_release":
            cluster.product.stand_in.release(hold)
        held.wait()
        held.release()
        assert cluster.redis.get(lease) == "another" and cluster.redis.pttl(lease) > 10_000, name
    good(asked.answer())
    cluster.redis.delete(lease)


def test_killed_while_connecting(cluster):
    """At every step of a callback: what is stored afterwards is whole, or nothing is; and connecting again works."""
    for name, after in (("connect", False), ("connect", True), ("grant_add", True), ("revocation", True)):
        person = Person(cluster, f"connecting-{name}-{after}")
        document = person.authorize()
        held = cluster.proxy.hold(name, after=after, pid=cluster.worker(1))
        Later(person.callback, document)
        held.wait()
        cluster.kill(1)
        stored = is_stored(person.product, person.name)
        assert stored == ((name, after) in (("connect", True), ("revocation", True))), (name, after)
        assert not stored or person.works()
        person.connect()
        assert person.works()
        assert f"acme:{person.name}:google" in {each for grant in cluster.redis.scan_iter("grant:*") for each in cluster.redis.smembers(grant)}
        cluster.revive()


def test_killed_while_disconnecting(cluster):
    """Nothing of a connection is left that could come back, and who connects again has a connection that works."""
    for name, after in (("delete", True), ("revoking", True), ("grant_remove", True), ("grant_members", True), ("revoking_over", False)):
        person = Person(cluster, f"disconnecting-{name}")
        person.connect()
        held = cluster.proxy.hold(name, after=after, pid=cluster.worker(1))
        Later(person.session.disconnect, "acme", host=1)
        held.wait()
        cluster.kill(1)
        assert not is_stored(person.product, person.name)
        # For all that others know, the revocation is still under way; test_grants.py waits for that.
        for mark in cluster.redis.scan_iter("integrations:revoking:*"):
            cluster.redis.delete(mark)
        person.connect()
        assert person.works()
        cluster.revive()


# A provider that rotates refresh tokens


def test_rotation(product):
    """ROTATIONS=1000 for the long run. Prints how long a worker must not die: from the provider's answer to its being stored."""
    product.stand_in.settings(personality="rotating")
    product.session("ada", {"acme": "admin"}).connect("acme")
    caller = Caller(product)
    stored_at = []
    with product.redis.monitor() as monitor:
        for _ in range(ROTATIONS):
            make_due(product, "ada")
            good_tokens([each.answer() for each in [Later(caller.token, "ada") for _ in range(2)]])
        product.redis.echo("the end")
        while "the end" not in (seen := monitor.next_command())["command"]:
            # The write inside the script that stores a refresh.
            if seen["client_type"] == "lua" and seen["command"].startswith("HSET credential:{acme:ada}:google access_token"):
                stored_at.append(seen["time"])
    counters = product.stand_in.counters()
    assert (counters["refreshes"], counters["refreshes_ok"], counters["reuse_detections"]) == (ROTATIONS, ROTATIONS, 0)
    answered_at = [event["time"] for event in product.stand_in.ledger()["events"] if event["event"] == "rotated"]
    window = sorted((stored - answered) * 1000 for answered, stored in zip(answered_at, stored_at))
    assert len(answered_at) == len(window) == ROTATIONS and window[0] > 0
    print(f"from the provider's new refresh token to its being stored, in {ROTATIONS} refreshes: median {statistics.median(window):.1f} ms, "
          f"99 in 100 within {window[int(len(window) * 0.99)]:.1f} ms, longest {window[-1]:.1f} ms")


def test_redis_is_away_when_a_rotated_token_comes(cluster):
    """The provider has forgotten the old one: the new one is stored as soon as Redis answers again."""
    cluster.product.stand_in.settings(personality="rotating")
    person = Person(cluster, "away")
    for after in (True, False):  # it is stored and the answer to that gets lost; it does not even arrive
        held = cluster.proxy.hold("refresh", after=after, pid=cluster.worker(1))
        asked = person.expired().ask()
        held.wait()
        time.sleep(0.7)  # longer than a worker waits for Redis
        cluster.proxy.clear()
        good(asked.answer())
        assert person.works()
    assert cluster.product.stand_in.counters()["reuse_detections"] == 0


def test_a_rotated_token_that_nobody_stores_is_revoked(cluster):
    """The disconnect could revoke the old one only, which was dead already."""
    cluster.product.stand_in.settings(personality="rotating")
    person = Person(cluster, "late")
    hold = person.fault("refresh", "hold", after=True)
    asked = person.expired().ask()
    cluster.product.stand_in.wait_fired(hold)
    good(person.session.disconnect("acme", host=0))
    cluster.product.stand_in.release(hold)
    problem(asked.answer(), 404, "integration_not_found")
    assert not any(token["live"] for token in cluster.product.stand_in.ledger()["refresh_tokens"])
    assert not is_stored(cluster.product, "late")
