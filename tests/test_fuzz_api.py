"""Random calls of the public functions: a result or one line, never a raw error.

Every call takes good arguments (a tiny model's pair, items, directions, results) and spoils one or
two of them: another type, empty, out of range, not finite. Allowed are a result, an `InterpError`,
and a `TypeError` of the call itself (an argument of another type than the signature says).

``INTERP_FUZZ_EXAMPLES=10000 pytest tests/test_fuzz_api.py`` runs more of them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxtyping import jaxtyped

import interp
from interp.data import Choice, ChoiceItem, CompletionItem, LabelledText
from interp.errors import InterpError
from tests.typechecked import check_once

EXAMPLES = int(os.environ.get("INTERP_FUZZ_EXAMPLES", "400"))
ROOMS = (
    "activations", "behaviour", "data", "directions", "lens", "models", "patching", "prompts", "stats",
    "viz",
)  # fmt: skip
ELSEWHERE = {
    "fetch_dataset": "needs a network",
    "fetch_model": "needs a network",
    "contrast_directions": "fits on every bundled contrast: seconds a call",
    "fit_directions": "a loop over fit_direction: seconds a call",
    "null_directions": "fits many directions: seconds a call",
    "load_model": "tested with its own folders",
    "load_tokenizer": "needs a network for some names",
    "require_browser": "takes nothing",
    "save": "starts a browser",
    "template": "takes nothing",
}
SPOILT: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 7, 99, -0.5, 0.5, 1.5, float("nan"), float("inf"), "", "x", "no such",
    "a\0b", "\ud83d", b"x", (), [], ["x"], ["", "x"], [-1], [0, 0], [99], {}, {"x": 1}, {1: None},
    object(), np.array([]), np.array([np.nan, 1.0]), np.zeros((2, 2)), np.array(["x"]),
    torch.empty(0), torch.tensor([]), torch.tensor([1, -5]), torch.tensor([[1, 2], [3, 4]]),
    torch.tensor([float("nan")]), pd.DataFrame(), pd.DataFrame({"x": [float("nan")]}), Path("none"),
)  # fmt: skip


def public_functions() -> dict[str, Callable[..., Any]]:
    """Each with its annotations held at the call, in rooms not checked throughout too."""
    found = {}
    for room in (interp, *(getattr(interp, name) for name in ROOMS)):
        for name in room.__all__:
            value = getattr(room, name)
            ours = isinstance(value, FunctionType) and value.__module__.startswith("interp.")
            if (
                ours and name not in ELSEWHERE
            ):  # some of TransformerLens's are handed on as they are
                found[f"{room.__name__}.{name}"] = jaxtyped(value, typechecker=check_once)
    return found


FUNCTIONS = public_functions()


@pytest.fixture(scope="module")
def good(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Good values of a parameter, by its name."""
    model, folder = tiny_model, tmp_path_factory.mktemp("files")
    choices = (
        Choice("Not known", "unknown"),
        Choice("The farmer", "stereotyped"),
        Choice("The teacher", "counter"),
    )
    item = ChoiceItem("q", "own", "own", "They met.", "Who was late?", choices, 0, "ambiguous", "c")
    texts = [
        LabelledText(f"It {verb} kind {k}.", label, f"g{k}", "own")
        for k in range(4)
        for verb, label in (("was", 1), ("was not", 0))
    ]
    ids = torch.tensor([5, 6, 7]), torch.tensor([5, 8, 7])
    short = interp.make_pair(model, *ids, target=(3, 4))
    pair = interp.make_pair(model, item, "instructed")
    stack = interp.fit_direction(model, texts, n_folds=2, n_shuffles=3, progress=False)
    sweep = interp.sweep(model, short, progress=False)
    scores = interp.score_options(model, [item], n_texts=1, progress=False)
    bank = interp.prompts.TextBank(model.tokenizer)
    clean = interp.prompts.Condition("clean", "clean", None)
    (protocol,) = interp.behaviour.condition_protocols(bank, "instructed", task="choice")
    histories = interp.behaviour.run_rounds(
        model, [item], protocol, n_rounds=1, orders=[0], progress=False
    )
    lens = interp.lens.lens_conditions(model, [item], n_texts=1, n_control_texts=1, progress=False)
    table = folder / "t.csv"
    table.write_text("text,label\na b,1\nc d,0\n")
    return {
        "model": [model],
        "tokenizer": [model.tokenizer],
        "pair": [short, pair],
        "given": [short, pair, short.source],
        "patterns": [interp.activations.read_attention(model, short)],
        "pairs": [short, [short]],
        "item": [item, CompletionItem("q", "own", "They met")],
        "items": [[item]],
        "texts": [texts],
        "source": [item, ids[0], short.source],
        "destination": [ids[1], short.destination],
        "condition": ["instructed", ids[1]],
        "prompt": [short.source],
        "prompts": [[short.source], short],
        "what": [short],
        "direction": [stack[1], stack],
        "stack": [stack],
        "result": [sweep, scores, stack, scores.frame],
        "scores": [scores],
        "sets": [{"one": texts, "two": texts}],
        "values": [np.array([0.1, 0.4, 0.2, 0.9])],
        "clusters": [np.array([0, 0, 1, 1])],
        "a": [np.array([0.1, 0.4]), ids[0]],
        "b": [np.array([0.3, 0.2]), ids[1]],
        "frame": [scores.frame],
        "path": [folder / "out", table],
        "name_or_path": [table, "bundled"],
        "conversation": [interp.prompts.build_conversation(item)],
        "conversations": [[interp.prompts.build_conversation(item)]],
        "continuation": [" The"],
        "positions": ["last", "aligned"],
        "site": ["resid_pre", "resid_post"],
        "layers": [[0, 1]],
        "to": ["prompt"],
        "n_resamples": [20],
        "n_permutations": [20],
        "n_shuffles": [2],
        "n_folds": [2],
        "methods": [["mean_difference"]],
        "sites": [["resid_post"]],
        "n_texts": [1],
        "n_control_texts": [1],
        "contrasts": [["tense"]],
        "n": [2],
        "layer": [1],
        "where": ["last"],
        "hooks": [{"blocks.1.hook_resid_post": lambda rows: rows}],
        "sequences": [list(ids)],
        "logits_at": [[(0, 2)]],
        "starts": [[1, 1]],
        "confidence": [np.array([0.2, 0.9]), 0.95],
        "correct": [np.array([0, 1])],
        "before": [np.array([0, 1, 1, 0]), ["a b c"]],
        "after": [np.array([1, 1, 0, 0]), ["a b d"]],
        "answered": ["ABAB"],
        "letters": ["AB"],
        "beginning": [short.source],
        "completion": [" The farmer", "They met there."],
        "bank": [bank],
        "name": ["instructed"],
        "task": ["choice"],
        "protocol": [protocol],
        "protocols": [[protocol]],
        "variants": [[clean]],
        "conditions": [("clean", "instructed"), [clean]],
        "history": [histories[0]],
        "histories": [histories],
        "n_rounds": [1],
        "max_new_tokens": [2],
        "decoding": [protocol.decoding],
        "target": [(3, 4)],
        "logits": [torch.zeros(2, 404)],
        "lens": [lens],
        "contrast": ["instructed"],
        "difference": [lens.difference("instructed")],
        "seed": [0],
        "progress": [False],
        "grid": [None],
    }


def calls() -> st.SearchStrategy[tuple[str, dict[str, int], dict[str, int]]]:
    """A function, which of the good values each parameter takes, and what spoils which of them."""

    def arguments(name: str) -> st.SearchStrategy[tuple[str, dict[str, int], dict[str, int]]]:
        # a tokenizer is typed Any: it may be of any library
        kept = {"progress", "tokenizer"}
        parameters = [p for p in inspect.signature(FUNCTIONS[name]).parameters if p not in kept]
        if not parameters:
            return st.just((name, {}, {}))
        spoil = st.dictionaries(
            st.sampled_from(parameters), st.integers(0, len(SPOILT) - 1), max_size=2
        )
        pick = st.fixed_dictionaries({p: st.integers(0, 3) for p in parameters})
        return st.tuples(st.just(name), pick, spoil)

    return st.sampled_from(sorted(FUNCTIONS)).flatmap(arguments)


def bound(
    name: str, picked: dict[str, int], spoilt: dict[str, int], good: dict[str, list[Any]]
) -> tuple[list[Any], dict[str, Any]]:
    positional, named = [], {}
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    in_order = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    for parameter in parameters:
        key = parameter.name
        if key in spoilt:
            value = SPOILT[spoilt[key]]
        elif key in good:
            value = good[key][picked.get(key, 0) % len(good[key])]
        elif parameter.default is not parameter.empty:
            continue
        else:
            value = SPOILT[picked.get(key, 0)]
        if in_order or parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(value)
        elif parameter.kind is not parameter.VAR_KEYWORD:
            named[key] = value
    return positional, named


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls that write do so in a folder of their own, and none fetches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return iter([None])


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 400,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(call=calls())
def test_public_functions_end_in_a_result_or_one_line(
    call: tuple[str, dict[str, int], dict[str, int]], good: dict[str, list[Any]]
) -> None:
    name, picked, spoilt = call
    positional, named = bound(name, picked, spoilt, good)
    try:
        found = FUNCTIONS[name](*positional, **named)
        if inspect.isgenerator(found):
            next(found, None)
    except InterpError as error:
        if "\n" in str(error):
            raise AssertionError(f"{name}: more than one line: {error}") from error
    except TypeError as error:
        if not is_of_the_call(error, name):
            raise AssertionError(f"{name} {sorted(spoilt)}: raw {error!r}"[:500]) from error
    except Exception as error:
        shown = {key: SPOILT[k] for key, k in spoilt.items()}
        raise AssertionError(f"{name} {shown!r}: raw {error!r}"[:600]) from error


def is_of_the_call(error: TypeError, name: str) -> bool:
    """Whether an argument does not fit the signature of the function that was called."""
    message = str(error)
    short = name.rpartition(".")[2]
    checked = type(error).__name__ == "TypeCheckError" and "Parameter annotations" in message
    return checked or f"{short}() " in message
