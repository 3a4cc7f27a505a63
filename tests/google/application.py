"""From a request to its answer: the route, the recording, the faults, and the sending."""

import asyncio

import faults as fault_rules
import keys
import misbehaviour
from oauth import not_found
from wire import Response, json_response


class Application:
    def __init__(self, state, oauth, authorize, apis, faults, authority):
        self.state = state
        self.ledger = state.ledger
        self.oauth = oauth
        self.authorize = authorize
        self.apis = apis
        self.faults = faults
        self.authority = authority
        self.control = None
        self._contexts = {}
        self.routes = {
            "/token": ("token", self.oauth.token),
            "/revoke": ("revoke", lambda request: self.oauth.revoke(request, self._later)),
            "/v1/userinfo": ("userinfo", self.oauth.userinfo),
            "/tokeninfo": ("tokeninfo", self.oauth.tokeninfo),
            "/oauth2/v3/tokeninfo": ("tokeninfo", self.oauth.tokeninfo),
            "/oauth2/v3/certs": ("certs", self.oauth.certs),
            "/.well-known/openid-configuration": ("discovery", self.oauth.discovery),
            "/o/oauth2/v2/auth": ("authorize", self.authorize.start),
            "/o/oauth2/v2/auth/account": ("authorize", self.authorize.choose),
            "/o/oauth2/v2/auth/decision": ("authorize", self.authorize.decide),
        }

    @staticmethod
    def _later(seconds, call):
        if seconds:
            asyncio.get_running_loop().call_later(seconds, call)
        else:
            call()

    # What the listeners report

    def connection_count(self, listener_name, count):
        if listener_name == "https":
            self.ledger.high_water("max_connections", count)

    def handshake_failed(self):
        self.ledger.count("handshakes_failed")

    def unreadable(self, _reason):
        self.ledger.count("unreadable")

    async def greet(self, context):
        """Before TLS begins: the context to use; None when the connection is to end; or what to
        say in plain to whoever has begun a handshake, nothing meaning a reset."""
        self.ledger.count("connections")
        fault = self.faults.take_one("greet", {"connection"})
        if fault is None:
            return context
        if fault.kind == "refuse_connection":
            return None
        if fault.kind == "plain_http":
            return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        if fault.kind == "reset_handshake":
            return b""
        if fault.kind == "stall_handshake":
            await asyncio.sleep(fault.options.get("seconds", 60))
            return None
        if fault.kind not in self._contexts:
            if fault.kind == "expired_certificate":
                made = self.authority.context(expired=True)
            elif fault.kind == "wrong_name":
                made = self.authority.context(["elsewhere.example"], [])
            elif fault.kind == "old_tls":
                made = keys.only_tls11(self.authority.context())
            else:
                made = type(self.authority)(self.authority.directory).context()
            self._contexts[fault.kind] = made
        return self._contexts[fault.kind]

    # Serving

    async def serve(self, connection, request):
        """Answer one request. True when the connection may carry another."""
        if request.path.startswith("/__control/") and connection.listener.name == "http":
            response = await self.control.handle(request)
            await connection.respond(request, response)
            return True
        self._enter_lane(request)
        endpoint, handler, account = self._route(request)
        entry = self.ledger.begin(request, endpoint)
        try:
            return await self._serve(connection, request, endpoint, handler, account, entry)
        finally:
            self.ledger.end()

    @staticmethod
    def _enter_lane(request):
        """/lane/NAME/token is /token, but a fault may be armed for this lane alone."""
        if request.path.startswith("/lane/"):
            request.lane, _, rest = request.path.removeprefix("/lane/").partition("/")
            request.path = "/" + rest

    def _route(self, request):
        if request.path in self.routes:
            endpoint, handler = self.routes[request.path]
            account = self.oauth.account_of(request)
            if endpoint == "authorize":
                account = self.state.account(request.parameter("account") or "")
            return endpoint, handler, account
        family = self.apis.family(request.path)
        if family:
            return family, self.apis.handle, self.oauth.account_of(request)
        if request.path.startswith("/elsewhere"):
            self.ledger.count("elsewhere")
            return "elsewhere", lambda _: json_response({"elsewhere": True}), None
        return None, lambda _: not_found(), None

    async def _serve(self, connection, request, endpoint, handler, account, entry):
        names = {endpoint}
        if endpoint == "token":
            purpose = {"authorization_code": "exchange", "refresh_token": "refresh"}.get(
                request.parameter("grant_type"))
            if purpose:
                # Counted on arrival, so that one that a fault swallows is counted too.
                self.ledger.count({"exchange": "exchanges", "refresh": "refreshes"}[purpose])
                names.add(purpose)
        taken = self.faults.take(names, account, request.lane)
        entry["faults"] = [fault.number for fault in taken.values()]
        waiting, replacing = taken.get("wait"), taken.get("replace")
        if waiting and not waiting.options.get("after"):
            if not await fault_rules.wait(waiting, connection):
                return False
        wire_fault = taken.get("mangle")
        response = None
        if self._has_effect(replacing or wire_fault):
            response = self._answer(request, endpoint, handler, taken)
        if waiting and waiting.options.get("after"):
            if not await fault_rules.wait(waiting, connection):
                return False
        if replacing:
            response = fault_rules.replacement(replacing, self._elsewhere(request))
            wire_fault = replacing if response is None else None
        if response is None:
            response = Response()
        entry["status"] = response.status
        if wire_fault:
            return await misbehaviour.send(wire_fault, connection, request, response)
        await connection.respond(request, response)
        return True

    @staticmethod
    def _has_effect(fault):
        """Whether the endpoint does its work. A fault may say so; else an answer that replaces
        the true one, and a stall before the headers, are of a server that never did it."""
        if fault is None:
            return True
        if "effect" in fault.options:
            return fault.options["effect"]
        if fault.kind == "stall":
            return fault.options.get("when", "before") != "before"
        return fault.category != "replace"

    def _answer(self, request, endpoint, handler, taken):
        if endpoint == "token":
            response = handler(request, taken.get("id_token"))
        else:
            response = handler(request)
        change = taken.get("answer")
        if change and response.document is not None:
            document = dict(response.document)
            for name in change.options.get("omit", []):
                document.pop(name, None)
            document.update(change.options.get("set", {}))
            response.document = document
            response.status = change.options.get("status", response.status)
        return response

    def _elsewhere(self, request):
        """Another host name for the same loopback port: a client that follows is counted."""
        listener = request.connection.listener
        return f"{listener.name}://127.0.0.1:{listener.port}/elsewhere{request.path}"
