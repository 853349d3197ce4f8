"""``interp behave``: every option arrives, every mistake is one line and exit code 2."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analyses import cli, runner
from analyses.commands import from_config
from analyses.config import StudyConfig
from analyses.runner import load
from interp.behaviour import scorers
from interp.runs import read_manifest

Command = Callable[..., tuple[int, str, str]]
Folder = Callable[..., Path]
SMALL = ("--items", "bundled", "--limit", "1", "--rounds", "0", "--texts", "1")


@pytest.fixture
def behave(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``behave("--items", ...)``: exit code, output and last line of errors of the command."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["interp", "behave", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        said = [line for line in err.strip().splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
        return code, out, "\n".join(said[-3:])

    return command


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that must not be loaded."""

    def load_nothing(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(runner, "load_model", load_nothing)


@pytest.fixture
def loaded(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is there already."""
    monkeypatch.setattr(runner, "load_model", lambda *_, **__: tiny_model)


def test_help_teaches_by_example(behave: Command) -> None:
    code, page, _ = behave("--help")
    assert code == 0
    assert "interp behave --items bbq:Age,bbq:Religion" in page
    assert "--scorer offline" in page


def test_every_option_reaches_the_configuration(
    behave: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def kept(_: object, config: StudyConfig, **options: object) -> Any:
        asked.append(config)
        return SimpleNamespace(
            report="r.html", story=SimpleNamespace(printed=None, copies={}, headline="No effect.")
        )

    monkeypatch.setattr(from_config, "ask", lambda *_, **__: None)
    monkeypatch.setattr(runner, "run_and_tell", kept)
    code, out, _ = behave(
        "--model", "m", "--items", "bbq:Age, winogender", "--conditions", "clean,instructed",
        "--rounds", "3", "--limit", "7", "--orders", "2", "--texts", "4", "--other-texts", "2",
        "--no-stereotype-questions", "--round-texts", "2", "--round-orders", "3",
        "--answer", "generate",
        "--placement", "before", "--turn", "system",
        "--condition-file", "my.yaml", "--feedback", "told.jsonl", "--scorer", "offline",
        "--samples", "10", "--require-match", "1", "--seed", "5", "--png", "--out", tmp_path,
        "--compatibility-mode", "--template-date", "2020-02-29", "--device", "cpu", "--dtype",
        "float16",
    )  # fmt: skip
    assert (code, out) == (0, "No effect.\nreport: r.html\n")
    (found,) = asked
    assert found.model_dump() == {
        "model": "m", "device": "cpu", "dtype": "float16", "items": ("bbq:Age", "winogender"),
        "conditions": ("clean", "instructed"),
        "rounds": 3, "limit": 7, "orders": 2, "texts": 4, "other_texts": 2, "round_texts": 2,
        "round_orders": 3, "stereotype_questions": False,
        "answer": "generate", "placement": "before", "turn": "system",
        "condition_file": Path("my.yaml"), "feedback": Path("told.jsonl"), "scorer": "offline",
        "samples": 10, "require_match": 1, "seed": 5, "png": True, "out": tmp_path,
        "compatibility_mode": True, "template_date": "2020-02-29",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--conditions", "clean,instrukted"], "no condition 'instrukted': did you mean 'instructed'"),
        (["--conditions", "nontoxic"], "condition 'nontoxic' is for completion items, and there are"),
        (["--conditions", "placebo"], "condition 'placebo' has nothing to be matched with"),
        (["--conditions", ","], "--conditions ',': name at least 1"),
        (["--items", "bundeld"], "'bundeld' is neither a path nor a data set; did you mean 'bundled'"),
        (["--items", "none.jsonl"], "none.jsonl: no such file"),
        (["--items", "bundled:chioces"], "no bundled items are called 'chioces'"),
        (["--placement", "within"], "--placement 'within': should be 'before' or 'after'"),
        (["--turn", "assistant"], "--turn 'assistant': should be 'user' or 'system'"),
        (["--answer", "guess"], "--answer 'guess': should be 'score' or 'generate'"),
        (["--condition-file", "none.yaml"], "none.yaml: cannot be read"),
        (["--feedback", "none.jsonl"], "none.jsonl: cannot be read"),
        (["--conditions", "feedback"], "condition 'feedback': the slot {feedback} needs a file"),
        (["--conditions", "specificity_0"], "nothing would be asked of the choice items"),
        (["--scorer", "offline"], "scorer is 'offline' and there is nothing to complete"),
        (["--round-orders", "4", "--rounds", "1"], "round_orders is 4: item"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unloaded")
def test_a_mistake_is_one_line_before_a_model_is_loaded(
    behave: Command, tmp_path: Path, options: list[str], words: str
) -> None:
    out = tmp_path / "run"
    code, said, err = behave(*SMALL, "--out", out, *options)
    assert (code, said) == (2, "")
    assert err.startswith("interp: ")
    assert "\n" not in err
    assert words in err
    assert not out.exists()


@pytest.mark.parametrize("option", ["--texts", "--limit", "--round-texts", "--round-orders"])
@pytest.mark.usefixtures("unloaded")
def test_no_text_item_or_order_at_all_is_refused(behave: Command, option: str) -> None:
    code, _, err = behave(*SMALL, option, "0")
    assert code == 2
    assert err == f"interp: {option} 0: should be greater than or equal to 1"


@pytest.mark.parametrize("name", ["ofline", "huggingface:", "huggingface:./nowhere"])
@pytest.mark.usefixtures("unloaded")
def test_a_scorer_that_is_not_there_is_one_line(behave: Command, tmp_path: Path, name: str) -> None:
    code, _, err = behave(
        "--items", "bundled:completions", "--conditions", "nontoxic", "--scorer", name,
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    expected = {
        "ofline": "no toxicity scorer 'ofline'; did you mean 'offline'?",
        "huggingface:": "no toxicity scorer 'huggingface:'; did you mean 'huggingface:ID_OR_FOLDER'?",
        "huggingface:./nowhere": "./nowhere: no such folder",
    }[name]
    assert err == f"interp: {expected}"


@pytest.mark.usefixtures("unloaded")
def test_a_scorer_without_its_package_says_what_to_install(
    behave: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scorers, "find_spec", lambda name: None)
    code, _, err = behave(
        "--items", "bundled:completions", "--conditions", "nontoxic", "--scorer", "offline",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert err == (
        "interp: the scorer 'offline' needs alt-profanity-check: "
        "pip install 'interp-workbench[toxicity]'"
    )


@pytest.mark.usefixtures("unloaded")
def test_an_unknown_field_of_a_condition_file_names_file_and_line(
    behave: Command, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("careful:\n  description: d\n  txts: [Take care.]\n")
    code, _, err = behave(*SMALL, "--conditions", "careful", "--condition-file", path)
    assert code == 2
    expected = f"{path} line 3: condition 'careful': no field 'txts'; did you mean 'texts'?"
    assert err == f"interp: {expected}"


@pytest.mark.usefixtures("loaded")
def test_an_instruction_longer_than_the_context_is_one_line_and_no_folder(
    behave: Command, tmp_path: Path
) -> None:
    path, out = tmp_path / "mine.yaml", tmp_path / "run"
    path.write_text(f"long:\n  description: d\n  texts: ['{'word ' * 1200}']\n")
    code, _, err = behave(
        *SMALL, "--conditions", "clean,long", "--condition-file", path, "--out", out
    )
    assert code == 2
    assert err.startswith("interp: condition 'long': text 'long-01' has ")
    assert "the model's context is 1024: shorten it" in err
    assert not out.exists()


@pytest.mark.usefixtures("loaded")
def test_a_prompt_beyond_the_context_names_its_item(behave: Command, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    choices = [{"text": text} for text in ("Ann", "Bob")]
    path.write_text(
        json.dumps({"id": "q1", "context": "It rained. " * 400, "question": "Who?",
                    "choices": choices, "gold": 0})
    )  # fmt: skip
    code, _, err = behave(
        *SMALL, "--items", path, "--conditions", "clean", "--out", tmp_path / "run"
    )
    assert code == 2
    assert err.splitlines()[-1].startswith("interp: item q1")
    assert "context" in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("loaded")
def test_a_folder_of_another_run_is_refused_and_kept(behave: Command, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, said, _ = behave(*SMALL, "--conditions", "clean", "--out", out)
    assert code == 0
    assert said.splitlines()[1:] == [f"report: {out / 'report.html'}"]
    before = (out / "scores.parquet").read_bytes()
    code, _, err = behave(*SMALL, "--conditions", "clean", "--out", out, "--seed", "1")
    assert code == 2
    assert err.splitlines()[-1].startswith(f"interp: {out}: config.seed was 0, is now 1")
    assert "choose another --out" in err
    assert (out / "scores.parquet").read_bytes() == before
    assert read_manifest(out)["status"] == "complete"
    assert load(out).scores.conditions == ("clean",)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, _, err = behave(*SMALL, "--conditions", "clean", "--out", tmp_path / "mine")
    assert (code, "notes.txt" in err, "is not a run" in err) == (2, True, True)
