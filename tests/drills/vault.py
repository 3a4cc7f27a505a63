"""What is sealed in Redis, opened as the service would, so that the provider can be asked whether it still honours it."""

import base64
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from checks import key
from harness import SERVICE


def open_sealed(product, sealed, *context):
    """The plain text; `context` is what stands before the key's id."""
    name, _, rest = sealed.partition(".")
    with open(product.keys_file, encoding="ascii") as file:
        ring = dict(line.strip().split(":", 1) for line in file)
    raw = base64.urlsafe_b64decode(rest + "=" * (-len(rest) % 4))
    bound = b"".join(struct.pack(">I", len(part)) + part for part in (each.encode() for each in (*context, name)))
    return AESGCM(base64.b64decode(ring[name])).decrypt(raw[:12], raw[12:], bound).decode()


class Half(AssertionError):
    """A record without tokens, or tokens without a record."""


def stored(product, user, organization="acme"):
    """(record, refresh token) of one moment, or (None, None)."""
    with product.redis.pipeline(transaction=True) as pipeline:
        pipeline.hgetall(key("integration", user, organization))
        pipeline.hgetall(key("credential", user, organization))
        record, credential = pipeline.execute()
    if not record and not credential:
        return None, None
    needed = [record.get(name) for name in ("id", "status", "oauth_user_id", "generation", "connected_at")]
    if not all(needed) or not all(credential.get(name) for name in ("access_token", "refresh_token", "issuer", "client_id")):
        raise Half(f"{user}: half a connection: {sorted(record)} {sorted(credential)}")
    return record, open_sealed(product, credential["refresh_token"], product.environment["ENVIRONMENT"], organization, user,
                               SERVICE, "credential.refresh_token", credential["issuer"], credential["client_id"])


def honoured(product, token):
    return product.stand_in.honours(refresh_token=token)
