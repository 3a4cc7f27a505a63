"""What holds on every page in every state: axe, contrast, keyboard, size, motion, policy, weight."""

import pytest
from selenium.webdriver.common.keys import Keys
from visitor import problem

ADA = "ada@example.com"
GRACE = "grace@workspace.example"
STATE = "A" * 43 + ".acme"
CALLBACK = "/integrations/google/callback"
PAGES = ("/integrations", "/mcps", CALLBACK)
LIST = r"/integrations$"


def record(**members):
    return {"path": LIST, "change": {"integrations": {"0": members}}}


def shown(path, words, *rules, connected=False):
    """How to bring a page into a state: (path, the words by which it is known, rules, whether to connect first)."""
    return path, words, rules, connected


STATES = {
    "not connected": shown("/integrations", "Connect"),
    "valid": shown("/integrations", "Valid", connected=True),
    "invalid": shown("/integrations", "Invalid", record(status="invalid", status_reason="grant_revoked"), connected=True),
    "unknown": shown("/integrations", "Unknown", record(status="unknown", status_reason="provider_policy"), connected=True),
    "permission missing": shown("/integrations", "lacks permission", record(
        missing_scopes=["https://www.googleapis.com/auth/drive.readonly"]), connected=True),
    "loading": shown("/integrations", "Refresh", {"path": LIST, "delay": 30}),
    "failed load": shown("/integrations", "Failed to load integrations", {"path": LIST, **problem("store_unavailable", 503)}),
    "not signed in": shown("/integrations", "You are not signed in", {"path": "/api/", **problem("unauthenticated", 401)}),
    "no organization": shown("/integrations", "not a member", {"path": "/api/me$", "change": {"organizations": []}}),
    "no service": shown("/integrations", "No services are offered yet", {
        "path": "/api/services$", "change": {"services": []}}),
    "mcps not connected": shown("/mcps", "Not connected"),
    "mcps ready": shown("/mcps", "Ready", connected=True),
    "mcps permission missing": shown("/mcps", "Permission missing", {"path": "/mcps$", "change": {"mcps": {"0": {
        "state": "missing_scopes", "missing_scopes": ["https://www.googleapis.com/auth/drive.readonly"]}}}}),
    "mcps reconnect": shown("/mcps", "Reconnect required", {"path": "/mcps$", "change": {"mcps": {"0": {
        "state": "reconnect_required"}}}}),
    "mcps failed": shown("/mcps", "Failed to load MCPs", {"path": "/mcps$", **problem("internal_error", 500)}),
    "mcps loading": shown("/mcps", "Refresh", {"path": "/mcps$", "delay": 30}),
    "callback idle": shown(CALLBACK, "Nothing left to do here"),
    "callback connecting": shown(f"{CALLBACK}?code=x&state={STATE}", "Connecting integration…", {
        "path": "/callback$", "delay": 30}),
    "callback asking": shown(f"{CALLBACK}?code=x&state={STATE}", "Connect this account?"),
    "organization unknown": shown("/integrations?organization=someone-else", "You are not a member of the organization someone-else"),
    "callback failed": shown(f"{CALLBACK}?code=x&state={STATE}", "Failed to connect integration"),
    "callback mismatch": shown(f"{CALLBACK}?code=x&state={STATE}", "Replace", {"path": "/callback$", **problem(
        "account_mismatch", 409, stored_account=ADA, chosen_account=GRACE,
        offered={"oauth_user_id": "2", "oauth_email": GRACE})}),
    "callback not signed in": shown(f"{CALLBACK}?code=x&state={STATE}", "You are not signed in", {
        "path": "/api/", **problem("unauthenticated", 401)}),
}


def show(visitor, person, name):
    path, words, rules, connected = STATES[name]
    if connected != bool(person.integrations()):
        if connected:
            person.connect("acme", "ada")
        else:
            person.disconnect()
    visitor.heal()
    visitor.inject(*rules)
    (visitor.open_noted if "state=" in path and name != "callback asking" else visitor.open)(path)
    visitor.wait_text(words)


@pytest.mark.parametrize("name", STATES)
def test_axe(visitor, person, name):
    """Contrast included; wide and light, narrow and dark."""
    show(visitor, person, name)
    for scheme, width in (("light", 1100), ("dark", 320)):
        visitor.scheme(scheme)
        visitor.size(width, 900)
        assert visitor.axe() == [], f"{name}, {scheme}, {width} px"


def test_axe_with_toasts_and_running_actions(visitor, person):
    person.connect("acme", "ada")
    for scheme in ("light", "dark"):
        visitor.scheme(scheme)
        visitor.open_integrations()
        visitor.inject({"method": "POST", "path": "/google$", "times": 1, **problem("internal_error", 500)},
                       {"method": "POST", "path": "/google$", "delay": 30})
        visitor.click("Validate")
        visitor.wait_toast("Something went wrong on our side.")
        assert visitor.axe() == []
        visitor.click("Refresh")
        visitor.wait_toast("up to date")
        assert visitor.axe() == []
        visitor.click("Validate")
        visitor.wait_text("Validating…")
        assert visitor.axe() == []
        visitor.heal()


# Size of window and text


@pytest.mark.parametrize("name", STATES)
def test_fits_every_size_of_window_and_text(visitor, person, name):
    show(visitor, person, name)
    for width, height in ((320, 640), (375, 800), (768, 1024), (1920, 1080), (3840, 2160)):
        visitor.size(width, height)
        overflow = visitor.js("return document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"it scrolls sideways by {overflow} px at {width} px"
        cut = visitor.js("""return [...document.querySelectorAll('main *')].filter((one) => {
            const box = one.getBoundingClientRect();
            return box.width > 0 && !one.closest('.unseen') && (box.left < -1 || box.right > innerWidth + 1);
        }).map((one) => one.outerHTML.slice(0, 80))""")
        assert cut == [], f"at {width} px"

    visitor.size(1100, 900)
    visitor.js("document.documentElement.style.fontSize = '200%'")
    assert visitor.js("return getComputedStyle(document.body).fontSize") == "32px"
    assert visitor.js("return document.documentElement.scrollWidth - innerWidth") <= 0
    clipped = visitor.js("""return [...document.querySelectorAll('main *, .bar *')].filter((one) =>
        !one.closest('.unseen') && getComputedStyle(one).overflow === 'hidden' && one.scrollWidth > one.clientWidth + 1)
        .map((one) => one.outerHTML.slice(0, 80))""")
    assert clipped == []


def test_long_words_wrap(visitor, person):
    person.connect("acme", "ada")
    long = "w" * 300
    visitor.inject(record(oauth_email=f"{long}@example.com", oauth_user_id="1" * 255),
                   {"path": "/api/me$", "change": {"name": long}},
                   {"path": "/api/services$", "change": {"services": {"0": {"name": long, "description": long}}}})
    for width in (320, 1100):
        visitor.size(width, 900)
        visitor.open_integrations()
        visitor.wait_text("Last checked")
        assert visitor.js("return document.documentElement.scrollWidth - innerWidth") <= 0


# Keyboard


def test_main_job_by_keyboard_alone(visitor, person):
    visitor.open_integrations()
    visitor.keys(Keys.TAB)
    assert visitor.focused() == "Skip to content"
    visitor.tab_to("Connect")
    visitor.keys(Keys.ENTER)
    visitor.wait(lambda: visitor.all("#chooser"), "the account chooser")
    visitor.js("document.querySelector('button.account').focus()")
    visitor.keys(Keys.ENTER)
    visitor.wait(lambda: visitor.all("#consent"), "the consent page")
    visitor.tab_to("Continue")
    visitor.keys(Keys.ENTER)
    visitor.wait_path("/integrations", 15)
    visitor.settle()
    visitor.wait_text("Last checked")

    visitor.tab_to("Validate")
    visitor.keys(Keys.SPACE)
    visitor.wait_toast("Google is valid")
    assert visitor.focused() == "Validate"
    visitor.tab_to("Dismiss")
    visitor.keys(Keys.ENTER)
    visitor.wait(lambda: not visitor.all(".toast"), "the toast to go") if len(visitor.all(".toast")) == 1 else None
    assert visitor.focused() != ""

    visitor.open_integrations()
    visitor.tab_to("Disconnect")
    visitor.keys(Keys.ENTER)
    visitor.confirm(accept=True)
    visitor.wait_toast("Google disconnected.")
    assert visitor.focused() == "Connect"


def test_skip_link(visitor, person):
    visitor.open_integrations()
    visitor.keys(Keys.TAB, Keys.ENTER, Keys.TAB)
    assert visitor.focused() == "Connect"


@pytest.mark.parametrize("name", ["valid", "not connected", "failed load", "mcps permission missing", "callback mismatch"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_focus_is_visible(visitor, person, name, scheme):
    visitor.scheme(scheme)
    show(visitor, person, name)
    seen = set()
    for _ in range(15):
        visitor.keys(Keys.TAB)
        name = visitor.focused()
        if name == "" or name in seen:
            break
        seen.add(name)
        style, width, box = visitor.js("""const style = getComputedStyle(document.activeElement);
            const box = document.activeElement.getBoundingClientRect();
            return [style.outlineStyle, parseFloat(style.outlineWidth), box.width > 0 && box.top >= 0]""")
        assert (style != "none" and width >= 2) and box, name
    assert seen


def test_controls_are_large_enough(visitor, person):
    for name in ("valid", "failed load", "callback mismatch"):
        show(visitor, person, name)
        for height in visitor.js("return [...document.querySelectorAll('main button, main .button, select')]"
                                 ".filter((one) => one.offsetParent).map((one) => one.getBoundingClientRect().height)"):
            assert height >= 24


# Announcements


def test_live_regions_are_there_before_they_speak(visitor, person):
    for path in PAGES:
        visitor.open(path)
        roles = visitor.js("return Object.fromEntries(['status', 'toasts', 'alerts'].map("
                           "(id) => [id, document.getElementById(id)?.getAttribute('role')]))")
        assert roles == {"status": "status", "toasts": "status", "alerts": "alert"}
    visitor.open(CALLBACK)
    assert visitor.js("return document.querySelector('#content').getAttribute('role')") == "status"


def test_toasts_of_success_go_and_those_of_failure_stay(visitor, person):
    visitor.inject_script("""
      const real = window.setTimeout;
      window.setTimeout = (action, time, ...more) => real(action, time === 7000 ? 700 : time, ...more);
    """)
    person.connect("acme", "ada")
    visitor.open_integrations()
    visitor.click("Validate")
    visitor.wait_toast("Google is valid")
    visitor.wait(lambda: not visitor.all(".toast"), "the toast to go")
    visitor.inject({"method": "POST", "path": "/google$", **problem("internal_error", 500)})
    visitor.click("Validate")
    visitor.wait_toast("Something went wrong on our side.")
    visitor.js("window.later = false; realFetch('/integrations-assets/icon.svg').then(() => setTimeout(() => { window.later = true; }, 1500))")
    visitor.wait(lambda: visitor.js("return window.later"), "time to pass")
    assert visitor.all("#alerts .toast")
    visitor.find("#alerts .toast-close").click()
    assert not visitor.all(".toast")
    assert visitor.focused() == "Integrations"


# Motion


@pytest.mark.parametrize("name", ["loading", "callback connecting", "valid"])
def test_reduced_motion(visitor, person, name):
    running = "return document.getAnimations().filter((one) => one.playState === 'running').length"
    show(visitor, person, name)
    moves = visitor.js(running)
    assert moves > 0 or name == "valid"
    visitor.scheme("light", reduced_motion=True)
    show(visitor, person, name)
    assert visitor.js(running) == 0


# Policy and weight


def test_no_message_in_the_console_and_no_breach_of_the_policy(visitor, person):
    person.connect("acme", "ada")
    for path in PAGES:
        visitor.open(path)
        visitor.wait(lambda: visitor.all("h1"), "the page")
        if path != CALLBACK:
            visitor.settle()
        assert visitor.js("return window.violations") == []
        assert visitor.console() == []


def test_policy_is_strict(visitor, product):
    for path in PAGES:
        answer = product.request("GET", path)
        directives = dict(each.strip().partition(" ")[::2] for each in answer.headers["Content-Security-Policy"].split(";"))
        assert directives == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
            "img-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "<style" not in answer.text and " style=" not in answer.text and " onclick" not in answer.text
        assert answer.text.count("<script") == answer.text.count('<script type="module" src="/integrations-assets/')


WEIGHT = """
const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
return entries.map(({ name, transferSize }) => [new URL(name), transferSize])
  .map(([url, size]) => ({ origin: url.origin, path: url.pathname, size }));
"""


@pytest.mark.parametrize("path, most", [("/integrations", 10), ("/mcps", 9), (CALLBACK, 7)])
def test_few_requests_and_few_bytes(visitor, person, product, path, most):
    visitor.driver.get("about:blank")
    visitor.cdp("Network.clearBrowserCache")
    visitor.open(path)
    if path != CALLBACK:
        visitor.settle()
    visitor.wait(lambda: visitor.heading() not in ("", "Connecting integration…"), "the page")
    entries = visitor.js(WEIGHT)
    assert {each["origin"] for each in entries} == {visitor.base}
    # The icon is asked for anew where the page puts the organization into its address: it counts once.
    static = [each for each in entries if not each["path"].startswith("/api/") and not each["path"].endswith("/icon.svg")]
    api = [each for each in entries if each["path"].startswith("/api/")]
    assert len(static) + 1 <= most, " ".join(sorted(each["path"].rpartition("/")[2] for each in static))
    assert len(api) <= 3
    assert sum(each["size"] for each in entries) < 40000
    assets = [each for each in static if each["path"].endswith((".js", ".css"))]
    assert assets
    page = product.request("GET", path).text
    assert all(f'"{each["path"]}"' in page for each in assets), "the page names them all: none waits for another"


def test_all_pages_together_stay_small(product):
    """Everything there is, as nginx sends it."""
    paths = [*PAGES] + [f"/integrations-assets/{name}" for name in (
        "common.js", "flow.js", "list-page.js", "organization.js", "integrations.js", "mcps.js", "callback.js", "integration-connectors.js", "permission-words.js", "style.css", "icon.svg")]
    total = 0
    for path in paths:
        answer = product.request("GET", path, headers={"Accept-Encoding": "gzip"}, stream=True)
        assert answer.status_code == 200
        total += len(answer.raw.read(decode_content=False))
    assert total < 40000
