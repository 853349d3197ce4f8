"""Static pictures of figures."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go

from interp.errors import InterpError


def save_png(figure: go.Figure, path: str | Path, *, width: int = 1000, scale: float = 2.0) -> Path:
    """Write a figure as PNG, ``width`` CSS pixels wide at ``scale`` pixels each.

    Raises:
        InterpError: kaleido or a Chrome/Chromium is missing, or the path cannot be written.
    """
    path = Path(path)
    if find_spec("kaleido") is None:
        raise InterpError(
            f"{path}: PNG needs the package kaleido (pip install 'interp-workbench[png]'), or "
            "write HTML with figure.write_html"
        )
    height = figure.layout.height or 500
    try:
        picture = figure.to_image(format="png", width=width, height=height, scale=scale)
    # kaleido passes on what its browser driver raises: no browser, or one that does not start
    except Exception as error:
        raise InterpError(
            f"{path}: PNG needs Chrome or Chromium (install one, set BROWSER_PATH to it if it is "
            f"not found), or write HTML with figure.write_html ({type(error).__name__})"
        ) from error
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise InterpError(f"{path}: cannot be written ({error.strerror})") from error
    return path
