from pathlib import Path

import pytest
from bench.process import Usage
from bench.rows import ROWS
from bench.servers import APPS, SERVERS, Place

ROW = {row.name: row for row in ROWS}
SERVER = {server.name: server for server in SERVERS}


def command(server: str, row: str) -> list[str]:
    return SERVER[server].command(Place(Path("/peers/bin"), Path("/home"), 8000, ROW[row]))


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_names_are_unique():
    assert (len(ROW), len(SERVER)) == (len(ROWS), len(SERVERS))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_point_at_what_is_there(row):
    assert (APPS / f"{row.app.partition(':')[0]}.py").exists()
    assert row.script is None or (APPS.parent / "wrk" / row.script).exists()


@pytest.mark.parametrize(
    ("server", "name"),
    [("monoceros", "--threads"), ("gunicorn-gthread", "--threads"), ("granian", "--blocking-threads")],
)
def test_everybody_has_the_same_number_of_threads(server, name):
    assert option(command(server, "sleep"), name) == "8"
    assert option(command(server, "hello"), name) == "4"


@pytest.mark.parametrize("server", ["monoceros", "gunicorn-sync", "gunicorn-gthread"])
def test_access_log_only_where_the_row_is_about_it(server):
    assert "--access-logfile" not in command(server, "hello")
    assert option(command(server, "hello-access-log"), "--access-logfile") == "/home/access.log"


def test_what_a_server_cannot_do_has_a_reason():
    assert SERVER["bjoern"].lacks(ROW["sleep"]) == "has no threads"
    assert SERVER["waitress"].lacks(ROW["hello-access-log"]) == "has no access-log"
    assert SERVER["monoceros"].lacks(ROW["mixed"]) is None


def test_the_limit_is_no_application_server():
    assert SERVER["nginx"].joins(ROW["hello"])
    assert not SERVER["nginx"].joins(ROW["flask-json"])


def test_cpu_is_exact_while_nobody_comes_or_goes():
    before = Usage({(1, 1): 1_000, (1, 2): 5_000}, {1: 0}, 0)
    after = Usage({(1, 1): 4_000, (1, 2): 6_000}, {1: 10_000_000}, 0)
    assert after.since(before) == 4_000


def test_cpu_counts_in_ticks_when_a_thread_is_gone():
    before = Usage({(1, 1): 1_000, (1, 2): 5_000}, {1: 10_000_000}, 0)
    after = Usage({(1, 1): 4_000}, {1: 50_000_000, 7: 20_000_000}, 0)
    assert after.since(before) == 60_000_000
