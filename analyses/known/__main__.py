"""Make the known models again.

``python -m analyses.known compile [PROGRAM ...]`` (needs the extra ``known``) and
``python -m analyses.known train [ARM ...] --jobs 2`` (half a core-hour for all arms).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.known.files import write_compiled, write_trained
from interp.known.arms import ARMS
from interp.known.registry import ASKED_PROGRAMS, PROGRAMS
from interp.known.stored import WEIGHTS
from interp.known.trained import FOLDER
from interp.known.trained_truth import TRUTHS


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile programs, or train arms."""
    parser = argparse.ArgumentParser(prog="python -m analyses.known", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    compiling = verbs.add_parser("compile", help="programs into weights, with Tracr")
    compiling.add_argument("names", nargs="*", metavar="PROGRAM", help="all without a name")
    compiling.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
    training = verbs.add_parser("train", help="ten models of every arm")
    training.add_argument("names", nargs="*", metavar="ARM", help="all without a name")
    training.add_argument("--out", type=Path, default=FOLDER, help="folder of the weights")
    training.add_argument("--truths", type=Path, default=TRUTHS, help="folder of the truth files")
    training.add_argument("--jobs", type=int, default=1, help="processes, one core each")
    asked = parser.parse_args(arguments)
    known = {**PROGRAMS, **ASKED_PROGRAMS} if asked.verb == "compile" else ARMS
    unknown = [name for name in asked.names if name not in known]
    if unknown:
        parser.error(f"no {unknown[0]!r}; there are {', '.join(known)}")
    names = asked.names or list(known)
    if asked.verb == "compile":
        write_compiled(names, asked.out)
    else:
        write_trained(names, asked.out, asked.truths, jobs=asked.jobs)


if __name__ == "__main__":
    main()
