"""Conditions as data: the registry, and files that extend it.

A condition says what is added to an item: which texts (its own, those of a bundled bank, or none),
where they go, whether each has a placebo, how often the model is called, and what it is asked
again in later rounds. ``interp/prompts/bundled/conditions.yaml`` holds the bundled ones; a file of
the same form adds more, and may replace a bundled one only when it says ``replaces: true``::

    careful:
      description: asks to take care
      texts:
        - Please take care.
        - Please be careful.
      turn: system

Fields (all but ``description`` may be left out):

``description``       one line.
``source``            arXiv number of the paper it comes from, quoted.
``items``             any | choice | completion: what it can be added to.
``gold``              any | unknown: unknown where the texts say that the question is left open, and
                      so can be added only to items whose gold choice is the abstention.
``texts`` or ``bank`` paraphrases, the reported wordings first, with slots (:mod:`.slots`); or the
                      kind of a bundled bank, from which wordings are drawn at random per seed.
                      Neither: no instruction.
``reported``          how many of ``texts``, counted from the first, are the paper's own words.
``placement, turn``   where the instruction goes, when the condition fixes it; else the caller's.
``control``           placebo: every text is matched with one; none: it is not.
``verdict_accuracy``  for the slot ``{verdict}``: 1 true, 0 flipped, .5 random.
``calls``             the calls in order, see :class:`Call`; one that answers, by default.
``control_calls``     those of its placebos, where its own speak of morals; by default the same.
``reask``             wordings of the message of every later round; the first is the usual one.
``reask_completion``  those for completions, where a condition for any item words them otherwise.
``replaces``          true: takes the place of the bundled condition of this name.

What a matched placebo asks again are the neutral words of the condition ``placebo``, whose texts are
also the placebos. Those of ``statement`` are placebos of the second kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from interp.data.bundle import WRITTEN, Instruction, InstructionKind
from interp.data.items import ChoiceItem, CompletionItem
from interp.errors import InterpError, did_you_mean
from interp.parsing import read_text, require_unicode
from interp.prompts.conversation import ANSWER_PREFIX, InstructionTurn, Placement
from interp.prompts.placebos import PLACEBO_KINDS
from interp.prompts.slots import CHOICE_SLOTS, slots_in

_BUNDLED = "conditions.yaml"
_NAME = r"^[a-z][a-z0-9_-]*$"


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    slots_in(value)
    return value.strip()


Text = Annotated[str, AfterValidator(_text)]


class Call(BaseModel):
    """One call of the model: what it is asked, how its reply begins, what the reply is.

    ``asks`` is None in the first call alone, which asks the item with its instruction; the others
    continue the conversation. ``begins`` opens the assistant's turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asks: Text | None = None
    begins: Text | None = None
    gives: Literal["answer", "thought", "critique"] = "answer"

    @property
    def answer_prefix(self) -> str:
        """How the reply begins: ``begins``, else the usual prefix of answers, else nothing."""
        return self.begins or (ANSWER_PREFIX if self.gives == "answer" else "")


class ConditionSpec(BaseModel):
    """One condition, checked; the fields are the module's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    description: Text
    source: str = ""
    items: Literal["any", "choice", "completion"] = "any"
    gold: Literal["any", "unknown"] = "any"
    bank: InstructionKind | None = None
    texts: tuple[Text, ...] = ()
    reported: int = Field(default=0, ge=0)
    placement: Placement | None = None
    turn: InstructionTurn | None = None
    control: Literal["placebo", "none"] = "placebo"
    verdict_accuracy: float | None = Field(default=None, ge=0, le=1)
    calls: tuple[Call, ...] = (Call(),)
    control_calls: tuple[Call, ...] = ()
    reask: tuple[Text, ...] = ()
    reask_completion: tuple[Text, ...] = ()
    replaces: bool = False

    @property
    def has_text(self) -> bool:
        """Whether it adds an instruction."""
        return bool(self.texts) or self.bank is not None

    @property
    def is_drawn(self) -> bool:
        """Whether its wordings are a sample: those of a bank, but for the reported ones.

        The reported ones are few and no sample of anything; they are taken in their order.
        """
        return self.bank not in (None, "reported")

    @property
    def has_placebo(self) -> bool:
        """Whether its texts have placebos."""
        return self.has_text and self.control == "placebo"

    @property
    def has_control(self) -> bool:
        """Whether a trajectory under it has a control: of its texts, of its calls, or of both."""
        return self.has_placebo or bool(self.control_calls)

    def fits(self, item: ChoiceItem | CompletionItem) -> bool:
        """Whether it can be added to this item: its kind, and its gold choice where that matters."""
        if isinstance(item, CompletionItem):
            return self.items in ("any", "completion")
        open_question = item.choices[item.gold].role == "unknown"
        return self.items in ("any", "choice") and (self.gold == "any" or open_question)

    def require_fit(self, item: ChoiceItem | CompletionItem) -> None:
        """Refuse an item that the condition cannot be added to.

        Raises:
            InterpError: names the condition and the item.
        """
        if self.fits(item):
            return
        kind = "choice" if isinstance(item, ChoiceItem) else "completion"
        if self.items not in ("any", kind):
            raise InterpError(
                f"condition {self.name!r} is for {self.items} items, {item.id!r} is a {kind} item"
            )
        raise InterpError(
            f"condition {self.name!r} says that the text leaves the question open, which is not the "
            f"gold choice of {item.id!r}: use it on items whose gold choice is the abstention"
        )

    def reasks(self, task: Literal["choice", "completion"]) -> tuple[str, ...]:
        """The re-asks for items of this kind; none for a condition that only asks once."""
        if task == "completion" and self.reask_completion:
            return self.reask_completion
        return self.reask

    @model_validator(mode="after")
    def _consistent(self) -> ConditionSpec:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        """What is wrong with the fields taken together."""
        asked = [call.asks for call in (*self.calls, *self.control_calls) if call.asks]
        wordings = [*self.texts, *self.reask, *self.reask_completion, *asked]
        slots = frozenset().union(*map(slots_in, wordings))
        completed = frozenset().union(*map(slots_in, self.reask_completion))
        steps = self.calls
        checks = {
            "has both texts and a bank; give one": bool(self.texts) and self.bank is not None,
            "has the same text twice": len(set(self.texts)) < len(self.texts),
            "has fewer texts than it says are reported; name their number": (
                self.reported > len(self.texts)
            ),
            "has reported texts without the paper; give its number as 'source'": (
                self.reported > 0 and not self.source
            ),
            "is for items whose gold choice is the abstention, which completions do not have": (
                self.gold == "unknown" and self.items != "choice"
            ),
            "has a placement in the system turn; leave one of placement and turn out": (
                self.turn == "system" and self.placement is not None
            ),
            "has the slot {verdict} without a verdict_accuracy (or the other way round)": (
                ("verdict" in slots) != (self.verdict_accuracy is not None)
            ),
            "is for completions, which cannot fill {answer}, {option} or {verdict}": (
                self.items == "completion" and bool(slots & CHOICE_SLOTS)
            ),
            "asks completions again with {answer}, {option} or {verdict}, which they cannot fill": (
                bool(completed & CHOICE_SLOTS)
            ),
            f"is for {self.items} items alone; give their re-asks as 'reask'": (
                self.items != "any" and bool(self.reask_completion)
            ),
            "has calls that do not end in one that gives the answer": (
                not steps or steps[-1].gives != "answer"
            ),
            "asks something in its first call, which is the item itself": (
                bool(steps) and steps[0].asks is not None
            ),
            "has a later call that asks nothing": any(call.asks is None for call in steps[1:]),
            "is one call that begins in words of its own, which a single prompt does not; leave "
            "'begins' out": len(steps) == 1 and bool(steps[0].begins),
            "has control_calls that are not of the same kinds as its calls, one by one": (
                bool(self.control_calls) and _kinds(self.control_calls) != _kinds(steps)
            ),
            "has control_calls, and 'control: none'; leave one of them out": (
                bool(self.control_calls) and self.control == "none"
            ),
            "has a placebo with slots; placebos are the same for every item": (
                self.name in PLACEBO_KINDS and bool(slots)
            ),
        }
        return [problem for problem, present in checks.items() if present]


def _kinds(calls: Sequence[Call]) -> list[tuple[str, bool]]:
    return [(call.gives, call.asks is None) for call in calls]


@dataclass(frozen=True)
class Wording:
    """A text of a condition, slots not filled, and whether it is a paper's own or written here."""

    id: str
    text: str
    source: str = WRITTEN


def condition_texts(
    spec: ConditionSpec, instructions: Sequence[Instruction]
) -> tuple[Wording, ...]:
    """Every text of a condition in its own order; those of a bank are taken from the list.

    The bank ``reported`` holds all wordings of the instruction that are a paper's own words.
    """
    if spec.bank is not None:
        kinds = ("instructed", "reported") if spec.bank == "reported" else (spec.bank,)
        of_bank = [i for i in instructions if i.kind in kinds]
        if spec.bank == "reported":
            of_bank = [i for i in of_bank if i.reported]
        return tuple(Wording(i.id, i.text, i.source) for i in of_bank)
    paper = f"reported: arXiv {spec.source}"
    return tuple(
        Wording(f"{spec.name}-{k:02d}", text, paper if k <= spec.reported else WRITTEN)
        for k, text in enumerate(spec.texts, start=1)
    )


def load_conditions(path: str | Path | None = None) -> Mapping[str, ConditionSpec]:
    """The bundled conditions by name, in their order; followed by those of a file.

    Raises:
        InterpError: a file that cannot be read, an unknown or malformed field, or a bundled name
            without ``replaces: true``; one line with file, line, condition and field.

    Example:
        >>> load_conditions()["chain_of_thought"].calls[0].gives
        'thought'
    """
    bundled = _bundled()
    if path is None:
        return bundled
    merged = dict(bundled)
    for line, spec in _specs(read_text(path), str(path)):
        where = f"{path} line {line}: condition {spec.name!r}"
        if spec.name == "clean":
            raise InterpError(f"{where} is the prompt without instruction; choose another name")
        if spec.name in bundled and not spec.replaces:
            raise InterpError(
                f"{where} is bundled already: choose another name, or add 'replaces: true'"
            )
        if spec.replaces and spec.name not in bundled:
            hint = did_you_mean(spec.name, bundled)
            raise InterpError(f"{where}, field 'replaces': no such bundled condition; {hint}")
        merged[spec.name] = spec
    return MappingProxyType(merged)


@cache
def _bundled() -> Mapping[str, ConditionSpec]:
    text = (resources.files("interp.prompts") / "bundled" / _BUNDLED).read_text(encoding="utf-8")
    return MappingProxyType({spec.name: spec for _, spec in _specs(text, _BUNDLED)})


def _specs(text: str, source: str) -> list[tuple[int, ConditionSpec]]:
    """(line, condition) of every condition in a YAML text, in its order."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = source if mark is None else f"{source} line {mark.line + 1}"
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise InterpError(f"{where}: not valid YAML ({problem})") from error
    except RecursionError as error:
        raise InterpError(f"{source}: not valid YAML (nested too deeply)") from error
    except ValueError as error:  # a date that is none, a number of thousands of digits
        raise InterpError(f"{source}: not valid YAML ({error}); put texts in quotes") from error
    _refuse_half_characters(node, source)
    if not isinstance(values, dict) or not values:
        raise InterpError(f"{source}: must map the names of conditions to their fields")
    _refuse_repeats(node, source)
    return [_spec(name, fields, node, source) for name, fields in values.items()]


def _refuse_half_characters(node: Any, source: str) -> None:
    """A YAML escape can write half a surrogate pair, which no tokenizer takes."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an anchor may be used many times
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            require_unicode(node.value, f"{source} line {node.start_mark.line + 1}: the text")
        elif isinstance(node, yaml.MappingNode):
            waiting.extend(part for pair in node.value for part in pair)
        else:
            waiting.extend(node.value)


def _spec(name: Any, fields: Any, node: Any, source: str) -> tuple[int, ConditionSpec]:
    line = _line(node, (name,))
    where = f"{source} line {line}: condition {name!r}"
    if not isinstance(name, str):
        raise InterpError(f"{where}: a name is a text; put it in quotes")
    if not isinstance(fields, dict):
        raise InterpError(f"{where}: must be a mapping of fields, is {fields!r}")
    if "name" in fields:
        raise InterpError(f"{where}, field 'name': the name is the key above; leave the field out")
    try:
        return line, ConditionSpec.model_validate({**fields, "name": name})
    except ValidationError as errors:
        raise _one_line(errors, name, node, source) from errors


def _one_line(errors: ValidationError, name: str, node: Any, source: str) -> InterpError:
    """The first error of a condition: an unknown field before what follows from it."""
    found = sorted(errors.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    loc = found["loc"]
    where = f"{source} line {_line(node, (name, *loc))}: condition {name!r}"
    if found["type"] == "extra_forbidden":
        model = Call if loc[0] in ("calls", "control_calls") else ConditionSpec
        hint = did_you_mean(str(loc[-1]), [f for f in model.model_fields if f != "name"])
        return InterpError(f"{where}: no field {str(loc[-1])!r}; {hint}")
    message = found["msg"].removeprefix("Value error, ")
    if not loc:
        return InterpError(f"{where} {message}")
    if loc == ("name",):
        return InterpError(f"{where}: a name has lower-case letters, digits, _ and -, letter first")
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).removeprefix(".")
    if found["type"] == "missing":
        return InterpError(f"{where}: the field {field!r} is missing")
    message = message.replace("Input should", "should")
    return InterpError(f"{where}, field {field!r}: {message}, got {found['input']!r}")


def _line(node: Any, loc: Sequence[Any]) -> int:
    """Line of the deepest part of ``loc`` that stands in the YAML tree, counted from 1."""
    line = node.start_mark.line
    for part in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        else:
            break
    return line + 1


def _refuse_repeats(node: yaml.MappingNode, source: str) -> None:
    """YAML lets a later key win silently; here a second one is a mistake."""
    for mapping in (node, *(v for _, v in node.value if isinstance(v, yaml.MappingNode))):
        seen: dict[str, int] = {}
        for key, _ in mapping.value:
            line = key.start_mark.line + 1
            if seen.setdefault(str(key.value), line) != line:
                first = seen[str(key.value)]
                raise InterpError(
                    f"{source} line {line}: {key.value!r} stands in line {first} already"
                )
