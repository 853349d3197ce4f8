"""Programs that are asked in several wordings, and the models that they were compiled into."""

from __future__ import annotations

import pytest
import torch

from interp.errors import InterpError
from interp.known import load_known, names
from interp.known.asked import ASKED, asked_task
from interp.known.asked_truth import margin
from interp.known.registry import ASKED_PROGRAMS
from interp.stats import MIN_CLUSTERS, MIN_WORDINGS
from tests.known.interchange import interchanged, last_logits, random_pairs

CLOSE = 5e-4
NOISY = {"rotated": True, "noise": 2.0, "seed": 1}


def test_half_of_the_programs_follow_tasks_that_others_published() -> None:
    published = [known.published for known in ASKED_PROGRAMS.values()]
    assert 2 * sum(published) >= len(published) == len(ASKED)
    assert not set(ASKED) & set(names())


@pytest.mark.parametrize("name", ASKED)
def test_a_task_has_what_a_claim_takes_and_its_model_answers_as_the_program_does(name: str) -> None:
    task = asked_task(name)
    for words in (task.asks, task.notes):
        assert len(set(words)) >= MIN_WORDINGS
    to_change = [item for item in task.items if margin(task, task.notes[0], item) < 0]
    assert len({task.content(item) for item in to_change}) > MIN_CLUSTERS
    if name != "bracket_kinds":  # more close than open in all
        assert len(to_change) < len(task.items)  # the others are donors
    model, _ = load_known(name, **NOISY)  # type: ignore[arg-type]
    prompts = [
        (words[k % 6], item)
        for words in (task.asks, task.notes)
        for k, item in enumerate(task.items)
    ]
    logits = last_logits(model, torch.stack([task.ids((word, *item)) for word, item in prompts]))
    better, worse = task.target
    expected = torch.tensor([margin(task, word, item) for word, item in prompts])
    assert torch.allclose(logits[:, better] - logits[:, worse], expected, atol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_an_interchange_at_a_node_gives_what_the_program_predicts(name: str) -> None:
    model, truth = load_known(name, **NOISY)  # type: ignore[arg-type]
    pairs = random_pairs(truth, 40)
    sources, destinations = (torch.stack(side) for side in zip(*pairs, strict=True))
    everywhere = range(1, destinations.shape[1])
    for node in truth.nodes:
        found = interchanged(model, destinations, sources, [node], everywhere)
        expected = [
            truth.logits(truth.answer(to, source=source, variables=node.variables))
            for source, to in pairs
        ]
        assert torch.allclose(found, torch.stack(expected), atol=CLOSE), node.label
        assert bool(((found - last_logits(model, destinations)).abs() > 0.02).any()) == node.used


def test_what_there_is_not_is_refused_in_one_line() -> None:
    task = asked_task("late_answer")
    for wrong, message in (
        (lambda: asked_task("flip"), "no program 'flip'"),
        (lambda: task.ids(["ask1"]), "takes 4 tokens, not 1"),
        (lambda: task.ids(["ask1", "yes1", "and", "!"]), "no token '!'"),
    ):
        with pytest.raises(InterpError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)
