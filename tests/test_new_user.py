"""A new user's first hour: everything of one's own, with what the README's section and ``help`` say.

The script may call only what that section calls, and is short; a dead end is a failure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
SECTION = "### Your model, your questions, your sentences"

SCRIPT = '''\
import json
from pathlib import Path
import interp
facts = ["can fly: an owl, a dog", "is hotter: the sun, the moon", "has wheels: a car, a boat",
         "is a fruit: an apple, a spoon", "is larger: a horse, a mouse", "is read: a book, a shoe",
         "falls from clouds: rain, sand", "lives in water: a fish, a cat", "melts: ice, iron",
         "is sweet: honey, salt"]
rows = [(fact.split(": ")[0], fact.split(": ")[1].split(", ")) for fact in facts]
rows = [{"question": f"What {what}?", "choices": names, "answer": 0} for what, names in rows]
Path("mine.jsonl").write_text("\\n".join(map(json.dumps, rows)))
Path("mine.yaml").write_text("""
careful:
  description: asks to think first
  texts: [Please think before you answer.]
colourful:
  description: my own control
  texts: [Please write in blue ink and on a clean page of paper.]
""")
model = interp.load_model("model")
items = interp.load_items("mine.jsonl")
bank = interp.prompts.TextBank(model.tokenizer, conditions=interp.prompts.load_conditions("mine.yaml"))
names = ["clean", "careful", "placebo", "revealing"]
scores = interp.score_options(model, items, conditions=names, n_texts=1, bank=bank)
options = {"against": "colourful", "bank": bank, "fit_length": "trim"}
pairs = [interp.make_pair(model, item, "careful", **options) for item in items]
result = interp.sweep(model, pairs, site="resid_pre", spans=["instruction", "answer_prefix"])
interp.viz.save(interp.viz.heatmap(result), "map.png")
ioi = interp.make_pair(model, "When Mary and John met, John gave a drink to",
                       "When Mary and John met, Mary gave a drink to", answers=(" Mary", " John"),
                       spans={"S2": ("John gave", "Mary gave")})
heads = interp.sweep(model, ioi, site="z")
interp.viz.save(interp.viz.heatmap(heads), "heads.svg")
texts = interp.load_texts("mine.csv", text="sentence", label="verdict", group="pair", positive="fair")
v = interp.fit_direction(model, texts)
with v.best.apply(model, strength=2):
    (said,) = interp.behaviour.generate(model, "They met and")
page = interp.viz.attention_page(model, ioi, heads=[(1, 2), (3, 0)], span="S2", path="heads.html")
along = interp.project(model, ioi.source, v, positions="all").to_dataframe().query("layer == 2")
interp.viz.save(interp.viz.coloured_tokens(ioi.source, along.projection), "tokens.html")
'''


def section() -> str:
    """The README's section, up to the next heading."""
    found = README.read_text().partition(f"\n{SECTION}\n")[2]
    return re.split(r"\n##+ ", found)[0]


def calls(source: str) -> set[str]:
    """Dotted names and methods that are called: ``interp.viz.save``, ``.apply``, ``.to_dataframe``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            found.add(name if re.fullmatch(r"interp[.\w]+", name) else f".{node.func.attr}")
    return found


def test_the_script_is_short_and_calls_only_what_the_section_calls() -> None:
    assert len(SCRIPT.splitlines()) <= 40
    blocks = re.findall(r"```python\n(.*?)```", section(), re.DOTALL)
    known = set().union(*(calls(block) for block in blocks))
    plain = {".write_text", ".split", ".join", ".query"}  # Python's and pandas'
    assert calls(SCRIPT) - plain <= known


@pytest.mark.browser
def test_a_new_user_meets_no_dead_end(
    tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(tiny_folder("llama"))
    rows = [
        f"They {verb} the {thing}.,{verdict},{thing}"
        for thing in ("bread", "book", "tool", "ticket", "letter", "garden")
        for verb, verdict in (("shared", "fair"), ("stole", "unfair"))
    ]
    (tmp_path / "mine.csv").write_text("\n".join(["sentence,verdict,pair", *rows]))
    left: dict[str, Any] = {}
    exec(compile(SCRIPT, "script", "exec"), left)
    assert len(left["pairs"]) == 10
    assert all(pair.alignment.by_index for pair in left["pairs"])
    assert left["result"].effect().isfinite().all()
    assert set(left["scores"].frame["condition"]) == {"clean", "careful", "placebo", "revealing"}
    assert left["said"].text
    assert left["page"].heads == ((1, 2), (3, 0))
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "heads.svg").read_text()
    assert "<td>L1H2</td>" in (tmp_path / "heads.html").read_text()
    assert "<bdi" in (tmp_path / "tokens.html").read_text()
