"""Who may call: credentials, uses of a session, same origin, host names, methods."""

import itertools

import pytest

from checks import alike
from harness import good, problem

ROUTES = [  # method, path, what a member who has nothing gets, whether it changes something
    ("GET", "/api/me", 200, False),
    ("GET", "/api/services", 200, False),
    ("GET", "/api/organizations/acme/integrations", 200, False),
    ("POST", "/api/organizations/acme/integrations/google", 404, True),
    ("GET", "/api/organizations/acme/integrations/google/auth_link", 200, True),
    ("POST", "/api/organizations/acme/integrations/google/callback", 400, True),
    ("DELETE", "/api/organizations/acme/integrations/google", 404, True),
    ("GET", "/api/organizations/acme/mcps", 200, False),
]
ALLOW = {"/api/me": "GET, HEAD", "/api/services": "GET, HEAD", "/api/organizations/acme/integrations": "GET, HEAD",
         "/api/organizations/acme/integrations/google": "POST, DELETE",
         "/api/organizations/acme/integrations/google/auth_link": "GET",
         "/api/organizations/acme/integrations/google/callback": "POST", "/api/organizations/acme/mcps": "GET, HEAD"}


def unauthenticated(answer):
    problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    return True


# Credentials


def credentials(token):
    """What may come as Authorization and as Cookie, and the status of the answer."""
    cookie, bearer = f"session={token}", f"Bearer {token}"
    return {
        "nothing": (None, None, 401),
        "a bearer": (bearer, None, 200),
        "a bearer in small letters": (f"bearer {token}", None, 200),
        "a bearer after blanks": (f"Bearer   {token}", None, 200),
        "a cookie": (None, cookie, 200),
        "a cookie in quotes": (None, f'session="{token}"', 200),
        "a cookie among others": (None, f"a=1; {cookie}; b=2", 200),
        "a cookie after one without a name": (None, f"session; {cookie}", 200),
        "another scheme beside the cookie": ("Basic YTpi", cookie, 200),
        "another scheme": ("Basic YTpi", None, 401),
        "the token without a scheme": (token, None, 401),
        "a scheme that only begins like Bearer": (f"Bearers {token}", None, 401),
        "an empty bearer": ("Bearer", None, 401),
        "a blank bearer": ("Bearer ", None, 401),
        "a bearer and more": (f"{bearer} more", None, 401),
        "two bearers in one": (f"{bearer}, {bearer}", None, 401),
        "a bearer in quotes": (f'Bearer "{token}"', None, 401),
        "an unknown bearer": (f"{bearer}x", None, 401),
        "half a bearer": (bearer[:-1], None, 401),
        "a bearer of 512 bytes": ("Bearer " + "x" * 512, None, 401),
        "a bearer of 7,000 bytes": ("Bearer " + "x" * 7000, None, 401),
        "beside a cookie of another application that is no UTF-8": (None, f"theme=caf\xe9; {cookie}", 200),
        "a cookie that is no UTF-8": (None, f"{cookie}\xe9", 401),
        "an empty cookie": (None, "session=", 401),
        "an empty cookie in quotes": (None, 'session=""', 401),
        "an unknown cookie": (None, cookie + "x", 401),
        "a cookie of 7,000 bytes": (None, "session=" + "x" * 7000, 401),
        "a cookie in capitals": (None, f"Session={token}", 401),
        "a cookie whose name ends so": (None, f"xsession={token}", 401),
        "a cookie whose name begins so": (None, f"sessions={token}", 401),
        "a cookie with the prefix of https": (None, f"__Host-session={token}", 401),
        "a cookie with blanks in its name": (None, f"session ={token}", 401),
        "both": (bearer, cookie, 400),
        "both, the cookie unknown": (bearer, "session=x", 400),
        "both, the bearer unknown": ("Bearer x", cookie, 400),
        "both, the bearer empty": ("Bearer", cookie, 400),
        "both, the cookie empty": (bearer, "session=", 400),
        "the cookie twice": (None, f"{cookie}; {cookie}", 400),
        "the cookie twice, the second unknown": (None, f"{cookie}; session=x", 400),
        "the cookie twice, the first empty": (None, f"session=; {cookie}", 400),
    }


@pytest.mark.parametrize("case", credentials(""))
def test_credentials(product, ada, case):
    authorization, cookie, status = credentials(ada.token)[case]
    answer = product.request("GET", "/api/me", headers={"Authorization": authorization, "Cookie": cookie})
    if status == 200:
        assert good(answer)["user_id"] == "ada"
    elif status == 400:
        problem(answer, 400, "ambiguous_credentials")
    else:
        unauthenticated(answer)


def raw_status(product, *headers):
    request = ["GET /api/me HTTP/1.1", f"Host: {product.public_url[7:]}", *headers, "Connection: close", "", ""]
    return int(product.raw("\r\n".join(request).encode()).split(b" ")[1])


def test_two_lines_are_two_credentials(product, ada):
    cookie, bearer = f"Cookie: session={ada.token}", f"Authorization: Bearer {ada.token}"
    assert raw_status(product, cookie) == raw_status(product, bearer) == 200
    assert raw_status(product, "Cookie: a=1", cookie) == 200
    assert raw_status(product, cookie, cookie) == 400
    assert raw_status(product, bearer, bearer) == 400
    assert raw_status(product, bearer, cookie) == 400


def test_a_token_elsewhere_is_none(product, ada):
    for query in (f"?access_token={ada.token}", f"?session={ada.token}", f"?token={ada.token}&user_id=ada"):
        unauthenticated(product.request("GET", "/api/me" + query))
    for name in ("X-Session", "X-Auth-Token", "Proxy-Authorization", "X-Forwarded-Authorization"):
        unauthenticated(product.request("GET", "/api/me", headers={name: f"Bearer {ada.token}"}))


def test_nothing_but_the_session_says_who_it_is(product, ada, bob):
    ada.connect("acme")
    claims = {name: "ada" for name in ("X-User-Id", "X-User", "User-Id", "Remote-User", "X-Remote-User", "X-Forwarded-User",
                                       "X-Organization-Id", "Http-User-Id", "User_Id", "Integrations-User")}
    assert good(bob.get("/api/me?user_id=ada", headers=claims))["user_id"] == "bob"
    assert bob.list("acme", headers=claims) == []
    problem(bob.post("/api/organizations/acme/integrations/google?user_id=ada", headers=claims,
                     json={"user_id": "ada", "organization_id": "acme"}), 404, "integration_not_found")


SESSIONS = {
    "of a gateway": ({"use": "gateway", "mcps": "gmail"}, 401),
    "of another use": ({"use": "anything"}, 401),
    "of an empty use": ({"use": ""}, 401),
    "without a user": ({"user_id": ""}, 401),
    "of a user with a colon": ({"user_id": "ada:x"}, 401),
    "of a user with braces": ({"user_id": "{ada}"}, 401),
    "of a user with a star": ({"user_id": "*"}, 401),
    "of a user with a line end": ({"user_id": "ada\r\n"}, 401),
    "of a user with a NUL": ({"user_id": "ada\0"}, 401),
    "of a user of 65 characters": ({"user_id": "a" * 65}, 401),
    "of a user of 64 characters": ({"user_id": "a" * 64}, None),
    "with an empty role": ({"org:acme": ""}, 403),
    "with a malformed agent, and without a use": ({"agent": "Mozilla/5.0 (X11)"}, None),
    "with a role of its own": ({"org:acme": "owner of all"}, None),
}


@pytest.mark.parametrize("via", ["cookie", "bearer"])
@pytest.mark.parametrize("case", SESSIONS)
def test_sessions(duo, case, via):
    fields, refused = SESSIONS[case]
    session = duo.session("ada", {"acme": "member"}, via=via)
    duo.redis.hset(duo.session_key(session.token), mapping=fields)
    for method, path, status, _ in ROUTES:
        answer = session.request(method, path, json={} if path.endswith("callback") else None)
        if refused == 401:
            unauthenticated(answer)
        elif refused == 403 and "/organizations/" in path:
            problem(answer, 403, "organization_forbidden")
        else:
            assert answer.status_code == status, (method, path, answer.text)


def test_a_session_ends_with_its_key(product, ada):
    good(ada.get("/api/me"))
    product.redis.pexpire(product.session_key(ada.token), 1)
    product.stand_in.wait_for(lambda _: not product.redis.exists(product.session_key(ada.token)))
    unauthenticated(ada.get("/api/me"))


def test_an_organization_that_was_left_is_closed_at_once(product, ada):
    ada.connect("acme")
    product.redis.hdel(product.session_key(ada.token), "org:acme")
    problem(ada.integrations("acme"), 403, "organization_forbidden")
    assert ada.list("globex") == []


# Same origin


def test_same_origin(duo):
    """With a cookie, whatever changes something must come from the same origin; with a bearer, or to look, it need not."""
    right = duo.public_url
    origins = {None: True, right: True, right + "/": False, right.replace("http", "https"): False, right + "0": False,
               right.replace("localhost", "127.0.0.1"): False, right.replace("localhost", "LOCALHOST"): False,
               right + ".evil.example": False, "http://evil.example": False, "null": False, "*": False,
               f"{right} {right}": False}
    sites = {None: True, "same-origin": True, "same-site": False, "cross-site": False, "none": False,
             "Same-Origin": False, "same-origin, same-origin": False}
    ada = duo.session("ada", {"acme": "member"})
    for (origin, good_origin), (site, good_site) in itertools.product(origins.items(), sites.items()):
        same = good_origin and good_site and not (origin is None and site is None)
        for method, path, status, changes in ROUTES:
            if not changes:
                continue
            headers = {"Origin": origin, "Sec-Fetch-Site": site}
            answer = duo.request(method, path, cookie=ada.token, headers=headers, json={} if method == "POST" else None)
            if same:
                assert answer.status_code == status, (method, path, origin, site, answer.text)
            else:
                problem(answer, 403, "cross_origin")
    hostile = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    for method, path, status, changes in ROUTES:
        for credential in ("bearer",) if changes else ("bearer", "cookie"):
            answer = duo.request(method, path, **{credential: ada.token}, headers=hostile, json={} if method == "POST" else None)
            assert answer.status_code == status, (method, path, answer.text)


def test_a_refused_origin_changes_nothing(product, ada):
    ada.connect("acme")
    before = product.stored()
    for method, path, _, changes in ROUTES:
        if changes:
            problem(ada.request(method, path, headers={"Origin": "http://evil.example"}), 403, "cross_origin")
    assert product.stored() == before


# Host names


def by_name(product, target, *hosts, version="1.1"):
    lines = [f"GET {target} HTTP/{version}", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
    head, _, body = product.raw("\r\n".join(lines).encode()).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.decode(), body.decode()


def test_host_names_of_the_api(product):
    right = product.public_url[7:]
    for target, hosts, status in [
            ("/api/me", [right], 401), ("/api/me", [right.upper()], 401), (f"http://{right}/api/me", [right], 401),
            ("/api/me", ["evil.example"], 421), ("/api/me", ["localhost"], 421), ("/api/me", [right + "1"], 421),
            ("/api/me", [right.replace("localhost", "127.0.0.1")], 421), ("/api/me", [right + "."], 421),
            ("/api/me", [right.replace("localhost", "localhost.")], 421), ("/api/me", ["evil@" + right], 421),
            ("http://evil.example/api/me", [right], 421), (f"http://{right}/api/me", ["evil.example"], 421),
            ("/api/nothing", ["evil.example"], 421), ("/api/me", [], 400), ("/api/me", [""], 400),
            ("/api/me", [right, right], 400), ("/api/me", [right, "evil.example"], 400)]:
        got, head, body = by_name(product, target, *hosts)
        assert got == status, (target, hosts, head, body)
        if status == 421:
            assert '"code":"misdirected"' in body and "application/problem+json" in head
    assert by_name(product, "/api/me", version="1.0")[0] == 421


def test_an_address_instead_of_a_name(make_product):
    product = make_product(environment={"PUBLIC_URL": "http://[::1]:8080"})
    for host, status in (("[::1]:8080", 401), ("[::1]", 421), ("[::2]:8080", 421), ("[::1]:80", 421)):
        assert product.request("GET", "/api/me", headers={"Host": host}).status_code == status, host


def test_pages_redirect_to_the_one_address(product):
    for path in ("/integrations", "/mcps", "/integrations/google/callback?code=x&state=y", "/integrations-assets/style.css"):
        assert by_name(product, path, product.public_url[7:])[0] == 200
        for host in ("evil.example", "127.0.0.1:1"):
            status, head, _ = by_name(product, path, host)
            assert status == 308
            assert f"\r\nLocation: {product.public_url}{path}\r\n" in head + "\r\n"
    for path in ("/integrations", "/mcps"):
        status, head, _ = by_name(product, f"{path}/", product.public_url[7:])
        assert status == 308 and f"\r\nLocation: {product.public_url}{path}\r\n" in head + "\r\n"


# Methods


@pytest.mark.parametrize("path", ALLOW)
def test_methods(product, ada, path):
    allowed = ALLOW[path].split(", ")
    for method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "PROPFIND", "BREW"):
        answer = ada.request(method, path)
        if method in allowed:
            assert answer.status_code != 405, (method, answer.text)
            continue
        assert (answer.status_code, answer.headers["Allow"]) == (405, ALLOW[path]), (method, answer.text)
        if method != "HEAD":
            problem(answer, 405, "method_not_allowed")


def test_a_method_is_refused_before_the_credentials(product):
    for path in ALLOW:
        problem(product.request("PUT", path), 405, "method_not_allowed")


def test_nginx_refuses_methods_in_the_same_form(product, ada):
    trace = problem(ada.request("TRACE", "/api/me"), 405, "method_not_allowed")
    assert trace["status"] == 405
    answer = product.request("POST", "/integrations")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD"


# Paths


def test_paths(product, ada):
    base = "/api/organizations/acme/integrations"
    for path in ("/api", "/api/", "/api/me/", "/api//me", "/API/me", "/api/Me", "/api/organizations", "/api/organizations/acme",
                 base + "/", base + "/google/", base + "/google/auth_link/", base + "/google/authlink",
                 base + "/google/callback/x", "/api/organizations//integrations", "/api/organizations/acme/mcps/gmail",
                 "/nothing", "/integrations/x", "/integrations/google", "/integrations/Google/callback", "/.git/config",
                 "/integrations-assets/", "/integrations-assets/nothing.js", "/internal/", "/healthz", "/readyz", "/metrics",
                 "/none", "/integrations-problem/overloaded"):
        problem(ada.get(path), 404, "route_not_found")
    for path in ("/api/%6de", "/api/me%2f", "/api/./me", "/api/x/../me", "/api/me;x", "/api/me%3fx"):
        status, _, body = by_name(product, path, product.public_url[7:])
        assert status == 404 and '"code":"route_not_found"' in body, (path, status, body)


def test_the_private_server_has_no_route_for_users(product, ada):
    for method, path, _, _ in ROUTES:
        answer = product.request(method, path, bearer=ada.token, internal=True)
        problem(answer, 404, "route_not_found")


def test_an_organization_is_refused_alike_whether_it_exists_or_not(product, ada, bob):
    good(product.session("eve", {"initech": "admin"}).get("/api/me"))
    for method, path, _, _ in ROUTES:
        if "/organizations/" not in path:
            continue
        answers = [alike(bob.request(method, path.replace("acme", name))) for name in ("initech", "globex", "no-such-one")]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] == 403
