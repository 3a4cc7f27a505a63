"""One member never sees, validates, uses or deletes what is another's, over every route."""

import itertools
import urllib.parse

import pytest

from checks import alike, calls, dump, live, only
from harness import SERVICE, good, problem

ROUTES = [("GET", "integrations"), ("GET", "mcps"), ("POST", "integrations/{service}"), ("DELETE", "integrations/{service}"),
          ("GET", "integrations/{service}/auth_link"), ("POST", "integrations/{service}/callback")]


def ask(session, method, route, organization, service=SERVICE, **more):
    if method == "POST" and route.endswith("callback"):
        more.setdefault("json", {"code": "4/0AMARKER", "state": "A" * 43 + ".acme"})
    return session.request(method, f"/api/organizations/{organization}/{route.format(service=service)}", **more)


@pytest.fixture
def world(duo):
    """ada and bob in acme, ada also in globex, eve in initech; everybody is connected, each to an account of her own."""
    people = {"ada": duo.session("ada", {"acme": "admin", "globex": "member"}, sid="a"),
              "bob": duo.session("bob", {"acme": "member"}, sid="b"),
              "eve": duo.session("eve", {"initech": "admin"}, sid="e")}
    people["ada"].connect("acme", "ada")
    people["ada"].connect("globex", "ada")
    people["ada"].connect("acme", "ada", service="plain")
    people["bob"].connect("acme", "grace")
    people["eve"].connect("initech", "linus")
    return people


def unchanged(duo, before, but=("events:",)):
    """Only the audit of refused states may have grown."""
    after = {name: value for name, value in duo.stored().items() if not name.startswith(but)}
    return after == {name: value for name, value in before.items() if not name.startswith(but)}


def test_foreign_organizations_over_every_route(duo, world):
    """Whether the organization exists, holds a connection of this very service, or is made up: one refusal."""
    before, called = duo.stored(), calls(duo)
    answers = set()
    for name, session in world.items():
        mine = {"ada": ("acme", "globex"), "bob": ("acme",), "eve": ("initech",)}[name]
        foreign = {"acme", "globex", "initech", "no-such-one", "ACME", "a" * 65, "acme.x"} - set(mine)
        for organization, service, (method, route) in itertools.product(foreign, (SERVICE, "plain", "github"), ROUTES):
            for via in (session, session.bearer()):
                answer = ask(via, method, route, organization, service)
                problem(answer, 403, "organization_forbidden")
                answers.add(str(alike(answer)))
    assert len(answers) == 1
    assert unchanged(duo, before) and calls(duo) == called


def test_others_in_the_same_organization(duo, world):
    """bob has no `plain`, ada has: for bob it is as if nobody had."""
    bob, nobody = world["bob"], duo.session("carol", {"acme": "member"})
    before, called = duo.stored(), calls(duo)
    for method, route in ROUTES[2:4]:
        theirs, none = (alike(ask(each, method, route, "acme", "plain")) for each in (bob, nobody))
        assert theirs == none and none[0] == 404
    assert [record["oauth_email"] for record in bob.list("acme")] == ["grace@workspace.example"]
    assert nobody.list("acme") == []
    assert {record["user_id"] for record in bob.list("acme")} == {"bob"}
    states = {each["mcp"]: each["state"] for each in good(bob.get("/api/organizations/acme/mcps"))["mcps"]}
    assert states == {"gmail": "ready", "google_calendar": "ready", "google_drive": "ready", "plain_mail": "not_connected"}
    assert {each["state"] for each in good(nobody.get("/api/organizations/acme/mcps"))["mcps"]} == {"not_connected"}
    assert unchanged(duo, before, ("events:", "integrations:validated:{acme:bob}", "integrations:validated:{acme:carol}"))
    assert calls(duo) == called


def test_an_admin_is_no_member_of_others_connections(duo, world):
    """The role gives access to the organization, not to its members' connections."""
    assert {record["user_id"] for record in world["ada"].list("acme")} == {"ada"}
    boss = duo.session("boss", {"acme": "admin"})
    assert boss.list("acme") == []
    problem(boss.disconnect("acme"), 404, "integration_not_found")
    problem(boss.validate("acme"), 404, "integration_not_found")


def test_what_one_does_leaves_the_others_as_they_were(duo, world):
    """Validate, reconnect, replace and disconnect touch nobody else's record and credential."""
    everybody = [("ada", "acme", SERVICE), ("ada", "globex", SERVICE), ("ada", "acme", "plain"), ("bob", "acme", SERVICE),
                 ("eve", "initech", SERVICE)]

    def others(*mine):
        return [dump(duo, user, organization, service) for user, organization, service in everybody
                if (user, organization, service) != mine]

    ada, mine = world["ada"], ("ada", "acme", SERVICE)
    before = others(*mine)
    good(ada.validate("acme"))
    ada.connect("acme", "ada")
    problem(ada.try_connect("acme", "grace"), 409, "account_mismatch")
    ada.connect("acme", "linus", replace="true")
    assert others(*mine) == before
    good(ada.disconnect("acme"))
    assert others(*mine) == before
    assert live(duo, "grace") == live(duo, "linus") == 2, "to revoke what was ada's would end bob's and eve's"
    for name, organization in (("bob", "acme"), ("eve", "initech")):
        assert good(world[name].validate(organization))["is_valid"] is True


HOSTILE = ["a:b", "acme:ada", "{acme}", "{acme:ada}", "acme:ada}:google", "}:google", "*", "a*", "?", "[a-z]", "acme\r\nX: y",
           "acme\r", "\n", "acme\0", "äcme", "аcme", "acme\u200b", "\U0001f600", "a" * 65, "a" * 300, "acme/../globex", "..", ".", "%2e",
           "acme%00", "acme ", " acme", "acme;x", "acme,globex", "acme&x", "acme=1", "acme#x", "acme\\", "'", '"', "<script>", "-" * 65,
           "org:acme", "$acme", "${acme}", "acme|x", "`id`", "\x7f", "\x1b[31m", "\ufeffacme", "acme\u0301"]


def test_hostile_ids_in_the_path(duo, world):
    """As an organization 403, as a service 404 (or nginx's own refusal); no key is built of it."""
    ada = world["ada"]
    before, called = duo.stored(), calls(duo)
    for hostile, (method, route) in itertools.product(HOSTILE, ROUTES):
        segment = urllib.parse.quote(hostile, safe="")
        answer = raw(duo, ada, method, f"/api/organizations/{segment}/{route.format(service=SERVICE)}")
        assert answer in ((403, "organization_forbidden"), (404, "route_not_found"), (400, "request_invalid")), (hostile, method, route)
        if "{service}" in route:
            answer = raw(duo, ada, method, f"/api/organizations/acme/{route.format(service=segment)}")
            assert answer in ((404, "service_not_found"), (404, "route_not_found"), (400, "request_invalid")), (hostile, method, route)
    assert unchanged(duo, before) and calls(duo) == called


def test_hostile_ids_in_the_path_as_they_are(duo, world):
    """Bytes that a browser would never send unescaped."""
    before = duo.stored()
    for hostile in (b"a:b", b"{acme:ada}", b"*", b"\xff\xfe", b"\xc3\xa4cme", b"acme\t", b"acme\x01", b"a" * 300, b"acme}", b"acme;", b"\\"):
        for place in (b"/api/organizations/%s/integrations", b"/api/organizations/%s/mcps"):
            assert raw(duo, world["ada"], "GET", place % hostile) in (
                (403, "organization_forbidden"), (404, "route_not_found"), (400, "request_invalid")), hostile
        assert raw(duo, world["ada"], "DELETE", b"/api/organizations/acme/integrations/%s" % hostile) in (
            (404, "service_not_found"), (404, "route_not_found"), (400, "request_invalid")), hostile
    assert unchanged(duo, before)


def raw(duo, session, method, path):
    """Status and code, of a path that no library makes tidy."""
    path = path if isinstance(path, bytes) else path.encode()
    head = f"Host: {duo.public_url[7:]}\r\nAuthorization: Bearer {session.token}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    data = duo.raw(method.encode() + b" " + path + b" HTTP/1.1\r\n" + head.encode())
    return int(data.split(b" ")[1]), data.partition(b'"code":"')[2].partition(b'"')[0].decode()


@pytest.mark.parametrize("field", ["org:*", "org:{acme", "org:acme:ada", "org:", "org:acme\r\n", "org:acme\0", "org:%61cme", "org: acme", "orgs:acme",
                                   "org:acme}"])
def test_hostile_memberships(duo, field):
    """A session's fields open nothing but the organization that they name to the letter."""
    session = duo.session("mallory", {})
    duo.redis.hset(duo.session_key(session.token), field, "admin")
    name = field.removeprefix("org:")
    for segment in {"acme", urllib.parse.quote(name, safe=""), name if name.isprintable() and " " not in name else ""} - {""}:
        status, _ = raw(duo, session, "GET", f"/api/organizations/{segment}/integrations")
        assert status in (400, 403), (segment, status)
    assert good(session.get("/api/me"))["organizations"] == []


def test_the_longest_ids(duo):
    """64 characters of every kind that is allowed, in each place, from end to end."""
    user, organization = ("aZ09_-" * 11)[:64], ("-_90Za" * 11)[:64]
    someone = duo.session(user, {organization: "member"})
    record = someone.connect(organization)
    assert (record["user_id"], record["organization_id"]) == (user, organization)
    assert good(someone.validate(organization))["is_valid"] is True
    assert good(someone.disconnect(organization))["revocation"] == "revoked"


def test_ids_that_could_be_mistaken_for_each_other(duo):
    """No two pairs of organization and user share a key, however they are cut."""
    pairs = [("a", "b-c"), ("a-b", "c"), ("a_b", "c"), ("a", "b_c"), ("A", "b-c"), ("a", "B-c"), ("-", "a"), ("a", "-")]
    people = {pair: duo.session(pair[1], {pair[0]: "member"}) for pair in pairs}
    records = {pair: each.connect(pair[0]) for pair, each in people.items()}
    assert len({record["id"] for record in records.values()}) == len(pairs)
    for pair, each in people.items():
        assert each.list(pair[0]) == [records[pair]]


def test_a_disabled_service_is_not_seen(duo, world):
    """What is stored under a service that has no provider file stays where it is and is shown to nobody."""
    duo.redis.hset("integration:{acme:ada}:github", mapping=duo.redis.hgetall("integration:{acme:ada}:google"))
    assert [record["service"] for record in world["ada"].list("acme")] == ["google", "plain"]
    before = duo.stored()
    for method, route in ROUTES[2:]:
        problem(ask(world["ada"], method, route, "acme", "github"), 404, "service_not_found")
    assert unchanged(duo, before)


def test_grants_are_found_by_account_and_issuer_only(duo, world):
    """A grant's set may be wrong (it is only a hint): names in it that hold something else do no harm."""
    (key,) = [name for name in duo.redis.keys("grant:*") if "eve" in str(duo.redis.smembers(name))]
    duo.redis.sadd(key, "acme:ada:google", "nonsense", "a:b", "a:b:c:d", "{x}:y:google", "*:*:*", "acme:nobody:google")
    assert good(world["eve"].disconnect("initech"))["revocation"] == "revoked"
    assert live(duo, "linus") == 0 and live(duo, "ada") > 0
    assert calls(duo)["revokes"] == only(revokes=1)["revokes"]


def test_a_session_that_changes_hands(duo, world):
    """Workers guess whose session a token is, by when it last came, and read that user's records with it. The guess is
    wrong now: nothing of it is shown."""
    ada, bob = world["ada"], world["bob"]
    wanted = {name: good(bob.get(f"/api/organizations/acme/{name}")) for name in ("integrations", "mcps")}
    assert wanted["integrations"] != good(ada.get("/api/organizations/acme/integrations"))
    assert wanted["mcps"] != good(ada.get("/api/organizations/acme/mcps"))
    for _ in range(10):  # every worker has seen it
        ada.get("/api/organizations/acme/mcps")
    duo.redis.hset(duo.session_key(ada.token), "user_id", bob.user)
    for _ in range(10):
        for name, body in wanted.items():
            assert good(ada.get(f"/api/organizations/acme/{name}")) == body
    duo.redis.delete(duo.session_key(ada.token))
    for name in wanted:
        problem(ada.get(f"/api/organizations/acme/{name}"), 401, "unauthenticated")
