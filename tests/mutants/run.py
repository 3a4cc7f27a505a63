#!/usr/bin/python3 -B
"""Takes one check at a time out of the C code and expects the tests to fail.

    tests/mutants/run.py              all mutants
    tests/mutants/run.py NAME...      these; NAME* is all that begin so
    tests/mutants/run.py --list       their names, after a look whether their texts are there

Works on copies in a temporary directory, MUTANTS_LANES (default 2) at a time. Status 0 only when all were killed.
"""

import fnmatch
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import table

ROOT = os.path.join(table.FOLDER, "../..")
LANES = int(os.environ.get("MUTANTS_LANES", "2"))
BUILD_SECONDS = 900
TEST_SECONDS = 240
MEMORY = 2 << 30  # bytes for a unit test: one that lost a bound must not take the machine's
CHECK_SECONDS = 1500  # all tests on the code as it is
# A mutation leaves things unused: that is no error here. Less optimized, because much is built and little is run.
BUILD = ["make", "EXTRA_CFLAGS=-O1 -Wno-error"]
KILLED, SURVIVED, ERROR = "killed", "SURVIVED", "ERROR"


class Stopped(Exception):
    """Somebody wants the run to end."""


class Runner:
    """One process at a time, in a session of its own, so that its end can be made sure of."""

    def __init__(self):
        self.process = None
        self.stopped = False

    def run(self, command, directory, seconds, environment=None):
        """(status, what it wrote); None for the status when it did not end in time."""
        if self.stopped:
            raise Stopped
        self.process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                        start_new_session=True)
        try:
            text, _ = self.process.communicate(timeout=seconds)
            status = self.process.returncode
        except subprocess.TimeoutExpired:
            text, status = self.end(), None
        if self.stopped:
            raise Stopped
        return status, text

    def end(self):
        """As Ctrl-C does, so that pytest ends what its tests have started; then for good."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            return self.process.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.communicate()[0]

    def stop(self):
        self.stopped = True
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)


class Kept:
    """A file as it was, with its time: so nothing is built again because of it."""

    def __init__(self, path):
        self.path = path
        self.time = os.stat(path).st_mtime_ns
        with open(path, "rb") as file:
            self.content = file.read()

    def restore(self):
        with open(self.path, "wb") as file:
            file.write(self.content)
        # What is made of a script is newer than it was, and is made again.
        if not self.path.endswith(".lua"):
            os.utime(self.path, ns=(self.time, self.time))


class Lane:
    """A copy of the checkout with a build, and the mutants that are tried in it one after the other."""

    def __init__(self, directory):
        self.directory = directory
        self.tree = os.path.join(directory, "tree")
        self.runner = Runner()

    def make(self, units, program, jobs=1):
        targets = (["all"] if program else []) + [f"build/unit/{unit}" for unit in units]
        return self.runner.run([*BUILD, f"-j{jobs}", *targets], self.tree, BUILD_SECONDS)

    def unit(self, name, seconds):
        status, text = self.runner.run(["prlimit", f"--as={MEMORY}", os.path.join("build/unit", name)], self.tree, seconds)
        failed = re.findall(r"^\[  FAILED  \] (\w+)$", text, re.M)
        return status, text, f"{name} {failed[0]}" if failed else name

    def pytest(self, tests, seconds):
        base = os.path.join(self.directory, "t")  # short: paths of sockets have to be
        environment = {name: value for name, value in os.environ.items() if name != "INTEGRATIONS_BIN"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        command = ["/usr/bin/python3", "-m", "pytest", "-q", "-x", "-rfE", "--tb=short", "-p", "no:cacheprovider",
                   "--basetemp", base, *tests]
        status, text = self.runner.run(command, self.tree, seconds, environment)
        failed = re.findall(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", text, re.M)
        return status, text, failed[0] if failed else " ".join(tests)

    def test(self, units, tests, seconds):
        """(status, text, which test) of the first that fails, or of the last."""
        result = (0, "", "nothing was run")
        for unit in units:
            result = self.unit(unit, seconds)
            if result[0] != 0:
                return result
        # Folders have helpers of the same name, so each is a run of its own.
        for folder in sorted({test.split("/")[1] for test in tests}):
            result = self.pytest([test for test in tests if test.split("/")[1] == folder], seconds)
            if result[0] != 0:
                return result
        return result

    def prepare(self, units, program):
        for name in ("fcgi", "common", "nginx", "deploy", "tests"):
            shutil.copytree(os.path.join(ROOT, name), os.path.join(self.tree, name),
                            ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
        shutil.copy(os.path.join(ROOT, "Makefile"), self.tree)
        status, text = self.make(units, program, LANES)
        if status != 0:
            raise table.Wrong(f"the code does not build:\n{text[-4000:]}")

    def check(self, units, tests):
        """All tests pass on the code as it is: else what fails later would prove nothing."""
        status, text, which = self.test(units, tests, CHECK_SECONDS)
        if status != 0:
            raise table.Wrong(f"without any mutation this fails: {which}\n{text[-4000:]}")

    def attempt(self, mutant):
        """(outcome, what to say about it)"""
        source = Kept(os.path.join(self.tree, mutant.file))
        kept = [source]
        if mutant.file.endswith(".c"):
            kept.append(Kept(os.path.join(self.tree, "build/obj", mutant.file[:-1] + "o")))
        mutated = mutant.apply(source.content.decode())
        with open(source.path, "w", encoding="utf-8") as file:
            file.write(mutated)
        try:
            status, said = self.make(mutant.units(), mutant.pytests())
            if status != 0:
                return ERROR, f"it does not build:\n{said[-2000:]}"
            status, said, which = self.test(mutant.units(), mutant.pytests(), TEST_SECONDS)
        finally:
            for each in kept:
                each.restore()
        if status == 0:
            return SURVIVED, " ".join(mutant.tests)
        if status is None:
            return ERROR, f"no end within {TEST_SECONDS} s: {which}\n{said[-2000:]}"
        # pytest: 1 is a failed test, the rest are troubles of its own. A unit test may also crash.
        if status != 1 and which.startswith("tests/"):
            return ERROR, f"pytest ended with {status}:\n{said[-2000:]}"
        return KILLED, which


class Run:
    def __init__(self, mutants, directory):
        self.mutants = mutants
        self.units = sorted({unit for mutant in mutants for unit in mutant.units()})
        self.tests = sorted({test for mutant in mutants for test in mutant.pytests()})
        self.lanes = [Lane(os.path.join(directory, str(number))) for number in range(min(LANES, len(mutants)))]
        self.waiting = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.outcomes = []
        self.trouble = None

    def tell(self, mutant, outcome, words, seconds):
        with self.lock:
            self.outcomes.append(outcome)
            print(f"{outcome:8} {mutant.name:36} {seconds:4.0f} s  {words}", flush=True)

    def work(self, number, lane):
        try:
            if number > 0:
                shutil.copytree(self.lanes[0].tree, lane.tree)  # with the times, so that make finds all built
            # Each lane sees to its share of the tests; unit tests cost next to nothing.
            lane.check(self.units if number == 0 else [], self.tests[number::len(self.lanes)])
            with self.lock:
                print(f"lane {number + 1}: its tests pass on the code as it is", flush=True)
            while True:
                mutant = self.waiting.get_nowait()
                begun = time.monotonic()
                try:
                    outcome, words = lane.attempt(mutant)
                except table.Wrong as wrong:
                    outcome, words = ERROR, str(wrong)
                self.tell(mutant, outcome, words, time.monotonic() - begun)
        except (Stopped, queue.Empty):
            return
        except Exception as trouble:  # pylint: disable=broad-except
            self.stop(trouble)

    def stop(self, trouble):
        self.trouble = self.trouble or trouble
        for lane in self.lanes:
            lane.runner.stop()

    def all(self):
        for mutant in sorted(self.mutants, key=lambda each: (bool(each.pytests()), each.file)):
            self.waiting.put(mutant)
        print(f"{len(self.mutants)} mutants, {len(self.units)} unit tests, {len(self.tests)} other tests: building", flush=True)
        self.lanes[0].prepare(self.units, self.tests)
        threads = [threading.Thread(target=self.work, args=each) for each in enumerate(self.lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def chosen(mutants, patterns):
    for pattern in patterns:
        if not any(fnmatch.fnmatch(mutant.name, pattern) for mutant in mutants):
            raise table.Wrong(f"there is no mutant {pattern}")
    return [mutant for mutant in mutants
            if not patterns or any(fnmatch.fnmatch(mutant.name, pattern) for pattern in patterns)]


def main(arguments):
    mutants = table.read_all()
    if arguments == ["--list"]:
        for mutant in mutants:
            with open(os.path.join(ROOT, mutant.file), encoding="utf-8") as file:
                mutant.apply(file.read())
            print(f"{mutant.name:36} {mutant.file}")
        return 0
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of `make mutants`, not of the makes that are run here
        os.environ.pop(name, None)
    begun = time.monotonic()
    directory = tempfile.mkdtemp(prefix="mutants.")
    run = Run(chosen(mutants, arguments), directory)
    signal.signal(signal.SIGTERM, lambda *_: run.stop(Stopped("ended by a signal")))
    signal.signal(signal.SIGINT, lambda *_: run.stop(Stopped("ended by a signal")))
    try:
        run.all()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if run.trouble is not None:
        raise run.trouble
    counts = {outcome: run.outcomes.count(outcome) for outcome in (KILLED, SURVIVED, ERROR)}
    print(f"{len(run.mutants)} mutants: {counts[KILLED]} killed, {counts[SURVIVED]} survived, {counts[ERROR]} in error, "
          f"in {time.monotonic() - begun:.0f} s")
    return 0 if counts[KILLED] == len(run.mutants) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (table.Wrong, Stopped) as reason:
        sys.exit(f"tests/mutants/run.py: {reason}")
