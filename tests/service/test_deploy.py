"""What deploy/packages.sh and deploy/run.sh leave behind, and what they do not touch."""

import os
import signal
import subprocess

import pytest

from harness import REPOSITORY, write_file
from processes import wait_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_installation_lets_servers_start_again(tmp_path, number):
    """Ctrl-C reaches apt-get, too. Both are in a group of their own; apt-get is one that only waits."""
    policy, started = str(tmp_path / "policy-rc.d"), str(tmp_path / "started")
    write_file(str(tmp_path / "apt-get"), f"#!/bin/sh\n>{started}\nexec sleep 60\n", 0o755)
    script = '. deploy/packages.sh && exec sh -c "${INSTALL_SCRIPT/\\/usr\\/sbin\\/policy-rc.d/$1}" sh nothing'
    process = subprocess.Popen(["bash", "-c", script, "bash", policy], cwd=REPOSITORY, start_new_session=True,
                               env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # it is ignored in what `&` starts
    try:
        wait_until(lambda: os.path.exists(started), "apt-get runs")
        assert os.stat(policy).st_mode & 0o111
    finally:
        os.killpg(process.pid, number)
        process.wait(10)
    assert not os.path.exists(policy)


def test_a_directory_of_others_is_left_alone(tmp_path):
    """As RUN_DIR=/tmp would be for root."""
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    write_file(str(theirs / "other.sock"), "")
    # Half a client: should run.sh go on, it ends before it starts anything.
    environment = {"PATH": os.environ["PATH"], "RUN_DIR": str(theirs), "PORT": "1", "INTERNAL_PORT": "2", "GOOGLE_CLIENT_ID": "x"}
    done = subprocess.run(["deploy/run.sh"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300,
                          check=False)
    assert done.returncode == 1 and done.stdout == "" and "name another directory" in done.stderr, done
    assert os.listdir(theirs) == ["other.sock"] and os.stat(theirs).st_mode & 0o777 == 0o755
