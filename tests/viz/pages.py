"""What tests of pages share: hostile tokens, patterns made up, and the JSON blocks of a page."""

from __future__ import annotations

from html.parser import HTMLParser

import torch

from interp.activations import AttentionPatterns
from interp.prompts import TokenizedPrompt

HOSTILE = ["</script><script>alert(1)</script>", "<!--", "\n", "\"'", "ünï 漢字", " the", " the"]


class Blocks(HTMLParser):
    """The JSON blocks of a page, and the names of all its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.tags: list[str] = []
        self._inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = ("type", "application/json") in attrs
        if self._inside:
            self.blocks.append("")

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.blocks[-1] += data


def make_patterns(
    tokens: list[str], layers: tuple[int, ...] = (3, 7), seed: int = 0
) -> AttentionPatterns:
    n = len(tokens)
    values = torch.rand(len(layers), 4, n, n, generator=torch.Generator().manual_seed(seed)).tril()
    prompt = TokenizedPrompt(torch.arange(n), {"prompt": slice(0, n)}, tuple(tokens), "")
    return AttentionPatterns(values / values.sum(-1, keepdim=True), layers, prompt)
