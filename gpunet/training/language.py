"""From a few settings to a trainer of a language model: what ``gpunet train --text`` trains.

The network reads the text as parallel streams (``gpunet.data.TextStreams``) by truncated backpropagation through time:
its state goes on from window to window, its gradient ends with the window. What is measured is the cross-entropy of the
next character; in bits per character (divided by log 2) it is how far the text could be compressed with the model, and
as perplexity (its exponential) how many equally likely characters the model would be as uncertain about.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from os import PathLike
from typing import Any

import numpy as np

import gpunet.nn.functional as F
from gpunet._version import __version__
from gpunet.autograd import Tensor
from gpunet.backend.devices import Device
from gpunet.backend.random import manual_seed
from gpunet.backend.threads import get_num_threads
from gpunet.data.text import NOVEL, TextInfo, TextSplits, TextStreams, Vocabulary
from gpunet.models import CharRNN, get_model, list_models
from gpunet.optim import AdamW
from gpunet.optim.lr_scheduler import LambdaLR
from gpunet.training.bptt import tbptt
from gpunet.training.checkpoint import load_trained_weights, require_checkpoint
from gpunet.training.run import LANGUAGE, RunFolder, RunFolderError
from gpunet.training.trainer import Trainer

__all__ = [
    "LanguageConfig",
    "LanguageTrainer",
    "bits_per_character",
    "character_loss",
    "describe_language_run",
    "load_language_model",
    "prepare_language",
    "read_language_settings",
]

# The held-out part is read as this many streams, or as one for each so many characters where there are fewer: what
# follows a stream's beginning is told from too little.
TEST_STREAMS, TEST_STREAM_LENGTH = 16, 1000
TEST_WINDOW = 128
# In natural units; e to it is 1e304.
LARGEST_LOSS = 700.0
# The shorter window at the end of an epoch is a step of its own where it holds at least this share of the text.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class LanguageConfig:
    """All that a run of a language model depends on, as ``config.json`` holds it.

    Attributes:
        model: a name of ``gpunet.models.list_models("sequence")``.
        text: the name of the bundled text, or a UTF-8 file.
        held_out: the share of the text, from its end, that is measured on.
        cell: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        hidden_size: units of each layer.
        num_layers: layers above each other.
        embedding_dim: size of a character's learned vector; 0 is one-hot.
        dropout: between the layers and before the scores.
        seed: of the weights and dropout, and of the samples.
        device: as given: ``"auto"`` is decided anew where the run goes on.
        epochs: passes over the text.
        batch_size: streams that are read in parallel.
        window: characters after which the gradient is cut and the weights change.
        learning_rate: of Adam, the first.
        final_rate: share of it that is left at the end, reached along half a cosine (Loshchilov and Hutter 2017).
        weight_decay: how much of the weights, times the learning rate, goes at each step (Loshchilov and Hutter 2019).
        clip_norm: norm to which larger gradients are scaled (Pascanu et al. 2013); 0 leaves them.

    Raises:
        ValueError: a setting out of its range.
    """

    model: str = "char_rnn"
    text: str = NOVEL
    held_out: float = 0.1
    cell: str = "lstm"
    hidden_size: int = 256
    num_layers: int = 2
    embedding_dim: int = 64
    dropout: float = 0.2
    seed: int = 0
    device: str = "auto"
    epochs: int = 10
    batch_size: int = 32
    window: int = 64
    learning_rate: float = 3e-3
    final_rate: float = 0.05
    weight_decay: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: must be above 0 and finite, got {self.learning_rate}")
        if not 0.0 < self.held_out < 1.0:
            raise ValueError(f"held_out: must be a share above 0 and below 1, got {self.held_out}")
        if not 0.0 <= self.final_rate <= 1.0:
            raise ValueError(f"final_rate: must lie in 0..1, got {self.final_rate}")
        for name in ("weight_decay", "clip_norm"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must not be negative, got {getattr(self, name)}")

    def replace(self, **changes: Any) -> LanguageConfig:
        """The same settings with some changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the settings") -> LanguageConfig:
        """The settings that ``to_dict`` made plain. Other keys are left aside.

        Args:
            where: named in errors, the file the values came from.

        Raises:
            RunFolderError: a setting is missing, of the wrong type or out of its range.
        """
        defaults, found = cls(), {}
        for entry in fields(cls):
            if entry.name not in values:
                raise RunFolderError(f"{where} has no {entry.name!r}")
            value, wanted = values[entry.name], type(getattr(defaults, entry.name))
            if wanted is float and type(value) is int:
                value = float(value)
            if type(value) is not wanted:
                raise RunFolderError(f"{where}: {entry.name!r} must be of type {wanted.__name__}, got {value!r}")
            found[entry.name] = value
        try:
            return cls(**found)
        except ValueError as error:
            raise RunFolderError(f"{where}: {error}") from error


def bits_per_character(loss: float) -> float:
    """A cross-entropy in natural units, per character, in bits."""
    return loss / math.log(2.0)


def character_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the next characters, in natural units: logits (..., V), targets (...)."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


class LanguageTrainer(Trainer):
    """Trains a model of sequences by truncated backpropagation through time, its state going on from batch to batch.

    The batches are (inputs, targets), int64 (B, T), each going on where the one before ended. At the end of a batch the
    gradient is cut and the weights change; an epoch begins with the model's own initial state. The history also has
    ``train_bits_per_character``, ``test_bits_per_character`` and ``test_perplexity``; its accuracies are how often the
    likeliest character was the next one.

    Args:
        model: ``model(x, state) -> (logits, state)``, with (B, T, V) logits.
        args, kwargs: as ``Trainer``.

    Attributes:
        reading: the model's state after the last step, from which the next goes on.
    """

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        self._bptt = tbptt(model, self.loss_function, batch_first=True)  # a batch is one block
        self.reading: Any = None

    def _train_epoch(self) -> None:
        if self.step_in_epoch == 0:
            self.reading = None
        super()._train_epoch()

    def train_step(self, inputs: Tensor, labels: Tensor) -> None:
        inputs, labels = self._to_device(inputs, labels)
        for block in self._bptt(inputs, labels, self.reading):
            self._update(block.loss, *_rows(block.output, block.target))
        self.reading = self._bptt.state

    def _reader(self) -> Callable[[Tensor, Tensor], tuple[Any, Tensor]]:
        state: Any = None

        def read(inputs: Tensor, labels: Tensor) -> tuple[Any, Tensor]:
            nonlocal state
            logits, state = self.model(inputs, state)
            return _rows(logits, labels)

        return read

    def train_metrics(self) -> dict[str, float]:
        metrics = super().train_metrics()
        return metrics | {"train_bits_per_character": bits_per_character(metrics["train_loss"])}

    def _evaluate(self, loader: Any, stoppable: bool) -> dict[str, float] | None:
        metrics = super()._evaluate(loader, stoppable)
        if metrics is None:
            return None
        loss = metrics["loss"]
        # A loss from there on is no language model's, and e to it no number. NaN stays NaN.
        perplexity = math.inf if loss >= LARGEST_LOSS else math.exp(loss)
        return metrics | {"bits_per_character": bits_per_character(loss), "perplexity": perplexity}

    def state_dict(self) -> dict[str, Any]:
        parts = self.reading if isinstance(self.reading, tuple) else (self.reading,)
        return super().state_dict() | {"reading": None if self.reading is None else list(parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        parts = state["reading"]
        if parts is not None:
            parts = tuple(part if self.device is None else part.to(self.device) for part in parts)
        self.reading = parts if parts is None or len(parts) > 1 else parts[0]


def _rows(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """All steps of all streams as one batch: (B T, V) and (B T,)."""
    return logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)


def build_language_model(config: LanguageConfig, vocab_size: int) -> CharRNN:
    """A new model for so many characters.

    Raises:
        ValueError: no model of sequences has that name, or it does not take these settings.
    """
    if config.model not in list_models("sequence"):
        raise ValueError(f"model: {config.model!r} is no model of texts; there is {', '.join(list_models('sequence'))}")
    model = get_model(
        config.model,
        vocab_size=vocab_size,
        cell=config.cell,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        embedding_dim=config.embedding_dim,
        dropout=config.dropout,
    )
    assert isinstance(model, CharRNN)
    return model


def prepare_language(config: LanguageConfig, splits: TextSplits, device: Device) -> LanguageTrainer:
    """The trainer of a run, at its beginning: model, optimizer, schedule and streams, all from the seed.

    Args:
        config: the settings.
        splits: the text.
        device: where to train.

    Raises:
        ValueError: the text is shorter than one window of each stream, or the model does not take the settings.
    """
    streams = training_streams(splits.train, config.batch_size, config.window)
    manual_seed(config.seed)
    model = build_language_model(config, len(splits.vocabulary)).to(device)
    optimizer = AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * len(streams)

    def factor(step: int) -> float:
        return config.final_rate + (1.0 - config.final_rate) * 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))

    return LanguageTrainer(
        model,
        optimizer,
        character_loss,
        streams,
        held_out_streams(splits.test),
        scheduler=LambdaLR(optimizer, factor),
        device=device,
        clip_norm=config.clip_norm or None,
        # Not where the text lies and where the run goes on: both may change.
        settings={
            **{name: value for name, value in config.to_dict().items() if name not in ("text", "device")},
            "text": splits.info.sha256,
        },
    )


def training_streams(numbers: np.ndarray, batch_size: int, window: int) -> TextStreams:
    """The batches of an epoch: whole windows, and then a shorter one of what is left of each stream.

    Of a long text so little is left that it is not worth a step: less than a hundredth is left out.

    Args:
        numbers: int64 (n,), the text to learn from.
        batch_size: the number of streams, at least 1.
        window: characters of a window, at least 1.

    Raises:
        ValueError: the text is too short for one window of each stream.
    """
    steps = (len(numbers) - 1) // batch_size
    return TextStreams(numbers, batch_size, window, drop_last=steps % window < LEAST_SHARE * steps)


def held_out_streams(numbers: np.ndarray) -> TextStreams:
    """The batches by which a held-out text is measured: in a few long streams, all of it but their remainder."""
    count = max(1, min(TEST_STREAMS, (len(numbers) - 1) // TEST_STREAM_LENGTH))
    return TextStreams(numbers, count, min(TEST_WINDOW, (len(numbers) - 1) // count), drop_last=False)


def describe_language_run(config: LanguageConfig, splits: TextSplits, device: Device) -> dict[str, Any]:
    """What ``config.json`` holds: the settings, the text's description, and where the run began."""
    return {
        "gpunet": __version__,
        "task": LANGUAGE,
        **config.to_dict(),
        "dataset": splits.info.to_dict(),
        "characters": {"train": len(splits.train), "test": len(splits.test)},
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
            "device": str(device),
            "threads": get_num_threads(),
        },
    }


def read_language_settings(folder: RunFolder) -> tuple[LanguageConfig, TextInfo]:
    """The settings of a language model's run and the description of its text, from its ``config.json``.

    Raises:
        RunFolderError: the file cannot be read, or something in it is missing or wrong; or the run is a classifier's.
    """
    if folder.task != LANGUAGE:
        raise RunFolderError(
            f"the run {folder.path} is one of a classifier, not of a language model; gpunet predict {folder.path} "
            "classifies with it"
        )
    values = folder.read_config()
    where = str(folder.config_path)
    config = LanguageConfig.from_dict(values, where)
    try:
        info = TextInfo.from_dict(values.get("dataset", {}))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{where}: 'dataset': {error}") from error
    return config, info


def load_language_model(run: str | PathLike[str], device: Device | str = "cpu") -> tuple[CharRNN, Vocabulary]:
    """The trained model of a language model's run, in evaluation mode, and its characters.

    ::

        model, vocabulary = load_language_model("run")
        prompt = vocabulary.encode("It is a truth ")
        print(vocabulary.decode(model.sample(200, prompt, temperature=0.7)))

    Args:
        run: the folder that ``gpunet train`` made.
        device: where the model shall be.

    Raises:
        RunFolderError: ``run`` is not the folder of such a run, or it has no checkpoint yet.
        CheckpointError: the checkpoint is damaged or belongs to another model.
    """
    folder = RunFolder.open(run)
    config, info = read_language_settings(folder)
    require_checkpoint(folder)
    try:
        model = build_language_model(config, len(info.characters))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{folder.config_path}: {error}") from error
    load_trained_weights(folder, model, config.model)
    return model.to(device).eval(), info.vocabulary
