import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.data.bundle import bundled_choices, bundled_completions
from interp.errors import InterpError
from interp.prompts.slots import SLOTS, fill, read_feedback, slots_in

ITEMS = bundled_choices()
ITEM = ITEMS[0]
GOLD = ITEM.choices[ITEM.gold].text


def test_every_slot_is_filled_with_what_its_name_says():
    item = replace(ITEM, meta={"percent_women": 45.5})
    wrong = next(k for k in range(3) if k != ITEM.gold)
    text = "|".join(f"{{{slot}}}" for slot in SLOTS)
    filled = fill(text, item, verdict_accuracy=1.0, feedback={ITEM.id: "Look."}, option=wrong)
    assert filled == f"{GOLD}|{ITEM.choices[wrong].text}|wrong|45.5|Look."


@pytest.mark.parametrize(("accuracy", "word"), [(1.0, "correct"), (0.0, "wrong")])
def test_a_verdict_on_the_gold_answer_is_correct_when_true_and_wrong_when_flipped(accuracy, word):
    for item in ITEMS[:20]:
        assert fill("{verdict}", item, verdict_accuracy=accuracy, option=item.gold) == word


@given(seed=st.integers(0, 2**32), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_verdict_that_is_true_at_one_accuracy_stays_true_at_a_higher_one(seed, low, high):
    low, high = sorted((low, high))
    truths = [
        fill("{verdict}", ITEM, verdict_accuracy=a, seed=seed, option=ITEM.gold) == "correct"
        for a in (low, high)
    ]
    assert truths[0] <= truths[1]


@pytest.mark.slow
def test_drawn_options_are_gold_in_half_and_random_verdicts_true_in_half_independently():
    n = 2000
    items = [replace(ITEM, id=f"item-{k}") for k in range(n)]
    pairs = [fill("{option}|{verdict}", i, verdict_accuracy=0.5).split("|") for i in items]
    gold = [option == GOLD for option, _ in pairs]
    true = [g == (verdict == "correct") for g, (_, verdict) in zip(gold, pairs, strict=True)]
    both = [g and t for g, t in zip(gold, true, strict=True)]
    for drawn, share in ((gold, 0.5), (true, 0.5), (both, 0.25)):
        assert abs(sum(drawn) / n - share) < 0.04
    others = {option for option, _ in pairs} - {GOLD}
    assert others == {c.text for c in ITEM.choices} - {GOLD}


@pytest.mark.slow
def test_draws_depend_on_seed_and_item_alone():
    def draws(seed, items):
        text = "{option}|{verdict}"
        return {i.id: fill(text, i, verdict_accuracy=0.5, seed=seed) for i in items}

    assert draws(0, ITEMS) == draws(0, ITEMS[::-1])
    assert draws(0, ITEMS) != draws(1, ITEMS)


@given(st.text(alphabet="{}abc", max_size=12), st.sampled_from(["{answer}", "{option}", "{x}"]))
def test_filling_replaces_slots_alone_and_never_what_it_has_filled_in(around, answer):
    choices = (replace(ITEM.choices[0], text=answer), *ITEM.choices[1:])
    item = replace(ITEM, choices=choices, gold=0)
    assert fill(f"({around}) ", item) == f"({around}) "
    assert fill(f"{around} {{answer}}.", item) == f"{around} {answer}."


def test_unknown_slots_and_stray_braces_are_refused():
    assert slots_in("{option} is {verdict}, {option}") == {"option", "verdict"}
    with pytest.raises(InterpError, match=r"no slot \{anser\}; did you mean 'answer'\?"):
        slots_in("It is {anser}.")
    with pytest.raises(InterpError, match="single brace in 'a } b'"):
        slots_in("a } b")


def test_what_an_item_cannot_fill_is_refused_by_item_and_slot():
    completion = bundled_completions()[0]
    cases = [
        ("{answer}", completion, {}, "has no choices, which the slot {answer} needs"),
        ("{verdict}", ITEM, {}, "the slot {verdict} needs a verdict_accuracy"),
        ("{statistic}", ITEM, {}, "has no labour statistic"),
        ("{feedback}", ITEM, {}, "needs a file of feedback"),
        ("{feedback}", ITEM, {"feedback": {"x": "y"}}, "has no feedback: add a line"),
        ("{option}", ITEM, {"option": 3}, "option 3 is outside 0..2"),
    ]
    for text, item, options, words in cases:
        with pytest.raises(InterpError) as error:
            fill(text, item, **options)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_feedback_is_read_per_item(tmp_path):
    path = tmp_path / "f.jsonl"
    rows = [{"id": "a", "feedback": " Read it again. "}, {"id": "b", "feedback": "Good."}]
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert read_feedback(path) == {"a": "Read it again.", "b": "Good."}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1: not valid JSON"),
        ("[]", "line 1: must be a JSON object, is list"),
        ('{"id": "a", "feedbak": "x"}', "line 1: no field 'feedbak'; did you mean 'feedback'?"),
        ('{"id": "a"}', "line 1, field 'feedback': expected a text, got None"),
        ('{"id": 3, "feedback": "x"}', "line 1, field 'id': expected a text, got 3"),
        ('{"id": "a", "feedback": "x"}\n' * 2, "line 2: a second feedback for item 'a'"),
        ("\n", "holds no feedback"),
    ],
)
def test_a_bad_feedback_file_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "f.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InterpError) as error:
        read_feedback(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_feedback_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(InterpError, match="cannot be read"):
        read_feedback(tmp_path / "none.jsonl")
    (tmp_path / "f.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InterpError, match="not UTF-8"):
        read_feedback(tmp_path / "f.jsonl")
