"""The model zoo against PyTorch on the CPU: ``python -m benchmarks.zoo``.

Constructing and initialising each of torchvision's nets, and inference and a training step of each family; both sides
alternate in one run, with the same threads, weights and data. Names and shapes of the states, outputs and losses are
compared before anything is timed.

    python -m benchmarks.zoo [--quick] [--threads 2] [--rounds 5] [--only PART ...] [--models NAME ...] [--out FOLDER]

``--only`` takes construct, inference, train; ``--quick`` is one round of a few nets, to see that all of it runs.
torchvision's nets need ``pip install torchvision==0.28.0 --no-deps``; without PyTorch gpunet is timed alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import gpunet as gn
from benchmarks.cpu import copy_weights
from benchmarks.harness import Row, compare, environment, table, write
from gpunet.models import get_model, googlenet_loss

PARTS = ("construct", "inference", "train")

CONSTRUCTED = (
    "alexnet", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "googlenet",
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "densenet121", "densenet161", "densenet169", "densenet201",
)  # fmt: skip
QUICK = ("alexnet", "googlenet", "resnet18", "densenet121", "nin_cifar10", "cifar_preact_resnet20")

# A net of each family, and the images that it gets.
FAMILIES: dict[str, tuple[int, ...]] = {
    "alexnet": (8, 3, 224, 224),
    "vgg11": (2, 3, 224, 224),
    "nin_cifar10": (16, 3, 32, 32),
    "googlenet": (4, 3, 224, 224),
    "resnet18": (4, 3, 224, 224),
    "resnet50": (2, 3, 224, 224),
    "cifar_resnet20": (32, 3, 32, 32),
    "cifar_preact_resnet20": (32, 3, 32, 32),
    "densenet121": (2, 3, 224, 224),
}
LAYOUTS = ("NCHW", "channels_last")


def make_ours(name: str) -> gn.nn.Module:
    gn.manual_seed(0)
    return get_model(name)


def make_theirs(name: str) -> Any | None:
    """The same net in PyTorch; None where that needs torchvision and it is not there."""
    from benchmarks import torch_models
    from gpunet.testing.torchvision_models import torchvision_models

    others: dict[str, Callable[[], Any]] = {
        "nin_cifar10": torch_models.nin_cifar10,
        "cifar_resnet20": lambda: torch_models.cifar_resnet(20, "A"),
        "cifar_preact_resnet20": lambda: torch_models.cifar_preact_resnet(20),
    }
    if name in others:
        return others[name]()
    try:
        torchvision = torchvision_models()
    except ModuleNotFoundError as error:
        print(f"{name} without a peer: {error}", flush=True)
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that initialising GoogLeNet is slow
        return getattr(torchvision, name)(weights=None)


def data_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    shape = FAMILIES[name]
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, np.float32), rng.integers(0, 10, shape[0])


def without_dropout(model: Any) -> Any:
    """The two sides would drop different elements."""
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    return model


def our_inference(name: str) -> tuple[Callable[[], np.ndarray], gn.nn.Module]:
    model = make_ours(name).eval()
    images = gn.from_numpy(data_of(name)[0])

    def run() -> np.ndarray:
        with gn.no_grad():
            return model(images).numpy()

    return run, model


def their_inference(name: str, layout: str, ours: gn.nn.Module) -> Callable[[], np.ndarray] | None:
    import torch

    model = make_theirs(name)
    if model is None:
        return None
    copy_weights(ours, model)
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = model.eval().to(memory_format=memory_format)
    images = torch.from_numpy(data_of(name)[0]).contiguous(memory_format=memory_format)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return model(images).numpy()

    return run


def our_step(name: str) -> tuple[Callable[[], float], gn.nn.Module]:
    """Forward, loss (with the auxiliary heads where there are any), backward, SGD with momentum."""
    model = without_dropout(make_ours(name))
    optimizer = gn.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    images, labels = (gn.from_numpy(array) for array in data_of(name))

    def step() -> float:
        optimizer.zero_grad()
        loss = googlenet_loss(model(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step, model


def their_step(name: str, layout: str, ours: gn.nn.Module) -> Callable[[], float] | None:
    import torch
    from torch.nn.functional import cross_entropy

    model = make_theirs(name)
    if model is None:
        return None
    copy_weights(ours, model)
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = without_dropout(model).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    pixels, classes = data_of(name)
    images, labels = torch.from_numpy(pixels).contiguous(memory_format=memory_format), torch.from_numpy(classes)

    def step() -> float:
        optimizer.zero_grad()
        outputs = model(images)
        if isinstance(outputs, tuple):
            loss = cross_entropy(outputs[0], labels)
            for scores in outputs[1:]:
                loss = loss + 0.3 * cross_entropy(scores, labels)
        else:
            loss = cross_entropy(outputs, labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def show(row: Row) -> Row:
    print(table([row]).splitlines()[-1], flush=True)
    return row


def bench_construct(names: list[str], rounds: int, peers: bool) -> list[Row]:
    """Seconds from the name to the initialised net."""
    rows = []
    for name in names:
        sides: dict[str, Callable[[], Any]] = {}
        if peers:
            theirs = make_theirs(name)
            if theirs is not None:
                expected = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
                state = {key: tuple(value.shape) for key, value in make_ours(name).state_dict().items()}
                assert state == expected, f"{name}: the states differ"
                del theirs
                sides["torchvision"] = lambda name=name: make_theirs(name)
        rows.append(
            show(compare(f"construct {name}", lambda name=name: make_ours(name), sides, rounds=rounds, warmup=1))
        )
    return rows


def bench_inference(names: list[str], rounds: int, peers: bool) -> list[Row]:
    rows = []
    for name in names:
        ours, model = our_inference(name)
        sides: dict[str, Callable[[], Any]] = {}
        for layout in LAYOUTS if peers else ():
            run = their_inference(name, layout, model)
            if run is not None:
                expected, got = run(), ours()
                error = np.abs(got - expected).max() / np.abs(expected).max()
                assert error < 1e-4, f"{name}: outputs differ by {error:.1e}, relative; not timed"
                sides[f"PyTorch {layout}"] = run
        what = f"inference {name}, batch {FAMILIES[name][0]}, {FAMILIES[name][-1]} pixels"
        rows.append(show(compare(what, ours, sides, rounds=rounds, warmup=1)))
    return rows


def bench_train(names: list[str], rounds: int, peers: bool) -> list[Row]:
    rows = []
    for name in names:
        sides: dict[str, Callable[[], Any]] = {}
        for layout in LAYOUTS if peers else ():
            ours, model = our_step(name)
            step = their_step(name, layout, model)
            if step is not None:
                # After a step with BatchNorm over two images, rounding alone moves the loss: PyTorch's two layouts too.
                for number, bound in enumerate((1e-4, 1e-2)):
                    got, expected = ours(), step()
                    assert abs(got - expected) <= bound * max(1.0, abs(expected)), (
                        f"{name}: losses differ at step {number}: gpunet {got}, PyTorch {expected}; not timed"
                    )
                sides[f"PyTorch {layout}"] = step
        ours, model = our_step(name)
        what = f"training step {name}, batch {FAMILIES[name][0]}, {FAMILIES[name][-1]} pixels"
        rows.append(show(compare(what, ours, sides, rounds=rounds, warmup=1)))
    return rows


def main() -> None:
    """Run the parts asked for, print the table, write CSV and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"of {', '.join({*CONSTRUCTED, *FAMILIES})}")
    parser.add_argument("--quick", action="store_true", help="one round of a few nets; nothing is written")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default=f"zoo-cpu-{datetime.now(UTC):%Y-%m-%d}")
    arguments = parser.parse_args()
    gn.set_num_threads(arguments.threads)
    peers = importlib.util.find_spec("torch") is not None
    if peers:
        import torch

        torch.set_num_threads(arguments.threads)
    else:
        print("PyTorch is not installed: gpunet is timed alone")
    wanted = arguments.models or (QUICK if arguments.quick else {*CONSTRUCTED, *FAMILIES})
    constructed = [name for name in CONSTRUCTED if name in wanted]
    families = [name for name in FAMILIES if name in wanted]
    rounds = 2 if arguments.quick else arguments.rounds
    about = environment(["numpy", "torch", "torchvision"])
    about["versions"]["gpunet"] = gn.__version__
    about |= {"threads": arguments.threads, "device": "cpu", "rounds": rounds}
    print(f"{about['processor']}, {arguments.threads} threads, {about['versions']}\n")
    parts: dict[str, Callable[[], list[Row]]] = {
        "construct": lambda: bench_construct(constructed, rounds, peers),
        "inference": lambda: bench_inference(families, rounds, peers),
        "train": lambda: bench_train(families, rounds, peers),
    }
    rows = [row for part in PARTS if part in arguments.only for row in parts[part]()]
    print("\n" + table(rows))
    if not arguments.quick:
        write(arguments.name, rows, about, arguments.out)


if __name__ == "__main__":
    main()
