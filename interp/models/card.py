"""ModelCard: what a model is, where its weights came from, and the self-checks it passed."""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, Literal
from weakref import WeakKeyDictionary

import pandas as pd
import torch
from transformer_lens.model_bridge import TransformerBridge

from interp.models.chat_template import template_facts
from interp.models.checks import Check, run_checks
from interp.models.fingerprint import (
    WeightsState,
    tokenizer_fingerprint,
    weights_fingerprint,
    weights_state,
)
from interp.models.native import is_native
from interp.models.processing import unknown_processing

ProcessingMode = Literal["raw", "compatibility"]


@dataclass(frozen=True)
class Provenance:
    """Where weights came from: stored with a converted checkpoint and inside the card."""

    name: str
    source: str
    quantisation: str
    weights_sha256: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class ModelCard:
    """Provenance, shape and self-checks of a loaded model.

    ``quantisation`` is the format that the source stores the weights in: a model de-quantised from
    4 bits is not the original checkpoint. ``fingerprint`` identifies the weights whatever the device
    and dtype they are loaded on; ``mode`` says whether TransformerLens's weight processing was applied
    (activations and directions differ between modes).

    The last four say what renders prompts, as the tokenizer is now: ``chat_template_sha256`` of the
    template that is used (the plain one where ``chat_template`` is False); ``tokenizer_sha256``, see
    :func:`~interp.models.fingerprint.tokenizer_fingerprint`; ``template_date``, written as today's by
    a template that writes a date, else None; ``thinking``, how a thought is kept from standing before
    the answer (:class:`~interp.models.chat_template.TemplateFacts`). Empty in cards saved by versions
    that did not record them, and for a model without a tokenizer.
    """

    name: str
    source: str
    quantisation: str
    weights_sha256: str | None
    licence: str | None
    fingerprint: str
    architecture: str
    mode: ProcessingMode
    dtype: str
    device: str
    n_layers: int
    n_heads: int
    n_key_value_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    n_params: int
    chat_template: bool
    versions: dict[str, str]
    checks: tuple[Check, ...]
    chat_template_sha256: str = ""
    tokenizer_sha256: str = ""
    template_date: str | None = None
    thinking: str = ""

    @property
    def one_line(self) -> str:
        """The sentence that opens every report."""
        quantisation = (
            "loaded unquantised"
            if self.quantisation == "none"
            else f"de-quantised from {self.quantisation}"
        )
        mode = "raw weights" if self.mode == "raw" else "TransformerLens compatibility mode"
        dated = f", prompts dated {self.template_date}" if self.template_date else ""
        thinks = self.thinking not in ("", "none")
        thinking = f", thinking: {self.thinking}" if thinks else ""
        return (
            f"{self.name} ({self.n_params / 1e6:.0f}M parameters, {self.n_layers} layers, "
            f"{self.architecture}), {quantisation}, {self.dtype} on {self.device}, {mode}"
            f"{dated}{thinking}"
        )

    @property
    def provenance(self) -> Provenance:
        """Where the weights came from."""
        return Provenance(
            self.name, self.source, self.quantisation, self.weights_sha256, self.licence
        )

    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs to be comparable; JSON-able."""
        keys = ("name", "fingerprint", "mode", "dtype", "device", "quantisation")
        return {key: getattr(self, key) for key in keys}

    def to_dict(self) -> dict[str, Any]:
        """The whole card as JSON-able data; a deviation that is not finite is None."""
        checks = [
            {
                **asdict(check),
                "deviation": check.deviation if math.isfinite(check.deviation) else None,
                "passed": check.passed,
            }
            for check in self.checks
        ]
        return {**asdict(self), "checks": checks}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> ModelCard:
        """The card that :meth:`to_dict` wrote, e.g. the ``model`` of a run's manifest.

        A card of an older version lacks the fields that it did not know: they are empty.
        """
        checks = tuple(
            Check(
                check["name"],
                math.nan if check["deviation"] is None else check["deviation"],
                check["tolerance"],
                check["required"],
            )
            for check in saved["checks"]
        )
        return cls(**{**saved, "checks": checks})

    def to_dataframe(self) -> pd.DataFrame:
        """Two columns, ``property`` and ``value``, checks included."""
        apart = ("versions", "checks")
        unsaid = [name for name in _RENDERING_FIELDS if getattr(self, name) in (None, "")]
        rows = [(k, v) for k, v in asdict(self).items() if k not in (*apart, *unsaid)]
        rows += [(f"version of {k}", v) for k, v in self.versions.items()]
        for check in self.checks:
            verdict = "passed" if check.passed else "not met"
            rows.append((f"check: {check.name}", f"{verdict} ({check.deviation:.1e})"))
        return pd.DataFrame(rows, columns=["property", "value"])

    def __str__(self) -> str:
        return self.to_dataframe().to_string(index=False, header=False)

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):  # a hash is of no use cut short
            table = self.to_dataframe().to_html(index=False, border=0)
        return f"<p><b>{html.escape(self.one_line)}</b></p>{table}"


_RENDERING_FIELDS = ("chat_template_sha256", "tokenizer_sha256", "template_date", "thinking")


@dataclass(frozen=True)
class _Known:
    """The card of a model, the state of the weights it was made for, and names of weights it has had.

    Processed weights go by the fingerprint of the raw ones, and were checked when they were
    processed: ``names`` has both, by what :func:`weights_fingerprint` says of the weights as they are.
    """

    card: ModelCard
    state: WeightsState
    names: dict[str, tuple[str, Check | None]]


_known: WeakKeyDictionary[TransformerBridge, _Known] = WeakKeyDictionary()


def model_card(model: TransformerBridge) -> ModelCard:
    """The card of a model as it is now; made (with its self-checks) for a bridge booted elsewhere.

    What it says of the tokenizer, its template and the date is read at every call. The card is
    renewed, self-checks included, when weights were written to, replaced, converted or moved since
    (:func:`~interp.models.fingerprint.weights_state`), or weight processing was applied.
    A model that was put into compatibility mode by its own method gets the fingerprint of its
    processed weights; ``load_model(model, compatibility_mode=True)`` keeps that of the raw ones.

    Raises:
        InterpError: the model as it is now fails a self-check, or a weight is not finite.
    """
    known = _known.get(model)
    if known is None:
        name = str(model.cfg.model_name)
        provenance = Provenance(name, "a bridge booted by the user", quantisation="none")
        return attach_card(model, provenance)
    if known.card.mode == _mode(model) and known.state == weights_state(model):
        return _follow_tokenizer(model, known)
    return attach_card(model, known.card.provenance)


def attach_card(
    model: TransformerBridge,
    provenance: Provenance,
    *,
    fingerprint: str | None = None,
    processing: Check | None = None,
) -> ModelCard:
    """Run the self-checks, build the card and remember it for this model.

    Args:
        model: the bridge.
        provenance: where its weights came from.
        fingerprint: the name of the weights as they are; None takes :func:`weights_fingerprint`, or
            the name given when they were last the same.
        processing: the check that weight processing passed, with the fingerprint of the raw weights.
    """
    content = weights_fingerprint(model)
    known = _known.get(model)
    names = {} if known is None else known.names
    if fingerprint is not None:
        names = {**names, content: (fingerprint, processing)}
    named, checked = names.get(content, (content, None))
    _follow_weights(model)
    checks = run_checks(model)
    if _mode(model) == "compatibility":
        checks = (*checks, checked or unknown_processing())
    card = _card(model, provenance, named, checks)
    _known[model] = _Known(card, weights_state(model), names)
    return card


def _follow_tokenizer(model: TransformerBridge, known: _Known) -> ModelCard:
    """The card with the tokenizer and template as they are now; the very same where nothing changed."""
    now = _rendering(model.tokenizer)
    if all(getattr(known.card, name) == value for name, value in now.items()):
        return known.card
    card = replace(known.card, **now)
    _known[model] = replace(known, card=card)
    return card


def _rendering(tokenizer: Any) -> dict[str, Any]:
    """The card's fields on what renders prompts."""
    if tokenizer is None:
        unsaid = dict.fromkeys(_RENDERING_FIELDS, "")
        return {**unsaid, "chat_template": False, "template_date": None}
    facts = template_facts(tokenizer)
    return {
        "chat_template": bool(getattr(tokenizer, "chat_template", None)),
        "chat_template_sha256": facts.sha256,
        "tokenizer_sha256": tokenizer_fingerprint(tokenizer),
        "template_date": facts.date,
        "thinking": facts.thinking,
    }


def _follow_weights(model: TransformerBridge) -> None:
    """torch's own methods (half(), cuda()) change the weights, not what the bridge says of them."""
    cfg, weight = model.cfg, next(model.original_model.parameters())
    if weight.is_floating_point():
        cfg.dtype = weight.dtype
    told = torch.device(str(cfg.device))
    if told.type != weight.device.type or told.index not in (None, weight.device.index):
        cfg.device = str(weight.device)


def _card(
    model: TransformerBridge,
    provenance: Provenance,
    fingerprint: str,
    checks: tuple[Check, ...],
) -> ModelCard:
    cfg, wrapped = model.cfg, model.original_model
    config = wrapped.cfg if is_native(model) else wrapped.config
    return ModelCard(
        name=provenance.name,
        source=provenance.source,
        quantisation=provenance.quantisation,
        weights_sha256=provenance.weights_sha256,
        licence=provenance.licence,
        fingerprint=fingerprint,
        architecture=type(wrapped).__name__,
        mode=_mode(model),
        dtype=str(cfg.dtype).removeprefix("torch."),
        device=str(cfg.device),
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_key_value_heads=cfg.n_key_value_heads or cfg.n_heads,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=cfg.d_mlp or 0,
        d_vocab=cfg.d_vocab,
        n_ctx=cfg.n_ctx,
        n_params=count_parameters(type(wrapped), copy.deepcopy(config)),
        versions={name: version(name) for name in ("torch", "transformers", "transformer-lens")},
        checks=checks,
        **_rendering(model.tokenizer),
    )


def _mode(model: TransformerBridge) -> ProcessingMode:
    return "compatibility" if model.compatibility_mode else "raw"


def count_parameters(build: Callable[[Any], torch.nn.Module], config: Any) -> int:
    """Parameters of the published architecture, tied ones once; builds it without memory.

    The bridge's own parameters are no measure: it adds split copies of fused projections, and
    weight processing unties the embeddings.
    """
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(config).parameters())
