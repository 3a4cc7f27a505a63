"""The two forms of sealed tokens: what each refuses, fleets that write both, and the way from the first to the second."""

import json
import os
import time

import pytest

from checks import calls, dump, fingerprint, key, make_due
from harness import good, problem, wait_until, write_file
from programs import Caller
from test_rotation import Load, new_line, read

TOKENS = ("access_token", "refresh_token")
FIRST, SECOND = ({"SEAL_VERSION": version, "SEAL_ACCEPT_V1": "1"} for version in "12")
ONLY_SECOND = {"SEAL_VERSION": "2", "SEAL_ACCEPT_V1": "0"}
OLD_DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stored", "first_form.json")


def forms(product, user, organization="acme"):
    """Of both tokens."""
    row = product.redis.hgetall(key("credential", user, organization))
    return {"second" if row[name].split(".")[1] == "2" and row[name].count(".") == 2 else "first" for name in TOKENS}


def restart(product, settings, host=0):
    product.hosts[host].serve.environment.update(settings)
    product.hosts[host].restart()


def rotate(product, settings, **more):
    return product.command("keys", "rotate", environment=settings, **more).stdout


def is_unreadable(session, organization="acme"):
    record = good(session.validate(organization))["integration"]
    return (record["status"], record["status_reason"]) == ("unknown", "tokens_unreadable")


def logged(product, event):
    return [line for line in product.log() if line["event"] == event]


@pytest.fixture(params=["1", "2"])
def product(request, make_product):
    return make_product(environment={"SEAL_VERSION": request.param, "LIMIT_VALIDATE": "0"}, workers=1)


@pytest.fixture
def second(make_product):
    return make_product(environment={"SEAL_VERSION": "2", "LIMIT_VALIDATE": "0"}, workers=1)


@pytest.fixture
def ada(product):
    return product.session("ada", {"acme": "member"})


def test_what_is_written(product, ada):
    """Both tokens in the form of the setting: at a connect, a reconnect, a refresh that keeps the refresh token, a replace."""
    expected = {"1": {"first"}, "2": {"second"}}[product.environment["SEAL_VERSION"]]
    caller = Caller(product)
    ada.connect("acme")
    assert forms(product, "ada") == expected
    ada.connect("acme")
    for _ in range(3):
        make_due(product, "ada")
        caller.fresh("ada")
        assert forms(product, "ada") == expected
    ada.connect("acme", account="grace", replace="true")
    assert forms(product, "ada") == expected
    make_due(product, "ada")
    caller.fresh("ada")
    document = ada.authorize("acme", account="grace")
    (state,) = product.redis.keys("oauth_state:*")
    assert all(product.redis.hget(state, name).count(".") == 1 for name in ("code_verifier", "nonce")), "flows are sealed as before"
    good(ada.callback("acme", document))
    good(ada.disconnect("acme"))
    assert not logged(product, "tokens_unreadable")


def test_an_old_credential_beside_a_replaced_record(product, ada):
    """Put back as Redis had it, it goes out under no other account, nor for an older generation."""
    caller = Caller(product)
    name = key("credential", "ada")
    ada.connect("acme")
    old = [product.redis.dump(name)]
    make_due(product, "ada")
    caller.fresh("ada")
    old.append(product.redis.dump(name))
    ada.connect("acme", account="grace", replace="true")
    for dumped in old:
        product.redis.restore(name, 0, dumped, replace=True)
        asked = calls(product)
        problem(caller.token("ada"), 409, "reconnect_required")
        assert is_unreadable(ada)
        assert calls(product) == asked, "nothing is sent to the provider"
    ada.connect("acme", account="grace")
    assert caller.fresh("ada")["oauth_user_id"] != ""
    assert not is_unreadable(ada)


def test_an_old_credential_with_the_generation_of_the_record(second):
    """The first form cannot tell; the second one does not look at what stands beside it in clear."""
    ada, caller = second.session("ada", {"acme": "member"}), Caller(second)
    ada.connect("acme")
    old = second.redis.hgetall(key("credential", "ada"))
    ada.connect("acme", account="grace", replace="true")
    now, record = (second.redis.hgetall(key(kind, "ada")) for kind in ("credential", "integration"))
    for fields in (TOKENS, TOKENS[:1], TOKENS[1:]):
        second.redis.hset(key("credential", "ada"), mapping={**now, **{name: old[name] for name in fields}})
        problem(caller.token("ada"), 409, "reconnect_required")
    second.redis.hset(key("credential", "ada"), mapping=now)
    good(caller.token("ada"))
    for change in ({"oauth_user_id": "108123000000000000001"}, {"generation": old["generation"]}):
        second.redis.hset(key("integration", "ada"), mapping=change)
        second.redis.hset(key("credential", "ada"), "generation", change.get("generation", now["generation"]))
        problem(caller.token("ada"), 409, "reconnect_required")
        second.redis.hset(key("integration", "ada"), mapping=record)
    second.redis.hset(key("credential", "ada"), mapping=now)
    good(caller.token("ada"))


def test_a_longer_life_by_hand(second):
    """The time in clear makes a token's life shorter, never longer."""
    ada, caller = second.session("ada", {"acme": "member"}), Caller(second)
    ada.connect("acme")
    true_end = caller.fresh("ada")["expires_at"]
    now = int(time.time())
    second.redis.hset(key("credential", "ada"), "expires_at", now + 100_000)
    assert caller.fresh("ada")["expires_at"] == true_end
    for end in ("", "x", "9" * 30):
        second.redis.hset(key("credential", "ada"), mapping={"expires_at": end, "issued_at": now - 100_000})
        caller.fresh("ada")
    second.redis.hset(key("credential", "ada"), mapping={"expires_at": now + 600, "issued_at": now - 600})
    refreshes = calls(second)["refreshes"]
    caller.fresh("ada", minimum_seconds=1000)
    assert calls(second)["refreshes"] == refreshes + 1


def test_an_end_that_has_come(second):
    """A token whose sealed end has come is refreshed, whatever stands beside it."""
    ada, caller = second.session("ada", {"acme": "member"}), Caller(second)
    second.stand_in.fault("exchange", "answer", set={"expires_in": 2})
    ada.connect("acme")
    second.redis.hset(key("credential", "ada"), "expires_at", int(time.time()) + 100_000)
    first = dump(second, "ada")[1]["access_token"]
    wait_until(lambda: good(caller.token("ada")) and dump(second, "ada")[1]["access_token"] != first, "it is refreshed", 10)
    assert calls(second)["refreshes"] == 1


def test_hosts_of_both_forms(make_product):
    """While settings differ every host reads what any host writes, and what it writes is in its own form, whole."""
    product = make_product(hosts=2, environment=FIRST, workers=1)
    restart(product, SECOND, host=1)
    caller = Caller(product)
    product.session("ada", {"acme": "member"}).connect("acme")
    for host in (0, 1, 1, 0, 0, 1):
        make_due(product, "ada")
        token = caller.fresh("ada", host=host)["access_token"]
        assert forms(product, "ada") == ({"second"} if host == 1 else {"first"})
        assert caller.fresh("ada", host=1 - host)["access_token"] == token
    assert not logged(product, "tokens_unreadable")


def test_from_the_first_form_to_the_second(make_product):
    """Under load, to a new key at the same time; then the first form is refused, and the old key is not needed."""
    product = make_product(environment=FIRST)
    product.stand_in.settings(refresh_token_cap=1000)
    people = [product.session(f"member{number}", {"acme": "member"}) for number in range(20)]
    for person in people:
        person.connect("acme")
    line = new_line(product, "k2")
    write_file(product.keys_file, line + read(product.keys_file), 0o600)
    restart(product, SECOND)
    with Load(product, people) as load:
        done = rotate(product, SECOND)
        wait_until(lambda: load.refreshed > 60, "everybody is served", 30)
    assert not load.failures and not logged(product, "tokens_unreadable")
    assert "under k2: 20 (first key)" in done and "under k1" not in done
    assert "20 were current" in rotate(product, SECOND)
    write_file(product.keys_file, line, 0o600)
    restart(product, ONLY_SECOND)
    caller = Caller(product)
    for person in people:
        assert forms(product, person.user) == {"second"}
        caller.fresh(person.user)
        make_due(product, person.user)
        caller.fresh(person.user)
    # And back, for a version that cannot read the second form.
    assert "20 sealed anew" in rotate(product, FIRST)
    assert {each for person in people for each in forms(product, person.user)} == {"first"}


def test_the_first_form_is_refused(make_product):
    product = make_product(environment={**FIRST, "LIMIT_VALIDATE": "0"}, workers=1)
    ada, caller = product.session("ada", {"acme": "member"}), Caller(product)
    ada.connect("acme")
    restart(product, ONLY_SECOND)
    problem(caller.token("ada"), 409, "reconnect_required")
    before = dump(product, "ada")[1]
    assert is_unreadable(ada)
    assert "1 unreadable" in rotate(product, ONLY_SECOND, check=False)
    assert dump(product, "ada")[1] == before, "it is refused by a rotation, too, and not lost"
    restart(product, SECOND)
    good(caller.token("ada"))
    assert "1 sealed anew" in rotate(product, SECOND)
    restart(product, ONLY_SECOND)
    good(caller.token("ada"))


def test_a_rotation_seals_for_no_record_of_another_write(product, ada):
    """It would otherwise make an old credential one of the second form."""
    ada.connect("acme")
    name = key("credential", "ada")
    old = product.redis.dump(name)
    ada.connect("acme", account="grace", replace="true")
    product.redis.restore(name, 0, old, replace=True)
    before = product.redis.hgetall(name)
    settings = FIRST if product.environment["SEAL_VERSION"] == "2" else SECOND
    done = rotate(product, settings, check=False)
    assert "1 unreadable" in done and product.redis.hgetall(name) == before


def test_a_rotation_keeps_the_end(second):
    """The sealed one, not the longer one in clear; of the first form the one in clear."""
    ada, caller = second.session("ada", {"acme": "member"}), Caller(second)
    ada.connect("acme")
    true_end = caller.fresh("ada")["expires_at"]
    longer = int(time.time()) + 100_000
    second.redis.hset(key("credential", "ada"), "expires_at", longer)
    write_file(second.keys_file, new_line(second, "k2") + read(second.keys_file), 0o600)
    assert "1 sealed anew" in rotate(second, SECOND)
    second.reload()
    assert caller.fresh("ada")["expires_at"] == true_end
    assert "1 sealed anew" in rotate(second, FIRST) and "1 sealed anew" in rotate(second, SECOND)
    second.redis.hset(key("credential", "ada"), "expires_at", longer + 1)
    assert caller.fresh("ada")["expires_at"] != true_end, "the first form believes what stands in clear"


@pytest.mark.parametrize("whose", ["its own", "another account", "another generation"])
def test_a_grant_that_is_still_to_be_revoked(second, whose):
    """What an interrupted disconnect left opens for the account and the generation that stand beside it."""
    ada = second.session("ada", {"acme": "member"})
    record = ada.connect("acme")
    row = second.redis.hgetall(key("credential", "ada"))
    account = "108999" if whose == "another account" else record["oauth_user_id"]
    generation = "0" * 32 if whose == "another generation" else row["generation"]
    second.redis.delete(key("credential", "ada"), key("integration", "ada"))
    second.redis.hset(key("integrations:unrevoked", "ada"), generation,
                      "\n".join([row["client_id"], row["issuer"], "0", row["refresh_token"], account]))
    good(ada.disconnect("acme"))
    assert calls(second)["revokes"] == (1 if whose == "its own" else 0)
    assert bool(logged(second, "unrevoked_unreadable")) == (whose != "its own")


def test_data_of_the_version_before(make_product):
    """As that program stored it: callers, records and tokens are read, then carried over by the commands."""
    with open(OLD_DATA, encoding="ascii") as file:
        old = json.load(file)
    product = make_product(environment=FIRST, workers=1)
    product.scanner.record(old["ring"].split(":")[1], "a key of the key ring")
    write_file(product.keys_file, old["ring"] + "\n", 0o600)
    product.write_provider(issuer=old["issuer"])
    for name, fields in old["rows"].items():
        product.redis.hset(name, mapping=fields)
        if name.startswith("caller:"):
            product.redis.expire(name, 3600)
    now = int(time.time())
    product.redis.hset(key("credential", "ada"), mapping={"issued_at": now, "expires_at": now + 3600})

    def token():
        answer = product.request("POST", "/internal/organizations/acme/users/ada/integrations/google/token", bearer=old["caller"],
                                 internal=True, may_hold_token=True, json={})
        return good(answer)["access_token"]

    assert [each["status"] for each in product.session("ada", {"acme": "member"}).list("acme")] == ["valid"]
    for settings in (FIRST, SECOND):
        restart(product, settings)
        assert token() == old["access_token"]
    assert "1 sealed anew" in rotate(product, SECOND)
    assert "1 signed" in product.command("caller", "sign", stdin="y\n").stdout
    restart(product, {**ONLY_SECOND, "CALLER_MAC": "required"})
    assert token() == old["access_token"] and forms(product, "ada") == {"second"}
    make_due(product, "ada")
    product.request("POST", "/internal/organizations/acme/users/ada/integrations/google/token", bearer=old["caller"],
                    internal=True, may_hold_token=True, json={})
    sent = [dict(each["form"]) for each in product.stand_in.requests("token")]
    assert [each["refresh_token"] for each in sent] == ["sha256:" + fingerprint(old["refresh_token"])]
