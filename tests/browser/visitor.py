"""A person at Chromium: opens pages, reads, clicks, types, passes the consent page, and meets injected failures."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from urllib.parse import parse_qs, urlsplit

from selenium import webdriver
from selenium.common.exceptions import (NoAlertPresentException, NoSuchElementException,
                                        StaleElementReferenceException, WebDriverException)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

HERE = os.path.dirname(os.path.abspath(__file__))
AXE = os.path.join(HERE, "node_modules", "axe-core", "axe.min.js")

SCOPES = {name: f"https://www.googleapis.com/auth/{scope}.readonly"
          for name, scope in (("gmail", "gmail"), ("google_calendar", "calendar"),
                              ("google_drive", "drive"))}

# Stands in front of window.fetch. A rule fits a method and a path; it can delay the request or hold back its answer,
# fail, hang until the page gives up, answer by itself, or change the true answer.
INJECTION = """
(() => {
  const rules = %s;
  const real = window.realFetch ?? window.fetch;
  window.realFetch = real;
  window.calls = window.calls ?? [];
  const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const merge = (into, change) => {
    for (const [key, value] of Object.entries(change)) {
      const deeper = value !== null && typeof value === 'object' && !Array.isArray(value) && into[key];
      if (deeper) merge(into[key], value);
      else into[key] = value;
    }
    return into;
  };
  window.fetch = async (path, options = {}) => {
    const method = options.method ?? 'GET';
    window.calls.push(`${method} ${path}`);
    const rule = rules.find((one) => (one.method ?? method) === method
      && new RegExp(one.path).test(path) && (one.times === undefined || one.times-- > 0));
    if (rule === undefined) return real(path, options);
    if (rule.delay) await wait(rule.delay);
    if (rule.fail) throw new TypeError('Failed to fetch');
    if (rule.hang) {
      return new Promise((resolve, reject) => {
        options.signal.addEventListener('abort', () => reject(options.signal.reason));
      });
    }
    if (rule.raw !== undefined) return new Response(rule.raw, { status: rule.status, headers: rule.headers });
    if (rule.status) return new Response(JSON.stringify(rule.body), { status: rule.status, headers: rule.headers });
    const answer = await real(path, options);
    if (rule.hold) await wait(rule.hold);
    if (!rule.change) return answer;
    const body = await answer.json();
    return new Response(JSON.stringify(merge(body, rule.change)), { status: answer.status, headers: answer.headers });
  };
})();
"""

# Minutes pass in no time for a page that waits for an answer.
SHORT_TIMEOUT = """
(() => {
  const real = AbortSignal.timeout.bind(AbortSignal);
  AbortSignal.timeout = (milliseconds) => real(milliseconds / 20);
})();
"""

WATCH_VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
"""


def problem(code, status, headers=None, **members):
    """A rule's answer in the form of the API's refusals."""
    body = {"type": f"urn:integrations:{code}", "title": code, "status": status, "code": code,
            "detail": f"The detail of {code}.", "request_id": "0123456789abcdef", **members}
    return {"status": status, "body": body,
            "headers": {"Content-Type": "application/problem+json", **(headers or {})}}


def start_chromium(width=1100, height=900):
    directory = tempfile.mkdtemp(prefix="chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                 "--no-first-run", "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb",
                 f"--user-data-dir={directory}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver", log_path=os.devnull),
                              options=options)
    driver.set_page_load_timeout(40)
    driver.set_script_timeout(60)
    driver.profile_directory = directory
    return driver


def end_chromium(driver):
    driver.quit()
    shutil.rmtree(driver.profile_directory, ignore_errors=True)


class Visitor:
    def __init__(self, driver, base):
        self.driver = driver
        self.base = base
        self.scripts = []

    # Fresh start

    def forget_everything(self):
        """As if this were another browser: one tab, no cookie, nothing stored, nothing injected, no question open."""
        with contextlib.suppress(NoAlertPresentException):
            self.driver.switch_to.alert.dismiss()
        for handle in self.driver.window_handles[1:]:
            self.driver.switch_to.window(handle)
            self.driver.close()
        self.driver.switch_to.window(self.driver.window_handles[0])
        self.heal()
        self.network()
        self.scheme("light")
        self.size(1100, 900)
        # The session storage of the tab outlives the calls below, and only a page of its origin reaches it.
        if not self.url.startswith(self.base + "/"):
            self.driver.get(self.base + "/integrations-assets/icon.svg")
        self.js("sessionStorage.clear()")
        self.driver.get("about:blank")
        self.cdp("Network.enable")
        self.cdp("Network.clearBrowserCookies")
        self.cdp("Network.clearBrowserCache")
        self.cdp("Storage.clearDataForOrigin", origin=self.base, storageTypes="all")
        self.cdp("Page.resetNavigationHistory")
        self.driver.get_log("browser")
        self.inject_script(WATCH_VIOLATIONS)

    def sign_in(self, token, name="session", same_site="Strict"):
        self.cdp("Network.setCookie", name=name, value=token, url=self.base, path="/",
                 httpOnly=True, sameSite=same_site)

    def sign_out(self):
        self.cdp("Network.clearBrowserCookies")

    # The browser

    def cdp(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def size(self, width, height, scale=1):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=scale, mobile=False)

    def scheme(self, name, reduced_motion=False):
        features = [{"name": "prefers-color-scheme", "value": name}]
        if reduced_motion:
            features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def network(self, offline=False):
        self.cdp("Network.emulateNetworkConditions", offline=offline, latency=0,
                 downloadThroughput=-1, uploadThroughput=-1)

    def inject_script(self, source):
        self.scripts.append(self.cdp("Page.addScriptToEvaluateOnNewDocument", source=source)["identifier"])

    def inject(self, *rules):
        """From now on, on the page that is open and on every later one."""
        source = INJECTION % json.dumps(list(rules))
        self.inject_script(source)
        self.js(source)

    def heal(self):
        for identifier in self.scripts:
            # A script of a tab that is closed is gone with it.
            with contextlib.suppress(WebDriverException):
                self.cdp("Page.removeScriptToEvaluateOnNewDocument", identifier=identifier)
        self.scripts = []
        self.js("if (window.realFetch) window.fetch = window.realFetch;")

    def calls(self):
        return self.js("return window.calls ?? []")

    def history(self):
        return [entry["url"] for entry in self.cdp("Page.getNavigationHistory")["entries"]]

    def console(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    # Going and reading

    def open(self, path):
        self.driver.get(path if "://" in path else self.base + path)

    def open_noted(self, location, organization=None, service="google", age=0):
        """The callback, as if /integrations of this browser had begun the flow so many seconds ago."""
        state = parse_qs(urlsplit(location).query).get("state", [""])[0]
        if not self.url.startswith(self.base + "/"):
            self.open("/integrations-assets/icon.svg")
        self.js("localStorage.setItem(`flow:${arguments[0]}`, JSON.stringify({organization: arguments[1],"
                " service: arguments[2], time: Date.now() - arguments[3] * 1000}))",
                hashlib.sha256(state.encode()).hexdigest(), organization or state.partition(".")[2], service, age)
        self.open(location)

    @property
    def path(self):
        return urlsplit(self.driver.current_url).path

    @property
    def url(self):
        return self.driver.current_url

    def text(self, selector="body"):
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def heading(self):
        return self.text("h1")

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        return self.js("return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText.trim())",
                       selector)

    def wait(self, condition, what="condition", seconds=10):
        """Ask until it is true: a bound, not a sleep for luck."""
        end = time.monotonic() + seconds
        while True:
            try:
                value = condition()
            except (StaleElementReferenceException, NoSuchElementException):
                value = None
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}\n{self.url}\n{self.text()}")
            time.sleep(0.02)

    def wait_text(self, text, selector="body", seconds=10):
        return self.wait(lambda: text in self.text(selector), f"“{text}” in {selector}", seconds)

    def wait_path(self, path, seconds=10):
        return self.wait(lambda: self.path == path, f"the path {path}", seconds)

    def settle(self):
        """Until the list page has loaded what it asked for."""
        self.wait(lambda: self.js(
            "return document.querySelector('#content') !== null && !document.querySelector('#content[aria-busy]')"
            " && (document.querySelector('#content .skeleton') === null)"), "the page to be loaded")

    def open_integrations(self):
        self.open("/integrations")
        self.settle()

    # Doing

    def button(self, name, within="body"):
        element = self.js("""return [...document.querySelectorAll(arguments[0])].find((one) =>
            one.checkVisibility() && one.innerText.trim() === arguments[1]) ?? null""",
                          f"{within} button, {within} a", name)
        if element is None:
            raise NoSuchElementException(f"no button or link “{name}”\n{self.text()}")
        return element

    def has_button(self, name):
        try:
            self.button(name)
        except NoSuchElementException:
            return False
        return True

    def click(self, name, within="body"):
        self.wait(lambda: self.button(name, within), f"the button “{name}”").click()

    def buttons(self, within="body"):
        return self.js("""return [...document.querySelectorAll(arguments[0])]
            .filter((one) => one.checkVisibility()).map((one) => one.innerText.trim())""", f"{within} button")

    def toasts(self):
        return self.texts(".toast p")

    def wait_toast(self, text, seconds=10):
        return self.wait(lambda: [each for each in self.toasts() if text in each], f"a toast with “{text}”", seconds)

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        """What has the focus, in words: its text, else its tag."""
        return self.js("""let one = document.activeElement;
            while (one?.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
            return one === document.body ? '' : (one.innerText.trim() || one.getAttribute('aria-label') || one.tagName)""")

    def tab_to(self, name, limit=30):
        for _ in range(limit):
            if self.focused() == name:
                return
            self.keys(Keys.TAB)
        raise AssertionError(f"“{name}” is not reached by the keyboard; the focus is on “{self.focused()}”")

    def confirm(self, accept):
        """Answer the browser's question; returns its text."""
        def asked():
            try:
                return self.driver.switch_to.alert
            except NoAlertPresentException:
                return None
        alert = self.wait_alert(asked)
        text = alert.text
        if accept:
            alert.accept()
        else:
            alert.dismiss()
        return text

    @staticmethod
    def wait_alert(asked):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            alert = asked()
            if alert is not None:
                return alert
            time.sleep(0.02)
        raise AssertionError("the browser asked nothing")

    # The stand-in's pages

    def choose(self, account):
        self.wait(lambda: self.all("#chooser"), "the account chooser")
        for row in self.all("button.account"):
            if account in row.text:
                row.click()
                break
        else:
            raise AssertionError(f"no account {account} in {self.text()}")
        self.wait(lambda: self.all("#consent"), "the consent page")

    def consent(self, account, untick=(), cancel=False):
        self.choose(account)
        for scope in untick:
            box = self.find(f'input[value="{SCOPES.get(scope, scope)}"]')
            if box.is_selected():
                box.click()
        self.find("#cancel" if cancel else "#continue").click()

    def connect(self, account, **how):
        """From /integrations, signed in and not connected, to /integrations and connected."""
        self.open_integrations()
        self.click("Connect")
        self.consent(account, **how)
        self.wait_path("/integrations", 15)
        self.settle()
        self.wait_text("Last checked")

    def open_connected(self, person, account="ada"):
        """/integrations of somebody who is connected, without the way there."""
        if not person.integrations():
            person.connect("acme", account)
        self.open_integrations()
        self.wait_text("Last checked")

    # Checks that every page must pass

    def axe(self):
        """What axe-core finds, as readable lines."""
        if not self.js("return window.axe !== undefined"):
            with open(AXE, encoding="utf-8") as file:
                self.js(file.read())
        found = self.driver.execute_async_script(
            "const done = arguments[0];"
            # Colours on their way, from one scheme to the other or from nothing, belong to neither end.
            "const ways = document.getAnimations().filter((one) => one.effect.getTiming().iterations !== Infinity);"
            "Promise.all(ways.map((one) => one.finished)).then("
            "() => axe.run(document, { resultTypes: ['violations'] })).then("
            "(result) => done(result.violations), (error) => done([{ id: String(error), nodes: [] }]));")
        return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]

    def page_holds(self, secret):
        """Where the page, its storage or its history hold it."""
        places = {
            "address": self.url,
            "history": "\n".join(self.history()),
            "document": self.js("return document.documentElement.outerHTML"),
            "local storage": self.js("return JSON.stringify({...localStorage})"),
            "session storage": self.js("return JSON.stringify({...sessionStorage})"),
            "cookies": self.js("return document.cookie"),
            "referrer": self.js("return document.referrer"),
            "window name": self.js("return window.name"),
            "history state": self.js("return JSON.stringify(history.state)"),
        }
        return [place for place, text in places.items() if secret in text]
