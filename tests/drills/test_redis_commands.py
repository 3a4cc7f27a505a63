"""The commands of an operator, whose Redis does one thing wrong with one command: they say so and fail, or have done all of
it; and said again they do the rest."""

import base64
import json
import os

import pytest

from checks import key
from drill import Drill
from harness import Session, good, write_file
from redis_faults import FAULTS
from redis_proxy import step
from redis_requests import Place
from test_redis_faults import POSSIBLE, draw, fires


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("place"), Drill("redis-commands").random)
    place.start()
    yield place
    place.proxy.disarm()
    place.stop()


class Operation:
    """begin() makes what the command works on; is_done(output) says whether all of it is done, is_whole() whether nothing is
    lost, whatever came of it."""

    arguments = ()

    def __init__(self, place):
        self.place = place
        self.people = []

    def begin(self):
        pass

    def connect(self, count):
        self.people = []
        for _ in range(count):
            name, account = self.place.name(), self.place.account()
            session = self.place.session(name, {"acme": "member"})
            session.connect("acme", account=account)
            self.people.append((session, account))

    def ask(self):
        return self.place.operator(*self.arguments)

    def is_whole(self):
        return True


class CreateSession(Operation):
    name = "session create"
    arguments = ("session", "create", "--user", "operator", "--org", "acme")

    def is_done(self, output):
        token = output.split()[-1]
        self.place.scanner.record(token, "a session's token")
        return good(Session(self.place, token, "operator", "bearer").get("/api/me"))["user_id"] == "operator"


class CreateCaller(Operation):
    name = "caller create"
    arguments = ("caller", "create", "--name", "agents", "--mcps", "gmail", "--orgs", "acme")

    def is_done(self, output):
        self.place.scanner.record(output.split()[-1], "a caller's key")
        return "agents" in self.place.command("caller", "list").stdout


class ListCallers(Operation):
    name = "caller list"
    arguments = ("caller", "list")

    def is_done(self, output):
        return output.startswith("runtime: ends in")


class RevokeCaller(Operation):
    name = "caller revoke"
    arguments = ("caller", "revoke", "--name", "agents")

    def begin(self):
        self.place.command("caller", "create", "--name", "agents", "--mcps", "gmail", "--orgs", "acme")

    def is_done(self, output):
        return "agents" not in self.place.command("caller", "list").stdout

    def again_failed(self, output):
        """There was none any more: it was revoked before."""
        return output.startswith("0 keys")


class List(Operation):
    name = "list"
    arguments = ("list", "--org", "acme", "--json")

    def begin(self):
        if not self.people:
            self.connect(2)

    def is_done(self, output):
        return sorted(each["user_id"] for each in json.loads(output)["integrations"]) == \
            sorted(session.user for session, _ in self.people)


class Events(Operation):
    name = "events"
    arguments = ("events", "--org", "acme")

    def begin(self):
        if not self.people:
            self.connect(2)
            assert self.place.settle()

    def is_done(self, output):
        return all(session.user in output for session, _ in self.people)


class Rotate(Operation):
    name = "keys rotate"
    arguments = ("keys", "rotate")

    def begin(self):
        if not self.people:
            self.connect(2)
        # The other key comes first each time, so that there is something to do.
        with open(self.place.keys_file, encoding="ascii") as file:
            lines = file.read().splitlines()
        if len(lines) == 1:
            secret = base64.b64encode(os.urandom(32)).decode()
            self.place.scanner.record(secret, "a key of the key ring")
            lines.append(f"k2:{secret}")
        write_file(self.place.keys_file, "\n".join(reversed(lines)) + "\n", 0o600)
        self.first = lines[-1].split(":")[0]

    def is_done(self, output):
        sealed = [self.place.redis.hmget(key("credential", session.user), "access_token", "refresh_token")
                  for session, _ in self.people]
        return all(f"{self.first}." in text or f".{self.first}" in text for each in sealed for text in each)

    def is_whole(self):
        return all(self.place.caller.token(session.user).status_code == 200 for session, _ in self.people)


class Remove(Operation):
    name = "remove"

    def begin(self):
        self.connect(1)
        self.arguments = ("remove", "--org", "acme", "--user", self.people[0][0].user)

    def is_done(self, output):
        session, account = self.people[0]
        return self.place.redis.exists(f"removed:{{acme:{session.user}}}") and \
            not self.place.redis.exists(key("integration", session.user)) and \
            not self.place.redis.exists(key("credential", session.user)) and self.place.live(account) == 0

    def after_refused(self):
        self.place.redis.delete(key("integrations:unrevoked_claim", self.people[0][0].user))


OPERATIONS = (CreateSession, CreateCaller, ListCallers, RevokeCaller, List, Events, Rotate, Remove)


def watch(place, operation):
    """Twice, because the first one has Redis learn the scripts."""
    for _ in range(2):
        operation.begin()
        assert place.settle()
        place.proxy.arm()
        done = operation.ask()
        names = [step(command.words) for command in place.proxy.commands]
        assert done.returncode == 0 and operation.is_done(done.stdout), (operation.name, done.stdout, done.stderr)
    return names


def run(place, drill, operation, fault, at, name):
    what = f"{operation.name}: {fault} at {at} ({name})"
    operation.begin()
    assert place.settle()
    place.proxy.arm(fault, at)
    drill.injected += 1
    done = operation.ask()
    if not fires(place.proxy, drill, what):
        return
    place.proxy.disarm()
    if done.returncode == 0:
        drill.ok += 1
        if not operation.is_done(done.stdout) and (fault.name, name) not in POSSIBLE and fault.name != "nil":
            drill.wrong("failed_open", f"{what}: {done.stdout} {done.stderr}")
    else:
        drill.clean_errors += 1
        if done.returncode < 0:
            drill.wrong("deaths", f"{what}: {done.returncode}")
        elif not done.stderr.strip():
            drill.wrong("failed_open", f"{what}: it fails and does not say why")
        if fault.harmless:
            drill.wrong("stuck", f"{what}: failed for nothing: {done.stderr}")
    if hasattr(operation, "after_refused"):
        operation.after_refused()
    again = operation.ask()
    was_done = again.returncode != 0 and hasattr(operation, "again_failed") and operation.again_failed(again.stdout)
    if not was_done and (again.returncode != 0 or not operation.is_done(again.stdout)):
        drill.wrong("lost", f"{what}: once more: {again.returncode} {again.stdout} {again.stderr}")
    if not operation.is_whole():
        drill.wrong("lost", f"{what}: a connection does not work any more")


def test_every_command_of_every_operation(place):
    with Drill("redis-commands") as drill:
        place.anew()
        operations = [operation(place) for operation in OPERATIONS]
        cases = []
        for operation in operations:
            place.anew()
            operation.people = []
            cases += [(operation, fault, at, name) for at, name in enumerate(watch(place, operation), 1) for fault in FAULTS]
        only = os.environ.get("DRILL_ONLY", "")
        cases = [case for case in cases if only in f"{case[0].name}: {case[1]} at {case[2]} ({case[3]})"]
        last = None
        for case in sorted(draw(drill, cases, lambda case: case[1]), key=lambda case: case[0].name):
            if case[0] is not last:
                place.anew()
                case[0].people = []
                last = case[0]
            run(place, drill, *case)
