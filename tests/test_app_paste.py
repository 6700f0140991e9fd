"""Applications that a PasteDeploy file describes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from monoceros import app
from monoceros.settings import SettingsError

INI = """
[DEFAULT]
colour = red

[app:main]
paste.app_factory = pasted:make
size = 3

[app:failing]
paste.app_factory = pasted:fail

[app:nothing]
paste.app_factory = pasted:nothing

[filter:wrap]
paste.filter_factory = pasted:wrap

[pipeline:whole]
pipeline = wrap main
"""

MODULE = """
def make(global_conf, **local_conf):
    def application(environ, start_response):
        return global_conf, local_conf
    return application

def fail(global_conf):
    return global_conf["no such key"]

def nothing(global_conf):
    return None

def wrap(global_conf):
    def wrapper(application):
        def wrapped(environ, start_response):
            return ["wrapped", application(environ, start_response)]
        return wrapped
    return wrapper
"""


@pytest.fixture
def ini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pasted", raising=False)
    (tmp_path / "pasted.py").write_text(MODULE)
    path = tmp_path / "with space, and +.ini"
    path.write_text(INI)
    return str(path)


def test_the_main_section(ini: str) -> None:
    global_conf, local_conf = app.load_paste(ini)({}, None)
    assert global_conf["colour"] == "red"
    assert (global_conf["__file__"], global_conf["here"]) == (ini, str(Path(ini).parent))
    assert local_conf == {"size": "3"}


def test_the_global_configuration(ini: str) -> None:
    global_conf, _ = app.load_paste(ini, ("shape=round", r"a\=b=c=d\=e", "empty="))({}, None)
    assert (global_conf["shape"], global_conf["a=b"], global_conf["empty"]) == ("round", "c=d=e", "")


def test_another_section(ini: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(ini).parent)
    application = app.load_paste(f"{Path(ini).name}#whole")
    assert application({}, None)[0] == "wrapped"
    assert app.protocol(application) == "wsgi"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}#missing", "No section 'missing' (prefixed by 'app' or"),
        ("/no/such.ini#main", "there is no file '/no/such.ini'"),
        ("{}#nothing", "is of type 'NoneType', which cannot be called"),
    ],
)
def test_what_is_not_there(ini: str, spec: str, message: str) -> None:
    with pytest.raises(app.AppNotFound) as caught:
        app.load_paste(spec.format(ini))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factory_that_fails(ini: str) -> None:
    with pytest.raises(KeyError, match="no such key"):
        app.load_paste(f"{ini}#failing")


def test_without_pastedeploy(ini: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paste.deploy", None)  # as if it were not installed
    with pytest.raises(SettingsError, match=r"pip install 'monoceros\[paste\]'"):
        app.load_paste(ini)
