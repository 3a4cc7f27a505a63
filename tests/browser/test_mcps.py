"""/mcps in a real browser."""

from visitor import SCOPES, problem

NAMES = ["Gmail", "Google Calendar", "Google Drive"]
LIST = r"/mcps$"


def badges(visitor):
    return visitor.texts(".row .badge")


def open_mcps(visitor):
    visitor.open("/mcps")
    visitor.wait(lambda: visitor.all(".row[data-mcp]"), "the list")


def test_header(visitor, person):
    open_mcps(visitor)
    assert visitor.driver.title == "MCPs"
    assert visitor.heading() == "MCPs"
    assert visitor.has_button("Refresh")
    assert visitor.texts(".row h2") == NAMES


def test_not_connected(visitor, person):
    open_mcps(visitor)
    assert badges(visitor) == ["Not connected"] * 3
    for name, row in zip(NAMES, visitor.texts(".row")):
        assert f"Google is not connected. Connect it to use {name}." in row
    assert [each.get_attribute("href") for each in visitor.all(".row a")] == [visitor.base + "/integrations?organization=acme"] * 3
    visitor.click("Open Integrations")
    visitor.wait_path("/integrations")


def test_ready(visitor, person):
    person.connect("acme", "ada")
    open_mcps(visitor)
    assert badges(visitor) == ["Ready"] * 3
    assert not visitor.all(".warn")
    assert "Works through your Google account." in visitor.text(".row")


def test_what_they_do(visitor, person):
    open_mcps(visitor)
    for row, service_mcp in zip(visitor.all(".row"), person.services()[0]["mcps"]):
        purpose = row.find_element("css selector", ".muted").text
        assert purpose == service_mcp.get("description", purpose) and len(purpose) > 10
    visitor.inject({"path": "/api/services$", "change": {"services": {"0": {"mcps": {"0": {"description": ""}}}}}})
    open_mcps(visitor)
    assert "Can read your Gmail messages." in visitor.text(".row")


def test_permission_missing(visitor, person):
    person.connect("acme", "ada", grant=[SCOPES["gmail"], SCOPES["google_calendar"]])
    open_mcps(visitor)
    assert badges(visitor) == ["Ready", "Ready", "Permission missing"]
    assert "Permission to read your files in Drive is missing. Reconnect Google and tick it." in visitor.text(".warn")


def test_reconnect_required(visitor, person, google):
    person.connect("acme", "ada")
    google.revoke_grant("ada")
    person.expire_access_token()
    person.validate()
    open_mcps(visitor)
    assert badges(visitor) == ["Reconnect required"] * 3
    assert "The connection to Google no longer works. Reconnect it to use Gmail." in visitor.text(".warn")


def test_disconnecting_does_not_remove_them(visitor, person):
    person.connect("acme", "ada")
    open_mcps(visitor)
    person.disconnect()
    visitor.click("Refresh")
    visitor.wait_toast("MCPs are up to date.")
    assert visitor.texts(".row h2") == NAMES
    assert badges(visitor) == ["Not connected"] * 3


def test_change_shows_when_the_tab_is_looked_at(visitor, person):
    open_mcps(visitor)
    person.connect("acme", "ada")
    visitor.js("document.dispatchEvent(new Event('visibilitychange'))")
    visitor.wait(lambda: badges(visitor) == ["Ready"] * 3, "Ready")


def test_switch_between_organizations(visitor, person):
    person.connect("globex", "ada")
    open_mcps(visitor)
    visitor.js("""const select = document.querySelector('select'); select.value = 'globex';
               select.dispatchEvent(new Event('change', { bubbles: true }))""")
    visitor.wait(lambda: badges(visitor) == ["Ready"] * 3, "globex")


def test_failed_load_and_retry(visitor, person):
    for answer in (problem("store_unavailable", 503), problem("organization_forbidden", 403),
                   problem("rate_limited", 429, {"Retry-After": "2"}), {"fail": True}):
        visitor.inject({"path": LIST, **answer})
        visitor.open("/mcps")
        visitor.wait_text("Failed to load MCPs")
        visitor.heal()
        visitor.click("Retry")
        visitor.wait(lambda: badges(visitor) == ["Not connected"] * 3, "the list")


def test_store_down(visitor, person, product):
    open_mcps(visitor)
    with product.store_stopped():
        visitor.click("Refresh")
        visitor.wait_text("The service cannot reach its storage at the moment.")


def test_not_signed_in(visitor):
    visitor.open("/mcps")
    visitor.wait_text("You are not signed in")
    visitor.wait_text("Sign in to see your MCPs.", "main")


def test_none(visitor, person):
    visitor.inject({"path": LIST, "status": 200, "body": {"mcps": []}, "headers": {}})
    visitor.open("/mcps")
    visitor.wait_text("No MCPs are offered yet")


def test_hostile_text_and_link(visitor, person):
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    visitor.inject(
        {"path": LIST, "change": {"mcps": {
            "0": {"name": hostile, "service": hostile, "connect_url": "javascript:document.title='owned'"},
            "1": {"state": hostile, "connect_url": "//elsewhere.example/"},
            "2": {"state": "missing_scopes", "missing_scopes": [hostile], "connect_url": 7}}}},
        {"path": "/api/services$", "change": {"services": {"0": {"name": hostile, "mcps": {
            "1": {"description": hostile}}}}}})
    open_mcps(visitor)
    assert not visitor.all(".row img")
    assert {each.get_attribute("href") for each in visitor.all(".row a")} == {visitor.base + "/integrations?organization=acme"}
    assert badges(visitor) == ["Not connected", "Unavailable", "Permission missing"]
    assert visitor.driver.title == "MCPs"
