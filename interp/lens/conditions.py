"""The same items under several conditions and wordings, read at every layer.

Every treated text is paired with its length-matched placebo (the same ``slot``); ``contrast`` names
the treated condition that a placebo belongs to. Two placebos of neighbouring slots are compared as
well: how far two sentences of no moral content lie apart is the scale of a divergence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformer_lens.model_bridge import TransformerBridge

from interp.data.items import ChoiceItem
from interp.display import html_paragraph, html_table, short_repr
from interp.errors import InterpError
from interp.lens.divergence import TOP_K, LensDistributions, compare_distributions
from interp.lens.options import LensMetric
from interp.lens.trajectory import (
    each_lens_logits,
    lens_title,
    option_readings,
    require_lens_metric,
    with_option_margins,
)
from interp.prompts import (
    Condition,
    MarginTarget,
    OptionTokens,
    Placement,
    TextBank,
    TokenizedPrompt,
    condition_prompt,
    decode_each,
    option_tokens,
    require_context,
    require_target_in_vocabulary,
    require_vocabulary,
    target_of_options,
)
from interp.stats import FloatArray

_DIVERGENCES = ("kl", "js", "overlap")
_LABELS = ["contrast", "condition", "slot", "item", "cluster", "layer"]


@dataclass(frozen=True)
class Arms:
    """The metric of a condition and of its placebos, ``[layers, texts, items]`` each: margins (logit
    differences, nats) or option margins (nats per token)."""

    contrast: str
    layers: list[int]
    treated: FloatArray
    control: FloatArray
    items: list[str]
    clusters: list[str]

    __repr__ = short_repr

    def difference(self) -> FloatArray:
        """Treated minus control, averaged over texts, ``[layers, items]``."""
        return np.asarray(self.treated.mean(1) - self.control.mean(1))


@dataclass(frozen=True)
class LensConditions:
    """Lens readings of items under several conditions, tidy, one row per prompt and layer.

    Columns of ``frame``: ``contrast``, ``condition``, ``slot``, ``item``, ``cluster``, ``n_tokens``
    (of the prompt: a text and its placebo should agree), ``layer``, then ``margin`` (logit
    difference), ``log_prob_a``, ``log_prob_b`` (nats), ``rank_a``, ``rank_b``, ``option_margin``
    (nats per token) where that is the ``metric`` that effects are read from, then the divergences
    ``kl``, ``js`` (nats) and ``overlap`` of a treated text from its own placebo, of a placebo from
    that of the slot before, and ``kl_clean``, ``js_clean``, ``overlap_clean`` from the clean
    prompt; NaN where there is nothing to compare with. ``left_out``: items whose options no token
    distinguishes. ``k``: length of the compared top lists.
    """

    frame: pd.DataFrame
    left_out: tuple[str, ...] = ()
    k: int = TOP_K
    metric: LensMetric = "margin"

    __repr__ = short_repr

    @property
    def contrasts(self) -> tuple[str, ...]:
        """The conditions that were read with their placebos."""
        placebos = self.frame.loc[self.frame["condition"] == "placebo", "contrast"].unique()
        return tuple(name for name in placebos if name in set(self.frame["condition"]))

    def to_dataframe(self) -> pd.DataFrame:
        """A copy of the rows."""
        return self.frame.copy()

    def arms(self, contrast: str) -> Arms:
        """The metric of a condition and of its placebos.

        Raises:
            InterpError: a condition that was not read with its placebos.
        """
        if contrast not in self.contrasts:
            known = ", ".join(self.contrasts) or "none"
            raise InterpError(f"{contrast!r} was not read with its placebos; with them: {known}")
        rows = self.frame[self.frame["contrast"] == contrast]
        layers = sorted(int(layer) for layer in rows["layer"].unique())
        clusters = rows.drop_duplicates("item").set_index("item")["cluster"]
        treated, control = (
            rows[rows["condition"] == name]
            .pivot(index=["layer", "slot"], columns="item", values=self.metric)
            .sort_index()[clusters.index]
            .to_numpy(float)
            .reshape(len(layers), -1, len(clusters))
            for name in (contrast, "placebo")
        )
        items, names = clusters.index.tolist(), clusters.tolist()
        return Arms(contrast, layers, treated, control, items, names)

    def difference(self, contrast: str = "instructed") -> pd.DataFrame:
        """The metric minus that of the placebos, means over texts, one row per (item, layer).

        Raises:
            InterpError: a condition that was not read with its placebos.
        """
        arms = self.arms(contrast)
        index = pd.MultiIndex.from_product([arms.layers, arms.items], names=["layer", "item"])
        rows = index.to_frame(index=False)
        clusters = dict(zip(arms.items, arms.clusters, strict=True))
        return pd.DataFrame(
            {
                "contrast": contrast,
                "item": rows["item"],
                "cluster": rows["item"].map(clusters),
                "layer": rows["layer"],
                "difference": arms.difference().reshape(-1),
            }
        )

    def divergences(self) -> pd.DataFrame:
        """The divergences in long form: the columns of the prompt, ``against``, and the numbers.

        ``against``: ``placebo`` (the text's own), ``another placebo`` (of a placebo) or ``clean``.
        """
        near = self.frame[[*_LABELS, *_DIVERGENCES]]
        near = near.assign(
            against=np.where(near["condition"] == "placebo", "another placebo", "placebo")
        )
        far = self.frame[_LABELS].assign(
            against="clean", **{name: self.frame[f"{name}_clean"] for name in _DIVERGENCES}
        )
        rows = pd.concat([near, far], ignore_index=True).dropna(subset="js")
        return rows[[*_LABELS[:2], "against", *_LABELS[2:], *_DIVERGENCES]].reset_index(drop=True)

    def _repr_html_(self) -> str:
        mean = self.frame.pivot_table(
            index="layer", columns=["contrast", "condition"], values=self.metric, sort=False
        )
        return html_paragraph(lens_title(self.metric), bold=True) + html_table(
            mean, decimals=2, index=True
        )


def lens_conditions(
    model: TransformerBridge,
    items: Iterable[ChoiceItem],
    *,
    conditions: Sequence[str] = ("clean", "instructed", "placebo", "revealing"),
    n_texts: int = 1,
    n_control_texts: int = 1,
    k: int = TOP_K,
    metric: LensMetric = "margin",
    order: int = 0,
    placement: Placement = "after",
    bank: TextBank | None = None,
    progress: bool = True,
) -> LensConditions:
    """Follow the options through the layers, under every condition and text.

    Args:
        model: a bridge in evaluation mode.
        items: choice items; one whose options no token distinguishes is left out and counted.
        conditions: names of single-call conditions, see :func:`interp.prompts.load_conditions`;
            ``placebo`` means the matched placebos of all the others.
        n_texts: wordings of ``instructed``, each with its own placebo (6: the least for a claim).
        n_control_texts: wordings of every other condition.
        k: length of the top lists whose overlap is read.
        metric: what effects are read from; ``"option_margin"`` costs two more forwards per prompt.
        order: which cyclic order of the options.
        placement: instruction ``"after"`` or ``"before"`` the question.
        bank: the texts of the conditions; those of the bundled ones by default.
        progress: show a bar.

    Raises:
        InterpError: no item with a margin, an item given twice, an unknown condition, too many texts,
            or a prompt beyond the context.

    Example:
        >>> lens = lens_conditions(model, items, n_texts=6)         # doctest: +SKIP
        >>> parting_layer(lens.arms("instructed"), seed=0)          # doctest: +SKIP
    """
    require_lens_metric(metric)
    bank, items = TextBank(model.tokenizer) if bank is None else bank, list(items)
    names = [item.id for item in items]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise InterpError(f"item {twice[0]!r} is given {names.count(twice[0])} times: give it once")
    frames, left_out = [], []
    for item in tqdm(items, desc="logit lens", disable=not progress):
        texts = bank.conditions(item, conditions, n_texts=n_texts, n_control_texts=n_control_texts)
        frame = lens_item(model, item, texts, k=k, metric=metric, order=order, placement=placement)
        frames.append(frame)
        if frame.empty:
            left_out.append(item.id)
    if len(left_out) == len(items):
        raise no_margin(len(items))
    return LensConditions(pd.concat(frames, ignore_index=True), tuple(left_out), k, metric)


def no_margin(n_items: int) -> InterpError:
    """The error of a sample in which nothing can be read."""
    return InterpError(
        f"none of the {n_items} items has a margin (two options to contrast that a token "
        "distinguishes): choose other items or raise the limit"
    )


def lens_item(
    model: TransformerBridge,
    item: ChoiceItem,
    conditions: Sequence[Condition],
    *,
    k: int = TOP_K,
    metric: LensMetric = "margin",
    order: int = 0,
    placement: Placement = "after",
) -> pd.DataFrame:
    """The rows of one item of :class:`LensConditions`; none when no token distinguishes its options."""
    groups = list(_groups(conditions))
    texts_in_turn = [
        (contrast, text) for contrast, group in groups for texts in group for text in texts
    ]
    asked = [
        prompt_and_target(model, item, text, order=order, placement=placement)
        for _, text in texts_in_turn
    ]
    prompts = [prompt for prompt, _, _ in asked]
    targets = [target for _, target, _ in asked if target is not None]
    options = [both for _, _, both in asked if both is not None]
    if not len(targets) == len(options) == len(asked):
        return pd.DataFrame()
    frames: list[pd.DataFrame] = []
    divergences: list[dict[str, FloatArray | float]] = []
    in_turn, clean = each_lens_logits(model, prompts), None
    for contrast, group in groups:
        before = None
        for texts in group:
            found: dict[Condition, LensDistributions] = {}
            for text in texts:
                logits = next(in_turn)
                frames.append(option_readings(logits, targets[len(frames)]))
                found[text] = LensDistributions.of(logits, k=k)
            own = next((x for text, x in found.items() if text.name == "placebo"), None)
            for text, here in found.items():
                partner = before if text.name == "placebo" else own
                divergences.append(_divergences(here, partner, clean))
            before = own
            if contrast == "":
                clean = next(iter(found.values()))
    if metric == "option_margin":
        frames = with_option_margins(frames, model, prompts, options)
    labelled = []
    for frame, (contrast, text), prompt, numbers in zip(
        frames, texts_in_turn, prompts, divergences, strict=True
    ):
        frame.insert(0, "n_tokens", len(prompt))
        labelled.append(_labelled(frame.assign(**numbers), item, text, contrast))
    return pd.concat(labelled, ignore_index=True)


def prompt_and_target(
    model: TransformerBridge,
    item: ChoiceItem,
    condition: Condition,
    *,
    order: int = 0,
    placement: Placement = "after",
) -> tuple[TokenizedPrompt, MarginTarget | None, OptionTokens | None]:
    """The prompt up to where the two options differ, the tokens of its margin, and of the options.

    Raises:
        InterpError: a prompt beyond the context.
    """
    prompt = condition_prompt(model, item, condition, order=order, placement=placement)
    options = option_tokens(model.tokenizer, item, prompt)
    target, shared = target_of_options(item, options)
    if len(shared):
        prompt = prompt.extend(shared, tuple(decode_each(model.tokenizer, shared)))
    require_context(prompt.label, len(prompt), model.cfg.n_ctx)
    require_vocabulary(model.tokenizer, prompt.label, prompt.ids, model.cfg.d_vocab)
    require_target_in_vocabulary(model, target)
    return prompt, target, options


def _groups(conditions: Sequence[Condition]) -> Iterator[tuple[str, list[list[Condition]]]]:
    """The clean prompt first (as contrast ""), then per contrast its texts, slot by slot."""
    contrasts: dict[str, dict[int, list[Condition]]] = {}
    for condition in sorted(conditions, key=lambda c: c.name != "clean"):
        own = "" if condition.name == "clean" else condition.control_of or condition.name
        contrasts.setdefault(own, {}).setdefault(condition.slot, []).append(condition)
    for contrast, slots in contrasts.items():
        yield contrast, list(slots.values())


def _divergences(
    here: LensDistributions, partner: LensDistributions | None, clean: LensDistributions | None
) -> dict[str, FloatArray | float]:
    columns: dict[str, FloatArray | float] = {}
    for other, suffix in ((partner, ""), (clean, "_clean")):
        numbers = None if other is None else compare_distributions(here, other)
        for name in _DIVERGENCES:
            value = np.nan if numbers is None else numbers[name].to_numpy(float)
            columns[f"{name}{suffix}"] = value
    return columns


def _labelled(
    frame: pd.DataFrame, item: ChoiceItem, condition: Condition, contrast: str
) -> pd.DataFrame:
    labels: tuple[str | int, ...] = (
        contrast, condition.name, condition.slot, item.id, item.cluster,
    )  # fmt: skip
    for place, (name, value) in enumerate(zip(_LABELS, labels, strict=False)):
        frame.insert(place, name, value)
    return frame
