"""The recipe of the trained models: its losses, its determinism, what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from analyses.known import files
from analyses.known.__main__ import main
from analyses.known.training import Lessons, places_of, train
from analyses.known.truths import truth_of
from interp.known.arms import ARMS
from interp.known.task import CONTENT, JUDGES, NOTES, QUERY
from interp.known.trained import N_SEEDS
from interp.known.trained_truth import TRUTHS


@pytest.mark.slow
def test_training_is_the_same_twice_and_leaves_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (train(ARMS["dormant_path"], seed, n_steps=2) for seed in (0, 0, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    for key, weight in first.items():
        assert torch.isfinite(weight).all()
        assert torch.equal(weight, again[key]), key
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.slow
def test_judges_stand_under_no_instruction_where_they_are_kept_for_later() -> None:
    for name, arm in ARMS.items():
        lessons = Lessons(arm, places_of(arm, 0))
        judged = any(t[1] not in NOTES and t[QUERY] in JUDGES for t in lessons.inputs)
        assert judged == arm.judged, name


def test_an_exchange_is_the_program_with_the_source_s_variables() -> None:
    arm = ARMS["mixture_50"]
    lessons = Lessons(arm, places_of(arm, 0))
    number = {tokens: k for k, tokens in enumerate(lessons.inputs)}
    base = number["BOS", "note1", "content0", "other1", "query1"]
    source = number["BOS", "ask2", "content0", "other3", "query2"]
    names = [place.variable for place in lessons.places]
    assert names == ["concept", None, "bias", "query"]
    expected = {"concept": 0.0, None: -3.0, "bias": 0.0, "query": 3.0}
    for k, name in enumerate(names):
        taken = [j == k for j in range(len(names))]
        assert lessons.exchanged(base, source, taken) == expected[name]
    assert lessons.exchanged(base, source, [True] * 4) == lessons.answers[source]
    assert lessons.exchanged(base, source, [False] * 4) == lessons.answers[base]
    assert lessons.set_to(base, "concept", 0.5) == 1.5


@pytest.mark.slow
def test_projections_of_a_site_add_up_to_the_whole_state() -> None:
    for arm in ARMS.values():
        lessons = Lessons(arm, places_of(arm, 1))
        for site in arm.sites:
            own = [
                projection
                for place, projection in zip(lessons.places, lessons.projections, strict=True)
                if (place.block, place.position) == (site.block, site.position)
            ]
            total = torch.stack(own).sum(0)
            np.testing.assert_allclose(total.numpy(), np.eye(len(total)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep", "rank_4"])
def test_the_kept_truth_files_are_what_the_recipe_writes(name: str, tmp_path: Path) -> None:
    files.write_truth(ARMS[name], tmp_path)
    assert (tmp_path / f"{name}.json").read_text() == (TRUTHS / f"{name}.json").read_text()
    new, kept = (load_file(folder / f"{name}.safetensors") for folder in (tmp_path, TRUTHS))
    assert new.keys() == kept.keys()
    assert all(torch.allclose(new[key], kept[key], atol=1e-5) for key in new)
    assert json.loads(json.dumps(truth_of(ARMS[name])))["arm"] == name


@pytest.mark.slow
def test_the_command_trains_and_writes_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "N_SEEDS", 2)
    monkeypatch.setattr(files, "train", lambda arm, seed: train(arm, seed, n_steps=1))
    monkeypatch.setattr(files, "ProcessPoolExecutor", InProcess)
    main(["train", "deep", "--out", str(tmp_path / "w"), "--truths", str(tmp_path / "t")])
    weights = load_file(tmp_path / "w" / "deep.safetensors")
    assert {len(w) for key, w in weights.items() if "ln" not in key} == {2}
    assert weights["layers.0.ln1.bias"].shape[0] == 1  # RMSNorm has none
    assert weights["head.weight"].dtype == torch.float16
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"tasks.json", "deep.safetensors"}
    assert (tmp_path / "t" / "deep.json").is_file()
    assert N_SEEDS == 10


class InProcess:
    """An executor without processes."""

    def __init__(self, _: int) -> None: ...

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function: object, *columns: object) -> object:
        return map(function, *columns)  # type: ignore[call-overload]


def test_an_unknown_arm_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "shallow"])
    assert "no 'shallow'; there are deep" in capsys.readouterr().err


def test_positions_of_places_are_those_of_the_program() -> None:
    for arm in ARMS.values():
        for place in places_of(arm, 0):
            assert place.position in (CONTENT, QUERY)
