"""What is known of a compiled model: its program, and where in the weights each variable lives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.display import short_repr
from interp.errors import InterpError
from interp.known.causal import BOS, Program, ProgramRun
from interp.stats import rng

Answer: TypeAlias = str | float
"""A token's name, or the number that a program of numbers gives."""


@dataclass(frozen=True)
class TruthNode:
    """A head or an MLP, the variables it computes, and where these can change the answer.

    ``used`` is false for a node that computes something and changes no answer.
    """

    layer: int
    kind: Literal["head", "mlp"]
    head: int | None
    variables: tuple[str, ...]
    positions: tuple[int, ...]

    @property
    def used(self) -> bool:
        """Whether the answer depends on it."""
        return bool(self.positions)

    @property
    def label(self) -> str:
        """``L0H1`` or ``L0 MLP``."""
        return f"L{self.layer}{' MLP' if self.head is None else f'H{self.head}'}"

    @property
    def hook(self) -> str:
        """TransformerLens's hook of its output; of a head the head's index in ``hook_z``."""
        place = "hook_mlp_out" if self.kind == "mlp" else "attn.hook_z"
        return f"blocks.{self.layer}.{place}"


@dataclass(frozen=True)
class TruthEdge:
    """A variable that one node writes and another reads.

    ``source`` and ``destination`` are labels of nodes, or ``embed``, ``pos_embed`` and ``logits``;
    ``input`` is ``q``, ``k``, ``v``, ``mlp`` or ``logits``. ``used``: the answer can depend on it.
    """

    source: str
    destination: str
    variable: str
    input: str
    used: bool


@dataclass(frozen=True, eq=False)
class Variable:
    """Where a variable lives in the residual stream.

    A variable of tokens has one unit vector per value, orthogonal to each other and to those of all
    other variables; a number has one vector, whose coordinate is the number. ``node`` writes it
    (``embed`` and ``pos_embed`` for tokens and indices); it stays from there on, unless ``erased_by``
    takes it away.
    """

    name: str
    values: tuple[str, ...]
    vectors: Float[Tensor, "value d_model"]
    node: str
    positions: tuple[int, ...]
    erased_by: str | None = None

    __repr__ = short_repr

    @property
    def is_number(self) -> bool:
        """Whether it is one number per position."""
        return not self.values

    def direction(self, plus: str | None = None, minus: str | None = None) -> Tensor:
        """The unit vector ``[d_model]`` from one value to another; of a number its own, without values.

        Raises:
            InterpError: a value that the variable does not have.
        """
        if self.is_number:
            return self.vectors[0]
        for value in (plus, minus):
            if value not in self.values:
                raise InterpError(
                    f"variable {self.name!r} has no value {value!r}; it has {', '.join(self.values)}"
                )
        apart = self.vectors[self.values.index(str(plus))]
        apart = apart - self.vectors[self.values.index(str(minus))]
        return apart / apart.norm()

    def state(self, value: object) -> Float[Tensor, " d_model"]:
        """What the variable adds to the residual stream where it has this value; None adds nothing."""
        if value is None:
            return torch.zeros_like(self.vectors[0])
        if self.is_number:
            return float(str(value)) * self.vectors[0]
        return self.vectors[self.values.index(str(value))]


@dataclass(frozen=True, eq=False)
class Truth:
    """All that is known of one compiled model.

    ``tokens``: the names of the token ids, which are also those of the logits. ``nodes`` and ``edges``
    are everything the weights do; their ``used`` says what the answer depends on.
    ``nodes`` in a group of ``program.backups`` change nothing alone where another group suffices.
    """

    program: Program
    tokens: tuple[str, ...]
    nodes: tuple[TruthNode, ...]
    edges: tuple[TruthEdge, ...]
    variables: Mapping[str, Variable]
    rotated: bool
    noise: float
    noise_vectors: Float[Tensor, "noise d_model"]

    __repr__ = short_repr

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def used_nodes(self) -> tuple[TruthNode, ...]:
        """The nodes on which the answer depends."""
        return tuple(node for node in self.nodes if node.used)

    @property
    def spans(self) -> dict[str, slice]:
        """The roles of the positions, for :func:`interp.make_pair`."""
        return {role: slice(k, k + 1) for k, role in enumerate(self.program.layout)}

    def node_of(self, variable: str) -> TruthNode:
        """The node that computes a variable.

        Raises:
            InterpError: no node computes a variable of this name.
        """
        for node in self.nodes:
            if variable in node.variables:
                return node
        known = ", ".join(v for node in self.nodes for v in node.variables)
        raise InterpError(f"no node of {self.name} computes {variable!r}; computed are {known}")

    def inputs(self, limit: int | None = 200, *, seed: int = 0) -> list[Int[Tensor, " pos"]]:
        """All inputs of the program, or as many drawn at random without replacement."""
        allowed = self.program.inputs
        total = 1
        for tokens in allowed:
            total *= len(tokens)
        every = itertools.product(*allowed)
        if limit is None or total <= limit:
            return [self.ids(tokens) for tokens in every]
        wanted = set(rng(seed, "inputs", self.name).choice(total, limit, replace=False).tolist())
        return [self.ids(tokens) for k, tokens in enumerate(every) if k in wanted]

    def ids(self, tokens: Sequence[str]) -> Int[Tensor, " pos"]:
        """Token ids of an input, the BOS put in front.

        Raises:
            InterpError: another number of tokens than the program takes, or an unknown one.
        """
        if len(tokens) != len(self.program.inputs):
            raise InterpError(
                f"{self.name} takes {len(self.program.inputs)} tokens, not {len(tokens)}"
            )
        unknown = [token for token in tokens if token not in self.tokens]
        if unknown:
            raise InterpError(
                f"{self.name} has no token {unknown[0]!r}; it has {', '.join(self.tokens)}"
            )
        return torch.tensor([self.tokens.index(token) for token in (BOS, *tokens)])

    def run(
        self,
        ids: Int[Tensor, " pos"],
        *,
        source: Int[Tensor, " pos"] | None = None,
        variables: Sequence[str] = (),
        positions: Sequence[int] | None = None,
    ) -> ProgramRun:
        """The program on an input, with ``variables`` taken from the run of a ``source``.

        Args:
            ids: the input.
            source: another input.
            variables: what is taken from it.
            positions: where; None: everywhere.
        """
        taken: dict[str, dict[int, object]] = {}
        if source is not None:
            found = self.program.run(self._names(source)).values
            places = range(len(ids)) if positions is None else positions
            taken = {name: {p: found[name][p] for p in places} for name in variables}
        return self.program.run(self._names(ids), taken)

    def answer(
        self,
        ids: Int[Tensor, " pos"],
        *,
        source: Int[Tensor, " pos"] | None = None,
        variables: Sequence[str] = (),
        positions: Sequence[int] | None = None,
    ) -> Answer:
        """What the model answers at the last position, of an interchange too: see :meth:`run`."""
        run = self.run(ids, source=source, variables=variables, positions=positions)
        value = run.values[self.program.answer][-1]
        return float(value) if self.program.value else str(value)

    def logits(self, answer: Answer) -> Float[Tensor, " d_vocab"]:
        """The logits that stand for an answer: 1 at its token; a number at the token ``value``."""
        logits = torch.zeros(len(self.tokens))
        if isinstance(answer, str):
            logits[self.tokens.index(answer)] = 1.0
        else:
            logits[self.tokens.index("value")] = answer
        return logits

    def target(self, source: Answer, destination: Answer) -> tuple[int, int]:
        """The tokens of the margin that tells two answers apart, for :func:`interp.make_pair`.

        The source's answer minus the destination's; of numbers ``value`` minus ``zero``.
        """
        names = ("value", "zero") if self.program.value else (str(source), str(destination))
        return self.tokens.index(names[0]), self.tokens.index(names[1])

    def _names(self, ids: Int[Tensor, " pos"]) -> tuple[str, ...]:
        return tuple(self.tokens[int(i)] for i in ids)
