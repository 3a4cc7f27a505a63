"""What all drills have: which cases run, and the ledger line that says what came of them.

    DRILL_SHARE=1        all cases; without it a small share, drawn from DRILL_SEED, which fits into a test run
    DRILL_SEED=7         another share

    with Drill("redis-faults") as drill:
        for case in drill.thin(cases):
            drill.injected += 1
            ...                                  # drill.fired += 1 when the fault was seen to happen
            drill.ok += 1                        # or drill.clean_errors += 1
            drill.wrong("leaked", "what, where") # and the drill fails, when all cases are done

A fault that did not fire is a failure, like everything of `BAD`. The line is printed and kept in build/drills/NAME.json.
"""

import collections
import json
import os
import random

SHARE = float(os.environ.get("DRILL_SHARE", "0.05"))
SEED = int(os.environ.get("DRILL_SEED", "1"))
RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "drills")
BAD = ("deaths", "lost", "duplicated", "resurrected", "wrong_user", "leaked", "failed_open", "stuck")


class Drill:
    def __init__(self, name, deaths_expected=False):
        """deaths_expected: the drill ends workers itself, so their number is told and not held against it."""
        self.name = name
        self.deaths_expected = deaths_expected
        self.injected = self.fired = self.ok = self.clean_errors = self.deaths = 0
        self.random = random.Random(f"{SEED} {name}")
        self._wrong = collections.defaultdict(list)

    def thin(self, cases, share=None, least=1):
        """Those of the cases that run this time, in their order: the share, and at least so many."""
        cases = list(cases)
        wanted = min(len(cases), max(least, round(len(cases) * max(SHARE, share or 0))))
        chosen = set(self.random.sample(range(len(cases)), wanted))
        return [case for number, case in enumerate(cases) if number in chosen]

    def wrong(self, kind, what):
        assert kind in BAD, kind
        self._wrong[kind].append(what)

    def count(self, kind):
        return len(self._wrong[kind]) + (self.deaths if kind == "deaths" else 0)

    def line(self):
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.figures().items())

    def figures(self):
        return {"injected": self.injected, "fired": self.fired, "ok": self.ok, "clean_errors": self.clean_errors,
                **{kind: self.count(kind) for kind in BAD}}

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        print(f"\n{self.name}: {self.line()}")
        os.makedirs(RESULTS, exist_ok=True)
        with open(os.path.join(RESULTS, f"{self.name}.json"), "w", encoding="utf-8") as file:
            json.dump({"share": SHARE, "seed": SEED, **self.figures(), "wrong": self._wrong}, file, indent=1)
        if error is not None:
            return
        assert not any(self._wrong.values()), "\n".join(f"{kind}: {what}" for kind, all_ in self._wrong.items() for what in all_)
        assert self.deaths == 0 or self.deaths_expected, f"{self.deaths} workers died"
        assert self.injected > 0 and self.fired == self.injected, \
            f"{self.injected} faults were injected, {self.fired} fired: a fault that does not fire tests nothing"
