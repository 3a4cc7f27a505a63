"""The leak scan: looks for secrets, in every spelling that a program might give them, in all that was written."""

import base64
import os
import re
import urllib.parse

MARKER = b"MARKER"
HEAD = 16  # so many first bytes of a recorded spelling are looked up
OVERLAP = 8192  # a file is read again from so far before its end, for a secret that was half written
WORD = re.compile(rb"[0-9A-Za-z+/_=.~\\%%-]{%d,}" % HEAD)


class Leak(AssertionError):
    """A secret stands where it must not."""


def base64_forms(secret):
    """The characters that base64 makes of `secret` wherever it begins in the encoded text, in both alphabets."""
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret + b"\0\0")
        sure = encoded[-(-before * 8 // 6):(before + len(secret)) * 8 // 6]
        forms.add(sure)
        forms.add(sure.replace(b"+", b"-").replace(b"/", b"_"))
    return forms


def spellings(secret):
    hexadecimal = secret.hex().encode()
    return {secret, urllib.parse.quote(secret, safe="").encode(), secret.replace(b"/", rb"\/"),
            hexadecimal, hexadecimal.upper(), *base64_forms(secret)}


class Scanner:
    """Knows the marker, which every secret of the tests holds, and those secrets that cannot hold it."""

    def __init__(self):
        self._marked = re.compile(b"|".join(map(re.escape, sorted(spellings(MARKER)))))
        self._words = {}  # the first bytes of spellings -> {spelling: what}; thousands of them cost no time
        self._bytes = {}  # spellings that are no text
        self._seen = {}

    def record(self, secret, what):
        """A secret without the marker, such as a key or a nonce."""
        secret = secret.encode() if isinstance(secret, str) else secret
        assert len(secret) >= HEAD, "too short to be told from chance"
        for spelling in spellings(secret):
            if WORD.fullmatch(spelling):
                self._words.setdefault(spelling[:HEAD], {})[spelling] = what
            else:
                self._bytes[spelling] = what

    def find(self, data):
        """What leaks in `data`: a list of (what, an excerpt with nothing after the find)."""
        found = [("a marked secret", self._excerpt(data, match.start())) for match in self._marked.finditer(data)]
        for spelling, what in self._bytes.items():
            place = data.find(spelling)
            if place >= 0:
                found.append((what, self._excerpt(data, place)))
        if self._words:
            found += self._find_words(data)
        return found

    def _find_words(self, data):
        for match in WORD.finditer(data):
            for place in range(match.start(), match.end() - HEAD + 1):
                for spelling, what in self._words.get(data[place:place + HEAD], {}).items():
                    if data.startswith(spelling, place):
                        yield what, self._excerpt(data, place)

    @staticmethod
    def _excerpt(data, place):
        return data[max(0, place - 120):place + 24].decode("utf-8", "backslashreplace")

    def check(self, data, where):
        found = self.find(data)
        if found:
            lines = "\n".join(f"  {what}: …{excerpt}…" for what, excerpt in found[:5])
            raise Leak(f"{len(found)} leaks in {where}:\n{lines}")
        return len(data)

    def check_files(self, directory, skip=(), whole=True):
        """Every file below `directory`, or what was written since the last time; returns how many bytes were looked at."""
        total = 0
        for folder, folders, files in os.walk(directory):
            folders[:] = [each for each in folders if os.path.join(folder, each) not in skip]
            for name in files:
                path = os.path.join(folder, name)
                if path in skip or not os.path.isfile(path) or os.path.islink(path):
                    continue
                with open(path, "rb") as file:
                    file.seek(0 if whole else max(0, self._seen.get(path, 0) - OVERLAP))
                    total += self.check(file.read(), os.path.relpath(path, directory))
                    self._seen[path] = file.tell()
        return total
