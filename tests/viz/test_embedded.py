"""A page inside a report: packed whole, to the same bytes each time, and unable to end the report."""

from __future__ import annotations

import base64
import gzip

from interp.viz import Section, embed_page, render_report

HOSTILE = "<!DOCTYPE html><p></script></details>\ud83d ünï</p>"


def packed(html: str) -> str:
    return html.split('<script type="application/gzip">')[1].split("</script>")[0]


def test_the_page_is_packed_whole_and_half_a_surrogate_pair_as_a_reference() -> None:
    page = gzip.decompress(base64.b64decode(packed(embed_page("t", HOSTILE).html)))
    assert page.decode() == HOSTILE.replace("\ud83d", "&#55357;")


def test_a_page_of_markup_leaves_the_report_around_it_whole() -> None:
    report = render_report(
        [Section("a", figures=[(embed_page("<b>title</b>", HOSTILE), "")])], title="t", lead=""
    )
    assert "&lt;b&gt;title" in report
    assert report.count("</details>") == 1
    assert "ünï" not in report


def test_equal_pages_are_packed_to_equal_bytes_and_to_less() -> None:
    page = "<p>attention</p>" * 10_000
    assert embed_page("t", page) == embed_page("t", page)
    assert len(embed_page("t", page).html) < len(page) / 10
