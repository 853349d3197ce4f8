"""Compile the programs again: ``python -m analyses.known [--out FOLDER] [NAME ...]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from analyses.known.compiled import compile_program
from interp.known.registry import PROGRAMS
from interp.known.stored import WEIGHTS


def main() -> None:
    """Write one safetensors file and one card per program."""
    parser = argparse.ArgumentParser(prog="python -m analyses.known", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs; all without a name")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or PROGRAMS:
        compiled = compile_program(PROGRAMS[name])
        tensors: dict[str, npt.NDArray[np.generic]] = {}
        for key, weight in compiled.weights.items():
            flat = weight.astype(np.float32).reshape(-1)
            (where,) = flat.nonzero()
            if len(where):  # compiled weights are mostly zeros
                tensors[f"{key}:where"] = where.astype(np.int32)
                tensors[f"{key}:values"] = flat[where]
        save_file(tensors, given.out / f"{name}.safetensors")
        (given.out / f"{name}.json").write_text(_card_text(compiled.card), encoding="utf-8")


def _card_text(card: dict[str, Any]) -> str:
    """JSON with one entry a line, down to the second level."""
    lines = []
    for key, value in card.items():
        if isinstance(value, dict) and value:
            inner = [f"  {_json(name)}: {_json(entry)}" for name, entry in value.items()]
            lines.append(f" {_json(key)}: {{\n" + ",\n".join(inner) + "\n }")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            inner = [f"  {_json(entry)}" for entry in value]
            lines.append(f" {_json(key)}: [\n" + ",\n".join(inner) + "\n ]")
        else:
            lines.append(f" {_json(key)}: {_json(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
