"""Programs of the platform that ask for access tokens: their keys, their requests, and what Redis was asked for."""

import contextlib
import hashlib
import secrets

from checks import CALENDAR, DRIVE, GMAIL, IDENTITY
from harness import SERVICE, good

EVERY_MCP = "gmail google_calendar google_drive"
EVERY_SCOPE = sorted([GMAIL, CALENDAR, DRIVE, *IDENTITY])


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Caller:
    """A program with a key. `mcps` and `organizations` as Redis has them; None leaves the field out."""

    def __init__(self, product, name="runtime", mcps=EVERY_MCP, organizations="*", seconds=3600):
        self.product = product
        self.name = name
        self.key = f"caller-MARKER-{secrets.token_urlsafe(24)}"
        fields = {"name": name, "mcps": mcps, "organizations": organizations}
        row = f"caller:{sha256(self.key)}"
        product.redis.hset(row, mapping={name: value for name, value in fields.items() if value is not None})
        product.redis.pexpire(row, int(seconds * 1000))

    def token(self, user, organization="acme", service=SERVICE, **more):
        """The answer to a request for a token; keywords as of Product.request, the body is `json` or `data`."""
        if "json" not in more and "data" not in more:
            more["json"] = {}
        return self.product.request("POST", token_path(user, organization, service), bearer=self.key, internal=True,
                                    may_hold_token=True, **more)

    def fresh(self, user, organization="acme", service=SERVICE, host=0, **body):
        """The body of a good answer."""
        return good(self.token(user, organization, service, host=host, json=body))


def token_path(user, organization="acme", service=SERVICE):
    return f"/internal/organizations/{organization}/users/{user}/integrations/{service}/token"


@contextlib.contextmanager
def watched(product):
    """with watched(product) as commands: ...; then `commands` are those that the workers sent meanwhile, as lists of
    words. What a script did inside Redis is not among them, and nothing of the test's own."""
    commands = []
    with product.redis.monitor() as monitor:
        yield commands
        end = secrets.token_hex(8)
        product.redis.echo(end)
        own = product.redis_server.port  # the test's connections are to the socket, as the workers' are
        while True:
            seen = monitor.next_command()
            words = seen["command"].split(" ")
            if end in words:
                break
            if seen["client_type"] != "lua" and str(own) != seen["client_port"]:
                commands.append(words)


def entries(product, organization="acme", use=False):
    """The audit stream: a list of dicts, each with the id's milliseconds as `time`."""
    key = f"events:{{{organization}}}" + (":use" if use else "")
    return [{"time": int(number.split("-")[0]), **fields} for number, fields in product.redis.xrange(key)]
