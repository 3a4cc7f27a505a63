import itertools

import pytest

from harness import Product


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
    shared_product.scan()


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
