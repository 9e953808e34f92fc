"""The compatibility table: every public name that PyTorch has too, its arguments, and where it differs.

While the parity tests run, ``Recorder`` notes which public names they call, straight from the tests: what gpunet calls
by itself does not count. ``compatibility_page`` writes the table from that, PyTorch's signatures and the stated
differences; a public name that no parity test calls fails the suite, and so does one without a row.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import gpunet
from gpunet import _missing
from gpunet.testing.differences import DIFFERENCES

__all__ = [
    "NOT_COMPARED",
    "NO_BAD_INPUT",
    "Recorder",
    "compatibility_page",
    "counterpart",
    "own_names",
    "public_names",
    "rows_of",
]

PACKAGE: Final = str(Path(gpunet.__file__).parent)

# Arguments that PyTorch's functions have and gpunet's do not, whatever the function.
NOWHERE: Final = frozenset({"out", "layout", "memory_format", "pin_memory", "names", "non_blocking", "async_op"})

# Names PyTorch has too which cannot be held to it call by call: why, and what holds them instead.
NOT_COMPARED: Final[dict[str, str]] = {
    "gpunet.manual_seed": "another generator, so other numbers: tests/backend/test_random.py",
    "gpunet.seed": "another generator, so other numbers",
    "gpunet.initial_seed": "tests/backend/test_random.py",
    "gpunet.get_rng_state": "a state of one's own: tests/backend/test_random.py",
    "gpunet.set_rng_state": "a state of one's own: tests/backend/test_random.py",
    "gpunet.save": "a safetensors file, never pickle: tests/interop/test_safetensors_io.py",
    "gpunet.load": "safetensors or .pth, of which nothing is run: tests/interop/test_pth.py",
    "gpunet.set_num_threads": "tests/backend/test_threads.py",
    "gpunet.autograd.gradcheck": "other defaults: tests/autograd/test_gradcheck.py",
    "gpunet.optim.Optimizer": "a base class: tests/optim derive from it",
    "gpunet.distributions.Distribution": "a base class: the others derive from it",
    "gpunet.utils.data.Dataset": "a base class without code",
    "gpunet.utils.data.IterableDataset": "a base class without code",
    "gpunet.utils.data.Sampler": "a base class without code",
    "gpunet.dtype": "NumPy's class of dtypes",
    "gpunet.Size": "made by shape and size, which are compared",
    "gpunet.Tensor.cuda": "needs a GPU",
    "gpunet.Tensor.grad_fn": "a node of one's own",
    "gpunet.get_num_threads": "tests/backend/test_threads.py",
    "gpunet.OutOfMemoryError": "needs a GPU: tests/cuda/test_memory.py",
    **{
        f"gpunet.cuda.{name}": "needs a GPU; its signature is compared: tests/cuda/test_cuda.py"
        for name in gpunet.cuda.__all__
        if name != "DeviceProperties"
    },
}

# Names that no input is bad for.
NO_BAD_INPUT: Final[dict[str, str]] = {
    "gpunet.nn.Identity": "takes everything",
    "gpunet.nn.LazyModuleMixin": "a base class",
    "gpunet.nn.MixtureParameters": "made by MDN",
    "gpunet.nn.UninitializedBuffer": "as UninitializedParameter",
    "gpunet.utils.data.Dataset": "a base class",
    "gpunet.utils.data.IterableDataset": "a base class",
    "gpunet.utils.data.Sampler": "a base class",
    "gpunet.utils.data.SequentialSampler": "takes whatever has a length",
    "gpunet.utils.data.WorkerInfo": "made by the loader",
    "gpunet.utils.data.get_worker_info": "takes nothing",
    "gpunet.utils.data.list_datasets": "takes nothing",
    "gpunet.utils.data.default_convert": "gives back what it cannot convert",
    "gpunet.utils.data.TextInfo": "plain data; what from_dict refuses: tests/errors/test_text.py",
    "gpunet.utils.data.TextSplits": "made by load_text and make_text_splits",
    "gpunet.utils.data.load_novel": "takes nothing",
    **{
        f"gpunet.utils.data.{name}": "tests/data and tests/cli, which have files at hand"
        for name in (
            "DatasetInfo", "Digits", "ImageDataset", "ImageSplits", "get_dataset", "load_digits", "load_digits_split",
            "load_images", "load_npz", "prepare_image", "read_image", "read_text", "register_dataset",
            "stratified_split",
        )
    },
}  # fmt: skip


def _members(prefix: str, owner: Any, names: Iterator[str] | list[str]) -> Iterator[tuple[str, Any]]:
    for name in sorted(names):
        value = inspect.getattr_static(owner, name) if isinstance(owner, type) else getattr(owner, name)
        if isinstance(value, types.ModuleType) or name.startswith("_"):
            continue
        if isinstance(value, (property, staticmethod, classmethod)) or callable(value):
            yield f"{prefix}.{name}", value


def _listed(module: Any) -> list[str]:
    return list(getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]))


def public_names() -> dict[str, Any]:
    """Every public function, class and Tensor member, by its full name."""
    found: dict[str, Any] = {}
    spaces = (
        "gpunet",
        "gpunet.linalg",
        "gpunet.autograd",
        "gpunet.nn",
        "gpunet.nn.functional",
        "gpunet.nn.init",
        "gpunet.nn.utils",
        "gpunet.nn.utils.parametrizations",
        "gpunet.nn.utils.rnn",
        "gpunet.optim",
        "gpunet.optim.lr_scheduler",
        "gpunet.optim.swa_utils",
        "gpunet.utils.data",
        "gpunet.accelerator",
        "gpunet.cuda",
        "gpunet.distributions",
    )
    for space in spaces:
        module: Any = gpunet
        for part in space.split(".")[1:]:
            module = getattr(module, part, None)
        if module is not None:
            found.update(_members(space, module, _listed(module)))
    tensor = {name for kind in gpunet.Tensor.__mro__ for name in vars(kind) if kind is not object}
    found.update(_members("gpunet.Tensor", gpunet.Tensor, sorted(tensor)))
    for name in [name for name in found if name.startswith("gpunet.autograd.")]:
        if "gpunet." + name.rpartition(".")[2] in found or name.rpartition(".")[2] == "Tensor":
            del found[name]  # listed at the top
    return found


def counterpart(name: str) -> Any:
    """PyTorch's object of the same name, or None."""
    import torch

    value: Any = torch
    for part in name.split(".")[1:]:
        value = getattr(value, part, None)
        if value is None:
            return None
    return value


def own_names() -> list[str]:
    """Public names that PyTorch does not have."""
    return [name for name in public_names() if counterpart(name) is None]


class Recorder:
    """Notes which public names are called from outside the package while it is active.

    Attributes:
        calls: for each name, the tests that called it.
    """

    def __init__(self) -> None:
        self.calls: dict[str, set[str]] = {}
        self.test = ""
        self._codes: dict[types.CodeType, list[tuple[str, Any]]] = {}
        for name, value in public_names().items():
            for code in _codes(value):
                self._codes.setdefault(code, []).append((name, value))

    def __enter__(self) -> Recorder:
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _event(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        candidates = self._codes.get(frame.f_code)
        if candidates is None:
            return
        caller = frame.f_back
        if caller is None or caller.f_code.co_filename.startswith(PACKAGE):
            return
        for name in _chosen(candidates, frame):
            self.calls.setdefault(name, set()).add(self.test)


def _codes(value: Any) -> Iterator[types.CodeType]:
    """The code that runs when a public name is used."""
    if isinstance(value, property):
        for function in (value.fget, value.fset):
            yield from _codes(function)
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _codes(value.__func__)
    elif isinstance(value, type):
        for method in ("__init__", "__new__", "__enter__"):
            yield from _codes(getattr(value, method, None))
    elif hasattr(value, "__code__"):
        yield value.__code__
    elif callable(getattr(value, "__wrapped__", None)):
        yield from _codes(value.__wrapped__)


def _chosen(candidates: list[tuple[str, Any]], frame: types.FrameType) -> Iterator[str]:
    """Of the names that share a piece of code, the one that this call is of."""
    classes = [(name, value) for name, value in candidates if isinstance(value, type)]
    instance = frame.f_locals.get("self", frame.f_locals.get("cls"))
    made = instance if isinstance(instance, type) else type(instance)
    # A class that a test derives stands for the one it is derived from.
    while not made.__module__.startswith("gpunet") and made is not object:
        made = made.__mro__[1]
    yield from (name for name, value in classes if value is made)
    others = [name for name, value in candidates if not isinstance(value, type)]
    generated = frame.f_locals.get("name") if len(others) > 1 else None
    if isinstance(generated, str):  # functions made from one template know their name
        others = [name for name in others if name.rpartition(".")[2] == generated] or others
    yield from others


def _parameters(value: Any) -> list[str] | None:
    """Names of the parameters, without self and input, or None if they cannot be known."""
    if isinstance(value, property):
        return []
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    names: list[str] | None = None
    try:
        signature = inspect.signature(value)
        names = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        # What is written in C tells in the first line of its docstring.
        documented = re.search(r"\w+\(([^)]*)\)\s*->", getattr(value, "__doc__", None) or "")
        if documented is not None:
            parts = [part.split("=")[0].split(":")[0].strip(" *[") for part in documented[1].split(",")]
            names = [part.rpartition(" ")[2] for part in parts if part.strip(" *[")]
    if names is None:
        return None
    return [name.strip("]\\*") for name in names if name not in ("self", "cls", "args", "kwargs", "/", "")]


def rows_of(calls: dict[str, set[str]]) -> list[tuple[str, str, str, str]]:
    """The table: name, arguments, PyTorch's arguments that are not had, what differs.

    Args:
        calls: what a ``Recorder`` noted of the whole parity suite.
    """
    differences = {label: entry.what for entry in DIFFERENCES for label in entry.cases}
    rows = []
    for name, value in public_names().items():
        theirs = counterpart(name)
        if theirs is None:
            continue
        ours = _parameters(value) or []
        method = getattr(gpunet.Tensor, name.rpartition(".")[2], None)
        if ours == ["input"] and method is not None and name.count(".") == 1:  # calls the method with what it is given
            ours = ["input", *(_parameters(method) or [])]
        wanted = _parameters(theirs) or []
        lacking = [argument for argument in wanted if argument not in ours and argument not in NOWHERE]
        if not ours and len(lacking) == len(wanted):  # taken as they come
            lacking = []
        tests = calls.get(name, set())
        labels = {match[1] for test in tests for match in [re.search(r"\[(.*)\]$", test)] if match is not None}
        differs = sorted({differences[label] for label in labels if label in differences})
        note = "; ".join(differs if len(differs) <= 3 else [])
        if name in NOT_COMPARED:
            note = f"not compared: {NOT_COMPARED[name]}"
        rows.append((name, ", ".join(ours), ", ".join(lacking), note))
    return rows


def missing_names() -> dict[str, str]:
    """Names of PyTorch that gpunet does not have, and what to do instead."""
    return {f"torch.{name}": text for name, text in _missing.INSTEAD.items()}


def compatibility_page(calls: dict[str, set[str]], write_own: Callable[[], list[str]] = own_names) -> str:
    """The table as the page ``docs/compatibility.md``."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ") or "–"

    lines = [
        "# What gpunet has of PyTorch",
        "",
        "Every name below is called by the parity tests, which compare values, gradients, dtypes, shapes and errors",
        "with PyTorch 2.13. This page is written by `pytest -m parity --write-compatibility`. No function takes",
        f"{', '.join(f'`{name}`' for name in sorted(NOWHERE))}, unless its row says so.",
        "What differs on purpose, and why, is in [differences.md](differences.md).",
        "",
    ]
    rows = rows_of(calls)
    spaces = dict.fromkeys(row[0].rpartition(".")[0] for row in rows)
    for space in spaces:
        lines += [f"## {space}", "", "| name | arguments | not had | differs |", "|---|---|---|---|"]
        for name, ours, lacking, note in rows:
            if name.rpartition(".")[0] == space:
                lines.append(f"| `{name.rpartition('.')[2]}` | {cell(ours)} | {cell(lacking)} | {cell(note)} |")
        lines.append("")
    lines += ["## gpunet's own", "", "Names that PyTorch does not have:", ""]
    lines += [", ".join(f"`{name.removeprefix('gpunet.')}`" for name in write_own()) + ".", ""]
    if missing_names():
        lines += ["## Not had", "", "| PyTorch | instead |", "|---|---|"]
        lines += [f"| `{name}` | {cell(text)} |" for name, text in sorted(missing_names().items())] + [""]
    return "\n".join(lines)
