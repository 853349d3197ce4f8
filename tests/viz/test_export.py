"""Figures as files: by suffix, whole or not at all, and what is said where nothing can draw."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest

from interp.errors import InterpError
from interp.viz import Fragment, require_browser, save


def figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name="</script>"), go.Layout(height=300))


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    chromium = pytest.importorskip("choreographer.browsers.chromium")
    pytest.importorskip("kaleido")
    monkeypatch.setattr(chromium.Chromium, "find_browser", lambda skip_local: None)


def test_html_of_a_figure_is_one_offline_file_in_a_new_folder(tmp_path: Path) -> None:
    path = save(figure(), tmp_path / "new" / "folder" / "a.HTML")
    page = path.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert "cdn.plot.ly" not in page.split("<script")[-1]
    assert 'src="http' not in page
    assert [p.name for p in path.parent.iterdir()] == ["a.HTML"]
    assert save(figure(), tmp_path / "b.html").read_bytes() == path.read_bytes()


def test_html_of_a_fragment_is_a_page_with_it(tmp_path: Path) -> None:
    page = save(Fragment("<em>kept</em>"), tmp_path / "a<b.html").read_text(encoding="utf-8")
    assert "<em>kept</em>" in page
    assert "<title>a&lt;b</title>" in page
    assert "<h2>" not in page


def test_a_fragment_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match=r"save it as a\.html"):
        save(Fragment("x"), tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a", "a.jpg", "a.png.txt", ".html"])
def test_another_suffix_is_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(InterpError, match=r"none of \.png, \.svg, \.pdf, \.html"):
        save(figure(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InterpError, match="file': cannot be made"):
        save(figure(), tmp_path / "file" / "a.html")


@pytest.mark.parametrize("name", ["a\0b.html", "\ud83d.html", "a\0b/c.html"])
def test_a_name_that_no_file_can_have_is_one_clear_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InterpError, match="cannot be"):
        save(Fragment("x"), tmp_path / name)


def test_half_a_surrogate_pair_in_a_page_is_written_as_a_reference(tmp_path: Path) -> None:
    assert b"&#55357;" in save(Fragment("\ud83d"), tmp_path / "a.html").read_bytes()


@pytest.mark.parametrize("size", [{"width": -5}, {"scale": 0.0}])
def test_a_size_that_is_not_positive_is_refused(tmp_path: Path, size: dict[str, float]) -> None:
    with pytest.raises(InterpError, match="above 0"):
        save(figure(), tmp_path / "a.svg", **size)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_without_kaleido_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("interp.viz.export.find_spec", lambda name: None)
    with pytest.raises(InterpError, match=r"pip install 'kaleido"):
        save(figure(), tmp_path / f"a.{suffix}")
    assert save(figure(), tmp_path / "a.html").exists()


def test_without_a_browser_what_to_install_is_named(tmp_path: Path, no_browser: None) -> None:
    for call in (require_browser, lambda: save(figure(), tmp_path / "new" / "a.png")):
        with pytest.raises(InterpError, match="apt install chromium") as error:
            call()
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_browser_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kaleido")
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    with pytest.raises(InterpError, match=r"BROWSER_PATH \(/no/such/browser\) is no file"):
        require_browser()


def test_a_browser_that_fails_is_named_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaleido = pytest.importorskip("kaleido")

    def fails(*args: object, **options: object) -> bytes:
        raise RuntimeError("it ended\nat once")

    monkeypatch.setattr(kaleido, "calc_fig_sync", fails)
    monkeypatch.setattr("interp.viz.export.require_browser", lambda: Path("/usr/bin/chrome"))
    old = tmp_path / "a.png"
    old.write_text("old")
    with pytest.raises(InterpError, match=r"/usr/bin/chrome did not draw it .*it ended\)"):
        save(figure(), old)
    assert old.read_text() == "old"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")]
)
def test_pictures_are_drawn_by_the_browser(tmp_path: Path, suffix: str, start: bytes) -> None:
    try:
        require_browser()
    except InterpError as error:
        pytest.skip(str(error))
    path = save(figure(), tmp_path / "new" / f"a.{suffix}", width=400, scale=1.0)
    content = path.read_bytes()
    assert content.startswith(start)
    assert len(content) > 1000
    if suffix == "png":
        sizes = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
        assert sizes == (400, 300)
