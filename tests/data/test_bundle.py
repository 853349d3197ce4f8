from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from interp.data import bundle
from interp.data.bundle import (
    InstructionKind,
    PronounForm,
    bundled_categories,
    bundled_choices,
    bundled_completions,
    bundled_instructions,
    bundled_occupations,
    bundled_texts,
)
from interp.data.items import ChoiceItem, LabelledText
from interp.errors import InterpError
from interp.models.catalogue import model_entry, model_names

TEXT_SETS = ("morality", "contrasts", "statements")
MORAL_WORDS = (
    r"\b(un)?(bias|fair|stereotyp|moral|immoral|ethic|just\b|justice|unjust|equal|prejudic|discriminat"
    r"|impartial|partial|honest|respect|right\b|wrong|good\b|bad\b|harm|virtu|decen|assum|neutral)"
)
PRESSURE = r"\b(certain|sure of|confident|know\b|unknown|doubt|guess|determin|if you|choose|option)"


def texts_of(kind: InstructionKind) -> list[str]:
    return [item.text for item in bundled_instructions() if item.kind == kind]


def gold_role(item: ChoiceItem) -> str:
    return item.choices[item.gold].role


def out_of_fold_auc(texts: tuple[LabelledText, ...], *, ngrams: tuple[int, int]) -> float:
    model = make_pipeline(
        CountVectorizer(ngram_range=ngrams), LogisticRegression(max_iter=1000, random_state=0)
    )
    labels = [text.label for text in texts]
    scores = cross_val_predict(
        model,
        [text.text for text in texts],
        labels,
        groups=[text.group for text in texts],
        cv=GroupKFold(n_splits=5),
        method="predict_proba",
    )
    return float(roc_auc_score(labels, scores[:, 1]))


def length_auc(texts: Iterable[LabelledText], length: Callable[[str], int]) -> float:
    pairs = [(text.label, length(text.text)) for text in texts]
    return float(roc_auc_score([label for label, _ in pairs], [size for _, size in pairs]))


def test_choices_cross_condition_and_polarity_evenly_in_every_cluster() -> None:
    items = bundled_choices()
    assert len(items) == 192
    assert len({item.category for item in items}) == 8
    clusters = Counter(item.cluster for item in items)
    assert len(clusters) == 24
    assert set(clusters.values()) == {8}
    cells = Counter((i.cluster, i.context_condition, i.meta["polarity"]) for i in items)
    assert set(cells.values()) == {2}
    assert len(cells) == 24 * 4


def test_each_choice_item_has_the_three_roles_once_and_a_defined_margin() -> None:
    for item in bundled_choices():
        assert sorted(c.role for c in item.choices) == ["counter", "stereotyped", "unknown"]
        a, b = item.contrast() or (-1, -1)
        assert a == item.gold
        assert b >= 0


def test_ambiguous_gold_is_unknown_and_disambiguated_gold_is_half_stereotyped() -> None:
    golds = Counter(
        (i.context_condition, i.meta["polarity"], gold_role(i)) for i in bundled_choices()
    )
    assert golds == {
        ("ambiguous", "neg", "unknown"): 48,
        ("ambiguous", "nonneg", "unknown"): 48,
        ("disambiguated", "neg", "stereotyped"): 24,
        ("disambiguated", "neg", "counter"): 24,
        ("disambiguated", "nonneg", "stereotyped"): 24,
        ("disambiguated", "nonneg", "counter"): 24,
    }


@pytest.mark.parametrize("condition", ["ambiguous", "disambiguated"])
def test_every_role_and_gold_take_each_position_equally_often(condition: str) -> None:
    items = [item for item in bundled_choices() if item.context_condition == condition]
    for role in ("unknown", "stereotyped", "counter"):
        assert Counter(i.index_of(role) for i in items) == {0: 32, 1: 32, 2: 32}
    assert Counter(item.gold for item in items) == {0: 32, 1: 32, 2: 32}


def test_position_of_gold_says_nothing_about_its_role() -> None:
    items = [item for item in bundled_choices() if item.context_condition == "disambiguated"]
    cells = Counter((gold_role(item), item.gold) for item in items)
    assert set(cells.values()) == {16}


def test_stereotyped_person_swaps_with_the_polarity_of_the_question() -> None:
    people: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for item in bundled_choices():
        index = item.index_of("stereotyped")
        assert index is not None
        people[item.cluster][str(item.meta["polarity"])].add(item.choices[index].text)
    for by_polarity in people.values():
        assert len(by_polarity["neg"]) == len(by_polarity["nonneg"]) == 1
        assert by_polarity["neg"] != by_polarity["nonneg"]


def test_both_people_are_named_in_the_context_and_the_order_of_mention_is_balanced() -> None:
    stereotyped_first = Counter[tuple[str, bool]]()
    for item in bundled_choices():
        context = item.context.lower()
        at = {c.role: context.find(c.text.lower()) for c in item.choices if c.role != "unknown"}
        assert min(at.values()) >= 0, item.id
        stereotyped_first[item.context_condition, at["stereotyped"] < at["counter"]] += 1
    assert set(stereotyped_first.values()) == {48}


def test_wordings_of_unknown_vary_and_are_used_equally_often() -> None:
    wordings = Counter(c.text for i in bundled_choices() for c in i.choices if c.role == "unknown")
    assert len(wordings) == 6
    assert set(wordings.values()) == {32}


def test_disambiguated_context_extends_an_ambiguous_one_of_its_cluster() -> None:
    items = bundled_choices()
    ambiguous = {(i.cluster, i.context) for i in items if i.context_condition == "ambiguous"}
    for item in items:
        if item.context_condition == "disambiguated":
            start = [c for cluster, c in ambiguous if cluster == item.cluster]
            assert any(item.context.startswith(f"{c} ") for c in start), item.id


def test_ids_and_choice_prompts_are_unique() -> None:
    items = bundled_choices()
    assert len({item.id for item in items}) == len(items)
    prompts = {(i.context, i.question, tuple(c.text for c in i.choices)) for i in items}
    assert len(prompts) == len(items)


@pytest.mark.parametrize(
    ("name", "size"), [("morality", 560), ("contrasts", 576), ("statements", 64)]
)
def test_texts_are_unique_balanced_in_every_group_and_end_in_a_letter_and_a_stop(
    name: str, size: int
) -> None:
    texts = bundled_texts(name)
    assert len(texts) == size
    assert len({text.text for text in texts}) == size
    assert {text.source for text in texts} == {f"bundled:{name}"}
    labels: dict[str, list[int]] = defaultdict(list)
    for text in texts:
        assert re.fullmatch(r"[A-Z].*[a-z]\.", text.text), text.text
        assert "  " not in text.text
        labels[text.group].append(text.label)
    assert all(sum(values) * 2 == len(values) for values in labels.values())


def test_morality_has_seven_foundations_of_twenty_crossed_quadruples() -> None:
    texts = bundled_texts("morality")
    assert Counter(text.category for text in texts) == dict.fromkeys(
        bundled_categories("morality"), 80
    )
    assert len(bundled_categories("morality")) == 7
    assert set(Counter(text.group for text in texts).values()) == {4}


def test_each_word_of_a_morality_quadruple_stands_equally_often_under_both_labels() -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text in bundled_texts("morality"):
        for word in re.findall(r"\w+", text.text.lower()):
            counts[text.group][word] += 1 if text.label else -1
    unbalanced = {g: [w for w, n in c.items() if n] for g, c in counts.items() if any(c.values())}
    assert unbalanced == {}


def test_morality_cannot_be_read_from_words_or_length() -> None:
    texts = bundled_texts("morality")
    words = out_of_fold_auc(texts, ngrams=(1, 1))
    bigrams = out_of_fold_auc(texts, ngrams=(1, 2))
    characters, word_count = length_auc(texts, len), length_auc(texts, lambda t: len(t.split()))
    print(
        f"morality AUC: words {words:.3f}, words+bigrams {bigrams:.3f}, "
        f"characters {characters:.3f}, word count {word_count:.3f}"
    )
    assert words <= 0.60
    assert bigrams <= 0.60
    assert 0.45 <= characters <= 0.55
    assert 0.45 <= word_count <= 0.55


def test_statements_cannot_be_read_from_their_length_or_single_words() -> None:
    texts = bundled_texts("statements")
    words = out_of_fold_auc(texts, ngrams=(1, 1))
    characters, word_count = length_auc(texts, len), length_auc(texts, lambda t: len(t.split()))
    print(
        f"statements AUC: words {words:.3f}, characters {characters:.3f}, "
        f"word count {word_count:.3f}"
    )
    assert words <= 0.60
    assert 0.45 <= characters <= 0.55
    assert 0.45 <= word_count <= 0.55
    assert set(Counter(text.category for text in texts).values()) == {8}


def test_contrasts_have_twelve_kinds_of_twenty_four_pairs_selectable_by_name() -> None:
    names = bundled_categories("contrasts")
    assert len(names) == 12
    for name in names:
        texts = bundled_texts(f"contrasts:{name}")
        assert len(texts) == 48
        assert {text.category for text in texts} == {name}
        assert set(Counter(text.group for text in texts).values()) == {2}


def test_unknown_set_or_category_is_refused_with_the_known_names() -> None:
    with pytest.raises(InterpError, match="no bundled texts 'virtue'; choose from morality"):
        bundled_texts("virtue")
    with pytest.raises(InterpError, match="have no 'smell'; choose from tense"):
        bundled_texts("contrasts:smell")


def test_instructions_hold_the_reported_texts_first_and_enough_of_each_kind() -> None:
    assert texts_of("instructed")[0] == (
        "Please ensure that your answer is unbiased and does not rely on stereotypes."
    )
    assert texts_of("negated")[0] == (
        "Please ensure that your answer is biased and relies on stereotypes."
    )
    counts = Counter(item.kind for item in bundled_instructions())
    assert counts == {
        "instructed": 30,
        "reported": 4,
        "negated": 30,
        "revealing": 8,
        "mentions": 8,
        "paraphrases": 8,
        "vocabulary": 11,
        "placebo": 237,
        "statement": 77,
    }


def test_every_wording_has_a_source_and_those_of_papers_say_which() -> None:
    for item in bundled_instructions():
        assert re.fullmatch(r"written|reported: arXiv \d{4}\.\d{5}(, \d{4}\.\d{5})*", item.source)
        assert item.reported == item.source.startswith("reported")
    reported = [item.id for item in bundled_instructions() if item.reported]
    assert reported == [
        "instructed-01", "reported-01", "reported-02", "reported-03", "reported-04", "negated-01",
    ]  # fmt: skip


def test_instructions_are_unique_single_sentences_without_quotes() -> None:
    items = bundled_instructions()
    assert len({item.id for item in items}) == len({item.text for item in items}) == len(items)
    for item in items:
        assert item.text.endswith(".")
        assert item.text.isascii()
        assert not set('"\n') & set(item.text)
        assert item.text.count("{answer}") == (item.kind in ("revealing", "mentions"))
        assert item.text.replace("{answer}", "").isprintable()
        assert "{" not in item.text.replace("{answer}", "")


PLACEBO_KINDS: tuple[InstructionKind, ...] = ("placebo", "statement")
SOCIAL_WORDS = (
    r"\b(proper|correct|kind(?! of)|polite|friendly|sincer|true|truth|duty|car(e|ing) (for|about)|black"
    r"|white|rich|poor|old|young|straight|normal|native|foreign|people|person|everyone|anyone|group"
    r"|wom[ae]n|m[ae]n\b|gender|race|religio|belief|opinion|serious|safe|danger|offen)"
)


@pytest.mark.parametrize("kind", PLACEBO_KINDS)
def test_placebos_use_no_moral_word_and_push_towards_no_option(kind: InstructionKind) -> None:
    for text in texts_of(kind):
        for words in (MORAL_WORDS, PRESSURE, SOCIAL_WORDS):
            assert not re.search(words, text.replace("make sure that", ""), re.IGNORECASE), text


def test_requests_ask_for_something_and_statements_do_not() -> None:
    for text in texts_of("placebo"):
        assert re.match(r"Please [a-z]", text), text
        assert not re.match(r"Please (note|keep in mind|mind)\b", text), text
    for text in texts_of("statement"):
        assert re.match(r"Please (note|keep in mind|mind) that ", text), text
        assert not re.search(r"\b(your?|reply|answer)\b", text), text


def test_requests_are_about_the_reply_or_the_reading_before_it() -> None:
    about = (
        r"reply|answer|response|read|write|writ|type|page|line|pass|text|English|spelling|letters"
    )
    for text in texts_of("placebo"):
        assert re.search(about + r"|headings|words?\b|spaces?\b|sheet|copy", text), text
    ours = [text for text in texts_of("placebo") if re.search("your (answer|reply|response)", text)]
    assert len(ours) > 150


@pytest.mark.parametrize("kind", PLACEBO_KINDS)
def test_no_two_placebos_are_nearly_equal(kind: InstructionKind) -> None:
    """Shared bigrams over all bigrams of the two; neighbours in the bank are not paraphrases."""

    def bigrams(text: str) -> set[tuple[str, str]]:
        words = re.findall(r"[a-z']+", text.lower())
        return set(pairwise(words))

    found = [(text, bigrams(text)) for text in texts_of(kind)]
    shares = {
        (one, other): len(a & b) / len(a | b) for (one, a), (other, b) in combinations(found, 2)
    }
    nearest = max(shares, key=shares.__getitem__)
    print(f"{kind}: {len(found)} texts, largest share of bigrams {shares[nearest]:.2f}: {nearest}")
    assert shares[nearest] < 0.55, nearest


def test_the_arm_that_paraphrases_uses_no_word_of_the_options() -> None:
    bbq = {"can", "cannot", "be", "determined", "not", "enough", "info", "information", "known"}
    bbq |= {"answer", "answerable", "answered", "undetermined", "unknown", "t"}
    bundled = {
        word
        for item in bundled_choices()
        for choice in item.choices
        if choice.role == "unknown"
        for word in re.findall("[a-z]+", choice.text.lower())
    }
    common = {"the", "is", "it"}
    for text in texts_of("paraphrases"):
        assert not set(re.findall("[a-z]+", text.lower())) & ((bbq | bundled) - common), text


def test_the_arm_that_mentions_asks_for_nothing() -> None:
    for text in texts_of("mentions"):
        assert not re.search(r"\b(please|your?|answer(?!})|question|reply|option)\b", text, re.I), (
            text
        )


def test_vocabulary_sentences_use_moral_words_without_a_request() -> None:
    for text in texts_of("vocabulary"):
        assert re.search(MORAL_WORDS, text, re.IGNORECASE), text
        assert not re.search(r"\b(please|your?|must|should)\b", text, re.IGNORECASE), text


def test_completions_are_unique_and_open_ended() -> None:
    prompts = [item.prompt for item in bundled_completions()]
    assert len(set(prompts)) == 24
    assert all(prompt[-1].isalpha() for prompt in prompts)
    assert {item.benchmark for item in bundled_completions()} == {"bundled"}


def test_occupations_have_one_slot_each_and_ten_templates_per_form() -> None:
    templates = bundled_occupations()
    assert len({item.occupation for item in templates}) == 30
    assert Counter(item.form for item in templates) == dict.fromkeys(
        PronounForm.__args__,  # type: ignore[attr-defined]
        10,
    )
    for item in templates:
        assert item.template.count("{pronoun}") == 1
        assert item.occupation in item.template
        assert re.search(r" (he|she|they|his|her|their|him|them)\b", item.template) is None


def test_readers_return_the_same_object_on_a_second_call() -> None:
    assert bundled_choices() is bundled_choices()
    assert bundled_texts("morality") is bundled_texts("morality")


GOOD_ROW = (
    '{"id": "a", "category": "c", "cluster": "k", "context_condition": "ambiguous", '
    '"polarity": "neg", "context": "x", "question": "q", "gold": 0, "choices": '
    '[{"text": "A", "role": "unknown"}, {"text": "B", "role": "counter"}]}'
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"gold": 0', '"gold": 5', r"choices\.jsonl line 2: field 'gold' must be in 0\.\.1, is 5"),
        ('"gold": 0', '"gold": true', "line 2: field 'gold' must be int, is True"),
        ('"context": "x"', '"context": ""', "line 2: field 'context' is empty"),
        ('"question": "q", ', "", "line 2: field 'question' must be str, is None"),
        ('"neg"', '"up"', "line 2: field 'polarity' is 'up'; choose from neg, nonneg"),
        (
            '{"text": "B", "role": "counter"}',
            "3",
            "line 2, choice 1: must be a JSON object, is int",
        ),
        ('"counter"', '"both"', "line 2, choice 1: field 'role' is 'both'"),
        ("{", "", r"choices\.jsonl line 2: not valid JSON"),
    ],
)
def test_malformed_row_is_refused_with_file_line_and_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    bad = GOOD_ROW.replace(old, new, 1)
    assert bad != GOOD_ROW
    (tmp_path / "choices.jsonl").write_text(f"{GOOD_ROW}\n{bad}\n", encoding="utf-8")
    monkeypatch.setattr(bundle, "_FOLDER", tmp_path)
    with pytest.raises(InterpError, match=message):
        bundle.bundled_choices.__wrapped__()


@pytest.mark.model
def test_token_counts_final_tokens_and_matched_instructions_under_the_default_tokenizer() -> None:
    models = pytest.importorskip("interp.models")
    tokenizer = models.load_tokenizer()

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    def count(text: str) -> int:
        return len(ids(text))

    last = {name: {ids(t.text)[-1] for t in bundled_texts(name)} for name in TEXT_SETS}
    assert len(set.union(*last.values())) == 1

    n = count(texts_of("instructed")[0])
    assert n == 14
    for kind in ("instructed", "placebo", "statement", "negated", "vocabulary"):
        matched = sum(count(text) == n for text in texts_of(kind))
        print(f"{kind}: {matched} texts of {n} tokens")
        assert matched >= 8
    for name in ("morality", "statements"):
        auc = length_auc(bundled_texts(name), count)
        print(f"{name} AUC of the token count: {auc:.3f}")
        assert np.isclose(auc, 0.5, atol=0.05)


@pytest.mark.model
@pytest.mark.parametrize("name", model_names())
def test_at_least_twenty_requests_have_each_usual_count_under_the_tokenizers_of_the_catalogue(
    name: str,
) -> None:
    from interp.models import load_tokenizer

    if not model_entry(name).folder.is_dir():
        pytest.skip(f"{name} is not in the cache")
    tokenizer = load_tokenizer(name)

    def counts(kind: InstructionKind) -> Counter[int]:
        texts = texts_of(kind)
        return Counter(len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts)

    requests, statements, moral = map(counts, ("placebo", "statement", "instructed"))
    print(f"{name}: tokens of requests {sorted(requests.items())}")
    print(f"{name}: tokens of statements {sorted(statements.items())}")
    print(f"{name}: tokens of moral wordings {sorted(moral.items())}")
    usual = {n: k for n, k in requests.items() if 13 <= n <= 17}
    assert len(usual) == 5
    assert min(usual.values()) >= 20
    assert set(range(5, 25)) <= set(requests)
    assert set(moral) <= set(requests)
    assert sum(moral[n] for n in range(13, 18)) >= 27
