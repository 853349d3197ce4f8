"""``interp conditions``: the list, a file of one's own, and an example prompt."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analyses import cli
from interp.data.bundle import bundled_choices
from interp.prompts import load_conditions

Run = Callable[..., tuple[int, str, str]]
Folder = Callable[..., Path]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("show", ...)``: exit code, output and last line of errors of ``interp conditions``."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["interp", "conditions", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, (err.strip().splitlines() or [""])[-1]

    return command


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "careful:\n  description: asks for care\n  texts: [Please take care.]\n  turn: system\n"
    )
    return path


def test_the_list_has_every_bundled_condition_with_its_texts_and_calls(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:]}
    assert list(rows) == list(load_conditions())
    assert rows["instructed"][1:4] == ["30", "1", "2407.15286"]
    assert rows["critique"][1:3] == ["3", "2310.01798"]


def test_a_file_adds_to_the_list(run: Run, mine: Path) -> None:
    code, out, _ = run("--file", mine)
    assert code == 0
    assert out.splitlines()[-1].split() == ["careful", "1", "1", "asks", "for", "care"]


def test_a_bad_file_is_one_line_and_exit_code_two(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("a:\n  description: x\n  txts: [y]\n")
    expected = f"interp: {path} line 3: condition 'a': no field 'txts'; did you mean 'texts'?"
    assert run("--file", path) == (2, "", expected)


def test_show_prints_every_span_the_matched_placebo_and_the_re_asks(
    run: Run, tiny_folder: Folder
) -> None:
    code, out, _ = run("show", "instructed", "--model", tiny_folder("llama"), "--require-match", 0)
    assert code == 0
    lines = out.splitlines()
    names = [line.split()[0] for line in lines]
    spans = ["header", "context", "question", "options", "separator", "instruction", "template"]
    assert [name for name in names if name in spans] == spans
    said = next(line for line in lines if line.startswith("placebo "))
    kinds = [line.split() for line in lines if line.startswith("instructed ")]
    assert ["instructed", "written", "29"] in [words[:3] for words in kinds]
    assert sum(word.startswith("x") for words in kinds for word in words) >= 4
    words = said.replace(",", "").split()
    assert words[2] == words[5].rstrip(":")  # "placebo ID, N tokens against N: ..."
    assert sum(line.startswith("re-ask") for line in lines) == 3


def test_show_lists_every_wording_with_its_source_and_tokens(run: Run, tiny_folder: Folder) -> None:
    code, out, _ = run("show", "reported", "--model", tiny_folder("llama"), "--list")
    assert code == 0
    listed = [line.split() for line in out.splitlines()]
    for text in ("instructed-01", "reported-01", "reported-04"):
        (row,) = [words for words in listed if words and words[0] == text]
        assert row[1:3] == ["reported:", "arXiv"]
    assert "source" in out
    assert "tokens x texts" in out


@pytest.mark.slow
def test_show_of_ones_own_condition_stands_in_the_turn_it_names(
    run: Run, mine: Path, tiny_folder: Folder
) -> None:
    model = tiny_folder("llama", chat=False)
    for arguments in (["show", "careful", "--file", mine], ["--file", mine, "show", "careful"]):
        code, out, _ = run(*arguments, "--model", model)
        assert code == 0
        names = [line.split()[0] for line in out.splitlines() if ":" in line]
        assert names.index("instruction") < names.index("question")
        assert "System:" in out


def test_show_of_several_calls_has_all_of_them(run: Run, tiny_folder: Folder) -> None:
    code, out, _ = run("show", "critique", "--model", tiny_folder("llama"))
    assert code == 0
    for words in ("[the model's answer]", "[the model's critique]", "request_3"):
        assert words in out


@pytest.mark.slow
def test_show_of_feedback_takes_an_item_that_the_file_is_about(
    run: Run, tmp_path: Path, tiny_folder: Folder
) -> None:
    item, path = bundled_choices()[7], tmp_path / "f.jsonl"
    path.write_text(json.dumps({"id": item.id, "feedback": "Read the last line."}))
    model = tiny_folder("llama")
    code, out, _ = run("show", "feedback", "--feedback", path, "--model", model)
    assert code == 0
    assert f"item {item.id}" in out
    assert "comment: Read the last line." in out
    code, _, error = run("show", "feedback", "--model", model)
    assert code == 2
    assert error == (
        "interp: condition 'feedback': the slot {feedback} needs a file of feedback, which none "
        "was given"
    )


def test_show_of_a_completion_condition_completes(run: Run, tiny_folder: Folder) -> None:
    code, out, _ = run("show", "nontoxic", "--model", tiny_folder("llama"))
    assert code == 0
    assert "Completion:" in out


def test_an_instruction_longer_than_the_context_is_one_line(
    run: Run, tmp_path: Path, tiny_folder: Folder
) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(f"long:\n  description: x\n  texts: ['{'Please take care. ' * 300}']\n")
    code, _, error = run("show", "long", "--file", path, "--model", tiny_folder("llama"))
    assert code == 2
    assert error.startswith("interp: condition 'long': text 'long-01' has ")
    assert error.endswith(" tokens, the model's context is 1024: shorten it")


def test_a_placebo_that_cannot_match_is_one_line(
    run: Run, tmp_path: Path, tiny_folder: Folder
) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("short:\n  description: x\n  texts: [Go.]\n")
    options = ["--file", path, "--model", tiny_folder("llama"), "--require-match", 0]
    code, _, error = run("show", "short", *options)
    assert code == 2
    assert error.startswith("interp: no placebo for 'short-01' of condition 'short': it has ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["instructd"], "no condition 'instructd'; did you mean 'instructed'?"),
        (["instructed", "--turn", "sytem"], "--turn is 'sytem'; choose from user, system"),
        (["instructed", "--placement", "in"], "--placement is 'in'; choose from before, after"),
        (["instructed", "--slot", "99"], "condition 'instructed' has texts 1 to 30, asked for 100"),
        (["match_statistics_told"], "has no labour statistic"),
    ],
)
def test_show_refuses_what_it_cannot_show(
    run: Run, tiny_folder: Folder, arguments: list[str], words: str
) -> None:
    code, _, error = run("show", *arguments, "--model", tiny_folder("llama"))
    assert code == 2
    assert words in error
