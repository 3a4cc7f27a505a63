"""Disconnecting forgets first; it revokes only what no other connection uses, and says nothing about other people."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import alike, calls, fingerprint, is_stored, key, live, make_due, only
from harness import SANITIZED, good, problem


@pytest.fixture
def ada(duo):
    ada = duo.session("ada", {"acme": "admin", "globex": "member"}, sid="login-of-ada")
    ada.connect("acme")
    return ada


@pytest.fixture
def bob(duo):
    return duo.session("bob", {"acme": "member", "globex": "member"}, sid="login-of-bob")


def revocation(answer):
    body = good(answer)
    assert set(body) == {"service", "revocation", "access_until"} and body["service"] in ("google", "plain")
    return body["revocation"]


def test_revoked(duo, ada):
    (token,) = [token for token in duo.stand_in.ledger()["refresh_tokens"] if token["live"]]
    assert revocation(ada.disconnect("acme")) == "revoked"
    assert not is_stored(duo, "ada") and live(duo, "ada") == live(duo, "ada", "access") == 0
    (request,) = duo.stand_in.requests("revoke")
    assert request["form"] == [["token", f"sha256:{token['fingerprint']}"], ["client_id", duo.stand_in.client_id],
                               ["client_secret", f"sha256:{fingerprint(open(duo.stand_in.client_secret_file, encoding='utf-8').read().strip())}"]]
    assert duo.redis.keys("grant:*") == []


def test_twice(duo, ada):
    assert revocation(ada.disconnect("acme")) == "revoked"
    before = calls(duo)
    never = duo.session("carol", {"acme": "member"})
    assert alike(ada.disconnect("acme")) == alike(never.disconnect("acme"))
    problem(ada.disconnect("acme"), 404, "integration_not_found")
    assert calls(duo) == before


def test_at_once(duo, ada):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ada.disconnect("acme"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * 7
    assert calls(duo)["revokes"] == 1 and calls(duo)["revokes_refused"] == 0


def test_already_dead(duo, ada):
    """The provider says so: that is as good."""
    duo.stand_in.revoke_grant("ada")
    assert revocation(ada.disconnect("acme")) == "revoked"
    assert duo.stand_in.counters()["revokes_refused"] == 1


def test_an_invalid_connection(duo, ada):
    duo.stand_in.revoke_grant("ada")
    assert good(ada.validate("acme"))["integration"]["status"] == "invalid"
    assert revocation(ada.disconnect("acme")) == "revoked"
    assert not is_stored(duo, "ada")


@pytest.mark.parametrize("organization, service", [("globex", "google"), ("acme", "plain"), ("globex", "plain")])
def test_kept_for_another_connection_of_the_same_user(duo, ada, organization, service):
    ada.connect(organization, service=service)
    assert revocation(ada.disconnect("acme")) == "kept_shared"
    assert calls(duo)["revokes"] == 0 and not is_stored(duo, "ada")
    assert good(ada.validate(organization, service=service))["is_valid"] is True
    assert revocation(ada.disconnect(organization, service=service)) == "revoked"
    assert live(duo, "ada") == 0


def test_another_user_of_the_grant(duo, ada, bob):
    """Not revoked; the answer is the one of a provider that fails, so that it says nothing about other people."""
    bob.connect("acme", account="ada")
    answer = ada.disconnect("acme")
    assert revocation(answer) == "not_revoked"
    assert calls(duo)["revokes"] == 0
    assert good(bob.validate("acme"))["is_valid"] is True

    ada.connect("acme", account="linus")
    duo.stand_in.fault("revoke", "status", status=503)
    assert alike(ada.disconnect("acme")) == alike(answer)
    assert revocation(bob.disconnect("acme")) == "revoked"


def test_both_the_same_user_and_another(duo, ada, bob):
    ada.connect("globex")
    bob.connect("acme", account="ada")
    assert revocation(ada.disconnect("acme")) == "kept_shared"
    assert revocation(ada.disconnect("globex")) == "not_revoked"
    assert revocation(bob.disconnect("acme")) == "revoked"


def test_a_namesake_of_another_provider_shares_nothing(duo, ada, bob):
    """The same account id of another issuer is another grant, also where this one's set still names it."""
    bob.connect("acme", account="ada")
    duo.redis.hset(key("credential", "ada"), "issuer", "https://other.example")
    assert revocation(bob.disconnect("acme")) == "revoked"


FAULTS = [("status", {"status": 500}), ("status", {"status": 400}), ("error", {"error": "invalid_request", "status": 400}), ("html", {}), ("redirect", {}),
          ("refuse", {}), ("error", {"error": "invalid_token", "status": 500}), ("raw", {"status": 400, "body": "invalid_token"})]


@pytest.mark.parametrize("kind, options", FAULTS, ids=str)
def test_a_revocation_that_fails(duo, ada, kind, options):
    """The connection is gone all the same."""
    duo.stand_in.fault("revoke", kind, times=None, **options)
    assert revocation(ada.disconnect("acme")) == "not_revoked"
    duo.stand_in.clear_faults()
    assert not is_stored(duo, "ada") and ada.list("acme") == []
    assert duo.stand_in.counters()["elsewhere"] == 0


@pytest.mark.parametrize("size, becomes", [(40_000, "revoked"), (80_000, "not_revoked")])
def test_how_long_the_headers_of_an_answer_may_be(duo, ada, size, becomes):
    """64 KiB; of this answer the status alone counts."""
    ada.connect("acme")
    number = duo.stand_in.fault("revoke", "big_headers", size=size)
    assert revocation(ada.disconnect("acme")) == becomes
    duo.stand_in.wait_fired(number)


def test_a_provider_that_is_down_or_slow(duo, ada, bob):
    """DELETE succeeds, within 4 seconds."""
    duo.stand_in.listen(False)
    assert revocation(ada.disconnect("acme")) == "not_revoked"
    duo.stand_in.listen(True)
    bob.connect("acme", account="grace")
    hold = duo.stand_in.fault("revoke", "hold")
    began = time.monotonic()
    assert revocation(bob.disconnect("acme")) == "not_revoked"
    assert time.monotonic() - began < 4 or SANITIZED
    duo.stand_in.release(hold)
    assert not is_stored(duo, "ada") and not is_stored(duo, "bob")


def test_what_cannot_be_read_is_forgotten_and_sent_nowhere(duo, ada):
    for spoil in ({"refresh_token": "garbage"}, {"client_id": "another"}, {"issuer": "https://other.example"}):
        ada.connect("acme")
        duo.redis.hset(key("credential", "ada"), mapping=spoil)
        before = calls(duo)
        assert revocation(ada.disconnect("acme")) == "not_revoked"
        assert calls(duo) == before and not is_stored(duo, "ada")
    assert calls(duo) == only(exchanges=4)


def test_access_until(duo, ada):
    """When the last token that a program has ends; null after a revocation, and once that time is over."""
    duo.redis.hset(key("credential", "ada"), "handed_out_until", 4_000_000_000)
    assert good(ada.disconnect("acme"))["access_until"] is None
    ada.connect("acme")
    duo.redis.hset(key("credential", "ada"), "handed_out_until", 4_000_000_000)
    duo.stand_in.fault("revoke", "html")
    assert good(ada.disconnect("acme")) == {"service": "google", "revocation": "not_revoked", "access_until": "2096-10-02T07:06:40Z"}
    ada.connect("acme")
    duo.redis.hset(key("credential", "ada"), "handed_out_until", 1_000_000_000)
    duo.stand_in.fault("revoke", "html")
    assert good(ada.disconnect("acme"))["access_until"] is None


def test_a_connection_is_new_after_a_disconnect(duo, ada):
    first = ada.list("acme")[0]
    ada.disconnect("acme")
    second = ada.connect("acme")
    assert second["id"] != first["id"] and second["oauth_user_id"] == first["oauth_user_id"]


def test_a_reconnection_meanwhile(duo, ada):
    """Begun before the DELETE and ended after it: it is a new connection, and works."""
    document = ada.authorize("acme")
    ada.disconnect("acme")
    record = good(ada.callback("acme", document))["integration"]
    assert ada.list("acme") == [record]


def test_a_shared_grant_that_is_connected_while_another_disconnects(duo, ada, bob):
    """Whatever the order, who is connected in the end has tokens that work, or is told that they do not."""
    for _ in range(4):
        ada.connect("acme")
        document = bob.authorize("acme", account="ada")
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.submit(ada.disconnect, "acme"), pool.submit(bob.callback, "acme", document)
            assert revocation(one.result()) in ("revoked", "not_revoked")
            other.result()
        if is_stored(duo, "bob"):
            make_due(duo, "bob")
            record = good(bob.validate("acme"))["integration"]
            assert (record["status"] == "valid") == (live(duo, "ada") > 0)
            bob.disconnect("acme")
        assert duo.redis.keys("grant:*") == []
