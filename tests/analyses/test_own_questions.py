"""Ten two-option questions of one's own and one sentence of one's own, through every study.

No option has a social role and the instruction has one wording: what is not there is not mentioned,
and nothing is claimed of fewer than six wordings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyses import runner
from analyses.behaviour.study import Behaviour
from analyses.demo.study import Demo
from analyses.lens.study import Lens
from analyses.patch.study import Patch
from analyses.project.study import Project
from analyses.study import Study
from interp.data import load_items

pytestmark = pytest.mark.slow  # end to end

PAIRS = [
    ("Which animal can fly?", "an owl", "a dog"),
    ("Which is hotter?", "the sun", "the moon"),
    ("What is made of water?", "a river", "a road"),
    ("Which one is a fruit?", "a pear", "a chair"),
    ("What do you wear on your feet?", "shoes", "gloves"),
    ("Which one has wheels?", "a car", "a boat"),
    ("What is used to cut?", "a knife", "a spoon"),
    ("Which month is in winter?", "January", "July"),
    ("Which is the larger?", "a whale", "a mouse"),
    ("What comes from a hen?", "an egg", "a stone"),
]
STUDIES: list[Study[Any, Any, Any, Any]] = [Behaviour(), Patch(), Lens(), Project(), Demo()]
ROLES = re.compile(
    r"\bnan\b|ambiguous|stereotyp|unknown|abst[ea]|social group|other group|over-abstention", re.I
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    lines = []
    for k, (question, right, wrong) in enumerate(PAIRS):
        choices = [right, wrong] if k % 2 else [wrong, right]
        row = {"question": question, "choices": choices, "answer": choices.index(right)}
        lines.append(json.dumps(row))
    (folder / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "mine.yaml").write_text(
        "careful:\n  description: asks to think first\n  texts: [Please think before you answer.]\n",
        encoding="utf-8",
    )
    return folder


def options_of(study: Study[Any, Any, Any, Any], folder: Path) -> dict[str, Any]:
    own = {"items": str(folder / "mine.jsonl"), "condition_file": folder / "mine.yaml"}
    if study.name == "behave":
        conditions = ("clean", "careful", "placebo", "revealing")
        return {**own, "conditions": conditions, "rounds": 0}
    if study.name == "demo":
        return {**own, "limit": 10, "pairs": 10, "read": 6, "texts": 2}
    return {**own, "condition": "careful"}


def shown(page: str) -> str:
    """What a reader sees: the page without scripts, styles and marks."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"<[^>]+>", " ", text)


def labels_of(page: str) -> str:
    """Names, titles and texts of figures, from their JSON."""
    return " ".join(re.findall(r'"(?:name|text|title)":"([^"]*)"', page))


def test_ten_rows_are_ten_plain_items(files: Path) -> None:
    items = load_items(files / "mine.jsonl")
    assert {item.context_condition for item in items} == {"plain"}
    assert all(item.contrast() == (item.gold, 1 - item.gold) for item in items)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_reports_mention_no_role_that_is_absent(
    study: Study[Any, Any, Any, Any], files: Path, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    config = study.Config(
        model=str(tiny_folder("llama")), out=tmp_path / "run", **options_of(study, files)
    )
    runner.run(study, config, progress=False)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for text in (shown(page), labels_of(page)):
        found = [text[max(0, m.start() - 60) : m.end() + 40] for m in ROLES.finditer(text)]
        assert not found, found
    if study.name != "demo":
        assert "1 wording" in shown(page)
        assert "a claim about instructions takes at least 6" in shown(page)
    again = runner.load(tmp_path / "run")
    assert type(again).__name__.endswith("Result")
