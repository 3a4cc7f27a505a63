"""The program as operators use it: what each command prints, stores and returns."""

import base64
import json
import secrets
import subprocess
import threading
import time

import pytest

from harness import PROGRAM, Session, good, problem, wait_until, write_file
from programs import entries

USAGE, SETTINGS = 64, 78


def last_line(done):
    return done.stdout.splitlines()[-1]


def sign_in(product, *arguments, via="cookie"):
    token = last_line(product.command("session", "create", *arguments))
    product.scanner.record(token, "a session token")
    return Session(product, token, arguments[arguments.index("--user") + 1], via)


def create_caller(product, *arguments):
    key = last_line(product.command("caller", "create", *arguments))
    product.scanner.record(key, "a caller's key")
    return key


def ask_token(product, key, user="ada", organization="acme", **more):
    return product.request("POST", f"/internal/organizations/{organization}/users/{user}/integrations/google/token",
                           bearer=key, json={}, internal=True, may_hold_token=True, **more)


def key_line(product, name):
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    product.scanner.record(key, "a key of the key ring")
    return f"{name}:{key}\n"


# Usage

@pytest.mark.parametrize("arguments", [
    (), ("nonsense",), ("version", "x"), ("check", "x"), ("keys",), ("keys", "old"), ("session",), ("session", "revoke"),
    ("session", "revoke", "a-token"), ("session", "create"), ("session", "create", "--user", "u"),
    ("session", "create", "--org", "acme"), ("session", "create", "--user", "a b", "--org", "acme"),
    ("session", "create", "--user", "u", "--org", "a:b:c"), ("session", "create", "--user", "u", "--org", "acme", "x"),
    ("session", "create", "--user", "u", "--org", "acme", "--ttl", "0s"),
    ("session", "create", "--user", "u", "--org", "acme", "--ttl", "8"),
    ("session", "create", "--user", "u", "--org", "acme", "--ttl", "11000d"),
    ("session", "create", "--user", "u", "--org", "acme", "--use", "gateway"),
    ("session", "create", "--user", "u", "--org", "acme", "--mcps", "gmail"),
    ("session", "create", "--user", "u", "--org", "acme", "--use", "all", "--mcps", "gmail"),
    ("session", "create", "--user", "u", "--org", "acme", "--name", "n" * 5000), ("list",), ("list", "--org"),
    ("list", "--org", "a:b"), ("list", "--org", "acme", "--user", "a*"), ("events",), ("events", "--org", "*"), ("remove",),
    ("remove", "--org", "acme", "--user", ""), ("restore", "--org", "acme"), ("caller",), ("caller", "create", "--name", "n"),
    ("caller", "create", "--name", "n", "--mcps", "gmail", "--orgs", "* acme"), ("caller", "revoke"), ("caller", "list", "x"),
])
def test_usage_mistakes(product, arguments):
    done = product.command(*arguments, check=False)
    assert (done.returncode, done.stdout) == (USAGE, ""), done
    assert done.stderr
    assert not product.stored()


def test_help_and_version(product):
    listed = product.command("--help").stdout
    for name in ("serve", "check", "session", "caller", "keys", "list", "events", "remove", "restore", "version"):
        assert f"integrations {name}" in listed
    assert product.command("version").stdout.startswith("integrations ")


def test_settings_mistakes(product):
    done = product.command("check", environment={"WORKERS": "none", "LOG_LEVEL": "loud"}, check=False)
    assert done.returncode == SETTINGS
    assert [line.split(" ")[:2] for line in done.stdout.splitlines()] == [["FAIL:", "WORKERS:"], ["FAIL:", "LOG_LEVEL:"]]
    done = product.command("list", "--org", "acme", environment={"REDIS_ADMIN_URL": "redis+cluster://a:1"}, check=False)
    assert done.returncode == SETTINGS
    assert "REDIS_ADMIN_URL" in done.stderr and "not built yet" in done.stderr


# check

def test_check_finds_all_well(product):
    done = product.command("check")
    assert "FAIL" not in done.stdout
    assert f"  google: {product.public_url}/integrations/google/callback\n" in done.stdout
    assert "issuer and endpoints are what the provider publishes" in done.stdout
    assert "keys can be read" in done.stdout


def test_check_as_the_workers(product):
    done = product.command("check", environment={"REDIS_URL": product.environment["REDIS_URL"]})
    assert "ok: REDIS_URL: Redis answers" in done.stdout
    assert "ok: REDIS_ADMIN_URL: Redis answers" in done.stdout


def test_check_reaches_redis_as_the_commands(product):
    own = {"REDIS_URL": product.environment["REDIS_URL"]}
    wrong = product.environment["REDIS_ADMIN_URL"].replace(product.redis_server.password, "MARKER-wrong")
    done = product.command("check", environment={**own, "REDIS_ADMIN_URL": wrong}, check=False)
    assert done.returncode == 1 and "MARKER" not in done.stdout + done.stderr
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL:")]
    assert found.startswith("FAIL: REDIS_ADMIN_URL: Redis does not answer")
    # Where it is the same connection it is asked once.
    assert "REDIS_ADMIN_URL" not in product.command("check", environment={**own, "REDIS_ADMIN_URL": ""}).stdout


def test_check_names_what_is_wrong(product, tmp_path):
    changed = dict(product.stand_in.provider, token_endpoint=product.stand_in.provider["token_endpoint"] + "2")
    write_file(str(tmp_path / "google.json"), json.dumps(changed))
    done = product.command("check", environment={"PROVIDERS_DIR": str(tmp_path)}, check=False)
    assert done.returncode == 1
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL:")]
    assert "token_endpoint" in found and "->" in found

    done = product.command("check", environment={"PROVIDER_CA_FILE": ""}, check=False)
    assert done.returncode == 1 and "FAIL: google:" in done.stdout


@pytest.mark.parametrize("url, cause", [
    ("redis://127.0.0.1:1/0", "Connection refused"),
    ("redis://no.such.host.invalid/0", "its name has no address"),
    ("unix:///no/such/redis.sock", "No such file or directory"),
])
def test_check_says_why_redis_cannot_be_reached(product, url, cause):
    done = product.command("check", environment={"REDIS_URL": url}, check=False)
    assert done.returncode == 1 and "FAIL: REDIS_URL: Redis does not answer" in done.stdout
    assert f'"cause":"{cause}"' in done.stderr


# session

def test_session_create_and_revoke(product):
    ada = sign_in(product, "--user", "ada", "--org", "acme:admin", "--org", "globex", "--email", "ada@example.com",
                  "--name", "Ada Lovelace", "--ttl", "15m")
    me = good(ada.get("/api/me"))
    assert me == {"user_id": "ada", "email": "ada@example.com", "name": "Ada Lovelace",
                  "organizations": [{"id": "acme", "role": "admin"}, {"id": "globex", "role": "member"}]}
    (key,) = product.redis.keys("session:*")
    row = product.redis.hgetall(key)
    assert len(row["sid"]) == 32 and "use" not in row
    assert 890 <= product.redis.ttl(key) <= 900

    other = product.command("session", "revoke", "-", stdin="another-token\n", check=False)
    assert other.returncode == 1
    product.command("session", "revoke", "-", stdin=ada.token + "\n")
    problem(ada.get("/api/me"), 401, "unauthenticated")
    assert product.command("session", "revoke", "-", stdin=ada.token, check=False).returncode == 1


def test_a_session_with_many_organizations(product):
    """As many as /api/me shows, with all that a session can have besides."""
    names = [f"o{number:03}" for number in range(1000)]
    ada = sign_in(product, "--user", "ada", "--email", "ada@example.com", "--name", "Ada", *[f"--org={name}:admin" for name in names])
    assert good(ada.get("/api/me"))["organizations"] == [{"id": name, "role": "admin"} for name in names]
    assert ada.list("o999") == []
    mate = sign_in(product, "--user", "ada", "--email", "ada@example.com", "--name", "Ada", "--use", "gateway", "--mcps", "gmail",
                   "--agent", "helper",
                   *[f"--org={name}" for name in names], via="bearer")
    assert product.redis.hlen(product.session_key(mate.token)) == 1007


def test_each_session_is_a_login_of_its_own(product):
    sign_in(product, "--user", "ada", "--org", "acme")
    sign_in(product, "--user", "ada", "--org", "acme")
    assert len({product.redis.hget(key, "sid") for key in product.redis.keys("session:*")}) == 2


def test_gateway_session(product):
    mate = sign_in(product, "--user", "ada", "--org", "acme", "--use", "gateway", "--mcps", "gmail google_drive",
                   "--agent", "helper-1", via="bearer")
    problem(mate.get("/api/me"), 401, "unauthenticated")
    (key,) = product.redis.keys("session:*")
    assert product.redis.hmget(key, "use", "mcps", "agent") == ["gateway", "gmail google_drive", "helper-1"]


# list

def test_list(product, ada, bob):
    assert product.command("list", "--org", "acme").stdout == ""
    record = ada.connect("acme", account="ada")
    other = bob.connect("acme", account="grace")
    ada.connect("globex", account="ada")
    listed = json.loads(product.command("list", "--org", "acme", "--json").stdout)["integrations"]
    assert listed == [record, other]
    listed = json.loads(product.command("list", "--org", "acme", "--user", "bob", "--json").stdout)["integrations"]
    assert listed == [other]

    title, first, second = product.command("list", "--org", "acme").stdout.splitlines()
    assert title.split() == ["USER", "SERVICE", "STATUS", "REASON", "ACCOUNT", "CONNECTED", "CHECKED"]
    assert first.split()[:4] == ["ada", "google", "valid", "-"]
    assert second.split()[0] == "bob"
    assert title.index("STATUS") == first.index("valid") == second.index("valid")


def test_list_shows_no_control_characters(product, ada):
    ada.connect("acme")
    for control in ("\x01", "\t", "\n", "\x1b[2J", "\x1f", "\x7f", "\x80", "\x9b31m", "\x9f"):
        product.redis.hset("integration:{acme:ada}:google", "oauth_email", f"a{control}@example.com")
        _, line = product.command("list", "--org", "acme").stdout.rstrip("\n").split("\n")
        assert "?" in line and line.isprintable()


def test_keys_of_no_member_are_left_alone(product, ada):
    ada.connect("acme")
    for key in ("integration:{acme:x y}:google", "integration:{acme:x}:Goo gle"):
        product.redis.hset(key, "id", "1")
    title, *lines = product.command("list", "--org", "acme").stdout.splitlines()
    assert title.startswith("USER") and [line.split()[0] for line in lines] == ["ada"]
    product.command("remove", "--org", "acme")
    assert sorted(product.redis.keys("removed:*")) == ["removed:{acme:ada}", "removed:{acme:x}"]


def test_list_shows_damaged_records(product, ada):
    ada.connect("acme")
    product.redis.hdel("integration:{acme:ada}:google", "status")
    assert product.command("list", "--org", "acme").stdout.splitlines()[1].split()[2:4] == ["unknown", "tokens_unreadable"]


# caller

def test_caller_life(product, ada):
    ada.connect("acme")
    key = create_caller(product, "--name", "runtime", "--mcps", "gmail google_drive", "--orgs", "acme", "--ttl", "12h")
    everywhere = create_caller(product, "--name", "batch", "--mcps", "gmail", "--orgs", "*")
    assert good(ask_token(product, key))["token_type"] == "Bearer"
    assert good(ask_token(product, everywhere))["oauth_user_id"]
    problem(ask_token(product, key, organization="globex"), 403, "caller_forbidden")

    listed = product.command("caller", "list").stdout.splitlines()
    assert [line.split(":")[0] for line in listed] == ["batch", "runtime"]
    assert "90 days" in listed[0] or "89 days" in listed[0]
    assert "gmail google_drive" in listed[1] and "acme" in listed[1]
    assert key not in "".join(listed)

    assert product.command("caller", "revoke", "--name", "runtime").stdout.startswith("1 key")
    problem(ask_token(product, key), 401, "unauthenticated")
    assert good(ask_token(product, everywhere))
    assert product.command("caller", "revoke", "--name", "runtime", check=False).returncode == 1


# keys

def test_keys_new(product):
    lines = {product.command("keys", "new").stdout for _ in range(5)}
    assert len(lines) == 5
    for line in lines:
        name, key = line.rstrip("\n").split(":")
        assert len(base64.b64decode(key, validate=True)) == 32 and 0 < len(name) <= 32


def test_keys_rotate(product, somebody, tmp_path):
    people = [somebody("acme") for _ in range(20)]
    for person in people:
        person.connect("acme")
    with open(product.keys_file, encoding="ascii") as file:
        old = file.read()
    both = str(tmp_path / "both")
    write_file(both, key_line(product, "k2") + old, 0o600)
    fields = ("access_token", "refresh_token")
    before = {key: product.redis.hgetall(key) for key in product.redis.keys("credential:*")}

    done = product.command("keys", "rotate", environment={"TOKEN_KEYS_FILE": both})
    assert "20 credentials: 20 sealed anew" in done.stdout and "under k2: 20 (first key)" in done.stdout
    for key, row in before.items():
        now = product.redis.hgetall(key)
        assert all(now[field].startswith("k2.") for field in fields)
        assert {**now, **dict.fromkeys(fields)} == {**row, **dict.fromkeys(fields)}
    again = product.command("keys", "rotate", environment={"TOKEN_KEYS_FILE": both})
    assert "0 sealed anew, 20 were current" in again.stdout

    # The old key opens nothing any more; rotating back proves that nothing was lost.
    lost = product.command("keys", "rotate", check=False)
    assert lost.returncode == 1 and "20 unreadable" in lost.stdout and "under k2: 20" in lost.stdout
    back = str(tmp_path / "back")
    with open(both, encoding="ascii") as file:
        write_file(back, "".join(reversed(file.readlines())), 0o600)
    assert "20 sealed anew" in product.command("keys", "rotate", environment={"TOKEN_KEYS_FILE": back}).stdout
    assert all(good(person.validate("acme"))["is_valid"] for person in people)


# events

def test_events(product, somebody):
    person = somebody("acme")  # workers count a use that they have seen in the last minute
    person.connect("acme")
    good(person.validate("acme"))
    good(person.disconnect("acme"))
    lines = wait_until(lambda: (lambda text: text if "disconnected" in text else None)(
        product.command("events", "--org", "acme").stdout), "the events are stored").splitlines()
    assert [line.split()[1] for line in lines] == ["connected", "validated", "disconnected"]
    assert all(f"by user:{person.user}" in line and "service google" in line for line in lines)
    assert product.command("events", "--org", "globex").stdout == ""


def test_events_pages_both_streams_by_time(product):
    with product.redis.pipeline() as pipeline:
        for number in range(1200):
            stream = "events:{acme}" if number % 3 else "events:{acme}:use"
            pipeline.xadd(stream, {"event": "validated", "request_id": f"r{number}"}, id=f"1700000000000-{number + 1}")
        pipeline.execute()
    lines = product.command("events", "--org", "acme").stdout.splitlines()
    assert [line.split()[-1] for line in lines] == [f"r{number}" for number in range(1200)]


def test_events_follow(product, ada):
    environment = {**product.environment, "REDIS_URL": product.redis_server.admin_url}
    with subprocess.Popen([PROGRAM, "events", "--org", "acme", "--follow"], env=environment, stdout=subprocess.PIPE,
                          text=True) as follower:
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(follower.stdout.readline, "")))
        reader.start()
        try:
            ada.connect("acme")
            wait_until(lambda: lines, "the first entry is shown")
            good(ada.disconnect("acme"))
            wait_until(lambda: len(lines) == 2, "the second entry is shown")
        finally:
            follower.terminate()
            reader.join()
    assert [line.split()[1] for line in lines] == ["connected", "disconnected"]


# remove, restore

def test_remove_and_restore(product, ada, bob):
    key = create_caller(product, "--name", "runtime", "--mcps", "gmail", "--orgs", "acme")
    ada.connect("acme", account="ada")
    bob.connect("acme", account="grace")
    waiting = ada.authorize("acme")
    good(ask_token(product, key))

    done = product.command("remove", "--org", "acme", "--user", "ada")
    assert "ada google: forgotten, revoked" in done.stdout
    assert "1 of 1 member removed, 1 connection forgotten, 1 revoked." in done.stdout
    assert "open before may go on for nginx's GATEWAY_STREAM_SECONDS (15 minutes if not set)" in done.stdout
    assert not done.stderr, "the audit entry is not called lost because the command ended"
    problem(ada.auth_link("acme"), 403, "organization_forbidden")
    problem(ada.callback("acme", waiting), 403, "organization_forbidden")
    problem(ask_token(product, key), 403, "organization_forbidden")
    assert not product.redis.keys("integration:{acme:ada}:*") and not product.redis.keys("credential:{acme:ada}:*")
    assert len(bob.list("acme")) == 1

    again = product.command("remove", "--org", "acme", "--user", "ada")
    assert "0 connections forgotten" in again.stdout
    removed = [(entry["user"], entry.get("service"), entry["outcome"]) for entry in entries(product)
               if entry["event"] == "removed" and entry["actor"] == "operator"]
    assert removed == [("ada", None, "barred"), ("ada", "google", "revoked")], "once each, though it was run twice"
    assert "service -  outcome barred" in product.command("events", "--org", "acme").stdout
    for _ in range(2):
        assert not product.command("restore", "--org", "acme", "--user", "ada").stderr
    assert [(entry["user"], entry["outcome"]) for entry in entries(product) if entry["event"] == "removed"][2:] == [("ada", "lifted")]
    assert ada.connect("acme", account="ada")["status"] == "valid"


def test_remove_everybody(product, ada, bob, somebody):
    ada.connect("acme", account="ada")
    ada.connect("globex", account="ada")
    bob.connect("acme", account="grace")
    late = somebody("acme")
    late.begin("acme")
    done = product.command("remove", "--org", "acme")
    assert "3 of 3 members removed, 2 connections forgotten" in done.stdout
    assert "ada google: forgotten, not revoked: another connection of this user needs the grant\n" in done.stdout
    assert "bob google: forgotten, revoked" in done.stdout
    problem(late.auth_link("acme"), 403, "organization_forbidden")
    assert good(ada.validate("globex"))["is_valid"]
    removed = [entry for entry in entries(product) if entry["event"] == "removed"]
    barred = [entry["user"] for entry in removed if "service" not in entry]
    assert barred == sorted(["ada", "bob", late.user]), "also who has no connection"
    forgotten = [(entry["user"], entry["outcome"]) for entry in removed if "service" in entry]
    assert forgotten == [("ada", "kept_shared"), ("bob", "revoked")]


def test_remove_with_the_provider_down(product, ada):
    ada.connect("acme")
    product.stand_in.fault("revoke", "status", status=503, times=9)
    done = product.command("remove", "--org", "acme", "--user", "ada")
    assert "not revoked" in done.stdout
    assert not product.redis.keys("credential:*")


def test_remove_of_a_service_that_is_no_longer_enabled(product, ada):
    ada.connect("acme")
    for kind in ("integration", "credential"):
        product.redis.rename(f"{kind}:{{acme:ada}}:google", f"{kind}:{{acme:ada}}:gone")
    done = product.command("remove", "--org", "acme")
    assert "ada gone: forgotten, not revoked" in done.stdout
    assert not product.redis.keys("integration:*") and not product.redis.keys("credential:*")


# Redis away

def test_commands_without_redis(product):
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0", "REDIS_ADMIN_URL": "redis://127.0.0.1:1/0"}
    started = time.monotonic()
    for arguments in (("list", "--org", "acme"), ("caller", "list"), ("keys", "rotate"), ("events", "--org", "acme"),
                      ("remove", "--org", "acme"), ("session", "create", "--user", "u", "--org", "acme")):
        done = product.command(*arguments, environment=nowhere, check=False)
        assert done.returncode == 1, done
        assert "Redis cannot be reached" in done.stderr
    assert time.monotonic() - started < 10
