"""The authorization endpoint: checks on its own page, account, consent, and the redirect back."""

import re
from urllib.parse import parse_qsl, quote_plus, urlsplit

import pages
from oauth import VERIFIER
from state import IDENTITY, SCOPE_PREFIX, canonical, reordered
from wire import Response

CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
CHOOSER_ROWS = 12


class OwnPage(Exception):
    """A failure that is shown here and never reaches the client."""

    def __init__(self, error, description, status=400):
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status

    def response(self):
        return pages.refusal(self.error, self.description, self.status)


class AuthorizationRequest:
    def __init__(self, state, query_string):
        self.query_string = query_string
        pairs = parse_qsl(query_string, keep_blank_values=True)
        values = dict(pairs)
        if len(values) != len(pairs):
            raise OwnPage("invalid_request", "A parameter occurs more than once.")
        self.values = values
        if not values.get("client_id"):
            raise OwnPage("invalid_request", "Missing required parameter: client_id")
        self.client = state.clients.get(values["client_id"])
        if self.client is None:
            raise OwnPage("invalid_client", "The OAuth client was not found.", 401)
        if self.client.deleted:
            raise OwnPage("deleted_client", "The OAuth client was deleted.", 401)
        self.redirect_uri = self._required("redirect_uri")
        if self.redirect_uri not in self.client.redirect_uris:
            raise OwnPage("redirect_uri_mismatch",
                          "The redirect URI in the request is not registered for this client.")
        if self._required("response_type") != "code":
            raise OwnPage("invalid_request", "Only response_type code is offered.")
        self.scopes = canonical(self._required("scope"))
        for scope in self.scopes:
            if scope not in IDENTITY and not scope.startswith(SCOPE_PREFIX):
                raise OwnPage("invalid_scope", f"Some requested scopes were invalid: {scope}")
        self.identity = [scope for scope in self.scopes if scope in IDENTITY]
        self.optional = [scope for scope in self.scopes if scope not in IDENTITY]
        self.prompt = set(values.get("prompt", "").split())
        if self.prompt - {"none", "consent", "select_account"}:
            raise OwnPage("invalid_request", "Invalid prompt.")
        if "none" in self.prompt and len(self.prompt) > 1:
            raise OwnPage("invalid_request", "prompt none cannot be combined.")
        if values.get("access_type", "online") not in ("online", "offline"):
            raise OwnPage("invalid_request", "Invalid access_type.")
        self._read_challenge(values)

    def _required(self, name):
        if not self.values.get(name):
            raise OwnPage("invalid_request", f"Missing required parameter: {name}")
        return self.values[name]

    def _read_challenge(self, values):
        self.challenge = values.get("code_challenge")
        method = values.get("code_challenge_method")
        self.method = method or "plain"
        if self.challenge is None:
            if method is not None:
                raise OwnPage("invalid_request", "code_challenge_method without code_challenge.")
            return
        pattern = {"S256": CHALLENGE, "plain": VERIFIER}.get(self.method)
        if pattern is None or not pattern.match(self.challenge):
            raise OwnPage("invalid_request", "Invalid code_challenge or code_challenge_method.")


class Authorize:
    def __init__(self, state, faults, issuer, app_name):
        self.state = state
        self.faults = faults
        self.issuer = issuer
        self.app_name = app_name

    # What a browser asks for

    def start(self, request):
        return self._shown(lambda: self._start(request.query_string))

    def choose(self, request):
        return self._shown(lambda: self._with_account(
            AuthorizationRequest(self.state, request.parameter("request") or ""),
            self._account(request.parameter("account"))))

    def decide(self, request):
        return self._shown(lambda: self._decide(request))

    @staticmethod
    def _shown(step):
        try:
            return step()
        except OwnPage as refusal:
            return refusal.response()

    def _account(self, key):
        account = self.state.account(key or "")
        if account is None:
            raise OwnPage("invalid_request", "No such account.")
        return account

    def _start(self, query_string):
        asked = AuthorizationRequest(self.state, query_string)
        signed_in = self.state.account(self.state.settings["account"] or "")
        hinted = self.state.account(asked.values.get("login_hint", ""))
        account = hinted or signed_in
        if "none" in asked.prompt:
            return self._without_page(asked, account)
        if account and (account.mode != "ask" or "select_account" not in asked.prompt):
            return self._with_account(asked, account)
        rows = list(self.state.accounts.values())[:CHOOSER_ROWS]
        return pages.chooser(self.app_name, rows, query_string)

    def _without_page(self, asked, account):
        if account is None:
            location = self.declined(asked, "interaction_required", "login_required")
        elif self._covered(asked, account):
            location = self.approved(asked, account, asked.scopes, consented=False)
        else:
            location = self.declined(asked, "interaction_required", "access_denied", account)
        return self.redirect(location)

    def _covered(self, asked, account):
        grant = self.state.grant(account, asked.client.project)
        return grant is not None and set(asked.scopes) <= grant.scopes

    def _with_account(self, asked, account):
        self.check_account(account)
        if account.mode == "never":
            return pages.waiting(account)
        if account.mode == "deny":
            return self.redirect(self.declined(asked, "access_denied", account=account))
        if account.mode == "approve":
            return self.redirect(self.approved(asked, account, asked.scopes))
        if account.mode == "partial":
            return self.redirect(self.approved(asked, account, account.partial))
        if "consent" not in asked.prompt and self._covered(asked, account):
            return self.redirect(self.approved(asked, account, asked.scopes, consented=False))
        return pages.consent(self.app_name, account, asked.identity, asked.optional,
                             asked.query_string, self.state.settings["boxes_ticked"])

    def _decide(self, request):
        asked = AuthorizationRequest(self.state, request.parameter("request") or "")
        account = self._account(request.parameter("account"))
        self.check_account(account)
        if request.parameter("action") != "continue":
            return self.redirect(self.declined(asked, "access_denied", account=account))
        ticked = [value for name, value in request.form if name == "scope"]
        if len(asked.optional) <= 1:
            ticked = asked.optional
        return self.redirect(self.approved(asked, account, ticked))

    # What the control call asks for

    def directly(self, url, account_key, grant):
        """The whole flow without a browser; returns the Location of the redirect back."""
        parts = urlsplit(url)
        if parts.path != "/o/oauth2/v2/auth":
            raise OwnPage("invalid_request", "Not the authorization endpoint.", 404)
        asked = AuthorizationRequest(self.state, parts.query)
        account = self._account(account_key or asked.values.get("login_hint") or "ada")
        self.check_account(account)
        if grant == "deny":
            return self.declined(asked, "access_denied", account=account)
        if grant == "all":
            consented = "consent" in asked.prompt or not self._covered(asked, account)
            return self.approved(asked, account, asked.scopes, consented)
        return self.approved(asked, account, [] if grant == "none" else canonical(" ".join(grant)))

    # Decisions

    def check_account(self, account):
        settings = self.state.settings
        if settings["publishing"] == "testing" and account.email not in settings["test_users"]:
            raise OwnPage("access_denied", "The app is in testing; you are not a test user.", 403)
        if account.policy == "org_internal":
            raise OwnPage("org_internal", "The app is for one organization only.", 403)
        if account.policy:
            raise OwnPage(account.policy, "Your administrator does not allow this.")

    def approved(self, asked, account, chosen, consented=True):
        fault = self.faults.take_one("callback", {"authorize"}, account)
        if fault and fault.options.get("error"):
            return self.location(asked, self._error(asked, fault.options["error"]), fault)
        granted = asked.identity + [scope for scope in asked.optional if scope in chosen]
        if asked.values.get("include_granted_scopes") == "true":
            grant = self.state.grant(account, asked.client.project)
            granted += sorted((grant.scopes if grant else set()) - set(granted))
        self.state.approve(account, asked.client, granted)
        code = self.state.issue_code(
            client=asked.client, account=account, redirect_uri=asked.redirect_uri,
            scopes=granted, requested=asked.scopes, nonce=asked.values.get("nonce"),
            challenge=asked.challenge, challenge_method=asked.method,
            offline=asked.values.get("access_type") == "offline", consented=consented)
        answer = self._opening(asked, self.state.settings["callback_iss"])
        answer += [("code", code.value), ("scope", " ".join(reordered(granted, asked.scopes))),
                   ("authuser", "0")]
        if account.hd:
            answer.append(("hd", account.hd))
        answer.append(("prompt", "consent" if consented else "none"))
        return self.location(asked, answer, fault)

    def declined(self, asked, error, subtype=None, account=None):
        self.state.ledger.count("declined")
        fault = self.faults.take_one("callback", {"authorize"}, account)
        answer = self._error(asked, error)
        if subtype:
            answer.append(("error_subtype", subtype))
        return self.location(asked, answer, fault)

    def _opening(self, asked, with_issuer):
        answer = []
        if "state" in asked.values:
            answer.append(("state", asked.values["state"]))
        if with_issuer:
            answer.append(("iss", self.issuer))
        return answer

    def _error(self, asked, error):
        return self._opening(asked, self.state.settings["callback_iss_on_errors"]) + [
            ("error", error)]

    @staticmethod
    def location(asked, answer, fault):
        """The redirect URI with the answer, after the faults that a test asked for."""
        if fault:
            options = fault.options
            omitted = options.get("omit", [])
            answer = [pair for pair in answer if pair[0] not in omitted]
            for name, value in options.get("set", {}).items():
                if name in dict(answer):
                    answer = [(each, value if each == name else old) for each, old in answer]
                else:
                    answer.append((name, value))
            for name in options.get("alter", []):
                answer = [(each, ("B" if old[:1] == "A" else "A") + old[1:]) if each == name
                          else (each, old) for each, old in answer]
            answer += [tuple(pair) for pair in options.get("add", [])]
        query = "&".join(f"{quote_plus(name)}={quote_plus(str(value))}" for name, value in answer)
        return asked.redirect_uri + ("&" if "?" in asked.redirect_uri else "?") + query

    @staticmethod
    def redirect(location):
        return Response(302, [("Location", location), ("Cache-Control", "no-store"),
                              ("Referrer-Policy", "no-referrer")])
