"""Faults armed by tests: which request each one hits, how often, and what it does there.

A request takes at most one fault of each class: one that waits, one that changes the answer's
content, one that replaces or mangles the answer. So a delay and an error can be armed together.
"""

import asyncio
import base64
import itertools
from email.utils import formatdate

from wire import Response, html_response, json_response

ENDPOINTS = ("any", "connection", "token", "exchange", "refresh", "revoke", "userinfo",
             "tokeninfo", "certs", "discovery", "authorize", "gmail", "calendar", "drive")

# Each kind: its class, and the options it knows.
# "wait": before or after the effect; "answer", "id_token", "callback": the content of a true
# answer; "replace": another answer; "mangle": the true answer, its bytes gone wrong; "greet":
# before TLS.
KINDS = {
    "delay": ("wait", {"seconds", "after"}),
    "hold": ("wait", {"after"}),
    "answer": ("answer", {"set", "omit", "status"}),
    "id_token": ("id_token", {"claims", "shift", "header", "sign"}),
    "callback": ("callback", {"set", "omit", "alter", "add", "error"}),
    "error": ("replace", {"error", "status", "description", "subtype", "headers", "retry_after"}),
    "api_error": ("replace", {"status", "reason", "message", "headers", "retry_after"}),
    "status": ("replace", {"status", "headers", "retry_after"}),
    "raw": ("replace", {"status", "headers", "body", "body_base64", "retry_after"}),
    "html": ("replace", {"status", "headers", "retry_after"}),
    "redirect": ("replace", {"status", "location", "headers"}),
    "empty": ("replace", {"status", "headers"}),
    "not_json": ("replace", {"status", "headers"}),
    "nested": ("replace", {"status", "headers", "depth"}),
    "big": ("replace", {"status", "size", "length"}),
    "big_headers": ("replace", {"size"}),
    "drip": ("replace", {"interval", "part"}),
    "endless": ("replace", {"part"}),
    "bomb": ("replace", {"size"}),
    "bytes": ("replace", {"text", "base64"}),
    "refuse": ("replace", set()),
    "stall": ("mangle", {"when", "seconds"}),
    "reset": ("mangle", set()),
    "truncate": ("mangle", set()),
    "wrong_length": ("mangle", {"by", "seconds"}),
    "chunked": ("mangle", {"size"}),
    "bad_chunks": ("mangle", {"how"}),
    "interim": ("mangle", {"status", "count"}),
    "gzip": ("mangle", set()),
    "slow": ("mangle", {"interval"}),
    "close": ("mangle", set()),
    "invalid_utf8": ("mangle", {"field"}),
    "nul": ("mangle", {"field", "raw"}),
    "duplicate": ("mangle", {"field", "value"}),
    "refuse_connection": ("greet", set()),
    "stall_handshake": ("greet", {"seconds"}),
    "expired_certificate": ("greet", set()),
    "wrong_name": ("greet", set()),
    "unknown_ca": ("greet", set()),
    "old_tls": ("greet", set()),
    "plain_http": ("greet", set()),
    "reset_handshake": ("greet", set()),
}

# Where the classes that are about one kind of message make sense.
PLACES = {
    "id_token": {"any", "token", "exchange", "refresh"},
    "callback": {"authorize"},
    "greet": {"connection"},
}


class FaultError(ValueError):
    """A fault that makes no sense; the control call answers 400, so that a typing error in a
    test is not a fault that silently never fires."""


class Fault:
    def __init__(self, number, endpoint, kind, times, skip, account, lane, options):
        self.number = number
        self.endpoint = endpoint
        self.kind = kind
        self.times = times
        self.skip = skip
        self.account = account
        self.lane = lane
        self.options = options
        self.fired = 0
        self.waiting = 0
        self.released = asyncio.Event()

    @property
    def category(self):
        return KINDS[self.kind][0]

    def fits(self, endpoints, account, lane):
        if self.times is not None and self.fired >= self.times:
            return False
        if self.endpoint != "any" and self.endpoint not in endpoints:
            return False
        return self.account in (None, account) and self.lane in (None, lane)

    def describe(self):
        return {"id": self.number, "endpoint": self.endpoint, "kind": self.kind,
                "times": self.times, "skip": self.skip,
                "account": self.account.email if self.account else None, "lane": self.lane,
                "fired": self.fired, "waiting": self.waiting, **self.options}


class Faults:
    def __init__(self):
        self.armed = []
        self._numbers = itertools.count(1)

    def arm(self, document, find_account):
        options = dict(document)
        endpoint = options.pop("endpoint", None)
        kind = options.pop("kind", None)
        times = options.pop("times", 1)
        skip = options.pop("skip", 0)
        account = options.pop("account", None)
        lane = options.pop("lane", None)
        if kind not in KINDS:
            raise FaultError(f"unknown kind: {kind}")
        category, known = KINDS[kind]
        if category == "greet":
            endpoint = endpoint or "connection"
        if endpoint not in ENDPOINTS:
            raise FaultError(f"unknown endpoint: {endpoint}")
        if endpoint not in PLACES.get(category, set(ENDPOINTS) - {"connection"}):
            raise FaultError(f"{kind} does not go with endpoint {endpoint}")
        if category in ("replace", "mangle"):
            known = known | {"effect"}
        if not set(options) <= known:
            raise FaultError(f"unknown options: {sorted(set(options) - known)}")
        if times is not None and (not isinstance(times, int) or times < 1):
            raise FaultError("times is a positive integer or null")
        if account is not None:
            account = find_account(account)
            if account is None:
                raise FaultError("unknown account")
        fault = Fault(next(self._numbers), endpoint, kind, times, skip, account, lane, options)
        self.armed.append(fault)
        return fault

    def take(self, endpoints, account, lane):
        """The faults that hit this request, one of each class, by class."""
        taken = {}
        for fault in self.armed:
            if fault.category in taken or fault.category in ("callback", "greet"):
                continue
            if fault.category == "mangle" and "replace" in taken:
                continue
            if fault.category == "replace" and "mangle" in taken:
                continue
            if self._fires(fault, endpoints, account, lane):
                taken[fault.category] = fault
        return taken

    def take_one(self, category, endpoints, account=None):
        for fault in self.armed:
            if fault.category == category and self._fires(fault, endpoints, account, None):
                return fault
        return None

    @staticmethod
    def _fires(fault, endpoints, account, lane):
        if not fault.fits(endpoints, account, lane):
            return False
        if fault.skip > 0:
            fault.skip -= 1
            return False
        fault.fired += 1
        return True

    def clear(self, number=None):
        cleared = [fault for fault in self.armed if number in (None, fault.number)]
        self.armed = [fault for fault in self.armed if fault not in cleared]
        for fault in cleared:
            fault.released.set()
        return cleared

    def release(self, number=None):
        """Let the held requests go on; the fault holds no further ones."""
        released = 0
        for fault in self.armed:
            if fault.kind == "hold" and number in (None, fault.number):
                released += fault.waiting
                fault.times = fault.fired
                fault.released.set()
        return released


async def wait(fault, connection):
    """Delay or hold; false when the peer left meanwhile."""
    if fault.kind == "delay":
        return await connection.pause(fault.options.get("seconds", 1))
    fault.waiting += 1
    gone = asyncio.ensure_future(connection.gone.wait())
    released = asyncio.ensure_future(fault.released.wait())
    try:
        await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        fault.waiting -= 1
        gone.cancel()
        released.cancel()
    return not connection.gone.is_set()


def retry_after(value):
    if value == "date":
        return formatdate(timeval=None, usegmt=True)
    if value == "absurd":
        return "9" * 40
    return str(value)


def replacement(fault, default_location):
    """The answer that stands in for the true one; None for the kinds that misbehaviour.py sends."""
    options = fault.options
    headers = list(options.get("headers", {}).items())
    if "retry_after" in options:
        headers.append(("Retry-After", retry_after(options["retry_after"])))
    status = options.get("status")
    if fault.kind == "error":
        document = {"error": options.get("error", "invalid_grant")}
        for member, option in (("error_description", "description"), ("error_subtype", "subtype")):
            if option in options:
                document[member] = options[option]
        return json_response(document, status or 400, headers)
    if fault.kind == "api_error":
        return api_error(status or 403, options.get("reason", "forbidden"),
                         options.get("message", "Forbidden"), headers=headers)
    if fault.kind == "status":
        document = {"error": {"code": status or 503, "message": "Unavailable"}}
        return json_response(document, status or 503, headers)
    if fault.kind == "raw":
        body = options.get("body", "").encode("utf-8", "surrogatepass")
        if "body_base64" in options:
            body = base64.b64decode(options["body_base64"])
        if not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", "application/json; charset=utf-8"))
        return Response(status or 200, headers, body)
    if fault.kind == "html":
        return html_response("<!DOCTYPE html><html lang=en><title>Error 502</title>"
                             "<p>The server encountered a temporary error.</html>",
                             status or 502, headers)
    if fault.kind == "redirect":
        location = options.get("location", default_location)
        return Response(status or 302, [("Location", location), *headers])
    if fault.kind == "empty":
        return Response(status or 204, headers)
    if fault.kind == "not_json":
        return Response(status or 200, [("Content-Type", "application/json"), *headers],
                        b"this is not JSON")
    if fault.kind == "nested":
        depth = options.get("depth", 10_000)
        return Response(status or 200, [("Content-Type", "application/json"), *headers],
                        b'{"access_token":' + b"[" * depth + b"]" * depth + b"}")
    return None


def api_error(status, reason, message, grpc_status=None, details=None, headers=(), location=None):
    """The envelope of Google's APIs."""
    first = {"message": message, "domain": "global", "reason": reason}
    if location:
        first.update(locationType="parameter", location=location)
    error = {"code": status, "message": message, "errors": [first]}
    if grpc_status:
        error["status"] = grpc_status
    if details:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
                             "reason": details, "domain": "googleapis.com"}]
    return json_response({"error": error}, status, headers)
