"""Options as tokens behind the answer prefix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from interp.data.items import Choice, ChoiceItem
from interp.errors import InterpError
from interp.prompts import (
    Condition,
    OptionTokens,
    condition_prompt,
    encode_continuation,
    encode_option,
    make_pair,
    margin_target,
    option_tokens,
)

CLEAN = Condition("clean", "clean", None)


def item_of(unknown: str, biased: str, other: str) -> ChoiceItem:
    return ChoiceItem(
        id="i", benchmark="b", category="c", cluster="i", context="A teacher met a farmer.",
        question="Who was late?", context_condition="ambiguous",
        choices=(Choice(unknown, "unknown"), Choice(biased, "stereotyped"),
                 Choice(other, "counter")),
        gold=0,
    )  # fmt: skip


ITEMS = {
    "apart": item_of("It is unknown", "The teacher", "The farmer"),
    "shared": item_of("The text does not say", "The teacher", "The farmer"),
    "prefix": item_of("The teacher was not known", "The teacher", "The farmer"),
}


@pytest.mark.parametrize("name", ITEMS)
def test_options_are_the_tokens_that_continue_the_answer_prefix(tiny_model: Any, name: str) -> None:
    item, tokenizer = ITEMS[name], tiny_model.tokenizer
    prompt = condition_prompt(tiny_model, item, CLEAN)
    options = option_tokens(tokenizer, item, prompt)
    assert options is not None
    for ids, choice in zip((options.a, options.b), item.choices[:2], strict=True):
        assert torch.equal(ids, encode_continuation(tokenizer, prompt, f" {choice.text}"))
    target, shared = margin_target(tokenizer, item, prompt)
    assert len(shared) == options.n_shared
    assert torch.equal(options.a[: options.n_shared], options.b[: options.n_shared])
    if name == "prefix":
        assert target is None
        assert options.n_shared == 0
    else:
        assert target is not None
        at = options.n_shared
        assert (int(options.a[at]), int(options.b[at])) == (target.a, target.b)
    assert (options.n_shared > 0) == (name == "shared")


@pytest.mark.parametrize("name", ITEMS)
def test_a_pair_ends_in_the_tokens_that_its_options_share(tiny_model: Any, name: str) -> None:
    pair = make_pair(tiny_model, ITEMS[name], "instructed")
    options = pair.options
    assert options is not None
    for prompt in (pair.source, pair.destination):
        shared = prompt.ids[len(prompt) - options.n_shared :]
        assert torch.equal(shared, options.a[: options.n_shared])
    a, b = options.branches
    for ids, branch in ((options.a, a), (options.b, b)):
        assert torch.equal(torch.cat([ids[: options.n_shared], branch, ids[-1:]]), ids)
    assert pair.swap().options is options
    assert replace(pair, item=None).options is options


def test_an_item_without_a_contrast_has_no_options(tiny_model: Any) -> None:
    item = ITEMS["apart"]
    roles = tuple(Choice(c.text, "other") for c in item.choices[1:])
    item = replace(item, choices=(item.choices[0], *roles))
    prompt = condition_prompt(tiny_model, item, CLEAN)
    assert option_tokens(tiny_model.tokenizer, item, prompt) is None
    assert make_pair(tiny_model, item, "instructed").options is None


def test_behind_a_space_there_is_no_second_one(tiny_model: Any) -> None:
    prompt = condition_prompt(tiny_model, ITEMS["apart"], CLEAN)
    spaced = replace(prompt, text=prompt.text + "\n", ids=torch.cat(
        [prompt.ids, encode_continuation(tiny_model.tokenizer, prompt, "\n")]))  # fmt: skip
    last = list(prompt.spans)[-1]
    spans = {**prompt.spans, last: slice(prompt.spans[last].start, len(spaced.ids))}
    spaced = replace(spaced, spans=spans)
    found = encode_option(tiny_model.tokenizer, spaced, "The teacher")
    assert tiny_model.tokenizer.decode(found) == "The teacher"


def test_options_of_tensors_are_put_behind_both_prompts(tiny_model: Any) -> None:
    a, b = torch.arange(5, 11), torch.arange(6, 12)
    pair = make_pair(tiny_model, a, b, options=([30, 31, 32], [30, 31, 33, 34]))
    assert pair.source.ids.tolist() == [*a.tolist(), 30, 31]
    assert pair.destination.ids.tolist() == [*b.tolist(), 30, 31]
    assert pair.target is not None
    assert (pair.target.a, pair.target.b) == (32, 33)
    assert pair.options is not None
    assert [branch.tolist() for branch in pair.options.branches] == [[], [33]]


@pytest.mark.parametrize(
    ("a", "b", "n", "message"),
    [
        ([], [3], 0, "an option has no tokens"),
        ([3, 4], [3, 5], 2, "do not share their first 2 tokens, or end with them"),
        ([3, 4], [5, 4], 1, "do not share their first 1 tokens"),
        ([3], [3, 4], 1, "or end with them"),
    ],
)
def test_options_that_do_not_fit_are_refused(a: Any, b: Any, n: int, message: str) -> None:
    with pytest.raises(InterpError, match=message):
        OptionTokens(*(torch.tensor(ids, dtype=torch.long) for ids in (a, b)), n)


def test_only_two_single_tokens_are_a_single_token_task() -> None:
    one, two = torch.tensor([3]), torch.tensor([4, 5])
    assert OptionTokens(one, torch.tensor([4])).single_token
    assert not OptionTokens(one, two).single_token
    assert not OptionTokens(two, one).single_token
