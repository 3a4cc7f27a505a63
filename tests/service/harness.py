"""The whole product for a test: Redis, the stand-in Google, workers and nginx, on free ports, ended by pid.

    product = Product(directory)
    product.start()
    ada = product.session("ada", {"acme": "admin"})
    record = ada.connect("acme")
    assert ada.list("acme") == [record]
    product.stop()

Tests get one from the fixtures of conftest.py. README.md says more.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.parse

import redis
import requests

from leaks import Scanner
from processes import REPOSITORY, Ports, Process, minimal_environment, wait_until

sys.path.insert(0, os.path.join(REPOSITORY, "tests", "google"))
from client import StandIn  # noqa: E402

PROGRAM = os.path.abspath(os.environ.get("INTEGRATIONS_BIN") or os.path.join(REPOSITORY, "build", "integrations"))
VALGRIND = "valgrind" in PROGRAM
SANITIZED = "sanitize" in PROGRAM or VALGRIND
SERVICE = "google"
SCOPES = ["https://www.googleapis.com/auth/gmail.readonly", "https://www.googleapis.com/auth/calendar.readonly",
          "https://www.googleapis.com/auth/drive.readonly"]


def write_file(path, text, mode=0o644):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def shipped(name):
    return os.path.join(REPOSITORY, "deploy", "redis", name)


class RedisServer(Process):
    """Redis with the files of deploy/redis as they are shipped; only the places for the users' passwords are filled in."""

    def __init__(self, directory, port, arguments=()):
        self.directory = directory
        self.socket = os.path.join(directory, "redis.sock")
        self.port = port
        self.password = secrets.token_hex(16)
        write_file(os.path.join(directory, "users.acl"), self._users(), 0o600)
        super().__init__("redis", [
            "/usr/bin/redis-server", shipped("integrations.conf"), "--port", str(port), "--bind", "127.0.0.1",
            "--unixsocket", self.socket, "--unixsocketperm", "700",
            "--dir", directory, "--aclfile", os.path.join(directory, "users.acl"),
            # Every write ever made stays in the file, in the clear, for the leak scan.
            "--save", "", "--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0",
            "--rdbcompression", "no", *arguments,
        ], os.path.join(directory, "redis.log"), minimal_environment())

    def _users(self):
        with open(shipped("users.acl"), encoding="utf-8") as file:
            return re.sub("#@[A-Z0-9_]+@", "#" + hashlib.sha256(self.password.encode()).hexdigest(), file.read())

    @property
    def url(self):
        return f"redis://integrations:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def admin_url(self):
        return f"redis://integrations-admin:{self.password}@127.0.0.1:{self.port}/0"

    def client(self):
        """With all rights, for the test itself."""
        return redis.Redis(unix_socket_path=self.socket, username="operator", password=self.password,
                           decode_responses=True)

    def start(self):
        super().start()
        self.wait_ready()
        return self

    def wait_ready(self):
        def answers():
            assert self.running(), f"redis ended:\n{self.tail()}"
            try:
                return self.client().ping()
            except redis.exceptions.RedisError:
                return False
        wait_until(answers, "redis answers")


class Host:
    """One machine of the platform: an nginx and one `integrations serve`."""

    def __init__(self, product, number):
        self.product = product
        self.directory = os.path.join(product.directory, f"host{number}")
        os.makedirs(self.directory)
        self.socket = os.path.join(self.directory, "integrations.sock")
        self.port = product.ports.find()
        self.internal_port = product.ports.find()
        self.environment = {}
        self.serve = Process(f"serve{number}", [PROGRAM, "serve"], os.path.join(self.directory, "serve.log"))
        self.nginx = Process(f"nginx{number}", ["/usr/sbin/nginx", "-c", self._path("nginx/integrations.conf")],
                             self._path("nginx.log"), minimal_environment())

    def _path(self, name):
        return os.path.join(self.directory, name)

    def configure(self, environment, server_conf, nginx_settings, nginx_conf=None):
        self.environment = {**environment, "LISTEN": self.socket}
        self.serve.environment = self.environment
        subprocess.run([
            os.path.join(REPOSITORY, "nginx", "install.sh"), self._path("nginx"),
            f"PUBLIC_URL={self.product.public_url}", f"SOCKET={self.socket}",
            f"WWW={os.path.join(REPOSITORY, 'nginx', 'www')}", f"RUN={self.directory}", f"PORT={self.port}",
            f"ACCESS_LOG={self._path('nginx-access.log')}",
            f"INTERNAL_PORT={self.internal_port}", "WORKERS=2", "USER=" + ("user root;" if os.getuid() == 0 else ""),
            f"PROVIDER_CA_FILE={self.product.stand_in.ca_file}", *nginx_settings,
        ], check=True)
        os.makedirs(self._path("nginx/server.d"), exist_ok=True)
        if server_conf:
            write_file(self._path("nginx/server.d/test.conf"), server_conf)
        if nginx_conf:
            write_file(self._path("nginx/integrations.conf"), nginx_conf(self))

    def start(self):
        self.product.ports.release(self.port, self.internal_port)
        self.serve.start()
        self.nginx.start()

    def status(self, path):
        """The status of an internal route, 0 when nothing answers."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"http://127.0.0.1:{self.internal_port}{path}", timeout=5).status_code
        except requests.exceptions.RequestException:
            return 0

    def wait_ready(self):
        def ready():
            for part in (self.serve, self.nginx):
                assert part.running(), f"{part.name} ended:\n{part.tail()}"
            return self.status("/readyz") == 200
        wait_until(ready, "/readyz answers 200", 30)

    def workers(self):
        return self.serve.children()

    def restart(self):
        """With the settings of now, as self.serve.environment has them."""
        self.stop()
        self.start()
        self.wait_ready()

    def stop(self):
        """nginx first: with its kept connections gone, the workers have nothing left to wait for."""
        self.nginx.stop()
        return self.serve.stop()


class Session:
    """A signed-in person: one session token, used as cookie or as bearer. Answers are requests.Response objects."""

    def __init__(self, product, token, user, via="cookie"):
        self.product = product
        self.token = token
        self.user = user
        self.via = via

    def bearer(self):
        return Session(self.product, self.token, self.user, "bearer")

    def request(self, method, path, **more):
        if self.via == "cookie":
            more.setdefault("origin", self.product.public_url)
        return self.product.request(method, path, **{self.via: self.token}, **more)

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, **more):
        return self.request("POST", path, **more)

    def delete(self, path, **more):
        return self.request("DELETE", path, **more)

    # The routes of one connection, by name

    def integrations(self, organization, **more):
        return self.get(f"/api/organizations/{organization}/integrations", **more)

    def list(self, organization, **more):
        return good(self.integrations(organization, **more))["integrations"]

    def auth_link(self, organization, service=SERVICE, replace=None, replace_with=None, **more):
        """`replace` and `replace_with` go into the query as they are."""
        given = {"replace": replace, "replace_with": replace_with}
        query = "?" + "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
        answer = self.get(f"/api/organizations/{organization}/integrations/{service}/auth_link{query}", **more)
        if answer.status_code == 200:
            link = urllib.parse.urlsplit(answer.json()["auth_link"])
            nonce = dict(urllib.parse.parse_qsl(link.query)).get("nonce")
            if nonce:
                self.product.scanner.record(nonce, "a nonce")
        return answer

    def begin(self, organization, service=SERVICE, **more):
        """The address at the provider, of a new flow."""
        return good(self.auth_link(organization, service, **more))["auth_link"]

    def callback(self, organization, document, service=SERVICE, **more):
        return self.post(f"/api/organizations/{organization}/integrations/{service}/callback", json=document, **more)

    def authorize(self, organization, account="ada", grant="all", service=SERVICE, **more):
        """Begin a flow and consent at the provider; what the callback page would post."""
        location = self.product.stand_in.authorize(self.begin(organization, service, **more), account, grant)
        return callback_document(location)

    def try_connect(self, organization, account="ada", grant="all", service=SERVICE, replace=None, replace_with=None):
        """The whole flow; the answer to the callback."""
        document = self.authorize(organization, account, grant, service, replace=replace, replace_with=replace_with)
        return self.callback(organization, document, service)

    def connect(self, organization, account="ada", grant="all", service=SERVICE, replace=None, replace_with=None):
        """The whole flow; the record."""
        return good(self.try_connect(organization, account, grant, service, replace, replace_with))["integration"]

    def validate(self, organization, service=SERVICE, **more):
        return self.post(f"/api/organizations/{organization}/integrations/{service}", **more)

    def disconnect(self, organization, service=SERVICE, **more):
        return self.delete(f"/api/organizations/{organization}/integrations/{service}", **more)


def callback_document(location):
    """What the page posts, from the address that the provider sent the browser to."""
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query))
    return {name: query[name] for name in ("code", "state", "iss", "error") if name in query}


def good(answer, status=200):
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json()


def problem(answer, status, code):
    """Assert that the answer is this problem, whole and in its form; return its body."""
    assert (answer.status_code, answer.headers.get("Content-Type")) == (status, "application/problem+json"), \
        f"{answer.status_code} {answer.headers.get('Content-Type')} {answer.text}"
    body = answer.json()
    assert body["code"] == code, body
    assert body["type"] == f"urn:integrations:{code}" and body["status"] == status, body
    assert body["title"] and body["detail"], body
    assert body["request_id"] == answer.headers["X-Request-Id"], body
    return body


def unit_environment(name):
    """What the systemd unit sets this variable to: a run means what it means where the service is installed."""
    with open(os.path.join(REPOSITORY, "deploy/systemd/integrations.service"), encoding="ascii") as file:
        return re.search(f"^Environment={name}=(.*)$", file.read(), re.MULTILINE).group(1)


class Product:
    def __init__(self, directory, *, environment=None, hosts=1, workers=2, redis_arguments=(), api_proxy=False,
                 server_conf="", nginx_settings=(), nginx_conf=None, services=None):
        """`environment`: settings over the harness's own (None takes one away). `server_conf`: more of nginx's server.
        `nginx_settings`: NAME=VALUE for nginx/install.sh. `nginx_conf(host)`: an nginx.conf in place of integrations.conf.
        `services`: more services than google, each with what its provider file has else (None takes a member away);
        they are the same client of the stand-in, so that nothing but the service's name tells them apart."""
        self.directory = str(directory)
        os.chmod(self.directory, stat.S_IRWXU)
        self.scanner = Scanner()
        self.ports = Ports()
        self._redis_port = self.ports.find()
        self.redis_server = RedisServer(self._make("redis"), self._redis_port, redis_arguments)
        self.redis = self.redis_server.client()
        self.scanner.record(self.redis_server.password, "a password of Redis")
        self.hosts = [Host(self, number) for number in range(hosts)]
        self.public_url = f"http://localhost:{self.hosts[0].port}"
        self.stand_in = None
        self._api_proxy = api_proxy
        self._server_conf = server_conf
        self._nginx_settings = nginx_settings
        self._nginx_conf = nginx_conf
        self._services = services or {}
        # Under valgrind one worker, which gets warm.
        self._settings = {"WORKERS": str(1 if VALGRIND else workers), **(environment or {})}
        self._threads = threading.local()
        self.answered_bytes = 0

    def _make(self, name):
        path = os.path.join(self.directory, name)
        os.makedirs(path)
        return path

    # Life

    def start(self):
        try:
            self.ports.release(self._redis_port)
            self.redis_server.start()
            self.stand_in = StandIn.start(self._make("google"), api_proxy=self._api_proxy,
                                          redirect_uris=[f"{self.public_url}/integrations/{each}/callback"
                                                         for each in (SERVICE, *self._services)])
            environment = self._environment()
            for host in self.hosts:
                host.configure(environment, self._server_conf, self._nginx_settings, self._nginx_conf)
                host.start()
            for host in self.hosts:
                host.wait_ready()
            if VALGRIND:
                self._warm()
        except BaseException:
            self.stop(check=False)
            raise
        return self

    def _warm(self):
        """valgrind translates code when it first runs: the first TLS handshakes take longer than answers may."""
        someone = self.session("warm", {"acme": "member"})

        def in_time():
            return someone.try_connect("acme").status_code == 200 and \
                good(someone.disconnect("acme"))["revocation"] == "revoked"
        wait_until(in_time, "a flow in its time", 120)
        self.forget()

    def _environment(self):
        self.providers_dir = self._make("providers")
        shutil.copy(os.path.join(self.stand_in.providers_dir, f"{SERVICE}.json"), self.providers_dir)
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.scanner.record(key, "a key of the key ring")
        self.scanner.record(base64.b64decode(key), "a key of the key ring")
        self.keys_file = os.path.join(self._make("secrets"), "token-keys")
        write_file(self.keys_file, f"k1:{key}\n", 0o600)
        reports = self._make("sanitizer")
        environment = minimal_environment(
            PUBLIC_URL=self.public_url,
            REDIS_URL=self.redis_server.url,
            REDIS_ADMIN_URL=self.redis_server.admin_url,
            ENVIRONMENT="test",
            PROVIDERS_DIR=self.providers_dir,
            GOOGLE_CLIENT_ID=self.stand_in.client_id,
            GOOGLE_CLIENT_SECRET_FILE=self.stand_in.client_secret_file,
            TOKEN_KEYS_FILE=self.keys_file,
            PROVIDER_CA_FILE=self.stand_in.ca_file,
            PROVIDER_ALLOW_PRIVATE="1",
            LOG_LEVEL="debug",
            GLIBC_TUNABLES=unit_environment("GLIBC_TUNABLES"),
            ASAN_OPTIONS=f"log_path={reports}/address:detect_leaks=1:strict_string_checks=1",
            UBSAN_OPTIONS=f"log_path={reports}/undefined:print_stacktrace=1",
        )
        for service, changes in self._services.items():
            self.write_provider(service, **changes)
            environment[f"{service.upper()}_CLIENT_ID"] = self.stand_in.client_id
            environment[f"{service.upper()}_CLIENT_SECRET_FILE"] = self.stand_in.client_secret_file
        environment.update(self._settings)
        return {name: value for name, value in environment.items() if value is not None}

    def write_provider(self, service=SERVICE, **changes):
        """The service's provider file: the stand-in's, with changes; None takes a member away."""
        document = {name: value for name, value in {**self.stand_in.provider, **changes}.items() if value is not None}
        write_file(os.path.join(self.providers_dir, f"{service}.json"), json.dumps(document))

    def reload(self, host=0):
        """SIGHUP, and wait until all workers are new ones."""
        machine = self.hosts[host]
        before = machine.serve.text().count('"reloaded"')
        machine.serve.send(signal.SIGHUP)
        wait_until(lambda: machine.serve.text().count('"reloaded"') > before, "the workers are replaced", 30)

    @property
    def environment(self):
        """The settings in force, as the program gets them."""
        return self.hosts[0].environment

    @property
    def serve(self):
        return self.hosts[0].serve

    @property
    def nginx(self):
        return self.hosts[0].nginx

    def stop(self, check=True):
        """End everything; then, with `check`, see that nothing leaked and no sanitizer complained."""
        statuses = [host.stop() for host in self.hosts if host.serve.process is not None or host.nginx.process is not None]
        if self.redis_server.process is not None:
            self.redis_server.stop()
        if self.stand_in is not None:
            self.stand_in.stop()
        if check:
            self.check_reports()
            self.scan()
            assert all(status == 0 for status in statuses if status is not None), f"exit statuses {statuses}"

    def check_reports(self):
        folder = os.path.join(self.directory, "sanitizer")
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                report = file.read()
            # A warning that ucontext is hard to follow is not a report: fibers tell the sanitizer themselves.
            assert not ("ERROR:" in report or "runtime error:" in report), f"a sanitizer reports:\n{report}"

    def scan(self, whole=True):
        """Look for secrets in everything written so far: logs, what Redis keeps; without `whole` in what is new since
        the last time. Returns the number of bytes seen."""
        own = {os.path.join(self.directory, name) for name in ("google", "secrets", "redis/users.acl")}
        return self.scanner.check_files(self.directory, own, whole) + self.answered_bytes

    def forget(self):
        """As after a start: nothing stored, the stand-in as new. For the next test."""
        self.stand_in.reset()
        self.redis.flushall()

    # People

    def session(self, user, organizations, *, token=None, via="cookie", seconds=3600, **fields):
        """Sign somebody in: `organizations` maps ids to roles; `fields`: email, name, sid, use, mcps."""
        token = token or f"session-MARKER-{secrets.token_urlsafe(24)}"
        row = {"user_id": user, **{f"org:{each}": role for each, role in dict(organizations).items()}, **fields}
        key = self.session_key(token)
        with self.redis.pipeline() as pipeline:
            pipeline.hset(key, mapping=row)
            pipeline.expire(key, seconds)
            pipeline.execute()
        return Session(self, token, user, via)

    @staticmethod
    def session_key(token):
        return f"session:{hashlib.sha256(token.encode()).hexdigest()}"

    # Asking

    def _http(self):
        if not hasattr(self._threads, "session"):
            self._threads.session = requests.Session()
            self._threads.session.trust_env = False
        return self._threads.session

    def request(self, method, path, *, bearer=None, cookie=None, origin=None, host=0, internal=False, headers=None,
                may_hold_token=False, timeout=30, **more):
        """One request through nginx. `origin` is for the cookie; `headers` are added, None takes one away."""
        machine = self.hosts[host]
        port = machine.internal_port if internal else machine.port
        wanted = {"Host": self.public_url.split("//")[1], "Accept": "*/*"}
        if bearer is not None:
            wanted["Authorization"] = f"Bearer {bearer}"
        if cookie is not None:
            wanted["Cookie"] = f"{self.environment.get('SESSION_COOKIE', 'session')}={cookie}"
            if origin is not None:
                wanted["Origin"] = origin
        wanted.update(headers or {})
        answer = self._http().request(method, f"http://127.0.0.1:{port}{path}", headers=wanted, timeout=timeout,
                                      allow_redirects=False, **more)
        if not may_hold_token:
            head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items()).encode()
            self.answered_bytes += self.scanner.check(head + answer.content, f"the answer to {method} {path}")
        return answer

    def raw(self, data, *, host=0, internal=False, seconds=10):
        """Bytes to nginx as they are; all it answers until it closes. End the request with Connection: close."""
        machine = self.hosts[host]
        port = machine.internal_port if internal else machine.port
        with socket.create_connection(("127.0.0.1", port), seconds) as connection:
            connection.settimeout(seconds)
            connection.sendall(data)
            answer = b""
            try:
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionResetError:
                pass  # nginx closed before it had read all that was sent
        self.answered_bytes += self.scanner.check(answer, "a raw answer")
        return answer

    def command(self, *arguments, stdin="", environment=None, check=True):
        """Run the program as an operator does: the settings in force, but with the rights of the admin in Redis.
        What it prints is not scanned: some commands print a secret."""
        operator = {**self.environment, "REDIS_URL": self.redis_server.admin_url, **(environment or {})}
        done = subprocess.run([PROGRAM, *arguments], env=operator, input=stdin, capture_output=True, text=True,
                              timeout=60, check=False)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def stored(self):
        """Everything that is in Redis, to compare before and after."""
        read = {"string": self.redis.get, "hash": self.redis.hgetall, "set": self.redis.smembers,
                "zset": lambda key: self.redis.zrange(key, 0, -1, withscores=True), "stream": self.redis.xrange}
        return {key: read[self.redis.type(key)](key) for key in sorted(self.redis.scan_iter(count=1000))}

    def log(self, host=0):
        """The service's log, parsed: one JSON object per line; what is not JSON fails. The last line may be half written."""
        whole = self.hosts[host].serve.text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]
