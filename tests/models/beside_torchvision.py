"""Networks beside torchvision's of one release: ``pip install torchvision==0.28.0 --no-deps``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn
from gpunet.testing import torchvision_models as installed


def torchvision_models() -> Any:
    """``torchvision.models`` of the release above; skips the test where there is none."""
    try:
        return installed.torchvision_models()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


def randomise(theirs: Any, seed: int = 0) -> None:
    """Give a PyTorch module's normalisations scales, shifts and statistics that are not their initial ones."""
    import torch

    torch.manual_seed(seed)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)


def compare(
    ours: nn.Module,
    theirs: Any,
    shape: tuple[int, ...],
    dtype: str = "float64",
    tolerance: float = 1e-7,
    vanishing: Collection[str] = (),
) -> None:
    """Hold a model to a PyTorch module with the same weights: names, outputs, gradients, running statistics.

    In training mode (dropout switched off) the outputs, the gradients of a random weighting of them by the input and
    every parameter, and the buffers after it, each relative to the largest element; then the evaluation's outputs, in
    ``dtype`` and in float32 to 1e-4. Several outputs are compared in order.

    Args:
        ours: made with the same options as ``theirs``.
        theirs: a PyTorch module; its weights are copied to ``ours``.
        shape: of the input, with the batch.
        dtype: of training.
        tolerance: relative, of training.
        vanishing: parameters whose gradient is zero but for rounding, such as a bias before BatchNorm; measured against
            the largest gradient of any parameter.
    """
    import torch

    theirs.to(getattr(torch, dtype))
    ours.to(dtype)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    ours.load_state_dict({key: value.numpy() for key, value in state.items()})
    for net, kind in ((ours, nn.Dropout), (theirs, torch.nn.Dropout)):
        for module in net.modules():
            if isinstance(module, kind):
                module.p = 0.0
    random = np.random.default_rng(0)
    x = random.standard_normal(shape).astype(dtype)

    ours.train()
    theirs.train()
    a, b = gn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    results, expected = _outputs(ours(a)), _outputs(theirs(b))
    assert len(results) == len(expected)
    weights = [random.standard_normal(tuple(y.shape)).astype(dtype) for y in expected]
    sum((y * gn.tensor(w)).sum() for y, w in zip(results, weights, strict=True)).backward()
    sum((y * torch.tensor(w)).sum() for y, w in zip(expected, weights, strict=True)).backward()
    for number, (y, z) in enumerate(zip(results, expected, strict=True)):
        _close(f"output {number}", y.detach(), z.detach(), tolerance)
    _close("gradient of the input", a.grad, b.grad, tolerance)
    largest = max(q.grad.abs().max().item() for q in theirs.parameters())
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if name in vanishing:
            assert max(np.abs(p.grad.numpy()).max(), q.grad.abs().max().item()) <= tolerance * largest, name
        else:
            _close(f"gradient of {name}", p.grad, q.grad, tolerance)
    for (name, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        _close(name, p, q, tolerance)

    ours.zero_grad()
    theirs.zero_grad()
    ours.eval()
    theirs.eval()
    for evaluated, bound in ((dtype, tolerance), ("float32", 1e-4)):
        ours.to(evaluated)
        theirs.to(getattr(torch, evaluated))
        with gn.no_grad(), torch.no_grad():
            results = _outputs(ours(gn.tensor(x.astype(evaluated))))
            expected = _outputs(theirs(torch.tensor(x.astype(evaluated))))
        for number, (y, z) in enumerate(zip(results, expected, strict=True)):
            _close(f"evaluated output {number}, {evaluated}", y, z, bound)


def _outputs(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [tensor for each in value for tensor in _outputs(each)]
    return [] if value is None else [value]


def _close(name: str, ours: Any, theirs: Any, tolerance: float) -> None:
    p, q = ours.numpy(), theirs.numpy()
    assert p.shape == q.shape, name
    assert np.abs(p - q).max(initial=0) <= tolerance * np.abs(q).max(initial=0), name
