"""Trained weights from a file into a model, with a precise report of what does not fit.

torchvision's and timm's checkpoints load by name: what their files wrap the weights in is taken off, and the spellings
that differ (old DenseNet files, the convolutional head of timm's VGG) are translated. gpunet downloads nothing.
"""

from __future__ import annotations

import enum
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet.backend.errors import CheckpointError
from gpunet.interop._source import PathOrFile, open_source
from gpunet.interop.safetensors_io import read_nested
from gpunet.models._published import FOLDER, published
from gpunet.nn import Module

__all__ = ["WeightsReport", "check_weights_argument", "load_weights", "put_weights", "read_weights"]

SHOWN = 10  # differences that a report names

# Where training scripts keep the weights beside other things, and what wraps a model's own names.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
# Before 2018 torchvision's DenseNet spelled norm.1, conv.1, norm.2 and conv.2.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
# timm's VGG has its dense layers as convolutions, and the scores' under a name of its own.
_TIMM_VGG_HEAD = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")
_GOOGLENET_HEADS = ("aux1.", "aux2.")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightsReport:
    """What of a file went into a model, and what did not fit.

    Args:
        model: the model's name.
        path: the file's.
        loaded: number of tensors that were written.
        missing: name and shape of what the model has and the file lacks.
        unexpected: name and shape of what the file has and the model lacks.
        mismatched: name, the model's shape and the file's.
        notes: what was translated or left out on purpose, one sentence each.
    """

    model: str
    path: str
    loaded: int
    missing: tuple[tuple[str, Shape], ...]
    unexpected: tuple[tuple[str, Shape | str], ...]
    mismatched: tuple[tuple[str, Shape, Shape | str], ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the file has each of the model's tensors, in its shape, and no other."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        if self.fits:
            return "; ".join([f"{self.path}: {self.loaded} tensors went into {self.model}", *self.notes])
        counts = [
            f"{len(found)} {what}"
            for found, what in (
                (self.missing, "missing"),
                (self.unexpected, "unexpected"),
                (self.mismatched, "of another shape"),
            )
            if found
        ]
        outcome = f"{self.loaded} tensors were loaded" if self.loaded else "nothing was loaded"
        lines = [f"{self.path}: these weights do not fit {self.model} ({', '.join(counts)}); {outcome}"]
        lines += [f"  {hint}" for hint in self._hints()]
        differences = list(self._differences())
        lines += [f"  {difference}" for difference in differences[:SHOWN]]
        if len(differences) > SHOWN:
            lines.append(f"  and {len(differences) - SHOWN} more")
        return "\n".join(lines)

    def _differences(self) -> Iterator[str]:
        """One line each, of all kinds in turn, so that the first ones show every kind."""
        kinds = (
            [f"shape:      {key}, the model has {ours}, the file {theirs}" for key, ours, theirs in self.mismatched],
            [f"missing:    {key} {shape}" for key, shape in self.missing],
            [f"unexpected: {_shown(key)} {shape}" for key, shape in self.unexpected],
        )
        for lines in itertools.zip_longest(*kinds):
            yield from (line for line in lines if line is not None)

    def _hints(self) -> Iterator[str]:
        classes = {
            (ours[:1], theirs[:1])
            for _, ours, theirs in self.mismatched
            if isinstance(theirs, tuple) and len(ours) == len(theirs) and ours[1:] == theirs[1:]
        }
        if self.mismatched and not self.missing and not self.unexpected and len(classes) == 1:
            ((ours,), (theirs,)) = classes.pop()
            yield f"the file is for {theirs} classes and the model has {ours}: make it with num_classes={theirs}"
        yield from _renaming_hints([key for key, _ in self.missing], [key for key, _ in self.unexpected])
        heads = {key[: len("aux1.")] for key, _ in self.missing} & set(_GOOGLENET_HEADS)
        if heads and all(key.startswith(_GOOGLENET_HEADS) for key, _ in self.missing):
            yield "the file has no auxiliary heads: make the model with aux_logits=False"


def _renaming_hints(missing: list[str], unexpected: list[str]) -> Iterator[str]:
    """What turns the file's names into the model's, where all of them differ in one way."""
    for halves, other, function in ((unexpected, missing, "grouped_state"), (missing, unexpected, "towers_state")):
        wholes = {key.partition(".")[2] for key in halves if key.startswith(("tower0.", "tower1."))}
        if wholes and wholes == set(other):
            kind = "two towers, the model has one" if halves is unexpected else "one tower, the model has two"
            yield f"the file is for {kind}: gn.models.{function}(state) turns the file's state dict into this model's"
            return
    prefix = _common_prefix(unexpected, missing)
    if prefix:
        yield (
            f"names in the file begin with {prefix!a}, the model's do not: take it off the file's state dict, "
            f"{{key.removeprefix({prefix!a}): value for key, value in state.items()}}"
        )
    prefix = _common_prefix(missing, unexpected)
    if prefix:
        yield f"the model's names begin with {prefix!a}, the file's do not: load them into that part of the model"


def _common_prefix(longer: list[str], shorter: list[str]) -> str:
    """What stands before most of the shorter names in all of the longer ones, up to a dot; "" if nothing does."""
    wanted = set(shorter)
    first = longer[0] if longer else ""
    prefix, rest = "", first
    for _ in range(min(first.count("."), 8)):
        part, _, rest = rest.partition(".")
        prefix += part + "."
        if len(prefix) > 100 or not all(key.startswith(prefix) for key in longer):
            break
        if 2 * len(wanted.intersection(key[len(prefix) :] for key in longer)) > len(wanted):
            return prefix
    return ""


def _shown(key: str) -> str:
    """A name from a file, which can be anything, as part of a line."""
    short = key if len(key) <= 100 else key[:100] + "..."
    return short if short.isprintable() else ascii(short)


def load_weights(model: Module, path: PathOrFile, strict: bool = True) -> WeightsReport:
    """Read a ``.safetensors`` or ``.pth`` file of weights into a model, in place.

    Names are gpunet's, which are torchvision's for torchvision's networks. What checkpoints add is taken off: a dict
    such as ``{"state_dict": ...}`` or ``{"model": ...}`` around the weights, and ``"module."`` before every name.
    Old spellings of DenseNet's names and the convolutional head of timm's VGG are translated, and auxiliary heads of
    GoogLeNet are left out where the model has none. Values are cast to the model's dtypes.

    Args:
        model: what to load into.
        path: the file, or one that is open for reading in binary.
        strict: raise, and load nothing, unless the file has each of the model's tensors and no other. False loads
            what fits by name and shape, for a network that got a new last layer.

    Returns:
        What was loaded and what was not; ``str()`` of it is the text of the error.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged or holds no weights, or (strict) they are not this model's: the first ten
            differences are named and the others counted.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a Module, got {type(model).__name__}")
    return put_weights(model, *read_weights(path), strict=strict, name=type(model).__name__)


def read_weights(path: PathOrFile) -> tuple[str, dict[str, Any]]:
    """The file's name and its arrays by name; they view the file and are to be copied soon.

    Raises:
        CheckpointError: the file is damaged, or holds no weights.
    """
    with open_source(path, "read") as source:
        content = read_nested(source, lambda array: array)
        state = _unwrapped(content)
        if state is None or not any(map(_is_weight, state.values())):
            inner = list(itertools.islice(_inner_dicts(content, set()), SHOWN))
            if state is None or inner:
                raise CheckpointError(f"{source.name}: {_no_weights(inner)}")
        for prefix in _PREFIXES * 2:  # either may stand before the other
            if all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
        return source.name, state


def _unwrapped(value: Any, depth: int = 3) -> dict[str, Any] | None:
    """The dict of arrays in what a training script saved."""
    if not isinstance(value, Mapping) or not depth:
        return None
    for wrapper in _WRAPPERS:
        inner = _unwrapped(value.get(wrapper), depth - 1)
        if inner is not None:
            return inner
    if not any(isinstance(item, np.ndarray) for item in value.values()):
        return None
    return {str(key): item for key, item in value.items()}


def _is_weight(value: Any) -> bool:
    """Whether it may be a layer's; single numbers, such as a loss or a step, stand beside the weights."""
    return isinstance(value, np.ndarray) and value.size > 1


def _inner_dicts(value: Any, seen: set[int], place: str = "", depth: int = 3) -> Iterator[str]:
    """Where dicts from names to tensors are in what a script saved, as one indexes it: ``["ema"]["net"]``."""
    if not isinstance(value, Mapping) or id(value) in seen:  # each once: a file may hold one in a million places
        return
    seen.add(id(value))
    if place and any(map(_is_weight, value.values())):
        yield place
    elif depth:
        for key, item in value.items():
            if isinstance(key, str) and len(key) <= 100:  # a longer one is no name that somebody gave
                yield from _inner_dicts(item, seen, f"{place}[{key!a}]", depth - 1)


def _no_weights(inner: list[str]) -> str:
    """What is wrong with a file whose weights are nowhere, or under a name that gpunet does not know."""
    if not inner:
        return "holds no weights: no dict from names to tensors"
    places = ", ".join(place[1:-1] if place.count("[") == 1 else place for place in inner)
    return (
        f"holds no weights: no dict from names to tensors where one is looked for; there is one under {places}: "
        f"model.load_state_dict(gn.load(path){inner[0]})"
    )


def put_weights(model: Module, path: str, state: dict[str, Any], *, strict: bool, name: str) -> WeightsReport:
    """Copy what ``read_weights`` gave into a model; see ``load_weights``."""
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    state, notes = _translated(model, state, shapes)
    fitting = {key: value for key, value in state.items() if key in shapes and _shape(value) == shapes[key]}
    # PyTorch counts batches since 0.4.1; the files of before lack the count, and only a momentum of None needs it.
    missing = [key for key in shapes if key not in state and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in state if key not in shapes]
    mismatched = [key for key in shapes if key in state and key not in fitting]
    fits = not (missing or unexpected or mismatched)
    report = WeightsReport(
        model=name,
        path=path,
        loaded=len(fitting) if fits or not strict else 0,
        missing=tuple((key, shapes[key]) for key in missing),
        unexpected=tuple((key, _shape(state[key])) for key in unexpected),
        mismatched=tuple((key, shapes[key], _shape(state[key])) for key in mismatched),
        notes=tuple(notes),
    )
    if strict and not fits:
        raise CheckpointError(str(report))
    try:
        model.load_state_dict(fitting, strict=False)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return report


def _shape(value: Any) -> Shape | str:
    return tuple(value.shape) if isinstance(value, np.ndarray) else f"is a {type(value).__name__}"


def _translated(model: Module, state: dict[str, Any], shapes: dict[str, Shape]) -> tuple[dict[str, Any], list[str]]:
    """The state in the model's own spelling, and what was done to it."""
    notes: list[str] = []
    found: dict[str, Any] = {}
    dense = [key.removesuffix(".weight") for key in shapes if re.fullmatch(r"classifier\.\d+\.weight", key)]
    head = dict(zip(_TIMM_VGG_HEAD, dense, strict=True)) if len(dense) == len(_TIMM_VGG_HEAD) else {}
    for key, value in state.items():
        target = key
        if key not in shapes:
            old = _OLD_DENSENET.match(key)
            layer, _, kind = key.rpartition(".")
            if old and old.group(1) + old.group(2) in shapes:
                target = old.group(1) + old.group(2)
                _note(notes, "names of DenseNet's layers are in their old spelling")
            elif layer in head:
                target = f"{head[layer]}.{kind}"
                value = _flattened(value, shapes.get(target))
                _note(notes, "the dense layers are timm's convolutions")
            elif key.startswith(_GOOGLENET_HEADS) and not any(k.startswith(_GOOGLENET_HEADS) for k in shapes):
                _note(notes, "the auxiliary heads are left out")
                continue
        found[target] = value
    # Only the networks that torchvision calls GoogLeNet have the switch.
    if getattr(model, "transform_input", None) is False and any(key.startswith(_GOOGLENET_HEADS) for key in state):
        _note(notes, TRANSFORM_NOTE)
    return found, notes


TRANSFORM_NOTE = (
    "torchvision's GoogLeNet weights expect images from -1 to 1: pass transform_input=True, as torchvision does, if "
    "yours are normalised as for its other networks, and transform_input=False if not"
)


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)


def _flattened(value: Any, shape: Shape | None) -> Any:
    """A convolution over the whole map as the dense layer that it is."""
    if shape is None or not isinstance(value, np.ndarray) or value.ndim != 4 or len(shape) != 2:
        return value
    return value.reshape(value.shape[0], -1) if value.size else value


# The argument of the factories -------------------------------------------------------------------------------------


def check_weights_argument(model: str, weights: Any) -> PathOrFile:
    """The path that ``weights=`` gives.

    Raises:
        ValueError: it is the name of weights to download; the message says which file to fetch.
        TypeError: it is neither.
    """
    name = weights.name if isinstance(weights, enum.Enum) else weights
    if name is True:
        name = "DEFAULT"
    if isinstance(name, str):
        short = name.rpartition(".")[2]  # "ResNet18_Weights.DEFAULT" too
        if short == "DEFAULT" or (re.fullmatch(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+", short) and not os.path.exists(name)):
            raise ValueError(_to_fetch(model, short))
    if not isinstance(weights, (str, os.PathLike)) and not hasattr(weights, "read"):
        raise TypeError(f"{model}: weights must be a path of a .safetensors or .pth file, got {type(weights).__name__}")
    return weights


def _to_fetch(model: str, name: str) -> str:
    rows = published(model)
    start = f"{model}: weights: gpunet downloads nothing, and takes the path of a file"
    if not rows:
        return f"{start}; torchvision publishes none for {model}"
    chosen = next((row for row in rows if row.weights == name), None)
    if chosen is None and name != "DEFAULT":
        return f"{start}; torchvision's for {model} are {', '.join(row.weights for row in rows)}, not {name}"
    chosen = chosen or rows[-1]
    return f"{start}; fetch {FOLDER}{chosen.file} (torchvision's {chosen.weights}) and pass weights={chosen.file!r}"
