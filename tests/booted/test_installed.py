"""The service under a real systemd, beside Debian's nginx and Redis, as deploy/README.md installs it."""

import contextlib
import glob
import json
import os
import signal
import socket
import threading

import pytest
import requests

from conftest import Site, noted, read, run
from harness import good, problem
from processes import wait_until

SETTINGS = "/etc/integrations/integrations.env"


@contextlib.contextmanager
def asking(site, people=8):
    """Lists, asked for by so many at once as long as the block lasts. Yields the list of what was answered."""
    answers, over = [], threading.Event()

    def ask():
        mine = Site().session()
        while not over.is_set():
            try:
                answers.append(mine.integrations("acme").status_code)
            except requests.exceptions.RequestException as error:
                answers.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(people)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answers) > 10 * people, "requests are answered")
        yield answers
        at = len(answers)
        wait_until(lambda: len(answers) > at + 10 * people, "requests are answered afterwards", 40)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert site.unit("ActiveState") == "active"


@pytest.fixture
def settings():
    """Whatever a test writes into integrations.env is taken back."""
    before = read(SETTINGS)
    yield before
    with open(SETTINGS, "w", encoding="utf-8") as file:
        file.write(before)
    run("systemctl", "restart", "integrations")


def write(text):
    with open(SETTINGS, "w", encoding="utf-8") as file:
        file.write(text)


def sandboxes(log):
    return [line for line in map(json.loads, filter(lambda line: line.startswith("{"), log.splitlines())) if line["event"] == "sandbox"]


def test_it_serves(site):
    assert site.unit("ActiveState") == "active" and site.unit("Type") == "notify"
    assert good(site.request("GET", "/readyz", internal=True))["status"] == "ready"
    assert run("integrations-admin", "check").endswith("All is well.\n")
    assert site.unit("NRestarts") == "0"
    (socket,) = glob.glob("/run/integrations/*")
    assert run("stat", "-c", "%U:%G %a", socket) == "root:www-data 660\n"


def test_the_whole_sandbox(site):
    """The unit's, and the program's own within it."""
    workers = site.workers()
    said = sandboxes(site.log())[-len(workers):]
    kernel = run("cat", "/proc/sys/kernel/osrelease")
    assert all(each["seccomp"] == "yes" and each["landlock"] >= 1 and each["level"] == "info" for each in said), (said, kernel)
    exposure = run("systemd-analyze", "security", "--no-pager", "integrations.service").splitlines()[-1]
    assert float(exposure.split(":")[1].split()[0]) <= 1.5, exposure
    # The unit keeps nothing back that the program says it can have; what it was refused is in the kernel's or its own log.
    assert not [line for line in site.log().splitlines() if '"level":"warn"' in line or '"level":"error"' in line]
    for worker in workers:
        status = dict(line.split(":\t", 1) for line in read(f"/proc/{worker}/status").splitlines() if ":\t" in line)
        assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16)) == ("1", "2", 0)
        assert int(status["Uid"].split()[0]) == int(run("id", "-u", "integrations"))


def test_a_member_connects_and_a_program_gets_a_token(site):
    ada = site.session()
    record = ada.connect("acme")
    assert record["status"] == "valid"
    assert good(ada.validate("acme"))["is_valid"]
    assert site.stand_in.honours(access_token=good(site.token())["access_token"])
    assert good(ada.disconnect("acme"))["revocation"] == "revoked"
    problem(site.token(), 404, "integration_not_found")
    ada.connect("acme")  # the tests below, and those after the next boot, find it


def test_the_pages_and_the_rest_of_the_server(site):
    page = site.request("GET", "/integrations")
    assert page.status_code == 200 and "<title>Integrations</title>" in page.text
    assert "Strict-Transport-Security" in page.headers
    platform = site.request("GET", "/index.nginx-debian.html")
    assert platform.status_code == 200 and "X-Request-Id" not in platform.headers


def test_a_reload_fails_no_request(site):
    before = site.workers()
    with asking(site) as answers:
        run("systemctl", "reload", "integrations")
        wait_until(lambda: not set(before) & set(site.workers()), "the workers are others", 40)
    assert set(answers) == {200}


def test_a_restart_fails_no_request(site):
    before = site.unit("MainPID")
    with asking(site) as answers:
        run("systemctl", "restart", "integrations")
    assert site.unit("MainPID") != before
    assert set(answers) == {200}


def test_a_worker_that_is_killed_is_replaced(site):
    victim = site.workers()[0]
    with asking(site) as answers:
        os.kill(int(victim), signal.SIGKILL)
        wait_until(lambda: victim not in site.workers() and len(site.workers()) == 2, "another worker")
    assert set(answers) <= {200, 503} and answers[-1] == 200
    assert '"event":"worker_died"' in site.log()


def test_the_service_that_is_killed_is_started_again(site):
    before = site.unit("MainPID")
    with asking(site) as answers:
        os.kill(int(before), signal.SIGKILL)
        wait_until(lambda: site.unit("MainPID") not in ("0", before), "systemd starts it again")
    assert set(answers) <= {200, 503} and answers[-1] == 200
    assert good(site.session().validate("acme"))["is_valid"]


def test_redis_restarts_and_has_everything(site):
    with asking(site) as answers:
        run("systemctl", "restart", "redis-server")
    assert set(answers) <= {200, 503} and answers[-1] == 200
    assert good(site.token())["access_token"]


def test_the_name_servers_change(site):
    """A worker may not read the new file, which is another of the same name: others take its place, and reach the provider."""
    path = "/etc/resolv.conf"
    before = site.workers()
    with asking(site) as answers:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(read(path) if os.path.exists(path) else "nameserver 127.0.0.1\n")
        os.replace(f"{path}.new", path)
        wait_until(lambda: not set(before) & set(site.workers()), "the workers are others", 40)
    assert set(answers) == {200}
    assert good(site.session().validate("acme"))["is_valid"]


def test_what_is_nobody_elses_is_hidden(site):
    """By path, as a worker would: the bus is there for everybody else on the machine."""
    assert os.path.exists("/run/dbus/system_bus_socket")
    for worker in site.workers():
        seen = f"/proc/{worker}/root"
        for hidden in ("/run/dbus/system_bus_socket", "/run/systemd/private"):
            with socket.socket(socket.AF_UNIX) as private, pytest.raises(OSError):
                private.connect(seen + hidden)
        with socket.socket(socket.AF_UNIX) as redis:
            redis.connect(seen + "/run/redis/redis-server.sock")


def test_the_sealing_key_is_rotated_as_the_page_says(site):
    """By its own lines, while requests come; no worker needs to be told twice, and nothing is lost."""
    lines = read("/usr/local/share/integrations/deploy/README.md").split("## Rotate the sealing key")[1].split("```")[1]
    script = lines.removeprefix("sh\n")
    assert "systemctl reload integrations" in script
    new_line = run("sh", "-c", "integrations keys new 2>/dev/null").strip()
    site.scanner.record(new_line.partition(":")[2], "a key of the key ring")
    before = site.workers()
    with asking(site) as answers:
        run("sh", "-euc", script, env={**os.environ, "NEW_LINE": new_line})
        rotated = run("integrations-admin", "keys", "rotate")
        assert f"under {new_line.partition(':')[0]}: 1 (first key)" in rotated, rotated
        wait_until(lambda: not set(before) & set(site.workers()), "the workers are others", 40)
    assert set(answers) == {200}
    assert good(site.token())["access_token"]
    assert run("stat", "-c", "%U:%G %a", "/etc/integrations/keys/token-keys") == "root:integrations 440\n"


def test_a_mistake_in_the_settings(site, settings):
    """The start fails and the journal says why; when it is put right nothing else has to be done."""
    write(settings.replace("PUBLIC_URL=https", "PUBLIC_URL=ftp"))
    assert "Job for integrations.service failed" in run("systemctl", "restart", "integrations", check=False)
    assert "PUBLIC_URL: is not an address -> " in site.log()
    assert "status=78/CONFIG" in site.log()
    assert site.unit("ActiveState") == "activating"
    write(settings)
    wait_until(lambda: site.unit("ActiveState") == "active", "it runs again")
    assert good(site.session().integrations("acme"))


def test_a_mistake_in_a_file_ends_no_worker(site):
    path = "/etc/integrations/providers/google.json"
    before, kept = site.workers(), read(path)
    with asking(site) as answers:
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write("{")
            run("systemctl", "reload", "integrations", check=False)
            wait_until(lambda: "google.json" in site.log() or "provider" in site.log(), "the journal says what is wrong")
        finally:
            with open(path, "w", encoding="utf-8") as file:
                file.write(kept)
    assert set(answers) == {200} and set(before) == set(site.workers())


def test_an_upgrade_keeps_what_was_set(site):
    kept = {path: read(path) for path in glob.glob("/etc/integrations/**/*.*", recursive=True)}
    with asking(site) as answers:
        run("make", "-s", "install", cwd="/srv/integrations")
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "integrations")
    assert set(answers) == {200}
    assert kept == {path: read(path) for path in kept}


def test_no_secret_is_in_a_log_or_an_environment(site):
    """Of the whole time: everything above has been done."""
    for name in ("session", "caller"):
        site.scanner.record(noted(name), f"the {name}'s token")
    for line in read("/etc/integrations/keys/token-keys").splitlines():
        site.scanner.record(line.partition(":")[2], "a key of the key ring")
    site.scanner.check(run("journalctl", "-q", "-u", "integrations", "-u", "nginx", "-o", "json", "--no-pager").encode(), "the journal")
    site.scanner.check(run("systemctl", "show", "integrations.service", "integrations.socket").encode(), "systemctl show")
    for directory in ("/var/log/nginx", "/var/log/redis"):
        assert site.scanner.check_files(directory) > 0
    for pid in (site.unit("MainPID"), *site.workers()):
        for name in ("environ", "cmdline"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                site.scanner.check(file.read(), f"{name} of {pid}")
