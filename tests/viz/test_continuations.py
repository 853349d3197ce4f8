"""What runs go on to say, in columns."""

from __future__ import annotations

import re

import pytest
import torch

from interp.errors import InterpError
from interp.prompts import TokenizedPrompt
from interp.viz import continuations


def said(*words: str) -> TokenizedPrompt:
    tokens = ("Say", ":", *words)
    ids = torch.tensor([sum(map(ord, token)) for token in tokens])
    spans = {"question": slice(0, 2)} | ({"generated": slice(2, len(tokens))} if words else {})
    return TokenizedPrompt(ids, spans, tokens, "".join(tokens))


def underlined(html: str) -> list[str]:
    return re.findall('underline-offset:3px">([^<]*)<', html)


def test_what_parts_from_the_first_run_is_underlined() -> None:
    plain = said(" a", " man", " left")
    html = continuations({"plain": plain, "edited": said(" a", " girl"), "same": plain}).html
    assert underlined(html) == [" girl"]
    assert html.count(" man left") == 2
    assert html.count("Say") == 0  # the prompt is not shown again


def test_a_longer_text_is_underlined_where_it_goes_on_and_none_is_said() -> None:
    html = continuations({"plain": said(" a"), "longer": said(" a", " b"), "none": said()}).html
    assert underlined(html) == [" b"]
    assert html.count("ends at once") == 1


def test_tokens_and_names_are_text() -> None:
    html = continuations({"<b>": said("</script><script>", "\n")}).html
    assert "<script" not in html
    assert "⏎<br>" in html
    with pytest.raises(InterpError, match="runs is no mapping"):
        continuations({})
