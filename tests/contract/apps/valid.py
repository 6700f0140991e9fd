"""An application between two validators: the standard library watches what the server does to it."""

import warnings
from wsgiref.validate import validator

warnings.simplefilter("error")


@validator
def app(environ, start_response):
    source = environ["wsgi.input"]
    body = source.read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = environ["REQUEST_METHOD"].encode() + b" " + body
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer] if environ["REQUEST_METHOD"] != "HEAD" else []
