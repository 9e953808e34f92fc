"""What the course material says of gradients and graphs: rows B47, B48, B59 and B60."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import Tensor, nn
from gpunet.autograd import GradcheckError, gradcheck
from gpunet.autograd.engine import Node


def test_a_check_takes_two_evaluations_an_element() -> None:
    """B47: W + h for each of D dimensions: 2 D evaluations, and two more that see whether it is deterministic."""
    calls = 0

    def count(x: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (x.exp() * y).sum()

    rng = np.random.default_rng(0)
    x, y = (gn.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((3, 4), (4,)))
    assert gradcheck(count, (x, y))
    assert calls == 2 * (12 + 4) + 2
    calls = 0
    assert gradcheck(count, (x, y), max_elements=3)  # B47: a check on few parameters
    assert calls == 2 * (3 + 3) + 2
    calls = 0
    assert gradcheck(count, (x, y), fast_mode=True)
    assert calls == 2 + 2


@pytest.mark.parametrize("step", [1e-1, 1e-2, 1e-3])
def test_the_error_of_central_differences_is_of_second_order(step: float) -> None:
    """B47: of exp, centred differences are off by sinh(h)/h - 1 = h^2/6 + ..., one-sided ones by h/2 + ..."""
    x = gn.tensor([0.7], dtype=gn.float64, requires_grad=True)
    centred = math.sinh(step) / step - 1
    assert centred == pytest.approx(step**2 / 6, rel=1e-2)
    one_sided = (math.exp(0.7 + step) - math.exp(0.7)) / step / math.exp(0.7) - 1
    assert one_sided == pytest.approx(step / 2, rel=5e-2)
    # The check's differences are off by just that: it passes at a little more, and fails at a little less. In relation
    # to the numeric gradient, as the tolerance is.
    off = centred / (1 + centred)
    assert gradcheck(Tensor.exp, x, eps=step, atol=0, rtol=1.001 * off)
    with pytest.raises(GradcheckError, match="1 gradients differ from central differences"):
        gradcheck(Tensor.exp, x, eps=step, atol=0, rtol=0.999 * off)


def test_gradients_agree_with_differences_to_a_millionth() -> None:
    """B47, B48: analytic gradients of a small network, in float64, within 1e-6 of the numeric ones."""
    gn.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 5), nn.Softmax(1), nn.Linear(5, 3)).double()
    x = gn.randn(6, 4, dtype=gn.float64, requires_grad=True)
    labels = gn.tensor([0, 1, 2, 0, 1, 2])
    assert gradcheck(
        lambda x: F.cross_entropy(net(x), labels), (x,), eps=1e-5, atol=1e-9, rtol=1e-6, parameters=[*net.parameters()]
    )


def test_a_wrong_gradient_is_found() -> None:
    """B48: the analytic gradient is error-prone; the check tells where it is wrong, and by how much."""
    x = gn.tensor([1.0, 2.0], dtype=gn.float64, requires_grad=True)

    def doubled(x: Tensor) -> Tensor:
        y = x * x
        y.register_hook(lambda grad: grad * 2)
        return y

    assert gradcheck(lambda x: x * x, x)
    with pytest.raises(GradcheckError, match="2 gradients differ"):
        gradcheck(doubled, x)


def test_the_graph_of_a_sum_times_z() -> None:
    """B59: f = (x + y) z at -2, 5, -4 is -12, and its gradients are -4, -4, 3."""
    x, y, z = (gn.tensor(value, requires_grad=True) for value in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    assert (q.item(), f.item()) == (3.0, -12.0)
    q.retain_grad()
    f.retain_grad()
    f.backward()
    assert [t.grad.item() for t in (x, y, z)] == [-4.0, -4.0, 3.0]
    # B60: dL/dL = 1, and the local gradient of q is z.
    assert f.grad.item() == 1.0
    assert q.grad.item() == -4.0


def test_a_gradient_is_the_local_one_times_upstream() -> None:
    """B60: every node multiplies what comes from above with its own derivative (summed over its uses)."""
    x = gn.tensor([0.5, -1.5], dtype=gn.float64, requires_grad=True)
    inner = x.tanh()
    inner.retain_grad()
    outer = inner * inner + 3 * inner
    outer.backward(gn.tensor([2.0, 5.0], dtype=gn.float64))
    upstream = np.array([2.0, 5.0]) * (2 * np.tanh([0.5, -1.5]) + 3)
    np.testing.assert_allclose(inner.grad.numpy(), upstream, rtol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), upstream * (1 - np.tanh([0.5, -1.5]) ** 2), rtol=1e-14)


def test_backward_goes_against_forward() -> None:
    """B60: forward and backward visit the same nodes, in opposite order."""
    forward: list[str] = []
    backward: list[str] = []
    x = gn.ones(3, requires_grad=True)
    with gn.profile() as prof:
        ((x * 2).exp() + 1).log().sum().backward()
    for event in prof.events:
        (forward if event.phase == "forward" else backward).append(event.name)
    assert forward == ["mul", "exp", "add", "log", "sum"]
    assert backward == forward[::-1]


def test_an_update_goes_against_the_gradient() -> None:
    """B60: the update uses minus the gradient: the loss of the training loop falls, and rises with the other sign."""
    for rate, falls in ((0.1, True), (-0.1, False)):
        w = gn.tensor([2.0, -3.0], requires_grad=True)
        before = (w * w).sum()
        before.backward()
        with gn.no_grad():
            w -= rate * w.grad
        assert ((w * w).sum() < before).item() is falls
    w = nn.Parameter(gn.tensor([2.0]))
    w.grad = gn.tensor([3.0])
    gn.optim.SGD([w], lr=0.5).step()
    assert w.item() == 0.5


def test_the_nodes_are_there_to_be_looked_at() -> None:
    """B59: a result knows its operation, and that one its inputs."""
    x = gn.ones(2, requires_grad=True)
    y = (x * 3).sum()
    node = y.grad_fn
    assert isinstance(node, Node)
    assert node.op.name == "sum"
    (below, number) = node.edges[0]
    assert (below.op.name, number) == ("mul", 0)
    assert below.edges[0][0] is x
