"""Sentences: one BOS, one closing full stop, never beyond the context."""

from __future__ import annotations

from typing import Any

import pytest

from interp.data import LabelledText
from interp.errors import InterpError
from interp.prompts import sentence_ids


def test_sentences_get_one_bos_and_refuse_the_context(tiny_model: Any) -> None:
    (ids,) = sentence_ids(tiny_model, [LabelledText("The farmer", 1, "g", "s")])
    assert ids[0] == tiny_model.tokenizer.bos_token_id
    assert tiny_model.tokenizer.decode(ids[1:]) == "The farmer."
    long = LabelledText("farmer river " * 1024, 1, "g", "letters")
    with pytest.raises(InterpError, match=r"letters: the text 'farmer river .* must be 1 to 1022"):
        sentence_ids(tiny_model, [long])


def test_every_sentence_ends_in_one_full_stop_that_is_a_token_of_its_own(tiny_model: Any) -> None:
    endings = ["", ".", "!", "?!", "...", " .”", '."', ".)", "…  "]
    texts = [LabelledText(f"The old teacher{end}", 1, "g", "s") for end in endings]
    found = [ids.tolist() for ids in sentence_ids(tiny_model, texts)]
    stop = tiny_model.tokenizer(".", add_special_tokens=False)["input_ids"]
    assert all(ids == found[0] for ids in found)
    assert found[0][-1:] == stop
    with pytest.raises(InterpError, match=r"s: the text '\?!' has 0 tokens"):
        sentence_ids(tiny_model, [LabelledText("?!", 1, "g", "s")])
