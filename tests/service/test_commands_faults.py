"""The commands where something is wrong: arguments, answers of Redis and of a provider, what is stored."""

import os
import pty
import subprocess

import pytest

from cluster import Later
from harness import PROGRAM, wait_until
from programs import watched
from test_commands import USAGE, create_caller, key_line, last_line
from test_interrupted import admin

CREATE = ("caller", "create", "--name", "n", "--mcps", "gmail", "--orgs", "acme")
SESSION = ("session", "create", "--user", "u", "--org", "acme")


def operator(product, **more):
    return {**product.environment, "REDIS_URL": product.redis_server.admin_url, **more}


@pytest.mark.parametrize("arguments, word", [
    ((*CREATE[:3], "a b", *CREATE[4:]), "--name"), ((*CREATE[:5], "No", *CREATE[6:]), "--mcps"),
    ((*CREATE[:7], "a:b"), "--orgs"), ((*CREATE, "--ttl", "soon"), "soon"), ((*CREATE, "--ttl", "9999999999999d"), "--ttl"),
    ((*CREATE, "--color"), "--color"), ((*CREATE, "--ttl"), "--ttl"), ((*CREATE, "x"), "unexpected argument"),
    ((*CREATE[:3], "n" * 5000), "4096"), (("caller", "revoke", "--name", "*"), "--name"),
    (("list", "--org", "acme", "x"), "unexpected argument"), (("list", "--color"), "--color"),
    (("events", "--org", "acme", "x"), "unexpected argument"), (("events", "--color"), "--color"),
    (("remove", "--org", "acme", "x"), "unexpected argument"), (("restore", "--color"), "--color"),
    (("list", "--org", "a b"), "--org"), (("events",), "--org"), (("list", "--org", "acme", "--follow"), "--follow"),
    (("remove", "--org", "acme", "--user", "*"), "--user"), (("restore", "--org", "acme"), "--user"),
    ((*SESSION, "--agent", "helper"), "--agent"),
    ((*SESSION, "--use", "gateway", "--mcps", "gmail", "--agent", "a helper"), "--agent"), ((*SESSION, "--color"), "--color"), ((*SESSION, "--use", "gateway", "--mcps", "No"), "--mcps"),
    ((*SESSION, "--name", b"\xff"), "UTF-8"), ((*SESSION, *["--org=o"] * 1001), "at most 1000"),
    ((*SESSION, "--org", "acme:" + "r" * 5000), "4096"),
])
def test_what_was_typed(product, arguments, word):
    done = product.command(*arguments, check=False)
    assert (done.returncode, done.stdout) == (USAGE, "") and word in done.stderr, done


def test_nothing_there(product):
    done = product.command("caller", "list")
    assert (done.stdout, done.stderr) == ("", "No callers.\n")
    for stdin in ("", "\n", "a b\n", "x" * 5000):
        done = product.command("session", "revoke", "-", stdin=stdin, check=False)
        assert done.returncode == USAGE and "no token" in done.stderr
    assert product.command("caller", "revoke", "--name", "nobody", check=False).returncode == 1


def test_caller_without_an_end(product):
    """Somebody else wrote it; it is shown for what it is. Many of them take more than one page of a scan."""
    create_caller(product, *CREATE[2:])
    (key,) = product.redis.keys("caller:*")
    product.redis.persist(key)
    with product.redis.pipeline() as pipeline:
        for number in range(300):
            pipeline.hset(f"caller:{number}", mapping={"name": f"m{number:03}", "mcps": "gmail", "organizations": "acme"})
            pipeline.expire(f"caller:{number}", 120)
        pipeline.execute()
    lines = product.command("caller", "list").stdout.splitlines()
    assert len(lines) == 301 and sorted(lines) == lines
    assert sum("no end" in line for line in lines) == 1 and sum("minutes" in line for line in lines) == 300


def test_many_members(product):
    """More than a page of a scan."""
    for number in range(700):
        product.redis.hset(f"integration:{{acme:u{number}}}:google", mapping={"id": f"i{number}"})
    assert len(product.command("list", "--org", "acme").stdout.splitlines()) >= 700
    done = product.command("remove", "--org", "acme")
    assert "700 of 700 members removed" in done.stdout, done.stdout[-300:]


def scans_begun(commands):
    return [words for words in commands if words[:2] == ["SCAN", "0"]]


def test_many_members_take_as_many_scans_as_one(product):
    """A scan takes as long as Redis has keys: one tells who the members are, one what they have."""
    unrevoked = "client\nissuer\n0\nk1.x\naccount"
    with product.redis.pipeline() as pipeline:
        for number in range(50):
            pipeline.hset(f"integration:{{acme:u{number}}}:google", mapping={"id": f"i{number}"})
        pipeline.hset("integrations:unrevoked:{acme:u7}:google", "g", unrevoked)
        pipeline.hset("integrations:unrevoked:{acme:late}:google", "g", unrevoked)
        pipeline.set("integrations:validated:{acme:u8}:google", "no connection")
        pipeline.hset("integration:{globex:u1}:google", mapping={"id": "other"})
        for number in range(2500):
            pipeline.set(f"other:{number}", "")
        pipeline.execute()
    with watched(product) as commands:
        done = product.command("remove", "--org", "acme")
    assert "51 of 51 members removed, 50 connections forgotten, 0 revoked." in done.stdout, done.stdout[-300:]
    assert done.stdout.count("u7 google:") == 1 and "late google: was forgotten before" in done.stdout
    assert len(scans_begun(commands)) == 2
    kinds = [words[0] for words in commands]
    assert kinds.count("SET") == 51 and len(kinds) - 1 - kinds[::-1].index("SET") < kinds.index("EVALSHA"), \
        "all are barred before anything is forgotten"
    assert not product.redis.keys("integration:{acme:*") and product.redis.exists("integration:{globex:u1}:google")

    product.redis.hset("integration:{acme:u7}:google", mapping={"id": "again"})
    with watched(product) as commands:
        done = product.command("remove", "--org", "acme", "--user", "u7")
    assert "1 of 1 member removed, 1 connection forgotten" in done.stdout
    assert len(scans_begun(commands)) == 1


def test_who_came_after_the_members_were_listed(cluster):
    """Keeps what is theirs: no tombstone stands for them."""
    cluster.redis.hset("integration:{acme:ada}:google", mapping={"id": "i"})
    held = cluster.proxy.hold("set")
    removing = Later(cluster.product.command, "remove", "--org", "acme", environment=admin(cluster))
    held.wait()
    cluster.redis.hset("integration:{acme:late}:google", mapping={"id": "i"})
    held.release()
    assert "1 of 1 member removed, 1 connection forgotten" in removing.answer().stdout
    assert cluster.redis.keys("integration:*") == ["integration:{acme:late}:google"]


@pytest.mark.parametrize("closed", ["stdout", "reader"])
def test_nobody_reads(product, ada, closed):
    """A command that cannot say what it found has failed; one that follows ends."""
    ada.connect("acme")
    wait_until(lambda: product.redis.exists("events:{acme}"), "an event is stored")
    if closed == "stdout":
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "list", "--org", "acme"], env=operator(product), stdout=full, timeout=30,
                                  check=False)
        assert done.returncode == 1
        return
    with subprocess.Popen([PROGRAM, "events", "--org", "acme", "--follow"], env=operator(product),
                          stdout=subprocess.PIPE) as follower:
        assert b"connected" in follower.stdout.readline()
        follower.stdout.close()
        assert ada.disconnect("acme").status_code == 200
        assert follower.wait(20) == 1


def on_a_terminal(product, *arguments, **environment):
    """What it shows on a terminal, and its status."""
    ours, its = pty.openpty()
    with subprocess.Popen([PROGRAM, *arguments], env=operator(product, **environment), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=its) as process:
        os.close(its)
        shown = b""
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # how a terminal ends
            pass
        os.close(ours)
        out = process.stdout.read().decode()
        return process.wait(30), shown.decode(), out


def test_keys_on_a_terminal(product, somebody, tmp_path):
    """A bar while it works, and what to do with a new key."""
    status, shown, line = on_a_terminal(product, "keys", "new")
    assert status == 0 and "Put this line first" in shown and ":" in line
    for _ in range(3):
        somebody("acme").connect("acme")
    with product.redis.pipeline() as pipeline:
        for number in range(1500):
            pipeline.set(f"other:{number}", "")
        pipeline.execute()
    with open(product.keys_file, encoding="ascii") as file:
        both = key_line(product, "k2") + file.read()
    (tmp_path / "keys").write_text(both)
    (tmp_path / "keys").chmod(0o600)
    status, shown, out = on_a_terminal(product, "keys", "rotate", TOKEN_KEYS_FILE=str(tmp_path / "keys"))
    assert status == 0 and "3 sealed anew" in out
    assert shown.startswith("\r[") and shown.count("\r[") > 1 and "] 100 %  3 credentials" in shown


def test_rotation_of_damaged_tokens(product, ada):
    """What lacks a part is counted and left; what is empty is passed over."""
    ada.connect("acme")
    product.redis.hset("credential:{acme:half}:google", "access_token", "k1.x")
    product.redis.hset("credential:{acme:none}:google", "issuer", "i")
    product.redis.set("credential:{acme}:google", "no key of ours")
    before = product.redis.hgetall("credential:{acme:half}:google")
    done = product.command("keys", "rotate", check=False)
    assert done.returncode == 1 and "2 credentials: 0 sealed anew, 1 were current" in done.stdout
    assert "1 unreadable" in done.stdout and "under ?: 1" in done.stdout
    assert product.redis.hgetall("credential:{acme:half}:google") == before


# check

def test_check_without_metadata(product):
    product.stand_in.fault("discovery", "status", status=404)
    done = product.command("check")
    assert "publishes no metadata" in done.stdout


@pytest.mark.parametrize("endpoint, fault, found", [
    ("discovery", {"kind": "answer", "set": {"issuer": "https://other.example"}}, "names another issuer"),
    ("discovery", {"kind": "not_json"}, "names another issuer"), ("discovery", {"kind": "status", "status": 503}, "HTTP 503"),
    ("certs", {"kind": "answer", "set": {"keys": []}}, "holds no key that can be used"),
    ("certs", {"kind": "status", "status": 500}, "members cannot connect"),
])
def test_check_of_a_provider(product, endpoint, fault, found):
    product.stand_in.fault(endpoint, **fault)
    done = product.command("check", check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FAIL:")]
    assert done.returncode == 1 and found in line and "->" in line, line


def test_check_of_redis(product):
    """Sessions elsewhere are looked at, too; so are what Redis does without memory, and what its user may do."""
    elsewhere = {"SESSION_REDIS_URL": f"unix://{product.redis_server.socket}"}
    done = product.command("check", environment=elsewhere, check=False)
    assert "FAIL: SESSION_REDIS_URL: Redis does not answer" in done.stdout or "SESSION_REDIS_URL: Redis" in done.stdout
    for name, rights in (("all", "+@all"), ("some", "+ping +select")):
        product.redis.execute_command("ACL", "SETUSER", name, "on", f">{product.redis_server.password}", "~*", *rights.split())
    url = {name: product.redis_server.url.replace("//integrations:", f"//{name}:") for name in ("all", "some")}
    try:
        done = product.command("check", environment={"REDIS_URL": url["all"]})
        assert "ok: REDIS_URL: Redis evicts nothing" in done.stdout
        product.redis.config_set("maxmemory-policy", "allkeys-lru")
        done = product.command("check", environment={"REDIS_URL": url["all"]}, check=False)
        assert done.returncode == 1 and "maxmemory-policy is allkeys-lru" in done.stdout
        done = product.command("check", environment={"REDIS_URL": url["some"]}, check=False)
        assert done.returncode == 1 and "runs no scripts" in done.stdout
        nobody = {"REDIS_ADMIN_URL": url["some"]}
        for arguments in (("list", "--org", "acme"), ("caller", "revoke", "--name", "n"),
                          ("restore", "--org", "a", "--user", "u"), ("remove", "--org", "acme", "--user", "u"),
                          ("events", "--org", "acme")):
            assert product.command(*arguments, environment=nobody, check=False).returncode == 1, arguments
    finally:
        product.redis.config_set("maxmemory-policy", "noeviction")
        product.redis.execute_command("ACL", "DELUSER", *url)


def test_sessions_and_callers_elsewhere_need_their_redis(product):
    nowhere = {"REDIS_ADMIN_URL": "redis://127.0.0.1:1", "SESSION_REDIS_URL": "redis://127.0.0.1:1"}
    token = last_line(product.command(*SESSION))
    product.scanner.record(token, "a session token")
    for arguments in (SESSION, CREATE, ("session", "revoke", "-"), ("caller", "revoke", "--name", "n")):
        done = product.command(*arguments, stdin=token + "\n", environment=nowhere, check=False)
        assert done.returncode == 1 and "Redis cannot be reached" in done.stderr, done
