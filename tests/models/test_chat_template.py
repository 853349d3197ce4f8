"""How templates are rendered: a settled date, thinking off, and what a template depends on."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from interp.errors import InterpError
from interp.models import set_template_date, template_facts
from interp.models.chat_template import (
    PLAIN_TEMPLATE,
    THINKING_OFF,
    answer_start,
    render_chat,
    template_date,
)
from tests.conftest import CHAT_TEMPLATE, make_tokenizer
from tests.thinking import (
    CHANNELS,
    CUTS_OUT,
    DATED,
    EMPTIED,
    OPENS,
    OPENS_ON_THE_LINE,
    SWITCH,
    with_template,
)

TALK = [("user", "Who?"), ("assistant", "The nurse"), ("user", "Sure?")]
OPENED = "{% for m in messages %}{{ m['content'] }}|{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, SWITCH, OPENS, CUTS_OUT, CHANNELS, None])
def test_a_template_renders_as_transformers_renders_it(tokenizer: Any, template: str) -> None:
    changed = with_template(tokenizer, template)
    messages = [{"role": role, "content": content} for role, content in TALK]
    assert render_chat(changed, TALK) == changed.apply_chat_template(
        messages,
        chat_template=None if template else PLAIN_TEMPLATE,
        tokenize=False,
        add_generation_prompt=True,
        **THINKING_OFF,
    )


def test_a_template_may_write_special_tokens(tokenizer: Any) -> None:
    changed = with_template(tokenizer, "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}")
    assert render_chat(changed, TALK) == "<s>Who?</s>"


def test_the_date_is_the_same_every_day(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Christmas(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:
            return datetime.datetime(2026, 12, 25)

    dated = with_template(tokenizer, DATED)
    before = render_chat(dated, TALK)
    assert before.startswith("Today: 26 July 2024\n")
    monkeypatch.setattr(chat_template_utils, "datetime", Christmas)
    messages = [{"role": "user", "content": "Who?"}]
    assert "25 December 2026" in dated.apply_chat_template(messages, tokenize=False)
    assert render_chat(dated, TALK) == before


def test_the_date_can_be_set_and_is_told_where_it_is_written(tokenizer: Any) -> None:
    dated, undated = with_template(tokenizer, DATED), with_template(tokenizer, CHAT_TEMPLATE)
    assert (template_facts(dated).date, template_facts(undated).date) == ("2024-07-26", None)
    for given in ("2020-02-29", datetime.date(2020, 2, 29), datetime.datetime(2020, 2, 29, 12)):
        set_template_date(dated, given)
        assert render_chat(dated, TALK).startswith("Today: 29 February 2020\n")
        assert template_facts(dated).date == "2020-02-29"
    short = "{% if messages[0]['role'] == 'system' %}{{ strftime_now('%d %b') }}{% endif %}"
    short += "{{ messages[-1]['content'] }}"
    assert template_facts(with_template(tokenizer, short)).date == "2024-07-26"
    set_template_date(undated, "2020-02-29")
    assert template_facts(undated).date is None
    assert template_date(with_template(tokenizer, DATED)) == datetime.date(2024, 7, 26)
    for wrong in ("29.2.2020", "2021-02-29", ""):
        with pytest.raises(InterpError, match=r"template_date is .*: give a date as 2024-07-26"):
            set_template_date(dated, wrong)


@pytest.mark.parametrize(
    ("template", "thinking", "start"),
    [
        (CHAT_TEMPLATE, "none", ""),
        (None, "none", ""),
        (DATED, "none", ""),
        (SWITCH, "disabled by the template (enable_thinking)", ""),
        (CUTS_OUT, "disabled by the template (enable_thinking)", ""),
        (OPENS, "closed", "\n</think>\n\n"),
        (OPENS_ON_THE_LINE, "closed", "\n\n</think>\n\n"),
        (EMPTIED, "closed", "<think></think>"),
        (
            CHANNELS,
            "answer header written (<|channel|>final<|message|>)",
            "<|channel|>final<|message|>",
        ),
        (
            OPENED + "{% if thinking | default(true) %}<think>{% else %}</think>{% endif %}",
            "disabled by the template (thinking)",
            "",
        ),
        (
            OPENED + "{% if thinking_budget is defined and thinking_budget == 0 %}"
            "<seed:think><seed:cot_budget_reflect>{% endif %}",
            "disabled by the template (thinking_budget); closed",
            "\n\n</seed:cot_budget_reflect></seed:think>\n\n",
        ),
        (  # knows no generation prompt
            "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}",
            "answer header written (<|assistant|>)",
            "<|assistant|>",
        ),
        (
            OPENED + "{% if reasoning is defined and not reasoning %}"
            "<|START_THINKING|><|END_THINKING|>{% endif %}",
            "disabled by the template (reasoning)",
            "",
        ),
        (
            OPENED + "{{ 'Here are my reasoning steps:\n' }}",
            "closed",
            "\n[BEGIN FINAL RESPONSE]\n\n",
        ),
    ],
)
def test_an_answer_begins_outside_any_thought(
    tokenizer: Any, template: str | None, thinking: str, start: str
) -> None:
    changed = with_template(tokenizer, template)
    facts = template_facts(changed)
    assert facts.thinking == thinking
    end = render_chat(changed, [("user", "Who?")]).rpartition("Who?")[2]
    assert answer_start(changed, end) == start


def test_a_template_that_cannot_be_probed_is_told_so_and_still_hashed(tokenizer: Any) -> None:
    broken = with_template(tokenizer, "{{ raise_exception('no user first') }}")
    wrong = with_template(tokenizer, "{% if %}")
    several = with_template(tokenizer, {"one": "a", "two": "b"})  # type: ignore[arg-type]
    facts = [template_facts(one) for one in (broken, wrong, several)]
    assert all(fact.thinking.startswith("unknown: ") for fact in facts)
    assert len({fact.sha256 for fact in facts}) == 3
    default = with_template(tokenizer, {"default": CHAT_TEMPLATE, "rag": "b"})  # type: ignore[arg-type]
    assert template_facts(default) == template_facts(with_template(tokenizer, CHAT_TEMPLATE))


def test_a_template_for_one_question_only_gets_no_header(tokenizer: Any) -> None:
    alone = with_template(
        tokenizer,
        "{% if messages | length > 1 %}{{ raise_exception('one') }}{% endif %}"
        "{{ messages[0]['content'] }}\nA:",
    )
    assert template_facts(alone).thinking == "none"
