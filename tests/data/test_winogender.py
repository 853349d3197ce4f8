import csv
import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.data.load import load_items
from interp.data.winogender import PRONOUNS, read_winogender
from interp.errors import InterpError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "winogender"
HEADER = "occupation(0)\tother-participant(1)\tanswer\tsentence"
BAKER = "baker\tguest\t0\tThe $OCCUPATION told the $PARTICIPANT that $NOM_PRONOUN had time."
GUEST = "baker\tguest\t1\tThe $OCCUPATION told the $PARTICIPANT that $NOM_PRONOUN could pay."
PILOT = "pilot\tchild\t0\tThe $PARTICIPANT met the $OCCUPATION near $POSS_PRONOUN plane."
CLERK = "clerk\tguest\t0\tThe $OCCUPATION asked the $PARTICIPANT to wait for $ACC_PRONOUN."
SHARES = {"baker": "60.8", "pilot": "7.5", "clerk": "50"}


def write(folder: Path, *rows: str, shares: dict[str, str] = SHARES, header: str = HEADER) -> Path:
    (folder / "templates.tsv").write_text("\n".join([header, *rows]) + "\n")
    table = ["occupation\tbergsma_pct_female\tbls_pct_female\tbls_year"]
    table += [f"{name}\t1\t{share}\t2015" for name, share in shares.items()]
    (folder / "occupations-stats.tsv").write_text("\n".join(table) + "\n")
    return folder


def test_a_template_becomes_a_blank_with_three_pronouns_of_its_form(tmp_path: Path) -> None:
    baker, pilot, clerk = read_winogender(write(tmp_path, BAKER, PILOT, CLERK))
    assert baker.context == "The baker told the guest that _____ had time."
    assert baker.question == "Which word fits the blank best?"
    assert pilot.context == "The child met the pilot near _____ plane."
    assert [c.text for c in baker.choices] == ["he", "she", "they"]
    assert [c.text for c in pilot.choices] == ["his", "her", "their"]
    assert [c.text for c in clerk.choices] == ["him", "her", "them"]
    assert (baker.id, baker.cluster, baker.benchmark) == (
        "winogender:baker.guest",
        "baker",
        "winogender",
    )
    assert dict(baker.meta) == {
        "occupation": "baker",
        "participant": "guest",
        "form": "nominative",
        "agrees": True,
        "percent_women": 60.8,
    }


def test_the_majority_in_the_statistics_is_the_stereotype_and_neutral_is_gold(
    tmp_path: Path,
) -> None:
    baker, pilot, clerk = read_winogender(write(tmp_path, BAKER, PILOT, CLERK))
    assert [c.role for c in baker.choices] == ["counter", "stereotyped", "unknown"]
    assert [c.role for c in pilot.choices] == ["stereotyped", "counter", "unknown"]
    assert [c.role for c in clerk.choices] == ["other", "other", "unknown"]
    assert [i.category for i in (baker, pilot, clerk)] == ["mostly women", "mostly men", "even"]
    assert {i.gold for i in (baker, pilot, clerk)} == {2}
    assert {i.context_condition for i in (baker, pilot, clerk)} == {"ambiguous"}
    assert [i.contrast() for i in (baker, pilot, clerk)] == [(2, 1), (2, 0), None]


def test_templates_whose_pronoun_is_the_participants_are_left_out(tmp_path: Path) -> None:
    assert [i.id for i in read_winogender(write(tmp_path, GUEST, BAKER))] == [
        "winogender:baker.guest"
    ]
    assert read_winogender(write(tmp_path, GUEST)) == ()


def test_a_singular_verb_behind_the_blank_is_marked(tmp_path: Path) -> None:
    items = read_winogender(write(tmp_path, BAKER.replace("had time", "was late"), PILOT))
    assert [item.meta["agrees"] for item in items] == [False, True]


def test_windows_line_ends_a_mark_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    expected = read_winogender(write(tmp_path, BAKER, PILOT))
    for path in tmp_path.glob("*.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert read_winogender(tmp_path) == expected
    assert read_winogender(tmp_path / "templates.tsv") == expected
    assert load_items(f"winogender:{tmp_path}") == expected


@settings(max_examples=40)
@given(st.floats(0, 100), st.sampled_from(["$NOM_PRONOUN", "$POSS_PRONOUN", "$ACC_PRONOUN"]))
def test_any_share_gives_one_gold_and_roles_that_follow_the_majority(
    share: float, slot: str
) -> None:
    row = f"baker\tguest\t0\tThe $OCCUPATION and the $PARTICIPANT: {slot}."
    with TemporaryDirectory() as folder:
        (item,) = read_winogender(write(Path(folder), row, shares={"baker": str(share)}))
    assert item.index_of("unknown") == item.gold == 2
    assert item.index_of("stereotyped") == (None if share == 50 else int(share > 50))
    assert tuple(c.text for c in item.choices) in PRONOUNS.values()
    assert item.context == "The baker and the guest: _____."


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (BAKER.replace("\t0\t", "\t2\t"), "field 'answer': expected one of 0, 1, got '2'"),
        (BAKER.replace("$NOM_PRONOUN", "he"), "field 'sentence': expected one of .*, got none"),
        (BAKER.replace("$NOM_PRONOUN", "$REFL_PRONOUN"), "got \\$REFL_PRONOUN"),
        (f"{BAKER} $NOM_PRONOUN", "got \\$NOM_PRONOUN, \\$NOM_PRONOUN"),
        (BAKER.replace("$PARTICIPANT", "guest"), r"expected \$PARTICIPANT once"),
        (BAKER.replace("baker", "miner"), "occupations-stats.tsv has no row for 'miner'"),
        (BAKER.replace("guest", ""), r"field 'other-participant\(1\)': expected a text"),
        ("baker\tguest\t0", "3 cells, not 4"),
        (PILOT, "'winogender:pilot.child' was read from line 2 already"),
    ],
)
def test_a_bad_row_names_file_line_and_field(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InterpError, match=rf"templates\.tsv, line 3.*{message}"):
        read_winogender(write(tmp_path, PILOT, row))


@pytest.mark.parametrize("share", ["", "many", "101", "-1", "nan"])
def test_a_share_outside_0_to_100_is_refused(tmp_path: Path, share: str) -> None:
    write(tmp_path, BAKER, shares={"baker": share})
    with pytest.raises(InterpError, match=r"stats\.tsv, line 2, field 'bls_pct_female': expected"):
        read_winogender(tmp_path)


def test_missing_files_and_another_header_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match=r"holds no file called templates\.tsv"):
        read_winogender(tmp_path)
    (tmp_path / "test.tsv").write_text("sentid\tsentence\n")
    with pytest.raises(InterpError, match="neither templates nor labour statistics; give a folder"):
        read_winogender(tmp_path)
    write(tmp_path, BAKER, header="a\tb\tc\td")
    with pytest.raises(InterpError, match="line 2, field 'answer'"):
        read_winogender(tmp_path)
    (tmp_path / "occupations-stats.tsv").unlink()
    with pytest.raises(InterpError, match=r"stats\.tsv: no such file; it says which pronoun"):
        read_winogender(tmp_path)
    write(tmp_path).joinpath("templates.tsv").write_bytes(b"\xff\n")
    with pytest.raises(InterpError, match=r"templates\.tsv, line 1: not UTF-8"):
        read_winogender(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not beside the project")
def test_the_published_files_give_as_many_items_as_the_docstring_says() -> None:
    items = read_winogender(SHARED)
    assert len(items) == len({item.cluster for item in items}) == 60
    assert Counter(item.category for item in items) == {"mostly women": 31, "mostly men": 29}
    forms = Counter(item.meta["form"] for item in items)
    assert forms == {"nominative": 47, "possessive": 11, "accusative": 2}
    assert sum(not item.meta["agrees"] for item in items) == 8
    slots = re.findall(r"\$([A-Z]+)_PRONOUN", (SHARED / "templates.tsv").read_text())
    assert Counter(slots) == {"NOM": 89, "POSS": 27, "ACC": 4}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published files are not beside the project")
def test_filled_blanks_are_the_published_sentences() -> None:
    with (SHARED / "all_sentences.tsv").open() as stream:
        published = dict(csv.reader(stream, delimiter="\t"))
    for item in read_winogender(SHARED):
        for choice, gender in zip(item.choices, ("male", "female", "neutral"), strict=True):
            expected = published[f"{item.id.removeprefix('winogender:')}.0.{gender}.txt"]
            filled = item.context.replace("_____", choice.text)
            assert (filled == expected) == (item.meta["agrees"] or gender != "neutral")


@pytest.mark.dataset
def test_the_catalogue_has_the_published_files() -> None:
    items = load_items("winogender", progress=False)
    assert len(items) == 60
    if SHARED.is_dir():
        assert items == read_winogender(SHARED)
