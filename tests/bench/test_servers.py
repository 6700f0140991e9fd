import tomllib
from pathlib import Path

import pytest
from bench.process import Usage
from bench.rows import INTERFACES, ROWS, Answer
from bench.servers import APPS, SERVERS, Place

ROW = {row.name: row for row in ROWS}
SERVER = {server.name: server for server in SERVERS}


def command(server: str, row: str, home: Path = Path("/home")) -> list[str]:
    return SERVER[server].command(Place(Path("/peers/bin"), home, 8000, ROW[row]))


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_names_are_unique():
    assert (len(ROW), len(SERVER)) == (len(ROWS), len(SERVERS))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_point_at_what_is_there(row):
    assert (APPS / f"{row.app.partition(':')[0]}.py").exists()
    assert row.script is None or (APPS.parent / "wrk" / row.script).exists()
    assert row.needs & set(INTERFACES) == {row.interface}


@pytest.mark.parametrize(
    ("server", "name"),
    [("monoceros", "--threads"), ("gunicorn-gthread", "--threads"), ("granian", "--blocking-threads")],
)
def test_everybody_has_the_same_number_of_threads(server, name):
    assert option(command(server, "sleep"), name) == "8"
    assert option(command(server, "hello"), name) == "4"


@pytest.mark.parametrize(
    ("server", "option_name", "wsgi", "asgi"),
    [("monoceros", "-k", "gthread", "asgi"), ("granian", "--interface", "wsgi", "asgi")],
)
def test_the_row_decides_which_interface_is_served(server, option_name, wsgi, asgi):
    assert option(command(server, "hello"), option_name) == wsgi
    assert option(command(server, "asgi-hello"), option_name) == asgi


@pytest.mark.parametrize(
    ("server", "option_name"),
    [("granian", "--loop"), ("uvicorn", "--loop"), ("gunicorn-asgi", "--asgi-loop"), ("hypercorn", "-k")],
)
def test_everybody_has_the_same_event_loop(server, option_name, tmp_path):
    assert option(command(server, "asgi-hello", tmp_path), option_name) == "uvloop"


@pytest.mark.parametrize("row", [row for row in ROWS if row.interface == "asgi"], ids=lambda row: row.name)
def test_asgi_rows_have_the_servers_for_it(row):
    joined = [server.name for server in SERVERS if server.joins(row) and server.name != "nginx"]
    assert joined == ["monoceros", "granian", "uvicorn", "gunicorn-uvicorn", "gunicorn-asgi", "hypercorn"]
    able = [name for name in joined if not SERVER[name].lacks(row)]
    assert able == (["monoceros"] if row.needs & {"json-log", "stats"} else joined)


@pytest.mark.parametrize("server", ["monoceros", "gunicorn-sync", "gunicorn-gthread"])
def test_access_log_only_where_the_row_is_about_it(server):
    assert "--access-logfile" not in command(server, "hello")
    assert option(command(server, "hello-access-log"), "--access-logfile") == "/home/access.log"


@pytest.mark.parametrize("server", ["monoceros", "gunicorn-asgi", "gunicorn-uvicorn", "hypercorn"])
def test_asgi_access_log_only_where_the_row_is_about_it(server, tmp_path):
    assert "--access-logfile" not in command(server, "asgi-hello", tmp_path)
    assert option(command(server, "asgi-hello-access-log", tmp_path), "--access-logfile") == f"{tmp_path}/access.log"


@pytest.mark.parametrize("name", ["hello", "asgi-hello"])
def test_what_only_ours_can(name):
    words = command("monoceros", f"{name}-json-log")
    assert option(words, "--log-format") == "json"
    assert option(words, "--access-logfile") == "/home/access.log"
    assert "--admin-bind" in command("monoceros", f"{name}-stats")
    assert not {"--log-format", "--admin-bind"} & set(command("monoceros", f"{name}-access-log"))
    assert SERVER["granian"].lacks(ROW[f"{name}-json-log"]) == "has no json-log"


def test_what_a_row_is_compared_with_is_measured_shortly_before():
    names = list(ROW)
    for row in ROWS:
        assert row.than is None or 0 < names.index(row.name) - names.index(row.than) <= 3


def test_access_log_on_stdout():
    assert "--no-access-log" in command("uvicorn", "asgi-hello")
    assert "--access-log" in command("uvicorn", "asgi-hello-access-log")
    assert "--access-log" in command("granian", "asgi-hello-access-log")


def test_hypercorn_does_not_count_requests_to_a_thousand(tmp_path):
    config = tomllib.loads(Path(option(command("hypercorn", "asgi-hello", tmp_path), "-c")).read_text())
    assert config["keep_alive_max_requests"] > 1_000_000


def test_a_file_without_pathsend_is_remarked():
    remark = ROW["asgi-file-1m"].remark
    assert "pathsend" in (remark(Answer(200, {"x-pathsend": "no"}, b"")) or "")
    assert remark(Answer(200, {"x-pathsend": "yes"}, b"")) is None


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
