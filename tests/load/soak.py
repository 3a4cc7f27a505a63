"""Many list requests beside a slow provider: no error, nobody's answer for another, flat memory.

    tests/load/soak.py [--requests 1000000] [--calm]

wrk lists over 64 connections while another driver sends 100 validations a second to a provider that takes 500 ms. Unless
it is calm, clients go away in the middle of requests all the time, and nginx is reloaded in each round; then a connection
may break that nginx closed while it was idle, and nothing else may go wrong. Each answer must name its own user. Prints
what it sees as it goes; the status is 0 when no request failed and the workers did not grow.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "service")]

import people as crowd  # noqa: E402
from harness import SCOPES, Product  # noqa: E402
from traffic import Background, percentile, validations  # noqa: E402
from wrk import Wrk, get, write_requests  # noqa: E402

PEOPLE = 1000
CONNECTIONS = 64
VALIDATIONS = 100  # a second
PROVIDER_SECONDS = 0.5
ROUND_SECONDS = 3
# Of all workers together, over the second half. What a busy moment lets pile up takes some 100 KiB a call, and stays.
GROWTH_KIB = 8192


def settings():
    """For Product: no limit that a single driver would meet, and no log of a million lines for each part."""
    return {"environment": {"LIMIT_VALIDATE": "0", "LOG_LEVEL": "warn"},
            "redis_arguments": ("--appendonly", "no")}


def resident(product):
    """KiB of all workers."""
    total = 0
    for pid in product.hosts[0].workers():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            total += int(next(line for line in file if line.startswith("VmRSS")).split()[1])
    return total


class Leaving:
    """Clients that send a request and are gone: at once, or after the first bytes of the answer."""

    def __init__(self, port, requests):
        self.port = port
        self.requests = requests
        self.left = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._ending.set()
        self._thread.join()

    def _run(self):
        draw = random.Random(1)
        while not self._ending.wait(draw.random() / 100):
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
                request = draw.choice(self.requests)
                client.sendall(request[:draw.randrange(1, len(request))] if draw.random() < 0.3 else request)
                if draw.random() < 0.3:
                    client.settimeout(0.01)
                    try:
                        client.recv(20)
                    except OSError:
                        pass
            self.left += 1


def soak(product, requests, disturb=False, say=print):
    """A dictionary of what was seen. The first rounds warm up: pools and caches fill, and then nothing grows."""
    people = crowd.sign_in(product, PEOPLE)
    crowd.connect(product, people, SCOPES)
    path = os.path.join(product.directory, "secrets", "list.requests")
    asked = [get(product, each.list_path, each.token) for each in people]
    write_requests(path, asked, [f'"user_id":"{each.user}"' for each in people])
    product.stand_in.fault("userinfo", "delay", times=None, seconds=PROVIDER_SECONDS)
    seen = {"requests": 0, "errors": 0, "broken": 0, "wrong_user": 0, "other": {}, "memory": [], "p99": []}
    with contextlib.ExitStack() as stack:
        validating = stack.enter_context(
            Background(product, validations(people), connections=2 * VALIDATIONS, rate=VALIDATIONS))
        leaving = stack.enter_context(Leaving(product.hosts[0].port, asked)) if disturb else None
        while seen["requests"] < requests or len(seen["memory"]) < 4:
            listing = Wrk(product.hosts[0].port, path, CONNECTIONS, ROUND_SECONDS, check=True)
            if disturb:
                product.hosts[0].nginx.send(signal.SIGHUP)
            result = listing.result()
            seen["requests"] += result["requests"]
            broken = result["broken"] if disturb else 0
            seen["broken"] += broken
            seen["errors"] += result["errors"] - broken
            seen["wrong_user"] += result["wrong"]
            seen["p99"].append(result["p99"])
            seen["memory"].append(resident(product))
            for status, count in result["other"].items():
                seen["other"][status] = seen["other"].get(status, 0) + count
            say(f"{seen['requests']:>9} lists, {result['rate']:7.0f}/s, p99 {result['p99']:6.1f} ms, {seen['errors']} errors; "
                f"{seen['wrong_user']} of others; {validating.done} validations; workers {seen['memory'][-1]} KiB")
    seen["validations"] = dict(validating.statuses)
    wrong = [each for each in validating.wrong if each[2] != 0 or not disturb]
    seen["wrong"] = [repr(each) for each in wrong[:5]]
    seen["left"] = leaving.left if leaving else 0
    seen["validation_p99"] = round(1000 * percentile(validating.seconds, 0.99))
    settled = seen["memory"][len(seen["memory"]) // 2 - 1]
    seen["growth"] = seen["memory"][-1] - settled
    seen["good"] = not seen["errors"] and not seen["wrong_user"] and not seen["wrong"] and \
        set(validating.statuses) <= {200, *([0] if disturb else [])} and seen["growth"] <= GROWTH_KIB
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--calm", action="store_true", help="without clients that leave, and without reloads")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="integrations-soak.") as directory:
        product = Product(directory, **settings())
        product.start()
        try:
            seen = soak(product, wanted.requests, disturb=not wanted.calm)
        finally:
            product.stop(check=False)
    print(json.dumps(seen, indent=1))
    return 0 if seen["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
