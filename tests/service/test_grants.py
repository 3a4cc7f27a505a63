"""One account at the provider, several connections here: what a disconnect says and does, and who connects meanwhile."""

import pytest

from checks import calls, is_stored, key, live
from cluster import Later, Person
from harness import good, problem, wait_until
from programs import Caller, entries, watched


def members(product):
    return {name: product.redis.smembers(name) for name in product.redis.scan_iter("grant:*")}


# What the answer says


def test_the_last_one_revokes(product, ada, bob):
    ada.connect("acme")
    bob.connect("acme")
    assert good(ada.disconnect("acme"))["revocation"] == "not_revoked"
    assert live(product, "ada") == 2 and good(bob.validate("acme"))["is_valid"] is True
    assert good(bob.disconnect("acme"))["revocation"] == "revoked"
    assert live(product, "ada") == 0
    assert not members(product)


def test_kept_for_the_same_user(product, ada):
    ada.connect("acme")
    ada.connect("globex")
    answer = good(ada.disconnect("acme"))
    assert (answer["revocation"], answer["access_until"]) == ("kept_shared", None)
    assert calls(product)["revokes"] == 0
    assert good(ada.validate("globex"))["is_valid"] is True
    assert good(ada.disconnect("globex"))["revocation"] == "revoked"


def test_the_same_user_comes_before_others(product, ada, bob):
    ada.connect("acme")
    ada.connect("globex")
    bob.connect("acme")
    assert good(ada.disconnect("acme"))["revocation"] == "kept_shared"
    assert good(ada.disconnect("globex"))["revocation"] == "not_revoked"
    assert good(bob.validate("acme"))["is_valid"] is True


def test_nothing_about_other_people(product, ada, bob):
    """Somebody else's connection and a provider that fails look the same to whoever disconnects."""
    ada.connect("acme")
    bob.connect("acme")
    shared = good(ada.disconnect("acme"))
    ada.connect("acme", account="linus")
    product.stand_in.fault("revoke", "status", status=503)
    failed = good(ada.disconnect("acme"))
    assert shared == failed == {"service": "google", "revocation": "not_revoked", "access_until": None}


def test_already_dead_is_revoked(product, ada):
    ada.connect("acme")
    product.stand_in.revoke_grant("ada")
    assert good(ada.disconnect("acme"))["revocation"] == "revoked"


def test_other_accounts_are_not_shared(product, ada, bob):
    ada.connect("acme")
    bob.connect("acme", account="grace")
    assert good(ada.disconnect("acme"))["revocation"] == "revoked"
    assert good(bob.validate("acme"))["is_valid"] is True


def test_names_too_many_do_no_harm(product, ada, bob):
    """A name that was left by somebody who died on the way keeps nothing from being revoked, and goes."""
    ada.connect("acme")
    grant, = members(product)
    product.redis.sadd(grant, "acme:ghost:google", "not a name", "acme:bob:google")
    bob.connect("acme", account="grace")  # he has another account now
    assert good(ada.disconnect("acme"))["revocation"] == "revoked"
    assert "acme:ghost:google" not in product.redis.smembers(grant)


@pytest.mark.parametrize("name", ["acme:b{b}:google", "ac me:bob:google", "acme:bob:Goo gle", "acme:bob:google:x", "*:*:*", "::",
                                  "acme:bob:"])
def test_names_that_are_no_names_become_no_keys(product, ada, name):
    ada.connect("acme")
    (grant,) = members(product)
    product.redis.sadd(grant, name)
    with watched(product) as commands:
        assert good(ada.disconnect("acme"))["revocation"] == "revoked"
    organization, rest = name.split(":", 1)
    assert not [words for words in commands if any(word.startswith((f"integration:{{{organization}:{rest.split(':', 1)[0]}}}",
                                                                    f"credential:{{{organization}:{rest.split(':', 1)[0]}}}"))
                                                   for word in words[1:2])]


def test_a_damaged_record_still_counts(product, ada, bob):
    """Its tokens may be somebody's access: too careful rather than too bold."""
    ada.connect("acme")
    bob.connect("acme")
    product.redis.delete(key("credential", "bob"))
    assert good(ada.disconnect("acme"))["revocation"] == "not_revoked"


def test_nobody_can_tell_whose_it_is(product, ada, bob):
    """The record has lost its account: who shares the grant cannot be looked up."""
    ada.connect("acme")
    bob.connect("acme")
    product.redis.hdel(key("integration", "ada"), "oauth_user_id")
    assert good(ada.disconnect("acme"))["revocation"] == "not_revoked"
    assert good(bob.validate("acme"))["is_valid"] is True


def test_replacing_lets_go_as_disconnecting_does(product, ada, bob):
    ada.connect("acme")
    ada.connect("acme", account="grace", replace="true")
    assert live(product, "ada") == 0
    bob.connect("acme", account="grace")
    ada.connect("acme", account="linus", replace="true")
    assert live(product, "grace") == 2 and good(bob.validate("acme"))["is_valid"] is True
    ada.connect("globex", account="linus")
    ada.connect("acme", account="ada", replace="true")
    assert live(product, "linus") == 2 and good(ada.validate("globex"))["is_valid"] is True
    wait_until(lambda: [entry["outcome"] for entry in entries(product) if entry["event"] == "replaced"] ==
               ["revoked", "not_revoked", "kept_shared"], "the audit says what became of each grant")


# Somebody connects while the last connection that shares the grant is disconnected


def test_no_more_calls_when_nothing_overlaps(product, ada, bob):
    """Connecting right after a disconnect is an ordinary connect."""
    for _ in range(3):
        ada.connect("acme")
        assert good(ada.disconnect("acme"))["revocation"] == "revoked"
    bob.connect("acme")
    assert calls(product)["refreshes"] == 0


@pytest.mark.parametrize("after", [False, True])
def test_connected_while_the_revocation_is_under_way(product, ada, bob, after):
    """The provider gave the tokens before the revocation came into force: they are dead, and that is found out."""
    ada.connect("acme")
    document = bob.authorize("acme")
    hold = product.stand_in.fault("exchange" if after else "revoke", "hold", after=after)
    if after:  # the exchange is done and its answer on the way; the disconnect runs from end to end
        connecting = Later(bob.callback, "acme", document)
        product.stand_in.wait_fired(hold)
        assert good(ada.disconnect("acme"))["revocation"] == "revoked"
        product.stand_in.release(hold)
    else:  # the disconnect found nobody else and asks for the revocation; bob connects meanwhile
        disconnecting = Later(ada.disconnect, "acme")
        product.stand_in.wait_fired(hold)
        connecting = Later(bob.callback, "acme", document)
        wait_until(lambda: is_stored(product, "bob"), "bob's connection is stored")
        product.stand_in.release(hold)
        assert good(disconnecting.answer())["revocation"] == "revoked"
    problem(connecting.answer(), 409, "reconnect_required")
    record, = bob.list("acme")
    assert (record["status"], record["status_reason"]) == ("invalid", "grant_revoked")
    assert live(product, "ada") == 0
    bob.connect("acme")
    assert good(bob.validate("acme"))["is_valid"] is True
    assert [set(names) for names in members(product).values()] == [{"acme:bob:google"}]


def test_connected_while_a_revocation_fails(product, ada, bob):
    """The grant lives on: the connection is an ordinary one, by one refresh."""
    ada.connect("acme")
    document = bob.authorize("acme")
    hold = product.stand_in.fault("revoke", "hold")
    product.stand_in.fault("revoke", "status", status=503)
    disconnecting = Later(ada.disconnect, "acme")
    product.stand_in.wait_fired(hold)
    connecting = Later(bob.callback, "acme", document)
    wait_until(lambda: is_stored(product, "bob"), "bob's connection is stored")
    product.stand_in.release(hold)
    assert good(disconnecting.answer())["revocation"] == "not_revoked"
    assert good(connecting.answer())["integration"]["status"] == "valid"
    assert calls(product)["refreshes"] == 1
    assert good(bob.validate("acme"))["is_valid"] is True


def test_connected_while_nobody_can_tell(product, ada, bob):
    """No answer to the revocation: it may still come into force, so the new connection is not called valid."""
    ada.connect("acme")
    document = bob.authorize("acme")
    hold = product.stand_in.fault("revoke", "hold")
    disconnecting = Later(ada.disconnect, "acme")
    product.stand_in.wait_fired(hold)
    connecting = Later(bob.callback, "acme", document)
    assert good(disconnecting.answer())["revocation"] == "not_revoked"
    record = good(connecting.answer())["integration"]
    assert (record["status"], record["status_reason"]) == ("unknown", "provider_unreachable")
    assert bob.list("acme") == [record]
    product.stand_in.release(hold)
    assert good(bob.validate("acme"))["is_valid"] is True, "the provider had dropped the request after all"


def test_connected_again_while_the_own_grant_is_revoked(product, ada):
    """The same person, in two windows."""
    ada.connect("acme")
    document = ada.authorize("acme")
    hold = product.stand_in.fault("revoke", "hold")
    disconnecting = Later(ada.disconnect, "acme")
    product.stand_in.wait_fired(hold)
    connecting = Later(ada.callback, "acme", document)
    wait_until(lambda: is_stored(product, "ada"), "the new connection is stored")
    product.stand_in.release(hold)
    assert good(disconnecting.answer())["revocation"] == "revoked"
    problem(connecting.answer(), 409, "reconnect_required")
    assert [record["status"] for record in ada.list("acme")] == ["invalid"]
    problem(Caller(product).token("ada"), 409, "reconnect_required")


def test_a_refused_exchange_kills_no_connect(product, ada, bob):
    """ada chose the wrong account, so its tokens are revoked; bob connects that account at this moment."""
    ada.connect("acme", account="grace")
    mine, his = ada.authorize("acme", account="ada"), bob.authorize("acme", account="ada")
    hold = product.stand_in.fault("revoke", "hold")
    refused = Later(ada.callback, "acme", mine)
    product.stand_in.wait_fired(hold)
    connecting = Later(bob.callback, "acme", his)
    wait_until(lambda: is_stored(product, "bob"), "bob's connection is stored")
    product.stand_in.release(hold)
    problem(refused.answer(), 409, "account_mismatch")
    problem(connecting.answer(), 409, "reconnect_required")
    assert [record["status"] for record in bob.list("acme")] == ["invalid"]


def begin_another_revocation(product, person):
    """Of ada's grant: somebody chose her account by mistake, and what was granted to them is taken back."""
    person.connect("acme", account="grace")
    document = person.authorize("acme", account="ada")
    return lambda: Later(person.callback, "acme", document)


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_revocations_overlap(product, ada, bob, somebody, first_to_end):
    """One of them fails, and is over. The other is still under way: who connects then waits for that one, too."""
    ada.connect("acme")
    begin = [lambda: Later(ada.disconnect, "acme"), begin_another_revocation(product, bob)]
    holds, running = [], []
    for number, start in enumerate(begin):
        holds.append(product.stand_in.fault("revoke", "hold"))
        if number == first_to_end:
            product.stand_in.fault("revoke", "status", status=503)
        running.append(start())
        product.stand_in.wait_fired(holds[number])
    name, = product.redis.keys("integrations:revoking:*")
    both = product.redis.get(name)
    product.stand_in.release(holds[first_to_end])
    running[first_to_end].answer()
    wait_until(lambda: product.redis.get(name) != both, "its end is noted")
    carol = somebody("acme")
    connecting = Later(carol.callback, "acme", carol.authorize("acme"))
    wait_until(lambda: is_stored(product, carol.user), "carol's connection is stored")
    product.stand_in.release(holds[1 - first_to_end])
    running[1 - first_to_end].answer()
    problem(connecting.answer(), 409, "reconnect_required")
    assert [record["status"] for record in carol.list("acme")] == ["invalid"]
    assert live(product, "ada") == 0
    wait_until(lambda: product.redis.get(name) == "over", "both are over")
    assert carol.connect("acme")["status"] == "valid" and calls(product)["refreshes"] == 1


@pytest.mark.parametrize("others, left", [(" another", " another"), (None, "another")], ids=["began before", "not named any more"])
def test_the_end_of_one_revocation(cluster, others, left):
    """It says nothing about another one, and does not prolong what is known of that."""
    person = Person(cluster, "one-of-two")
    person.connect()
    hold = person.fault("revoke", "hold")
    disconnecting = Later(person.session.disconnect, "acme", host=1)
    cluster.product.stand_in.wait_fired(hold)
    name, = cluster.redis.keys("integrations:revoking:*")
    cluster.redis.set(name, others + cluster.redis.get(name) if others else left, px=9_000)
    ended = cluster.proxy.hold("revoking_over", after=True, pid=cluster.worker(1))
    cluster.product.stand_in.release(hold)
    ended.wait()
    assert cluster.redis.get(name) == left and 0 < cluster.redis.pttl(name) <= 9_000
    ended.release()
    assert good(disconnecting.answer())["revocation"] == "revoked"
