"""The main job once, from end to end; each step has tests of its own in the other files."""

from harness import good, problem


def test_health(product):
    assert product.request("GET", "/healthz", internal=True).text.strip() == "ok"
    assert product.request("GET", "/readyz", internal=True).status_code == 200
    assert "integrations_" in product.request("GET", "/metrics", internal=True).text
    problem(product.request("GET", "/healthz"), 404, "route_not_found")


def test_metrics_name_each_series_once(product, ada):
    """What Prometheus could not take: the same name and labels twice."""
    ada.connect("acme")
    ada.validate("acme")
    ada.disconnect("acme")
    lines = product.request("GET", "/metrics", internal=True).text.splitlines()
    series = [line.rsplit(" ", 1)[0] for line in lines]
    assert len(series) == len(set(series)), sorted(each for each in series if series.count(each) > 1)
    assert sum('status="200"' in each and "{service}\"" in each for each in series) == 2


def test_nobody_is_signed_in(product):
    answer = product.request("GET", "/api/me")
    problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_nothing_is_connected(ada):
    assert ada.list("acme") == []
    me = good(ada.get("/api/me"))
    assert me["user_id"] == "ada"
    assert me["organizations"] == [{"id": "acme", "role": "admin"}, {"id": "globex", "role": "member"}]


def test_connect_see_validate_disconnect(product, ada):
    record = ada.connect("acme", account="ada")
    assert (record["service"], record["status"], record["status_reason"]) == ("google", "valid", None)
    assert record["missing_scopes"] == []
    assert ada.list("acme") == [record]
    assert ada.list("globex") == []

    answer = good(ada.validate("acme"))
    assert answer["is_valid"] is True
    assert answer["integration"]["id"] == record["id"]

    answer = good(ada.disconnect("acme"))
    assert (answer["service"], answer["revocation"]) == ("google", "revoked")
    assert ada.list("acme") == []
    problem(ada.validate("acme"), 404, "integration_not_found")
    counters = product.stand_in.counters()
    assert (counters["exchanges"], counters["exchanges_ok"], counters["revokes"]) == (1, 1, 1), counters
