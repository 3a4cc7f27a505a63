"""The control calls: how tests look at and steer the stand-in. Only on the plain port."""

import dataclasses
import json

import keys
from authorize import OwnPage
from faults import FaultError
from state import MODES, SETTINGS, Client, canonical
from wire import json_response


class ControlError(ValueError):
    pass


def required(document, name):
    if name not in document:
        raise ControlError(f"missing member: {name}")
    return document[name]


class Control:
    def __init__(self, application, listeners, fresh):
        """`fresh` makes the seeded clients anew, for reset."""
        self.application = application
        self.listeners = listeners
        self.fresh = fresh
        self.routes = {
            ("GET", "health"): self.health,
            ("GET", "ledger"): self.ledger,
            ("GET", "requests"): self.requests,
            ("POST", "reset"): self.reset,
            ("POST", "authorize"): self.authorize,
            ("POST", "mint"): self.mint,
            ("POST", "honours"): self.honours,
            ("POST", "live"): self.live,
            ("POST", "revoke_grant"): self.revoke_grant,
            ("POST", "set_grant"): self.set_grant,
            ("POST", "password_changed"): self.password_changed,
            ("GET", "accounts"): self.accounts,
            ("POST", "accounts"): self.add_accounts,
            ("POST", "account"): self.change_account,
            ("POST", "clients"): self.change_client,
            ("GET", "settings"): self.settings,
            ("POST", "settings"): self.change_settings,
            ("POST", "clock"): self.clock,
            ("POST", "rotate_keys"): self.rotate_keys,
            ("POST", "fault"): self.arm,
            ("GET", "faults"): self.faults,
            ("DELETE", "faults"): self.clear_faults,
            ("POST", "release"): self.release,
            ("POST", "listen"): self.listen,
        }

    @property
    def state(self):
        return self.application.state

    async def handle(self, request):
        # A web page that some browser on this machine shows has no business here.
        if request.header("sec-fetch-site") not in (None, "none", "same-origin"):
            return json_response({"error": "not for web pages"}, 403)
        route = self.routes.get((request.method, request.path.removeprefix("/__control/")))
        if route is None:
            return json_response({"error": "no such control call"}, 404)
        try:
            document = json.loads(request.body) if request.body else {}
            if not isinstance(document, dict):
                raise ControlError("the body is a JSON object")
            answer = route(document, dict(request.query))
            if hasattr(answer, "__await__"):
                answer = await answer
        except (ControlError, FaultError, ValueError, TypeError) as error:
            return json_response({"error": str(error)}, 400)
        return json_response(answer)

    def _account(self, document):
        account = self.state.account(required(document, "account"))
        if account is None:
            raise ControlError(f"unknown account: {document['account']}")
        return account

    def _client(self, document):
        client_id = document.get("client_id") or next(iter(self.state.clients))
        if client_id not in self.state.clients:
            raise ControlError(f"unknown client: {client_id}")
        return self.state.clients[client_id]

    # Looking

    def health(self, _document, _query):
        return {"ok": True, "time": self.state.clock.now()}

    def ledger(self, _document, query):
        ledger = self.application.ledger
        answer = {"counters": ledger.all_counters(), "in_flight": ledger.in_flight,
                  "open_connections": len(self.listeners["https"].connections)}
        if query.get("lists") != "0":
            answer.update(self.state.listing(), events=list(ledger.events))
        return answer

    def requests(self, _document, query):
        entries = self.application.ledger.requests
        wanted = query.get("endpoint")
        return {"requests": [entry for entry in entries if wanted in (None, entry["endpoint"])]}

    def accounts(self, _document, _query):
        return {"accounts": [dataclasses.asdict(each) for each in self.state.accounts.values()]}

    def honours(self, document, _query):
        """Would this token work now? Asking changes nothing."""
        state = self.state
        many = document.get("refresh_tokens")
        if many is not None:
            return {"honoured": [state.is_live(state.find(each, "refresh")) for each in many]}
        kind = "refresh" if "refresh_token" in document else "access"
        return {"honoured": state.is_live(state.find(required(document, kind + "_token"), kind))}

    def live(self, document, _query):
        """How many tokens of the account would work now."""
        account = self._account(document)
        tokens = [token for (key, _), grant in self.state.grants.items() if key == account.key
                  for token in grant.tokens if self.state.is_live(token)]
        return {kind: sum(token.kind == kind for token in tokens) for kind in ("access", "refresh")}

    # Acting as the person at the browser

    def authorize(self, document, _query):
        grant = document.get("grant", "all")
        if not isinstance(grant, list) and grant not in ("all", "none", "deny"):
            raise ControlError("grant is all, none, deny, or a list of scopes")
        try:
            location = self.application.authorize.directly(
                required(document, "url"), document.get("account"), grant)
        except OwnPage as refusal:
            return {"location": None, "error": refusal.error, "status": refusal.status,
                    "description": refusal.description}
        return {"location": location}

    def revoke_grant(self, document, _query):
        """As at the account's own security page."""
        return {"ended": self.state.revoke_grant(self._account(document),
                                                 self._client(document).project, "by_user")}

    def set_grant(self, document, _query):
        """The account takes single scopes back (or gives them): refreshes follow."""
        client = self._client(document)
        grant = self.state.grant(self._account(document), client.project)
        if grant is None:
            raise ControlError("the account has granted nothing")
        grant.scopes = set(canonical(" ".join(required(document, "scopes"))))
        return {"scopes": sorted(grant.scopes)}

    def password_changed(self, document, _query):
        return {"ended": self.state.password_changed(self._account(document))}

    # Setting up

    def mint(self, document, _query):
        """Tokens as after a consent, without one: for `account`, or for each of `accounts`."""
        state = self.state
        client = self._client(document)
        names = document.get("accounts") or [required(document, "account")]
        scopes = canonical(" ".join(required(document, "scopes")))
        made = []
        for name in names:
            account = self._account({"account": name})
            for _ in range(document.get("count", 1)):
                family = f"minted-{len(state.tokens):x}"
                refresh = state.issue_refresh(client, account, scopes, family)
                access = state.issue_access(client, account, scopes, family, refresh)
                if "expires_in" in document:
                    access.expires_at = state.clock.now() + document["expires_in"]
                made.append({"access_token": access.value, "refresh_token": refresh.value,
                             "expires_in": int(access.expires_at - access.issued_at),
                             "scope": " ".join(scopes), "client_id": client.client_id,
                             "account": account.key, "sub": account.sub, "email": account.email})
        return {"tokens": made}

    def add_accounts(self, document, _query):
        """`accounts`: a list of {email, sub?, name?, hd?}; or `count` of `prefix`-00001 …"""
        wanted = document.get("accounts")
        if wanted is None:
            prefix, domain = document.get("prefix", "user"), document.get("domain", "example.com")
            wanted = [{"email": f"{prefix}-{number:05d}@{domain}"}
                      for number in range(1, required(document, "count") + 1)]
        made = [self.state.add_account(**each) for each in wanted]
        return {"accounts": [{"key": each.key, "email": each.email, "sub": each.sub}
                             for each in made]}

    def change_account(self, document, _query):
        account = self._account(document)
        changes = {name: value for name, value in document.items() if name != "account"}
        known = {field.name for field in dataclasses.fields(account)} - {"key", "email", "sub"}
        if not set(changes) <= known:
            raise ControlError(f"may be changed: {sorted(known)}")
        if changes.get("mode", "ask") not in MODES:
            raise ControlError(f"mode is one of {MODES}")
        if "partial" in changes:
            changes["partial"] = canonical(" ".join(changes["partial"]))
        for name, value in changes.items():
            setattr(account, name, value)
        return dataclasses.asdict(account)

    def change_client(self, document, _query):
        client_id = required(document, "client_id")
        client = self.state.clients.get(client_id)
        if client is None:
            client = Client(client_id, required(document, "secret"),
                            document.get("project", "stand-in-project"), [])
            self.state.clients[client_id] = client
        for name in ("secret", "project", "redirect_uris", "deleted"):
            if name in document:
                setattr(client, name, document[name])
        return {"client_id": client_id, "project": client.project,
                "redirect_uris": client.redirect_uris, "deleted": client.deleted}

    def settings(self, _document, _query):
        return self.state.settings

    def change_settings(self, document, _query):
        unknown = set(document) - set(SETTINGS)
        if unknown:
            raise ControlError(f"unknown settings: {sorted(unknown)}")
        if document.get("personality", "google") not in ("google", "rotating"):
            raise ControlError("personality is google or rotating")
        self.state.settings.update(document)
        return self.state.settings

    def clock(self, document, _query):
        """`offset` sets, `advance` adds seconds."""
        clock = self.state.clock
        clock.offset = document.get("offset", clock.offset) + document.get("advance", 0)
        return {"offset": clock.offset, "time": clock.now()}

    def rotate_keys(self, _document, _query):
        return {"kid": self.application.oauth.keys.rotate()}

    async def reset(self, _document, _query):
        """As after a start, on the same ports and with the same keys."""
        self.application.faults.clear()
        self.state.clock.offset = 0
        ledger = self.application.ledger
        in_flight = ledger.in_flight
        ledger.__init__(self.state.clock)
        ledger.in_flight = in_flight
        self.state.__init__(self.state.clock, ledger)
        self.fresh(self.state)
        self.listeners["https"].open()
        return {"ok": True}

    # Faults

    def arm(self, document, _query):
        signature = document.get("sign", "good")
        if signature not in keys.SIGNATURES:
            raise ControlError(f"sign is one of {keys.SIGNATURES}")
        return self.application.faults.arm(document, self.state.account).describe()

    def faults(self, _document, _query):
        return {"faults": [fault.describe() for fault in self.application.faults.armed]}

    def clear_faults(self, _document, query):
        number = int(query["id"]) if "id" in query else None
        return {"faults": [fault.describe()
                           for fault in self.application.faults.clear(number)]}

    def release(self, document, _query):
        return {"released": self.application.faults.release(document.get("id"))}

    async def listen(self, document, _query):
        """Whether the TLS port accepts at all; closing it cuts its connections too."""
        if required(document, "https"):
            self.listeners["https"].open()
        else:
            await self.listeners["https"].close()
        return {"https": self.listeners["https"].is_open}
