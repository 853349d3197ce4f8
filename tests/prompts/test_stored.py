"""A prompt as a row of a table, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from interp.data.bundle import bundled_choices
from interp.errors import InterpError
from interp.prompts import build_conversation, prompt_of_row, prompt_row, tokenize


def test_a_prompt_comes_back_from_parquet_as_it_was(tokenizer: Any, tmp_path: Path) -> None:
    prompt = tokenize(tokenizer, build_conversation(bundled_choices()[0]))
    pd.DataFrame([prompt_row(prompt)]).to_parquet(tmp_path / "prompt.parquet")
    (row,) = pd.read_parquet(tmp_path / "prompt.parquet").to_dict("records")
    again = prompt_of_row(row)
    assert again.ids.tolist() == prompt.ids.tolist()
    assert dict(again.spans) == dict(prompt.spans)
    assert (again.str_tokens, again.text) == (prompt.str_tokens, prompt.text)
    assert (again.label, again.n_bos) == (prompt.label, prompt.n_bos)


@pytest.mark.parametrize("row", [{}, {"spans": ["a"], "span_starts": [], "span_stops": []}])
def test_another_row_is_refused_in_one_line(row: dict[str, Any]) -> None:
    with pytest.raises(InterpError, match="a prompt's row cannot be read") as error:
        prompt_of_row(row)
    assert "\n" not in str(error.value)
