"""The checkpoint behind a model: every weight comes from its files, or the load is refused.

``from_pretrained`` fills a weight that the files lack with random numbers and drops what it has no
place for, and goes on. It reports both, after weights tied to others and buffers that are computed
have been taken off, for folders, hub ids and GGUF files alike. Here this report decides:

- A missing weight, or one of another shape, refuses the load; a buffer that no layer has stored is
  a constant. A prefix that ``torch.compile``,
  ``DistributedDataParallel`` or FSDP left on the names is named as the cause.
- A stored weight that belongs *inside* the decoder and finds no place there refuses the load too: a
  layer beyond ``num_hidden_layers``, a bias of a linear map that the config builds without one, an
  adapter that was never merged. The model would compute something else than the checkpoint.
- Anything else stored beside the complete model (a value head, a vision tower) is no fault;
  transformers' own warning lists it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from torch import nn

from interp.errors import InterpError

_WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, DistributedDataParallel and FSDP put into names."""

_SHOWN = 3


class CompleteLoader:
    """A transformers model class whose ``from_pretrained`` refuses an incomplete checkpoint.

    ``finished``: whether a complete one was read.
    """

    def __init__(self, model_class: Any) -> None:
        self._model_class = model_class
        self.finished = False

    def from_pretrained(self, source: str, **options: Any) -> Any:
        """As that of the class; adds that the loading report must be clean.

        Raises:
            InterpError: weights are missing, misshapen or without a place; names them.
        """
        if "torch_dtype" in options:  # the old name, about which transformers warns
            options["dtype"] = options.pop("torch_dtype")
        model, report = self._model_class.from_pretrained(
            source, **options, output_loading_info=True, ignore_mismatched_sizes=True
        )
        require_complete(options.get("gguf_file", source), model, report)
        self.finished = True
        return model


def require_complete(source: str, model: nn.Module, report: dict[str, Any]) -> None:
    """Refuse a model some of whose weights are not those of its checkpoint.

    Args:
        source: what was loaded, for the message.
        model: the model as ``from_pretrained`` returned it.
        report: its ``output_loading_info``.

    Raises:
        InterpError: weights are missing, misshapen or without a place; names them.
    """
    missing = set(report["missing_keys"])
    missing -= _computed(model, missing)
    unexpected = set(report["unexpected_keys"])
    mismatched = sorted(report["mismatched_keys"])
    missing -= {name for name, *_ in mismatched}
    errors = [*report.get("error_msgs", ())]
    if missing:
        prefix = _prefix(missing, unexpected)
        if prefix is not None:
            raise InterpError(
                f"{source}: the names of the stored weights contain {prefix!r}, which the model's do "
                f"not ({_listed(unexpected)}), so that {len(missing)} weights would be random "
                f"numbers: take {prefix!r} out of the names and save the checkpoint again"
            )
        spare = f"; stored but of no use: {_listed(unexpected)}" if unexpected else ""
        raise InterpError(
            f"{source}: {_count(missing)} missing from the weight files and would be random numbers: "
            f"{_listed(missing)}{spare}; fetch or save the checkpoint again, with the names that "
            f"{type(model).__name__} gives its weights"
        )
    if mismatched:
        name, stored, built = mismatched[0]
        raise InterpError(
            f"{source}: weight {name} has shape {list(stored)} in the files and {list(built)} by "
            f"config.json ({_count([m[0] for m in mismatched])} of another shape): the two do not "
            "belong together; fetch the model again"
        )
    if errors:
        raise InterpError(f"{source}: weights cannot be loaded ({str(errors[0]).splitlines()[0]})")
    homeless = sorted(_without_place(model, unexpected))
    if homeless:
        raise InterpError(
            f"{source}: {_count(homeless)} stored inside the decoder but without a place in "
            f"{type(model).__name__} as config.json describes it: {_listed(homeless)}; correct "
            "config.json, or merge the adapter, or fetch the model again"
        )


def _computed(model: nn.Module, missing: Collection[str]) -> set[str]:
    """Buffers that no layer has in the files: constants, which the model computes by itself."""
    kind = {name: re.sub(r"\.\d+\.", ".*.", name) for name, _ in model.named_buffers()}
    stored = {kind[name] for name in kind if name not in missing}
    return {name for name in missing if name in kind and kind[name] not in stored}


def _prefix(missing: Collection[str], unexpected: Collection[str]) -> str | None:
    """What makes stored names differ from those of missing weights, when that is all."""
    for name in sorted(unexpected):
        for wrapper in _WRAPPERS:
            if wrapper in name and name.replace(wrapper, "") in missing:
                return wrapper
        for wanted in missing:
            if name.endswith(f".{wanted}"):
                return name.removesuffix(wanted)
    return None


def _without_place(model: nn.Module, unexpected: Collection[str]) -> Iterator[str]:
    """Stored weights that the decoder's function would need and this model does not have."""
    if getattr(model, "hf_quantizer", None) is not None:
        return  # scales and zero points are consumed by the quantiser
    modules = dict(model.named_modules())
    config: Any = model.config
    n_extra = getattr(config.get_text_config(), "num_nextn_predict_layers", None) or 0
    for name in unexpected:
        path, rest = _deepest(modules, name)
        module, head = modules[path], rest.split(".")[0]
        if isinstance(module, nn.ModuleList) and head.isdigit():
            beyond = int(head) >= len(module) + n_extra  # those predict later tokens: no part of it
        elif module._parameters:  # a bias, a scale, an adapter of a map that has weights itself
            beyond = True
        else:  # old versions stored masks and rotary frequencies in the blocks
            in_block = re.search(r"\.\d+(\.|$)", f".{path}") is not None
            beyond = in_block and rest.endswith(".weight")
        if path and beyond:
            yield name


def _deepest(modules: dict[str, nn.Module], name: str) -> tuple[str, str]:
    """The longest path of a module that begins ``name``, and the rest."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:cut])
        if path in modules:
            return path, ".".join(parts[cut:])
    return "", name


def _count(names: Collection[str]) -> str:
    return "1 weight is" if len(names) == 1 else f"{len(names)} weights are"


def _listed(names: Collection[str]) -> str:
    first = ", ".join(sorted(names)[:_SHOWN])
    return f"{first} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else first
