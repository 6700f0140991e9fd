"""One MiB in, one MiB out of memory, one MiB out of a file."""

from pathlib import Path

MIB = 1024 * 1024
BLOCK = 64 * 1024
CHUNKS = [b"x" * BLOCK] * (MIB // BLOCK)

# The working directory of a server under test is a temporary one of its own.
FILE = Path.cwd() / "1m.bin"
FILE.write_bytes(b"x" * MIB)


def upload(environ, start_response):
    body, total = environ["wsgi.input"], 0
    while block := body.read(BLOCK):
        total += len(block)
    answer = b"%d" % total
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


def download(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(MIB))])
    return iter(CHUNKS)


def file(environ, start_response):
    wrapper = environ.get("wsgi.file_wrapper")
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(MIB)),
            ("X-File-Wrapper", "yes" if wrapper else "no"),
        ],
    )
    opened = FILE.open("rb")
    # PEP 3333 makes the wrapper optional, so a portable application has both branches.
    return wrapper(opened, BLOCK) if wrapper else blocks(opened)


def blocks(opened):
    with opened:
        while block := opened.read(BLOCK):
            yield block
