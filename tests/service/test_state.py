"""The one-time state: whoever did not begin a flow cannot end it, and nobody ends one twice."""

import base64
import concurrent.futures
import hashlib
import secrets

import pytest

from checks import alike, calls, is_stored, live, only
from harness import SERVICE, good, problem


@pytest.fixture
def ada(duo):
    return duo.session("ada", {"acme": "admin", "globex": "member"}, sid="login-of-ada")


def refused(answer):
    problem(answer, 400, "state_invalid")
    return alike(answer)


def row(document):
    return "oauth_state:" + hashlib.sha256(document["state"].encode()).hexdigest()


# Who posts a state that somebody else began: (begun by, posted by, organization, service)


def other_login(duo, ada):
    return ada, duo.session("ada", {"acme": "admin", "globex": "member"}, sid="another-login"), "acme", SERVICE


def login_without_sid(duo, ada):
    return ada, duo.session("ada", {"acme": "admin"}), "acme", SERVICE


def other_token_without_sid(duo, ada):
    return duo.session("ada", {"acme": "admin"}), duo.session("ada", {"acme": "admin"}), "acme", SERVICE


def sid_that_looks_like_a_token(duo, ada):
    begun = duo.session("ada", {"acme": "admin"})
    hashed = duo.session_key(begun.token).removeprefix("session:")
    return begun, duo.session("ada", {"acme": "admin"}, sid=hashed), "acme", SERVICE


def sid_that_looks_like_a_binding(duo, ada):
    begun = duo.session("ada", {"acme": "admin"})
    hashed = duo.session_key(begun.token).removeprefix("session:")
    return begun, duo.session("ada", {"acme": "admin"}, sid=f"token:{hashed}"), "acme", SERVICE


def two_empty_sids(duo, ada):
    """An empty sid names no login: else all that have one would be the same."""
    duo.redis.hset(duo.session_key(ada.token), "sid", "")
    return ada, duo.session("ada", {"acme": "member", "globex": "member"}, sid=""), "acme", SERVICE


def other_user(duo, ada):
    return ada, duo.session("bob", {"acme": "member"}, sid="login-of-bob"), "acme", SERVICE


def other_user_of_the_same_sid(duo, ada):
    return ada, duo.session("bob", {"acme": "member"}, sid="login-of-ada"), "acme", SERVICE


def other_organization(duo, ada):
    return ada, ada, "globex", SERVICE


def other_service(duo, ada):
    return ada, ada, "acme", "plain"


def cookie_then_bearer(duo, ada):
    return ada, ada.bearer(), "acme", SERVICE


def bearer_then_cookie(duo, ada):
    return ada.bearer(), ada, "acme", SERVICE


FOREIGN = [other_login, login_without_sid, other_token_without_sid, sid_that_looks_like_a_token,
           sid_that_looks_like_a_binding, two_empty_sids, other_user, other_user_of_the_same_sid, other_organization, other_service,
           cookie_then_bearer, bearer_then_cookie]


@pytest.mark.parametrize("case", FOREIGN, ids=lambda case: case.__name__)
def test_a_foreign_state(duo, ada, case):
    """Refused as an unknown one is, spent by that, and the code stays with us."""
    begun, poster, organization, service = case(duo, ada)
    unknown = refused(poster.callback(organization, {"code": "4/0AMARKER", "state": "A" * 43 + ".acme"}, service))
    document = begun.authorize("acme")
    assert duo.redis.exists(row(document))
    assert refused(poster.callback(organization, document, service)) == unknown
    assert not duo.redis.exists(row(document))
    assert refused(begun.callback("acme", document)) == unknown
    assert calls(duo) == only()
    assert not any(is_stored(duo, user, where, what) for user in ("ada", "bob") for where in ("acme", "globex")
                   for what in (SERVICE, "plain"))
    outcomes = [entry["outcome"] for _, entry in duo.redis.xrange("events:{acme}") + duo.redis.xrange("events:{globex}")
                if entry["event"] == "state_refused"]
    assert sorted(outcomes) == ["foreign", "unknown", "unknown"]


def test_the_same_login_with_a_new_token(duo, ada):
    document = ada.authorize("acme")
    duo.redis.delete(duo.session_key(ada.token))
    rotated = duo.session("ada", {"acme": "admin"}, sid="login-of-ada")
    good(rotated.callback("acme", document))


def test_the_same_token_without_a_sid(duo):
    plain = duo.session("ada", {"acme": "admin"})
    good(plain.callback("acme", plain.authorize("acme")))


def test_by_bearer_alone(duo, ada):
    good(ada.bearer().callback("acme", ada.bearer().authorize("acme")))


def test_a_used_state(duo, ada):
    document = ada.authorize("acme")
    good(ada.callback("acme", document))
    before = duo.stored()
    unknown = refused(ada.callback("acme", {"code": "4/0AMARKER", "state": "A" * 43 + ".acme"}))
    assert refused(ada.callback("acme", document)) == unknown
    assert calls(duo) == only(exchanges=1)
    after = duo.stored()
    assert {name: after[name] for name in before if not name.startswith("events:")} == \
        {name: before[name] for name in before if not name.startswith("events:")}


def test_an_expired_state(duo, ada):
    document = ada.authorize("acme")
    assert 590_000 < duo.redis.pttl(row(document)) <= 600_000
    duo.redis.pexpire(row(document), 1)
    duo.stand_in.wait_for(lambda _: not duo.redis.exists(row(document)))
    refused(ada.callback("acme", document))
    assert calls(duo) == only()


def test_what_is_no_state(duo, ada):
    """Invented and malformed ones get the answer of a spent one, and spend nothing."""
    document = ada.authorize("acme")
    state = document["state"]
    secret, suffix = state[:43], state[43:]
    assert suffix == ".acme" and len(base64.urlsafe_b64decode(secret + "=")) == 32
    wrong = ["", ".", "acme", secret, secret + ".", secret + ".globex", secret + ".acme2", secret + ".acm", secret + ".ACME", secret + ":acme",
             secret[:-1] + suffix, secret + "A" + suffix, "A" + secret + suffix, secret.swapcase() + suffix, secret[:-1] + "=" + suffix,
             secret[:-1] + "+" + suffix, " " + state, state + " ", state + "\n", state + "\0", state + "é", "\ufeff" + state, state + suffix,
             secret + ".{acme}", secret + ".acme:ada", secret + ".*", secret + "." + "a" * 65, state * 200, "*", "oauth_state:*", row(document),
             secrets.token_urlsafe(32) + ".acme", "A" * 43 + ".acme", "A" * 43 + ".no-such-organization"]
    answers = [alike(ada.callback("acme", {**document, "state": each})) for each in wrong if "\0" not in each]
    assert set(map(str, answers)) == {str(refused(ada.callback("acme", {**document, "state": "A" * 43 + ".acme"})))}
    assert calls(duo) == only()
    good(ada.callback("acme", document))


def test_an_error_spends_the_state_too(duo, ada):
    document = ada.authorize("acme")
    problem(ada.callback("acme", {"error": "access_denied", "state": document["state"]}), 400, "consent_declined")
    refused(ada.callback("acme", document))
    assert calls(duo) == only()


def test_an_error_with_a_foreign_state(duo, ada):
    bob = duo.session("bob", {"acme": "member"}, sid="login-of-bob")
    document = ada.authorize("acme")
    for error in ("access_denied", "server_error"):
        refused(bob.callback("acme", {"error": error, "state": document["state"]}))
    problem(bob.callback("acme", {"error": "access_denied"}), 400, "consent_declined")
    problem(bob.callback("acme", {"error": "<script>"}), 400, "authorization_failed")


def test_fifty_posts_of_one_callback(duo, ada):
    """One exchange, one success; the others are told what a spent state is told."""
    document = ada.authorize("acme")
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: ada.callback("acme", document), range(50)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] + [400] * 49
    assert {problem(answer, 400, "state_invalid")["code"] for answer in answers if answer.status_code == 400} == {"state_invalid"}
    counters = duo.stand_in.counters()
    assert (counters["exchanges"], counters["exchanges_ok"], counters["code_reuses"]) == (1, 1, 0)
    assert live(duo, "ada") == 1
    assert good(ada.validate("acme"))["is_valid"] is True


def test_states_are_stored_by_hash_and_sealed(duo, ada):
    document = ada.authorize("acme")
    duo.scanner.record(document["state"].split(".")[0], "a state")
    stored = duo.redis.hgetall(row(document))
    assert (stored["organization"], stored["user"], stored["service"]) == ("acme", "ada", "google")
    assert "k1" in stored["code_verifier"] and "k1" in stored["nonce"]  # the id of the key that seals
    good(ada.callback("acme", document))


def test_swapped_secrets_of_states_do_not_open(duo, ada):
    """A verifier from another user's flow, or another field, is none."""
    bob = duo.session("bob", {"acme": "member"}, sid="login-of-bob")
    for field, source in (("code_verifier", "code_verifier"), ("nonce", "nonce"), ("nonce", "code_verifier"), ("code_verifier", "nonce")):
        mine, other = ada.authorize("acme"), bob.authorize("acme")
        origin = other if field == source else mine
        duo.redis.hset(row(mine), field, duo.redis.hget(row(origin), source))
        refused(ada.callback("acme", mine))
    assert calls(duo) == only()


def test_at_most_twenty_live_states(duo, ada):
    """For each user and organization; the oldest makes room, and a used one frees its place."""
    documents = [ada.authorize("acme") for _ in range(20)]
    elsewhere = [ada.authorize("globex"), duo.session("bob", {"acme": "member"}).authorize("acme")]
    assert len(duo.redis.keys("oauth_state:*")) == 22
    good(ada.callback("acme", documents[7]))
    documents.append(ada.authorize("acme"))
    assert all(duo.redis.exists(row(each)) for each in documents if each is not documents[7])
    documents.append(ada.authorize("acme"))
    assert not duo.redis.exists(row(documents[0]))
    refused(ada.callback("acme", documents[0]))
    assert all(duo.redis.exists(row(each)) for each in (*documents[1:7], *documents[8:], *elsewhere))
    good(ada.callback("acme", documents[1]))
    good(ada.callback("globex", elsewhere[0]))


def test_names_that_are_no_hashes_become_no_keys(duo, ada):
    names = ["x", "", "A" * 64, "0" * 63, "0" * 65, "0" * 64]
    for name in names:
        duo.redis.set(f"oauth_state:{name}", "x")
    live = {name: 1e18 + number * 1e6 for number, name in enumerate(names + [f"l{number}" for number in range(20)])}
    duo.redis.zadd("integrations:states:{acme:ada}", live)
    ada.begin("acme")
    assert [name for name in names if not duo.redis.exists(f"oauth_state:{name}")] == ["0" * 64]


def test_a_changed_provider_file(make_product):
    """A flow that was begun with another issuer or another client id is over."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})
    first, second = ada.authorize("acme"), ada.authorize("acme")
    product.write_provider(issuer="https://other.example")
    product.reload()
    refused(ada.callback("acme", first))
    product.write_provider()
    product.serve.environment["GOOGLE_CLIENT_ID"] = "stand-in-second.apps.googleusercontent.com"
    product.hosts[0].restart()
    refused(ada.callback("acme", second))
    assert calls(product) == only()


def test_who_left_the_organization_cannot_end_a_flow(duo, ada):
    document = ada.authorize("acme")
    duo.redis.hdel(duo.session_key(ada.token), "org:acme")
    problem(ada.callback("acme", document), 403, "organization_forbidden")
    assert calls(duo) == only()


def test_a_removed_member(duo, ada):
    """The tombstone refuses new flows, and those under way in their last step; their tokens are revoked."""
    document = ada.authorize("acme")
    duo.redis.set("removed:{acme:ada}", "1")
    forbidden = alike(ada.integrations("initech"))
    assert alike(ada.auth_link("acme")) == forbidden
    assert alike(ada.callback("acme", document)) == forbidden
    assert not is_stored(duo, "ada")
    assert duo.stand_in.counters()["exchanges_ok"] == 1 and live(duo, "ada") == 0
    good(ada.auth_link("globex"))
    duo.redis.delete("removed:{acme:ada}")
    ada.connect("acme")
