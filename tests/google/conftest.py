"""One running stand-in, as new for each test."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from client import StandIn  # noqa: E402
from flow_client import REDIRECT_URI, Http  # noqa: E402


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    with StandIn.start(tmp_path_factory.mktemp("google"),
                       redirect_uris=[REDIRECT_URI]) as stand_in:
        yield stand_in


@pytest.fixture
def google(running):
    running.reset()
    return running


@pytest.fixture
def web(google):
    return Http(google)
