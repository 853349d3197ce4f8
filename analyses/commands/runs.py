"""``interp runs list | show | compare | report``: working with what runs have left, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyses.commands.options import print_table
from analyses.overview import RunFacts, find_runs, read_facts
from analyses.registry import load_config_class
from interp.errors import InterpError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    help="Runs: list, show, compare side by side, write the report again.",
    no_args_is_help=True,
    epilog="Examples:\n\n  interp runs list\n\n  interp runs compare runs/small runs/large",
)

FolderArgument = Annotated[Path, typer.Argument(help="The folder of a run.")]
TableOption = Annotated[
    str | None,
    typer.Option(
        help="Which table of findings (interp runs show names them). Default: the main one."
    ),
]
LimitOption = Annotated[int, typer.Option(min=1, help="At most so many rows.")]

_COLUMNS = ("run", "study", "model", "items", "condition", "date", "status")
_FORMATS = (".csv", ".parquet", ".html")


@app.command("list", epilog="Examples:\n\n  interp runs list\n\n  interp runs list studies/2026")
def list_(
    folder: Annotated[Path, typer.Argument(help="A folder of runs, or one run.")] = Path("runs"),
) -> None:
    """Every run below a folder: study, model, items, condition, date, status, and what it found."""
    found = list(find_runs(folder))
    runs = [one for one in found if isinstance(one, RunFacts)]
    rows = [_COLUMNS, *(_summary(one) for one in runs)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    told = iter(runs)
    if runs:
        typer.echo(_aligned(_COLUMNS, widths))
    for one in found:
        if isinstance(one, InterpError):
            typer.echo(f"not a run: {one}")
            continue
        typer.echo(_aligned(_summary(next(told)), widths))
        if one.headline:
            typer.echo(f"    {one.headline}")
    if not found:
        typer.echo(f"no run in {folder}")


def _summary(run: RunFacts) -> tuple[str, ...]:
    return (run.name or str(run.folder), run.study, run.model, run.data, run.condition,
            run.started, run.status)  # fmt: skip


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


@app.command(
    epilog="Examples:\n\n  interp runs show runs/age\n\n  interp runs show runs/age --table summary"
)
def show(folder: FolderArgument, table: TableOption = None, limit: LimitOption = 20) -> None:
    """One run: what was asked of which model, the tables it has, and what it found."""
    run = read_facts(folder)
    session = run.manifest["sessions"][-1:] or [{}]
    typer.echo(run.headline or "no headline")
    facts = [
        ("study", run.study),
        ("status", run.status),
        ("model", _model_line(run)),
        ("started", run.started),
        ("ended", run.ended or "-"),
        ("sessions", str(len(run.manifest["sessions"]))),
        ("machine", str(session[0].get("host", ""))),
        ("command", str(run.manifest.get("command", ""))),
    ]
    print_table(["the run", ""], facts)
    print_table(["option", "value", ""], _options(run))
    print_table(["table", "rows", "what it is"], _tables(run))
    if run.status == "complete" and (table or run.main_table()):
        typer.echo(f"{table or run.main_table()}:")
        _print_findings(run.findings(table), limit)


def _model_line(run: RunFacts) -> str:
    card = run.manifest["model"] or {}
    parts = [
        run.model,
        *(str(card[key]) for key in ("architecture", "dtype", "device") if key in card),
    ]
    return ", ".join(parts)


def _options(run: RunFacts) -> list[tuple[str, str, str]]:
    """Every option, marked where it is not the study's default."""
    try:
        fields = load_config_class(run.study).model_fields
    except InterpError:  # a study of somebody's own
        fields = {}
    rows = []
    for name, value in run.config.items():
        default = fields[name].default if name in fields else value
        usual = str(_plain(default)) == str(value)
        rows.append((f"--{name.replace('_', '-')}", str(value), "" if usual else "not the default"))
    return rows


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _tables(run: RunFacts) -> list[tuple[str, str, str]]:
    import pyarrow.parquet as pq

    files, rows = run.manifest["files"], []
    for path in sorted(run.folder.glob("*.parquet")):
        what = "findings" if f"{path.stem}.csv" in files else "measured"
        try:
            n = str(pq.read_metadata(path).num_rows)
        except (OSError, ValueError):
            n, what = "?", "damaged: run its command again"
        rows.append((path.stem, n, what))
    for folder in sorted((run.folder / "parts").glob("*")):
        if not (run.folder / f"{folder.name}.parquet").exists():
            done = len(list(folder.glob("*.parquet")))
            rows.append((folder.name, "-", f"{done} units done, not ended"))
    return rows


def _print_findings(frame: pd.DataFrame, limit: int) -> None:
    """A table of findings with its intervals in one column each."""
    from interp.stats import interval_column_names, intervals_of

    shown = frame.head(limit)
    hidden: set[str] = set()
    columns: dict[str, list[object]] = {}
    for column in map(str, shown):
        names = interval_column_names("" if column == "estimate" else column)
        if set(names[:3]) <= set(shown):
            columns[column] = list(intervals_of(shown, "" if column == "estimate" else column))
            hidden |= set(names)
        elif column not in hidden:
            columns[column] = shown[column].tolist()
    print_table(list(columns), list(zip(*columns.values(), strict=True)))
    if len(frame) > limit:
        typer.echo(f"... {len(frame)} rows in all (--limit)")


@app.command(
    epilog="Examples:\n\n  interp runs compare runs/small runs/large\n\n"
    "  interp runs compare runs/instructed runs/negated --table summary --out compared.csv\n\n"
    "  interp runs compare runs/* --out compared.html"
)
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished runs of one study.")],
    table: TableOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write: .csv and .parquet hold the numbers, .html the table shown."),
    ] = None,
    limit: LimitOption = 40,
) -> None:
    """One table of several runs side by side: effects with their intervals, a column per run."""
    if out is not None and out.suffix not in _FORMATS:
        raise InterpError(f"--out {out}: write to a file that ends in {', '.join(_FORMATS)}")
    facts = [read_facts(folder) for folder in folders]
    from analyses.comparison import compare as side_by_side  # heavy: only for folders that are runs

    wide = side_by_side(facts, table=table)
    print_table(_COLUMNS, [_summary(one) for one in facts])
    print_table(list(wide.columns), wide.head(limit).to_numpy().tolist())
    if len(wide) > limit:
        typer.echo(f"... {len(wide)} rows in all (--limit, --out)")
    if out is not None:
        _write(facts, wide, table, out)
        typer.echo(f"written: {out}")


def _write(facts: Sequence[RunFacts], wide: pd.DataFrame, table: str | None, out: Path) -> None:
    from analyses.comparison import comparison_rows
    from interp.runs.atomic import atomic_path, make_folder

    make_folder(out.parent)
    rows = comparison_rows(facts, table=table)
    if rows.attrs["verdicts"]:
        rows["verdict_of_card"] = rows["run"].map(rows.attrs["verdicts"])
    with atomic_path(out) as path:
        if out.suffix == ".csv":
            rows.to_csv(path, index=False, lineterminator="\n")
        elif out.suffix == ".parquet":
            rows.attrs = {}  # what tells rows apart is for compare() alone
            rows.to_parquet(path, index=False)
        else:
            path.write_text(_page(facts, wide), encoding="utf-8")


def _page(facts: Sequence[RunFacts], wide: pd.DataFrame) -> str:
    import pandas as pd

    from interp.viz import Section, render_report

    runs = pd.DataFrame([_summary(one) for one in facts], columns=_COLUMNS)
    said = [f"{one.name}: {one.headline}" for one in facts if one.headline]
    section = Section(
        "Side by side",
        paragraphs=said,
        tables=[
            (runs, "The runs."),
            (wide, "Effects with 95 % intervals; a dash where a run has no such row."),
        ],
    )
    names = ", ".join(one.name for one in facts)
    return render_report([section], title="Runs compared", lead=f"Runs: {names}.")


@app.command(
    epilog="Examples:\n\n  interp runs report runs/age\n\n  interp runs report runs/age --out age.html"
)
def report(
    folder: FolderArgument,
    out: Annotated[
        Path | None, typer.Option(help="Where to. Default: the run's own report.html.")
    ] = None,
) -> None:
    """Write a finished run's report again from its saved tables, without a model."""
    run = read_facts(folder)  # refuses what is none before anything heavy is loaded
    if run.status != "complete":
        raise InterpError(
            f"{folder}: the run has not ended (status {run.status}): run its command again"
        )
    from analyses.runner import rebuild_report

    done = rebuild_report(folder, out)
    typer.echo(done.story.headline)
    typer.echo(f"report: {done.report}")
