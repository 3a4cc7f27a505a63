#!/usr/bin/python3
"""Checks the README's tables against the code: every file, setting, command, route and Redis key stands in it."""

import glob
import os
import re
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
README = open("README.md", encoding="utf-8").read()
missing = []


def read(path):
    return open(path, encoding="utf-8").read()


def need(kind, name, *spellings):
    if not any(spelling in README for spelling in spellings or (name,)):
        missing.append(f"{kind} {name}")


def files():
    listed = subprocess.run(["git", "ls-files", "fcgi", "common", "nginx/*.conf", "nginx/install.sh", "deploy/*.sh"],
                            capture_output=True, text=True, check=True).stdout.split()
    for path in listed:
        name = os.path.basename(path)
        stem, ending = os.path.splitext(name)
        pair = f"`{stem}.[ch]`"
        gateway = "`integrations-gateway*.conf`" if name.startswith("integrations-gateway") else f"`{name}`"
        if ending in (".c", ".h"):
            need("file", path, f"`{name}`", pair)
        else:
            need("file", path, gateway)
    # And the other way round: what the README names is there.
    for name in re.findall(r"`([a-z0-9_]+\.(?:c|h|\[ch\]))`", README):
        stem = name.split(".")[0]
        ends = ["c", "h"] if name.endswith("[ch]") else [name.rsplit(".", 1)[1]]
        for end in ends:
            if not glob.glob(f"fcgi/{stem}.{end}") + glob.glob(f"common/{stem}.{end}"):
                missing.append(f"in the code: {stem}.{end}, which the README names")


def settings():
    for path in glob.glob("fcgi/config*.c"):
        for name in re.findall(r'config_[a-z_]+\([^;]*?"([A-Z][A-Z_]{3,})"', read(path)):
            need("setting", name, f"`{name}`")


def commands():
    for name in re.findall(r'^    \{"([a-z]+)", cmd_', read("fcgi/main.c"), re.M):
        need("command", name, f"`integrations {name}", f"`{name} ")


def routes():
    text = read("fcgi/router.c")
    for name, value in re.findall(r'#define ([A-Z]+) "(/[^"]+)"', text):
        text = text.replace(f'{name} "', f'"{value}').replace(f", {name},", f', "{value}",')
    for pattern in re.findall(r'\{SERVER_[A-Z]+, "(/[^"]+)"', text):
        short = pattern.replace("/api/organizations/{organization_id}/integrations/", "…/integrations/")
        rest = pattern.replace("{rest}", "…")
        need("route", pattern, pattern, short, rest)


def keys():
    for path in glob.glob("fcgi/store_*.c"):
        text = read(path)
        for kind in re.findall(r'store_key_[a-z]+\([^;"]*"([a-z_:]+)"', text) + \
                re.findall(r'#define KIND "([a-z_:]+)"', text) + \
                re.findall(r'"(refresh_lease|integrations:[a-z_]+)', text):
            need("Redis key", kind, f"`{kind}:")


files()
settings()
commands()
routes()
keys()
for each in missing:
    print(f"README.md lacks the {each}" if not each.startswith("in the code") else each)
print(f"{0 if missing else 1} passed, {len(missing)} failed")
sys.exit(1 if missing else 0)
