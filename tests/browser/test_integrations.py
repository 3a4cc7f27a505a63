"""/integrations in a real browser: every text, state and action."""

import re

import pytest
from visitor import SCOPES, SHORT_TIMEOUT, problem

DESCRIPTION = "Connect Gmail, Calendar, and Drive with read-only access."
LIST = r"/integrations$"
ACTION = r"/integrations/google$"
AUTH_LINK = r"/auth_link"
ADA = "ada@example.com"
GRACE = "grace@workspace.example"


def change_record(**members):
    """A rule that changes the first record of the list."""
    return {"path": LIST, "change": {"integrations": {"0": members}}}


# What stands on the page


def test_header(visitor, person):
    visitor.open_integrations()
    assert visitor.driver.title == "Integrations"
    assert visitor.heading() == "Integrations"
    assert "Connect external OAuth providers to your account." in visitor.text("main")
    assert visitor.js("return document.querySelector('meta[name=description]').content") == (
        "Connect external OAuth providers to your account.")
    assert visitor.has_button("Refresh")
    assert person.name in visitor.text("header")


def test_not_connected(visitor, person):
    visitor.open_integrations()
    card = visitor.text("article")
    assert visitor.texts("article h2") == ["Google"]
    assert DESCRIPTION in card
    assert visitor.buttons("article") == ["Connect"]
    assert not visitor.all(".badge")
    for name in ("Gmail", "Google Calendar", "Google Drive"):
        assert name in card
    assert "Last checked" not in card


def test_connect_validate_reconnect_disconnect(visitor, person, google):
    visitor.connect(ADA)
    account = google.call("GET", "accounts")["accounts"][0]
    card = visitor.text("article")
    assert visitor.texts("article .badge") == ["Valid"]
    assert ADA in card and account["sub"] in card
    assert visitor.buttons("article") == ["Validate", "Reconnect", "Disconnect"]
    assert visitor.texts(".mcps .serves") == ["Gmail", "Google Calendar", "Google Drive"]
    assert re.search(r"Connected\s+just now", card) and re.search(r"Last checked\s+just now", card)
    assert visitor.wait_toast("Google connected.")

    visitor.click("Validate")
    visitor.wait_toast(f"Google is valid: it accepted the connection to {ADA}.")
    assert visitor.texts("article .badge") == ["Valid"]

    visitor.click("Reconnect")
    visitor.consent(ADA)
    visitor.wait_path("/integrations", 15)
    visitor.wait_text("Last checked")
    assert visitor.texts("article .badge") == ["Valid"]

    visitor.click("Disconnect")
    question = visitor.confirm(accept=False)
    assert question.startswith(f"Disconnect Google ({ADA}) in the organization acme?")
    assert visitor.texts("article .badge") == ["Valid"]
    assert person.integrations()

    visitor.click("Disconnect")
    visitor.confirm(accept=True)
    visitor.wait_toast("Google disconnected. Access was also removed at Google.")
    assert visitor.buttons("article") == ["Connect"]
    assert visitor.focused() == "Connect"
    assert not visitor.all(".badge")
    assert person.integrations() == []


def test_times_are_relative_and_exact_on_hover(visitor, person):
    visitor.open_connected(person)
    script = "return new Date(Date.now() - arguments[0] * 1000).toISOString()"
    for seconds, words in ((10, "just now"), (185, "3 minutes ago"), (60, "1 minute ago"),
                           (2 * 3600 + 5, "2 hours ago"), (3 * 86400 + 5, "3 days ago"), (800 * 86400, "2 years ago")):
        moment = visitor.js(script, seconds)
        visitor.inject(change_record(connected_at=moment))
        visitor.open_integrations()
        visitor.wait_text("Last checked")
        time = visitor.find("article time")
        assert time.text == words
        assert time.get_attribute("datetime") == moment
        year = visitor.js("return String(new Date(arguments[0]).getFullYear())", moment)
        assert year in time.get_attribute("title") and re.search(r"\d:\d\d:\d\d", time.get_attribute("title"))
        visitor.heal()


def test_never_checked(visitor, person):
    visitor.open_connected(person)
    visitor.inject(change_record(validated_at=None, oauth_email=None))
    visitor.open_integrations()
    card = visitor.text("article")
    assert re.search(r"Last checked\s+never", card)
    assert "Account ID" in card and ADA not in card


# Not valid, and why


REASONS = {
    "grant_revoked": ("Google no longer accepts this connection", "Reconnect to restore access."),
    "provider_unreachable": ("Google could not be reached at the last check.", "Validate again in a few minutes."),
    "provider_misconfigured": ("Google refused this application itself.", "An administrator of this service must"),
    "provider_policy": ("A policy of your Google administrator blocks this access.", "Ask your Google administrator"),
    "provider_changed": ("The settings for Google were changed", "Reconnect to use it again."),
    "identity_changed": ("Google answered for another account", "Reconnect and choose the account"),
    "tokens_unreadable": ("The stored access can no longer be opened", "Reconnect to store it anew."),
    None: ("It is not known whether Google still accepts", "Validate to find out."),
}


@pytest.mark.parametrize("reason", REASONS)
def test_reason_in_words(visitor, person, reason):
    visitor.open_connected(person)
    status = "invalid" if reason == "grant_revoked" else "unknown"
    visitor.inject(change_record(status=status, status_reason=reason))
    visitor.open_integrations()
    assert visitor.texts("article .badge") == [status.capitalize()]
    sentence, step = REASONS[reason]
    assert sentence in visitor.text(".reason") and step in visitor.text(".reason")
    waits = visitor.texts(".mcps .lacks")
    assert len(waits) == (3 if reason in ("grant_revoked", "tokens_unreadable") else 0)
    assert all("waits until you reconnect" in each for each in waits)


def test_revoked_at_the_provider(visitor, person, google):
    visitor.open_connected(person)
    google.revoke_grant("ada")
    person.expire_access_token()
    visitor.click("Validate")
    visitor.wait_toast("Google was checked: Invalid.")
    assert visitor.texts("article .badge") == ["Invalid"]
    assert "Reconnect to restore access." in visitor.text(".reason")
    assert visitor.buttons("article") == ["Validate", "Reconnect", "Disconnect"]

    visitor.click("Reconnect")
    visitor.consent(ADA)
    visitor.wait_path("/integrations", 15)
    visitor.wait(lambda: visitor.texts("article .badge") == ["Valid"], "the badge Valid")


def test_provider_down_while_validating(visitor, person, google):
    visitor.open_connected(person)
    fault = google.fault("userinfo", "status", times=None, status=503)
    visitor.click("Validate")
    visitor.wait_toast("Google was checked: Unknown.", 15)
    assert visitor.texts("article .badge") == ["Unknown"]
    assert "Google could not be reached at the last check." in visitor.text(".reason")
    google.clear_faults(fault)
    visitor.click("Validate")
    visitor.wait_toast("Google is valid", 15)
    assert visitor.texts("article .badge") == ["Valid"]


def test_missing_permission(visitor, person):
    visitor.connect(ADA, untick=["google_drive"])
    assert visitor.texts("article .badge") == ["Valid"]
    assert visitor.texts(".mcps .serves") == ["Gmail", "Google Calendar"]
    assert visitor.texts(".mcps .lacks") == [
        "Google Drive: lacks permission to read your files in Drive. Reconnect and tick it."]


@pytest.mark.parametrize("scope, shown", [("https://provider.example/auth/things.read", "things.read"),
                                          ("https://mail.example/", "mail.example"), ("things:read", "things:read")])
def test_permission_without_words_of_its_own(visitor, person, scope, shown):
    visitor.open_connected(person)
    visitor.inject({"path": "/api/services$", "change": {"services": {"0": {"mcps": {"0": {"scopes": [scope]}}}}}},
                   change_record(missing_scopes=[scope]))
    visitor.open_integrations()
    assert f"use “{shown}”" in visitor.text(".mcps")


# Disconnecting


def test_disconnect_keeps_a_shared_grant(visitor, person):
    visitor.open_connected(person)
    person.connect("globex", "ada")
    visitor.click("Disconnect")
    visitor.confirm(accept=True)
    visitor.wait_toast("Google disconnected here. Access at Google was kept, because another of your connections uses "
                       "this account.")
    assert person.integrations("globex")[0]["status"] == "valid"


def test_disconnect_says_until_when_access_lasts(visitor, person):
    visitor.open_connected(person)
    until = visitor.js("const until = new Date(Date.now() + 3600000); return until.toISOString()")
    visitor.inject({"method": "DELETE", "path": ACTION, "change": {"revocation": "kept_shared", "access_until": until}})
    visitor.click("Disconnect")
    visitor.confirm(accept=True)
    visitor.wait_toast("Access that was already handed out ends by ")
    minute = visitor.js("return String(new Date(arguments[0]).getMinutes()).padStart(2, '0')", until)
    assert f":{minute}" in visitor.toasts()[0]


def test_disconnect_that_could_not_revoke(visitor, person, google):
    visitor.open_connected(person)
    google.fault("revoke", "status", times=None, status=503)
    visitor.click("Disconnect")
    visitor.confirm(accept=True)
    visitor.wait_toast("Google disconnected here. Access was not removed at Google: to remove it, open the security "
                       "settings of your Google account and remove this application there.", 15)
    assert visitor.buttons("article") == ["Connect"]


def test_disconnect_of_what_is_gone(visitor, person):
    visitor.open_connected(person)
    person.disconnect()
    visitor.click("Disconnect")
    visitor.confirm(accept=True)
    visitor.wait_toast("Google is not connected any more. Connect it again if you need it.")
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card of a service that is not connected")


# Running, and once only


@pytest.mark.parametrize("action, words, method, path", [
    ("Validate", "Validating…", "POST", ACTION),
    ("Disconnect", "Disconnecting…", "DELETE", ACTION),
    ("Reconnect", "Reconnecting…", "GET", AUTH_LINK),
])
def test_running_action_cannot_be_started_again(visitor, person, action, words, method, path):
    visitor.open_connected(person)
    visitor.js("window.confirm = () => true")
    visitor.inject({"method": method, "path": path, "delay": 1.5})
    visitor.js("window.calls = []")
    visitor.click(action)
    visitor.wait_text(words, "article")
    assert visitor.js("return document.querySelector('article').getAttribute('aria-busy')") == "true"
    assert visitor.focused() == words
    assert all(each.get_attribute("aria-disabled") == "true" for each in visitor.all("article button"))
    assert visitor.text("#status") == f"In acme: Google: {words}"
    for button in visitor.all("article button"):
        button.click()
        visitor.js("arguments[0].click()", button)
    visitor.keys("\ue007")
    assert [each for each in visitor.calls() if re.search(path, each)] == [
        call for call in visitor.calls() if call.startswith(method)]
    assert len(visitor.calls()) == 1
    if action == "Reconnect":
        visitor.wait(lambda: visitor.all("#chooser"), "the consent page")
    else:
        visitor.wait(lambda: not visitor.all("[aria-busy]"), "the end of the action")
        assert not visitor.all("article button[aria-disabled]")


def test_slow_provider(visitor, person, google):
    visitor.open_connected(person)
    google.fault("userinfo", "delay", seconds=5.5)
    visitor.click("Validate")
    visitor.wait_text("Google is slow to answer. Still waiting…", "article")
    assert visitor.text("#status") == "In acme: Google is slow to answer. Still waiting…"
    visitor.wait_toast("Google is valid")
    assert "Still waiting" not in visitor.text()


def test_stopped_on_the_way_to_the_provider(visitor, person):
    """The Back button brings back a page whose buttons work."""
    visitor.open_integrations()
    visitor.click("Connect")
    visitor.wait(lambda: visitor.all("#chooser"), "the account chooser")
    visitor.driver.back()
    visitor.wait_path("/integrations")
    visitor.settle()
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "Connect")
    visitor.click("Connect")
    visitor.wait(lambda: visitor.all("#chooser"), "the account chooser")


def test_page_that_the_browser_kept(visitor, person):
    """As the Back button shows it when the browser has kept the whole page: as it was left, running."""
    visitor.open_integrations()
    visitor.inject({"path": AUTH_LINK, "hang": True})
    visitor.click("Connect")
    visitor.wait_text("Connecting…", "article")
    person.connect("acme", "ada")
    visitor.js("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    visitor.wait(lambda: visitor.buttons("article") == ["Validate", "Reconnect", "Disconnect"], "what is the case now")
    assert not visitor.all("article [aria-disabled]")


# Failures


FAILURES = [
    (problem("organization_forbidden", 403), "You have no access to this organization."),
    (problem("cross_origin", 403), "Reload the page and try again."),
    (problem("account_mismatch", 409, stored_account="a@x", chosen_account="b@x"), "This Google connection belongs to a@x. You chose b@x."),
    (problem("reconnect_required", 409), "The connection to Google no longer works. Reconnect it."),
    (problem("rate_limited", 429, {"Retry-After": "40"}), "Too many attempts. Try again in 40 seconds."),
    (problem("rate_limited", 429, {"Retry-After": "150"}), "Too many attempts. Try again in 3 minutes."),
    (problem("rate_limited", 429), "Too many attempts. Try again in a minute."),
    (problem("internal_error", 500), "Something went wrong on our side."),
    (problem("provider_misconfigured", 502), "An administrator of this service must correct its settings."),
    (problem("provider_unreachable", 502), "Google could not be reached, so nothing was changed."),
    (problem("store_unavailable", 503), "The service cannot reach its storage at the moment."),
    (problem("overloaded", 503, {"Retry-After": "1"}), "The service is very busy at the moment. Try again in 1 second."),
    (problem("something_new", 418), "The detail of something_new."),
    ({"status": 502, "raw": "<html>Bad Gateway</html>", "headers": {}}, "The server gave no usable answer."),
    ({"status": 200, "raw": "not JSON", "headers": {}}, "The server gave no usable answer."),
    ({"fail": True}, "The server gave no usable answer. Check your network connection"),
]


@pytest.mark.parametrize("action, method, path", [
    ("Validate", "POST", ACTION), ("Disconnect", "DELETE", ACTION), ("Reconnect", "GET", AUTH_LINK)])
def test_failed_actions(visitor, person, action, method, path):
    visitor.open_connected(person)
    visitor.js("window.confirm = () => true")
    for answer, words in FAILURES:
        visitor.inject({"method": method, "path": path, **answer})
        visitor.click(action)
        visitor.wait_toast(words)
        assert visitor.toasts()[0].startswith("In acme: Google: ")
        assert visitor.all("#alerts .toast"), "a failure is announced as an alert"
        if "body" in answer:
            assert "Reference: 0123456789abcdef" in visitor.text("#alerts")
        visitor.wait(lambda: visitor.buttons("article") == ["Validate", "Reconnect", "Disconnect"], "the card as before")
        assert not visitor.all("article [aria-disabled]")
        assert visitor.texts("article .badge") == ["Valid"]
        visitor.heal()
    assert person.integrations()[0]["status"] == "valid"


def test_failed_connect(visitor, person):
    visitor.open_integrations()
    visitor.inject({"path": AUTH_LINK, **problem("rate_limited", 429, {"Retry-After": "7"})})
    visitor.click("Connect")
    visitor.wait_toast("Google: Too many attempts. Try again in 7 seconds.")
    assert visitor.focused() == "Connect"


def test_real_rate_limit(visitor, person):
    """The service's own limit, through everything."""
    visitor.open_integrations()
    person.use_up_auth_links()
    visitor.click("Connect")
    visitor.wait_toast("Google: Too many attempts. Try again in")


def test_link_that_is_no_web_address(visitor, person):
    visitor.open_integrations()
    visitor.inject({"path": AUTH_LINK, "status": 200, "headers": {},
                    "body": {"auth_link": "javascript:document.title='owned'"}})
    visitor.click("Connect")
    visitor.wait_toast("The server gave no usable answer.")
    assert visitor.driver.title == "Integrations"


def test_offline_action(visitor, person):
    visitor.open_connected(person)
    visitor.network(offline=True)
    visitor.click("Validate")
    visitor.wait_toast("Google: You are offline. Check your network connection and try again.")
    visitor.network()
    visitor.click("Validate")
    visitor.wait_toast("Google is valid")
    assert len(visitor.toasts()) == 1, "the toast of the failure is gone"


def test_action_without_an_answer(visitor, person):
    visitor.open_connected(person)
    visitor.inject_script(SHORT_TIMEOUT)
    visitor.open_integrations()
    visitor.inject({"method": "POST", "path": ACTION, "hang": True})
    visitor.click("Validate")
    visitor.wait_toast("The server took too long to answer. Try again in a moment. Choose Refresh to see whether it was done.")


def test_session_that_ends_meanwhile(visitor, person):
    visitor.open_connected(person)
    person.end_session()
    visitor.click("Validate")
    visitor.wait_text("You are not signed in")
    assert not visitor.all("article")


# Loading


def test_failed_load_and_retry(visitor, person):
    for answer in (problem("store_unavailable", 503), problem("internal_error", 500), problem("overloaded", 503),
                   problem("rate_limited", 429, {"Retry-After": "2"}), problem("organization_forbidden", 403),
                   {"fail": True}):
        visitor.inject({"path": "/integrations$", **answer})
        visitor.open("/integrations")
        visitor.wait_text("Failed to load integrations")
        assert not visitor.all("article") and not visitor.all(".skeleton")
        assert "Failed to load integrations" in visitor.text("#status")
        visitor.click("Retry")
        visitor.wait(lambda: visitor.focused() == "Retry", "the focus on Retry")
        visitor.heal()
        visitor.click("Retry")
        visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card")
        assert "Failed to load integrations" not in visitor.text("main")
        assert visitor.focused() == "Integrations"


@pytest.mark.parametrize("path", ["/api/me", "/api/services"])
def test_failed_load_of_the_rest(visitor, person, path):
    visitor.inject({"path": f"{path}$", "times": 1, **problem("store_unavailable", 503)})
    visitor.open("/integrations")
    visitor.wait_text("Failed to load integrations")
    visitor.click("Retry")
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card")


def test_store_down_and_up_again(visitor, person, product):
    """No empty list, no sign-in, but a failure; then all is well again."""
    visitor.open_connected(person)
    with product.store_stopped():
        visitor.open("/integrations")
        visitor.wait_text("Failed to load integrations")
        assert "The service cannot reach its storage at the moment." in visitor.text("main")
    visitor.click("Retry")
    visitor.wait(lambda: visitor.texts("article .badge") == ["Valid"], "the badge Valid")


def test_workers_down_and_up_again(visitor, person, product):
    visitor.open_connected(person)
    with product.workers_stopped():
        visitor.click("Refresh")
        visitor.wait_text("Failed to load integrations")
        assert "The service is very busy at the moment." in visitor.text("main")
        assert visitor.texts("article .badge") == ["Valid"], "what was loaded before stays"
        assert "What you see below was loaded just now." in visitor.text("main")
    visitor.click("Retry")
    visitor.wait(lambda: "Failed" not in visitor.text("main"), "the failure to go")


def test_offline_and_online_again(visitor, person):
    visitor.open_integrations()
    visitor.network(offline=True)
    visitor.click("Refresh")
    visitor.wait_text("You are offline. Check your network connection and try again.")
    visitor.network()
    visitor.wait(lambda: "Failed" not in visitor.text("main"), "the page to load by itself")


def test_refresh(visitor, person, google):
    visitor.open_integrations()
    person.connect("acme", "ada")
    visitor.inject({"path": LIST, "delay": 0.7})
    visitor.click("Refresh")
    visitor.wait_text("Refreshing…", ".tools")
    visitor.js("document.querySelector('#refresh').click()")
    visitor.wait_toast("Integrations are up to date.")
    assert visitor.texts("article .badge") == ["Valid"]
    assert [each for each in visitor.calls() if each.endswith("/integrations")] == [
        "GET /api/organizations/acme/integrations"]
    assert visitor.has_button("Refresh")


def test_skeleton_while_loading(visitor, person):
    visitor.inject({"path": LIST, "delay": 5})
    visitor.open("/integrations")
    assert visitor.all(".skeleton")
    top = visitor.js("return document.querySelector('.card').getBoundingClientRect().top")
    assert visitor.text("#status") == "Loading integrations…"
    visitor.wait(lambda: "Still loading integrations." in visitor.text("#status"), "a word on the slowness")
    visitor.wait(lambda: visitor.all("article"), "the card")
    assert visitor.js("return document.querySelector('.card').getBoundingClientRect().top") == top
    assert not visitor.all(".skeleton")


def test_broken_connection_shows_when_the_tab_is_looked_at(visitor, person, google):
    visitor.open_connected(person)
    first = visitor.driver.current_window_handle
    visitor.driver.switch_to.new_window("tab")
    google.revoke_grant("ada")
    person.expire_access_token()
    assert person.validate()["integration"]["status"] == "invalid"
    visitor.driver.close()
    visitor.driver.switch_to.window(first)
    visitor.js("document.dispatchEvent(new Event('visibilitychange'))")
    visitor.wait(lambda: visitor.texts("article .badge") == ["Invalid"], "the badge Invalid")
    assert not [each for each in visitor.toasts() if "up to date" in each]


def test_looking_again_keeps_focus_and_page(visitor, person):
    visitor.open_connected(person)
    visitor.tab_to("Reconnect")
    visitor.js("window.kept = document.querySelector('article')")
    visitor.js("document.dispatchEvent(new Event('visibilitychange'))")
    visitor.wait(lambda: visitor.js("return document.querySelector('[aria-busy]') !== null") or True, "loading")
    visitor.settle()
    assert visitor.focused() == "Reconnect"
    assert visitor.js("return window.kept.isConnected"), "nothing changed, so nothing was drawn anew"


# Organizations


def test_switch_between_organizations(visitor, person):
    visitor.open_connected(person)
    options = visitor.js("return [...document.querySelectorAll('#organization option')].map((one) => one.value)")
    assert sorted(options) == ["acme", "globex"]
    assert visitor.js("return document.querySelector('#organization label').htmlFor") == "organization-choice"
    switch_to(visitor, "globex")
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card in globex")
    visitor.open_integrations()
    assert visitor.js("return document.querySelector('select').value") == "globex"
    assert visitor.buttons("article") == ["Connect"]
    assert visitor.js("return {...localStorage}") == {"organization": "globex"}
    visitor.open("/mcps")
    visitor.settle()
    assert visitor.js("return document.querySelector('select').value") == "globex"
    visitor.open_integrations()
    switch_to(visitor, "acme")
    visitor.wait(lambda: visitor.texts("article .badge") == ["Valid"], "the card in acme")


def switch_to(visitor, organization):
    visitor.js("""const select = document.querySelector('select'); select.value = arguments[0];
               select.dispatchEvent(new Event('change', { bubbles: true }))""", organization)


def test_nothing_of_the_former_organization_while_switching(visitor, person):
    visitor.open_connected(person)
    visitor.inject({"path": "globex/integrations$", "delay": 1})
    switch_to(visitor, "globex")
    assert not visitor.all("article") and visitor.all(".skeleton")
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card in globex")


def test_action_that_ends_while_switching(visitor, person):
    visitor.open_connected(person)
    visitor.inject({"method": "POST", "path": ACTION, "delay": 0.5}, {"path": "globex/integrations$", "delay": 1.5, "times": 1})
    visitor.click("Validate")
    switch_to(visitor, "globex")
    visitor.wait_toast("Google is valid")
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card in globex")
    visitor.settle()
    assert visitor.has_button("Refresh") and not visitor.all("#refresh[aria-disabled]")


def test_action_goes_on_in_its_own_organization(visitor, person, google):
    """Its result is told, with its place; the other organization has its own, and is not held up."""
    visitor.open_connected(person)
    person.connect("globex", "grace")
    visitor.js("window.confirm = () => true")
    google.fault("revoke", "status", times=None, status=503)
    visitor.inject({"method": "DELETE", "path": ACTION, "delay": 5}, {"method": "POST", "path": "globex/", "hold": 1})
    visitor.click("Disconnect")
    visitor.wait_text("Disconnecting…", "article")
    switch_to(visitor, "globex")
    visitor.wait(lambda: visitor.buttons("article") == ["Validate", "Reconnect", "Disconnect"], "the card in globex")
    assert not visitor.all("article[aria-busy]") and not visitor.all("article [aria-disabled]")
    visitor.click("Validate")
    visitor.wait_text("Validating…", "article")
    switch_to(visitor, "acme")
    visitor.wait_text("Disconnecting…", "article")
    switch_to(visitor, "globex")
    visitor.wait_toast("In acme: Google disconnected here. Access was not removed at Google: to remove it, open the security", 15)
    assert visitor.texts("article .badge") == ["Valid"]
    switch_to(visitor, "acme")
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card in acme")
    assert not visitor.all("article [aria-disabled]")


def test_action_that_fails_in_another_organization(visitor, person):
    visitor.open_connected(person)
    visitor.inject({"method": "POST", "path": ACTION, "delay": 1, **problem("store_unavailable", 503)})
    visitor.click("Validate")
    switch_to(visitor, "globex")
    visitor.wait_toast("In acme: Google: ")
    visitor.wait(lambda: visitor.buttons("article") == ["Connect"], "the card in globex")


def test_slow_action_while_another_organization_loads(visitor, person):
    visitor.open_connected(person)
    visitor.inject({"method": "POST", "path": ACTION, "delay": 8}, {"path": "globex/integrations$", "delay": 8})
    # Each sentence: a moment later the next one, that the list is slow too, stands in its place.
    visitor.js("window.said = []; const status = document.querySelector('#status');"
               "new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true, subtree: true });")
    visitor.click("Validate")
    switch_to(visitor, "globex")
    slow = "In acme: Google is slow to answer. Still waiting…"
    visitor.wait(lambda: slow in visitor.js("return window.said"), slow, 8)
    assert not visitor.all("article") and visitor.all(".skeleton")


def test_list_that_is_older_than_an_action(visitor, person):
    """Asked for before the action, answered after it: it does not bring back what is gone."""
    visitor.open_connected(person)
    visitor.js("window.confirm = () => true")
    visitor.inject({"path": LIST, "hold": 1.5, "times": 1})
    visitor.click("Refresh")
    visitor.wait(lambda: visitor.calls(), "the request")
    visitor.click("Disconnect")
    visitor.wait_toast("Google disconnected.")
    visitor.wait(lambda: not visitor.all("#refresh[aria-disabled]"), "the end of loading")
    assert visitor.buttons("article") == ["Connect"]


def test_choice_that_is_no_longer_open(visitor, person):
    visitor.open_integrations()
    for choice in ("someone-else", "../../me", "<b>", ""):
        visitor.js("localStorage.setItem('organization', arguments[0])", choice)
        visitor.open_integrations()
        assert visitor.buttons("article") == ["Connect"]
        assert visitor.js("return document.querySelector('select').value") in ("acme", "globex")


def test_one_organization_needs_no_switch(visitor, product, new_person):
    new_person(organizations={"acme": "member"})
    visitor.open_integrations()
    assert not visitor.all("select")
    assert "acme" in visitor.text(".tools")


def test_no_organization(visitor, new_person):
    new_person(organizations={})
    visitor.open("/integrations")
    visitor.wait_text("You are not a member of any organization")
    assert "Ask an administrator" in visitor.text("main")


def test_no_service(visitor, person):
    visitor.inject({"path": "/api/services$", "status": 200, "body": {"services": []}, "headers": {}})
    visitor.open("/integrations")
    visitor.wait_text("No services are offered yet")


def test_removed_from_the_organization(visitor, person):
    """The address still names it, the session does not: the page says so and shows no other one."""
    visitor.open_connected(person)
    person.leave("acme")
    visitor.click("Validate")
    visitor.wait_toast("You have no access to this organization.")
    visitor.wait_text("You are not a member of the organization acme", "#content")
    assert visitor.url.endswith("?organization=acme") and not visitor.all("article")


# Signing in


def test_not_signed_in(visitor, product):
    visitor.open("/integrations")
    visitor.wait_text("You are not signed in")
    visitor.wait_text("Sign in to see your integrations.", "main")
    assert visitor.text("#status") == "You are not signed in."
    assert not visitor.all("article") and not visitor.all(".skeleton")
    if product.sign_in_url is None:
        visitor.wait_text("Sign in to your account, then come back to this page.", "main")


def test_not_signed_in_is_taken_to_sign_in_and_back(visitor, new_person):
    target = visitor.base + "/mcps?from=sign-in"
    refusal = problem("unauthenticated", 401, sign_in_url=target)
    visitor.inject({"path": "/api/(me|services|organizations)", **refusal})
    visitor.open("/integrations")
    visitor.wait_text("Taking you to the sign-in page…")
    visitor.wait_path("/mcps")
    assert visitor.url == target + "&return_to=%2Fintegrations"

    # Back without a session: told so, and not sent round in circles.
    visitor.open("/integrations")
    visitor.wait_text("Sign in to go on.")
    link = visitor.button("Sign in")
    assert link.get_attribute("href") == target + "&return_to=%2Fintegrations"
    visitor.heal()
    new_person()
    visitor.open_integrations()
    assert visitor.buttons("article") == ["Connect"]
    assert visitor.js("return {...sessionStorage}") == {}


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "http://", 7, None])
def test_sign_in_address_that_is_none(visitor, address):
    visitor.inject({"path": "/api/", **problem("unauthenticated", 401, sign_in_url=address)})
    visitor.open("/integrations")
    visitor.wait_text("Sign in to your account, then come back to this page.")
    assert not visitor.has_button("Sign in")


# Hostile text


HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>‮&lt;b&gt;"


def test_hostile_text_is_text(visitor, person):
    visitor.open_connected(person)
    visitor.inject(
        {"path": "/api/me$", "change": {"name": HOSTILE, "email": HOSTILE, "organizations": [
            {"id": HOSTILE, "role": "admin"}, {"id": "acme", "role": "admin"}]}},
        {"path": "/api/services$", "change": {"services": {"0": {
            "name": HOSTILE, "description": HOSTILE, "mcps": {"0": {"name": HOSTILE, "scopes": [HOSTILE]}}}}}},
        {"path": LIST, "change": {"integrations": {"0": {
            "oauth_email": HOSTILE, "oauth_user_id": HOSTILE, "missing_scopes": [HOSTILE], "status": HOSTILE,
            "status_reason": "constructor", "connected_at": HOSTILE, "validated_at": HOSTILE}}}},
        {"method": "POST", "path": ACTION, **problem(HOSTILE, 400, detail=HOSTILE, request_id=HOSTILE)})
    visitor.open("/integrations?organization=acme")
    visitor.wait(lambda: visitor.all("article"), "the card")
    assert visitor.texts("article .badge") == ["Unknown"]
    visitor.click("Validate")
    visitor.wait(lambda: visitor.all("#alerts .toast"), "the toast")
    for selector in ("h2", ".card-title", ".facts", "header", "#alerts", ".tools"):
        assert visitor.all(f"{selector}") and not visitor.all(f"{selector} img, {selector} script")
    assert visitor.driver.title == "Integrations"
    assert HOSTILE in visitor.js("return document.querySelector('h2').textContent")
    assert visitor.js("return window.violations") == []


def test_scopes_of_the_test_are_those_of_the_product(person):
    mcps = {each["mcp"]: each["scopes"] for each in person.services()[0]["mcps"]}
    assert mcps == {name: [scope] for name, scope in SCOPES.items()}
