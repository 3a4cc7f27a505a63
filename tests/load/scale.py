"""What becomes of the list route as everything around it grows: a table each for connections, workers, people, services and
the way to Redis, and the memory of a worker.

    make scale                                      about four minutes
    /usr/bin/python3 -B tests/load/scale.py --tables connections redis --seconds 2
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "service")]

import people as crowd  # noqa: E402
from bench import machine  # noqa: E402
from checks import metric  # noqa: E402
from delay import Delay  # noqa: E402
from harness import SCOPES, Product  # noqa: E402
from processes import REPOSITORY, wait_until  # noqa: E402
from traffic import Background, validations  # noqa: E402
from wrk import Wrk, get, write_requests  # noqa: E402

CONNECTIONS = (1, 16, 64, 256, 1000, 4000)
WORKERS = (1, 2, 4)
PEOPLE = (10, 1_000, 100_000)
SERVICES = (1, 30)
REDIS_SECONDS = (0, 0.001, 0.005)
HELD = 700  # requests in flight, for the memory they take
HELD_CALLS = 576  # as many as may wait for a provider
SETTINGS = {"LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0", "LOG_LEVEL": "info"}


@contextlib.contextmanager
def serving(people=1_000, services=1, redis_seconds=None, **settings):
    """A product with so many people, each with a connection of each service, and the file of their list requests."""
    more = {f"service{number}": {"name": f"Service {number}", "mcps": [
        {"mcp": f"mcp{number}", "name": f"MCP {number}", "description": "Read.", "scopes": SCOPES[:1]}]}
        for number in range(1, services)}
    with tempfile.TemporaryDirectory(prefix="integrations-scale.") as directory, contextlib.ExitStack() as stack:
        environment = dict(SETTINGS)
        if redis_seconds is not None:
            environment["REDIS_URL"] = f"unix://{directory}/redis.sock"
        product = Product(directory, environment=environment, services=more, redis_arguments=("--appendonly", "no"), **settings)
        try:
            if redis_seconds is not None:
                stack.enter_context(Delay(f"{directory}/redis.sock", product.redis_server, redis_seconds))
            product.start()
            everybody = crowd.sign_in(product, people)
            for service in ("google", *more):
                crowd.connect(product, everybody, SCOPES, service)
            path = os.path.join(directory, "secrets", "list.requests")
            write_requests(path, [get(product, each.list_path, each.token) for each in everybody])
            yield product, path, everybody
        finally:
            product.stop(check=False)


def pss_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


class Scale:
    def __init__(self, seconds):
        self.seconds = seconds
        self.seen = {}

    def measure(self, table, what, product, path, connections=64):
        Wrk(product.hosts[0].port, path, connections, 1).result()  # everybody is known, every connection is open
        row = Wrk(product.hosts[0].port, path, connections, self.seconds).result()
        row["refused"] = row["other"].pop("503", 0)
        row["errors"] -= row["refused"]
        self.seen.setdefault(table, []).append({"what": what, **row})
        print(f"{what:<28} {row['rate']:9,.0f} {row['p50']:9.2f} {row['p99']:9.2f} {row['max']:9.1f} {row['refused']:7} "
              f"{row['errors']:7}", flush=True)

    def connections(self):
        with serving() as (product, path, _):
            for count in CONNECTIONS:
                self.measure("connections", f"{count:,} connections", product, path, count)

    def workers(self):
        for workers in WORKERS:
            with serving(workers=workers) as (product, path, _):
                for count in (64, 256):
                    self.measure("workers", f"{workers} workers, c={count}", product, path, count)

    def people(self):
        for people in PEOPLE:
            with serving(people=people) as (product, path, _):
                self.measure("people", f"{people:,} people", product, path)

    def services(self):
        for services in SERVICES:
            with serving(people=100, services=services) as (product, path, _):
                self.measure("services", f"{services} services, all connected", product, path)

    def redis(self):
        for seconds in REDIS_SECONDS:
            with serving(redis_seconds=seconds) as (product, path, _):
                self.measure("redis", f"Redis {1000 * seconds:.0f} ms away (proxy)", product, path)

    def memory(self):
        """One worker's own memory (PSS), in MiB."""
        with serving(workers=1) as (product, path, people):
            worker, = product.hosts[0].workers()
            self._memory("idle", pss_kib(worker))
            self._memory(f"{HELD} lists, Redis stands still", self._held_by_redis(product, path, worker))
            self._memory(f"{HELD_CALLS} calls to a provider", self._held_by_provider(product, people, worker))
            Wrk(product.hosts[0].port, path, 64, 4 * self.seconds).result()
            self._memory("after all of it, idle again", pss_kib(worker))

    def _memory(self, what, kib):
        self.seen.setdefault("memory", []).append({"what": what, "mib": kib / 1024})
        print(f"{what:<36} {kib / 1024:8.1f} MiB", flush=True)

    @staticmethod
    def _held_by_redis(product, path, worker):
        """The most that was seen while Redis was stopped for less than workers bear."""
        load = Wrk(product.hosts[0].port, path, HELD, 3)
        wait_until(lambda: metric(product, "integrations_connections") >= HELD, "all connections are open", 20)
        product.redis_server.send(signal.SIGSTOP)
        most, end = 0, time.monotonic() + 0.4
        while time.monotonic() < end:
            most = max(most, pss_kib(worker))
        product.redis_server.send(signal.SIGCONT)
        load.result()
        return most

    @staticmethod
    def _held_by_provider(product, people, worker):
        product.stand_in.fault("userinfo", "delay", times=None, seconds=4)
        most = 0
        with Background(product, validations(people), connections=HELD_CALLS):
            end = time.monotonic() + 6
            while time.monotonic() < end:
                most = max(most, pss_kib(worker))
                time.sleep(0.1)
            product.stand_in.clear_faults()
        return most


TABLES = ("connections", "workers", "people", "services", "redis", "memory")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    wanted = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    here = machine()
    scale = Scale(wanted.seconds)
    print(f"{here['cpu']}, {here['cores']} cores, Linux {here['kernel']}, nginx {here['nginx']}; {wanted.seconds} s each, "
          "64 connections and 2 workers unless it says otherwise; everything on this one machine\n")
    for table in wanted.tables:
        if table != "memory":
            print(f"{table:<28} {'lists/s':>9} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9} {'503':>7} {'errors':>7}")
        getattr(scale, table)()
        print()
    os.makedirs(os.path.join(REPOSITORY, "build", "bench"), exist_ok=True)
    with open(os.path.join(REPOSITORY, "build", "bench", "scale.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": here, "tables": scale.seen}, file, indent=1)
    return 1 if any(row.get("errors") for rows in scale.seen.values() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
