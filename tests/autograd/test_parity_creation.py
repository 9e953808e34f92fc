"""Making tensors against PyTorch: values, dtypes, shapes, requires_grad and what is refused.

Random numbers differ, so their cases compare what is known of them: shape, dtype, bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

NAN = float("nan")


def kind(x: Any) -> Any:
    """What is known of random numbers."""
    return x.detach().clone().fill_(0), x.requires_grad


GIVEN = [
    case("arange", lambda m: (m.arange(5), m.arange(2, 9, 3), m.arange(5, 0, -2), m.arange(0), m.arange(3, 3, -1))),
    case("arange floats", lambda m: (m.arange(0, 1, 0.25), m.arange(1.5), m.arange(5, dtype=m.float64), m.arange(1e0))),
    case("arange dtypes", lambda m: (m.arange(3, dtype=m.int32), m.arange(3, dtype=m.float16), m.arange(0.5, 5, 2))),
    case("arange cut to integers", lambda m: (m.arange(0.5, 5, 2, dtype=m.int64), m.arange(0, 2.5, 1, dtype=m.int64))),
    case("arange of tensors", lambda m: (m.arange(m.tensor(3)), m.arange(m.tensor(0.5), 2), m.arange(np.int64(2)))),
    case("arange of a bool", lambda m: m.arange(True)),
    case("arange requires_grad", lambda m: m.arange(3.0, requires_grad=True)),
    case("arange zero step", lambda m: m.arange(1, 2, 0)),
    case("arange step cut to zero", lambda m: m.arange(0, 5, 0.5, dtype=m.int64)),
    case("arange wrong way", lambda m: m.arange(3, 0)),
    case("arange NaN", lambda m: m.arange(NAN)),
    case("arange bools", lambda m: m.arange(5, dtype=m.bool)),
    case("arange string", lambda m: m.arange("3")),
    case("linspace", lambda m: (m.linspace(0, 1, 5), m.linspace(3, -2, 4), m.linspace(0, 1, 1), m.linspace(0, 1, 0))),
    case("linspace dtypes", lambda m: (m.linspace(0, 10, 5, dtype=m.int64), m.linspace(0, 1, 3, dtype=m.float64))),
    case("linspace keyword", lambda m: m.linspace(start=0, end=1, steps=3, requires_grad=True)),
    case("linspace of tensors", lambda m: m.linspace(m.tensor(0.0), 1, 3)),
    case("linspace negative steps", lambda m: m.linspace(0, 1, -1)),
    case("linspace float steps", lambda m: m.linspace(0, 1, 2.0)),
    case("linspace bools", lambda m: m.linspace(0, 1, 2, dtype=m.bool)),
    case("logspace", lambda m: (m.logspace(0, 3, 4), m.logspace(-1, 1, 3, base=2), m.logspace(0, 1, 0))),
    case("logspace dtype", lambda m: m.logspace(0, 3, 4, base=2, dtype=m.float64)),
    case("logspace negative steps", lambda m: m.logspace(0, 3, -1)),
    case("eye", lambda m: (m.eye(3), m.eye(2, 3), m.eye(3, 2), m.eye(0), m.eye(2, dtype=m.bool))),
    case("eye requires_grad", lambda m: m.eye(2, requires_grad=True)),
    case("eye negative", lambda m: m.eye(-1)),
    case("eye negative columns", lambda m: m.eye(2, -1)),
    case("full", lambda m: (m.full((2, 3), 1.5), m.full((2,), 3), m.full((), True), m.full([2], 3, dtype=m.float64))),
    case("full of a tensor", lambda m: (m.full((2,), m.tensor(3.5)), m.full((2,), m.tensor(3)))),
    case("full cut", lambda m: m.full((2,), 3.7, dtype=m.int64)),
    case("full of a vector", lambda m: m.full((2,), m.ones(2))),
    case("full negative", lambda m: m.full((-1,), 1)),
    case("full too large", lambda m: m.full((2,), 300, dtype=m.uint8)),
    case("full_like", lambda m, x: (m.full_like(x, 2.5), m.full_like(x, 2, dtype=m.int64, device="cpu")), (2, 3)),
    case("full_like cut", lambda m: m.full_like(m.ones(2, dtype=m.int64), 2.5)),
    case("zeros", lambda m: (m.zeros(2, 3), m.zeros((2, 3)), m.zeros(size=(2,)), m.zeros([]), m.zeros(0, 3))),
    case("ones", lambda m: (m.ones(2, dtype=m.bool), m.ones((1, 2), requires_grad=True), m.ones(size=[3]))),
    case("empty", lambda m: (kind(m.empty(2, 3)), kind(m.empty((2,), dtype=m.int32)), kind(m.empty(size=(1,))))),
    case("zeros of nothing", lambda m: m.zeros()),
    case("zeros negative", lambda m: m.zeros(2, -1)),
    case("zeros of floats", lambda m: m.zeros(2.0)),
    case("zeros unknown argument", lambda m: m.zeros(2, colour=1)),
    case("zeros_like", lambda m, x: (m.zeros_like(x), m.zeros_like(x, dtype=m.int64)), (2, 3)),
    case("ones_like", lambda m, x: (m.ones_like(x), m.ones_like(x, requires_grad=True)), (2, 3)),
    case("empty_like", lambda m, x: kind(m.empty_like(x)), (2, 3)),
    case("like memory_format", lambda m, x: m.zeros_like(x, memory_format=m.preserve_format), (2, 3)),
    case("contiguous_format", lambda m, x: x.t().contiguous(memory_format=m.contiguous_format), (2, 3)),
    case("channels_last", lambda m, x: x.to(memory_format=m.channels_last), (1, 2, 3, 4)),
    case("zeros_like a list", lambda m: m.zeros_like([1.0])),
    case("new_zeros", lambda m, x: (x.new_zeros(2, 3), x.new_zeros((2,)), x.new_zeros([2, 1], dtype=m.int32)), (2,)),
    case("new_ones", lambda m, x: x.new_ones((2, 3), requires_grad=True), (2,)),
    case("new_full", lambda m, x: (x.new_full((2, 3), 1.5), x.new_full((2,), 3, dtype=m.int64)), (2,)),
    case("new_empty", lambda m, x: kind(x.new_empty(2, 3)), (2,)),
    case(
        "new",
        lambda m, x: (
            [tuple(one.shape) for one in (x.new(), x.new(4), x.new(4, 5), x.new(x.size()))],
            x.new([1, 2]),
            x.new((2, 3)),
            x.new([[1, 2], [3, 4]]),
            x.new(x),
            x.long().new([1.5]),
            x.new(2, 5).zero_(),
        ),
        (2,),
    ),
    case("new of another dtype", lambda m, x: x.new(m.tensor([1, 2])), (2,)),
    case("new of a float", lambda m, x: x.new(2.5), (2,)),
    case("new of a negative size", lambda m, x: x.new(-1), (2,)),
    case("new_tensor", lambda m, x: (x.new_tensor([1, 2]), x.new_tensor(1.5, dtype=m.float64)), (2,)),
    case("new_zeros negative", lambda m, x: x.new_zeros(-1), (2,)),
    case("scalar_tensor", lambda m: (m.scalar_tensor(3), m.scalar_tensor(2, dtype=m.int64))),
    case(
        "tensor",
        lambda m: (m.tensor([[1, 2], [3, 4]]), m.tensor(1.5), m.tensor([True]), m.tensor([]), m.tensor([1, 2.5])),
    ),
    case("as_tensor", lambda m: (m.as_tensor([1, 2]), m.as_tensor([1.0], dtype=m.float64), m.as_tensor(np.ones(2)))),
    case("asarray", lambda m: (m.asarray([1, 2.0]), m.asarray(np.ones(2), dtype=m.float32), m.asarray(3))),
    case("asarray copy", lambda m: m.asarray(np.ones(2), copy=True, requires_grad=True)),
    case("asarray no copy", lambda m: m.asarray([1.0], copy=False)),
    case("frombuffer", lambda m: m.frombuffer(bytearray(b"\x01\x00\x02\x00"), dtype=m.int16)),
    case("frombuffer part", lambda m: m.frombuffer(bytearray(range(6)), dtype=m.uint8, count=2, offset=3)),
    case("frombuffer too long", lambda m: m.frombuffer(bytearray(3), dtype=m.int16, count=2)),
    case("frombuffer remainder", lambda m: m.frombuffer(bytearray(3), dtype=m.int16)),
    case("from_numpy", lambda m: m.from_numpy(np.arange(3.0))),
    case("tril_indices", lambda m: (m.tril_indices(3, 3), m.tril_indices(2, 4, 1), m.tril_indices(3, 2, offset=-1))),
    case(
        "triu_indices", lambda m: (m.triu_indices(3, 3), m.triu_indices(4, 2, 1), m.triu_indices(0, 2, dtype=m.int32))
    ),
    case("triu_indices negative", lambda m: m.triu_indices(-1, 3)),
    case("Tensor of data", lambda m: (m.Tensor([1, 2]), m.Tensor([[1.5]]), m.Tensor(np.ones(2)), m.Tensor())),
    case("Tensor of sizes", lambda m: kind(m.Tensor(2, 3))),
    case("FloatTensor", lambda m: (m.FloatTensor([1, 2]), kind(m.FloatTensor(2, 3)), m.FloatTensor())),
    case("LongTensor", lambda m: (m.LongTensor([1, 2]), m.LongTensor([1.5]), m.LongTensor([[1], [2]]))),
    case("DoubleTensor", lambda m: m.DoubleTensor([1, 2])),
    case("HalfTensor", lambda m: m.HalfTensor([1, 2])),
    case("IntTensor", lambda m: m.IntTensor([1, 2])),
    case("ShortTensor", lambda m: m.ShortTensor([1, 2])),
    case("CharTensor", lambda m: m.CharTensor([1, 2])),
    case("ByteTensor", lambda m: m.ByteTensor([1, 2])),
    case("BoolTensor", lambda m: m.BoolTensor([True, False])),
]

RANDOM = [
    case("rand", lambda m: (kind(m.rand(2, 3)), kind(m.rand((2,), dtype=m.float64)), kind(m.rand(size=(1,))))),
    case("rand requires_grad", lambda m: kind(m.rand(2, requires_grad=True))),
    case("rand bounds", lambda m: ((m.rand(1000) >= 0).all(), (m.rand(1000) < 1).all())),
    case("rand integers", lambda m: m.rand(2, dtype=m.int64)),
    case("rand negative", lambda m: m.rand(-1)),
    case("rand generator", lambda m: kind(m.rand(2, generator=m.Generator().manual_seed(3)))),
    case("rand wrong generator", lambda m: m.rand(2, generator=3)),
    case("rand_like", lambda m, x: (kind(m.rand_like(x)), kind(m.rand_like(x, dtype=m.float16))), (2, 3)),
    case("rand_like integers", lambda m: m.rand_like(m.arange(3))),
    case("randn", lambda m: (kind(m.randn(2, 3)), kind(m.randn([], dtype=m.float64)), kind(m.randn(size=(2,))))),
    case("randn_like", lambda m, x: kind(m.randn_like(x, requires_grad=True)), (2, 3)),
    case("randint", lambda m: (kind(m.randint(5, (2, 3))), kind(m.randint(-2, 3, (4,))), m.randint(3, 4, (2,)))),
    case("randint keywords", lambda m: (kind(m.randint(high=5, size=(2,))), m.randint(low=1, high=2, size=(3,)))),
    case(
        "randint dtypes", lambda m: (m.randint(1, 2, (2,), dtype=m.float32), m.randint(255, 256, (2,), dtype=m.uint8))
    ),
    case("randint empty range", lambda m: m.randint(5, 5, (2,))),
    case("randint too large", lambda m: m.randint(0, 300, (2,), dtype=m.uint8)),
    case("randint too small", lambda m: m.randint(-1, 3, (2,), dtype=m.uint8)),
    case("randint without size", lambda m: m.randint(5)),
    case("randint integer size", lambda m: m.randint(5, 3)),
    case("randint float bound", lambda m: m.randint(2.5, (2,))),
    case("randint_like", lambda m, x: (kind(m.randint_like(x, 5)), m.randint_like(x, 2, 3)), (2, 3)),
    case("randperm", lambda m: (m.randperm(0), m.randperm(1), m.randperm(5).sum(), kind(m.randperm(4, dtype=m.int32)))),
    case("randperm negative", lambda m: m.randperm(-1)),
    case("randperm bools", lambda m: m.randperm(3, dtype=m.bool)),
    case("randperm too many for bytes", lambda m: m.randperm(300, dtype=m.uint8)),
    case(
        "normal",
        lambda m: (
            kind(m.normal(0.0, 1.0, (2, 3))),
            m.normal(2, 0, (2,)),
            kind(m.normal(mean=0.5, std=0.1, size=(2,))),
        ),
    ),
    case("normal of means", lambda m: (m.normal(m.arange(3.0), 0.0), m.normal(m.arange(3.0), m.zeros(2, 1)))),
    case("normal of deviations", lambda m: m.normal(1.5, m.zeros(3))),
    case("normal negative", lambda m: m.normal(0.0, -1.0, (2,))),
    case("normal negative tensor", lambda m: m.normal(0.0, -m.ones(2))),
    case("normal of integers", lambda m: m.normal(m.arange(3), 1.0)),
    case("normal without size", lambda m: m.normal(2.0, 1.0)),
    case(
        "bernoulli",
        lambda m: (m.bernoulli(m.tensor([0.0, 1.0])), m.tensor([1.0, 0.0]).bernoulli(), kind(m.bernoulli(m.rand(3)))),
    ),
    case("bernoulli p", lambda m: (m.bernoulli(m.zeros(3), 1.0), m.zeros(2, dtype=m.int64).bernoulli(0.0))),
    case("bernoulli of integers", lambda m: m.bernoulli(m.tensor([0, 1]))),
    case("bernoulli out of range", lambda m: m.bernoulli(m.tensor([2.0]))),
    case(
        "multinomial",
        lambda m: (
            m.multinomial(m.tensor([0.0, 3.0, 0.0]), 1),
            m.multinomial(m.tensor([[0.0, 1.0], [2.0, 0.0]]), 4, replacement=True),
        ),
    ),
    case(
        "multinomial method", lambda m: (m.tensor([0.0, 1.0]).multinomial(2, True), kind(m.ones(4, 3).multinomial(2)))
    ),
    case("multinomial everything", lambda m: m.sort(m.multinomial(m.ones(5), 5))[0]),
    case("multinomial of integers", lambda m: m.multinomial(m.tensor([1, 2]), 1)),
    case("multinomial too many", lambda m: m.multinomial(m.ones(2), 3)),
    case("multinomial none", lambda m: m.multinomial(m.ones(2), 0)),
    case("multinomial zeros", lambda m: m.multinomial(m.zeros(2), 1)),
    case("multinomial negative", lambda m: m.multinomial(m.tensor([-1.0, 2.0]), 1)),
    case("multinomial NaN", lambda m: m.multinomial(m.tensor([NAN, 2.0]), 1)),
    case("multinomial 3-d", lambda m: m.multinomial(m.ones(1, 1, 2), 1)),
    case("multinomial impossible", lambda m: m.multinomial(m.tensor([0.0, 1.0]), 2)),
    case("multinomial empty batch", lambda m: m.multinomial(m.ones(0, 3), 1)),
    case("poisson", lambda m: (m.poisson(m.zeros(3)), kind(m.poisson(m.rand(2, 2) * 5)))),
    case("poisson negative", lambda m: m.poisson(-m.ones(2))),
    case("poisson of integers", lambda m: m.poisson(m.arange(2))),
    case(
        "normal_",
        lambda m: (kind(m.zeros(3).normal_()), m.zeros(3).normal_(2.0, 0.0), m.zeros(2).normal_(mean=1, std=0)),
    ),
    case("normal_ negative", lambda m: m.zeros(2).normal_(0, -1)),
    case("normal_ integers", lambda m: m.arange(3).normal_()),
    case("normal_ leaf", lambda m, x: x.normal_(), (3,)),
    case(
        "uniform_",
        lambda m: (kind(m.zeros(3).uniform_()), m.zeros(3).uniform_(2, 2), (m.zeros(99).uniform_(-1, 1) >= -1).all()),
    ),
    case("uniform_ keywords", lambda m: m.zeros(3).uniform_(**{"from": 1.0, "to": 1.0})),
    case("uniform_ wrong way", lambda m: m.zeros(2).uniform_(2, 1)),
    case("uniform_ integers", lambda m: m.arange(3).uniform_()),
    case(
        "random_",
        lambda m: (
            kind(m.zeros(3).random_()),
            m.zeros(3).random_(1),
            m.arange(3).random_(4, 5),
            kind(m.ones(2).bool().random_()),
        ),
    ),
    case("random_ empty range", lambda m: m.zeros(2).random_(3, 3)),
    case("random_ too large", lambda m: m.zeros(2, dtype=m.uint8).random_(0, 300)),
    case(
        "bernoulli_",
        lambda m: (m.zeros(3).bernoulli_(1.0), m.arange(3).bernoulli_(0), m.zeros(2).bernoulli_(m.tensor([1.0, 0.0]))),
    ),
    case("bernoulli_ out of range", lambda m: m.zeros(2).bernoulli_(2.0)),
    case("exponential_", lambda m: (kind(m.zeros(3).exponential_()), (m.zeros(9).exponential_(lambd=2) >= 0).all())),
    case("exponential_ zero", lambda m: m.zeros(2).exponential_(0)),
    case("exponential_ integers", lambda m: m.arange(2).exponential_()),
    case("log_normal_", lambda m: kind(m.zeros(3).log_normal_(0, 1))),
    case("log_normal_ zero", lambda m: m.zeros(3).log_normal_(0, 0)),
    case("geometric_", lambda m: (kind(m.zeros(3).geometric_(0.5)), (m.arange(9).geometric_(0.5) >= 1).all())),
    case("geometric_ one", lambda m: m.zeros(3).geometric_(1.0)),
    case("cauchy_", lambda m: kind(m.zeros(3).cauchy_())),
    case("cauchy_ zero", lambda m: m.zeros(3).cauchy_(0, 0)),
    case(
        "Generator",
        lambda m: (
            m.Generator().manual_seed(5).initial_seed(),
            m.Generator(device="cpu").manual_seed(2).initial_seed(),
        ),
    ),
    case(
        "Generator again",
        lambda m: [
            bool((m.rand(5, generator=g) == m.rand(5, generator=h)).all())
            for g, h in [(m.Generator().manual_seed(1), m.Generator().manual_seed(1))]
        ],
    ),
    case("get_state", lambda m: _continued(m)),
    case(
        "random module", lambda m: (m.random.manual_seed(4).initial_seed(), m.random.initial_seed(), m.initial_seed())
    ),
    case("fork_rng", lambda m: _forked(m)),
    case("seed", lambda m: isinstance(m.seed(), int)),
    case("default_generator", lambda m: (m.manual_seed(9), m.default_generator.initial_seed())[1]),
]


def _continued(m: Any) -> bool:
    generator = m.Generator().manual_seed(3)
    m.rand(3, generator=generator)
    state = generator.get_state()
    first = m.randn(4, generator=generator)
    generator.set_state(state)
    return bool((first == m.randn(4, generator=generator)).all())


def _forked(m: Any) -> bool:
    m.manual_seed(1)
    with m.random.fork_rng():
        inside = m.rand(3)
    return bool((inside == m.rand(3)).all())


TYPES = [
    case(
        "finfo",
        lambda m: [
            (i.eps, i.max, i.min, i.tiny, i.smallest_normal, i.bits, i.resolution, i.dtype)
            for i in map(m.finfo, (m.float16, m.float32, m.float64))
        ],
    ),
    case("finfo default", lambda m: (m.finfo().max, repr(m.finfo(m.float32)))),
    case("finfo of integers", lambda m: m.finfo(m.int32)),
    case(
        "iinfo",
        lambda m: [(i.min, i.max, i.bits, i.dtype) for i in map(m.iinfo, (m.uint8, m.int8, m.int16, m.int32, m.int64))],
    ),
    case("iinfo of floats", lambda m: m.iinfo(m.float32)),
    case(
        "promote_types",
        lambda m: [m.zeros(1, dtype=m.promote_types(getattr(m, a), getattr(m, b))) for a in NAMES for b in NAMES],
    ),
    case(
        "result_type",
        lambda m: [
            m.zeros(1, dtype=m.result_type(a, b))
            for a in (m.tensor([1]), m.tensor(1.5), 2, True)
            for b in (m.tensor([1.0]).double(), 1.5, 3, m.tensor(True))
        ],
    ),
    case("can_cast", lambda m: [m.can_cast(getattr(m, a), getattr(m, b)) for a in NAMES for b in NAMES]),
    case("is_floating_point", lambda m: (m.is_floating_point(m.ones(1)), m.is_floating_point(m.arange(1)))),
    case("constants", lambda m: (m.pi, m.e, m.inf, m.isnan(m.tensor(m.nan)), m.newaxis)),
    case(
        "dtype names",
        lambda m: [
            m.zeros(1, dtype=d) for d in (m.float, m.double, m.half, m.int, m.long, m.short, m.bool, m.uint8, m.int8)
        ],
    ),
    case("Python dtypes", lambda m: (m.zeros(1, dtype=float), m.zeros(1, dtype=int), m.zeros(1, dtype=bool))),
    case("get_default_dtype", lambda m: m.zeros(1, dtype=m.get_default_dtype())),
]

NAMES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


def _with_default(m: Any, name: str) -> Any:
    m.set_default_dtype(getattr(m, name))
    try:
        return [
            m.tensor(1.5), m.tensor([1, 2]), m.zeros(2), m.ones(2), m.full((1,), 2.0), m.arange(1.5), m.eye(2),
            m.linspace(0, 1, 2), kind(m.rand(2)), kind(m.randn(2)), m.tensor([1, 2]) / 2, m.tensor([1, 2]) * 1.5,
            m.tensor([1, 2]).exp(), kind(m.nn.Linear(2, 3).weight), m.Tensor([1, 2]), m.tensor([]), m.ones(2).float(),
            m.nn.BatchNorm2d(2).running_mean, kind(m.nn.Conv2d(1, 1, 1).bias),
        ]  # fmt: skip
    finally:
        m.set_default_dtype(m.float32)


DEFAULTS = [
    case("set_default_dtype float64", lambda m: _with_default(m, "float64")),
    case("set_default_dtype float16", lambda m: _with_default(m, "float16")),
    case("set_default_dtype integers", lambda m: m.set_default_dtype(m.int64)),
]

CASES = [*GIVEN, *RANDOM, *TYPES, *DEFAULTS]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)


def test_labels_are_unique() -> None:
    labels = [checked.label for checked in CASES]
    assert len(labels) == len(set(labels))
