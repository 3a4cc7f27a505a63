"""After the machine was started anew."""

from conftest import run
from harness import good
from processes import wait_until


def test_all_is_back(site):
    """Without anybody's doing: the connection is there, and what is handed out is what was stored."""
    wait_until(lambda: site.request("GET", "/readyz", internal=True).status_code == 200, "it is ready", 30)
    (record,) = site.session().list("acme")
    assert record["status"] == "valid"
    assert good(site.token())["access_token"]
    assert run("systemctl", "is-enabled", "integrations.service", "integrations.socket").split() == ["enabled", "enabled"]


def test_it_ends_in_order(site):
    """A machine that goes down does not wait for it, and nothing is cut off."""
    assert good(site.session().integrations("acme"))
    run("systemctl", "stop", "integrations.socket", "integrations.service")
    assert site.unit("Result") == "success" and site.unit("ExecMainStatus") == "0"
    assert run("ls", "-A", "/run/integrations", check=False).startswith(("", "ls:"))
    assert site.request("GET", "/api/me", bearer="MARKER-of-nobody").status_code == 503
