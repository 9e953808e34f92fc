"""What is built and installed: the wheel, the wheel made from the sdist, and the editable install."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
VERSION = runpy.run_path(str(ROOT / "gpunet" / "_version.py"))["__version__"]
KERNELS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "cuda_kernels").iterdir())
EXTRAS = {
    "cuda12",
    "cuda13",
    "features",
    "plot",
    "images",
    "half",
    "onnx",
    "tensorboard",
    "mpi",
    "test",
    "parity",
    "docs",
}
INSTALLS = ("wheel", "wheel from sdist", "editable")


def call(command: list[str | Path], cwd: Path) -> str:
    """Run a command without the caller's Python settings, away from the checkout; return what it prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV", "GPUNET"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def new_environment(folder: Path) -> Path:
    """Make a virtual environment and return its interpreter."""
    call([sys.executable, "-m", "venv", folder], folder.parent)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="session")
def sdist(workshop: Path) -> Path:
    """The sdist, made as a front end makes it: by the backend's hook, in its own environment."""
    system = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    python = new_environment(workshop / "builder")
    call([python, "-m", "pip", "install", "--quiet", *system["requires"]], workshop)
    code = f"import {system['build-backend']} as backend; backend.build_sdist({str(workshop / 'sdist')!r})"
    (workshop / "sdist").mkdir()
    call([python, "-c", code], ROOT)
    (archive,) = (workshop / "sdist").iterdir()
    return archive


def build_wheel(source: Path, folder: Path) -> Path:
    call(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source],
        folder.parent,
    )
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="session")
def wheel(workshop: Path) -> Path:
    return build_wheel(ROOT, workshop / "wheel")


@pytest.fixture(scope="session")
def wheel_from_sdist(workshop: Path, sdist: Path) -> Path:
    return build_wheel(sdist, workshop / "wheel-from-sdist")


@pytest.fixture(scope="session")
def environment(workshop: Path, wheel: Path) -> Path:
    """An environment with the wheel's dependencies and no extra; returns its interpreter."""
    python = new_environment(workshop / "environment")
    call([python, "-m", "pip", "install", "--quiet", wheel], workshop)
    return python


@pytest.fixture(scope="session")
def unpacked(workshop: Path, sdist: Path) -> Path:
    """The unpacked sdist: a source tree that nobody minds an editable install in."""
    with tarfile.open(sdist) as archive:
        archive.extractall(workshop / "unpacked", filter="data")
    (tree,) = (workshop / "unpacked").iterdir()
    return tree


@pytest.fixture(scope="module", params=INSTALLS)
def installed(request: pytest.FixtureRequest, environment: Path, workshop: Path) -> Iterator[tuple[str, Path]]:
    """Each way to install in turn; yields its name and the interpreter."""
    how: str = request.param
    source: list[str | Path] = {
        "wheel": lambda: [request.getfixturevalue("wheel")],
        "wheel from sdist": lambda: [request.getfixturevalue("wheel_from_sdist")],
        "editable": lambda: ["--editable", request.getfixturevalue("unpacked")],
    }[how]()
    pip: list[str | Path] = [environment, "-m", "pip", "--quiet"]
    call([*pip, "uninstall", "--yes", "gpunet"], workshop)
    call([*pip, "install", "--no-deps", *source], workshop)
    yield how, environment
    call([*pip, "uninstall", "--yes", "gpunet"], workshop)
    site_packages = Path(
        call([environment, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], workshop).strip()
    )
    left = [path.name for path in site_packages.iterdir() if "gpunet" in path.name]
    assert left == [], f"{how}: the uninstall left {left}"


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    files = contents(wheel)
    assert {name.partition("/")[0] for name in files} == {"gpunet", f"gpunet-{VERSION}.dist-info"}
    assert {
        "gpunet/py.typed",
        "gpunet/__init__.py",
        f"gpunet-{VERSION}.dist-info/licenses/LICENSE",
    } <= files.keys()
    for suffix in (".py", ".h"):
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gpunet").rglob(f"*{suffix}")}
        assert sources
        assert sources == {name for name in files if name.endswith(suffix)}
    for data in ("digits.npz", "DIGITS.md", "pride_and_prejudice.txt.gz", "PRIDE_AND_PREJUDICE.md"):
        assert files[f"gpunet/data/{data}"] == (ROOT / "gpunet" / "data" / data).read_bytes()
    assert not [name for name in files if name.endswith((".pyc", ".orig"))]


def test_wheel_carries_the_kernels_inside_the_package(wheel: Path) -> None:
    files = contents(wheel)
    assert "cuda_kernels/sgd.cu" in KERNELS
    carried = {name for name in files if "_cuda_kernels/" in name}
    assert carried == {f"gpunet/_{name}" for name in KERNELS}
    for name in KERNELS:
        assert files[f"gpunet/_{name}"] == (ROOT / name).read_bytes()


def test_wheel_runs_on_every_supported_python(wheel: Path) -> None:
    # Nothing is compiled yet, so that one wheel fits all.
    assert wheel.name == f"gpunet-{VERSION}-py3-none-any.whl"


def test_metadata(wheel: Path) -> None:
    metadata = Parser().parsestr(contents(wheel)[f"gpunet-{VERSION}.dist-info/METADATA"].decode())
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS
    plain = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.partition(">")[0] for line in plain) == [
        "numpy",
        "safetensors",
        "threadpoolctl",
        "tqdm",
    ]


def test_sdist_holds_the_sources(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gpunet").rglob("*.py")}
    assert package <= names
    assert set(KERNELS) <= names
    assert {"gpunet/data/digits.npz", "gpunet/data/pride_and_prejudice.txt.gz"} <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py", "PKG-INFO"} <= names
    assert not [name for name in names if "_cuda_kernels" in name or name.endswith(".pyc")]


def test_wheel_from_the_sdist_is_the_same(wheel: Path, wheel_from_sdist: Path) -> None:
    assert wheel.name == wheel_from_sdist.name
    assert contents(wheel) == contents(wheel_from_sdist)


def test_package_is_imported_from_where_it_was_installed(
    installed: tuple[str, Path], unpacked: Path, tmp_path: Path
) -> None:
    how, python = installed
    where = Path(call([python, "-c", "import gpunet; print(gpunet.__file__)"], tmp_path).strip())
    assert where.is_relative_to(unpacked if how == "editable" else python.parents[1])


def test_kernel_source_is_found(installed: tuple[str, Path], unpacked: Path, tmp_path: Path) -> None:
    how, python = installed
    source = ROOT / "cuda_kernels" / "sgd.cu"
    if how == "editable":  # an edited kernel is the one that runs: no copy was kept
        source = unpacked / "cuda_kernels" / "sgd.cu"
        source.write_text(source.read_text(encoding="utf-8") + "// edited\n", encoding="utf-8")
    code = "import sys; from gpunet.backend.kernels import kernel_source; sys.stdout.write(kernel_source('sgd'))"
    assert call([python, "-c", code], tmp_path) == source.read_text(encoding="utf-8")


def test_kernels_are_no_package_of_their_own(installed: tuple[str, Path], tmp_path: Path) -> None:
    how, python = installed
    code = "from importlib.util import find_spec as f; print(bool(f('cuda_kernels')), bool(f('_cuda_kernels')))"
    # An editable install puts the source tree on the path, and with it the folder's name.
    assert call([python, "-c", code], tmp_path).split() == [str(how == "editable"), "False"]


def test_command_runs(installed: tuple[str, Path], tmp_path: Path) -> None:
    _, python = installed
    assert "train" in call([python.with_name("gpunet"), "--help"], tmp_path)
    assert "train" in call([python, "-m", "gpunet", "--help"], tmp_path)
    code = "import gpunet, importlib.metadata as m; print(gpunet.__version__, m.version('gpunet'))"
    assert call([python, "-c", code], tmp_path).split() == [VERSION, VERSION]


def test_training_needs_no_extra(installed: tuple[str, Path], tmp_path: Path) -> None:
    _, python = installed
    call([python.with_name("gpunet"), "train", "--epochs", "1", "--device", "cpu", "--out", "run"], tmp_path)
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
