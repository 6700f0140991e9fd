"""Cells to a table: medians, ratios, Markdown. Nothing here measures, so all of it can be tested in no time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median

from .measure import Cell, Sample
from .rows import INTERFACES, Row

COLUMNS = [
    "server",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU µs/request",
    "RSS MiB",
    "errors",
    "CPU, ours/theirs",
    "requests/s, ours/theirs",
]


@dataclass(frozen=True)
class Line:
    """What a cell comes to: medians over its rounds, and ratios to the base. None where there is nothing to say."""

    server: str
    rps: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None
    rss_mib: float | None = None
    errors: int | None = None
    cpu_ratio: float | None = None
    rps_ratio: float | None = None


def line(cell: Cell, base: Cell | None) -> Line:
    samples = [sample for sample in cell.samples if sample]
    if not samples:
        return Line(cell.server)
    return Line(
        server=cell.server,
        rps=median(sample.rps for sample in samples),
        p50_ms=median(sample.p50_ms for sample in samples),
        p99_ms=median(sample.p99_ms for sample in samples),
        cpu_us=median(sample.cpu_us for sample in samples),
        rss_mib=median(sample.rss_mib for sample in samples),
        # The sum: an error in one round of three is not to vanish in a median.
        errors=sum(sample.errors for sample in samples),
        cpu_ratio=ratio(base, cell, "cpu_us"),
        rps_ratio=ratio(base, cell, "rps"),
    )


def ratio(base: Cell | None, cell: Cell, name: str) -> float | None:
    """The median of the rounds' ratios, not the ratio of medians: what disturbs a round disturbs both sides of it."""
    if base is None:
        return None
    both = [(ours, theirs) for ours, theirs in zip(base.samples, cell.samples, strict=False) if ours and theirs]
    ratios = [quantity(ours, name) / quantity(theirs, name) for ours, theirs in both if quantity(theirs, name)]
    return median(ratios) if ratios else None


def quantity(sample: Sample, name: str) -> float:
    value: float = getattr(sample, name)
    return value


def lines(cells: list[Cell], base: str) -> list[Line]:
    ours = next((cell for cell in cells if cell.server == base), None)
    return [line(cell, ours) for cell in cells]


def figure(value: float | None) -> str:
    """Three digits that mean something; an empty cell for nothing."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def table(header: list[str], body: list[list[str]]) -> str:
    """Markdown that is aligned as text too."""
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]

    def render(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (widths[0] + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([render(header), rule, *(render(row) for row in body)])


def cost(line: Line, plain: list[Line]) -> list[str]:
    """This row's CPU and requests per second to those of the same server in the plain row. Of medians: the two were
    not measured in the same rounds.
    """
    other = next((each for each in plain if each.server == line.server), Line(line.server))
    pairs = [(line.cpu_us, other.cpu_us), (line.rps, other.rps)]
    return [figure(this / that) if this and that else "" for this, that in pairs]


def row_table(cells: list[Cell], base: str, than: str | None = None, plain: list[Cell] | None = None) -> str:
    """`plain` are the cells of the row that this one is compared with, whose name is `than`."""
    body = []
    header = [*COLUMNS, f"CPU, to {than}", f"requests/s, to {than}"] if plain else COLUMNS
    others = lines(plain or [], base)
    for each in lines(cells, base):
        # Ratios of the base to itself are noise to the eye.
        ratios = ["", ""] if each.server == base else [figure(each.cpu_ratio), figure(each.rps_ratio)]
        figures = [figure(v) for v in (each.rps, each.p50_ms, each.p99_ms, each.cpu_us, each.rss_mib)]
        errors = "" if each.errors is None else str(each.errors)
        body.append([each.server, *figures, errors, *ratios, *(cost(each, others) if plain else [])])
    return table(header, body)


def overview(title: str, results: dict[str, list[Cell]], base: str) -> str:
    """CPU per request of these rows on one page. Its columns are the servers that have a cell in one of them."""
    servers = list(dict.fromkeys(cell.server for cells in results.values() for cell in cells))
    body = []
    for row, cells in results.items():
        by_server = {each.server: each for each in lines(cells, base)}
        body.append([row, *(figure(by_server[s].cpu_us) if s in by_server else "" for s in servers)])
    return table([title, *servers], body)


def markdown(facts: dict[str, str], rows: list[Row], results: dict[str, list[Cell]], base: str) -> str:
    parts = ["# Bench", "\n".join(f"* {name}: {value}" for name, value in facts.items())]
    for interface in INTERFACES:
        # Most servers know one interface only: in one table for both, half of the cells would be empty.
        if group := {row.name: results[row.name] for row in rows if row.interface == interface and row.name in results}:
            parts.append(overview(f"{interface.upper()}, CPU µs/request", group, base))
    known = {row.name: row for row in rows}
    for name, cells in results.items():
        about, than = known[name].about, known[name].than
        plain = results.get(than) if than else None
        parts += [f"## {name}", about[0].upper() + about[1:] + ".", row_table(cells, base, than, plain)]
        if notes := [f"* {cell.server}: {note}" for cell in cells for note in cell.notes]:
            parts.append("\n".join(notes))
    return "\n\n".join(parts) + "\n"


def document(facts: dict[str, str], results: dict[str, list[Cell]], base: str) -> dict[str, object]:
    """The same as plain data, with every round: for the plot, and for whoever trusts no median."""
    rows = {}
    for name, cells in results.items():
        medians = {each.server: asdict(each) for each in lines(cells, base)}
        rows[name] = [{**medians[cell.server], "notes": cell.notes, "rounds": samples(cell)} for cell in cells]
    return {"facts": facts, "base": base, "rows": rows}


def samples(cell: Cell) -> list[dict[str, float] | None]:
    return [asdict(sample) if sample else None for sample in cell.samples]
