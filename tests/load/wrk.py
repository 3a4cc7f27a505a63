"""wrk as a function: so many connections for so long, and what it saw."""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def write_requests(path, requests, held=None):
    """A file for requests.lua, of whole requests as bytes, and what the answer to each must hold."""
    with open(path, "wb") as file:
        for number, each in enumerate(requests):
            file.write(b"%d %s\n%s" % (len(each), held[number].encode() if held else b"", each))


def get(product, path, token=None):
    head = f"GET {path} HTTP/1.1\r\nHost: {product.public_url.split('//')[1]}\r\n"
    if token is not None:
        head += f"Authorization: Bearer {token}\r\n"
    return (head + "\r\n").encode()


class Wrk:
    def __init__(self, port, requests, connections, seconds, check=False, pace=0, timeout=20):
        """`check`: look at every answer, which takes a thread for each connection. `pace`: milliseconds that a connection
        waits before its next request, 0: none."""
        self.process = subprocess.Popen(
            ["/usr/bin/wrk", "-t", str(connections if check else 1), "-c", str(connections), "-d", f"{seconds}s", "--latency",
             "--timeout", f"{timeout}s", "-s", os.path.join(HERE, "requests.lua"), f"http://127.0.0.1:{port}/"],
            env={**os.environ, "REQUESTS": requests, "CHECK": "1" if check else "0", "PACE": str(pace)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def result(self):
        """{"requests", "seconds", "rate", "p50", "p99", "max" (ms), "errors", "broken", "wrong", "other"}: errors are
        requests without an answer, or with one that is not 2xx or 3xx; broken: those of them whose connection ended;
        wrong: answers that did not hold what they must; other: how many by status that is not 200."""
        output = self.process.communicate()[0]
        lines = [line for line in output.splitlines() if line.startswith("{")]
        if self.process.returncode != 0 or not lines:
            sys.exit(f"wrk failed:\n{output}")
        seen = json.loads(lines[-1])
        seconds = seen["microseconds"] / 1e6
        return {"requests": seen["requests"], "seconds": seconds, "rate": seen["requests"] / seconds,
                "p50": seen["p50"] / 1000, "p99": seen["p99"] / 1000, "max": seen["max"] / 1000,
                "errors": sum(seen[each] for each in ("connect", "read", "write", "timeout", "status")),
                "broken": sum(seen[each] for each in ("connect", "read", "write")), "wrong": seen["wrong"],
                "other": seen["other"]}
