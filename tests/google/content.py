"""The seeded mail, events and files: made from the account, so the same at every start."""

import base64
import hashlib

EMPTY = "linus"          # the account that has nothing

SUBJECTS = ("Quarterly figures", "Grüße aus Köln", "会議のお知らせ", "Lunch?", "Re: naïve façade",
            "Invoice 42", "🎉 Release party", "Minutes of the board")
MESSAGES, EVENTS, FILES = 65, 12, 34
DAY = 86400
FIRST_DAY = 1_790_000_000

DOC = "application/vnd.google-apps.document"


def identifier(account, kind, number):
    return hashlib.sha256(f"{account.key}/{kind}/{number}".encode()).hexdigest()[:16]


def base64url(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


def messages(account):
    if account.key == EMPTY:
        return []
    made = []
    for number in range(MESSAGES):
        subject = f"{SUBJECTS[number % len(SUBJECTS)]} #{number}"
        text = f"Hello {account.name},\n\nthis is about: {subject}.\n"
        sender = f"sender{number % 7}@example.net"
        labels = ["INBOX"] + (["UNREAD"] if number % 3 == 0 else [])
        if number % 20 == 19:
            labels = ["TRASH"]
        made.append({
            "id": identifier(account, "message", number),
            "threadId": identifier(account, "thread", number // 2),
            "labelIds": labels, "snippet": text.replace("\n", " ").strip(),
            "historyId": str(1000 + number), "sizeEstimate": len(text.encode()) + 400,
            "internalDate": str((FIRST_DAY + number * DAY) * 1000),
            "payload": {
                "partId": "", "mimeType": "text/plain", "filename": "",
                "headers": [{"name": "From", "value": sender},
                            {"name": "To", "value": account.email},
                            {"name": "Subject", "value": subject}],
                "body": {"size": len(text.encode()), "data": base64url(text)},
            },
        })
    return made[::-1]


def calendars(account):
    made = [{"kind": "calendar#calendarListEntry", "id": account.email, "summary": account.email,
             "timeZone": "Europe/Berlin", "accessRole": "owner", "primary": True,
             "selected": True}]
    if account.key != EMPTY:
        made.append({"kind": "calendar#calendarListEntry",
                     "id": "holidays@group.v.calendar.example", "summary": "Feiertage",
                     "timeZone": "Europe/Berlin", "accessRole": "reader", "selected": True})
    return made


def events(account, calendar_id):
    if account.key == EMPTY or calendar_id != account.email:
        return []
    made = []
    for number in range(EVENTS):
        day = f"2026-{number + 1:02d}-15"
        made.append({
            "kind": "calendar#event", "id": identifier(account, "event", number),
            "status": "confirmed", "summary": f"Besprechung – {SUBJECTS[number % 8]}",
            "start": {"dateTime": f"{day}T09:00:00+01:00", "timeZone": "Europe/Berlin"},
            "end": {"dateTime": f"{day}T10:00:00+01:00", "timeZone": "Europe/Berlin"},
            "organizer": {"email": account.email, "self": True},
            "attendees": [{"email": account.email, "responseStatus": "accepted", "self": True}],
        })
    return made


def files(account):
    if account.key == EMPTY:
        return []
    made = []
    for number in range(FILES):
        doc = number % 4 == 0
        text = f"{SUBJECTS[number % 8]}: contents of file {number}\n"
        entry = {"kind": "drive#file", "id": identifier(account, "file", number),
                 "name": f"{SUBJECTS[number % 8]} {number}" + ("" if doc else ".txt"),
                 "mimeType": DOC if doc else "text/plain", "trashed": number % 10 == 9,
                 "modifiedTime": f"2026-{number % 12 + 1:02d}-01T12:00:00.000Z", "text": text}
        if not doc:
            entry["size"] = str(len(text.encode()))
        made.append(entry)
    return made
