"""One page that shows who answered, and what was asked: a first thing to serve, and a mirror to look into.

    monoceros examples.hello:app

Everything that came from the client is escaped, and fields that may carry a secret are masked.
"""

import os
import platform
import re
import threading
from html import escape

import monoceros

# Cookies and credentials, whatever a proxy or a framework calls them.
SECRET = re.compile(r"auth|cookie|key|password|secret|session|token", re.IGNORECASE)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Monoceros</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; color: #223; }}
  h1 {{ font-weight: 600; margin-bottom: 0; }}
  h2 {{ font-size: 1rem; margin: 2rem 0 .5rem; }}
  p {{ margin: 0; color: #667; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-top: 1px solid #dde; }}
  th {{ width: 11rem; font-weight: normal; color: #667; }}
  td {{ font-family: ui-monospace, monospace; font-size: .9rem; overflow-wrap: anywhere; }}
</style>
<h1>It works</h1>
<p>Monoceros serves this page.</p>
<h2>The server</h2>
<table>
{server}
</table>
<h2>Your request</h2>
<table>
{request}
</table>
<h2>Its header fields</h2>
<table>
{fields}
</table>
</html>
"""


def app(environ, start_response):
    if environ["PATH_INFO"] == "/favicon.ico":
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []
    body = page(environ).encode()
    start_response(
        "200 OK",
        [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ],
    )
    return [body]


def page(environ):
    server = {
        "Monoceros": monoceros.__version__,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Worker": f"pid {os.getpid()}",
        "Threads in it": threading.active_count(),
    }
    request = {
        "Request line": f"{environ['REQUEST_METHOD']} {target(environ)} {environ['SERVER_PROTOCOL']}",
        "Scheme": environ["wsgi.url_scheme"],
        "Client": client(environ),
    }
    return PAGE.format(server=rows(server), request=rows(request), fields=rows(fields(environ)))


def target(environ):
    """What the client asked for. WSGI strings hold one byte a character (PEP 3333)."""
    query = environ.get("QUERY_STRING", "")
    path = environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"] + (f"?{query}" if query else "")
    return path.encode("latin-1").decode("utf-8", "replace")


def client(environ):
    address, port = environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT")
    return f"{address}, port {port}" if address and port else address or "on this machine, through a Unix socket"


def fields(environ):
    """The header fields of the request, as far as an environ still knows them."""
    names = {key: key.removeprefix("HTTP_") for key in environ if key.startswith("HTTP_")}
    names |= {key: key for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)}
    return {
        name.replace("_", "-").title(): "(not shown)" if SECRET.search(name) else environ[key]
        for key, name in sorted(names.items(), key=lambda item: item[1])
    }


def rows(values):
    return "\n".join(f"<tr><th>{escape(name)}<td>{escape(str(value))}" for name, value in values.items())
