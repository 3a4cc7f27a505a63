"""Three things at once to one connection, and what may be stored after them: what some order of the three would leave."""

import itertools

from checks import live, make_due
from cluster import Person
from harness import good

CHANGES = ("callback", "replace", "disconnect", "remove")
READS = ("token", "validate", "list")


class Broken(AssertionError):
    """Its text begins with what is broken, in the words of the ledger line."""


def check(kind, holds, what):
    if not holds:
        raise Broken(f"{kind}: {what}")


def kind_of(failure):
    """What is broken, by the last line of a traceback; where the test itself stumbled: stuck."""
    name, _, rest = failure.splitlines()[-1].partition(": ")
    return rest.partition(": ")[0] if name.endswith("Broken") else "stuck"


def begin(race, names):
    """The connection before, and the calls by name."""
    cluster, person = race.cluster, race.person
    if race.draw.random() < 0.7:
        person.connect()
        race.before = person.account
    race.other = Person(cluster, f"other{race.name}")
    admin = f"unix://{cluster.proxy.admin_path}"
    documents = {"callback": lambda: person.authorize(),
                 "replace": lambda: person.session.authorize("acme", account=race.other.account, replace="true")}
    prepared = {name: documents[name]() for name in names if name in documents}
    if race.before is not None:
        make_due(race.product, person.name)
    return {
        "callback": lambda host: person.callback(prepared["callback"], host),
        "replace": lambda host: person.callback(prepared["replace"], host),
        "token": race.token,
        "validate": lambda host: person.session.validate("acme", host=host),
        "list": lambda host: person.session.integrations("acme", host=host),
        "disconnect": race.disconnect,
        "remove": lambda host: race.product.command("remove", "--org", "acme", "--user", person.name, environment={
            "REDIS_URL": admin, "REDIS_ADMIN_URL": admin}),
    }


ALLOWED = {"callback": (200, 403, 409), "replace": (200, 403, 409), "token": (200, 403, 404, 409), "validate": (200, 403, 404),
           "list": (200,), "disconnect": (200, 404)}


def steps(race, name, answer, state, removed):
    """All (state, removed) that this answer leaves, when it is given in `state`; none where it cannot be given."""
    wanted = {"callback": race.person.account, "replace": race.other.account}.get(name)
    status = getattr(answer, "status_code", None)
    if name == "remove":
        return [(None, True)]
    if name == "disconnect":
        return [(None, removed)] if status == 200 or state is None else []
    if wanted is None:
        return [(state, removed)]
    if status == 403:
        return [(state, removed)] if removed else []
    if removed:
        return []
    if status == 200:
        return [(wanted, removed)] if name == "replace" or state in (None, wanted) else []
    if answer.json()["code"] == "account_mismatch":
        return [(state, removed)] if state not in (None, wanted) else []
    return [(wanted, removed), (state, removed)]  # stored and found dead


def possible(race, answers):
    """What may be stored in the end."""
    found = set()
    # A removal bars the member first, and deletes what is there later: others may come in between.
    parts = [name for name in answers if name in CHANGES]
    parts += ["bar"] if "remove" in answers else []
    for order in itertools.permutations(parts):
        if "bar" in order and order.index("bar") > order.index("remove"):
            continue
        states = {(race.before, False)}
        for name in order:
            if name == "bar":
                states = {(state, True) for state, _ in states}
            else:
                states = {after for state in states for after in steps(race, name, answers[name], *state)}
        found |= {state for state, _ in states}
    return found


def three(race):
    """One order: what came out of it, for the tally."""
    race.before = None
    names = race.draw.sample(CHANGES + READS, 3)
    if not set(names) & set(CHANGES):
        names[0] = race.draw.choice(CHANGES)
    calls = begin(race, names)
    race.slow("refresh", "exchange", "revoke", "userinfo")
    answers = race.run(**{name: calls[name] for name in names})
    for name, answer in answers.items():
        allowed = ALLOWED.get(name)
        check("stuck", allowed is None or answer.status_code in allowed, f"{name} is answered {getattr(answer, 'text', '')}")
        check("failed_open", getattr(answer, "status_code", 0) != 403 or "remove" in names, f"{name} is refused")
    for record in good(answers["list"])["integrations"] if "list" in answers else ():
        check("wrong_user", record["user_id"] == race.person.name, record)
    record = race.stored()
    accounts = {each.account for each in (race.person, race.other)}
    told = {name: getattr(answer, "status_code", 0) for name, answer in answers.items()}
    told["before"] = race.before is not None
    stored = record and record["oauth_email"]
    wanted = possible(race, answers)
    check("lost" if stored is None else "resurrected", stored in wanted, f"{stored} is stored, not one of {wanted}: {told}")
    left = race.cluster.redis.keys(f"integrations:unrevoked*{{acme:{race.person.name}}}*")
    check("failed_open", not left, f"{left} is left: {told}")
    if stored is None:
        race.check_gone(None, 403 if "remove" in names else 404)
        for account in accounts:
            check("failed_open", live(race.product, account) == 0, f"{account} lives on: {told}")
    elif record["status"] == "valid":
        race.check_working()
        for account in accounts - {stored}:
            check("failed_open", live(race.product, account) == 0, f"{account}, replaced, lives on: {told}")
    elif record["status"] == "invalid":
        check("lost", live(race.product, stored) == 0, f"it is called invalid, and is not: {told}")
    return tuple(sorted(told.items()))
