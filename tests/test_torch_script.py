"""A script written for PyTorch runs after changing its imports, and learns the same."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.data.digits import load_digits

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# As such scripts are written: a Module subclass, DataLoader loops, x.view(n, -1), a scheduler, evaluation under
# no_grad, and the state_dict saved and loaded. `images`, `labels`, `weights`, `path` and `epochs` are given.
SCRIPT = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(p=0.0)
        self.classifier = nn.Sequential(nn.Linear(16 * 2 * 2, 84), nn.ReLU(inplace=True), nn.Linear(84, num_classes))

    def forward(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = F.avg_pool2d(F.relu(self.conv2(x)), kernel_size=2)
        x = x.view(x.size(0), -1)
        x = self.dropout(x)
        return self.classifier(x)


def train(model, device, loader, optimizer, losses):
    model.train()
    for data, target in loader:
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=5.0)
        optimizer.step()
        losses.append(loss.item())


def test(model, device, loader):
    model.eval()
    test_loss = 0
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            output = model(data)
            test_loss += F.nll_loss(F.log_softmax(output, dim=1), target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    test_loss /= len(loader.dataset)
    print(f"loss {test_loss:.4f}, accuracy {correct}/{len(loader.dataset)}")
    return test_loss, correct


def count_parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


torch.manual_seed(0)
device = torch.device("cpu")

x = torch.from_numpy(images).float().unsqueeze(1) / 16.0
y = torch.tensor(labels, dtype=torch.long)
mean, std = x.mean(), x.std()
x = (x - mean) / std
dataset = TensorDataset(x, y)
train_loader = DataLoader(dataset, batch_size=32, shuffle=False, drop_last=True)
test_loader = DataLoader(dataset, batch_size=100)

model = Net().to(device)
shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
if weights is not None:
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
parameters = count_parameters(model)
optimizer = make_optimizer(optim, model.parameters())
scheduler = StepLR(optimizer, step_size=1, gamma=0.7)

losses = []
rates = []
for epoch in range(epochs):
    train(model, device, train_loader, optimizer, losses)
    rates.append(optimizer.param_groups[0]["lr"])
    scheduler.step()
result = test(model, device, test_loader)

torch.save(model.state_dict(), path)
again = Net()
again.load_state_dict(torch.load(path))
again.to(device)
reloaded = test(again, device, test_loader)
features = again.conv2.weight.detach().cpu().numpy()
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """PyTorch's threads spin while they wait: two of them on a busy machine take ten times as long for small images."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_other_imports(script: str) -> str:
    """The script with nothing changed but its imports."""
    lines = script.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"(import|from) torch\b", line):
            lines[number] = "import gpunet as torch" if line == "import torch" else line.replace("torch", "gpunet")
    return "\n".join(lines)


def execute(
    script: str, path: Path, weights: dict[str, np.ndarray] | None, make_optimizer: Any, epochs: int = 2
) -> dict[str, Any]:
    """Run the script on 352 digits, 11 steps an epoch; everything it defined, and what it printed."""
    images, labels = load_digits()
    names: dict[str, Any] = {
        "images": images[:352], "labels": labels[:352], "weights": weights, "path": str(path), "epochs": epochs,
        "make_optimizer": make_optimizer,
    }  # fmt: skip
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "<script>", "exec"), names)  # noqa: S102
    names["printed"] = printed.getvalue()
    return names


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda optim, parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    "Adam": lambda optim, parameters: optim.Adam(parameters, lr=1e-3),
    "AdamW": lambda optim, parameters: optim.AdamW(parameters, lr=1e-3, weight_decay=0.05),
}


def test_only_imports_change() -> None:
    before, after = SCRIPT.splitlines(), with_other_imports(SCRIPT).splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [
        ("import torch", "import gpunet as torch"),
        ("import torch.nn as nn", "import gpunet.nn as nn"),
        ("import torch.nn.functional as F", "import gpunet.nn.functional as F"),
        ("import torch.optim as optim", "import gpunet.optim as optim"),
        ("from torch.optim.lr_scheduler import StepLR", "from gpunet.optim.lr_scheduler import StepLR"),
        (
            "from torch.utils.data import DataLoader, TensorDataset",
            "from gpunet.utils.data import DataLoader, TensorDataset",
        ),
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_follows_pytorchs_from_the_same_weights(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = execute(SCRIPT, tmp_path / "theirs.pt", None, OPTIMIZERS[name])
    # The weights PyTorch began with: its script again, up to the training.
    torch.manual_seed(0)
    start = {key: value.detach().numpy().copy() for key, value in theirs["Net"]().state_dict().items()}
    theirs = execute(SCRIPT, tmp_path / "theirs.pt", start, OPTIMIZERS[name])
    ours = execute(with_other_imports(SCRIPT), tmp_path / "ours.safetensors", start, OPTIMIZERS[name])
    assert isinstance(ours["model"], gn.nn.Module)
    assert len(ours["losses"]) == 22
    np.testing.assert_allclose(ours["losses"][:20], theirs["losses"][:20], rtol=0, atol=1e-4)
    assert ours["losses"][-1] < ours["losses"][0]
    assert ours["rates"] == pytest.approx(theirs["rates"])
    assert ours["shapes"] == theirs["shapes"]
    assert ours["parameters"] == theirs["parameters"]
    assert ours["reloaded"] == ours["result"]
    assert ours["result"][0] == pytest.approx(theirs["result"][0], abs=1e-3)
    assert re.fullmatch(r"(loss \d\.\d{4}, accuracy \d+/352\n){2}", ours["printed"])
    for key, value in ours["model"].state_dict().items():
        np.testing.assert_allclose(
            value.numpy(), theirs["model"].state_dict()[key].numpy(), rtol=0, atol=2e-4, err_msg=key
        )


def test_it_learns_from_its_own_weights(tmp_path: Path) -> None:
    names = execute(with_other_imports(SCRIPT), tmp_path / "own.safetensors", None, OPTIMIZERS["SGD"], epochs=6)
    assert names["losses"][-1] < 0.5 * names["losses"][0]
    assert names["result"][1] > 300
    assert (tmp_path / "own.safetensors").is_file()
