"""``gpunet train`` for language models."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpunet.backend.random import Generator
from gpunet.cli.arguments import non_negative_number, positive_integer, usable_device
from gpunet.cli.console import UsageError, printable, say
from gpunet.cli.train_task import Kept, given, refuse_changes, refuse_options
from gpunet.data.text import NOVEL, TextSplits, Vocabulary, counted, load_text
from gpunet.models import CharRNN
from gpunet.models.char_rnn import CELLS
from gpunet.training import (
    Callback,
    LanguageConfig,
    RunFolder,
    Trainer,
    describe_language_run,
    prepare_language,
    read_language_settings,
)
from gpunet.training.language import LARGEST_LOSS, LEAST_SHARE
from gpunet.training.run import describe_os_error

__all__ = ["OPTIONS", "TextTask", "add_arguments", "default_prompt"]

#: Options that say nothing to a classifier of images, and the settings they are.
SETTINGS = {
    "cell": "cell",
    "hidden": "hidden_size",
    "layers": "num_layers",
    "embedding": "embedding_dim",
    "dropout": "dropout",
    "window": "window",
    "final-rate": "final_rate",
    "clip": "clip_norm",
    "held-out": "held_out",
}
OPTIONS = ("text", *SETTINGS)

# What is written after each epoch: of a stream of the seed that nothing else draws from.
SAMPLE_STREAM, SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 4, 240, 0.8
# Columns of a terminal that it takes, those before the lines left out.
SAMPLE_WIDTH = 96

# Bits per character by which a model is worse than knowing nothing before anything is said, and by which it is no
# beginner's any more: weights as they are drawn cost some tenths.
WORSE, DIVERGED = 0.01, 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of language models."""
    default = LanguageConfig()
    group = parser.add_argument_group(
        "language models",
        f"With --text or --model {default.model}. A step takes --batch-size streams of text; the defaults of the\n"
        f"options above are then --epochs {default.epochs}, --batch-size {default.batch_size}, "
        f"--lr {default.learning_rate} and --weight-decay {default.weight_decay:g}.",
    )
    group.add_argument(
        "--text",
        metavar="FILE",
        help=f"a UTF-8 text to learn (default: {NOVEL}, Jane Austen's novel, which is bundled)",
    )
    group.add_argument("--cell", choices=tuple(CELLS), help=f"kind of layer (default: {default.cell})")
    group.add_argument(
        "--hidden", type=positive_integer, metavar="N", help=f"units of a layer (default: {default.hidden_size})"
    )
    group.add_argument(
        "--layers", type=positive_integer, metavar="N", help=f"layers above each other (default: {default.num_layers})"
    )
    group.add_argument(
        "--embedding",
        type=natural_number,
        metavar="N",
        help=f"size of a character's learned vector; 0 for one-hot (default: {default.embedding_dim})",
    )
    group.add_argument(
        "--dropout",
        type=dropout_share,
        metavar="X",
        help=f"between layers and before the scores (default: {default.dropout})",
    )
    group.add_argument(
        "--window",
        type=positive_integer,
        metavar="N",
        help=f"characters after which the gradient is cut and the weights change (default: {default.window})",
    )
    group.add_argument(
        "--final-rate",
        type=share,
        metavar="X",
        help=f"share of the learning rate that is left at the end (default: {default.final_rate})",
    )
    group.add_argument(
        "--clip",
        type=non_negative_number,
        metavar="X",
        help=f"norm to which larger gradients are scaled; 0 leaves them (default: {default.clip_norm:g})",
    )
    group.add_argument(
        "--held-out",
        type=share,
        metavar="X",
        help=f"share of the text, from its end, that is measured on (default: {default.held_out})",
    )


def natural_number(text: str) -> int:
    """0, 1, 2, ..."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = non_negative_number(text)
    if value > 1.0:
        raise argparse.ArgumentTypeError(f"must lie in 0..1, got {text}")
    return value


def dropout_share(text: str) -> float:
    """A number from 0 to 1, and not 1: nothing would be left."""
    value = share(text)
    if value == 1.0:
        raise argparse.ArgumentTypeError(f"must be below 1, got {text}")
    return value


class TextTask:
    """A language model; see ``Task``.

    Args:
        config: the settings.
        text_origin, device_origin: where the text's and the device's name were given, for errors.
        sha256: of the text that the run began with; None for a new run.
        settings_origin: the file that the settings came from, for errors; empty for the command line.
    """

    def __init__(
        self,
        config: LanguageConfig,
        text_origin: str = "argument --text",
        device_origin: str = "argument --device",
        sha256: str | None = None,
        settings_origin: str = "",
    ) -> None:
        device = usable_device(config.device, device_origin)
        splits = self._read(config, text_origin)
        if sha256 is not None and splits.info.sha256 != sha256:
            raise UsageError(f"{text_origin}: {config.text} is not the text that the run began with: it has changed")
        try:
            self.trainer = prepare_language(config, splits, device)
        except ValueError as error:
            if "shorter" not in str(error):  # it is the settings that are at fault, not the text
                raise UsageError(f"{settings_origin}: {error}" if settings_origin else str(error)) from error
            hint = "; give a smaller --batch-size or --window, or a longer text"
            raise UsageError(f"{config.text}: {error}{hint}") from error
        self.config, self.vocabulary = config, splits.vocabulary
        self.settings: Mapping[str, Any] = describe_language_run(config, splits, device)
        self.epochs = config.epochs
        self.title = f"{config.model} ({config.cell}) on {splits.info.name}"
        self.folder_name = f"{config.model}-{Path(config.text).stem}"
        each = len(self.trainer.train_loader)
        steps = f"{counted(config.epochs * each, 'step')}, {each:,} in each epoch"
        self.plan = (
            f"{steps}; how long they take is said after the first ones. "
            "For a quick try: --hidden 64 --layers 1 --epochs 1"
        )
        if unread := describe_unread(len(splits.train), self.trainer.train_loader):
            self.plan += f"\n{unread}"
        if unlearned := splits.describe_unlearned():
            self.plan += f"\nOnly in the held-out part, so that nothing is learned about them: {unlearned}."
        # What came through a pipe cannot be read again.
        self.resume_options = "" if config.text == NOVEL or Path(config.text).is_file() else " --text FILE"

    @staticmethod
    def _read(config: LanguageConfig, origin: str) -> TextSplits:
        try:
            return load_text(config.text, config.held_out)
        except OSError as error:
            where = f"{config.text}: " if error.errno else ""
            raise UsageError(f"{origin}: {where}{describe_os_error(error)}") from error
        except ValueError as error:
            raise UsageError(f"{origin}: {error}") from error

    @classmethod
    def new(cls, arguments: argparse.Namespace, others: Sequence[str]) -> TextTask:
        """From the command's arguments.

        Args:
            arguments: parsed.
            others: options that say nothing to a language model.
        """
        model = arguments.model or LanguageConfig.model
        refuse_options(arguments, others, f"is for models of images, not for {model}")
        values = given(
            model=arguments.model,
            text=None if arguments.text is None else _text_setting(arguments.text),
            seed=arguments.seed,
            device=arguments.device,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            learning_rate=arguments.lr,
            weight_decay=arguments.weight_decay,
            **{setting: getattr(arguments, option.replace("-", "_")) for option, setting in SETTINGS.items()},
        )
        try:
            config = LanguageConfig(**values)
        except ValueError as error:
            raise UsageError(f"argument --{str(error).replace('_', '-', 1)}") from error
        return cls(config)

    @classmethod
    def settings_of(cls, arguments: argparse.Namespace, folder: RunFolder, others: Sequence[str]) -> LanguageConfig:
        """The settings of a run to be resumed, which the arguments may repeat and not change."""
        config, _ = read_language_settings(folder)
        refuse_options(arguments, others, f"is for models of images; the run in {folder.path} has {config.model}")
        options: list[Kept] = [
            ("--model", arguments.model, config.model),
            ("--epochs", arguments.epochs, config.epochs),
            ("--batch-size", arguments.batch_size, config.batch_size),
            ("--lr", arguments.lr, config.learning_rate),
            ("--weight-decay", arguments.weight_decay, config.weight_decay),
            ("--seed", arguments.seed, config.seed),
        ]
        for option, setting in SETTINGS.items():
            options.append((f"--{option}", getattr(arguments, option.replace("-", "_")), getattr(config, setting)))
        refuse_changes(folder.path, options)
        # The text may have been moved: whether it is the same is told by its SHA-256.
        return config if arguments.text is None else config.replace(text=_text_setting(arguments.text))

    @classmethod
    def resumed(cls, arguments: argparse.Namespace, folder: RunFolder, config: LanguageConfig) -> TextTask:
        """A run to be resumed. What was not given again comes from the file, and may have been edited there."""
        text_origin, device_origin = (
            option if value is not None else f"{folder.config_path}: {name!r}"
            for option, value, name in (
                ("argument --text", arguments.text, "text"),
                ("argument --device", arguments.device, "device"),
            )
        )
        before, info = read_language_settings(folder)
        try:
            task = cls(config, text_origin, device_origin, info.sha256, str(folder.config_path))
        except UsageError as error:
            if arguments.text is None and isinstance(error.__cause__, FileNotFoundError):
                raise UsageError(
                    f"{text_origin}: there is no file {config.text}; if the text was moved, go on with: "
                    f"gpunet train --resume {shlex.quote(str(folder.path))} --text FILE"
                ) from error
            raise
        if config.text != before.text and not task.resume_options:
            try:
                folder.write_config(folder.read_config() | {"text": config.text})
            except OSError as error:
                raise UsageError(f"cannot write to the folder {folder.path}: {describe_os_error(error)}") from error
        return task

    def introduce(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.trainer.model.parameters())
        length, config = self.settings["characters"], self.config
        different = counted(len(self.vocabulary), "different one")
        sizes = f"{length['train']:,} characters, {length['test']:,} held out, {different}"
        return (
            f"Training {config.model} ({config.cell}, {parameters:,} parameters) on {config.text} ({sizes}) "
            f"on {self.trainer.device}."
        )

    def describe_epoch(self, metrics: Mapping[str, float]) -> str:
        return (
            f"train {metrics['train_bits_per_character']:.3f}  held out {metrics['test_bits_per_character']:.3f} "
            f"bits/character  perplexity {perplexity_text(metrics['test_perplexity'])}"
        )

    def callbacks(self) -> Sequence[Callback]:
        return (EpochSample(self.vocabulary, self.config.seed),)

    def result(self) -> dict[str, Any]:
        last = self.trainer.history[-1] if self.trainer.history else {}
        names = (
            "test_bits_per_character", "test_perplexity", "test_loss", "test_accuracy",
            "train_bits_per_character", "train_loss", "train_accuracy",
        )  # fmt: skip
        warning = describe_failure(last, len(self.vocabulary), self.config.clip_norm) if last else ""
        return {
            "cell": self.config.cell,
            "text": self.config.text,
            **{name: last.get(name) for name in names},
            "warning": warning or None,
        }

    def conclude(self, result: Mapping[str, Any], folder: RunFolder) -> tuple[str, list[tuple[str, str]]]:
        path = shlex.quote(str(folder.path))
        load = "from gpunet.training import load_language_model; "
        return (
            f"{result['test_bits_per_character']:.3f} bits per character on the held-out text "
            f"(perplexity {perplexity_text(result['test_perplexity'])})",
            [
                ("let it write", f"gpunet sample {path} --length 1000"),
                ("use in Python", f"{load}model, vocabulary = load_language_model({str(folder.path)!r})"),
            ],
        )


def perplexity_text(perplexity: float) -> str:
    """Two decimals where that many can be read; of what is no number any more, the number that it is above."""
    if perplexity == math.inf:
        return f"above {math.exp(LARGEST_LOSS):.0e}".replace("+", "")
    return f"{perplexity:.2f}" if perplexity < 1e6 else f"{perplexity:.1e}".replace("+", "")


def describe_failure(metrics: Mapping[str, float], size: int, clip_norm: float) -> str:
    """That a model is worse than one that knows nothing, in words; empty where it is not.

    Args:
        metrics: of the last epoch.
        size: V, how many characters there are: to know nothing of them takes log2 V bits.
        clip_norm: of the run; 0 is none.
    """
    nothing = math.log2(size)
    train, held_out = (metrics[f"{part}_bits_per_character"] - nothing for part in ("train", "test"))
    if held_out <= WORSE:
        return ""
    text = f"this is worse than knowing nothing, which takes log2({size}) = {nothing:.3f} bits per character; "
    if train <= WORSE:
        text += "on what it learned the model is better: that is too short, or the held-out text is unlike it"
    elif train <= DIVERGED:
        text += "it has learned too little: try more --epochs, or another --lr"
    else:  # NaN too
        text += "training has diverged: try a lower --lr" + ("" if clip_norm else ", and a --clip above 0")
    if metrics["test_perplexity"] == math.inf:
        text += "; the perplexity is too large for a number"
    return text


def describe_unread(length: int, streams: Any) -> str:
    """How many of ``length`` characters no step reads, in words; empty where they are less than a hundredth."""
    unread = length - 1 - streams.batch_size * streams.steps  # the last character is a target alone
    if unread < LEAST_SHARE * length:
        return ""
    return (
        f"Not read in training: the last {counted(unread, 'character')}, as the streams are of equal length; "
        "a smaller --batch-size reads more."
    )


class EpochSample(Callback):
    """Lets the model write a little after each epoch: a function of the weights, the seed and the epoch alone."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary, self.seed = vocabulary, seed

    def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        model = trainer.model
        assert isinstance(model, CharRNN)
        generator = Generator().set_state({"seed": self.seed, "stream": SAMPLE_STREAM, "calls": trainer.epoch})
        prompt = self.vocabulary.encode(default_prompt(self.vocabulary))
        text = self.vocabulary.decode(model.sample(SAMPLE_LENGTH, prompt, SAMPLE_TEMPERATURE, generator))
        for line in printable(text).strip("\n").split("\n"):
            for part in _folded(line):
                say(f"    {part}".rstrip())


def _folded(line: str) -> list[str]:
    """A line in parts that a terminal shows in a line each, cut between words where there are any."""
    wide = any(unicodedata.east_asian_width(character) in "WF" for character in line)  # two columns each
    width = SAMPLE_WIDTH // 2 if wide else SAMPLE_WIDTH
    return textwrap.wrap(line, width, expand_tabs=False, replace_whitespace=False, break_on_hyphens=False) or [""]


def default_prompt(vocabulary: Vocabulary) -> str:
    """What a text begins after where nothing is said: the end of a line, if there is one."""
    return "\n" if "\n" in vocabulary else ""


def _text_setting(text: str) -> str:
    """A file by its full path: the run may be resumed from another folder."""
    return text if text == NOVEL else os.path.abspath(text)
