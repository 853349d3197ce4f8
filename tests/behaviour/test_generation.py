"""Continuations: the most likely tokens of full runs, or sampled ones, and the prompts they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from interp.activations import read_states
from interp.behaviour.generation import Decoding, complete, generate
from interp.errors import InterpError
from interp.models import load_model
from interp.models.limits import NotFiniteError
from interp.prompts import Conversation, Segment, TokenizedPrompt, Turn, tokenize
from interp.stats import rng

pytestmark = pytest.mark.slow  # exhaustive or end to end; left out of the everyday tests

ARCHITECTURES = ["gpt2", "llama", "qwen2", "gemma2", "gemma3", "neox", "opt", "phi"]


def prompt_of(n: int, *, seed: int = 0) -> TokenizedPrompt:
    ids = torch.randint(2, 400, (n,), generator=torch.Generator().manual_seed(seed))
    return TokenizedPrompt(ids, {"question": slice(0, n)}, ("t",) * n, "t" * n, "item 3")


LENGTHS = (9, 12, 9, 5, 12, 9)
TEN = Decoding(max_new_tokens=10)


def prompts_of(lengths: tuple[int, ...] = LENGTHS) -> list[TokenizedPrompt]:
    return [
        replace(prompt_of(n, seed=seed), label=f"item {seed}") for seed, n in enumerate(lengths)
    ]


def spoken(tokenizer: Any, text: str) -> TokenizedPrompt:
    return tokenize(tokenizer, Conversation((Turn("user", (Segment("question", text),)),)))


@torch.no_grad()
def step_by_step(model: Any, ids: Tensor, n: int) -> list[int]:
    """One full run per token, without a cache."""
    sequence = ids
    for _ in range(n):
        logits = model(sequence[None])[0, -1]
        sequence = torch.cat([sequence, logits.argmax().reshape(1)])
    return sequence[len(ids) :].tolist()


@pytest.mark.parametrize("compatibility_mode", [False, True], ids=["raw", "compatibility"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_continuation_is_the_argmax_of_full_runs(
    load_tiny: Callable[..., Any], architecture: str, compatibility_mode: bool
) -> None:
    model = load_tiny(architecture, compatibility_mode=compatibility_mode)
    prompt = prompt_of(9)
    done = complete(model, prompt, max_new_tokens=10, stop_ids=())
    new = done.ids[9:].tolist()
    assert new == step_by_step(model, prompt.ids, 10)
    assert torch.equal(done.ids[:9], prompt.ids)


def test_a_sliding_window_shorter_than_the_sequence_is_kept(load_tiny: Callable[..., Any]) -> None:
    model = load_tiny("gemma2", sliding_window=6, random_vectors=True)
    done = complete(model, prompt_of(9), max_new_tokens=10, stop_ids=())
    assert done.ids[9:].tolist() == step_by_step(model, prompt_of(9).ids, 10)


def test_the_continuation_is_a_span_that_reads_see(tiny_model: Any) -> None:
    prompt = prompt_of(9)
    done = complete(tiny_model, prompt, max_new_tokens=5, stop_ids=())
    assert done.spans == {"question": slice(0, 9), "generated": slice(9, 14)}
    assert len(done) == len(done.str_tokens) == 14
    assert done.str_tokens[9:] == tuple(tiny_model.tokenizer.decode([i]) for i in done.ids[9:])
    assert done.text == prompt.text + "".join(done.str_tokens[9:])
    assert (done.label, prompt.spans) == ("item 3", {"question": slice(0, 9)})
    last = read_states(tiny_model, [done], positions="generated:last", progress=False)
    again = read_states(tiny_model, [done.ids], progress=False)
    assert torch.equal(last.values, again.values)


def test_a_stop_token_ends_the_continuation_and_is_no_part_of_it(tiny_model: Any) -> None:
    tokens = step_by_step(tiny_model, prompt_of(9).ids, 10)
    stop = tokens[4]
    first = tokens.index(stop)
    done = complete(tiny_model, prompt_of(9), max_new_tokens=10, stop_ids=[stop, 399])
    assert done.ids[9:].tolist() == tokens[:first]
    at_once = complete(tiny_model, prompt_of(9), max_new_tokens=10, stop_ids={tokens[0]})
    assert torch.equal(at_once.ids, prompt_of(9).ids)
    assert "generated" not in at_once.spans
    assert at_once.text == prompt_of(9).text


def test_by_default_the_end_tokens_of_tokenizer_and_model_stop(
    tiny_folder: Callable[..., Path],
) -> None:
    model, prompt = load_model(tiny_folder("llama")), prompt_of(9)
    tokens = step_by_step(model, prompt.ids, 6)
    model.original_model.generation_config.eos_token_id = [399, tokens[3]]
    done = complete(model, prompt, max_new_tokens=6)
    assert done.ids[9:].tolist() == tokens[: tokens.index(tokens[3])]
    model.original_model.generation_config.eos_token_id = None
    model.tokenizer.eos_token = model.tokenizer.convert_ids_to_tokens(tokens[2])
    done = complete(model, prompt, max_new_tokens=6)
    assert done.ids[9:].tolist() == tokens[: tokens.index(tokens[2])]
    # no stop token at all, whatever the model's own configuration says
    model.original_model.generation_config.eos_token_id = tokens[0]
    assert len(complete(model, prompt, max_new_tokens=6, stop_ids=())) == 15


def test_penalties_of_the_models_generation_config_play_no_part(
    tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = step_by_step(tiny_model, prompt_of(9).ids, 8)
    config = tiny_model.original_model.generation_config
    for name, value in [
        ("repetition_penalty", 5.0),
        ("suppress_tokens", tokens[:2]),
        ("do_sample", True),
        ("max_length", 3),
    ]:
        monkeypatch.setattr(config, name, value, raising=False)
    done = complete(tiny_model, prompt_of(9), max_new_tokens=8, stop_ids=())
    assert done.ids[9:].tolist() == tokens


def test_what_cannot_be_continued_is_refused(tiny_model: Any) -> None:
    prompt = prompt_of(9)
    with pytest.raises(InterpError, match="max_new_tokens is 0: generate at least one"):
        complete(tiny_model, prompt, max_new_tokens=0)
    done = complete(tiny_model, prompt, max_new_tokens=2, stop_ids=())
    with pytest.raises(InterpError, match="item 3: was continued already"):
        complete(tiny_model, done)
    message = "item 3: 1020 tokens and 5 new ones exceed the context of 1024"
    with pytest.raises(InterpError, match=message):
        complete(tiny_model, prompt_of(1020), max_new_tokens=5)
    assert len(complete(tiny_model, prompt_of(1020), max_new_tokens=4, stop_ids=())) == 1024


def test_logits_that_are_not_finite_name_the_prompt(tiny_folder: Callable[..., Path]) -> None:
    fragile = load_model(tiny_folder("llama"))
    prompt = prompt_of(5)
    (embedding,) = [
        value for name, value in fragile.original_model.named_parameters() if "embed_tok" in name
    ]
    with torch.no_grad():
        embedding[prompt.ids[2]] = float("inf")
    with pytest.raises(NotFiniteError, match="the logits of item 3 are not finite"):
        complete(fragile, prompt, max_new_tokens=2)
    assert len(complete(fragile, replace(prompt, ids=prompt.ids[:2]), max_new_tokens=1)) >= 2


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2", "neox"])
def test_cached_equals_uncached_and_a_batch_equals_single_prompts(
    load_tiny: Callable[..., Any], architecture: str
) -> None:
    model = load_tiny(architecture)
    prompts = prompts_of()
    together = generate(model, prompts, decoding=TEN, stop_ids=())
    uncached = generate(model, prompts, decoding=TEN, stop_ids=(), cached=False)
    for prompt, a, b in zip(prompts, together, uncached, strict=True):
        (c,) = generate(model, [prompt], decoding=TEN, stop_ids=())
        assert a.prompt is b.prompt is prompt
        assert a.ids.tolist() == b.ids.tolist() == c.ids.tolist()
        assert a.ids.tolist() == step_by_step(model, prompt.ids, 10)
        torch.testing.assert_close(a.log_probs, b.log_probs, atol=1e-4, rtol=0)
        torch.testing.assert_close(a.log_probs, c.log_probs, atol=1e-4, rtol=0)
        assert (a.ended, a.n_reused, b.prefix) == ("budget", 0, None)


def test_log_probabilities_are_those_of_a_full_run(tiny_model: Any) -> None:
    (done,) = generate(tiny_model, prompts_of((9,)), decoding=TEN, stop_ids=())
    with torch.no_grad():
        logits = tiny_model(done.full_prompt.ids[None])[0]
    expected = logits[8:-1].log_softmax(1)[torch.arange(10), done.ids]
    torch.testing.assert_close(done.log_probs, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("gpt2", {}), ("llama", {}), ("gemma2", {"sliding_window": 6}), ("neox", {})],
)
def test_a_prompt_that_goes_on_reuses_its_beginning_whatever_follows(
    load_tiny: Callable[..., Any], architecture: str, options: dict[str, Any]
) -> None:
    """Also behind a sliding window, whose far keys are kept, so that it can be cut anywhere."""
    model = load_tiny(architecture, **options)
    first = generate(model, prompts_of((12, 12)), decoding=TEN, stop_ids=())
    kept = [generation.prefix for generation in first]
    longer = [replace(p.full_prompt, spans={"all": slice(0, 22)}) for p in first]
    other = replace(longer[1], ids=torch.cat([longer[1].ids[:7], prompt_of(9, seed=8).ids]))
    again = generate(model, [longer[0], other], decoding=TEN, stop_ids=(), prefixes=kept)
    whole = generate(model, [longer[0], other], decoding=TEN, stop_ids=(), cached=False)
    assert [generation.n_reused for generation in again] == [21, 7]
    for a, b in zip(again, whole, strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        torch.testing.assert_close(a.log_probs, b.log_probs, atol=1e-4, rtol=0)
    # the same prompt again needs its last token only
    (same,) = generate(model, [first[0].prompt], decoding=TEN, stop_ids=(), prefixes=kept[:1])
    assert (same.n_reused, same.ids.tolist()) == (11, first[0].ids.tolist())


@pytest.mark.parametrize("lengths", [(9, 9, 9), (9, 14, 5), (5, 7, 14)])
def test_rows_that_end_leave_the_others_as_they_are(
    tiny_model: Any, lengths: tuple[int, ...]
) -> None:
    """Also when the longest goes first, and the others keep room in front for it."""
    prompts = prompts_of(lengths)
    alone = [generate(tiny_model, [p], decoding=TEN, stop_ids=())[0].ids.tolist() for p in prompts]
    stop = alone[1][3]
    together = generate(tiny_model, prompts, decoding=TEN, stop_ids={stop})
    for tokens, done in zip(alone, together, strict=True):
        expected = tokens[: tokens.index(stop)] if stop in tokens else tokens
        assert done.ids.tolist() == expected
        assert done.ended == ("end" if stop in tokens else "budget")
        assert done.prefix is not None
        known = torch.cat([done.prompt.ids, done.ids])
        assert torch.equal(done.prefix.ids, known[: len(done.prefix.ids)])
        assert len(done.prefix.ids) >= len(known) - 1


def test_a_stop_string_is_found_in_the_decoded_text_and_cut_off(tiny_model: Any) -> None:
    prompt = spoken(tiny_model.tokenizer, "Who was it?")
    (free,) = generate(tiny_model, [prompt], decoding=TEN, stop_ids=())
    pieces = [t for t in free.str_tokens if t]
    # across a border of tokens, and both texts are kept
    at = len("".join(pieces[:4]))
    stop = free.raw_text[at - 1 : at + 1]
    first = free.raw_text.index(stop)
    decoding = replace(TEN, stop=("never said", stop))
    (cut,) = generate(tiny_model, [prompt], decoding=decoding, stop_ids=())
    assert cut.ended == "stop"
    assert cut.text == free.raw_text[:first]
    assert free.raw_text.startswith(cut.raw_text)
    assert stop in cut.raw_text
    assert len(cut.ids) < 10
    assert free.text == free.raw_text


def test_text_has_the_leading_space_of_its_first_token(tiny_model: Any) -> None:
    prompt = spoken(tiny_model.tokenizer, "Who was it?")
    (done,) = generate(tiny_model, [prompt], decoding=TEN, stop_ids=())
    decode = tiny_model.tokenizer.decode
    assert decode(prompt.ids) + done.raw_text == decode(done.full_prompt.ids)


def test_sampling_depends_on_its_own_stream_alone(tiny_model: Any) -> None:
    hot = replace(TEN, temperature=1.0)
    prompts = prompts_of()

    def streams(seeds: list[int]) -> list[Any]:
        return [rng(seed, "test") for seed in seeds]

    together = generate(tiny_model, prompts, decoding=hot, streams=streams([1, 2, 3, 4, 5, 6]))
    for k, prompt in enumerate(prompts):
        (alone,) = generate(tiny_model, [prompt], decoding=hot, streams=streams([k + 1]))
        assert alone.ids.tolist() == together[k].ids.tolist()
    many = generate(tiny_model, prompts[:1] * 5, decoding=hot, streams=streams([1, 1, 2, 3, 4]))
    assert many[0].ids.tolist() == many[1].ids.tolist()
    assert len({tuple(done.ids.tolist()) for done in many}) == 4


def test_samples_follow_the_models_distribution_at_the_temperature_within_the_nucleus(
    tiny_model: Any,
) -> None:
    prompt = prompt_of(9)
    with torch.no_grad():
        logits = tiny_model(prompt.ids[None])[0, -1].double()
    probs, order = (logits / 2.0).softmax(0).sort(descending=True)
    size = int((probs.cumsum(0) < 0.5).sum()) + 1
    decoding = Decoding(temperature=2.0, top_p=0.5, max_new_tokens=1)
    n = 800
    drawn = generate(
        tiny_model,
        [prompt] * n,
        decoding=decoding,
        streams=[rng(k) for k in range(n)],
        stop_ids=(),
        batch_size=200,
    )
    tokens = torch.tensor([int(done.ids[0]) for done in drawn])
    assert set(tokens.tolist()) <= set(order[:size].tolist())
    for rank in range(3):
        p = float(probs[rank] / probs[:size].sum())
        share = float((tokens == order[rank]).double().mean())
        assert abs(share - p) < 4 * (p * (1 - p) / n) ** 0.5
    # the log-probability is the model's own, not that of the nucleus
    assert float(drawn[0].log_probs) == pytest.approx(
        float(logits.log_softmax(0)[tokens[0]]), abs=1e-4
    )


def test_a_tiny_nucleus_is_greedy(tiny_model: Any) -> None:
    decoding = replace(TEN, temperature=1.0, top_p=1e-6)
    (done,) = generate(tiny_model, [prompt_of(9)], decoding=decoding, streams=[rng(0)], stop_ids=())
    assert done.ids.tolist() == step_by_step(tiny_model, prompt_of(9).ids, 10)


def test_lists_that_do_not_fit_are_refused(tiny_model: Any) -> None:
    prompt = prompt_of(9)
    with pytest.raises(InterpError, match="no prompts to continue"):
        generate(tiny_model, [])
    with pytest.raises(InterpError, match="batch_size is 0: run at least one"):
        generate(tiny_model, [prompt], batch_size=0)
    with pytest.raises(InterpError, match="2 prefixes for 1 prompts: give one each"):
        generate(tiny_model, [prompt], prefixes=[None, None])
    with pytest.raises(InterpError, match=r"temperature 1\.0 samples: give every prompt a stream"):
        generate(tiny_model, [prompt], decoding=Decoding(temperature=1.0))
