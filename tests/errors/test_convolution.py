"""Bad inputs of the convolution family, and the one clear error each gives, the same on cpu and meta."""

from __future__ import annotations

from typing import Any

import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, ShapeError, nn
from gpunet.data import filters
from gpunet.testing.bad_input import DEVICES, BadInput

INT = gn.int64


def _functions() -> list[BadInput]:
    """What is bad for every number of dimensions."""
    entries = []
    for dims, layout, taps in ((1, "(N, C, L)", "R"), (3, "(N, C, D, H, W)", "T, R, S")):
        name, space, kernel = f"conv{dims}d", (9,) * dims, (3,) * dims
        call: Any = getattr(F, name)
        rank = dims + 2
        entries += [
            BadInput(
                f"{name} rank",
                lambda z, on, f=call, k=kernel: f(z(9), z(4, 3, *k)),
                ShapeError,
                f"{name}: input must be {rank}-d {layout}, got shape (9,)",
            ),
            BadInput(
                f"{name} weight rank",
                lambda z, on, f=call, s=space: f(z(2, 3, *s), z(4, 3)),
                ShapeError,
                f"{name}: weight must be {rank}-d (K, C/groups, {taps}), got shape (4, 3)",
            ),
            BadInput(
                f"{name} dtype",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s, dtype=INT), z(4, 3, *k, dtype=INT)),
                DTypeError,
                f"{name}: input must be floating point, got int64",
            ),
            BadInput(
                f"{name} bias",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s), z(4, 3, *k), z(3)),
                ShapeError,
                f"{name}: bias must have shape (4,), got (3,)",
            ),
            BadInput(
                f"{name} stride",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s), z(4, 3, *k), stride=0),
                ShapeError,
                f"{name}: stride must be at least 1, got {(0,) * dims}",
            ),
            BadInput(
                f"{name} groups",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s), z(4, 3, *k), groups=3),
                ShapeError,
                f"{name}: groups must divide the 4 output channels, got 3",
            ),
            BadInput(
                f"{name} groups no integer",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s), z(4, 3, *k), groups=1.5),
                TypeError,
                f"{name}: groups must be an integer, got 1.5",
            ),
        ]
    for dims in (1, 2, 3):
        name, space, kernel = f"conv{dims}d", (9,) * dims, (3,) * dims
        call = getattr(F, name)
        fits = (2, 4, *(7,) * dims)
        entries += [
            BadInput(
                f"{name} residual",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s), z(4, 3, *k), residual=z(2, 4, *s)),
                ShapeError,
                f"{name}: residual must have the output's shape {fits}, got {(2, 4, *space)}",
            ),
            BadInput(
                f"{name} residual of one image",
                lambda z, on, f=call, s=space, k=kernel, r=fits: f(z(2, 3, *s), z(4, 3, *k), residual=z(*r[1:])),
                ShapeError,
                f"{name}: residual must have the output's shape {fits}, got {fits[1:]}",
            ),
            BadInput(
                f"{name} residual's dtype",
                lambda z, on, f=call, s=space, k=kernel, r=fits: f(
                    z(2, 3, *s), z(4, 3, *k), residual=z(*r, dtype=gn.float64)
                ),
                DTypeError,
                f"{name}: residual has dtype float64, but input has float32; they must be the same",
            ),
            BadInput(
                f"{name} residual no tensor",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s), z(4, 3, *k), residual=1.0),
                TypeError,
                f"{name}: residual must be a Tensor, got float",
            ),
            BadInput(
                f"{name} activation",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 3, *s), z(4, 3, *k), activation="tanh"),
                ValueError,
                f"{name}: activation must be None or 'relu', got 'tanh'",
            ),
        ]
    for dims, layout in ((1, "(N, C, L)"), (2, "(N, C, H, W)"), (3, "(N, C, D, H, W)")):
        name, space, kernel = f"conv_transpose{dims}d", (9,) * dims, (3,) * dims
        call = getattr(F, name)
        ones = (1,) * dims
        entries += [
            BadInput(
                f"{name} rank",
                lambda z, on, f=call, k=kernel: f(z(9), z(4, 3, *k)),
                ShapeError,
                f"{name}: input must be {dims + 2}-d {layout}, got shape (9,)",
            ),
            BadInput(
                f"{name} channels",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 5, *s), z(4, 3, *k)),
                ShapeError,
                f"{name}: input must have 4 channels (weight has shape {(4, 3, *kernel)}), got 5 in "
                f"shape {(2, 5, *space)}",
            ),
            BadInput(
                f"{name} dtype",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 4, *s), z(4, 3, *k, dtype=gn.float64)),
                DTypeError,
                f"{name}: weight has dtype float64, but input has float32; they must be the same",
            ),
            BadInput(
                f"{name} bias",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 4, *s), z(4, 3, *k), z(4)),
                ShapeError,
                f"{name}: bias must have shape (3,), got (4,)",
            ),
            BadInput(
                f"{name} groups",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 4, *s), z(4, 3, *k), groups=3),
                ShapeError,
                f"{name}: groups must divide the 4 input channels, got 3",
            ),
            BadInput(
                f"{name} padding",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 4, *s), z(4, 3, *k), padding=-1),
                ShapeError,
                f"{name}: padding must not be negative, got {(-1,) * dims}",
            ),
            BadInput(
                f"{name} named padding",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 4, *s), z(4, 3, *k), padding="same"),
                TypeError,
                f"{name}: padding must be an integer or "
                f"{'a sequence of 1' if dims == 1 else f'{dims} of them'}, got 'same'",
            ),
            BadInput(
                f"{name} output padding",
                lambda z, on, f=call, s=space, k=kernel: f(z(2, 4, *s), z(4, 3, *k), output_padding=1),
                ShapeError,
                f"{name}: output_padding must be smaller than stride {ones} or dilation {ones}, got {ones}",
            ),
            BadInput(
                f"{name} leaves nothing",
                lambda z, on, f=call, k=kernel: f(z(2, 4, *k), z(4, 3, *k), padding=3),
                ShapeError,
                f"{name}: padding {(3,) * dims} leaves nothing of an input of shape {(2, 4, *kernel)}: "
                f"the output's size would be {(-1,) * dims}",
            ),
        ]
    return entries  # fmt: skip


CATALOGUE = [
    *_functions(),
    BadInput("linear residual", lambda z, on: F.linear(z(2, 5), z(3, 5), residual=z(3)),
             ShapeError, "linear: residual must have the output's shape (2, 3), got (3,)"),
    BadInput("linear residual's dtype", lambda z, on: F.linear(z(2, 5), z(3, 5), residual=z(2, 3, dtype=gn.float64)),
             DTypeError, "linear: residual has dtype float64, but input has float32; they must be the same"),
    BadInput("linear residual no tensor", lambda z, on: F.linear(z(2, 5), z(3, 5), residual=2),
             TypeError, "linear: residual must be a Tensor, got int"),
    BadInput("linear activation", lambda z, on: F.linear(z(2, 5), z(3, 5), activation=F.relu),
             ValueError, f"linear: activation must be None or 'relu', got {F.relu!r}"),
    BadInput("unfold rank", lambda z, on: F.unfold(z(5, 6), 3),
             ShapeError, "unfold: input must be (N, C, H, W) or (C, H, W), got shape (5, 6)"),
    BadInput("unfold dtype", lambda z, on: F.unfold(z(2, 3, 5, 6, dtype=INT), 3),
             DTypeError, "unfold: input must be floating point, got int64"),
    BadInput("unfold kernel", lambda z, on: F.unfold(z(2, 3, 5, 6), 7),
             ShapeError, "unfold: kernel_size (7, 7) with dilation (1, 1) covers 7 pixels, more than the padded input "
                         "has (5); input shape (2, 3, 5, 6), padding ((0, 0), (0, 0))"),
    BadInput("unfold one size", lambda z, on: F.unfold(z(2, 3, 5, 6), (3,)),
             TypeError, "unfold: kernel_size must be an integer or 2 of them, got (3,)"),
    BadInput("unfold stride", lambda z, on: F.unfold(z(2, 3, 5, 6), 3, stride=0),
             ShapeError, "unfold: stride must be at least 1, got (0, 0)"),
    BadInput("fold rank", lambda z, on: F.fold(z(27), (5, 6), 3),
             ShapeError, "fold: input must be (N, C * kernel, L) or (C * kernel, L), got shape (27,)"),
    BadInput("fold dtype", lambda z, on: F.fold(z(2, 27, 12, dtype=INT), (5, 6), 3),
             DTypeError, "fold: input must be floating point, got int64"),
    BadInput("fold rows", lambda z, on: F.fold(z(2, 26, 12), (5, 6), 3),
             ShapeError, "fold: input must have a multiple of 9 rows for kernel_size (3, 3), got shape (2, 26, 12)"),
    BadInput("fold columns", lambda z, on: F.fold(z(2, 27, 11), (5, 6), 3),
             ShapeError, "fold: input must have 12 columns, 3 x 4 windows over (5, 6), got shape (2, 27, 11)"),
    BadInput("fold size", lambda z, on: F.fold(z(2, 27, 12), 0, 3),
             ShapeError, "fold: output_size must be at least 1, got (0, 0)"),
    BadInput("layer rank", lambda z, on: on(nn.Conv1d(3, 4, 3))(z(2, 3, 9, 9)),
             ShapeError, "conv1d: input must be 3-d (N, C, L), got shape (2, 3, 9, 9)"),
    BadInput("circular layer rank", lambda z, on: on(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"))(z(9, 9)),
             ShapeError, "conv2d: input must be 4-d (N, C, H, W), got shape (9, 9)"),
    BadInput("transposed layer channels", lambda z, on: on(nn.ConvTranspose2d(3, 4, 3))(z(2, 4, 9, 9)),
             ShapeError, "conv_transpose2d: input must have 3 channels (weight has shape (3, 4, 3, 3)), got 4 in shape "
                         "(2, 4, 9, 9)"),
    BadInput("output_size", lambda z, on: on(nn.ConvTranspose2d(3, 4, 3, stride=2))(z(2, 3, 5, 5), (10, 12)),
             ValueError, "ConvTranspose2d: output_size must lie between (11, 11) and (12, 12) for an input of shape "
                         "(2, 3, 5, 5), got (10, 12)"),
    BadInput("output_size of one", lambda z, on: on(nn.ConvTranspose2d(3, 4, 3, stride=2))(z(2, 3, 5, 5), (11,)),
             ValueError, "ConvTranspose2d: output_size must have 2 or 4 elements, got (11,)"),
    BadInput("output_size and rank", lambda z, on: on(nn.ConvTranspose2d(3, 4, 3))(z(5, 5), (11, 11)),
             ShapeError, "ConvTranspose2d: input must have 3 or 4 dimensions, got shape (5, 5)"),
    BadInput("Unfold layer", lambda z, on: nn.Unfold(3)(z(5, 6)),
             ShapeError, "unfold: input must be (N, C, H, W) or (C, H, W), got shape (5, 6)"),
    BadInput("Fold layer", lambda z, on: nn.Fold((5, 6), 3)(z(2, 27, 11)),
             ShapeError, "fold: input must have 12 columns, 3 x 4 windows over (5, 6), got shape (2, 27, 11)"),
    BadInput("lazy rank", lambda z, on: on(nn.LazyConv2d(4, 3))(z(9, 9)),
             ShapeError, "LazyConv2d: input must have 3 or 4 dimensions, got shape (9, 9)"),
    BadInput("lazy transposed rank", lambda z, on: on(nn.LazyConvTranspose1d(4, 3))(z(9)),
             ShapeError, "LazyConvTranspose1d: input must have 2 or 3 dimensions, got shape (9,)"),
    BadInput("lazy groups", lambda z, on: on(nn.LazyConv1d(4, 3, groups=2))(z(2, 3, 9)),
             ValueError, "LazyConv1d: in_channels must be divisible by groups, got 3 and 2"),
    BadInput("lazy linear of a number", lambda z, on: on(nn.LazyLinear(4))(z()),
             ShapeError, "LazyLinear: input must have at least 1 dimension, got shape ()"),
    BadInput("lazy batch norm of a vector", lambda z, on: on(nn.LazyBatchNorm1d())(z(4)),
             ShapeError, "LazyBatchNorm1d: input must have at least 2 dimensions (N, C, ...), got shape (4,)"),
    BadInput("lazy parameter", lambda z, on: z(2, 3) @ on(nn.LazyLinear(4)).weight,
             RuntimeError, "a lazy layer's parameter has no shape and no values before the first input: call the model "
                           "once (a dry run) first"),
    BadInput("filter rank", lambda z, on: filters.apply_filter(z(3), filters.blur()),
             ShapeError, "apply_filter: images must be (N, C, H, W), (C, H, W) or (H, W), got shape (3,)"),
    BadInput("filter kernel", lambda z, on: filters.apply_filter(z(3, 3), z(3)),
             ShapeError, "apply_filter: kernel must be (height, width), got shape (3,)"),
    BadInput("filter padding", lambda z, on: filters.apply_filter(z(3, 3), filters.blur(), "mirror"),
             ValueError, "apply_filter: padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'"),
    BadInput("convolve kernel", lambda z, on: filters.convolve(z(3, 3), z(3)),
             ShapeError, "convolve: kernel must be (height, width), got shape (3,)"),
]  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


# What is refused before there is a device.
MADE: list[tuple[Any, type[Exception], str]] = [
    (lambda: nn.Conv1d(0, 4, 3), ValueError, "Conv1d: in_channels must be at least 1, got 0"),
    (lambda: nn.Conv1d(3, 4, (3, 3)), ValueError,
     "Conv1d: kernel_size must be an integer or a sequence of 1, got (3, 3)"),
    (lambda: nn.Conv3d(3, 4, (3, 3)), ValueError,
     "Conv3d: kernel_size must be an integer or a sequence of 3, got (3, 3)"),
    (lambda: nn.Conv3d(3, 4, 3, stride=0), ValueError, "Conv3d: stride must be at least 1, got 0"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError,
     "Conv2d: padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'"),
    (lambda: nn.ConvTranspose1d(3, 4, 3, output_padding=-1), ValueError,
     "ConvTranspose1d: output_padding must be at least 0, got -1"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), TypeError,
     "ConvTranspose2d: padding must be an integer, got 'same'"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ValueError,
     "ConvTranspose2d: padding_mode must be 'zeros', got 'reflect'"),
    (lambda: nn.ConvTranspose3d(4, 3, 3, groups=2), ValueError,
     "ConvTranspose3d: out_channels must be divisible by groups, got 3 and 2"),
    (lambda: nn.Unfold((3,)), ValueError, "Unfold: kernel_size must be an integer or a pair (height, width), got (3,)"),
    (lambda: nn.Fold(5, 0), ValueError, "Fold: kernel_size must be at least 1, got 0"),
    (lambda: nn.LazyConv2d(4, 0), ValueError, "LazyConv2d: kernel_size must be at least 1, got 0"),
    (lambda: nn.LazyConv3d(4, 3, groups=3), ValueError,
     "LazyConv3d: out_channels must be divisible by groups, got 4 and 3"),
    (lambda: nn.LazyConvTranspose2d(4, 3, groups=0), ValueError,
     "LazyConvTranspose2d: groups must be at least 1, got 0"),
    (lambda: nn.LazyConvTranspose3d(0, 3), ValueError, "LazyConvTranspose3d: out_channels must be at least 1, got 0"),
    (lambda: nn.LazyLinear(0), ValueError, "LazyLinear: out_features must be at least 1, got 0"),
    (lambda: filters.gaussian(5, 0), ValueError, "gaussian: sigma must be positive, got 0"),
    (lambda: filters.box(0), ValueError, "box: size must be at least 1, got 0"),
    (lambda: filters.box(2.5), TypeError, "box: size must be an integer, got 2.5"),
    (lambda: filters.identity(4), ValueError, "identity: size must be odd, got 4"),
    (lambda: filters.sobel("z"), ValueError, "sobel: direction must be 'x' or 'y', got 'z'"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", MADE)
def test_refused_when_made(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert str(caught.value) == text
