"""Many at once: a slow provider holds up nobody but those who ask it, and what is too much is refused quickly."""

import os
import sys
import threading
import time

import pytest

from harness import REPOSITORY, SANITIZED, SCOPES, Product

sys.path.insert(0, os.path.join(REPOSITORY, "tests", "load"))
import people as crowd  # noqa: E402
import soak  # noqa: E402
from traffic import at_once  # noqa: E402

PROVIDER_SECONDS = 0.5


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A product of its own: these tests store thousands of rows, and write a log to match."""
    product = Product(tmp_path_factory.mktemp("busy"), environment={"LIMIT_VALIDATE": "0", "LOG_LEVEL": "info"})
    product.start()
    yield product
    product.stop()


@pytest.fixture(scope="module")
def everybody(busy):
    people = crowd.sign_in(busy, 2000)
    crowd.connect(busy, people, SCOPES)
    return people


@pytest.fixture(autouse=True)
def slow_provider(busy):
    busy.stand_in.fault("userinfo", "delay", times=None, seconds=PROVIDER_SECONDS)
    yield
    busy.stand_in.clear_faults()


class Watch:
    """How many processes and threads a program has at most, looked at all the time."""

    def __init__(self, process):
        self.process = process
        self.processes = self.threads = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join()

    def _look(self):
        while not self._ending.wait(0.02):
            workers = self.process.children()
            self.processes = max(self.processes, len(workers))
            for pid in workers:
                self.threads = max(self.threads, len(os.listdir(f"/proc/{pid}/task")))


def validate_all(product, people):
    return at_once(product, [("POST", each.service_path(), each.token) for each in people])


def test_500_validations_at_once(busy, everybody):
    # A sanitized worker needs so long for its part of a handshake that the last would run out of time.
    some = everybody[:100 if SANITIZED else 500]
    with Watch(busy.serve) as watch:
        begun = time.monotonic()
        answers = validate_all(busy, some)
        seconds = time.monotonic() - begun
    assert {each.status for each in answers} == {200}, {each.status: each.fault for each in answers}
    for person, answer in zip(some, answers):
        document = answer.json()
        assert document["is_valid"] is True and document["integration"]["user_id"] == person.user
    # The resolver's one thread is there while a name is looked up.
    assert watch.processes == 2 and watch.threads <= 2, (watch.processes, watch.threads)
    assert seconds >= PROVIDER_SECONDS
    if not SANITIZED:
        assert seconds < 5, seconds


def test_2000_validations_at_once(busy, everybody):
    with Watch(busy.serve) as watch:
        answers = validate_all(busy, everybody)
    assert {each.status for each in answers} <= {200, 503}, {each.status: each.fault for each in answers}
    refused = [each for each in answers if each.status == 503]
    for person, answer in zip(everybody, answers):
        if answer.status == 200:
            assert answer.json()["integration"]["user_id"] == person.user
    for answer in refused:
        assert answer.headers["retry-after"].isdigit() and answer.json()["code"] in ("overloaded", "store_unavailable")
    assert watch.processes == 2 and watch.threads <= 2, (watch.processes, watch.threads)
    print(f"{len(answers) - len(refused)} validated, {len(refused)} refused after at most "
          f"{max((each.seconds for each in refused), default=0):.2f} s, slowest {max(e.seconds for e in answers):.2f}")
    if not SANITIZED:
        assert all(each.seconds < 2 for each in refused)


def test_lists_beside_a_slow_provider(make_product):
    """The first 50,000 requests of `make soak`."""
    if SANITIZED:
        pytest.skip("memory of a sanitized program is not its own")
    seen = soak.soak(make_product(**soak.settings()), 50_000)
    assert seen["good"], seen
