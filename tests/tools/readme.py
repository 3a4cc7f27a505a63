#!/usr/bin/python3
"""Checks the pages' tables against the code, both ways: each file, setting, value of nginx/install.sh, command, route,
Redis key, error code, status_reason, log event, metric, audit event and outbound address stands in its page, and what
stands there is in the code."""

import glob
import json
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
wrong = []


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def sources(*patterns):
    return "\n".join(read(path) for pattern in patterns for path in sorted(glob.glob(pattern)))


def section(page, heading):
    """What stands under a heading, up to the next one of the same depth or a higher one."""
    text = read(page)
    begin = re.search(rf"^(#+) {re.escape(heading)}$", text, re.M)
    if begin is None:
        sys.exit(f"{page} has no heading: {heading}")
    end = re.search(rf"^#{{1,{len(begin[1])}}} ", text[begin.end():], re.M)
    return text[begin.end():begin.end() + end.start() if end else None]


def first_column(text):
    """Every `name` in the first cell of each row."""
    for row in re.findall(r"^\| (`[^|]*)", text, re.M):
        yield from re.findall(r"`([^`]+)`", row)


def compare(page, kind, in_code, in_page):
    in_code, in_page = set(in_code), set(in_page)
    if not in_code:
        wrong.append(f"the code has no {kind}: the check looks in the wrong place")
    wrong.extend(f"{page} lacks the {kind} {name}" for name in sorted(in_code - in_page))
    wrong.extend(f"{page} has the {kind} {name}, which is not in the code" for name in sorted(in_page - in_code))


def files(page, folder, *patterns):
    listed = subprocess.run(["git", "ls-files", *patterns], capture_output=True, text=True, check=True).stdout.split()
    named = set()
    for name in first_column(section(page, "The files") if folder != "common" else read(page)):
        stem, _, ending = name.partition(".")
        named.update(f"{folder}/{stem}.{end}" for end in (("c", "h") if ending == "[ch]" else (ending,)))
    compare(page, "file", [each for each in listed if "/www/" not in each and not each.endswith(".md")],
            [each for each in named if "." in each])


def settings():
    page = "deploy/SETTINGS.md"
    names = set(re.findall(r'(?:config|read)_[a-z_]+\([^;]*?"([A-Z][A-Z0-9_]{3,})"', sources("fcgi/config*.c")))
    names.update(re.findall(r'\bname\[\] = "([A-Z][A-Z0-9_]+)"', sources("fcgi/config*.c")))
    in_code = {re.sub("^CLIENT_", "GOOGLE_CLIENT_", name) for name in names if name.removesuffix("_FILE") not in names - {name}}
    compare(page, "setting", in_code, first_column(read(page).split("## Provider files")[0]))
    members = re.search(r"#define MEMBERS(.*?)\n#define", read("fcgi/provider_file.c"), re.S)[1]
    compare(page, "member of a provider file", re.findall(r"[a-z_]+", members), first_column(section(page, "Provider files")))


def commands():
    page = "deploy/COMMANDS.md"
    in_page = [name.split()[1] for name in first_column(read(page)) if name.startswith("integrations ")]
    compare(page, "command", re.findall(r'^    \{"([a-z]+)", cmd_', read("fcgi/main.c"), re.M), in_page)


def routes():
    page, text = "fcgi/API.md", read("fcgi/router.c")
    for name, value in re.findall(r'#define ([A-Z]+) "(/[^"]+)"', text):
        text = text.replace(f'{name} "', f'"{value}').replace(f", {name},", f', "{value}",')
    in_page = [re.sub(r"^[A-Z]+ ", "", each).replace("/…", "/{rest}").replace("…", "/api/organizations/{organization_id}")
               for each in first_column(section(page, "Routes"))]
    compare(page, "route", re.findall(r'\{SERVER_[A-Z]+, "(/[^"]+)"', text), in_page)


def keys():
    page, text = "fcgi/README.md", sources("fcgi/store_*.c")
    kinds = (re.findall(r'(?:store|grant)_key[a-z_]*\([^;"]*"([a-z_:]+)"', text) + re.findall(r'#define KIND "([a-z_:]+)"', text) +
             re.findall(r'"(refresh_lease|integrations:[a-z_]+)', text) + re.findall(r'arena_join\(arena, "(events):', text))
    in_page = [each.split("{")[0].split("<")[0].rstrip(":") for each in first_column(section(page, "Redis keys"))]
    # The last part of a counter's name is its caller's.
    in_code, in_page = ([re.sub("^(integrations:limit):.*", r"\1", each.rstrip(":")) for each in names] for names in (kinds, in_page))
    compare(page, "Redis key", in_code, in_page)


def api():
    page, text = "fcgi/API.md", sources("fcgi/*.c", "common/*.c")
    compare(page, "error code", re.findall(r'^    \d{3},\n    "([a-z_]+)"', text, re.M),
            first_column(section(page, "Error codes")))
    for code, status in re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", section(page, "Error codes"), re.M):
        if not re.search(rf'^    {status},\n    "{code}"', text, re.M):
            wrong.append(f"{page}: {code} has another status than {status}")
    reasons = re.findall(r'\[TOKEN_[A-Z]+\] = \{"[a-z]+", "([a-z_]+)"', text)
    compare(page, "status_reason", reasons, first_column(section(page, "The record").split("`status_reason` |")[1]))


def events():
    page, text = "fcgi/EVENTS.md", sources("fcgi/*.c", "fcgi/lua/*.lua", "common/*.c")
    logged = (re.findall(r'log(?:_begin|_message)?\([^;]*?LOG_LEVEL_[A-Z]+,\s*"([a-z_]+)"', text) +
              re.findall(r'redis_complain\([a-z]+, "([a-z_]+)"', text))
    compare(page, "log event", set(logged), first_column(section(page, "The log")))
    compare(page, "metric", set(re.findall(r'"(integrations_[a-z_]+)"', text)), first_column(section(page, "Metrics")))
    audit = (re.findall(r'store_event_(?:append|append_known|use)\([^;"]*, "([a-z_]+)"', text) +
             re.findall(r"'event', '([a-z_]+)'", text))
    compare(page, "audit event", set(audit), first_column(section(page, "The audit")))


def nginx_values():
    page = "nginx/README.md"
    compare(page, "value of install.sh", re.findall(r"^\t([A-Z][A-Z0-9_]+)=[a-z*]+(?: \||\))", read("nginx/install.sh"), re.M),
            first_column(section(page, "Values")))


def outbound():
    page, provider = "deploy/README.md", json.loads(read("deploy/providers/google.json"))
    addresses = [value for value in provider.values() if isinstance(value, str) and value.startswith("https://")]
    hosts = {urlsplit(each).hostname for each in [*addresses, *(mcp["upstream"] for mcp in provider["mcps"])]}
    compare(page, "outbound address", hosts, re.findall(r"`([a-z0-9.]+\.googleapis\.com|accounts\.google\.com)`", section(page, "Firewall")))


files("fcgi/README.md", "fcgi", "fcgi")
files("common/README.md", "common", "common")
files("nginx/README.md", "nginx", "nginx")
settings()
commands()
routes()
keys()
api()
events()
nginx_values()
outbound()
for each in wrong:
    print(each)
print(f"{0 if wrong else 1} passed, {len(wrong)} failed")
sys.exit(1 if wrong else 0)
