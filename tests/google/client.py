"""How tests start and steer the stand-in Google: a thin cover over its control calls."""

import json
import os
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


class StandInError(AssertionError):
    """The stand-in refused a control call, or did not start."""


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StandIn:
    def __init__(self, http_port, directory=None, process=None):
        self.http_port = http_port
        self.base = f"http://127.0.0.1:{http_port}"
        self.directory = directory
        self.process = process

    # Life

    @classmethod
    def start(cls, directory, *, redirect_uris=(), https_port=0, http_port=0, client_id=None,
              client_secret_file=None, app_name=None, api_proxy=False):
        """Start one; use it as a context manager, or call stop()."""
        command = ["/usr/bin/python3", os.path.join(HERE, "stand_in.py"),
                   "--directory", str(directory), "--https-port", str(https_port),
                   "--http-port", str(http_port)]
        for uri in redirect_uris:
            command += ["--redirect-uri", uri]
        for flag, value in (("--client-id", client_id), ("--app-name", app_name),
                            ("--client-secret-file", client_secret_file)):
            if value is not None:
                command += [flag, str(value)]
        if api_proxy:
            command.append("--api-proxy")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ready, _, _ = select.select([process.stdout], [], [], 30)
        line = process.stdout.readline() if ready else ""
        if not line.startswith("ready "):
            process.kill()
            process.wait()
            raise StandInError("the stand-in Google did not start")
        ports = dict(part.split("=") for part in line.split()[1:])
        return cls(int(ports["http"]), str(directory), process)

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # What it wrote at start

    def path(self, name):
        return os.path.join(self.directory, name)

    @property
    def ca_file(self):
        return self.path("ca.pem")

    @property
    def client_secret_file(self):
        return self.path("client-secret")

    @property
    def providers_dir(self):
        return self.path("providers")

    @property
    def ports(self):
        with open(self.path("ports.json"), encoding="utf-8") as file:
            return json.load(file)

    @property
    def client_id(self):
        return self.ports["client_id"]

    @property
    def https_base(self):
        return f"https://localhost:{self.ports['https']}"

    @property
    def provider(self):
        with open(self.path("provider.json"), encoding="utf-8") as file:
            return json.load(file)

    # Control calls

    def call(self, method, name, document=None, query=""):
        data = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"{self.base}/__control/{name}{query}", data,
                                         {"Content-Type": "application/json"}, method=method)
        try:
            with OPENER.open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            detail = error.read().decode("utf-8", "replace")
            raise StandInError(f"{method} {name}: {error.code} {detail}") from None

    def ledger(self, lists=True):
        return self.call("GET", "ledger", query="" if lists else "?lists=0")

    def counters(self):
        return self.ledger(lists=False)["counters"]

    def requests(self, endpoint=None):
        query = f"?endpoint={endpoint}" if endpoint else ""
        return self.call("GET", "requests", query=query)["requests"]

    def reset(self):
        return self.call("POST", "reset", {})

    def authorize(self, url, account="ada", grant="all"):
        """The consent without a browser; the Location that the browser would be sent to."""
        answer = self.call("POST", "authorize", {"url": url, "account": account, "grant": grant})
        if answer["location"] is None:
            raise StandInError(f"stopped on the provider's own page: {answer}")
        return answer["location"]

    def mint(self, account, scopes, count=1, **more):
        """A list of {access_token, refresh_token, sub, email, ...}."""
        return self.call("POST", "mint", {"account": account, "scopes": scopes, "count": count,
                                          **more})["tokens"]

    def mint_each(self, accounts, scopes, **more):
        return self.call("POST", "mint", {"accounts": accounts, "scopes": scopes,
                                          **more})["tokens"]

    def add_accounts(self, count, prefix="user", domain="example.com"):
        return self.call("POST", "accounts", {"count": count, "prefix": prefix,
                                              "domain": domain})["accounts"]

    def honours(self, refresh_token=None, access_token=None):
        document = ({"refresh_token": refresh_token} if refresh_token is not None
                    else {"access_token": access_token})
        return self.call("POST", "honours", document)["honoured"]

    def live(self, account):
        """How many tokens of the account would work now: {"access", "refresh"}."""
        return self.call("POST", "live", {"account": account})

    def revoke_grant(self, account):
        return self.call("POST", "revoke_grant", {"account": account})["ended"]

    def set_grant(self, account, scopes):
        return self.call("POST", "set_grant", {"account": account, "scopes": scopes})["scopes"]

    def account(self, account, **changes):
        return self.call("POST", "account", {"account": account, **changes})

    def settings(self, **changes):
        return self.call("POST", "settings", changes)

    def register(self, client_id, **changes):
        return self.call("POST", "clients", {"client_id": client_id, **changes})

    def advance(self, seconds):
        return self.call("POST", "clock", {"advance": seconds})

    def rotate_keys(self):
        return self.call("POST", "rotate_keys", {})["kid"]

    def listen(self, https):
        return self.call("POST", "listen", {"https": https})

    # Faults

    def fault(self, endpoint, kind, times=1, **options):
        """Arm a fault; returns its id. `times` None: until cleared."""
        return self.call("POST", "fault", {"endpoint": endpoint, "kind": kind, "times": times,
                                           **options})["id"]

    def faults(self):
        return self.call("GET", "faults")["faults"]

    def clear_faults(self, number=None):
        """Disarm; returns the cleared faults, each with how often it `fired`."""
        return self.call("DELETE", "faults", query="" if number is None else f"?id={number}")[
            "faults"]

    def release(self, number=None):
        """Let requests go on that a fault of kind "hold" keeps."""
        return self.call("POST", "release", {} if number is None else {"id": number})["released"]

    def wait_for(self, condition, seconds=10, what="condition"):
        """Ask until `condition(self)` is true: a bound, not a sleep for luck."""
        end = time.monotonic() + seconds
        while True:
            value = condition(self)
            if value:
                return value
            if time.monotonic() > end:
                raise StandInError(f"not reached within {seconds} s: {what}")
            time.sleep(0.02)

    def wait_fired(self, number, times=1, seconds=10):
        """Until the fault has fired that often."""
        return self.wait_for(
            lambda self: any(fault["id"] == number and fault["fired"] >= times
                             for fault in self.faults()),
            seconds, f"fault {number} fired {times} times")


if __name__ == "__main__":
    sys.exit("client.py is imported by tests; start stand_in.py to run the stand-in Google")
