"""kill -9 at every boundary of everything that changes a connection: nothing is lost, nothing is half, repetition finishes.

A share of the boundaries in a test run; all of them by `make chaos`.
"""

import collections
import concurrent.futures
import queue
import threading
import traceback

import pytest

import crash
import orders
from checks import fingerprint
from drill import SEED, SHARE, Drill
from races import attempt, strangers
from vault import Half, honoured, stored

LANES = 4


class Outcome:
    """What came of one case."""

    def __init__(self):
        self.found = []
        self.is_clean = False

    def wrong(self, kind, what):
        self.found.append((kind, what))

    def clean(self):
        """The user was told to try again, or has to connect again where that is promised."""
        self.is_clean = True


@pytest.fixture(scope="module")
def lanes(tmp_path_factory):
    cluster, lanes = crash.make_cluster(tmp_path_factory.mktemp("chaos"), LANES)
    yield lanes
    cluster.stop()


def run_case(lane, number, name, boundary, rotating):
    """One death. The outcome, also of what went wrong in the test itself: that is named, and the others go on."""
    outcome = Outcome()
    try:
        route = crash.ROUTES[name](lane, f"case{number}{'r' if rotating else ''}", rotating)
        route.die_at(boundary)
        route.check(outcome)
    except Half as error:
        outcome.wrong("lost", str(error))
    except Exception as error:  # pylint: disable=broad-except
        outcome.wrong("stuck", "".join(traceback.format_exception(error)[-4:]))
        if not lane.product.hosts[lane.host].serve.running():
            lane.revive()
    return outcome


def run_cases(drill, lanes, cases, rotating=False):
    work, lock = queue.SimpleQueue(), threading.Lock()
    for number, case in enumerate(cases):
        work.put((number, *case))

    def run(lane):
        while True:
            try:
                number, name, boundary = work.get_nowait()
            except queue.Empty:
                return
            outcome = run_case(lane, number, name, boundary, rotating)
            with lock:
                drill.injected += 1
                drill.fired += 1
                drill.deaths += 1
                drill.clean_errors += outcome.is_clean
                drill.ok += not outcome.is_clean and not outcome.found
                for kind, what in outcome.found:
                    drill.wrong(kind, f"{name}, killed {boundary}: {what}")

    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        for each in [pool.submit(run, lane) for lane in lanes]:
            each.result()


def test_killed_anywhere(lanes):
    """A provider that does not rotate: no refresh token is lost, wherever the worker or the command dies."""
    cases = crash.learn(lanes[0])
    print(f"\n{len(cases)} boundaries")
    assert len(cases) > 150, cases
    with Drill("crash-windows", deaths_expected=True) as drill:
        run_cases(drill, lanes, drill.thin(cases))


def test_killed_anywhere_with_a_provider_that_rotates(lanes):
    """Only the stated window loses anything; who is in it is told so, and connects again."""
    lanes[0].product.stand_in.settings(personality="rotating")
    try:
        cases = crash.learn(lanes[0], ("validate", "token", "disconnect"), rotating=True)
        with Drill("crash-windows-rotating", deaths_expected=True) as drill:
            run_cases(drill, lanes, drill.thin(cases), rotating=True)
    finally:
        lanes[0].product.stand_in.settings(personality="google")


def test_killed_while_sealing_anew(lanes):
    """`keys rotate`, killed at each command: said again it finishes, and every connection works."""
    lane = lanes[0]
    lane.cluster.reset()  # it goes over all that is stored
    people = [lane.person(f"sealed{number}") for number in range(3)]
    for person in people:
        person.connect()
    oldest = crash.read_ring(lane.product)
    crash.SealAnew(lane, "first-ring", oldest).run_to_its_end()
    cases = crash.boundaries(crash.SealAnew(lane, "learn-ring", oldest).run_to_its_end(), ())
    with Drill("crash-windows-keys", deaths_expected=True) as drill:
        for number, boundary in enumerate(drill.thin(cases)):
            route = crash.SealAnew(lane, f"ring{number}", oldest)
            route.die_at(boundary)
            drill.injected, drill.fired, drill.deaths = drill.injected + 1, drill.fired + 1, drill.deaths + 1
            outcome = Outcome()
            for person in people:
                record, token = stored(lane.product, person.name)
                if not (record and honoured(lane.product, token)):
                    outcome.wrong("lost", person.name)
            route.check(outcome)
            drill.ok += not outcome.found
            for kind, what in outcome.found:
                drill.wrong(kind, f"keys rotate, killed {boundary}: {what}")
        if not all(person.works() for person in people):
            drill.wrong("lost", "a connection does not work after all that")


def test_three_at_once(lanes):
    """Three requests or commands to one connection, their steps in an order drawn from the seed."""
    cluster, outcomes, vended = lanes[0].cluster, collections.Counter(), {}
    with Drill("orders") as drill:
        for seed in range(SEED * 100_000, SEED * 100_000 + (700 if SHARE == 1 else 8)):
            drill.injected += 1
            race, outcome, failure = attempt(cluster, "three", seed, orders.three)
            drill.fired += 1
            outcomes[outcome] += 1
            vended.update((fingerprint(token), (seed, account)) for token, account in race.vended)
            if failure is None:
                drill.ok += 1
            else:
                drill.wrong(orders.kind_of(failure), f"seed {seed}: {failure}")
        for seed, what in strangers(cluster, vended).items():
            drill.wrong("wrong_user", f"seed {seed}: {what}")
    print(dict(outcomes.most_common(12)))
