"""gn.save and gn.load: what goes in comes out, other programs can read it, and nothing is lost or run."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import gpunet as gn
from gpunet import nn
from gpunet.interop import load_safetensors, save_safetensors


def same(a: Any, b: Any) -> bool:
    """Equal in type, structure and every bit."""
    if isinstance(a, gn.Tensor) or isinstance(b, gn.Tensor):
        return isinstance(a, gn.Tensor) and isinstance(b, gn.Tensor) and same(a.numpy(), b.numpy())
    if isinstance(a, (np.ndarray, np.generic)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return (
            isinstance(b, dict)
            and list(a) == list(b)
            and [type(key) for key in a] == [type(key) for key in b]
            and all(same(a[key], b[key]) for key in a)
        )
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


def test_a_nested_state_comes_back_as_it_was(tmp_path):
    state = {
        "model": {"conv.weight": gn.randn(2, 3, 4), "count": gn.tensor(7)},
        "optimizer": {
            "state": {0: {"step": gn.tensor(3.0), "exp_avg": gn.zeros(0, 4)}, 1: {}},
            "param_groups": [{"lr": 0.1}],
        },
        "history": [1, 2.5, None, True, "text", -(2**70), math.inf, -math.inf, math.nan],
        "pair": (1, (2, [])),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "number": np.float32(0.1),
        "flag": np.bool_(True),
        1.5: {None: False, True: 1, -3: 0},
        "": {"": np.zeros(())},
        "unicode ✓": "✓",
    }
    path = tmp_path / "state.safetensors"
    gn.save(state, path)
    assert same(gn.load(path), state)
    gn.save(state, str(path))
    assert same(gn.load(str(path)), state)
    buffer = io.BytesIO()
    gn.save(state, buffer)
    buffer.seek(0)
    assert same(gn.load(buffer), state)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["float32", "float64", "float16", "int8", "uint8", "int64", "bool", "uint64"]).flatmap(
        lambda dtype: st.lists(st.integers(0, 3), max_size=3).map(lambda shape: np.ones(shape, dtype))
    ),
)
keys = st.one_of(st.text(max_size=5), st.integers(-5, 5), st.sampled_from(["a", "a.b", "b", "__metadata__", "a#2"]))
objects = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=3).map(tuple), st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(objects)
def test_anything_plain_comes_back_as_it_was(state):
    buffer = io.BytesIO()
    gn.save(state, buffer)
    buffer.seek(0)
    assert same(gn.load(buffer), state)


def test_names_that_collide():
    state = {"a": {"b.c": np.zeros(1)}, "a.b": {"c": np.ones(2)}, "a.b.c": np.full(3, 2.0)}
    buffer = io.BytesIO()
    gn.save(state, buffer)
    buffer.seek(0)
    assert same(gn.load(buffer), state)


def test_a_state_dict_is_readable_by_others_under_its_own_keys(tmp_path):
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    gn.save(net.state_dict(), tmp_path / "net.safetensors")
    theirs = safetensors.numpy.load_file(tmp_path / "net.safetensors")
    assert set(theirs) == set(net.state_dict())
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(theirs[key], value.numpy())
    assert theirs["1.num_batches_tracked"].shape == ()
    state = gn.load(tmp_path / "net.safetensors")
    assert list(state) == list(net.state_dict())
    other = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    other.load_state_dict(state)
    np.testing.assert_array_equal(other[0].weight.detach().numpy(), net[0].weight.detach().numpy())


def test_files_of_others_are_read_as_flat_dicts(tmp_path):
    path = tmp_path / "others.safetensors"
    arrays = {"w.a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3)}
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    state = gn.load(path)
    assert all(type(value) is gn.Tensor for value in state.values())
    assert {key: value.numpy().tolist() for key, value in state.items()} == {k: v.tolist() for k, v in arrays.items()}
    assert same(load_safetensors(path), dict(sorted(arrays.items(), key=lambda kv: list(state).index(kv[0]))))
    assert state["w.a"].requires_grad is False
    state["w.a"].fill_(1.0)  # the file's memory is not shared


def test_flat_files_for_others(tmp_path):
    path = tmp_path / "flat.safetensors"
    save_safetensors({"a": gn.ones(2), "b": np.zeros((2, 2)).T[:, ::-1]}, path, metadata={"licence": "MIT"})
    assert set(safetensors.numpy.load_file(path)) == {"a", "b"}
    with safetensors.safe_open(path, "numpy") as opened:
        assert opened.metadata() == {"licence": "MIT"}
    with pytest.raises(TypeError, match=r"tensors\['a'\]: expected a Tensor or an array, got list"):
        save_safetensors({"a": [1.0]}, path)
    with pytest.raises(TypeError, match="names must be strings, got 3"):
        save_safetensors({3: gn.ones(1)}, path)  # type: ignore[dict-item]


@pytest.mark.parity
def test_pytorchs_reader_gets_the_same(tmp_path):
    pytest.importorskip("torch")
    from safetensors.torch import load_file

    net = nn.Conv2d(2, 3, 3)
    gn.save(net.state_dict(), tmp_path / "net.safetensors")
    theirs = load_file(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(theirs["weight"].numpy(), net.weight.detach().numpy())


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    state = {"a": gn.ones(3, dtype="bfloat16"), "b": np.ones((2, 2), ml_dtypes.bfloat16)}
    buffer = io.BytesIO()
    gn.save(state, buffer)
    buffer.seek(0)
    back = gn.load(buffer)
    assert back["a"].dtype == ml_dtypes.bfloat16
    assert same(back, state)


def test_tied_strided_and_graph_tensors(tmp_path):
    weight = nn.Parameter(gn.randn(3, 4))
    state = {"a": weight, "b": weight, "t": weight.t(), "half": weight[:, ::2], "computed": weight * 2}
    gn.save(state, tmp_path / "x")
    back = gn.load(tmp_path / "x")
    for key, value in state.items():
        assert not back[key].requires_grad
        np.testing.assert_array_equal(back[key].numpy(), value.detach().numpy())
    theirs = safetensors.numpy.load_file(tmp_path / "x")
    np.testing.assert_array_equal(theirs["a"], theirs["b"])


def test_devices(tmp_path):
    gn.save({"a": gn.ones(2, device="cpu:1")}, tmp_path / "x")
    assert str(gn.load(tmp_path / "x")["a"].device) == "cpu"
    assert str(gn.load(tmp_path / "x", map_location="cpu:1")["a"].device) == "cpu:1"
    with pytest.raises(TypeError, match=r"obj\['a'\]: a tensor on 'meta' has no data to save"):
        gn.save({"a": gn.empty(2, device="meta")}, tmp_path / "x")
    assert gn.load(tmp_path / "x", weights_only=True)
    assert gn.load(tmp_path / "x", weights_only=False)["a"].tolist() == [1.0, 1.0]


def loop() -> dict[str, Any]:
    state: dict[str, Any] = {}
    state["again"] = [state]
    return state


@pytest.mark.parametrize(
    "state, text",
    [
        (
            nn.Linear(2, 2),
            r"obj: a Module is code as well as data; save its state: gn.save\(model.state_dict\(\), path\)",
        ),
        ({"net": nn.ReLU()}, r"obj\['net'\]: a Module is code .* obj\['net'\] = model.state_dict\(\)"),
        (
            {"o": gn.optim.SGD([nn.Parameter(gn.zeros(1))])},
            r"obj\['o'\]: cannot save a SGD, .*; save its state_dict\(\)",
        ),
        ([1, {2, 3}], r"obj\[1\]: cannot save a set"),
        ({"f": len}, r"obj\['f'\]: cannot save a builtin_function_or_method"),
        ({(1, 2): 3}, r"obj: dict keys must be strings or numbers, got \(1, 2\)"),
        ({"a": np.array(["text"])}, r"obj\['a'\]: an array of <U4 cannot be saved"),
        ({"a": np.array([None])}, r"obj\['a'\]: an array of object cannot be saved"),
        (loop(), r"obj\['again'\]\[0\]: a dict that holds itself"),
    ],
)
def test_what_is_no_data_is_refused(state, text, tmp_path):
    with pytest.raises(TypeError, match=text):
        gn.save(state, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_nested_too_deeply_is_refused(tmp_path):
    state: list[Any] = []
    for _ in range(5000):
        state = [state]
    with pytest.raises(ValueError, match=r"^obj: nested too deeply$"):
        gn.save(state, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# What is not lost ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["os.fsync", "os.replace", "safetensors.numpy.save_file"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(where, number, tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    gn.save({"a": gn.ones(3)}, path)

    def fail(*args: Any, **kwargs: Any) -> None:
        if where.startswith("safetensors"):
            raise safetensors.SafetensorError(
                f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
            )
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(where, fail)
    with pytest.raises(OSError, match=f"cannot save: {os.strerror(number)}; the file that was there is unchanged") as e:
        gn.save({"a": gn.zeros(3)}, path)
    monkeypatch.undo()
    assert e.value.errno == number
    assert e.value.filename == str(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.safetensors"]
    assert gn.load(path)["a"].tolist() == [1, 1, 1]


FILL_THE_DISK = """
import resource, sys
import gpunet as gn
path = sys.argv[1]
gn.save({"a": gn.ones(3)}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    gn.save({"a": gn.zeros(100_000)}, path)
except OSError as error:
    print(type(error).__name__, error.errno, error)
assert gn.load(path)["a"].tolist() == [1, 1, 1]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_file_that_cannot_grow(tmp_path):
    path = tmp_path / "run.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"OSError {errno.EFBIG} ")
    assert os.strerror(errno.EFBIG) in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.safetensors"]


def test_unwritable_places(tmp_path):
    with pytest.raises(OSError, match="cannot save: No such file or directory"):
        gn.save({"a": 1}, tmp_path / "nowhere" / "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="cannot save: Is a directory"):
        gn.save({"a": 1}, tmp_path / "folder")
    with pytest.raises(TypeError, match="f: expected a path or a file open for writing, got int"):
        gn.save({"a": 1}, 3)  # type: ignore[arg-type]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_file_gets_the_usual_permissions_and_keeps_those_it_has(tmp_path):
    path = tmp_path / "x"
    before = os.umask(0o027)
    try:
        gn.save({}, path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    gn.save({"a": 1}, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert gn.load(path) == {"a": 1}


# What is not read ----------------------------------------------------------------------------------------------------


def good(tmp_path: Path) -> bytes:
    path = tmp_path / "good"
    gn.save({"model": {"w": gn.ones(100)}, "epoch": 3}, path)
    return path.read_bytes()


def test_every_cut_is_noticed(tmp_path):
    whole = good(tmp_path)
    path = tmp_path / "cut.safetensors"
    for length in [*range(40), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(gn.CheckpointError) as caught:
            gn.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        with pytest.raises(gn.CheckpointError):
            gn.load(io.BytesIO(whole[:length]))


class Bomb:
    def __reduce__(self) -> Any:
        return (os.abort, ())


def with_structure(structure: str) -> bytes:
    return safetensors.numpy.save({"a": np.zeros(2)}, metadata={"gpunet.format": "1", "gpunet.structure": structure})


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "the file is empty"),
        (b"epoch,loss\n1,0.5\n" * 3, "neither a safetensors file nor one that torch.save wrote"),
        (pickle.dumps({"a": Bomb()}), "a pickle, which gpunet never loads"),
        (b"PK\x03\x04" + bytes(100), "a zip archive without its directory"),
        (struct.pack("<Q", 10**12) + b'{"a":1}' + bytes(50), "cut short: the header alone takes"),
        (struct.pack("<Q", 20) + b'{"a": nonsense      ' + bytes(50), "damaged or cut short"),
        (with_structure('{"tensor":"b"}'), "description of its contents is damaged"),
        (with_structure('{"tensor":'), "description of its contents is damaged"),
        (with_structure('{"eval":"1"}'), "description of its contents is damaged"),
        (with_structure('{"dict":[1]}'), "description of its contents is damaged"),
        (with_structure("[1]"), "description of its contents is damaged"),
        (with_structure('{"list":[' * 100_000), "description of its contents is damaged"),
        (
            safetensors.numpy.save({}, metadata={"gpunet.format": "99"}),
            "written in format 99, this gpunet reads format 1",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, text, tmp_path):
    path = tmp_path / "strange"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(gn.CheckpointError, match=text) as caught:
            gn.load(source)
        assert "\n" not in str(caught.value)
    with pytest.raises(gn.CheckpointError, match=str(path)):
        gn.load(path)


def test_types_that_are_not_there_are_named(tmp_path, monkeypatch):
    path = tmp_path / "x"
    safetensors.numpy.save_file({"a": np.zeros(2, np.uint16)}, path)
    with pytest.raises(gn.CheckpointError, match=r"uint16 is not supported.*load_safetensors reads it as arrays"):
        gn.load(path)
    assert load_safetensors(path)["a"].dtype == np.uint16
    content = path.read_bytes().replace(b'"U16"', b'"C32"')
    with pytest.raises(gn.CheckpointError, match="'a' is of type C32, which NumPy does not have"):
        gn.load(io.BytesIO(content))
    gn.save({"a": gn.ones(2, dtype="bfloat16")}, path)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(gn.CheckpointError, match=r"bfloat16 needs the ml_dtypes package: pip install 'gpunet\[half\]'"):
        gn.load(path)


def test_changed_bytes_never_do_more_than_fail(tmp_path):
    whole = bytearray(good(tmp_path))
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(whole)
        for position in rng.integers(0, len(whole) // 2, 3):
            broken[position] = rng.integers(256)
        with contextlib.suppress(gn.CheckpointError):
            gn.load(io.BytesIO(bytes(broken)))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError):
        gn.load(tmp_path / "nothing")
    with pytest.raises(gn.CheckpointError, match="is a folder"):
        gn.load(tmp_path)
    with pytest.raises(TypeError, match="f: expected a path or a file open for reading"):
        gn.load(3)  # type: ignore[arg-type]


def test_the_structure_is_json_that_a_person_can_read(tmp_path):
    gn.save({"epoch": 3, "w": gn.ones(2)}, tmp_path / "x")
    with safetensors.safe_open(tmp_path / "x", "numpy") as opened:
        structure = json.loads(opened.metadata()["gpunet.structure"])
    assert structure == {"dict": [["epoch", 3], ["w", {"tensor": "w"}]]}
