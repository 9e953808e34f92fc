"""Writing in place inside the graph, against PyTorch: values, gradients, and when it must not be done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def both(*tensors: Any) -> tuple[Any, ...]:
    """What a case returns: the tensors, so that the gradient of each is asked for."""
    return tensors


def accumulate(m: Any, x: Any) -> Any:
    total = m.zeros((), dtype=x.dtype)
    for row in x:
        total += (row * row).sum()
    return total


def running_rows(m: Any, x: Any, w: Any) -> Any:
    out = m.zeros(4, 3, dtype=x.dtype)
    h = x[0]
    for step in range(4):
        h = (h * w).tanh()
        out[step] = h
    return out


def view_before_and_after(m: Any, x: Any) -> Any:
    y = x * 2
    early = y[0]
    y.mul_(x)
    late = y[0]
    return both(early, late, y)


def sibling_views(m: Any, x: Any) -> Any:
    y = x * 1
    first, second = y[0], y[:, 1]
    first.mul_(3)
    return both(first, second * 2, y.sum())


def chained(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    y[1][0:2].mul_(w)
    return both(y, y[1])


def write_through_transpose(m: Any, x: Any, w: Any) -> Any:
    y = x * 1
    y.t()[1] = w
    return both(y, y.t())


def write_through_view(m: Any, x: Any) -> Any:
    y = x * 1
    y.view(-1)[5] = 7.0
    y.unsqueeze(0)[0, 0, 0] += 1
    return y


def base_without_grad(m: Any, x: Any) -> Any:
    y = m.zeros(3, 4, dtype=x.dtype)
    row = y[1]
    y[1, :3] = x[0, :3]
    return both(y * 2, row.exp())


def set_under_no_grad(m: Any, x: Any) -> Any:
    y = x * x
    z = x.detach().clone()
    with m.no_grad():
        z[0] += 5
        z[:, 1:] *= 0
    return y * z


def update_parameters(m: Any, x: Any, w: Any) -> Any:
    for _ in range(3):
        loss = ((x @ w) ** 2).mean()
        w.grad = None
        loss.backward()
        with m.no_grad():
            w -= 0.1 * w.grad
    return both(w.detach().clone())


def write_data(m: Any, x: Any) -> Any:
    y = x.exp()
    y.data.zero_()
    return y


def saved_output_overwritten(m: Any, x: Any) -> Any:
    y = x.exp()
    y += 1
    return y


def saved_operand_overwritten(m: Any, x: Any) -> Any:
    y = x * 2
    z = y * y
    y += 1
    return z


def constant_operand_overwritten(m: Any, x: Any, w: Any) -> Any:
    scale = w.detach().clone()
    z = scale * x
    w2 = x.detach().clone()
    y = w2 * 2.0 + z
    w2.zero_()
    return y


def needed_constant_overwritten(m: Any, x: Any, w: Any) -> Any:
    scale = w.detach().clone()
    z = scale * x
    scale.zero_()
    return z


def view_of_saved_overwritten(m: Any, x: Any) -> Any:
    y = x * 1
    z = y.tanh()
    z[0, 0] = 0.0
    return z


def residual(m: Any, x: Any, w: Any) -> Any:
    shortcut = x
    out = m.nn.functional.linear(x, w)
    out += shortcut
    return m.nn.functional.relu(out, inplace=True)


def retained(m: Any, x: Any) -> Any:
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    return y.grad


def hooked(m: Any, x: Any) -> Any:
    seen: list[Any] = []
    y = x * 2
    y.register_hook(lambda grad: seen.append(grad))
    y.add_(x)
    y.sum().backward()
    return seen[0]


def leaf_view(m: Any, x: Any) -> Any:
    x[0].add_(1)
    return x


def no_grad_view(m: Any, x: Any) -> Any:
    y = x * 1
    with m.no_grad():
        view = y[0]
    view.mul_(2)
    return y


def loop_of_elements(m: Any, x: Any) -> Any:
    y = m.zeros_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[i][j] = x[i, j] * (i + j)
    return y


def swap_rows(m: Any, x: Any) -> Any:
    y = x * 1
    y[0], y[1] = y[1].clone(), y[0].clone()
    return y


def shifted(m: Any, x: Any) -> Any:
    y = x * 1
    y[1:] = y[:-1].clone()
    y[:-1] += y[1:].clone()
    return y


def overlapping(m: Any, x: Any) -> Any:
    y = x.detach().clone()
    y[:, 1:] = y[:, :-1] * 1
    return y


def pooled(m: Any, x: Any) -> Any:
    """x as an activation: in gpunet it lies channels-last in memory, so that flattening it copies."""
    return m.nn.functional.avg_pool2d(x, 1)


def flat_relu(m: Any, x: Any) -> Any:
    y = pooled(m, x)
    z = m.nn.functional.relu(y.view(y.size(0), -1), inplace=True)
    return both(y * 2, z)


def flat_writes(m: Any, x: Any, w: Any) -> Any:
    y = pooled(m, x)
    z = y.flatten(1)
    part = z[:, 2:5]
    part *= w
    z[0, 0] = 7.0
    y[1, 0] += 1
    z += 1
    return both(y, z, part, y.view(-1)[3:9])


def flat_then_base(m: Any, x: Any) -> Any:
    y = pooled(m, x)
    z = y.reshape(y.shape[0], -1)
    y.mul_(x)
    return both(z.sin(), y)


def flat_without_graph(m: Any, x: Any) -> Any:
    y = pooled(m, x.detach())
    z = y.view(-1)
    z[::3] = -1.0
    y.view(y.shape[0], -1)[:, 1].zero_()
    y[0].view(-1).add_(2)
    y.data.flatten()[4] = 9.0
    y.detach().view(-1)[5] = 8.0
    return both(y, z)


def flat_saved(m: Any, x: Any) -> Any:
    y = pooled(m, x)
    z = y * y
    y.view(-1).add_(1)
    return z


def grouped(m: Any, x: Any) -> Any:
    y = pooled(m, x)
    q = y.view(2, 2, 2, 12)
    q[:, :, 0] = m.sigmoid(q[:, :, 0])
    return both(y, q)


def flat_under_no_grad(m: Any, x: Any) -> Any:
    y = pooled(m, x)
    z = y.view(2, -1)
    with m.no_grad():
        z[:, :2] = 0.0
        y.view(-1)[5] = 1.0
    return both(y * 2, z * 3)


INPLACE = [
    case("flattened activation, relu", flat_relu, (2, 4, 3, 4)),
    case("flattened activation, written by parts", flat_writes, (2, 4, 3, 4), (3,)),
    case("flattened activation, base written", flat_then_base, (2, 4, 3, 4)),
    case("flattened activation without graph", flat_without_graph, (2, 4, 3, 4)),
    case("flattened activation, saved before", flat_saved, (2, 4, 3, 4)),
    case("activation in groups", grouped, (2, 4, 3, 4)),
    case("flattened activation under no_grad", flat_under_no_grad, (2, 4, 3, 4)),
    case("add to a total", accumulate, (3, 4)),
    case("rows of a result", running_rows, (2, 3), (3,)),
    case("views before and after", view_before_and_after, (3, 4)),
    case("sibling views", sibling_views, (3, 4)),
    case("chained views", chained, (3, 4), (2, 4)),
    case("through a transpose", write_through_transpose, (3, 4), (3,)),
    case("through view", write_through_view, (3, 4), reversed_order=False),
    case("base without gradient", base_without_grad, (3, 4)),
    case("under no_grad", set_under_no_grad, (3, 4)),
    case("parameters under no_grad", update_parameters, (3, 4), (4, 2)),
    case("through data", write_data, (3, 4)),
    case("a saved output", saved_output_overwritten, (3, 4)),
    case("a saved operand", saved_operand_overwritten, (3, 4)),
    case("an operand nobody needs", constant_operand_overwritten, (3, 4), (3, 4)),
    case("a needed constant", needed_constant_overwritten, (3, 4), (3, 4)),
    case("an element of a saved output", view_of_saved_overwritten, (3, 4)),
    case("residual", residual, (3, 4), (4, 4)),
    case("retained gradient", retained, (3, 4)),
    case("hook before the write", hooked, (3, 4)),
    case("a view of a leaf", leaf_view, (3, 4)),
    case("a leaf", lambda m, x: x.add_(1), (3, 4)),
    case("a leaf by index", lambda m, x: x.__setitem__(0, 1.0), (3, 4)),
    case("a view made under no_grad", no_grad_view, (3, 4)),
    case("loop over elements", loop_of_elements, (3, 4)),
    case("swap", swap_rows, (3, 4)),
    case("shift", shifted, (3, 4)),
    case("overlapping", overlapping, (3, 4)),
    case("slice times zero", lambda m, x: (y := x * 1, y[:, :2].mul_(0), y)[2], (3, 4)),
    case("chunk", lambda m, x: (y := x * 1, y.chunk(2)[0].mul_(2), y)[2], (4, 3)),
    case("expanded", lambda m, x: (x * 1).expand(3, 4).add_(1), (4,)),
    case("fill", lambda m, x: (y := x * 1, y[1].fill_(3.0), y)[2], (3, 4)),
    case("fill by a tensor", lambda m, x, w: (y := x * 1, y[1].fill_(w), y)[2], (3, 4), ()),
    case("zero", lambda m, x: (y := x * 1, y.zero_(), y)[2], (3, 4)),
    case("copy", lambda m, x, w: (y := x * 1, y.copy_(w), y)[2], (3, 4), (4,)),
    case("copy to a part", lambda m, x, w: (y := x * 1, y[:, 1].copy_(w), y)[2], (3, 4), (3,)),
    case("copy into a constant", lambda m, x: m.zeros(3, 4, dtype=x.dtype).copy_(x), (3, 4)),
    case("copy of integers", lambda m, x: (x * 1).copy_(m.tensor([1, 2, 3, 4])), (3, 4)),
    case("add alpha", lambda m, x, w: (x * 1).add_(w, alpha=0.5), (3, 4), (4,)),
    case("sub alpha", lambda m, x, w: (x * 1).sub_(w, alpha=2), (3, 4), (4,)),
    case("mul by a parameter", lambda m, x, w: (x * 1).mul_(w), (3, 4), (4,)),
    case("mul itself in place", lambda m, x: (y := x * 1, y.mul_(y))[1], (3, 4)),
    case("div itself in place", lambda m, x: (y := x * 1, y.div_(y))[1], (3, 4)),
    case("div by a parameter", lambda m, x, w: (x * 1).div_(w), (3, 4), np.array([0.5, 2.0, -1.0, 3.0])),
    case("one row times another", lambda m, x: (y := x * 1, y[0].mul_(y[1].clone()), y)[2], (3, 4)),
    case("broadcast too far", lambda m, x, w: (x * 1).add_(w), (4,), (3, 4)),
    case("wrong shape", lambda m, x, w: (x * 1).add_(w), (3, 4), (3,)),
    case("float into integers", lambda m, x: m.tensor([1, 2]).add_(0.5), (1,)),
    case("integers divided", lambda m, x: m.tensor([1, 2]).div_(2), (1,)),
    case("integers into float", lambda m, x: (x * 1).add_(m.tensor([1, 2, 3, 4])), (3, 4)),
    case("float64 into float32", lambda m, x: m.ones(4).add_(x.double()), (4,)),
    case("pow", lambda m, x: (x * 1).pow_(2), (3, 4)),
    case("clamp", lambda m, x: (x * 1).clamp_(-0.5, 0.5), (3, 4)),
    case("clamp at least", lambda m, x: (x * 1).clamp_min_(0.1), (3, 4)),
    case("clamp at most", lambda m, x: (x * 1).clamp_max_(0.1), (3, 4)),
    case("relu", lambda m, x: (x * 1).relu_(), (3, 4)),
    case("exp", lambda m, x: (x * 1).exp_(), (3, 4)),
    case("exp of a view", lambda m, x: (y := x * 1, y[1].exp_(), y)[2], (3, 4)),
    case("log", lambda m, x: (x.abs() + 1).log_(), (3, 4)),
    case("sqrt", lambda m, x: (x.abs() + 1).sqrt_(), (3, 4)),
    case("rsqrt", lambda m, x: (x.abs() + 1).rsqrt_(), (3, 4)),
    case("square", lambda m, x: (x * 1).square_(), (3, 4)),
    case("reciprocal", lambda m, x: (x.abs() + 1).reciprocal_(), (3, 4)),
    case("abs", lambda m, x: (x * 1).abs_(), (3, 4)),
    case("neg", lambda m, x: (x * 1).neg_(), (3, 4)),
    case("sigmoid", lambda m, x: (x * 1).sigmoid_(), (3, 4)),
    case("tanh", lambda m, x: (x * 1).tanh_(), (3, 4)),
    case("floor of a constant", lambda m, x: x.detach().clone().floor_(), (3, 4)),
    case("floor divide of a constant", lambda m, x: x.detach().clone().floor_divide_(0.3), (3, 4)),
    case("remainder", lambda m, x: (x * 1).remainder_(0.7), (3, 4)),
    case("masked fill", lambda m, x: (y := x * 1, y.masked_fill_(x > 0, 2.0), y)[2], (3, 4)),
    case("masked fill of a row", lambda m, x: (y := x * 1, y[0].masked_fill_(x[0] > 0, 2.0), y)[2], (3, 4)),
    case("mask assignment", lambda m, x: (y := x * 1, y.__setitem__(x > 0, 0.0), y)[2], (3, 4)),
    case("list assignment", lambda m, x, w: (y := x * 1, y.__setitem__([2, 0], w), y)[2], (3, 4), (2, 4)),
    case("list assignment to a view", lambda m, x, w: (y := x * 1, y[1:].__setitem__([1, 0], w), y)[2], (3, 4), (2, 4)),
    case("add to picked rows", lambda m, x, w: (y := x * 1, y[[0, 2]].add_(w), y)[2], (3, 4), (2, 4)),
    case("in place methods of a name", lambda m, x: (x * 1).multiply_(2).subtract_(1).divide_(3), (3, 4)),
    case("detach_ then write", lambda m, x: (x * 1).detach_().add_(1), (3, 4)),
    case("string", lambda m, x: (x * 1).add_("1"), (3, 4)),
    case("augmented assignments", lambda m, x: augmented(x * 1), (3, 4)),
    case("augmented index", lambda m, x, w: (y := x * 1, augment_index(y, w), y)[2], (3, 4), (4,)),
]  # fmt: skip


def augmented(y: Any) -> Any:
    y += 1
    y -= 0.5
    y *= 2
    y /= 4
    y **= 2
    return y


def augment_index(y: Any, w: Any) -> None:
    y[0] += w
    y[:, 1] *= 2
    y[1, 2] -= w[0]
    y[2][1:] /= 3


@pytest.mark.parametrize("checked", INPLACE, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
