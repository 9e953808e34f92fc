"""``gpunet train``."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Mapping
from typing import Any

from gpunet.backend.errors import CheckpointError
from gpunet.cli import train_images, train_text
from gpunet.cli.arguments import non_negative_number, path_name, positive_integer, positive_number, seed_number
from gpunet.cli.console import EXIT_INTERRUPTED, EXIT_SUCCESS, RunError, UsageError, say, say_json
from gpunet.cli.progress import Phase, StopOnSignals, make_progress
from gpunet.cli.train_images import ImageTask
from gpunet.cli.train_task import Task
from gpunet.cli.train_text import TextTask
from gpunet.data import list_datasets
from gpunet.models import list_models
from gpunet.training import (
    Checkpointer,
    NonFiniteError,
    RunFolder,
    RunFolderError,
    Trainer,
    TrainingConfig,
    load_checkpoint,
)
from gpunet.training.run import LANGUAGE, describe_os_error, write_file_atomically

DESCRIPTION = """\
Train a model and keep everything about it in a run folder: its settings, the numbers of each epoch, the loss and
accuracy curve, and a checkpoint from which the run can be resumed and the model used.

With no arguments, cifar_resnet20 is trained on the bundled images of handwritten digits. With --model char_rnn, a
recurrent network learns a text character by character: the bundled novel, or any UTF-8 file by --text FILE.
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
    train_text.add_arguments(parser)
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
        folder, task = _open_run(arguments)
        with folder:
            _load_state(folder, task.trainer)
            return _train(arguments, task, folder)
    # Everything that training needs is made before there is a run folder, so that a bad argument leaves none behind.
    task = _new_task(arguments)
    with _create_folder(arguments, task) as folder:
        return _train(arguments, task, folder)


# ------------------------------------------------------------------------------------------ before the run starts


def _new_task(arguments: argparse.Namespace) -> Task:
    is_text = arguments.text is not None if arguments.model is None else arguments.model in list_models("sequence")
    if is_text:
        return TextTask.new(arguments, train_images.OPTIONS)
    return ImageTask.new(arguments, train_text.OPTIONS)


def _create_folder(arguments: argparse.Namespace, task: Task) -> RunFolder:
    try:
        if arguments.out is not None:
            return RunFolder.create(arguments.out, task.settings)
        return RunFolder.create_numbered("runs", task.folder_name, task.settings)
    except RunFolderError as error:
        raise UsageError(str(error)) from error


def _open_run(arguments: argparse.Namespace) -> tuple[RunFolder, Task]:
    """The folder of a run, locked, and the run at its beginning."""
    if arguments.out is not None:
        raise UsageError("--out does not go with --resume: a resumed run stays in its folder")
    try:
        folder = RunFolder.open(arguments.resume)
        kind, others = (TextTask, train_images.OPTIONS) if folder.task == LANGUAGE else (ImageTask, train_text.OPTIONS)
        config: Any = kind.settings_of(arguments, folder, others)
    except RunFolderError as error:
        raise UsageError(str(error)) from error
    if arguments.device is not None:
        config = config.replace(device=arguments.device)
    try:
        folder.lock()
    except (RunFolderError, OSError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot resume {folder.path}: {reason}") from error
    try:
        return folder, kind.resumed(arguments, folder, config)
    except BaseException:
        folder.unlock()
        raise


def _load_state(folder: RunFolder, trainer: Trainer) -> None:
    try:
        if folder.checkpoint_path.exists():
            load_checkpoint(folder.checkpoint_path, trainer)
        elif epochs := _measured_epochs(folder):
            # Each was saved before it was written there; starting anew would throw their numbers away.
            raise UsageError(
                f"{folder.checkpoint_path} is gone, though {folder.metrics_path} has {epochs} finished "
                f"{'epoch' if epochs == 1 else 'epochs'}: put it back, or start a new run"
            )
        folder.remove_leftovers()
        folder.rewrite_metrics(trainer.history)
    except CheckpointError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"cannot write to the folder {folder.path}: {describe_os_error(error)}") from error


def _measured_epochs(folder: RunFolder) -> int:
    try:
        lines = folder.metrics_path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return 0
    return max(0, len(lines) - 1)  # below the names of the columns


# ------------------------------------------------------------------------------------------------------- the run


def _train(arguments: argparse.Namespace, task: Task, folder: RunFolder) -> int:
    trainer, epochs = task.trainer, task.epochs
    resume_command = f"gpunet train --resume {shlex.quote(str(folder.path))}{task.resume_options}"
    checkpointer = Checkpointer(folder, 60.0 if arguments.checkpoint_every is None else arguments.checkpoint_every)
    trainer.callbacks.append(checkpointer)
    signals = StopOnSignals(trainer)
    trainer.callbacks.append(signals)
    with signals:  # to the end: whatever is pressed and when, how the run stands is still said
        try:
            with contextlib.ExitStack() as stack:
                if not arguments.quiet:
                    _introduce(task, folder, resume_command if arguments.resume is None else None)
                    # After the checkpoint: an epoch that is reported is an epoch that is saved.
                    trainer.callbacks.append(stack.enter_context(make_progress(epochs, task.describe_epoch)))
                    trainer.callbacks.extend(task.callbacks())
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
                + (
                    f"{checkpointer.describe_kept()}; go on with: {resume_command}"
                    if folder.config_path.exists()
                    else "the run is no longer there"
                )
            ) from error
        except KeyboardInterrupt:  # a second Ctrl-C
            say(f"\nInterrupted; {checkpointer.describe_kept()}. Go on with:\n  {resume_command}")
            return EXIT_INTERRUPTED

        code = EXIT_SUCCESS
        try:
            signals.phase = Phase.DRAWING
            curve_note = _write_curve(folder, trainer, task.title)
            signals.phase = Phase.REPORTING
        except KeyboardInterrupt:
            curve_note = "; no curve.png: interrupted"
            code = EXIT_INTERRUPTED
        result = _result(task, folder)
        if trainer.epoch < epochs:
            say(
                f"\nStopped by {trainer.stop_reason} in epoch {trainer.epoch + 1} of {epochs}, "
                f"after step {trainer.step}; everything is saved. Go on with:\n  {resume_command}"
            )
            code = EXIT_INTERRUPTED if signals.received is None else 128 + signals.received
        else:
            if not arguments.quiet:
                say()
            _conclude(task, result, folder, curve_note)
        if arguments.json:
            say_json(result)
    return code


def _introduce(task: Task, folder: RunFolder, resume_command: str | None) -> None:
    """Say what is trained on what, and where; ``resume_command`` is None where the run is resumed already."""
    say(task.introduce())
    trainer = task.trainer
    if resume_command is not None:
        say(f"Run folder: {folder.path} (if interrupted, go on with: {resume_command})")
    elif trainer.epoch >= task.epochs:
        finished = "its epoch is" if trainer.epoch == 1 else f"all {trainer.epoch} epochs are"
        say(f"Run folder: {folder.path}; {finished} finished.")
    elif trainer.step:
        say(f"Run folder: {folder.path}; going on in epoch {trainer.epoch + 1}, after step {trainer.step}.")
    else:
        say(f"Run folder: {folder.path}; it has no checkpoint yet, starting from the beginning.")
    if task.plan and trainer.epoch < task.epochs:
        say(task.plan)


def _conclude(task: Task, result: Mapping[str, Any], folder: RunFolder, curve_note: str) -> None:
    reached, commands = task.conclude(result, folder)
    epochs = f"{result['epochs']} {'epoch' if result['epochs'] == 1 else 'epochs'}"
    say(f"{reached} after {epochs}, {result['seconds']:.1f} s of training on {result['device']}.")
    if warning := result.get("warning"):
        say(f"Warning: {warning}")
    say(f"  run folder       {folder.path}  (config.json, metrics.csv, checkpoint.safetensors{curve_note})")
    for purpose, command in commands:
        say(f"  {purpose:<17}{command}")


def _result(task: Task, folder: RunFolder) -> dict[str, Any]:
    trainer = task.trainer
    return {
        "command": "train",
        "finished": trainer.epoch >= task.epochs,
        "model": task.settings["model"],
        "seed": task.settings["seed"],
        "device": str(trainer.device),
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 3),
        **task.result(),
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
