#!/usr/bin/python3 -B
"""How fcgi/ and common/ are put together: includes go one way and in no circle, a private header stays in its module,
no file is long, and no old name comes back. Prints every offence; fails when there is one."""

import os
import re
import subprocess
import sys

LINES = 450

# From top to bottom: a file includes only from its own layer and from those below it. A name stands for the .c and the .h.
LAYERS = [
    ("the program", r"fcgi/main"),
    ("commands", r"fcgi/cmd(_\w+)?"),
    ("supervisor", r"fcgi/(supervisor|listen)"),
    ("worker", r"fcgi/(worker|sandbox)(_\w+)?"),
    ("fastcgi", r"fcgi/fastcgi(_\w+)?"),
    ("router", r"fcgi/router"),
    ("access and routes", r"fcgi/(access|route(_\w+)?)"),
    ("tokens", r"fcgi/tokens(_\w+)?"),
    ("stores", r"fcgi/store(_\w+)?"),
    ("calls to providers", r"fcgi/(provider_call|provider_userinfo|signing_keys)"),
    ("what a request and a worker have", r"fcgi/(app|app_metrics|request|response|task|api_error|hints|waits)"),
    ("settings", r"fcgi/config(_\w+)?"),
    ("provider files", r"fcgi/provider(_file)?"),
    ("mechanism", r"common/\w+"),
]

# (file, what it includes): why it may.
EXCEPTIONS = {
    ("fcgi/task.h", "fcgi/store.h"): "whose connection a task is about",
    ("fcgi/request.h", "fcgi/store_caller.h"): "the caller that access.c found",
    ("fcgi/request.h", "fcgi/store_session.h"): "the session that access.c found",
    ("fcgi/response.c", "fcgi/store_integration.h"): "a record's JSON form, which several routes answer",
    ("fcgi/app.c", "fcgi/signing_keys.h"): "app_open opens everything that app.h only points to",
}

# Commands use tokens and stores, never routes. The parent counts requests by route, so it needs the router's names.
COMMANDS_NEVER = r"fcgi/(access|route\w*)\.h"
COMMANDS_EXCEPT = {("fcgi/cmd_serve.c", "fcgi/router.h")}

OLD = (r"tokens_let_go|let_all_go|records_ahead|take_ahead|guesses_\w*|store_unrevoked|struct principal|principal\.user|"
       r"struct forgotten|hand_over|handed_out|token_wish|token_verdict|tokens_meaning|series_open|redis_form|"
       r"store_failure|\w+_link\.h|store_common|config_read\.h|flights_open|workers\.c|fcgi/gateway\.[ch]")

offences = []


def offend(*words):
    offences.append(" ".join(words))


def tracked(*folders):
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *folders], capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.split("\n") if path and os.path.exists(path)]


def text_of(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:  # a picture or a font
        return ""


def layer(path):
    name = os.path.splitext(path)[0]
    for number, (_, pattern) in enumerate(LAYERS):
        if re.fullmatch(pattern, name):
            return number
    offend(path, "is in no layer of tests/tools/layers.py")
    return None


def module(path):
    """The files that share a private header: those in one folder whose names begin with the same word."""
    return re.match(r"\w+/[a-z0-9]+", path)[0]


def check_order(includes):
    for path, included in includes:
        here, there = layer(path), layer(included)
        if here is None or there is None or (path, included) in EXCEPTIONS:
            continue
        if there < here:
            offend(path, "includes", included + ":", LAYERS[there][0], "are above", LAYERS[here][0])
        if path.startswith("fcgi/cmd") and re.fullmatch(COMMANDS_NEVER, included) and (path, included) not in COMMANDS_EXCEPT:
            offend(path, "includes", included + ": a command uses no route")
        if included.endswith("_internal.h") and module(path) != module(included):
            offend(path, "includes", included + ", the private header of another module")
    for exception in [*EXCEPTIONS, *COMMANDS_EXCEPT]:
        if exception not in includes:
            offend("tests/tools/layers.py excepts", " -> ".join(exception) + ", which the code no longer has")


def check_circles(includes):
    """Circles of files, the .c and the .h of a name being one: only inside a module with a private header."""
    private = {module(path) for path in tracked("fcgi", "common") if path.endswith("_internal.h")}
    graph = {}
    for path, included in includes:
        one, other = os.path.splitext(path)[0], os.path.splitext(included)[0]
        inside = module(one) == module(other) and module(one) in private
        if one != other and not inside and (path, included) not in EXCEPTIONS:
            graph.setdefault(one, set()).add(other)
    done = set()

    def walk(name, way):
        if name in way:
            offend("a circle of includes:", " -> ".join([*way[way.index(name):], name]))
        elif name not in done:
            for other in sorted(graph.get(name, ())):
                walk(other, [*way, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])


os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sources = [path for path in tracked("fcgi", "common") if path.endswith((".c", ".h"))]
found = {(path, included) for path in sources for included in re.findall(r'(?m)^ *# *include *"((?:fcgi|common)/[^"]+)"', text_of(path))}
check_order(found)
check_circles(found)
for path in tracked("fcgi", "common", "nginx"):
    length = text_of(path).count("\n")
    if length > LINES:
        offend(path, "has", str(length), "lines, more than", str(LINES))
for path in tracked("fcgi", "common", "nginx", "tests"):
    if path == "tests/tools/layers.py":
        continue
    for number, line in enumerate([path, *text_of(path).split("\n")]):
        for name in re.findall(r"\b(?:%s)\b" % OLD, line):
            offend(f"{path}:{number}: {name} is an old name")
print("\n".join(sorted(set(offences))) if offences else f"layers: {len(sources)} files are in order")
sys.exit(bool(offences))
