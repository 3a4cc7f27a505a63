"""The mutants, as the files beside this one have them. Form of such a file:

    # what a check is good for (a comment)
    [name] fcgi/file.c
    - the text before, as it stands in the file
    + the text after; none where the text goes away
    ? tests/unit/test_file.c or tests/service/test_file.py::test_name, one or more: what must fail

The lines of a text are joined by line ends; what stands behind the sign and one blank counts, all of it.
"""

import dataclasses
import glob
import os
import re

FOLDER = os.path.dirname(os.path.abspath(__file__))
HEAD = re.compile(r"\[([a-z0-9-]+)\] ((?:fcgi|common|nginx|deploy)/(?:[a-z0-9_.-]+/)*[a-z0-9_.-]+)")
UNIT = re.compile(r"tests/unit/(test_[a-z0-9_]+)\.c")
PYTEST = re.compile(r"tests/(?:service|drills|browser)/test_[a-z0-9_]+\.py(::.+)?")


class Wrong(Exception):
    """The table, or a mutant, cannot be used as it is."""


@dataclasses.dataclass
class Mutant:
    name: str
    file: str
    place: str  # where it stands in the table
    before: list = dataclasses.field(default_factory=list)
    after: list = dataclasses.field(default_factory=list)
    tests: list = dataclasses.field(default_factory=list)

    def check(self):
        if not self.before or not self.tests or self.before == self.after:
            raise Wrong(f"{self.place}: {self.name} needs a text before, another after, and a test")
        for test in self.tests:
            path = test.split("::")[0]
            if not (UNIT.fullmatch(test) or PYTEST.fullmatch(test)) or not os.path.exists(os.path.join(FOLDER, "../..", path)):
                raise Wrong(f"{self.place}: {self.name}: there is no test {test}")

    def units(self):
        return [UNIT.fullmatch(test)[1] for test in self.tests if UNIT.fullmatch(test)]

    def pytests(self):
        return [test for test in self.tests if not UNIT.fullmatch(test)]

    def apply(self, text):
        """The file's text with the mutation; Wrong where the text before is not there once."""
        before, after = "\n".join(self.before), "\n".join(self.after)
        count = text.count(before)
        if count != 1:
            raise Wrong(f"{self.place}: {self.name}: its text occurs {count} times in {self.file}, not once: "
                        "the code has changed, adapt the mutant")
        return text.replace(before, after)


def read_file(path):
    mutants = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file.read().splitlines(), 1):
            place = f"tests/mutants/{os.path.basename(path)}:{number}"
            head = HEAD.fullmatch(line)
            sign, text = line[:1], line[2:]
            if head:
                mutants.append(Mutant(head[1], head[2], place))
            elif sign in ("", "#"):
                continue
            elif sign not in "-+?" or line[1:2] not in ("", " ") or not mutants:
                raise Wrong(f"{place}: this is no line of a mutant")
            elif sign == "?":
                mutants[-1].tests += text.split()
            else:
                {"-": mutants[-1].before, "+": mutants[-1].after}[sign].append(text)
    return mutants


def read_all():
    mutants = [mutant for path in sorted(glob.glob(os.path.join(FOLDER, "*.txt"))) for mutant in read_file(path)]
    names = [mutant.name for mutant in mutants]
    for mutant in mutants:
        mutant.check()
        if names.count(mutant.name) > 1:
            raise Wrong(f"{mutant.place}: there are two mutants {mutant.name}")
    return mutants
