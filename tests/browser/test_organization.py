"""The organization of a page: in its address, of that tab, and named before anything is done."""

import random
import re

import pytest
from visitor import problem

ACTION = r"/api/organizations/([^/]+)/integrations/google(/auth_link)?$"


def choose(visitor, organization):
    visitor.js("""const select = document.querySelector('select'); select.value = arguments[0];
               select.dispatchEvent(new Event('change', { bubbles: true }))""", organization)


def shown(visitor):
    return visitor.js("return document.querySelector('select').value")


@pytest.mark.parametrize("path", ["/integrations", "/mcps"])
def test_address_decides_and_links_carry_it(visitor, person, path):
    visitor.open(path)
    visitor.settle()
    assert visitor.url == f"{visitor.base}{path}?organization=acme"
    visitor.js("localStorage.setItem('organization', 'acme')")
    visitor.open(path + "?organization=globex")
    visitor.settle()
    assert shown(visitor) == "globex"
    assert visitor.js("return localStorage.getItem('organization')") == "acme", "a link chooses for no other tab"
    assert all(each.get_attribute("href").endswith("?organization=globex") for each in visitor.all("nav a"))
    choose(visitor, "acme")
    visitor.settle()
    assert visitor.url.endswith("?organization=acme")


@pytest.mark.parametrize("path", ["/integrations", "/mcps"])
@pytest.mark.parametrize("name, words", [
    ("someone-else", "the organization someone-else"), ("..", "the organization in this address"),
    ("Call%20us", "the organization in this address")])
def test_unknown_organization_is_refused(visitor, person, path, name, words):
    visitor.open("/integrations-assets/icon.svg")
    visitor.js("localStorage.setItem('organization', 'acme')")
    visitor.open(f"{path}?organization={name}")
    visitor.wait_text(f"You are not a member of {words}", "#content")
    assert not visitor.all("article, .row") and shown(visitor) == ""
    assert visitor.url.endswith(f"?organization={name}")
    visitor.js("document.dispatchEvent(new Event('visibilitychange'))")
    visitor.settle()
    assert not visitor.all("article, .row")
    choose(visitor, "globex")
    visitor.wait(lambda: visitor.all("article, .row[data-mcp]"), "the list in globex")
    assert visitor.url.endswith("?organization=globex")


def test_sign_in_keeps_it(visitor, new_person):
    refusal = problem("unauthenticated", 401, sign_in_url=visitor.base + "/integrations-assets/icon.svg")
    visitor.inject({"path": "/api/", **refusal})
    visitor.open("/integrations?organization=globex")
    visitor.wait_path("/integrations-assets/icon.svg")
    visitor.heal()
    new_person()
    visitor.open_integrations()
    assert shown(visitor) == "globex"
    assert visitor.js("return {...sessionStorage}") == {}


@pytest.mark.parametrize("seed", [1, 2])
def test_two_tabs_in_a_drawn_order(visitor, person, seed):
    """Whatever the other tab chose: what a tab does is done where it says."""
    for organization in ("acme", "globex"):
        person.connect(organization, "ada")
    draw = random.Random(seed)
    visitor.open_integrations()
    tabs = [visitor.driver.current_window_handle]
    visitor.driver.switch_to.new_window("tab")
    visitor.open_integrations()
    tabs.append(visitor.driver.current_window_handle)
    expected = dict.fromkeys(tabs, "acme")
    for step in range(24):
        tab = draw.choice(tabs)
        visitor.driver.switch_to.window(tab)
        visitor.js("document.dispatchEvent(new Event('visibilitychange'))")
        visitor.settle()
        what = draw.choice(["choose", "choose", "look", "reload", "validate", "disconnect", "disconnect"])
        if what == "choose":
            expected[tab] = "globex" if expected[tab] == "acme" else "acme"
            choose(visitor, expected[tab])
            visitor.settle()
        elif what == "reload":
            visitor.open("/integrations" + visitor.js("return location.search"))
            visitor.settle()
        assert shown(visitor) == expected[tab], (seed, step, what)
        if what in ("validate", "disconnect"):
            visitor.inject({"method": "POST", "path": ACTION, **problem("internal_error", 500)},
                           {"method": "DELETE", "path": ACTION, **problem("internal_error", 500)})
            visitor.js("window.calls = []")
            visitor.click(what.capitalize())
            if what == "disconnect":
                assert f"in the organization {expected[tab]}?" in visitor.confirm(accept=True)
            visitor.wait_toast(f"In {expected[tab]}: Google: ")
            done = [re.search(ACTION, call)[1] for call in visitor.calls() if not call.startswith("GET")]
            assert done == [expected[tab]], (seed, step, what)
            visitor.heal()


def test_own_path(visitor, person):
    visitor.open("/host")
    paths = ["/.//evil.example", "/..//evil.example", "//evil.example", "/\\\\evil.example", "/.\\\\evil.example",
             visitor.base + "//evil.example", "javascript:1", "blob:" + visitor.base + "/x", "http://evil.example/", 7, None]
    script = """const [paths, done] = arguments;
        import('/integrations-assets/integration-connectors.js').then(({ ownPath }) =>
          done(paths.map((path) => ownPath(path, 'acme'))))"""
    assert visitor.driver.execute_async_script(script, paths) == ["/integrations?organization=acme"] * len(paths)
    assert visitor.driver.execute_async_script(script, ["/mcps?a=b#c"]) == ["/mcps?a=b&organization=acme#c"]
