"""Special tokens that a tokenizer does not have, and ids that a model's embedding does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import interp
from interp.data import Choice, ChoiceItem, LabelledText
from interp.errors import InterpError
from interp.prompts import MarginTarget, PromptPair, build_conversation, tokenize
from interp.prompts.align import align
from interp.prompts.sentences import sentence_ids
from interp.prompts.tokens import bos_ids
from tests.conftest import CHAT_TEMPLATE, make_config, make_tokenizer

ITEM = ChoiceItem(
    "q1",
    "own",
    "own",
    "The teacher met the farmer.",
    "Who was late?",
    (
        Choice("Not known", "unknown"),
        Choice("The farmer", "stereotyped"),
        Choice("The teacher", "counter"),
    ),
    0,
    "ambiguous",
    "q1",
)
TEXTS = [LabelledText("The farmer was kind.", 1, "g", "own")]


def load_with(tokenizer: Any, folder: Path, **fields: Any) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    n_vocab = fields.pop("n_vocab", len(tokenizer))
    model = AutoModelForCausalLM.from_config(make_config("llama", n_vocab, **fields))
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return interp.load_model(folder)


@pytest.fixture(scope="module")
def without_bos(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tokenizer = make_tokenizer(chat=False)
    tokenizer.bos_token = None
    return load_with(tokenizer, tmp_path_factory.mktemp("no-bos"))


@pytest.fixture(scope="module")
def without_special_tokens(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tokenizer = make_tokenizer(chat=False)
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = None
    fields = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return load_with(tokenizer, tmp_path_factory.mktemp("no-special"), **fields)


def test_a_stand_in_that_the_loader_made_is_no_bos(
    without_bos: Any, without_special_tokens: Any, load_tiny: Any
) -> None:
    assert without_bos.tokenizer.bos_token_id is not None  # TransformerLens's stand-in
    assert bos_ids(without_bos.tokenizer) == []
    assert bos_ids(without_special_tokens.tokenizer) == []
    with_bos = load_tiny("llama", chat=False).tokenizer
    assert bos_ids(with_bos) == [with_bos.bos_token_id]


def test_a_bos_that_is_also_the_end_of_sequence_is_kept(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(chat=False)
    tokenizer.bos_token = tokenizer.eos_token
    model = load_with(tokenizer, tmp_path)
    assert bos_ids(model.tokenizer) == [1]


def test_a_bos_that_the_user_sets_is_one(without_bos: Any) -> None:
    tokenizer = make_tokenizer(chat=False)
    tokenizer.init_kwargs["bos_token"] = None
    assert bos_ids(tokenizer) == [tokenizer.bos_token_id]


@pytest.mark.parametrize("which", ["without_bos", "without_special_tokens"])
def test_plain_prompts_and_sentences_begin_as_the_tokenizer_alone_begins_them(
    which: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(which)
    prompt = tokenize(model.tokenizer, build_conversation(ITEM))
    assert prompt.n_bos == 0
    assert prompt.str_tokens[0].startswith("U")
    assert model.tokenizer.decode(sentence_ids(model, TEXTS)[0]) == "The farmer was kind."


def test_models_without_special_tokens_are_scored(without_special_tokens: Any) -> None:
    scores = interp.score_options(without_special_tokens, [ITEM], progress=False)
    assert bool(scores.frame["margin"].notna().all())


def test_a_template_token_beyond_the_embedding_is_refused_by_its_name(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|{{", "<|turn|>{{")
    n = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    model = load_with(tokenizer, tmp_path, n_vocab=n)
    message = rf"item q1: token id {n} \('<\|turn\|>'\) is outside the model's vocabulary"
    with pytest.raises(InterpError, match=message):
        interp.score_options(model, [ITEM], progress=False)
    with pytest.raises(InterpError, match=message):
        interp.make_pair(model, ITEM, "instructed")


@pytest.mark.parametrize("bad", [99_999, -1])
def test_ids_and_targets_outside_the_vocabulary_are_refused(tiny_model: Any, bad: int) -> None:
    good, other = torch.tensor([5, 6]), torch.tensor([5, bad])
    for ids in ((good, other), (other, good)):
        with pytest.raises(
            InterpError, match=f"token id {bad}.* is outside the model's vocabulary"
        ):
            interp.make_pair(tiny_model, *ids)
    for target in ((bad, 1), (1, bad)):
        with pytest.raises(InterpError, match=f"target: token id {bad} is outside"):
            interp.make_pair(tiny_model, good, torch.tensor([5, 7]), target=target)


@pytest.mark.parametrize("kind", [torch.float32, torch.bool])
def test_ids_that_are_no_integers_are_not_rounded(tiny_model: Any, kind: torch.dtype) -> None:
    with pytest.raises((InterpError, TypeError)):  # the type checker of the tests is first
        interp.make_pair(tiny_model, torch.tensor([5, 6]).to(kind), torch.tensor([5, 7]))


def test_a_pair_made_by_hand_is_checked_when_it_is_run(tiny_model: Any) -> None:
    pair = interp.make_pair(tiny_model, torch.tensor([5, 6]), torch.tensor([5, 7]), target=(1, 2))
    far = MarginTarget(1, 99_999, "", "")
    by_hand = PromptPair(pair.source, pair.destination, pair.alignment, far, "a", "b")
    with pytest.raises(InterpError, match="token id 99999"):
        interp.sweep(tiny_model, by_hand, progress=False)
    pair.source.ids[1] = 99_999
    moved = align(pair.source, pair.destination)
    by_hand = PromptPair(pair.source, pair.destination, moved, pair.target, "a", "b")
    for call in (interp.sweep, interp.attribute):
        with pytest.raises(InterpError, match="source: token id 99999"):
            call(tiny_model, by_hand, progress=False)


def test_states_of_ids_outside_the_vocabulary_are_refused(tiny_model: Any) -> None:
    from interp.activations import read_states

    with pytest.raises(InterpError, match="prompt 0: token id 99999"):
        read_states(tiny_model, [torch.tensor([5, 99_999])], progress=False)
