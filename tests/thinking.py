"""Chat templates in the style of reasoning models, for the tests of every room."""

from __future__ import annotations

import copy
from typing import Any

_OPEN = "{% if add_generation_prompt %}<|assistant|>\n"
_CLOSE = "{% endif %}"


def _messages(kept: str, before: str = "") -> str:
    """All messages as ChatML-like turns; of an assistant's what ``kept`` says."""
    return (
        "{% for m in messages %}{% set c = m['content'] %}{% if m['role'] == 'assistant' %}"
        + kept
        + "{% endif %}<|{{ m['role'] }}|>\n"
        + (f"{{% if m['role'] == 'assistant' %}}{before}{{% endif %}}" if before else "")
        + "{{ c }}</s>\n{% endfor %}"
    )


def _dropping(how: str) -> str:
    return "{% if '</think>' in c %}{% set c = c.split('</think>')[-1]" + how + " %}{% endif %}"


SWITCH = (  # Qwen3
    _messages(_dropping(".lstrip('\n')"))
    + _OPEN
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    + "{% endif %}"
    + _CLOSE
)
OPENS = _messages(_dropping("")) + _OPEN + "<think>\n" + _CLOSE  # DeepSeek-R1, Qwen3-Thinking
OPENS_ON_THE_LINE = _messages(_dropping(" | trim")) + _OPEN + "<think>" + _CLOSE  # Olmo-3-Think
EMPTIED = _messages(_dropping(""), "<think></think>") + _OPEN + _CLOSE  # Kimi-K2, MiniMax
EMPTIES = (  # Nemotron Nano: a dropped thought leaves an empty one, no thought leaves none
    _messages(
        "{% if '</think>' in c %}{% set c = '<think></think>' + c.split('</think>')[-1] %}{% endif %}"
    )
    + _OPEN
    + _CLOSE
)
CUTS_OUT = (  # Gemma 4: what stands before a thought stays
    _messages(
        "{% if '<channel|>' in c %}{% set c = (c.split('<|channel>')[0] + "
        "c.split('<channel|>')[-1]) | trim %}{% endif %}"
    )
    + _OPEN
    + "{% if not enable_thinking | default(false) %}<|channel>thought\n<channel|>{% endif %}"
    + _CLOSE
)
CHANNELS = (  # gpt-oss
    "{% for m in messages %}<|start|>{{ m['role'] }}"
    "{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
DATED = (  # Llama 3.2, SmolLM3, gpt-oss
    "{{ 'Today: ' + strftime_now('%d %B %Y') + '\n' }}"
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    + _OPEN
    + _CLOSE
)


def with_template(tokenizer: Any, template: str | None) -> Any:
    """A copy of a tokenizer with another chat template."""
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed
