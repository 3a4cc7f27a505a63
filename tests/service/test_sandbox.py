"""What the processes gave up before they serve, seen from outside. tests/unit/test_sandbox.c tries what they no longer can;
that all routes still work is what every other file shows."""

import os
import signal

import pytest

from harness import SANITIZED, Product, good, wait_until

FILTERED = 0 if SANITIZED else 2  # a sanitizer does itself what the sandbox forbids


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Of its own, because the last test leaves workers behind that drain."""
    product = Product(tmp_path_factory.mktemp("guarded"))
    product.start()
    yield product
    product.stop()


@pytest.fixture
def ada(guarded):
    return guarded.session("ada", {"acme": "admin"})


def status_of(path):
    with open(f"{path}/status", encoding="ascii", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def test_parent_and_workers(guarded, ada):
    """After a name was looked up, so that the threads of glibc's resolver are among them."""
    ada.connect("acme")
    pids = [guarded.serve.pid, *guarded.hosts[0].workers()]
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            status = status_of(f"/proc/{pid}/task/{thread}")
            assert int(status["Seccomp"]) == FILTERED, f"thread {thread} of {pid}"
            if "Seccomp_filters" in status and not SANITIZED:  # Linux 5.9; the parent's, and the workers' own
                assert int(status["Seccomp_filters"]) == (1 if pid == guarded.serve.pid else 2)
            assert int(status["NoNewPrivs"]) == 1
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            core = next(line for line in file if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]


def test_the_log_tells(guarded):
    for pid in guarded.hosts[0].workers():
        def lines(pid=pid):
            return [line for line in guarded.log() if line["event"] == "sandbox" and line["pid"] == pid]

        wait_until(lines, "the worker has said what it gave up")
        said = lines()
        assert len(said) == 1, said
        if SANITIZED:
            assert said[0]["message"].startswith("off")
            continue
        assert said[0]["seccomp"] == "yes"
        if said[0]["landlock"] >= 4:
            assert {str(guarded.redis_server.port), "53"} <= set(said[0]["tcp_ports"].split())


def test_a_worker_that_made_a_forbidden_call(guarded, ada):
    """It is replaced, and the log says what to look at."""
    victim, survivor = guarded.hosts[0].workers()
    os.kill(victim, signal.SIGSYS)
    wait_until(lambda: len(set(guarded.hosts[0].workers()) - {victim}) == 2, "the worker is replaced")
    died = next(line for line in guarded.log() if line["event"] == "worker_died" and line["worker"] == victim)
    assert died["signal"] == signal.SIGSYS and "SIGSYS" in died["action"] and "kernel's log" in died["action"], died
    assert survivor in guarded.hosts[0].workers()
    assert good(ada.get("/api/me"))["user_id"] == "ada"


def test_a_replaced_file_is_read_by_new_workers(guarded, ada):
    """A worker may read the files that were there when it started; a new CA bundle of the same name is another file."""
    workers = set(guarded.hosts[0].workers())
    seen = guarded.serve.text().count('"workers_renewed"')
    with open(guarded.stand_in.ca_file, "rb") as file:
        bundle = file.read()
    with open(guarded.stand_in.ca_file + ".new", "wb") as file:
        file.write(bundle)
    os.replace(guarded.stand_in.ca_file + ".new", guarded.stand_in.ca_file)
    guarded.serve.send(signal.SIGCHLD)  # as every ten seconds
    wait_until(lambda: guarded.serve.text().count('"workers_renewed"') > seen, "the workers are replaced", 20)
    assert len(set(guarded.hosts[0].workers()) - workers) == 2
    assert ada.connect("acme")["status"] == "valid"
