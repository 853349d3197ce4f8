"""Prompts: conditions, conversations, token ids with named spans, and alignment."""

from interp.prompts.align import Alignment, align, first_difference
from interp.prompts.conditions import CONDITION_NAMES, Condition, ConditionName, TextBank
from interp.prompts.conversation import (
    ANSWER_PREFIX,
    Conversation,
    Placement,
    Segment,
    Turn,
    build_conversation,
    cyclic_orders,
)
from interp.prompts.pair import (
    MarginTarget,
    PromptPair,
    condition_prompt,
    make_pair,
    margin_target,
    margin_token,
    pair_of_conditions,
)
from interp.prompts.tokens import (
    PLAIN_TEMPLATE,
    TokenizedPrompt,
    decode_each,
    encode_continuation,
    require_context,
    tokenize,
)

__all__ = [
    "ANSWER_PREFIX",
    "CONDITION_NAMES",
    "PLAIN_TEMPLATE",
    "Alignment",
    "Condition",
    "ConditionName",
    "Conversation",
    "MarginTarget",
    "Placement",
    "PromptPair",
    "Segment",
    "TextBank",
    "TokenizedPrompt",
    "Turn",
    "align",
    "build_conversation",
    "condition_prompt",
    "cyclic_orders",
    "decode_each",
    "encode_continuation",
    "first_difference",
    "make_pair",
    "margin_target",
    "margin_token",
    "pair_of_conditions",
    "require_context",
    "tokenize",
]
