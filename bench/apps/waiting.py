"""Applications that wait, as one does for a database."""

import time
from itertools import count

from hello import app as hello

# Shared by all threads of the one worker; `next` on it is atomic.
requests = count(1)


def sleep(environ, start_response):
    time.sleep(0.010)
    return hello(environ, start_response)


def mixed(environ, start_response):
    if next(requests) % 100 == 0:
        time.sleep(0.100)
    return hello(environ, start_response)
