"""Every allocation of every kind of request fails in turn: alone, and with all that come after it.

Whoever asks for the memory, our own code or a library: the request gets a true answer or a clean error, what is stored is
as before or as after, and the worker goes on; or it ends, at one of the sites of FATAL, and the parent starts another.
"""

import pytest

from drill import SHARE, Drill
from fault_plan import ALLOCATION
from torture import SHAPES, World

EVERY = 300  # with more allocations than this, of those with the same stack only the first fails
FEW = 12  # cases of such a shape in a share
GROWTH = 500  # blocks that a worker may hold more after all cases of a shape: libraries keep things


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("torture"))
    world.start()
    yield world
    world.stop()


def cases(drill, world, shape):
    """[(n, whether all after the n-th fail, too)], and how many allocations there are."""
    world.warm(shape)
    stacks = world.calls(shape, ALLOCATION)
    assert len(stacks) == world.faults.seen > 0
    first = {}
    for n, stack in enumerate(stacks, 1):
        first.setdefault(stack, n)
    numbers = range(1, len(stacks) + 1) if len(stacks) <= EVERY else sorted(first.values())
    chosen = drill.thin((n, all_later) for n in numbers for all_later in (False, True))
    return chosen if SHARE == 1 or len(stacks) <= EVERY else sorted(drill.random.sample(chosen, FEW))


def test_every_allocation_fails(world):
    with Drill("allocations", deaths_expected=True) as drill:
        for shape in SHAPES:
            chosen = cases(drill, world, shape)
            held, workers = world.faults.live, world.faults.plan.starts
            for n, all_later in chosen:
                world.case(drill, shape, f"allocation {n}{' and all after it' if all_later else ''}",
                           lambda n=n, all_later=all_later: world.faults.fail(ALLOCATION, n, all_later=all_later))
            if world.faults.plan.starts == workers and world.faults.live - held > GROWTH:
                drill.wrong("leaked", f"{world.faults.live - held} blocks of memory in {len(chosen)} cases of {shape.name}")
        world.close(drill)
