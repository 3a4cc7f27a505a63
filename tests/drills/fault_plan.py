"""The test's side of faults.c: arm a fault in the workers, and read what came of it.

    faults = Faults(path, program)               # then Product(environment=faults.environment)
    faults.count(ALLOCATION); ...; faults.off()  # faults.seen, faults.stacks()
    faults.fail(ALLOCATION, 17); ...; faults.off()  # faults.fired, faults.site()

A site is told by function names: what failed, and who of ours had called it.
"""

import bisect
import ctypes
import errno
import functools
import mmap
import os
import subprocess

from processes import REPOSITORY

LIBRARY = os.path.join(REPOSITORY, "build", "drills", "faults.so")
KINDS = ("allocation", "socket", "connect", "read", "recv", "write", "send", "writev", "accept4", "getrandom", "open", "epoll_ctl")
ALLOCATION = "allocation"
SHORT = -1
OFF, COUNT, FAIL = range(3)
FIRST, LAST = range(2)
PROGRAM = "integrations"


class Module(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("name", ctypes.c_char * 112)]


class Plan(ctypes.Structure):
    """struct plan of faults.c."""

    _fields_ = [("armed", ctypes.c_uint32), ("kind", ctypes.c_uint32), ("error", ctypes.c_int32), ("all_later", ctypes.c_uint32),
                ("n", ctypes.c_uint64), ("seen", ctypes.c_uint64), ("fired", ctypes.c_uint64), ("target", ctypes.c_uint64), ("worker", ctypes.c_uint64),
                ("starts", ctypes.c_uint64), ("live", ctypes.c_int64), ("of_kind", ctypes.c_uint64 * len(KINDS)),
                ("frame_count", ctypes.c_uint64 * 2), ("frames", ctypes.c_uint64 * 48 * 2), ("module_count", ctypes.c_uint64),
                ("modules", Module * 48), ("trace_count", ctypes.c_uint64), ("trace", ctypes.c_uint64 * 65536)]


@functools.lru_cache(None)
def symbols(path):
    """Addresses in order, and the names of the functions that begin there: of a stripped library those it exports."""
    flags = ["--dynamic"] if ".so" in path else []
    listed = subprocess.run(["nm", "--defined-only", *flags, path], capture_output=True, text=True, check=True).stdout
    found = sorted({int(parts[0], 16): parts[2].split("@")[0] for parts in map(str.split, listed.splitlines())
                    if len(parts) == 3 and parts[1] in "TtWi"}.items())
    return [address for address, _ in found], [name for _, name in found]


def library_of(path):
    """libhiredis for /usr/lib/.../libhiredis.so.0.14."""
    return os.path.basename(path).split(".so")[0]


class Faults:
    def __init__(self, path, program):
        self.program = program
        with open(path, "wb") as file:
            file.truncate(ctypes.sizeof(Plan))
        with open(path, "r+b") as file:
            self.plan = Plan.from_buffer(mmap.mmap(file.fileno(), 0))
        self.environment = {"LD_PRELOAD": LIBRARY, "FAULTS_FILE": str(path)}

    def _arm(self, armed, kind, n=0, error=errno.ENOMEM, all_later=False, target=None):
        plan = self.plan
        plan.armed = OFF
        plan.kind, plan.error, plan.all_later, plan.n = KINDS.index(kind), error, all_later, n
        plan.target = plan.worker if target is None else target
        plan.seen = plan.fired = plan.frame_count[0] = plan.frame_count[1] = plan.trace_count = 0
        for number in range(len(KINDS)):
            plan.of_kind[number] = 0
        plan.armed = armed

    def count(self, kind, error=errno.ENOMEM):
        """See all calls of the kind from now on. With SHORT those that move less than two bytes are not among them."""
        self._arm(COUNT, kind, error=error)

    def fail(self, kind, n, error=errno.ENOMEM, all_later=False, target=None):
        """From now on the n-th call of the kind fails, and with `all_later` every one after it: in the worker that there
        is now, or with `target` 0 in those that are yet to come."""
        self._arm(FAIL, kind, n, error, all_later, target)

    def off(self):
        self.plan.armed = OFF

    @property
    def seen(self):
        return self.plan.seen

    @property
    def fired(self):
        return self.plan.fired

    @property
    def worker(self):
        return self.plan.worker

    @property
    def live(self):
        """Blocks that the worker holds more than when it began."""
        return self.plan.live

    def of_kind(self):
        return dict(zip(KINDS, self.plan.of_kind))

    def stacks(self):
        """What tells the stack of each that was counted, in their order."""
        return list(self.plan.trace[:self.plan.trace_count])

    def _frame(self, address):
        """(module, function) that an address on the stack belongs to."""
        modules = [module for module in self.plan.modules[:self.plan.module_count] if module.base <= address]
        if not modules:
            return "?", "?"
        module = max(modules, key=lambda each: each.base)
        path = module.name.decode() or self.program
        if not os.path.isabs(path) or not os.path.exists(path):
            return path or "?", "?"
        addresses, names = symbols(path)
        at = bisect.bisect_right(addresses, address - 1 - module.base) - 1
        return (PROGRAM if path == self.program else library_of(path)), names[at] if at >= 0 else "?"

    def frames(self, which=LAST):
        """Of the call that failed first or last, the innermost first; without this library and the C library."""
        found = [self._frame(address) for address in self.plan.frames[which][:self.plan.frame_count[which]]]
        return [frame for frame in found if frame[0] not in ("faults", "libc", "?", "ld-linux-x86-64")]

    def site(self, which=LAST):
        """("libfcgi", "FCGX_Accept_r", "gateway_read"): the library, which of its functions was called, and by whom.
        For our own code the library is "integrations" and the function is the one that asked for memory."""
        frames = self.frames(which)
        if not frames:
            return "?", "?", "?"
        library = frames[0][0]
        if library == PROGRAM:
            return PROGRAM, frames[0][1], frames[1][1] if len(frames) > 1 else "?"
        own = [number for number, frame in enumerate(frames) if frame[0] == PROGRAM]
        outermost = [number for number, frame in enumerate(frames) if frame[0] == library and (not own or number < own[0])]
        return library, frames[outermost[-1]][1], frames[own[0]][1] if own else "?"

    def told(self):
        return " < ".join(f"{function}" if library == PROGRAM else f"{library}:{function}" for library, function in self.frames()[:14])
