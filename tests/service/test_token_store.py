"""The token route and a Redis that is slow, refuses, or loses what it was sent."""

import time

import pytest

from checks import calls, is_stored, key, make_due, metric, only
from cluster import Later, Person
from harness import good, problem, wait_until
from programs import entries


@pytest.fixture
def person(cluster):
    one = Person(cluster, "member")
    one.connect()
    return one


def lost(cluster):
    """How many audit entries got lost so far, at the host where `person` goes, and the lines that stand for them."""
    return metric(cluster.product, "integrations_events_lost_total", host=1), \
        [line for line in cluster.product.log(host=1) if line.get("event") == "audit_entry_lost"]


def test_nobody_waits_for_the_audit(cluster, person):
    for _ in range(5):  # where the machine is so busy that the worker gave Redis up meanwhile, nothing is shown
        before, _ = lost(cluster)
        held = cluster.proxy.hold("event", pid=cluster.worker(1))
        good(person.ask().answer())
        held.wait()
        still_held = lost(cluster)[0] == before
        held.release()
        if still_held:
            break
    assert still_held
    wait_until(lambda: entries(cluster.product, use=True), "the entry is written")


def test_an_entry_that_redis_refuses(cluster, person):
    before, lines = lost(cluster)
    cluster.redis.set("events:{acme}:use", "something else")
    answer = person.ask().answer()
    good(answer)
    wait_until(lambda: lost(cluster)[0] == before + 1, "it is counted")
    line, = lost(cluster)[1][len(lines):]
    assert {name: line[name] for name in ("what", "actor", "organization", "user", "service", "outcome", "request_id")} == {
        "what": "token_issued", "actor": "caller:runtime", "organization": "acme", "user": "member", "service": "google",
        "outcome": "ok", "request_id": answer.headers["X-Request-Id"]}


def test_an_entry_that_is_lost_on_the_way(cluster, person):
    before, lines = lost(cluster)
    held = cluster.proxy.hold("event", pid=cluster.worker(1))
    good(person.ask().answer())
    held.wait()
    wait_until(lambda: lost(cluster)[0] == before + 1, "it is given up and counted")
    assert len(lost(cluster)[1]) == len(lines) + 1
    held.release()


@pytest.mark.parametrize("step", ["caller", "read", "failure_read", "lease"])
def test_redis_does_not_answer(cluster, person, step):
    """An error of the store, never "unknown caller" or "not connected"; and nothing is asked of the provider."""
    make_due(cluster.product, "member")
    held = cluster.proxy.hold(step, pid=cluster.worker(1))
    asked = person.ask()
    held.wait()
    problem(asked.answer(), 503, "store_unavailable")
    held.release()
    assert calls(cluster.product) == only(exchanges=1)
    good(person.ask().answer())


def test_a_disconnect_knows_of_every_token_that_was_handed_out(cluster, person):
    """Either it comes first, and the program gets none, or it says until when the program has access."""
    other = Person(cluster, "sharing")
    other.account = person.account
    other.connect()  # so that nothing is revoked
    for name, after in (("read", False), ("read", True), ("handed_out", False), ("handed_out", True)):
        if not is_stored(cluster.product, "member"):
            person.connect()
        now = int(time.time())
        if name == "handed_out":  # little time is left, but more than half of its life: decided by the worker, not by Redis
            cluster.redis.hset(key("credential", "member"), mapping={"issued_at": now - 50, "expires_at": now + 100})
        held = cluster.proxy.hold(name, after=after, pid=cluster.worker(1))
        asking = person.ask()
        held.wait()
        said = good(person.session.disconnect("acme", host=0))
        held.release()
        answer = asking.answer()
        if after:
            assert said["access_until"] == good(answer)["expires_at"], name
        else:
            problem(answer, 404, "integration_not_found")
            assert said["access_until"] is None, name


def test_a_refresh_overtakes_the_note(cluster, person):
    """Other tokens are stored by then: the one that was handed out lives on all the same."""
    now = int(time.time())
    cluster.redis.hset(key("credential", "member"), mapping={"issued_at": now - 50, "expires_at": now + 100})
    held = cluster.proxy.hold("handed_out", pid=cluster.worker(1))
    asking = person.ask()
    held.wait()
    cluster.redis.hset(key("integration", "member"), "generation", "0123456789abcdef0123456789abcdef")
    held.release()
    good(asking.answer())
    assert cluster.redis.hget(key("credential", "member"), "handed_out_until") == str(now + 100)


def test_tokens_that_are_not_handed_out_are_not_noted(cluster, person):
    other = Person(cluster, "sharing")
    other.account = person.account
    other.connect()
    mine = person.session.authorize("acme", account=person.account, grant=["https://www.googleapis.com/auth/gmail.readonly"])
    good(person.callback(mine, host=0))
    drive = Later(cluster.caller.token, "member", json={"scopes": ["https://www.googleapis.com/auth/drive.readonly"]})
    problem(drive.answer(), 422, "scopes_missing")
    cluster.redis.set("removed:{acme:member}", "1")
    problem(person.ask().answer(), 403, "organization_forbidden")
    cluster.redis.delete("removed:{acme:member}")
    assert good(person.session.disconnect("acme"))["access_until"] is None
