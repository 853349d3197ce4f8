"""What a steering run asks: which sentences, which placebos, and what is refused without a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from analyses.steer.asked import ask, choose_sentences
from analyses.steer.config import SteerConfig
from interp.errors import InterpError


def test_a_direction_fitted_on_everything_is_said_to_have_seen_it() -> None:
    seen = "bundled:morality, bundled:statements"
    given = SimpleNamespace(facts=SimpleNamespace(source=seen))
    chosen = choose_sentences(SteerConfig(groups=3), given)  # type: ignore[arg-type]
    assert not chosen.held_out
    assert chosen.source.endswith("not held out")
    assert len({text.group for text in chosen.compared}) == 3


def own_placebos(tmp_path: Path, *texts: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(
        f"placebo:\n  description: d\n  replaces: true\n  texts: [{', '.join(texts)}]\n"
    )
    return path


def test_a_condition_file_is_part_of_what_is_asked(tmp_path: Path) -> None:
    texts = ("The shelf has three boards.", "A river bends to the west.")
    config = SteerConfig(items="bundled", limit=2, placebos=2)
    own = config.model_copy(update={"condition_file": own_placebos(tmp_path, *texts)})
    plain, mine = ask(config, progress=False), ask(own, progress=False)
    changed = {k for k, v in mine.data_hashes.items() if plain.data_hashes[k] != v}
    assert changed == {"conditions"}
    assert mine.specs["placebo"].texts == texts


def test_too_few_placebos_are_refused_without_a_model(tmp_path: Path) -> None:
    config = SteerConfig(
        items="bundled", limit=2, condition_file=own_placebos(tmp_path, "A river bends.")
    )
    with pytest.raises(InterpError, match="condition 'placebo' has 1 text, and 3 placebos"):
        ask(config, progress=False)
