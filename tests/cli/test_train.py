"""``gpunet train``: what it writes, what it says, and how it goes on."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunet.interop import load_safetensors
from gpunet.training import RunFolder, read_checkpoint

# The smallest run: LeNet on the digits takes a fraction of a second an epoch.
SHORT = ("train", "--model", "lenet", "--device", "cpu", "--lr", "0.02")
COLUMNS = ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds"]


def weights_of(run: Path) -> dict[str, np.ndarray]:
    """Every array of a run's checkpoint: weights, buffers and optimizer state."""
    return load_safetensors(run / "checkpoint.safetensors")


def assert_same_bits(first: Path, second: Path) -> None:
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 10
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name


def numbers_of(run: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics, without the time."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in RunFolder(run).read_metrics()]


# ------------------------------------------------------------------------------------------------- a whole run


def test_a_run_from_beginning_to_end(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = gpunet(*SHORT, "--epochs", 2, "--batch-size", 100, "--seed", 7, "--out", "here", "--json")
    assert done.code == 0, done.err
    assert done.err == ""  # no bar where there is no terminal

    result = done.json
    assert 0.1 < result["test_accuracy"] <= 1
    assert result["seconds"] > 0
    assert result["device"] == "cpu"
    assert result["run"] == "here"
    assert result["finished"] is True
    assert (result["epochs"], result["steps"], result["seed"]) == (2, 30, 7)

    run = tmp_path / "here"
    names = {path.name for path in run.iterdir()}
    assert names == {".lock", "config.json", "metrics.csv", "checkpoint.safetensors", "curve.png"}
    config = json.loads((run / "config.json").read_text())
    assert config["model"] == "lenet"
    assert config["recipe"]["batch_size"] == 100
    assert config["dataset"]["classes"] == [str(digit) for digit in range(10)]
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [COLUMNS, COLUMNS]
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert float(rows[1]["test_accuracy"]) == result["test_accuracy"]
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")

    text = done.out
    assert text.count("epoch ") >= 2
    assert f"Test accuracy {result['test_accuracy'] * 100:.2f} %" in text
    assert "gpunet predict here image.png" in text
    assert "gpunet train --resume here" in text
    assert "load_model('here')" in text


def test_python_snippet_of_the_output_works(trained_run: Path) -> None:
    from gpunet.data import Digits
    from gpunet.training import load_model, read_settings

    model = load_model(str(trained_run))
    assert not model.training
    _, info = read_settings(RunFolder.open(trained_run))
    from gpunet.autograd import from_numpy, no_grad

    test = Digits(train=False)
    with no_grad():
        found = model(from_numpy(info.normalize(test.images))).numpy().argmax(1)
    assert (found == test.labels).mean() == RunFolder(trained_run).read_metrics()[-1]["test_accuracy"]


def test_default_folder_is_numbered(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    folders = set()
    for _ in range(2):
        done = gpunet(*SHORT, "--epochs", 1, "--json", "--quiet")
        assert done.code == 0
        folders.add(done.json["run"])
    assert len(folders) == 2
    for folder in folders:
        assert Path(folder).parent == Path("runs")
        assert Path(folder).name.startswith("lenet-digits-")
        assert (tmp_path / folder / "checkpoint.safetensors").exists()


def test_the_seed_decides(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("same", 3), ("other", 4)):
        assert gpunet(*SHORT, "--epochs", 1, "--seed", seed, "--out", name).code == 0
    assert_same_bits(tmp_path / "first", tmp_path / "same")
    ours, theirs = weights_of(tmp_path / "first"), weights_of(tmp_path / "other")
    assert any(not np.array_equal(ours[name], theirs[name]) for name in ours)


def test_folder_exists_before_the_first_batch(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpunet.training import Trainer

    found: list[set[str]] = []
    step = Trainer.train_step

    def watch(self: Trainer, inputs: Any, labels: Any) -> None:
        found.append({path.name for path in (tmp_path / "here").iterdir()})
        step(self, inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", watch)
    assert gpunet(*SHORT, "--epochs", 1, "--out", "here").code == 0
    assert found[0] == {".lock", "config.json", "metrics.csv"}


def test_every_batch_goes_to_the_device(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    """``cpu:1`` mixes with ``cpu`` as little as a GPU does."""
    for device in ("cpu", "cpu:1"):
        done = gpunet("train", "--model", "lenet", "--epochs", 1, "--device", device, "--out", device, "--json")
        assert done.code == 0, done.err
        assert done.json["device"] == device
    assert_same_bits(tmp_path / "cpu", tmp_path / "cpu:1")


def test_data_from_a_file(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (generator.random((60, 12, 12)) * 80).astype(np.uint8)
    for label in range(3):
        images[labels == label, 4 * label : 4 * label + 4] += 150
    np.savez(tmp_path / "stripes.npz", images=images, labels=labels)
    done = gpunet(*SHORT, "--data", "stripes.npz", "--epochs", 1, "--batch-size", 8, "--json")
    assert done.code == 0, done.err
    assert Path(done.json["run"]).name.startswith("lenet-stripes-")
    assert done.json["steps"] == 6

    # The last batch would be one image of 1x1 pixel where the network is deepest: no variance to normalise by.
    small = images[:, ::3, ::3]
    np.savez(tmp_path / "small.npz", images=small, labels=labels)
    done = gpunet("train", "--data", "small.npz", "--epochs", 1, "--batch-size", 47, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert done.json["steps"] == 1


def test_without_matplotlib_a_line_says_so(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    done = gpunet(*SHORT, "--epochs", 1, "--out", "here")
    assert done.code == 0
    assert "no curve.png: that needs pip install 'gpunet[plot]'" in done.out
    assert not (tmp_path / "here" / "curve.png").exists()


# ------------------------------------------------------------------------------------------------ going on


def test_a_finished_run_resumed_says_its_result(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    first = gpunet(*SHORT, "--epochs", 1, "--out", "here", "--json")
    before = (tmp_path / "here" / "checkpoint.safetensors").read_bytes()
    again = gpunet("train", "--resume", "here", "--json")
    assert again.code == 0
    assert again.json["test_accuracy"] == first.json["test_accuracy"]
    assert (tmp_path / "here" / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize(("model", "stop_after"), [("lenet", 1), ("lenet", 15), ("lenet", 23), ("cifar_resnet20", 10)])
def test_resumed_run_has_the_same_bits(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int, model: str
) -> None:
    """Stopped after some step, in an epoch (15 steps each) or at its end, and resumed by a new trainer."""
    from gpunet.training import Trainer

    arguments = ("train", "--model", model, "--device", "cpu", "--epochs", 2, "--batch-size", 100, "--seed", 5)
    assert gpunet(*arguments, "--out", "whole").code == 0
    step = Trainer.train_step

    def stop(self: Trainer, inputs: Any, labels: Any) -> None:
        step(self, inputs, labels)
        if self.step == stop_after:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stop)
        stopped = gpunet(*arguments, "--out", "parts", "--json")
    assert stopped.code == 130
    assert stopped.json["finished"] is False
    assert stopped.json["steps"] == stop_after
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.safetensors")["progress"]["step"] == stop_after
    assert "gpunet train --resume parts" in stopped.out

    done = gpunet("train", "--resume", "parts", "--json")
    assert done.code == 0
    assert done.json["steps"] == 30
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    assert numbers_of(tmp_path / "whole") == numbers_of(tmp_path / "parts")


def test_resume_without_a_checkpoint_starts_from_the_beginning(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    assert gpunet(*SHORT, "--epochs", 1, "--out", "whole").code == 0
    assert gpunet(*SHORT, "--epochs", 1, "--out", "parts").code == 0
    # As if killed before the first one was written: then there are no finished epochs either.
    (tmp_path / "parts" / "checkpoint.safetensors").unlink()
    metrics = tmp_path / "parts" / "metrics.csv"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    done = gpunet("train", "--resume", "parts")
    assert done.code == 0
    assert "no checkpoint yet, starting from the beginning" in done.out
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    assert numbers_of(tmp_path / "whole") == numbers_of(tmp_path / "parts")


# ------------------------------------------------------------------------------------- a process of its own


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal_saves_and_says_how_to_go_on(
    start: Callable[..., subprocess.Popen[str]], gpunet: Callable[..., Any], tmp_path: Path, name: str, code: int
) -> None:
    number = getattr(signal, name, None)
    if number is None or sys.platform == "win32":
        pytest.skip(f"this system sends no {name}")
    arguments = (*SHORT, "--epochs", 8, "--seed", 1)
    process = start(*arguments, "--out", "parts", "--json")
    wait_for(tmp_path / "parts" / "checkpoint.safetensors", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err == ""
    assert "gpunet train --resume parts" in out
    assert json.loads(out.splitlines()[-1])["finished"] is False

    assert gpunet("train", "--resume", "parts").code == 0
    assert gpunet(*arguments, "--out", "whole").code == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


def test_killed_at_random_moments(
    start: Callable[..., subprocess.Popen[str]], gpunet: Callable[..., Any], tmp_path: Path
) -> None:
    """SIGKILL leaves no time for anything; a checkpoint at every step makes it hit the writing of one often."""
    moments = random.Random(0)
    arguments = (*SHORT, "--epochs", 2, "--seed", 2)
    command = (*arguments, "--out", "parts", "--checkpoint-every", 0)
    steps = []
    for _ in range(5):
        process = start(*command)
        wait_for(tmp_path / "parts" / ("checkpoint.safetensors" if steps else "metrics.csv"), process)
        time.sleep(moments.uniform(0.0, 0.8 if steps else 0.3))
        process.kill()
        process.communicate()
        checkpoint = tmp_path / "parts" / "checkpoint.safetensors"
        steps.append(read_checkpoint(checkpoint)["progress"]["step"] if checkpoint.exists() else 0)
        command = ("train", "--resume", "parts", "--checkpoint-every", 0)
    assert steps == sorted(steps)
    done = gpunet("train", "--resume", "parts", "--json")
    assert done.code == 0
    assert gpunet(*arguments, "--out", "whole").code == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    assert numbers_of(tmp_path / "whole") == numbers_of(tmp_path / "parts")
    leftovers = {path.name for path in (tmp_path / "parts").iterdir() if path.name.startswith(".")}
    assert leftovers == {".lock"}


def test_a_second_process_in_the_same_run_is_refused(
    start: Callable[..., subprocess.Popen[str]], gpunet: Callable[..., Any], tmp_path: Path
) -> None:
    process = start(*SHORT, "--epochs", 500, "--out", "here")
    wait_for(tmp_path / "here" / "checkpoint.safetensors", process)
    refused = gpunet("train", "--resume", "here")
    assert refused.code == 2
    assert "another process" in refused.one_error()
    refused = gpunet(*SHORT, "--out", "here")
    assert refused.code == 2
    assert "not empty" in refused.one_error()
    assert process.poll() is None
    process.kill()
    process.communicate()
    # The lock went with the process.
    RunFolder.open(tmp_path / "here").lock()


def test_a_reader_that_goes_away_does_not_end_the_run(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(*SHORT, "--epochs", 2, "--out", "here")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("Training lenet")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0
    assert len(RunFolder(tmp_path / "here").read_metrics()) == 2


# --------------------------------------------------------------------------------------- runs that fail later


def test_nan_loss_stops_and_keeps_the_last_checkpoint(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpunet.training import Trainer

    step = Trainer.train_step

    def poison(self: Trainer, inputs: Any, labels: Any) -> None:
        step(self, inputs * float("nan") if self.step == 25 else inputs, labels)

    monkeypatch.setattr(Trainer, "train_step", poison)
    failed = gpunet(*SHORT, "--epochs", 3, "--out", "here", "--checkpoint-every", 0)
    assert failed.code == 1
    message = failed.one_error()
    assert "the loss became nan in step 26 (epoch 2)" in message
    assert "is kept" in message
    state = read_checkpoint(tmp_path / "here" / "checkpoint.safetensors")
    assert 0 < state["progress"]["step"] <= 25
    for name, array in weights_of(tmp_path / "here").items():
        assert np.isfinite(array).all(), name


def test_infinite_weights_are_not_saved(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the last step before a checkpoint may be finite and its update not."""
    from gpunet.training import Trainer

    step = Trainer.train_step

    def poison(self: Trainer, inputs: Any, labels: Any) -> None:
        step(self, inputs, labels)
        if self.step == 46:  # the last of the second epoch
            next(iter(self.model.parameters()))._array[...] = np.inf

    monkeypatch.setattr(Trainer, "train_step", poison)
    failed = gpunet(*SHORT, "--epochs", 3, "--out", "here")
    assert failed.code == 1
    failed.one_error()
    assert read_checkpoint(tmp_path / "here" / "checkpoint.safetensors")["progress"]["epoch"] == 1


def test_a_rate_that_is_too_high_ends_in_one_line(gpunet: Callable[..., Any]) -> None:
    failed = gpunet("train", "--model", "lenet", "--device", "cpu", "--lr", "1e30", "--epochs", 3)
    assert failed.code == 1
    assert "start a new run with a lower --lr" in failed.one_error()


def test_full_disk_keeps_the_last_checkpoint(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from gpunet.training import checkpoint

    saves = []
    save = checkpoint.save

    def fill(state: Any, path: Any) -> None:
        if saves:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        saves.append(path)
        save(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", fill)
        failed = gpunet(*SHORT, "--epochs", 3, "--out", "parts")
    assert failed.code == 1
    message = failed.one_error()
    assert "No space left on device" in message
    assert "gpunet train --resume parts" in message
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.safetensors")["progress"]["epoch"] == 1

    assert gpunet("train", "--resume", "parts").code == 0
    assert gpunet(*SHORT, "--epochs", 3, "--out", "whole").code == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


def test_full_disk_for_real(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    """On a file system that has room for one checkpoint and not for a second beside it."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True, check=False
        )
        if sys.platform == "linux"
        else None
    )
    if mounted is None or mounted.returncode:
        pytest.skip("this user cannot mount a file system")
    try:
        failed = gpunet(*SHORT, "--epochs", 3, "--out", small / "run")
        message = failed.one_error()
        assert failed.code == 1, message
        assert "No space left on device" in message
        assert read_checkpoint(small / "run" / "checkpoint.safetensors")["progress"]["epoch"] == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


# -------------------------------------------------------------------------------------------------- the terminal


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_progress_bar_and_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    import fcntl
    import os
    import pty
    import struct
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    code = (
        "import os, sys; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "from gpunet.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, *SHORT, "--epochs", "200", "--out", "here"]
    shown, interrupted = b"", False
    with subprocess.Popen(arguments, cwd=tmp_path, stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        while True:
            try:
                piece = os.read(parent, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not piece:
                break
            shown += piece
            if not interrupted and shown.count(b"  test ") >= 2:
                os.write(parent, b"\x03")
                interrupted = True
        assert process.wait(60) == 130
    os.close(parent)
    text = shown.decode()
    assert "epoch   1/200:" in text  # the bar
    assert "step/s" in text
    assert "nan" not in text
    assert "Stopped by Ctrl-C" in text
    assert "gpunet train --resume here" in text


# ---------------------------------------------------------------------------------------------- Ctrl-C at any time


def test_ctrl_c_while_the_curve_is_drawn(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is over and saved: its result is said, whatever becomes of the picture."""
    from gpunet import inspect

    def draw(*arguments: Any) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return b"not reached"

    monkeypatch.setattr(inspect, "curve_png", draw)
    done = gpunet(*SHORT, "--epochs", 1, "--out", "here", "--json")
    assert done.code == 130
    assert done.err == ""
    assert "Test accuracy" in done.out
    assert "no curve.png: interrupted" in done.out
    assert done.json["finished"] is True
    assert not (tmp_path / "here" / "curve.png").exists()


@pytest.mark.parametrize("presses", [2, 3])
def test_ctrl_c_pressed_in_haste(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, presses: int
) -> None:
    """The second stops at once; one that comes while the message is printed does not take it away."""
    from gpunet.cli import train
    from gpunet.training import Trainer

    step = Trainer.train_step

    def press(self: Trainer, inputs: Any, labels: Any) -> None:
        step(self, inputs, labels)
        if self.step == 30:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    say = train.say

    def interrupted_say(text: str = "") -> None:
        if presses == 3 and "Interrupted" in text:
            signal.raise_signal(signal.SIGINT)
        say(text)

    monkeypatch.setattr(Trainer, "train_step", press)
    monkeypatch.setattr(train, "say", interrupted_say)
    stopped = gpunet(*SHORT, "--epochs", 3, "--out", "here")
    assert stopped.code == 130
    assert stopped.err == ""
    assert "Interrupted; the last checkpoint (step 23, 1 finished epoch) is kept" in stopped.out
    assert stopped.out.endswith("gpunet train --resume here\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_the_result_is_printed(gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunet.cli import train

    conclude = train._conclude

    def press(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        conclude(*arguments)

    monkeypatch.setattr(train, "_conclude", press)
    done = gpunet(*SHORT, "--epochs", 1, "--out", "here", "--json")
    assert done.code == 0
    assert done.json["finished"] is True
