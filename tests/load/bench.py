"""How fast, at which cost: the routes of the service beside a bare FastCGI hello world, on this machine.

    make bench                                      the whole table: about six minutes
    tests/load/bench.sh --rounds 1 --seconds 2 --rows list hello

Every round measures each row once, so that a noisy minute hits all of them; the table shows medians, and least and most.
CPU is what the processes used (/proc/PID/task/*/schedstat) for each request that was answered: unlike requests a second
it hardly depends on what else the machine does. The same as JSON goes to build/bench/bench.json, for bench_plot.py.
"""

import argparse
import asyncio
import glob
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "service")]

import people as crowd  # noqa: E402
from harness import SCOPES, Product, callback_document  # noqa: E402
from processes import REPOSITORY, Process, minimal_environment, wait_until  # noqa: E402
from traffic import Background, Connection, percentile, validations  # noqa: E402
from wrk import Wrk, get, write_requests  # noqa: E402

RESULTS = os.path.join(REPOSITORY, "build", "bench")
PEOPLE = 10_000
HELLO_PROCESSES = (2, 4, 8)
WORKERS = (1, 2)
VALIDATIONS = 100  # a second
PROVIDER_SECONDS = 0.5
BESIDE = {"a": "return", "b": "hello", "c": "list", "i": "bare"}  # the rows that others are compared with, each the best of its kind
PACE = 10  # milliseconds between two requests of a connection, where rates have to be alike
CALLER_KEY = "caller-MARKER-of-the-bench"
SETTINGS = {"LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0", "LOG_LEVEL": "info"}


def used_nanoseconds(pids):
    total = 0
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(path, encoding="ascii") as file:
                    total += int(file.read().split()[0])
            except FileNotFoundError:
                pass
    return total


class Cpu:
    """What groups of processes use between start and stop."""

    def __init__(self, **groups):
        self.groups = groups
        self.before = self._now()

    def _now(self):
        return {name: used_nanoseconds(pids) for name, pids in self.groups.items()}

    def microseconds(self, requests):
        now = self._now()
        used = {name: (now[name] - self.before[name]) / 1000 / max(requests, 1) for name in self.groups}
        return {**used, "total": sum(used.values())}


class Bench:
    def __init__(self, directory, seconds):
        self.directory = directory
        self.seconds = seconds
        self.hellos = {}
        self.bare = None
        self.products = {}
        self.files = {}

    # Life

    def start(self):
        # One product for each number of workers; the people are the same in each.
        for workers in WORKERS:
            home = os.path.join(self.directory, f"workers{workers}")
            os.makedirs(home)
            product = Product(home, workers=workers, environment=SETTINGS, redis_arguments=("--appendonly", "no"),
                              server_conf=self._locations(), nginx_conf=self._nginx_conf)
            self.products[workers] = product.start()
        self.product = self.products[WORKERS[-1]]
        for processes in HELLO_PROCESSES:
            self.hellos[processes] = Process(
                f"hello{processes}", [os.path.join(RESULTS, "hello"), self._hello_socket(processes), str(processes),
                                      str(self._body_length())],
                os.path.join(self.directory, f"hello{processes}.log"), minimal_environment()).start()
        for processes, hello in self.hellos.items():
            wait_until(lambda each=processes: os.path.exists(self._hello_socket(each)), f"{hello.name} listens")
            os.chmod(self._hello_socket(processes), 0o777)
        redis_server = self.products[1].redis_server
        self.bare = Process("bare", [os.path.join(RESULTS, "bare"), self._bare_socket(), redis_server.socket, str(self._body_length())],
                            os.path.join(self.directory, "bare.log"),
                            {**minimal_environment(), "REDIS_PASSWORD": redis_server.password}).start()
        wait_until(lambda: os.path.exists(self._bare_socket()), "bare listens")
        os.chmod(self._bare_socket(), 0o777)
        for workers, product in self.products.items():
            self._seed(workers, product)

    def stop(self):
        for product in self.products.values():
            product.stop(check=False)
        for process in (*self.hellos.values(), self.bare):
            if process is not None:
                process.stop()

    def _hello_socket(self, processes):
        return os.path.join(self.directory, f"hello{processes}.sock")

    def _bare_socket(self):
        return os.path.join(self.directory, "bare.sock")

    @staticmethod
    def _body_length():
        return 600  # as a list with one connection

    def _locations(self):
        text = ("location = /bench/return { default_type application/json; return 200 '" + "x" * self._body_length() + "'; }\n")
        for processes in HELLO_PROCESSES:
            text += (f"location = /bench/hello{processes} {{ include /etc/nginx/fastcgi_params; "
                     f"fastcgi_pass unix:{self._hello_socket(processes)}; }}\n")
        return text + ("location /bench/bare/ { fastcgi_pass_request_headers off; fastcgi_param REQUEST_METHOD $request_method; "
                       "fastcgi_param REQUEST_URI $request_uri; fastcgi_param HTTP_AUTHORIZATION $http_authorization; "
                       "fastcgi_keep_conn on; fastcgi_pass bare; }\n")

    def _nginx_conf(self, host):
        """The shipped one, with kept connections to the bare program."""
        with open(os.path.join(host.directory, "nginx", "integrations.conf"), encoding="utf-8") as file:
            return file.read().replace(
                "http {", f"http {{\n\tupstream bare {{ server unix:{self._bare_socket()}; keepalive 512; }}", 1)

    def _seed(self, workers, product):
        everybody = crowd.sign_in(product, PEOPLE)
        crowd.connect(product, everybody, SCOPES)
        key = f"caller:{hashlib.sha256(CALLER_KEY.encode()).hexdigest()}"
        product.redis.hset(key, mapping={"name": "bench", "mcps": "gmail google_calendar google_drive", "organizations": "*"})
        product.redis.expire(key, 24 * 3600)
        self.people = everybody if workers == WORKERS[-1] else getattr(self, "people", None)
        organization = "/api/organizations/"
        requests = {
            "return": [get(product, "/bench/return")],
            "constant": [get(product, "/healthz")],
            "list": [get(product, each.list_path, each.token) for each in everybody],
            "bare": [get(product, f"/bench/bare/{each.organization}", each.token) for each in everybody],
            "mcps": [get(product, f"{organization}{each.organization}/mcps", each.token) for each in everybody],
            "auth_link": [get(product, f"{each.service_path()}/auth_link", each.token) for each in everybody],
            "token": [self._token_request(product, each) for each in everybody],
            **{f"hello{processes}": [get(product, f"/bench/hello{processes}")] for processes in HELLO_PROCESSES},
        }
        for name, some in requests.items():
            path = os.path.join(self.directory, f"workers{workers}", "secrets", f"{name}.requests")
            write_requests(path, some)
            self.files[workers, name] = path

    @staticmethod
    def _token_request(product, person):
        path = f"/internal/organizations/{person.organization}/users/{person.user}/integrations/google/token"
        return (f"POST {path} HTTP/1.1\r\nHost: {product.public_url.split('//')[1]}\r\nAuthorization: Bearer {CALLER_KEY}\r\n"
                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").encode()

    # Measuring

    def groups(self, product, backend=None):
        host = product.hosts[0]
        return {"nginx": [host.nginx.pid, *host.nginx.children()],
                "worker": backend or host.workers(),
                "redis": [product.redis_server.pid]}

    def wrk(self, name, connections, workers=WORKERS[-1], internal=False, backend=None, pace=0):
        product = self.products[workers]
        port = product.hosts[0].internal_port if internal else product.hosts[0].port
        cpu = Cpu(**self.groups(product, backend))
        result = Wrk(port, self.files[workers, name], connections, self.seconds, pace=pace).result()
        return {**result, "cpu": cpu.microseconds(result["requests"])}

    def hello(self, processes, connections):
        process = self.hellos[processes]
        return self.wrk(f"hello{processes}", connections, backend=[process.pid, *process.children()])

    def beside_validations(self, connections):
        fault = self.product.stand_in.fault("userinfo", "delay", times=None, seconds=PROVIDER_SECONDS)
        with Background(self.product, validations(self.people), connections=2 * VALIDATIONS, rate=VALIDATIONS) as background:
            wait_until(lambda: background.done > VALIDATIONS, "validations", 30)
            result = self.wrk("list", 64, pace=PACE)
        self.product.stand_in.clear_faults(fault)
        result["errors"] += len(background.wrong)
        result["beside"] = {"validations": background.done, "p99": 1000 * percentile(background.seconds, 0.99)}
        return result

    def callbacks(self, at_once=8):
        """Whole flows: auth_link, the consent, callback. What is counted is flows."""
        done, failed, times = [0], [0], []
        product = self.product
        end = time.monotonic() + self.seconds

        async def consent(link):
            reader, writer = await asyncio.open_connection("127.0.0.1", product.stand_in.http_port)
            data = json.dumps({"url": link, "account": "ada", "grant": "all"}).encode()
            writer.write(b"POST /__control/authorize HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                         b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
            answer = await reader.read()
            writer.close()
            return json.loads(answer.partition(b"\r\n\r\n")[2])["location"]

        async def flows(first):
            connection = Connection(product)
            for person in self.people[first::at_once]:
                if time.monotonic() >= end:
                    break
                link = await connection.request("GET", f"{person.service_path()}/auth_link?replace=true", person.token)
                location = await consent(link.json()["auth_link"])
                begun = time.monotonic()
                answer = await connection.request("POST", f"{person.service_path()}/callback", person.token,
                                                  callback_document(location))
                times.append(1000 * (time.monotonic() - begun))
                done[0] += 1
                failed[0] += answer.status != 200
            connection.close()

        async def everything():
            await asyncio.gather(*(flows(each) for each in range(at_once)))

        cpu = Cpu(**self.groups(product))
        begun = time.monotonic()
        asyncio.run(everything())
        seconds = time.monotonic() - begun
        return {"requests": done[0], "seconds": seconds, "rate": done[0] / seconds, "errors": failed[0], "other": {},
                "p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "max": max(times),
                "cpu": cpu.microseconds(done[0])}

    def rows(self):
        """(row, letter, what, how) in the order of the table."""
        for connections in (64, 256):
            yield f"return-{connections}", "a", f"nginx return 200, c={connections}", lambda c=connections: self.wrk("return", c)
            for processes in HELLO_PROCESSES:
                yield (f"hello{processes}-{connections}", "b", f"libfcgi hello, {processes} processes, c={connections}",
                       lambda p=processes, c=connections: self.hello(p, c))
            for workers in WORKERS:
                yield (f"list{workers}-{connections}", "c", f"list, {workers} workers, c={connections}",
                       lambda w=workers, c=connections: self.wrk("list", c, w))
                # Next to the lists that it is compared with: the machine changes from minute to minute.
                yield (f"token{workers}-{connections}", "d", f"token, {workers} workers, c={connections}",
                       lambda w=workers, c=connections: self.wrk("token", c, w, internal=True))
            yield (f"bare-{connections}", "i", f"the bare reads of a list, c={connections}",
                   lambda c=connections: self.wrk("bare", c, 1, backend=[self.bare.pid]))
        yield "constant-64", "c", "constant answer of a worker, c=64", lambda: self.wrk("constant", 64, internal=True)
        yield "mcps-64", "e", "mcps, c=64", lambda: self.wrk("mcps", 64)
        yield "auth_link-64", "f", "auth_link, c=64", lambda: self.wrk("auth_link", 64)
        yield "paced-64", "c", "list, paced, c=64", lambda: self.wrk("list", 64, pace=PACE)
        yield "beside-64", "g", "list, paced, beside 100 validations/s", lambda: self.beside_validations(64)
        yield "callback-8", "h", "whole consent flow, c=8", self.callbacks


def spread(values, digits=0):
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f}-{most:,.{digits}f})"


def summary(results):
    """For each row the medians over its rounds."""
    rows = {}
    for name, row in results.items():
        rounds = row["rounds"]
        rows[name] = {"letter": row["letter"], "what": row["what"], "errors": sum(each["errors"] for each in rounds),
                      "other": [each["other"] for each in rounds if each["other"]],
                      **{key: {"median": statistics.median(each[key] for each in rounds),
                               "min": min(each[key] for each in rounds), "max": max(each[key] for each in rounds)}
                         for key in ("rate", "p50", "p99")},
                      "cpu": {part: statistics.median(each["cpu"][part] for each in rounds)
                              for part in ("nginx", "worker", "redis", "total")}}
    for name, row in rows.items():
        connections = name.rpartition("-")[2]
        for letter, start in BESIDE.items():
            same = [each for other, each in rows.items() if other.startswith(start) and other.endswith(f"-{connections}")]
            if same:
                best = max(same, key=lambda each: each["rate"]["median"])
                row[f"rate_to_{letter}"] = row["rate"]["median"] / best["rate"]["median"]
                row[f"cpu_to_{letter}"] = row["cpu"]["total"] / best["cpu"]["total"]
    return rows


def show(rows, results):
    print(f"{'':37} {'requests/s: median (least-most)':>32} {'p50 ms':>7} {'p99 ms':>7} {'errors':>6}   "
          f"CPU us: {'nginx':>6} {'worker':>6} {'redis':>6} {'all':>6}   {'rate/(a)':>8} {'rate/(b)':>8} {'CPU/(b)':>8} {'rate/(c)':>8} {'CPU/(i)':>8}")
    for name, row in rows.items():
        ratios = [f"{row[key]:8.2f}" if key in row else " " * 8 for key in ("rate_to_a", "rate_to_b", "cpu_to_b", "rate_to_c", "cpu_to_i")]
        cpu = row["cpu"]
        print(f"({row['letter']}) {row['what']:<33} {spread([each['rate'] for each in results[name]['rounds']]):>32} "
              f"{row['p50']['median']:7.2f} {row['p99']['median']:7.2f} {row['errors']:6}   "
              f"        {cpu['nginx']:6.1f} {cpu['worker']:6.1f} {cpu['redis']:6.1f} {cpu['total']:6.1f}   {' '.join(ratios)}")
        for other in row["other"]:
            print(f"{'':41}answers that were not 200: {other}")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine())
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip()
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "nginx": nginx.rpartition("/")[2]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rows", nargs="+", default=[""], help="only rows whose name begins with one of these")
    wanted = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="integrations-bench.") as directory:
        bench = Bench(directory, wanted.seconds)
        try:
            print(f"Starting, with {PEOPLE} people", file=sys.stderr)
            bench.start()
            rows = [row for row in bench.rows() if row[0].startswith(tuple(wanted.rows))]
            if any(name.startswith("token") for name, *_ in rows):
                for workers in WORKERS:
                    bench.wrk("token", 64, workers, internal=True)  # not counted: a token's first time costs a script
            for number in range(1, wanted.rounds + 1):
                for name, letter, what, measure in rows:
                    print(f"\rround {number} of {wanted.rounds}: {what:<45}", end="", file=sys.stderr, flush=True)
                    result = measure()
                    results.setdefault(name, {"letter": letter, "what": what, "rounds": []})["rounds"].append(result)
            print("\r" + " " * 70 + "\r", end="", file=sys.stderr)
        finally:
            bench.stop()
    here = machine()
    rows = summary(results)
    print(f"{here['cpu']}, {here['cores']} cores, Linux {here['kernel']}, nginx {here['nginx']}; "
          f"{wanted.rounds} rounds of {wanted.seconds} s; everything on this one machine, wrk with one thread\n")
    show(rows, results)
    os.makedirs(RESULTS, exist_ok=True)
    with open(os.path.join(RESULTS, "bench.json"), "w", encoding="utf-8") as file:
        json.dump({"machine": here, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rows": rows,
                   "rounds": results}, file, indent=1)
    return 1 if any(row["errors"] for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
