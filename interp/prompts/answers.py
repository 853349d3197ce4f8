"""The two answers of a margin (logit difference), as texts behind prompts of one's own.

The better answer comes first. Each text is put behind the prompt as it is written: " John" where a word
goes on, "John" where a chat template has opened the answer. Answers of several tokens are treated as an
item's options are: the leading tokens that both share are put behind the prompts, the margin is read at
the first token that differs, and both whole texts are the options of ``metric="option_margin"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.errors import InterpError
from interp.prompts.options import OptionTokens, margin_token
from interp.prompts.tokenizer import require_tokenizer
from interp.prompts.tokens import TokenizedPrompt, encode_continuation, token_texts


@dataclass(frozen=True)
class MarginTarget:
    """The two tokens of the margin, the logit difference a - b at the last position, in nats.

    Positive is the better answer: a = the abstention (ambiguous items) or gold (disambiguated),
    b = the stereotyped option or the other group's.
    """

    a: int
    b: int
    a_text: str
    b_text: str


def with_answers(
    model: TransformerBridge, prompts: Sequence[TokenizedPrompt], answers: Sequence[str]
) -> tuple[list[TokenizedPrompt], MarginTarget, OptionTokens]:
    """Prompts that end where two answers first differ, with the two tokens that are compared there.

    Args:
        model: its tokenizer encodes the answers.
        prompts: one or more; the answers have the same tokens behind each.
        answers: the better answer's text and the worse one's.

    Raises:
        InterpError: not two texts, equal ones, one that is the other's beginning, an answer that
            changes the prompt's last token or lacks the space before its first word, or other tokens
            behind another prompt.
    """
    require_tokenizer(model.tokenizer)
    two = isinstance(answers, tuple | list) and len(answers) == 2
    if not two or not all(isinstance(answer, str) for answer in answers):
        shown = " ".join(repr(answers).split())[:60]
        raise InterpError(f"answers is {shown}: give two texts, (better, worse)")
    if not prompts:
        raise InterpError("no prompts for the answers to stand behind: the list is empty")
    each = [_option_tokens(model, prompt, answers) for prompt in prompts]
    options = each[0]
    if any(not torch.equal(one.a, options.a) or not torch.equal(one.b, options.b) for one in each):
        raise InterpError(
            f"the answers {answers[0]!r} and {answers[1]!r} are other tokens behind "
            f"{prompts[0].label} than behind {prompts[-1].label}: end both prompts alike"
        )
    at = options.n_shared
    target = MarginTarget(int(options.a[at]), int(options.b[at]), answers[0], answers[1])
    words = tuple(token_texts(model, options.a[:at]))
    extended = [prompt.extend(options.a[:at], words) for prompt in prompts] if at else prompts
    return list(extended), target, options


def _option_tokens(
    model: TransformerBridge, prompt: TokenizedPrompt, answers: Sequence[str]
) -> OptionTokens:
    for answer in answers:
        if not answer.strip():
            raise InterpError(f"answers: {answer!r} is empty: give the answer's text")
        if prompt.text[-1:].isalnum() and answer[0].isalnum():
            raise InterpError(
                f"{prompt.label}: the prompt ends in {prompt.str_tokens[-1]!r} and the answer "
                f"{answer!r} would go on within the word: write {f' {answer}'!r}"
            )
    a, b = (encode_continuation(model.tokenizer, prompt, answer) for answer in answers)
    at = margin_token(a, b)
    if at is None:
        raise InterpError(
            f"the answers {answers[0]!r} and {answers[1]!r} have no token that differs (one is the "
            "beginning of the other): give answers that part"
        )
    return OptionTokens(a, b, at)
