"""That a token was handed out is noted with nobody waiting for it; what is stored may be another one by then."""

import os

import pytest

from checks import key
from harness import Product, good, wait_until
from programs import Caller
from redis_proxy import RedisProxy


@pytest.fixture
def behind_a_proxy(tmp_path):
    path = os.path.join(str(tmp_path), "proxy.sock")
    product = Product(tmp_path, workers=1, environment={"REDIS_URL": f"unix://{path}"})
    proxy = RedisProxy(path, product.redis_server)
    product.start()
    yield product, proxy
    proxy.clear()
    product.stop()
    proxy.stop()


def test_a_refresh_overtakes_the_note(behind_a_proxy):
    product, proxy = behind_a_proxy
    ada = product.session("ada", {"acme": "admin"})
    ada.connect("acme")
    expires = product.redis.hget(key("credential", "ada"), "expires_at")
    held = proxy.hold("handed_out")
    good(Caller(product).token("ada"))
    held.wait()
    product.redis.hset(key("integration", "ada"), "generation", "0123456789abcdef0123456789abcdef")
    held.release()
    wait_until(lambda: product.redis.hget(key("credential", "ada"), "handed_out_until") == expires, "the note is there")
