"""The LSTM benchmark from end to end on the CPU: what it computes, that it verifies, its tables and its commands."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

import gpunet as gn
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import lstm as benchmark
from benchmarks.gpu import machine as machines
from benchmarks.gpu.lstm import DIRECTIONS, PRECISIONS, Lstm, LstmRow, Problem, fill, plan, set_both, time_one
from benchmarks.gpu.lstm_tables import markdown, row_line, summary_lines, write_lstm
from benchmarks.gpu.timing import Measurement, Sample
from gpunet.ops import REGISTRY

pytestmark = pytest.mark.kernels

CEILINGS = {"gemm_flops": 1e12, "copy_bytes": 1e12}
SMALL = Lstm(5, 2, 8)
ABOUT = {
    "date": "2026-11-21T12:00:00+00:00",
    "command": "python -m benchmarks.gpu lstm",
    "versions": {"torch": "2.13.0"},
    "device": {"gpu": "NVIDIA H200"},
    "ceilings": {"gemm_flops": 50e12, "copy_bytes": 4e12},
}


@pytest.fixture
def cpu(host):
    return machines.CPULayer()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_both_sides_compute_the_equations(cpu, direction, precision):
    problem = Problem(cpu, SMALL, direction, precision)
    one = problem.sets[0]
    given = one["x"], one["h0"], one["c0"], *problem.layer.parameters()
    numbers = [value.detach().double().numpy() for value in given]
    equations = REGISTRY["lstm"].reference(*numbers)
    if problem.backward:
        grads = tuple(one[name].double().numpy() for name in ("dy", "dh", "dc"))
        equations = (*equations, *REGISTRY["lstm"].reference_backward(grads, tuple(numbers)))
    for ours, theirs in zip(problem.expected(), equations, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-10)
    bound = 5e-2 if precision == "bfloat16" else 1e-5
    with cpu.running():
        kinds = [problem.ours(problem.arrays[0]), problem.ours(problem.arrays[0], persistent=False)]
    kinds.append(tuple(value.double().numpy() for value in problem.peer(one)))
    for found in kinds:
        for ours, theirs in zip(found, equations, strict=True):
            assert np.abs(np.asarray(ours, np.float64) - theirs).max() <= bound * np.abs(theirs).max()


def test_both_sides_read_the_same_memory(cpu):
    for precision in ("float32", "bfloat16"):
        problem = Problem(cpu, SMALL, "forward", precision)
        assert problem.arrays[0]["x"].ctypes.data == problem.sets[0]["x"].data_ptr()
        assert problem.weights[1].ctypes.data == problem.layer.weight_hh_l0.data_ptr()
        assert problem.arrays[0]["x"].dtype.name == precision
        back = problem.tensor(problem.arrays[0]["x"])
        assert back.dtype == problem.dtype
        assert problem.torch.equal(back, problem.sets[0]["x"])


def test_the_sides_take_the_sets_in_turn(cpu, monkeypatch):
    problem = Problem(cpu, SMALL, "forward", "float32")
    assert len(problem.arrays) > 1
    seen = []
    monkeypatch.setattr(Problem, "ours", lambda self, arrays, persistent=True: seen.append(id(arrays)))
    side = problem.sides()["gpunet"]
    for _ in problem.arrays:
        side.call()
    assert len(set(seen)) == len(problem.arrays)


def test_the_flags_are_the_same_on_both_sides(cpu):
    torch = cpu.torch
    before = torch.backends.cudnn.benchmark
    for precision in (*PRECISIONS, "float32"):
        set_both(torch, precision)
        allowed = precision == "tf32"
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == allowed
        assert gn.get_float32_matmul_precision() == ("high" if allowed else "highest")
    torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_are_verified_and_filled(cpu, precision):
    for direction in DIRECTIONS:
        row = time_one(cpu, precision, SMALL, direction, CEILINGS, 2)
        assert (row.status, row.note) == ("ok", "")
        assert 0 < row.error <= row.bound
        assert 0 < row.error_cudnn <= row.bound
        assert min(row.gpunet_ms, row.cudnn_ms, row.ratio, row.tflops, row.step_us) > 0
        assert (row.launches_ms is None) == ("one kernel for all steps" not in row.kernel)
        assert row.kernel.startswith("cuda: ")
    assert gn.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    "spoil, status, note",
    [
        (lambda y: y * 1.001, "wrong", "relative error 0.001"),
        (lambda y: np.where(np.arange(y.size).reshape(y.shape) == 7, np.nan, y), "wrong", "relative error inf"),
        (lambda y: y[:-1], "failed", "AssertionError: result 9 has shape (31,), not (32,)"),
    ],
)
def test_a_wrong_result_is_not_timed(cpu, monkeypatch, spoil, status, note):
    """The last of ten results: each of them is looked at."""
    right = Problem.ours

    def wrong(self, arrays, persistent=True):
        found = right(self, arrays, persistent)
        return (*found[:-1], spoil(found[-1]).astype(np.float32))

    monkeypatch.setattr(Problem, "ours", wrong)
    row = time_one(cpu, "float32", SMALL, "forward + backward", CEILINGS, 2)
    assert (row.status, row.gpunet_ms) == (status, None)
    assert row.note.startswith(note)


def test_a_result_that_changes_between_runs_is_not_timed(cpu, monkeypatch):
    right, scale = Problem.ours, iter([1.0, 1.0 + 2e-7])

    def changing(self, arrays, persistent=True):
        factor = np.float32(next(scale))
        return tuple(value * factor for value in right(self, arrays, persistent))

    monkeypatch.setattr(Problem, "ours", changing)
    row = time_one(cpu, "float32", SMALL, "forward", CEILINGS, 2)
    assert (row.status, row.gpunet_ms, row.note) == ("wrong", None, "two runs on the same numbers differ; not timed")


def test_an_exception_is_one_row(cpu, monkeypatch):
    def fail(self, arrays, persistent=True):
        raise MemoryError(f"no room in {machines.ROOT}/here\nat all")

    monkeypatch.setattr(Problem, "ours", fail)
    row = time_one(cpu, "tf32", SMALL, "forward", CEILINGS, 2)
    assert (row.status, row.note) == ("failed", "MemoryError: no room in ./here")
    assert gn.get_float32_matmul_precision() == "highest"


def test_the_plan():
    rows = plan()
    assert len(rows) == len(set(rows)) == 3 * 12 * 2
    assert {row.lstm for row in rows} == {Lstm(t, b, h) for t in (64, 512) for b in (16, 64) for h in (128, 512, 1024)}
    assert len(plan(quick=True)) == 3 * 3 * 2
    assert {row.lstm for row in plan(quick=True)} < {row.lstm for row in rows}


def made_row(ours, theirs, precision="float32", direction="forward", launches=None):
    """A row from rounds of seconds."""
    row = LstmRow(precision, "T4 B2 H8", direction, error=1e-7, bound=1e-5, error_cudnn=2e-7, kernel="cuda: so")
    sides = {"gpunet": ours, "cudnn": theirs} | ({} if launches is None else {"launches": launches})
    times = {name: Measurement(tuple(Sample(value, 1e-5) for value in values), 1) for name, values in sides.items()}
    fill(row, Lstm(4, 2, 8), times, ABOUT["ceilings"])
    return row


def test_a_row_against_arithmetic_by_hand():
    row = made_row([2e-3] * 3, [4e-3] * 3, launches=[3e-3] * 3)
    assert (row.gpunet_ms, row.cudnn_ms, row.launches_ms, row.ratio) == pytest.approx((2, 4, 3, 0.5))
    flops = 2 * 4 * 2 * (4 * 8) * (8 + 8)
    assert row.tflops == pytest.approx(flops / 2e-3 / 1e12)
    assert row.cudnn_tflops == pytest.approx(row.tflops / 2)
    assert row.gemm_share == pytest.approx(flops / 2e-3 / 50e12)
    assert (row.step_us, row.peer_step_us) == pytest.approx((500, 1000))
    assert (row.host_ms, row.peer_host_ms) == pytest.approx((0.01, 0.01))
    assert made_row([1e-3], [1e-3], direction="forward + backward").tflops == pytest.approx(6 * row.tflops)


def test_summary_and_files(tmp_path):
    rows = [
        made_row([2e-3] * 3, [1e-3] * 3),
        made_row([1e-3] * 3, [2e-3] * 3),
        made_row([0.8e-3, 1.1e-3, 1.2e-3, 1.3e-3, 0.9e-3], [1e-3] * 5, "bfloat16", "forward + backward"),
        LstmRow("tf32", "broken", "forward", status="wrong", note="relative error 0.5"),
    ]
    text = "\n".join(summary_lines(rows))
    assert "| float32 | forward | 2 | 1.00 | 0.50 | 2.00 | 1 |" in text
    assert "ahead of cuDNN in 1 of 3 rows" in text
    assert text.index("| float32 | T4 B2 H8 | forward | 2.00 |") < text.index("| bfloat16 | T4 B2 H8 |")
    assert "within the spread" in text
    assert "1 of 4 rows were wrong or failed:" in text
    assert "tf32, broken, forward: wrong: relative error 0.5" in text
    assert "Nothing was timed." in summary_lines(rows[3:])
    paths = write_lstm("stem", rows, ABOUT, tmp_path / "new")
    assert [path.name for path in paths] == ["stem.csv", "stem.json", "stem.md"]
    with open(paths[0], encoding="utf-8", newline="") as file:
        assert [line["status"] for line in csv.DictReader(file)] == ["ok", "ok", "ok", "wrong"]
    assert [line["ratio"] for line in json.loads(paths[1].read_text(encoding="utf-8"))["rows"]][3] is None
    page = paths[2].read_text(encoding="utf-8")
    assert page == markdown(rows, ABOUT)
    assert "NVIDIA H200" in page
    for table in page.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, lines
    assert row_line(rows[3]).count("|") == row_line(rows[0]).count("|")


# ---- the command line


def test_a_run_writes_its_tables(capsys, tmp_path, host):
    before = sorted(command.RESULTS.iterdir())
    options = ["lstm", "--device", "cpu-layer", "--quick", "--rounds", "1", "--out", str(tmp_path)]
    assert command.main(options) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "the times mean nothing" in captured.out
    (written,) = tmp_path.glob("gpu-lstm-cpu-layer-*.json")
    document = json.loads(written.read_text(encoding="utf-8"))
    assert [row["status"] for row in document["rows"]] == ["ok"] * 12
    assert {row["precision"] for row in document["rows"]} == set(PRECISIONS)
    assert document["environment"]["device"]["gpu"] is None
    assert sorted(command.RESULTS.iterdir()) == before


def test_a_run_ends_at_its_limit_and_says_so(capsys, monkeypatch, tmp_path, host):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(benchmark.time, "monotonic", lambda: next(clock))
    options = ["--device", "cpu-layer", "--rounds", "1", "--out", str(tmp_path), "--time-limit", "25"]
    assert command.main(["lstm", *options]) == 0
    assert "cut short: 2 of 12 rows in 25 s" in capsys.readouterr().out


def test_a_wrong_row_fails_the_run(capsys, monkeypatch, host):
    zeros = lambda self, arrays, persistent=True: (np.zeros((1,), np.float32),)  # noqa: E731
    monkeypatch.setattr(Problem, "ours", zeros)
    assert command.main(["lstm", "--device", "cpu-layer", "--rounds", "1"]) == 1
    assert "12 of 12 rows were wrong or failed" in capsys.readouterr().out


def test_all_shares_a_limited_time(monkeypatch):
    """Each benchmark is given its share of what the ones before it have left."""
    clock, given = [0.0], {}

    def run(name, seconds):
        def benchmark(options):
            given[name] = options.time_limit
            clock[0] += seconds
            return 0 if name == "conv" else 1

        return benchmark

    monkeypatch.setattr(command.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(command, "BENCHMARKS", {"conv": run("conv", 10.0), "lstm": run("lstm", 5.0)})
    options = command._parser().parse_args(["all", "--time-limit", "90"])
    assert command.every(options) == 1
    assert given == {"conv": 60, "lstm": 80}
    assert command.every(command._parser().parse_args(["all"])) == 1
    assert given == {"conv": None, "lstm": None}


# ---- on a GPU


@pytest.mark.gpu
def test_a_row_on_a_gpu():
    gpu = machines.GPU()
    for precision in PRECISIONS:
        for lstm in (Lstm(8, 4, 64), Lstm(8, 16, 512)):
            row = time_one(gpu, precision, lstm, "forward + backward", CEILINGS, 3)
            assert row.status == "ok", row.note
