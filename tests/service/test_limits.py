"""Limits on auth_link and validate: a minute, per user and organization, with Retry-After."""

import pytest

from checks import calls
from harness import Product, good, problem

AUTH_LINK, VALIDATE = 4, 3


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("limits"),
                      environment={"LIMIT_AUTH_LINK": str(AUTH_LINK), "LIMIT_VALIDATE": str(VALIDATE)})
    product.start()
    yield product
    product.stop()


@pytest.fixture
def ada(limited):
    limited.forget()
    return limited.session("ada", {"acme": "member", "globex": "member"}, sid="a")


def too_many(answer):
    problem(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    return True


def test_auth_link(limited, ada):
    bob = limited.session("bob", {"acme": "member"})
    for _ in range(AUTH_LINK):
        good(ada.auth_link("acme"))
    states = len(limited.redis.keys("oauth_state:*"))
    assert too_many(ada.auth_link("acme")) and too_many(ada.bearer().auth_link("acme"))
    assert len(limited.redis.keys("oauth_state:*")) == states == AUTH_LINK
    good(ada.auth_link("globex"))
    good(bob.auth_link("acme"))
    again = limited.session("ada", {"acme": "member"}, sid="another-login")
    assert too_many(again.auth_link("acme")), "it is the user who is counted, not the login"


def test_validate(limited, ada):
    ada.connect("acme")
    for _ in range(VALIDATE):
        good(ada.validate("acme"))
    asked = calls(limited)
    assert too_many(ada.validate("acme"))
    assert calls(limited) == asked
    assert len(ada.list("acme")) == 1
    problem(ada.validate("globex"), 404, "integration_not_found")
    good(ada.disconnect("acme"))


def test_the_window_ends(limited, ada):
    """What is refused is not counted: who goes on asking waits no longer than who does not."""
    for _ in range(AUTH_LINK):
        good(ada.auth_link("acme"))
    key = "integrations:limit:auth_link:{acme:ada}"
    assert 0 < limited.redis.pttl(key) <= 60_000
    for _ in range(3):
        limited.redis.pexpire(key, 30_000)
        assert int(ada.auth_link("acme").headers["Retry-After"]) in (29, 30)
    limited.redis.pexpire(key, 1)
    limited.stand_in.wait_for(lambda _: not limited.redis.exists(key))
    good(ada.auth_link("acme"))


def test_a_count_without_an_end_holds_nobody_for_ever(limited, ada):
    """As after a crash between two commands."""
    limited.redis.set("integrations:limit:auth_link:{acme:ada}", AUTH_LINK)
    good(ada.auth_link("acme"))
    assert limited.redis.pttl("integrations:limit:auth_link:{acme:ada}") > 0


def test_a_window_that_ends_too_late_is_over(limited, ada):
    """As when Redis' clock was set back."""
    limited.redis.set("integrations:limit:auth_link:{acme:ada}", AUTH_LINK, ex=3600)
    good(ada.auth_link("acme"))
    assert 0 < limited.redis.pttl("integrations:limit:auth_link:{acme:ada}") <= 60_000


def test_nought_is_off(duo):
    """The product of this fixture has both limits off."""
    ada = duo.session("ada", {"acme": "member"})
    ada.connect("acme")
    for _ in range(25):
        good(ada.auth_link("acme"))
        good(ada.validate("acme"))
    assert duo.redis.keys("integrations:limit:*") == []


def test_twenty_by_default(product):
    ada = product.session("ada", {"acme": "member"})
    answers = [ada.auth_link("acme").status_code for _ in range(21)]
    assert answers == [200] * 20 + [429]
    answers = [ada.validate("acme").status_code for _ in range(21)]
    assert answers == [404] * 20 + [429]


def test_a_refusal_before_the_limit_is_not_counted(limited, ada):
    for _ in range(AUTH_LINK + 2):
        problem(ada.auth_link("acme", headers={"Origin": "http://evil.example"}), 403, "cross_origin")
        problem(ada.auth_link("acme", service="github"), 404, "service_not_found")
        problem(ada.request("PUT", "/api/organizations/acme/integrations/google"), 405, "method_not_allowed")
    good(ada.auth_link("acme"))
