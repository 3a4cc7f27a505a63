"""Instances that are told to end, reloads of the service and of nginx, under load: no request that may be sent again fails."""

import http.client
import signal
import threading
from collections import Counter

from harness import SERVICE, wait_until
from kills import reload_nginx

PATHS = ("/api/me", "/api/organizations/acme/integrations", "/api/organizations/acme/mcps", "/integrations")


class Readers:
    """People who read, each request on a connection of its own: nobody can say that nginx has closed it just then. Beside
    them some that validate, which nginx never sends twice."""

    def __init__(self, product, people, count):
        self.product, self.people = product, people
        self.statuses, self.failed = Counter(), []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number, number % 4 == 3)) for number in range(count)]

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for each in self._threads:
            each.join()

    @property
    def done(self):
        return sum(self.statuses.values())

    def _run(self, first, writes):
        number = first
        while not self._over.is_set():
            number += 1
            person = self.people[number % len(self.people)]
            method, path = "GET", PATHS[number % len(PATHS)]
            if writes:
                method, path = "POST", f"{PATHS[1]}/{SERVICE}"
            status, text = self._ask(person, method, path)
            self.statuses[method, status] += 1
            names_somebody = path not in ("/integrations", PATHS[2])
            if status != 200 or names_somebody and f'"{person.user}"' not in text:
                self.failed.append((method, path, status, text[:200]))

    def _ask(self, person, method, path):
        host = self.product.public_url.split("//")[1]
        connection = http.client.HTTPConnection("127.0.0.1", self.product.hosts[0].port, timeout=20)
        try:
            connection.request(method, path, headers={"Host": host, "Authorization": f"Bearer {person.token}",
                                                      "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()


def end_and_start(product, host):
    """SIGTERM: it answers what it has accepted and ends; the other instance serves meanwhile."""
    machine = product.hosts[host]
    machine.serve.send(signal.SIGTERM)
    assert machine.serve.process.wait(30) == 0
    machine.serve.process = None
    machine.serve.start()
    wait_until(lambda: len(machine.workers()) == 2, "it is back", 30)


STEPS = {"end": lambda product, draw: end_and_start(product, draw.randrange(2)),
         "reload": lambda product, draw: product.reload(draw.randrange(2)),
         "nginx": lambda product, _draw: reload_nginx(product)}
