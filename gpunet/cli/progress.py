"""What ``gpunet train`` shows while it runs, and what signals do to it."""

from __future__ import annotations

import enum
import math
import os
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


# Seconds in which signals of a kind are one.
SAME = 1.0


class StopOnSignals(Callback):
    """Lets Ctrl-C, SIGTERM and a closed terminal stop a trainer after its current step, within a ``with`` block.

    The second signal of a kind does what it would have done without us. A SIGTERM or SIGHUP that follows within a
    second is no second one: who stops a group of processes often tells each of them too. Once Ctrl-C has raised
    KeyboardInterrupt it is not heard again before the block ends: who presses it in haste still gets the message.
    Signals that the process was told to ignore (``nohup``) stay ignored.

    Attributes:
        phase: set by the block as it goes on.
        received: the number of the last signal that asked to stop; None before the first.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.phase = Phase.TRAINING
        self.received: int | None = None
        self._replaced: dict[int, Any] = {}
        self._heard: dict[int, float] = {}

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
            now = time.monotonic()
            if now - self._heard.setdefault(number, now) >= SAME:
                signal.signal(number, self._replaced[number])
                signal.raise_signal(number)
        self.received = number
        self.on_fit_start(self.trainer)

    def on_fit_start(self, trainer: Trainer) -> None:
        if self.received is not None:  # perhaps before training began
            trainer.stop_reason = "Ctrl-C" if self.received == signal.SIGINT else signal.Signals(self.received).name


# What the line of an epoch says of its numbers.
Description = Callable[[Mapping[str, float]], str]


def make_progress(epochs: int, describe: Description) -> Progress:
    """A bar on a terminal, plain lines anywhere else, and on a terminal that has no columns to draw a bar in."""
    return BarProgress(epochs, describe) if _can_draw() else Progress(epochs, describe)


def _can_draw() -> bool:
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # no system's terminal: whoever made it knows what it is
        return True


def duration(seconds: float) -> str:
    """A time to come, about: seconds below two minutes, minutes below two hours, else hours."""
    for unit, size in (("s", 1.0), ("min", 60.0)):
        if seconds < 119.5 * size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{seconds / 3600:.1f} h"


class Progress(Callback):
    """A line per epoch, and within an epoch that takes longer one after ten seconds and then every half minute.

    They say how long the rest of the run takes, as its steps so far did, measuring included.
    """

    first_interval, interval = 10.0, 30.0

    def __init__(self, epochs: int, describe: Description) -> None:
        self.epochs = epochs
        self.describe = describe
        self.last_line = self.began = time.monotonic()
        self.first_step: int | None = None
        self.wait = min(self.first_interval, self.interval)

    def on_fit_start(self, trainer: Trainer) -> None:
        self.began, self.first_step = time.monotonic(), trainer.step

    def remaining(self, trainer: Trainer) -> str:
        """``", about 12 min left"``; empty where nothing was measured or nothing is left."""
        done = trainer.step - (trainer.step if self.first_step is None else self.first_step)
        left = (self.epochs - trainer.epoch) * len(trainer.train_loader) - trainer.step_in_epoch
        if done < 1 or left < 1:
            return ""
        return f", about {duration((time.monotonic() - self.began) / done * left)} left"

    def on_step_end(self, trainer: Trainer) -> None:
        if time.monotonic() - self.last_line >= self.wait:
            loss = trainer.train_metrics()["train_loss"]
            self.say(
                f"epoch {trainer.epoch + 1:>3}/{self.epochs}  "
                f"step {trainer.step_in_epoch}/{len(trainer.train_loader)}  loss {loss:.4f}"
                f"{self.remaining(trainer)}"
            )

    def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        before = trainer.history[-2]["seconds"] if len(trainer.history) > 1 else 0.0
        self.say(
            f"epoch {trainer.epoch:>3}/{self.epochs}  loss {metrics['train_loss']:.4f}  {self.describe(metrics)}  "
            f"lr {metrics['learning_rate']:.4f}  {metrics['seconds'] - before:.1f} s{self.remaining(trainer)}"
        )

    def say(self, line: str) -> None:
        say(line)
        self.last_line, self.wait = time.monotonic(), self.interval

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Put the terminal back."""


class BarProgress(Progress):
    """A tqdm bar on standard error for the steps of an epoch, replaced by a line when the epoch is over."""

    first_interval = interval = math.inf

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
            self.bar.set_postfix_str(f"loss {trainer.running_loss:.4f}{self.remaining(trainer)}", refresh=False)
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
