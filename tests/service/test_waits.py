"""Too many wait for a provider that stalls: those beyond a bound are told at once, and who needs no provider sees nothing of it."""

import time

import pytest

from checks import key, make_due, metric, wait_in_flight
from cluster import Later
from harness import Product, good, problem, wait_until
from programs import Caller, sha256

CONNECTION, CALLER = 32, 128  # fcgi/waits.h
ROOM = 8  # MAX_IN_FLIGHT of `small`
SHARE = 6  # of it


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("waits"), workers=1, environment={"LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0"})
    product.start()
    yield product
    product.stop()


@pytest.fixture
def single(one_worker):
    one_worker.forget()
    return one_worker


@pytest.fixture(scope="module")
def small_worker(tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("small"), workers=1, environment={"MAX_IN_FLIGHT": str(ROOM), "LIMIT_VALIDATE": "0"})
    product.start()
    yield product
    product.stop()


@pytest.fixture
def small(small_worker):
    small_worker.forget()
    return small_worker


def member(product, user):
    session = product.session(user, {"acme": "member"})
    session.connect("acme")
    make_due(product, user)
    return session


def refused(answer):
    """At once, and when to come again."""
    problem(answer, 503, "overloaded")
    assert answer.headers["Retry-After"] == "1"
    assert answer.elapsed.total_seconds() < 1
    return answer


def of_reason(product, reason):
    return metric(product, f'integrations_provider_waits_refused_total{{reason="{reason}"}}')


def ended(product, hold, waiting):
    """Let the provider answer: what those who waited got, when none of them is left."""
    product.stand_in.release(hold)
    answers = [each.answer() for each in waiting]
    wait_until(lambda: metric(product, "integrations_http_requests_in_flight") == 1, "all have ended")
    return answers


def test_one_connection(single):
    """More than once, so that every place was given back."""
    ada, bob = member(single, "ada"), single.session("bob", {"globex": "member"})
    caller = Caller(single)
    before = of_reason(single, "connection")
    for number in range(1, 4):
        make_due(single, "ada")
        hold = single.stand_in.fault("refresh", "hold")
        waiting = [Later(caller.token, "ada") for _ in range(CONNECTION)]
        wait_in_flight(single, CONNECTION)
        for _ in range(3):
            refused(caller.token("ada"))
            refused(Caller(single, name="another").token("ada"))
        refused(ada.validate("acme"))
        assert bob.list("globex") == []
        answers = ended(single, hold, waiting)
        assert len({good(answer)["access_token"] for answer in answers}) == 1
        assert of_reason(single, "connection") == before + 7 * number
    assert single.stand_in.counters()["refreshes"] == 3


def test_a_worker_that_waits_for_another(single):
    """Another process has the lease: a request that polls for its end waits as well."""
    member(single, "ada")
    caller = Caller(single)
    single.redis.set(key("refresh_lease", "ada"), "somebody else", px=20000)
    waiting = [Later(caller.token, "ada") for _ in range(CONNECTION)]
    wait_in_flight(single, CONNECTION)
    refused(caller.token("ada"))
    single.redis.delete(key("refresh_lease", "ada"))
    assert len({good(each.answer())["access_token"] for each in waiting}) == 1


def test_a_token_that_is_still_good(single):
    """It is due, and who finds a place waits for a new one; the others have it as it is, with a word why."""
    member(single, "ada")
    caller = Caller(single)
    now = int(time.time())
    single.redis.hset(key("credential", "ada"), mapping={"issued_at": now - 3500, "expires_at": now + 100})
    hold = single.stand_in.fault("refresh", "hold")
    waiting = [Later(caller.token, "ada") for _ in range(CONNECTION)]
    wait_in_flight(single, CONNECTION)
    answer = caller.token("ada")
    stored = good(answer)
    assert stored["warning"] == "overloaded" and answer.elapsed.total_seconds() < 1
    refused(caller.token("ada", json={"refused": sha256(stored["access_token"])}))
    fresh, = {good(each)["access_token"] for each in ended(single, hold, waiting)}
    assert fresh != stored["access_token"]


def test_the_gateway(single):
    member(single, "ada")
    teammate = single.session("ada", {"acme": "member"}, via="bearer", use="gateway", mcps="gmail")
    caller = Caller(single)
    hold = single.stand_in.fault("refresh", "hold")
    waiting = [Later(caller.token, "ada") for _ in range(CONNECTION)]
    wait_in_flight(single, CONNECTION)
    refused(teammate.get("/mcp/acme/gmail"))
    ended(single, hold, waiting)


def test_one_caller(single):
    """Of many members, so that no connection's bound is reached."""
    people = [f"u{number}" for number in range(CALLER // CONNECTION * 2)]
    for user in (*people, "late"):
        member(single, user)
    caller, another = Caller(single), Caller(single, name="another")
    hold = single.stand_in.fault("refresh", "hold", times=None)
    waiting = [Later(caller.token, people[number % len(people)]) for number in range(CALLER)]
    wait_in_flight(single, CALLER)
    before = of_reason(single, "caller")
    refused(caller.token("late"))
    assert of_reason(single, "caller") == before + 1
    waiting.append(Later(another.token, "late"))
    single.stand_in.wait_fired(hold, len(people) + 1)
    for answer in ended(single, hold, waiting):
        good(answer)


def test_one_session(single):
    """Of one member, in many organizations."""
    organizations = [f"o{number}" for number in range(CALLER // CONNECTION * 2 + 1)]
    ada = single.session("ada", dict.fromkeys(organizations, "member"))
    for organization in organizations:
        ada.connect(organization)
    *asked, late = organizations
    hold = single.stand_in.fault("userinfo", "hold", times=None)
    waiting = [Later(ada.validate, asked[number % len(asked)]) for number in range(CALLER)]
    wait_in_flight(single, CALLER)
    refused(ada.validate(late))
    refused(ada.disconnect(late))
    another = single.session("ada", dict.fromkeys(organizations, "member"))
    waiting.append(Later(another.validate, late))
    single.stand_in.wait_fired(hold, len(organizations))
    for answer in ended(single, hold, waiting):
        assert good(answer)["is_valid"]


def test_a_member_is_not_kept_from_leaving(single):
    """Programs hold every place of the connection; the member disconnects, and connects anew, all the same."""
    ada = member(single, "ada")
    caller = Caller(single)
    hold = single.stand_in.fault("refresh", "hold")
    waiting = [Later(caller.token, "ada") for _ in range(CONNECTION)]
    wait_in_flight(single, CONNECTION)
    refused(caller.token("ada"))
    assert good(ada.disconnect("acme"))["revocation"] == "revoked"
    ada.connect("acme")
    ended(single, hold, waiting)


def test_the_share_of_a_worker(small):
    """All places are taken: nothing is changed that cannot be finished, and what needs no provider goes on."""
    everybody = [member(small, f"u{number}") for number in range(SHARE)]
    ada, new = member(small, "ada"), small.session("new", {"acme": "member"})
    document = new.authorize("acme")
    before = of_reason(small, "all")
    hold = small.stand_in.fault("userinfo", "hold", times=None)
    waiting = [Later(each.validate, "acme") for each in everybody]
    small.stand_in.wait_fired(hold, SHARE)
    refused(ada.validate("acme"))
    refused(ada.disconnect("acme"))
    refused(new.callback("acme", document))
    assert of_reason(small, "all") == before + 3
    assert len(ada.list("acme")) == 1
    assert small.stand_in.counters()["exchanges"] == SHARE + 1
    for answer in ended(small, hold, waiting):
        assert good(answer)["is_valid"]
    assert good(new.callback("acme", document))["integration"]["status"] == "valid"
    assert good(ada.validate("acme"))["is_valid"] and good(ada.disconnect("acme"))["revocation"]


def test_a_request_that_is_given_up(small):
    """It has no memory left to go on with, and gives its place back."""
    ada = member(small, "ada")
    scopes = small.redis.hget(key("integration", "ada"), "scopes")
    small.redis.hset(key("integration", "ada"), "scopes", " ".join(f"s{number:08d}" for number in range(70_000)))
    for _ in range(SHARE + 1):
        problem(ada.validate("acme"), 503, "overloaded")
    wait_until(lambda: sum(line["event"] == "memory_exhausted" for line in small.log()) == SHARE + 1, "each of them is logged")
    small.redis.hset(key("integration", "ada"), "scopes", scopes)
    assert good(ada.validate("acme"))["is_valid"]
