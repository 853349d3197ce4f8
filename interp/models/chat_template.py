"""The chat template of a tokenizer: how it is rendered, and what its rendering depends on.

Every conversation is rendered here, by the tokenizer's own template and transformers' own jinja
environment, with three things settled that would otherwise change a prompt without a word:

- **The date.** A template may write today's (``strftime_now``), so that tomorrow's prompts would be
  others. The date is :data:`TEMPLATE_DATE` until :func:`set_template_date` says otherwise.
- **Thinking.** Templates of hybrid models have a switch (``enable_thinking``, ...), which is off. One
  that leaves a thought open all the same, or an answer's header unwritten, is completed behind the
  generation prompt (:func:`answer_start`), so that an answer never begins inside a thought.
- **No template.** Such a tokenizer gets :data:`PLAIN_TEMPLATE`.

:func:`template_facts` says which of these a template makes use of; the model's card holds it.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from interp.errors import InterpError
from interp.models.thoughts import closing_of_thought, is_empty_thought

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)

TEMPLATE_DATE = datetime.date(2024, 7, 26)
"""The date that templates write: the one that Llama 3's falls back to where it is told none."""

THINKING_OFF: Mapping[str, bool | int] = {
    "enable_thinking": False,  # Qwen3, SmolLM3, GLM, Hunyuan, EXAONE, Nemotron 3, Gemma 4, Ernie
    "thinking": False,  # DeepSeek-V3.1, Granite, Kimi
    "reasoning": False,  # Command A
    "thinking_budget": 0,  # Seed-OSS
}
"""The switches that templates know, all off; a template ignores what it does not know."""

_SWITCHED_ON: Mapping[str, bool | int] = {
    **dict.fromkeys(THINKING_OFF, True),
    "thinking_budget": 512,
}

Messages: TypeAlias = Sequence[tuple[str, str]]
"""Role and content, in order."""

_dates: WeakKeyDictionary[Any, datetime.date] = WeakKeyDictionary()


@dataclass(frozen=True)
class TemplateFacts:
    """What a template makes of a prompt.

    ``sha256``: of the template's text. ``date``: what it writes as today's, None where it writes none.
    ``thinking``: how thoughts are kept out of the prompt: ``none`` (the template knows of none),
    ``disabled by the template (enable_thinking)``, ``closed`` (the template leaves it open, or for the
    model to open, and this library writes its end), ``answer header written (<text>)``.
    ``prompt_end`` and ``header``: the generation prompt behind a user's message, and what the template
    writes between it and an answer in the history (empty where it is nothing but white space).
    """

    sha256: str
    date: str | None
    thinking: str
    prompt_end: str = ""
    header: str = ""


def set_template_date(tokenizer: Any, date: datetime.date | str) -> None:
    """The date that this tokenizer's chat template writes as today's.

    Args:
        tokenizer: a model's; the setting is forgotten with the object and not copied with it.
        date: or its ISO form, ``2024-07-26``.

    Raises:
        InterpError: not a date.
    """
    _dates[tokenizer] = parse_template_date(date)


def parse_template_date(date: datetime.date | str) -> datetime.date:
    """A date, from its ISO form too. Raises InterpError for anything else."""
    if isinstance(date, datetime.datetime):
        return date.date()
    if isinstance(date, datetime.date):
        return date
    try:
        return datetime.date.fromisoformat(date)
    except (TypeError, ValueError) as error:
        raise InterpError(
            f"template_date is {date!r}: give a date as {TEMPLATE_DATE.isoformat()}"
        ) from error


def template_date(tokenizer: Any) -> datetime.date:
    """The date that this tokenizer's template writes, if it writes one; None has none of its own."""
    return TEMPLATE_DATE if tokenizer is None else _dates.get(tokenizer, TEMPLATE_DATE)


def template_text(tokenizer: Any) -> str:
    """The template that renders conversations: the tokenizer's default one, or the plain one."""
    if not getattr(tokenizer, "chat_template", None):
        return PLAIN_TEMPLATE
    return str(tokenizer.get_chat_template())


def render_chat(tokenizer: Any, messages: Messages) -> str:
    """Messages as the template renders them, up to and with the generation prompt.

    Raises:
        Exception: whatever the template raises (a role it does not know, its own syntax).
    """
    return _render(_recipe(tokenizer), messages, THINKING_OFF)


def answer_start(tokenizer: Any, prompt_end: str) -> str:
    """What is missing behind a generation prompt for an answer to begin, mostly nothing.

    The end of a thought that the template opens there; or the header under which it lists answers
    in a history (an empty thought, or a channel as in gpt-oss).

    Args:
        tokenizer: its template.
        prompt_end: what the template wrote behind the user's last message.
    """
    closing = closing_of_thought(prompt_end)
    if closing:
        return closing
    facts = template_facts(tokenizer)
    return facts.header if prompt_end == facts.prompt_end else ""


def template_facts(tokenizer: Any) -> TemplateFacts:
    """What this tokenizer's template depends on; found by rendering probes, once per template."""
    try:
        return _facts(_recipe(tokenizer))
    except ValueError:  # several templates, none of them the default: refused when rendered
        texts = repr(sorted(tokenizer.chat_template.items()))
        return TemplateFacts(_sha256(texts), None, "unknown: no default template")


_Recipe: TypeAlias = tuple[str, tuple[tuple[str, str | tuple[str, ...]], ...], datetime.date]
"""A template, the special tokens that it may write, and the date."""


def _recipe(tokenizer: Any) -> _Recipe:
    special = {
        name: tuple(map(str, token)) if isinstance(token, list | tuple) else str(token)
        for name, token in tokenizer.special_tokens_map.items()
    }
    return template_text(tokenizer), tuple(sorted(special.items())), template_date(tokenizer)


def _render(
    recipe: _Recipe,
    messages: Messages,
    switches: Mapping[str, bool | int],
) -> str:
    """``apply_chat_template`` of these messages, with a date of ours.

    That function takes data only, so a clock cannot be handed to it: the template that it compiles
    (and keeps) is rendered here with the same variables, and ``strftime_now`` among them.
    """
    from transformers.utils import chat_template_utils

    template, special, date = recipe
    midnight = datetime.datetime.combine(date, datetime.time())
    return str(
        chat_template_utils._compile_jinja_template(template).render(
            messages=[{"role": role, "content": content} for role, content in messages],
            tools=None,
            documents=None,
            add_generation_prompt=True,
            strftime_now=midnight.strftime,
            **{name: list(t) if isinstance(t, tuple) else t for name, t in special},
            **switches,
        )
    )


_USER, _ASSISTANT, _NEXT = "[[a question]]", "[[an answer]]", "[[another question]]"


@lru_cache(maxsize=64)
def _facts(recipe: _Recipe) -> TemplateFacts:
    sha256 = _sha256(recipe[0])
    try:
        asked = _render(recipe, [("user", _USER)], THINKING_OFF)
    except Exception:  # of the template's own wording: told when a prompt is rendered
        return TemplateFacts(sha256, None, "unknown: the template renders no question")
    prompt_end = asked.rpartition(_USER)[2]
    header = _header(recipe, prompt_end)
    return TemplateFacts(
        sha256,
        recipe[2].isoformat() if _writes_date(recipe) else None,
        _thinking(recipe, asked, prompt_end, header),
        prompt_end,
        header,
    )


def _writes_date(recipe: _Recipe) -> bool:
    """Whether two days that share no day, month, year or weekday give different prompts."""
    days = [(*recipe[:2], datetime.date(*day)) for day in ((2001, 2, 3), (2012, 11, 20))]
    for messages in ([("user", _USER)], [("system", "Be brief."), ("user", _USER)]):
        try:
            one, other = (_render(day, messages, THINKING_OFF) for day in days)
        except Exception:  # a template without a system turn
            continue
        if one != other:
            return True
    return False


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _header(recipe: _Recipe, prompt_end: str) -> str:
    """What stands before an answer in the history and is not in the generation prompt."""
    try:
        history = _render(
            recipe, [("user", _USER), ("assistant", _ASSISTANT), ("user", _NEXT)], THINKING_OFF
        )
    except Exception:  # a template for one question only
        return ""
    before = history.partition(_USER)[2].partition(_ASSISTANT)[0]
    missing = before.removeprefix(prompt_end) if before.startswith(prompt_end) else ""
    return missing if missing.strip() else ""


def _thinking(recipe: _Recipe, asked: str, prompt_end: str, header: str) -> str:
    ways = []
    switches = [name for name in THINKING_OFF if _acts(recipe, name, asked)]
    if switches:
        ways.append(f"disabled by the template ({', '.join(switches)})")
    if closing_of_thought(prompt_end):
        ways.append("closed")
    elif header:
        ways.append(
            "closed" if is_empty_thought(header) else f"answer header written ({header.strip()})"
        )
    return "; ".join(ways) or "none"


def _acts(recipe: _Recipe, switch: str, asked: str) -> bool:
    try:
        return (
            _render(recipe, [("user", _USER)], {**THINKING_OFF, switch: _SWITCHED_ON[switch]})
            != asked
        )
    except Exception:  # a value that this template does not take
        return True
