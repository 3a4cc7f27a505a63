"""Disconnects that die between the end of a connection and the revocation of its grant: said again, they finish it."""

import subprocess

import pytest

from checks import dump, is_stored, key, live
from cluster import Later, Person
from harness import PROGRAM, good, problem, wait_until

UNREVOKED = "integrations:unrevoked:{acme:%s}:google"
CLAIM = "integrations:unrevoked_claim:{acme:%s}:google"
STEPS = (("delete", True), ("grant_members", True), ("dealt_with", False))


@pytest.fixture
def connected(cluster):
    def connect(name):
        person = Person(cluster, name)
        person.connect()
        return person
    return connect


def admin(cluster):
    """The settings of a command whose steps the proxy sees."""
    url = f"unix://{cluster.proxy.admin_path}"
    return {**cluster.product.environment, "REDIS_URL": url, "REDIS_ADMIN_URL": url}


def remove(cluster, person):
    return cluster.product.command("remove", "--org", "acme", "--user", person.name, environment=admin(cluster)).stdout


def disconnect_and_die(cluster, person, name, after):
    held = cluster.proxy.hold(name, after=after, pid=cluster.worker(1))
    Later(person.session.disconnect, "acme", host=1)
    held.wait()
    cluster.kill(1)
    cluster.revive()
    assert not is_stored(cluster.product, person.name)


def time_goes_by(cluster, person):
    """Who was at it counts as gone."""
    assert 0 < cluster.redis.pttl(CLAIM % person.name) <= 4000
    cluster.redis.delete(CLAIM % person.name)


def nothing_left(cluster, person):
    return live(cluster.product, person.account) == 0 and not cluster.redis.exists(UNREVOKED % person.name, CLAIM % person.name)


@pytest.mark.parametrize("name, after", STEPS)
def test_a_disconnect(cluster, connected, name, after):
    person = connected(f"disconnect-{name}")
    disconnect_and_die(cluster, person, name, after)
    if name != "delete":
        time_goes_by(cluster, person)
    assert 0 < cluster.redis.ttl(UNREVOKED % person.name) <= 86400
    assert "MARKER" not in str(cluster.redis.hgetall(UNREVOKED % person.name))
    assert good(person.session.disconnect("acme", host=0))["revocation"] == "revoked"
    assert nothing_left(cluster, person)
    problem(person.session.disconnect("acme", host=0), 404, "integration_not_found")


@pytest.mark.parametrize("name, after", STEPS)
def test_a_removal(cluster, connected, name, after):
    person = connected(f"remove-{name}")
    held = cluster.proxy.hold(name, after=after)
    with subprocess.Popen([PROGRAM, "remove", "--org", "acme", "--user", person.name], env=admin(cluster)) as command:
        held.wait()
        command.kill()
    assert not is_stored(cluster.product, person.name)
    time_goes_by(cluster, person)
    assert f"{person.name} google: was forgotten before, revoked" in remove(cluster, person)
    assert nothing_left(cluster, person)
    assert "0 connections forgotten, 0 revoked" in remove(cluster, person)


def test_a_removal_finishes_a_disconnect(cluster, connected):
    person = connected("both")
    disconnect_and_die(cluster, person, "delete", True)
    time_goes_by(cluster, person)
    done = cluster.product.command("remove", "--org", "acme", environment=admin(cluster)).stdout
    assert "both google: was forgotten before, revoked" in done and "0 connections forgotten, 1 revoked" in done
    assert nothing_left(cluster, person)


def test_a_replacement(cluster, connected):
    """The old account's grant is revoked by the next disconnect, with that of the account that took its place."""
    person = connected("replaced")
    other = Person(cluster, "another")
    document = person.session.authorize("acme", account=other.account, replace="true")
    held = cluster.proxy.hold("connect", after=True, pid=cluster.worker(1))
    Later(person.callback, document)
    held.wait()
    cluster.kill(1)
    cluster.revive()
    assert person.session.list("acme")[0]["oauth_email"] == other.account and live(cluster.product, person.account) == 1
    assert good(person.session.disconnect("acme", host=0))["revocation"] == "revoked"
    assert nothing_left(cluster, person) and live(cluster.product, other.account) == 0


def test_who_has_connected_again_keeps_the_grant(cluster, connected):
    """What was left is the same account's: only the last disconnect revokes it."""
    person = connected("again")
    disconnect_and_die(cluster, person, "delete", True)
    person.connect()
    time_goes_by(cluster, person)
    assert live(cluster.product, person.account) == 2
    assert person.works()
    assert good(person.session.disconnect("acme", host=0))["revocation"] == "revoked"
    assert nothing_left(cluster, person)


def test_what_cannot_be_opened_is_let_go(cluster, connected):
    """A key that was taken out of the ring since: nothing is sent anywhere, and it is not tried for ever."""
    person = connected("closed")
    disconnect_and_die(cluster, person, "delete", True)
    time_goes_by(cluster, person)
    for generation, text in cluster.redis.hgetall(UNREVOKED % person.name).items():
        cluster.redis.hset(UNREVOKED % person.name, generation, text.replace("\nk1.", "\nk9."))
    assert good(person.session.disconnect("acme", host=0))["revocation"] == "not_revoked"
    assert not cluster.redis.exists(UNREVOKED % person.name)
    problem(person.session.disconnect("acme", host=0), 404, "integration_not_found")
    line, = wait_until(lambda: [line for line in cluster.product.log() if line["event"] == "unrevoked_unreadable" and
                                line["user"] == person.name], "a line")
    assert line["level"] == "error" and "at the provider" in line["action"]


def test_what_is_of_another_client_or_issuer_is_let_go(make_product):
    """The settings were changed since: a refresh token is sent nowhere but where it is from."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    record, tokens = dump(product, "ada")
    left = "\n".join((tokens["client_id"], tokens["issuer"], "0", tokens["refresh_token"], record["oauth_user_id"]))
    product.redis.delete(key("integration", "ada"), key("credential", "ada"))
    second = "stand-in-second.apps.googleusercontent.com"
    for client, changes in ((second, {}), (tokens["client_id"], {"issuer": "https://other.example"})):
        product.write_provider(**changes)
        product.serve.environment["GOOGLE_CLIENT_ID"] = client
        product.hosts[0].restart()
        product.redis.hset(UNREVOKED % "ada", record["generation"], left)
        assert good(ada.disconnect("acme"))["revocation"] == "not_revoked"
        assert not product.redis.exists(UNREVOKED % "ada")
    assert product.stand_in.counters()["revokes"] == 0


@pytest.mark.parametrize("text", ("", "\n", "a\nb\nc\nd", "\n" * 9), ids=repr)
def test_what_is_damaged_is_let_go(cluster, text):
    person = Person(cluster, "damaged")
    cluster.redis.hset(UNREVOKED % person.name, mapping={"": text, "x": text})
    assert good(person.session.disconnect("acme", host=0))["revocation"] == "not_revoked"
    assert not cluster.redis.exists(UNREVOKED % person.name)


def test_another_is_at_it(cluster, connected):
    """Whoever asks meanwhile waits for its end, and there is nothing left for them."""
    person = connected("waiting")
    hold = person.fault("revoke", "hold")
    first = Later(person.session.disconnect, "acme", host=1)
    cluster.product.stand_in.wait_fired(hold)
    second = Later(person.session.disconnect, "acme", host=0)
    held = cluster.proxy.hold("take", after=True, pid=cluster.worker(0))
    held.wait()
    assert second.is_alive()
    held.release()
    cluster.product.stand_in.release(hold)
    assert good(first.answer())["revocation"] == "revoked"
    problem(second.answer(), 404, "integration_not_found")
    assert cluster.product.stand_in.counters()["revokes"] == 1


def test_another_is_at_what_was_left_before(cluster, connected):
    """Whoever waits for its end looks for what is left then, and not for a connection: that was made meanwhile."""
    person = connected("meanwhile")
    good(person.session.disconnect("acme", host=1))  # Redis knows the scripts now
    person.connect()
    cluster.redis.hset(UNREVOKED % person.name, "before", "a\nb\n0\nc\nd")
    cluster.redis.set(CLAIM % person.name, "1", px=60_000)
    with cluster.proxy.watched(cluster.worker(1)) as steps:
        taking = cluster.proxy.hold("take", pid=cluster.worker(1))
        disconnecting = Later(person.session.disconnect, "acme", host=1)
        taking.wait()
        assert not is_stored(cluster.product, person.name) and live(cluster.product, person.account) == 0
        assert cluster.redis.exists(CLAIM % person.name), "another's claim stands"
        person.connect()
        cluster.redis.delete(CLAIM % person.name)
        taking.release()
        assert good(disconnecting.answer())["revocation"] == "revoked"
    assert steps.count("delete") == 1
    assert person.works() and not cluster.redis.exists(UNREVOKED % person.name, CLAIM % person.name)
