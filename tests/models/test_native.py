from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformer_lens import patching as transformer_lens_patching
from transformer_lens.model_bridge import TransformerBridge

import interp
from interp.behaviour import Outcomes, complete, completion_nll, run_rounds, study_protocol
from interp.data.items import Choice, ChoiceItem, CompletionItem, LabelledText
from interp.errors import InterpError
from interp.lens import lens_conditions
from interp.models import (
    forward,
    load_tokenizer,
    model_card,
    set_token_names,
    supports_packing,
    token_names,
)
from interp.patching import (
    Patch,
    get_act_patch_attn_head_out_all_pos,
    get_act_patch_mlp_out,
    get_act_patch_resid_mid,
    get_act_patch_resid_pre,
)
from interp.patching.cells import Cell
from interp.patching.patched import PatchedRuns
from interp.prompts import PromptPair, make_pair
from tests.models.native import OPTIONS, TARGET, USUAL, ids_of, native, native_pair
from tests.patching.by_hand import activations, hook_counts

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v")
NAMES = ["BOS", *"abcdefghij"]


def one_line(run: Callable[[], object]) -> str:
    with pytest.raises(InterpError) as caught:
        run()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(
    scope="module",
    params=[n if n in USUAL else pytest.param(n, marks=pytest.mark.slow) for n in OPTIONS],
)
def model(request: pytest.FixtureRequest) -> TransformerBridge:
    """Tests leave it as it is."""
    return interp.load_model(native(**OPTIONS[request.param]))


# Loading


def test_a_native_bridge_is_adopted_with_its_checks_and_card(model: TransformerBridge) -> None:
    card = model_card(model)
    assert card.architecture == "NativeModel"
    assert card.n_layers == model.cfg.n_layers
    assert all(check.passed for check in card.checks if check.required)
    assert card.n_params == sum(p.numel() for p in model.original_model.parameters())
    assert not model.training
    assert interp.load_model(model) is model
    assert model_card(model) is card


@pytest.mark.parametrize("normalisation", ["LN", "RMS", None])
def test_compatibility_mode_keeps_the_distribution_and_is_recorded(normalisation: Any) -> None:
    model = native(normalization_type=normalisation)
    ids = ids_of(model, 8, 0)[None]
    with torch.no_grad():
        before = model(ids).log_softmax(-1)
        processed = interp.load_model(model, compatibility_mode=True)
        assert (processed(ids).log_softmax(-1) - before).abs().max() < 1e-4
    assert model_card(processed).mode == "compatibility"
    fast, slow = (
        interp.sweep(processed, native_pair(processed), method=method, progress=False)
        for method in ("exact", "hooked")
    )
    assert torch.allclose(fast.values, slow.values, atol=2e-5)


def test_what_is_no_causal_decoder_with_mlps_is_refused_in_one_line() -> None:
    assert "hook_mlp_out" in one_line(lambda: interp.load_model(native(attn_only=True)))
    both = native(attention_dir="bidirectional")
    assert "no causal decoder" in one_line(lambda: interp.load_model(both))


# Reading


def test_a_forward_reads_logits_and_states_as_the_bridge_computes_them(
    model: TransformerBridge,
) -> None:
    n = min(8, int(model.cfg.n_ctx))
    prompts = [ids_of(model, n, 1), ids_of(model, n - 1, 2), ids_of(model, n, 3)]
    assert not supports_packing(model, n)
    hook = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    out = forward(model, prompts, logits_at=[(0, 1), (2, n - 1)], read={hook: [(1, 0)]})
    with torch.no_grad():
        first, last = model(prompts[0][None])[0, 1], model(prompts[2][None])[0, n - 1]
        _, cache = model.run_with_cache(prompts[1][None])
    assert torch.allclose(out.logits, torch.stack([first, last]), atol=1e-5)
    assert torch.allclose(out.states[hook][0], cache[hook][0, 0], atol=1e-5)


def test_lens_reads_every_layer(model: TransformerBridge) -> None:
    pair = native_pair(model)
    frame = interp.lens_trajectory(model, pair, progress=False).to_dataframe()
    with torch.no_grad():
        logits = model(pair.source.ids[None])[0, -1]
    own = frame[(frame["run"] == "source") & (frame["layer"] == model.cfg.n_layers)]
    margin = float(logits[TARGET[0]] - logits[TARGET[1]])
    assert float(own["margin"].iloc[0]) == pytest.approx(margin, abs=1e-5)


# Patching


@torch.no_grad()
def by_hooks(model: TransformerBridge, pair: PromptPair, patch: Patch) -> float:
    """One full forward with the patch written in TransformerLens's own hooks."""
    inside = patch.site in ("z", "q", "k", "v")
    name = f"blocks.{patch.layer}.{'attn.' if inside else ''}hook_{patch.site}"
    before: dict[str, torch.Tensor] = {}

    def remember(activation: torch.Tensor, hook: Any) -> None:
        before["pre"] = activation

    def write(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        patched = activation.clone()
        for row, position in enumerate(patch.positions.tolist()):
            if patch.heads:
                patched[0, position, list(patch.heads)] = patch.values[row]
            elif patch.site == "resid_mid":  # set through the attention's output
                patched[0, position] = patch.values[row] - before["pre"][0, position]
            else:
                patched[0, position] = patch.values[row]
        return patched

    hooks = [(name, write)]
    if patch.site == "resid_mid":
        layer = f"blocks.{patch.layer}"
        hooks = [(f"{layer}.hook_resid_pre", remember), (f"{layer}.hook_attn_out", write)]
    logits = model.run_with_hooks(pair.destination.ids[None], fwd_hooks=hooks)[0, -1]
    return float(logits[TARGET[0]] - logits[TARGET[1]])


@pytest.mark.parametrize("site", SITES)
def test_a_sweep_equals_one_forward_per_cell_by_hooks(model: TransformerBridge, site: Any) -> None:
    pair = native_pair(model)
    result = interp.sweep(model, pair, site=site, progress=False)
    assert result.notes == ()  # the exact engine, not its fall-back
    source = activations(model, pair.source.ids, site)
    headed = site in ("z", "q", "k", "v")
    positions = [int(p) for p in (pair.source.ids != pair.destination.ids).nonzero()[:1]]
    places = range(positions[0], len(pair.source))
    effects = result.values - result.baseline
    assert float(effects.abs().max()) > 1e-3
    for layer in range(int(model.cfg.n_layers)):
        for column in range(result.values.shape[1]):
            at = torch.tensor(list(places) if headed else [places[column]])
            values = source[layer][at]
            heads = (column,) if headed else ()
            values = values[:, [column]] if headed else values
            expected = by_hooks(model, pair, Patch(layer, site, at, values, heads))
            assert float(result.values[layer, column, 0]) == pytest.approx(expected, abs=2e-5)


def test_patterns_are_set_by_hooks_and_by_the_engine_alike(model: TransformerBridge) -> None:
    pair = native_pair(model)
    fast, slow = (
        interp.sweep(model, pair, site="pattern", method=method, progress=False)
        for method in ("exact", "hooked")
    )
    assert fast.notes == ()
    assert torch.allclose(fast.values, slow.values, atol=2e-5)


def test_attribution_is_the_gradient_times_the_difference(model: TransformerBridge) -> None:
    pair = native_pair(model)
    found = interp.attribute(model, pair, sites=["mlp_out"], progress=False)["mlp_out"]
    _, cache = model.run_with_cache(pair.source.ids[None])
    _, own = model.run_with_cache(pair.destination.ids[None])
    names = [f"blocks.{layer}.hook_mlp_out" for layer in range(int(model.cfg.n_layers))]
    nothing = {name: torch.zeros_like(own[name]).requires_grad_() for name in names}

    def adder(name: str) -> Callable[..., torch.Tensor]:
        return lambda activation, hook: activation + nothing[name]

    with torch.enable_grad(), model.hooks(fwd_hooks=[(name, adder(name)) for name in names]):
        logits = model(pair.destination.ids[None])[0, -1]
        gradients = torch.autograd.grad(logits[TARGET[0]] - logits[TARGET[1]], nothing.values())
    first = len(pair.source) - found.values.shape[1]
    for layer, (name, gradient) in enumerate(zip(names, gradients, strict=True)):
        expected = (gradient * (cache[name] - own[name])).sum(-1)[0, first:]
        effects = (found.values[layer] - found.baseline)[:, 0]
        assert torch.allclose(effects, expected.detach(), atol=2e-5)


def test_a_knocked_out_span_is_no_longer_read(model: TransformerBridge) -> None:
    pair = native_pair(model, spans={"instruction": slice(1, 2)})
    result = interp.knockout(model, pair, window=int(model.cfg.n_layers), progress=False)
    assert result.notes == ()

    def without(module: Any, args: Any, kwargs: Any) -> Any:
        n = kwargs["hidden_states"].shape[1] if "hidden_states" in kwargs else args[0].shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).tril()
        mask[2:, 1] = False
        return args, {**kwargs, "attention_mask": ~mask[None, None]}

    handles = [
        block.attn.original_component.register_forward_pre_hook(without, with_kwargs=True)
        for block in model.blocks
    ]
    try:
        with torch.no_grad():
            logits = model(pair.destination.ids[None])[0, -1]
    finally:
        for handle in handles:
            handle.remove()
    expected = float(logits[TARGET[0]] - logits[TARGET[1]])
    assert float(result.values[0].flatten()[0]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        (get_act_patch_resid_pre, "get_act_patch_resid_pre"),
        (get_act_patch_mlp_out, "get_act_patch_mlp_out"),
        (get_act_patch_attn_head_out_all_pos, "get_act_patch_attn_head_out_all_pos"),
    ],
)
def test_the_drop_ins_equal_transformer_lens(
    model: TransformerBridge, ours: Any, name: str
) -> None:
    pair = native_pair(model)

    def margin(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, TARGET[0]] - logits[0, -1, TARGET[1]]

    with torch.no_grad():
        _, cache = model.run_with_cache(pair.source.ids[None])
        theirs = getattr(transformer_lens_patching, name)(
            model, pair.destination.ids[None], cache, margin
        )
    found = ours(model, pair.destination.ids[None], cache, margin, progress=False)
    assert torch.allclose(found, theirs, atol=2e-5)
    get_act_patch_resid_mid(model, pair.destination.ids[None], cache, margin, progress=False)


def test_options_of_several_tokens_are_read_behind_the_prompt() -> None:
    model = interp.load_model(native())
    source, destination = ids_of(model, 8, 0), ids_of(model, 8, 5)
    pair = make_pair(model, source, destination, options=([1, 4, 2], [1, 3]))
    fast, slow = (
        interp.sweep(model, pair, metric="option_margin", method=method, progress=False)
        for method in ("exact", "hooked")
    )
    assert fast.notes == ()
    assert torch.allclose(fast.values, slow.values, atol=2e-5)


def test_options_are_checked_against_the_outputs_that_predict_them() -> None:
    model = interp.load_model(native(d_vocab_out=5))
    ids = ids_of(model, 6, 0)
    message = one_line(lambda: make_pair(model, ids, ids, options=([3, 7], [4, 3])))
    assert message == (
        "make_pair: option a: token id 7 is outside the model's vocabulary, 0..4: check the ids"
    )
    more = interp.load_model(native(d_vocab_out=20))
    message = one_line(lambda: make_pair(more, ids, ids, options=([3, 15], [4, 3])))
    assert "token id 15 is outside the model's vocabulary, 0..10" in message


# Names of tokens


def test_tokens_go_by_their_numbers_or_by_the_names_they_were_given() -> None:
    model = interp.load_model(native(d_vocab_out=5))
    assert token_names(model) is None
    pair = native_pair(model)
    assert pair.source.str_tokens == tuple(str(int(i)) for i in pair.source.ids)
    set_token_names(model, NAMES, ["no", "yes", "maybe", "never", "other"])
    pair = native_pair(model)
    assert pair.source.str_tokens == tuple(NAMES[int(i)] for i in pair.source.ids)
    assert pair.target is not None
    assert (pair.target.a_text, pair.target.b_text) == ("yes", "never")
    assert "2 names for 11 tokens" in one_line(lambda: set_token_names(model, ["a", "b"]))
    assert "5 outputs" in one_line(lambda: set_token_names(model, NAMES))


def test_targets_are_checked_against_the_outputs_and_prompts_against_the_tokens() -> None:
    model = interp.load_model(native(d_vocab_out=5))
    ids = ids_of(model, 6, 0)
    message = one_line(lambda: make_pair(model, ids, ids, target=(1, 5)))
    assert "token id 5" in message
    assert "0..4" in message
    assert "outside the model's vocabulary, 0..10" in one_line(
        lambda: make_pair(model, ids + 11, ids, target=(1, 2))
    )


def test_spans_name_positions_of_token_tensors() -> None:
    model = interp.load_model(native())
    pair = native_pair(model, spans={"question": slice(4, 6), "instruction": slice(1, 2)})
    assert pair.source.spans == {
        "prompt": slice(0, 1), "instruction": slice(1, 2), "prompt_1": slice(2, 4),
        "question": slice(4, 6), "prompt_2": slice(6, 8),
    }  # fmt: skip
    overlapping = {"a": slice(1, 3), "b": slice(2, 4)}
    assert "do not overlap" in one_line(lambda: native_pair(model, spans=overlapping))
    assert "8 tokens" in one_line(lambda: native_pair(model, spans={"a": slice(6, 9)}))
    assert "no span 'instruction'" in one_line(
        lambda: interp.knockout(model, native_pair(model), progress=False)
    )


def labelled(words: str = "abcdefghij") -> list[LabelledText]:
    return [
        LabelledText(f"BOS {'a' if label else 'b'} {word} c", label, word, "made up")
        for word in words
        for label in (0, 1)
    ]


@pytest.mark.parametrize("site", ["resid_post", "mlp_out"])
def test_directions_are_fitted_on_names_and_projected(site: Any) -> None:
    model = interp.load_model(native())
    assert "no tokenizer" in one_line(lambda: interp.fit_direction(model, labelled()))
    set_token_names(model, NAMES)
    v = interp.fit_direction(model, labelled(), site=site, n_shuffles=2, progress=False)
    pair = make_pair(model, torch.tensor([0, 1, 5, 3]), torch.tensor([0, 2, 5, 3]), target=TARGET)
    shift = interp.project(model, pair, v, progress=False).shift()
    assert len(shift) == model.cfg.n_layers
    assert bool((shift["shift"] > 0).all())
    unknown = [LabelledText("BOS zebra", 0, "0", "x"), *labelled()]
    assert "no token is named 'zebra'" in one_line(lambda: interp.fit_direction(model, unknown))


ITEM = ChoiceItem(
    "b:1", "b", "Work", "Two met.", "Who was late?",
    (Choice("The nurse"), Choice("The farmer"), Choice("Not known", "unknown")), 2, "ambiguous", "b",
)  # fmt: skip


def test_rooms_that_read_texts_say_that_there_is_no_tokenizer() -> None:
    model = interp.load_model(native())
    completion = CompletionItem("c", "made up", "Once upon a time")
    for run in (
        lambda: interp.make_pair(model, ITEM, "instructed"),
        lambda: interp.score_options(model, [ITEM], conditions=["clean"]),
        lambda: lens_conditions(model, [ITEM], progress=False),
        lambda: completion_nll(model, "a", "b"),
        lambda: run_rounds(model, [ITEM], study_protocol("bbq")),
        lambda: complete(model, native_pair(model).source),
        lambda: Outcomes(model, [ITEM], sentences=[], plain=[], completions=[completion]),
    ):
        assert "no tokenizer" in one_line(run)


# Bridges with a tokenizer, with hooks, and ordinary ones


KNOCKED_OUT = 3
"""Where :func:`through_the_rooms` has the knockout."""


def through_the_rooms(
    model: TransformerBridge, pair: PromptPair, *, knocked_out: bool = True
) -> list[Any]:
    """What every room says of one pair, as numbers."""
    sites = ("resid_pre", "z")
    found = [interp.sweep(model, pair, site=site, progress=False).values for site in sites]
    found.append(interp.attribute(model, pair, sites=["z"], progress=False)["z"].values)
    if knocked_out:
        found.append(interp.knockout(model, pair, to="instruction", progress=False).values)
    lens = interp.lens_trajectory(model, pair, progress=False).to_dataframe()
    found.append(torch.tensor(lens["margin"].to_numpy()))

    def margin(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, TARGET[0]] - logits[0, -1, TARGET[1]]

    with torch.no_grad():
        _, cache = model.run_with_cache(pair.source.ids[None])
    found.append(
        get_act_patch_resid_pre(model, pair.destination.ids[None], cache, margin, progress=False)
    )
    return found


def booted(kind: str, tiny_folder: Callable[..., Any]) -> TransformerBridge:
    if kind == "native":
        return native()
    if kind == "native with tokenizer":
        tokenizer = load_tokenizer(tiny_folder("llama"))
        return native(d_vocab=len(tokenizer), tokenizer=tokenizer)
    return TransformerBridge.boot_transformers(str(tiny_folder("llama")), device="cpu")


@pytest.fixture(scope="module", params=["native", "native with tokenizer", "ordinary"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def without_hooks(
    kind: str, tiny_folder: Callable[..., Any]
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """What every room says of a bridge of this kind, and the hooks before and after."""
    model = interp.load_model(booted(kind, tiny_folder))
    before = hook_counts(model)
    found = through_the_rooms(model, native_pair(model, spans={"instruction": slice(1, 2)}))
    return found, {"before": before, "after": hook_counts(model)}


def test_any_bridge_goes_through_every_room_and_no_hook_stays(without_hooks: Any) -> None:
    found, hooks = without_hooks
    for values in found:
        assert bool(torch.isfinite(values).all())
    assert hooks["before"] == hooks["after"]


@pytest.mark.parametrize("addressed", [False, True])
def test_hooks_of_the_user_act_in_every_room(
    kind: str, addressed: bool, without_hooks: Any, tiny_folder: Callable[..., Any]
) -> None:
    """Hooks that add a vector everywhere, or at the last position only."""
    model = interp.load_model(booted(kind, tiny_folder))
    pair = native_pair(model, spans={"instruction": slice(1, 2)})
    # its scores pass through no hook, and under a hook that addresses positions only hooks will do
    opaque = addressed and kind != "ordinary"
    without = list(without_hooks[0])
    if opaque:
        del without[KNOCKED_OUT]
    push = torch.linspace(-1, 1, int(model.cfg.d_model))

    def steer(activation: torch.Tensor, hook: Any) -> torch.Tensor:
        moved = activation.clone()
        moved[:, -1 if addressed else slice(None)] += push
        return moved

    model.add_hook("blocks.0.hook_resid_post", steer)
    within = through_the_rooms(model, pair, knocked_out=not opaque)
    if opaque:
        message = one_line(lambda: interp.knockout(model, pair, progress=False))
        assert "edges cannot be set on this model" in message
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in zip(within, without, strict=True))
    fast, slow = (
        interp.sweep(model, pair, method=method, progress=False) for method in ("exact", "hooked")
    )
    assert torch.allclose(fast.values, slow.values, atol=5e-5)
    assert bool(fast.notes) == addressed


def test_patched_runs_refuse_what_is_longer_than_the_context() -> None:
    model = interp.load_model(native(n_ctx=5))
    message = one_line(
        lambda: make_pair(model, torch.zeros(6, dtype=torch.long), torch.zeros(6).long())
    )
    assert "context is 5" in message
    runs = PatchedRuns(model, [ids_of(model, 5, 0)], [torch.tensor([4])])
    runs.run([Cell(0, (Patch(0, "resid_pre", torch.tensor([0]), torch.zeros(1, 16)),))], print)
