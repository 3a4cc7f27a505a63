"""Two things at once to one connection, in many orders: RACES=1000 for the long run, RACE_SEED=17 RACES=1 for one again.

What must hold is the same in any order. All seeds that fail are named.
"""

from checks import is_stored, live, make_due
from cluster import Person
from harness import good
from races import races


def test_disconnect_against_refresh(cluster):
    def one(race):
        race.person.expired()
        race.slow("refresh", "revoke")
        answers = race.run(token=race.token, disconnect=race.disconnect)
        revocation = good(answers["disconnect"])["revocation"]
        assert revocation == "revoked"
        assert answers["token"].status_code in (200, 404, 409), answers["token"].text
        race.check_gone(revocation)
        return answers["token"].status_code
    races(cluster, "disconnect", one)


def test_reconnect_against_refresh(cluster):
    """With the same account, or with another one in its place."""
    def one(race):
        before = race.person.connect()
        other = race.draw.random() < 0.5 and Person(cluster, f"other{race.name}")
        document = race.person.session.authorize("acme", account=(other or race.person).account, replace="true" if other else None)
        make_due(race.product, race.person.name)
        race.slow("refresh", "revoke")
        refreshes = race.product.stand_in.counters()["refreshes"]
        answers = race.run(token=race.token, reconnect=lambda host: race.person.callback(document, host))
        record = good(answers["reconnect"])["integration"]
        assert answers["token"].status_code in ((200, 404, 409) if other else (200,)), answers["token"].text
        assert (record["id"] == before["id"]) == (not other)
        refreshes -= race.product.stand_in.counters()["refreshes"]
        stored = race.stored()
        assert (stored["id"], stored["oauth_user_id"], stored["status"]) == (record["id"], record["oauth_user_id"], "valid")
        race.check_working()
        assert not other or live(race.product, race.person.account) == 0, "the old grant lives on"
        return answers["token"].status_code, "replaced" if other else "same account", f"{-refreshes} refreshes"
    races(cluster, "reconnect", one)


def test_callback_against_disconnect(cluster):
    """Of the same person, or of another one whose account is the same."""
    def one(race):
        race.person.connect()
        connecting = race.person
        if race.draw.random() < 0.5:
            connecting = Person(cluster, f"sharing{race.name}")
            connecting.account = race.person.account
        document = connecting.authorize()
        race.slow("exchange", "revoke")
        answers = race.run(callback=lambda host: connecting.callback(document, host), disconnect=race.disconnect)
        revocation = good(answers["disconnect"])["revocation"]
        status = answers["callback"].status_code
        assert status in (200, 409), answers["callback"].text
        record = race.stored(connecting)
        if status == 409:
            assert answers["callback"].json()["code"] == "reconnect_required"
            assert record is None or record["status"] == "invalid"
        elif record is not None:
            assert record["status"] == "valid"
            race.check_working(connecting)
        else:
            race.check_gone(revocation)
        if connecting is not race.person:
            assert not is_stored(race.product, race.person.name) and revocation in ("revoked", "not_revoked")
        return status, revocation
    races(cluster, "callback", one)


def test_remove_against_token_and_callback(cluster):
    admin = f"unix://{cluster.proxy.admin_path}"

    def one(race):
        person = race.person.expired()
        document = person.authorize()
        race.slow("refresh", "exchange", "revoke")
        answers = race.run(token=race.token, callback=lambda host: person.callback(document, host),
                           remove=lambda host: cluster.product.command("remove", "--org", "acme", "--user", person.name, environment={
                               "REDIS_URL": admin, "REDIS_ADMIN_URL": admin}))
        assert answers["token"].status_code in (200, 403, 404, 409), answers["token"].text
        assert answers["callback"].status_code in (200, 403, 409), answers["callback"].text
        race.check_gone(None, 403)
        assert person.session.auth_link("acme").status_code == 403
        cluster.redis.delete(f"removed:{{acme:{person.name}}}")
        race.check_gone(None)
        return answers["token"].status_code, answers["callback"].status_code
    races(cluster, "remove", one)
