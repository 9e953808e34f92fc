"""Layers: PyTorch's outputs, gradients, initial values, text and refusals."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn


def unit(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(ours: Any, theirs: Any, tolerance: float) -> None:
    """max|a - b| / max|b| within the tolerance, and no NaN."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.isfinite(ours).all()
    if theirs.size:
        assert np.abs(ours - theirs).max() <= tolerance * max(np.abs(theirs).max(), 1e-30)


# Each case: the layer's name, its arguments, the input's shape, and whether to run in evaluation.
LAYERS: list[tuple[str, tuple, dict[str, Any], tuple[int, ...]]] = [
    ("Linear", (5, 3), {}, (4, 5)),
    ("Linear", (5, 3), {"bias": False}, (2, 4, 5)),
    ("Linear", (5, 3), {}, (5,)),
    ("Linear", (5, 3), {}, (0, 5)),
    ("Conv2d", (3, 4, 3), {}, (2, 3, 8, 9)),
    ("Conv2d", (3, 4, (3, 2), 2, 1), {}, (1, 3, 8, 9)),
    ("Conv2d", (3, 4, 3), {"padding": "same", "dilation": 2}, (2, 3, 8, 9)),
    ("Conv2d", (3, 4, 4), {"padding": "same"}, (2, 3, 8, 9)),
    ("Conv2d", (3, 4, 3), {"padding": "valid", "stride": 3}, (2, 3, 8, 9)),
    ("Conv2d", (4, 6, 3), {"groups": 2, "padding": (1, 0)}, (2, 4, 8, 9)),
    ("Conv2d", (4, 8, 3), {"groups": 4, "bias": False}, (2, 4, 8, 9)),
    ("Conv2d", (1, 1, 1, 3), {}, (1, 1, 5, 5)),
    ("MaxPool2d", (2,), {}, (2, 3, 8, 9)),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 8, 9)),
    ("MaxPool2d", ((3, 2),), {"dilation": 2, "stride": (1, 2)}, (2, 3, 8, 9)),
    ("AvgPool2d", (2,), {}, (2, 3, 8, 9)),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}, (2, 3, 8, 9)),
    ("AvgPool2d", (3,), {"divisor_override": 5}, (2, 3, 8, 9)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 8, 9)),
    ("AdaptiveAvgPool2d", ((3, 4),), {}, (2, 3, 8, 9)),
    ("AdaptiveAvgPool2d", ((None, 4),), {}, (2, 3, 8, 9)),
    ("BatchNorm1d", (5,), {}, (6, 5)),
    ("BatchNorm1d", (5,), {"affine": False}, (6, 5, 3)),
    ("BatchNorm2d", (3,), {}, (4, 3, 5, 6)),
    ("BatchNorm2d", (3,), {"momentum": None, "eps": 1e-3}, (4, 3, 5, 6)),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, (4, 3, 5, 6)),
    ("BatchNorm2d", (3,), {"bias": False}, (4, 3, 5, 6)),
    ("ReLU", (), {}, (4, 5)),
    ("ReLU", (), {"inplace": True}, (4, 5)),
    ("Flatten", (), {}, (2, 3, 4)),
    ("Flatten", (0, 1), {}, (2, 3, 4)),
    ("Identity", (1, "anything"), {"at": "all"}, (2, 3)),
    ("Softmax", (1,), {}, (4, 5)),
    ("LogSoftmax", (-1,), {}, (4, 5)),
    ("Dropout", (0.0,), {}, (4, 5)),
]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's, about its speed
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "name, args, kwargs, shape", LAYERS, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(LAYERS)]
)
def test_layer_agrees_with_pytorch(name, args, kwargs, shape, dtype, training):
    torch = pytest.importorskip("torch")
    ours = getattr(nn, name)(*args, **kwargs).train(training)
    theirs = getattr(torch.nn, name)(*args, **kwargs).train(training)
    assert list(inspect.signature(type(ours)).parameters)[: len(args)] or not args
    ours.to(dtype)
    theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    for repetition in range(3):  # running statistics need more than one
        x = unit(*shape, seed=repetition, dtype=dtype) + 0.5
        a, b = gn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours(a * 1), theirs(b * 1)  # a leaf may not be written to by ReLU(inplace=True)
        assert y.dtype == dtype
        close(y.detach(), z.detach(), tolerance)
        grad = unit(*z.shape, seed=7, dtype=dtype)
        y.backward(gn.tensor(grad))
        z.backward(torch.tensor(grad))
        close(a.grad, b.grad, tolerance)
        for (key, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            close(p.grad, q.grad, tolerance), key
    for key, value in theirs.state_dict().items():
        close(ours.state_dict()[key], value, tolerance)
    assert repr(ours) == repr(theirs)


@pytest.mark.parity
@pytest.mark.parametrize(
    "name",
    sorted({name for name, *_ in LAYERS} | {"CrossEntropyLoss", "MSELoss", "NLLLoss", "Sequential", "ModuleList"}),
)
def test_signature_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    ours = list(inspect.signature(getattr(nn, name).__init__).parameters.values())
    theirs = list(inspect.signature(getattr(torch.nn, name).__init__).parameters.values())
    names = {"Sequential": ["self", "modules"]}.get(name, [p.name for p in theirs])
    assert [p.name for p in ours] == names
    if name not in ("Sequential", "Identity"):
        for p, q in zip(ours, theirs, strict=True):
            if name in ("Softmax", "LogSoftmax") and p.name == "dim":
                continue  # PyTorch's None is a deprecated guess
            assert p.default == q.default


@pytest.mark.parity
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_agree_with_pytorch(reduction):
    torch = pytest.importorskip("torch")
    scores, labels = unit(6, 4), np.array([0, 3, 2, -100, 1, 1])
    weight = np.array([0.5, 1.0, 2.0, 0.1], np.float32)
    cases = [
        (nn.CrossEntropyLoss(reduction=reduction), torch.nn.CrossEntropyLoss(reduction=reduction), labels),
        (
            nn.CrossEntropyLoss(gn.tensor(weight), label_smoothing=0.1, reduction=reduction),
            torch.nn.CrossEntropyLoss(torch.tensor(weight), label_smoothing=0.1, reduction=reduction),
            labels,
        ),
        (
            nn.NLLLoss(gn.tensor(weight), ignore_index=2, reduction=reduction),
            torch.nn.NLLLoss(torch.tensor(weight), ignore_index=2, reduction=reduction),
            np.abs(labels) % 4,
        ),
        (nn.MSELoss(reduction=reduction), torch.nn.MSELoss(reduction=reduction), unit(6, 4, seed=1)),
    ]
    for ours, theirs, target in cases:
        a, b = gn.tensor(scores, requires_grad=True), torch.tensor(scores, requires_grad=True)
        y, z = ours(a, gn.tensor(target)), theirs(b, torch.tensor(target))
        close(y.detach(), z.detach(), 1e-5)
        y.sum().backward()
        z.sum().backward()
        close(a.grad, b.grad, 1e-5)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_the_fused_batch_norm_is_its_parts(activation, with_residual, training):
    fused, plain = nn.BatchNorm2d(3).train(training), nn.BatchNorm2d(3).train(training)
    x, r = unit(4, 3, 5, 5), unit(4, 3, 5, 5, seed=1)
    a, b = gn.tensor(x, requires_grad=True), gn.tensor(x, requires_grad=True)
    s, t = gn.tensor(r, requires_grad=True), gn.tensor(r, requires_grad=True)
    y = fused(a, residual=s if with_residual else None, activation=activation)
    z = plain(b)
    if with_residual:
        z = z + t
    if activation:
        z = z.relu()
    close(y.detach(), z.detach(), 1e-6)
    grad = gn.tensor(unit(4, 3, 5, 5, seed=2))
    y.backward(grad)
    z.backward(grad)
    close(a.grad, b.grad, 1e-5)
    close(fused.weight.grad, plain.weight.grad, 1e-5)
    if with_residual:
        close(s.grad, t.grad, 1e-6)
    close(fused.running_var, plain.running_var, 1e-6)


def test_conv_weights_lie_in_the_order_of_the_matrix_product():
    weight = nn.Conv2d(3, 8, (5, 2)).weight
    assert weight.shape == (8, 3, 5, 2)
    assert weight._array.transpose(2, 3, 1, 0).flags.c_contiguous
    clone = weight.detach().clone()
    assert clone._array.transpose(2, 3, 1, 0).flags.c_contiguous


def test_initial_weights_do_not_depend_on_layout_device_or_what_was_drawn_elsewhere():
    gn.manual_seed(3)
    conv = nn.Conv2d(3, 8, 5)
    gn.manual_seed(3)
    gn.randn(10)
    other = nn.Conv2d(3, 8, 5, device="cpu:1")
    np.testing.assert_array_equal(conv.weight.detach().numpy(), other.weight.detach().to("cpu").numpy())
    np.testing.assert_array_equal(conv.bias.detach().numpy(), other.bias.detach().to("cpu").numpy())
    assert nn.Linear(3, 2, device="meta", dtype=gn.float64).weight.dtype == np.float64


@pytest.mark.parity
@pytest.mark.parametrize("make", [lambda m: m.Linear(300, 200), lambda m: m.Conv2d(30, 40, (3, 5), groups=2)])
def test_initial_values_have_pytorchs_distribution(make):
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn), make(torch.nn)
    for key in ("weight", "bias"):
        a = np.sort(getattr(ours, key).detach().numpy().ravel())
        b = np.sort(getattr(theirs, key).detach().numpy().ravel())
        # The largest distance between the two samples' distributions (Kolmogorov and Smirnov), at the 1e-4 level.
        grid = np.concatenate([a, b])
        distance = np.abs(np.searchsorted(a, grid, "right") - np.searchsorted(b, grid, "right")).max() / a.size
        assert distance < 2.23 * math.sqrt(2 / a.size)
        bound = 1 / math.sqrt(ours.weight[0].numel())
        assert np.abs(a).max() <= bound


def test_dropout():
    net = nn.Dropout(0.3)
    x = gn.ones(1000, 20)
    y = net(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.02
    assert np.array_equal(net.eval()(x).numpy(), x.numpy())
    gn.manual_seed(5)
    first = nn.Dropout(0.5)(x).numpy()
    gn.manual_seed(5)
    np.testing.assert_array_equal(first, nn.Dropout(0.5)(x).numpy())
    with pytest.raises(ValueError, match=r"Dropout: p must be between 0 and 1, got 1\.5"):
        nn.Dropout(1.5)


REFUSALS = [
    (lambda: nn.Linear(0, 3), ValueError, "Linear: in_features must be at least 1, got 0"),
    (lambda: nn.Linear(3, 2.5), TypeError, "Linear: out_features must be an integer, got 2.5"),
    (lambda: nn.Linear(3, True), TypeError, "Linear: out_features must be an integer, got True"),
    (lambda: nn.Conv2d(3, 4, 0), ValueError, "Conv2d: kernel_size must be at least 1, got 0"),
    (lambda: nn.Conv2d(3, 4, (1, 2, 3)), ValueError, r"Conv2d: kernel_size must be an integer or a pair"),
    (lambda: nn.Conv2d(3, 4, 3, stride=0), ValueError, "Conv2d: stride must be at least 1, got 0"),
    (lambda: nn.Conv2d(3, 4, 3, dilation=-1), ValueError, "Conv2d: dilation must be at least 1, got -1"),
    (lambda: nn.Conv2d(3, 4, 3, padding=-1), ValueError, "Conv2d: padding must be at least 0, got -1"),
    (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "Conv2d: padding must be 'same', 'valid' or integers"),
    (lambda: nn.Conv2d(3, 4, 3, 2, padding="same"), ValueError, r"Conv2d: padding='same' needs stride 1, got \(2, 2\)"),
    (lambda: nn.Conv2d(3, 4, 3, groups=0), ValueError, "Conv2d: groups must be at least 1, got 0"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "Conv2d: in_channels must be divisible by groups, got 3 and 2"),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "Conv2d: out_channels must be divisible by groups, got 3 and 2"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "Conv2d: padding_mode must be one of"),
    (lambda: nn.MaxPool2d(2, 0), ValueError, "MaxPool2d: stride must be at least 1, got 0"),
    (lambda: nn.AvgPool2d(2, divisor_override=0), ValueError, "AvgPool2d: divisor_override must be at least 1"),
    (lambda: nn.AvgPool2d(2, ceil_mode=2), TypeError, "AvgPool2d: ceil_mode must be True or False, got 2"),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ValueError, "AdaptiveAvgPool2d: output_size must be"),
    (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "AdaptiveAvgPool2d: output_size must be at least 1"),
    (lambda: nn.BatchNorm2d(-1), ValueError, "BatchNorm2d: num_features must be at least 1"),
    (lambda: nn.BatchNorm2d(3, eps=-1), ValueError, "BatchNorm2d: eps must not be negative, got -1"),
    (lambda: nn.BatchNorm2d(3, momentum=2), ValueError, "BatchNorm2d: momentum must be between 0 and 1"),
    (
        lambda: nn.BatchNorm2d(3)(gn.zeros(2, 3)),
        gn.ShapeError,
        r"BatchNorm2d: input must have 4 dimensions, got .*\(2, 3\)",
    ),
    (lambda: nn.BatchNorm1d(3)(gn.zeros(2, 3, 1, 1)), gn.ShapeError, "BatchNorm1d: input must have 2 or 3 dimensions"),
    (lambda: nn.BatchNorm2d(3)(gn.zeros(2, 4, 5, 5)), gn.ShapeError, "4"),
    (lambda: nn.BatchNorm1d(3)(gn.zeros(1, 3)), ValueError, "more than one|more than 1"),
    (lambda: nn.Linear(3, 2)(gn.zeros(2, 4)), gn.ShapeError, "linear"),
    (lambda: nn.Conv2d(3, 4, 3)(gn.zeros(2, 4, 5, 5)), gn.ShapeError, "conv2d"),
    (lambda: nn.Conv2d(3, 4, 7)(gn.zeros(2, 3, 5, 5)), gn.ShapeError, "conv2d"),
    (lambda: nn.Linear(3, 2)(gn.zeros(2, 3, dtype=gn.float64)), gn.DTypeError, "linear"),
    (lambda: nn.CrossEntropyLoss(reduction="avg"), ValueError, "reduction must be 'none', 'mean' or 'sum', got 'avg'"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError, "label_smoothing must be between 0 and 1"),
    (lambda: nn.MSELoss(True), ValueError, "size_average and reduce are no longer taken"),
    (lambda: nn.CrossEntropyLoss()(gn.zeros(2, 3), gn.tensor([0, 3])), IndexError, "3"),
]


@pytest.mark.parametrize("call, kind, text", REFUSALS, ids=range(len(REFUSALS)))
def test_bad_arguments_are_refused_with_one_clear_error(call, kind, text):
    with pytest.raises(kind, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_layers_work_on_meta():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).to("meta")
    assert net(gn.empty(5, 1, 4, 4, device="meta")).shape == (5, 3)
    assert net.eval()(gn.empty(5, 1, 4, 4, device="meta")).shape == (5, 3)
