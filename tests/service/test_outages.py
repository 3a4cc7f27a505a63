"""Redis or the provider is away, frozen or slow: what is answered, how soon, and that all is as before when it is back."""

import json
import os
import re
import shutil
import signal
import socket
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import calls, dump, is_stored, key, live, make_due
from harness import SANITIZED, Product, Session, good, problem, wait_until
from programs import Caller

ROUTES = [("GET", "/api/me"), ("GET", "/api/organizations/acme/integrations"), ("GET", "/api/organizations/acme/mcps"),
          ("POST", "/api/organizations/acme/integrations/google"), ("DELETE", "/api/organizations/acme/integrations/google"),
          ("GET", "/api/organizations/acme/integrations/google/auth_link"),
          ("POST", "/api/organizations/acme/integrations/google/callback"), ("GET", "/api/services")]


@pytest.fixture(scope="module")
def connected(tmp_path_factory):
    """A product whose Redis these tests stop, and ada, who is connected in it."""
    product = Product(tmp_path_factory.mktemp("outages"), environment={"LIMIT_VALIDATE": "0", "LIMIT_AUTH_LINK": "0"})
    product.start()
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    yield product, ada
    product.stop()


def check_unavailable(product, ada):
    """Each route says 503 in under a second: not 401, not an empty list, not 404."""
    document = {"code": "4/0AMARKER", "state": "A" * 43 + ".acme"}
    nobody = Session(product, "session-MARKER-of-nobody", "nobody")

    def check(session, method, path):
        began = time.monotonic()
        answer = session.request(method, path, json=document if path.endswith("callback") else None)
        took = time.monotonic() - began
        body = problem(answer, 503, "store_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1 and "nothing is lost" in body["detail"]
        assert took < 1 or SANITIZED, f"{method} {path} took {took:.2f} s"

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(check, session, *route) for route in ROUTES for session in (ada, nobody)]:
            done.result()
    assert product.hosts[0].status("/healthz") == 200
    assert product.hosts[0].status("/readyz") == 503


def check_whole(product, ada, before):
    """The very next request works, and nothing was lost."""
    assert good(ada.integrations("acme"))["integrations"] == before
    assert good(ada.validate("acme"))["is_valid"] is True
    assert product.hosts[0].status("/readyz") == 200


def test_redis_stopped(connected):
    product, ada = connected
    before, asked = ada.list("acme"), calls(product)
    product.redis_server.stop()
    check_unavailable(product, ada)
    assert calls(product) == asked
    product.redis_server.start()
    check_whole(product, ada, before)


def test_redis_frozen(connected):
    product, ada = connected
    before, asked = ada.list("acme"), calls(product)
    product.redis_server.pause()
    try:
        check_unavailable(product, ada)
    finally:
        product.redis_server.resume()
    product.redis_server.wait_ready()
    assert calls(product) == asked
    record = ada.list("acme")
    if record:  # a DELETE that Redis got and did not answer may have been done, as any write whose answer is lost
        check_whole(product, ada, before)
    else:
        before = [ada.connect("acme")]
        check_whole(product, ada, before)


def test_redis_refuses_to_write(connected):
    """Full: what reads still works, what writes says 503 and leaves the connection as it was."""
    product, ada = connected
    before = dump(product, "ada")
    document = ada.authorize("acme")
    product.redis.config_set("maxmemory", 1)
    try:
        assert len(ada.list("acme")) == 1
        problem(ada.auth_link("acme"), 503, "store_unavailable")
        problem(ada.callback("acme", document), 503, "store_unavailable")
        assert dump(product, "ada") == before
        assert good(ada.disconnect("acme"))["service"] == "google", "to forget needs no memory"
    finally:
        product.redis.config_set("maxmemory", 0)
    ada.connect("acme")


def test_redis_cannot_save(connected):
    """Its disk is at fault: it refuses writes, and PING too, but reads go on, and so do those who only read."""
    product, ada = connected
    ada.connect("acme")
    caller = Caller(product)
    for _ in range(10):  # by each worker: later plain reads will do
        caller.fresh("ada")
    snapshot = os.path.join(product.redis.config_get("dir")["dir"], "dump.rdb")
    if os.path.exists(snapshot):
        os.remove(snapshot)
    os.makedirs(os.path.join(snapshot, "in its place"))
    product.redis.config_set("save", "3600 1")
    try:
        product.redis.bgsave()
        wait_until(lambda: product.redis.info("persistence")["rdb_last_bgsave_status"] == "err", "a snapshot that fails")
        for _ in range(10):
            assert len(ada.list("acme")) == 1
            good(ada.get("/api/organizations/acme/mcps"))
            caller.fresh("ada")
        problem(ada.auth_link("acme"), 503, "store_unavailable")
        refused = {line.get("error") for line in product.log() if line["event"] == "redis_error_reply"}
        assert "MISCONF" in refused and "too many replies" not in product.hosts[0].serve.text()
    finally:
        shutil.rmtree(snapshot)
        product.redis.config_set("save", "")
        product.redis.bgsave()
        wait_until(lambda: product.redis.info("persistence")["rdb_last_bgsave_status"] == "ok", "a snapshot that succeeds")
    good(ada.validate("acme"))


def test_redis_loses_its_scripts(connected):
    """As after a failover: they are loaded again, and no request fails for it."""
    product, ada = connected
    for _ in range(2):
        product.redis.script_flush()
        good(ada.validate("acme"))
        product.redis.script_flush()
        ada.connect("acme")
        product.redis.script_flush()
        good(ada.disconnect("acme"))
        ada.connect("acme")


def test_redis_cuts_its_connections(connected):
    """A connection that was dead when it was used is no error that anybody sees, where nothing is written twice by it."""
    product, ada = connected
    for _ in range(5):
        product.redis.client_kill_filter(_type="normal", skipme=True)
        assert len(ada.list("acme")) == 1


def test_sessions_elsewhere(make_product, connected):
    """SESSION_REDIS_URL: sessions come from there, all else from REDIS_URL; either of them away is 503."""
    other, _ = connected
    product = make_product(environment={"SESSION_REDIS_URL": other.redis_server.url})
    product.scanner.record(other.redis_server.password, "a password of Redis")
    here, there = product.session("eve", {"acme": "member"}), other.session("eve", {"acme": "member"})
    problem(product.request("GET", "/api/me", bearer=here.token), 401, "unauthenticated")
    eve = Session(product, there.token, "eve")
    eve.connect("acme")
    assert is_stored(product, "eve") and not is_stored(other, "eve")
    product.redis_server.stop()
    problem(eve.integrations("acme"), 503, "store_unavailable")
    assert good(eve.get("/api/me"))["user_id"] == "eve"
    assert product.hosts[0].status("/readyz") == 503
    product.redis_server.start()
    assert len(eve.list("acme")) == 1


def test_a_provider_that_hangs(duo):
    """Every call to it ends within 9 seconds, with what is due; and meanwhile lists are answered as ever."""
    people = {name: duo.session(name, {"acme": "member"}) for name in ("userinfo", "refresh", "exchange", "revoke", "keys", "reader")}
    accounts = {each["key"]: each["email"] for each in duo.stand_in.add_accounts(5)}
    emails = dict(zip(("userinfo", "refresh", "exchange", "revoke"), accounts.values()))
    for name, email in emails.items():
        if name != "exchange":
            people[name].connect("acme", account=email)
    people["reader"].connect("acme", account="grace")
    make_due(duo, "refresh")
    document = people["exchange"].authorize("acme", account=emails["exchange"])
    before = {name: dump(duo, name) for name in ("userinfo", "refresh")}
    for endpoint, email in emails.items():
        duo.stand_in.fault(endpoint, "hold", times=None, account=email)
    asks = {"userinfo": lambda: people["userinfo"].validate("acme"), "refresh": lambda: people["refresh"].validate("acme"),
            "exchange": lambda: people["exchange"].callback("acme", document), "revoke": lambda: people["revoke"].disconnect("acme")}

    def timed(ask):
        began = time.monotonic()
        answer = ask()
        return answer, time.monotonic() - began

    lists, over = [], threading.Event()

    def read():
        while not over.is_set():
            began = time.monotonic()
            assert len(people["reader"].list("acme")) == 1
            lists.append(time.monotonic() - began)

    with ThreadPoolExecutor(len(asks) + 1) as pool:
        posts = {name: pool.submit(timed, ask) for name, ask in asks.items()}
        duo.stand_in.wait_for(lambda google: sum(fault["waiting"] for fault in google.faults()) == 4)
        reader = pool.submit(read)
        answers = {name: post.result() for name, post in posts.items()}
        over.set()
        reader.result()
    for name, (answer, took) in answers.items():
        assert took < (4 if name == "revoke" else 9) or SANITIZED, f"{name} took {took:.1f} s"
    for name in ("userinfo", "refresh"):
        record = good(answers[name][0])["integration"]
        assert (record["status"], record["status_reason"]) == ("unknown", "provider_unreachable")
        assert dump(duo, name)[1] == before[name][1]
    problem(answers["exchange"][0], 502, "provider_unreachable")
    assert good(answers["revoke"][0])["revocation"] == "not_revoked"
    assert len(lists) > (20 if SANITIZED else 200), "lists went on while the provider was silent"
    assert sorted(lists)[len(lists) * 9 // 10] < 0.5 or SANITIZED
    duo.stand_in.release()
    duo.stand_in.clear_faults()
    for name in ("userinfo", "refresh"):
        assert good(people[name].validate("acme"))["is_valid"] is True


def test_a_dead_holder_of_the_lease(make_product):
    """A worker that is killed in the middle of a refresh holds nobody up for long, and loses nothing."""
    product = make_product(workers=2)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    make_due(product, "ada")
    hold = product.stand_in.fault("refresh", "hold")
    with ThreadPoolExecutor(1) as pool:
        post = pool.submit(ada.validate, "acme")
        product.stand_in.wait_fired(hold)
        assert product.redis.exists(key("refresh_lease", "ada"))
        for worker in product.hosts[0].workers():
            os.kill(worker, signal.SIGKILL)
        post.result()
        product.hosts[0].wait_ready()
        began = time.monotonic()
        assert good(ada.validate("acme"))["is_valid"] is True
        assert time.monotonic() - began < 9 or SANITIZED
    assert live(product, "ada") == 1


def test_a_provider_on_this_machine(make_product):
    """An address of this machine or of its network is not called, unless that is allowed: here 0.0.0.0, which the provider
    file may name and which leads to whoever listens on this machine."""
    product = make_product(workers=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        here = f"https://0.0.0.0:{listener.getsockname()[1]}"
        text = json.dumps(product.stand_in.provider)
        product.write_provider(**json.loads(re.sub(r"https?://(localhost|127\.0\.0\.1):\d+", here, text)))
        product.serve.environment["PROVIDER_ALLOW_PRIVATE"] = "0"
        product.hosts[0].restart()
        ada = product.session("ada", {"acme": "member"})
        state, = urllib.parse.parse_qs(urllib.parse.urlsplit(ada.begin("acme")).query)["state"]
        problem(ada.callback("acme", {"code": "4/0AMARKER", "state": state, "iss": here}), 502, "provider_unreachable")
        with pytest.raises(BlockingIOError):
            listener.accept()
