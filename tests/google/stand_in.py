"""The stand-in Google: one process, loopback only, for tests and the demo. See README.md."""

import argparse
import asyncio
import json
import os
import resource
import signal
import sys

from apis import Apis
from application import Application
from authorize import Authorize
from control import Control
from faults import Faults
from keys import Authority, SigningKeys
from ledger import Ledger
from oauth import OAuth
from state import Client, Clock, State
from wire import Listener

HERE = os.path.dirname(os.path.abspath(__file__))
GOOGLE_PROVIDER = os.path.join(HERE, "..", "..", "deploy", "providers", "google.json")

CLIENT_ID = "stand-in.apps.googleusercontent.com"
CLIENT_SECRET = "stand-in-secret-MARKER-of-the-first-client"
SECOND_CLIENT_ID = "stand-in-second.apps.googleusercontent.com"
SECOND_CLIENT_SECRET = "stand-in-secret-MARKER-of-the-second-client"
REDIRECT_URI = "http://localhost:8080/integrations/google/callback"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True, help="where ports.json and the rest go")
    parser.add_argument("--https-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--client-id", default=CLIENT_ID)
    parser.add_argument("--client-secret-file", help="else a fixed test secret is used")
    parser.add_argument("--redirect-uri", action="append", help="registered URI, repeatable")
    parser.add_argument("--app-name", default="Integrations", help="as the consent page names it")
    parser.add_argument("--api-proxy", action="store_true",
                        help="write api_base and api_paths into the provider file")
    return parser.parse_args()


def write(path, text, mode=0o644):
    """Whole or not at all: whoever waits for the file never reads a part of it."""
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def provider(https_base, http_base, api_proxy):
    """The real provider's file with every address on this machine."""
    with open(GOOGLE_PROVIDER, encoding="utf-8") as file:
        document = json.load(file)
    document.update({
        "issuer": https_base,
        "id_token_issuers": [https_base, https_base.removeprefix("https://")],
        # Plain HTTP, so that a browser that does not know the test CA shows no warning.
        "authorization_endpoint": http_base + "/o/oauth2/v2/auth",
        "token_endpoint": https_base + "/token",
        "revocation_endpoint": https_base + "/revoke",
        "userinfo_endpoint": https_base + "/v1/userinfo",
        "jwks_uri": https_base + "/oauth2/v3/certs",
    })
    for each in document["mcps"]:
        each["upstream"] = f"{https_base}/mcp/{each['mcp']}"
    if api_proxy:
        document["api_base"] = https_base
        document["api_paths"] = ["/gmail/v1/", "/calendar/v3/", "/drive/v3/"]
    return document


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run(options):
    os.makedirs(options.directory, exist_ok=True)
    secret = CLIENT_SECRET
    if options.client_secret_file:
        with open(options.client_secret_file, encoding="utf-8") as file:
            secret = file.read().strip()
    redirect_uris = options.redirect_uri or [REDIRECT_URI]

    def seed_clients(state):
        for client_id, its_secret in ((options.client_id, secret),
                                      (SECOND_CLIENT_ID, SECOND_CLIENT_SECRET)):
            state.clients[client_id] = Client(client_id, its_secret, "stand-in-project",
                                              list(redirect_uris))

    clock = Clock()
    state = State(clock, Ledger(clock))
    seed_clients(state)
    authority = Authority(options.directory)
    listeners = {"https": Listener("https", options.https_port, None, authority.context()),
                 "http": Listener("http", options.http_port, None)}
    for listener in listeners.values():
        listener.open()
    https_base = f"https://localhost:{listeners['https'].port}"
    http_base = f"http://localhost:{listeners['http'].port}"
    faults = Faults()
    application = Application(
        state, OAuth(state, SigningKeys(), https_base, https_base, http_base),
        Authorize(state, faults, https_base, options.app_name), Apis(state), faults, authority)
    application.control = Control(application, listeners, seed_clients)
    for listener in listeners.values():
        listener.application = application

    def path(name):
        return os.path.join(options.directory, name)

    authority.write(path("ca.pem"))
    write(path("client-secret"), secret + "\n", 0o600)
    document = json.dumps(provider(https_base, http_base, options.api_proxy), indent=2) + "\n"
    os.makedirs(path("providers"), exist_ok=True)
    write(path("provider.json"), document)
    write(path("providers/google.json"), document)
    ports = {name: listener.port for name, listener in listeners.items()}
    write(path("ports.json"), json.dumps({**ports, "client_id": options.client_id}) + "\n")
    print(f"ready https={ports['https']} http={ports['http']}", flush=True)

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    for listener in listeners.values():
        await listener.close()


def main():
    raise_file_limit()
    try:
        asyncio.run(run(arguments()))
    except OSError as error:
        sys.exit(f"stand-in Google: {error}")


if __name__ == "__main__":
    main()
