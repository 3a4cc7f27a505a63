"""The token route and a Redis that is slow, refuses, or loses what it was sent; reads between which something is written."""

import secrets
import time

import pytest

import fastcgi
from checks import calls, is_stored, key, make_due, metric, only
from cluster import Later, Person
from harness import good, problem, wait_until
from programs import entries


@pytest.fixture
def person(cluster):
    one = Person(cluster, "member")
    one.connect()
    return one


def new_person(cluster):
    one = Person(cluster, f"stranger{secrets.token_hex(4)}")
    one.connect()
    return one


@pytest.fixture
def stranger(cluster):
    """A member for whom no worker has vended a token before: record and tokens are read in one step, and the token is
    the first one of its minute."""
    return new_person(cluster)


def lost(cluster):
    """How many audit entries got lost so far, at the host where `person` goes, and the lines that stand for them."""
    return metric(cluster.product, "integrations_events_lost_total", host=1), \
        [line for line in cluster.product.log(host=1) if line.get("event") == "audit_entry_lost"]


def test_nobody_waits_for_the_audit(cluster):
    for _ in range(5):  # where the machine is so busy that the worker gave Redis up meanwhile, nothing is shown
        person = new_person(cluster)
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


def test_an_entry_that_redis_refuses(cluster, stranger):
    before, lines = lost(cluster)
    cluster.redis.set("events:{acme}:use", "something else")
    answer = stranger.ask().answer()
    good(answer)
    wait_until(lambda: lost(cluster)[0] == before + 1, "it is counted")
    line, = lost(cluster)[1][len(lines):]
    assert {name: line[name] for name in ("what", "actor", "organization", "user", "service", "outcome", "request_id")} == {
        "what": "token_issued", "actor": "caller:runtime", "organization": "acme", "user": stranger.name, "service": "google",
        "outcome": "ok", "request_id": answer.headers["X-Request-Id"]}


def test_an_entry_that_is_lost_on_the_way(cluster, stranger):
    before, lines = lost(cluster)
    held = cluster.proxy.hold("event", pid=cluster.worker(1))
    good(stranger.ask().answer())
    held.wait()
    wait_until(lambda: lost(cluster)[0] == before + 1, "it is given up and counted")
    assert len(lost(cluster)[1]) == len(lines) + 1
    held.release()


@pytest.mark.parametrize("step", ["caller", "read", "record", "holding", "removed", "failure_read", "lease"])
def test_redis_does_not_answer(cluster, person, stranger, step):
    """An error of the store, never "unknown caller" or "not connected"; and nothing is asked of the provider."""
    if step == "read":
        person = stranger
    else:
        good(person.ask().answer())
    make_due(cluster.product, person.name)
    held = cluster.proxy.hold(step, pid=cluster.worker(1))
    asked = person.ask()
    held.wait()
    problem(asked.answer(), 503, "store_unavailable")
    held.release()
    assert calls(cluster.product) == only(exchanges=2)
    good(person.ask().answer())


@pytest.mark.parametrize("name, after, handed_before, gets_it", [
    ("read", False, None, False), ("read", True, None, True),  # read and noted in one step
    ("record", False, True, False), ("removed", True, True, True),  # noted when it was handed out before
    ("record", False, False, False), ("removed", True, False, False),  # taken for noted, and is not
    ("vended", False, False, False), ("vended", True, False, True)])
def test_a_disconnect_knows_of_every_token_that_was_handed_out(cluster, person, stranger, name, after, handed_before, gets_it):
    """Either it comes first, and the program gets none, or it says until when the program has access. handed_before: the
    worker knows the connection, and this very token was handed out."""
    one, other = stranger if handed_before is None else person, Person(cluster, "sharing")
    other.account = one.account
    other.connect()  # so that nothing is revoked
    if handed_before is not None:
        good(one.ask().answer())
    if handed_before is False:
        cluster.redis.hset(key("credential", one.name), "handed_out_until", 0)
    held = cluster.proxy.hold(name, after=after, pid=cluster.worker(1))
    asking = one.ask()
    held.wait()
    said = good(one.session.disconnect("acme", host=0))
    held.release()
    answer = asking.answer()
    if gets_it:
        assert said["access_until"] == good(answer)["expires_at"]
    else:
        problem(answer, 404, "integration_not_found")
        assert (said["access_until"] is not None) == (handed_before is True)


def test_record_and_tokens_of_two_moments(cluster, person):
    """Between the two reads somebody stores another account: what was read of the first one is not answered."""
    good(person.ask().answer())  # from now on the two are read apart
    held = cluster.proxy.hold("record", after=True, pid=cluster.worker(1))
    asking = person.ask()
    held.wait()
    generation = secrets.token_hex(16)
    cluster.redis.hset(key("integration", "member"), mapping={"oauth_user_id": "another", "generation": generation})
    cluster.redis.hset(key("credential", "member"), "generation", generation)
    held.release()
    assert good(asking.answer())["oauth_user_id"] == "another"


def test_a_refresh_overtakes_the_note(cluster, person):
    """Other tokens are stored by then: the one that was handed out lives on all the same."""
    now = int(time.time())
    cluster.redis.hset(key("credential", "member"), mapping={"issued_at": now - 50, "expires_at": now + 100})
    held = cluster.proxy.hold("vended", pid=cluster.worker(1))
    asking = person.ask()
    held.wait()
    cluster.redis.hset(key("integration", "member"), "generation", "0123456789abcdef0123456789abcdef")
    held.release()
    good(asking.answer())
    assert cluster.redis.hget(key("credential", "member"), "handed_out_until") == str(now + 100)


@pytest.mark.parametrize("replaces", [False, True])
def test_a_note_on_the_connection_that_came_after(cluster, person, replaces):
    """The disconnect, or the replacement, was acknowledged: no program gets a token of before any more."""
    other = Person(cluster, "other")
    sharing = Person(cluster, "sharing")
    sharing.account = person.account
    sharing.connect()  # so that nothing is revoked: the old token works on at the provider
    good(person.ask().answer())
    cluster.redis.hset(key("credential", "member"), "handed_out_until", 0)
    document = person.session.authorize("acme", account=other.account, replace="true" if replaces else None)
    held = cluster.proxy.hold("vended", pid=cluster.worker(1))
    asking = person.ask()
    held.wait()
    if not replaces:
        assert good(person.session.disconnect("acme", host=0))["access_until"] is None
    new = good(person.session.callback("acme", document, host=2))["integration"]
    held.release()
    assert good(asking.answer())["oauth_user_id"] == new["oauth_user_id"]


def test_barred_while_the_token_is_refreshed(cluster, person):
    make_due(cluster.product, "member")
    held = cluster.proxy.hold("refresh", pid=cluster.worker(1))
    asking = person.ask()
    held.wait()
    cluster.redis.set("removed:{acme:member}", "1")
    held.release()
    problem(asking.answer(), 403, "organization_forbidden")
    # What the provider gave is stored all the same, for `remove` to revoke.
    assert calls(cluster.product)["refreshes"] == 1
    cluster.redis.delete("removed:{acme:member}")
    good(person.ask().answer())
    assert calls(cluster.product)["refreshes"] == 1


def test_a_later_note_overtakes(cluster, person):
    """Of two tokens that were handed out the one that lives longer counts, whichever is noted last."""
    now = int(time.time())
    cluster.redis.hset(key("credential", "member"), mapping={"issued_at": now - 50, "expires_at": now + 100})
    held = cluster.proxy.hold("vended", pid=cluster.worker(1))
    asking = person.ask()
    held.wait()
    cluster.redis.hset(key("credential", "member"), "handed_out_until", now + 3000)
    held.release()
    good(asking.answer())
    assert cluster.redis.hget(key("credential", "member"), "handed_out_until") == str(now + 3000)


def test_a_refusal_of_tokens_that_are_gone(cluster, person):
    """An upstream refused the token, and a new one is stored by the time that this is noted: nobody refused that."""
    agent = cluster.product.session("member", {"acme": "member"}, use="gateway", mcps="gmail")
    held = cluster.proxy.hold("refused", pid=cluster.worker(1))
    with fastcgi.Peer(cluster.product.hosts[1].socket) as nginx:
        nginx.send(fastcgi.request(cluster.product, method="POST", path="/mcp/acme/gmail", token=agent.token,
                                   INTEGRATIONS_SERVER="gateway", GATEWAY_CODE="provider_refused_token"))
        held.wait()
        before = cluster.redis.hgetall(key("credential", person.name))
        cluster.redis.hset(key("integration", person.name), "generation", "0123456789abcdef0123456789abcdef")
        held.release()
        assert nginx.answer()[0] == 502
    assert cluster.redis.hgetall(key("credential", person.name)) == before


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


def test_a_session_that_changes_while_it_is_read(cluster):
    """Whose it is and what else it says are two reads: of two people's, no answer is made."""
    session = cluster.product.session("ada", {"acme": "member"}, name="Ada Lovelace")
    held = cluster.proxy.hold("session", after=True, pid=cluster.worker(1))
    asking = Later(session.get, "/api/me", host=1)
    held.wait()
    cluster.product.session("bob", {"acme": "member"}, name="Bob", token=session.token)
    held.release()
    problem(asking.answer(), 503, "store_unavailable")
    assert good(session.get("/api/me", host=1))["user_id"] == "bob"
