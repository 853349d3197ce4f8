"""What a shell completes, without loading torch; and that every option with known words is completed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analyses.commands.completion import completer_of, words_of
from analyses.registry import STUDIES, load_config_class

ROOT = Path(__file__).parents[3]


def complete(study: str, field: str, typed: str) -> list[str]:
    completer = completer_of(field, load_config_class(study).model_fields[field])
    assert completer is not None
    return completer(typed)


@pytest.mark.parametrize(
    ("study", "field", "typed", "found"),
    [
        ("patch", "model", "smol", ["smollm2-135m-instruct"]),
        ("patch", "site", "resid_pre,attn", ["resid_pre,attn_out"]),
        ("patch", "condition", "instr", ["instructed"]),
        ("patch", "against", "plac", ["placebo"]),
        ("patch", "cells", "layer_s", ["layer_span"]),
        ("patch", "dtype", "bf", ["bfloat16"]),
        ("behave", "conditions", "clean,instr", ["clean,instructed"]),
        ("behave", "items", "bundled:co", ["bundled:completions"]),
        ("lens", "items", "wino", ["winogender"]),
        ("lens", "metric", "opt", ["option_margin"]),
        ("direction fit", "methods", "lda,pc", ["lda,pca"]),
        ("direction fit", "texts", "bundled:contrasts:te", ["bundled:contrasts:tense"]),
        ("direction transfer", "texts", "ethics,crows", ["ethics,crows-pairs"]),
    ],
)
def test_names_are_completed_behind_the_last_comma(
    study: str, field: str, typed: str, found: list[str]
) -> None:
    assert complete(study, field, typed) == found


@pytest.mark.parametrize("study", STUDIES)
def test_every_option_of_known_words_is_completed(study: str) -> None:
    for name, field in load_config_class(study).model_fields.items():
        if words_of(field.annotation):
            assert complete(study, name, "")


def test_a_shell_is_answered_without_torch(tmp_path: Path) -> None:
    for name in ("torch", "transformers", "transformer_lens"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('imported')")
    code = "from analyses import cli; cli.build_app()(args=[], prog_name='interp')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
            "_INTERP_COMPLETE": "complete_bash",
            "COMP_WORDS": "interp patch --condition neg",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["negated"], done.stderr
