"""Losses.

``reduction`` is ``"mean"``, ``"sum"`` or ``"none"`` in all of them. PyTorch's deprecated ``size_average`` and
``reduce`` hold their places and are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunet.autograd import Tensor, apply, where
from gpunet.backend.errors import ShapeError
from gpunet.nn.functional.distance import cosine, pairwise_distance
from gpunet.ops import REGISTRY
from gpunet.ops.losses import check_reduction

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def refuse_deprecated(name: str, size_average: Any, reduce: Any) -> None:
    """Raise where one of the arguments is given that ``reduction`` has replaced.

    Raises:
        ValueError: naming what to use.
    """
    if size_average is not None or reduce is not None:
        raise ValueError(f"{name}: size_average and reduce are no longer taken; use reduction='mean', 'sum' or 'none'")


def _reduce(name: str, losses: Tensor, reduction: str) -> Tensor:
    check_reduction(name, reduction)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy of logits.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...).
        target: class indices (N,), () or (N, d1, ...), int64; or probabilities of the input's shape.
        weight: (C,), a weight for each class.
        ignore_index: label of elements that do not count.
        reduction: ``"mean"`` (over the weights of what counts), ``"sum"`` or ``"none"``.
        label_smoothing: 0 to 1.

    Raises:
        IndexError: a label outside 0..C-1; on a GPU at the next point of synchronisation.
    """
    refuse_deprecated("cross_entropy", size_average, reduce)
    return apply(
        REGISTRY["cross_entropy"],
        input,
        target,
        weight,
        ignore_index=int(ignore_index),
        reduction=reduction,
        label_smoothing=float(label_smoothing),
    )


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of class labels, from log-probabilities (N, C), (C,) or (N, C, d1, ...)."""
    refuse_deprecated("nll_loss", size_average, reduce)
    return apply(REGISTRY["nll_loss"], input, target, weight, ignore_index=int(ignore_index), reduction=reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """w (x - t)^2, averaged, summed or element by element; "mean" divides by the weights' sum. Shapes broadcast."""
    refuse_deprecated("mse_loss", size_average, reduce)
    if weight is None or reduction != "mean":
        return apply(REGISTRY["mse_loss"], input, target, weight, reduction=reduction)
    total: Tensor = apply(REGISTRY["mse_loss"], input, target, weight, reduction="sum")
    return total / weight.expand(input.shape if input.ndim >= target.ndim else target.shape).sum()


def l1_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """|x - t|, averaged, summed or element by element. Shapes broadcast."""
    refuse_deprecated("l1_loss", size_average, reduce)
    return apply(REGISTRY["l1_loss"], input, target, reduction=reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """(x - t)^2 / (2 beta) up to |x - t| = beta, then |x - t| - beta / 2 (Girshick 2015). Shapes broadcast."""
    refuse_deprecated("smooth_l1_loss", size_average, reduce)
    return apply(REGISTRY["smooth_l1_loss"], input, target, reduction=reduction, beta=float(beta))


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """(x - t)^2 / 2 up to |x - t| = delta, then delta (|x - t| - delta / 2) (Huber 1964). Shapes broadcast."""
    if weight is not None:
        raise ValueError("huber_loss: weight is not supported; weigh the losses of reduction='none'")
    return apply(REGISTRY["huber_loss"], input, target, reduction=reduction, delta=float(delta))


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """-w (t log x + (1 - t) log(1 - x)) of probabilities; the logarithms are at least -100.

    Raises:
        ValueError: a probability outside 0..1; on a GPU at the next point of synchronisation.
    """
    refuse_deprecated("binary_cross_entropy", size_average, reduce)
    return apply(REGISTRY["binary_cross_entropy"], input, target, weight, reduction=reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Sigmoid and binary cross-entropy in one, without overflow; ``pos_weight`` weighs the positive class."""
    refuse_deprecated("binary_cross_entropy_with_logits", size_average, reduce)
    op = REGISTRY["binary_cross_entropy_with_logits"]
    return apply(op, input, target, weight, pos_weight, reduction=reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x) of log-probabilities x: the Kullback-Leibler divergence (1951).

    Args:
        input: log-probabilities.
        target: probabilities, or their logarithms with ``log_target``.
        reduction: also ``"batchmean"``, the sum divided by the size of the batch, which is the divergence's definition.
        log_target: whether the target holds logarithms.
    """
    refuse_deprecated("kl_div", size_average, reduce)
    batch = reduction == "batchmean"
    total: Tensor = apply(
        REGISTRY["kl_div"], input, target, reduction="sum" if batch else reduction, log_target=bool(log_target)
    )
    return total / input.shape[0] if batch and input.ndim else total


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: Any = None,
    eps: float = 1e-8,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of counts from a Poisson distribution of rate exp(x), or x without ``log_input``."""
    refuse_deprecated("poisson_nll_loss", size_average, reduce)
    op = REGISTRY["poisson_nll_loss"]
    return apply(op, input, target, reduction=reduction, log_input=bool(log_input), full=bool(full), eps=float(eps))


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of a normal distribution: (log v + (x - t)^2 / v) / 2 (Nix and Weigend 1994).

    Args:
        input: the expectation, any shape.
        target: the observation, of a shape that broadcasts.
        var: the variance: of the input's shape, without its last dimension, with 1 there, or a number.
        full: add log(2 pi) / 2.
        eps: the variance counts as at least this.

    Raises:
        ValueError: a negative variance; on a GPU at the next point of synchronisation.
    """
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError("var: variances must not be negative")
        var = input.new_full((), var)
    elif var.shape != input.shape:
        if input.ndim and var.shape == input.shape[:-1]:
            var = var.unsqueeze(-1)
        elif not (var.ndim == input.ndim and input.ndim and var.shape == (*input.shape[:-1], 1)):
            raise ShapeError(
                f"gaussian_nll_loss: var must have the input's shape {tuple(input.shape)}, or lack its last dimension, "
                f"got {tuple(var.shape)}"
            )
    op = REGISTRY["gaussian_nll_loss"]
    return apply(op, input, target, var, reduction=reduction, full=bool(full), eps=float(eps))


def soft_margin_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """log(1 + exp(-t x)) for targets 1 and -1."""
    refuse_deprecated("soft_margin_loss", size_average, reduce)
    return apply(REGISTRY["soft_margin_loss"], input, target, reduction=reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    refuse_deprecated("hinge_embedding_loss", size_average, reduce)
    return apply(REGISTRY["hinge_embedding_loss"], input, target, reduction=reduction, margin=float(margin))


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - t (x1 - x2)): the first shall rank higher where t = 1, the second where t = -1."""
    refuse_deprecated("margin_ranking_loss", size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise ShapeError(
            f"margin_ranking_loss: input1, input2 and target must have as many dimensions, "
            f"got shapes {tuple(input1.shape)}, {tuple(input2.shape)} and {tuple(target.shape)}"
        )
    return apply(REGISTRY["margin_ranking_loss"], input1, input2, target, reduction=reduction, margin=float(margin))


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Multi-class hinge loss: w_t / C sum over c != t of max(0, margin - x_t + x_c)^p, p 1 or 2.

    Args:
        input: scores (N, C) or (C,).
        target: class indices (N,) or (), int64.
        p: 1 or 2.
        margin: by how much the right score has to be ahead.
        weight: (C,), a weight for each class.

    Raises:
        IndexError: a label outside 0..C-1; on a GPU at the next point of synchronisation.
    """
    refuse_deprecated("multi_margin_loss", size_average, reduce)
    op = REGISTRY["multi_margin_loss"]
    return apply(op, input, target, weight, reduction=reduction, p=p, margin=float(margin))


def multilabel_margin_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    """Multi-label hinge loss: 1 / C sum over labels j, and classes i that are none, of max(0, 1 - x_j + x_i).

    Args:
        input: scores (N, C) or (C,).
        target: int64 labels of the input's shape, each row's up to the first -1.

    Raises:
        IndexError: a label outside -1..C-1; on a GPU at the next point of synchronisation.
    """
    refuse_deprecated("multilabel_margin_loss", size_average, reduce)
    return apply(REGISTRY["multilabel_margin_loss"], input, target, reduction=reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy with logits of each class, averaged over the classes (N, C)."""
    refuse_deprecated("multilabel_soft_margin_loss", size_average, reduce)
    check_reduction("multilabel_soft_margin_loss", reduction)
    if input.ndim == 0:
        raise ShapeError("multilabel_soft_margin_loss: input must have a class dimension, got a 0-d tensor")
    if input.shape != target.shape:
        raise ShapeError(
            f"multilabel_soft_margin_loss: target must have the input's shape {input.shape}, got {target.shape}"
        )
    # A mean of means of rows of one length is the mean.
    losses: Tensor = apply(
        REGISTRY["binary_cross_entropy_with_logits"], input, target, weight, None, reduction=reduction
    )
    if reduction == "none":
        return losses.mean(-1)
    return losses / input.shape[-1] if reduction == "sum" else losses


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1.

    Args:
        input1, input2: (N, D) or (D,).
        target: 1 or -1, (N,) or ().
        margin: from -1 to 1.
    """
    refuse_deprecated("cosine_embedding_loss", size_average, reduce)
    check_reduction("cosine_embedding_loss", reduction)
    if target.ndim > 1 or input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise ShapeError(
            f"cosine_embedding_loss: inputs must be (N, D) for a target (N,), or (D,) for (), got shapes "
            f"{tuple(input1.shape)}, {tuple(input2.shape)} and {tuple(target.shape)}"
        )
    cosines = cosine("cosine_embedding_loss", input1, input2, -1, 1e-12, added=True)
    near = where(target == 1, 1.0 - cosines, 0.0)
    far = where(target == -1, (cosines - margin).clamp(min=0), 0.0)
    return _reduce("cosine_embedding_loss", near + far, reduction)


def _triplet(
    name: str,
    distance: Callable[[Tensor, Tensor], Tensor],
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative))."""
    check_reduction(name, reduction)
    if not margin > 0:
        raise ValueError(f"{name}: margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ShapeError(
            f"{name}: anchor, positive and negative must have as many dimensions, "
            f"got shapes {tuple(anchor.shape)}, {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    far = distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return _reduce(name, (margin + distance(anchor, positive) - far).clamp(min=0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + |a - p| - |a - n|) of vectors (N, D) or (D,) (Balntas et al. 2016).

    Args:
        anchor, positive, negative: (N, D) or (D,).
        margin: by how much the negative has to be further away.
        p: of the norm.
        eps: added to the differences.
        swap: take |p - n| where it is smaller than |a - n|.
    """
    refuse_deprecated("triplet_margin_loss", size_average, reduce)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return _triplet("triplet_margin_loss", distance, anchor, positive, negative, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(a, p) - d(a, n)) with any distance d; the Euclidean one by default."""
    distance = pairwise_distance if distance_function is None else distance_function
    name = "triplet_margin_with_distance_loss"
    return _triplet(name, distance, anchor, positive, negative, margin, swap, reduction)
