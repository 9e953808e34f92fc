"""The convolution benchmark from end to end on the CPU: what it computes, that it verifies, and its command line."""

import errno
import json
import types

import numpy as np
import pytest

pytest.importorskip("torch")

import gpunet as gn
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import conv as benchmark
from benchmarks.gpu import machine as machines
from benchmarks.gpu.conv import Problem, plan, time_one
from benchmarks.gpu.workloads import DIRECTIONS, NETWORKS, Conv
from gpunet.ops import convolution, convolution_cuda
from gpunet.ops.convolution_window import Geometry

pytestmark = pytest.mark.kernels

CEILINGS = {"gemm_flops": 1e12, "copy_bytes": 1e12}
CASES = [Conv(2, 3, 9, 5, 3, 2, 1), Conv(2, 4, 6, 4, 3, 1, 1, 4), Conv(1, 6, 5, 4, 1)]


@pytest.fixture
def cpu(host):
    return machines.CPULayer()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_sides_compute_the_equations(cpu, case, direction):
    problem = Problem(cpu, case, direction)
    inputs = {name: value.double().numpy() for name, value in problem.sets["nchw"][0].items()}
    geometry = Geometry((case.stride,) * 2, ((case.padding,) * 2,) * 2, (1, 1), case.groups)
    if direction == "forward":
        equation = convolution.reference_gather(inputs["x"], inputs["w"], geometry, case.y_shape[2:])
    elif direction == "input gradient":
        equation = convolution.reference_scatter(inputs["dy"], inputs["w"], geometry, case.x_shape)
    else:
        equation = convolution.reference_weight(inputs["dy"], inputs["x"], geometry, case.w_shape)
    np.testing.assert_allclose(problem.expected().numpy(), equation, rtol=1e-10, atol=1e-10)
    with cpu.running():
        results = [
            problem.ours(problem.arrays[0]),
            *(problem.peer(problem.sets[name][0]) for name in benchmark.LAYOUTS),
        ]
    for result in results:
        assert tuple(result.shape) == equation.shape
        assert np.abs(np.asarray(result) - equation).max() <= 1e-5 * np.abs(equation).max()


def test_both_sides_read_the_same_memory(cpu):
    problem = Problem(cpu, Conv(2, 3, 6, 4, 3), "forward")
    theirs = problem.sets["channels_last"][0]["x"]
    ours = problem.arrays[0]["x"]
    assert ours.ctypes.data == theirs.data_ptr()
    assert ours.transpose(0, 2, 3, 1).flags.c_contiguous  # activations lie channels-last


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", [*CASES, Conv(2, 6, 5, 8, 3, 1, 1, 2)], ids=str)
def test_neither_side_is_given_what_it_has_to_copy_first(cpu, monkeypatch, case, direction):
    """Weights lie as the layers of each side keep them: no copy of them, or of an image, is among what is timed."""
    problem = Problem(cpu, case, direction)
    for ours, nchw, last in zip(problem.arrays, problem.sets["nchw"], problem.sets["channels_last"], strict=True):
        for name in ours.keys() - {"w"}:
            assert ours[name].ctypes.data == last[name].data_ptr()
        if "w" in ours:
            layer = gn.nn.Conv2d(case.channels, case.outputs, case.kernel, groups=case.groups)
            assert ours["w"].shape == layer.weight.shape
            assert ours["w"].strides == layer.weight._array.strides
            np.testing.assert_array_equal(ours["w"], nchw["w"].numpy())
            assert nchw["w"].is_contiguous()
            assert last["w"].is_contiguous(memory_format=problem.torch.channels_last)
    inputs = [value for arrays in problem.arrays for value in arrays.values()]
    copy = np.ascontiguousarray

    def watched(array, *args, **kwargs):
        made = copy(array, *args, **kwargs)
        assert any(np.shares_memory(made, value) for value in inputs)
        return made

    monkeypatch.setattr(np, "ascontiguousarray", watched)
    assert convolution_cuda.array_module(inputs[0]) is np  # every copy passes by
    with cpu.running():
        problem.ours(problem.arrays[0])


def test_buffers_rotate_through_more_than_the_cache(cpu, monkeypatch):
    monkeypatch.setattr(cpu, "cache_bytes", 10_000)
    problem = Problem(cpu, Conv(2, 3, 6, 4, 3), "forward")
    size = 4 * (2 * 3 * 36 + 4 * 3 * 9)
    assert len(problem.arrays) * size >= 3 * 10_000 > (len(problem.arrays) - 1) * size
    seen = []
    monkeypatch.setattr(problem, "ours", lambda arrays: seen.append(id(arrays["x"])))
    side = problem.sides()["gpunet"]
    for _ in problem.arrays:
        side.call()
    assert len(set(seen)) == len(problem.arrays)


def test_rows_are_verified_and_filled(cpu):
    for direction in DIRECTIONS:
        row = time_one(cpu, "net", CASES[0], 2, direction, CEILINGS, 2)
        assert (row.status, row.note) == ("ok", "")
        assert 0 < row.error <= row.bound == 1e-5
        assert max(row.error_nchw, row.error_channels_last, row.error_tf32) <= row.bound
        assert min(row.gpunet_ms, row.nchw_ms, row.channels_last_ms, row.ratio_nchw, row.ratio_channels_last) > 0
        assert row.backend_nchw
        assert row.kernel.startswith("cuda: ")


@pytest.mark.parametrize(
    "spoil, status, note",
    [
        (lambda y: y * 1.001, "wrong", "relative error 0.001"),
        (lambda y: np.where(np.arange(y.size).reshape(y.shape) == 7, np.nan, y), "wrong", "relative error inf"),
        (lambda y: y[:, :-1], "failed", "AssertionError: shape (2, 4, 5, 5), not (2, 5, 5, 5)"),
    ],
)
def test_a_wrong_result_is_not_timed(cpu, monkeypatch, spoil, status, note):
    right = Problem.ours
    monkeypatch.setattr(Problem, "ours", lambda self, arrays: spoil(right(self, arrays)).astype(np.float32))
    row = time_one(cpu, "net", CASES[0], 1, "forward", CEILINGS, 2)
    assert (row.status, row.gpunet_ms) == (status, None)
    assert row.note.startswith(note)


def test_a_result_that_changes_between_runs_is_not_timed(cpu, monkeypatch):
    right, scale = Problem.ours, iter([1.0, 1.0 + 2e-7])
    monkeypatch.setattr(Problem, "ours", lambda self, arrays: right(self, arrays) * np.float32(next(scale)))
    row = time_one(cpu, "net", CASES[0], 1, "forward", CEILINGS, 2)
    assert (row.status, row.gpunet_ms, row.note) == ("wrong", None, "two runs on the same numbers differ; not timed")


def test_an_exception_is_one_row(cpu, monkeypatch):
    def fail(self, arrays):
        raise MemoryError(f"no room in {machines.ROOT}/here\nat all")

    monkeypatch.setattr(Problem, "ours", fail)
    row = time_one(cpu, "net", CASES[0], 1, "forward", CEILINGS, 2)
    assert (row.status, row.note) == ("failed", "MemoryError: no room in ./here")


def test_precision_flags():
    import torch

    before = torch.backends.cudnn.benchmark
    for tf32 in (True, False):
        machines.set_precision(torch, tf32)
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == tf32
        assert torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before


def test_the_plan_has_every_convolution_in_three_directions():
    rows = plan(list(NETWORKS))
    assert len(rows) == 3 * (23 + 9 + 6 + 9)
    assert len(set(rows)) == len(rows)


# ---- the command line


def run(capsys, *arguments):
    code = command.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_without_a_gpu_there_is_one_clear_line(capsys, monkeypatch):
    monkeypatch.setattr(machines.devices, "cuda_unavailable_reason", lambda: "CuPy is not installed")
    for name in ("conv", "all", "report"):
        code, out, err = run(capsys, name)
        assert (code, out, err) == (2, "", "benchmarks.gpu: no GPU: CuPy is not installed\n")


def test_without_pytorch_there_is_one_clear_line(capsys, monkeypatch):
    monkeypatch.setattr(machines.importlib.util, "find_spec", lambda name: None)
    code, out, err = run(capsys, "conv", "--device", "cpu-layer")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "PyTorch is not installed" in err


@pytest.mark.parametrize("missing, message", [("gpu", "finds no GPU"), ("cudnn", "has no cuDNN")])
def test_a_pytorch_that_cannot_be_compared_with(monkeypatch, missing, message):
    fake = types.SimpleNamespace(
        __version__="2.13.0",
        cuda=types.SimpleNamespace(is_available=lambda: missing != "gpu"),
        backends=types.SimpleNamespace(cudnn=types.SimpleNamespace(is_available=lambda: False)),
    )
    monkeypatch.setattr(machines.devices, "cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr(machines, "_torch", lambda: fake)
    with pytest.raises(machines.NotAvailable, match=message):
        machines.GPU()


def test_times_of_the_cpu_are_kept_out_of_the_results(capsys, tmp_path):
    for folder in (command.RESULTS, command.RESULTS / "below"):
        code, out, err = run(capsys, "conv", "--device", "cpu-layer", "--out", str(folder))
        assert (code, out) == (2, "")
        assert "not results" in err


@pytest.mark.parametrize("benchmark", ["conv", "all", "report"])
@pytest.mark.parametrize("where", ["file", "file/below", "n" * 300, "locked", "locked/below"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_runs(
    capsys, monkeypatch, tmp_path, benchmark, where
):
    for name in ("open_machine", "run_report"):
        monkeypatch.setattr(command, name, lambda *_: pytest.fail("it ran"))
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir()
    temporary = command.tempfile.TemporaryFile

    def locked(*args, dir, **kwargs):
        if "locked" in str(dir):  # root may write anywhere, so it has to be played
            raise PermissionError(errno.EACCES, "Permission denied")
        return temporary(*args, dir=dir, **kwargs)

    monkeypatch.setattr(command.tempfile, "TemporaryFile", locked)
    device = [] if benchmark == "report" else ["--device", "cpu-layer"]
    code, out, err = run(capsys, benchmark, *device, "--out", str(tmp_path / where))
    assert (code, out) == (2, "")
    assert err.startswith("benchmarks.gpu: --out: nothing can be written to ")
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "locked"]


def test_asking_whether_a_folder_can_be_written_to_leaves_nothing_behind(tmp_path):
    assert command._cannot_write(tmp_path / "new" / "deep") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    assert command._cannot_write(tmp_path / "kept") is None
    assert (tmp_path / "kept").is_dir()


@pytest.mark.parametrize(
    "bad", [["conv", "--batch", "0"], ["conv", "--only", "resnet"], ["conv", "--device", "tpu"], []]
)
def test_bad_arguments(capsys, bad):
    with pytest.raises(SystemExit) as stop:
        command.main(bad)
    assert stop.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.usefixtures("host")
def test_a_run_writes_its_tables(capsys, tmp_path):
    before = sorted(command.RESULTS.iterdir())
    options = ["--device", "cpu-layer", "--quick", "--only", "depthwise", "--rounds", "2", "--out", str(tmp_path)]
    code, out, err = run(capsys, "all", *options)
    assert (code, err) == (0, "")
    assert "the times mean nothing" in out
    assert len(list(tmp_path.glob("*.json"))) == len(command.BENCHMARKS)
    (written,) = tmp_path.glob("gpu-conv-cpu-layer-*.json")
    document = json.loads(written.read_text(encoding="utf-8"))
    assert [row["status"] for row in document["rows"]] == ["ok"] * 9
    assert document["environment"]["device"]["gpu"] is None
    assert document["environment"]["precision"] == "float32 without TF32 on both sides"
    assert sorted(command.RESULTS.iterdir()) == before


@pytest.mark.usefixtures("host")
def test_a_run_ends_at_its_limit_and_says_so(capsys, monkeypatch, tmp_path):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(benchmark.time, "monotonic", lambda: next(clock))
    options = ["--device", "cpu-layer", "--quick", "--only", "depthwise", "--rounds", "1", "--out", str(tmp_path)]
    code, out, _ = run(capsys, "conv", *options, "--time-limit", "25")
    assert code == 0
    assert "cut short: 2 of 9 rows in 25 s" in out
    assert "Cut short: 2 of 9 rows in 25 s." in next(tmp_path.glob("*.md")).read_text(encoding="utf-8")


@pytest.mark.usefixtures("host")
def test_a_wrong_row_fails_the_run(capsys, monkeypatch):
    monkeypatch.setattr(Problem, "ours", lambda self, arrays: np.zeros(self.result_shape, np.float32))
    options = ["--device", "cpu-layer", "--quick", "--only", "vgg16", "--rounds", "1"]
    code, out, _ = run(capsys, "conv", *options)
    assert code == 1
    assert "9 of 9 rows were wrong or failed" in out


# ---- on a GPU


@pytest.mark.gpu
def test_the_stopwatch_of_a_gpu():
    """A kernel that waits for a given time takes it, and is asked for sooner than that."""
    gpu = machines.GPU()
    for seconds in (1e-4, 1e-3):
        sample = gpu.stopwatch(lambda s=seconds: gpu.torch.cuda._sleep(int(s * gpu._cycles_per_second)), 20)
        assert sample.covered
        assert sample.seconds == pytest.approx(seconds, rel=0.2)
        assert sample.host_seconds < seconds


@pytest.mark.gpu
def test_a_gpu_stays_below_its_ceilings():
    """No convolution is faster than arithmetic allows: neither side's clock leaves work out."""
    gpu = machines.GPU()
    ceilings = {"gemm_flops": gpu.gemm_ceiling(), "copy_bytes": gpu.copy_ceiling()}
    for case in (Conv(32, 64, 56, 64, 1), Conv(32, 128, 28, 128, 3, 1, 1, 128)):
        for direction in DIRECTIONS:
            row = time_one(gpu, "net", case, 1, direction, ceilings, 5)
            assert row.status == "ok", row.note
            assert "gpunet" not in row.note  # ours did not wait for the host
            fastest = min(row.gpunet_ms, row.nchw_ms, row.channels_last_ms)
            assert fastest > 0.4 * row.floor_ms  # what is written may still be in the cache
