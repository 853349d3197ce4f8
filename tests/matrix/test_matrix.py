"""A tenth of the matrix, varied: every row is loaded or refused in one line, and no number is off."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from interp.errors import InterpError
from interp.models import load_model
from tests.matrix.configs import N_LAYERS, causal_classes, tiny_config
from tests.matrix.measure import Row, build_folder, measure_class
from tests.matrix.table import BEGIN, END, line, write_table

measure = importlib.import_module("tests.matrix.measure")

LOADED = (
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "LlamaForCausalLM",
    "Qwen2ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "MixtralForCausalLM",
    "SmolLM3ForCausalLM",
    "DeepseekV3ForCausalLM",
)


@pytest.mark.slow
@pytest.mark.parametrize("class_name", LOADED)
def test_every_operation_is_right_or_falls_back_with_a_note(
    class_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SEEDS", 1)
    rows = measure_class(class_name, tmp_path)
    assert [(row.dtype, row.compatibility) for row in rows] == [
        ("float32", False),
        ("bfloat16", False),
        ("float32", True),
        ("bfloat16", True),
    ]
    assert [row.faults for row in rows] == [[]] * 4
    assert [row.refusal for row in rows] == [""] * 4
    assert all("\n" not in note for row in rows for note in row.notes)
    for row in rows:
        done = {name.split()[0] for name in row.differences}
        assert {"forward", "packed", "sweep", "knockout", "attribution", "lens"} <= done


@pytest.mark.parametrize(
    ("class_name", "reason"),
    [
        ("MambaForCausalLM", r"layer 0 has no attention .* \(the block holds norm, mixer\)"),
        ("BambaForCausalLM", "layer 0 has no attention"),
        ("JambaForCausalLM", "layer 0 has no attention"),
        ("Zamba2ForCausalLM", "layer 0 has no attention"),
        ("RecurrentGemmaForCausalLM", "layer 0 has no attention"),
        ("OlmoHybridForCausalLM", r"layer 0 has no attention .*linear_attn"),
        ("FalconH1ForCausalLM", "self-check failed: .* this FalconH1ForCausalLM"),
        ("OpenAIGPTLMHeadModel", "layer 0 has no residual stream"),
        ("HrmTextForCausalLM", "no single stack of blocks"),
    ],
)
@pytest.mark.parametrize("compatibility_mode", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_class_that_cannot_be_analysed_is_refused_by_what_it_lacks(
    class_name: str, reason: str, compatibility_mode: bool, tmp_path: Path
) -> None:
    if compatibility_mode and class_name == "FalconH1ForCausalLM":
        reason = "compatibility mode fails on FalconH1ForCausalLM"
    build_folder(class_name, tmp_path)
    with pytest.raises(InterpError, match=reason) as caught:
        load_model(tmp_path, compatibility_mode=compatibility_mode)
    assert "\n" not in str(caught.value)
    assert "truncated" not in str(caught.value)


def test_every_class_has_a_configuration_of_four_layers() -> None:
    classes = causal_classes()
    assert len(classes) > 80
    for class_name in classes:
        config = tiny_config(class_name, 300).get_text_config()
        if class_name != "HrmTextForCausalLM":  # it counts how often its two stacks run
            assert config.num_hidden_layers == N_LAYERS, class_name
        assert config.vocab_size == 300, class_name


# The rows


def row_of(dtype: str, distance: float, unit: float, *, compatibility: bool = False) -> Row:
    row = Row("LlamaForCausalLM", dtype, compatibility)  # type: ignore[arg-type]
    row.distances, row.units = {"forward": distance}, {"forward": unit}
    return row


def test_a_difference_beyond_rounding_is_a_fault() -> None:
    assert row_of("float32", 1e-5, 1.0).faults == []
    assert row_of("float32", 1e-3, 1.0).faults == ["forward off by 0.001"]
    assert row_of("float32", float("inf"), 1.0).faults == ["forward off by inf"]
    assert row_of("bfloat16", 0.03, 0.01).faults == []
    assert row_of("bfloat16", 0.05, 0.01).faults == ["forward off by 5"]
    assert row_of("bfloat16", 0.05, 0.01, compatibility=True).faults == []
    assert "FAULT: forward off by 5" in line(row_of("bfloat16", 0.05, 0.01))


def test_the_table_keeps_the_rows_of_classes_that_were_not_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n", encoding="utf-8")
    write_table(page, [row_of("float32", 1e-6, 1.0), row_of("bfloat16", 0.01, 0.01)])
    write_table(page, [Row("BartForCausalLM", "float32", False, refusal="no|adapter")])
    write_table(page, [row_of("float32", 2e-6, 1.0)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "class" not in line]
    assert len(rows) == 2
    assert rows[0].startswith("| BartForCausalLM | float32, raw |")
    assert "refused: no/adapter" in rows[0]
    assert rows[1].startswith("| LlamaForCausalLM | float32, raw | 2e-06 |")
