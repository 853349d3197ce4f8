"""Log-likelihoods equal an independent oracle on every architecture, whatever the chunks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from interp.behaviour import likelihood
from interp.behaviour.likelihood import LogLikelihoods, completion_nll, log_likelihood
from interp.directions.steering import add_vector
from interp.errors import InterpError

LENGTHS = (7, 2, 12, 9)


def some_ids(model, lengths=LENGTHS):
    """Sequences of random tokens; the first and third begin alike."""
    generator = torch.Generator().manual_seed(1)
    n = int(model.cfg.d_vocab)
    ids = [torch.randint(2, n, (length,), generator=generator) for length in lengths]
    ids[2][:5] = ids[0][:5]
    return ids


@torch.no_grad()
def by_hand(model, ids, start=1):
    """Sum of log-probabilities from TransformerLens's own forward, and first choices among them."""
    logits = model(ids[None])[0, :-1].double()
    picked = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    first = logits.argmax(-1) == ids[1:]
    return float(picked[start - 1 :].sum()), int(first[start - 1 :].sum())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox", "opt"])
def test_totals_equal_a_plain_forward_and_gather(load_tiny, architecture):
    model = load_tiny(architecture)
    ids = some_ids(model)
    found = log_likelihood(model, ids)
    expected = [by_hand(model, one) for one in ids]
    torch.testing.assert_close(
        found.total, torch.tensor([total for total, _ in expected]), rtol=1e-4, atol=1e-3
    )
    assert found.n_first.tolist() == [n for _, n in expected]
    assert found.n_tokens.tolist() == [length - 1 for length in LENGTHS]


@pytest.mark.parametrize("max_rows", [1, 3, 8, 10_000])
def test_the_number_of_rows_held_changes_nothing(tiny_model, max_rows):
    ids = some_ids(tiny_model)
    whole = log_likelihood(tiny_model, ids)
    parts = log_likelihood(tiny_model, ids, max_rows=max_rows)
    torch.testing.assert_close(parts.total, whole.total, rtol=1e-4, atol=1e-4)
    assert parts.n_first.tolist() == whole.n_first.tolist()


def test_no_more_rows_of_logits_exist_than_allowed(tiny_model, monkeypatch):
    import interp.behaviour.likelihood as module

    original, seen = module.forward, []

    def counted(*args, logits_at, **options):
        seen.append(len(logits_at))
        return original(*args, logits_at=logits_at, **options)

    monkeypatch.setattr(module, "forward", counted)
    log_likelihood(tiny_model, some_ids(tiny_model), max_rows=8)
    assert max(seen) <= 8
    shared = 4  # rows that the first and third sequence have in common, were they in one chunk
    assert sum(LENGTHS) - len(LENGTHS) - shared <= sum(seen) <= sum(LENGTHS) - len(LENGTHS)


def test_a_later_start_scores_the_continuation_alone(tiny_model):
    ids = some_ids(tiny_model)
    starts = [3, 1, 11, 4]
    found = log_likelihood(tiny_model, ids, starts=starts)
    for k, (one, start) in enumerate(zip(ids, starts, strict=True)):
        assert found.total[k].item() == pytest.approx(by_hand(tiny_model, one, start)[0], rel=1e-4)
    assert found.n_tokens.tolist() == [4, 1, 1, 5]


def test_hooks_act_on_every_chunk(tiny_model):
    ids = some_ids(tiny_model)
    step = torch.randn(tiny_model.cfg.d_model, generator=torch.Generator().manual_seed(2))
    with add_vector(tiny_model, "resid_post", 1, step):
        found = log_likelihood(tiny_model, ids, max_rows=6)
        expected = [by_hand(tiny_model, one)[0] for one in ids]
    torch.testing.assert_close(found.total, torch.tensor(expected), rtol=1e-4, atol=1e-3)
    assert not torch.allclose(found.total, log_likelihood(tiny_model, ids).total)


def test_readings_of_a_result_by_hand():
    scores = LogLikelihoods(torch.tensor([-2.0, -9.0]), torch.tensor([1, 3]), torch.tensor([0, 2]))
    assert scores.per_token.tolist() == [-2.0, -3.0]
    assert scores.nll == pytest.approx(11 / 4)
    assert scores.perplexity == pytest.approx(math.exp(11 / 4))


@pytest.mark.parametrize(
    ("lengths", "starts", "message"),
    [
        ((), None, "the list is empty"),
        ((4, 1), None, "sequence 1 has 1 tokens"),
        ((4, 4), [1, 4], "scored from token 4"),
        ((4, 4), [0, 1], "scored from token 0"),
        ((4, 4), [1], "1 starts for 2 sequences"),
    ],
)
def test_what_cannot_be_scored_is_refused(tiny_model, lengths, starts, message):
    ids = [torch.arange(n) + 2 for n in lengths]
    with pytest.raises(InterpError, match=message):
        log_likelihood(tiny_model, ids, starts=starts)


@torch.no_grad()
def nll_by_hand(model: Any, beginning: str, text: str) -> float:
    n = len(model.tokenizer(beginning)["input_ids"])
    ids = torch.tensor(model.tokenizer(f"{beginning} {text}")["input_ids"])
    predicted = model(ids[None])[0].double().log_softmax(-1)
    return float(-predicted[range(n - 1, len(ids) - 1), ids[n:]].mean())


def test_the_likelihood_of_a_completion_is_that_of_its_own_tokens(tiny_model: Any) -> None:
    beginning, text = "The teacher and the young", "farmer met near the river."
    by_hand = nll_by_hand(tiny_model, beginning, text)
    assert completion_nll(tiny_model, beginning, text) == pytest.approx(by_hand, rel=1e-4)
    assert math.isnan(completion_nll(tiny_model, beginning, ""))


@pytest.mark.parametrize(
    ("begun", "whole", "start"),
    [([5, 6], [5, 9], 1), ([5, 6], [5, 6, 7], 2), ([5, 6], [5, 6], 1), ([5], [9], 1)],
)
def test_a_token_that_straddles_the_border_counts_to_the_completion(begun, whole, start):
    """Where "b c" is one token, all from the first different token on is scored."""
    assert likelihood._first_scored(torch.tensor(begun), torch.tensor(whole)) == start
