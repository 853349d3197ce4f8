"""A second device on a machine without one: what breaks or crawls on a graphics card, seen on the CPU.

Tensors of device ``meta`` whose numbers lie on the CPU (:class:`Elsewhere`). Inside
:class:`OtherDevice` an operation on them with a tensor of the CPU is refused as CUDA refuses it, and
every copy between the two and every number that is read is counted: on a card each of those waits for
the queue.
"""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

NAME = "meta"

_READS = ("_local_scalar_dense", "equal", "is_nonzero", "nonzero")
_ALLOWS_CPU_INDICES = ("index", "index_put", "index_put_", "_index_put_impl_")


class Elsewhere(Tensor):
    """A tensor of the other device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        """Of numbers on the CPU."""
        found: Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=NAME,
            requires_grad=held.requires_grad,
        )
        found.held = held.detach()
        return found

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, Counter(), [])


class OtherDevice(TorchDispatchMode):
    """Inside it the other device exists; ``counts`` of copies ``to`` it, ``from`` it, and ``reads``.

    ``where``: for each of these the line of the library that asked for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made = _MadeOnCpu()
        self.counts: Counter[str] = Counter()
        self.where: list[tuple[str, str]] = []

    def __enter__(self) -> OtherDevice:
        self._made.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._made.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.counts, self.where)


class _MadeOnCpu(TorchFunctionMode):
    """torch leaves out the numbers of ``torch.tensor(..., device="meta")``, of lists as indices and of
    numbers that are set: made here, copied there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.data.__get__ and isinstance(args[0], Elsewhere):  # type: ignore[attr-defined]
            return Elsewhere(args[0].held)
        if func is Tensor.data.__set__ and isinstance(args[0], Elsewhere):  # type: ignore[attr-defined]
            args[0].held = args[1].held
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Elsewhere):
            whole = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(one) if isinstance(one, list) else one for one in whole)
            values = (
                torch.tensor(one, dtype=args[0].dtype) if isinstance(one, int | float) else one
                for one in args[2:]
            )
            args = (args[0], index, *values)
        return func(*args, **kwargs)


def moved(model: Any) -> Any:
    """The model with its weights on the other device, in place."""
    done: dict[int, Tensor] = {}
    for module in [*model.modules(), *model.original_model.modules()]:
        for stored in (module._parameters, module._buffers):
            for name, tensor in stored.items():
                if tensor is None or isinstance(tensor, Elsewhere):
                    continue
                if id(tensor) not in done:
                    there: Tensor = Elsewhere(tensor)
                    if isinstance(tensor, torch.nn.Parameter):
                        there = torch.nn.Parameter(there, requires_grad=tensor.requires_grad)
                    done[id(tensor)] = there
                stored[name] = done[id(tensor)]
    model.cfg.device = NAME
    return model


def _run(
    func: Any,
    args: Any,
    kwargs: dict[str, Any],
    counts: Counter[str],
    where: list[tuple[str, str]],
) -> Any:
    name = func.overloadpacket.__name__
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    there = [t for t in tensors if isinstance(t, Elsewhere)]
    here = [t for t in tensors if not isinstance(t, Elsewhere)]
    asked = kwargs.get("device")
    to = bool(there) if asked is None else torch.device(asked).type == NAME

    def count(kind: str) -> None:
        counts[kind] += 1
        where.append((kind, _caller()))

    if there and name in _READS:
        count("reads")
    if name in ("_to_copy", "copy_", "to"):
        source = isinstance(tensors[-1], Elsewhere)
        target = isinstance(tensors[0], Elsewhere) if name == "copy_" else to
        if source != target:
            count("to" if target else "from")
        to = target
    elif there and here and name in _ALLOWS_CPU_INDICES:
        count("to")
    elif there and any(t.ndim for t in here):
        raise RuntimeError(
            f"{name}: Expected all tensors to be on the same device, but found at least two devices, "
            "cpu and the other one"
        )
    if asked is not None:
        kwargs = {**kwargs, "device": "cpu"}
    own: dict[int, Tensor] = {id(t.held): t for t in there}
    plain_args, plain_kwargs = tree_map_only(Elsewhere, lambda t: t.held, (args, kwargs))
    out = func(*plain_args, **plain_kwargs)
    if not to:
        return out

    def wrap(tensor: Tensor) -> Tensor:
        return own.get(id(tensor)) if id(tensor) in own else Elsewhere(tensor)  # type: ignore[return-value]

    return tree_map_only(Tensor, wrap, out)


def _caller() -> str:
    for frame in reversed(traceback.extract_stack(limit=40)):
        if "/interp/" in frame.filename:
            return f"{frame.filename.partition('/interp/')[2]}:{frame.lineno} {frame.line}"
    return "elsewhere"
