"""Many HTTP requests at once, from one thread, over connections that are kept: a driver that looks at every answer.

wrk is faster, but counts only; this knows of each request what became of it, and when.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass


@dataclass
class Answer:
    status: int  # 0: no answer came
    headers: dict
    body: bytes
    seconds: float
    fault: str = ""

    def json(self):
        return json.loads(self.body)


class Connection:
    """One connection to nginx, opened by its first request and again after it was closed."""

    def __init__(self, product, host=0):
        self.port = product.hosts[host].port
        self.name = product.public_url.split("//")[1]
        self.origin = product.public_url
        self.reader = self.writer = None

    async def request(self, method, path, token, body=None, seconds=30):
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.name}", f"Authorization: Bearer {token}"]
        data = b""
        if body is not None:
            data = json.dumps(body).encode()
            head += ["Content-Type: application/json"]
        if method in ("POST", "DELETE"):
            head += [f"Content-Length: {len(data)}"]
        begun = time.monotonic()
        try:
            status, headers, answer = await asyncio.wait_for(
                self._exchange("\r\n".join(head).encode() + b"\r\n\r\n" + data), seconds)
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            return Answer(0, {}, b"", time.monotonic() - begun, repr(error))
        return Answer(status, headers, answer, time.monotonic() - begun)

    async def _exchange(self, data):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines) if name)
        body = await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(first.split()[1]), headers, body

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    def abort(self):
        """Close at once, whatever is under way."""
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


def at_once(product, requests, seconds=60):
    """Send all of [(method, path, token), ...] at the same time, each on a connection of its own, and return the answers
    in their order."""
    async def one(connection, method, path, token):
        answer = await connection.request(method, path, token, seconds=seconds)
        connection.close()
        return answer

    async def everything():
        return await asyncio.gather(*(one(Connection(product), *each) for each in requests))

    return asyncio.run(everything())


class Background:
    """Requests that go on in a thread of their own until stop().

    `make(number)` says what the number-th request is: (method, path, token, check); check(answer) raises where the
    answer is wrong. `connections` are kept; `rate`: requests a second, None as fast as answers come.
    """

    def __init__(self, product, make, connections=8, rate=None):
        self.product = product
        self.make = make
        self.connections = connections
        self.rate = rate
        self.statuses = Counter()
        self.wrong = []
        self.seconds = []
        self._number = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def done(self):
        return sum(self.statuses.values())

    def stop(self):
        self._ending.set()
        self._thread.join()
        return self

    async def _run(self):
        begun = time.monotonic()
        tasks = [self._client(begun) for _ in range(self.connections)]
        await asyncio.gather(*tasks)

    async def _client(self, begun):
        connection = Connection(self.product)
        while not self._ending.is_set():
            number = self._number
            self._number += 1
            if self.rate is not None:
                await asyncio.sleep(max(0, begun + number / self.rate - time.monotonic()))
            method, path, token, check = self.make(number)
            answer = await connection.request(method, path, token)
            self.statuses[answer.status] += 1
            self.seconds.append(answer.seconds)
            try:
                check(answer)
            except (AssertionError, KeyError, ValueError) as error:
                self.wrong.append((method, path, answer.status, answer.fault or repr(error), answer.body[:200]))
        connection.close()


def lists(people):
    """For Background: everybody's list in turn; the answer names its user."""
    def make(number):
        person = people[number % len(people)]

        def check(answer):
            assert answer.status == 200
            users = [each["user_id"] for each in answer.json()["integrations"]]
            assert users == [person.user], users
        return "GET", person.list_path, person.token, check
    return make


def validations(people):
    """For Background: everybody's validation in turn."""
    def make(number):
        person = people[number % len(people)]

        def check(answer):
            assert answer.status == 200
            document = answer.json()
            assert document["is_valid"] is True and document["integration"]["user_id"] == person.user, document
        return "POST", person.service_path(), person.token, check
    return make


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
