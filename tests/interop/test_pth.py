"""``.pth`` files: what torch.save wrote comes back as it was, in both formats, without PyTorch.

The files in ``files`` were written by PyTorch 2.13; what no file there has is written by ``pth_writer``.
"""

from __future__ import annotations

import io
import math
import shutil
import struct
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.interop import load_pth, load_safetensors

from .pth_writer import (
    ORDERED_DICT,
    floats,
    legacy,
    program,
    storage,
    tensor,
    value,
    zipped,
)

FILES = Path(__file__).parent / "files"
BOTH = pytest.mark.parametrize("name", ["mixed.pth", "mixed_legacy.pth"])


def read(content: bytes) -> Any:
    return load_pth(io.BytesIO(content))


@BOTH
@pytest.mark.parametrize("how", ["read", "mapped", "bytes"])
def test_a_file_of_pytorch(name, how):
    path = FILES / name
    found = load_pth(io.BytesIO(path.read_bytes())) if how == "bytes" else load_pth(path, mmap=how == "mapped")
    model = found.pop("model")
    expected = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "t": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "tail": np.array([4, 5], np.float32),
        "half": np.array([1.5, -2], np.float16),
        "long": np.array(7, np.int64),
        "none": np.zeros((0, 3), np.float32),
        "flags": np.array([True, False]),
        "bytes": np.array([255], np.uint8),
    }
    assert list(model) == list(expected)
    for key, array in expected.items():
        assert type(model[key]) is np.ndarray
        assert (model[key].dtype, model[key].shape) == (array.dtype, array.shape), key
        np.testing.assert_array_equal(model[key], array)
    np.testing.assert_array_equal(found.pop("parameter"), np.ones(2, np.float32))
    assert found == {
        "epoch": 3,
        "lr": 0.1,
        "best": None,
        "history": [1, 2.5, (True, "ü")],
        "size": (2, 3),
        "device": "cuda:1",
        "dtype": "float32",
        "big": 2**70,
    }
    # One storage in the file is one block of memory; it is this process's own.
    assert np.shares_memory(model["weight"], model["tail"])
    before = path.read_bytes()
    model["weight"][1, 2] = 9
    assert model["tail"][1] == 9
    assert path.read_bytes() == before


@BOTH
def test_load_gives_tensors_whatever_the_files_name(name, tmp_path):
    path = tmp_path / "checkpoint"
    shutil.copy(FILES / name, path)
    for options in ({}, {"mmap": True}, {"map_location": "cpu:1"}, {"weights_only": False}):
        state = gn.load(path, **options)
        assert type(state["model"]["weight"]) is gn.Tensor
        assert state["model"]["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert state["epoch"] == 3
        assert not state["parameter"].requires_grad
    assert str(gn.load(path, "cpu:1")["model"]["long"].device) == "cpu:1"
    with open(path, "rb") as file:
        assert gn.load(file)["lr"] == 0.1


@BOTH
def test_what_is_loaded_can_be_saved_again(name, tmp_path):
    state = gn.load(FILES / name)
    gn.save(state, tmp_path / "again")
    again = gn.load(tmp_path / "again")
    assert again["history"] == state["history"]
    np.testing.assert_array_equal(again["model"]["t"].numpy(), state["model"]["t"].numpy())


def test_a_file_that_was_loaded_may_be_written_over(tmp_path):
    path = tmp_path / "x.pth"
    shutil.copy(FILES / "mixed.pth", path)
    weight = gn.load(path)["model"]["weight"]
    path.write_bytes(b"")  # as torch.save does before it writes: what was mapped would be gone
    assert weight.sum().item() == 15


def test_an_archive_without_checksums():
    np.testing.assert_array_equal(load_pth(FILES / "no_crc.pth")["a"], np.arange(6, dtype=np.float32))


KINDS = {
    "Double": ("float64", "<d", [1.5, -2]),
    "Float": ("float32", "<f", [1.5, -2]),
    "Half": ("float16", "<e", [1.5, -2]),
    "Long": ("int64", "<q", [2**40, -1]),
    "Int": ("int32", "<i", [2**20, -1]),
    "Short": ("int16", "<h", [300, -1]),
    "Char": ("int8", "<b", [100, -1]),
    "Byte": ("uint8", "<B", [200, 1]),
    "Bool": ("bool", "<?", [True, False]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["little", "big"])
def test_types_and_byte_orders(kind, order):
    dtype, form, numbers = KINDS[kind]
    raw = b"".join(struct.pack(form.replace("<", "<" if order == "little" else ">"), n) for n in numbers)
    pickle = program({"a": tensor((2,), (1,), count=2, kind=kind), "b": tensor((1,), (1,), 1, count=2, kind=kind)})
    found = read(zipped(pickle, {"0": raw}, order=order))
    assert found["a"].dtype == np.dtype(dtype)
    assert found["a"].dtype.isnative
    assert found["a"].tolist() == numbers
    assert found["b"].tolist() == numbers[1:]
    assert np.shares_memory(found["a"], found["b"])


def test_bfloat16(monkeypatch):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    content = zipped(
        program(tensor((2,), (1,), count=2, kind="BFloat16")), {"0": np.array([1.5, -2], ml_dtypes.bfloat16).tobytes()}
    )
    found = read(content)
    assert found.dtype == ml_dtypes.bfloat16
    assert found.astype(np.float32).tolist() == [1.5, -2]
    assert gn.load(io.BytesIO(content)).dtype == ml_dtypes.bfloat16
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(gn.CheckpointError, match=r"bfloat16 needs the ml_dtypes package: pip install 'gpunet\[half\]'"):
        read(content)


def test_strides():
    numbers = floats(*range(12))
    pickle = program(
        {
            "steps": tensor((2, 3), (6, 2), 1, count=12),
            "columns": tensor((3, 2), (1, 6), count=12),
            "one": tensor((1, 2), (10**9, 1), count=12),  # the stride of a single row says nothing
            "number": tensor((), (), 11, count=12),
            "nothing": tensor((2, 0, 3), (10**12, 3, 1), count=12),
            "repeated": tensor((3, 2), (0, 1), 4, count=12),
        }
    )
    found = read(zipped(pickle, {"0": numbers}))
    assert found["steps"].tolist() == [[1, 3, 5], [7, 9, 11]]
    assert found["columns"].tolist() == [[0, 6], [1, 7], [2, 8]]
    assert found["one"].tolist() == [[0, 1]]
    assert found["number"].shape == ()
    assert found["number"] == 11
    assert found["nothing"].shape == (2, 0, 3)
    assert found["repeated"].tolist() == [[4, 5]] * 3
    assert not found["repeated"].flags.writeable
    assert found["steps"].flags.writeable


def test_storages_that_hold_nothing():
    pickle = program([tensor((0,), (1,), count=0), tensor((0, 4), (4, 1), key="1", count=0)])
    for content in (zipped(pickle, {"0": b"", "1": b""}), zipped(pickle, {})):
        assert [array.shape for array in read(content)] == [(0,), (0, 4)]


def test_parts_of_storages_in_old_files():
    whole = storage("0", 4, old=True)
    part = storage("0", 4, old=True, part=("9", 1, 2))
    pickle = program([tensor((4,), (1,), of=whole), tensor((2,), (1,), of=part)])
    whole, part = read(legacy(pickle, {"0": (4, floats(0, 1, 2, 3))}))
    assert (whole.tolist(), part.tolist()) == ([0, 1, 2, 3], [1, 2])
    assert np.shares_memory(whole, part)
    beyond = program(tensor((3,), (1,), of=storage("0", 4, old=True, part=("9", 1, 2))))
    with pytest.raises(gn.CheckpointError, match=r"reaches beyond its storage of 2 elements"):
        read(legacy(beyond, {"0": (4, floats(0, 1, 2, 3))}))


def test_old_files_of_python_2():
    # Byte strings for names, and an OrderedDict's items as an argument.
    pickle = program(ORDERED_DICT + value(([[b"U\x06weight", tensor(old=True)]],)) + b"R")
    assert read(legacy(pickle, {"0": (1, floats(2.5))}))["weight"].tolist() == [2.5]


def test_a_large_pickle_in_an_old_file():
    # Longer than what is read at first.
    pickle = program({"a": tensor(old=True), "text": "x" * 3_000_000})
    found = read(legacy(pickle, {"0": (1, floats(2.5))}))
    assert found["a"].tolist() == [2.5]
    assert len(found["text"]) == 3_000_000


def test_numpy_numbers():
    dtype = b"cnumpy\ndtype\n" + value(("f8", False, True)) + b"R" + value((3, "<", None, None, None, -1, -1, 0)) + b"b"
    raw = b"c_codecs\nencode\n" + value((struct.pack("<d", 0.75).decode("latin-1"), "latin1")) + b"R"
    for module in ("core", "_core"):
        number = f"cnumpy.{module}.multiarray\nscalar\n".encode() + value((dtype, raw)) + b"R"
        found = read(zipped(program({"best": number}), {}))["best"]
        assert type(found) is np.float64
        assert found == 0.75
    short = b"cnumpy.core.multiarray\nscalar\n" + value((dtype, b"C\x02ab")) + b"R"
    with pytest.raises(gn.CheckpointError, match="NumPy number of another size than its type's"):
        read(zipped(program(short), {}))
    objects = b"cnumpy\ndtype\n" + value(("O8", False, True)) + b"R"
    with pytest.raises(gn.CheckpointError, match="NumPy number of a type that is no number"):
        read(zipped(program(objects), {}))


def test_plain_values_of_all_protocols():
    import pickle

    state = {"a": [1, -1, 2**40, 2.5, math.inf, None, True, "ü", b"bytes"], 3: (1, (2, (3, (4, 5)))), "set": {1, "b"}}
    state["again"] = state["a"]
    for protocol in (2, 3):
        found = read(zipped(pickle.dumps(state, protocol), {}))
        assert found == state
        assert found["again"] is found["a"]
    state.pop("set")
    for protocol in (4, 5):
        assert read(zipped(pickle.dumps(state, protocol), {})) == state


def test_types_that_are_not_there_are_named():
    for kind in ("ComplexFloat", "QInt8"):
        with pytest.raises(
            gn.CheckpointError, match=f"a tensor of type {kind.lower()[:4]}.*which gpunet does not have"
        ):
            read(zipped(program(tensor(kind=kind)), {"0": bytes(8)}))
    untyped = value(("storage", b"ctorch.storage\nUntypedStorage\n", "0", "cpu", 4)) + b"Q"
    arguments = (untyped, 0, (2,), (1,), False, ORDERED_DICT + b")R", b"ctorch\nuint16\n")
    content = zipped(program(b"ctorch._utils\n_rebuild_tensor_v3\n" + value(arguments) + b"R"), {"0": b"\1\0\2\0"})
    assert read(content).tolist() == [1, 2]
    with pytest.raises(gn.CheckpointError, match=r"uint16 is not supported.*load_pth reads it as arrays"):
        gn.load(io.BytesIO(content))


def test_other_kinds_of_files_say_what_they_are(tmp_path):
    for content, text in (
        (b"", "the file is empty"),
        (b"epoch,loss\n1,0.5\n" * 3, "not a file that torch.save wrote"),
        (b"x" * 257 + b"ustar" + bytes(250), "a tar archive of PyTorch before 0.1.10"),
        (zipped(program({}), {}, {"archive/constants.pkl": b""}), "a TorchScript archive, which is a program"),
        (zipped(program({}), {}).replace(b"data.pkl", b"date.pkl"), "a zip archive without data.pkl"),
        (program({"a": 1}), "a pickle, which gpunet never loads, and not one that torch.save wrote"),
        (
            zipped(program(b"ctorch.nn.modules.conv\nConv2d\n)R"), {}),
            "names torch.nn.modules.conv.Conv2d, .* a model as code, not its state: save model.state_dict",
        ),
        (legacy(program(b"(X\x06\0\0\0modulecos\nsystem\ntQ"), {}), "names os.system"),
        (legacy(program(value(("module", None, "source.py", "text")) + b"Q"), {}), "holds a model as code"),
    ):
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        with pytest.raises(gn.CheckpointError, match=text) as caught:
            load_pth(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(gn.CheckpointError, match="is a folder"):
        load_pth(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_pth(tmp_path / "nothing.pth")
    with pytest.raises(TypeError, match="f: expected a path or a file open for reading, got int"):
        load_pth(3)  # type: ignore[arg-type]
    with pytest.raises(gn.CheckpointError, match=r"a zip archive, as torch\.save writes, not a safetensors file"):
        load_safetensors(FILES / "mixed.pth")


# Against PyTorch ---------------------------------------------------------------------------------------------------


def torch_state(torch: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(4, 5))
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    base = torch.randn(6, 8)
    names = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    tensors = {name: torch.arange(-3, 3).to(getattr(torch, name)) for name in names}
    return {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "tensors": tensors,
        "views": [base, base[1:4, ::2], base.t(), base[2, 3], base[:0], base.view(2, 24), base.expand(2, 6, 8)],
        "permuted": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "bf16": torch.randn(5).to(torch.bfloat16),
        "plain": [1, 2.5, "text", None, True, (1, [2]), 2**100, {"k": {1: 2}}, torch.Size([1, 2])],
        "number": np.float64(0.5),
    }


def check_same(found: Any, expected: Any, torch: Any, path: str = "") -> None:
    if isinstance(expected, torch.Tensor):
        if expected.dtype is torch.bfloat16:
            found, expected = found.astype(np.float32), expected.float()
        theirs = expected.detach().numpy()
        assert (found.dtype, found.shape) == (theirs.dtype, theirs.shape), path
        np.testing.assert_array_equal(found, theirs)
        if found.size:
            assert found.strides == tuple(s * theirs.itemsize for s in expected.stride()) or 1 in found.shape, path
    elif isinstance(expected, (dict, OrderedDict)):
        assert type(found) is dict
        assert list(found) == list(expected)
        for key in expected:
            check_same(found[key], expected[key], torch, f"{path}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert isinstance(found, list if isinstance(expected, list) else tuple)
        assert len(found) == len(expected)
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            check_same(a, b, torch, f"{path}[{i}]")
    else:
        assert type(found) is type(expected), path
        assert found == expected, path


@pytest.mark.parity
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("new", [True, False])
def test_what_pytorch_saved(new, protocol, mapped, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    state = torch_state(torch)
    torch.save(state, tmp_path / "x.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    check_same(load_pth(tmp_path / "x.pth", mmap=mapped), state, torch)
    found = gn.load(tmp_path / "x.pth", mmap=mapped)
    np.testing.assert_array_equal(found["views"][1].numpy(), state["views"][1].numpy())


@pytest.mark.parity
def test_unsigned_types_and_tensors_with_attributes(tmp_path):
    torch = pytest.importorskip("torch")
    marked = torch.nn.Parameter(torch.ones(2))
    marked.note = "kept by PyTorch"
    state = {"u": torch.tensor([1, 2], dtype=torch.uint32), "marked": marked}
    torch.save(state, tmp_path / "x.pth")
    found = load_pth(tmp_path / "x.pth")
    assert found["u"].dtype == np.uint32
    assert found["u"].tolist() == [1, 2]
    assert found["marked"].tolist() == [1, 1]


@pytest.mark.parity
@pytest.mark.parametrize(
    "make",
    [
        lambda torch: torch.nn.Linear(2, 2),
        lambda torch: torch.ones(2).to_sparse(),
        lambda torch: torch.ones(2, dtype=torch.complex64),
        lambda torch: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
        lambda torch: {"generator": torch.Generator},
        lambda torch: torch.ones(2, device="meta"),
    ],
    ids=["module", "sparse", "complex", "quantized", "class", "meta"],
)
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_saves_and_gpunet_has_not_is_refused(make, new, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(make(torch), tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(gn.CheckpointError) as caught:
        load_pth(tmp_path / "x.pth")
    assert "x.pth: it" in str(caught.value)
