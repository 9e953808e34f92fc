"""What a run says while it goes on: how often, and how long the rest takes. The clock is the tests'."""

from __future__ import annotations

import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gpunet import _startup
from gpunet.cli import main, progress
from gpunet.cli.progress import BarProgress, Progress, StopOnSignals, duration, make_progress


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "1 s"),
        (60.0, "60 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (3599.0, "60 min"),
        (7200.0, "2.0 h"),
        (9000.0, "2.5 h"),
    ],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_lines_come_now_and_then_and_say_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 s a step, 2 epochs of 25 steps: after 3 steps, and every 8 from there on."""
    now, lines = 100.0, []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(progress, "say", lines.append)
    shown = Progress(2, lambda metrics: "fine")
    trainer: Any = SimpleNamespace(
        epoch=0, step=0, step_in_epoch=0, train_loader=range(25), history=[], train_metrics=lambda: {"train_loss": 1.0}
    )
    shown.on_fit_start(trainer)
    for _ in range(25):
        now += 4.0
        trainer.step += 1
        trainer.step_in_epoch += 1
        shown.on_step_end(trainer)
    assert lines == [
        "epoch   1/2  step 3/25  loss 1.0000, about 4 min left",  # 47 steps of 4 s
        "epoch   1/2  step 11/25  loss 1.0000, about 3 min left",
        "epoch   1/2  step 19/25  loss 1.0000, about 3 min left",
    ]
    trainer.epoch, trainer.step_in_epoch = 1, 0
    shown.on_epoch_end(trainer, {"train_loss": 1.0, "learning_rate": 0.1, "seconds": 100.0})
    assert lines[-1].endswith("fine  lr 0.1000  100.0 s, about 100 s left")
    trainer.epoch = 2
    shown.on_epoch_end(trainer, {"train_loss": 1.0, "learning_rate": 0.1, "seconds": 200.0})
    assert lines[-1].endswith(" s")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize(("columns", "expected"), [(0, Progress), (100, BarProgress)])
def test_a_terminal_without_columns_gets_lines(
    monkeypatch: pytest.MonkeyPatch, columns: int, expected: type[Progress]
) -> None:
    import fcntl
    import pty
    import struct
    import termios

    parent, child = pty.openpty()
    try:
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", columns and 40, columns, 0, 0))
        with open(child, "w", closefd=False) as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            assert type(make_progress(1, lambda metrics: "")) is expected
            monkeypatch.undo()
    finally:
        os.close(parent)
        os.close(child)


def test_a_sigterm_that_comes_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a second; later it does what it would have done without us."""
    now, heard = 100.0, []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        trainer: Any = SimpleNamespace(stop_reason=None)
        with StopOnSignals(trainer) as signals:
            signal.raise_signal(signal.SIGTERM)
            assert trainer.stop_reason == "SIGTERM"
            now += 0.5
            signal.raise_signal(signal.SIGTERM)
            assert (heard, signals.received) == ([], signal.SIGTERM)
            now += 0.6
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_is_not_heard_when_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the interpreter shuts down it would make -2 of the exit code."""
    before = signal.getsignal(signal.SIGINT)
    try:
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGINT) is before  # not in a program that uses gpunet
        monkeypatch.setattr(_startup, "_is_the_program", lambda: True)
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
