"""In-place forms against PyTorch: values and gradients, on tensors of the graph, on views and on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet.testing.parity import Case, case, check_case

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# Where all are defined; x runs through 0.1..0.9.
UNARY = (
    *("sin_", "cos_", "tan_", "asin_", "acos_", "atan_", "sinh_"),
    *("cosh_", "asinh_", "atanh_", "arcsin_", "arccos_", "arctan_", "arcsinh_"),
    *("arctanh_", "exp2_", "expm1_", "log2_", "log10_", "log1p_", "logit_"),
    *("erf_", "erfc_", "erfinv_", "ceil_", "round_", "trunc_", "frac_"),
    *("sign_", "nan_to_num_", "deg2rad_", "rad2deg_", "fix_", "sgn_", "absolute_"),
    *("negative_", "logical_not_"),
)
BINARY = (
    *("fmod_", "atan2_", "arctan2_", "hypot_", "xlogy_", "eq_", "ne_"),
    *("lt_", "le_", "gt_", "ge_", "not_equal_", "less_", "less_equal_"),
    *("greater_", "greater_equal_", "logical_and_", "logical_or_", "logical_xor_"),
)
INSIDE = np.linspace(0.1, 0.9, 12).reshape(3, 4)
OTHER = np.linspace(0.3, 1.9, 4)
WHOLE = np.array([[5, -3, 0], [2, 7, -1]])


def changed(x: Any, name: str, *arguments: Any, part: Any = Ellipsis, **options: Any) -> Any:
    """All, after a method has changed a part of it."""
    y = x * 1
    getattr(y[part], name)(*arguments, **options)
    return y


SHAPES = [
    ("unsqueeze_", (0,)), ("unsqueeze_", (-1,)), ("squeeze_", ()), ("squeeze_", (0,)), ("transpose_", (0, 1)),
    ("swapaxes_", (0, -1)), ("swapdims_", (-2, -1)), ("t_", ()),
]  # fmt: skip


def reshaped(y: Any, name: str, *args: Any) -> Any:
    """The tensor given another shape, then written through it and through a view of it."""
    given = getattr(y, name)(*args)
    y[..., 0] = 3.0
    y.mul_(2)
    part = y[0]
    part += 1
    return given is y, y, part, y.sum()


def kept(m: Any, see: Any) -> Any:
    """What ``see`` has made of a gradient, looked at after the gradient is hidden and there is another."""
    weight = m.ones(3).requires_grad_()
    (2 * weight).sum().backward()
    seen = see(weight.grad)
    m.optim.SGD([weight], lr=1.0).zero_grad()
    (5 * weight).sum().backward()
    return m.tensor(seen.tolist())


CASES = [
    case("gradient kept as an array", lambda m: kept(m, lambda grad: grad.numpy())),
    case("gradient kept as a tensor", lambda m: kept(m, lambda grad: grad)),
    case("gradient kept as a clone", lambda m: kept(m, lambda grad: grad.clone())),
    *(case(name, lambda m, x, name=name: changed(x, name), INSIDE) for name in UNARY),
    *(case(f"{name} view", lambda m, x, name=name: changed(x, name, part=1), INSIDE) for name in UNARY),
    *(case(f"{name} integers", lambda m, name=name: changed(m.tensor(WHOLE), name)) for name in UNARY),
    case("acosh_", lambda m, x: changed(x + 1, "acosh_"), INSIDE),
    case("arccosh_", lambda m, x: changed(x + 1, "arccosh_"), INSIDE),
    *(case(name, lambda m, x, y, name=name: changed(x, name, y), INSIDE, OTHER) for name in BINARY[:5]),
    *(case(name, lambda m, x, y, name=name: changed(x, name, y.detach()), INSIDE, OTHER) for name in BINARY[5:]),
    *(case(f"{name} wide", lambda m, x, y, name=name: changed(y, name, x), INSIDE, OTHER) for name in BINARY),
    *(
        case(f"{name}", lambda m, name=name: changed(m.tensor(WHOLE), name, m.tensor([1, 2, 6])))
        for name in ("bitwise_and_", "bitwise_or_", "bitwise_xor_")
    ),
    case("bitwise_not_", lambda m: changed(m.tensor(WHOLE), "bitwise_not_")),
    case("cumsum_", lambda m, x: changed(x, "cumsum_", 1), (3, 4)),
    case("cumprod_", lambda m, x: changed(x, "cumprod_", 0), (3, 4)),
    case("round_ decimals", lambda m, x: changed(x, "round_", decimals=1), (3, 4)),
    case("addcmul_", lambda m, x, y, z: changed(x, "addcmul_", y, z, value=0.5), (3, 4), (3, 4), (4,)),
    case("addcmul_ itself", lambda m, x, y: (lambda z: z.addcmul_(z, y))(x * 1), (3, 4), (3, 4)),
    case("addcdiv_", lambda m, x, y, z: changed(x, "addcdiv_", y, z, value=0.5), (3, 4), (3, 4), OTHER),
    case("lerp_", lambda m, x, y: changed(x, "lerp_", y, 0.25), (3, 4), (3, 4)),
    case("lerp_ tensor weight", lambda m, x, y, w: changed(x, "lerp_", y, w), (3, 4), (3, 4), (3, 4)),
    case("addmm_", lambda m, x, a, b: changed(x, "addmm_", a, b, beta=0.5, alpha=2), (3, 4), (3, 2), (2, 4)),
    case("addmv_", lambda m, x, a, b: changed(x, "addmv_", a, b), (3,), (3, 2), (2,)),
    case("addr_", lambda m, x, a, b: changed(x, "addr_", a, b), (3, 4), (3,), (4,)),
    case("baddbmm_", lambda m, x, a, b: changed(x, "baddbmm_", a, b), (2, 3, 4), (2, 3, 2), (2, 2, 4)),
    case("addbmm_", lambda m, x, a, b: changed(x, "addbmm_", a, b), (3, 4), (2, 3, 2), (2, 2, 4)),
    *(
        case(f"{name} {label}", lambda m, x, name=name, args=args, make=make: reshaped(make(x), name, *args), (1, 3, 3))
        for name, args in SHAPES
        for label, make in (
            ("of a result", lambda x: x * 2),
            ("of a constant", lambda x: x.detach().clone()),
            ("of a view", lambda x: (x * 2)[0]),
        )
        if not (name == "t_" and label != "of a view")
    ),
    case("unsqueeze_ of a leaf", lambda m, x: x.unsqueeze_(0), (3,)),
    case("unsqueeze_ too far", lambda m, x: (x * 1).unsqueeze_(3), (3,)),
    case("t_ of three dimensions", lambda m, x: (x * 1).t_(), (2, 3, 4)),
    case("unsqueeze_ after saving", lambda m, x: (y := x * 1, z := y * y, y.unsqueeze_(0), z)[3], (3,)),
    case("squeeze_ of an input", lambda m, x: m.tensor([[1.0, 2.0]]).squeeze_(0).requires_grad_().exp(), (1,)),
    case("sin_ leaf", lambda m, x: x.sin_(), (3,)),
    case("sin_ twice", lambda m, x: changed(x, "sin_").sin_(), (3,)),
]


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_case(checked: Case) -> None:
    check_case(checked)
