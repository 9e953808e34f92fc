"""The backward walk: what it costs, what it frees, what hooks see, and which writes it refuses."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import GradientError, Tensor
from gpunet.autograd import apply, observe
from gpunet.autograd.engine import Node
from gpunet.backend import buffers
from gpunet.ops import REGISTRY, Op


def leaf(*values: float) -> Tensor:
    return gn.tensor(list(values), dtype=gn.float64, requires_grad=True)


def gradient(tensor: Tensor) -> np.ndarray:
    assert tensor.grad is not None
    return tensor.grad.numpy()


# Cost and memory ----------------------------------------------------------------------------------------------------


def chain(length: int) -> tuple[Tensor, Tensor]:
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y * 1.0001 + 0.0001
    return x, y


def test_a_chain_of_ten_thousand_steps() -> None:
    x, y = chain(10_000)
    y.backward()
    np.testing.assert_allclose(gradient(x), 1.0001**10_000, rtol=1e-9)


class Counted:
    """Counts the backward calls of an operation."""

    def __init__(self, op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        original = op.backward

        def backward(*args: Any) -> Any:
            self.calls += 1
            return original(*args)

        monkeypatch.setattr(op, "backward", backward)


def test_the_walk_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node runs once, also where 2^60 paths lead through sixty diamonds."""
    counted = Counted(REGISTRY["add"], monkeypatch)
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert counted.calls == 60
    np.testing.assert_array_equal(gradient(x), 2.0**60)


def test_a_chain_is_freed_without_recursion_when_dropped() -> None:
    _, y = chain(10_000)
    nodes = weakref.ref(y.grad_fn)
    del y
    gc.collect()
    assert nodes() is None


def test_nodes_let_go_of_arrays_as_they_are_used() -> None:
    """When the walk reaches an early step, what later steps kept is gone."""
    x = gn.ones(10, dtype=gn.float64, requires_grad=True)
    kept: list[weakref.ref[Any]] = []
    alive: list[int] = []
    y = x
    for step in range(20):
        y = y.exp() * 0.1
        kept.append(weakref.ref(y.grad_fn))
        if step == 2:
            y.register_hook(lambda grad: alive.append(sum(node() is not None and not node().freed for node in kept)))
    y.sum().backward()
    assert alive == [3]


def test_peak_memory_of_backward_does_not_grow_with_the_chain() -> None:
    """On top of what forward kept, backward needs a few arrays, whatever the number of steps."""

    def peak(steps: int) -> int:
        x = gn.ones(20_000, requires_grad=True)
        y = x
        for _ in range(steps):
            y = y.sigmoid()
        y = y.sum()
        gc.collect()
        buffers.release()  # what lies idle would be used, and not be seen
        tracemalloc.start()
        y.backward()
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    array = 20_000 * 4
    peak(1)  # work arrays are kept for the next use
    assert peak(40) - peak(10) < array / 2
    assert peak(40) < 8 * array


def test_forward_without_gradients_keeps_nothing() -> None:
    x = gn.ones(1000)
    w = gn.ones(1000, requires_grad=True)
    with gn.no_grad():
        y = x * w
    assert y.grad_fn is None
    assert not y.requires_grad
    plain = x * 2
    assert plain.grad_fn is None


# Graphs -------------------------------------------------------------------------------------------------------------


def test_diamond() -> None:
    x = leaf(3.0)
    a, b = x * 2, x * x
    (a * b).sum().backward()
    np.testing.assert_allclose(gradient(x), 6 * 9.0)  # d 2x^3 = 6 x^2


def test_diamond_of_unequal_arms() -> None:
    x = leaf(0.5)
    long = x
    for _ in range(50):
        long = long * 1.0
    (long + x * x + x.exp()).sum().backward()
    np.testing.assert_allclose(gradient(x), 1 + 1.0 + np.exp(0.5))


def test_the_graph_of_the_course() -> None:
    """CS231n: (x + y) z at -2, 5, -4 is -12, with gradients -4, -4 and 3."""
    x, y, z = leaf(-2.0), leaf(5.0), leaf(-4.0)
    f = (x + y) * z
    f.backward()
    assert f.item() == -12
    assert [gradient(v).item() for v in (x, y, z)] == [-4, -4, 3]


def test_several_outputs_of_which_one_is_used() -> None:
    x = leaf(1.0, 2.0, 3.0, 4.0)
    first, second = x.split(2)
    (second * second).sum().backward()
    np.testing.assert_array_equal(gradient(x), [0, 0, 6, 8])
    assert first.requires_grad


def test_several_roots() -> None:
    x = leaf(2.0)
    a, b = x * 3, x * x
    gn.autograd.backward([a, b, a], [None, gn.tensor([10.0]), None])
    np.testing.assert_array_equal(gradient(x), [3 + 40 + 3])


def test_gradients_add_up_over_calls() -> None:
    x = leaf(2.0)
    for _ in range(3):
        (x * x).sum().backward()
    np.testing.assert_array_equal(gradient(x), [12])


def test_backward_of_a_leaf() -> None:
    x = leaf(2.0)
    x.backward()
    np.testing.assert_array_equal(gradient(x), [1])


def test_backward_twice_needs_retain_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(gradient(x), [8])
    with pytest.raises(GradientError, match="retain_graph=True"):
        y.backward()


def test_a_freed_part_of_a_graph_is_an_error_before_any_gradient_is_added() -> None:
    x, w = leaf(2.0), leaf(3.0)
    shared = x * x
    shared.sum().backward()
    with pytest.raises(GradientError, match="'mul' has been used and freed"):
        (shared * w).sum().backward()
    assert w.grad is None
    np.testing.assert_array_equal(gradient(x), [4])


def test_gradient_argument() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    with pytest.raises(gn.ShapeError, match=r"gradient must be given for a tensor of shape \(2,\)"):
        y.backward()
    with pytest.raises(gn.ShapeError, match=r"gradient must have shape \(2,\), got \(3,\)"):
        y.backward(gn.ones(3))
    with pytest.raises(gn.DeviceError, match=r"must be on 'cpu', got 'cpu:1'"):
        y.backward(gn.ones(2, device="cpu:1"))
    y.backward(gn.tensor([1.0, -1.0]))
    np.testing.assert_array_equal(gradient(x), [3, -3])
    assert x.grad is not None
    assert x.grad.dtype == gn.float64


def test_backward_without_a_graph() -> None:
    with pytest.raises(GradientError, match="does not require grad"):
        gn.ones(1).backward()
    with gn.no_grad():
        y = leaf(1.0) * 2
    with pytest.raises(GradientError, match="does not require grad"):
        y.backward()


def test_create_graph_is_refused() -> None:
    x = leaf(1.0)
    y = x * x
    for call in (lambda: y.backward(create_graph=True), lambda: gn.autograd.grad(y, x, create_graph=True)):
        with pytest.raises(GradientError, match="create_graph: gpunet computes first-order gradients only"):
            call()
    y.backward()


def test_grad_returns_and_touches_no_leaf() -> None:
    x, w = leaf(2.0), leaf(3.0)
    y = x * w
    z = y * y
    dx, dy = gn.autograd.grad(z, [x, y])
    assert dx is not None
    assert dy is not None
    np.testing.assert_array_equal(dx.numpy(), [36])
    np.testing.assert_array_equal(dy.numpy(), [12])
    assert x.grad is None
    assert w.grad is None


def test_grad_of_what_is_not_used() -> None:
    x, w = leaf(2.0), leaf(3.0)
    with pytest.raises(GradientError, match="no output depends on input 1; pass allow_unused=True"):
        gn.autograd.grad((x * 2).sum(), [x, w])
    found = gn.autograd.grad((x * 2).sum(), [x, w], allow_unused=True)
    assert found[1] is None
    with pytest.raises(GradientError, match="input 0 does not require grad"):
        gn.autograd.grad((x * 2).sum(), gn.ones(1))


def test_grad_of_several_outputs_with_weights() -> None:
    x = leaf(1.0, 2.0)
    (found,) = gn.autograd.grad([x * 2, x * x], x, [gn.ones(2), gn.tensor([1.0, 10.0])])
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), [2 + 2, 2 + 40])


def test_integers_and_unused_inputs_get_no_gradient() -> None:
    x = leaf(1.0, 2.0)
    labels = gn.tensor([1, 0])
    (x[labels] * labels).sum().backward()
    np.testing.assert_array_equal(gradient(x), [0, 1])
    assert labels.grad is None


def test_the_gradient_of_an_expanded_sum_is_not_shared() -> None:
    """sum's gradient is a broadcast view: adding a second one must not write through it."""
    x = gn.ones(3, 4, requires_grad=True)
    y = x * 1
    (y.sum() + y.sum() + (y * 2).sum()).backward()
    np.testing.assert_array_equal(gradient(x), np.full((3, 4), 4.0))


def test_two_leaves_do_not_share_a_gradient() -> None:
    a, b = leaf(1.0), leaf(2.0)
    (a + b).sum().backward()
    assert a.grad is not None
    a.grad.mul_(5)
    np.testing.assert_array_equal(gradient(b), [1])


# Modes --------------------------------------------------------------------------------------------------------------


def recorded() -> bool:
    return (leaf(1.0) * 2).requires_grad


def test_modes_nest_and_restore() -> None:
    with gn.no_grad():
        assert not recorded()
        with gn.enable_grad():
            assert recorded()
            with gn.set_grad_enabled(False):
                assert not recorded()
            assert recorded()
        assert not recorded()
    assert recorded()


def test_a_mode_ends_with_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), gn.no_grad():
        raise ZeroDivisionError
    assert gn.is_grad_enabled()


def test_modes_as_decorators() -> None:
    @gn.no_grad()
    def called() -> bool:
        return recorded()

    @gn.no_grad
    def bare() -> bool:
        return recorded()

    @gn.enable_grad()
    def enabled() -> bool:
        return recorded()

    @gn.set_grad_enabled(False)
    def switched() -> bool:
        return recorded()

    assert gn.is_grad_enabled()
    assert (called(), bare(), switched()) == (False, False, False)
    with gn.no_grad():
        assert enabled()
    assert called.__name__ == "called"


def test_a_decorated_generator_runs_in_the_mode_and_its_user_does_not() -> None:
    seen: list[Any] = []

    @gn.no_grad()
    def numbers() -> Any:
        try:
            seen.append((gn.is_grad_enabled(), (yield 1)))
            try:
                yield 2
            except KeyError:
                seen.append(gn.is_grad_enabled())
            yield 3
        finally:
            seen.append(gn.is_grad_enabled())
        return 4

    generator = numbers()
    assert next(generator) == 1
    assert gn.is_grad_enabled()
    assert generator.send("sent") == 2
    assert generator.throw(KeyError()) == 3
    generator.close()
    assert seen == [(False, "sent"), False, False]
    assert list(numbers()) == [1, 2, 3]
    assert gn.is_grad_enabled()


def test_one_mode_object_can_be_entered_again() -> None:
    mode = gn.no_grad()
    with mode:
        with mode:
            assert not recorded()
        assert not recorded()
    assert recorded()
    with mode:
        assert not recorded()


def test_set_grad_enabled_as_a_call() -> None:
    gn.set_grad_enabled(False)
    try:
        assert not recorded()
    finally:
        gn.set_grad_enabled(True)
    assert recorded()


def test_modes_belong_to_a_thread() -> None:
    seen = []
    with gn.no_grad():
        thread = threading.Thread(target=lambda: seen.append(recorded()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_backward_works_inside_no_grad() -> None:
    x = leaf(3.0)
    y = x * x
    with gn.no_grad():
        y.backward()
    np.testing.assert_array_equal(gradient(x), [6])


# Leaves, detaching, retained gradients ------------------------------------------------------------------------------


def test_detach_shares_memory_and_leaves_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()
    assert not y.requires_grad
    assert y.is_leaf
    assert np.shares_memory(x.detach().numpy(), x.data.numpy())
    z = x * y
    z.sum().backward()
    np.testing.assert_array_equal(gradient(x), [2, 4])


def test_retain_grad() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    z = y * y
    assert y.grad is None
    z.sum().backward()
    np.testing.assert_array_equal(gradient(y), [4, 8])
    x.retain_grad()  # a leaf keeps its gradient anyway
    with pytest.raises(GradientError, match="does not require grad"):
        gn.ones(2).retain_grad()


def test_results_do_not_keep_gradients_unasked() -> None:
    x = leaf(1.0)
    y = x * 2
    y.sum().backward()
    assert y.grad is None


def test_requires_grad_of_a_result_cannot_be_switched_off() -> None:
    y = leaf(1.0) * 2
    with pytest.raises(GradientError, match="only leaves can stop requiring grad"):
        y.requires_grad_(False)


def test_grad_can_be_set_and_is_checked() -> None:
    x = leaf(1.0, 2.0)
    x.grad = gn.ones(2, dtype=gn.float64)
    (x * 3).sum().backward()
    np.testing.assert_array_equal(gradient(x), [4, 4])
    with pytest.raises(gn.ShapeError, match=r"must have the tensor's shape \(2,\), got \(3,\)"):
        x.grad = gn.ones(3)
    with pytest.raises(gn.DeviceError, match="must be on the tensor's device 'cpu', got 'cpu:1'"):
        x.grad = gn.ones(2, device="cpu:1")
    with pytest.raises(TypeError, match="expected a Tensor or None"):
        x.grad = np.ones(2)  # type: ignore[assignment]


# Hooks --------------------------------------------------------------------------------------------------------------


def test_hooks_on_leaves_and_results() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    seen: list[np.ndarray] = []
    y.register_hook(lambda grad: seen.append(grad.numpy().copy()))
    x.register_hook(lambda grad: seen.append(grad.numpy().copy()))
    (y * y).sum().backward()
    np.testing.assert_array_equal(seen, [[4, 8], [8, 16]])


def test_a_hook_sees_the_complete_gradient_once() -> None:
    x = leaf(1.0)
    y = x * 2
    seen: list[float] = []
    y.register_hook(lambda grad: seen.append(grad.item()))
    (y + y * 3 + y * y).sum().backward()
    assert seen == [1 + 3 + 4]


def test_hooks_replace_gradients_in_order() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(lambda grad: grad * 10)
    y.register_hook(lambda grad: grad + 1)
    x.register_hook(lambda grad: grad * 100)
    y.sum().backward()
    np.testing.assert_array_equal(gradient(x), [2200, 2200])


def test_a_replacement_must_fit() -> None:
    for target in ("leaf", "result"):
        x = leaf(1.0, 2.0)
        y = x * 2
        (x if target == "leaf" else y).register_hook(lambda grad: gn.ones(3))
        with pytest.raises(gn.ShapeError, match=r"must return a gradient of shape \(2,\), got \(3,\)"):
            y.sum().backward()


def test_hooks_can_be_removed() -> None:
    x = leaf(1.0)
    first = x.register_hook(lambda grad: grad * 10)
    second = x.register_hook(lambda grad: grad * 3)
    first.remove()
    first.remove()
    (x * 1).sum().backward()
    np.testing.assert_array_equal(gradient(x), [3])
    second.remove()
    (x * 1).sum().backward()
    np.testing.assert_array_equal(gradient(x), [4])


def test_a_hook_may_remove_itself() -> None:
    x = leaf(1.0)
    calls = []

    def once(grad: Tensor) -> None:
        calls.append(1)
        handle.remove()

    handle = x.register_hook(once)
    (x * 1).sum().backward()
    (x * 1).sum().backward()
    assert calls == [1]


def test_a_retained_gradient_is_what_hooks_leave() -> None:
    x = leaf(1.0)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda grad: grad * 5)
    y.sum().backward()
    np.testing.assert_array_equal(gradient(y), [5])


def test_hooks_need_a_gradient_to_come() -> None:
    with pytest.raises(GradientError, match="does not require grad"):
        gn.ones(1).register_hook(lambda grad: None)
    with pytest.raises(GradientError, match="must be a leaf that requires grad"):
        (leaf(1.0) * 2).register_post_accumulate_grad_hook(lambda tensor: None)


def test_post_accumulate_hooks_run_after_each_leaf_is_complete() -> None:
    """The order a gradient bucket needs: the last layer's parameters first."""
    first, second = leaf(2.0), leaf(3.0)
    order: list[tuple[str, float]] = []
    handle = first.register_post_accumulate_grad_hook(lambda t: order.append(("first", gradient(t).item())))
    second.register_post_accumulate_grad_hook(lambda t: order.append(("second", gradient(t).item())))
    x = leaf(1.0)
    ((x * first) * second * second).sum().backward()
    assert order == [("second", 12.0), ("first", 9.0)]
    handle.remove()
    (first * 1).sum().backward()
    assert len(order) == 2


# Gradient buffers ---------------------------------------------------------------------------------------------------


def test_a_gradient_buffer_outlives_zero_grad() -> None:
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    assert x.grad is not None
    buffer = x.grad.numpy()
    x.zero_grad_(set_to_none=True)
    assert x.grad is None
    (x * 3).sum().backward()
    assert x.grad is not None
    assert x.grad.numpy().ctypes.data == buffer.ctypes.data
    np.testing.assert_array_equal(buffer, [3, 3])
    x.zero_grad_(set_to_none=False)
    np.testing.assert_array_equal(gradient(x), [0, 0])
    assert x.grad.numpy().ctypes.data == buffer.ctypes.data
    leaf(1.0).zero_grad_()


def test_the_buffer_survives_grad_set_to_none_as_scripts_do() -> None:
    x = leaf(1.0)
    (x * 2).sum().backward()
    address = gradient(x).ctypes.data
    x.grad = None
    (x * 5).sum().backward()
    assert gradient(x).ctypes.data == address
    np.testing.assert_array_equal(gradient(x), [5])


def test_a_buffer_follows_data_of_another_shape() -> None:
    x = leaf(1.0, 2.0)
    x.sum().backward()
    x.grad = None
    x.data = gn.ones(3, dtype=gn.float64)
    x.sum().backward()
    np.testing.assert_array_equal(gradient(x), np.ones(3))


# Writing in place ---------------------------------------------------------------------------------------------------


def test_versions_are_counted_and_shared_by_views() -> None:
    x = gn.zeros(2, 3)
    view = x[0]
    assert (x._version, view._version) == (0, 0)
    x.add_(1)
    view[1] = 5
    x.view(-1).mul_(2)
    x.detach().zero_()
    assert x._version == view._version == 4
    copied = x[[0, 1]]
    copied.add_(1)
    assert x._version == 4


@pytest.mark.parametrize(
    "write",
    [
        lambda y: y.add_(1),
        lambda y: y.mul_(2),
        lambda y: y.zero_(),
        lambda y: y.fill_(3.0),
        lambda y: y.copy_(gn.zeros(2)),
        lambda y: y.__setitem__(0, 5.0),
        lambda y: y.detach().add_(1),
        lambda y: y.detach()[:1].zero_(),
        lambda y: y.__imul__(2),
    ],
)
def test_an_overwritten_saved_tensor_is_an_error(write: Any) -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y * y
    write(y)
    with pytest.raises(GradientError, match="'mul' needs for its gradient was modified in place: it is at version"):
        z.sum().backward()


def test_an_overwritten_saved_output_is_an_error() -> None:
    x = leaf(1.0, 2.0)
    y = x.exp()
    y.add_(1)
    with pytest.raises(GradientError, match="'exp' needs"):
        y.sum().backward()


def test_an_overwritten_input_that_was_not_saved_is_none() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y + 1
    y.detach().zero_()
    z.sum().backward()
    np.testing.assert_array_equal(gradient(x), [2, 2])


def test_writes_through_data_are_not_seen() -> None:
    """PyTorch's way out: ``.data`` shares memory but not the version."""
    x = leaf(1.0, 2.0)
    y = x * x
    x.data.mul_(10)
    assert x._version == 0
    y.sum().backward()
    np.testing.assert_array_equal(gradient(x), [20, 40])
    x.data = gn.zeros(2, dtype=gn.float64)
    np.testing.assert_array_equal(x.detach().numpy(), [0, 0])
    with pytest.raises(TypeError, match="expected a Tensor"):
        x.data = np.zeros(2)  # type: ignore[assignment]


def test_a_leaf_cannot_be_written_while_recording() -> None:
    x = leaf(1.0, 2.0)
    for write in (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x.copy_(gn.zeros(2)),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.__isub__(1.0),
    ):
        with pytest.raises(GradientError, match="a leaf that requires grad cannot be written to"):
            write()
    np.testing.assert_array_equal(x.detach().numpy(), [1, 2])


def test_a_leaf_can_be_updated_under_no_grad() -> None:
    w = leaf(1.0, 2.0)
    (w * w).sum().backward()
    before = w
    with gn.no_grad():
        w -= 0.1 * w.grad
        w[0] = 7.0
    assert w is before
    assert w.is_leaf
    assert w.requires_grad
    np.testing.assert_allclose(w.detach().numpy(), [7.0, 1.6])
    w.grad = None
    (w * w).sum().backward()
    np.testing.assert_allclose(gradient(w), [14.0, 3.2])


def test_a_write_to_a_view_is_a_write_to_its_root() -> None:
    """y = 2x, y[:1] += 1, y[1:] = 0: dy_0/dx_0 = 2 stays, dy_1/dx_1 is gone."""
    x = leaf(1.0, 2.0)
    y = x * 2
    y[:1].add_(1)
    y[1:].zero_()
    assert y.tolist() == [3.0, 0.0]
    y.sum().backward()
    np.testing.assert_allclose(gradient(x), [2.0, 0.0])


@pytest.mark.parametrize("make", [lambda y: y.split(1)[0], lambda y: y.chunk(2)[1]])
def test_one_of_several_views_cannot_be_written(make: Any) -> None:
    y = leaf(1.0, 2.0) * 2
    with pytest.raises(GradientError, match="one of several views that split, chunk or unbind made"):
        make(y).add_(1)
    assert y.tolist() == [2.0, 4.0]


def test_a_view_made_under_no_grad_cannot_be_written_inside_the_graph() -> None:
    y = leaf(1.0, 2.0) * 2
    with gn.no_grad():
        view = y[:1]
    with pytest.raises(GradientError, match="a view made under no_grad cannot be written to"):
        view.add_(1)
    with gn.no_grad():
        view.add_(1)
    assert y.tolist() == [3.0, 4.0]


def test_what_a_view_was_taken_of_cannot_be_written_unnoticed() -> None:
    """A view of what is overwritten has lost its value: using it in the graph afterwards is PyTorch's rebase."""
    x = leaf(1.0, 2.0)
    y = x * 2
    view = y[:1]
    product = view * view
    y.add_(1)
    with pytest.raises(GradientError, match="modified in place"):
        product.sum().backward()


def test_writing_in_the_graph() -> None:
    """out += shortcut, loss += l, and x[i] = v keep their gradients."""
    x, shortcut = leaf(1.0, 2.0), leaf(5.0, 6.0)
    out = x * 3
    out += shortcut
    out *= shortcut
    out.sum().backward()  # (3x + s) s
    np.testing.assert_array_equal(gradient(x), [15, 18])
    np.testing.assert_array_equal(gradient(shortcut), [3 + 10, 6 + 12])


def test_loss_is_summed_in_place() -> None:
    x = leaf(1.0, 2.0)
    loss: Any = 0
    for step in range(3):
        loss += (x * step).sum()
    loss.backward()
    np.testing.assert_array_equal(gradient(x), [3, 3])
    total = gn.zeros((), dtype=gn.float64)
    for _ in range(3):
        total += (x * x).sum()
    x.grad = None
    total.backward()
    np.testing.assert_array_equal(gradient(x), [6, 12])


def test_index_assignment_in_the_graph() -> None:
    x, v = leaf(1.0, 2.0, 3.0), leaf(10.0)
    y = x * x
    y[1] = v[0] * 2
    y[2] = 0.0
    (y * y).sum().backward()
    np.testing.assert_array_equal(gradient(x), [4, 0, 0])
    np.testing.assert_array_equal(gradient(v), [80])
    buffer = gn.zeros(3, dtype=gn.float64)
    buffer[1] = v[0]
    assert buffer.requires_grad
    v.grad = None
    (buffer * 3).sum().backward()
    np.testing.assert_array_equal(gradient(v), [3])


def test_relu_in_place() -> None:
    x = leaf(-1.0, 2.0)
    y = x * 3
    z = y.relu_()
    assert z is y
    (z * 2).sum().backward()
    np.testing.assert_array_equal(gradient(x), [0, 6])


def test_in_place_on_what_the_operation_itself_saved() -> None:
    """y *= y: the product needs the old y, which is copied first."""
    x = leaf(2.0, 3.0)
    y = x * 1
    y *= y
    y.sum().backward()
    np.testing.assert_array_equal(gradient(x), [4, 6])
    x.grad = None
    z = x * 1
    z.div_(x)
    z.pow_(2)
    z.sum().backward()
    np.testing.assert_allclose(gradient(x), [0, 0], atol=1e-15)


def test_filling_gives_the_old_value_no_gradient() -> None:
    for fill in (lambda y: y.zero_(), lambda y: y.copy_(gn.ones(2, dtype=gn.float64)), lambda y: y[:].fill_(3)):
        x = leaf(1.0, 2.0)
        y = x * 2
        fill(y)
        y.sum().backward()
        np.testing.assert_array_equal(gradient(x), [0.0, 0.0])


def test_read_only_and_expanded_memory_cannot_be_written() -> None:
    array = np.zeros(3)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only memory, or is expanded; use clone"):
        gn.from_numpy(array).add_(1)
    with pytest.raises(ValueError, match="read-only memory, or is expanded; use clone"):
        gn.zeros(1).expand(3).add_(1)


def test_version_errors_name_both_versions() -> None:
    x = leaf(1.0)
    y = x * 2
    z = y * y
    y.detach().add_(1).add_(1)
    with pytest.raises(GradientError, match="it is at version 2, and 0 was saved"):
        z.backward()


# Copies and other processes -----------------------------------------------------------------------------------------


def test_deepcopy_of_a_leaf() -> None:
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    np.testing.assert_array_equal(gradient(twin), [2, 2])
    with gn.no_grad():
        twin.zero_()
    (twin * 3).sum().backward()
    np.testing.assert_array_equal(x.detach().numpy(), [1, 2])
    np.testing.assert_array_equal(gradient(x), [2, 2])
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]


def test_deepcopy_of_a_result_is_refused() -> None:
    y = leaf(1.0) * 2
    with pytest.raises(GradientError, match=r"use tensor.detach\(\).clone\(\)"):
        copy.deepcopy(y)
    with pytest.raises(GradientError, match="only leaves can be sent to another process"):
        pickle.dumps(y)


def test_live_tensors_cross_process_borders() -> None:
    x = leaf(1.0, 2.0)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(x, protocol))  # noqa: S301
        assert twin.requires_grad
        assert twin.device is x.device
        np.testing.assert_array_equal(twin.detach().numpy(), [1, 2])
    on_other = gn.ones(2, device="cpu:1")
    assert pickle.loads(pickle.dumps(on_other)).device == "cpu:1"  # noqa: S301


def test_deepcopy_keeps_the_physical_order() -> None:
    array = np.zeros((2, 4, 4, 3), np.float32).transpose(0, 3, 1, 2)
    assert copy.deepcopy(gn.from_numpy(array)).stride() == gn.from_numpy(array).stride()


# apply --------------------------------------------------------------------------------------------------------------


def test_apply_builds_a_node_that_names_its_operation() -> None:
    y = apply(REGISTRY["exp"], leaf(1.0))
    assert isinstance(y.grad_fn, Node)
    assert repr(y.grad_fn) == "<exp backward>"


def test_gradients_do_not_depend_on_being_observed() -> None:
    x = leaf(1.0, 2.0)
    with observe(lambda *call: None):
        y = (x * x).sum()
    y.backward()
    np.testing.assert_array_equal(gradient(x), [2, 4])


def test_bits_repeat() -> None:
    """The order in which gradients are added is the graph's alone."""
    rng = np.random.default_rng(0)
    array = rng.standard_normal((50, 60)).astype(np.float32)

    def once() -> np.ndarray:
        x = gn.tensor(array, requires_grad=True)
        parts = [(x * k).exp().sigmoid() for k in range(7)]
        gn.stack(parts).sum(0).mean().backward()
        return gradient(x).copy()

    first = once()
    for _ in range(3):
        np.testing.assert_array_equal(once(), first)


def test_a_view_that_is_a_copy_follows_and_hands_on() -> None:
    """Activations lie channels-last, so flattening copies; what is written to either is seen in both."""
    y = gn.nn.functional.max_pool2d(gn.ones(2, 3, 4, 4), 2)
    z = y.view(2, -1)
    assert not np.shares_memory(y.numpy(), z.numpy())
    z[:, 0] = 5.0
    assert y[0, 0, 0, 0].item() == 5.0
    y.mul_(2)
    assert z[0, :2].tolist() == [10.0, 2.0]
    assert z.detach().numpy()[1, 0] == 10.0
    assert y._version == z._version == 2


def test_unfold_is_a_copy_that_refuses_to_be_written() -> None:
    t = gn.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="in-place: unfold gives a copy"):
        t.unfold(1, 2, 1)[0, 0] = 11


def test_views_taken_before_another_shape_are_refused() -> None:
    y = leaf(1.0, 2.0) * 2
    view = y[:1]
    y.unsqueeze_(0)
    assert y.shape == (1, 2)
    with pytest.raises(GradientError, match="the tensor this is a view of was given another shape"):
        view.add_(1)
