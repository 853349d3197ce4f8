"""The lens on native bridges, whose outputs may be others than their tokens."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.tools.analysis import logit_lens

import interp
from interp.errors import InterpError
from interp.lens import lens_divergence
from interp.lens.trajectory import lens_logits
from interp.models.native import n_outputs
from interp.prompts import make_pair
from tests.models.native import OPTIONS, ids_of, native, native_pair


@pytest.mark.parametrize("compatibility_mode", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_entry_of_the_lens_is_transformer_lens_own(
    name: str, compatibility_mode: bool
) -> None:
    model = interp.load_model(native(**OPTIONS[name]), compatibility_mode=compatibility_mode)
    prompt = native_pair(model).source
    theirs = logit_lens(model, prompt.ids[None]).readout.values[:, 0]
    found = lens_logits(model, prompt)
    assert found.shape == (int(model.cfg.n_layers) + 1, n_outputs(model))
    assert torch.allclose(found, theirs, atol=1e-5)


def test_the_lens_reads_options_of_several_tokens_behind_the_prompt() -> None:
    model = interp.load_model(native(normalization_type="LN"))
    source, destination = ids_of(model, 8, 0), ids_of(model, 8, 5)
    pair = make_pair(model, source, destination, options=([1, 4, 2], [3, 5]))
    frame = interp.lens_trajectory(model, pair, metric="option_margin", progress=False).frame
    own = frame[frame["layer"] == model.cfg.n_layers].set_index("run")["option_margin"]
    for run, prompt in (("source", source), ("destination", destination)):
        means = []
        for option in ([1, 4, 2], [3, 5]):
            with torch.no_grad():
                logits = model(torch.cat([prompt, torch.tensor(option)])[None])[0]
            log_probs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            means.append(log_probs[range(len(option)), option].double().mean())
        assert own[run] == pytest.approx(float(means[0] - means[1]), abs=1e-5)


def test_the_lens_compares_whole_distributions_of_outputs() -> None:
    model = interp.load_model(native(d_vocab_out=5))
    frame = lens_divergence(model, native_pair(model), k=2, progress=False)
    assert len(frame) == model.cfg.n_layers + 1
    assert bool((frame[["kl", "js"]] > 0).iloc[1:].all(axis=None))
    with pytest.raises(InterpError, match="takes 1 to 5 tokens"):
        lens_divergence(model, native_pair(model), k=6, progress=False)
