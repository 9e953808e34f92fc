"""The report's steps: one that fails, hangs or is not there must not hide the others."""

import sys
import types

import pytest

from benchmarks.gpu import report
from benchmarks.gpu.machine import NotAvailable
from benchmarks.gpu.report import Step, junit_counts, run_steps

TESTS = """
import pytest
def test_good(): pass
def test_also_good(): pass
def test_bad(): assert 1 == 2
@pytest.mark.skip(reason="no second GPU")
def test_skipped(): pass
@pytest.fixture
def broken(): raise RuntimeError("no")
def test_error(broken): pass
"""


def python(name, code, weight=1.0):
    return Step(name, lambda limit, junit: [sys.executable, "-c", code], weight)


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_some.py").write_text(TESTS)

    def command(limit, junit):
        base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}"]
        return [*base, "-c", str(tmp_path / "pytest.ini"), str(tmp_path / "test_some.py")]

    return Step("tests", command)


def test_steps_that_succeed_fail_hang_and_are_missing(suite, monkeypatch):
    monkeypatch.setattr(report, "GRACE_SECONDS", 0.5)
    hang = (
        "import time, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('here', flush=True); time.sleep(99)"
    )
    chosen = [
        python("fine", "print('done')"),
        python("fails", "print('why'); raise SystemExit(3)"),
        Step("missing", lambda limit, junit: ["no-such-program-anywhere"]),
        suite,
        python("hangs", hang, weight=0.1),
        python("after", "pass"),
    ]
    found = {outcome.name: outcome for outcome in run_steps(chosen, 40.0)}
    assert {name: outcome.status for name, outcome in found.items()} == {
        "fine": "ok",
        "fails": "failed",
        "missing": "not started",
        "tests": "failed",
        "hangs": "timed out",
        "after": "ok",
    }
    assert found["fails"].exit_code == 3
    assert found["fails"].tail == ["why"]
    assert found["hangs"].tail == ["here"]
    assert "no-such-program-anywhere" in found["missing"].tail[0]
    assert found["tests"].counts == {"passed": 2, "failed": 1, "errors": 1, "skipped": 1}
    assert found["tests"].skips == {"no second GPU": 1}
    assert any("test_bad: assert 1 == 2" in failure for failure in found["tests"].failures)
    page = report.markdown(list(found.values()), {"gpu": "G", "date": "D", "python": "3", "versions": {}}, ["a.csv"])
    assert "| tests | failed |" in page
    assert "skipped, 1: no second GPU" in page


def test_a_step_at_its_limit_may_write_down_what_it_has(tmp_path):
    """SIGINT comes first, as from a terminal."""
    left = tmp_path / "left"
    code = (
        "import time, pathlib\n"
        "try:\n    print('ready', flush=True); time.sleep(99)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(left)!r}).write_text('kept')\n"
    )
    (found,) = run_steps([python("slow", code)], report.GRACE_SECONDS + 3.0)
    assert found.status == "timed out"
    assert left.read_text() == "kept"
    assert found.seconds < 10


def test_time_that_is_left_goes_to_the_steps_that_follow():
    outcomes = run_steps([python("a", "pass"), python("b", "pass", 3.0)], report.GRACE_SECONDS + 40.0)
    assert outcomes[0].limit == pytest.approx(10, abs=1)
    assert outcomes[1].limit > 35


def test_a_suite_that_only_skips_shows_nothing(tmp_path, suite):
    (tmp_path / "test_some.py").write_text("import pytest\n@pytest.mark.skip(reason='no GPU')\ndef test_a(): pass\n")
    (found,) = run_steps([suite], 60.0)
    assert (found.exit_code, found.status) == (0, "nothing ran")
    assert found.counts["skipped"] == 1


def test_junit_of_a_module_that_cannot_be_imported(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(
        '<testsuites><testsuite><testcase classname="" name="tests.a"><error message="collection failure&#10;x"/>'
        '</testcase><testcase classname="m" name="t"/></testsuite></testsuites>'
    )
    counts, failures, skips = junit_counts(path)
    assert counts == {"passed": 1, "failed": 0, "errors": 1, "skipped": 0}
    assert failures == ["::tests.a: collection failure"]
    assert skips == {}


def test_the_commands_of_the_steps_are_taken_by_what_they_call(tmp_path):
    """The benchmarks' by their own parser; the tests' by pytest, which finds tests for each."""
    from benchmarks.gpu.__main__ import _parser

    for quick in (True, False):
        chosen = {step.name: step.command(100.0, tmp_path / "j.xml") for step in report.steps(quick, tmp_path)}
        assert ("slow GPU tests" in chosen) != quick
        options = _parser().parse_args(chosen["benchmarks"][3:])
        assert (options.command, options.quick, options.time_limit) == ("all", quick, 85)
        assert chosen["compute-sanitizer"][-1] == "tests/kernels/test_compute_sanitizer.py"
        assert (report.ROOT / chosen["compute-sanitizer"][-1]).is_file()


def test_the_quick_report_fits_nine_minutes():
    assert report.QUICK_SECONDS + report.GRACE_SECONDS < 9 * 60


def test_a_report_is_written_whatever_happens(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report.devices, "cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr(report.gn, "cuda", types.SimpleNamespace(get_device_name=lambda: "NVIDIA Test 1"))
    benchmark = f"import pathlib; pathlib.Path({str(tmp_path / 'gpu-conv-x.csv')!r}).write_text('a')"
    chosen = [python("good", benchmark), python("bad", f"raise SystemExit({str(report.ROOT / 'x')!r})")]
    monkeypatch.setattr(report, "steps", lambda quick, out: chosen)
    assert report.run_report(tmp_path, quick=True) == 1
    (page,) = tmp_path.glob("gpu-report-nvidia-test-1-*.md")
    text = page.read_text(encoding="utf-8")
    assert "| good | ok |" in text
    assert "| bad | failed |" in text
    assert "gpu-conv-x.csv" in text
    assert str(report.ROOT) not in text
    assert str(report.ROOT) not in page.with_suffix(".json").read_text(encoding="utf-8")
    assert "written:" in capsys.readouterr().out


def test_there_is_no_report_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(report.devices, "cuda_unavailable_reason", lambda: "none here")
    with pytest.raises(NotAvailable, match="no GPU: none here"):
        report.run_report(tmp_path, quick=True)
    assert list(tmp_path.iterdir()) == []
