import contextlib
import itertools
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "service")]

from harness import Product, good  # noqa: E402
from visitor import Visitor, end_chromium, start_chromium  # noqa: E402

# The page of another application, served under the same policy as ours.
HOST_PAGE = """
location = /host {
	include snippets/integrations-page.conf;
	add_header Cache-Control no-cache always;
	root "%s";
	try_files /host.html =404;
}
""" % HERE


class BrowserProduct(Product):
    """The product, with the host page beside it."""

    def __init__(self, directory, **more):
        super().__init__(directory, server_conf=HOST_PAGE, **more)

    @property
    def sign_in_url(self):
        return self.environment.get("SIGN_IN_URL")

    @contextlib.contextmanager
    def store_stopped(self):
        """Redis answers nothing; it keeps what it has."""
        self.redis_server.pause()
        try:
            yield
        finally:
            self.redis_server.resume()
            self.hosts[0].wait_ready()

    @contextlib.contextmanager
    def workers_stopped(self):
        self.serve.stop()
        try:
            yield
        finally:
            self.serve.start()
            self.hosts[0].wait_ready()


class Person:
    """Somebody who is signed in at the browser, and what happens to him elsewhere meanwhile."""

    numbers = itertools.count(1)

    def __init__(self, product, organizations=None, name=None, email=None):
        self.product = product
        number = next(self.numbers)
        self.user = f"user{number}"
        self.name = name or f"Person {number}"
        self.email = email or f"person{number}@acme.example"
        if organizations is None:
            organizations = {"acme": "admin", "globex": "member"}
        self.session = product.session(self.user, organizations, email=self.email, name=self.name,
                                       sid=f"login-{number}")

    def integrations(self, organization="acme"):
        return self.session.list(organization)

    def services(self):
        return good(self.session.get("/api/services"))["services"]

    def connect(self, organization, account, **more):
        return self.session.connect(organization, account, **more)

    def disconnect(self, organization="acme"):
        return good(self.session.disconnect(organization))

    def validate(self, organization="acme"):
        return good(self.session.validate(organization))

    def authorize(self, account="ada", grant="all", organization="acme", **more):
        """Begin a flow and consent; where the provider sends the browser."""
        return self.product.stand_in.authorize(self.session.begin(organization, **more), account, grant)

    def expire_access_token(self, organization="acme"):
        """The next use asks the provider for a new one."""
        key = f"credential:{{{organization}:{self.user}}}:google"
        assert self.product.redis.exists(key)
        self.product.redis.hset(key, "expires_at", 1)

    def use_up_auth_links(self):
        while self.session.auth_link("acme").status_code == 200:
            pass

    def end_session(self):
        self.product.redis.delete(self.product.session_key(self.session.token))

    def leave(self, organization):
        self.product.redis.hdel(self.product.session_key(self.session.token), f"org:{organization}")


@pytest.fixture(scope="session", autouse=True)
def npm_packages():
    subprocess.run(["/bin/sh", os.path.join(HERE, "npm.sh")], check=True)


@pytest.fixture(scope="session")
def shared_product(tmp_path_factory):
    product = BrowserProduct(tmp_path_factory.mktemp("product"))
    product.start()
    yield product
    product.stop()


@pytest.fixture
def product(shared_product):
    shared_product.forget()
    yield shared_product
    shared_product.scan()


@pytest.fixture
def google(product):
    return product.stand_in


@pytest.fixture(scope="session")
def chromium():
    driver = start_chromium()
    yield driver
    end_chromium(driver)


@pytest.fixture
def visitor(product, chromium):
    """Nobody yet: a browser that knows nothing."""
    visitor = Visitor(chromium, product.public_url)
    visitor.forget_everything()
    yield visitor
    visitor.heal()


@pytest.fixture
def new_person(product, visitor):
    """new_person(organizations=...): sign somebody in at the browser."""
    def sign_in(**more):
        person = Person(product, **more)
        visitor.sign_in(person.session.token)
        return person
    return sign_in


@pytest.fixture
def person(new_person):
    return new_person()
