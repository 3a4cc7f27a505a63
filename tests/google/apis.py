"""A small read-only part of the Gmail, Calendar and Drive APIs, with their error forms."""

import base64
import hashlib
import json
import re
from urllib.parse import unquote

import content
from faults import api_error
from oauth import not_found
from state import SCOPE_PREFIX
from wire import Response, json_response

REALM = 'Bearer realm="https://accounts.google.com/"'
INVALID = ("Request had invalid authentication credentials. Expected OAuth 2 access token, login "
           "cookie or other valid authentication credential. See "
           "https://developers.google.com/identity/sign-in/web/devconsole-project.")
MISSING = ("Request is missing required authentication credential. Expected OAuth 2 access token, "
           "login cookie or other valid authentication credential. See "
           "https://developers.google.com/identity/sign-in/web/devconsole-project.")
SCOPES = {
    "gmail": [SCOPE_PREFIX + "gmail.readonly", "https://mail.google.com/"],
    "calendar": [SCOPE_PREFIX + "calendar.readonly", SCOPE_PREFIX + "calendar"],
    "drive": [SCOPE_PREFIX + "drive.readonly", SCOPE_PREFIX + "drive"],
}
PREFIXES = {"/gmail/v1/": "gmail", "/calendar/v3/": "calendar", "/drive/v3/": "drive"}
FILE_FIELDS = {"kind", "id", "name", "mimeType", "trashed", "modifiedTime", "size"}
FILE_DEFAULT = {"kind", "id", "name", "mimeType"}


class Invalid(Exception):
    def __init__(self, message, reason="invalid", location=None, status=400, grpc=None):
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.location = location
        self.status = status
        self.grpc = grpc


def number_parameter(parameters, name, default, limit):
    value = parameters.get(name, str(default))
    if not value.isdigit() or not 1 <= int(value) <= limit:
        raise Invalid(f"Invalid value '{value}'.", "invalidParameter", name)
    return int(value)


def page(items, parameters, size):
    """A slice and the token of the next; a token is good only for the query that gave it."""
    query = sorted(pair for pair in parameters.items() if pair[0] != "pageToken")
    binding = hashlib.sha256(json.dumps(query).encode()).hexdigest()[:12]
    start = 0
    if parameters.get("pageToken"):
        try:
            start, bound = json.loads(base64.urlsafe_b64decode(parameters["pageToken"]))
        except ValueError:
            bound = None
        if bound != binding:
            raise Invalid("Invalid pageToken", "invalid", "pageToken")
    following = start + size
    token = None
    if following < len(items):
        token = base64.urlsafe_b64encode(json.dumps([following, binding]).encode()).decode()
    return items[start:following], token


class Apis:
    def __init__(self, state):
        self.state = state
        self.ledger = state.ledger
        self.routes = [
            (r"/gmail/v1/users/me/profile", self.profile),
            (r"/gmail/v1/users/me/labels", self.labels),
            (r"/gmail/v1/users/me/messages", self.messages),
            (r"/gmail/v1/users/me/messages/([^/]+)", self.message),
            (r"/calendar/v3/users/me/calendarList", self.calendar_list),
            (r"/calendar/v3/calendars/([^/]+)/events", self.events),
            (r"/calendar/v3/calendars/([^/]+)/events/([^/]+)", self.event),
            (r"/drive/v3/about", self.about),
            (r"/drive/v3/files", self.files),
            (r"/drive/v3/files/([^/]+)", self.file),
            (r"/drive/v3/files/([^/]+)/export", self.export),
        ]

    @staticmethod
    def family(path):
        return next((family for prefix, family in PREFIXES.items() if path.startswith(prefix)),
                    None)

    def handle(self, request):
        """Credentials, then scope, then route, then parameters: Google's order."""
        response = self._handle(request)
        self.ledger.count("api_calls" if response.status < 400 else "api_refused")
        return response

    def _handle(self, request):
        if request.bearer is None:
            return api_error(401, "required", MISSING, "UNAUTHENTICATED", "CREDENTIALS_MISSING",
                             [("WWW-Authenticate", REALM)])
        token = self.state.find(request.bearer, "access")
        if not self.state.is_live(token):
            return api_error(401, "authError", INVALID, "UNAUTHENTICATED", None,
                             [("WWW-Authenticate", REALM + ', error="invalid_token"')])
        needed = SCOPES[self.family(request.path)]
        if not set(needed) & set(self.state.present_scopes(token)):
            challenge = REALM + f', error="insufficient_scope", scope="{" ".join(needed)}"'
            return api_error(403, "insufficientPermissions",
                             "Request had insufficient authentication scopes.",
                             "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                             [("WWW-Authenticate", challenge)])
        self.state.use(token)
        if request.method not in ("GET", "HEAD"):
            self.ledger.count("write_verbs")
            return not_found()
        for pattern, handler in self.routes:
            match = re.fullmatch(pattern, request.raw_path)
            if match:
                parts = [unquote(part) for part in match.groups()]
                try:
                    answer = handler(token.account, dict(request.query), *parts)
                except Invalid as error:
                    return api_error(error.status, error.reason, error.message, error.grpc,
                                     location=error.location)
                return answer if isinstance(answer, Response) else json_response(answer)
        return not_found()

    # Gmail

    def profile(self, account, _parameters):
        mail = content.messages(account)
        return {"emailAddress": account.email, "messagesTotal": len(mail),
                "threadsTotal": len({each["threadId"] for each in mail}), "historyId": "2000"}

    def labels(self, _account, _parameters):
        return {"labels": [{"id": name, "name": name, "type": "system"}
                           for name in ("INBOX", "UNREAD", "TRASH")]}

    def messages(self, account, parameters):
        found = content.messages(account)
        if parameters.get("includeSpamTrash") != "true":
            found = [each for each in found if "TRASH" not in each["labelIds"]]
        if "labelIds" in parameters:
            found = [each for each in found if parameters["labelIds"] in each["labelIds"]]
        for word in parameters.get("q", "").lower().split():
            found = [each for each in found if self._matches(each, word)]
        size = number_parameter(parameters, "maxResults", 100, 500)
        items, token = page(found, parameters, size)
        answer = {"resultSizeEstimate": len(found)}
        if items:
            answer["messages"] = [{"id": each["id"], "threadId": each["threadId"]}
                                  for each in items]
        if token:
            answer["nextPageToken"] = token
        return answer

    @staticmethod
    def _matches(message, word):
        """from:, subject:, is:unread, and words of the text; nothing else of Gmail's language."""
        headers = {each["name"]: each["value"].lower() for each in message["payload"]["headers"]}
        operator, colon, value = word.partition(":")
        if colon and operator == "from":
            return value in headers["From"]
        if colon and operator == "subject":
            return value in headers["Subject"]
        if word == "is:unread":
            return "UNREAD" in message["labelIds"]
        return word in message["snippet"].lower()

    def message(self, account, parameters, message_id):
        found = next((each for each in content.messages(account) if each["id"] == message_id),
                     None)
        if found is None:
            raise Invalid("Requested entity was not found.", "notFound", None, 404, "NOT_FOUND")
        form = parameters.get("format", "full")
        if form not in ("full", "metadata", "minimal", "raw"):
            raise Invalid(f"Invalid value '{form}'.", "invalidArgument", "format")
        if form == "raw":
            lines = [f"{each['name']}: {each['value']}" for each in found["payload"]["headers"]]
            body = base64.urlsafe_b64decode(found["payload"]["body"]["data"]).decode()
            found["raw"] = content.base64url("\r\n".join(lines) + "\r\n\r\n" + body)
        if form == "metadata":
            found["payload"] = {"mimeType": found["payload"]["mimeType"],
                                "headers": found["payload"]["headers"]}
        if form in ("raw", "minimal"):
            del found["payload"]
        return found

    # Calendar

    def calendar_list(self, account, parameters):
        size = number_parameter(parameters, "maxResults", 100, 250)
        items, token = page(content.calendars(account), parameters, size)
        return {"kind": "calendar#calendarList", "items": items,
                **({"nextPageToken": token} if token else {"nextSyncToken": "sync"})}

    @staticmethod
    def _calendar(account, calendar_id):
        wanted = account.email if calendar_id == "primary" else calendar_id
        for calendar in content.calendars(account):
            if calendar["id"] == wanted:
                return calendar
        raise Invalid("Not Found", "notFound", None, 404)

    def events(self, account, parameters, calendar_id):
        calendar = self._calendar(account, calendar_id)
        if parameters.get("orderBy") == "startTime" and parameters.get("singleEvents") != "true":
            raise Invalid("The requested ordering is not available for the particular query.",
                          "invalid", "orderBy")
        found = content.events(account, calendar["id"])
        if "timeMin" in parameters:
            found = [each for each in found if each["end"]["dateTime"] > parameters["timeMin"]]
        if "timeMax" in parameters:
            found = [each for each in found if each["start"]["dateTime"] < parameters["timeMax"]]
        if "q" in parameters:
            found = [each for each in found
                     if parameters["q"].lower() in each["summary"].lower()]
        size = number_parameter(parameters, "maxResults", 250, 2500)
        items, token = page(found, parameters, size)
        return {"kind": "calendar#events", "summary": calendar["summary"],
                "timeZone": calendar["timeZone"], "accessRole": calendar["accessRole"],
                "items": items,
                **({"nextPageToken": token} if token else {"nextSyncToken": "sync"})}

    def event(self, account, _parameters, calendar_id, event_id):
        for event in content.events(account, self._calendar(account, calendar_id)["id"]):
            if event["id"] == event_id:
                return event
        raise Invalid("Not Found", "notFound", None, 404)

    # Drive

    def about(self, account, parameters):
        if "fields" not in parameters:
            raise Invalid("The 'fields' parameter is required for this method.", "required",
                          "fields")
        if parameters["fields"] not in ("user", "*"):
            raise Invalid(f"Invalid field selection {parameters['fields']}", "invalidParameter",
                          "fields")
        return {"user": {"kind": "drive#user", "displayName": account.name,
                         "emailAddress": account.email, "permissionId": account.sub}}

    @staticmethod
    def _selected(entry, names):
        return {name: value for name, value in entry.items() if name in names}

    @staticmethod
    def _field_names(text):
        names = {each.strip() for each in text.split(",")}
        if names == {"*"}:
            return FILE_FIELDS
        unknown = names - FILE_FIELDS
        if unknown:
            raise Invalid(f"Invalid field selection {min(unknown)}", "invalidParameter", "fields")
        return names

    def files(self, account, parameters):
        found = content.files(account)
        for clause in filter(None, parameters.get("q", "").split(" and ")):
            found = [each for each in found if self._satisfies(each, clause.strip())]
        names, with_token = FILE_DEFAULT, True
        if "fields" in parameters:
            fields = parameters["fields"].replace(" ", "")
            match = re.fullmatch(r"(?:(nextPageToken),)?files(?:\((.*)\))?|\*", fields)
            if not match:
                raise Invalid(f"Invalid field selection {fields}", "invalidParameter", "fields")
            names = self._field_names(match.group(2) or "*")
            with_token = fields == "*" or match.group(1) is not None
        size = number_parameter(parameters, "pageSize", 100, 1000)
        items, token = page(found, parameters, size)
        answer = {"files": [self._selected(each, names) for each in items]}
        if token and with_token:
            answer["nextPageToken"] = token
        if "fields" not in parameters:
            answer.update(kind="drive#fileList", incompleteSearch=False)
        return answer

    @staticmethod
    def _satisfies(entry, clause):
        """trashed =, name contains, mimeType =, joined by "and"; nothing else of the language."""
        match = re.fullmatch(r"trashed\s*=\s*(true|false)", clause)
        if match:
            return entry["trashed"] == (match.group(1) == "true")
        match = re.fullmatch(r"(name contains|mimeType\s*=)\s*'((?:[^'\\]|\\.)*)'", clause)
        if not match:
            raise Invalid("Invalid Value", "invalid", "q")
        value = re.sub(r"\\(.)", r"\1", match.group(2))
        if match.group(1).startswith("name"):
            return value.lower() in entry["name"].lower()
        return entry["mimeType"] == value

    @staticmethod
    def _file(account, file_id):
        for entry in content.files(account):
            if entry["id"] == file_id:
                return entry
        raise Invalid(f"File not found: {file_id}.", "notFound", "fileId", 404)

    def file(self, account, parameters, file_id):
        entry = self._file(account, file_id)
        if parameters.get("alt") == "media":
            if "size" not in entry:
                raise Invalid("Only files with binary content can be downloaded. "
                              "Use Export with Docs Editors files.", "fileNotDownloadable",
                              "alt", 403)
            return Response(200, [("Content-Type", "text/plain")], entry["text"].encode())
        names = self._field_names(parameters["fields"]) if "fields" in parameters else FILE_DEFAULT
        return self._selected(entry, names)

    def export(self, account, parameters, file_id):
        entry = self._file(account, file_id)
        if "size" in entry:
            raise Invalid("Export only supports Docs Editors files.", "fileNotExportable", None,
                          403)
        if parameters.get("mimeType") not in ("text/plain", "text/markdown"):
            raise Invalid("The requested conversion is not supported.", "badRequest", "convertTo")
        body = entry["text"].encode()
        if len(body) > self.state.settings["export_cap"]:
            raise Invalid("This file is too large to be exported.", "exportSizeLimitExceeded",
                          None, 403)
        return Response(200, [("Content-Type", parameters["mimeType"])], body)
