"""`integrations serve` as a service manager and an operator see it: start, sockets, notices, the number of workers."""

import os
import signal
import socket
import subprocess

import pytest

from fastcgi import Peer, request
from harness import PROGRAM, Product, good, wait_until

USAGE, SETTINGS, FAILED = 64, 78, 1


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    product = Product(tmp_path_factory.mktemp("served"), environment={"WORKERS": None})
    product.start()
    yield product
    product.stop()


def start(product, *arguments, environment=None, **more):
    return subprocess.run([PROGRAM, "serve", *arguments], env={**product.environment, **(environment or {})},
                          capture_output=True, text=True, timeout=30, check=False, **more)


def test_what_keeps_it_from_starting(served, tmp_path):
    (tmp_path / "file").write_text("")
    done = start(served, "--listen")
    assert done.returncode == USAGE and "environment" in done.stderr
    done = start(served, environment={"WORKERS": "0", "LIMIT_VALIDATE": "-1"})
    assert done.returncode == SETTINGS and done.stderr.count('"setting_wrong"') == 2
    for path, why in ((served.hosts[0].socket, "another process listens there"), (str(tmp_path / "file"), "not a socket"),
                      (str(tmp_path / "none" / "s"), "No such file")):
        done = start(served, environment={"LISTEN": path})
        assert done.returncode == FAILED and "listen_failed" in done.stderr and why in done.stderr, done
    assert served.hosts[0].status("/readyz") == 200


@pytest.mark.parametrize("abstract", [False, True])
def test_under_a_service_manager(served, tmp_path, abstract):
    """A passed socket is used, and left where it is; each step is told."""
    session = served.session("ada", {"acme": "member"})
    path, notices = str(tmp_path / "s"), str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX) as passed, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        passed.bind(path)
        passed.listen()
        told.bind("\0" + notices if abstract else notices)
        told.settimeout(20)
        environment = {**served.environment, "LISTEN": str(tmp_path / "unused"), "WORKERS": "1", "LISTEN_FDS": "1",
                       "NOTIFY_SOCKET": "@" + notices if abstract else notices}
        script = f'exec 3<&{passed.fileno()}; export LISTEN_PID=$$; exec "$0" serve'
        with open(tmp_path / "log", "wb") as log, \
                subprocess.Popen(["bash", "-c", script, PROGRAM], env=environment, pass_fds=[passed.fileno()], stderr=log,
                                 start_new_session=True) as process:
            try:
                assert told.recv(100) == b"READY=1"
                with Peer(path) as peer:
                    peer.send(request(served, token=session.token))
                    assert peer.answer()[0] == 200
                process.send_signal(signal.SIGHUP)
                assert [told.recv(100) for _ in range(2)] == [b"RELOADING=1", b"READY=1"]
            finally:
                process.terminate()
            assert told.recv(100) == b"STOPPING=1"
            assert process.wait(20) == 0
    assert os.path.exists(path) and not os.path.exists(tmp_path / "unused")


def test_as_many_workers_as_cores(served):
    """Without WORKERS one per core that it may use: looked up again at each reload."""
    host, cores = served.hosts[0], sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    ada = served.session("ada", {"acme": "member"})
    for some in (cores[:1], cores[:2]):
        os.sched_setaffinity(served.serve.pid, some)
        served.reload()
        wait_until(lambda wanted=len(some): len(host.workers()) == wanted, "there are as many workers as cores", 30)
        assert good(ada.get("/api/me"))["user_id"] == "ada"
        assert host.status("/readyz") == 200
