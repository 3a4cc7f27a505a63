"""The users of deploy/redis/users.acl: what each may do, and nothing more. Redis has loaded the shipped file."""

import hashlib

import pytest
import redis

from harness import Session, good

ALL = ("session:x", "caller:x", "removed:{acme:ada}", "oauth_state:x", "integration:{acme:ada}:google",
       "credential:{acme:ada}:google", "events:{acme}", "integrations:states:{acme:ada}", "other")


@pytest.fixture
def login(product):
    def connect(name):
        return redis.Redis(unix_socket_path=product.redis_server.socket, username=name,
                           password=product.redis_server.password, decode_responses=True)
    return connect


def refused(call, *arguments, **more):
    with pytest.raises(redis.exceptions.NoPermissionError):
        call(*arguments, **more)


def test_the_platform_signs_in_and_out(product, login):
    platform = login("platform")
    token = "session-MARKER-of-the-platform"
    key = f"session:{hashlib.sha256(token.encode()).hexdigest()}"
    with platform.pipeline(transaction=True) as pipeline:
        pipeline.delete(key)
        pipeline.hset(key, mapping={"user_id": "ada", "org:acme": "member"})
        pipeline.expire(key, 60)
        pipeline.execute()
    ada = Session(product, token, "ada")
    assert good(ada.get("/api/me"))["user_id"] == "ada"
    assert platform.unlink(key) == 1
    assert ada.get("/api/me").status_code == 401


def test_the_platform_has_nothing_else(login):
    platform = login("platform")
    for key in ALL[1:]:
        refused(platform.hset, key, "a", "b")
        refused(platform.delete, key)
        refused(platform.expire, key, 60)
    for key in ALL:
        refused(platform.hgetall, key)
        refused(platform.get, key)
    for command in (("KEYS", "*"), ("SCAN", "0"), ("INFO",), ("CONFIG", "GET", "*"), ("FLUSHALL",), ("EVAL", "return 1", "0"),
                    ("RENAME", "session:x", "session:y"), ("ACL", "LIST")):
        refused(platform.execute_command, *command)


def test_workers_neither_scan_nor_write_who_may_call(login):
    workers = login("integrations")
    for key in ("session:x", "caller:x", "removed:{acme:ada}"):
        refused(workers.hset, key, "a", "b")
        refused(workers.delete, key)
    for command in (("KEYS", "*"), ("SCAN", "0"), ("INFO",), ("CONFIG", "GET", "*"), ("FLUSHALL",), ("GET", "other")):
        refused(workers.execute_command, *command)


def test_workers_only_append_to_the_audit(product, login):
    workers = login("integrations")
    for stream in ("events:{acme}", "events:{acme}:use"):
        assert workers.xadd(stream, {"event": "connected"})
        assert workers.eval("return redis.call('XADD', ARGV[1], '*', 'a', 'b')", 0, stream)
        for command in (("DEL", stream), ("XRANGE", stream, "-", "+"), ("XTRIM", stream, "MAXLEN", "0"), ("EXPIRE", stream, "1"),
                        ("SET", stream, "x"), ("EVAL", "return 1", "1", stream), ("XDEL", stream, "1-1")):
            refused(workers.execute_command, *command)
        assert product.redis.xlen(stream) == 2
    for key in ("integrations:x", "grant:x"):
        refused(workers.xadd, key, {"a": "b"})


def test_users_by_the_unix_socket(make_product):
    product = make_product()
    server = product.redis_server
    own, admin = (f"unix://{name}:{server.password}@{server.socket}?db=0" for name in ("integrations", "integrations-admin"))
    (host,) = product.hosts
    host.serve.environment = {**host.serve.environment, "REDIS_URL": own, "REDIS_ADMIN_URL": admin}
    host.restart()
    clients = [client for client in product.redis.client_list() if client["user"] != "operator"]
    assert {(client["user"], client["addr"].split(":")[0]) for client in clients} == {("integrations", server.socket)}
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    assert [record["service"] for record in good(ada.integrations("acme"))["integrations"]] == ["google"]
    done = product.command("check", environment={"REDIS_URL": own, "REDIS_ADMIN_URL": admin})
    assert "ok: REDIS_URL: Redis answers" in done.stdout and "ok: REDIS_ADMIN_URL: Redis answers" in done.stdout
    done = product.command("check", environment={"REDIS_URL": own.replace(server.password, "MARKER-wrong")}, check=False)
    assert "FAIL: REDIS_URL: Redis does not answer" in done.stdout and "MARKER" not in done.stdout + done.stderr


def test_the_operator_may_everything(login):
    operator = login("operator")
    assert operator.info("persistence")["aof_enabled"] == 1
    assert operator.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    # Not done: Redis ends every connection when it loads its users anew.
    assert operator.execute_command("ACL", "DRYRUN", "operator", "ACL", "LOAD") in (True, "OK")
    assert {line.split()[1] for line in operator.acl_list()} == \
        {"default", "integrations", "integrations-admin", "operator", "platform"}


def test_nobody_without_a_name(product):
    nameless = redis.Redis(unix_socket_path=product.redis_server.socket)
    with pytest.raises(redis.exceptions.AuthenticationError):
        nameless.ping()
