"""Run by booted.sh inside the machine that site.sh has set up."""

import os
import subprocess
import sys

import pytest
import requests

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "service"), os.path.join(HERE, "..", "google")]

from client import StandIn  # noqa: E402
from harness import Session  # noqa: E402
from leaks import Scanner  # noqa: E402

PUBLIC = "https://app.example.com"
INTERNAL = "http://127.0.0.1:8081"
CA_FILE = "/etc/ssl/certs/app.example.com.pem"


def run(*command, check=True, **more):
    """Its output, both kinds."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False, **more)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return done.stdout


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def noted(name):
    """What site.sh wrote down."""
    return read(f"/srv/site/{name}").strip()


class Site:
    """The installed service, in the place of the harness's product."""

    def __init__(self):
        self.public_url = PUBLIC
        self.stand_in = StandIn(9080)
        self.scanner = Scanner()
        self.requests = requests.Session()
        self.requests.trust_env = False

    def request(self, method, path, bearer=None, internal=False, **more):
        more.setdefault("timeout", 40)
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return self.requests.request(method, (INTERNAL if internal else PUBLIC) + path, headers=headers, verify=CA_FILE,
                                     allow_redirects=False, **more)

    def session(self):
        return Session(self, noted("session"), "ada", "bearer")

    def token(self):
        """The answer to a caller that asks for an access token."""
        return self.request("POST", "/internal/organizations/acme/users/ada/integrations/google/token", bearer=noted("caller"),
                            internal=True, json={})

    def unit(self, name, unit="integrations.service"):
        return run("systemctl", "show", "-P", name, unit).strip()

    def workers(self):
        return run("pgrep", "-P", self.unit("MainPID")).split()

    def log(self, since=None):
        """The service's own lines, newest last."""
        return run("journalctl", "-q", "-u", "integrations", "-o", "cat", "--no-pager", *(("--since", since) if since else ()))


@pytest.fixture
def site():
    return Site()
