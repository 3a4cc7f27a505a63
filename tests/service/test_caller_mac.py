"""A caller's row has a MAC: who can write to Redis alone makes up no caller, and widens none."""

import base64
import os

import pytest

from cluster import Later
from harness import good, problem, wait_until, write_file
from programs import Caller, sha256, token_path

WIDER = "gmail google_calendar google_drive"


def create(product, *arguments, name="runtime", mcps="gmail", organizations="acme", **more):
    """A caller that the command made: its key and the row's name."""
    done = product.command("caller", "create", "--name", name, "--mcps", mcps, "--orgs", organizations, *arguments, **more)
    key = done.stdout.strip()
    product.scanner.record(key, "a caller's key")
    return key, f"caller:{sha256(key)}"


def ask(product, key, organization="acme", host=0, **body):
    return product.request("POST", token_path("ada", organization), bearer=key, internal=True, may_hold_token=True, json=body, host=host)


def lines(product, event):
    return [line for line in product.log() if line["event"] == event]


def the_line(product, event):
    """The one there is, once it is written."""
    wait_until(lambda: lines(product, event), f"{event} is logged", 5)
    (line,) = lines(product, event)
    return line


def new_key(product, name):
    secret = base64.b64encode(os.urandom(32)).decode()
    product.scanner.record(secret, "a key of the key ring")
    return f"{name}:{secret}\n"


def ring_of(product):
    with open(product.keys_file, encoding="ascii") as file:
        return file.read()


@pytest.fixture(params=["required", "optional"])
def guarded(request, make_product):
    """With a connection of ada's."""
    product = make_product(environment={"CALLER_MAC": request.param}, workers=1)
    product.session("ada", {"acme": "member"}).connect("acme")
    return product


def test_a_row_that_was_made_up(guarded):
    """Without a MAC it counts only where none is required; with one it counts nowhere."""
    invented = Caller(guarded)
    row = f"caller:{sha256(invented.key)}"
    if guarded.environment["CALLER_MAC"] == "required":
        problem(invented.token("ada"), 401, "unauthenticated")
        line = the_line(guarded, "caller_refused")
        assert (line["level"], line["reason"], line["caller"]) == ("error", "mac_missing", "runtime")
    else:
        for _ in range(3):
            good(invented.token("ada"))
        line = the_line(guarded, "caller_without_mac")
        assert (line["level"], line["requests"]) == ("warn", 1), "one line an hour"
    _, other = create(guarded)
    for mac in (guarded.redis.hget(other, "mac"), "k1." + "A" * 43, "k1.", "x", "k1"):
        guarded.redis.hset(row, "mac", mac)
        problem(invented.token("ada"), 401, "unauthenticated")
    assert len(lines(guarded, "caller_refused")) == 1, "one line a minute"


@pytest.mark.parametrize("change", [
    {"mcps": WIDER}, {"organizations": "*"}, {"organizations": "acme globex"}, {"name": "other"}, {"mcps": "gmail "},
    {"expires_at": "99999999999"}, {"expires_at": ""}, {"expires_at": "x"}, {"name": "runtimegmail", "mcps": ""}])
def test_a_row_that_was_changed(guarded, change):
    key, row = create(guarded)
    good(ask(guarded, key))
    kept = guarded.redis.hgetall(row)
    guarded.redis.hset(row, mapping=change)
    problem(ask(guarded, key), 401, "unauthenticated")
    line = the_line(guarded, "caller_refused")
    assert line["reason"] == "mac_wrong"
    guarded.redis.hset(row, mapping=kept)
    good(ask(guarded, key))
    for field in change:
        guarded.redis.hdel(row, field)
        problem(ask(guarded, key), 401, "unauthenticated")
        guarded.redis.hset(row, mapping=kept)


def test_a_row_under_another_key(guarded):
    """A key of one's own does not get the row of another caller, also where a worker keeps that one in the same place."""
    key, row = create(guarded, mcps=WIDER, organizations="*")
    good(ask(guarded, key))
    own = next(each for each in map("caller-MARKER-{}".format, range(100_000)) if sha256(each)[:2] == sha256(key)[:2])
    guarded.redis.hset(f"caller:{sha256(own)}", mapping=guarded.redis.hgetall(row))
    problem(ask(guarded, own), 401, "unauthenticated")
    good(ask(guarded, key))


def test_a_row_has_an_end_of_its_own(guarded):
    """Redis is told to keep it; it ends all the same. The end of an unsigned row counts, too."""
    key, row = create(guarded, "--ttl", "2s")
    good(ask(guarded, key))
    guarded.redis.persist(row)
    wait_until(lambda: ask(guarded, key).status_code == 401, "the caller has ended", 10)
    assert guarded.redis.exists(row) and not lines(guarded, "caller_refused")
    if guarded.environment["CALLER_MAC"] == "optional":
        unsigned = Caller(guarded)
        for end in ("1", "-1", "x", "99999999999999999999"):
            guarded.redis.hset(f"caller:{sha256(unsigned.key)}", "expires_at", end)
            problem(unsigned.token("ada"), 401, "unauthenticated")
        guarded.redis.hset(f"caller:{sha256(unsigned.key)}", "expires_at", "9999999999")
        good(unsigned.token("ada"))


def test_a_key_that_the_ring_lacks(guarded, tmp_path):
    """A host without a new key answers 503 and revokes nothing: the caller tries again, there or elsewhere."""
    other = str(tmp_path / "ring")
    ring = ring_of(guarded)
    line = new_key(guarded, "k7")
    write_file(other, line + ring, 0o600)
    key, _ = create(guarded, environment={"TOKEN_KEYS_FILE": other})
    problem(ask(guarded, key), 503, "store_unavailable")
    refused = the_line(guarded, "caller_refused")
    assert refused["reason"] == "key_unknown"
    write_file(guarded.keys_file, line + ring, 0o600)
    wait_until(lambda: ask(guarded, key).status_code == 200, "the key is found in its file", 10)


def test_another_environment(guarded):
    """One ring for two installations: a row of the one is none of the other."""
    key, _ = create(guarded, environment={"ENVIRONMENT": "staging"})
    problem(ask(guarded, key), 401, "unauthenticated")


def test_signing(guarded):
    old = Caller(guarded, name="old", seconds=1000)
    endless = Caller(guarded, name="endless\x1b[2J")
    row, endless_row = (f"caller:{sha256(each.key)}" for each in (old, endless))
    guarded.redis.persist(endless_row)
    key, signed = create(guarded, name="signed")
    before = {name: guarded.redis.hgetall(name) for name in (row, endless_row, signed)}

    for answer in ("", "n\n", "yes\n", "\n"):
        done = guarded.command("caller", "sign", stdin=answer, check=False)
        assert done.returncode == 1 and "Nothing is signed" in done.stderr
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["endless?[2J", "old"]
        assert before == {name: guarded.redis.hgetall(name) for name in before}

    done = guarded.command("caller", "sign", stdin="y\n")
    assert "2 signed, 0 changed meanwhile." in done.stdout
    assert guarded.redis.hgetall(signed) == before[signed]
    now = guarded.redis.hgetall(row)
    assert 900 < int(now["expires_at"]) - int(guarded.redis.time()[0]) <= 1000
    assert 900 < guarded.redis.ttl(row) <= 1000
    assert "expires_at" not in guarded.redis.hgetall(endless_row) and guarded.redis.ttl(endless_row) == -1
    for each in (old, endless):
        good(each.token("ada"))
    good(ask(guarded, key))
    assert guarded.command("caller", "sign").stdout == "No caller is without a MAC.\n"
    guarded.redis.hset(row, "organizations", "acme")
    problem(old.token("ada"), 401, "unauthenticated")


def test_only_what_was_shown_is_signed(cluster):
    """A row that changes between the question and the answer stays without a MAC."""
    product = cluster.product
    old = Caller(product, name="old", organizations="acme")
    row = f"caller:{sha256(old.key)}"
    admin = f"unix://{cluster.proxy.admin_path}"
    held = cluster.proxy.hold("script of caller")
    signing = Later(product.command, "caller", "sign", stdin="y\n", check=False,
                    environment={"REDIS_URL": admin, "REDIS_ADMIN_URL": admin})
    held.wait()
    product.redis.hset(row, "organizations", "*")
    held.release()
    done = signing.answer(60)
    assert done.returncode == 1 and "1 changed meanwhile." in done.stdout
    assert "mac" not in product.redis.hgetall(row)


def test_rotation_renews(guarded):
    """MACs under an old key get the first one; what was made up or changed gets none."""
    key, row = create(guarded)
    widened_key, widened = create(guarded, name="widened")
    guarded.redis.hset(widened, "organizations", "*")
    unsigned = f"caller:{sha256(Caller(guarded, name='unsigned').key)}"
    before = {name: guarded.redis.hgetall(name) for name in (widened, unsigned)}
    line = new_key(guarded, "k2")
    write_file(guarded.keys_file, line + ring_of(guarded), 0o600)
    guarded.reload()

    done = guarded.command("keys", "rotate", check=False)
    assert "3 callers: 1 MACs renewed, 0 were current, 1 without one, 1 refused, 0 changed" in done.stdout
    assert done.returncode == 1, "an operator has to look at the refused rows"
    assert guarded.redis.hget(row, "mac").startswith("k2.")
    assert before == {name: guarded.redis.hgetall(name) for name in before}
    guarded.redis.delete(widened, unsigned)
    assert "1 callers: 0 MACs renewed, 1 were current" in guarded.command("keys", "rotate").stdout

    write_file(guarded.keys_file, line, 0o600)
    assert "0 unreadable" in guarded.command("keys", "rotate").stdout
    guarded.reload()
    good(ask(guarded, key))
    problem(ask(guarded, widened_key), 401, "unauthenticated")
