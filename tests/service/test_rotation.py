"""`integrations keys rotate` while the service serves."""

import base64
import os
import random
import threading

from checks import dump, key, make_due
from cluster import Later, Person
from harness import good, wait_until, write_file
from programs import Caller

PEOPLE = 30


def new_line(product, name):
    secret = base64.b64encode(os.urandom(32)).decode()
    product.scanner.record(secret, "a key of the key ring")
    return f"{name}:{secret}\n"


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


class Load:
    """Programs that use and refresh everybody's tokens, until it ends: the answers that were not good."""

    def __init__(self, product, people, threads=3):
        self.product, self.people, self.refreshed, self.failures = product, people, 0, []
        self._caller = Caller(product)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def _run(self, number):
        draw = random.Random(number)
        while not self._over.is_set():
            person = draw.choice(self.people)
            make_due(self.product, person.user)
            answer = self._caller.token(person.user)
            if answer.status_code != 200 or "warning" in answer.json():
                self.failures.append(answer.text)
            self.refreshed += 1

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for each in self._threads:
            each.join()


def test_rotation_under_load(make_product):
    """Every refresh is good meanwhile, also by workers from before the reload, which serve their kept connections on; nothing
    is left under the old key, and then the ring does without it."""
    product = make_product()
    product.stand_in.settings(refresh_token_cap=1000)
    people = [product.session(f"member{number}", {"acme": "member"}) for number in range(PEOPLE)]
    for person in people:
        person.connect("acme")
    line = new_line(product, "k2")
    write_file(product.keys_file, line + read(product.keys_file), 0o600)
    product.reload()
    with Load(product, people) as load:
        done = product.command("keys", "rotate")
        wait_until(lambda: load.refreshed > 100, "everybody is served", 30)
    assert not load.failures
    assert f"under k2: {PEOPLE} (first key)" in done.stdout and "under k1" not in done.stdout
    # What a worker was about to store when its credential was sealed anew is found by one more run.
    assert f"under k2: {PEOPLE} (first key)" in product.command("keys", "rotate").stdout
    for person in people:
        stored = product.redis.hgetall(key("credential", person.user))
        assert stored["access_token"].startswith("k2.") and stored["refresh_token"].startswith("k2.")
    write_file(product.keys_file, line, 0o600)
    product.reload()
    for person in people:
        make_due(product, person.user)
        good(Caller(product).token(person.user))


def test_what_is_refreshed_meanwhile_stays(cluster):
    """Read, then refreshed by somebody, then sealed anew: that is the new token, not the one that was read."""
    person = Person(cluster, "refreshed")
    person.connect()
    read_first = dump(cluster.product, person.name)
    make_due(cluster.product, person.name)
    token = good(person.ask().answer())["access_token"]
    stored_then = dump(cluster.product, person.name)

    def store(both):
        for kind, fields in zip(("integration", "credential"), both):
            cluster.redis.hset(key(kind, person.name), mapping=fields)

    store(read_first)
    ring = read(cluster.product.keys_file)
    write_file(cluster.product.keys_file, new_line(cluster.product, "k7") + ring, 0o600)
    admin = f"unix://{cluster.proxy.admin_path}"
    held = cluster.proxy.hold("script of credential")
    rotating = Later(cluster.product.command, "keys", "rotate", environment={"REDIS_URL": admin, "REDIS_ADMIN_URL": admin})
    held.wait()
    store(stored_then)
    held.release()
    rotating.answer(60)
    assert cluster.redis.hget(key("credential", person.name), "access_token").startswith("k7.")
    assert good(person.ask().answer())["access_token"] == token
