"""Two instances under load: told to end, reloaded, and then killed at random, with Redis, while people list, validate, refresh,
connect and disconnect.

What may be lost is what Redis says of itself: with appendfsync always nothing that was acknowledged, with everysec the last
two seconds. (The first kind of run has Redis alone in peace.)
"""

import pytest

from checks import make_due
from drill import SHARE, Drill
from harness import Product, wait_until
from kills import join_instances, under_load
from rolling import STEPS, Readers

SETTINGS = {"environment": {"LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0", "LOG_LEVEL": "info"}, "hosts": 2, "workers": 2}
# appendfsync, whether a crash may take back what was acknowledged, who is killed, how often in the long run
WORKERS = ("no", False, ("worker", "worker", "instance"), 60)
ALWAYS = ("always", False, ("worker", "instance", "redis"), 40)
EVERYSEC = ("everysec", True, ("worker", "instance", "redis"), 40)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """pair(appendfsync): two instances behind one nginx, with nothing stored."""
    made = {}

    def make(mode):
        if mode not in made:
            made[mode] = Product(tmp_path_factory.mktemp("pair"), redis_arguments=("--appendfsync", mode), **SETTINGS)
            made[mode].start()
            join_instances(made[mode])
        made[mode].forget()
        made[mode].stand_in.settings(refresh_token_cap=10000)
        return made[mode]

    yield make
    for product in made.values():
        product.stop()


def test_rolling(pair):
    """SIGTERM, SIGHUP, nginx -s reload: no request that may be sent again fails."""
    product = pair("always")
    people = [product.session(f"member{number}", {"acme": "member"}) for number in range(4)]
    for person, account in zip(people, product.stand_in.add_accounts(len(people))):
        person.connect("acme", account=account["email"])
    with Drill("rolling", deaths_expected=True) as drill, Readers(product, people, 8) as readers:
        # An instance ends when nginx has let its kept connections go, ten seconds later: in the long run only.
        steps = [drill.random.choice(list(STEPS)) for _ in range(20)] + list(STEPS) if SHARE == 1 else ["nginx", "reload"]
        drill.random.shuffle(steps)
        for step in steps:
            before = readers.done
            wait_until(lambda enough=before + 40: readers.done > enough, "traffic", 30)
            for person in people:
                make_due(product, person.user)
            drill.injected += 1
            STEPS[step](product, drill.random)
            drill.fired += 1
        before = readers.done
        wait_until(lambda: readers.done > before + 40, "traffic", 30)
        readers.__exit__()
        drill.ok = sum(count for (_, status), count in readers.statuses.items() if status == 200)
        print(dict(readers.statuses))
        for method, path, status, text in readers.failed:
            if method == "GET":
                drill.wrong("stuck", f"{method} {path}: {status} {text}")
            else:  # never sent twice, so it may be refused, in good form
                drill.clean_errors += 1
                if status != 503 or ":overloaded" not in text:
                    drill.wrong("stuck", f"{method} {path}: {status} {text}")


@pytest.mark.parametrize("mode, rolls_back, whom, count", (WORKERS, ALWAYS, EVERYSEC) if SHARE == 1 else (ALWAYS,))
def test_kills(pair, mode, rolls_back, whom, count):
    product = pair(mode)
    with Drill(f"kills-{mode}", deaths_expected=True) as drill:
        everyone = list(whom) + [drill.random.choice(whom) for _ in range(round(count * SHARE) - len(whom))]
        drill.random.shuffle(everyone)
        chaos = under_load(product, drill, 10 if SHARE == 1 else 5, everyone, rolls_back=rolls_back)
    print(dict(chaos.answers.most_common()))
