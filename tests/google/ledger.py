"""What happened: counters, events, and the requests as they came, secrets as fingerprints only."""

import collections
import hashlib

# Parameters whose values a leak scan would look for.
SECRET_PARAMETERS = {"code", "code_verifier", "token", "access_token", "refresh_token", "id_token",
                     "client_secret", "state", "nonce",
                     # the whole authorization request, carried through our own pages
                     "request"}

# Bounds, so that a long load run does not fill the memory; counters are never cut.
EVENTS_KEPT = 100_000
REQUESTS_KEPT = 20_000


def fingerprint(secret):
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def shown(name, value):
    return f"sha256:{fingerprint(value)}" if name in SECRET_PARAMETERS else value


class Ledger:
    def __init__(self, clock):
        self.clock = clock
        self.counters = collections.Counter()
        self.events = collections.deque(maxlen=EVENTS_KEPT)
        self.requests = collections.deque(maxlen=REQUESTS_KEPT)
        self.in_flight = 0

    NAMES = ("authorizations", "declined", "exchanges", "exchanges_ok", "exchanges_refused",
             "refreshes", "refreshes_ok", "refreshes_refused", "revokes", "revokes_refused",
             "userinfo", "userinfo_refused", "tokeninfo", "certs", "discovery", "api_calls",
             "api_refused", "write_verbs", "code_reuses", "reuse_detections", "elsewhere",
             "requests", "handshakes_failed", "unreadable", "connections", "max_connections", "max_concurrent")

    def all_counters(self):
        return {name: self.counters[name] for name in self.NAMES}

    def count(self, name):
        self.counters[name] += 1

    def high_water(self, name, value):
        if value > self.counters[name]:
            self.counters[name] = value

    def event(self, event, kind, secret, client, account, **more):
        self.events.append({"time": self.clock.now(), "event": event, "kind": kind,
                            "fingerprint": fingerprint(secret), "client": client,
                            "account": account, **more})

    def begin(self, request, endpoint):
        self.count("requests")
        self.in_flight += 1
        self.high_water("max_concurrent", self.in_flight)
        scheme, _, credential = (request.header("authorization") or "").partition(" ")
        entry = {
            "time": self.clock.now(), "endpoint": endpoint,
            "port": request.connection.listener.name,
            "connection": request.connection.number,
            "method": request.method, "path": request.raw_path,
            "query": [[name, shown(name, value)] for name, value in request.query],
            "host": request.header("host"), "content_type": request.header("content-type"),
            "header_names": [name for name, _ in request.headers],
            "authorization": ({"scheme": scheme, "fingerprint": fingerprint(credential.strip())}
                              if scheme else None),
            "form_fields": [name for name, _ in request.form],
            "form": [[name, shown(name, value)] for name, value in request.form],
            "body_bytes": len(request.body), "status": None, "faults": [],
        }
        self.requests.append(entry)
        return entry

    def end(self):
        self.in_flight -= 1
