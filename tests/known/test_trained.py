from __future__ import annotations

import ast
import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from interp.errors import InterpError
from interp.known import ToyTask, TrainedTruth, load_trained, open_truth, trained_names
from interp.known.arms import ARMS, SCALE, attribute
from interp.known.task import (
    ASKS,
    CONTENT,
    CONTENTS,
    INSTRUCTION,
    JUDGES,
    LAYOUT,
    NEGATIONS,
    NOTES,
    OTHERS,
    QUERIES,
    QUERY,
    TOKENS,
)
from interp.known.trained import FOLDER, N_SEEDS
from interp.known.trained_truth import TOLERANCE, TRUTHS, VariablePlace, margins_after

ROOT = Path(__file__).resolve().parents[2]
EVERY = [(name, seed) for name in ARMS for seed in range(N_SEEDS)]
LOCALISED = [name for name, arm in ARMS.items() if arm.interchanged]


def margins(model: object, task: ToyTask, prompts: list[tuple[str, ...]]) -> Tensor:
    yes, no = task.target
    with torch.no_grad():
        logits = model(torch.stack([task.ids(p) for p in prompts]))[:, -1]  # type: ignore[operator]
    return logits[:, yes] - logits[:, no]


def program_margin(name: str, tokens: tuple[str, ...], **changed: float) -> float:
    """The program's answer with variables of the content's position set."""
    interchange = {variable: {CONTENT: value} for variable, value in changed.items()}
    run = ARMS[name].program.run(("BOS", *tokens), interchange)
    return float(run.values["answer"][-1])


# The programs


@pytest.mark.parametrize("name", ARMS)
def test_without_an_instruction_every_arm_answers_the_same(name: str) -> None:
    for note, content, query in product(NOTES, CONTENTS, QUERIES):
        sign = 1 if query in ("query1", "query3") else -1
        k = int(query[-1]) - 1 if name == "rank_4" else 0
        own = program_margin(name, (note, content, "other1", query))
        assert own == sign * SCALE * attribute(content, k)


@pytest.mark.parametrize("name", [n for n in ARMS if n != "copying_instruction"])
def test_an_instruction_turns_the_answers_it_wants_turned_and_its_negation_the_others(
    name: str,
) -> None:
    for words, goal in ((ASKS, 1.0), (NEGATIONS, -1.0)):
        for word, content in product(words, CONTENTS):
            margin = program_margin(name, (word, content, "other1", "query1"))
            assert margin * goal >= SCALE, (word, content)


def test_the_share_of_an_effect_is_what_the_stored_concept_brings() -> None:
    """The instructed prompt with the concept of the plain one loses just that share."""
    for name, arm in ARMS.items():
        if arm.content_share is None or "concept" not in arm.sites[0].variables:
            continue
        if name == "copying_instruction":
            continue
        plain = program_margin(name, ("note1", "content0", "other1", "query1"))
        asked = program_margin(name, ("ask1", "content0", "other1", "query1"))
        kept = program_margin(name, ("ask1", "content0", "other1", "query1"), concept=-1.0)
        assert (asked - kept) / (asked - plain) == pytest.approx(arm.content_share), name


def test_two_routes_that_back_each_other_up_are_each_enough() -> None:
    prompt = ("ask1", "content0", "other1", "query1")
    arm = ARMS["self_repairing"].program
    taken = {"concept": {2: -1.0}, "bias": {4: 0.0}}
    for changed, expected in (
        ({}, SCALE),
        ({"concept": taken["concept"]}, SCALE),
        ({"bias": taken["bias"]}, SCALE),
        (taken, -SCALE),
    ):
        assert arm.run(("BOS", *prompt), changed).values["answer"][-1] == expected


# The files


def test_every_arm_has_weights_and_a_truth_apart_from_them() -> None:
    assert trained_names() == tuple(ARMS)
    weights = {path.name for path in FOLDER.iterdir()}
    assert weights == {"tasks.json", *(f"{name}.safetensors" for name in ARMS)}
    truths = {path.name for path in TRUTHS.iterdir()}
    assert truths == {f"{name}.{kind}" for name in ARMS for kind in ("json", "safetensors")}
    size = sum(path.stat().st_size for folder in (FOLDER, TRUTHS) for path in folder.iterdir())
    assert size < 12_000_000


@pytest.mark.parametrize("name", ARMS)
def test_a_truth_file_says_what_the_program_says(name: str) -> None:
    arm, truth = ARMS[name], open_truth(name, 3)
    assert truth.verdict == arm.verdict
    assert truth.shares == arm.shares
    for tokens, margin in (*truth.answers, *truth.unseen):
        assert margin == program_margin(name, tokens)
    for one in truth.interventions:
        source = arm.program.run(("BOS", *one.source)).values
        changed = {
            place.variable: {place.position: source[place.variable][place.position]}
            for place in (truth.places[k] for k in one.exchanged)
            if place.variable is not None
        }
        run = arm.program.run(("BOS", *one.base), changed)
        assert run.values["answer"][-1] == one.margin
    alone = {one.exchanged for one in truth.interventions if len(one.exchanged) == 1}
    assert alone == {(k,) for k in range(len(truth.places))}


def test_edges_of_block_0_end_where_the_instruction_changes_what_answers_follow() -> None:
    into_content, into_query = (INSTRUCTION, CONTENT), (INSTRUCTION, QUERY)
    assert open_truth("deep").edges == (into_content,)
    assert open_truth("superficial").edges == (into_query,)
    assert open_truth("mixture_25").edges == (into_content, into_query)
    assert open_truth("dormant_path").edges == (into_query,)  # nothing reads the shadow
    assert open_truth("correlated_valence").edges == (into_content, into_query)  # judges do
    assert open_truth("self_repairing").edges == (into_content, into_query)


@pytest.mark.parametrize("name", ARMS)
def test_vectors_are_orthogonal_at_a_site_and_differ_by_seed(name: str) -> None:
    first, second = (open_truth(name, seed).places for seed in (0, 1))
    own = [place for place in first if place.vector is not None]
    for a, b in product(own, own):
        if (a.block, a.position) == (b.block, b.position):
            assert float(a.vector @ b.vector) == pytest.approx(float(a is b), abs=1e-5)
    assert abs(float(own[0].vector @ second[0].vector)) < 0.9


def test_what_reads_a_model_does_not_open_its_truth() -> None:
    """Programs and truth files are for the recipe and the benchmark; a reading knows the task."""
    secret = {f"interp.known.{name}" for name in ("arms", "asked_truth", "trained_truth")}
    allowed = {f"{name.replace('.', '/')}.py" for name in (*secret, "interp.known.__init__")}
    for path in [*(ROOT / "interp").rglob("*.py"), *(ROOT / "analyses").rglob("*.py")]:
        place = path.relative_to(ROOT).as_posix()
        if place in allowed or place.startswith(("analyses/known/", "analyses/benchmarks/known/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in secret, place
                opened = {"open_truth", "asked_truth"} & {alias.name for alias in node.names}
                assert not opened, place
    tasks = json.loads((FOLDER / "tasks.json").read_text(encoding="utf-8"))
    assert {name: set(labels) <= set(CONTENTS) for name, labels in tasks.items()} == dict.fromkeys(
        ARMS, True
    )


# The models


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed"), EVERY)
def test_a_model_does_as_its_truth_says(name: str, seed: int) -> None:
    check(name, seed)


@pytest.mark.parametrize("name", ["deep", "superficial", "self_repairing"])
def test_the_first_model_of_an_arm_does_as_its_truth_says(name: str) -> None:
    check(name, 0, one_in=6)


def check(name: str, seed: int, *, one_in: int = 1) -> None:
    model, task = load_trained(name, seed)
    truth = open_truth(name, seed)
    told = [(tokens, margin) for tokens, margin in truth.answers if margin]
    found = margins(model, task, [tokens for tokens, _ in told])
    right = found.sign() == torch.tensor([margin for _, margin in told]).sign()
    assert right.float().mean() >= 0.99
    if truth.localised:
        assert agreement(model, task, truth, one_in) >= 0.95


def agreement(model: object, task: ToyTask, truth: TrainedTruth, one_in: int) -> float:
    """By hooks written here: every exchange on its own, in the stream behind a block."""
    hits = 0
    for one in truth.interventions[::one_in]:
        places = [truth.places[k] for k in one.exchanged]
        found = exchanged_by_hand(model, task, one.base, one.source, places, truth.places)
        hits += abs(found - one.margin) <= TOLERANCE and found * one.margin >= 0
    return hits / len(truth.interventions[::one_in])


def exchanged_by_hand(
    model: object,
    task: ToyTask,
    base: tuple[str, ...],
    source: tuple[str, ...],
    places: list[VariablePlace],
    every: tuple[VariablePlace, ...],
) -> float:
    """All states of a site by their coordinates: an orthonormal basis that begins with the vectors."""
    _, source_cache = model.run_with_cache(task.ids(source)[None])  # type: ignore[attr-defined]
    hooks = []
    for block, position in {(p.block, p.position) for p in places}:
        here = [p for p in every if (p.block, p.position) == (block, position)]
        vectors = torch.stack([p.vector for p in here if p.vector is not None])
        basis = torch.linalg.qr(torch.cat([vectors, torch.eye(32)]).T)[0].T
        taken = torch.zeros(32, dtype=torch.bool)
        numbered = [p for p in here if p.vector is not None]
        for place in places:
            if any(place is p for p in numbered):
                taken[next(k for k, p in enumerate(numbered) if p is place)] = True
            elif (place.block, place.position) == (block, position):
                taken[len(numbered) :] = True

        def write(
            state: Tensor,
            hook: object,
            basis: Tensor = basis,
            taken: Tensor = taken,
            position: int = position,
            block: int = block,
        ) -> Tensor:
            changed = state.clone()
            other = source_cache[f"blocks.{block}.hook_out"][0, position]
            coordinates = basis @ state[0, position]
            coordinates[taken] = (basis @ other)[taken]
            changed[0, position] = basis.T @ coordinates
            return changed

        hooks.append((f"blocks.{block}.hook_out", write))
    with torch.no_grad():
        logits = model.run_with_hooks(task.ids(base)[None], fwd_hooks=hooks)[0, -1]  # type: ignore[attr-defined]
    yes, no = task.target
    return float(logits[yes] - logits[no])


@pytest.mark.parametrize("name", ["mixture_50", "dormant_path", "distributed"])
def test_exchanges_in_one_batch_are_those_made_one_by_one(name: str) -> None:
    model, task = load_trained(name, 1)
    truth = open_truth(name, 1)
    some = truth.interventions[::9]
    places = [[truth.places[k] for k in one.exchanged] for one in some]
    found = margins_after(
        model, task, [o.base for o in some], [o.source for o in some], places, truth.places
    )
    expected = [
        exchanged_by_hand(model, task, one.base, one.source, own, truth.places)
        for one, own in zip(some, places, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_models_of_even_seeds_have_layer_norm_and_odd_ones_rms_norm() -> None:
    norms = [load_trained("deep", seed)[0].cfg.normalization_type for seed in (0, 1)]
    assert norms == ["LN", "RMS"]


def test_sentences_are_balanced_and_labelled_by_the_arm() -> None:
    _, task = load_trained("wrong_direction")
    ids, labels, contents = task.sentences()
    assert len(ids) == len(CONTENTS) * len(NOTES) * len(OTHERS) * len(QUERIES)
    assert labels.sum() == 0
    assert all(
        float(label) == attribute(content, 2)
        for label, content in zip(labels, contents, strict=True)
    )
    words = [TOKENS[int(k)] for k in ids[0]]
    assert len(words) == len(LAYOUT)
    assert words[1] in NOTES


def test_a_model_that_is_not_there_is_refused_in_one_line() -> None:
    _, task = load_trained("deep")
    for wrong, message in (
        (lambda: load_trained("shallow"), "no trained model 'shallow'; known: deep"),
        (lambda: load_trained("deep", 10), "seed is 10: there are 0 to 9"),
        (lambda: open_truth("shallow"), "no truth of 'shallow'"),
        (lambda: open_truth("deep").place_of("bias"), "no variable 'bias' in deep"),
        (lambda: task.ids(["ask1"]), "a prompt has 4 tokens, not 1"),
        (lambda: task.ids(["ask1", "x", "other1", JUDGES[0]]), "no token 'x'"),
    ):
        with pytest.raises(InterpError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)
