from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest

from interp.errors import InterpError
from interp.stats import Interval
from interp.viz import Fragment, Section, render_report, template
from interp.viz.report import format_interval

HOSTILE = "</script><script>alert(1)</script><!-- \"quoted' & ünï\n漢字"


class Outline(HTMLParser):
    """Counts tags and collects text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.links: list[str] = []
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._open = tag
        if tag == "script":
            self.scripts.append("")
        self.links += [v for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.text += data


def figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[1, 2], name=HOSTILE))


def test_a_report_of_hostile_text_keeps_its_structure_and_shows_the_text():
    table = pd.DataFrame({HOSTILE: [HOSTILE]})
    plain = Outline(page_of("harmless", pd.DataFrame({"harmless": ["harmless"]})))
    hostile = Outline(page_of(HOSTILE, table))
    assert hostile.tags == plain.tags
    assert hostile.text.count(HOSTILE) == plain.text.count("harmless") == 13
    assert not any("alert(1)</script" in script for script in hostile.scripts[1:])


def page_of(text: str, table: pd.DataFrame) -> str:
    chart = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], name=text))
    section = Section(text, [text], [(table, text)], [(chart, text)], note=text)
    return render_report([section, Section(text)], title=text, lead=text)


def test_plotly_is_on_the_page_once_and_only_when_a_figure_needs_it():
    twice = render_report(
        [Section("a", figures=[(figure(), ""), (figure(), "")])], title="t", lead="l"
    )
    none = render_report([Section("a")], title="t", lead="l")
    assert 4_000_000 < len(twice) < 6_000_000
    assert twice.count("Plotly.newPlot(") == 2
    assert len(none) < 10_000


def test_a_report_refers_to_nothing_outside_itself():
    page = render_report([Section("a", figures=[(figure(), "")])] * 2, title="t", lead="l")
    assert [link for link in Outline(page).links if not link.startswith(("#", "data:"))] == []


def test_equal_reports_have_equal_bytes():
    pages = {
        render_report([Section("a", figures=[(figure(), "")])], title="t", lead="l")
        for _ in range(2)
    }
    assert len(pages) == 1


def test_a_table_of_contents_links_every_section_and_a_single_section_has_none():
    two = render_report([Section("first"), Section("second")], title="t", lead="l")
    assert 'href="#section-2"' in two
    assert 'id="section-2"' in two
    assert "<nav" not in render_report([Section("only")], title="t", lead="l")


def test_tables_align_numbers_and_format_intervals_with_one_number_of_decimals_per_column():
    frame = pd.DataFrame(
        {
            "name": ["a", "b"],
            "n": [3, 4],
            "p": [0.0316, float("nan")],
            "effect": [
                Interval(0.12, 0.05, 0.19, 9, 4),
                Interval(float("nan"), float("nan"), float("nan"), 0, 0, reason="no items"),
            ],
        }
    )
    page = render_report([Section("s", tables=[(frame, "")])], title="t", lead="l")
    assert '<td>a</td><td class="number">3</td><td class="number">0.032</td>' in page
    assert '<td class="number">0.12 [0.05, 0.19]</td>' in page
    assert '<td class="number">–</td><td class="number">– (no items)</td>' in page


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.12, 0.05, 0.19, 9, 4), "0.12 [0.05, 0.19]"),
        (Interval(-0.0151, -0.0201, -0.0101, 9, 4), "-0.015 [-0.020, -0.010]"),
        (Interval(-0.001, -0.3, 0.3, 9, 4), "0.00 [-0.30, 0.30]"),
        (Interval(0.5, float("nan"), float("nan"), 1, 1, reason="a single cluster"), "0.50"),
    ],
)
def test_an_interval_reads_with_as_many_decimals_as_its_width_calls_for(interval, text):
    assert format_interval(interval) == text


def test_a_report_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "report.html"
    page = render_report([Section("a")], title="t", lead="l", path=path)
    assert path.read_text(encoding="utf-8") == page
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_path_that_cannot_be_written_is_one_clear_line(tmp_path):
    with pytest.raises(InterpError, match="cannot be written"):
        render_report([Section("a")], title="t", lead="l", path=tmp_path / "no" / "report.html")


def test_fragments_are_taken_as_they_are():
    page = render_report(
        [Section("a", figures=[(Fragment("<em>kept</em>"), "")])], title="t", lead="l"
    )
    assert "<em>kept</em>" in page


def test_the_template_is_registered_nowhere():
    before = set(plotly.io.templates)
    template()
    assert set(plotly.io.templates) == before
