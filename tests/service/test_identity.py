"""Who the provider says has connected: the id_token, the keys it is checked with, the iss of the redirect."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import calls, is_stored, live, only, wait_in_flight
from harness import good, problem


@pytest.fixture
def ada(duo):
    return duo.session("ada", {"acme": "admin"}, sid="login-of-ada")


REFUSED = {
    "a bad signature": {"sign": "bad"}, "another key": {"sign": "other_key"},
    "no signature": {"sign": "none"}, "the public key as a secret": {"sign": "hs256"}, "the client's secret": {"sign": "hs256_secret"},
    "an algorithm that is not allowed": {"sign": "rs512"}, "no token": {"sign": "missing"}, "garbage": {"sign": "garbage"},
    "another algorithm in the head": {"header": {"alg": "none"}}, "an extension that must be known": {"header": {"crit": ["exp"], "exp": 1}},
    "no issuer": {"claims": {"iss": None}}, "another issuer": {"claims": {"iss": "https://evil.example"}}, "an empty issuer": {"claims": {"iss": ""}},
    "a list of issuers": {"claims": {"iss": ["https://accounts.google.com"]}},
    "no audience": {"claims": {"aud": None}}, "another audience": {"claims": {"aud": "another-client"}}, "no audiences": {"claims": {"aud": []}},
    "an audience besides": {"claims": {"aud": ["CLIENT", "another-client"]}}, "an audience of a number": {"claims": {"aud": 1}},
    "another presenter": {"claims": {"azp": "another-client"}}, "a presenter of a number": {"claims": {"azp": 1}},
    "no nonce": {"claims": {"nonce": None}}, "another nonce": {"claims": {"nonce": "MARKER-other"}}, "an empty nonce": {"claims": {"nonce": ""}},
    "the hash of another token": {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}, "an empty hash": {"claims": {"at_hash": ""}},
    "a hash of a number": {"claims": {"at_hash": 5}},
    "no expiry": {"claims": {"exp": None}}, "an expiry in words": {"claims": {"exp": "tomorrow"}}, "an expiry in quotes": {"claims": {"exp": "4000000000"}},
    "expired an hour ago": {"shift": {"exp": -3600, "iat": -7200}}, "no time of issue": {"claims": {"iat": None}},
    "issued in an hour": {"shift": {"iat": 3600, "exp": 7200}}, "a life of two days": {"shift": {"exp": 172_800}},
    "ended before it began": {"shift": {"iat": 200, "exp": 100}}, "not to be used before an hour": {"shift": {"nbf": 3600}},
    "no account": {"claims": {"sub": None}}, "an empty account": {"claims": {"sub": ""}}, "an account of a number": {"claims": {"sub": 108}},
    "an account of 300 characters": {"claims": {"sub": "1" * 300}}, "an account with blanks": {"claims": {"sub": "a b"}},
    "an account with a line end": {"claims": {"sub": "108123\n"}}, "an account with a NUL": {"claims": {"sub": "108123\0"}},
    "an account in other letters": {"claims": {"sub": "ädä"}},
}


def with_client(duo, options):
    """CLIENT stands for our client id, which is known when the product runs."""
    audience = options.get("claims", {}).get("aud")
    if isinstance(audience, list):
        return {"claims": {"aud": [duo.stand_in.client_id if each == "CLIENT" else each for each in audience]}}
    return options


@pytest.mark.parametrize("case", REFUSED)
def test_refused(duo, ada, case):
    """502, nothing stored, and what was given is revoked."""
    number = duo.stand_in.fault("exchange", "id_token", **with_client(duo, REFUSED[case]))
    problem(ada.try_connect("acme"), 502, "identity_invalid")
    duo.stand_in.wait_fired(number)
    assert not is_stored(duo, "ada")
    assert live(duo, "ada") == live(duo, "ada", "access") == 0


ACCEPTED = {
    "the issuer without https": {"claims": {"iss": "HOST"}},
    "our client in a list": {"claims": {"aud": ["CLIENT"]}}, "no presenter": {"claims": {"azp": None}}, "no hash": {"claims": {"at_hash": None}},
    "expired a minute ago": {"shift": {"exp": -60, "iat": -3660}}, "issued in a minute": {"shift": {"iat": 60, "exp": 3660}},
    "an e-mail that is not verified": {"claims": {"email_verified": False}}, "more claims": {"claims": {"more": {"deep": [1]}, "hd": "x"}},
    "an account of 255 characters": {"claims": {"sub": "1" * 255}}, "no type in the head": {"header": {"typ": None}},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(duo, ada, case):
    options = with_client(duo, ACCEPTED[case])
    if options.get("claims", {}).get("iss") == "HOST":
        options = {"claims": {"iss": duo.stand_in.https_base.removeprefix("https://")}}
    duo.stand_in.fault("exchange", "id_token", **options)
    record = ada.connect("acme")
    assert record["oauth_user_id"] == options.get("claims", {}).get("sub", record["oauth_user_id"])


@pytest.mark.parametrize("email, shown", [(None, None), ("", None), (7, None), (["a@example.com"], None), ("x" * 400 + "@example.com", None),
                                          ("new@example.com", "new@example.com")], ids=lambda value: str(value)[:20])
def test_the_email_is_only_shown(duo, ada, email, shown):
    """The account is its sub; the address may be missing, or change."""
    first = ada.connect("acme")
    duo.stand_in.fault("exchange", "id_token", claims={"email": email})
    record = ada.connect("acme")
    assert record["oauth_email"] == shown
    assert (record["id"], record["oauth_user_id"]) == (first["id"], first["oauth_user_id"])


def test_a_hostile_email(duo, ada):
    """Text as it is: JSON takes care of it."""
    hostile = '<img src=x onerror=alert(1)>"\\\u2028\u202e@example.com'
    duo.stand_in.fault("exchange", "id_token", claims={"email": hostile})
    assert ada.connect("acme")["oauth_email"] == hostile


def test_the_keys(make_product):
    """One worker from its start: without keys the code stays here; then they are fetched once for all and kept; a new
    one is fetched, and a made-up one is looked for once a minute, so that it makes no flood."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})

    def fetched():
        return product.stand_in.counters()["certs"]

    for kind, options in (("refuse", {}), ("status", {"status": 503}), ("html", {}), ("not_json", {}), ("empty", {}), ("redirect", {}),
                          ("truncate", {}), ("big", {}), ("raw", {"body": '{"keys":[]}'}), ("raw", {"body": '{"keys":"none"}'}), ("raw", {"body": "[]"})):
        number = product.stand_in.fault("certs", kind, **options)
        problem(ada.try_connect("acme"), 502, "provider_unreachable")
        product.stand_in.wait_fired(number)
        assert calls(product) == only(), kind
    assert not is_stored(product, "ada")

    before = fetched()
    people = [product.session(f"user{number}", {"acme": "member"}) for number in range(6)]
    documents = [each.authorize("acme") for each in people]
    hold = product.stand_in.fault("certs", "hold")
    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(each.callback, "acme", document) for each, document in zip(people, documents)]
        wait_in_flight(product, 6)
        product.stand_in.release(hold)
        for post in posts:
            good(post.result())
    ada.connect("acme")
    assert fetched() == before + 1

    product.stand_in.fault("exchange", "id_token", sign="rotated")
    ada.connect("acme")
    assert fetched() == before + 2
    for _ in range(3):
        product.stand_in.fault("exchange", "id_token", sign="unknown_kid")
        problem(ada.try_connect("acme"), 502, "identity_invalid")
    ada.connect("acme")
    assert fetched() == before + 2


def test_a_new_key_that_no_token_names(make_product):
    """A provider with tokens without `kid`: when no key fits, they are fetched anew."""
    product = make_product(workers=1)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    before = product.stand_in.counters()["certs"]
    product.stand_in.fault("exchange", "id_token", sign="rotated", header={"kid": None})
    ada.connect("acme")
    assert product.stand_in.counters()["certs"] == before + 1


# A provider without keys: userinfo says who it is


@pytest.mark.parametrize("kind, options, expected", [
    ("answer", {"omit": ["sub"]}, (502, "provider_unreachable")), ("answer", {"set": {"sub": ""}}, (502, "identity_invalid")),
    ("answer", {"set": {"sub": "a b"}}, (502, "identity_invalid")), ("answer", {"set": {"sub": "x" * 300}}, (502, "identity_invalid")),
    ("answer", {"set": {"sub": ["x"]}}, (502, "provider_unreachable")), ("status", {"status": 401}, (502, "identity_invalid")),
    ("status", {"status": 403}, (502, "identity_invalid")), ("status", {"status": 500}, (502, "provider_unreachable")),
    ("html", {}, (502, "provider_unreachable")), ("redirect", {}, (502, "provider_unreachable")), ("refuse", {}, (502, "provider_unreachable")),
], ids=str)
def test_refused_by_userinfo(duo, ada, kind, options, expected):
    number = duo.stand_in.fault("userinfo", kind, times=None, **options)
    problem(ada.try_connect("acme", service="plain"), *expected)
    duo.stand_in.wait_fired(number)
    duo.stand_in.clear_faults()
    assert not is_stored(duo, "ada", service="plain") and live(duo, "ada") == 0


def test_accepted_by_userinfo(duo, ada):
    record = ada.connect("acme", account="grace", service="plain")
    assert (record["oauth_email"], record["missing_scopes"]) == ("grace@workspace.example", [])
    duo.stand_in.fault("userinfo", "answer", set={"sub": 42})
    problem(ada.try_connect("acme", account="grace", service="plain"), 409, "account_mismatch")


# iss


def test_iss(duo, ada):
    """Equal to the letter where it is there; nothing is sent where it is not."""
    issuer = duo.stand_in.provider["issuer"]
    for wrong in ("https://evil.example", "", issuer + "/", issuer.upper(), issuer.replace("https", "http"), issuer.removeprefix("https://"),
                  issuer + "?", " " + issuer, issuer[:-1]):
        document = ada.authorize("acme")
        problem(ada.callback("acme", {**document, "iss": wrong}), 400, "issuer_mismatch")
        problem(ada.callback("acme", document), 400, "state_invalid")
        problem(ada.callback("acme", {"error": "access_denied", "iss": wrong}), 400, "issuer_mismatch")
    assert calls(duo) == only()
    document = ada.authorize("acme")
    assert document.pop("iss") == issuer
    good(ada.callback("acme", document))
    good(ada.callback("acme", ada.authorize("acme")))


def test_iss_where_it_is_required(duo, ada):
    document = ada.authorize("acme", service="plain")
    assert document.pop("iss")
    problem(ada.callback("acme", document, "plain"), 400, "issuer_mismatch")
    problem(ada.callback("acme", {"error": "access_denied"}, "plain"), 400, "issuer_mismatch")
    assert calls(duo) == only()
    ada.connect("acme", service="plain")
