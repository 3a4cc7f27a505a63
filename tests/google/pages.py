"""The pages that a person sees: plain HTML forms that work by keyboard and without scripts."""

from html import escape

from wire import html_response

SCOPE_WORDS = {
    "openid": "Associate you with your personal info on the stand-in",
    "https://www.googleapis.com/auth/userinfo.email": "See your primary email address",
    "https://www.googleapis.com/auth/userinfo.profile": "See your personal info",
    "https://www.googleapis.com/auth/gmail.readonly": "View your email messages and settings",
    "https://www.googleapis.com/auth/calendar.readonly": "See and download your calendars",
    "https://www.googleapis.com/auth/drive.readonly": "See and download all your files",
}

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: Canvas; }
main { width: min(28rem, calc(100vw - 3rem)); padding: 1.5rem; margin: 1rem;
       border: 1px solid color-mix(in srgb, CanvasText 25%, transparent); border-radius: .75rem; }
.notice { margin: 0 0 1rem; padding: .5rem .75rem; border-radius: .5rem;
          background: #fff3cd; color: #4d3a00; font-size: .875rem; }
h1 { font-size: 1.375rem; font-weight: 600; line-height: 1.3; margin: 0 0 1rem; }
ul { list-style: none; margin: 0 0 1rem; padding: 0; }
li { margin: .5rem 0; }
label { display: flex; gap: .625rem; align-items: start; cursor: pointer; }
input { margin: .3rem 0 0; }
button { font: inherit; padding: .5rem 1.25rem; border-radius: .5rem; cursor: pointer;
         border: 1px solid color-mix(in srgb, CanvasText 40%, transparent);
         background: Canvas; color: CanvasText; }
button:focus-visible, input:focus-visible { outline: 3px solid #1a73e8; outline-offset: 2px; }
#continue { background: #1a56c4; border-color: #1a56c4; color: #fff; }
.account { width: 100%; text-align: start; }
.account small { display: block; opacity: .75; }
.buttons { display: flex; gap: .75rem; }
"""

NOTICE = ("This is a stand-in for Google, for demonstrations and tests. "
          "It is not Google and knows no real account.")


def page(title, content, status=200):
    return html_response(f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} – stand-in Google</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
<p class="notice" role="note">{NOTICE}</p>
{content}
</main>
</body>
</html>
""", status, [("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"),
              ("X-Frame-Options", "DENY")])


def hidden(name, value):
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'


def chooser(app_name, accounts, query_string):
    rows = "\n".join(
        f'<li><button class="account" id="account-{escape(account.key)}" name="account" '
        f'value="{escape(account.key)}">{escape(account.name)}'
        f"<small>{escape(account.email)}</small></button></li>" for account in accounts)
    return page("Choose an account", f"""<h1 id="chooser">Choose an account to continue to
<span id="app-name">{escape(app_name)}</span></h1>
<form method="post" action="/o/oauth2/v2/auth/account">
{hidden("request", query_string)}
<ul>
{rows}
</ul>
</form>""")


def consent(app_name, account, identity, optional, query_string, ticked):
    boxes = len(optional) > 1

    def row(scope):
        words = escape(SCOPE_WORDS.get(scope, scope))
        if not boxes or scope in identity:
            return f"<li>{words}</li>"
        mark = " checked" if ticked else ""
        return (f'<li><label><input type="checkbox" name="scope" value="{escape(scope)}"{mark}>'
                f"<span>{words}</span></label></li>")

    # Continue comes first: it is the button that Enter in a check box presses.
    what = "Select what" if boxes else "What"
    rows = "\n".join(row(scope) for scope in (*identity, *optional))
    return page("Consent", f"""<h1 id="consent"><span id="app-name">{escape(app_name)}</span>
wants access to your account</h1>
<p>Signed in as <strong id="signed-in">{escape(account.email)}</strong></p>
<form method="post" action="/o/oauth2/v2/auth/decision">
{hidden("request", query_string)}
{hidden("account", account.key)}
<p>{what} <strong>{escape(app_name)}</strong> can access:</p>
<ul>
{rows}
</ul>
<div class="buttons">
<button id="continue" name="action" value="continue">Continue</button>
<button id="cancel" name="action" value="cancel">Cancel</button>
</div>
</form>""")


def refusal(error, description, status):
    return page("Access blocked", f"""<h1 id="refused">Access blocked: the app’s request is
invalid</h1>
<p id="error">Error {status}: <code>{escape(error)}</code></p>
<p>{escape(description)}</p>""", status)


def waiting(account):
    return page("Waiting", f"""<h1 id="waiting">Nothing happens here</h1>
<p>The account {escape(account.email)} is set never to return to the app.</p>""")
