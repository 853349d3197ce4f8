"""How an axis is found in labelled states: one function per method, all layers at once.

Every method maps ``values [layer, prompt, d_model]`` and binary labels to one unit vector per
layer, signed so that + is label 1:

``mean_difference``      mean(positive) - mean(negative) (arXiv 2310.06824, without the covariance)
``lda``                  S^-1 (mean(positive) - mean(negative)), S the covariance of all states shrunk
                         as Ledoit and Wolf do (scikit-learn). With the same ridge this is Fisher's
                         discriminant: the within-class covariance differs from S by a multiple of
                         the outer product of the difference, which changes the length only.
``logistic_regression``  L2-penalised (C = 0.01, not tuned), on standardised dimensions; the
                         standardisation is undone
``pca``                  first principal component of the pair differences (positive - negative mean of
                         each group, taken with both signs so that their mean is 0, as in
                         arXiv 2310.01405), its sign set by the labels
``statements``           the reading of arXiv 2407.15286: minus the sum of the unit states of the
                         negative statements of the same layer. A state's cosine with this axis is,
                         up to one factor, minus its mean cosine with the statements (its "immorality")
``statements_last``      the same with the statements' states of the last layer read at every layer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from interp.directions.names import METHODS, FitMethod
from interp.errors import InterpError

Values: TypeAlias = Float[Tensor, "layer prompt d_model"]
Labels: TypeAlias = Bool[Tensor, " prompt"]
Axes: TypeAlias = Float[Tensor, "layer d_model"]

_C = 0.01


def axes(method: FitMethod, values: Values, labels: Labels, groups: Sequence[str]) -> Axes:
    """One unit vector per layer (see the module).

    Raises:
        InterpError: an unknown method, classes with the same mean, or groups without both labels
            where pairs are needed.
    """
    if method not in _METHODS:
        raise InterpError(f"no method {method!r}; known: {', '.join(METHODS)}")
    # decided by the states: of equal ones the means may differ by rounding, and solvers break down
    _require_direction(method, (values != values[:, :1]).flatten(1).any(1))
    if method in ("mean_difference", "lda"):
        _require_direction(method, _means_differ(values, labels))
    found = _METHODS[method](values, labels, groups)
    norms = found.norm(dim=-1)
    _require_direction(method, norms > 0)
    return found / norms[:, None]


def _means_differ(values: Values, labels: Labels) -> Bool[Tensor, " layer"]:
    """Whether the class means differ by more than rounding, which depends on the processor."""
    difference = _mean_difference(values, labels, ())
    rounding = 8 * torch.finfo(values.dtype).eps * values.abs().amax(1)
    return (difference.abs() > rounding).any(-1)


def _require_direction(method: FitMethod, there: Bool[Tensor, " layer"]) -> None:
    if not bool(there.all()):
        raise InterpError(
            f"{method} finds no direction at layer row {int(there.int().argmin())}: both classes "
            "have the same mean"
        )


def class_units(
    values: Values, labels: Labels, vectors: Axes
) -> tuple[Float[Tensor, " layer"], Float[Tensor, " layer"]]:
    """Scale (> 0) and offset per layer that put the class means at +1 and -1.

    Along an axis on which the negative class lies higher, they are put at -1 and +1: the sign of
    the axis is the method's, never turned to suit the numbers.
    """
    dots = torch.einsum("lpd,ld->lp", values, vectors)
    positive, negative = dots[:, labels].mean(1), dots[:, ~labels].mean(1)
    scale = (positive - negative).abs() / 2
    if bool((scale == 0).any()):
        raise InterpError(
            f"both classes have the same mean along the axis at layer row {int(scale.argmin())}"
        )
    return scale, (positive + negative) / 2


def lda_metric(centred: Values) -> Float[Tensor, "layer prompt prompt"]:
    """What turns a contrast of the prompts into LDA's: S^-1 X' c = X' K c, with K returned.

    ``centred`` are the states X less their mean; S = (1 - s) X'X/n + r I with Ledoit and Wolf's s
    and r = s tr(X'X)/(n d). By Woodbury's identity K = a/r (a I + X X')^-1 with a = r n/(1 - s):
    a system of n equations where S has d, and n is the smaller.
    """
    metrics = []
    for states in centred.double():
        n, d = states.shape
        shrinkage = float(ledoit_wolf_shrinkage(states.numpy(), assume_centered=True))
        shrinkage = min(max(shrinkage, 1e-6), 1 - 1e-6)
        gram = states @ states.T
        ridge = shrinkage * gram.trace() / (n * d)
        weight = ridge * n / (1 - shrinkage)
        gram.diagonal().add_(weight)
        metrics.append(weight / ridge * torch.cholesky_inverse(torch.linalg.cholesky(gram)))
    return torch.stack(metrics).float()


def _mean_difference(values: Values, labels: Labels, groups: Sequence[str]) -> Axes:
    return values[:, labels].mean(1) - values[:, ~labels].mean(1)


def _lda(values: Values, labels: Labels, groups: Sequence[str]) -> Axes:
    centred = values - values.mean(1, keepdim=True)
    contrast = labels / labels.sum() - (~labels) / (~labels).sum()
    return torch.einsum("lpd,lp->ld", centred, lda_metric(centred) @ contrast)


def _logistic_regression(values: Values, labels: Labels, groups: Sequence[str]) -> Axes:
    found = []
    for states in values.double().numpy():
        scaler = StandardScaler().fit(states)
        model = LogisticRegression(C=_C, max_iter=2000)
        model.fit(scaler.transform(states), labels.numpy())
        found.append(model.coef_[0] / scaler.scale_)
    return torch.tensor(np.stack(found), dtype=torch.float32)


def _pca(values: Values, labels: Labels, groups: Sequence[str]) -> Axes:
    differences = pair_differences(values, labels, groups)
    both_signs = torch.cat([differences, -differences], dim=1).double().numpy()
    found = []
    _require_direction("pca", differences.flatten(1).any(1))
    for rows in both_signs:
        pca = PCA(n_components=1, svd_solver="arpack", random_state=0).fit(rows)
        found.append(pca.components_[0])
    vectors = torch.tensor(np.stack(found), dtype=torch.float32)
    difference = _mean_difference(values, labels, groups)
    signs = torch.where((vectors * difference).sum(-1) < 0, -1.0, 1.0)
    return vectors * signs[:, None]


def pair_differences(
    values: Values, labels: Labels, groups: Sequence[str]
) -> Float[Tensor, "layer group d_model"]:
    """Mean of the positive states minus mean of the negative ones of every group that has both.

    Raises:
        InterpError: fewer than two such groups.
    """
    names = np.asarray(groups)
    found = []
    for name in dict.fromkeys(groups):
        inside = torch.from_numpy(names == name)
        if bool((inside & labels).any()) and bool((inside & ~labels).any()):
            up, down = values[:, inside & labels], values[:, inside & ~labels]
            found.append(up.mean(1) - down.mean(1))
    if len(found) < 2:
        raise InterpError(
            f"pca needs groups with both labels (pairs), found {len(found)}: give texts whose "
            "group names the pair, or choose another method"
        )
    return torch.stack(found, dim=1)


def _statements(values: Values, labels: Labels, groups: Sequence[str]) -> Axes:
    return -torch.nn.functional.normalize(values[:, ~labels], dim=-1).sum(1)


def _statements_last(values: Values, labels: Labels, groups: Sequence[str]) -> Axes:
    return _statements(values[-1:], labels, groups).expand(len(values), -1)


_METHODS: dict[str, Callable[[Values, Labels, Sequence[str]], Axes]] = {
    "mean_difference": _mean_difference,
    "logistic_regression": _logistic_regression,
    "lda": _lda,
    "pca": _pca,
    "statements": _statements,
    "statements_last": _statements_last,
}
