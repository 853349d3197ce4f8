"""One program through Tracr: weights of a native bridge, and what they mean.

Which head or MLP computes which variable, and what it reads, is taken from the compiled weights: every
dimension of the residual stream carries the label of one value of one variable.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tracr.compiler import compiling

from analyses.known.asked import BUILD  # those of `programs` among them
from interp.known.causal import BOS, Program

Array: TypeAlias = npt.NDArray[np.float64]

_LABEL = re.compile(r"(?P<name>.+?)_\d+(?P<width>_selector_width_attn_output)?$")
_EMBEDDED = {"tokens": "embed", "indices": "pos_embed"}
_ZERO, _VALUE = "zero", "value"


@dataclass(frozen=True)
class Compiled:
    """Weights by the names of a native bridge's parameters, and the card's data."""

    weights: dict[str, Array]
    card: dict[str, Any]


def compile_program(program: Program) -> Compiled:
    """Compile a program with causal attention, its inputs' tokens as the vocabulary."""
    inputs = sorted({token for allowed in program.inputs for token in allowed})
    length = len(program.inputs)
    model = compiling.compile_rasp_to_model(
        BUILD[program.name](), set(inputs), length, causal=True, compiler_bos=BOS
    )
    names, values = _parse(model.residual_labels)
    weights = _weights(model, length)
    dims = {
        name: [d for d, own in enumerate(names) if own == name] for name in dict.fromkeys(names)
    }
    answers = [_ZERO, _VALUE] if program.value else [values[d] for d in dims[program.answer]]
    tokens = list(dict.fromkeys([BOS, *inputs, *answers]))
    weights["tok_embed.weight"] = _embedding(model, tokens)
    unembedding = np.zeros((len(tokens), len(names)))
    for dim, answer in zip(
        dims[program.answer], answers[-len(dims[program.answer]) :], strict=True
    ):
        unembedding[tokens.index(answer), dim] = 1
    weights["head.weight"] = unembedding
    heads = int(model.model_config.num_heads)
    graph = _Graph(program, weights, names, values, heads)
    config = model.model_config
    card = {
        "name": program.name,
        "description": program.description,
        "source": program.source,
        "layout": program.layout,
        "inputs": program.inputs,
        "answer": program.answer,
        "positions": program.positions,
        "backups": program.backups,
        "shares": program.shares,
        "tokens": tokens,
        "config": {
            "n_layers": int(config.num_layers),
            "n_heads": heads,
            "d_head": int(config.key_size),
            "d_mlp": int(config.mlp_hidden_size),
            "d_model": len(names),
            "n_ctx": length + 1,
        },
        "variables": {
            name: {"dims": where, "values": [v for d in where if (v := values[d])]}
            for name, found in dims.items()
            if name != "one"
            and (where := [d for d in found if values[d] != compiling.COMPILER_PAD])
        },
        "nodes": [
            {"node": node, "writes": writes, "erases": graph.erases.get(node, [])}
            for node, writes in graph.writes.items()
        ],
        "edges": [asdict(edge) for edge in graph.edges()],
    }
    return Compiled({name: weights[name] for name in sorted(weights)}, card)


def _parse(labels: list[str]) -> tuple[list[str], list[str]]:
    """The variable of every dimension, and its value ("" for a number)."""
    names, values = [], []
    for label in labels:
        expression, _, value = label.partition(":")
        found = _LABEL.match(expression)
        name = expression if found is None else found["name"]
        names.append(f"{name}_width" if found is not None and found["width"] else name)
        values.append(value)
    return names, values


def _weights(model: Any, length: int) -> dict[str, Array]:
    params = {
        f"{module}/{kind}": np.asarray(array, dtype=np.float64)
        for module, arrays in model.params.items()
        for kind, array in arrays.items()
    }
    weights = {"pos.weight": params["pos_embed/embeddings"][: length + 1]}
    parts = {
        "attn.q": "attn/query", "attn.k": "attn/key", "attn.v": "attn/value", "attn.o": "attn/linear",
        "mlp.fc_in": "mlp/linear_1", "mlp.fc_out": "mlp/linear_2",
    }  # fmt: skip
    for layer in range(int(model.model_config.num_layers)):
        for ours, theirs in parts.items():
            prefix = f"transformer/layer_{layer}/{theirs}"
            weights[f"layers.{layer}.{ours}.weight"] = params[f"{prefix}/w"].T
            weights[f"layers.{layer}.{ours}.bias"] = params[f"{prefix}/b"]
    return weights


def _embedding(model: Any, tokens: list[str]) -> Array:
    """Rows in our order; a token that only answers is nothing to the program."""
    known = model.input_encoder.encoding_map
    rows = np.asarray(model.params["token_embed"]["embeddings"], dtype=np.float64)
    return np.stack([rows[known[t]] if t in known else np.zeros(rows.shape[1]) for t in tokens])


@dataclass(frozen=True)
class _Edge:
    """What a node reads of another: ``input`` is q, k, v, mlp or logits."""

    source: str
    destination: str
    variable: str
    input: str
    used: bool


class _Graph:
    """Which node writes which variables, and which it reads."""

    def __init__(
        self,
        program: Program,
        weights: dict[str, Array],
        names: list[str],
        values: list[str],
        n_heads: int,
    ) -> None:
        self._program, self._weights, self._n_heads = program, weights, n_heads
        self._dims: dict[str, list[int]] = defaultdict(list)
        for dim, (name, value) in enumerate(zip(names, values, strict=True)):
            # what stands at the BOS or in padding is the compiler's matter
            if name != "one" and not (name == "tokens" and value in (BOS, compiling.COMPILER_PAD)):
                self._dims[name].append(dim)
        self._n_layers = 1 + max(
            int(key.split(".")[1]) for key in weights if key.startswith("layers.")
        )
        self.writes: dict[str, list[str]] = {}
        self.erases: dict[str, list[str]] = {}
        self._writer: dict[str, str] = {}
        for layer in range(self._n_layers):
            for head in range(n_heads):
                self._enter(f"L{layer}H{head}", self._ov(layer, head))
            self._enter(f"L{layer} MLP", self._weights[f"layers.{layer}.mlp.fc_out.weight"].T)

    def edges(self) -> list[_Edge]:
        """Every edge along which the weights carry a variable."""
        found: list[_Edge] = []
        for node, written in self.writes.items():
            layer, _, head = node[1:].removesuffix(" MLP").partition("H")
            if head:
                read = self._head_reads(int(layer), int(head), written)
            else:
                read = self._mlp_reads(int(layer), written)
            found += [self._edge(name, node, kind, result) for name, kind, result in read]
        answer = self._program.answer
        return [*dict.fromkeys(found), self._edge(answer, "logits", "logits", answer)]

    def _edge(self, variable: str, node: str, kind: str, result: str) -> _Edge:
        own = self._program.positions
        used = result in own and (variable in own or variable in _EMBEDDED)
        source = _EMBEDDED.get(variable) or self._writer[variable]
        return _Edge(source, node, variable, kind, used)

    def _enter(self, node: str, rows: Array) -> None:
        written = [name for name, dims in self._dims.items() if rows[:, dims].any()]
        new = [name for name in written if name not in self._writer]
        self._writer.update(dict.fromkeys(new, node))
        if new:
            self.writes[node] = new
        # the head of a selector's width leaves a number that the MLP takes away again
        if len(new) < len(written):
            self.erases[node] = [name for name in written if name not in new]

    def _head(self, layer: int, head: int, part: str) -> Array:
        """A head's weights as ``[d_model, d_head]``, transposed for the output."""
        weight = self._weights[f"layers.{layer}.attn.{part}.weight"]
        rows = weight.T if part == "o" else weight
        size = len(rows) // self._n_heads
        return rows[head * size : (head + 1) * size].T

    def _ov(self, layer: int, head: int) -> Array:
        return self._head(layer, head, "v") @ self._head(layer, head, "o").T

    def _head_reads(self, layer: int, head: int, written: list[str]) -> list[tuple[str, str, str]]:
        scores = self._head(layer, head, "q") @ self._head(layer, head, "k").T
        moved = self._ov(layer, head)
        found = []
        for name, dims in self._dims.items():
            # a selector that does not depend on a value scores all values alike
            for kind, rows in (("q", scores[dims]), ("k", scores[:, dims].T)):
                if rows.any() if len(dims) == 1 else np.ptp(rows, axis=0).any():
                    found.append((name, kind, written[0]))
            if moved[dims].any():
                found.append((name, "v", written[0]))
        return found

    def _mlp_reads(self, layer: int, written: list[str]) -> list[tuple[str, str, str]]:
        into = np.abs(self._weights[f"layers.{layer}.mlp.fc_in.weight"]).T
        out = np.abs(self._weights[f"layers.{layer}.mlp.fc_out.weight"]).T
        return [
            (name, "mlp", result)
            for result in written
            for name, dims in self._dims.items()
            if (into[dims] @ out[:, self._dims[result]]).any()
        ]
