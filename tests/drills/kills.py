"""Two instances behind one nginx, people who use them, and somebody who kills workers, instances and Redis at random."""

import os
import signal
import threading
import time

from harness import wait_until
from model import Chaos, Member
from programs import Caller

SYNC_SECONDS = 2  # what Redis with appendfsync everysec may lose (redis.conf)


def join_instances(product):
    """Host 0's nginx asks both instances, as a load balancer would."""
    path = os.path.join(product.hosts[0].directory, "nginx", "snippets")
    found = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.dirname(path)) for name in names
             if name == "integrations-http.conf"]
    (path,) = found
    with open(path, encoding="utf-8") as file:
        text = file.read()
    first, second = (f"server unix:{host.socket} max_fails=0;" for host in product.hosts[:2])
    assert text.count(first) == 2
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(first, f"{first}\n\t{second}"))
    reload_nginx(product)


def nginx_workers(product):
    return set(product.nginx.children())


def reload_nginx(product):
    before = nginx_workers(product)
    product.nginx.send(signal.SIGHUP)
    wait_until(lambda: len(nginx_workers(product) - before) == 2, "nginx has new workers")


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Killer:
    """Each kill is drawn from the seed: who, and how long until the next."""

    def __init__(self, chaos, draw, rolls_back):
        self.chaos, self.product, self.drill, self.draw, self.rolls_back = chaos, chaos.product, chaos.drill, draw, rolls_back
        self.killed = []

    def worker(self):
        host = self.draw.choice(self.product.hosts)
        workers = wait_until(host.workers, "there are workers", 30)
        self.kill(self.draw.choice(workers))

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)
        self.drill.deaths += 1
        wait_until(lambda: not is_alive(pid), "it is dead")

    def instance(self):
        """The parent and its workers at once; the other instance serves alone until this one is back."""
        host = self.draw.choice(self.product.hosts)
        host.serve.pause()
        for pid in host.workers():
            self.kill(pid)
        host.serve.kill()
        self.drill.deaths += 1
        time.sleep(self.draw.uniform(0, 0.5))
        host.serve.start()
        wait_until(lambda: len(host.workers()) == 2, "the instance is back", 30)

    def redis(self):
        begin = time.monotonic() - SYNC_SECONDS
        if self.rolls_back:
            self.chaos.rollbacks.append((begin, float("inf")))
        self.product.redis_server.kill()
        if self.rolls_back:
            self.chaos.rollbacks[-1] = (begin, time.monotonic())
        self.drill.deaths += 1
        time.sleep(self.draw.uniform(0, 0.5))
        self.product.redis_server.start()

    def run(self, whom, pauses):
        """One of `whom` after the other, each after a pause."""
        for what in whom:
            time.sleep(self.draw.uniform(*pauses))
            self.drill.injected += 1
            begun, since = time.monotonic(), self.chaos.clock()
            self.chaos.kills.append((begun, float("inf")))
            getattr(self, what)()
            self.chaos.kills[-1] = (begun, time.monotonic())
            self.drill.fired += 1
            self.killed.append(f"{since:.3f}-{self.chaos.clock():.3f} {what}")


def live_until(members, over):
    """Everybody in a thread of their own; what the test itself does wrong there fails it."""
    failed = []

    def run(member):
        try:
            while not over.is_set():
                member.act()
        except Exception as error:  # pylint: disable=broad-except
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(member,), daemon=True) for member in members]
    for each in threads:
        each.start()

    def end():
        over.set()
        for each in threads:
            each.join(60)
            assert not each.is_alive(), "somebody waits for ever"
        if failed:
            raise failed[0]
    return end


def everybody(members, what):
    """what(member) for all of them at once."""
    failed = []

    def run(member):
        try:
            what(member)
        except Exception as error:  # pylint: disable=broad-except
            failed.append(error)
    threads = [threading.Thread(target=run, args=(member,)) for member in members]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failed:
        raise failed[0]


def check_tokens(chaos, members):
    """Every token that was handed out is of the account that it was said to be of."""
    accounts = {sub: email for member in members for sub, email in member.accounts.items()}
    known = {token["fingerprint"]: token["account"] for token in chaos.product.stand_in.ledger()["access_tokens"]}
    for fingerprint, sub in chaos.vended:
        if known.get(fingerprint) != accounts[sub]:
            chaos.drill.wrong("wrong_user", f"a token said to be of {accounts[sub]} is of {known.get(fingerprint)}")


def check_grants(chaos, members):
    """Everybody has disconnected both their accounts: none is honoured."""
    live = {token["account"] for token in chaos.product.stand_in.ledger()["refresh_tokens"] if token["live"]}
    for member in members:
        for email in set(member.accounts.values()) & live:
            chaos.drill.wrong("failed_open", f"{email} is not revoked after its disconnect")


def under_load(product, drill, members, whom, pauses=(0.2, 1.2), rolls_back=False):
    """Kill `whom` while the members live; then check each of them. The Chaos, for its tallies."""
    chaos = Chaos(product, Caller(product, seconds=24 * 3600), drill)
    people = [Member(chaos, f"member{number}", drill.random.__class__(f"{drill.random.random()}")) for number in range(members)]
    end = live_until(people, threading.Event())
    try:
        wait_until(lambda: sum(chaos.answers.values()) > 20 * members, "traffic", 60)
        killer = Killer(chaos, drill.random, rolls_back)
        killer.run(whom, pauses)
        before = sum(chaos.answers.values())
        wait_until(lambda: sum(chaos.answers.values()) > before + 10 * members, "traffic goes on", 60)
    finally:
        end()
    for host in product.hosts:
        host.wait_ready()
    chaos.settle()
    everybody(people, Member.check_end)
    everybody(people, Member.end)
    check_tokens(chaos, people)
    check_grants(chaos, people)
    print("\nkilled: " + "; ".join(killer.killed))
    for what, count in chaos.answers.items():
        good = " 200" in what
        drill.ok += count if good else 0
        drill.clean_errors += 0 if good else count
    return chaos
