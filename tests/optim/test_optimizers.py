"""Optimizers: the traces of the lecture's comparison, PyTorch over 50 steps, groups, saving, refusals."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn, optim

# float64, w = 0, gradients 1, 1, -0.5 fed in order: rows B51 (momentum) and B53 (the optimizers' genealogy).
TRACES = [
    (optim.SGD, {"lr": 0.1}, [-0.1, -0.2, -0.15]),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9}, [-0.1, -0.29, -0.411]),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, [-0.19, -0.461, -0.5199]),
    (optim.Adagrad, {"lr": 0.1}, [-0.1, -0.1707106781, -0.1373773448]),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.99}, [-0.9999999, -1.7088810548, -1.3733106075]),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.9}, [-0.316227756, -0.5456434846, -0.4327049993]),
    (optim.Adadelta, {"lr": 1, "rho": 0.9, "eps": 1e-6}, [-0.0031622618, -0.0064066736, -0.0044660378]),
    (optim.Adam, {"lr": 0.1}, [-0.099999999, -0.199999998, -0.251565338]),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 0.01}, [-0.099999999, -0.199899998, -0.251265438]),
    (optim.NAdam, {"lr": 0.1}, [-0.1056451781, -0.1840136132, -0.1556423891]),
    (optim.Adamax, {"lr": 0.1}, [-0.099999999, -0.199999998, -0.2446941382]),
]
NAMES = ["SGD", "momentum", "NAG", "Adagrad", "RMSprop", "RMSprop 0.9", "Adadelta", "Adam", "AdamW", "NAdam", "Adamax"]


@pytest.mark.parametrize("kind, options, trace", TRACES, ids=NAMES)
def test_traces_of_rows_b51_and_b53(kind, options, trace):
    """Rows B51 (momentum) and B53 (the genealogy of the optimizers)."""
    w = nn.Parameter(gn.zeros(1, dtype=gn.float64))
    optimizer = kind([w], **options)
    for gradient, expected in zip((1.0, 1.0, -0.5), trace, strict=True):
        w.grad = gn.tensor([gradient], dtype=gn.float64)
        optimizer.step()
        # NAdam keeps the product of its momenta in single precision, as PyTorch does.
        assert w.item() == pytest.approx(expected, abs=5e-9 if kind is optim.NAdam else 5e-10)


def test_the_length_of_a_step_is_the_rate_times_the_gradients_norm():
    """Row B50: the learning rate is not the length of the step, nor the batch size."""
    rng = np.random.default_rng(0)
    for rate in (0.5, 1e-3):
        w = nn.Parameter(gn.from_numpy(rng.standard_normal(20)))
        gradient = rng.standard_normal(20)
        before = w.detach().numpy().copy()
        w.grad = gn.from_numpy(gradient)
        optim.SGD([w], lr=rate).step()
        moved = np.linalg.norm(w.detach().numpy() - before)
        assert moved == pytest.approx(rate * np.linalg.norm(gradient), rel=1e-12)
    assert "times the norm of its gradient" in " ".join((optim.SGD.__doc__ or "").split())


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32])
def test_the_mean_of_equal_minibatches_gradients_is_the_full_gradient(size):
    """Row B52: minibatches of a power of 2."""
    rng = np.random.default_rng(1)
    images, targets = rng.standard_normal((32, 5)), rng.standard_normal((32, 1))
    data = gn.utils.data.TensorDataset(gn.from_numpy(images), gn.from_numpy(targets))
    w = nn.Parameter(gn.from_numpy(rng.standard_normal((1, 5))))
    gradients = []
    for x, y in gn.utils.data.DataLoader(data, batch_size=size):
        w.grad = None
        nn.functional.mse_loss(nn.functional.linear(x, w), y).backward()
        assert w.grad is not None
        gradients.append(w.grad.numpy().copy())
    assert len(gradients) == 32 // size
    full = 2 * (images @ w.detach().numpy().T - targets).T @ images / 32
    np.testing.assert_allclose(np.mean(gradients, axis=0), full, rtol=1e-12)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.2}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}),
    ("SGD", {"lr": 0.05, "momentum": 0.5, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.3, "maximize": True}),
]


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name, options", CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_fifty_steps_agree_with_pytorch(name, options, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    shapes = ((4, 3, 3, 3), (7,), ())
    starts = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    ours = [nn.Parameter(gn.tensor(start)) for start in starts]
    theirs = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    unused = nn.Parameter(gn.ones(2))
    a = getattr(optim, name)([*ours, unused], **options)
    b = getattr(torch.optim, name)(theirs, **options)
    for step in range(50):
        for p, q in zip(ours, theirs, strict=True):
            gradient = (rng.standard_normal(p.shape) * 0.9**step).astype(dtype)
            p.grad, q.grad = gn.tensor(gradient), torch.tensor(gradient)
        assert a.step() is None
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        expected = q.detach().numpy()
        assert p.dtype == dtype
        limit = (1e-5 if dtype == np.float32 else 1e-10) * np.abs(expected).max()
        assert np.abs(p.detach().numpy() - expected).max() <= limit
    assert unused.tolist() == [1.0, 1.0]
    # The saved form is PyTorch's: the same numbers, names and shapes.
    x, y = a.state_dict(), b.state_dict()
    assert list(x["state"]) == list(y["state"])
    for number in y["state"]:
        assert set(x["state"][number]) == set(y["state"][number])
        for key, value in y["state"][number].items():
            assert x["state"][number][key].shape == tuple(value.shape)
            np.testing.assert_allclose(
                x["state"][number][key].numpy(), value.numpy(), rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-7
            )
    assert x["param_groups"][0]["params"] == [0, 1, 2, 3]
    assert set(x["param_groups"][0]) <= set(y["param_groups"][0])


@pytest.mark.parity
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_positional_arguments_and_defaults_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    import inspect

    ours = inspect.signature(getattr(optim, name).__init__).parameters
    theirs = inspect.signature(getattr(torch.optim, name).__init__).parameters
    positional = [p for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    shared = [p for p in positional if p.name not in ("foreach", "maximize", "capturable", "differentiable")]
    for p in shared:
        assert p.name in ours
        assert ours[p.name].default == p.default
    assert list(ours)[: len(shared)] == [p.name for p in shared]


def quadratic(kind: type[optim.Optimizer], steps: int, **options: Any) -> list[float]:
    w = nn.Parameter(gn.tensor([3.0, -2.0]))
    optimizer = kind([w], **options)
    losses = []
    for _ in range(steps):
        loss = (w * w).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind, lr", [(optim.SGD, 0.1), (optim.Adam, 0.1), (optim.AdamW, 0.1)])
def test_they_descend(kind, lr):
    losses = quadratic(kind, 120, lr=lr)
    assert losses[-1] < 1e-3 * losses[0]


def test_groups_have_their_own_options_and_writing_one_works():
    a, b, c = (nn.Parameter(gn.ones(1)) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    optimizer.add_param_group({"params": [c], "maximize": True})
    for parameter in (a, b, c):
        parameter.grad = gn.ones(1)
    optimizer.step()
    assert [round(p.item(), 6) for p in (a, b, c)] == [0.9, 0.5, 1.1]
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert a.item() == pytest.approx(-0.1)
    optimizer.zero_grad()
    assert a.grad is None
    a.grad = gn.ones(1)
    optimizer.zero_grad(set_to_none=False)
    assert a.grad.item() == 0
    assert "Parameter Group 2" in repr(optimizer)
    assert "lr: 1.0" in repr(optimizer)


def test_named_parameters_and_generators_are_taken():
    net = nn.Linear(2, 2)
    assert len(optim.SGD(net.parameters()).param_groups[0]["params"]) == 2
    group = optim.SGD(net.named_parameters()).param_groups[0]
    assert group["param_names"] == ["weight", "bias"]
    assert group["params"][0] is net.weight


def test_step_with_a_closure():
    w = nn.Parameter(gn.tensor([2.0]))
    optimizer = optim.SGD([w], lr=0.25)

    def closure() -> gn.Tensor:
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with gn.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert w.item() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_a_learning_rate_may_be_a_tensor(kind):
    lr = gn.tensor(0.1)
    a, b = nn.Parameter(gn.ones(3)), nn.Parameter(gn.ones(3))
    one, other = kind([a], lr=lr), kind([b], lr=0.1)
    for _ in range(2):
        a.grad, b.grad = gn.full((3,), 0.5), gn.full((3,), 0.5)
        one.step()
        other.step()
    assert a.tolist() == pytest.approx(b.tolist(), rel=1e-6)
    lr.fill_(0.0)
    before = a.tolist()
    one.step()
    assert a.tolist() == before


def test_capturable_keeps_the_count_on_the_device():
    a, b = nn.Parameter(gn.ones(3, device="cpu:1")), nn.Parameter(gn.ones(3))
    one, other = optim.Adam([a], capturable=True), optim.Adam([b])
    for _ in range(3):
        a.grad, b.grad = gn.full((3,), 0.5, device="cpu:1"), gn.full((3,), 0.5)
        one.step()
        other.step()
    assert str(one.state[a]["step"].device) == "cpu:1"
    assert one.state[a]["step"].item() == 3
    assert a.to("cpu").tolist() == b.tolist()


@pytest.mark.parametrize(
    "kind, options", [(optim.SGD, {"lr": 0.1, "momentum": 0.9}), (optim.Adam, {"amsgrad": True}), (optim.AdamW, {})]
)
@pytest.mark.parametrize("through", ["state_dict", "file", "pickle"])
def test_a_saved_optimizer_continues_bit_for_bit(kind, options, through, tmp_path):
    def run(optimizer: optim.Optimizer, w: nn.Parameter, steps: range) -> None:
        for step in steps:
            w.grad = gn.tensor(np.random.default_rng(step).standard_normal((3, 2)).astype(np.float32))
            optimizer.step()

    w = nn.Parameter(gn.ones(3, 2))
    optimizer = kind([w], **options)
    run(optimizer, w, range(3))
    state, values = copy.deepcopy(optimizer.state_dict()), w.detach().clone()
    if through == "file":
        gn.save(state, tmp_path / "optimizer")
        state = gn.load(tmp_path / "optimizer")
    elif through == "pickle":
        state = pickle.loads(pickle.dumps(optimizer)).state_dict()  # noqa: S301
    run(optimizer, w, range(3, 6))
    other_w = nn.Parameter(values)
    other = kind([other_w], lr=77.0)
    other.load_state_dict(state)
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert other.param_groups[0].get("betas") == optimizer.param_groups[0].get("betas")
    run(other, other_w, range(3, 6))
    np.testing.assert_array_equal(w.detach().numpy(), other_w.detach().numpy())


@pytest.mark.parity
def test_pytorchs_saved_state_is_taken():
    torch = pytest.importorskip("torch")
    q = torch.nn.Parameter(torch.ones(3))
    theirs = torch.optim.Adam([q], lr=0.2)
    q.grad = torch.tensor([1.0, 2.0, 3.0])
    theirs.step()
    state = theirs.state_dict()
    state["state"] = {k: {n: v.numpy() for n, v in s.items()} for k, s in state["state"].items()}
    p = nn.Parameter(gn.tensor(q.detach().numpy().copy()))
    ours = optim.Adam([p])
    ours.load_state_dict(state)
    p.grad, q.grad = gn.ones(3), torch.ones(3)
    ours.step()
    theirs.step()
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-6)


def test_state_keeps_the_parameters_memory_order_and_device():
    net = nn.Conv2d(2, 3, 3).to("cpu:1")
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(gn.ones(1, 2, 5, 5, device="cpu:1")).sum().backward()
    optimizer.step()
    buffer = optimizer.state[net.weight]["momentum_buffer"]
    assert buffer._array.strides == net.weight._array.strides
    assert str(buffer.device) == "cpu:1"
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state[net.weight]["momentum_buffer"]._array.strides == net.weight._array.strides


def test_an_update_makes_the_old_graph_unusable():
    w = nn.Parameter(gn.ones(2))
    x = gn.ones(2, requires_grad=True)
    out = (w * x).sum()
    w.grad = gn.ones(2)
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError):
        out.backward()


def test_diverging_updates_do_not_warn():
    w = nn.Parameter(gn.full((3,), 3e38))
    optimizer = optim.SGD([w], lr=1e30, momentum=0.9)
    for _ in range(2):
        w.grad = gn.full((3,), 3e38)
        optimizer.step()
    assert not np.isfinite(w.detach().numpy()).any()


def parameter() -> nn.Parameter:
    return nn.Parameter(gn.zeros(2))


SHARED = parameter()


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: optim.SGD(parameter()), TypeError, "params: expected an iterable of Tensors or dicts, got Parameter"),
        (lambda: optim.SGD([]), ValueError, "params: the optimizer got no parameters"),
        (lambda: optim.SGD([3]), TypeError, "params: an optimizer takes Tensors, got int"),
        (lambda: optim.SGD([parameter() * 2]), ValueError, "takes leaves"),
        (lambda: optim.SGD([SHARED, SHARED]), UserWarning, "is in the group twice"),
        (lambda: optim.SGD([{"params": [SHARED]}, {"params": [SHARED]}]), ValueError, "in more than one group"),
        (lambda: optim.SGD([{"params": {SHARED}}]), TypeError, "a set has no order"),
        (lambda: optim.SGD([{"param": [SHARED]}]), TypeError, "expected a dict with the key 'params'"),
        (lambda: optim.SGD([SHARED], lr=-1), ValueError, "SGD: lr must not be negative, got -1"),
        (lambda: optim.SGD([SHARED], lr=gn.zeros(2)), ValueError, "lr must have one element if it is a Tensor"),
        (lambda: optim.SGD([SHARED], momentum=-1), ValueError, "SGD: momentum must not be negative, got -1"),
        (lambda: optim.SGD([SHARED], nesterov=True), ValueError, "SGD: nesterov needs momentum and no dampening"),
        (lambda: optim.SGD([{"params": [SHARED], "lr": -2}]), ValueError, "SGD: lr must not be negative, got -2"),
        (
            lambda: optim.Adam([SHARED], betas=(0.9, 1.0)),
            ValueError,
            r"Adam: betas must be two numbers .* \(0.9, 1.0\)",
        ),
        (lambda: optim.AdamW([SHARED], eps=-1), ValueError, "AdamW: eps must not be negative, got -1"),
        (lambda: optim.AdamW([SHARED], weight_decay=-1), ValueError, "AdamW: weight_decay must not be negative"),
        (lambda: optim.SGD([SHARED]).load_state_dict({}), gn.CheckpointError, "keys 'state' and 'param_groups'"),
        (
            lambda: optim.SGD([SHARED]).load_state_dict(optim.SGD([parameter(), parameter()]).state_dict()),
            gn.CheckpointError,
            r"holds groups of \[2\] parameters, but the optimizer has groups of \[1\]",
        ),
    ],
)
def test_refusals(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_a_parameter_given_twice_is_updated_twice():
    w = parameter()
    with pytest.warns(UserWarning, match="is in the group twice"):
        optimizer = optim.SGD([w, w], lr=0.5)
    w.grad = gn.ones(2)
    optimizer.step()
    assert w.tolist() == [-1.0, -1.0]
    assert optimizer.state_dict()["param_groups"][0]["params"] == [0, 0]


def test_hooks_around_steps():
    w = parameter()
    optimizer = optim.SGD([w], lr=1.0)
    seen = []

    def before(hooked: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen.append(("before", hooked is optimizer, w.tolist(), args, kwargs))
        return (lambda: 7.0,), {}

    first = optimizer.register_step_pre_hook(before)
    after = optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", w.tolist(), args[0]())))
    w.grad = gn.ones(2)
    assert optimizer.step() == 7.0
    assert seen == [("before", True, [0.0, 0.0], (), {}), ("after", [-1.0, -1.0], 7.0)]
    first.remove()
    after.remove()
    optimizer.step()
    assert len(seen) == 2
    optimizer.register_step_pre_hook(lambda *args: 3)
    with pytest.raises(RuntimeError, match=r"step hook: must return None or \(args, kwargs\), got int"):
        optimizer.step()


def test_an_optimizer_of_ones_own():
    class Signs(optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        @gn.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.state[p]["seen"] = self.state[p].get("seen", 0) + 1
                        p -= group["lr"] * p.grad.sign()

    w = parameter()
    optimizer = Signs([w])
    schedule = optim.lr_scheduler.StepLR(optimizer, 1)
    calls = []
    optimizer.register_step_post_hook(lambda *args: calls.append(1))
    w.grad = gn.tensor([3.0, -2.0])
    optimizer.step()
    schedule.step()  # no warning: the step was counted
    assert w.tolist() == pytest.approx([-0.1, 0.1])
    assert optimizer.state_dict()["state"] == {0: {"seen": 1}}
    assert calls == [1]
    base = optim.Optimizer([w], {})
    with pytest.raises(NotImplementedError, match=r"Optimizer defines no step\(\)"):
        base.step()


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "RMSprop", "Adagrad", "Adadelta", "Rprop", "ASGD"])
def test_threads_and_neighbours_do_not_change_the_bits(name):
    rng = np.random.default_rng(0)
    shapes = [(700_000,), (3, 5), (500, 900), (7,), (64, 64, 3, 3)]
    values = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    gradients = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    before = gn.get_num_threads()
    results = []
    for threads, together in ((1, True), (3, True), (1, False)):
        gn.set_num_threads(threads)
        try:
            params = [nn.Parameter(gn.tensor(value)) for value in values]
            options: dict[str, Any] = {"lr": 0.01, **({"momentum": 0.9} if name in ("SGD", "RMSprop") else {})}
            kind = getattr(optim, name)
            optimizers = [kind(params, **options)] if together else [kind([p], **options) for p in params]
            for _ in range(3):
                for p, gradient in zip(params, gradients, strict=True):
                    p.grad = gn.tensor(gradient)
                for optimizer in optimizers:
                    optimizer.step()
            results.append([p.detach().numpy() for p in params])
        finally:
            gn.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_step_sees_arrays_that_were_replaced():
    w = nn.Parameter(gn.ones(3))
    optimizer = optim.SGD([w], lr=1.0, momentum=0.5)

    def step() -> None:
        optimizer.zero_grad()
        (w * 2).sum().backward()
        optimizer.step()

    step()
    step()
    assert w.tolist() == [-4.0] * 3
    w.data = gn.zeros(3)
    optimizer.state[w]["momentum_buffer"] = gn.full((3,), 4.0)
    step()
    assert w.tolist() == [-4.0] * 3
    optimizer.load_state_dict(optimizer.state_dict())
    step()
    assert w.tolist() == [-8.0] * 3
    again = copy.deepcopy(optimizer)
    assert again.param_groups[0]["params"][0].tolist() == [-8.0] * 3


def test_a_state_of_another_shape_is_refused_and_changes_nothing():
    a, b = nn.Parameter(gn.ones(3)), nn.Parameter(gn.ones(2))
    source = optim.SGD([a], lr=0.1, momentum=0.9)
    a.grad = gn.ones(3)
    source.step()
    target = optim.SGD([b], lr=0.5, momentum=0.9)
    with pytest.raises(gn.CheckpointError, match=r"'momentum_buffer' of parameter 0 has shape \(3,\)"):
        target.load_state_dict(source.state_dict())
    assert target.param_groups[0]["lr"] == 0.5
    assert not target.state
