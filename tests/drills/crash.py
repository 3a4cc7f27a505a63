"""Every boundary at which whoever changes a connection can die, and what each route is there for.

A boundary is a command to Redis (before it arrives, after its answer has come) or a call to the provider (arrived, worked
off but not answered). What a route sends is learnt from a run of it in which nobody dies.
"""

import base64
import itertools
import os
import secrets
import signal
import subprocess
import threading
from dataclasses import dataclass

from checks import live, make_due
from cluster import Cluster, Later, Person
from harness import PROGRAM, good, problem, wait_until, write_file
from vault import honoured, stored

AGAIN = ("state_invalid", "code_rejected")  # what a spent code is answered: begin anew


@dataclass(frozen=True)
class Boundary:
    where: str  # "redis", "provider"
    name: str
    after: bool
    skip: int = 0  # so many of the same name come before it

    def __str__(self):
        return f"{'after' if self.after else 'before'} {self.where}'s {self.name}" + (f" {self.skip + 1}" if self.skip else "")


# A provider that rotates forgets the old token when it gives the new one. From its getting the request to the new token's
# being stored a death loses the grant, and never else.
WINDOW = (Boundary("provider", "refresh", False), Boundary("provider", "refresh", True), Boundary("redis", "refresh", False))


def boundaries(steps, endpoints):
    """All of them, from the names of the commands in their order and the provider's endpoints."""
    found = [Boundary("redis", name, after, steps[:at].count(name)) for at, name in enumerate(steps) for after in (False, True)]
    return found + [Boundary("provider", name, after) for name in endpoints for after in (False, True)]


class Command(threading.Thread):
    """A command of the program that waits to be let go, so that its pid is known before it does anything."""

    def __init__(self, lane, *arguments):
        super().__init__(daemon=True)
        url = f"unix://{lane.cluster.proxy.admin_path}"
        settings = {**lane.product.environment, "REDIS_URL": url, "REDIS_ADMIN_URL": url}
        self.process = subprocess.Popen(["/bin/sh", "-c", 'read -r _ && exec "$0" "$@"', PROGRAM, *arguments], env=settings,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.pid = self.process.pid
        self.output = ""

    def run(self):
        self.output, _ = self.process.communicate("go\n")

    def result(self, seconds=30):
        self.join(seconds)
        assert not self.is_alive(), "the command does not end"
        assert self.process.returncode == 0, self.output
        return self.output


class Lane:
    """A host whose worker dies again and again, with a proxy before its Redis. Lanes work beside each other."""

    def __init__(self, cluster, host):
        self.cluster, self.product, self.host = cluster, cluster.product, host

    def kill(self):
        self.cluster.kill(self.host)

    def revive(self):
        self.product.hosts[self.host].serve.start()
        self.product.hosts[self.host].wait_ready()

    def person(self, name):
        return Person(self.cluster, name, host=self.host)


class Route:
    """One way to change a connection: `prepare`, then `act` until the worker dies, then `check`. One object a case."""

    endpoints = ()
    # What it is over without, or not always has: /readyz pings, and where a mark (ECHO) is depends on what came together.
    no_step_of_it = ("ping", "echo")

    def __init__(self, lane, name, rotating=False):
        self.lane, self.product = lane, lane.product
        self.rotating, self.boundary = rotating, None
        self.person = lane.person(name)
        self.other = None
        self.prepare()

    def prepare(self):
        raise NotImplementedError

    def act(self):
        raise NotImplementedError

    def check(self, outcome):
        """After the restart. `outcome` gets `wrong` and `clean`."""
        raise NotImplementedError

    # Dying

    def begin(self):
        """The thread that acts, and the pid of who will die; `go` starts it."""
        return self.lane.cluster.worker(self.lane.host), lambda: Later(self.act)

    def kill(self, _pid):
        self.lane.kill()

    def revive(self):
        self.lane.revive()

    def accounts(self):
        return [each.account for each in (self.person, self.other) if each is not None]

    def run_to_its_end(self):
        """The names of the commands that it takes."""
        pid, go = self.begin()
        with self.lane.cluster.proxy.watched(pid) as steps:
            self.finish(go())
            # What is sent without waiting for an answer has arrived when the worker's next answer comes.
            self.settle()
        return [step for step in steps if step not in self.no_step_of_it]

    def finish(self, running):
        good(running.answer())

    def settle(self):
        assert self.product.hosts[self.lane.host].status("/readyz") == 200

    def die_at(self, boundary):
        """Until the restart. True when the boundary was reached."""
        self.boundary = boundary
        pid, go = self.begin()
        faults, held = [], None
        if boundary.where == "redis":
            held = self.lane.cluster.proxy.hold(boundary.name, after=boundary.after, pid=pid, skip=boundary.skip)
        else:
            faults = [self.product.stand_in.fault(boundary.name, "hold", after=boundary.after, account=each)
                      for each in self.accounts()]
        running = go()
        if held is not None:
            held.wait()
        else:
            wait_until(lambda: self.holding(faults, "fired"), "the provider is asked")
        self.kill(pid)
        for each in faults:
            self.product.stand_in.release(each)
        wait_until(lambda: not self.holding(faults, "waiting"), "the provider goes on")
        self.ended(running)
        self.revive()

    def holding(self, faults, what):
        return any(each[what] for each in self.product.stand_in.faults() if each["id"] in faults)

    def ended(self, running):
        """Whoever asked has got some answer."""
        assert running.answer().status_code in (200, 503), "a dead worker is answered for by nginx"

    # Looking

    def kept(self, outcome):
        """The connection is whole, and what it holds is worth something; the record."""
        record, token = stored(self.product, self.person.name)
        if record is None:
            outcome.wrong("lost", "the connection is gone")
        elif not honoured(self.product, token):
            outcome.wrong("lost", "the stored refresh token is not honoured")
        return record

    def disconnects(self, outcome):
        """Said as often as it takes: nothing is left here or at the provider."""
        answer = self.person.session.disconnect("acme", host=0)
        if answer.status_code != 200:
            problem(answer, 404, "integration_not_found")
        problem(self.person.session.disconnect("acme", host=0), 404, "integration_not_found")
        self.gone(outcome)

    def gone(self, outcome):
        if stored(self.product, self.person.name)[0] is not None:
            outcome.wrong("resurrected", "the connection is there after a disconnect")
        for account in self.accounts():
            if live(self.product, account) != 0:
                outcome.wrong("failed_open", f"{account} is not revoked after a disconnect")


class Callback(Route):
    """Somebody new."""

    endpoints = ("exchange",)

    def prepare(self):
        self.document = self.person.authorize()
        self.first = self.generation()

    def act(self):
        return self.person.callback(self.document)

    def generation(self):
        """Of what is stored, or None."""
        return (stored(self.product, self.person.name)[0] or {}).get("generation")

    def check(self, outcome):
        record, token = stored(self.product, self.person.name)
        done = self.generation() != self.first
        answer = self.person.callback(self.document, host=0)
        if answer.status_code == 200:
            if done:
                outcome.wrong("duplicated", "a state was taken twice")
        elif answer.json()["code"] not in AGAIN:
            outcome.wrong("stuck", f"a spent code is answered {answer.text}")
        elif not done:
            outcome.clean()
        if record is not None and not honoured(self.product, token):
            outcome.wrong("lost", "what was stored is not honoured")
        record, _ = stored(self.product, self.person.name)
        if record is None:
            self.connect_again()
        self.kept(outcome)
        self.disconnects(outcome)

    def connect_again(self):
        self.person.connect()


class Again(Callback):
    """The same account once more."""

    def prepare(self):
        self.before = self.person.connect()
        super().prepare()

    def check(self, outcome):
        record = self.kept(outcome)
        if record and record["id"] != self.before["id"]:
            outcome.wrong("lost", "another connection is there")
        super().check(outcome)


class Replace(Again):
    """Another account in the place of the stored one."""

    endpoints = ("exchange", "revoke")

    def prepare(self):
        self.before = self.person.connect()
        self.other = self.lane.person(f"{self.person.name}-other")
        self.authorize()

    def authorize(self):
        self.document = self.person.session.authorize("acme", account=self.other.account, replace="true")

    def check(self, outcome):
        record = self.kept(outcome)
        answer = self.person.callback(self.document, host=0)
        if answer.status_code != 200 and answer.json()["code"] not in AGAIN:
            outcome.wrong("stuck", f"a spent code is answered {answer.text}")
        if answer.status_code != 200 and record and record["id"] == self.before["id"]:
            outcome.clean()
        # Whoever begins anew replaces it for good; and then nothing is left of either.
        self.authorize()
        good(self.person.callback(self.document, host=0))
        self.kept(outcome)
        self.disconnects(outcome)


class Validate(Route):
    endpoints = ("refresh", "userinfo")

    def prepare(self):
        self.before = self.person.connect()
        make_due(self.product, self.person.name)

    def act(self):
        return self.person.session.validate("acme", host=self.lane.host)

    def check(self, outcome):
        record, token = stored(self.product, self.person.name)
        if record and not honoured(self.product, token) and self.rotating and self.boundary in WINDOW:
            self.lost_as_promised(outcome)
            return
        record = self.kept(outcome)
        if record and (record["id"] != self.before["id"] or record["status"] != "valid"):
            outcome.wrong("lost", f"the record says {record['status']}")
        if record and not self.person.works():
            outcome.wrong("lost", "the connection does not work")

    def lost_as_promised(self, outcome):
        """That is said, and connecting again helps."""
        problem(self.lane.cluster.caller.token(self.person.name, host=0), 409, "reconnect_required")
        record, = self.person.session.list("acme", host=0)
        if record["status"] != "invalid":
            outcome.wrong("failed_open", f"a lost connection is called {record['status']}")
        self.person.connect()
        self.kept(outcome)
        outcome.clean()


class Token(Validate):
    endpoints = ("refresh",)

    def act(self):
        return self.lane.cluster.caller.token(self.person.name, host=self.lane.host)


class Disconnect(Route):
    endpoints = ("revoke",)

    def prepare(self):
        self.person.connect()

    def act(self):
        return self.person.session.disconnect("acme", host=self.lane.host)

    def check(self, outcome):
        if stored(self.product, self.person.name)[0] is not None:
            self.kept(outcome)
        self.disconnects(outcome)


class Remove(Disconnect):
    """The command."""

    no_step_of_it = ("event", "echo")

    def begin(self):
        return self.start("remove", "--org", "acme", "--user", self.person.name)

    def start(self, *arguments):
        command = Command(self.lane, *arguments)

        def go():
            command.start()
            return command
        return command.pid, go

    def finish(self, running):
        running.result()

    def settle(self):
        """It waits itself for what it has sent."""

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)

    def ended(self, running):
        running.join(10)
        assert running.process.returncode == -signal.SIGKILL, "the command has ended before it was killed"

    def revive(self):
        """No worker died."""

    def again(self):
        self.product.command("remove", "--org", "acme", "--user", self.person.name)

    def check(self, outcome):
        self.again()
        self.gone(outcome)
        if self.lane.cluster.caller.token(self.person.name, host=0).status_code != 403:
            outcome.wrong("failed_open", "a removed member is served")
        self.product.command("restore", "--org", "acme", "--user", self.person.name)
        self.person.connect()
        self.kept(outcome)


def read_ring(product):
    with open(product.keys_file, encoding="ascii") as file:
        return file.read()


class SealAnew(Remove):
    """`keys rotate`, with a new key put before those that are in use."""

    def __init__(self, lane, name, oldest):
        self.oldest = oldest
        super().__init__(lane, name)

    def prepare(self):
        self.person.connect()
        self.key = f"k{next(_numbers)}"
        secret = base64.b64encode(secrets.token_bytes(32)).decode()
        self.product.scanner.record(secret, "a key of the key ring")
        # The one before, and the one that the workers began with.
        before = read_ring(self.product).split("\n")[0] + "\n"
        kept = self.oldest if before == self.oldest else before + self.oldest
        write_file(self.product.keys_file, f"{self.key}:{secret}\n{kept}", 0o600)

    def begin(self):
        return self.start("keys", "rotate")

    def check(self, outcome):
        done = self.product.command("keys", "rotate").stdout
        for each in self.product.redis.scan_iter("credential:*"):
            sealed = self.product.redis.hmget(each, "access_token", "refresh_token")
            if not all(value.startswith(f"{self.key}.") for value in sealed):
                outcome.wrong("stuck", f"{each} is not under the new key: {done}")


_numbers = itertools.count(2)


ROUTES = {"callback": Callback, "callback again": Again, "callback with another account": Replace, "validate": Validate,
          "token": Token, "disconnect": Disconnect, "remove": Remove}


def make_cluster(directory, lanes):
    cluster = Cluster(directory, hosts=1 + lanes)
    # Host 0 only looks and never dies. A machine that is busy can keep a command in the proxy for longer than a worker waits.
    observer = cluster.product.hosts[0]
    observer.environment["REDIS_URL"] = cluster.product.redis_server.url
    observer.restart()
    cluster.reset()
    return cluster, [Lane(cluster, host) for host in range(1, 1 + lanes)]


def learn(lane, routes=None, rotating=False):
    """All boundaries: a list of (route's name, boundary). The first run loads the scripts."""
    found = []
    for name in routes or ROUTES:
        tag = name.replace(" ", "-") + ("-rotating" if rotating else "")
        ROUTES[name](lane, f"first-{tag}").run_to_its_end()
        route = ROUTES[name](lane, f"learn-{tag}")
        found += [(name, boundary) for boundary in boundaries(route.run_to_its_end(), route.endpoints)]
        wait_until(lambda person=route.person: person.lease() is None, "its lease is over")
    return found
