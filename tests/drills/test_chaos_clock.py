"""The wall clock of the service, or of Redis, steps by an hour or past 2038: nobody dies, nobody gets what is not theirs,
nothing is lost, and when the clock is right again all is as before."""

import calendar
import json
import os
import struct
import subprocess
import time

import pytest

from checks import make_due
from drill import SHARE, Drill
from harness import Product, callback_document, good
from processes import REPOSITORY, wait_until
from programs import Caller
from vault import honoured, stored

HOUR, YEARS = 3600, 20 * 365 * 86400
CLEAN = ("unauthenticated", "provider_unreachable", "identity_invalid", "integration_not_found", "state_invalid",
         "reconnect_required")


class Clock:
    """How far the wall clock of a process is off that was started with these settings (clock_step.c)."""

    def __init__(self, directory):
        self.path, self.library = (os.path.join(str(directory), name) for name in ("offset", "clock_step.so"))
        subprocess.run(["/usr/bin/gcc", "-O1", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", self.library,
                        os.path.join(REPOSITORY, "tests", "drills", "clock_step.c")], check=True)
        with open(self.path, "wb") as file:
            file.write(struct.pack("=q", 0))

    def step(self, seconds):
        with open(self.path, "r+b") as file:  # in its place: it is mapped
            file.write(struct.pack("=q", seconds))

    def settings(self):
        return {"LD_PRELOAD": self.library, "CLOCK_STEP": self.path}


def service_time(product):
    """How far the service's clock is off, by its log."""
    product.hosts[0].status("/readyz")
    product.request("GET", "/api/me")
    last = json.loads(product.serve.text().rstrip().splitlines()[-1])["time"]
    return calendar.timegm(time.strptime(last[:19], "%Y-%m-%dT%H:%M:%S")) - time.time()


def redis_time(product):
    return product.redis.time()[0] - time.time()


class Off:
    """The drill at one clock that is off."""

    def __init__(self, drill, product):
        self.drill, self.product = drill, product
        product.forget()
        self.sign_in()
        self.ada, self.removed = self.people["ada"], self.people["removed"]
        self.records = {name: self.people[name].connect("acme", account=account)
                        for name, account in (("ada", "ada"), ("bob", "grace"))}
        product.command("remove", "--org", "acme", "--user", "removed")

    def sign_in(self):
        self.people = {name: self.product.session(name, {"acme": "member"}, seconds=86400)
                       for name in ("ada", "bob", "carol", "removed")}
        self.caller = Caller(self.product, seconds=86400)

    def ask(self, what, answer, user=None):
        if answer.status_code == 200:
            self.drill.ok += 1
            body = answer.json()
            if user and body.get("integration", {}).get("user_id", user) != user:
                self.drill.wrong("wrong_user", f"{what}: {answer.text}")
            return body
        self.drill.clean_errors += 1
        if answer.json().get("code") not in CLEAN:
            self.drill.wrong("stuck", f"{what}: {answer.status_code} {answer.text}")
        return None

    def check(self, where, trusted):
        """Meanwhile: whatever is answered is true or a clean error. `trusted`: the provider's certificate is valid then."""
        product = self.product
        self.ask(f"{where}, list", self.ada.integrations("acme"))
        for name, person in (("ada", self.ada), ("bob", self.people["bob"])):
            make_due(product, name)
            product.stand_in.listen(False)  # no connection is kept: its certificate is looked at with the clock of now
            product.stand_in.listen(True)
            body = self.ask(f"{where}, validate", person.validate("acme"), name)
            if body and (body["is_valid"] != (body["integration"]["status"] == "valid") or body["is_valid"] and not trusted):
                self.drill.wrong("failed_open", f"{where}: {body}")
            body = self.ask(f"{where}, token", self.caller.token(name))
            if body and not product.stand_in.honours(access_token=body["access_token"]):
                self.drill.wrong("failed_open", f"{where}: a dead token was handed out")
        carol = self.people["carol"]
        link = carol.auth_link("acme")
        if self.ask(f"{where}, auth_link", link):
            document = self.consent(link.json()["auth_link"])
            self.ask(f"{where}, callback", carol.callback("acme", document), "carol")
        refused = self.removed.auth_link("acme").status_code, self.caller.token("removed").status_code
        if not set(refused) <= {401, 403}:
            self.drill.wrong("failed_open", f"{where}: a removed member is answered {refused}")
        self.kept(where)

    def consent(self, link):
        return callback_document(self.product.stand_in.authorize(link, "linus"))

    def kept(self, where):
        for name, record in self.records.items():
            now, token = stored(self.product, name)
            if now is None or now["id"] != record["id"] or not honoured(self.product, token):
                self.drill.wrong("lost", f"{where}: {name}'s connection")

    def check_right_again(self, where):
        """All is as before, for whoever is signed in."""
        self.sign_in()
        self.kept(f"after {where}")
        for name, record in self.records.items():
            if good(self.people[name].validate("acme"))["is_valid"] is not True:
                self.drill.wrong("lost", f"after {where}: {name} is not valid")
            make_due(self.product, name)
            body = good(self.caller.token(name))
            if "warning" in body or body["oauth_user_id"] != record["oauth_user_id"]:
                self.drill.wrong("lost", f"after {where}: {body}")
        if self.caller.token("removed").status_code != 403:
            self.drill.wrong("failed_open", f"after {where}: a removed member is served")
        self.people["carol"].connect("acme", account="linus")


@pytest.mark.parametrize("whose", ("service", "redis") if SHARE == 1 else ("service",))
def test_steps(tmp_path_factory, whose):
    clock = Clock(tmp_path_factory.mktemp("clock"))
    of_service = whose == "service"
    product = Product(tmp_path_factory.mktemp("product"), environment={"LIMIT_VALIDATE": "0", "LIMIT_AUTH_LINK": "0",
                                                                       **(clock.settings() if of_service else {})})
    if not of_service:
        product.redis_server.environment.update(clock.settings())
    product.start()
    off_by = service_time if of_service else redis_time
    try:
        workers = product.hosts[0].workers()
        with Drill(f"clock-{whose}") as drill:
            for seconds in drill.thin((-HOUR, HOUR, YEARS, -YEARS)):
                where = f"{whose} {seconds:+d} s"
                off = Off(drill, product)
                drill.injected += 1
                clock.step(seconds)
                wait_until(lambda expected=seconds: abs(off_by(product) - expected) < 60, "the clock is off")
                drill.fired += 1
                off.check(where, not of_service or abs(seconds) < YEARS)
                clock.step(0)
                wait_until(lambda: abs(off_by(product)) < 60, "the clock is right")
                off.check_right_again(where)
            drill.deaths = len(set(workers) - set(product.hosts[0].workers()))
    finally:
        clock.step(0)
        product.stop()
