"""The commands of the pages, run against the demo, bring what the pages show.

A block of `sh` with a block of output directly after it is run, in the order of the page and in one shell. Before each page
ada's Google account is connected, which in the pages is a click in a browser.
"""

import json
import os
import re
import subprocess
import sys
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from processes import REPOSITORY, Ports, Process, minimal_environment, wait_until

sys.path.insert(0, os.path.join(REPOSITORY, "tests", "tools"))
import pages  # noqa: E402

BETWEEN = "---- the next block"
# What differs from run to run, in the pages and in what comes.
VARYING = [(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"), (r"\b[0-9a-f]{64}\b", "<sha256>"), (r"\b[0-9a-f]{32}\b", "<id>"),
           (r"\bk\d{8}-[0-9a-f]{8}\b", "<key>"), (r"(?m)^[\w-]{43}$", "<token>"), (r'"(pid|duration_us)":\d+', r'"\1":<number>')]


def runnable(page):
    """(line, commands, output) of each block that is run."""
    lines = open(os.path.join(REPOSITORY, page), encoding="utf-8").read().splitlines()
    fenced = pages.blocks("\n".join(lines))[1]
    for (line, language, commands), (next_line, next_language, output) in zip(fenced, fenced[1:]):
        after = line + commands.count("\n") + 1
        if language == "sh" and next_language == "" and not "".join(lines[after:next_line - 1]).strip():
            yield line, commands, output


PAGES = [page for page in subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True,
                                         check=True).stdout.split() if list(runnable(page))]


class Demo:
    """deploy/run.sh, on ports of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.ports = Ports()
        self.port, self.internal_port = self.ports.find(), self.ports.find()
        environment = minimal_environment(PORT=str(self.port), INTERNAL_PORT=str(self.internal_port), RUN_DIR=directory,
                                          WORKERS="2")
        self.process = Process("demo", [os.path.join(REPOSITORY, "deploy", "run.sh")], f"{directory}.log", environment)

    def start(self):
        self.ports.release(self.port, self.internal_port)
        self.process.start()
        wait_until(lambda: "Ready: " in self.process.text() or not self.process.running(), "the demo is ready", 120)
        assert self.process.running(), self.process.tail()

    def connect(self):
        """As ada in the browser: sign in, connect, consent."""
        site = f"http://localhost:{self.port}"
        ports = json.load(open(os.path.join(self.directory, "google", "ports.json"), encoding="utf-8"))
        path = f"{site}/api/organizations/acme/integrations/google"
        with requests.Session() as browser:
            browser.headers["Origin"] = site
            browser.get(f"{site}/demo/sign-in", allow_redirects=False)
            link = browser.get(f"{path}/auth_link").json()["auth_link"]
            consent = requests.post(f"http://localhost:{ports['http']}/__control/authorize",
                                    json={"url": link, "account": "ada", "grant": "all"}, timeout=10).json()
            answer = dict(parse_qsl(urlsplit(consent["location"]).query))
            done = browser.post(f"{path}/callback", json={name: answer[name] for name in ("code", "state", "iss") if name in answer})
            assert done.status_code == 200, done.text

    def here(self, text):
        """What a page says, for this demo."""
        for there, ours in ((".run/", f"{self.directory}/"), ("localhost:8080", f"localhost:{self.port}"),
                            ("127.0.0.1:8081", f"127.0.0.1:{self.internal_port}")):
            text = text.replace(there, ours)
        return text

    def run(self, blocks):
        """The output of each block."""
        script = f"echo '{BETWEEN}'\n".join(self.here(each) + "echo\n" for each in blocks)
        done = subprocess.run(["bash"], input=script, cwd=REPOSITORY, env=minimal_environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        return done.stdout.split(BETWEEN + "\n")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    running = Demo(str(tmp_path_factory.mktemp("demo")))
    running.start()
    yield running
    running.process.stop()


def alike(text):
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text.strip()


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_bring_what_the_page_shows(demo, page):
    demo.connect()
    blocks = list(runnable(page))
    came = demo.run([commands for _, commands, _ in blocks])
    assert len(came) == len(blocks), came[-1]
    for (line, commands, output), text in zip(blocks, came):
        wanted = ".*".join(re.escape(part) for part in alike(demo.here(output)).split("…"))
        assert re.fullmatch(wanted, alike(text), re.S), f"{page}:{line}\n{commands}\nshows\n{output}\nbut brought\n{text}"


def test_nginx_takes_the_server_with_tls(tmp_path):
    fenced = pages.blocks(open(os.path.join(REPOSITORY, "nginx", "README.md"), encoding="utf-8").read())[1]
    servers = [text for _, language, text in fenced if language == "nginx"]
    assert len(servers) == 1
    subprocess.run([os.path.join(REPOSITORY, "nginx", "install.sh"), str(tmp_path), "PUBLIC_URL=https://app.example.com",
                    f"ACCESS_LOG={tmp_path}/access.log"], check=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=app.example.com", "-keyout",
                    f"{tmp_path}/key", "-out", f"{tmp_path}/certificate"], check=True, capture_output=True)
    ports = Ports()
    found = [ports.find() for _ in range(3)]
    ports.release(*found)
    text = servers[0]
    for there, ours in (("/etc/ssl/certs/app.example.com.pem", f"{tmp_path}/certificate"),
                        ("/etc/ssl/private/app.example.com.key", f"{tmp_path}/key"), ("listen 443", f"listen 127.0.0.1:{found[0]}"),
                        ("listen 80;", f"listen 127.0.0.1:{found[1]};"), ("127.0.0.1:8081", f"127.0.0.1:{found[2]}")):
        assert text.count(there) == 1, there
        text = text.replace(there, ours)
    modules = "".join(f"load_module modules/{name}_module.so;\n" for name in ("ngx_http_headers_more_filter", "ndk_http", "ngx_http_lua"))
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\n{modules}"
                                         f"events {{}}\nhttp {{\naccess_log off;\n{text}\n}}\n", encoding="utf-8")
    done = subprocess.run(["/usr/sbin/nginx", "-t", "-q", "-c", f"{tmp_path}/nginx.conf"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
