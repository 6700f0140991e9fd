import json
from dataclasses import replace

import pytest
from bench.measure import Cell, Sample
from bench.report import document, figure, line, lines, markdown, overview, row_table, table
from bench.rows import ROWS

ONE = Sample(rps=1000, p50_ms=1, p99_ms=2, cpu_us=10, rss_mib=30, errors=0, requests=3000)


def rounds(*cpu: float | None) -> list[Sample | None]:
    return [None if us is None else replace(ONE, cpu_us=us, rps=10_000 / us) for us in cpu]


def test_medians():
    found = line(Cell("theirs", rounds(10, 90, 20)), None)
    assert (found.cpu_us, found.rps) == (20, 500)


def test_errors_are_summed_so_that_one_bad_round_shows():
    bad = replace(ONE, errors=7)
    assert line(Cell("theirs", [ONE, bad, ONE]), None).errors == 7


def test_ratio_is_taken_within_a_round():
    # The machine was twice as slow in the second round, for both; the ratio does not see it.
    ours, theirs = Cell("monoceros", rounds(10, 20, 10)), Cell("theirs", rounds(20, 40, 25))
    assert line(theirs, ours).cpu_ratio == pytest.approx(0.5)
    assert line(theirs, ours).rps_ratio == pytest.approx(2)


def test_rounds_that_one_side_missed_have_no_ratio():
    ours, theirs = Cell("monoceros", rounds(10, None)), Cell("theirs", rounds(40, 10))
    assert line(theirs, ours).cpu_ratio == pytest.approx(0.25)
    assert line(theirs, Cell("monoceros", [None])).cpu_ratio is None


def test_empty_cell():
    found = line(Cell("theirs", [None], ["has no threads"]), Cell("monoceros", rounds(10)))
    assert (found.rps, found.errors, found.cpu_ratio) == (None, None, None)


def test_without_the_base_there_are_no_ratios():
    assert lines([Cell("theirs", rounds(10))], "monoceros")[0].cpu_ratio is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.128, "0.13"), (9.5, "9.50"), (12.34, "12.3"), (234.5, "234"), (56512.66, "56,513")],
)
def test_figures(value, text):
    assert figure(value) == text


def test_table_is_markdown_and_aligned():
    assert table(["server", "µs"], [["monoceros", "12.7"], ["x", ""]]).splitlines() == [
        "| server    |   µs |",
        "|-----------|-----:|",
        "| monoceros | 12.7 |",
        "| x         |      |",
    ]


def test_the_base_is_not_compared_with_itself():
    ours, theirs = row_table([Cell("monoceros", rounds(10)), Cell("theirs", rounds(20))], "monoceros").splitlines()[2:]
    assert ours.split("|")[-3:-1] == [" " * len(cell) for cell in ours.split("|")[-3:-1]]
    assert [cell.strip() for cell in theirs.split("|")[-3:-1]] == ["0.50", "2.00"]


def test_what_a_row_costs_is_said_of_each_server():
    plain = [Cell("monoceros", rounds(10)), Cell("theirs", rounds(20))]
    cells = [Cell("monoceros", rounds(11)), Cell("theirs", rounds(30)), Cell("another", rounds(5))]
    results = {"hello": plain, "hello-access-log": cells}
    found = markdown({}, ROWS, results, "monoceros").partition("## hello-access-log")[2]
    head, _, *body = [each for each in found.splitlines() if each.startswith("|")]
    assert [cell.strip() for cell in head.strip("|").split("|")][-2:] == ["CPU, to hello", "requests/s, to hello"]
    costs = [[cell.strip() for cell in each.strip("|").split("|")][-2:] for each in body]
    assert costs == [["1.10", "0.91"], ["1.50", "0.67"], ["", ""]]


def test_without_the_row_that_it_is_compared_with_there_is_no_cost():
    assert "to hello" not in markdown({}, ROWS, {"hello-access-log": [Cell("monoceros", rounds(10))]}, "monoceros")


def test_overview_leaves_out_what_was_not_measured():
    results = {"hello": [Cell("monoceros", rounds(10)), Cell("nginx", rounds(5))], "sleep": [Cell("monoceros", [None])]}
    body = overview("CPU", results, "monoceros").splitlines()[2:]
    assert [[cell.strip() for cell in each.strip("|").split("|")] for each in body] == [
        ["hello", "10.0", "5.00"],
        ["sleep", "", ""],
    ]


def test_each_interface_has_an_overview_with_its_own_servers():
    results = {
        "asgi-hello": [Cell("monoceros", rounds(20)), Cell("uvicorn", rounds(50))],
        "hello": [Cell("monoceros", rounds(10)), Cell("bjoern", rounds(5))],
    }
    text = markdown({}, ROWS, results, "monoceros")
    heads = [each.strip("|").split("|") for each in text.splitlines() if "CPU µs/request |" in each][:2]
    assert [[cell.strip() for cell in head] for head in heads] == [
        ["WSGI, CPU µs/request", "monoceros", "bjoern"],
        ["ASGI, CPU µs/request", "monoceros", "uvicorn"],
    ]


def test_an_interface_without_rows_has_no_overview():
    assert "ASGI" not in markdown({}, ROWS, {"hello": [Cell("monoceros", rounds(10))]}, "monoceros")


def test_reasons_stand_under_their_table():
    results = {"hello": [Cell("monoceros", rounds(10)), Cell("theirs", [], ["did not start"])]}
    text = markdown({"Python": "CPython"}, ROWS, results, "monoceros")
    assert "* Python: CPython" in text
    assert text.endswith("* theirs: did not start\n")


def test_document_keeps_every_round():
    cells = [Cell("monoceros", rounds(10, None), ["exited"])]
    (found,) = json.loads(json.dumps(document({}, {"hello": cells}, "monoceros")))["rows"]["hello"]
    assert (found["cpu_us"], found["notes"]) == (10, ["exited"])
    assert [each and each["cpu_us"] for each in found["rounds"]] == [10, None]
