"""``gpunet train``."""

from __future__ import annotations

import argparse
import contextlib
import enum
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self

from gpunet.backend.errors import CheckpointError
from gpunet.cli.arguments import (
    non_negative_number,
    path_name,
    positive_integer,
    positive_number,
    seed_number,
    usable_device,
)
from gpunet.cli.console import (
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    RunError,
    UsageError,
    close_matches,
    say,
    say_json,
)
from gpunet.data import get_dataset, list_datasets
from gpunet.models import list_models
from gpunet.training import (
    Callback,
    Checkpointer,
    NonFiniteError,
    RunFolder,
    RunFolderError,
    Trainer,
    TrainingConfig,
    describe_run,
    get_recipe,
    load_checkpoint,
    prepare,
    read_settings,
)
from gpunet.training.run import describe_os_error, write_file_atomically

DESCRIPTION = """\
Train a model and keep everything about it in a run folder: its settings, the numbers of each epoch, the loss and
accuracy curve, and a checkpoint from which the run can be resumed and the model used.

With no arguments, cifar_resnet20 is trained on the bundled images of handwritten digits.
"""
EPILOG = """\
A run that was interrupted, killed or ran out of disk space goes on with

  gpunet train --resume RUN

from its last checkpoint, on a CPU to the same bits as if nothing had happened.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments. Defaults are None, so that --resume can tell what was given."""
    default = TrainingConfig()
    recipe = default.recipe
    parser.description = DESCRIPTION
    parser.epilog = EPILOG

    def described(text: str, value: object) -> str:
        return f"{text} (default: {value})"

    what = parser.add_argument_group("what to train")
    what.add_argument("--model", metavar="NAME", help=described("the model, see 'gpunet models'", default.model))
    what.add_argument(
        "--data", metavar="NAME", help=described(f"{', '.join(list_datasets())}, or a .npz file", default.data)
    )
    how = parser.add_argument_group("how", f"Defaults are those of {default.model}; other models may have their own.")
    how.add_argument(
        "--recipe",
        metavar="NAME",
        help=described(
            "the settings as a whole, see 'gpunet models'; 'paper' for those of the model's paper", "default"
        ),
    )
    how.add_argument(
        "--epochs", type=positive_integer, metavar="N", help=described("passes over the data", recipe.epochs)
    )
    how.add_argument(
        "--batch-size", type=positive_integer, metavar="N", help=described("images a step", recipe.batch_size)
    )
    how.add_argument(
        "--lr",
        type=positive_number,
        metavar="X",
        help=described("the highest learning rate", recipe.learning_rate),
    )
    how.add_argument(
        "--weight-decay",
        type=non_negative_number,
        metavar="X",
        help=described("L2 penalty", recipe.weight_decay),
    )
    how.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help=described("rotate, move and zoom the training images a little, at random", "yes"),
    )
    how.add_argument("--seed", type=seed_number, metavar="N", help=described("of all random numbers", default.seed))
    how.add_argument(
        "--device",
        metavar="NAME",
        help=described("cpu, cuda, cuda:1, or auto: a usable GPU, else the CPU", default.device),
    )
    where = parser.add_argument_group("the run folder")
    where.add_argument(
        "--out",
        type=path_name,
        metavar="FOLDER",
        help="a new or empty folder (default: runs/MODEL-DATA-TIME)",
    )
    where.add_argument("--resume", type=path_name, metavar="RUN", help="go on with the run in this folder")
    where.add_argument(
        "--checkpoint-every",
        type=non_negative_number,
        metavar="SECONDS",
        help="save within an epoch when the last save is that long ago; each epoch is saved anyway (default: 60)",
    )
    report = parser.add_argument_group("what to print")
    report.add_argument("--json", action="store_true", help="end with one JSON object on the last line of stdout")
    report.add_argument("--quiet", action="store_true", help="no progress: the result alone")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    if arguments.resume is not None:
        folder, config = _open_run(arguments)
        with folder:
            # What was not given again comes from the file, and may have been edited there.
            data_origin, device_origin = (
                option if given is not None else f"{folder.config_path}: {name!r}"
                for option, given, name in (
                    ("argument --data", arguments.data, "data"),
                    ("argument --device", arguments.device, "device"),
                )
            )
            trainer, settings = _prepare(config, data_origin, device_origin)
            _load_state(folder, trainer)
            return _train(arguments, config, settings, trainer, folder)
    # Everything that training needs is made before there is a run folder, so that a bad argument leaves none behind.
    config = _new_config(arguments)
    trainer, settings = _prepare(config)
    with _create_folder(arguments, config, settings) as folder:
        return _train(arguments, config, settings, trainer, folder)


# ------------------------------------------------------------------------------------------ before the run starts


def _new_config(arguments: argparse.Namespace) -> TrainingConfig:
    given = {"model": arguments.model, "data": arguments.data, "seed": arguments.seed, "device": arguments.device}
    given_for_recipe = {
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "learning_rate": arguments.lr,
        "weight_decay": arguments.weight_decay,
        "augment": arguments.augment,
    }
    if arguments.data is not None:
        given["data"] = _data_setting(arguments.data)
    config = TrainingConfig(**_without_none(given))
    try:
        recipe = get_recipe(config.model, "default" if arguments.recipe is None else arguments.recipe)
    except ValueError as error:
        raise UsageError(
            f"argument --{error}" if arguments.recipe is not None and config.model in list_models() else str(error)
        ) from error
    return config.replace(recipe=recipe.replace(**_without_none(given_for_recipe)))


def _data_setting(data: str) -> str:
    """A file by its full path: the run may be resumed from another folder."""
    return os.path.abspath(data) if data.endswith(".npz") else data


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _prepare(
    config: TrainingConfig, data_origin: str = "argument --data", device_origin: str = "argument --device"
) -> tuple[Trainer, dict[str, Any]]:
    """The trainer, and what its ``config.json`` holds."""
    known = list_models()
    if config.model not in known:
        raise UsageError(f"unknown model {config.model!r}{close_matches(config.model, known)}")
    device = usable_device(config.device, device_origin)
    try:
        splits = get_dataset(config.data)
    except (OSError, ValueError) as error:
        raise UsageError(f"{data_origin}: {error}") from error
    try:
        trainer = prepare(config, splits, device)
    except ValueError as error:
        raise UsageError(f"the model {config.model} does not take the images of {config.data}: {error}") from error
    return trainer, describe_run(config, splits, device)


def _create_folder(arguments: argparse.Namespace, config: TrainingConfig, settings: Mapping[str, Any]) -> RunFolder:
    try:
        if arguments.out is not None:
            return RunFolder.create(arguments.out, settings)
        return RunFolder.create_numbered("runs", f"{config.model}-{Path(config.data).stem}", settings)
    except RunFolderError as error:
        raise UsageError(str(error)) from error


def _open_run(arguments: argparse.Namespace) -> tuple[RunFolder, TrainingConfig]:
    if arguments.out is not None:
        raise UsageError("--out does not go with --resume: a resumed run stays in its folder")
    try:
        folder = RunFolder.open(arguments.resume)
        config, _ = read_settings(folder)
    except RunFolderError as error:
        raise UsageError(str(error)) from error
    if arguments.recipe is not None:
        raise UsageError("--recipe does not go with --resume: a resumed run keeps its settings")
    for option, given, kept in (
        ("--model", arguments.model, config.model),
        ("--data", None if arguments.data is None else _data_setting(arguments.data), config.data),
        ("--epochs", arguments.epochs, config.recipe.epochs),
        ("--batch-size", arguments.batch_size, config.recipe.batch_size),
        ("--lr", arguments.lr, config.recipe.learning_rate),
        ("--weight-decay", arguments.weight_decay, config.recipe.weight_decay),
        ("--augment", arguments.augment, config.recipe.augment),
        ("--seed", arguments.seed, config.seed),
    ):
        if given is not None and given != kept:
            raise UsageError(f"{option} {given} does not go with --resume: the run in {folder.path} has {kept}")
    if arguments.device is not None:
        config = config.replace(device=arguments.device)
    try:
        folder.lock()
    except (RunFolderError, OSError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot resume {folder.path}: {reason}") from error
    return folder, config


def _load_state(folder: RunFolder, trainer: Trainer) -> None:
    try:
        if folder.checkpoint_path.exists():
            load_checkpoint(folder.checkpoint_path, trainer)
        folder.remove_leftovers()
        folder.rewrite_metrics(trainer.history)
    except CheckpointError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"cannot write to the folder {folder.path}: {describe_os_error(error)}") from error


# ------------------------------------------------------------------------------------------------------- the run


def _train(
    arguments: argparse.Namespace,
    config: TrainingConfig,
    settings: Mapping[str, Any],
    trainer: Trainer,
    folder: RunFolder,
) -> int:
    epochs = config.recipe.epochs
    resume_command = f"gpunet train --resume {shlex.quote(str(folder.path))}"
    checkpointer = Checkpointer(folder, 60.0 if arguments.checkpoint_every is None else arguments.checkpoint_every)
    trainer.callbacks.append(checkpointer)
    signals = StopOnSignals(trainer)
    trainer.callbacks.append(signals)
    with signals:  # to the end: whatever is pressed and when, how the run stands is still said
        try:
            with contextlib.ExitStack() as stack:
                if not arguments.quiet:
                    images = settings["images"]
                    _introduce(config, images, trainer, folder, resume_command if arguments.resume is None else None)
                    # After the checkpoint: an epoch that is reported is an epoch that is saved.
                    trainer.callbacks.append(stack.enter_context(make_progress(epochs)))
                trainer.fit(epochs)
            signals.phase = Phase.REPORTING
        except NonFiniteError as error:
            # The same steps would end in the same way, so resuming is no help.
            raise RunError(f"{error}; {checkpointer.describe_kept()}; start a new run with a lower --lr") from error
        except MemoryError as error:
            raise RunError(
                f"out of memory on {trainer.device}; {checkpointer.describe_kept()}; a smaller --batch-size needs less"
            ) from error
        except OSError as error:
            raise RunError(
                f"cannot write to the run folder {folder.path}: {describe_os_error(error)}; "
                f"{checkpointer.describe_kept()}; go on with: {resume_command}"
            ) from error
        except KeyboardInterrupt:  # a second Ctrl-C
            say(f"\nInterrupted; {checkpointer.describe_kept()}. Go on with:\n  {resume_command}")
            return EXIT_INTERRUPTED

        code = EXIT_SUCCESS
        try:
            signals.phase = Phase.DRAWING
            curve_note = _write_curve(folder, trainer, f"{config.model} on {config.data}")
            signals.phase = Phase.REPORTING
        except KeyboardInterrupt:
            curve_note = "; no curve.png: interrupted"
            code = EXIT_INTERRUPTED
        result = _result(config, trainer, folder)
        if trainer.epoch < epochs:
            say(
                f"\nStopped by {trainer.stop_reason} in epoch {trainer.epoch + 1} of {epochs}, "
                f"after step {trainer.step}; everything is saved. Go on with:\n  {resume_command}"
            )
            code = EXIT_INTERRUPTED if signals.received is None else 128 + signals.received
        else:
            _conclude(config, result, folder, curve_note)
        if arguments.json:
            say_json(result)
    return code


def _introduce(
    config: TrainingConfig, images: Mapping[str, int], trainer: Trainer, folder: RunFolder, resume_command: str | None
) -> None:
    """Say what is trained on what, and where; ``resume_command`` is None where the run is resumed already."""
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    sizes = f"{images['train']:,} training and {images['test']:,} test images"
    say(f"Training {config.model} ({parameters:,} parameters) on {config.data} ({sizes}) on {trainer.device}.")
    if resume_command is not None:
        say(f"Run folder: {folder.path} (if interrupted, go on with: {resume_command})")
    elif trainer.epoch >= config.recipe.epochs:
        say(f"Run folder: {folder.path}; all {trainer.epoch} epochs are finished.")
    elif trainer.step:
        say(f"Run folder: {folder.path}; going on in epoch {trainer.epoch + 1}, after step {trainer.step}.")
    else:
        say(f"Run folder: {folder.path}; it has no checkpoint yet, starting from the beginning.")


def _conclude(config: TrainingConfig, result: Mapping[str, Any], folder: RunFolder, curve_note: str) -> None:
    path = shlex.quote(str(folder.path))
    say(
        f"\nTest accuracy {result['test_accuracy'] * 100:.2f} % after {result['epochs']} epochs, "
        f"{result['seconds']:.1f} s of training on {result['device']}."
    )
    say(f"  run folder       {folder.path}  (config.json, metrics.csv, checkpoint.safetensors{curve_note})")
    say(f"  classify images  gpunet predict {path} image.png")
    say(f"  use in Python    from gpunet.training import load_model; model = load_model({str(folder.path)!r})")


def _result(config: TrainingConfig, trainer: Trainer, folder: RunFolder) -> dict[str, Any]:
    last = trainer.history[-1] if trainer.history else {}
    return {
        "command": "train",
        "finished": trainer.epoch >= config.recipe.epochs,
        "model": config.model,
        "data": config.data,
        "seed": config.seed,
        "device": str(trainer.device),
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 3),
        "test_accuracy": last.get("test_accuracy"),
        "test_loss": last.get("test_loss"),
        "train_accuracy": last.get("train_accuracy"),
        "train_loss": last.get("train_loss"),
        "run": str(folder.path),
        "checkpoint": str(folder.checkpoint_path),
    }


def _write_curve(folder: RunFolder, trainer: Trainer, title: str) -> str:
    """Draw the curve; returns what the list of the folder's files says about it."""
    from gpunet.inspect import PlotUnavailableError, curve_png

    if not trainer.history:
        return ""
    try:
        write_file_atomically(folder.curve_path, curve_png(trainer.history, title))
    except PlotUnavailableError:
        return "; no curve.png: that needs pip install 'gpunet[plot]'"
    except OSError as error:
        # The picture can be drawn again from metrics.csv; the run itself is safe.
        return f"; no curve.png: {describe_os_error(error)}"
    return ", curve.png"


# ------------------------------------------------------------------------------------------- signals and progress


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


def make_progress(epochs: int) -> Progress:
    """A bar on a terminal, plain lines anywhere else."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return BarProgress(epochs) if on_terminal else Progress(epochs)


class Progress(Callback):
    """A line per epoch, and one every half minute within an epoch that takes longer."""

    interval = 30.0

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
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
            f"epoch {trainer.epoch:>3}/{self.epochs}  loss {metrics['train_loss']:.4f}  "
            f"train {metrics['train_accuracy'] * 100:6.2f} %  test {metrics['test_accuracy'] * 100:6.2f} %  "
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

    def __init__(self, epochs: int) -> None:
        super().__init__(epochs)
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
