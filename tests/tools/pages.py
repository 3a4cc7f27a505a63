#!/usr/bin/python3
"""Checks how the pages (*.md) are written: sentences of at most 25 words, lengths, links that lead somewhere, and shell
that parses."""

import os
import re
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
WORDS = 25
FIRST_PAGE = range(170, 231)
LINES = 299
found = []


def blocks(text):
    """The page without its fenced blocks, each line in its place, and the blocks as (line, language, text)."""
    prose, fenced, language = [], [], None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if language is None:
                language = line[3:].strip()
                fenced.append((number, language, []))
            else:
                language = None
            prose.append("")
        elif language is not None:
            fenced[-1][2].append(line)
            prose.append("")
        else:
            prose.append(line)
    return prose, [(number, language, "\n".join(lines) + "\n") for number, language, lines in fenced]


def paragraphs(prose):
    """Each with the line that it begins on: a list item is one; tables, headings, pictures and indented code are none."""
    begins, lines = 0, []
    for number, line in enumerate([*prose, ""], 1):
        item = re.match(r"\s*([-*]|\d+\.)\s+", line)
        other = not line.strip() or re.match(r"(\||#|!\[|    \s*\S|<)", line) and not (lines and line.startswith("    "))
        if lines and (item or other):
            yield begins, " ".join(lines)
            lines = []
        if other:
            continue
        if not lines:
            begins = number
        lines.append(line[item.end():] if item else line.strip())


def sentences(paragraph):
    plain = re.sub(r"`[^`]*`", "code", paragraph)
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain).replace("**", "")
    return re.split(r"(?<=[.!?])[)\"]*\s+", plain)


def anchors(text):
    """As GitHub makes them of headings."""
    for heading in re.findall(r"^#+ +(.*)$", "\n".join(blocks(text)[0]), re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def check_sentences(path, prose):
    for number, paragraph in paragraphs(prose):
        for sentence in sentences(paragraph):
            count = len(re.findall(r"\S*\w\S*", sentence))
            if count > WORDS:
                found.append(f"{path}:{number}: a sentence has {count} words, more than {WORDS}: {sentence[:60]}…")


def check_length(path, count):
    if path == "README.md" and count not in FIRST_PAGE:
        found.append(f"{path}: has {count} lines; {FIRST_PAGE[0]} to {FIRST_PAGE[-1]} are wanted")
    if count > LINES:
        found.append(f"{path}: has {count} lines, more than {LINES}: split it")


def check_links(path, prose):
    for number, line in enumerate(prose, 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
            if not os.path.exists(file):
                found.append(f"{path}:{number}: {target} leads to no file")
            elif anchor and anchor not in anchors(open(file, encoding="utf-8").read()):
                found.append(f"{path}:{number}: {target} leads to no heading")


def check_shell(path, fenced):
    for number, language, text in fenced:
        if language != "sh":
            continue
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0 or done.stderr:
            found.append(f"{path}:{number}: bash cannot read this block: {done.stderr.strip()}")


def main():
    pages = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
                           capture_output=True, text=True, check=True).stdout.split()
    for path in pages:
        text = open(path, encoding="utf-8").read()
        prose, fenced = blocks(text)
        check_sentences(path, prose)
        check_length(path, text.count("\n"))
        check_links(path, prose)
        check_shell(path, fenced)
    for each in found:
        print(each)
    print(f"{0 if found else 1} passed, {len(found)} failed")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
