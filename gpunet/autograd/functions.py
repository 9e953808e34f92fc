"""Tensor methods as functions: ``gn.exp(x)`` for ``x.exp()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunet.autograd.joining import cat
from gpunet.autograd.products import einsum
from gpunet.autograd.tensor import Tensor

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "addbmm",
    "addcdiv",
    "addcmul",
    "addmm",
    "addmv",
    "addr",
    "all",
    "allclose",
    "amax",
    "amin",
    "aminmax",
    "any",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "baddbmm",
    "bincount",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "bmm",
    "bucketize",
    "cdist",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "concat",
    "cos",
    "cosh",
    "count_nonzero",
    "cross",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "deg2rad",
    "diag",
    "diag_embed",
    "diagonal",
    "diff",
    "dist",
    "div",
    "divide",
    "dot",
    "einsum",
    "eq",
    "equal",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "fix",
    "flatten",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frac",
    "ge",
    "ger",
    "greater",
    "greater_equal",
    "gt",
    "histc",
    "hypot",
    "inner",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "kron",
    "kthvalue",
    "le",
    "lerp",
    "less",
    "less_equal",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_softmax",
    "logaddexp",
    "logcumsumexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logit",
    "logsumexp",
    "lt",
    "matmul",
    "max",
    "maximum",
    "mean",
    "median",
    "min",
    "minimum",
    "mm",
    "mode",
    "msort",
    "mul",
    "multiply",
    "mv",
    "nan_to_num",
    "nanmean",
    "nanmedian",
    "nansum",
    "ne",
    "neg",
    "negative",
    "norm",
    "not_equal",
    "numel",
    "outer",
    "permute",
    "positive",
    "pow",
    "prod",
    "quantile",
    "rad2deg",
    "reciprocal",
    "relu",
    "remainder",
    "reshape",
    "round",
    "rsqrt",
    "searchsorted",
    "sgn",
    "sigmoid",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "softmax",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "std",
    "std_mean",
    "sub",
    "subtract",
    "sum",
    "tan",
    "tanh",
    "tensordot",
    "topk",
    "trace",
    "transpose",
    "true_divide",
    "trunc",
    "unique",
    "unique_consecutive",
    "unsqueeze",
    "var",
    "var_mean",
    "vdot",
    "xlogy",
]

# The functions that take a number first, as torch.mul(2, x), and the operator that does it.
_NUMBER_FIRST = {
    "add": "__radd__",
    "div": "__rtruediv__",
    "divide": "__rtruediv__",
    "floor_divide": "__rfloordiv__",
    "mul": "__rmul__",
    "multiply": "__rmul__",
    "pow": "__rpow__",
    "remainder": "__rmod__",
    "sub": "__rsub__",
    "subtract": "__rsub__",
    "true_divide": "__rtruediv__",
    "xlogy": "_rxlogy",
}


def _function(name: str, doc: str = "") -> Callable[..., Any]:
    """The function that calls a method of its first argument."""
    swapped = _NUMBER_FIRST.get(name)

    def call(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(input, Tensor):
            if swapped and isinstance(input, (bool, int, float)) and len(args) == 1 and not kwargs:
                return getattr(args[0], swapped)(input)
            raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}")
        return getattr(input, name)(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"{doc or getattr(Tensor, name).__doc__}\n\n    As ``Tensor.{name}`` of the first argument."
    return call


abs = _function("abs")
absolute = _function("absolute")
acos = _function("acos")
acosh = _function("acosh")
add = _function("add")
addbmm = _function("addbmm")
addcdiv = _function("addcdiv")
addcmul = _function("addcmul")
addmm = _function("addmm")
addmv = _function("addmv")
addr = _function("addr")
all = _function("all")
allclose = _function("allclose")
amax = _function("amax")
amin = _function("amin")
aminmax = _function("aminmax")
any = _function("any")
arccos = _function("arccos")
arccosh = _function("arccosh")
arcsin = _function("arcsin")
arcsinh = _function("arcsinh")
arctan = _function("arctan")
arctan2 = _function("arctan2")
arctanh = _function("arctanh")
argmax = _function("argmax")
argmin = _function("argmin")
argsort = _function("argsort")
asin = _function("asin")
asinh = _function("asinh")
atan = _function("atan")
atan2 = _function("atan2")
atanh = _function("atanh")
baddbmm = _function("baddbmm")
bincount = _function("bincount")
bitwise_and = _function("bitwise_and")
bitwise_left_shift = _function("bitwise_left_shift")
bitwise_not = _function("bitwise_not")
bitwise_or = _function("bitwise_or")
bitwise_right_shift = _function("bitwise_right_shift")
bitwise_xor = _function("bitwise_xor")
bmm = _function("bmm")
bucketize = _function("bucketize")
cdist = _function("cdist")
ceil = _function("ceil")
clamp = _function("clamp")
clamp_max = _function("clamp_max")
clamp_min = _function("clamp_min")
clip = _function("clip")
cos = _function("cos")
cosh = _function("cosh")
count_nonzero = _function("count_nonzero")
cross = _function("cross")
cummax = _function("cummax")
cummin = _function("cummin")
cumprod = _function("cumprod")
cumsum = _function("cumsum")
deg2rad = _function("deg2rad")
diag = _function("diag")
diag_embed = _function("diag_embed")
diagonal = _function("diagonal")
diff = _function("diff")
dist = _function("dist")
div = _function("div")
divide = _function("divide")
dot = _function("dot")
eq = _function("eq")
equal = _function("equal")
erf = _function("erf")
erfc = _function("erfc")
erfinv = _function("erfinv")
exp = _function("exp")
exp2 = _function("exp2")
expm1 = _function("expm1")
fix = _function("fix")
flatten = _function("flatten")
floor = _function("floor")
floor_divide = _function("floor_divide")
fmax = _function("fmax")
fmin = _function("fmin")
fmod = _function("fmod")
frac = _function("frac")
ge = _function("ge")
ger = _function("ger")
greater = _function("greater")
greater_equal = _function("greater_equal")
gt = _function("gt")
histc = _function("histc")
hypot = _function("hypot")
inner = _function("inner")
isclose = _function("isclose")
isfinite = _function("isfinite")
isinf = _function("isinf")
isnan = _function("isnan")
isneginf = _function("isneginf")
isposinf = _function("isposinf")
kron = _function("kron")
kthvalue = _function("kthvalue")
le = _function("le")
lerp = _function("lerp")
less = _function("less")
less_equal = _function("less_equal")
log = _function("log")
log10 = _function("log10")
log1p = _function("log1p")
log2 = _function("log2")
log_softmax = _function("log_softmax")
logaddexp = _function("logaddexp")
logcumsumexp = _function("logcumsumexp")
logical_and = _function("logical_and")
logical_not = _function("logical_not")
logical_or = _function("logical_or")
logical_xor = _function("logical_xor")
logit = _function("logit")
logsumexp = _function("logsumexp")
lt = _function("lt")
matmul = _function("matmul")
max = _function("max")
maximum = _function("maximum")
mean = _function("mean")
median = _function("median")
min = _function("min")
minimum = _function("minimum")
mm = _function("mm")
mode = _function("mode")
msort = _function("msort")
mul = _function("mul")
multiply = _function("multiply")
mv = _function("mv")
nan_to_num = _function("nan_to_num")
nanmean = _function("nanmean")
nanmedian = _function("nanmedian")
nansum = _function("nansum")
ne = _function("ne")
neg = _function("neg")
negative = _function("negative")
norm = _function("norm")
not_equal = _function("not_equal")
numel = _function("numel")
outer = _function("outer")
permute = _function("permute")
positive = _function("positive")
pow = _function("pow")
prod = _function("prod")
quantile = _function("quantile")
rad2deg = _function("rad2deg")
reciprocal = _function("reciprocal")
relu = _function("relu")
remainder = _function("remainder")
reshape = _function("reshape")
round = _function("round")
rsqrt = _function("rsqrt")
searchsorted = _function("searchsorted")
sgn = _function("sgn")
sigmoid = _function("sigmoid")
sign = _function("sign")
signbit = _function("signbit")
sin = _function("sin")
sinh = _function("sinh")
softmax = _function("softmax")
sort = _function("sort")
split = _function("split")
sqrt = _function("sqrt")
square = _function("square")
squeeze = _function("squeeze")
std = _function("std")
std_mean = _function("std_mean")
sub = _function("sub")
subtract = _function("subtract")
sum = _function("sum")
tan = _function("tan")
tanh = _function("tanh")
tensordot = _function("tensordot")
topk = _function("topk")
trace = _function("trace")
transpose = _function("transpose")
true_divide = _function("true_divide")
trunc = _function("trunc")
unique = _function("unique")
unique_consecutive = _function("unique_consecutive")
unsqueeze = _function("unsqueeze")
var = _function("var")
var_mean = _function("var_mean")
vdot = _function("vdot")
xlogy = _function("xlogy")
concat = cat
