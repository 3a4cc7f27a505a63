"""The drills' own rules: a share that a seed repeats, and a line that cannot hide anything."""

import pytest

import drill as drills
from drill import Drill


def test_the_same_seed_draws_the_same_cases(monkeypatch):
    monkeypatch.setattr(drills, "SHARE", 0.05)  # `make torture` draws all
    assert Drill("one").thin(range(1000)) == Drill("one").thin(range(1000)) != Drill("two").thin(range(1000))
    assert len(Drill("one").thin(range(3), least=2)) >= 2


@pytest.mark.parametrize("spoil", [
    lambda drill: drill.wrong("leaked", "somewhere"), lambda drill: setattr(drill, "fired", 1),
    lambda drill: setattr(drill, "deaths", 1), lambda drill: (setattr(drill, "injected", 0), setattr(drill, "fired", 0))])
def test_a_drill_fails_for_anything_bad(spoil):
    with pytest.raises(AssertionError):
        with Drill("self-test") as drill:
            drill.injected = drill.fired = drill.ok = 2
            spoil(drill)


def test_a_good_drill_passes():
    with Drill("self-test") as drill:
        drill.injected = drill.fired = 2
        drill.ok = drill.clean_errors = 1
    assert drill.line() == ("injected 2, fired 2, ok 1, clean errors 1, deaths 0, lost 0, duplicated 0, resurrected 0, "
                            "wrong user 0, leaked 0, failed open 0, stuck 0")
