import pytest
from bench.clients import Clients, length_of, percentile
from bench.deploys import Result, complaints, table

from server import Server

CALM, STALLED = [1.0] * 1000, [1.0] * 990 + [150.0] * 10


def result(disturbance, latencies, errors=()):
    return Result("asgi", 2, disturbance, list(latencies), [0.5], list(errors), 1.0)


def test_a_percentile_is_one_of_the_values():
    values = [float(n) for n in range(1, 1001)]
    assert [percentile(values, share) for share in (0.5, 0.999, 1.0)] == [500, 999, 1000]
    assert percentile([7.0], 0.5) == 7


def test_the_length_of_an_answer():
    assert length_of(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13") == 13


def test_a_line_of_the_table():
    (*_, line) = table([result("USR2", STALLED)])
    assert line == "| asgi | 2 | USR2 | 1.0 | 1000 | 0 | 1.0 | 1.0 | 150.0 | 150.0 | 0.5 |"


def test_a_stall_is_one_that_the_undisturbed_run_does_not_have():
    assert list(complaints([result("undisturbed", CALM), result("USR2", CALM)])) == []
    assert list(complaints([result("undisturbed", STALLED), result("USR2", STALLED)])) == []
    (line,) = complaints([result("undisturbed", CALM), result("USR2", STALLED)])
    assert line == "asgi, 2 workers, USR2: a stall of 150 ms at p99.9; the client itself was 0 ms late"


def test_what_failed_is_told():
    (line,) = complaints([result("USR2", CALM, ["closed after 0 bytes", "no answer", "no answer"])])
    assert line == "asgi, 2 workers, USR2: 3 failed: closed after 0 bytes, no answer"


APP = """
import itertools
serial = itertools.count(1)

def app(environ, start_response):
    number = next(serial)
    headers = [("Content-Length", "2")] + [("Connection", "close")] * (number % 3 == 0)
    start_response("500 Oh" if number == 5 else "200 OK", headers)
    return [b"Hi"]
"""


@pytest.mark.process
@pytest.mark.parametrize("rate", [0, 1000])
def test_clients(tmp_path, rate):
    with Server("app:app", "--max-requests", "50", directory=tmp_path, files={"app.py": APP}) as server:
        server.ready()
        with Clients(server.port, clients=4, rate=rate) as clients:
            server.expect("Worker exiting", times=2)
    assert set(clients.errors) == {"http/1.1 500 oh"}
    assert len(clients.latencies) >= 100
