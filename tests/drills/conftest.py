"""The drills use the harness and the fixtures of the service tests."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "service"), os.path.join(HERE, "..", "load"), HERE]

import pytest  # noqa: E402

from harness import Product  # noqa: E402


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
