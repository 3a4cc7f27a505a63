"""`make install`: what it writes, what it leaves alone, and that what it wrote works as the pages say."""

import base64
import json
import os
import re
import secrets
import shlex
import shutil
import stat
import subprocess

import pytest

from harness import PROGRAM, REPOSITORY, VALGRIND, Host, good, wait_until, write_file

pytestmark = pytest.mark.skipif(VALGRIND, reason="the program is a script there, which finds its build by its place")

SECRETS = {"REDIS_URL_FILE": "redis-url", "GOOGLE_CLIENT_SECRET_FILE": "google-client-secret"}


class Installed:
    """Below one directory. `root`: the directory is DESTDIR, and the paths are those of a real machine."""

    def __init__(self, directory, root=False):
        self.directory = str(directory)
        self.root = root
        base = "" if root else self.directory
        self.names = {"PREFIX": f"{base}/usr", "SYSCONFDIR": f"{base}/etc", "UNIT_DIR": f"{base}/units",
                      "SYSUSERS_DIR": f"{base}/sysusers"}

    def path(self, name):
        return os.path.join(self.directory, name)

    def install(self, umask=0o022):
        # The program that is under test, as it is: nothing is built here.
        arguments = [f"{name}={value}" for name, value in self.names.items()]
        if self.root:
            arguments.append(f"DESTDIR={self.directory}")
        subprocess.run(["make", "-s", "-C", REPOSITORY, "-o", PROGRAM, f"PROGRAM={PROGRAM}", "install", *arguments],
                       check=True, umask=umask)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def files(self):
        return {os.path.join(folder, name)[len(self.directory) + 1:]
                for folder, _, names in os.walk(self.directory) for name in names}

    def admin(self, *arguments, check=True):
        done = subprocess.run([self.path("usr/sbin/integrations-admin"), *arguments], env={"PATH": os.environ["PATH"]},
                              capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def write_secret(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        write_file(self.path(name), text, 0o440)

    def service_environment(self):
        """As systemd makes it, from the unit and the file that it names."""
        environment = {}
        for line in self.read("units/integrations.service").splitlines():
            name, _, value = line.partition("=")
            if name == "Environment":
                environment.update([value.split("=", 1)])
            elif name == "EnvironmentFile":
                with open(value, encoding="utf-8") as file:
                    environment.update(shlex.split(each)[0].split("=", 1) for each in file if each[0] not in "#\n")
        return environment


@pytest.fixture
def installed(product, tmp_path):
    """Installed, and filled in with what the product under test runs with, as an engineer would."""
    site = Installed(tmp_path)
    site.install()
    site.write_secret("etc/integrations/secrets/redis-url", product.environment["REDIS_URL"])
    site.write_secret("etc/integrations/secrets/redis-admin-url", product.environment["REDIS_ADMIN_URL"])
    site.write_secret("etc/integrations/keys/token-keys", open(product.keys_file, encoding="utf-8").read())
    shutil.copy(product.environment["GOOGLE_CLIENT_SECRET_FILE"], site.path("etc/integrations/secrets/google-client-secret"))
    shutil.copy(os.path.join(product.providers_dir, "google.json"), site.path("etc/integrations/providers"))
    names = ("PUBLIC_URL", "GOOGLE_CLIENT_ID", "ENVIRONMENT", "PROVIDER_CA_FILE", "PROVIDER_ALLOW_PRIVATE")
    with open(site.path("etc/integrations/integrations.env"), "a", encoding="utf-8") as file:
        file.writelines(f"{name}={shlex.quote(product.environment[name])}\n" for name in names)
    return site


# What is written

def test_everything_is_there(tmp_path):
    site = Installed(tmp_path, root=True)
    site.install(umask=0o077)
    wanted = {"usr/bin/integrations", "usr/sbin/integrations-admin", "units/integrations.service", "units/integrations.socket",
              "sysusers/integrations.conf", "etc/integrations/integrations.env", "etc/integrations/admin.env",
              "etc/integrations/providers/google.json", "usr/share/integrations/nginx/install.sh",
              "usr/share/integrations/redis/users.acl",
              "usr/share/integrations/providers/google.json"}
    assert wanted <= site.files()
    # Neither nginx nor the service owns a file, and root's umask may be anything.
    for name in site.files():
        assert os.stat(site.path(name)).st_mode & stat.S_IROTH, name
        assert os.stat(os.path.dirname(site.path(name))).st_mode & stat.S_IXOTH, name
    for name in ("units/integrations.service", "usr/sbin/integrations-admin", "etc/integrations/integrations.env",
                 "etc/integrations/admin.env"):
        assert not re.search("@[A-Z]+@", site.read(name)), name
        assert site.directory not in site.read(name), name
    # nginx's directory is the site's.
    assert not os.path.exists(site.path("etc/nginx"))


def test_the_operators_pages_are_there(tmp_path):
    """And what they lead to. The first page is for those who have the sources."""
    site = Installed(tmp_path)
    site.install()
    share = "usr/share/integrations"
    pages = [name for name in site.files() if name.endswith(".md")]
    wanted = ("README", "deploy/README", "deploy/SETTINGS", "deploy/COMMANDS", "fcgi/README", "fcgi/API", "fcgi/GATEWAY",
              "fcgi/EVENTS", "fcgi/SECURITY", "nginx/README")
    assert set(pages) == {f"{share}/{name}.md" for name in wanted}
    for name in pages:
        for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", site.read(name)):
            assert name == f"{share}/README.md" or os.path.exists(site.path(os.path.join(os.path.dirname(name), target))), \
                f"{name}: {target}"


def test_an_upgrade_leaves_alone_what_a_site_edits(tmp_path):
    site = Installed(tmp_path)
    site.install()
    write_file(site.path("etc/integrations/providers/other.json"), "{}")
    os.remove(site.path("etc/integrations/providers/google.json"))
    subprocess.run([site.path("usr/share/integrations/nginx/install.sh"), site.path("etc/nginx"),
                    "PUBLIC_URL=https://app.test"], check=True)
    theirs = [name for name in site.files() if name.startswith("etc/")]
    assert "etc/nginx/snippets/integrations-server.conf" in theirs
    for name in theirs:
        write_file(site.path(name), f"edited {name}")
    site.install()
    assert sorted(name for name in site.files() if name.startswith("etc/")) == sorted(theirs)
    for name in theirs:
        assert site.read(name) == f"edited {name}"


def test_nginx_finds_the_pages(tmp_path):
    site = Installed(tmp_path)
    site.install()
    subprocess.run([site.path("usr/share/integrations/nginx/install.sh"), site.path("etc/nginx"),
                    "PUBLIC_URL=https://app.test"], check=True)
    roots = [line.split()[1].rstrip(";") for line in site.read("etc/nginx/snippets/integrations-server.conf").splitlines()
             if line.split()[:1] == ["root"]]
    assert roots and all(os.path.isdir(each) for each in roots), roots


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="without systemd nobody can say")
def test_systemd_takes_the_files(tmp_path):
    site = Installed(tmp_path)
    site.install()
    done = subprocess.run(["systemd-analyze", "verify", site.path("units/integrations.service"),
                           site.path("units/integrations.socket")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    os.makedirs(site.path("root/etc"))
    done = subprocess.run(["systemd-sysusers", f"--root={site.path('root')}", site.path("sysusers/integrations.conf")],
                          capture_output=True, text=True, check=True)
    groups = dict((line.split(":")[0], line.split(":")[3]) for line in site.read("root/etc/group").splitlines())
    assert groups == {"integrations": "integrations-admin", "integrations-admin": ""}, done.stderr
    # The service is a user who is there, and may not read what is for the commands only.
    unit = site.read("units/integrations.service")
    assert "\nUser=integrations\nGroup=integrations\n" in unit and "SupplementaryGroups" not in unit


# What is written works

def test_the_commands_by_hand(product, installed):
    checked = installed.admin("check").stdout
    assert checked.endswith("All is well.\n"), checked
    assert "ok: REDIS_ADMIN_URL: Redis answers\n" in checked
    token = installed.admin("session", "create", "--user", "ada", "--org", "acme").stdout.splitlines()[-1]
    product.scanner.record(token, "a session token")
    assert good(product.request("GET", "/api/me", bearer=token))["user_id"] == "ada"
    os.chmod(installed.path("etc/integrations/keys/token-keys"), 0o444)
    assert "TOKEN_KEYS_FILE: the file can be read by everyone" in installed.admin("check", check=False).stdout


def test_the_sealing_key_changes_while_the_service_runs(product, installed, ada):
    """With the environment that the unit makes: the ring is read where the engineer writes it."""
    ada.connect("acme")
    environment = installed.service_environment()
    ring = installed.path("etc/integrations/keys/token-keys")
    assert environment["TOKEN_KEYS_FILE"] == ring
    assert environment["PROVIDERS_DIR"] == installed.path("etc/integrations/providers")
    host = Host(product, len(product.hosts))
    host.configure({**environment, "WORKERS": "1"}, "", ())
    product.hosts.append(host)
    try:
        host.start()
        host.wait_ready()
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        product.scanner.record(key, "a key of the key ring")
        for path in (ring, product.keys_file):
            line = f"k9:{key}\n" + open(path, encoding="utf-8").read()
            write_file(f"{path}.new", line, 0o440)
            os.replace(f"{path}.new", path)
        rotated = installed.admin("keys", "rotate").stdout
        assert "under k9: 1 (first key)" in rotated, rotated
        # No reload yet: a worker that meets the key looks for it.
        assert ada.validate("acme", host=len(product.hosts) - 1).json()["is_valid"]
        host.serve.send(1)
        wait_until(lambda: '"reloaded"' in host.serve.text(), "the workers are replaced", 30)
        assert ada.validate("acme", host=len(product.hosts) - 1).status_code == 200
    finally:
        product.hosts.pop()
        host.stop()
        product.reload()
    assert [json.loads(line)["event"] for line in host.serve.text().splitlines() if '"error"' in line] == []
