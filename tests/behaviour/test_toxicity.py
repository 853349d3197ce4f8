import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.behaviour.toxicity import (
    HuggingFaceScorer,
    ToxicityScorer,
    expected_maximum,
    mean_toxicity,
    scorer,
    toxicity_probability,
)
from interp.errors import InterpError

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."),
    *("the", "soup", "was", "cold", "and", "nobody", "minded", "it", "rain", "came"),
)
TEXTS = ["The soup was cold.", "rain came", "nobody minded the rain and the soup", "it was", "cold"]


def build_classifier(folder: Path, labels=("toxic", "mild"), problem_type=None) -> Path:
    """A tiny random BERT with 16 positions and large weights, and its tokenizer."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16, initializer_range=0.5,
        id2label=dict(enumerate(labels)), label2id={name: k for k, name in enumerate(labels)},
        problem_type=problem_type,
    )  # fmt: skip
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_classifier(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder):
    return scorer(f"huggingface:{folder}")


def test_a_score_is_the_softmax_of_the_toxic_label(judge, folder):
    inputs = judge.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        expected = judge.model(**inputs).logits.softmax(-1)[0, 0]
    assert judge.score(TEXTS[:1])[0] == pytest.approx(float(expected), abs=1e-6)
    assert judge.name == f"huggingface:{folder} (toxic)"
    assert isinstance(judge, ToxicityScorer)


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
def test_scores_are_those_of_transformers_own_pipeline(tmp_path, problem_type):
    from transformers import pipeline

    folder = build_classifier(tmp_path, ("mild", "Toxic", "rude"), problem_type)
    pipe = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    expected = [
        next(row["score"] for row in rows if row["label"] == "Toxic") for rows in pipe(TEXTS)
    ]
    np.testing.assert_allclose(scorer(f"huggingface:{folder}").score(TEXTS), expected, atol=1e-6)


def test_batches_give_what_single_texts_give(folder):
    single = scorer(f"huggingface:{folder}", batch_size=1).score(TEXTS)
    assert len({round(score, 4) for score in single}) == len(TEXTS)
    for size in (2, 3, 32):
        batched = scorer(f"huggingface:{folder}", batch_size=size).score(TEXTS)
        np.testing.assert_allclose(batched, single, atol=1e-6)


def test_a_long_text_is_cut_to_the_models_length(judge):
    assert judge.max_length == 16
    long = " ".join(["soup was cold and"] * 30)
    cut = " ".join(long.split()[:14])  # 16 positions, two of them for the ends
    assert judge.score([long])[0] == pytest.approx(judge.score([cut])[0], abs=1e-6)
    assert judge.score([long, "rain"])[0] == pytest.approx(judge.score([cut])[0], abs=1e-6)


def test_positions_that_begin_behind_the_padding_leave_less_room(judge):
    from interp.behaviour.toxicity import _max_length

    config = SimpleNamespace(model_type="roberta", max_position_embeddings=514, pad_token_id=1)
    assert _max_length(SimpleNamespace(model_max_length=10**30), config) == 512
    assert _max_length(SimpleNamespace(model_max_length=128), config) == 128


def test_a_blank_text_scores_0_and_no_text_gives_no_score(judge):
    scores = judge.score(["", TEXTS[0], " \n"])
    assert scores[[0, 2]].tolist() == [0.0, 0.0]
    assert scores[1] == pytest.approx(judge.score(TEXTS[:1])[0], abs=1e-6)
    assert judge.score([]).shape == (0,)


def test_the_toxic_label_is_found_by_name_or_given(tmp_path):
    named = build_classifier(tmp_path / "a", ("nothate", "hate"))
    assert scorer(f"huggingface:{named}").name.endswith("(hate)")
    assert scorer(f"huggingface:{named}", label="NotHate").name.endswith("(nothate)")
    with pytest.raises(InterpError, match="has no label 'rude'; there is nothate, hate"):
        scorer(f"huggingface:{named}", label="rude")
    both = np.array(
        [scorer(f"huggingface:{named}", label=x).score(TEXTS) for x in ("hate", "nothate")]
    )
    np.testing.assert_allclose(both.sum(0), 1.0, atol=1e-6)
    unnamed = build_classifier(tmp_path / "b", ("LABEL_0", "LABEL_1"))
    with pytest.raises(InterpError, match="which of LABEL_0, LABEL_1 is the toxic label"):
        scorer(f"huggingface:{unnamed}")
    alone = build_classifier(tmp_path / "c", ("score",))
    judge = scorer(f"huggingface:{alone}")
    assert judge.name.endswith("(score)")
    assert np.all((judge.score(TEXTS) > 0) & (judge.score(TEXTS) < 1))


def test_what_is_no_classifier_is_one_clear_line(tmp_path, tiny_folder):
    with pytest.raises(InterpError, match="absent: no such folder"):
        scorer(f"huggingface:{tmp_path / 'absent'}")
    with pytest.raises(InterpError, match="no readable text classifier there") as caught:
        scorer(f"huggingface:{tmp_path}")
    assert "\n" not in str(caught.value)
    with pytest.raises(InterpError, match="is not a trained text classifier"):
        scorer(f"huggingface:{tiny_folder('llama')}", label="LABEL_1")
    with pytest.raises(InterpError, match="batch_size is 0"):
        HuggingFaceScorer.load(str(tmp_path), batch_size=0)


def test_unknown_names_are_one_clear_line():
    with pytest.raises(InterpError, match="no toxicity scorer 'ofline'; did you mean 'offline'"):
        scorer("ofline")
    with pytest.raises(InterpError, match="no toxicity scorer 'huggingface:'; did you mean 'hugg"):
        scorer("huggingface:")
    with pytest.raises(InterpError, match="label='toxic' is for huggingface: scorers"):
        scorer("offline", label="toxic")


def test_the_offline_scorer_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(InterpError, match=r"pip install 'interp-workbench\[toxicity\]'"):
        scorer("offline")


def test_the_offline_scorer_asks_the_package_about_texts_that_say_something(monkeypatch):
    asked = []

    def predict_prob(texts):
        asked.append(texts)
        return np.array([len(text) / 100 for text in texts])

    monkeypatch.setitem(sys.modules, "profanity_check", SimpleNamespace(predict_prob=predict_prob))
    offline = scorer("offline")
    assert offline.score(["abc", "", "a"]).tolist() == [0.03, 0.0, 0.01]
    assert offline.score(["", " "]).tolist() == [0.0, 0.0]
    assert asked == [["abc", "a"]]
    assert offline.name == "offline:alt-profanity-check"
    assert isinstance(offline, ToxicityScorer)


def test_the_offline_scorer_tells_the_rude_from_the_polite():
    pytest.importorskip("profanity_check", reason="the extra 'toxicity' is not installed")
    polite, rude = scorer("offline").score(["What a lovely day.", "What a damn idiot."])
    assert 0 <= polite < rude <= 1


# ---------------------------------------------------------------------------- readings


def test_readings_by_hand_carry_the_scorers_name():
    mean = mean_toxicity([0.1, 0.2, 0.6], scorer="s")
    assert mean.interval.estimate == pytest.approx(0.3)
    assert (mean.interval.n, mean.k, mean.scorer, mean.measure) == (3, 1, "s", "mean")
    scores = np.full((4, 10), 0.1)
    scores[0, 3], scores[1, 9], scores[2, 0] = 0.9, 0.5, 0.4
    highest = expected_maximum(scores, scorer="s")
    assert highest.interval.estimate == pytest.approx((0.9 + 0.5 + 0.4 + 0.1) / 4)
    assert (highest.interval.n, highest.k) == (4, 10)
    assert toxicity_probability(scores, scorer="s").interval.estimate == pytest.approx(2 / 4)
    rare = toxicity_probability(scores, scorer="s", threshold=0.95).interval
    assert (rare.estimate, rare.low) == (0.0, 0.0)
    assert rare.high > 0.3
    assert str(highest).startswith("expected_maximum (s, k = 10): 0.475 [")
    assert str(mean).startswith("mean (s): 0.300 [")


@pytest.mark.parametrize("reading", [expected_maximum, toxicity_probability])
def test_fewer_than_ten_samples_are_refused(reading):
    with pytest.raises(InterpError, match="9 samples per prompt: the maximum needs at least 10"):
        reading(np.zeros((5, 9)), scorer="s")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(10, 14), st.integers(0, 99))
def test_the_maximum_grows_with_samples_and_bounds_the_mean(n_prompts, k, seed):
    scores = np.random.default_rng(seed).uniform(size=(n_prompts, k + 1))
    more, fewer = (
        expected_maximum(x, scorer="s").interval.estimate for x in (scores, scores[:, :-1])
    )
    assert scores.mean() <= fewer <= more <= 1


@pytest.mark.parametrize(
    ("scores", "name", "message"),
    [
        ([0.1, 1.2], "s", "score 1.2 is not in 0..1"),
        ([0.1, float("nan")], "s", "score nan is not in 0..1: every completion needs a score"),
        ([], "s", r"give \[prompt\], at least one prompt"),
        ([[0.1]], "s", r"give \[prompt\], at least one prompt"),
        ([0.1], " ", "the scorer has no name"),
    ],
)
def test_bad_scores_and_nameless_scorers_are_refused(scores, name, message):
    with pytest.raises(InterpError, match=message):
        mean_toxicity(scores, scorer=name)


def test_a_threshold_is_a_score():
    with pytest.raises(InterpError, match="threshold is 50"):
        toxicity_probability(np.zeros((2, 10)), scorer="s", threshold=50.0)
