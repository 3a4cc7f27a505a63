"""The element <integration-connectors> on the page of another application."""

from visitor import SCOPES, problem

LIST = r"/mcps$"
ELEMENT = "document.querySelector('integration-connectors')"

RECORD_EVENTS = """
window.events = [];
for (const what of ['loaded', 'changed', 'failed']) {
  window.addEventListener(`integration-connectors-${what}`, (event) => {
    window.events.push({ what, detail: event.detail, composed: event.composed });
  });
}
"""


def open_host(visitor):
    visitor.inject_script(RECORD_EVENTS)
    visitor.open("/host")
    visitor.wait(lambda: visitor.js("return window.events.length > 0"), "an event")


def shadow(visitor, selector):
    return visitor.js(f"return [...{ELEMENT}.shadowRoot.querySelectorAll(arguments[0])]"
                      ".map((one) => one.innerText.trim())", selector)


def events(visitor):
    return visitor.js("return window.events.map((one) => one.what)")


def last_detail(visitor):
    return visitor.js("return window.events.at(-1).detail")


def refresh(visitor):
    visitor.driver.execute_async_script(f"const done = arguments[0]; {ELEMENT}.refresh().then(() => done(), done)")


def test_only_what_was_asked_for(visitor, person):
    open_host(visitor)
    assert shadow(visitor, ".name") == ["Gmail", "Google Drive"]
    assert shadow(visitor, ".badge") == ["Not connected"] * 2
    assert "Google is not connected. Connect it to use Gmail." in shadow(visitor, ".warning")[0]
    assert events(visitor) == ["loaded"]
    detail = last_detail(visitor)
    assert (detail["organization"], detail["ready"]) == ("acme", False)
    assert [each["mcp"] for each in detail["states"]] == ["gmail", "google_drive"]
    assert visitor.js("return window.events[0].composed")


def test_every_state(visitor, person, google):
    person.connect("acme", "ada", grant=[SCOPES["gmail"], SCOPES["google_calendar"]])
    open_host(visitor)
    assert shadow(visitor, ".badge") == ["Ready", "Permission missing"]
    assert "Permission to read your files in Drive is missing." in shadow(visitor, ".warning")[0]

    person.connect("acme", "ada")
    refresh(visitor)
    assert shadow(visitor, ".badge") == ["Ready", "Ready"]
    assert shadow(visitor, ".warning") == []
    assert events(visitor)[-2:] == ["loaded", "changed"] and last_detail(visitor)["ready"] is True
    assert shadow(visitor, "[role=status]") == ["All connectors are ready."]

    google.revoke_grant("ada")
    person.expire_access_token()
    person.validate()
    visitor.js("document.dispatchEvent(new Event('visibilitychange'))")
    visitor.wait(lambda: shadow(visitor, ".badge") == ["Reconnect required"] * 2, "the broken connection")
    assert "The connection to Google no longer works." in shadow(visitor, ".warning")[0]

    person.disconnect()
    refresh(visitor)
    assert shadow(visitor, ".badge") == ["Not connected"] * 2


def test_no_change_no_event(visitor, person):
    open_host(visitor)
    refresh(visitor)
    assert events(visitor) == ["loaded", "loaded"]


def test_attributes(visitor, person):
    open_host(visitor)
    visitor.js(f"{ELEMENT}.removeAttribute('mcps')")
    visitor.wait(lambda: shadow(visitor, ".name") == ["Gmail", "Google Calendar", "Google Drive"], "all of them")
    visitor.js(f"{ELEMENT}.setAttribute('mcps', 'google_calendar  gmail gmail unheard_of')")
    visitor.wait(lambda: shadow(visitor, ".badge") == ["Not connected", "Not connected", "Unavailable"], "the choice")
    assert shadow(visitor, ".name") == ["Google Calendar", "Gmail", "unheard_of"]
    person.connect("globex", "ada")
    visitor.js(f"{ELEMENT}.setAttribute('mcps', 'gmail'); {ELEMENT}.setAttribute('organization', 'globex')")
    visitor.wait(lambda: shadow(visitor, ".badge") == ["Ready"], "the other organization")
    assert last_detail(visitor)["organization"] == "globex"
    assert visitor.js(f"return {ELEMENT}.states.map((one) => one.state)") == ["ready"]


def test_link_opens_this_organization(visitor, person):
    open_host(visitor)
    visitor.js(f"localStorage.setItem('organization', 'acme'); {ELEMENT}.setAttribute('organization', 'globex')")
    visitor.wait(lambda: last_detail(visitor)["organization"] == "globex", "globex")
    visitor.js(f"{ELEMENT}.shadowRoot.querySelector('a').click()")
    visitor.wait_path("/integrations")
    visitor.settle()
    assert visitor.js("return document.querySelector('select').value") == "globex"


def test_failures_and_retry(visitor, person):
    for answer, status, code, words in (
            (problem("store_unavailable", 503), 503, "store_unavailable", "The server gave no usable answer."),
            (problem("unauthenticated", 401), 401, "unauthenticated", "You are not signed in."),
            (problem("organization_forbidden", 403), 403, "organization_forbidden", "You have no access"),
            (problem("rate_limited", 429), 429, "rate_limited", "Too many requests."),
            ({"status": 502, "raw": "<html>", "headers": {}}, 502, "no_answer", "The server gave no usable answer."),
            ({"fail": True}, 0, "network", "The server gave no usable answer.")):
        visitor.inject({"path": LIST, **answer})
        open_host(visitor)
        assert events(visitor) == ["failed"]
        assert last_detail(visitor) == {"organization": "acme", "status": status, "code": code}
        assert words in shadow(visitor, ".warning")[0]
        visitor.heal()
        visitor.js(f"{ELEMENT}.shadowRoot.querySelector('button').click()")
        visitor.wait(lambda: shadow(visitor, ".badge") == ["Not connected"] * 2, "the list")
        assert visitor.focused() == "Open Integrations"


def test_waits_for_its_organization(visitor, person):
    """As a framework sets attributes: absent or empty first, then late, in two renderings."""
    open_host(visitor)
    visitor.inject()
    visitor.js(f"window.events = []; window.calls = []; const old = {ELEMENT};"
               "old.replaceWith(document.createElement('integration-connectors'))")
    for name in ("mcps", "organization"):
        visitor.js(f"{ELEMENT}.setAttribute(arguments[0], '')", name)
        visitor.driver.execute_async_script(f"{ELEMENT}.refresh().then(arguments[0])")
        assert shadow(visitor, ".error") == [] and shadow(visitor, "p")[0] == "Loading connectors…"
    assert visitor.calls() == [] and events(visitor) == []
    visitor.js(f"{ELEMENT}.setAttribute('organization', 'acme')")
    visitor.wait(lambda: events(visitor) == ["loaded"], "the first answer")
    assert last_detail(visitor) == {"organization": "acme", "states": [], "ready": False}
    assert shadow(visitor, ".empty") == ["No connectors are chosen."]
    visitor.js(f"{ELEMENT}.setAttribute('mcps', 'gmail')")
    visitor.wait(lambda: shadow(visitor, ".badge") == ["Not connected"], "the list")


def test_list_outlives_a_fault(visitor, person):
    open_host(visitor)
    visitor.inject({"path": LIST, **problem("store_unavailable", 503)})
    for _ in range(2):
        refresh(visitor)
        assert shadow(visitor, "li .badge") == ["Not connected"] * 2
        assert len(visitor.js(f"return {ELEMENT}.states")) == 2
        assert len(shadow(visitor, ".stale")) == 1 and "This list may be out of date" in shadow(visitor, ".stale")[0]
        assert events(visitor)[-1] == "failed"
    assert visitor.axe() == []
    visitor.heal()
    visitor.js(f"{ELEMENT}.shadowRoot.querySelector('button').click()")
    visitor.wait(lambda: shadow(visitor, ".stale") == [], "the mark to go")
    visitor.inject({"path": LIST, **problem("organization_forbidden", 403)})
    refresh(visitor)
    assert shadow(visitor, "li") == [] and visitor.js(f"return {ELEMENT}.states") == []


def test_foreign_organization(visitor, person):
    open_host(visitor)
    visitor.js(f"{ELEMENT}.setAttribute('organization', '../../me')")
    visitor.wait(lambda: events(visitor)[-1] == "failed", "a refusal")
    assert last_detail(visitor)["status"] in (403, 404)


def test_styling_hooks(visitor, person):
    open_host(visitor)
    visitor.js("""
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(`integration-connectors { --integration-connectors-surface: rgb(1, 2, 3); }
        integration-connectors::part(badge) { color: rgb(4, 5, 6); }
        integration-connectors::part(item) { border-width: 7px; }`);
      document.adoptedStyleSheets = [sheet];""")
    style = f"return getComputedStyle({ELEMENT}.shadowRoot.querySelector(arguments[0]))[arguments[1]]"
    assert visitor.js(style, "li", "backgroundColor") == "rgb(1, 2, 3)"
    assert visitor.js(style, ".badge", "color") == "rgb(4, 5, 6)"
    assert visitor.js(style, "li", "borderTopWidth") == "7px"


def test_hostile_text(visitor, person):
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    visitor.inject(
        {"path": LIST, "change": {"mcps": {"0": {"name": hostile, "state": hostile, "connect_url": "javascript:1"}}}},
        {"path": "/api/services$", "change": {"services": {"0": {"name": hostile, "mcps": {
            "2": {"description": hostile}}}}}})
    open_host(visitor)
    assert shadow(visitor, "img") == []
    assert visitor.driver.title == "Connectors of a teammate"
    assert {each for each in visitor.js(
        f"return [...{ELEMENT}.shadowRoot.querySelectorAll('a')].map((one) => one.href)")} == {visitor.base + "/integrations?organization=acme"}


def test_removed_element_asks_no_more(visitor, person):
    open_host(visitor)
    visitor.inject()
    visitor.js(f"window.calls = []; {ELEMENT}.remove(); document.dispatchEvent(new Event('visibilitychange'))")
    assert visitor.calls() == []


def test_policy_and_console(visitor, person):
    open_host(visitor)
    assert visitor.js("return window.violations") == []
    assert visitor.console() == []


def test_axe_in_both_schemes(visitor, person):
    person.connect("acme", "ada", grant=[SCOPES["gmail"], SCOPES["google_calendar"]])
    for scheme in ("light", "dark"):
        visitor.scheme(scheme)
        open_host(visitor)
        assert visitor.axe() == []
