"""What ``gpunet train`` shows while it runs, and what signals do to it."""

from __future__ import annotations

import enum
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Self

from gpunet.cli.console import say
from gpunet.training import Callback, Trainer


class Phase(enum.Enum):
    """What a signal meets, and so what it does."""

    TRAINING = "the first stops after the current step, the second at once"
    DRAWING = "Ctrl-C stops at once"
    REPORTING = "Ctrl-C does nothing: a few lines are being printed, and they shall be"


class StopOnSignals(Callback):
    """Lets Ctrl-C, SIGTERM and a closed terminal stop a trainer after its current step, within a ``with`` block.

    The second signal of a kind does what it would have done without us, but once Ctrl-C has raised KeyboardInterrupt
    it is not heard again before the block ends: who presses it in haste still gets the message. Signals that the
    process was told to ignore (``nohup``) stay ignored.

    Attributes:
        phase: set by the block as it goes on.
        received: the number of the last signal that asked to stop; None before the first.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.phase = Phase.TRAINING
        self.received: int | None = None
        self._replaced: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other may set a handler
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._replaced[number] = signal.getsignal(number)
                    signal.signal(number, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and (self.phase is not Phase.TRAINING or self.received is not None):
            if self.phase is not Phase.REPORTING:
                self.phase = Phase.REPORTING
                raise KeyboardInterrupt
            return
        if number != signal.SIGINT:
            signal.signal(number, self._replaced[number])
        self.received = number
        self.on_fit_start(self.trainer)

    def on_fit_start(self, trainer: Trainer) -> None:
        if self.received is not None:  # perhaps before training began
            trainer.stop_reason = "Ctrl-C" if self.received == signal.SIGINT else signal.Signals(self.received).name


# What the line of an epoch says of its numbers.
Description = Callable[[Mapping[str, float]], str]


def make_progress(epochs: int, describe: Description) -> Progress:
    """A bar on a terminal, plain lines anywhere else."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return BarProgress(epochs, describe) if on_terminal else Progress(epochs, describe)


class Progress(Callback):
    """A line per epoch, and one every half minute within an epoch that takes longer."""

    interval = 30.0

    def __init__(self, epochs: int, describe: Description) -> None:
        self.epochs = epochs
        self.describe = describe
        self.last_line = time.monotonic()

    def on_step_end(self, trainer: Trainer) -> None:
        if time.monotonic() - self.last_line >= self.interval:
            loss = trainer.train_metrics()["train_loss"]
            self.say(
                f"epoch {trainer.epoch + 1:>3}/{self.epochs}  "
                f"step {trainer.step_in_epoch}/{len(trainer.train_loader)}  loss {loss:.4f}"
            )

    def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        before = trainer.history[-2]["seconds"] if len(trainer.history) > 1 else 0.0
        self.say(
            f"epoch {trainer.epoch:>3}/{self.epochs}  loss {metrics['train_loss']:.4f}  {self.describe(metrics)}  "
            f"lr {metrics['learning_rate']:.4f}  {metrics['seconds'] - before:.1f} s"
        )

    def say(self, line: str) -> None:
        say(line)
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Put the terminal back."""


class BarProgress(Progress):
    """A tqdm bar on standard error for the steps of an epoch, replaced by a line when the epoch is over."""

    interval = math.inf

    def __init__(self, epochs: int, describe: Description) -> None:
        super().__init__(epochs, describe)
        self.bar: Any = None

    def on_epoch_start(self, trainer: Trainer) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=len(trainer.train_loader),
            initial=trainer.step_in_epoch,
            desc=f"epoch {trainer.epoch + 1:>3}/{self.epochs}",
            unit="step",
            leave=False,
            dynamic_ncols=True,
        )

    def on_step_end(self, trainer: Trainer) -> None:
        if math.isfinite(trainer.running_loss):  # not yet in the first steps
            self.bar.set_postfix_str(f"loss {trainer.running_loss:.4f}", refresh=False)
        self.bar.update()

    def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.close()
        super().on_epoch_end(trainer, metrics)

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
