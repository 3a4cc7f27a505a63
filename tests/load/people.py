"""Thousands of people at once: signed in and connected, stored directly in Redis as the service would store them.

    people = sign_in(product, 500)
    connect(product, people)

One consent each would take minutes; a test that is about consents uses Session.connect of the harness.
"""

import base64
import hashlib
import os
import secrets
import struct
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

AT_ONCE = 1000


@dataclass
class Person:
    user: str
    organization: str
    token: str

    @property
    def list_path(self):
        return f"/api/organizations/{self.organization}/integrations"

    def service_path(self, service="google"):
        return f"{self.list_path}/{service}"


def sign_in(product, count, organizations=100, prefix="load"):
    """`count` people with a session each, spread over the organizations."""
    people = [Person(f"{prefix}{number:05d}", f"org{number % organizations:03d}",
                     f"session-MARKER-{secrets.token_urlsafe(24)}") for number in range(count)]
    for some in slices(people):
        with product.redis.pipeline(transaction=False) as pipeline:
            for person in some:
                key = product.session_key(person.token)
                pipeline.hset(key, mapping={"user_id": person.user, f"org:{person.organization}": "member",
                                            "sid": f"login-of-{person.user}", "email": f"{person.user}@example.com",
                                            "name": f"Person {person.user}"})
                pipeline.expire(key, 24 * 3600)
            pipeline.execute()
    return people


def connect(product, people, scopes, service="google"):
    """A valid connection for each person, with tokens that the stand-in honours."""
    accounts = product.stand_in.add_accounts(len(people), prefix=people[0].user[:8] + secrets.token_hex(3))
    provider = product.stand_in.provider
    ring = KeyRing(product)
    granted = ["openid", "https://www.googleapis.com/auth/userinfo.email", *scopes]
    for first, some in enumerate_slices(people):
        names = [each["key"] for each in accounts[first:first + len(some)]]
        tokens = product.stand_in.mint_each(names, granted)
        with product.redis.pipeline(transaction=False) as pipeline:
            for person, minted in zip(some, tokens):
                store(product, pipeline, ring, person, service, provider["issuer"], minted)
            pipeline.execute()


def store(product, pipeline, ring, person, service, issuer, minted):
    tag = f"{{{person.organization}:{person.user}}}:{service}"
    now = int(time.time())
    generation = secrets.token_hex(16)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    client_id = minted["client_id"]

    def sealed(field):
        return ring.seal(minted[field], product.environment["ENVIRONMENT"], person.organization, person.user, service,
                         f"credential.{field}", issuer, client_id)

    pipeline.hset(f"integration:{tag}", mapping={
        "id": secrets.token_hex(16), "organization_id": person.organization, "user_id": person.user,
        "service": service, "status": "valid", "oauth_user_id": minted["sub"], "oauth_email": minted["email"],
        "scopes": minted["scope"], "missing_scopes": "", "connected_at": stamp, "updated_at": stamp,
        "validated_at": stamp, "generation": generation})
    pipeline.hset(f"credential:{tag}", mapping={
        "access_token": sealed("access_token"), "refresh_token": sealed("refresh_token"), "issued_at": now,
        "expires_at": now + minted["expires_in"], "handed_out_until": 0, "issuer": issuer, "client_id": client_id,
        "generation": generation})
    grant = hashlib.sha256(f"{issuer}\0{minted['sub']}".encode()).hexdigest()
    pipeline.sadd(f"grant:{grant}", f"{person.organization}:{person.user}:{service}")


class KeyRing:
    """Seals as common/seal.h says."""

    def __init__(self, product):
        with open(product.environment["TOKEN_KEYS_FILE"], encoding="ascii") as file:
            self.id, _, key = file.readline().strip().partition(":")
        self.cipher = AESGCM(base64.b64decode(key))

    def seal(self, plain, *context):
        bound = b"".join(struct.pack(">I", len(part)) + part
                         for part in (each.encode() for each in (*context, self.id)))
        nonce = os.urandom(12)
        sealed = nonce + self.cipher.encrypt(nonce, plain.encode(), bound)
        return f"{self.id}.{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"


def slices(items):
    return (some for _, some in enumerate_slices(items))


def enumerate_slices(items):
    return ((first, items[first:first + AT_ONCE]) for first in range(0, len(items), AT_ONCE))
