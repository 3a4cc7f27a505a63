#!/usr/bin/python3
"""Prints which part of each file's lines and branches was run, and compares the whole with the bounds of coverage.cfg.

    tests/tools/coverage.py COVERAGE.json COVERAGE.cfg        the first is gcovr's; tests/tools/coverage.sh makes it
    tests/tools/coverage.py COVERAGE.json COVERAGE.cfg FILE   the lines of FILE that have something left to be run

An exclusion takes lines out, with their branches. One that matches no line, or only lines of which all was run, is an error:
the list holds what cannot be run, and nothing else.
"""

import json
import sys


class Tally:
    def __init__(self):
        self.lines = self.lines_run = self.branches = self.branches_run = 0

    def add(self, other):
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def take(self, line):
        self.lines += 1
        self.lines_run += line["count"] > 0
        self.branches += len(line["branches"])
        self.branches_run += sum(branch["count"] > 0 for branch in line["branches"])

    def row(self, name):
        part = [100.0 * run / all_ if all_ else 100.0
                for run, all_ in ((self.lines_run, self.lines), (self.branches_run, self.branches))]
        return (f"{name:34} {self.lines_run:5d} of {self.lines:5d} lines {part[0]:6.1f} %  "
                f"{self.branches_run:5d} of {self.branches:5d} branches {part[1]:6.1f} %"), part


def is_whole(line):
    return line["count"] > 0 and all(branch["count"] > 0 for branch in line["branches"])


def read_settings(path):
    """The bounds, and the exclusions as (file, text of the line, reason)."""
    bounds, exclusions = {}, []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            if not text.strip() or text.startswith("#"):
                continue
            fields = [field.strip() for field in text.split(" | ")]
            if len(fields) == 3 and all(fields):
                exclusions.append(tuple(fields))
            elif len(fields) == 1 and len(text.split()) == 2:
                bounds[text.split()[0]] = float(text.split()[1])
            else:
                sys.exit(f"{path}:{number}: neither `lines N`, `branches N` nor `FILE | TEXT OF THE LINE | REASON`")
    return bounds, exclusions


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        files = sorted(json.load(file)["files"], key=lambda each: each["file"])
    bounds, exclusions = read_settings(sys.argv[2])
    total, used, wrong, excluded = Tally(), {each: False for each in exclusions}, [], 0
    for each in files:
        with open(each["file"], encoding="utf-8") as file:
            source = file.read().split("\n")
        tally, here = Tally(), [exclusion for exclusion in exclusions if exclusion[0] == each["file"]]
        for line in each["lines"]:
            if line["gcovr/noncode"]:
                continue
            text = source[line["line_number"] - 1]
            hits = [exclusion for exclusion in here if exclusion[1] in text]
            for exclusion in hits:
                used[exclusion] = used[exclusion] or not is_whole(line)
            if hits:
                excluded += 1
                continue
            tally.take(line)
            if each["file"] in sys.argv[3:] and not is_whole(line):
                print(f"{each['file']}:{line['line_number']}: {line['count']} times,",
                      " ".join(str(branch["count"]) for branch in line["branches"]), "|", text.strip())
        total.add(tally)
        if len(sys.argv) == 3:
            print(tally.row(each["file"])[0])
    for exclusion, was_used in used.items():
        if not was_used:
            wrong.append(f"excluded for nothing: {' | '.join(exclusion[:2])}")
    row, part = total.row(f"all but {excluded} excluded lines")
    print(row)
    for name, value in zip(("lines", "branches"), part):
        if value < bounds[name]:
            wrong.append(f"{value:.1f} % of the {name}, and {bounds[name]:g} % are wanted")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


main()
