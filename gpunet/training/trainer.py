"""The training loop.

:class:`Trainer` is the loop a reader would write by hand, plus what makes a run survive: it counts epochs and steps,
it can stop after any step and go on from there bit for bit, and it never lets a run with a NaN in it look alive.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from gpunet.autograd import Tensor, no_grad
from gpunet.backend.devices import Device
from gpunet.backend.error_word import raise_deferred
from gpunet.backend.random import get_rng_state, set_rng_state
from gpunet.nn import Module
from gpunet.nn.utils import clip_grad_norm_
from gpunet.optim import Optimizer
from gpunet.training.metrics import RunningMean, correct_count
from gpunet.training.schedules import ErrorWarmup


class NonFiniteError(RuntimeError):
    """The loss or a weight became NaN or infinite."""


class Scheduler(Protocol):
    """What the trainer asks of a learning rate schedule."""

    def step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class Loader(Protocol):
    """What the trainer asks of a data loader: its length and its batches of (input, label)."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Callback:
    """Something that happens during training. Every method may be left out.

    A callback may set ``trainer.stop_reason``: training then stops after the current step.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """When ``fit`` begins."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first step of an epoch, or before the next step where a run is resumed within an epoch."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After each optimizer step."""

    def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """After an epoch and its evaluation; ``metrics`` is the new last row of ``trainer.history``."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When ``fit`` returns: all epochs are done, or training was told to stop. Not after an error."""


def _logits(outputs: Any) -> Tensor:
    logits: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits


class Trainer:
    """Trains a classifier.

    Args:
        model: maps a batch of inputs to logits (N, classes), or to a tuple that begins with them, as networks with
            auxiliary heads do; it must be on ``device`` already.
        optimizer: over the model's parameters.
        loss_function: ``loss_function(outputs, labels)`` of what the model returns, a 0-d tensor, the mean over the
            batch.
        train_loader: batches of (inputs, labels). Of a ``DataLoader``, the epoch's own batches are taken, whatever was
            loaded before; any other iterable is iterated anew, and what was trained on already is skipped.
        test_loader: evaluated after each epoch, where given.
        scheduler: stepped after every optimizer step. An ``ErrorWarmup`` that is still warming is told how many answers
            were right, which waits for the device.
        device: where the batches are moved to.
        callbacks: called in this order.
        read_every: the loss is read back every so many steps, and before anything is reported or saved. Reading
            waits for a GPU to finish its work, so it should not happen at each step there.
        clip_norm: where given, gradients of a larger norm, over all parameters, are scaled to it.
        settings: plain values that the run was made from. They are kept with its state, and a state that was made
            from others is refused: its schedule or its order of the data would not be the one it began with.

    Attributes:
        epoch: finished epochs.
        step: optimizer steps so far, over all epochs.
        step_in_epoch: steps so far in the current epoch.
        seconds: time spent in training and evaluation, over all resumed parts of the run.
        history: a row of numbers per finished epoch.
        last_learning_rate: of the last step.
        stop_reason: set to stop after the current step.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss_function: Callable[[Any, Tensor], Tensor],
        train_loader: Loader,
        test_loader: Loader | None = None,
        *,
        scheduler: Scheduler | None = None,
        device: Device | None = None,
        callbacks: Sequence[Callback] = (),
        read_every: int = 10,
        clip_norm: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if read_every < 1:
            raise ValueError(f"read_every: must be at least 1, got {read_every}")
        if clip_norm is not None and not 0.0 < clip_norm < math.inf:
            raise ValueError(f"clip_norm: must be above 0 and finite, or None, got {clip_norm}")
        self.model = model
        self.optimizer = optimizer
        self.loss_function = loss_function
        self.train_loader = train_loader
        self.test_loader = test_loader
        self.scheduler = scheduler
        self.device = device
        self.callbacks = list(callbacks)
        self.read_every = read_every
        self.clip_norm = clip_norm
        self.settings = dict(settings or {})

        self.epoch = 0
        self.step = 0
        self.step_in_epoch = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.last_learning_rate = 0.0
        self.stop_reason: str | None = None
        self._loss = RunningMean()
        self._accuracy = RunningMean()
        # What the device has not been asked about yet: (step, loss, number of correct answers, batch size).
        self._unread: list[tuple[int, Tensor, Tensor, int]] = []
        self._clock: float | None = None

    # --------------------------------------------------------------------------------------------------- training

    def fit(self, epochs: int) -> list[dict[str, float]]:
        """Train until ``epochs`` epochs are finished, counting those finished before.

        Returns:
            ``history``: for each epoch ``epoch``, ``train_loss``, ``train_accuracy``, ``learning_rate`` (of its
            last step), ``seconds`` (so far), and ``test_loss`` and ``test_accuracy`` with a test loader.

        Raises:
            NonFiniteError: the loss became NaN or infinite.
        """
        self.stop_reason = None
        self._clock = time.perf_counter()
        try:
            for callback in self.callbacks:
                callback.on_fit_start(self)
            while self.epoch < epochs and self.stop_reason is None:
                self._train_epoch()
            for callback in self.callbacks:
                callback.on_fit_end(self)
        finally:
            self._stop_clock()
        return self.history

    def _train_epoch(self) -> None:
        self.model.train()
        for callback in self.callbacks:
            callback.on_epoch_start(self)
        for inputs, labels in self._remaining_batches():
            self.train_step(inputs, labels)
            for callback in self.callbacks:
                callback.on_step_end(self)
            if self.stop_reason is not None:
                return
        metrics = {
            "epoch": self.epoch + 1,
            **self.train_metrics(),
            "learning_rate": self.last_learning_rate,
        }
        if self.test_loader is not None:
            test = self._evaluate(self.test_loader, stoppable=True)
            if test is None:
                return  # told to stop: the evaluation is done again when the run goes on
            metrics.update({f"test_{name}": value for name, value in test.items()})
        metrics["seconds"] = self._read_clock()
        self.history.append(metrics)
        self.epoch += 1
        self.step_in_epoch = 0
        self._loss = RunningMean()
        self._accuracy = RunningMean()
        for callback in self.callbacks:
            callback.on_epoch_end(self, metrics)

    def _remaining_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        iterate = getattr(self.train_loader, "iterate", None)
        if iterate is not None:
            batches: Iterator[tuple[Tensor, Tensor]] = iterate(self.epoch, self.step_in_epoch)
            return batches
        return itertools.islice(iter(self.train_loader), self.step_in_epoch, None)

    def train_step(self, inputs: Tensor, labels: Tensor) -> None:
        """One step: forward, backward, update."""
        inputs, labels = self._to_device(inputs, labels)
        outputs = self.model(inputs)
        self._update(self.loss_function(outputs, labels), _logits(outputs), labels)

    def _update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Change the weights by a loss's gradients, and note what there is to report."""
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.last_learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        correct = correct_count(logits, labels)
        if self.scheduler is not None:
            if isinstance(self.scheduler, ErrorWarmup) and self.scheduler.is_warming:
                self.scheduler.observe(int(correct.item()), labels.shape[0])
            self.scheduler.step()
        self.step += 1
        self.step_in_epoch += 1
        self._unread.append((self.step, loss.detach(), correct, labels.shape[0]))
        if len(self._unread) >= self.read_every:
            self.synchronize()

    def synchronize(self) -> None:
        """Wait for the device, and look at what it has reported: losses, and errors about values.

        Raises:
            NonFiniteError: a loss since the last call was NaN or infinite.
        """
        unread, self._unread = self._unread, []
        for step, loss, correct, count in unread:
            value = float(loss.item())
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"the loss became {value} in step {step} (epoch {self.epoch + 1}), "
                    f"at a learning rate of about {self.last_learning_rate:.3g}"
                )
            self._loss.add(value * count, count)
            self._accuracy.add(int(correct.item()), count)
        raise_deferred()

    def train_metrics(self) -> dict[str, float]:
        """Mean loss and accuracy on the training batches of the current epoch so far, as they were trained on."""
        self.synchronize()
        return {"train_loss": self._loss.mean, "train_accuracy": self._accuracy.mean}

    @property
    def running_loss(self) -> float:
        """Mean loss of the current epoch as far as it was read back; does not wait for the device."""
        return self._loss.mean

    def _to_device(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.device is None:
            return inputs, labels
        return inputs.to(self.device), labels.to(self.device)

    # -------------------------------------------------------------------------------------------------- evaluation

    def evaluate(self, loader: Loader) -> dict[str, float]:
        """Mean ``loss`` and ``accuracy`` over a loader, with the model in evaluation mode."""
        result = self._evaluate(loader, stoppable=False)
        assert result is not None
        return result

    def _reader(self) -> Callable[[Tensor, Tensor], tuple[Any, Tensor]]:
        """What makes (outputs, labels) of the batches of a loader, from its first on."""
        return lambda inputs, labels: (self.model(inputs), labels)

    def _evaluate(self, loader: Loader, stoppable: bool) -> dict[str, float] | None:
        was_training = self.model.training
        self.model.eval()
        parts: list[tuple[Tensor, Tensor, int]] = []
        loss_mean, accuracy_mean = RunningMean(), RunningMean()
        read = self._reader()
        try:
            with no_grad():
                for inputs, labels in loader:
                    if stoppable and self.stop_reason is not None:
                        return None
                    outputs, labels = read(*self._to_device(inputs, labels))
                    correct = correct_count(_logits(outputs), labels)
                    parts.append((self.loss_function(outputs, labels), correct, labels.shape[0]))
        finally:
            self.model.train(was_training)
        for loss, correct, count in parts:
            loss_mean.add(float(loss.item()) * count, count)
            accuracy_mean.add(int(correct.item()), count)
        raise_deferred()
        return {"loss": loss_mean.mean, "accuracy": accuracy_mean.mean}

    # ------------------------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on: nested dicts of tensors and plain values."""
        self.synchronize()
        return {
            "settings": dict(self.settings),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "random": get_rng_state(),
            "progress": {
                "epoch": self.epoch,
                "step": self.step,
                "step_in_epoch": self.step_in_epoch,
                "seconds": self._read_clock(),
                "learning_rate": self.last_learning_rate,
                "loss": [self._loss.total, self._loss.count],
                "accuracy": [self._accuracy.total, self._accuracy.count],
                "history": self.history,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned.

        Raises:
            KeyError, RuntimeError, ValueError: the state belongs to another model, optimizer or schedule, or was
                made from other settings. Nothing was changed in the last case.
        """
        self._refuse_other_settings(state.get("settings", {}))
        if (state["scheduler"] is None) != (self.scheduler is None):
            raise ValueError("state: one of the run and the trainer has a learning rate schedule, the other has none")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        progress = state["progress"]
        self.epoch = int(progress["epoch"])
        self.step = int(progress["step"])
        self.step_in_epoch = int(progress["step_in_epoch"])
        self.seconds = float(progress["seconds"])
        self.last_learning_rate = float(progress["learning_rate"])
        self._loss = RunningMean(*progress["loss"])
        self._accuracy = RunningMean(*progress["accuracy"])
        self.history = [dict(row) for row in progress["history"]]
        self._unread = []
        set_rng_state(state["random"])

    def _refuse_other_settings(self, begun_with: Mapping[str, Any]) -> None:
        differences = [
            f"{name} was {begun_with[name]!r} and is now {value!r}"
            for name, value in self.settings.items()
            if name in begun_with and begun_with[name] != value
        ]
        if differences:
            raise ValueError(f"the run was begun with other settings: {', '.join(differences)}")

    def _read_clock(self) -> float:
        running = 0.0 if self._clock is None else time.perf_counter() - self._clock
        return self.seconds + running

    def _stop_clock(self) -> None:
        self.seconds = self._read_clock()
        self._clock = None
