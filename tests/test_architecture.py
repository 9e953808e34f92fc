"""The walls of the house: what may import what, what may not be imported at all, and what lies in the tree.

The imports are read from the syntax tree, so a test here fails for an import inside a function, in a branch
nobody took and under TYPE_CHECKING as well. Every rule has a planted fault that shows the checker sees it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each layer may import the ones above it in this list, and none in its own row.
LAYERS = (
    {"_version", "_startup", "_missing"},
    {"backend"},
    {"ops"},
    {"autograd"},
    {"cuda", "accelerator", "backends"},  # what a user sees of the GPU
    {"nn"},
    {"functions"},  # the tensors' methods as functions, for the facade
    {"optim", "data", "interop", "distributions"},
    {"models"},
    {"inspect"},
    {"training"},
    {"cli"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# The facade and `python -m gpunet` sit on top of everything; `testing` may look at everything, nothing at it.
TOP = {"__init__", "__main__"}
# Nothing below imports these, so they may use the facade and import by name as a user would.
ABOVE_THE_FACADE = TOP | {"cli", "testing"}
KNOWN = RANK.keys() | TOP | {"testing"}

# Compiled code is loaded in one place; `testing` runs CUDA kernels on the CPU through ctypes.
BACKEND_ONLY = {"cupy", "cupyx", "ctypes", "cffi"}
ALLOWED_IN_TESTING = {"ctypes"}

# No pickle, no eval, no code from a file.
CODE_FROM_DATA = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
CODE_FROM_TEXT = {"eval", "exec", "compile"}

TREE = {
    "gpunet", "cuda_kernels", "cpu_kernels", "tests", "examples", "benchmarks", "docs", ".ci",
    "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE",
    ".gitignore", ".pre-commit-config.yaml",
}  # fmt: skip

EXTRAS = {
    "cupy", "cupyx", "matplotlib", "PIL", "ml_dtypes", "torch", "torchvision", "onnx", "tensorboard",
    "mpi4py", "scipy", "skimage", "sklearn",
}  # fmt: skip


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of everything imported anywhere in a module of ``package``.

    ``from a import b`` yields ``a.b``: whether b is a module cannot be seen from here, and the rules look at
    the first two words alone. An ``import_module`` of something that is not a literal yields ``"?"``.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in {"import_module", "__import__"}:
                target = node.args[0] if node.args else None
                literal = isinstance(target, ast.Constant) and isinstance(target.value, str)
                yield node.lineno, target.value if literal else "?"


def problems_of_module(path: Path, package_root: Path) -> Iterator[str]:
    """Yield one line for each rule that the module breaks."""
    inside = path.relative_to(package_root)
    parts = inside.with_suffix("").parts
    room = parts[0]
    package = ".".join([package_root.name, *parts[:-1]])
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))

    if room not in KNOWN:
        yield f"{inside}: {room!r} is not a part of the package's design"
        return
    for line, name in imported_modules(tree, package):
        words = name.split(".")
        where = f"{inside}:{line}"
        if words[0] in CODE_FROM_DATA:
            yield f"{where}: imports {words[0]}, which runs code from data"
        allowed_here = room == "backend" or (room == "testing" and words[0] in ALLOWED_IN_TESTING)
        if words[0] in BACKEND_ONLY and not allowed_here:
            yield f"{where}: imports {words[0]} outside backend"
        if name == "?" and room not in ABOVE_THE_FACADE:
            yield f"{where}: imports a module by a computed name"
        if words[0] != package_root.name or room in TOP:
            continue
        target = words[1] if len(words) > 1 else "__init__"
        if target == "testing" and room != "testing":
            yield f"{where}: imports testing, which is for tests alone"
        elif target not in RANK and target != "testing":
            if room not in ABOVE_THE_FACADE:
                yield f"{where}: imports the facade ({name})"
        elif room != "testing" and target != room and RANK[target] >= RANK[room]:
            yield f"{where}: {room} imports {target}, upward or sideways"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CODE_FROM_TEXT:
                yield f"{inside}:{node.lineno}: calls {node.func.id}, which runs code from text"
            for keyword in node.keywords:
                safe = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not safe:
                    yield f"{inside}:{node.lineno}: allows pickle"
        elif isinstance(node, ast.Attribute) and node.attr == "ctypeslib" and room not in {"backend", "testing"}:
            yield f"{inside}:{node.lineno}: uses ctypeslib outside backend"


def problems(package_root: Path) -> list[str]:
    """Return every broken rule of the package, one line each."""
    return [line for path in sorted(package_root.rglob("*.py")) for line in problems_of_module(path, package_root)]


def test_imports_run_one_way() -> None:
    assert (ROOT / "gpunet" / "__init__.py").is_file()
    assert problems(ROOT / "gpunet") == []


@pytest.mark.parametrize(
    ("path", "source", "finding"),
    [
        ("ops/conv.py", "import gpunet.nn.functional", "ops imports nn, upward"),
        ("ops/conv.py", "import gpunet.nn as layers", "ops imports nn, upward"),
        ("ops/conv.py", "from gpunet import nn", "ops imports nn, upward"),
        ("ops/conv.py", "from gpunet.nn import Linear", "ops imports nn, upward"),
        ("ops/conv.py", "from ..nn import Linear", "ops imports nn, upward"),
        ("ops/conv.py", "from .. import nn", "ops imports nn, upward"),
        ("ops/cuda/conv.py", "from ... import autograd", "ops imports autograd, upward"),
        ("ops/conv.py", "def f():\n    from gpunet.autograd import Tensor", "ops imports autograd, upward"),
        (
            "ops/conv.py",
            "class C:\n    def f(self):\n        import gpunet.models",
            "ops imports models, upward",
        ),
        (
            "ops/conv.py",
            "if TYPE_CHECKING:\n    from gpunet.autograd import Tensor",
            "ops imports autograd, upward",
        ),
        (
            "ops/conv.py",
            "try:\n    import gpunet.optim\nexcept ImportError:\n    pass",
            "ops imports optim, upward",
        ),
        ("ops/conv.py", "import importlib\nimportlib.import_module('gpunet.nn')", "ops imports nn, upward"),
        ("ops/conv.py", "__import__('gpunet.nn')", "ops imports nn, upward"),
        (
            "ops/conv.py",
            "import importlib\nimportlib.import_module(name)",
            "imports a module by a computed name",
        ),
        ("ops/conv.py", "import gpunet", "imports the facade"),
        ("ops/conv.py", "from gpunet import Tensor", "imports the facade"),
        ("data/loader.py", "from gpunet.optim import SGD", "data imports optim, upward or sideways"),
        ("cli/train.py", "from gpunet.testing import compare", "imports testing"),
        ("cli/train.py", "import cupy as cp", "imports cupy outside backend"),
        ("cli/train.py", "def f():\n    from cupyx.scipy import sparse", "imports cupyx outside backend"),
        ("ops/conv.py", "import ctypes", "imports ctypes outside backend"),
        (
            "ops/conv.py",
            "import numpy as np\nnp.ctypeslib.load_library('a', 'b')",
            "ctypeslib outside backend",
        ),
        ("testing/mock.py", "import cupy", "imports cupy outside backend"),
        ("cuda.py", "import cupy", "imports cupy outside backend"),
        ("cuda.py", "from .nn import Module", "cuda imports nn, upward"),
        ("backend/kernels.py", "import pickle", "imports pickle"),
        ("data/cache.py", "def f():\n    from joblib import load", "imports joblib"),
        ("training/run.py", "import marshal, shelve", "imports shelve"),
        ("training/run.py", "value = eval(text)", "calls eval"),
        ("__init__.py", "exec(text)", "calls exec"),
        ("data/digits.py", "import numpy as np\nnp.load(p, allow_pickle=True)", "allows pickle"),
        ("helpers/tools.py", "", "not a part of the package's design"),
        ("helpers.py", "", "not a part of the package's design"),
    ],
)
def test_planted_fault_is_found(tmp_path: Path, path: str, source: str, finding: str) -> None:
    planted = tmp_path / "gpunet" / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source + "\n", encoding="utf-8")
    found = problems(tmp_path / "gpunet")
    assert any(finding in line for line in found), found


def test_allowed_imports_are_not_reported(tmp_path: Path) -> None:
    allowed = {
        "__init__.py": "from gpunet import nn\nfrom .autograd import Tensor\nfrom gpunet import cli",
        "backend/devices.py": "import ctypes\nimport cupy\nimport cupyx\nfrom .errors import DeviceError",
        "ops/conv.py": "from gpunet.backend import devices\nimport gpunet.ops\nload(p, allow_pickle=False)",
        "nn/module.py": "from ..ops.conv import conv2d\nimport gpunet.nn.init\nmodel.eval()\nre.compile(t)",
        "data/loader.py": "from gpunet.nn import Module\nimport gpunet.data.sets",
        "testing/mock.py": "import ctypes\nfrom gpunet.cli import main",
        "cli/__init__.py": "from gpunet.training import Trainer\nfrom ..models import get_model",
        "cli/info.py": "import gpunet\nimportlib.import_module(name)",
        "cuda.py": "from gpunet.backend.devices import device",
    }
    for path, source in allowed.items():
        file = tmp_path / "gpunet" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source + "\n", encoding="utf-8")
    assert problems(tmp_path / "gpunet") == []


# ---- what is imported


def run_python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new interpreter, away from the checkout."""
    env = {key: value for key, value in os.environ.items() if key != "GPUNET_DEVICE"} | environment
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_import_brings_none_of_the_extras(tmp_path: Path) -> None:
    done = run_python("import gpunet, json, sys; print(json.dumps(sorted(sys.modules)))", tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded & EXTRAS == set()


def test_import_leaves_training_until_it_is_asked_for(tmp_path: Path) -> None:
    code = """
import sys
import gpunet as gn
assert not [name for name in sys.modules if name.startswith("gpunet.training")]
assert "training" in dir(gn)
assert gn.training.tbptt is sys.modules["gpunet.training"].tbptt
assert "training" in vars(gn)
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def cupy_trap(tmp_path: Path) -> str:
    """A PYTHONPATH on which `import cupy` and `import cupyx` end the process with status 77."""
    for name in ("cupy", "cupyx"):
        package = tmp_path / "trap" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("import os\nos._exit(77)\n", encoding="utf-8")
    return os.pathsep.join(filter(None, [str(tmp_path / "trap"), os.environ.get("PYTHONPATH", "")]))


def test_the_trap_catches(tmp_path: Path, cupy_trap: str) -> None:
    assert run_python("import cupy", tmp_path, PYTHONPATH=cupy_trap).returncode == 77
    assert run_python("from cupyx import scipy", tmp_path, PYTHONPATH=cupy_trap).returncode == 77


def test_device_cpu_keeps_cupy_out(tmp_path: Path, cupy_trap: str) -> None:
    code = """
import gpunet as gn
import numpy as np
gn.manual_seed(0)
assert str(gn.device("auto")) == "cpu", gn.device("auto")
images = gn.tensor(np.ones((2, 1, 8, 8), np.float32))
model = gn.models.get_model("cifar_resnet20", in_channels=1)
gn.nn.functional.cross_entropy(model(images), gn.tensor(np.array([0, 1]))).backward()
gn.optim.SGD(model.parameters(), lr=0.1).step()
try:
    gn.device("cuda")
    images.to("cuda")
except gn.DeviceError:
    pass
else:
    raise SystemExit("GPUNET_DEVICE=cpu gave a CUDA device")
"""
    done = run_python(code, tmp_path, PYTHONPATH=cupy_trap, GPUNET_DEVICE="cpu")
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"


# ---- the tree


def tracked_files() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: the tracked files cannot be listed")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name]


def test_top_of_the_tree_is_the_designed_one() -> None:
    assert {name.partition("/")[0] for name in tracked_files()} - TREE == set()


# Put together from pieces, so that this file does not hold what it looks for.
PLACES = "|".join(["home", "root", "Users", "tmp", "work", "mnt"])
MACHINE = re.compile(rf"(?<![\w.$}}])/(?:{PLACES})/\w|[A-Z]:\\+Users|index[-]url")


def lines_of_one_machine(text: str) -> list[str]:
    return [line for line in text.splitlines() if MACHINE.search(line)]


def test_no_file_holds_a_path_of_one_machine() -> None:
    found = []
    for name in tracked_files():
        path = ROOT / name
        if path.is_file():  # a file that was deleted and not yet committed is still listed
            text = path.read_bytes().decode("utf-8", errors="replace")
            found += [f"{name}: {line.strip()[:100]}" for line in lines_of_one_machine(text)]
    assert found == []


@pytest.mark.parametrize("start", ["home", "root", "tmp", "Users"])
def test_planted_path_is_found(start: str) -> None:
    path = "/".join(["", start, "me", "data"])
    assert lines_of_one_machine(f"out = {path!r}")
    assert lines_of_one_machine(f"see {path}")
    assert lines_of_one_machine("pip install --extra-index" + "-url https://example.org")
    assert not lines_of_one_machine(f"https://example.org{path} and docs{path} and ${{HOME}}{path}")
