"""``python -m tests.matrix [CLASS ...]``: measure every class, or some, and renew ``docs/models.md``.

Prints one line per row and ends with code 1 when there is a fault.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from tests.matrix.configs import causal_classes
from tests.matrix.measure import Row, measure_class
from tests.matrix.table import line, write_table

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def main(names: list[str]) -> int:
    """Measure the classes named, or all."""
    logging.disable(logging.CRITICAL)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    faults = 0
    rows: list[Row] = []
    for name in names or causal_classes():
        with tempfile.TemporaryDirectory() as folder:
            found = measure_class(name, Path(folder))
        for row in found:
            print(line(row), flush=True)
            faults += len(row.faults)
        rows += found
        write_table(PAGE, found)
    print(f"{len(rows)} rows, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
