import itertools
import os
import zlib

import pytest

from cluster import Cluster
from harness import Product

SHARE = int(os.environ.get("SERVICE_SHARE", "100"))  # per cent: always the same ones, some of each file


def pytest_collection_modifyitems(config, items):
    left_out = [each for each in items if zlib.crc32(each.nodeid.encode()) % 100 >= SHARE]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [each for each in items if each not in left_out]


@pytest.fixture(scope="session")
def shared_product(tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("product"))
    product.start()
    yield product
    product.stop()


@pytest.fixture
def product(shared_product):
    """One product for all tests, with nothing stored and the stand-in as new. A test leaves its parts running."""
    shared_product.forget()
    yield shared_product
    shared_product.scan(whole=False)


# A service without keys: who has connected says userinfo. It takes the client's secret in a header, and must name itself.
PLAIN = {"name": "Plain", "description": "Connect Plain.", "jwks_uri": None, "client_auth": "basic", "iss_required": True,
         "login_hint": False,
         "mcps": [{"mcp": "plain_mail", "name": "Plain Mail", "description": "Read mail.",
                   "scopes": ["https://www.googleapis.com/auth/gmail.readonly"]}]}


@pytest.fixture(scope="session")
def shared_duo(tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("duo"), services={"plain": PLAIN},
                      environment={"LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0"})
    product.start()
    yield product
    product.stop()


@pytest.fixture
def duo(shared_duo):
    """As `product`, with a second service, `plain`, and without limits on auth_link and validate."""
    shared_duo.forget()
    yield shared_duo
    shared_duo.scan(whole=False)


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), hosts=4)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(shared_cluster):
    """Hosts with one worker each, of which a test may kill any but the first, and a proxy before their Redis."""
    shared_cluster.reset()
    yield shared_cluster
    shared_cluster.proxy.clear()
    shared_cluster.product.stand_in.clear_faults()
    shared_cluster.product.scan(whole=False)


@pytest.fixture
def make_product(tmp_path_factory):
    """make_product(environment={...}, hosts=2, ...): one of this test's own, checked and ended after it."""
    made = []

    def make(**settings):
        made.append(Product(tmp_path_factory.mktemp("product"), **settings))
        return made[-1].start()

    yield make
    for each in reversed(made):
        each.stop()


@pytest.fixture
def ada(product):
    return product.session("ada", {"acme": "admin", "globex": "member"}, sid="login-of-ada", email="ada@example.com",
                           name="Ada Lovelace")


@pytest.fixture
def bob(product):
    return product.session("bob", {"acme": "member"}, sid="login-of-bob", email="bob@example.com", name="Bob")


_numbers = itertools.count(1)


@pytest.fixture
def somebody(product):
    """somebody(organization, ...): a new person each time, member of these organizations."""
    def sign_in(*organizations, **fields):
        user = f"user{next(_numbers)}"
        return product.session(user, {each: "member" for each in organizations or ("acme",)}, **fields)
    return sign_in
