import pytest
from bench.__main__ import arguments, chosen, pick
from bench.rows import ROWS
from bench.servers import SERVERS


def rows(*words: str) -> list[str]:
    return [row.name for row in chosen(arguments().parse_args(words))]


def test_everything_by_default():
    assert rows() == [row.name for row in ROWS]


def test_names_come_in_the_order_of_the_table():
    assert rows("--rows", "idle-1000,hello") == ["hello", "idle-1000"]


def test_a_name_is_not_the_beginning_of_another():
    assert rows("--rows", "hello") == ["hello"]


def test_patterns():
    assert rows("--rows", "asgi-hello*,sleep") == [
        "sleep",
        "asgi-hello",
        "asgi-hello-access-log",
        "asgi-hello-json-log",
        "asgi-hello-stats",
        "asgi-hello-browser",
    ]
    assert [server.name for server in pick(SERVERS, ["*-sync"])] == ["monoceros-sync", "gunicorn-sync"]


def test_one_interface():
    assert "fastapi-json" in rows("--interface", "asgi")
    assert "hello" not in rows("--interface", "asgi")
    assert rows("--interface", "wsgi", "--rows", "*hello") == ["hello"]


@pytest.mark.parametrize("wanted", ["helo", "hello,asgi-x*"])
def test_what_matches_nothing_is_refused(wanted):
    with pytest.raises(SystemExit, match="no such name"):
        rows("--rows", wanted)


def test_a_choice_that_leaves_nothing_is_refused():
    with pytest.raises(SystemExit, match="no asgi row"):
        rows("--rows", "hello", "--interface", "asgi")
