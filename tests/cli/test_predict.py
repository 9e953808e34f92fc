"""``gpunet predict``."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunet.cli.predict import classify
from gpunet.data import Digits
from gpunet.training import RunFolder, evaluation_transform, load_model, read_settings

Image = pytest.importorskip("PIL.Image")

SCALE = 16
POLARITIES = ("light-on-dark", "dark-on-light")


def write_digit(path: Path, image: np.ndarray, polarity: str, **options: Any) -> Path:
    """Write a digit (8, 8) of 0..1 as a picture 16 times larger."""
    pixels = np.rint(np.kron(image, np.ones((SCALE, SCALE))) * 255).astype(np.uint8)
    Image.fromarray(pixels if polarity == "light-on-dark" else 255 - pixels).save(path, **options)
    return path


@pytest.fixture(scope="session")
def predicted(trained_run: Path) -> np.ndarray:
    """What the network says to the test digits themselves."""
    config, info = read_settings(RunFolder.open(trained_run))
    from gpunet.backend.devices import device

    transform = evaluation_transform(config.recipe, info, config.model)
    return classify(load_model(trained_run), Digits(train=False).images, transform, device("cpu"))


@pytest.mark.parametrize("polarity", POLARITIES)
@pytest.mark.parametrize("given", [True, False])
def test_enlarged_digits_keep_their_predictions(
    gpunet: Callable[..., Any],
    trained_run: Path,
    predicted: np.ndarray,
    tmp_path: Path,
    polarity: str,
    given: bool,
) -> None:
    images = Digits(train=False).images[: 40 if given else 360, 0]
    paths = [write_digit(tmp_path / f"{n}.png", image, polarity) for n, image in enumerate(images)]
    options = ("--polarity", polarity) if given else ()
    done = gpunet("predict", trained_run, *paths, "--device", "cpu", "--json", *options)
    assert done.code == 0, done.err
    found = np.array([prediction["index"] for prediction in done.json["predictions"]])
    assert (found == predicted[: len(images)].argmax(1)).mean() >= 0.99


def test_lines_and_json(gpunet: Callable[..., Any], trained_run: Path, predicted: np.ndarray, tmp_path: Path) -> None:
    images = Digits(train=False).images
    surest = np.argsort(-predicted.max(1))[:2]
    digits = predicted[surest].argmax(1)
    write_digit(tmp_path / "a.png", images[surest[0], 0], "light-on-dark")
    write_digit(tmp_path / "b.jpg", images[surest[1], 0], "dark-on-light", quality=95)
    command = ("predict", trained_run, "a.png", "b.jpg", "--device", "cpu")

    lines = gpunet(*command).out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"a.png: {digits[0]} (")
    assert lines[1].startswith(f"b.jpg: {digits[1]} (")
    assert lines[1].endswith(" %)")

    done = gpunet(*command, "--json", "--top", 3)
    assert len(done.out.splitlines()) == 1
    first, second = done.json["predictions"]
    assert (first["image"], first["class"], first["index"]) == ("a.png", str(digits[0]), digits[0])
    assert 0.3 < second["probability"] <= 1
    assert len(first["top"]) == 3
    assert first["top"][0] == {key: first[key] for key in ("class", "index", "probability")}
    chances = [choice["probability"] for choice in first["top"]]
    assert chances == sorted(chances, reverse=True)


def test_files_that_are_no_images(gpunet: Callable[..., Any], trained_run: Path, tmp_path: Path) -> None:
    good = write_digit(tmp_path / "good.png", Digits(train=False).images[0, 0], "light-on-dark")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:100])
    (tmp_path / "folder.png").mkdir()
    for name in ("text.png", "empty.png", "cut.png", "folder.png", "missing.png"):
        failed = gpunet("predict", trained_run, "good.png", name)
        assert failed.code == 2
        assert name in failed.one_error()
        assert failed.out == ""


def test_without_pillow(
    gpunet: Callable[..., Any], trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digit(tmp_path / "a.png", Digits(train=False).images[0, 0], "light-on-dark")
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "PIL":
            raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    failed = gpunet("predict", trained_run, "a.png")
    assert failed.code == 2
    assert "pip install 'gpunet[images]'" in failed.one_error()


def test_run_without_a_checkpoint(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    assert gpunet("train", "--model", "lenet", "--epochs", 1, "--device", "cpu", "--out", "here").code == 0
    (tmp_path / "here" / "checkpoint.safetensors").unlink()
    failed = gpunet("predict", "here", "a.png")
    assert failed.code == 2
    assert "has no checkpoint yet; go on with: gpunet train --resume here" in failed.one_error()
    assert "start a new run with a lower --lr" in failed.one_error()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_is_no_picture(gpunet: Callable[..., Any], trained_run: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    failed = gpunet("predict", trained_run, "pipe.png")
    assert failed.code == 2
    assert "pipe.png: is a pipe or a device, not a picture file" in failed.one_error()
