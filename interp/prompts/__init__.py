"""Prompts: conditions, conversations, token ids with named spans, and alignment."""

from typing import TYPE_CHECKING

from interp.lazy import attach

if TYPE_CHECKING:
    from interp.models.chat_template import PLAIN_TEMPLATE
    from interp.prompts.align import Alignment, align, first_difference
    from interp.prompts.answers import MarginTarget, with_answers
    from interp.prompts.conditions import (
        CONDITION_NAMES,
        Condition,
        ConditionName,
        TextBank,
        condition_conversation,
    )
    from interp.prompts.conversation import (
        ANSWER_PREFIX,
        Conversation,
        InstructionTurn,
        Placement,
        Segment,
        Turn,
        build_completion,
        build_conversation,
        cyclic_orders,
        follow_up,
    )
    from interp.prompts.given import Given, as_prompt, each_given
    from interp.prompts.options import OptionTokens, encode_option, margin_token, option_tokens
    from interp.prompts.pair import (
        PromptPair,
        condition_prompt,
        make_pair,
        margin_target,
        pair_of_conditions,
        require_runnable,
        require_target_in_vocabulary,
        target_of_options,
    )
    from interp.prompts.placebos import PLACEBO_KINDS, FitLength, PlaceboKind
    from interp.prompts.presets import (
        Call,
        ConditionSpec,
        Wording,
        condition_texts,
        load_conditions,
    )
    from interp.prompts.rendering import prompts_digest, render
    from interp.prompts.sentences import sentence_ids
    from interp.prompts.slots import SLOTS, fill, read_feedback
    from interp.prompts.stored import prompt_of_row, prompt_row
    from interp.prompts.texts import prompt_of_ids, with_spans
    from interp.prompts.tokenizer import require_tokenizer
    from interp.prompts.tokens import (
        TokenizedPrompt,
        decode_each,
        encode_continuation,
        encode_names,
        output_texts,
        require_context,
        require_vocabulary,
        token_texts,
        tokenize,
    )

__all__ = [
    "ANSWER_PREFIX",
    "CONDITION_NAMES",
    "PLACEBO_KINDS",
    "PLAIN_TEMPLATE",
    "SLOTS",
    "Alignment",
    "Call",
    "Condition",
    "ConditionName",
    "ConditionSpec",
    "Conversation",
    "FitLength",
    "Given",
    "InstructionTurn",
    "MarginTarget",
    "OptionTokens",
    "PlaceboKind",
    "Placement",
    "PromptPair",
    "Segment",
    "TextBank",
    "TokenizedPrompt",
    "Turn",
    "Wording",
    "align",
    "as_prompt",
    "build_completion",
    "build_conversation",
    "condition_conversation",
    "condition_prompt",
    "condition_texts",
    "cyclic_orders",
    "decode_each",
    "each_given",
    "encode_continuation",
    "encode_names",
    "encode_option",
    "fill",
    "first_difference",
    "follow_up",
    "load_conditions",
    "make_pair",
    "margin_target",
    "margin_token",
    "option_tokens",
    "output_texts",
    "pair_of_conditions",
    "prompt_of_ids",
    "prompt_of_row",
    "prompt_row",
    "prompts_digest",
    "read_feedback",
    "render",
    "require_context",
    "require_runnable",
    "require_target_in_vocabulary",
    "require_tokenizer",
    "require_vocabulary",
    "sentence_ids",
    "target_of_options",
    "token_texts",
    "tokenize",
    "with_answers",
    "with_spans",
]

attach(__name__)
