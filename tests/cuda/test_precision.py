"""Whether float32 may be rounded to TF32: off unless asked for, for matrix products and convolutions alike."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import gpunet as gn
from gpunet import backends, cuda
from gpunet.backend import precision
from gpunet.backend.precision import float32_convolution_precision, float32_matmul_precision
from gpunet.ops import REGISTRY, bilinear, convolution_array
from gpunet.ops.convolution_window import Geometry
from gpunet.ops.gemm import matrix_product


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(precision, "_chosen", dict.fromkeys(precision._chosen, "highest"))
    kept = dict(backends.cudnn._kept)
    yield
    backends.cudnn._kept.update(kept)


def test_float32_is_exact_unless_told_otherwise():
    code = "import gpunet as gn; print(gn.get_float32_matmul_precision(), gn.backends.cudnn.allow_tf32)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["highest", "False"]


@pytest.mark.parametrize("name, means", [("highest", "highest"), ("high", "high"), ("medium", "high")])
def test_one_call_for_both(name, means):
    gn.set_float32_matmul_precision(name)
    assert gn.get_float32_matmul_precision() == name
    assert (float32_matmul_precision(), float32_convolution_precision()) == (means, means)
    assert backends.cuda.matmul.allow_tf32 is backends.cudnn.allow_tf32 is (means == "high")
    gn.set_float32_matmul_precision("highest")
    assert (float32_matmul_precision(), float32_convolution_precision()) == ("highest", "highest")


@pytest.mark.parametrize("bad", ["low", "HIGH", "", None, 1])
def test_other_names_are_refused(bad):
    gn.set_float32_matmul_precision("high")
    with pytest.raises(ValueError, match="precision: expected 'highest', 'high' or 'medium', got"):
        gn.set_float32_matmul_precision(bad)
    assert gn.get_float32_matmul_precision() == "high"


def test_the_switches_of_pytorch():
    backends.cuda.matmul.allow_tf32 = True
    assert gn.get_float32_matmul_precision() == float32_matmul_precision() == "high"
    assert float32_convolution_precision() == "highest"
    backends.cudnn.allow_tf32 = True
    backends.cuda.matmul.allow_tf32 = False
    assert (float32_matmul_precision(), float32_convolution_precision()) == ("highest", "high")
    backends.cudnn.conv.fp32_precision = "ieee"
    assert backends.cudnn.allow_tf32 is False
    backends.cuda.matmul.fp32_precision = "tf32"
    assert backends.cuda.matmul.allow_tf32 is True
    assert (backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision) == ("tf32", "ieee")


def test_switches_without_effect_keep_what_they_are_given():
    cudnn = backends.cudnn
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.enabled) == (False, True, False)
    for name in ("benchmark", "deterministic", "enabled"):
        for value in (True, False):
            setattr(cudnn, name, value)
            assert getattr(cudnn, name) is value
    assert cudnn.is_available() is False
    assert cudnn.version() is None
    assert backends.mps.is_available() is backends.mps.is_built() is False
    assert backends.cuda.is_built() is True


def test_flags_hold_inside_of_their_block():
    with backends.cudnn.flags(enabled=True, benchmark=True):
        assert backends.cudnn.benchmark is backends.cudnn.enabled is backends.cudnn.allow_tf32 is True
        assert backends.cudnn.deterministic is False
        with backends.cudnn.flags(fp32_precision="ieee"):
            assert backends.cudnn.allow_tf32 is False
        assert backends.cudnn.allow_tf32 is True
    assert (backends.cudnn.benchmark, backends.cudnn.deterministic, backends.cudnn.allow_tf32) == (False, True, False)


def test_flags_that_are_refused_leave_everything_as_it_was():
    for wrong in ({"fp32_precision": "bf16"}, {"deterministic": 1}):
        with pytest.raises((ValueError, TypeError)), backends.cudnn.flags(benchmark=True, **wrong):
            pass
        assert (backends.cudnn.benchmark, backends.cudnn.deterministic, backends.cudnn.allow_tf32) == (
            False,
            True,
            False,
        )


def test_none_is_exact():
    """PyTorch's for "as the setting above says": there is none above, and exact is the default."""
    for switch in (backends.cudnn.conv, backends.cuda.matmul):
        switch.fp32_precision = "tf32"
        switch.fp32_precision = "none"
        assert (switch.fp32_precision, switch.allow_tf32) == ("ieee", False)


def test_switches_that_do_not_exist():
    with pytest.raises(AttributeError, match=r"gpunet.backends.cudnn has no attribute 'benchmarks'; there is no such"):
        backends.cudnn.benchmarks = True
    with pytest.raises(AttributeError, match=r"gpunet.backends.cuda.matmul has no attribute 'allow_bf16'"):
        backends.cuda.matmul.allow_bf16 = True
    for owner, name in (
        (backends.cudnn, "benchmark"),
        (backends.cudnn, "allow_tf32"),
        (backends.cuda.matmul, "allow_tf32"),
    ):
        with pytest.raises(TypeError, match=f"{name}: expected True or False, got 1"):
            setattr(owner, name, 1)
    with pytest.raises(ValueError, match="expected 'ieee', 'tf32' or 'none', got 'bf16'"):
        backends.cuda.matmul.fp32_precision = "bf16"


def test_modules_are_imported_as_pytorchs_are():
    code = (
        "import gpunet.backends.cudnn as cudnn; cudnn.benchmark = True\n"
        "from gpunet.backends import cuda; import gpunet as gn\n"
        "assert gn.backends.cudnn is cudnn and gn.backends.cudnn.benchmark and gn.backends.cuda is cuda\n"
        "import sys; assert 'cupy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_cupy_is_told(two_gpus):
    gn.set_float32_matmul_precision("high")
    assert two_gpus.compute_types == []  # CuPy is not imported for it
    cuda.init()
    assert two_gpus.compute_types == ["float32 tf32"]
    gn.set_float32_matmul_precision("highest")
    backends.cuda.matmul.allow_tf32 = True
    backends.cudnn.allow_tf32 = False  # none of CuPy's business
    assert two_gpus.compute_types == ["float32 tf32", "float32 default", "float32 tf32"]


class Seen:
    """An array of the played CuPy: what CuPy was told last when it was multiplied."""

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, gpus):
        self.gpus = gpus

    def __matmul__(self, other):
        return self.gpus.compute_types[-1]


@pytest.mark.parametrize("matmul", [False, True])
@pytest.mark.parametrize("convolution", [False, True])
def test_products_are_as_exact_as_their_operation_is_to_be(two_gpus, matmul, convolution):
    cuda.init()
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = matmul, convolution
    kinds = {False: "float32 default", True: "float32 tf32"}
    a = Seen(two_gpus)
    assert matrix_product(a, a, operation="convolution") == kinds[convolution]
    assert two_gpus.compute_types[-1] == kinds[matmul]
    assert matrix_product(a, a) == kinds[matmul]


def test_products_of_another_thread_wait_while_convolutions_have_their_precision(two_gpus):
    cuda.init()
    backends.cudnn.allow_tf32 = True
    seen = []
    other = threading.Thread(target=lambda: seen.append(matrix_product(Seen(two_gpus), Seen(two_gpus))))
    with precision.float32_products_of("convolution"):
        other.start()
        other.join(0.2)
        assert seen == []
    other.join()
    assert seen == ["float32 default"]


@pytest.mark.parametrize("groups, dims", [(1, 2), (2, 3)])
def test_convolutions_without_kernels_go_by_the_precision_of_convolutions(monkeypatch, groups, dims):
    """And one group is a product of two matrices: cuBLAS uses TF32 for no stacks, as CuPy calls it."""
    seen = []

    def product(a, b, out=None, operation="matmul"):
        seen.append((operation, a.ndim, b.ndim))
        return matrix_product(a, b, out)

    monkeypatch.setattr(convolution_array, "matrix_product", product)
    op = REGISTRY["conv3d"]
    attributes = {"stride": (1, 1, 1), "padding": ((0, 0),) * 3, "dilation": (1, 1, 1), "groups": groups}
    geometry = Geometry.of(attributes)
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 4, 3, 4, 5)), rng.standard_normal((6, 4 // groups, 2, 2, 3))
    y = convolution_array.convolve_array(x, w, None, geometry, (2, 3, 3))
    np.testing.assert_allclose(y, op.reference(x, w, None, None, **attributes), atol=1e-12)
    dx, dw, _, _ = op.reference_backward((y,), (x, w, None, None), **attributes)
    np.testing.assert_allclose(convolution_array.input_gradient_array(y, w, None, geometry, x.shape), dx, atol=1e-12)
    np.testing.assert_allclose(convolution_array.weight_gradient_array(y, x, w.shape, geometry), dw, atol=1e-12)
    assert seen == [("convolution", dims, dims)] * 3


def test_bilinear_maps_go_by_the_precision_of_matrix_products(monkeypatch):
    seen = []

    def product(a, b, out=None, operation="matmul"):
        seen.append((operation, a.ndim, b.ndim))
        return matrix_product(a, b, out)

    monkeypatch.setattr(bilinear, "matrix_product", product)
    inputs = [gn.randn(*shape, requires_grad=True) for shape in ((4, 3), (4, 2), (5, 3, 2))]
    gn.nn.functional.bilinear(*inputs).sum().backward()
    assert seen == [("matmul", 2, 2)] * 4  # forward once, and once for each of the gradients


def test_cupys_own_variable_does_not_count(two_gpus, monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "1")
    cuda.init()
    assert two_gpus.compute_types == ["float32 default"]


def test_a_gpu_without_tf32_stays_exact(two_gpus):
    two_gpus.cuda.Device.compute_capability = "75"
    gn.set_float32_matmul_precision("high")
    cuda.init()
    assert two_gpus.compute_types == ["float32 default"]


@pytest.mark.kernels
def test_the_real_cupy_has_what_is_called():
    cupy = pytest.importorskip("cupy")
    kinds = cupy._core._routines_linalg
    precision._tell_cupy(cupy)
    assert cupy._core.get_compute_type(np.float32) == kinds.COMPUTE_TYPE_DEFAULT
    assert kinds.COMPUTE_TYPE_TF32 != kinds.COMPUTE_TYPE_DEFAULT


@pytest.mark.parity
@pytest.mark.parametrize("name", ["highest", "high", "medium"])
def test_names_mean_what_they_mean_in_pytorch(name):
    torch = pytest.importorskip("torch")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(name)
        gn.set_float32_matmul_precision(name)
        assert gn.get_float32_matmul_precision() == torch.get_float32_matmul_precision()
        assert gn.backends.cuda.matmul.allow_tf32 == torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parity
def test_the_switch_for_matrix_products_is_pytorchs():
    torch = pytest.importorskip("torch")
    for allowed in (True, False):
        torch.backends.cuda.matmul.allow_tf32 = gn.backends.cuda.matmul.allow_tf32 = allowed
        assert gn.get_float32_matmul_precision() == torch.get_float32_matmul_precision()
        assert gn.backends.cuda.matmul.fp32_precision == torch.backends.cuda.matmul.fp32_precision


@pytest.mark.gpu
def test_tf32_on_a_real_gpu():
    """TF32 keeps 10 bits behind the point, so 1 + 2^-11 becomes 1 or 1 + 2^-10, which no exact product makes of it."""
    import cupy

    cuda.init()
    x, one = cupy.full((1024, 1024), 1 + 2.0**-11, np.float32), cupy.eye(1024, dtype=np.float32)
    exact = np.float32(1 + 2.0**-11)
    assert (cupy.matmul(x, one).get() == exact).all()
    gn.set_float32_matmul_precision("high")
    try:
        rounded = cupy.matmul(x, one).get()
    finally:
        gn.set_float32_matmul_precision("highest")
    if cuda.get_device_capability() >= (8, 0):
        assert (rounded != exact).all()
        assert abs(rounded - 1).max() <= 2.0**-10
    assert (cupy.matmul(x, one).get() == exact).all()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_hand_written_kernels_stay_exact_on_a_real_gpu(precision):
    gn.set_float32_matmul_precision(precision)
    try:
        x = gn.full((8, 64, 4, 4), 1 + 2.0**-11, device="cuda")
        one = gn.eye(64, device="cuda")
        convolved = gn.nn.functional.conv2d(x, one.reshape(64, 64, 1, 1))
        dense = gn.nn.functional.linear(x.reshape(128, 64), one)
    finally:
        gn.set_float32_matmul_precision("highest")
    assert (convolved.cpu().numpy() == np.float32(1 + 2.0**-11)).all()
    assert (dense.cpu().numpy() == np.float32(1 + 2.0**-11)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("matmul", [False, True])
@pytest.mark.parametrize("convolution", [False, True])
def test_convolutions_of_volumes_on_a_real_gpu(matmul, convolution):
    """They have no kernel of ours: cuBLAS multiplies, by the switch of convolutions and no other."""
    exact = np.float32(1 + 2.0**-11)
    x, one = gn.full((8, 128, 8, 8, 8), float(exact), device="cuda"), gn.eye(128, device="cuda")
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = matmul, convolution
    try:
        y = gn.nn.functional.conv3d(x, one.reshape(128, 128, 1, 1, 1)).cpu().numpy()
        stack = gn.bmm(x.reshape(8, 128, 512).transpose(1, 2), one.expand(8, 128, 128)).cpu().numpy()
    finally:
        gn.set_float32_matmul_precision("highest")
    rounds = convolution and cuda.get_device_capability() >= (8, 0)
    assert (y != exact).all() if rounds else (y == exact).all()
    assert abs(y - 1).max() <= 2.0**-10
    assert (stack == exact).all()  # stacks are exact in every mode
