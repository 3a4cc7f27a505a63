"""Everything cryptographic: the test CA and its server certificates, the keys that sign ID tokens,
and the ID tokens themselves, right or wrong as asked."""

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def builder(subject, issuer, public_key, starts, ends):
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
            .public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(starts).not_valid_after(ends))


class Authority:
    """A test CA made anew at each start; its private key never leaves the process."""

    def __init__(self, directory):
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name("Stand-in Google test CA")
        now = datetime.datetime.utcnow()
        self.certificate = (
            builder(self.name, self.name, self.key.public_key(),
                    now - datetime.timedelta(days=1), now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(
                digital_signature=False, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()),
                           critical=False)
            .sign(self.key, hashes.SHA256()))

    def write(self, path):
        with open(path, "wb") as file:
            file.write(self.certificate.public_bytes(PEM))

    def context(self, names=("localhost",), addresses=("127.0.0.1",), expired=False):
        """A server's TLS context with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        day = datetime.timedelta(days=1)
        starts, ends = (now - 2 * day, now - day / 2) if expired else (now - day, now + 29 * day)
        alternatives = [x509.DNSName(each) for each in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        certificate = (
            builder(name(names[0]), self.name, key.public_key(), starts, ends)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
                           critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # The ssl module reads key and certificate from a file only.
        path = os.path.join(self.directory, f"server-{secrets.token_hex(4)}.pem")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate.public_bytes(PEM))
            file.write(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()))
        try:
            context.load_cert_chain(path)
        finally:
            os.unlink(path)
        return context


def only_tls11(context):
    """The context as of a server that knows nothing newer."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


class SigningKey:
    def __init__(self):
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = secrets.token_hex(20)

    def jwk(self):
        numbers = self.private.public_key().public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
                "n": base64url(modulus), "e": "AQAB"}

    def public_pem(self):
        return self.private.public_key().public_bytes(
            PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data, algorithm=None):
        return self.private.sign(data, padding.PKCS1v15(), algorithm or hashes.SHA256())


# What an id_token fault may ask for in "sign"; the test and the control call both name these.
SIGNATURES = ("good", "bad", "other_key", "unknown_kid", "no_kid", "none", "hs256",
              "hs256_secret", "rs512", "rotated", "missing", "garbage")


class SigningKeys:
    """Two published keys, as at Google: the newest signs, the one before still verifies."""

    def __init__(self):
        self.published = [SigningKey(), SigningKey()]
        self.stranger = SigningKey()

    def rotate(self):
        self.published = [self.published[1], SigningKey()]
        return self.published[1].kid

    def jwks(self):
        return {"keys": [key.jwk() for key in self.published]}

    def id_token(self, claims, header=None, sign="good", client_secret=""):
        """A signed ID token; `sign` other than "good" makes one that must be refused
        ("rotated" excepted: that one must be accepted after the keys are fetched again)."""
        if sign == "garbage":
            return "not.a-token"
        if sign == "rotated":
            self.rotate()
        key = self.published[1]
        fields = {"alg": "RS256", "kid": key.kid, "typ": "JWT"}
        fields.update({
            "unknown_kid": {"kid": self.stranger.kid},
            "none": {"alg": "none"},
            "hs256": {"alg": "HS256"},
            "hs256_secret": {"alg": "HS256"},
            "rs512": {"alg": "RS512"},
        }.get(sign, {}))
        if sign == "no_kid":
            del fields["kid"]
        for field, value in (header or {}).items():
            fields.pop(field, None)
            if value is not None:
                fields[field] = value
        message = ".".join(base64url(json.dumps(part).encode()) for part in (fields, claims))
        data = message.encode("ascii")
        if sign in ("other_key", "unknown_kid"):
            signature = self.stranger.sign(data)
        elif sign in ("none", "missing"):
            signature = b""
        elif sign == "hs256":
            signature = hmac.new(key.public_pem(), data, hashlib.sha256).digest()
        elif sign == "hs256_secret":
            signature = hmac.new(client_secret.encode(), data, hashlib.sha256).digest()
        elif sign == "rs512":
            signature = key.sign(data, hashes.SHA512())
        else:
            signature = key.sign(data)
        if sign == "bad":
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        return f"{message}.{base64url(signature)}"


def at_hash(access_token):
    return base64url(hashlib.sha256(access_token.encode("ascii")).digest()[:16])
