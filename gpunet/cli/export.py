"""``gpunet export``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from gpunet import models
from gpunet.backend.errors import CheckpointError
from gpunet.cli.arguments import path_name, positive_integer
from gpunet.cli.console import EXIT_SUCCESS, RunError, UsageError, close_matches, say, say_json
from gpunet.cli.model_argument import INPUT_HELP, check_sizes, model_options, sizes
from gpunet.inspect.summary import run_on_meta
from gpunet.interop import ExportError, export_onnx, save_safetensors
from gpunet.interop.onnx_export.export import DEFAULT_OPSET
from gpunet.models import CharRNN
from gpunet.models.explicit_state import ExplicitState
from gpunet.nn import Module
from gpunet.training import (
    RunFolder,
    RunFolderError,
    load_language_model,
    load_model,
    read_language_settings,
    read_settings,
)
from gpunet.training.classification import model_input_size
from gpunet.training.run import LANGUAGE

DESCRIPTION = """\
Write a model for other programs: as an ONNX file, which holds what the model computes and its weights, for batches of
any size; or as a safetensors file, which holds its weights under the names of its state dict.
"""
EPILOG = """\
MODEL is a name that 'gpunet models' lists, or the folder of a run of 'gpunet train'; a folder of a model's name is
meant by ./NAME. Without --weights a model by name has random weights. The model of a run takes images normalised as
in training; the file's metadata say how. A character model's ONNX file takes one character at a time, or --input N of
them, and its state besides: h_0 (and c_0 of an LSTM), zeros at first, and afterwards the h_n (and c_n) it gave.
"""
SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors"}
MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.add_argument("model", type=path_name, metavar="MODEL", help="a model's name, or the folder of a run")
    parser.add_argument("--to", required=True, choices=tuple(SUFFIXES), help="what kind of file")
    parser.add_argument(
        "--out", type=path_name, metavar="FILE", help="the file to write (default: MODEL.onnx or the like)"
    )
    parser.add_argument("--weights", type=path_name, metavar="FILE", help="a .safetensors or .pth file; not for a run")
    parser.add_argument("--input", type=sizes, metavar="C,H,W", help=f"{INPUT_HELP} (default: 1)")
    parser.add_argument("--num-classes", type=positive_integer, metavar="N", help="not for a run")
    parser.add_argument(
        "--opset", type=int, metavar="N", help=f"version of ONNX's operators, 18 or above (default: {DEFAULT_OPSET})"
    )
    parser.add_argument(
        "--fixed-batch", action="store_true", help="ONNX: for single images, not for batches of any size"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    to_onnx = arguments.to == "onnx"
    for option in () if to_onnx else ("opset", "fixed_batch"):
        if getattr(arguments, option):
            raise UsageError(f"argument --{option.replace('_', '-')}: is for --to onnx")
    name = Path(os.path.normpath(arguments.model)).name
    out = Path(arguments.out or f"{name}{SUFFIXES[arguments.to]}")
    if out.is_dir():
        raise UsageError(f"argument --out: {out} is a folder")
    if not out.parent.is_dir():
        raise UsageError(f"argument --out: there is no folder {out.parent}")
    if to_onnx:
        _require_onnx()
    if arguments.model in models.list_models():
        model, options = _by_name(arguments)
        metadata, size = {"gpunet.model": arguments.model}, arguments.input
        if size is None and to_onnx and not isinstance(model, CharRNN):
            size = tuple(run_on_meta(arguments.model, **options).inputs[0][1:])
    else:
        model, metadata, size = _of_run(arguments)
    document: dict[str, Any] = {"command": "export", "model": arguments.model, "to": arguments.to, "path": str(out)}
    try:
        if to_onnx:
            document |= _to_onnx(model, out, size, metadata, arguments)
        else:
            save_safetensors(model.state_dict(), out, metadata)
            document |= {"bytes": out.stat().st_size, "tensors": len(model.state_dict())}
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}") from error
    if arguments.json:
        say_json(document)
        return EXIT_SUCCESS
    weights = sum(parameter.numel() for parameter in model.parameters())
    say(f"{out}: {document['bytes'] / MIB:.1f} MiB, {weights:,} parameters")
    for kind in ("inputs", "outputs"):
        for tensor, shape in document.get(kind, {}).items():
            say(f"  {kind[:-1]:<8}{tensor} ({', '.join('?' if size is None else str(size) for size in shape)})")
    if arguments.model in models.list_models() and arguments.weights is None:
        say("  the weights are random: give --weights FILE, or the folder of a run")
    return EXIT_SUCCESS


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError("--to onnx needs the onnx package: pip install 'gpunet[onnx]'") from error


def _by_name(arguments: argparse.Namespace) -> tuple[Module, dict[str, Any]]:
    """A model of the zoo, and what its function was given."""
    options = model_options(arguments.model, arguments.input, arguments.num_classes)
    try:
        return models.get_model(arguments.model, weights=arguments.weights, **options), options
    except FileNotFoundError as error:
        raise UsageError(f"argument --weights: there is no file {arguments.weights}") from error
    except (CheckpointError, OSError, ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def _of_run(arguments: argparse.Namespace) -> tuple[Module, dict[str, str], tuple[int, ...] | None]:
    """The model of a run folder, what is to be known of its input, and its input's size if it takes images."""
    if not os.path.isdir(arguments.model):
        raise UsageError(
            f"{arguments.model}: neither a model nor the folder of a run"
            f"{close_matches(arguments.model, models.list_models())}"
        )
    for option in ("weights", "num_classes"):
        if getattr(arguments, option) is not None:
            raise UsageError(f"argument --{option.replace('_', '-')}: is for a model by name; a run has its own")
    try:
        folder = RunFolder.open(arguments.model)
        if folder.task == LANGUAGE:
            language, text = read_language_settings(folder)
            metadata = {"gpunet.model": language.model, "gpunet.text": json.dumps(text.to_dict())}
            check_sizes(language.model, arguments.input, sequence=True)
            return load_language_model(arguments.model)[0], metadata, arguments.input
        config, info = read_settings(folder)
        check_sizes(config.model, arguments.input, sequence=False)
        model = load_model(arguments.model)
    except (RunFolderError, CheckpointError) as error:
        raise UsageError(str(error)) from error
    metadata = {"gpunet.model": config.model, "gpunet.dataset": json.dumps(info.to_dict())}
    return model, metadata, arguments.input or model_input_size(config.model, info, config.recipe)


def _to_onnx(
    model: Module, out: Path, size: tuple[int, ...] | None, metadata: dict[str, str], arguments: argparse.Namespace
) -> dict[str, Any]:
    examples, names = None, None
    if isinstance(model, CharRNN):
        model = ExplicitState(model)
        # Values play no part; three sequences, so that the batch is told from other sizes. One step is what drawing
        # takes, and a prompt is read by it too.
        examples = model.examples(1 if arguments.fixed_batch else 3, 1 if size is None else size[0])
        names, size = model.input_names, None
    try:
        exported = export_onnx(
            model, out, size, example_inputs=examples, dynamic_batch=not arguments.fixed_batch, metadata=metadata,
            input_names=names, opset=DEFAULT_OPSET if arguments.opset is None else arguments.opset,
        )  # fmt: skip
    except (ExportError, ValueError, TypeError, IndexError) as error:
        raise UsageError(str(error)) from error
    return {
        "bytes": exported.size, "opset": exported.opset, "inputs": exported.inputs, "outputs": exported.outputs,
    }  # fmt: skip
