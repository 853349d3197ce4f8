"""Pages hold what the committed rows give, and quote no interval without a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyses.tables.__main__ import main, pages
from analyses.tables.entries import TABLES, render
from analyses.tables.markdown import interval, number, p_value
from analyses.tables.pages import (
    problems,
    prose_of,
    quoted_intervals,
    read_pages,
    tables_in,
    write_tables,
)
from analyses.tables.runs import RUNS, Kept, find_run
from interp.data.bundle import bundled_instructions
from interp.errors import InterpError
from interp.stats import Interval

PAGE = "The effect is **.29 [.11, .46]**.\n<!-- table: a -->\nold\n<!-- end -->\n"


def body(name: str) -> str:
    return {"a": "| effect |\n| --- |\n| 0.29 [0.11, 0.46] |"}[name]


def test_a_table_is_written_between_its_markers() -> None:
    written = write_tables(PAGE, body)
    assert written == PAGE.replace("old", body("a"))
    assert write_tables(written, body) == written
    assert tables_in(PAGE) == ["a"]
    assert "old" not in prose_of(PAGE)


def test_a_stale_table_and_a_number_without_a_row_are_named() -> None:
    path = Path("page.md")
    assert problems({path: write_tables(PAGE, body)}, body) == []
    assert problems({path: PAGE}, body) == ["page.md: table 'a' differs from its rows"]
    other = write_tables(PAGE, body).replace(".29 [", ".28 [", 1)
    assert problems({path: other}, body) == [
        "page.md: 0.28 [0.11, 0.46] stands in no table of the page"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a null of -.10 [-.29, .10] nats", [(-0.10, -0.29, 0.10)]),
        ("**.198 [.120, .276] nats**", [(0.198, 0.12, 0.276)]),
        ("**2.22** [1.58, 2.96]", [(2.22, 1.58, 2.96)]),
        ("−0.05 [−0.1, +0.2]", [(-0.05, -0.1, 0.2)]),
        ("layers [1, 2] and `x[1, 2]`", []),
    ],
)
def test_quoted_intervals(text: str, expected: list[tuple[float, ...]]) -> None:
    assert list(quoted_intervals(text)) == expected


def test_a_marker_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("<!-- table: a -->\n")
    with pytest.raises(InterpError, match="has no '<!-- end -->'"):
        read_pages([path])


def test_numbers_are_printed_as_in_prose() -> None:
    assert [number(x) for x in (0.29, -0.049, 2.266, -0.0001, 1.0, 0.996)] == [
        ".29", "-.05", "2.27", ".00", "1.00", "1.00"
    ]  # fmt: skip
    assert number(float("nan")) == "-"
    assert [p_value(p) for p in (0.0004, 0.017, 1.0)] == ["< .001", ".017", "1.000"]
    assert interval(Interval(0.29, 0.11, 0.46, 10, 10)) == ".29 [.11, .46]"
    assert interval(Interval(0.29, float("nan"), float("nan"), 1, 1)) == ".29"


def test_every_table_has_runs_and_every_name_is_checked() -> None:
    assert {run for entry in TABLES.values() for run in entry.runs} <= set(RUNS)
    with pytest.raises(InterpError, match="no table 'efects'"):
        render("efects")
    with pytest.raises(InterpError, match="no such run"):
        find_run("dem")


def test_a_table_without_rows_says_so(tmp_path: Path) -> None:
    assert render("steering", tmp_path) == (
        "*This table's rows are not committed: `make tables ROWS=steer` makes them.*"
    )


@pytest.mark.parametrize("run", ["rq1-qwen2.5-0.5b", "rq1-smollm2-135m"])
def test_committed_rows_were_read_against_requests(run: str) -> None:
    """Statements, the control of earlier rows, are another speech act with an effect of their own."""
    frame = Kept(run).scores().frame
    requests = {one.id for one in bundled_instructions() if one.kind == "placebo"}
    assert set(frame.loc[frame["condition"] == "placebo", "text_id"]) <= requests


@pytest.mark.slow
@pytest.mark.dataset
def test_pages_are_what_the_rows_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert any(path.name == "results.md" for path in pages())
    status = main(["--check"])
    assert (status, capsys.readouterr().out) == (0, "")
