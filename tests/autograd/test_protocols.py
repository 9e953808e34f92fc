"""What Python asks of a value, against PyTorch: len, bool, index, format, iteration, NumPy, copies; small members."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

PROTOCOLS = [
    case("len", lambda m, x: (len(x), len(x[0])), (3, 4)),
    case("len 0-d", lambda m, x: len(x), ()),
    case("bool", lambda m: (bool(m.tensor(2.0)), bool(m.tensor([0])), bool(m.tensor(False)))),
    case("bool of several", lambda m, x: bool(x), (2,)),
    case("bool of none", lambda m, x: bool(x), (0,)),
    case("int and float", lambda m: (int(m.tensor(2.7)), float(m.tensor([3])), int(m.tensor(-1)))),
    case("index", lambda m: ([1, 2, 3][m.tensor(1)], list(range(m.tensor(3))), "ab" * m.tensor(2).__index__())),
    case("index of a float", lambda m: [1, 2][m.tensor(1.0)]),
    case("index of several", lambda m: [1, 2][m.tensor([0, 1])]),
    case("index of one in a list", lambda m: [1, 2][m.tensor([1])]),
    case("iteration", lambda m, x: [row * i for i, row in enumerate(x)], (3, 4)),
    case("iteration 0-d", lambda m, x: list(x), ()),
    case("unpacking", lambda m, x: (lambda a, b: (b, a))(*x), (2, 3)),
    case("zip", lambda m, x, y: [a * b for a, b in zip(x, y, strict=True)], (3,), (3, 2)),
    case("reversed", lambda m, x: reversed(x), (3, 2)),
    case("contains", lambda m: (2 in m.tensor([1, 2]), 3.5 in m.tensor([1.0]), m.tensor(1) in m.tensor([[1, 2]]))),
    case(
        "format", lambda m: (f"{m.tensor(1.2345):.2f}", f"{m.tensor(7):03d}", f"{m.tensor(0.5):.1%}", f"{m.tensor(3)}")
    ),
    case("format of several", lambda m: f"{m.tensor([1.5, 2]):.2f}"),
    case(
        "max with numbers",
        lambda m: (max(0.5, m.tensor(0.25)), max([m.tensor(1.0), m.tensor(3.0)]), min(m.tensor(2), 5)),
    ),
    case("sum of a generator", lambda m, x: sum(row.sum() for row in x), (3, 4)),
    case("sum of tensors", lambda m, x: sum([x, x * 2, 1.0]), (3,)),
    case("sorted", lambda m: [int(v) for v in sorted([m.tensor(3), m.tensor(1), m.tensor(2)])]),
    case("chained comparison", lambda m: bool(0 < m.tensor(0.5) < 1)),
    case("any and all of Python", lambda m: (any(m.tensor([0, 1])), all(m.tensor([0, 1])))),
    case("round", lambda m: float(round(m.tensor(2.567).double(), 1))),
    case("abs and neg", lambda m, x: (abs(x), -x, +x), (3,)),
    case("numpy asarray", lambda m: m.from_numpy(np.asarray(m.arange(3))) * 2),
    case("numpy float64", lambda m: m.from_numpy(np.asarray(m.arange(3), dtype=np.float64))),
    case("numpy functions", lambda m: float(np.mean(m.arange(4.0).numpy()))),
    case("numpy of requires_grad", lambda m, x: np.asarray(x), (2,)),
    case("numpy scalar times", lambda m, x: np.float32(2) * x.detach() + np.int64(1), (3,)),
    case("array on the left", lambda m, x: x.detach().numpy().dtype == np.float32, (3,)),
    case("deepcopy", lambda m, x: copy.deepcopy(x), (2, 3)),
    case("deepcopy of a result", lambda m, x: copy.deepcopy(x * 2), (2, 3)),
    case("copy", lambda m, x: copy.copy(x.detach()), (2, 3)),
    case("hash", lambda m, x: len({x, x, x.detach()}), (2,)),
    case("equality with None", lambda m, x: ((x == None), (x != None)), (2,)),  # noqa: E711
    case("dict of tensors", lambda m, x: {"a": x}["a"] is x, (2,)),
    case("chained writes", lambda m: _written(m.zeros(2, 2, 3))),
    case("slices written in place", lambda m: _scaled(m.ones(2, 12))),
    case(
        "list index",
        lambda m, x: (x[[0, 2]], x[[True, False, True]], x[range(2)], x[np.int64(1)], x[np.array([2, 0])]),
        (3, 4),
    ),
    case("nested index", lambda m, x: (x[1][2], x[x > 0], x[:, [1, 0]], x[..., None, 1], x[m.tensor(1)]), (3, 4)),
    case("list of tensors as index", lambda m, x: x[[m.tensor(0), m.tensor(2)]], (3, 4)),
    case("tuple of tensors as index", lambda m, x: x[tuple(m.tensor([[0, 1], [2, 3]]))], (3, 4)),
    case("negative step", lambda m, x: x[::-1], (3,)),
    case("attribute that is not there", lambda m, x: hasattr(x, "colour"), (3,)),
]

MEMBERS = [
    case("size", lambda m, x: (tuple(x.size()), x.size(0), x.size(-1), x.size(dim=1)), (2, 3)),
    case("size out of range", lambda m, x: x.size(2), (2, 3)),
    case(
        "Size",
        lambda m, x: (x.shape.numel(), x.size().numel(), x.shape[1:].numel(), x.shape[0], tuple(m.Size([2, 3]))),
        (2, 3, 4),
    ),
    case("shape arithmetic", lambda m, x: ((*x.shape, 1), x.shape == (2, 3), (*x.shape[:1], 5)), (2, 3)),
    case(
        "shape as an argument",
        lambda m, x: (m.zeros(x.shape), m.ones(*x.shape), x.reshape(x.shape[::-1]), m.zeros(x.size())),
        (2, 3),
    ),
    case("numel", lambda m, x: (m.numel(x), x.numel(), x.nelement(), x.nbytes, x.element_size(), x.itemsize), (2, 3)),
    case("dim", lambda m, x: (x.dim(), x.ndim, x.ndimension()), (2, 3, 4)),
    case("tolist", lambda m: (m.tensor([[1, 2]]).tolist(), m.tensor(1.5).tolist(), m.tensor([True]).tolist())),
    case("item", lambda m: (m.tensor(3).item(), m.tensor([2.5]).item(), m.tensor(True).item())),
    case("item of several", lambda m, x: x.item(), (2,)),
    case("cpu", lambda m, x: x.cpu(), (2,)),
    case("get_device", lambda m, x: (x.get_device(), x.is_cuda, x.is_meta), (2,)),
    case(
        "data_ptr",
        lambda m, x: (
            x.data_ptr() == x[0].data_ptr(),
            x.data_ptr() == x.clone().data_ptr(),
            x[1].data_ptr() - x.data_ptr() == 3 * x.element_size(),
        ),
        (2, 3),
        reversed_order=False,
    ),
    case(
        "is_contiguous",
        lambda m, x: (x.is_contiguous(), x.t().is_contiguous(), x.t().contiguous().is_contiguous()),
        (2, 3),
        reversed_order=False,
    ),
    case(
        "stride",
        lambda m, x: (x.stride(), x.t().stride(), x.stride(0), x[:, ::2].stride()),
        (2, 6),
        reversed_order=False,
    ),
    case("is_leaf", lambda m, x: (x.is_leaf, (x * 2).is_leaf, x.detach().is_leaf), (2,)),
    case(
        "casts",
        lambda m: [
            m.tensor([1.5, -2.5]).float(),
            m.tensor([1.5]).double(),
            m.tensor([1.5]).half(),
            m.tensor([1.7]).long(),
            m.tensor([1.7]).int(),
            m.tensor([0.0, 2]).bool(),
        ],
    ),
    case("type", lambda m, x: (x.type(m.float64), x.type(m.int64)), (2,)),
    case("type of a constructor", lambda m, x: (x.type(m.LongTensor), x.type(m.FloatTensor)), (2,)),
    case("type of a name", lambda m, x: (x.type("torch.LongTensor"), x.type("torch.DoubleTensor")), (2,)),
    case("type_as", lambda m, x: x.type_as(m.zeros(1, dtype=m.float64)), (2,)),
    case("is_floating_point method", lambda m, x: (x.is_floating_point(), m.arange(2).is_floating_point()), (2,)),
    case("is_tensor", lambda m, x: (m.is_tensor(x), m.is_tensor(3)), (2,)),
    case("view of a dtype", lambda m, x: x.view(m.int32), (2,)),
    case("as_strided", lambda m, x: x.as_strided((2,), (1,)), (4,)),
    case("no_grad decorators", lambda m, x: _decorated(m, x), (2,)),
    case("inference_mode", lambda m, x: _inferred(m, x), (2,)),
    case("set_grad_enabled", lambda m, x: _switched(m, x), (2,)),
]


def _written(x: Any) -> Any:
    x[1][0][2] = 1
    x[0, 1][:2] = 5
    return x


def _scaled(x: Any) -> Any:
    x[:, :10] *= 0
    x[0][10:] += 3
    return x


def _decorated(m: Any, x: Any) -> Any:
    @m.no_grad()
    def called(x: Any) -> Any:
        return x * 2

    @m.no_grad
    def bare(x: Any) -> Any:
        return x * 2

    @m.no_grad()
    def outer(x: Any) -> Any:
        @m.enable_grad()
        def inner(x: Any) -> Any:
            return x * 3

        return inner(x)

    return called(x), bare(x), outer(x), x * 4


def _inferred(m: Any, x: Any) -> Any:
    @m.inference_mode()
    def called(x: Any) -> Any:
        return (x * 2).requires_grad

    @m.inference_mode
    def bare(x: Any) -> Any:
        return (x * 2).requires_grad

    with m.inference_mode(False):
        kept = x * 2
    with m.inference_mode(mode=True):
        gone = (x * 2).requires_grad
    return called(x), bare(x), kept, gone


def _switched(m: Any, x: Any) -> Any:
    with m.set_grad_enabled(False):
        first = x * 2
    m.set_grad_enabled(False)
    second = x * 2
    m.set_grad_enabled(True)
    return first, second, x * 2, m.is_grad_enabled()


CASES = [*PROTOCOLS, *MEMBERS]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))


def test_array_protocol_copies_when_it_is_told_to() -> None:
    x = gn.arange(3)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert not np.shares_memory(np.array(x), x.numpy())
    with pytest.raises(ValueError, match="a copy is needed"):
        x.__array__(np.dtype(np.float64), copy=False)


def test_everything_named_is_there() -> None:
    assert len(gn.__all__) == len(set(gn.__all__))
    for name in gn.__all__:
        assert hasattr(gn, name), name


def test_accelerator_agrees_with_cuda() -> None:
    assert gn.accelerator.is_available() == gn.cuda.is_available()
    assert gn.accelerator.device_count() == gn.cuda.device_count()
    found = gn.accelerator.current_accelerator()
    assert (found is not None) == gn.cuda.is_available()
    if found is None:
        with pytest.raises(gn.DeviceError):
            gn.accelerator.current_device_index()
        with pytest.raises(gn.DeviceError):
            gn.accelerator.synchronize()


def test_seeding_a_gpu_leaves_the_streams_alone() -> None:
    gn.manual_seed(3)
    before = gn.get_rng_state()
    gn.cuda.manual_seed(4)
    gn.cuda.manual_seed_all(5)
    assert gn.get_rng_state() == before
    with pytest.raises(TypeError, match=r"^seed: "):
        gn.cuda.manual_seed("4")  # type: ignore[arg-type]


def test_the_default_device_is_where_tensors_are_made() -> None:
    gn.set_default_device("cpu:1")
    try:
        made = [
            gn.zeros(1),
            gn.tensor([1]),
            gn.rand(1),
            gn.arange(2),
            gn.randperm(2),
            gn.eye(2),
            gn.normal(0.0, 1.0, (1,)),
        ]
        assert {str(x.device) for x in made} == {"cpu:1"}
        assert str(gn.get_default_device()) == "cpu:1"
    finally:
        gn.set_default_device("cpu")
