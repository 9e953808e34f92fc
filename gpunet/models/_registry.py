"""The names under which models are made, and what every one of them takes."""

from __future__ import annotations

import difflib
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, overload

from gpunet.models._weights import TRANSFORM_NOTE, check_weights_argument, put_weights, read_weights
from gpunet.nn import Module, init
from gpunet.nn.input_shape import default_image_size

__all__ = ["UnknownModelError", "get_model", "list_models", "register_model"]

Model = TypeVar("Model", bound=Module)

_FACTORIES: dict[str, Callable[..., Module]] = {}
# What the models take: images (N, C, H, W), or sequences of numbers (N, T).
KINDS = ("image", "sequence")
_KINDS: dict[str, str] = {}

_WEIGHTS_TEXT = """

    Beside the network's own arguments:

    Args:
        weights: path of a ``.safetensors`` or ``.pth`` file, such as torchvision's or timm's, whose weights the
            network gets instead of random ones; see ``gpunet.models.load_weights``. gpunet downloads nothing.
        progress: accepted for torchvision's sake; there is no download to show.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or its weights are not this network's; the message says what differs.
        ValueError: ``weights`` is one of torchvision's names; the message says which file to fetch.
"""


class UnknownModelError(ValueError):
    """A name that no model has; the message gives the closest ones."""


@overload
def register_model(factory: Callable[..., Model]) -> Callable[..., Model]: ...


@overload
def register_model(
    *, image_size: int = 224, kind: str = "image"
) -> Callable[[Callable[..., Model]], Callable[..., Model]]: ...


def register_model(factory: Callable[..., Model] | None = None, *, image_size: int = 224, kind: str = "image") -> Any:
    """Make a function reachable by its name, and let it take ``weights=PATH``; used as a decorator.

    Args:
        factory: makes the model.
        image_size: height and width of the images that the model is made for, which it has as its
            ``default_image_size``, unless its class sets that itself.
        kind: ``"image"``, or ``"sequence"`` for a model of sequences, which has no such size.

    Returns:
        The function with the keyword arguments ``weights`` and ``progress``. With weights nothing random is drawn.

    Raises:
        ValueError: the name is taken, or there is no such kind.
    """
    _check_kind(kind)
    if factory is None:
        return functools.partial(_registered, image_size=image_size, kind=kind)
    return _registered(factory, image_size, kind)


def _check_kind(kind: Any) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind: must be one of {', '.join(KINDS)}, got {kind!r}")


def _registered(factory: Callable[..., Model], image_size: int, kind: str) -> Callable[..., Model]:
    name = factory.__name__
    if name in _FACTORIES:
        raise ValueError(f"a model named {name!r} is registered already")

    def sized(model: Model) -> Model:
        if kind == "image" and default_image_size(model) is None:
            model.default_image_size = image_size
        return model

    @functools.wraps(factory)
    def make(*args: Any, weights: Any = None, progress: bool = True, **kwargs: Any) -> Model:
        pretrained = kwargs.pop("pretrained", False)  # torchvision's argument of before 0.13
        if weights is None and pretrained:
            weights = "DEFAULT"
        if weights is None or weights is False:
            return sized(factory(*args, **kwargs))
        path, state = read_weights(check_weights_argument(name, weights))
        with init.skip_draws():
            model = sized(factory(*args, **kwargs))
        report = put_weights(model, path, state, strict=True, name=name)
        if TRANSFORM_NOTE in report.notes and "transform_input" not in kwargs:
            warnings.warn(f"{name}: {TRANSFORM_NOTE}", stacklevel=2)
        return model

    make.__signature__ = _with_weights(inspect.signature(factory))  # type: ignore[attr-defined]
    make.__doc__ = inspect.cleandoc(factory.__doc__ or "") + inspect.cleandoc(_WEIGHTS_TEXT).join(("\n\n", "\n"))
    _FACTORIES[name], _KINDS[name] = make, kind
    return make


def _with_weights(signature: inspect.Signature) -> inspect.Signature:
    """A function's signature with the keyword arguments that every model has."""
    parameters = list(signature.parameters.values())
    last = [parameters.pop()] if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD else []
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters += [
        inspect.Parameter("weights", keyword, default=None, annotation="str | os.PathLike[str] | None"),
        inspect.Parameter("progress", keyword, default=True, annotation="bool"),
    ]
    return signature.replace(parameters=parameters + last)


def list_models(kind: str | None = None) -> list[str]:
    """All names, in alphabetical order.

    Args:
        kind: those of one kind alone: ``"image"``, models of images (N, C, H, W); or ``"sequence"``.

    Raises:
        ValueError: there is no such kind.
    """
    if kind is not None:
        _check_kind(kind)
    return sorted(name for name in _FACTORIES if kind in (None, _KINDS[name]))


def get_model(name: str, **kwargs: Any) -> Module:
    """Make a model.

    Args:
        name: one of ``list_models()``.
        kwargs: passed on to the model's function; ``weights=PATH`` and ``progress=`` go with every one.

    Raises:
        UnknownModelError: no model has that name.
    """
    factory = _FACTORIES.get(name) if isinstance(name, str) else None
    if factory is None:
        close = difflib.get_close_matches(str(name).lower(), list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(list_models())}"
        raise UnknownModelError(f"unknown model {name!r}; {hint}")
    return factory(**kwargs)
