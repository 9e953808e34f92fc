"""The SGD kernels against the equations, against NumPy's path bit for bit, and against PyTorch."""

import contextlib
import itertools

import numpy as np
import pytest

from gpunet.ops import sgd as op
from gpunet.testing import assert_agreement, cuda_on_cpu

pytestmark = pytest.mark.kernels

SIZES = [1, 2, 3, 4, 5, 255, 1024, 1027]
RULES = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"weight_decay": 0.1, "maximize": True},
    {"momentum": 0.5, "nesterov": True, "maximize": True, "grad_scale": 8.0},
]


def aligned(module, values, offset=0):
    """A copy that starts ``offset`` elements past a multiple of 64 bytes."""
    buffer = module.empty(values.size + 64 + offset, values.dtype)
    address = buffer.ctypes.data if module is np else buffer.data.ptr
    start = -address // values.itemsize % (64 // values.itemsize) + offset
    array = buffer[start : start + values.size].reshape(values.shape)
    array[...] = module.asarray(values)
    return array


def case(size, dtype, momentum=0.0, seed=0):
    generator = np.random.default_rng(seed)
    param, *grads = (generator.standard_normal(size).astype(dtype) for _ in range(4))
    # Nothing may come of what the buffer holds before the first step.
    return param, grads, np.full(size, np.nan, dtype) if momentum else None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule) or "plain")
def test_three_steps_follow_the_equations(machine, dtype, naive, rule):
    for size in SIZES:
        param, grads, buffer = case(size, dtype, rule.get("momentum", 0))
        expected, velocity = param.astype(np.float64), None if buffer is None else buffer.astype(np.float64)
        theta = aligned(machine.module, param)
        b = None if buffer is None else aligned(machine.module, buffer)
        for step, grad in enumerate(grads):
            g = aligned(machine.module, grad)
            call = lambda: op.sgd_update_cuda(theta, g, b, lr=0.1, first=step == 0, naive=naive, **rule)  # noqa: B023, E731
            machine.run(call)
            expected, velocity = op.reference(
                expected, grad.astype(np.float64), velocity, lr=0.1, first=step == 0, **rule
            )
        assert_agreement(machine.numpy(theta), expected, dtype)
        if b is not None:
            assert_agreement(machine.numpy(b), velocity, dtype)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(rule) or "plain")
def test_same_bits_as_the_array_path(dtype, rule):
    """Without fused multiply-adds the kernels and NumPy round at the same places."""
    results = []
    for path in ("array", "naive", "cuda"):
        param, grads, buffer = case(1027, dtype, rule.get("momentum", 0))
        theta, b = aligned(np, param), None if buffer is None else aligned(np, buffer)
        for step, grad in enumerate(grads):
            if path == "array":
                op.sgd(theta, grad, b, lr=0.1, first=step == 0, **rule)
            else:
                with cuda_on_cpu():
                    op.sgd_update_cuda(
                        theta, aligned(np, grad), b, lr=0.1, first=step == 0, naive=path == "naive", **rule
                    )
        results.append((theta, b))
    for theta, b in results[1:]:
        np.testing.assert_array_equal(theta, results[0][0])
        if b is not None:
            np.testing.assert_array_equal(b, results[0][1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offsets", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])
def test_misaligned_arrays(machine, dtype, offsets):
    param, grads, buffer = case(37, dtype, 0.9)
    arrays = [
        aligned(machine.module, values, offset)
        for values, offset in zip((param, grads[0], buffer), offsets, strict=True)
    ]
    machine.run(lambda: op.sgd(*arrays, lr=0.1, momentum=0.9, first=True))
    assert_agreement(machine.numpy(arrays[0]), param - 0.1 * grads[0].astype(np.float64), dtype)
    np.testing.assert_array_equal(machine.numpy(arrays[2]), grads[0])


def test_scalars_in_device_memory(machine):
    """What a captured graph changes between replays: the same arguments, other contents."""
    xp = machine.module
    param, grads, buffer = case(100, np.float32, 0.9)
    theta, b, g = (aligned(xp, values) for values in (param, buffer, grads[0]))
    lr, first, scale = xp.array(0.5), xp.array(True), xp.array(2.0)
    expected, velocity = param.astype(np.float64), buffer.astype(np.float64)
    for step, rate in enumerate((0.5, 0.25, 0.125)):
        lr[...], first[...], scale[...] = rate, step == 0, 2.0**step
        g[...] = xp.asarray(grads[step])
        machine.run(lambda: op.sgd_update_cuda(theta, g, b, lr=lr, momentum=0.9, first=first, grad_scale=scale))
        expected, velocity = op.reference(
            expected,
            grads[step].astype(np.float64),
            velocity,
            lr=rate,
            momentum=0.9,
            first=step == 0,
            grad_scale=2.0**step,
        )
    assert_agreement(machine.numpy(theta), expected, np.float32)


def test_a_rate_in_single_precision(machine):
    param, grads, _ = case(10, np.float32)
    theta, g = aligned(machine.module, param), aligned(machine.module, grads[0])
    rate = machine.module.array(0.1, np.float32)
    machine.run(lambda: op.sgd(theta, g, lr=rate))
    assert_agreement(machine.numpy(theta), param - np.float64(np.float32(0.1)) * grads[0], np.float32)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_memory_order(machine, order):
    """Arrays that lie in memory alike go through the kernel, whatever their order is."""
    param, grads, _ = case((3, 4, 5), np.float32)
    inverse = np.argsort(order)
    theta, g = (
        aligned(machine.module, np.ascontiguousarray(values.transpose(order))).transpose(inverse)
        for values in (param, grads[0])
    )
    seen = []

    def call():
        seen.append(op.supports(theta, g)[0])
        op.sgd(theta, g, lr=0.1)

    machine.run(call)
    assert seen == ["cuda"]
    assert_agreement(machine.numpy(theta), param - 0.1 * grads[0].astype(np.float64), np.float32)


def test_what_the_kernel_does_not_take_goes_another_way(machine):
    param, grads, _ = case((4, 6), np.float32)
    xp = machine.module
    pairs = [
        (xp.asarray(param).copy(), xp.asarray(np.asfortranarray(grads[0])).T.copy().T),
        (xp.zeros((4, 12), np.float32)[:, ::2], xp.asarray(grads[0])),
        (xp.asarray(param.astype(np.float16)), xp.asarray(grads[0].astype(np.float16))),
    ]
    pairs[1][0][...] = xp.asarray(param)
    for theta, g in pairs:
        seen = []

        def call(theta=theta, g=g, seen=seen):
            seen.append(op.supports(theta, g)[0])
            op.sgd(theta, g, lr=0.1)

        machine.run(call)
        assert seen == ["array"]
        result = machine.numpy(theta).astype(np.float64)
        assert np.abs(result - (param - 0.1 * grads[0])).max() < (1e-2 if theta.dtype == np.float16 else 1e-6)


def test_empty_array(machine):
    empty = machine.module.zeros((0, 3), np.float32)
    machine.run(lambda: op.sgd(empty, empty.copy(), lr=0.1))


def test_more_elements_than_one_grid_covers(machine):
    """The grid-stride loop goes round."""
    from gpunet.backend.kernels import get_kernel, launch

    param, grads, _ = case(1027, np.float32)
    for name in ("sgd_update_naive_float32", "sgd_update_float32"):
        theta, g = aligned(machine.module, param), aligned(machine.module, grads[0])
        args = (theta, g, None, None, 0.1, None, 1.0, None, False, 0.0, 0.0, 0.0, False, False, 1027)
        machine.run(lambda name=name, args=args: launch(get_kernel("sgd", name), 2, 64, args))
        assert_agreement(machine.numpy(theta), param - 0.1 * grads[0].astype(np.float64), np.float32)


def test_infinity_and_nan_stay_where_they_are(machine):
    param, grads, _ = case(64, np.float32)
    param[3], grads[0][7] = np.inf, np.nan
    theta, g = aligned(machine.module, param), aligned(machine.module, grads[0])
    machine.run(lambda: op.sgd(theta, g, lr=0.1))
    result = machine.numpy(theta)
    assert np.flatnonzero(~np.isfinite(result)).tolist() == [3, 7]


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}])
def test_the_optimizer_takes_the_kernel(options):
    """From gn.optim.SGD down to the kernel, with the same bits as without it."""
    import gpunet as gn

    results = []
    for context in (contextlib.nullcontext(), cuda_on_cpu("both")):
        start = np.random.default_rng(0).standard_normal((7, 9)).astype(np.float32)
        weight = gn.tensor(start, requires_grad=True)
        optimizer = gn.optim.SGD([weight], lr=0.1, **options)
        with context:
            assert op.supports(weight._array, weight._array)[0] == ("cuda" if results else "array")
            for _ in range(3):
                optimizer.zero_grad()
                (weight * weight).sum().backward()
                optimizer.step()
        results.append(weight.detach().numpy())
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES[:5], ids=lambda rule: "-".join(rule) or "plain")
def test_against_torch(machine, dtype, rule):
    torch = pytest.importorskip("torch")
    param, grads, buffer = case(1027, dtype, rule.get("momentum", 0))
    theirs = torch.nn.Parameter(torch.from_numpy(param.copy()))
    optimizer = torch.optim.SGD([theirs], lr=0.1, **rule)
    theta = aligned(machine.module, param)
    b = None if buffer is None else aligned(machine.module, buffer)
    for step, grad in enumerate(grads):
        g = aligned(machine.module, grad)
        machine.run(lambda g=g, step=step: op.sgd_update_cuda(theta, g, b, lr=0.1, first=step == 0, **rule))
        theirs.grad = torch.from_numpy(grad.copy())
        optimizer.step()
    assert_agreement(machine.numpy(theta), theirs.detach().numpy(), np.dtype(dtype))
