import pytest
from bench.wrk import Load, milliseconds, parse

# The 97.50% in the column +/- Stdev is what a careless search for "50%" finds first.
QUIET = """\
Running 3s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.12ms  321.00us   7.41ms   97.50%
    Req/Sec    56.83k     1.20k   58.61k    99.99%
  Latency Distribution
     50%    1.05ms
     75%    1.10ms
     90%    1.20ms
     99%    2.20ms
  169543 requests in 3.00s, 21.34MB read
Requests/sec:  56512.66
Transfer/sec:      7.11MB
"""

TROUBLED = QUIET.replace(
    "Requests/sec:",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\nRequests/sec:",
)


def test_what_wrk_says():
    assert parse(QUIET) == Load(requests=169543, rps=56512.66, p50=1.05, p99=2.2, errors=0)


def test_every_kind_of_error_counts():
    assert parse(TROUBLED).errors == 54321


def test_what_is_not_an_answer_is_not_taken_for_one():
    with pytest.raises(ValueError, match="requests in"):
        parse("unable to connect to 127.0.0.1:8000 Connection refused\n")


@pytest.mark.parametrize(("text", "value"), [("250.00us", 0.25), ("1.05ms", 1.05), ("1.20s", 1200), ("2.00m", 120_000)])
def test_durations(text, value):
    assert milliseconds(text) == pytest.approx(value)


def test_not_a_duration():
    with pytest.raises(ValueError, match="not a duration"):
        milliseconds("Req/Sec")
