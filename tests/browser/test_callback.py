"""/integrations/{service}/callback in a real browser: the three phases, and every way in which it can go wrong."""

import json
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from conftest import BrowserProduct, Person
from visitor import SCOPES, SHORT_TIMEOUT, problem

ADA = "ada@example.com"
GRACE = "grace@workspace.example"
LINUS = "linus@example.org"
PATH = "/integrations/google/callback"
POST = r"/callback$"
STATE = "A" * 43 + ".acme"

# Notes each phase: when it began, what stood there.
WATCH_PHASES = """
if (location.pathname.endsWith('/callback')) {
  const seen = [];
  new MutationObserver(() => {
    const title = document.querySelector('h1')?.textContent;
    if (!title) return;
    if (seen.at(-1)?.title !== title) seen.push({ title, at: Date.now(), search: location.search });
    seen.at(-1).text = document.body.innerText;
    sessionStorage.setItem('phases', JSON.stringify(seen));
  }).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
}
"""


def phases(visitor):
    """What was noted; for the page that came after the callback page."""
    return json.loads(visitor.js("const seen = sessionStorage.getItem('phases'); sessionStorage.removeItem('phases'); return seen"))


def query_of(location):
    return dict(parse_qsl(urlsplit(location).query))


def failed(visitor, words, seconds=10):
    visitor.wait(lambda: visitor.heading() == "Failed to connect integration", "the phase of failure", seconds)
    visitor.wait_text(words, "#content")
    assert visitor.driver.title == "Failed to connect integration"
    back = visitor.button("Back to integrations").get_attribute("href")
    assert back in (visitor.base + "/integrations", visitor.base + "/integrations?organization=acme")
    assert visitor.focused() in ("Failed to connect integration", ""), "the focus is where the reading begins"


# Success


def test_three_phases_then_back(visitor, person, google):
    visitor.inject_script(WATCH_PHASES)
    visitor.inject({"path": POST, "delay": 0.4})
    visitor.open_integrations()
    visitor.click("Connect")
    visitor.consent(ADA)
    visitor.wait(lambda: visitor.heading() == "Connecting integration…", "the first phase")
    visitor.wait_path("/integrations", 15)
    visitor.settle()
    seen = phases(visitor)
    assert [each["title"] for each in seen] == ["Connecting integration…", "Integration connected"]
    connected = seen[-1]
    assert connected["search"] == ""
    assert 750 <= visitor.js("return performance.timeOrigin") - connected["at"] <= 1500
    assert f"The Google account {ADA} is now connected in acme for {person.name} ({person.email})." in connected["text"]
    assert "Google connected." in connected["text"], "the toast"
    assert visitor.wait_toast("Google connected.")
    assert visitor.texts("article .badge") == ["Valid"]
    assert visitor.js("return {...sessionStorage}") == {}
    assert google.counters()["exchanges"] == 1


def test_the_toast_comes_once(visitor, person):
    visitor.connect(ADA)
    visitor.wait_toast("Google connected.")
    visitor.open_integrations()
    visitor.wait_text("Last checked")
    assert visitor.toasts() == []


def test_nothing_secret_stays(visitor, person):
    visitor.inject({"path": POST, "delay": 1.5})
    location = person.authorize()
    secrets = [query_of(location)[name] for name in ("code", "state")]
    visitor.open_noted(location)
    visitor.wait(lambda: visitor.calls(), "the posting")
    for secret in secrets:
        assert visitor.page_holds(secret) == []
    assert visitor.url == visitor.base + PATH
    visitor.wait_path("/integrations", 15)
    visitor.settle()
    for secret in secrets:
        assert visitor.page_holds(secret) == []
    assert not [entry for entry in visitor.history() if "code=" in entry or "state=" in entry]
    assert not [entry for entry in visitor.history() if "/callback" in entry], "Back does not lead to the callback"


def test_address_is_clean_although_nothing_else_loads(visitor, person):
    """The shared module does not arrive: the code is gone from the address all the same."""
    visitor.cdp("Network.setBlockedURLs", urls=["*/common.js"])
    try:
        location = person.authorize()
        visitor.open_noted(location)
        failed(visitor, "This page could not be loaded completely, so nothing was connected.")
        assert visitor.url == visitor.base + PATH
        assert not [entry for entry in visitor.history() if "code=" in entry]
    finally:
        visitor.cdp("Network.setBlockedURLs", urls=[])


def test_what_is_posted(visitor, person):
    visitor.inject_script("""
      window.bodies = [];
      const real = window.fetch;
      window.fetch = (path, options) => { if (options?.body) window.bodies.push(options.body); return real(path, options); };
    """)
    visitor.inject({"path": POST, "delay": 1})
    location = person.authorize()
    visitor.open_noted(location)
    visitor.wait(lambda: visitor.js("return window.bodies.length") == 1, "the posting")
    query = query_of(location)
    assert json.loads(visitor.js("return window.bodies[0]")) == {name: query[name] for name in ("code", "state", "iss")}


def test_reload_does_not_post_twice(visitor, person, google):
    visitor.inject({"path": POST, "delay": 3})
    visitor.open_noted(person.authorize())
    visitor.wait(lambda: visitor.calls(), "the posting")
    visitor.heal()
    visitor.inject()
    visitor.driver.refresh()
    visitor.wait(lambda: visitor.heading() == "Nothing left to do here", "the calm word")
    assert "This sign-in was handled already" in visitor.text("#content")
    assert visitor.calls() == []
    visitor.click("Back to integrations")
    visitor.wait_path("/integrations")


def test_opened_without_a_query(visitor, person):
    visitor.open(PATH)
    visitor.wait(lambda: visitor.heading() == "Nothing left to do here", "the calm word")
    assert visitor.axe() == []


def test_in_another_tab(visitor, person):
    visitor.open_integrations()
    location = person.authorize(organization="globex")
    visitor.driver.switch_to.new_window("tab")
    visitor.open_noted(location)
    visitor.wait_path("/integrations", 15)
    visitor.settle()
    assert visitor.texts("article .badge") == ["Valid"]
    assert visitor.js("return document.querySelector('select').value") == "globex", "where it was connected"


@pytest.mark.parametrize("same_site", ["Strict", "Lax"])
def test_from_another_site(visitor, person, product, same_site):
    """The way back begins at the provider's site, so a strict cookie is missing for the page but not for its requests."""
    visitor.sign_out()
    visitor.sign_in(person.session.token, same_site=same_site)
    link = person.session.begin("acme")
    visitor.open(link.replace("://localhost:", "://127.0.0.1:"))
    visitor.consent(ADA)
    visitor.click("Connect in acme")
    visitor.wait_path("/integrations", 15)
    visitor.settle()
    assert visitor.texts("article .badge") == ["Valid"]


def test_some_permissions_unticked(visitor, person):
    visitor.inject_script(WATCH_PHASES)
    visitor.connect(ADA, untick=["google_calendar", "google_drive"])
    assert "Some permissions were left out." in phases(visitor)[-1]["text"]
    assert len(visitor.texts(".mcps .lacks")) == 2


def test_names_do_not_hold_up_the_outcome(visitor, person):
    visitor.inject_script(WATCH_PHASES)
    visitor.inject({"path": "/api/(me|services)$", "fail": True})
    visitor.open_noted(person.authorize())
    visitor.wait_path("/integrations", 15)
    assert f"The Google account {ADA} is now connected in acme." in phases(visitor)[-1]["text"]


# A flow that another application began, or a link that another person sent


def test_without_a_note_it_asks_first(visitor, person, google):
    location = person.authorize(organization="globex")
    visitor.inject()
    visitor.open(location)
    visitor.wait(lambda: visitor.heading() == "Connect this account?", "the question")
    assert "Google sent you back to connect an account in the organization globex." in visitor.text("#content")
    assert not [call for call in visitor.calls() if call.startswith("POST")]
    assert google.counters()["exchanges"] == 0 and person.integrations("globex") == []
    assert visitor.button("Back to integrations").get_attribute("href") == visitor.base + "/integrations"
    visitor.tab_to("Connect in globex")
    visitor.keys("\ue007")
    visitor.wait_path("/integrations", 15)
    visitor.wait_toast("In globex: Google connected.")
    assert person.integrations("globex")[0]["status"] == "valid"
    assert visitor.js("return {...localStorage}") == {}, "no page's choice is changed"


def test_sent_error_offers_only_the_way_back(visitor, person):
    visitor.inject()
    visitor.open(f"{PATH}?error=x&state={'A' * 43}.evilcorp")
    failed(visitor, "Google did not complete the sign-in")
    assert visitor.text("#place") == "Organization evilcorp"
    assert visitor.buttons() == [] and visitor.button("Back to integrations").get_attribute("href") == visitor.base + "/integrations"
    assert not [call for call in visitor.calls() if call.startswith("POST")]


@pytest.mark.parametrize("note", [{"age": 601}, {"age": -60}, {"organization": "globex"}, {"service": "other"}], ids=str)
def test_note_that_does_not_fit(visitor, person, note):
    visitor.inject()
    visitor.open_noted(f"{PATH}?code=x&state={STATE}", **note)
    visitor.wait(lambda: visitor.heading() == "Connect this account?", "the question")
    assert not [call for call in visitor.calls() if call.startswith("POST")]
    assert visitor.js("return {...localStorage}") == {}, "a note is good once"


def test_what_a_beginning_page_notes(visitor, person):
    """The hash, never the state; at most 20; what is too old goes."""
    visitor.open_integrations()
    visitor.js("""for (let age = 0; age < 30; age += 1) localStorage.setItem(`flow:${age}`,
        JSON.stringify({ organization: 'acme', service: 'google', time: Date.now() - age * 30000 }))""")
    visitor.js("localStorage.setItem('flow:broken', '{')")
    visitor.click("Connect")
    visitor.wait(lambda: visitor.all("#chooser"), "the account chooser")
    state = query_of(visitor.url).get("state")
    visitor.open("/integrations-assets/icon.svg")
    kept = visitor.js("return {...localStorage}")
    keys = [key for key in kept if key.startswith("flow:")]
    assert len(keys) == 20 and "flow:broken" not in keys and "flow:18" in keys and "flow:19" not in keys
    new = json.loads(kept[next(key for key in keys if len(key) == len("flow:") + 64)])
    assert (new["organization"], new["service"], sorted(new)) == ("acme", "google", ["organization", "service", "time"])
    assert state is None or state not in json.dumps(kept)


@pytest.mark.parametrize("lost", [
    "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); };",
    "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError'); } });",
    "Object.defineProperty(crypto, 'subtle', { value: undefined });"], ids=["full", "forbidden", "no digest"])
def test_without_storage_or_digest_it_asks(visitor, person, lost):
    visitor.inject_script(lost)
    visitor.open_integrations()
    visitor.click("Connect")
    visitor.consent(ADA)
    visitor.click("Connect in acme")
    visitor.wait_path("/integrations", 15)
    visitor.wait(lambda: visitor.texts("article .badge") == ["Valid"], "the badge Valid")


# What the person did


def test_cancel(visitor, person):
    visitor.open_integrations()
    visitor.click("Connect")
    visitor.consent(ADA, cancel=True)
    failed(visitor, "You pressed Cancel at Google, so nothing was changed. You can connect whenever you like.")
    assert visitor.url == visitor.base + PATH
    visitor.click("Try again")
    visitor.consent(ADA)
    visitor.wait_path("/integrations", 15)


def test_cancel_of_a_reconnect_changes_nothing(visitor, person):
    visitor.open_connected(person)
    before = person.integrations()
    visitor.click("Reconnect")
    visitor.consent(ADA, cancel=True)
    failed(visitor, "You pressed Cancel at Google")
    assert person.integrations() == before
    visitor.click("Back to integrations")
    visitor.wait(lambda: visitor.texts("article .badge") == ["Valid"], "the connection as before")


def test_all_permissions_unticked(visitor, person):
    visitor.open_integrations()
    visitor.click("Connect")
    visitor.consent(ADA, untick=list(SCOPES))
    failed(visitor, "No permission that the MCPs need was ticked at Google, so nothing was changed. "
                    "Try again and tick at least one.")
    assert visitor.has_button("Try again")
    assert person.integrations() == []


def test_another_account_then_replace(visitor, person):
    visitor.open_connected(person)
    visitor.click("Reconnect")
    visitor.consent(GRACE)
    failed(visitor, f"This Google connection belongs to {ADA}. You chose {GRACE}. Nothing was changed.")
    assert not visitor.has_button("Try again")
    assert person.integrations()[0]["oauth_email"] == ADA
    visitor.click("Replace")
    visitor.consent(GRACE)
    visitor.wait_path("/integrations", 15)
    visitor.wait_text(GRACE, "article")
    assert person.integrations()[0]["oauth_email"] == GRACE


def test_replace_by_a_third_account(visitor, person):
    """The account that the page named is the only one that Replace lets in; each refusal names what was chosen."""
    visitor.open_connected(person)
    visitor.click("Reconnect")
    visitor.consent(GRACE)
    failed(visitor, f"You chose {GRACE}")
    visitor.click("Replace")
    visitor.consent(LINUS)
    failed(visitor, f"This Google connection belongs to {ADA}. You chose {LINUS}. Nothing was changed.")
    assert person.integrations()[0]["oauth_email"] == ADA
    visitor.click("Replace")
    visitor.consent(LINUS)
    visitor.wait_path("/integrations", 15)
    visitor.wait_text(LINUS, "article")


def test_another_account_then_back(visitor, person):
    visitor.open_connected(person)
    visitor.click("Reconnect")
    visitor.consent(GRACE)
    failed(visitor, f"You chose {GRACE}")
    visitor.click("Back to integrations")
    visitor.wait_text(ADA, "article")
    assert visitor.texts("article .badge") == ["Valid"]


def test_replace_that_fails(visitor, person):
    visitor.open_connected(person)
    visitor.inject({"path": "replace_with=", **problem("rate_limited", 429, {"Retry-After": "9"})})
    visitor.click("Reconnect")
    visitor.consent(GRACE)
    failed(visitor, f"You chose {GRACE}")
    visitor.click("Replace")
    visitor.wait_toast("Too many attempts. Try again in 9 seconds.")
    assert visitor.has_button("Replace") and visitor.focused() == "Replace"


# What the provider did


def test_no_lasting_access(visitor, person, google):
    visitor.open_integrations()
    google.fault("exchange", "answer", omit=["refresh_token"])
    visitor.click("Connect")
    visitor.consent(ADA)
    failed(visitor, "Google gave no lasting access, so nothing was changed.")


def test_provider_down(visitor, person, google):
    visitor.open_integrations()
    google.fault("exchange", "status", times=None, status=503)
    visitor.click("Connect")
    visitor.consent(ADA)
    failed(visitor, "Google could not be reached, so nothing was changed.", 15)
    assert visitor.has_button("Try again")


def test_slow_provider(visitor, person, google):
    visitor.open_integrations()
    google.fault("exchange", "delay", seconds=5.5)
    visitor.click("Connect")
    visitor.consent(ADA)
    visitor.wait_text("The provider is slow to answer. Please keep this page open.", "#content")
    assert visitor.heading() == "Connecting integration…"
    visitor.wait_path("/integrations", 15)


def test_wrong_issuer(visitor, person):
    location = person.authorize()
    query = query_of(location)
    visitor.open_noted(PATH + "?" + urlencode({**query, "iss": "https://elsewhere.example"}))
    failed(visitor, "The answer did not come from Google, so nothing was connected.")


# What the address held


def test_used_state(visitor, person, google):
    location = person.authorize()
    visitor.open_noted(location)
    visitor.wait_path("/integrations", 15)
    visitor.open_noted(location)
    failed(visitor, "This sign-in is not valid any more")
    assert google.counters()["exchanges"] == 1
    assert len(person.integrations()) == 1


@pytest.mark.parametrize("query, organization", [
    ({"code": "4/0AMARKER", "state": STATE}, "acme"),
    ({"code": "4/0AMARKER", "state": "A" * 43 + ".someone-else"}, "someone-else"),
    ({"code": "", "state": STATE}, "acme"),
    ({"code": "4/0AMARKER", "state": "A" * 43 + "./../../me"}, None),
    ({"code": "4/0AMARKER", "state": "A" * 43 + ".a b"}, None),
    ({"code": "4/0AMARKER", "state": "A" * 43 + "." + "x" * 65}, None),
    ({"code": "4/0AMARKER", "state": "A" * 43 + ".acme\n"}, None),
    ({"code": "4/0AMARKER", "state": "A" * 43 + "."}, None),
    ({"code": "4/0AMARKER", "state": "short.acme"}, None),
    ({"code": "4/0AMARKER", "state": ""}, None),
    ({"code": "4/0AMARKER"}, None),
    ([("code", "4/0AMARKER"), ("code", "another"), ("state", STATE)], None),
    ([("code", "4/0AMARKER"), ("state", STATE), ("state", STATE)], None),
    ([("code", "4/0AMARKER"), ("state", STATE), ("iss", "a"), ("iss", "b")], None),
])
def test_invented_or_broken_query(visitor, person, query, organization):
    """It is posted only where the state names an organization, and only to that one."""
    visitor.inject()
    visitor.open_noted(PATH + "?" + urlencode(query), organization or "acme")
    visitor.wait(lambda: visitor.heading() == "Failed to connect integration", "the phase of failure")
    posted = [call for call in visitor.calls() if call.startswith("POST")]
    assert posted == ([f"POST /api/organizations/{organization}/integrations/google/callback"] if organization else [])
    assert visitor.url == visitor.base + PATH
    assert visitor.page_holds("4/0AMARKER") == []
    assert visitor.has_button("Back to integrations")


def test_error_without_a_state(visitor, person):
    visitor.inject()
    visitor.open(PATH + "?error=access_denied")
    failed(visitor, "You pressed Cancel at Google")
    visitor.open(PATH + "?error=server_error")
    failed(visitor, "Google did not complete the sign-in, so nothing was changed.")
    assert not [call for call in visitor.calls() if call.startswith("POST")]


def test_other_error_of_the_provider(visitor, person, google):
    google.fault("authorize", "callback", error="temporarily_unavailable")
    visitor.open_integrations()
    visitor.click("Connect")
    visitor.consent(ADA)
    failed(visitor, "Google did not complete the sign-in, so nothing was changed.")


def test_hostile_query_is_never_shown(visitor, person):
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    for name in ("error", "error_description", "code", "state", "iss", "scope"):
        query = {"error": "access_denied", "state": STATE, name: hostile}
        visitor.open(PATH + "?" + urlencode(query))
        visitor.wait(lambda: visitor.heading() == "Failed to connect integration", "the phase of failure")
        assert "onerror" not in visitor.js("return document.documentElement.outerHTML")
        assert not visitor.all("main img")


def test_service_that_is_not_offered(visitor, person):
    visitor.open(f"/integrations/{quote('other_service')}/callback?code=x&state={STATE}")
    failed(visitor, "This service is not offered here.")
    assert not visitor.has_button("Try again")


# What the service said


CODES = [
    (problem("code_rejected", 400), "Google did not accept the sign-in", True),
    (problem("identity_invalid", 502), "The identity that Google sent could not be verified", True),
    (problem("provider_misconfigured", 502), "An administrator of this service must correct its settings.", False),
    (problem("provider_unreachable", 502), "Google could not be reached", True),
    (problem("organization_forbidden", 403), "You have no access to this organization.", False),
    (problem("cross_origin", 403), "Reload the page and try again.", True),
    (problem("rate_limited", 429, {"Retry-After": "3"}), "Too many attempts. Try again in 3 seconds.", True),
    (problem("account_mismatch", 409), "The detail of account_mismatch.", False),
    (problem("something_new", 400), "The detail of something_new.", True),
    (problem("store_unavailable", 503), "It is not known whether the account was connected", True),
    (problem("overloaded", 503), "It is not known whether the account was connected", True),
    (problem("internal_error", 500), "It is not known whether the account was connected", True),
    ({"fail": True}, "It is not known whether the account was connected", True),
]


@pytest.mark.parametrize("answer, words, again", CODES, ids=lambda value: value if isinstance(value, str) else "")
def test_refusals_in_words(visitor, person, answer, words, again):
    visitor.inject({"path": POST, **answer})
    visitor.open_noted(f"{PATH}?code=4/0AMARKER&state={STATE}")
    failed(visitor, words)
    assert visitor.has_button("Try again") == again
    if "body" in answer:
        assert "Reference: 0123456789abcdef" in visitor.text("#content")
    assert len([call for call in visitor.calls() if call.startswith("POST")]) == 1


def test_no_answer_in_time(visitor, person):
    visitor.inject_script(SHORT_TIMEOUT)
    visitor.inject({"path": POST, "hang": True})
    visitor.open_noted(f"{PATH}?code=4/0AMARKER&state={STATE}")
    failed(visitor, "The server took too long to answer.")


def test_offline_meanwhile(visitor, person):
    visitor.inject({"path": POST, "delay": 1})
    visitor.open_noted(f"{PATH}?code=4/0AMARKER&state={STATE}")
    visitor.wait(lambda: visitor.calls(), "the posting")
    visitor.network(offline=True)
    failed(visitor, "You are offline.")
    visitor.network()


def test_store_down(visitor, person, product):
    location = person.authorize()
    with product.store_stopped():
        visitor.open_noted(location)
        failed(visitor, "The service cannot reach its storage at the moment.")


# Not signed in, or somebody else


def test_not_signed_in(visitor, person, google):
    location = person.authorize()
    visitor.sign_out()
    visitor.open_noted(location)
    failed(visitor, "You are not signed in, so nothing was connected. After signing in, connect again.")
    assert google.counters()["exchanges"] == 0
    assert person.integrations() == []


def test_somebody_else_is_signed_in(visitor, product, person, new_person, google):
    location = person.authorize()
    other = new_person()
    visitor.open_noted(location)
    failed(visitor, "was begun in another session")
    assert person.integrations() == [] and other.integrations() == []
    assert google.counters()["exchanges"] == 0


def test_sign_in_and_back(tmp_path_factory, chromium, visitor):
    """SIGN_IN_URL is set: told so, taken there, and back to /integrations, where it can be begun again."""
    from visitor import Visitor
    product = BrowserProduct(tmp_path_factory.mktemp("signin"), environment={"SIGN_IN_URL": "https://localhost:1/login?x=1"})
    product.start()
    try:
        person = Person(product)
        other = Visitor(chromium, product.public_url)
        other.forget_everything()
        other.inject_script("sessionStorage.setItem('sign-in-attempt', String(Date.now()))")
        other.open_noted(person.authorize())
        failed(other, "You are not signed in")
        assert other.button("Sign in").get_attribute("href") == (
            "https://localhost:1/login?x=1&return_to=%2Fintegrations")
        other.heal()
        other.open("/integrations")
        other.wait_text("You are not signed in")
        other.heal()
    finally:
        product.stop()
