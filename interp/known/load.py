"""A compiled model as a bridge, in its own basis or rotated, alone or among noise.

In the compiled basis every dimension of the residual stream is one value of one variable, so that a
method which only looks along axes would find it. A rotation by a random orthogonal matrix takes that
away and changes no number that is computed; there is no normalisation in these models. Noise adds
dimensions that nothing reads: a random vector per token and position, and a random image of what every
head and MLP writes, so that states differ most where nothing depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import native

from interp.errors import InterpError
from interp.known.causal import Program
from interp.known.registry import PROGRAMS, program_of
from interp.known.stored import load_card, load_weights
from interp.known.truth import Truth, TruthEdge, TruthNode, Variable
from interp.models.card import Provenance, attach_card
from interp.models.labels import set_token_names
from interp.stats import rng

NOISE_DIMENSIONS = 16

_READS = ("attn.q.weight", "attn.k.weight", "attn.v.weight", "mlp.fc_in.weight", "head.weight")
_WRITES = ("attn.o.weight", "mlp.fc_out.weight")
_WRITTEN = ("attn.o.bias", "mlp.fc_out.bias", "tok_embed.weight", "pos.weight")


def names() -> tuple[str, ...]:
    """The compiled programs, those that others published first."""
    return tuple(PROGRAMS)


def load_known(
    name: str, *, rotated: bool = False, noise: float = 0.0, seed: int = 0
) -> tuple[TransformerBridge, Truth]:
    """A compiled model, ready for every room, and its truth.

    Args:
        name: one of :func:`names`.
        rotated: turn the residual stream by a random orthogonal matrix.
        noise: size of the noise in 16 dimensions that nothing reads, relative to what is written
            beside it; 0 adds none.
        seed: of the rotation and the noise.

    Raises:
        InterpError: an unknown name, or a noise below 0.

    Example:
        >>> model, truth = load_known("late_rewrite", rotated=True)
        >>> truth.answer(truth.ids(["flip", "a", "b", "?"]))
        'b'
    """
    program = program_of(name)
    if not 0 <= noise < float("inf"):
        raise InterpError(f"load_known: noise is {noise}: give a size of 0 or more")
    card = load_card(name)
    model = _boot(card, NOISE_DIMENSIONS if noise else 0)
    compiled = _boot(card, 0) if noise else model  # the stored weights have no noise beside them
    stored = compiled.original_model.state_dict()
    shapes = {_plain(key): weight.shape for key, weight in stored.items()}
    weights = load_weights(name, shapes)
    basis = _Basis.drawn(int(card["config"]["d_model"]), rotated, noise, seed)
    weights = {key: basis.of(key, weight) for key, weight in weights.items()}
    with torch.no_grad():
        for key, parameter in model.original_model.named_parameters():
            parameter.copy_(weights[_plain(key)])
    model.eval()
    set_token_names(model, card["tokens"])
    varied = f"{', rotated' if rotated else ''}{f', noise {noise:g}' if noise else ''}"
    attach_card(model, Provenance(f"known:{name}{varied}", program.source, "none"))
    return model, _truth(program, card, basis, rotated=rotated, noise=noise)


def _boot(card: Mapping[str, Any], more: int) -> TransformerBridge:
    config = card["config"]
    settings = {
        **config,
        "d_model": config["d_model"] + more,
        "d_vocab": len(card["tokens"]),
        "d_vocab_out": len(card["tokens"]),
        "act_fn": "relu",
        "normalization_type": None,
        "init_weights": False,
    }
    return native.boot(settings, model_name=f"known:{card['name']}")


def _plain(key: str) -> str:
    """A parameter's name in the model that was booted, without the bridge's wrappers."""
    return key.replace("_original_component.", "")


@dataclass(frozen=True)
class _Basis:
    """The residual stream's basis: ``vectors[k]`` is where the compiled dimension k lies.

    ``noise_vectors`` are the directions of the noise, if there is any.
    """

    vectors: Float[Tensor, "compiled d_model"]
    noise_vectors: Float[Tensor, "noise d_model"]
    noise: float
    seed: int

    @classmethod
    def drawn(cls, d_model: int, rotated: bool, noise: float, seed: int) -> _Basis:
        n = d_model + (NOISE_DIMENSIONS if noise else 0)
        vectors = torch.eye(n, dtype=torch.float64)
        if rotated:
            drawn = torch.from_numpy(rng(seed, "rotation").standard_normal((n, n)))
            q, r = torch.linalg.qr(drawn)
            vectors = q * r.diagonal().sign()  # uniform over all orthogonal matrices
        return cls(vectors[:d_model], vectors[d_model:], noise, seed)

    def of(self, key: str, weight: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """A parameter in this basis."""
        if key.endswith(_READS):
            return weight @ self.vectors
        if key.endswith(_WRITES):
            return self._written(key, weight.T).T
        return self._written(key, weight) if key.endswith(_WRITTEN) else weight

    def _written(self, key: str, rows: Float[Tensor, "*row compiled"]) -> Float[Tensor, ...]:
        """Rows that are added to the stream, with noise of their own size beside them."""
        turned = rows @ self.vectors
        if not self.noise or key.endswith("bias"):
            return turned
        drawn = rng(self.seed, "noise", key).standard_normal((len(rows), NOISE_DIMENSIONS))
        size = self.noise * rows.norm(dim=-1, keepdim=True) / NOISE_DIMENSIONS**0.5
        return turned + (size * torch.from_numpy(drawn)) @ self.noise_vectors


def _truth(
    program: Program, card: Mapping[str, Any], basis: _Basis, *, rotated: bool, noise: float
) -> Truth:
    nodes = tuple(_node(program, entry) for entry in card["nodes"])
    writer = {name: node.label for node in nodes for name in node.variables}
    writer |= {"tokens": "embed", "indices": "pos_embed"}
    erased = {name: entry["node"] for entry in card["nodes"] for name in entry["erases"]}
    variables = {
        name: Variable(
            name,
            tuple(entry["values"]),
            basis.vectors[entry["dims"]].float(),
            writer[name],
            program.positions.get(name, ()),
            erased.get(name),
        )
        for name, entry in card["variables"].items()
    }
    return Truth(
        program=program,
        tokens=tuple(card["tokens"]),
        nodes=nodes,
        edges=tuple(TruthEdge(**edge) for edge in card["edges"]),
        variables=variables,
        rotated=rotated,
        noise=noise,
        noise_vectors=basis.noise_vectors.float(),
    )


def _node(program: Program, entry: Mapping[str, Any]) -> TruthNode:
    layer, _, head = entry["node"][1:].removesuffix(" MLP").partition("H")
    where = {p for name in entry["writes"] for p in program.positions.get(name, ())}
    return TruthNode(
        layer=int(layer),
        kind="head" if head else "mlp",
        head=int(head) if head else None,
        variables=tuple(entry["writes"]),
        positions=tuple(sorted(where)),
    )
