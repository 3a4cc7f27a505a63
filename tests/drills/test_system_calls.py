"""Every system call of every kind of request fails in turn, with each error that it may have, or does less than asked.

What is promised is as for allocations; only the program's and its libraries' own calls are met, not those inside libc.
"""

import errno

import pytest

from drill import Drill
from fault_plan import SHORT
from torture import SHAPES, World

TRANSFER = (errno.EINTR, errno.EAGAIN, errno.ECONNRESET, SHORT)
ERRORS = {
    "socket": (errno.EMFILE, errno.ENOMEM),
    "connect": (errno.EINTR, errno.EAGAIN, errno.ECONNRESET),
    "read": TRANSFER,
    "recv": TRANSFER,
    "write": (*TRANSFER, errno.EPIPE, errno.ENOSPC),
    "send": (*TRANSFER, errno.EPIPE),
    "writev": (*TRANSFER, errno.EPIPE),
    "accept4": (errno.EINTR, errno.EAGAIN, errno.EMFILE, errno.ENOMEM),
    "getrandom": (errno.EINTR, errno.EAGAIN),
    "open": (errno.EMFILE, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("torture"))
    world.start()
    yield world
    world.stop()


def name(error):
    return "does less" if error == SHORT else errno.errorcode[error]


def cases(drill, world, shape):
    """[(kind, n, error)]. What moves less than two bytes cannot do less, and is not counted for it."""
    world.warm(shape)
    world.calls(shape, "read", error=SHORT)
    counted = world.faults.of_kind()
    return drill.thin((kind, n, error) for kind, errors in ERRORS.items() for error in errors
                      for n in range(1, counted[kind] + 1))


def test_every_system_call_fails(world):
    with Drill("system-calls", deaths_expected=True) as drill:
        for shape in SHAPES:
            for kind, n, error in cases(drill, world, shape):
                world.case(drill, shape, f"{kind} {n} {name(error)}",
                           lambda kind=kind, n=n, error=error: world.faults.fail(kind, n, error))
        world.close(drill)
