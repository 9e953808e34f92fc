"""Tensors and first-order gradients.

``function`` must be imported before ``tensor``: the two need each other, and ``tensor`` reaches ``apply`` through
the module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunet import _missing
from gpunet.autograd import function as function
from gpunet.autograd import observer as observer
from gpunet.autograd.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    is_tensor,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from gpunet.autograd.engine import backward as _walk
from gpunet.autograd.function import apply
from gpunet.autograd.grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from gpunet.autograd.gradcheck import GradcheckError, gradcheck
from gpunet.autograd.joining import cat, maximum, minimum, stack, where
from gpunet.autograd.observer import observe
from gpunet.autograd.sampling import rand, rand_like, randint, randn, randn_like, randperm
from gpunet.autograd.tensor import HookHandle, Tensor
from gpunet.backend.errors import GradientError

__all__ = [
    "GradcheckError",
    "HookHandle",
    "Tensor",
    "apply",
    "arange",
    "as_tensor",
    "backward",
    "cat",
    "empty",
    "empty_like",
    "enable_grad",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "grad",
    "gradcheck",
    "inference_mode",
    "is_grad_enabled",
    "is_tensor",
    "linspace",
    "maximum",
    "minimum",
    "no_grad",
    "observe",
    "observer",
    "ones",
    "ones_like",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "set_grad_enabled",
    "stack",
    "tensor",
    "where",
    "zeros",
    "zeros_like",
]


def _listed(value: Any) -> list[Any]:
    return [value] if value is None or isinstance(value, Tensor) else list(value)


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool = False) -> None:
    """Add the gradients of one or several tensors to the ``.grad`` of the leaves.

    Args:
        tensors: what to start from.
        grad_tensors: a gradient for each; None where a tensor has one element.
        retain_graph: keep the graph for another walk.
    """
    roots = _listed(tensors)
    seeds = [None] * len(roots) if grad_tensors is None else _listed(grad_tensors)
    starts = [(root.grad_fn or root, root._index, root._seed(seed)) for root, seed in zip(roots, seeds, strict=True)]
    _walk(starts, retain_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of outputs with respect to inputs, returned instead of accumulated.

    Args:
        outputs: what to differentiate.
        inputs: leaves or results with respect to which.
        grad_outputs: a gradient for each output; None where it has one element.
        retain_graph: keep the graph for another walk.
        create_graph: not supported: gpunet has first-order gradients only.
        allow_unused: give None for an input that no output depends on, instead of raising.
    """
    if create_graph:
        raise GradientError("create_graph: gpunet computes first-order gradients only")
    roots, wanted = _listed(outputs), _listed(inputs)
    seeds: Sequence[Any] = [None] * len(roots) if grad_outputs is None else _listed(grad_outputs)
    for position, value in enumerate(wanted):
        if not value.requires_grad:
            raise GradientError(f"grad: input {position} does not require grad")
    starts = [(root.grad_fn or root, root._index, root._seed(seed)) for root, seed in zip(roots, seeds, strict=True)]
    found = _walk(starts, retain_graph, wanted)
    for position, value in enumerate(found):
        if value is None and not allow_unused:
            raise GradientError(f"grad: no output depends on input {position}; pass allow_unused=True to get None")
    return tuple(
        None if value is None else Tensor._wrap(value, source._device)
        for value, source in zip(found, wanted, strict=True)
    )


_missing.explain(__name__)
