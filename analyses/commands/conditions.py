"""``interp conditions``: what can be added to a question, and what the model is then shown."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from analyses.commands.completion import complete_conditions, complete_of
from analyses.commands.options import (
    DeviceOption,
    DtypeOption,
    ItemsOption,
    ModelOption,
    SeedOption,
    loading_options,
    print_table,
)
from interp.models.catalogue import DEFAULT_MODEL
from interp.prompts.conversation import InstructionTurn, Placement

if TYPE_CHECKING:
    from interp.data.items import ChoiceItem, CompletionItem
    from interp.prompts import Condition, ConditionSpec, Conversation, TextBank, TokenizedPrompt

app = typer.Typer(
    help="Conditions: list (also those of a file), show an example prompt.",
    invoke_without_command=True,
    epilog="Examples:\n\n  interp conditions\n\n  interp conditions --file mine.yaml",
)

FileOption = Annotated[
    Path | None, typer.Option("--file", help="A YAML file of further conditions.")
]


@app.callback()
def list_(context: typer.Context, file: FileOption = None) -> None:
    """List the conditions: the bundled ones and those of a file."""
    context.obj = file
    if context.invoked_subcommand is not None:
        return
    from interp.data.bundle import bundled_instructions
    from interp.prompts import condition_texts, load_conditions

    rows = []
    for spec in load_conditions(file).values():
        n_texts = len(condition_texts(spec, bundled_instructions()))
        counts = [str(n_texts or ""), str(len(spec.calls))]
        rows.append([spec.name, *counts, spec.source, spec.description])
    print_table(["name", "texts", "calls", "source", "what it is"], rows)


@app.command(
    epilog="Examples:\n\n  interp conditions show instructed --turn system\n\n  interp conditions "
    "show match_statistics_told --items winogender\n\n  interp conditions show mine --file mine.yaml"
)
def show(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A condition's name.", autocompletion=complete_conditions)
    ],
    file: FileOption = None,
    model: ModelOption = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    items: ItemsOption = "bundled",
    slot: Annotated[int, typer.Option(min=0, help="Which text, counted from 0.")] = 0,
    placement: Annotated[
        str,
        typer.Option(
            help="The instruction after or before the question.",
            autocompletion=complete_of(get_args(Placement)),
        ),
    ] = "after",
    turn: Annotated[
        str,
        typer.Option(
            help="In the user or the system turn.",
            autocompletion=complete_of(get_args(InstructionTurn)),
        ),
    ] = "user",
    feedback: Annotated[
        Path | None, typer.Option(help='JSON lines {"id": ..., "feedback": ...}, per item.')
    ] = None,
    require_match: Annotated[
        int | None,
        typer.Option(min=0, help="Build placebos; refuse a difference of more tokens than this."),
    ] = None,
    list_texts: Annotated[
        bool, typer.Option("--list", help="Also list every wording, in the order of the draw.")
    ] = False,
    seed: SeedOption = 0,
) -> None:
    """One item under a condition, as the model sees it: every span with its tokens.

    And the condition's wordings: kind, source, and how many have which token count.
    """
    from interp.data import ChoiceItem
    from interp.errors import InterpError, did_you_mean
    from interp.prompts import TextBank, load_conditions, read_feedback

    options = loading_options(model, device, dtype)
    _require_one_of("--placement", placement, Placement)
    _require_one_of("--turn", turn, InstructionTurn)
    specs = load_conditions(file or context.obj)
    if name not in specs:
        raise InterpError(f"no condition {name!r}; {did_you_mean(name, specs)}")
    comments = None if feedback is None else read_feedback(feedback)
    item = _item(specs[name], items, seed, comments)
    from interp.models import load_model  # heavy: only for what can be shown
    from interp.prompts import tokenize

    bridge = load_model(model, **options)
    bank = TextBank(
        bridge.tokenizer,
        conditions=specs,
        feedback=comments,
        require_match=require_match,
        n_ctx=bridge.cfg.n_ctx,
        seed=seed,
    )
    condition = bank.texts(name, item, slot + 1)[-1]
    conversation = _conversation(bank, item, condition, placement, turn)
    prompt = tokenize(
        bridge.tokenizer, conversation, n_ctx=bridge.cfg.n_ctx, n_vocab=bridge.cfg.d_vocab
    )
    typer.echo(f"{name}: {specs[name].description}")
    typer.echo(f"item {item.id}, text {condition.text_id}, {len(prompt)} tokens")
    _print_control(bank, specs[name], item, slot)
    _print_spans(prompt)
    reasks = specs[name].reasks("choice" if isinstance(item, ChoiceItem) else "completion")
    for k, wording in enumerate(reasks, start=1):
        typer.echo(f"re-ask {k}: {bank.fill(name, wording, item)}")
    _print_wordings(bank, specs[name], every=list_texts)


def _require_one_of(option: str, value: str, allowed: Any) -> None:
    from interp.errors import InterpError

    if value not in get_args(allowed):
        raise InterpError(f"{option} is {value!r}; choose from {', '.join(get_args(allowed))}")


def _item(
    spec: ConditionSpec, items: str, seed: int, feedback: dict[str, str] | None
) -> ChoiceItem | CompletionItem:
    """The first item, or the first that the feedback is about."""
    from interp.data import load_completions, load_items

    load: Any = load_completions if spec.items == "completion" else load_items
    loaded = load(items, seed=seed) if feedback else load(items, limit=1, seed=seed)
    return next((item for item in loaded if item.id in (feedback or {})), loaded[0])


def _conversation(
    bank: TextBank,
    item: ChoiceItem | CompletionItem,
    condition: Condition,
    placement: Any,
    turn: Any,
) -> Conversation:
    """All calls of a condition; in place of the model's replies stands what they give."""
    from interp.prompts import condition_conversation, follow_up

    calls = bank.specs[condition.name].calls
    conversation = condition_conversation(
        item, condition, placement=placement, turn=turn, answer_prefix=calls[0].answer_prefix
    )
    for before, call in pairwise(calls):
        asked = bank.fill(condition.name, call.asks or "", item)
        reply = f"[the model's {before.gives}]"
        conversation = follow_up(conversation, reply, asked, answer_prefix=call.answer_prefix)
    return conversation


def _print_control(
    bank: TextBank, spec: ConditionSpec, item: ChoiceItem | CompletionItem, slot: int
) -> None:
    for k, call in enumerate(spec.control_calls, start=1):
        words = " / ".join(text for text in (call.asks, call.begins) if text)
        if words:
            typer.echo(f"placebo, call {k}: {words}")
    if not spec.has_placebo or spec.name == "placebo":
        return
    treated = bank.texts(spec.name, item, slot + 1)
    placebo = bank.placebos(treated)[slot]
    n, wanted = (bank.count(text or "") for text in (placebo.text, treated[slot].text))
    typer.echo(f"placebo {placebo.text_id}, {n} tokens against {wanted}: {placebo.text}")


def _print_wordings(bank: TextBank, spec: ConditionSpec, *, every: bool) -> None:
    """The condition's own texts, slots not filled, by source; ``14 x17``: 17 texts of 14 tokens."""
    if not spec.has_text:
        return
    counts: dict[str, Counter[int]] = {}
    texts = bank.wordings(spec.name, bank.n_texts(spec.name))
    for text in texts:
        counts.setdefault(text.source, Counter())[bank.count(text.text or "")] += 1
    rows = [
        [
            spec.bank or spec.name,
            source,
            str(of_source.total()),
            ", ".join(f"{tokens} x{n}" for tokens, n in sorted(of_source.items())),
        ]
        for source, of_source in counts.items()
    ]
    print_table(["kind", "source", "texts", "tokens x texts"], rows)
    if every:
        listed = [[t.text_id, t.source, str(bank.count(t.text or "")), t.text or ""] for t in texts]
        print_table(["text", "source", "tokens", "wording"], listed)


def _print_spans(prompt: TokenizedPrompt) -> None:
    rows = []
    for name, span in prompt.spans.items():
        text = "".join(prompt.str_tokens[span]).replace("\n", "⏎")
        rows.append([name, f"{span.start}:{span.stop}", text])
    print_table(["span", "tokens", "text"], rows)
