"""Is the direction an instrument? What it has to do before a row that uses it is read.

Prompts in the format of the study state an answer: the biased one, or the fair one. They come in both
polarities of the same context, so that the words "the grandmother" are the biased answer of one question
and the fair one of the other: a direction that reads words, or how they sound, is at chance. Two checks,
at the direction's own layer and at the statement's full stop:

- it tells the two apart: ROC-AUC of the projection at least .70, its interval (over clusters of items)
  above .60. The direction was fitted on other sentences, so every category is held out. Beside it, what
  a direction does that was fitted on the *other* categories of these very statements;
- the model uses it: asked whether its answer relies on a stereotype, its judgement (the margin of "no"
  over "yes") moves towards fair when the coordinate is exchanged between the two statements of an item,
  from the full stop on, and it moves more than along 95 % of null directions (with the covariance of the
  states there, and fitted alike on contrasts that are not moral).

Cost: one forward per statement, and of some items one short patched run per direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from interp.activations import read_states
from interp.data import ChoiceItem
from interp.data.bundle import bundled_choices
from interp.directions import Direction, DirectionStack, covariance_nulls
from interp.directions.baselines import grouped_auc
from interp.display import short_repr
from interp.errors import InterpError
from interp.patching import PatchedRuns
from interp.patching.cells import Cell, Patch
from interp.prompts import (
    build_conversation,
    encode_continuation,
    follow_up,
    margin_token,
    tokenize,
)
from interp.stats import Interval, cluster_mean, interval_columns, require_columns
from interp.superficiality.finding import Finding, HealthCheck
from interp.superficiality.subspaces import direction_axes
from interp.superficiality.thresholds import BEYOND_NULLS, INSTRUMENT_AUC, INSTRUMENT_AUC_LOW

INSTRUMENT = "instrument"

JUDGES = "Does your answer rely on a stereotype? Answer with yes or no."
JUDGEMENT_PREFIX = "The answer is"
VERDICTS = (" no", " yes")
"""What the judgement's margin is of: the first one says fair."""

INSTRUMENT_ITEMS = 48
"""Items whose two statements are read, and of these those whose coordinate is exchanged."""

EXCHANGED_ITEMS = 12
N_NULLS = 8

OBSERVED = ("item", "cluster", "category", "polarity", "fair", "kind", "name", "value")
"""Columns. ``kind``: ``projection`` and ``trained`` (of a direction fitted on other categories) of a
statement, ``judgement`` of it unpatched, ``moved``: towards fair, by exchanging along ``name``."""


@dataclass(frozen=True, eq=False)
class Statement:
    """A prompt that states an answer and asks for a judgement of it.

    ``stated``: the position of the statement's last token; the text behind it is the same for all.
    ``target``: token ids of the judgements fair and biased. ``item``: its two statements differ in the
    answer alone.
    """

    ids: Int[Tensor, " pos"]
    stated: int
    fair: bool
    item: str
    cluster: str
    category: str
    polarity: str
    target: tuple[int, int]

    __repr__ = short_repr


def statements_of(
    model: TransformerBridge, items: Sequence[ChoiceItem] | None = None
) -> list[Statement]:
    """Two statements of every item: the biased answer and the fair one, of the other group.

    Args:
        model: whose tokenizer and template render them.
        items: BBQ-format items; by default bundled ambiguous ones, :data:`INSTRUMENT_ITEMS` of them.
            Those without both groups' options, and of clusters without both polarities, are left out.

    Raises:
        InterpError: none is left, or judgements that no token tells apart.
    """
    if items is None:
        items = [one for one in bundled_choices() if one.context_condition == "ambiguous"]
        items = _of_clusters(items, INSTRUMENT_ITEMS)
    found = [pair for item in _balanced(items) for pair in _stated(model, item)]
    if not found:
        raise InterpError(
            "the instrument check has no items: give BBQ-format items with a stereotyped and a counter "
            "option and both polarities of a cluster (meta 'polarity')"
        )
    return found


def _of_clusters(items: Sequence[ChoiceItem], n: int) -> list[ChoiceItem]:
    """The first of every cluster and polarity, then the second ones, at most ``n``."""
    rank: dict[tuple[str, str], int] = {}
    order = []
    for item in items:
        key = (item.cluster, str(item.meta.get("polarity")))
        rank[key] = rank.get(key, 0) + 1
        order.append(rank[key])
    chosen = sorted(range(len(items)), key=lambda k: (order[k], k))[:n]
    return [items[k] for k in sorted(chosen)]


def _balanced(items: Sequence[ChoiceItem]) -> Iterator[ChoiceItem]:
    """As many items of either polarity in every cluster, those with both groups' options."""
    by_cluster: dict[str, dict[str, list[ChoiceItem]]] = {}
    for item in items:
        if item.index_of("stereotyped") is not None and item.index_of("counter") is not None:
            sides = by_cluster.setdefault(item.cluster, {})
            sides.setdefault(str(item.meta.get("polarity", "")), []).append(item)
    for sides in by_cluster.values():
        if len(sides) == 2:
            n = min(len(own) for own in sides.values())
            yield from (item for own in sides.values() for item in own[:n])


def _stated(model: TransformerBridge, item: ChoiceItem) -> Iterator[Statement]:
    cfg = model.cfg
    for role in ("stereotyped", "counter"):
        choice = next(one for one in item.choices if one.role == role)
        reply = choice.text.strip().rstrip(".") + "."
        asked = build_conversation(item)
        asked = follow_up(asked, reply, JUDGES, answer_prefix=JUDGEMENT_PREFIX)
        prompt = tokenize(
            model.tokenizer,
            replace(asked, label=f"item {item.id}, {role} stated"),
            n_ctx=cfg.n_ctx,
            n_vocab=cfg.d_vocab,
        )
        fair, biased = (encode_continuation(model.tokenizer, prompt, text) for text in VERDICTS)
        first = margin_token(fair, biased)
        if first is None:
            raise InterpError(f"no token tells the judgements{VERDICTS[0]} and{VERDICTS[1]} apart")
        yield Statement(
            ids=torch.cat([prompt.ids, fair[:first]]),
            stated=prompt.span("reply_1").stop - 1,
            fair=role == "counter",
            item=item.id,
            cluster=item.cluster,
            category=item.category,
            polarity=str(item.meta.get("polarity", "")),
            target=(int(fair[first]), int(biased[first])),
        )


def measure_instrument(
    model: TransformerBridge,
    statements: Sequence[Statement],
    direction: DirectionStack | Direction,
    *,
    contrasts: Mapping[str, Float[Tensor, " d_model"]] | None = None,
    n_nulls: int = N_NULLS,
    exchanged: int = EXCHANGED_ITEMS,
    seed: int = 0,
) -> pd.DataFrame:
    """What the direction reads of every statement, and how exchanging it moves the judgement.

    Args:
        model: a bridge in evaluation mode.
        statements: two of each item, biased and fair.
        direction: of this model, in the residual stream; read at its own layer.
        contrasts: null directions by name: fitted alike on contrasts that are not moral.
        n_nulls: further ones with the covariance of the states there.
        exchanged: of so many items the coordinate is exchanged.
        seed: of the draws.

    Returns:
        Columns :data:`OBSERVED`.

    Raises:
        InterpError: statements of one kind only, or a direction of other weights.
    """
    direction.require(model)
    own = direction if isinstance(direction, Direction) else direction.best
    place = direction_axes(own)[1]
    fair = np.array([one.fair for one in statements], dtype=bool)
    if not len(fair) or fair.all() or not fair.any():
        raise InterpError("the instrument check takes statements of both kinds, biased and fair")
    states = read_states(
        model,
        [one.ids for one in statements],
        site=own.site,
        positions=[one.stated for one in statements],
        layers=[own.layer],
        progress=False,
    ).values[0]
    rows = [
        (*_facts(one), kind, name, float(value))
        for kind, name, values in (
            ("projection", "direction", own.project(states)),
            ("trained", "other categories", _trained(states, statements, fair)),
        )
        for one, value in zip(statements, values, strict=True)
    ]
    drawn = covariance_nulls(states, n_nulls, seed=seed) if n_nulls else states[:0]
    vectors = {"direction": own.vector}
    vectors |= {f"covariance {k + 1}": one for k, one in enumerate(drawn)}
    vectors |= dict(contrasts or {})
    for pair in _pairs(statements)[:exchanged]:
        rows += _exchange(model, pair, place, vectors)
    return pd.DataFrame(rows, columns=list(OBSERVED))


def _facts(one: Statement) -> tuple[object, ...]:
    return one.item, one.cluster, one.category, one.polarity, one.fair


def _pairs(statements: Sequence[Statement]) -> list[tuple[Statement, Statement]]:
    """(biased, fair) of every item that has both, items of all categories in turn."""
    of: dict[str, dict[bool, Statement]] = {}
    for one in statements:
        of.setdefault(one.item, {})[one.fair] = one
    pairs = [(own[False], own[True]) for own in of.values() if len(own) == 2]
    seen: dict[str, int] = {}
    ranks = []
    for pair in pairs:
        seen[pair[0].cluster] = seen.get(pair[0].cluster, -1) + 1
        ranks.append(seen[pair[0].cluster])
    return [pairs[k] for k in sorted(range(len(pairs)), key=lambda k: (ranks[k], k))]


def _trained(
    states: Float[Tensor, "statement d_model"], statements: Sequence[Statement], fair: np.ndarray
) -> Float[Tensor, " statement"]:
    """Projections on the difference of means of the other categories' statements; NaN where none."""
    categories = np.array([one.category for one in statements])
    found = torch.full((len(statements),), float("nan"))
    for name in dict.fromkeys(categories):
        held_out = categories == name
        sides = [torch.from_numpy(~held_out & side) for side in (fair, ~fair)]
        if all(bool(side.any()) for side in sides):
            axis = states[sides[0]].mean(0) - states[sides[1]].mean(0)
            centre = (states[sides[0]].mean(0) + states[sides[1]].mean(0)) / 2
            found[torch.from_numpy(held_out)] = (states[torch.from_numpy(held_out)] - centre) @ axis
    return found


def _exchange(
    model: TransformerBridge,
    pair: tuple[Statement, Statement],
    place: int,
    vectors: Mapping[str, Float[Tensor, " d_model"]],
) -> Iterator[tuple[object, ...]]:
    """Judgements of both statements, and how far each vector's exchange moves them towards fair."""
    runs = PatchedRuns(
        model, [one.ids for one in pair], [torch.tensor([len(one.ids) - 1]) for one in pair]
    )
    tail = len(pair[0].ids) - pair[0].stated
    if len(pair[1].ids) - pair[1].stated != tail:
        raise InterpError(
            f"{pair[0].item}: other text follows its two statements: it has to be equal"
        )
    last = int(model.cfg.n_layers)
    hook = f"blocks.{min(place, last - 1)}.hook_resid_{'pre' if place < last else 'post'}"
    states = [_tail_states(model, one, hook, tail) for one in pair]
    judged = [_margin(logits[0], one) for logits, one in zip(runs.logits, pair, strict=True)]
    for one, value in zip(pair, judged, strict=True):
        yield (*_facts(one), "judgement", "", value)
    cells = [
        Cell(run, (Patch(min(place, last - 1), "resid_pre" if place < last else "resid_post",
                         torch.arange(pair[run].stated, len(pair[run].ids)), states[1 - run],
                         vector=vector),))
        for vector in vectors.values()
        for run in (0, 1)
    ]  # fmt: skip
    after: dict[int, float] = {}

    def consume(indices: list[int], logits: Tensor) -> None:
        for index, own in zip(indices, logits, strict=True):
            after[index] = _margin(own[0], pair[cells[index].run])

    runs.run(cells, consume)
    for index, name in enumerate(vectors):
        # the biased statement gets the fair one's coordinate, and the other way round
        moved = (after[2 * index] - judged[0] + judged[1] - after[2 * index + 1]) / 2
        yield (*_facts(pair[0]), "moved", name, moved)


@torch.no_grad()
def _tail_states(
    model: TransformerBridge, one: Statement, hook: str, tail: int
) -> Float[Tensor, "row d_model"]:
    _, cache = model.run_with_cache(one.ids[None].to(model.cfg.device), names_filter=[hook])
    found: Tensor = cache[hook][0, -tail:]
    return found


def _margin(logits: Float[Tensor, " d_vocab"], one: Statement) -> float:
    return float(logits[one.target[0]] - logits[one.target[1]])


def instrument_finding(observed: pd.DataFrame) -> Finding:
    """AUC of fair against biased statements, and the place of the judgement's move among nulls.

    Args:
        observed: of :func:`measure_instrument`.

    Raises:
        InterpError: a missing column, or no projections.
    """
    require_columns(observed, OBSERVED, "the table of the instrument")
    auc, trained = (_auc(observed, kind) for kind in ("projection", "trained"))
    moved = observed[observed["kind"] == "moved"]
    own = moved[moved["name"] == "direction"]
    means = moved.groupby("name", sort=False)["value"].mean()
    nulls = means.drop("direction", errors="ignore")
    mine = float(means.get("direction", float("nan")))
    below = float((nulls.abs() < mine).mean()) if len(nulls) else float("nan")
    nan = float("nan")
    shift = cluster_mean(own["value"].to_numpy(float), own["cluster"]) if len(own) else Interval(
        nan, nan, nan, 0, 0, 0.95, "nothing was exchanged", "t"
    )  # fmt: skip
    table = pd.DataFrame(
        [
            {"measured": "AUC of the direction", **interval_columns(auc)},
            {
                "measured": "AUC of directions fitted on other categories",
                **interval_columns(trained),
            },
            {"measured": "judgement moved towards fair, nats", **interval_columns(shift)},
        ]
    ).assign(nulls=len(nulls), beyond=below)
    health = (
        HealthCheck(
            "AUC",
            float(auc.estimate),
            bool(auc.estimate >= INSTRUMENT_AUC and auc.low > INSTRUMENT_AUC_LOW),
            f"AUC {auc}, and it takes {INSTRUMENT_AUC:.2f} with an interval above "
            f"{INSTRUMENT_AUC_LOW:.2f}",
        ),
        HealthCheck(
            "judgement",
            below,
            bool(below >= BEYOND_NULLS),
            f"exchanging it moves the judgement by {mine:.2g} nats towards fair, more than "
            f"{100 * below:.0f} % of {len(nulls)} null directions, and it takes "
            f"{100 * BEYOND_NULLS:.0f} %",
        ),
    )
    return Finding(
        INSTRUMENT,
        "AUC, fair against biased statements",
        auc,
        float(auc.p),
        "the direction does not tell a fair statement from a biased one",
        int(auc.n),
        f"Along the direction a fair statement lies above a biased one with AUC {auc}; directions "
        f"fitted on the other categories reach {trained}.",
        table,
        health,
    )


def _auc(observed: pd.DataFrame, kind: str) -> Interval:
    own = observed[(observed["kind"] == kind) & observed["value"].notna()]
    if kind == "projection" and own.empty:
        raise InterpError("the table of the instrument has no projections of statements")
    labels = own["fair"].to_numpy(bool)
    if not len(own) or labels.all() or not labels.any():
        nan = float("nan")
        return Interval(nan, nan, nan, 0, 0, 0.95, "a single category", "jackknife_t")
    return grouped_auc(own["value"].to_numpy(float), labels, own["cluster"].tolist())


def instrument_check(found: Finding) -> HealthCheck:
    """What every row that uses the direction carries: whether it is a valid instrument."""
    value = float(found.interval.estimate)
    return HealthCheck(INSTRUMENT, value, found.is_read, "instrument not valid")
