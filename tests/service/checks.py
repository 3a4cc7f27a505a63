"""What several test files ask: about records, connections in Redis, the provider's ledger, answers that must be alike."""

import base64
import hashlib
import time

from harness import SERVICE, wait_until

API = "https://www.googleapis.com/auth/"
GMAIL, CALENDAR, DRIVE = API + "gmail.readonly", API + "calendar.readonly", API + "drive.readonly"
IDENTITY = ["https://www.googleapis.com/auth/userinfo.email", "openid"]


def alike(answer):
    """An answer without what is new in each: two that must not be told apart are equal in this."""
    headers = {name.lower(): value for name, value in answer.headers.items()
               if name.lower() not in ("date", "x-request-id", "connection")}
    body = answer.text.replace(answer.headers["X-Request-Id"], "ID")
    return answer.status_code, headers, body


# A connection in Redis


def key(kind, user, organization="acme", service=SERVICE):
    return f"{kind}:{{{organization}:{user}}}:{service}"


def dump(product, user, organization="acme", service=SERVICE):
    """Record and credential as Redis has them, value by value."""
    both = [product.redis.hgetall(key(kind, user, organization, service)) for kind in ("integration", "credential")]
    assert all(both), "there is no connection to compare"
    return both


def is_stored(product, user, organization="acme", service=SERVICE):
    return [product.redis.exists(key(kind, user, organization, service)) for kind in ("integration", "credential")] != [0, 0]


def make_due(product, user, organization="acme", service=SERVICE):
    """As if the access token had been given an hour ago."""
    now = int(time.time())
    product.redis.hset(key("credential", user, organization, service),
                       mapping={"issued_at": now - 3700, "expires_at": now - 100})


def age(product, user, organization="acme", service=SERVICE):
    """As if all had happened long ago, so that a new time shows."""
    old = dict.fromkeys(("connected_at", "updated_at", "validated_at"), "2020-02-02T02:02:02Z")
    product.redis.hset(key("integration", user, organization, service), mapping=old)


# The ledger


def live(product, account, kind="refresh"):
    """How many tokens of the account the provider would honour."""
    email = {"ada": "ada@example.com", "grace": "grace@workspace.example", "linus": "linus@example.org"}.get(account, account)
    return sum(token["live"] and token["account"] == email for token in product.stand_in.ledger()[kind + "_tokens"])


def calls(product):
    """What the provider was asked for, without the consents, which are the user's own."""
    counters = product.stand_in.counters()
    return {name: counters[name] for name in ("exchanges", "refreshes", "userinfo", "userinfo_refused", "revokes",
                                              "revokes_refused", "tokeninfo", "elsewhere")}


def only(**counted):
    """`calls` where nothing but this was asked for."""
    return {**dict.fromkeys(("exchanges", "refreshes", "userinfo", "userinfo_refused", "revokes", "revokes_refused",
                             "tokeninfo", "elsewhere"), 0), **counted}


def fingerprint(secret):
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def challenge_fingerprint(challenge):
    """The fingerprint of the verifier that an S256 challenge was made of."""
    return base64.urlsafe_b64decode(challenge + "=" * (-len(challenge) % 4)).hex()[:16]


# Requests under way


def metric(product, name, host=0):
    """The sum of a metric's series."""
    text = product.request("GET", "/metrics", internal=True, host=host).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith(name) and line[len(name)] in " {")


def wait_in_flight(product, count, host=0):
    """Until so many requests are being worked on, besides the one that asks."""
    wait_until(lambda: metric(product, "integrations_http_requests_in_flight", host) >= count + 1,
               f"{count} requests in flight")
