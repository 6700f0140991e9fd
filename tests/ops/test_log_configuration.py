"""Which of the three settings for `logging.config` counts, and what is said of one that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from monoceros.ops import log
from monoceros.ops.logconfig import NOTHING, Snapshot, forget
from monoceros.settings import Settings
from monoceros.settings.process_values import log_config


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    before = Snapshot()
    yield
    forget()
    before.restore()


def naming(name: str) -> str:
    return f'{{"loggers": {{"{name}": {{"level": "DEBUG", "handlers": []}}}}}}'


def test_which_one_counts(tmp_path: Path) -> None:
    ini, json = tmp_path / "a.json", tmp_path / "b.conf"
    ini.write_text(naming("from_logconfig"))
    json.write_text(naming("from_json"))  # JSON, whatever it is called
    given = log_config({"loggers": {"from_dict": {"level": "DEBUG", "handlers": []}}})
    settings = {"logconfig": str(ini), "logconfig_json": str(json), "logconfig_dict": given}
    for name, paths in (("from_dict", ()), ("from_json", ("logconfig_dict",)), ("from_logconfig", settings)):
        left = {key: value for key, value in settings.items() if key not in paths or key == "logconfig"}
        config = log.configuration(Settings(**left))  # type: ignore[arg-type]
        assert config.given == {name}
    assert log.configuration(Settings()) is NOTHING


def test_a_dict_is_applied_and_stays_as_it_is() -> None:
    given = {
        "formatters": {"f": {"()": "uvicorn.logging.AccessFormatter", "fmt": "%(message)s"}},
        "handlers": {"h": {"class": "logging.NullHandler", "formatter": "f"}},
        "loggers": {"of_mine": {"level": "ERROR", "handlers": ["h"]}},
    }
    settings = Settings(logconfig_dict=log_config(given))
    log.configuration(settings).apply()
    assert logging.getLogger("of_mine").level == logging.ERROR
    assert settings.logconfig_dict == given


def test_a_dict_that_cannot_be_used() -> None:
    config = log.configuration(Settings(logconfig_dict=log_config({"version": 2})))
    with pytest.raises(OSError) as caught:
        config.apply()
    assert str(caught.value) == "cannot use the logging configuration 'logconfig_dict': Unsupported version: 2"


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(None, "No such file or directory"), ("{", "Expecting property name"), ("[1]", "it is no mapping but list")],
)
def test_json_that_cannot_be_read(tmp_path: Path, content: str | None, wrong: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(OSError) as caught:
        log.configuration(Settings(logconfig_json=str(path)))
    assert str(caught.value).startswith(f"cannot read the logging configuration '{path}': {wrong}")
