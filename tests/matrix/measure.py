"""One row of the matrix: a class in a number type and a mode, and how far each operation is off.

Every operation is done the library's way and the plain way (Hugging Face's own model, one prompt at a
time, one forward per patched cell, PyTorch's gradients), and the largest difference is reported:

- in float32 relative to the scale of what is compared (the range of the log-probabilities, the largest
  patching effect);
- in bfloat16 in units of the plain way's own rounding error: its largest distance from itself in
  float32. The weights are the same, since they are made in bfloat16.

Logits are compared as log-probabilities, which compatibility mode leaves as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

from interp.behaviour.generation import Decoding, generate
from interp.directions import DirectionFacts, decompose
from interp.directions.direction import Direction
from interp.errors import InterpError
from interp.lens.trajectory import lens_logits
from interp.models import forward, load_model, model_card
from interp.models.packed import supports_packing
from interp.models.verdicts import forget
from interp.patching import attribute, knockout, sweep
from interp.prompts import PromptPair, make_pair
from tests.conftest import make_tokenizer
from tests.matrix.configs import N_LAYERS, WINDOW, tiny_config
from tests.matrix.plain import FIRST, LENGTH, hf_log_probs, hf_sweep, layer_inputs, log_probs

Dtype = Literal["float32", "bfloat16"]

SITES = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "z", "v")
SEEDS = 3
TOLERANCE: dict[str, float] = {"float32": 1e-4, "bfloat16": 4.0}
"""Largest difference that is rounding, in the unit of the type."""

_ROUNDED_TWICE = 2
"""Compatibility mode processes weights in float32 and rounds them to bfloat16 again."""

_NEW = 6


@dataclass
class Row:
    """A class in one type and mode.

    ``distances`` of the two ways by operation, and their ``units``; ``notes``: what fell back or was
    refused, in the library's words; ``errors``: exceptions that are none of ours.
    """

    class_name: str
    dtype: Dtype
    compatibility: bool
    refusal: str = ""
    distances: dict[str, float] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def differences(self) -> dict[str, float]:
        """By operation, in its unit."""
        return {name: far / self.units[_kind(name)] for name, far in self.distances.items()}

    @property
    def faults(self) -> list[str]:
        """What must not be: exceptions that are none of ours, and differences beyond rounding."""
        limit = TOLERANCE[self.dtype] * (_ROUNDED_TWICE if self.compatibility else 1)
        beyond = [
            f"{name} off by {value:.2g}"
            for name, value in self.differences.items()
            if not value <= limit
        ]
        return [*self.errors, *beyond]

    def note(self, text: str) -> None:
        """Add a note once."""
        if text not in self.notes:
            self.notes.append(text)

    def error(self, text: str) -> None:
        """Add an error once."""
        if text not in self.errors:
            self.errors.append(text)


@dataclass
class _Compared:
    """An operation both ways; ``scale``: of what is compared."""

    found: Tensor
    plain: Tensor
    scale: float


_Plain = dict[str, Tensor]


def build_folder(class_name: str, folder: Path) -> Path:
    """A tiny random model of a class, its weights exact in bfloat16, with a tokenizer.

    Raises:
        ImportError: transformers needs a package for this class that is not installed.
    """
    tokenizer = make_tokenizer()
    config = tiny_config(class_name, len(tokenizer))
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases as in a trained model, not all 1 and 0
                parameter += 0.3 * torch.randn_like(parameter)
            parameter.copy_(parameter.bfloat16().to(parameter.dtype))
    model.config.architectures = [class_name]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def measure_class(class_name: str, folder: Path) -> list[Row]:
    """The rows of a class: raw and compatibility mode, each in float32 and bfloat16."""
    rows = []
    try:
        build_folder(class_name, folder)
    except ImportError as error:
        needs = " ".join(str(error).split())[:120]
        return [Row(class_name, "float32", False, refusal=f"not built here: {needs}")]
    for compatibility in (False, True):
        exact: _Plain = {}
        for dtype in ("float32", "bfloat16"):
            row = Row(class_name, dtype, compatibility)
            exact = _measure_row(row, folder, exact)
            rows.append(row)
    return rows


def _measure_row(row: Row, folder: Path, exact: _Plain) -> _Plain:
    """Fill a row; returns the plain results, which the other type is compared with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = load_model(folder, dtype=row.dtype, compatibility_mode=row.compatibility)
        except InterpError as refusal:
            row.refusal = str(refusal).replace(f"{folder}: ", "")
            return {}
        except Exception as error:
            row.error(f"load: {_line(error)}")
            return {}
        hf = getattr(transformers, row.class_name).from_pretrained(
            folder, dtype=getattr(torch, row.dtype), attn_implementation=_attention(model)
        )
        hf.eval()
        plain: _Plain = {}
        seeds = SEEDS if row.dtype == "float32" and not row.compatibility else 1
        for seed in range(seeds):
            forget(model)
            for name, operation in _operations(model, hf, seed, row).items():
                _compare(row, name, f"{name} {seed}", operation, plain, exact)
    return plain


def _attention(model: Any) -> str:
    return str(model.original_model.config._attn_implementation)


def _compare(
    row: Row,
    name: str,
    key: str,
    operation: Callable[[], _Compared],
    plain: _Plain,
    exact: _Plain,
) -> None:
    try:
        compared = operation()
    except InterpError as refusal:
        row.note(f"{name}: {refusal}")
        return
    except Exception as error:
        row.error(f"{name}: {_line(error)}")
        return
    plain[key] = compared.plain
    distance = float((compared.found - compared.plain).abs().max())
    unit = compared.scale
    if row.dtype == "bfloat16":
        if key not in exact:
            row.error(f"{name}: done in bfloat16, though not in float32")
            return
        rounding = float((compared.plain - exact[key]).abs().max())
        unit = max(rounding, torch.finfo(torch.bfloat16).eps * compared.scale)
    worst = float("inf") if distance != distance else distance
    row.distances[name] = max(worst, row.distances.get(name, 0.0))
    row.units[_kind(name)] = max(unit, row.units.get(_kind(name), 1e-30))


def _kind(name: str) -> str:
    """Effects of patches are one kind of number: they share a unit."""
    return "patched margins" if name.startswith(("sweep", "knockout")) else name


def _operations(model: Any, hf: Any, seed: int, row: Row) -> dict[str, Callable[[], _Compared]]:
    pair = _pair(model, hf, seed)
    prompts = _prompts(seed)
    operations: dict[str, Callable[[], _Compared]] = {
        "forward": lambda: _forward(model, hf, prompts),
        "packed": lambda: _packed(model, prompts, row),
    }
    for site in SITES:
        operations[f"sweep {site}"] = lambda site=site: _sweep(model, hf, pair, site, row)
    operations |= {
        "knockout": lambda: _knockout(model, pair, row),
        "attribution": lambda: _attribution(model, hf, pair),
        "decompose": lambda: _decompose(model, pair, row),
        "lens": lambda: _lens(model, pair),
        "generation": lambda: _generation(model, hf, pair),
    }
    return operations


def _tokens(n: int, seed: int) -> Tensor:
    return torch.randint(2, 300, (n,), generator=torch.Generator().manual_seed(seed))


def _prompts(seed: int) -> list[Tensor]:
    """Short ones with a common beginning, and one longer than the windows."""
    stem = _tokens(4, 10 + seed)
    tails = [_tokens(n, 20 * k + seed) for k, n in enumerate((8, 4, 7, 1))]
    return [torch.cat([stem, tail]) for tail in tails] + [_tokens(2 * WINDOW, 30 + seed)]


def _pair(model: Any, hf: Any, seed: int) -> PromptPair:
    """Two prompts that part at one position, and a margin of the two likeliest tokens."""
    source = _tokens(LENGTH, 40 + seed)
    destination = source.clone()
    destination[FIRST:-2] += 1
    with torch.no_grad():
        logits = hf(input_ids=destination[None], use_cache=False).logits[0, -1]
    a, b = (int(k) for k in logits.topk(2).indices)
    pair = make_pair(model, source, destination, target=(a, b))
    spans = {"instruction": slice(6, FIRST), "question": slice(FIRST, LENGTH)}
    return replace(pair, destination=replace(pair.destination, spans=spans))


def _range(values: Tensor) -> float:
    return float(values.max() - values.min())


def _ours(model: Any, prompts: list[Tensor], row: Row | None = None) -> Tensor:
    places = [(k, p) for k, ids in enumerate(prompts) for p in range(len(ids))]
    outputs = forward(model, prompts, logits_at=places)
    for note in outputs.notes if row is not None else ():
        row.note(note)
    return log_probs(outputs.logits)


def _forward(model: Any, hf: Any, prompts: list[Tensor]) -> _Compared:
    found = torch.cat([_ours(model, [ids]) for ids in prompts])
    plain = torch.cat([hf_log_probs(hf, ids) for ids in prompts])
    return _Compared(found, plain, _range(plain))


def _packed(model: Any, prompts: list[Tensor], row: Row) -> _Compared:
    """Those within every window together, then all."""
    if not supports_packing(model, WINDOW):
        row.note("one prompt per forward")
    short = _ours(model, prompts[:-1], row)
    found = torch.cat([short, _ours(model, prompts, row)])
    plain = [_ours(model, [ids]) for ids in prompts]
    both = torch.cat([*plain[:-1], *plain])
    return _Compared(found, both, _range(both))


def _sweep(model: Any, hf: Any, pair: PromptPair, site: Any, row: Row) -> _Compared:
    """The last layer alone first, then all: a verdict on one must not hold for the others."""
    last = sweep(model, pair, site=site, layers=[N_LAYERS - 1], progress=False)
    result = sweep(model, pair, site=site, progress=False)
    for note in result.notes:
        row.note(note)
    if site == "resid_pre":
        plain = hf_sweep(model, hf, pair)
    else:
        plain = sweep(model, pair, site=site, method="hooked", progress=False).values
    found = torch.cat([last.values.flatten(), result.values.flatten()])
    both = torch.cat([plain[-1].flatten(), plain.flatten()])
    assert result.baseline is not None
    return _Compared(found, both, float((both - result.baseline.flatten()[0]).abs().max()))


def _knockout(model: Any, pair: PromptPair, row: Row) -> _Compared:
    result = knockout(model, pair, progress=False)
    for note in result.notes:
        row.note(note)
    plain = knockout(model, pair, method="hooked", progress=False)
    assert plain.baseline is not None
    base = plain.baseline.flatten()[0]
    values = plain.values.flatten()
    return _Compared(result.values.flatten(), values, float((values - base).abs().max()))


def _attribution(model: Any, hf: Any, pair: PromptPair) -> _Compared:
    """Against PyTorch's gradients at the inputs of Hugging Face's own layers."""
    result = attribute(model, pair, sites=["resid_pre"], progress=False)["resid_pre"]
    found = (result.values - result.baseline).flatten()
    source, _ = layer_inputs(hf, model, pair, pair.source.ids)
    states, margin = layer_inputs(hf, model, pair, pair.destination.ids)
    gradients = torch.autograd.grad(margin, states)
    cells = [
        ((there - here).detach().float() * gradient.float())[0].sum(-1)[FIRST:]
        for there, here, gradient in zip(source, states, gradients, strict=True)
    ]
    plain = torch.stack(cells).flatten()
    return _Compared(found[: len(plain)], plain, float(plain.abs().max()))


def _decompose(model: Any, pair: PromptPair, row: Row) -> _Compared:
    card = model_card(model)
    vector = torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(1))
    facts = DirectionFacts("mean_difference", "own", "0", 2, card.fingerprint, card.mode)
    direction = Direction(vector / vector.norm(), 1.0, 0.0, N_LAYERS - 1, "resid_post", facts)
    parts = decompose(model, pair, direction, progress=False)
    values = torch.from_numpy(parts.values).double()
    return _Compared(values.sum(-1), torch.from_numpy(parts.totals).double(),
                     float(values.abs().sum(-1).max()))  # fmt: skip


def _lens(model: Any, pair: PromptPair) -> _Compared:
    found = log_probs(lens_logits(model, pair.destination)[-1])
    plain = _ours(model, [pair.destination.ids])[-1]
    return _Compared(found, plain, _range(plain))


def _generation(model: Any, hf: Any, pair: PromptPair) -> _Compared:
    """How much less likely than the likeliest a token of ours is under Hugging Face's model.

    Together with another prompt, and by itself. Hugging Face's model sees no token before it is
    chosen: some attention (GLM's sparse one) lets later tokens change earlier logits.
    """
    decoding = Decoding(max_new_tokens=_NEW)
    both = [pair.source, pair.destination]
    together = generate(model, both, decoding=decoding, stop_ids=())
    alone = [generate(model, [prompt], decoding=decoding, stop_ids=())[0] for prompt in both]
    gaps, plain = [], []
    for generation in [*together, *alone]:
        ids = generation.full_prompt.ids
        steps = torch.stack([hf_log_probs(hf, ids[:k])[-1] for k in range(LENGTH, len(ids))])
        chosen = steps.gather(1, generation.ids[:, None])[:, 0]
        plain.append(steps.max(-1).values)
        gaps.append(chosen)
    return _Compared(torch.cat(gaps), torch.cat(plain), _range(torch.cat(plain + gaps)) or 1.0)


def _line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:120]}"
