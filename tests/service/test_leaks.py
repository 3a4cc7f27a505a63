"""The leak scan must see what it is there for: here secrets are planted, and each must be found."""

import base64
import json
import secrets
import urllib.parse

import pytest

from harness import Product
from leaks import Leak, Scanner

MARKED = "ya29.MARKER-planted-token"
RANDOM = base64.b64encode(secrets.token_bytes(32)).decode()

WAYS = {
    "as it is": lambda secret: secret,
    "in JSON": lambda secret: json.dumps({"token": secret}).replace("/", "\\/"),
    "in a URL": lambda secret: "?token=" + urllib.parse.quote(secret, safe=""),
    "in hex": lambda secret: secret.encode().hex(),
    "in capital hex": lambda secret: secret.encode().hex().upper(),
    **{f"in base64, from byte {before}": lambda secret, before=before: base64.b64encode(b"x" * before + secret.encode()).decode()
       for before in range(4)},
    "in base64url": lambda secret: base64.urlsafe_b64encode(b"??" + secret.encode() + b"\xff\xfe").decode(),
}


@pytest.fixture
def scanner():
    scanner = Scanner()
    scanner.record(RANDOM, "a planted key")
    return scanner


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", [MARKED, RANDOM], ids=["marked", "recorded"])
def test_a_planted_secret_is_found(scanner, secret, way):
    planted = f"before the secret {WAYS[way](secret)} and after it".encode()
    with pytest.raises(Leak):
        scanner.check(planted, "a plant")


def test_a_planted_secret_of_bytes_is_found(scanner):
    raw = bytes(range(200, 232))
    scanner.record(raw, "a raw key")
    with pytest.raises(Leak, match="a raw key"):
        scanner.check(b"\0\1\2" + raw + b"\3", "a plant")


def test_what_is_no_secret_is_let_through(scanner):
    text = f"mark marked {RANDOM[:15]} {RANDOM.swapcase()} {'A' * 100}".encode()
    assert scanner.check(text, "nothing") == len(text)


def test_a_secret_that_was_half_written_is_found_in_the_end(scanner, tmp_path):
    log = tmp_path / "serve.log"
    log.write_text("x" * 20_000 + RANDOM[:20])
    scanner.check_files(str(tmp_path), whole=False)
    with open(log, "a", encoding="ascii") as file:
        file.write(RANDOM[20:])
    with pytest.raises(Leak, match="serve.log"):
        scanner.check_files(str(tmp_path), whole=False)


def test_the_scan_of_a_product_sees_every_place(tmp_path):
    """Logs of all parts, values and keys in Redis (also those deleted long ago), answers."""
    product = Product(tmp_path)
    try:
        product.start()
        ada = product.session("ada", {"acme": "member"})
        ada.connect("acme")
        assert product.scan() > 10_000

        places = {
            "serve.log": lambda: append(product.serve.log),
            "nginx-error.log": lambda: append(product.directory + "/host0/nginx-error.log"),
            "appendonlydir": lambda: (product.redis.set("integrations:planted", MARKED),
                                      product.redis.delete("integrations:planted")),
        }
        for place, plant in places.items():
            plant()
            with pytest.raises(Leak, match=place):
                product.scan()
            clean(product, place)
            product.scan()

        product.redis.hset(product.session_key(ada.token), "name", MARKED)
        with pytest.raises(Leak, match="the answer to GET /api/me"):
            ada.get("/api/me")
    finally:
        product.stop(check=False)


def append(path):
    with open(path, "a", encoding="ascii") as file:
        file.write(f"token {MARKED}\n")


def clean(product, place):
    """Take the plant out again, so that the next one is seen by itself."""
    if place == "appendonlydir":
        product.redis.bgrewriteaof()
        product.stand_in.wait_for(lambda _: not product.redis.info("persistence")["aof_rewrite_in_progress"]
                                  and not product.redis.info("persistence")["aof_rewrite_scheduled"])
        return
    path = product.serve.log if place == "serve.log" else product.directory + "/host0/nginx-error.log"
    with open(path, "r+b") as file:
        data = file.read().replace(MARKED.encode(), b"x" * len(MARKED))
        file.seek(0)
        file.write(data)
