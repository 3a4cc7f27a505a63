"""Takes the pages' pictures: the whole product, a real browser, the states that people meet."""

import base64
import os
import tempfile

from conftest import BrowserProduct, Person
from test_everyone import CALLBACK, STATE
from png import shrink
from visitor import SCOPES, Visitor, end_chromium, problem, start_chromium

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "screenshots")
MOST_BYTES = 400_000


class Photographer:
    def __init__(self, visitor):
        self.visitor = visitor

    def take(self, name, schemes=("light",), width=820, margin=24):
        """The page down to the end of what it shows; nothing moves while it is taken."""
        visitor = self.visitor
        for each in schemes:
            visitor.scheme(each, reduced_motion=True)
            visitor.size(width, 600)
            bottom = visitor.js("""return Math.max(...[...document.querySelectorAll('main > *, main, .toast')]
                .filter((one) => one.checkVisibility() && (one.localName !== 'main' || one.matches('.card')))
                .map((one) => one.getBoundingClientRect().bottom))""")
            height = int(bottom) + margin
            visitor.size(width, height)
            picture = visitor.cdp("Page.captureScreenshot", format="png", optimizeForSpeed=False,
                                  clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})
            path = os.path.join(FOLDER, f"{name}-{each}.png")
            with open(path, "wb") as file:
                file.write(shrink(base64.b64decode(picture["data"])))
            print(f"{os.path.relpath(path)}  {os.path.getsize(path)} bytes", flush=True)


def take_all(product, visitor):
    camera = Photographer(visitor)
    ada = Person(product, name="Ada Lovelace", email="ada@acme.example")
    visitor.sign_in(ada.session.token)

    visitor.open_integrations()
    camera.take("integrations-not-connected")

    ada.connect("acme", "ada")
    moments = visitor.js("return [4 * 86400, 180].map((seconds) => new Date(Date.now() - seconds * 1000).toISOString())")
    times = {"connected_at": moments[0], "validated_at": moments[1]}

    def open_changed(**members):
        visitor.heal()
        visitor.inject({"path": "/integrations$", "change": {"integrations": {"0": {**times, **members}}}})
        visitor.open_integrations()
        visitor.wait_text("Last checked")

    open_changed()
    camera.take("integrations-connected", ["light", "dark"])
    open_changed(missing_scopes=[SCOPES["google_drive"]])
    camera.take("integrations-permission-missing")
    open_changed(status="invalid", status_reason="grant_revoked")
    camera.take("integrations-invalid", ["dark"])

    visitor.heal()
    visitor.inject({"path": "/integrations$", **problem("store_unavailable", 503)})
    visitor.open("/integrations")
    visitor.wait_text("Failed to load integrations")
    camera.take("integrations-failed")

    visitor.heal()
    ada.connect("acme", "ada", grant=[SCOPES["gmail"], SCOPES["google_calendar"]])
    visitor.open("/mcps")
    visitor.wait_text("Permission missing")
    camera.take("mcps", ["light", "dark"])
    visitor.open("/host")
    visitor.wait(lambda: visitor.js(
        "return document.querySelector('integration-connectors').shadowRoot.querySelector('li') !== null"), "the element")
    camera.take("connectors")

    visitor.inject({"path": "/callback$", **problem("account_mismatch", 409, stored_account="ada@example.com",
                                                    chosen_account="grace@workspace.example",
                                                    offered={"oauth_user_id": "2", "oauth_email": "grace@workspace.example"})})
    visitor.open_noted(f"{CALLBACK}?code=x&state={STATE}")
    visitor.wait_text("Replace")
    camera.take("callback-another-account", width=560)

    visitor.heal()
    visitor.inject_script("const real = setTimeout; window.setTimeout = (action, time) => real(action, time === 800 ? 9e6 : time)")
    visitor.open_noted(ada.authorize())
    visitor.wait_text("Integration connected")
    camera.take("callback-connected", width=560)


def main():
    os.makedirs(FOLDER, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as directory:
        product = BrowserProduct(directory)
        product.start()
        driver = start_chromium()
        try:
            visitor = Visitor(driver, product.public_url)
            visitor.forget_everything()
            visitor.cdp("Emulation.setScrollbarsHidden", hidden=True)
            take_all(product, visitor)
        finally:
            end_chromium(driver)
            product.stop()
    total = sum(os.path.getsize(os.path.join(FOLDER, name)) for name in os.listdir(FOLDER))
    assert total < MOST_BYTES, f"the pictures weigh {total} bytes"
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
