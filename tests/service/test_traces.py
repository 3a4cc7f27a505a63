"""Nothing secret is left in logs, Redis or answers. Every test is scanned for that; here is what no other test does."""

import urllib.parse

from checks import make_due
from harness import good, problem

CODE = "4/0AMARKER-code-in-the-address"


def test_the_callback_page_and_every_log(make_product):
    """The provider puts the code into the address of the page: no log keeps it, however the request goes wrong."""
    product = make_product(workers=1)
    path = f"/integrations/google/callback?code={urllib.parse.quote(CODE, safe='')}&state={'A' * 43}.acme"
    host = f"Host: {product.public_url[7:]}\r\n"
    page = product.request("GET", path)
    assert page.status_code == 200 and page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert product.request("HEAD", path).status_code == 200
    problem(product.request("POST", path), 405, "method_not_allowed")
    problem(product.request("DELETE", path), 405, "method_not_allowed")
    problem(product.request("GET", path.replace("google", "Google")), 404, "route_not_found")
    problem(product.request("GET", path + "&x=" + "x" * 9000), 414, "request_invalid")
    problem(product.request("GET", path, headers={"X-A": "x" * 9000}), 431, "request_invalid")
    for line in (f"GET {path} HTTP/1.1\r\n\r\n", f"GET {path} HTTP/1.1\r\n{host}X-A: \0\r\nConnection: close\r\n\r\n",
                 f"GET {path} HTTP/9.9\r\n{host}\r\n", f"get {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n",
                 f"TRACE {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n"):
        product.raw(line.encode("latin-1"))
    # The API, should somebody send it there.
    ada = product.session("ada", {"acme": "member"})
    api = "/api/organizations/acme/integrations/google/callback" + path[path.index("?"):]
    problem(ada.post(api, json={}), 400, "body_invalid")
    problem(ada.get(api), 405, "method_not_allowed")
    problem(ada.get("/api/nothing" + path[path.index("?"):]), 404, "route_not_found")
    problem(product.request("GET", "/api/me", headers={"Cookie": f"session={'x' * 600}MARKER"}), 401, "unauthenticated")
    product.hosts[0].stop()
    assert product.scan() > 1000


def test_errors_of_the_workers_hold_no_secret(duo):
    """The provider fails in every way while all parts log all they log; the scan after the test looks at it."""
    ada = duo.session("ada", {"acme": "member"})
    ada.connect("acme")
    for endpoint, kind, options in [
            ("refresh", "error", {"error": "ya29.MARKER-in-an-error", "status": 400, "description": "1//MARKER"}),
            ("refresh", "raw", {"body": '{"access_token":"ya29.MARKER-half', "status": 200}),
            ("refresh", "raw", {"body": "ya29.MARKER", "status": 400, "headers": {"Content-Type": "text/plain", "WWW-Authenticate": "Bearer MARKER"}}),
            ("userinfo", "raw", {"body": "1//MARKER", "status": 401}), ("userinfo", "raw", {"body": '{"sub":"MARKER-sub"}'}),
            ("userinfo", "redirect", {"location": "https://localhost:1/?token=ya29.MARKER"})]:
        make_due(duo, "ada")
        number = duo.stand_in.fault(endpoint, kind, times=None, **options)
        good(ada.validate("acme"))
        duo.stand_in.wait_fired(number)
        duo.stand_in.clear_faults()
    for kind, options in (("error", {"error": "ya29.MARKER", "status": 400}), ("answer", {"set": {"scope": "ya29.MARKER"}}),
                          ("id_token", {"claims": {"iss": "https://MARKER.example"}}), ("id_token", {"header": {"alg": "MARKER"}})):
        duo.stand_in.fault("exchange", kind, **options)
        assert ada.try_connect("acme").status_code >= 400
    ada.callback("acme", {"code": "4/0AMARKER", "state": "MARKER.acme"})
    ada.callback("acme", {"error": "MARKER", "state": "MARKER"})
    ada.callback("acme", {"code": "4/0AMARKER", "state": "A" * 43 + ".acme", "iss": "https://MARKER.example"})


def test_what_a_log_line_holds(product, ada):
    """Times, ids and outcomes; no address of a body, no header."""
    ada.connect("acme")
    answer = ada.integrations("acme", headers={"User-Agent": "an agent", "Referer": "http://x.example/?secret"})
    number = answer.headers["X-Request-Id"]
    (line,) = product.stand_in.wait_for(lambda _: [line for line in product.log() if line.get("request_id") == number and "status" in line])
    assert line["status"] == 200 and line["route"] == "/api/organizations/{organization_id}/integrations"
    assert "agent" not in str(line) and "secret" not in str(line) and ada.token not in str(line)
