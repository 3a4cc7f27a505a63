"""Sealed values open only where they were sealed: not for another user, organization, service, field, client or key."""

import base64
import glob
import itertools
import os
import secrets

import pytest

from checks import calls, dump, key, make_due
from cluster import Later, Person
from harness import SANITIZED, SERVICE, good, problem, wait_until, write_file

TOKENS = ("access_token", "refresh_token")
UNREADABLE = ("unknown", "tokens_unreadable")


def verdict(answer):
    record = good(answer)["integration"]
    return record["status"], record["status_reason"]


@pytest.fixture
def people(duo):
    """Connections that differ in one thing each; all of one account at the provider, so that any token would work."""
    ada, bob = duo.session("ada", {"acme": "member", "globex": "member"}), duo.session("bob", {"acme": "member"})
    places = {("ada", "acme", SERVICE): ada, ("ada", "globex", SERVICE): ada, ("ada", "acme", "plain"): ada, ("bob", "acme", SERVICE): bob}
    for (_, organization, service), session in places.items():
        session.connect(organization, service=service)
    return places


def test_values_of_another_place(duo, people):
    """Every field, from every place to every other, with and without the issuer and client id that belong to it."""
    for source, target in itertools.permutations(people, 2):
        kept = duo.redis.hgetall(key("credential", *target))
        taken = duo.redis.hgetall(key("credential", *source))
        for fields in (["access_token"], ["refresh_token"], list(TOKENS)):
            duo.redis.hset(key("credential", *target), mapping={name: taken[name] for name in fields})
            record, asked = dump(duo, *target), calls(duo)
            assert verdict(people[target].validate(target[1], target[2])) == UNREADABLE, (source, target, fields)
            assert calls(duo) == asked
            assert dump(duo, *target)[1] == record[1], "nothing is deleted or taken for plain"
            duo.redis.hset(key("credential", *target), mapping=kept)
        duo.redis.delete(key("credential", *target))
        duo.redis.hset(key("credential", *target), mapping=taken)
        assert verdict(people[target].validate(target[1], target[2])) in (UNREADABLE, ("unknown", "provider_changed"))
        assert calls(duo) == asked
        duo.redis.delete(key("credential", *target))
        duo.redis.hset(key("credential", *target), mapping=kept)
    for target, session in people.items():
        assert verdict(session.validate(target[1], target[2])) == ("valid", None)


def test_values_of_another_field(duo, people):
    ada, name = people["ada", "acme", SERVICE], key("credential", "ada")
    kept = duo.redis.hgetall(name)
    asked = calls(duo)
    for field, other in (TOKENS, TOKENS[::-1]):
        duo.redis.hset(name, field, kept[other])
        assert verdict(ada.validate("acme")) == UNREADABLE
        duo.redis.hset(name, mapping=kept)
    document = ada.authorize("acme")
    (state,) = duo.redis.keys("oauth_state:*")
    duo.redis.hset(state, "code_verifier", kept["access_token"])
    problem(ada.callback("acme", document), 400, "state_invalid")
    assert calls(duo) == asked


def test_values_that_are_no_seal(duo, people):
    """A plain token is never taken for one that may be sent."""
    ada, name = people["ada", "acme", SERVICE], key("credential", "ada")
    kept = duo.redis.hgetall(name)
    sealed = kept["access_token"]
    number, _, rest = sealed.partition(".")
    asked = calls(duo)
    for value in ("", number, number + ".", "." + rest, rest, "k2." + rest, "K1." + rest, sealed[:-1], sealed + "A", sealed[:20], sealed + "=", sealed.upper(),
                  number + "." + "A" * len(rest), " " + sealed, "null", "x" * 100_000):
        duo.redis.hset(name, "access_token", value)
        assert verdict(ada.validate("acme")) == UNREADABLE, (value[:40], value[-9:])
    assert calls(duo) == asked
    for place in range(0, len(sealed), max(1, len(sealed) // 60)):
        other = "A" if sealed[place] != "A" else "B"
        duo.redis.hset(name, "access_token", sealed[:place] + other + sealed[place + 1:])
        assert verdict(ada.validate("acme")) == UNREADABLE, f"character {place}"
    duo.redis.hset(name, mapping=kept)
    assert verdict(ada.validate("acme")) == ("valid", None)


def test_the_same_token_is_never_sealed_alike(duo, people):
    """And what is stored says nothing of the length of what was stored before."""
    seen = set()
    ada = people["ada", "acme", SERVICE]
    duo.stand_in.fault("refresh", "answer", times=None, set={"access_token": "ya29.MARKER-always-the-same"})
    duo.stand_in.fault("userinfo", "raw", times=None, body='{"sub": "%s"}' % ada.list("acme")[0]["oauth_user_id"])
    for _ in range(5):
        make_due(duo, "ada")
        good(ada.validate("acme"))
        seen.add(duo.redis.hget(key("credential", "ada"), "access_token"))
    assert len(seen) == 5


def test_the_key_ring(make_product):
    """A new first key seals what is written from now on, the old one opens what is there; without it that stays closed."""
    product = make_product(workers=1)
    ada, bob = product.session("ada", {"acme": "member"}), product.session("bob", {"acme": "member"})
    ada.connect("acme")
    bob.connect("acme", account="grace")
    with open(product.keys_file, encoding="ascii") as file:
        first = file.read()
    fresh = secrets.token_bytes(32)
    product.scanner.record(base64.b64encode(fresh), "a new key")
    product.scanner.record(fresh, "a new key")
    second = f"k2:{base64.b64encode(fresh).decode()}\n"

    def ring(text):
        write_file(product.keys_file, text, 0o600)
        os.chmod(product.keys_file, 0o600)
        product.hosts[0].restart()

    def sealed_by(user):
        return {product.redis.hget(key("credential", user), name).split(".")[0] for name in TOKENS}

    document = ada.authorize("acme")
    ring(second + first)
    assert verdict(ada.validate("acme")) == verdict(bob.validate("acme")) == ("valid", None)
    good(ada.callback("acme", document))
    make_due(product, "ada")
    assert verdict(ada.validate("acme")) == ("valid", None)
    assert (sealed_by("ada"), sealed_by("bob")) == ({"k2"}, {"k1"})

    ring(second)
    before = dump(product, "bob")[1]
    assert verdict(ada.validate("acme")) == ("valid", None)
    assert verdict(bob.validate("acme")) == UNREADABLE
    assert dump(product, "bob")[1] == before
    assert any(line.get("event") == "tokens_unreadable" or "tokens_unreadable" in line.values() for line in product.log())

    ring(f"k2:{base64.b64encode(secrets.token_bytes(32)).decode()}\n" + first)
    assert verdict(ada.validate("acme")) == UNREADABLE, "another key of the same name opens nothing"
    assert verdict(bob.validate("acme")) == ("valid", None)


def places_of(pid, secret):
    """The mappings of a process that hold these bytes, each as often as it does."""
    found = []
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(at, 16) for at in span.split("-"))
                found += [line] * os.pread(memory.fileno(), end - start, start).count(secret)
    return found


reads_memory = pytest.mark.skipif(SANITIZED or os.geteuid() != 0, reason="reads the memory of processes, which must not be terabytes")


@reads_memory
def test_a_key_lies_in_one_place(duo):
    """Between two turns of the loop a worker has its key in the locked mapping alone, though it just used it."""
    ada = duo.session("ada", {"acme": "member"})
    ada.connect("acme")
    with open(duo.keys_file, encoding="ascii") as file:
        used = base64.b64decode(file.readline().split(":")[1])
    for _ in range(20):
        make_due(duo, "ada")
        assert verdict(ada.validate("acme")) == ("valid", None)
    for host in duo.hosts:
        for worker in host.workers():
            wait_until(lambda pid=worker: len(places_of(pid, used)) == 1, "the worker has only the locked one")


def pid_of(*arguments):
    """Of the command that this process has started."""
    for path in glob.glob(f"/proc/{os.getpid()}/task/*/children"):
        with open(path, encoding="ascii") as file:
            for pid in file.read().split():
                with open(f"/proc/{pid}/cmdline", encoding="utf-8") as words:
                    if tuple(words.read().split("\0")[1:-1]) == arguments:
                        return int(pid)
    return None


@reads_memory
def test_a_command_that_waits_has_a_key_in_one_place(cluster):
    Person(cluster, "sealed").connect()
    fresh = secrets.token_bytes(32)
    cluster.product.scanner.record(fresh, "a new key")
    with open(cluster.product.keys_file, encoding="ascii") as file:
        ring = file.read()
    write_file(cluster.product.keys_file, f"k8:{base64.b64encode(fresh).decode()}\n{ring}", 0o600)
    admin = f"unix://{cluster.proxy.admin_path}"
    held = cluster.proxy.hold("script of credential")
    rotating = Later(cluster.product.command, "keys", "rotate", environment={"REDIS_URL": admin, "REDIS_ADMIN_URL": admin})
    held.wait()
    wait_until(lambda: len(places_of(pid_of("keys", "rotate"), fresh)) == 1, "the command has only the locked one")
    held.release()
    assert "k8" in rotating.answer(60).stdout
    write_file(cluster.product.keys_file, f"{ring}k8:{base64.b64encode(fresh).decode()}\n", 0o600)


def test_another_environment_opens_nothing(make_product):
    """Staging with production's Redis and keys: it reads no token, and changes none."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    document, before, asked = ada.authorize("acme"), dump(product, "ada"), calls(product)
    product.serve.environment["ENVIRONMENT"] = "staging"
    product.hosts[0].restart()
    problem(ada.callback("acme", document), 400, "state_invalid")
    assert verdict(ada.validate("acme")) == UNREADABLE
    assert calls(product) == asked and dump(product, "ada")[1] == before[1]


def test_another_issuer_or_client_opens_nothing(make_product):
    """Also where the provider file and what stands beside the tokens agree: the tokens are still of the one before."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    kept, asked = product.redis.hgetall(key("credential", "ada")), calls(product)
    second = "stand-in-second.apps.googleusercontent.com"
    for field, value in (("issuer", "https://other.example"), ("client_id", second)):
        product.write_provider(**({"issuer": value} if field == "issuer" else {}))
        product.serve.environment["GOOGLE_CLIENT_ID"] = second if field == "client_id" else product.stand_in.client_id
        product.hosts[0].restart()
        product.redis.hset(key("credential", "ada"), mapping={**kept, field: value})
        assert verdict(ada.validate("acme")) == UNREADABLE, field
    assert calls(product) == asked
