"""The audit of uses: one entry a minute with a count of the rest, and no actor who pushes out what others did."""

import pytest

from processes import wait_until
from programs import Caller, entries, sha256

MEMBERS = [f"m{number:02}" for number in range(15)]


@pytest.fixture
def scarce(make_product):
    """A tenth of it is 10 entries an hour."""
    product = make_product(environment={"AUDIT_USES": "100"}, workers=2)
    for member in MEMBERS:
        product.session(member, {"acme": "member"}).connect("acme", account="ada")
    return product


def issued(product, actor):
    return [entry for entry in entries(product, use=True) if (entry["event"], entry["actor"]) == ("token_issued", actor)]


def logged(product, actor):
    return [line for line in product.log() if (line.get("event"), line.get("actor")) == ("audit_use", actor)]


def test_further_uses_are_counted(make_product):
    product = make_product(workers=1)
    product.session("ada", {"acme": "member"}).connect("acme")
    caller, other = Caller(product), Caller(product, "other")
    for each in (caller, other, caller, caller, caller):
        each.fresh("ada")
    wait_until(lambda: issued(product, "caller:other"), "the first entries, which nothing waited for")
    (first,) = issued(product, "caller:runtime")
    assert "count" not in first
    product.reload()
    first, rest = issued(product, "caller:runtime")  # a worker that ends has written what it had counted
    assert (rest["count"], rest["request_id"], rest["user"]) == ("3", first["request_id"], "ada")
    (alone,) = issued(product, "caller:other")
    assert "count" not in alone
    lines = [line for line in product.command("events", "--org", "acme").stdout.splitlines() if "by caller:runtime" in line]
    assert [line.endswith("  count 3") for line in lines] == [False, True]


def test_a_worker_that_ends_waits_for_its_entries(make_product):
    product = make_product(workers=1)
    product.session("ada", {"acme": "member"}).connect("acme")
    caller = Caller(product)
    for _ in range(3):
        caller.fresh("ada")
    product.hosts[0].stop()  # nginx first: no connection is left that the worker would wait for
    assert [entry.get("count") for entry in issued(product, "caller:runtime")] == [None, "2"]
    assert not [line for line in product.log() if line.get("event") == "audit_entry_lost"]


def test_a_busy_caller_pushes_out_nobody(scarce):
    busy, other = Caller(scarce, "busy"), Caller(scarce, "other")
    for member in MEMBERS[:5]:
        other.fresh(member)
    for _ in range(3):
        for member in MEMBERS:
            busy.fresh(member)
        scarce.reload()  # as if the minute were over
    assert {entry["user"] for entry in issued(scarce, "caller:other")} == set(MEMBERS[:5])
    assert len(issued(scarce, "caller:busy")) == 10
    (limited,) = [entry for entry in entries(scarce, use=True) if entry["event"] == "audit_uses_limited"]
    assert (limited["actor"], limited["organization"]) == ("caller:busy", "acme")
    told = len(logged(scarce, "caller:busy"))
    assert told + 10 >= 3 * len(MEMBERS) and not logged(scarce, "caller:other")
    key = f"integrations:audit_uses:{{acme}}:{sha256('caller:busy')}"
    assert 3500 < scarce.redis.ttl(key) <= 3600
    scarce.redis.delete(key)  # as if the hour were over
    busy.fresh(MEMBERS[0])
    wait_until(lambda: len(issued(scarce, "caller:busy")) == 11, "an entry of the next hour")


def test_a_share_is_taken_in_blocks(make_product):
    """Only the first entry of ten costs a script."""
    product = make_product(environment={"AUDIT_USES": "10000"}, workers=1)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    key = f"integrations:audit_uses:{{acme}}:{sha256('caller:runtime')}"
    product.redis.set(key, 992, ex=600)
    for number in range(12):
        name = f"n{number}"
        product.session(name, {"acme": "member"}).connect("acme")
        Caller(product).fresh(name)
        wait_until(lambda: len(issued(product, "caller:runtime")) == min(number + 1, 8), "the entry")  # pylint: disable=cell-var-from-loop
        assert product.redis.get(key) == ("1002" if number < 8 else "1012")
    assert 500 < product.redis.ttl(key) <= 600
    assert [entry["actor"] for entry in entries(product, use=True) if entry["event"] == "audit_uses_limited"] == ["caller:runtime"]


def test_none_are_kept(make_product):
    product = make_product(environment={"AUDIT_USES": "0"}, workers=1)
    product.session("ada", {"acme": "member"}).connect("acme")
    Caller(product).fresh("ada")
    wait_until(lambda: logged(product, "caller:runtime"), "the line")
    (line,) = logged(product, "caller:runtime")
    assert (line["what"], line["organization"], line["user"], line["outcome"]) == ("token_issued", "acme", "ada", "ok")
    assert entries(product, use=True) == [] and not product.redis.keys("integrations:audit_uses:*")


def test_the_stream_is_trimmed(make_product):
    product = make_product(environment={"AUDIT_USES": "100"}, workers=1)
    product.session("ada", {"acme": "member"}).connect("acme")
    for _ in range(1000):
        product.redis.xadd("events:{acme}:use", {"event": "validated", "actor": "user:ada"})
    Caller(product).fresh("ada")
    wait_until(lambda: issued(product, "caller:runtime"), "the entry")
    assert product.redis.xlen("events:{acme}:use") <= 200  # whole nodes of 100 are taken away
