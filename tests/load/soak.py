"""Many list requests beside a slow provider: no error, flat memory.

    tests/load/soak.py [--requests 1000000]

wrk lists over 64 connections while another driver sends 100 validations a second to a provider that takes 500 ms. Prints
what it sees as it goes; the status is 0 when no request failed and the workers did not grow.
"""

import argparse
import json
import os
import sys
import tempfile

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
GROWTH_KIB = 4096  # of all workers together, over the second half


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


def soak(product, requests, say=print):
    """A dictionary of what was seen. The first rounds warm up: pools and caches fill, and then nothing grows."""
    people = crowd.sign_in(product, PEOPLE)
    crowd.connect(product, people, SCOPES)
    path = os.path.join(product.directory, "secrets", "list.requests")
    write_requests(path, [get(product, each.list_path, each.token) for each in people])
    product.stand_in.fault("userinfo", "delay", times=None, seconds=PROVIDER_SECONDS)
    seen = {"requests": 0, "errors": 0, "other": {}, "memory": [], "p99": []}
    with Background(product, validations(people), connections=2 * VALIDATIONS, rate=VALIDATIONS) as validating:
        while seen["requests"] < requests or len(seen["memory"]) < 4:
            result = Wrk(product.hosts[0].port, path, CONNECTIONS, ROUND_SECONDS).result()
            seen["requests"] += result["requests"]
            seen["errors"] += result["errors"]
            seen["p99"].append(result["p99"])
            seen["memory"].append(resident(product))
            for status, count in result["other"].items():
                seen["other"][status] = seen["other"].get(status, 0) + count
            say(f"{seen['requests']:>9} lists, {result['rate']:7.0f}/s, p99 {result['p99']:6.1f} ms, {seen['errors']} errors; "
                f"{validating.done} validations, {len(validating.wrong)} wrong; workers {seen['memory'][-1]} KiB")
    seen["validations"] = dict(validating.statuses)
    seen["wrong"] = validating.wrong[:5]
    seen["validation_p99"] = round(1000 * percentile(validating.seconds, 0.99))
    settled = seen["memory"][len(seen["memory"]) // 2 - 1]
    seen["growth"] = seen["memory"][-1] - settled
    seen["good"] = not seen["errors"] and set(validating.statuses) == {200} and not validating.wrong and \
        seen["growth"] <= GROWTH_KIB
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="integrations-soak.") as directory:
        product = Product(directory, **settings())
        product.start()
        try:
            seen = soak(product, wanted.requests)
        finally:
            product.stop(check=False)
    print(json.dumps(seen, indent=1))
    return 0 if seen["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
