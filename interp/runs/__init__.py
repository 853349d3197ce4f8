"""Run folders: one command, one folder that can be interrupted anywhere and taken up again.

A folder holds ``manifest.json`` (what was asked, of which model and data, with which versions),
``parts/<table>/<unit>.parquet`` (finished units of work), the merged ``<table>.parquet``, tensors
as ``*.safetensors``, ``figures/`` and ``report.html``. Every file appears whole or not at all.

    with open_run("runs/demo", config=config, model=card, data={"bbq": digest}, seed=0) as run:
        table = run.ledger("scores")
        table.run(batches, key=lambda b: {"ids": b.ids}, compute=lambda b: score(model, b))
        frame = table.merge(sort_by="item")

Importing this package loads neither torch nor TransformerLens.
"""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.runs.canonical import digest
    from interp.runs.folder import Run, amend_run, open_run
    from interp.runs.ledger import Ledger, Tally
    from interp.runs.manifest import read_manifest
    from interp.runs.parquet import read_parts, read_table

__all__ = [
    "Ledger",
    "Run",
    "Tally",
    "amend_run",
    "digest",
    "open_run",
    "read_manifest",
    "read_parts",
    "read_table",
]

attach(__name__)
