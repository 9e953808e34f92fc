"""``export_onnx``: a model as an ONNX file. Brought by the extra ``onnx``; nothing is imported before it is called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from gpunet._version import __version__
from gpunet.autograd import Tensor
from gpunet.backend.devices import META, to_numpy
from gpunet.interop.onnx_export import elementwise, layers, pools, recurrent, shapes
from gpunet.interop.onnx_export.graph import TRANSLATIONS, Call, Graph
from gpunet.interop.onnx_export.tracing import ExportError, Extent, Inputs, Reference, Step, Trace, trace
from gpunet.interop.safetensors_io import replace_file
from gpunet.nn import Module
from gpunet.nn.input_shape import default_input_shape
from gpunet.ops.dtypes import get_default_dtype, is_floating

__all__ = ["DEFAULT_INPUT_SIZE", "DEFAULT_OPSET", "OLDEST_OPSET", "Exported", "export_onnx"]

DEFAULT_INPUT_SIZE = (3, 224, 224)
# What all is written in; from here on reductions, Pad and Resize take their axes as these translations give them.
OLDEST_OPSET = DEFAULT_OPSET = 18
NEWEST_OPSET = 23
# Protobuf's messages end at 2 GiB; what is not weights takes far less than the rest.
LARGEST = (1 << 31) - (1 << 24)

# Imported for what they put into TRANSLATIONS.
_TRANSLATED_BY = (elementwise, layers, pools, recurrent, shapes)


class Exported(NamedTuple):
    """What was written: the file, its size in bytes, and the names in it."""

    path: Path
    size: int
    opset: int
    inputs: dict[str, tuple[int | str | None, ...]]
    outputs: dict[str, tuple[int | str | None, ...]]


def export_onnx(
    model: Module,
    path: str | os.PathLike[str],
    input_size: Sequence[int] | None = None,
    *,
    example_inputs: Any = None,
    dynamic_batch: bool = True,
    opset: int = DEFAULT_OPSET,
    metadata: Mapping[str, str] | None = None,
    input_names: Sequence[str] | None = None,
) -> Exported:
    """Write what a model computes in evaluation mode as an ONNX file, weights included.

    The model is run, for its shapes alone, at several batch sizes, and each operation is translated. The parameters
    and buffers that are used stand in the file under their names in the state dict. The file is checked by onnx's
    checker before it takes its name. The model is left as it was; what its forward decides in Python is decided once.

    Args:
        model: what to export; it may be in training mode.
        path: of the file, replaced as a whole or not at all.
        input_size: size of one sample; None is the size the model is made for (its ``default_image_size``), else
            (3, 224, 224). The input has the parameters' dtype.
        example_inputs: instead of ``input_size``, the model's arguments: a Tensor or an array, or several in a tuple or
            list, the batch in the first dimension of each: recurrent layers need ``batch_first=True``.
        dynamic_batch: let the batch have any size; otherwise it is the examples', 1 for an ``input_size``.
        opset: version of ONNX's operators, 18 to 23.
        metadata: strings to put into the file.
        input_names: of the inputs in the file, one for each; None is ``input``, or ``input_0`` and so on. Outputs are
            named likewise, unless the model returns a dict: then by its keys.

    Returns:
        The path, size, and the names and shapes of inputs and outputs.

    Raises:
        ModuleNotFoundError: the onnx package is not installed.
        ExportError: an operation has no translation, or depends on the batch size or the input's values; the message
            names it and its module.
        ValueError, TypeError: an argument that cannot be right, or an input that the model does not take.
        OSError: the file cannot be written; what was at the path before is still there.
    """
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a Module, got {type(model).__name__}")
    if not isinstance(opset, int) or not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ValueError(f"opset: must lie in {OLDEST_OPSET}..{NEWEST_OPSET}, got {opset!r}")
    onnx = _onnx()
    if opset > onnx.defs.onnx_opset_version():
        raise ValueError(
            f"opset: the onnx package installed, {onnx.__version__}, goes up to {onnx.defs.onnx_opset_version()}, "
            f"got {opset}"
        )
    state: dict[str, Any] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if any(tensor._device is META for tensor in state.values()):
        raise ValueError("model: is on 'meta', without weights; move it with to_empty and load some, or make it anew")
    weights = sum(tensor.nbytes for tensor in state.values())
    if weights > LARGEST:
        raise ExportError(f"export: the weights take {weights:,} bytes, and an ONNX file holds less than 2 GiB")
    inputs = _inputs(model, state, input_size, example_inputs, dynamic_batch)
    if input_names is not None:
        inputs = Inputs(inputs.examples, _checked_names(input_names, len(inputs.examples)))
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        traced = trace(model, inputs, dynamic_batch)
    finally:
        for module, mode in modes:
            module.training = mode
    proto, exported = _written(traced, state, opset, dynamic_batch, dict(metadata or {}))

    def write(temporary: Path) -> None:
        temporary.write_bytes(proto.SerializeToString())
        try:
            onnx.checker.check_model(str(temporary), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            reason = " ".join(str(error).split())
            raise ExportError(f"export: onnx's checker finds a fault in what was made: {reason}") from error

    replace_file(path, write)
    return exported._replace(path=Path(path), size=Path(path).stat().st_size)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.defs
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise ModuleNotFoundError("writing ONNX files needs onnx: pip install 'gpunet[onnx]'", name="onnx") from error
    return onnx


def _inputs(model: Module, state: Mapping[str, Any], input_size: Any, example_inputs: Any, dynamic: bool) -> Inputs:
    if example_inputs is None:
        default = default_input_shape(model) or DEFAULT_INPUT_SIZE
        size = default if input_size is None else _checked_size(input_size)
        dtype = next((t.dtype for t in state.values() if is_floating(t.dtype)), get_default_dtype())
        rng = np.random.default_rng(0)
        return Inputs([rng.standard_normal((3 if dynamic else 1, *size), np.float32).astype(dtype)])
    if input_size is not None:
        raise ValueError("input_size: must be left out where example_inputs are given")
    several = isinstance(example_inputs, (tuple, list))
    examples = [_array(each) for each in (example_inputs if several else (example_inputs,))]
    if not examples:
        raise ValueError("example_inputs: must hold at least one Tensor")
    batches = {each.shape[0] for each in examples if each.ndim}
    if dynamic and (len(batches) != 1 or 0 in batches):
        raise ValueError(
            f"example_inputs: must have one batch size of at least 1 in their first dimensions, got {sorted(batches)}; "
            "give dynamic_batch=False where that is not what these dimensions are"
        )
    return Inputs(examples)


def _checked_size(input_size: Any) -> tuple[int, ...]:
    """Sizes of one sample; where Tensors are given in their place, as to PyTorch's export, where they go."""
    given = input_size if isinstance(input_size, (tuple, list)) else [input_size]
    if any(isinstance(one, Tensor) or (isinstance(one, np.ndarray) and one.ndim > 1) for one in given):
        raise TypeError("input_size: must be sizes, got Tensors; give those as example_inputs=")
    size = tuple(input_size) if isinstance(input_size, Iterable) else ()
    if not size or any(isinstance(e, bool) or not isinstance(e, SupportsIndex) or e.__index__() < 1 for e in size):
        raise ValueError(f"input_size: must be sizes of at least 1, without the batch, got {input_size!r}")
    return tuple(e.__index__() for e in size)


def _checked_names(names: Sequence[str], count: int) -> list[str]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"input_names: expected names that are not empty, got {names!r}")
    if len(set(names)) != len(names) or len(names) != count:
        raise ValueError(f"input_names: must be {count} different names, one for each input, got {list(names)}")
    return list(names)


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        return np.asarray(to_numpy(value._array))
    if isinstance(value, np.ndarray):
        return value
    raise TypeError(f"example_inputs: expected Tensors or arrays, got {type(value).__name__}")


def _written(
    traced: Trace, state: Mapping[str, Any], opset: int, dynamic: bool, metadata: Mapping[str, str]
) -> tuple[Any, Exported]:
    """The ONNX model of a trace, and what to say of it."""
    steps = _needed(traced)
    first = next((v.name for v in traced.values if v.source == "input" and v.ndim), None)
    names: dict[Reference, str] = {}
    used = {i for step in steps for i in step.inputs if isinstance(i, Reference)} | set(_references(traced.result))
    numbered = [(Reference(number), value) for number, value in enumerate(traced.values)]
    graph = Graph(opset)
    # The names that others know come first, so that they stay what they are.
    for reference, value in numbered:
        if value.source == "state" and reference in used:
            names[reference] = graph.name(value.name)
            graph.initializers[names[reference]] = to_numpy(state[value.name]._array)
    for reference, value in numbered:
        if value.source == "input":
            names[reference] = graph.name(value.name)
            if value.name == first and dynamic:
                graph.batch_of = names[reference]
    results = _named_results(traced.result)
    for name in results:
        graph.name(name)
    for reference, value in numbered:
        if value.source == "constant" and reference in used:
            graph.path, graph.op = "", "forward"
            made = graph.constant(value.array, value.dtype)
            grows = not all(extent.is_fixed for extent in value.shape)
            names[reference] = graph.add("Expand", made, graph.shape(value.shape)) if grows else made
    for step in steps:
        _translate(graph, step, traced, names)
    for name, reference in results.items():
        if reference not in names:
            step = next(step for step in steps if reference in step.outputs)
            raise ExportError(f"export: {step} has a result, which the model returns, that ONNX does not give")
        graph.deliver(names[reference], name)
    graph.drop_unused(results)

    def declared(name: str, reference: Reference) -> Any:
        value = traced.values[reference.number]
        return graph.onnx.helper.make_tensor_value_info(name, graph.type_of(value.dtype), _shape(value.shape))

    inputs = {names[r]: r for r, value in numbered if value.source == "input"}
    proto = _model(graph, [declared(*p) for p in inputs.items()], [declared(*p) for p in results.items()], metadata)
    shapes_of = {n: tuple(_shape(traced.values[r.number].shape)) for n, r in (*inputs.items(), *results.items())}
    return proto, Exported(
        Path(), 0, opset, {name: shapes_of[name] for name in inputs}, {name: shapes_of[name] for name in results}
    )


def _model(graph: Graph, inputs: list[Any], outputs: list[Any], metadata: Mapping[str, str]) -> Any:
    onnx = graph.onnx
    opsets = [onnx.helper.make_opsetid("", graph.opset)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "gpunet", inputs, outputs),
        opset_imports=opsets,
        ir_version=onnx.helper.find_min_ir_version_for(opsets),
        producer_name="gpunet",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(model, dict(metadata))
    for name, array in graph.initializers.items():  # in their place at once: each copy of the weights may be a gigabyte
        model.graph.initializer.add(
            name=name, dims=array.shape, data_type=graph.type_of(array.dtype), raw_data=array.tobytes()
        )
    return model


def _translate(graph: Graph, step: Step, traced: Trace, names: dict[Reference, str]) -> None:
    translation = TRANSLATIONS.get(step.op)
    if translation is None:
        raise ExportError(f"export: {step} has no translation to ONNX")
    graph.path, graph.op = step.path, step.op
    made = translation(graph, Call(step, traced, names))
    for reference, name in zip(step.outputs, made if isinstance(made, tuple) else (made,), strict=True):
        if name is not None:
            names[reference] = name


def _needed(traced: Trace) -> list[Step]:
    """The steps that the result depends on."""
    needed = set(_references(traced.result))
    kept = []
    for step in reversed(traced.steps):
        if needed.intersection(step.outputs):
            kept.append(step)
            needed.update(i for i in step.inputs if isinstance(i, Reference))
    return kept[::-1]


def _references(result: Any) -> list[Reference]:
    if isinstance(result, Reference):
        return [result]
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, list) else ()
    return [reference for part in parts for reference in _references(part)]


def _named_results(result: Any) -> dict[str, Reference]:
    """The results by name: ``output``, ``output_0`` and so on, or a dict's keys."""
    if isinstance(result, Reference):
        return {"output": result}
    if isinstance(result, dict):
        parts = {name: _references(part) for name, part in result.items()}
    else:
        parts = {"output": _references(result)}
    named = {}
    for name, references in parts.items():
        for number, reference in enumerate(references):
            named[name if len(references) == 1 else f"{name}_{number}"] = reference
    if not named:
        raise ExportError("export: the model returns no Tensor")
    return named


def _shape(shape: Sequence[Extent]) -> list[int | str | None]:
    """Sizes as ONNX declares them: the batch by its name, others that depend on it left open."""
    return [e.fixed if e.is_fixed else "batch" if e == Extent(1, 0) else None for e in shape]
