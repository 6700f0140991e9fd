"""The scoreboard as Prometheus sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from monoceros.ops import metrics, multiproc
from monoceros.scoreboard import MEMORY, NUMBER, READY, RELOADS, STATE, TARGET, Scoreboard
from monoceros.worker.tally import Tally

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Scoreboard:
    monkeypatch.delenv(multiproc.VARIABLE, raising=False)
    board = Scoreboard(4)
    for number in (1, 2):
        slot = board.take()
        assert slot is not None
        slot[NUMBER], slot[STATE], slot[MEMORY] = number, READY, 1000 * number
        tally = Tally(slot)
        for status, seconds in ((200, 0.25), (200, 0.3), (503, 3.0)):
            tally.add(status, 10, seconds, 0.0)
        tally.flush()
    board.server[TARGET], board.server[RELOADS] = 2, 7
    return board


def samples(text: bytes) -> dict[str, float]:
    """Samples by name and labels."""
    return {
        sample.name + "".join(f",{name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


def test_families(board: Scoreboard) -> None:
    text, content_type = metrics.render(board.read(), "", set())
    assert content_type.startswith("text/plain; version=0.0.4")
    found = samples(text)
    assert found["monoceros_responses_total,code=2xx"] == 4
    assert found["monoceros_responses_total,code=5xx"] == 2
    assert found["monoceros_response_content_bytes_total"] == 60
    assert found["monoceros_workers,state=ready"] == found["monoceros_workers_wanted"] == 2
    assert found["monoceros_worker_memory_bytes,worker=2"] == 2000
    assert found["monoceros_reloads_total"] == 7
    assert found["monoceros_info,version=0.1.0"] == 1


def test_histograms(board: Scoreboard) -> None:
    found = samples(metrics.render(board.read(), "", set())[0])
    below = [
        found[f"monoceros_request_duration_seconds_bucket,le={bound}"] for bound in ("0.125", "0.25", "0.5", "4.0")
    ]
    # What took exactly as long as a bound is in the bucket above, by a hair.
    assert below == [0, 0, 4, 6]
    assert found["monoceros_request_duration_seconds_bucket,le=+Inf"] == 6
    assert found["monoceros_request_duration_seconds_count"] == 6
    assert found["monoceros_request_duration_seconds_sum"] == pytest.approx(7.1)
    assert found["monoceros_request_queue_seconds_bucket,le=0.0009765625"] == 6


def test_openmetrics(board: Scoreboard) -> None:
    text, content_type = metrics.render(board.read(), OPENMETRICS, set())
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert {family.name for family in parse_openmetrics(text.decode())} >= {"monoceros_responses", "monoceros_workers"}


def test_counts_outlive_workers(board: Scoreboard) -> None:
    before = samples(metrics.render(board.read(), "", set())[0])
    board.release(board.slots[0])
    after = samples(metrics.render(board.read(), "", set())[0])
    for name, value in before.items():
        if name.partition(",")[0].endswith(("_total", "_bucket", "_count", "_sum")):
            assert after[name] == value, name
    assert after["monoceros_workers,state=ready"] == 1


def test_an_applications_metrics_beside_ours(
    board: Scoreboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two workers write them, in processes of their own."""
    monkeypatch.setenv(multiproc.VARIABLE, str(tmp_path))
    for hits in (3, 4):
        code = f"from prometheus_client import Counter; Counter('hits', 'Hits.').inc({hits})"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert samples(metrics.render(board.read(), "", set())[0])["hits_total"] == 7


@pytest.mark.parametrize("content", [b"abc", b"\xff\0\0\0" * 40], ids=["cut off", "something else"])
def test_what_cannot_be_read_is_left_out(
    board: Scoreboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """The rest is shown, and the log says so once, though it is asked for each few seconds."""
    monkeypatch.setenv(multiproc.VARIABLE, str(tmp_path))
    subprocess.run(
        [sys.executable, "-c", "from prometheus_client import Counter; Counter('hits', 'Hits.').inc(3)"], check=True
    )
    (tmp_path / "counter_1.db").write_bytes(content)
    (tmp_path / "counter_2.db").write_bytes(b"")  # as one is while the library makes it
    (tmp_path / "counter_3.db").mkdir()
    (tmp_path / "counter_4.db").symlink_to("nowhere")
    told: set[str] = set()
    for _ in range(3):
        found = samples(metrics.render(board.read(), "", told)[0])
        assert found["hits_total"] == 3
        assert "monoceros_workers_wanted" in found
    assert [record.getMessage().partition(": ")[2].partition(": ")[0] for record in caplog.records] == [
        f"cannot read {tmp_path}/counter_1.db"
    ]


def test_without_the_directory(
    board: Scoreboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(multiproc.VARIABLE, str(tmp_path / "gone"))
    told: set[str] = set()
    for _ in range(2):
        assert "monoceros_workers_wanted" in samples(metrics.render(board.read(), "", told)[0])
    assert [record.getMessage().count("No such file") for record in caplog.records] == [1]
