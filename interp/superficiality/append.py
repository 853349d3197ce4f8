"""Append or edit: does the instruction change what is said, or what is added to it?

The item is asked without an answer prefix and the reply is generated greedily: with the instruction,
with its placebo, and with another placebo of the same length. Of two replies, *kept prefix* is the share
of the placebo's reply that the other one begins with, *kept* the share of its tokens that stand in the
other one in their order, and *appended* the share of the other reply that comes behind these
(:mod:`interp.behaviour.edits`). Two placebos differ as well: what they keep of each other is the level
that an instruction is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from transformer_lens.model_bridge import TransformerBridge

from interp.behaviour.edits import edit_shares
from interp.behaviour.generation import Decoding, generate
from interp.data import ChoiceItem
from interp.prompts import Condition, condition_conversation, tokenize
from interp.stats import Interval, cluster_mean, interval_columns, random_wordings, require_columns
from interp.superficiality.finding import Finding

APPENDED = "append or edit"

MAX_NEW_TOKENS = 32
"""Tokens of a reply, at most."""

EDITS = ("item", "cluster", "slot", "against", "kept_prefix", "kept_tokens", "appended", "n_before",
         "n_after", "kind", "before", "after")  # fmt: skip
"""Columns of :func:`measure_edits`. ``against``: ``instruction`` or ``placebo``, whose reply stands
beside the placebo's; ``before`` and ``after``: both replies."""

_SHARES = ("kept_prefix", "kept_tokens", "appended")


def measure_edits(
    model: TransformerBridge,
    item: ChoiceItem,
    corrected: Condition,
    placebos: Sequence[Condition],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> pd.DataFrame:
    """Replies with the instruction and another placebo, against the placebo's: columns :data:`EDITS`.

    Args:
        model: a bridge in evaluation mode.
        item: what is asked, the instruction first.
        corrected: the instruction.
        placebos: its placebo, and another one.
        max_new_tokens: of each reply.

    Raises:
        InterpError: a prompt that leaves no room in the context.
    """
    first, second = placebos
    cfg = model.cfg
    prompts = [
        tokenize(
            model.tokenizer,
            condition_conversation(item, text, placement="before", answer_prefix=""),
            n_ctx=cfg.n_ctx,
            n_vocab=cfg.d_vocab,
        )
        for text in (first, corrected, second)
    ]
    replies = generate(model, prompts, decoding=Decoding(max_new_tokens=max_new_tokens))
    rows = []
    for against, reply in (("instruction", replies[1]), ("placebo", replies[2])):
        edit = edit_shares(replies[0].ids, reply.ids)
        shares = [edit.kept_prefix, edit.kept_tokens, edit.appended, edit.n_before, edit.n_after]
        texts = [replies[0].text, reply.text]
        rows.append(
            (item.id, item.cluster, str(corrected.slot), against, *shares, edit.kind, *texts)
        )
    return pd.DataFrame(rows, columns=list(EDITS))


def append_finding(edits: pd.DataFrame) -> Finding:
    """How much of the reply the instruction keeps, less what another placebo keeps of it.

    Below 0: the instruction rewrites more than a change of placebo does. The shares that are appended
    stand in the table and in the reading.

    Args:
        edits: of :func:`measure_edits`.

    Raises:
        InterpError: a missing column.
    """
    require_columns(edits, EDITS, "the table of edits")
    wide = edits.pivot(index=["item", "cluster", "slot"], columns="against", values=list(_SHARES))
    clusters, slots = (wide.index.get_level_values(name).tolist() for name in ("cluster", "slot"))
    wordings = random_wordings(slots)
    found: dict[tuple[str, str], Interval] = {}
    for share in _SHARES:
        sides = {name: wide[share][name].to_numpy(float) for name in ("instruction", "placebo")}
        sides["difference"] = sides["instruction"] - sides["placebo"]
        for name, values in sides.items():
            found[share, name] = cluster_mean(values, clusters, wordings=wordings)
    row = found["kept_tokens", "difference"]
    table = [
        {"share": share, "of": name, **interval_columns(one)}
        for (share, name), one in found.items()
    ]
    return Finding(
        APPENDED,
        "share of the reply's tokens kept, instruction - other placebo",
        row,
        float(row.p),
        "the instruction keeps as much of the reply as another placebo does",
        int(row.n),
        f"The instruction keeps {_said(found, 'kept_tokens')} of the placebo's reply's tokens and "
        f"{_said(found, 'kept_prefix')} as its beginning; {_said(found, 'appended')} of the new "
        "reply is appended to what is kept.",
        pd.DataFrame(table),
    )


def _said(found: dict[tuple[str, str], Interval], share: str) -> str:
    own, other = (100 * float(found[share, name].estimate) for name in ("instruction", "placebo"))
    return f"{own:.0f} % (another placebo {other:.0f} %)"
