"""Workers that are replaced, ended and killed while they are used."""

import asyncio
import os
import random
import signal
import sys
import threading
import time

import pytest

from harness import REPOSITORY, SCOPES, Product, good, problem
from processes import wait_until

sys.path.insert(0, os.path.join(REPOSITORY, "tests", "load"))
import people as crowd  # noqa: E402
from traffic import Background, Connection, lists  # noqa: E402


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("used"), environment={"LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0",
                                                                   "LOG_LEVEL": "info"})
    product.start()
    yield product
    product.stop()


@pytest.fixture(scope="module")
def everybody(used):
    people = crowd.sign_in(used, 200)
    crowd.connect(used, people, SCOPES)
    return people


class Connecting:
    """People who connect, one after the other, in a thread: every step has to work."""

    def __init__(self, product, name):
        self.product = product
        self.name = name
        self.done = 0
        self.failed = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()

    def _run(self):
        while not self._ending.is_set():
            someone = self.product.session(f"{self.name}{self.done}", {"acme": "member"})
            try:
                record = someone.connect("acme", account="ada")
                assert record["user_id"] == someone.user and someone.list("acme") == [record]
            except Exception as error:  # whatever it is, the test names it
                self.failed.append(repr(error))
            self.done += 1


def test_reload_under_load(used, everybody):
    workers = set(used.hosts[0].workers())
    with Background(used, lists(everybody), connections=16) as listing, \
            Connecting(used, "first") as one, Connecting(used, "second") as other:
        for _ in range(3):
            before = (listing.done, one.done + other.done)
            wait_until(lambda: listing.done > before[0] + 300 and one.done + other.done > before[1] + 4, "traffic", 30)
            used.reload()
        before = (listing.done, one.done + other.done)
        wait_until(lambda: listing.done > before[0] + 300 and one.done + other.done > before[1] + 4, "traffic", 30)
    assert not one.failed and not other.failed, one.failed + other.failed
    assert not listing.wrong and set(listing.statuses) == {200}, (listing.statuses, listing.wrong[:3])
    # The old ones go when nginx has closed its kept connections.
    wait_until(lambda: len(used.hosts[0].workers()) == 2, "the old workers have ended", 30)
    assert not workers & set(used.hosts[0].workers())


def test_reload_with_a_mistake(used, everybody):
    workers = used.hosts[0].workers()
    used.write_provider(authorization_endpoint="not an address")
    used.serve.send(signal.SIGHUP)
    wait_until(lambda: '"reload_refused"' in used.serve.text(), "the mistake is reported")
    reasons = [line["message"] for line in used.log() if line["event"] == "setting_wrong"]
    assert any("authorization_endpoint" in each for each in reasons), reasons
    assert used.hosts[0].workers() == workers
    someone = used.session("someone", {"acme": "member"})
    assert good(someone.get("/api/me"))["user_id"] == "someone"
    used.write_provider()
    used.reload()
    assert good(someone.get("/api/me"))["user_id"] == "someone"
    wait_until(lambda: len(used.hosts[0].workers()) == 2, "the old workers have ended", 30)


def test_a_killed_worker(used, everybody):
    """Each worker holds a request. One is killed: its request fails, the other's does not, and none that begins later."""
    people = everybody[:12]
    hold = used.stand_in.fault("userinfo", "hold", times=None)
    answers = {}

    def validate(person):
        answers[person.user] = used.request("POST", person.service_path(), bearer=person.token)

    held = [threading.Thread(target=validate, args=(each,)) for each in people]
    for each in held:
        each.start()
    used.stand_in.wait_fired(hold, len(people))
    victim, survivor = used.hosts[0].workers()
    os.kill(victim, signal.SIGKILL)
    with Background(used, lists(everybody), connections=8) as listing:
        wait_until(lambda: listing.done > 500, "500 lists", 30)
        wait_until(lambda: len(used.hosts[0].workers()) == 2, "the worker is replaced")
    assert not listing.wrong and set(listing.statuses) == {200}, (listing.statuses, listing.wrong[:3])
    used.stand_in.release(hold)
    for each in held:
        each.join()
    statuses = sorted(each.status_code for each in answers.values())
    lost = [each for each in answers.values() if each.status_code != 200]
    assert len(lost) < len(people), statuses
    for each in lost:
        problem(each, 503, "overloaded")
    used.stand_in.clear_faults()
    assert survivor in used.hosts[0].workers() and victim not in used.hosts[0].workers()
    died = [line for line in used.log() if line["event"] == "worker_died"]
    assert (died[-1]["worker"], died[-1]["signal"]) == (victim, signal.SIGKILL)


def hold_validations(product):
    """Some that are at the provider and stay there: the fault to release, and the threads that ask."""
    people = crowd.sign_in(product, 8)
    crowd.connect(product, people, SCOPES)
    hold = product.stand_in.fault("userinfo", "hold", times=None)
    held = [threading.Thread(target=product.request, args=("POST", each.service_path()), kwargs={"bearer": each.token})
            for each in people]
    for each in held:
        each.start()
    product.stand_in.wait_fired(hold, len(people))
    return hold, held


def deaths(product):
    return [line["worker"] for line in product.log() if line["event"] == "worker_died"]


def test_a_draining_worker_that_dies(used):
    """After a reload the old workers still have a request: one is killed by somebody else, and that is said."""
    before = deaths(used)
    old = used.hosts[0].workers()
    hold, held = hold_validations(used)
    used.reload()
    victim = next(pid for pid in old if pid in used.hosts[0].workers())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: deaths(used) == [*before, victim], "its end is logged")
    died = [line for line in used.log() if line["event"] == "worker_died"][-1]
    assert died["signal"] == signal.SIGKILL and died["action"].startswith("the worker was draining"), died
    used.stand_in.release(hold)
    for each in held:
        each.join()
    used.stand_in.clear_faults()
    wait_until(lambda: len(used.hosts[0].workers()) == 2, "the old workers have ended", 30)
    # Nothing else: those that ended as they were told are no deaths.
    assert deaths(used) == [*before, victim]


def test_workers_that_we_kill_ourselves(make_product):
    """Asked to end twice, the parent kills what still serves, which is no death to report."""
    product = make_product()
    hold, held = hold_validations(product)
    product.serve.send(signal.SIGTERM)
    wait_until(lambda: product.serve.text().count('"worker_draining"') == 2, "the workers drain")
    product.serve.send(signal.SIGTERM)
    assert product.serve.process.wait(15) == 0
    product.stand_in.release(hold)
    for each in held:
        each.join()
    assert deaths(product) == []


def test_a_worker_that_keeps_dying(used, everybody):
    """It is started less and less often; the other one serves."""
    steady, mortal = used.hosts[0].workers()
    pauses = []
    with Background(used, lists(everybody), connections=4, rate=200) as listing:
        for _ in range(4):
            os.kill(mortal, signal.SIGKILL)
            killed = time.monotonic()

            def successors(dead=mortal):
                return [pid for pid in used.hosts[0].workers() if pid not in (steady, dead)]
            mortal = wait_until(successors, "it is replaced", 15)[0]
            pauses.append(time.monotonic() - killed)
    assert pauses == sorted(pauses) and 0.3 < pauses[-1] < 4, pauses
    assert set(listing.statuses) <= {200, 503}
    # Requests that were in flight in it, and no others.
    assert listing.statuses[503] <= 4 * 4, listing.statuses


def test_connections_are_spread_evenly(used, everybody):
    with Background(used, lists(everybody), connections=64) as listing:
        wait_until(lambda: listing.done > 2000, "2,000 lists", 30)
        held = [sum(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{pid}/fd"))
                for pid in used.hosts[0].workers()]
    assert not listing.wrong
    assert max(held) - min(held) <= 16, held


def test_redis_restarts_under_load(used, everybody):
    with Background(used, lists(everybody), connections=16) as listing:
        wait_until(lambda: listing.done > 300, "traffic", 30)
        used.redis_server.stop()
        wait_until(lambda: listing.statuses[503] > 100, "refusals", 30)
        used.redis_server.start()
        begun = time.monotonic()
        before = listing.statuses[200]
        wait_until(lambda: listing.statuses[200] > before + 300, "traffic", 30)
        assert time.monotonic() - begun < 10
    assert set(listing.statuses) == {200, 503}, listing.statuses
    for _, _, status, _, body in listing.wrong:
        assert status == 503 and b":store_unavailable" in body, (status, body)
    with Background(used, lists(everybody), connections=16) as listing:
        wait_until(lambda: listing.done > 300, "traffic", 30)
    assert set(listing.statuses) == {200}


def test_clients_that_abort_at_random(used, everybody):
    """Connections cut at any moment, beside others that look at each answer: nobody gets another's."""
    dice = random.Random(7)
    ending = threading.Event()
    cut = [0]

    async def aborting(person):
        connection = Connection(used)
        while not ending.is_set():
            task = asyncio.ensure_future(connection.request("GET", person.list_path, person.token))
            await asyncio.sleep(dice.random() * 0.004)
            connection.abort()
            await task
            cut[0] += 1

    async def all_aborting():
        await asyncio.gather(*(aborting(each) for each in everybody[:16]))

    with Background(used, lists(everybody), connections=16) as listing:
        thread = threading.Thread(target=lambda: asyncio.run(all_aborting()))
        thread.start()
        wait_until(lambda: listing.done > 4000 and cut[0] > 1000, "traffic", 60)
        ending.set()
        thread.join()
    assert not listing.wrong and set(listing.statuses) == {200}, (listing.statuses, listing.wrong[:3])


def test_end_under_load(make_product):
    """SIGTERM: what was accepted is answered; what comes later is refused in good form, by nginx."""
    product = make_product(environment={"LIMIT_VALIDATE": "0"})
    everybody = crowd.sign_in(product, 100)
    crowd.connect(product, everybody, SCOPES)
    hold = product.stand_in.fault("userinfo", "hold", times=None)
    answers = []

    def validate(person):
        answers.append(product.request("POST", person.service_path(), bearer=person.token))

    held = [threading.Thread(target=validate, args=(each,)) for each in everybody[:10]]
    with Background(product, lists(everybody), connections=16) as listing:
        wait_until(lambda: listing.done > 300, "traffic", 30)
        for each in held:
            each.start()
        product.stand_in.wait_fired(hold, len(held))
        product.serve.send(signal.SIGTERM)
        wait_until(lambda: product.serve.text().count('"worker_draining"') == 2, "the workers drain")
        before = listing.done
        wait_until(lambda: listing.done > before + 100, "traffic goes on", 30)
    product.stand_in.release(hold)
    for each in held:
        each.join()
    assert [each.status_code for each in answers] == [200] * len(held)
    assert set(listing.statuses) <= {200, 503}, listing.statuses
    for _, _, status, _, body in listing.wrong:
        assert status == 503 and b":overloaded" in body, (status, body)
    # nginx lets its idle connections go, and then the workers have nothing left to wait for.
    assert product.serve.process.wait(15) == 0
    assert '"worker_drain_forced"' not in product.serve.text() and '"ended"' in product.serve.text()
