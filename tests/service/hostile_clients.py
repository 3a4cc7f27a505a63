"""Who asks while an upstream is hostile: what is asked in which way, a client that pipelines, and what an answer must not be."""

import collections
import contextlib
import json
import os
import random
import re
import socket
import subprocess
import threading
import time

from hostile import HOSTILE, SLOW
from processes import REPOSITORY

CLIENTS = os.path.join(REPOSITORY, "tests", "service", "hostile_clients.mjs")
MARKER = re.compile(r"m\.([a-z]+)\.(\d+)\.([a-zA-Z0-9.-]+)\.m")
PATIENCE = 3  # seconds that a client may wait longer than the gateway does
PIPELINED = 6  # requests on one connection

Way = collections.namedtuple("Way", "name client url")


class Request:
    """One request of one member, and how the upstream will answer: its marker says all of it."""

    def __init__(self, number, member, kind, door, method, silent):
        self.number, self.member, self.kind, self.door, self.method = number, member, kind, door, method
        self.marker = f"m.{member.user}.{number}.{kind}.m"
        self.bound = silent + PATIENCE
        self.path = f"/mcp/{member.organization}/gmail" if door == "mcp" else f"/proxy/{member.organization}/rest/one?m={self.marker}"
        self.headers = {"Authorization": f"Bearer {member.token}", "Accept": "*/*"}
        if door == "mcp":
            self.headers["Mcp-Session-Id"] = self.marker
        self.body = "{}" if method == "POST" else None
        if self.body:
            self.headers["Content-Type"] = "application/json"

    def as_json(self):
        return {"id": self.number, "method": self.method, "path": self.path, "headers": self.headers, "body": self.body,
                "bound": self.bound}

    def as_bytes(self, host, upgrade):
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in self.headers.items())]
        if upgrade:
            lines += ["Connection: Upgrade", "Upgrade: other"]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", self.body or ""]).encode()


class Plan:
    """What every way asks, drawn from a seed. `whole`: each kind through each door in each way; else each kind in two ways."""

    def __init__(self, seed, ways, members, silent, whole):
        self.draw = random.Random(seed)
        self.members = members
        self.silent = silent
        self.requests = {way.name: [] for way in ways}
        self.by_number = {}
        for kind in HOSTILE:
            for way in ways if whole else self.draw.sample(ways, 2):
                # The API proxy waits half a minute for an upstream: such answers are for the whole run.
                doors = ["mcp", "proxy"] if whole else ["mcp" if kind in SLOW else self.draw.choice(["mcp", "proxy"])]
                for door in doors:
                    self._add(way, kind, door)
                    self._add(way, "good", self.draw.choice(["mcp", "proxy"]))
                    self._add(way, "good", self.draw.choice(["mcp", "proxy"]))
        for each in self.requests.values():
            self.draw.shuffle(each)

    def _add(self, way, kind, door):
        method = self.draw.choice(["GET", "POST", "POST", "DELETE"] if door == "mcp" else ["GET", "GET", "HEAD"])
        request = Request(len(self.by_number), self.draw.choice(self.members), kind, door, method, self.silent[door])
        self.by_number[request.number] = request
        self.requests[way.name].append(request)


class Pipeliner:
    """Sends several requests at once on one connection and reads the answers as a lenient HTTP/1.1 client would."""

    def __init__(self, port, host, requests, upgrades):
        self.requests = requests
        self.answers = []
        self.raw = b""
        self.connection = socket.create_connection(("127.0.0.1", port), 10)
        self.stream = self.connection.makefile("rb")
        self._asked = b"".join(each.as_bytes(host, each.number in upgrades) for each in requests)

    def run(self):
        with self.connection, self.stream:
            with contextlib.suppress(OSError):
                self.connection.sendall(self._asked)
            for request in self.requests:
                self.connection.settimeout(request.bound)
                seen = {"id": request.number}
                begun = time.monotonic()
                self.answers.append(seen)
                try:
                    open_still = self._answer(request, seen)
                except TimeoutError:
                    seen["hung"], open_still = True, False
                except (OSError, ValueError) as error:
                    seen["error"], open_still = str(error) or type(error).__name__, False
                seen["seconds"] = time.monotonic() - begun
                if not open_still:
                    break
            # What comes after the last answer that a client would read.
            if not self.answers[-1].get("hung"):
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_WR)
                    while self._read(65536):
                        pass
        return self

    def _line(self):
        line = self.stream.readline(65536)
        self.raw += line
        if not line.endswith(b"\n"):
            raise ValueError("closed")
        return line.rstrip(b"\r\n")

    def _read(self, size):
        read = self.stream.read1(size)
        self.raw += read
        return read

    def _exactly(self, size):
        whole = b""
        while len(whole) < size:
            read = self._read(size - len(whole))
            if not read:
                raise ValueError("cut off")
            whole += read
        return whole

    def _head(self, seen):
        line = self._line()
        while not line:
            line = self._line()
        found = re.fullmatch(rb"HTTP/1\.[01] ([0-9]{3})( .*)?", line)
        if not found:
            raise ValueError(f"not a status line: {line[:60]}")
        headers = []
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append([name.strip().lower(), value.strip()])
        status = int(found[1])
        if status < 200 and status != 101:
            seen["interim"] = [*seen.get("interim", []), *headers]
            return self._head(seen)
        seen["status"], seen["headers"] = status, headers
        return dict(headers)

    def _answer(self, request, seen):
        """Whether the connection goes on."""
        headers = self._head(seen)
        if seen["status"] == 101:
            raise ValueError("upgraded")
        if request.method == "HEAD" or seen["status"] in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._line().partition(b";")[0], 16):
                body += self._exactly(size)
                self._line()
            while self._line():
                pass
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = b""
            while read := self._read(65536):
                body += read
            headers["connection"] = "close"
        seen["body"] = body.decode("latin-1")
        return headers.get("connection") != "close"


class Verdict:
    """What the clients saw, counted; `wrong`, `forged` and `hung` say what is wrong in words."""

    def __init__(self, plan):
        self.plan = plan
        self.wrong, self.forged, self.hung, self.lost = [], [], [], []
        self.ids = set()
        self.answered = self.good = self.refused = 0

    def look(self, way, seen):
        request = self.plan.by_number[seen["id"]]
        about = f"{way.name}: {request.method} {request.marker}: {json.dumps(seen)[:700]}"
        text = json.dumps([seen.get("headers", []), seen.get("interim", []), seen.get("body", ""), seen.get("error", "")])
        names = [name.lower() for name, _ in seen.get("headers", []) + seen.get("interim", [])]
        ids = [value for name, value in seen.get("headers", []) if name == "x-request-id"]
        if any(found[0] != request.marker for found in MARKER.finditer(text)):
            self.wrong.append(about)
        # A head without nginx's own id is not nginx's, unless HAProxy says by itself that nginx gave it no answer.
        ours = len(ids) == 1 and re.fullmatch("[0-9a-f]{32}", ids[0]) and ids[0] not in self.ids
        haproxy = "haproxy" in way.name and seen.get("status") in (502, 504) and not ids
        if re.search("forged|evil", text) or {"set-cookie", "access-control-allow-origin"} & set(names) or \
                "status" in seen and not ours and not haproxy:
            self.forged.append(about)
        self.ids.update(ids)
        if seen.get("hung") or seen["seconds"] > request.bound:
            self.hung.append(about)
        self.answered += "status" in seen
        self.refused += seen.get("status") == 502
        if request.kind == "good":
            whole = seen.get("status") == 200 and "error" not in seen and MARKER.search(text)
            self.good += bool(whole)
            if not whole:
                self.lost.append(about)

    def look_raw(self, way, pipeliner):
        """Nothing else may stand between the answers, either: another client might read that."""
        for seen in pipeliner.answers:
            self.look(way, seen)
        if b"forged" in pipeliner.raw:
            self.forged.append(f"{way.name}: {[each.marker for each in pipeliner.requests]}: {pipeliner.raw[-700:]}")
        # A connection that ended answered none of the requests behind it: they go over another connection.

    def line(self):
        return (f"{len(HOSTILE)} kinds, {len(self.plan.by_number)} requests, {self.answered} answers, {self.good} good, "
                f"{self.refused} refused, {len(self.lost)} lost; wrong {len(self.wrong)}, forged {len(self.forged)}, hung {len(self.hung)}")


def play_pipelines(plan, way, host, verdict, lock):
    """One way's requests, several to a connection, three connections at a time."""
    requests = plan.requests[way.name]
    upgrades = {each.number for each in requests if each.kind.startswith("101") or each.number % 4 == 0}
    batches = iter([requests[at:at + PIPELINED] for at in range(0, len(requests), PIPELINED)])
    port = int(way.url.rpartition(":")[2])

    def work():
        while True:
            with lock:
                batch = next(batches, None)
            if batch is None:
                return
            # What is not answered, because the connection has ended, is asked once more on the next one.
            while batch:
                pipeliner = Pipeliner(port, host, batch, upgrades).run()
                with lock:
                    verdict.look_raw(way, pipeliner)
                batch = batch[len(pipeliner.answers):]

    return [threading.Thread(target=work, daemon=True) for _ in range(3)]


def play(plan, ways, host, at_once=9):
    """Everything of the plan, all ways at the same time; the verdict."""
    verdict, lock = Verdict(plan), threading.Lock()
    threads = [thread for way in ways if way.client == "pipeline" for thread in play_pipelines(plan, way, host, verdict, lock)]
    for each in threads:
        each.start()
    node = {way.name: way for way in ways if way.client != "pipeline"}
    asked = [{"client": way.client, "url": way.url, "authority": host, "at_once": at_once,
              "requests": [each.as_json() for each in plan.requests[way.name]]} for way in node.values()]
    of = {request.number: way for name, way in node.items() for request in plan.requests[name]}
    with subprocess.Popen(["node", "--dns-result-order=ipv4first", CLIENTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as clients:
        clients.stdin.write(json.dumps(asked))
        clients.stdin.close()
        seen = [json.loads(line) for line in clients.stdout]
    assert clients.returncode == 0 and len(seen) == len(of), f"node's clients ended with {clients.returncode}"
    for each in threads:
        each.join(300)
        assert not each.is_alive()
    for each in seen:
        verdict.look(of[each["id"]], each)
    return verdict
