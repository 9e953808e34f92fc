"""Every optimizer against PyTorch: 50 steps, its options, its saved state, its text."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet import nn, optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "foreach": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "maximize": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-2, "fused": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-6, "maximize": True}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "foreach": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "fused": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.3, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "momentum_decay": 0.02, "maximize": True}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "eps": 1e-4, "foreach": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True}),
    ("RAdam", {"lr": 0.01, "betas": (0.9, 0.5), "weight_decay": 0.1, "decoupled_weight_decay": True, "eps": 1e-4}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "eps": 1e-3, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "weight_decay": 0.1, "momentum": 0.9, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.01, "centered": True, "maximize": True, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.1, "eps": 1e-3, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-4}),
    ("Adagrad", {"lr": 0.1, "maximize": True, "weight_decay": 0.1, "foreach": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.7, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.05, "etas": (0.7, 1.1), "step_sizes": (1e-3, 0.08), "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.05, "lambd": 0.01, "alpha": 0.5, "t0": 20, "weight_decay": 0.1, "maximize": True}),
]
IDS = [f"{name}-{number}" for number, (name, _) in enumerate(CASES)]
NAMES = sorted({name for name, _ in CASES})
DTYPES = [np.float32, np.float64]


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def pair(start: np.ndarray) -> tuple[nn.Parameter, Any]:
    """The same parameter in both libraries, in the same order in memory."""
    return nn.Parameter(gn.from_numpy(start.copy(order="K"))), torch.nn.Parameter(
        torch.from_numpy(start.copy(order="K"))
    )


def starts(rng: np.random.Generator, dtype: Any) -> list[np.ndarray]:
    """Several shapes: matrices in reversed and permuted order, a scalar, nothing at all."""
    return [
        draw(rng, (4, 3, 3, 2), dtype),
        draw(rng, (7,), dtype),
        draw(rng, (), dtype),
        np.asarray(draw(rng, (5, 3), dtype), order="F"),
        draw(rng, (3, 4, 2), dtype).transpose(2, 0, 1),
        draw(rng, (0, 3), dtype),
    ]


def assert_close(ours: Any, theirs: Any, dtype: Any, looser: float = 1.0) -> None:
    a, b = np.asarray(ours), np.asarray(theirs)
    assert a.shape == b.shape
    limit = looser * {"float16": 1e-2, "float32": 1e-5, "float64": 1e-10}[np.dtype(dtype).name]
    assert np.isfinite(b).all()
    assert np.abs(a - b).max(initial=0) <= limit * max(np.abs(b).max(initial=0), 1e-30)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name, options", CASES, ids=IDS)
def test_fifty_steps(name, options, dtype):
    rng = np.random.default_rng(0)
    starting = starts(rng, dtype)
    pairs = [pair(start) for start in starting]
    unused = pair(np.ones(2, dtype))
    ours, theirs = ([*(p[side] for p in pairs), unused[side]] for side in (0, 1))
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(50):
        for number, (p, q) in enumerate(pairs):
            if step == 7 and number == 1:
                p.grad, q.grad = None, None  # this one sits a step out
                continue
            gradient = np.asarray(draw(rng, p.shape, dtype) * dtype(0.9**step))
            if options.get("fused"):  # PyTorch's fused updates take elements in memory order, whatever their indices
                in_order = np.empty_like(starting[number])
                in_order[...] = gradient
                gradient = in_order
            p.grad, q.grad = gn.from_numpy(gradient), torch.from_numpy(gradient)
        if step == 30:
            a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = 0.02
        assert a.step() is None
        b.step()
    for p, q in pairs:
        assert p.dtype == dtype
        assert_close(p.detach(), q.detach(), dtype)
    assert unused[0].tolist() == [1.0, 1.0]

    # The saved form is PyTorch's: the same numbers, names and shapes.
    x, y = a.state_dict(), b.state_dict()
    assert sorted(x["state"]) == sorted(y["state"])
    for number, state in y["state"].items():
        assert set(x["state"][number]) == set(state)
        for key, value in state.items():
            found = x["state"][number][key].numpy()
            assert found.shape == tuple(value.shape)
            bound = 2e-5 if dtype == np.float32 or found.ndim == 0 else 1e-10
            largest = np.abs(value.numpy()).max(initial=0)
            np.testing.assert_allclose(found, value.numpy(), rtol=bound, atol=bound * largest)
    (group,), (their_group,) = x["param_groups"], y["param_groups"]
    assert group == {**their_group, "params": list(range(len(ours)))}


@pytest.mark.parametrize("name, options", CASES, ids=IDS)
def test_pytorchs_saved_state_is_gone_on_from(name, options):
    rng = np.random.default_rng(1)
    p, q = pair(draw(rng, (4, 5), np.float64))
    b = getattr(torch.optim, name)([q], **options)
    for _ in range(5):
        q.grad = torch.from_numpy(draw(rng, (4, 5), np.float64))
        b.step()
    state = copy.deepcopy(b.state_dict())
    state["state"] = {k: {n: v.numpy() for n, v in values.items()} for k, values in state["state"].items()}
    a = getattr(optim, name)([p], lr=77.0)
    a.load_state_dict(state)
    p.data.copy_(q.detach().numpy())
    for _ in range(20):
        gradient = draw(rng, (4, 5), np.float64)
        p.grad, q.grad = gn.from_numpy(gradient), torch.from_numpy(gradient)
        a.step()
        b.step()
    assert_close(p.detach(), q.detach(), np.float64, 1e3 if name in ("NAdam", "ASGD") else 1)  # float32 numbers in it
    assert str(a) == str(b)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name):
    # PyTorch rounds to half after every operation, gpunet once.
    options: dict[str, Any] = {"eps": 1e-3} if "eps" in inspect.signature(getattr(optim, name)).parameters else {}
    rng = np.random.default_rng(2)
    p, q = pair(draw(rng, (6, 5), np.float16))
    a, b = getattr(optim, name)([p], **options), getattr(torch.optim, name)([q], **options)
    for _ in range(10):
        gradient = draw(rng, p.shape, np.float16)
        p.grad, q.grad = gn.from_numpy(gradient), torch.from_numpy(gradient)
        a.step()
        b.step()
    assert p.dtype == np.float16
    assert_close(p.detach(), q.detach(), np.float16)


@pytest.mark.parametrize("name", [*NAMES, "LBFGS"])
def test_signatures_defaults_and_text_are_pytorchs(name):
    ours = inspect.signature(getattr(optim, name).__init__).parameters
    theirs = inspect.signature(getattr(torch.optim, name).__init__).parameters
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]
    p, q = pair(np.zeros(2, np.float32))
    a, b = getattr(optim, name)([("w", p)]), getattr(torch.optim, name)([("w", q)])
    assert a.defaults == b.defaults
    assert repr(a) == repr(b)


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_in_a_tensor(name):
    rng = np.random.default_rng(3)
    for shape in ((), (1,)):
        p, q = pair(draw(rng, (6,), np.float64))
        rate = gn.full(shape, 0.05)
        a = getattr(optim, name)([p], lr=rate)
        b = getattr(torch.optim, name)([q], lr=torch.full(shape, 0.05), foreach=False)
        for step in range(5):
            gradient = draw(rng, p.shape, np.float64)
            p.grad, q.grad = gn.from_numpy(gradient), torch.from_numpy(gradient)
            if step == 3:
                rate.fill_(0.01)
                b.param_groups[0]["lr"].fill_(0.01)
            a.step()
            b.step()
        # PyTorch computes with the rate's float32 in places.
        assert_close(p.detach(), q.detach(), np.float64, 1e4)


def outcome(module: Any, name: str, tensor: Any, act: Any) -> str:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            act(getattr(module, name), tensor)
        except (ValueError, TypeError, RuntimeError, KeyError):
            return "error"
    return "warning" if seen else "fine"


BAD: list[tuple[str, Any]] = [
    ("SGD", lambda o, w: o([w], lr=-1)),
    ("SGD", lambda o, w: o([w], momentum=-1)),
    ("SGD", lambda o, w: o([w], weight_decay=-1)),
    ("SGD", lambda o, w: o([w], nesterov=True)),
    ("SGD", lambda o, w: o([w], nesterov=True, momentum=0.9, dampening=0.1)),
    ("SGD", lambda o, w: o([w], foreach=True, fused=True)),
    ("SGD", lambda o, w: o([])),
    ("SGD", lambda o, w: o(w)),
    ("SGD", lambda o, w: o([w, w])),
    ("SGD", lambda o, w: o([{"params": [w]}, {"params": [w]}])),
    ("SGD", lambda o, w: o([{"params": {w}}])),
    ("SGD", lambda o, w: o([("w", w), w])),
    ("SGD", lambda o, w: o([("w", w)]).add_param_group({"params": [w.detach()]})),
    ("SGD", lambda o, w: o([w * 2])),
    ("SGD", lambda o, w: o([w.detach()])),
    ("SGD", lambda o, w: o([1])),
    ("Adam", lambda o, w: o([w], betas=(0.9, 1.0))),
    ("Adam", lambda o, w: o([w], betas=(-0.1, 0.9))),
    ("Adam", lambda o, w: o([w], eps=-1)),
    ("AdamW", lambda o, w: o([w], lr=-1)),
    ("NAdam", lambda o, w: o([w], momentum_decay=-1)),
    ("RAdam", lambda o, w: o([w], weight_decay=-1)),
    ("Adamax", lambda o, w: o([w], betas=(0.9, 1.0))),
    ("RMSprop", lambda o, w: o([w], alpha=-1)),
    ("RMSprop", lambda o, w: o([w], momentum=-1)),
    ("Adagrad", lambda o, w: o([w], lr_decay=-1)),
    ("Adagrad", lambda o, w: o([w], initial_accumulator_value=-1)),
    ("Adadelta", lambda o, w: o([w], rho=1.5)),
    ("Adadelta", lambda o, w: o([w], rho=1.0)),
    ("Rprop", lambda o, w: o([w], etas=(1.1, 1.2))),
    ("ASGD", lambda o, w: o([w], weight_decay=-1)),
    ("LBFGS", lambda o, w: o([w], lr=-1)),
    ("LBFGS", lambda o, w: o([{"params": [w]}, {"params": [w.detach()]}])),
    ("LBFGS", lambda o, w: o([w]).step()),
]


@pytest.mark.parametrize("name, act", BAD, ids=range(len(BAD)))
def test_errors_and_warnings_are_where_pytorchs_are(name, act):
    ours = outcome(optim, name, nn.Parameter(gn.ones(2)), act)
    assert ours == outcome(torch.optim, name, torch.nn.Parameter(torch.ones(2)), act)


# L-BFGS ------------------------------------------------------------------------------------------------------------


def rosenbrock(x: Any) -> Any:
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def minimise(module: Any, kind: Any, tensor: Any, steps: int, **options: Any) -> tuple[list[float], np.ndarray, int]:
    optimizer = kind([tensor], **options)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = rosenbrock(tensor)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(steps)]
    evaluations = optimizer.state_dict()["state"][0]["func_evals"]
    return losses, np.asarray(tensor.detach()), evaluations


@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 4, "lr": 0.5},
        {"line_search_fn": "strong_wolfe", "max_iter": 5, "max_eval": 7},
        {"lr": 1e-3, "max_iter": 5},
        {"lr": 1e-3, "history_size": 2, "tolerance_change": 1e-3},
    ],
    ids=range(5),
)
def test_lbfgs_follows_pytorch(options):
    start = np.array([-1.2, 1.0, 0.5, -0.3])
    p, q = pair(start)
    losses, ours, evaluations = minimise(gn, optim.LBFGS, p, 8, **options)
    their_losses, theirs, their_evaluations = minimise(torch, torch.optim.LBFGS, q, 8, **options)
    assert evaluations == their_evaluations
    np.testing.assert_allclose(losses, their_losses, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_lbfgs_fits_a_layer_in_single_precision():
    rng = np.random.default_rng(5)
    x, y = draw(rng, (30, 4), np.float32), draw(rng, (30, 2), np.float32)
    weight, bias = draw(rng, (2, 4), np.float32), draw(rng, (2,), np.float32)
    results = []
    for m in (gn, torch):
        layer = m.nn.Linear(4, 2)
        with m.no_grad():
            layer.weight.copy_(m.tensor(weight))
            layer.bias.copy_(m.tensor(bias))
        optimizer = m.optim.LBFGS(layer.parameters(), line_search_fn="strong_wolfe")

        def closure(m: Any = m, layer: Any = layer, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = m.nn.functional.mse_loss(layer(m.tensor(x)), m.tensor(y))
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        results.append([np.asarray(layer.weight.detach()), np.asarray(layer.bias.detach())])
    solution = np.linalg.lstsq(np.c_[x, np.ones(30)].astype(np.float64), y, rcond=None)[0].T
    for ours, theirs, exact in zip(*results, (solution[:, :4], solution[:, 4]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
        np.testing.assert_allclose(ours, exact, atol=5e-4)


def test_lbfgs_goes_on_from_pytorchs_saved_state():
    p, q = pair(np.array([-1.2, 1.0, 0.5, -0.3]))
    b = torch.optim.LBFGS([q], line_search_fn="strong_wolfe", max_iter=4)
    a = optim.LBFGS([p], lr=0.1)

    def closure_of(optimizer: Any, tensor: Any) -> Any:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = rosenbrock(tensor)
            loss.backward()
            return loss

        return closure

    for _ in range(2):
        b.step(closure_of(b, q))

    def as_arrays(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_arrays(part) for key, part in value.items()}
        if isinstance(value, list):
            return [as_arrays(part) for part in value]
        return value.detach().numpy().copy() if isinstance(value, torch.Tensor) else value

    a.load_state_dict(as_arrays(b.state_dict()))
    p.data.copy_(q.detach().numpy())
    for _ in range(3):
        ours, theirs = a.step(closure_of(a, p)), b.step(closure_of(b, q))
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-6)


# Weight averaging --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda u: {},
        lambda u: {"avg_fn": u.get_ema_avg_fn(0.9)},
        lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.8), "use_buffers": True},
        lambda u: {"avg_fn": u.get_swa_avg_fn()},
        lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
        lambda u: {"avg_fn": lambda a, b, n: a * 0.5 + b * 0.5},
    ],
    ids=range(6),
)
def test_averaged_models(make):
    rng = np.random.default_rng(6)
    values = [[draw(rng, shape, np.float64) for shape in ((3, 2), (3,), (3,), (3,))] for _ in range(4)]
    batches = [draw(rng, (5, 2), np.float64) for _ in range(3)]
    results = []
    for m in (gn, torch):
        utils = m.optim.swa_utils
        net = m.nn.Sequential(m.nn.Linear(2, 3), m.nn.BatchNorm1d(3)).to(m.float64)
        averaged = utils.AveragedModel(net, **make(utils))
        for arrays in values:
            with m.no_grad():
                for parameter, array in zip(net.parameters(), arrays, strict=True):
                    parameter.copy_(m.tensor(array))
            averaged.update_parameters(net)
        utils.update_bn([(m.tensor(batch), 0) for batch in batches], averaged)
        state = {key: np.asarray(value.detach()) for key, value in averaged.state_dict().items()}
        results.append((state, np.asarray(averaged.eval()(m.tensor(batches[0])).detach())))
    (ours, output), (theirs, their_output) = results
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        # PyTorch's mean over lists has a float32 share.
        np.testing.assert_allclose(ours[key], value, rtol=1e-6, err_msg=key)
    np.testing.assert_allclose(output, their_output, atol=1e-6)
