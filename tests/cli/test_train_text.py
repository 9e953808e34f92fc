"""``gpunet train --text``: what it writes and says, how it goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.interop import load_safetensors
from gpunet.training import RunFolder, Trainer, load_language_model, read_checkpoint

# The smallest network, on a text of 3,000 characters: 21 steps an epoch.
SMALL = ("--hidden", "8", "--embedding", "4", "--batch-size", "8", "--window", "16", "--lr", "0.01", "--device", "cpu")
COLUMNS = (
    "epoch,train_loss,train_accuracy,test_loss,test_accuracy,train_bits_per_character,test_bits_per_character,"
    "test_perplexity,learning_rate,seconds"
)
LINE = "Größe → 카페 🙂 and\u0301 so on.\n"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text with characters of one to four bytes, an accent that combines, and lines that end as on Windows."""
    path = tmp_path / "mine.txt"
    path.write_bytes((LINE * 120)[:3000].replace("\n", "\r\n").encode())
    return path


def model_size(model: Any) -> int:
    return sum(int(parameter.numel()) for parameter in model.parameters())


def assert_same_bits(first: Path, second: Path) -> None:
    ours, theirs = (load_safetensors(run / "checkpoint.safetensors") for run in (first, second))
    assert ours.keys() == theirs.keys()
    assert any("reading" in name for name in ours)
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name


def numbers_of(run: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in RunFolder(run).read_metrics()]


# --------------------------------------------------------------------------------------------------- a whole run


def test_a_run_from_beginning_to_end(gpunet: Callable[..., Any], tmp_path: Path, text: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ("train", "--model", "char_rnn", "--cell", "gru", "--text", text.name, *SMALL)
    done = gpunet(*command, "--epochs", 2, "--seed", 7, "--out", "here", "--json")
    assert done.code == 0, done.err
    assert done.err == ""  # no bar where there is no terminal

    result = done.json
    assert (result["epochs"], result["steps"], result["seed"], result["finished"]) == (2, 42, 7, True)
    assert (result["model"], result["cell"], result["device"]) == ("char_rnn", "gru", "cpu")
    assert 0 < result["test_bits_per_character"] < 6
    assert result["warning"] is None
    assert "Warning" not in done.out
    assert result["test_perplexity"] == pytest.approx(2 ** result["test_bits_per_character"])

    run = tmp_path / "here"
    assert {path.name for path in run.iterdir()} == {
        ".lock", "config.json", "metrics.csv", "checkpoint.safetensors", "curve.png",
    }  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    assert (config["task"], config["cell"], config["window"], config["hidden_size"]) == ("language", "gru", 16, 8)
    assert config["text"] == str(text)  # as a full path: it may be resumed from elsewhere
    assert config["dataset"]["characters"] == "".join(sorted(set(LINE)))  # and no \r
    assert config["characters"] == {"train": 2700, "test": 300}
    with open(run / "metrics.csv", newline="") as file:
        lines = file.read().splitlines()
    assert lines[0] == COLUMNS
    rows = list(csv.DictReader(lines))
    assert float(rows[1]["test_bits_per_character"]) == result["test_bits_per_character"]
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")

    said = done.out.splitlines()
    sizes = "2,700 characters, 300 held out, 18 different ones"
    assert said[0] == f"Training char_rnn (gru, 1,002 parameters) on {text} ({sizes}) on cpu."
    assert "gpunet train --resume here" in said[1]
    assert said[2].startswith("42 steps, 21 in each epoch; how long they take is said after the first ones.")
    epochs = [number for number, line in enumerate(said) if line.startswith("epoch ")]
    assert len(epochs) == 2
    for number in epochs:
        assert re.search(r"held out \d\.\d{3} bits/character  perplexity \d+\.\d\d", said[number])
        assert said[number + 1].startswith("    ")  # a sample
    assert f"{result['test_bits_per_character']:.3f} bits per character on the held-out text" in done.out
    assert "gpunet sample here --length 1000" in done.out
    assert "load_language_model('here')" in done.out


def test_python_snippet_of_the_output_works(gpunet: Callable[..., Any], text: Path) -> None:
    assert gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here", "--quiet").code == 0
    model, vocabulary = load_language_model("here")
    assert not model.training
    drawn = vocabulary.decode(model.sample(50, vocabulary.encode("카페"), 1.0))
    assert len(drawn) == 50
    assert set(drawn) <= set(LINE)


def test_quiet_says_the_result_alone(gpunet: Callable[..., Any], text: Path) -> None:
    done = gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here", "--quiet")
    assert "epoch 1/1" not in done.out
    first = done.out.splitlines()[0]
    assert " after 1 epoch, " in first
    assert first.endswith("s of training on cpu.")


def test_samples_do_not_change_the_run(gpunet: Callable[..., Any], tmp_path: Path, text: Path) -> None:
    """What is shown draws from a stream of its own."""
    command = ("train", "--text", text, *SMALL, "--epochs", 2, "--dropout", 0.5)
    outs = [gpunet(*command, "--out", name, *more).out for name, more in (("loud", ()), ("quiet", ("--quiet",)))]
    assert_same_bits(tmp_path / "loud", tmp_path / "quiet")
    again = gpunet(*command, "--out", "again").out
    samples = [[line for line in out.splitlines() if line.startswith("    ")] for out in (outs[0], again)]
    assert samples[0] == samples[1]


def test_the_bundled_text_is_the_default(gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Trainer, inputs: Any, labels: Any) -> None:
        assert inputs.shape == (32, 64)
        raise KeyboardInterrupt

    monkeypatch.setattr("gpunet.training.LanguageTrainer.train_step", stop)
    done = gpunet("train", "--model", "char_rnn", "--hidden", 8, "--device", "cpu")
    assert done.code == 130
    assert "on pride_and_prejudice (616,291 characters, 68,477 held out, 75 different ones) on cpu." in done.out
    assert "Run folder: runs/char_rnn-pride_and_prejudice-" in done.out


def test_a_sample_without_lines_is_folded(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    """240 characters: at most 96 of them in a line, of those that take two columns 48."""
    for name, content, most in (("words", "so on and on ", 96), ("one", "abcdefgh", 96), ("wide", "카페 가자 ", 48)):
        (tmp_path / f"{name}.txt").write_text(content * 250, encoding="utf-8")
        done = gpunet("train", "--text", f"{name}.txt", *SMALL, "--epochs", 1, "--out", name)
        lines = [line[4:] for line in done.out.splitlines() if line.startswith("    ")]
        assert len(lines) >= 240 // most
        assert max(map(len, lines)) <= most
        assert sum(map(len, lines)) > 240 - 2 * len(lines) - 20


def test_characters_that_nothing_is_learned_about_are_named(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "late.txt").write_text("abcdefg " * 250 + "Ω", encoding="utf-8")
    done = gpunet("train", "--text", "late.txt", *SMALL, "--epochs", 1, "--out", "here")
    assert done.code == 0, done.err
    named = "Only in the held-out part, so that nothing is learned about them: 'Ω' (U+03A9)."
    assert done.out.splitlines()[3] == named
    assert named not in gpunet("train", "--text", "late.txt", *SMALL, "--epochs", 1, "--out", "on", "--quiet").out
    (tmp_path / "early.txt").write_text("Ω" + "abcdefg " * 250, encoding="utf-8")
    assert "held-out part" not in gpunet("train", "--text", "early.txt", *SMALL, "--epochs", 1, "--out", "e").out


def test_a_short_text_is_read_to_its_end(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    """1,863 characters: 8 streams of 232, in a window of 120 and one of 112. 200 streams of 9 leave out 62."""
    (tmp_path / "near.txt").write_text("ab" * 1035, encoding="utf-8")
    small = ("--text", "near.txt", "--hidden", 4, "--layers", 1, "--epochs", 1, "--device", "cpu")
    done = gpunet("train", *small, "--batch-size", 8, "--window", 120, "--out", "all", "--json")
    assert done.code == 0, done.err
    assert "(1,863 characters, 207 held out, 2 different ones)" in done.out
    assert "2 steps, 2 in each epoch" in done.out
    assert "Not read in training" not in done.out
    assert done.json["steps"] == 2
    done = gpunet("train", *small, "--batch-size", 200, "--window", 9, "--out", "part")
    assert done.code == 0, done.err
    assert "Not read in training: the last 62 characters, as the streams are of equal length; a smaller" in done.out


def test_a_terminal_is_not_moved_by_a_sample() -> None:
    from gpunet.cli.train_text import printable

    assert printable("a\x1b[31mb\tc\r\nd\x00é🙂") == "a\ufffd[31mb\tc\ufffd\nd\ufffdé🙂"


# ------------------------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("stop_after", [1, 21, 30])
def test_resumed_run_has_the_same_bits(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path, stop_after: int
) -> None:
    """Stopped after some step, in an epoch (21 steps each) or at its end, with dropout."""
    from gpunet.training import LanguageTrainer

    arguments = ("train", "--text", text, *SMALL, "--epochs", 2, "--dropout", 0.4, "--seed", 5)
    assert gpunet(*arguments, "--out", "whole").code == 0
    step = LanguageTrainer.train_step

    def stop(self: LanguageTrainer, inputs: Any, labels: Any) -> None:
        step(self, inputs, labels)
        if self.step == stop_after:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageTrainer, "train_step", stop)
        stopped = gpunet(*arguments, "--out", "parts", "--json")
    assert stopped.code == 130
    assert stopped.json["finished"] is False
    assert stopped.json["steps"] == stop_after
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.safetensors")["progress"]["step"] == stop_after

    done = gpunet("train", "--resume", "parts", "--json", "--hidden", 8)
    assert done.code == 0, done.err
    assert done.json["steps"] == 42
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")
    assert numbers_of(tmp_path / "whole") == numbers_of(tmp_path / "parts")


def test_a_finished_run_resumed_says_its_result(gpunet: Callable[..., Any], tmp_path: Path, text: Path) -> None:
    first = gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here", "--json")
    before = (tmp_path / "here" / "checkpoint.safetensors").read_bytes()
    again = gpunet("train", "--resume", "here", "--json")
    assert again.code == 0
    assert again.json["test_bits_per_character"] == first.json["test_bits_per_character"]
    assert (tmp_path / "here" / "checkpoint.safetensors").read_bytes() == before


def test_a_text_that_changed_is_refused(gpunet: Callable[..., Any], tmp_path: Path, text: Path) -> None:
    assert gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here").code == 0
    before = text.read_bytes()
    text.write_bytes(before.replace(b"so on", b"on so"))
    refused = gpunet("train", "--resume", "here")
    assert refused.code == 2
    assert f"{text} is not the text that the run began with: it has changed" in refused.one_error()
    text.unlink()
    refused = gpunet("train", "--resume", "here")
    assert refused.code == 2
    assert "here/config.json: 'text': " in refused.one_error()
    assert f"there is no file {text}; if the text was moved, go on with: gpunet train --resume here --text FILE" in (
        refused.one_error()
    )
    text.write_bytes(before)
    assert gpunet("train", "--resume", "here").code == 0


@pytest.mark.parametrize("more", [(), ("--quiet",)])
def test_a_checkpoint_that_is_gone_is_no_beginning(
    gpunet: Callable[..., Any], tmp_path: Path, text: Path, more: tuple[str, ...]
) -> None:
    assert gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here").code == 0
    before = (tmp_path / "here" / "metrics.csv").read_bytes()
    (tmp_path / "here" / "checkpoint.safetensors").unlink()
    refused = gpunet("train", "--resume", "here", *more)
    assert refused.code == 2
    assert "here/checkpoint.safetensors is gone, though here/metrics.csv has 1 finished epoch:" in refused.one_error()
    assert (tmp_path / "here" / "metrics.csv").read_bytes() == before


def test_a_text_that_was_moved_is_found_again(gpunet: Callable[..., Any], tmp_path: Path, text: Path) -> None:
    assert gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here").code == 0
    moved = text.rename(tmp_path / "moved.txt")
    (tmp_path / "other.txt").write_text(LINE * 110, encoding="utf-8")
    refused = gpunet("train", "--resume", "here", "--text", "other.txt")
    assert refused.code == 2
    assert "other.txt is not the text that the run began with" in refused.one_error()
    done = gpunet("train", "--resume", "here", "--text", "moved.txt")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "here" / "config.json").read_text())["text"] == str(moved)
    assert gpunet("train", "--resume", "here").code == 0  # it is known from now on


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX")
def test_a_text_from_a_pipe(gpunet: Callable[..., Any], tmp_path: Path, text: Path) -> None:
    """It cannot be read again, so what is said asks for a file."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["/bin/sh", "-c", f"cat {text.name} > pipe"], cwd=tmp_path) as feeder:
        done = gpunet("train", "--text", "pipe", *SMALL, "--epochs", 1, "--out", "here")
        assert feeder.wait(60) == 0
    assert done.code == 0, done.err
    assert "gpunet train --resume here --text FILE)" in done.out
    assert gpunet("train", "--resume", "here", "--text", text).code == 0


def test_signal_saves_and_says_how_to_go_on(
    start: Callable[..., subprocess.Popen[str]], gpunet: Callable[..., Any], tmp_path: Path, text: Path
) -> None:
    arguments = ("train", "--text", str(text), *SMALL, "--epochs", "6", "--seed", "1")
    process = start(*arguments, "--out", "parts", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch   1/6"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == ""
    assert "gpunet train --resume parts" in out
    assert json.loads(out.splitlines()[-1])["finished"] is False
    assert gpunet("train", "--resume", "parts").code == 0
    assert gpunet(*arguments, "--out", "whole").code == 0
    assert_same_bits(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_progress_bar_and_samples_on_a_terminal(tmp_path: Path, text: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    code = "import sys; from gpunet.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = [sys.executable, "-c", code, "train", "--text", str(text), *SMALL, "--epochs", "2", "--out", "here"]
    shown = b""
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
        assert process.wait(60) == 0
    os.close(parent)
    said = shown.decode(errors="replace")
    assert "epoch   1/2:" in said  # the bar
    assert "bits/character" in said
    assert said.count("\r\n    ") >= 2


# -------------------------------------------------------------------------------------------- runs that fail later


def test_nan_loss_stops_and_keeps_the_last_checkpoint(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path
) -> None:
    from gpunet.training import LanguageTrainer

    step = LanguageTrainer.train_step

    def poison(self: LanguageTrainer, inputs: Any, labels: Any) -> None:
        if self.step == 25:
            self.reading = tuple(part * float("nan") for part in self.reading)
        step(self, inputs, labels)

    monkeypatch.setattr(LanguageTrainer, "train_step", poison)
    failed = gpunet("train", "--text", text, *SMALL, "--epochs", 3, "--out", "here", "--quiet")
    assert failed.code == 1
    assert "the loss became nan in step 26 (epoch 2)" in failed.one_error()
    assert "start a new run with a lower --lr" in failed.one_error()
    state = load_safetensors(tmp_path / "here" / "checkpoint.safetensors")
    assert all(np.isfinite(array).all() for array in state.values())


def poisoned(loss: float) -> Callable[..., Any]:
    """A trainer's evaluation that finds this loss on the held-out text, whatever the model is."""
    from gpunet.training import LanguageTrainer

    scored = LanguageTrainer._reader

    def reader(self: LanguageTrainer) -> Callable[..., Any]:
        read = scored(self)

        def far_off(inputs: Any, labels: Any) -> Any:
            logits, labels = read(inputs, labels)
            wrong = np.zeros(logits.shape, np.float32)
            wrong[np.arange(len(wrong)), (labels.numpy() + 1) % wrong.shape[1]] = loss
            return gn.from_numpy(wrong), labels

        return far_off

    return reader


@pytest.mark.parametrize(
    ("loss", "perplexity", "said"),
    [
        (1e6, None, "perplexity above 1e304"),
        (100.0, pytest.approx(math.exp(100), rel=1e-3), "perplexity 2.7e43"),
        (float("nan"), None, "perplexity nan"),
    ],
)
def test_a_held_out_text_that_nothing_was_learned_about(
    gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, text: Path, loss: float, perplexity: Any, said: str
) -> None:
    """Logits that are far off: the model's loss is what they differ by."""
    monkeypatch.setattr("gpunet.training.LanguageTrainer._reader", poisoned(loss))
    done = gpunet("train", "--text", text, *SMALL, "--epochs", 4, "--out", "here", "--json")
    assert done.code == 0, done.err
    assert done.json["test_perplexity"] == perplexity
    warning = done.json["warning"]
    assert "this is worse than knowing nothing, which takes log2(18) = 4.170 bits per character; " in warning
    assert "on what it learned the model is better: that is too short, or the held-out text is unlike it" in warning
    assert ("the perplexity is too large for a number" in warning) == (loss == 1e6)
    assert f"Warning: {warning}\n" in done.out
    assert done.out.count(said) == 4 + 1
    again = gpunet("train", "--resume", "here", "--quiet")
    assert f"Warning: {warning}\n" in again.out


@pytest.mark.parametrize(("clip", "advice"), [(0, "try a lower --lr, and a --clip above 0"), (5, "try a lower --lr")])
def test_a_run_that_diverged(gpunet: Callable[..., Any], text: Path, clip: float, advice: str) -> None:
    """Steps of 100 in all weights, by Adam: scores of thousands for characters that do not come."""
    options = ("--lr", 100, "--clip", clip, "--dropout", 0, "--cell", "rnn", "--epochs", 1)
    done = gpunet("train", "--text", text, *SMALL, *options, "--out", "here", "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.json["test_bits_per_character"] > 10
    assert re.search(
        rf"; training has diverged: {advice}(; the perplexity is too large for a number)?$", (done.json["warning"])
    )
    assert f"Warning: {done.json['warning']}\n" in done.out


def test_when_there_is_nothing_to_warn_about() -> None:
    from gpunet.cli.train_text import describe_failure

    def said(train: float, held_out: float) -> str:
        bits = {"train_bits_per_character": train, "test_bits_per_character": held_out}
        return describe_failure(bits | {"test_perplexity": 2**held_out}, 8, 1.0)

    assert said(2.0, 2.5) == said(9.0, 2.9) == said(3.0, 3.0) == ""
    assert said(2.0, 3.1).endswith("or the held-out text is unlike it")
    assert said(3.2, 3.1).endswith("it has learned too little: try more --epochs, or another --lr")
    assert said(5.0, 3.1).endswith("training has diverged: try a lower --lr")
    assert said(float("nan"), float("nan")).endswith("training has diverged: try a lower --lr")
    assert describe_failure({"train_bits_per_character": 0, "test_bits_per_character": 0}, 1, 1.0) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not delete what is open")
def test_a_run_folder_that_is_deleted(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path
) -> None:
    from gpunet.training import LanguageTrainer

    step = LanguageTrainer.train_step

    def delete(self: LanguageTrainer, inputs: Any, labels: Any) -> None:
        step(self, inputs, labels)
        if self.step == 5:
            shutil.rmtree(tmp_path / "here")

    monkeypatch.setattr(LanguageTrainer, "train_step", delete)
    failed = gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here", "--quiet")
    assert failed.code == 1
    assert "the run is no longer there" in failed.one_error()
    assert "--resume" not in failed.one_error()


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--text", "nothing.txt"], "argument --text: "),
        (["--text", "nothing.txt"], "nothing.txt: no such file; the bundled text is 'pride_and_prejudice'"),
        (["--text", "."], "is a folder, not a text file"),
        (["--model", "char_rnn", "--cell", "lstm2"], "argument --cell: invalid choice: 'lstm2'"),
        (["--model", "char_rnn", "--hidden", "0"], "argument --hidden: must be at least 1, got 0"),
        (["--model", "char_rnn", "--layers", "x"], "argument --layers: expected a whole number, got 'x'"),
        (["--model", "char_rnn", "--embedding", "-1"], "argument --embedding: expected a whole number of at least 0"),
        (["--model", "char_rnn", "--window", "0"], "argument --window: must be at least 1, got 0"),
        (["--model", "char_rnn", "--dropout", "1.5"], "argument --dropout: must lie in 0..1, got 1.5"),
        (["--model", "char_rnn", "--dropout", "1"], "argument --dropout: must be below 1, got 1"),
        (["--model", "char_rnn", "--held-out", "0"], "argument --held-out: must be a share above 0 and below 1, got 0"),
        (["--model", "char_rnn", "--held-out", "1"], "argument --held-out: must be a share above 0 and below 1, got 1"),
        (["--model", "char_rnn", "--clip", "-1"], "argument --clip: must not be negative, got -1"),
        (["--model", "char_rnn", "--data", "digits"], "argument --data: is for models of images, not for char_rnn"),
        (["--model", "char_rnn", "--recipe", "paper"], "argument --recipe: is for models of images, not for char_rnn"),
        (["--model", "char_rnn", "--augment"], "argument --augment: is for models of images, not for char_rnn"),
        (["--model", "lenet", "--text", "x.txt"], "argument --text: is for models of texts, not for lenet"),
        (["--cell", "gru"], "argument --cell: is for models of texts, not for cifar_resnet20"),
        (["--model", "char_rn"], "unknown model 'char_rn'; did you mean 'char_rnn'?"),
        (
            ["--model", "char_rnn", "--batch-size", "10000"],
            "the text is shorter than one window: 10,000 streams of 64 ",
        ),
        (["--model", "char_rnn", "--batch-size", "10000"], "give a smaller --batch-size or --window, or a longer text"),
    ],
)
def test_bad_argument(gpunet: Callable[..., Any], tmp_path: Path, arguments: list[str], expected: str) -> None:
    failed = gpunet("train", "--device", "cpu", *arguments)
    assert failed.code == 2
    assert expected in failed.one_error()
    assert failed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a text of 0 characters is too short to train on and to measure on"),
        (b"abc", "a text of 3 characters is too short"),
        (
            b"abcdefgh" * 8,
            "the text is shorter than one window: 32 streams of 64 characters and what follows them need",
        ),
        (b"caf\xe9 " * 999, "not UTF-8: byte 0xe9 at position 3 (line 1) cannot be decoded"),
        ("text ".encode("utf-16") * 999, "it looks like UTF-16, save it as UTF-8"),
    ],
)
def test_texts_that_are_none(gpunet: Callable[..., Any], tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    failed = gpunet("train", "--text", "bad.txt", "--device", "cpu")
    assert failed.code == 2
    assert expected in failed.one_error()
    assert "bad.txt" in failed.one_error()
    assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]


def test_resume_keeps_the_settings(gpunet: Callable[..., Any], text: Path) -> None:
    assert gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here").code == 0
    for option, value, kept in (
        ("--hidden", 9, 8),
        ("--cell", "gru", "lstm"),
        ("--window", 17, 16),
        ("--dropout", 0.3, 0.2),
        ("--lr", 0.02, 0.01),
        ("--held-out", 0.2, 0.1),
        ("--epochs", 2, 1),
        ("--model", "lenet", "char_rnn"),
    ):
        failed = gpunet("train", "--resume", "here", option, value)
        assert failed.code == 2
        assert f"{option} {value} does not go with --resume: the run in here has {kept}" in failed.one_error()
    failed = gpunet("train", "--resume", "here", "--augment")
    assert "argument --augment: is for models of images; the run in here has char_rnn" in failed.one_error()


def test_edited_settings_are_found(gpunet: Callable[..., Any], tmp_path: Path, text: Path) -> None:
    assert gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here").code == 0
    path = tmp_path / "here" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"cell": "foo"}))
    assert "error: here/config.json: char_rnn: cell must be" in gpunet("train", "--resume", "here").one_error()
    for change, named in (
        ({"cell": 3}, "'cell' must be of type str, got 3"),
        ({"cell": "elman"}, "cell must be one of rnn, lstm, gru, got 'elman'"),
        ({"dataset": {}}, "'dataset': description of a text: field 'name' is missing"),
        ({"hidden_size": 9}, "does not fit"),
        ({"model": "resnet18"}, "'resnet18' is no model of texts"),
    ):
        path.write_text(json.dumps(config | change))
        for command in (("train", "--resume", "here"), ("sample", "here")):
            failed = gpunet(*command)
            assert failed.code == 2, (command, change)
            assert named in failed.one_error(), (command, change)


# ------------------------------------------------------------------------------------------------ other commands


def test_what_the_other_commands_say(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path
) -> None:
    assert gpunet("train", "--text", text, *SMALL, "--epochs", 1, "--out", "here").code == 0
    failed = gpunet("predict", "here", "a.png")
    assert failed.code == 2
    assert "the run here is one of a language model, not of a classifier; gpunet sample here" in failed.one_error()

    done = gpunet("export", "here", "--to", "safetensors", "--out", "weights.safetensors")
    assert done.code == 0
    model, _ = load_language_model("here")
    found = load_safetensors(tmp_path / "weights.safetensors")
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(found[name], value.numpy())
    for size in ("3,8,8", "1,7"):
        failed = gpunet("export", "here", "--to", "safetensors", "--input", size)
        assert failed.code == 2
        assert "argument --input: " in failed.one_error()
        assert "steps" in failed.one_error()

    done = gpunet("summary", "here", "--input", 7, "--batch", 3, "--params", "--json")
    assert (done.code, done.err) == (0, "")
    found = done.json
    weights = 18 * 4 + 4 * 8 * (4 + 8 + 2) + 4 * 8 * (8 + 8 + 2) + 8 * 18 + 18
    assert found["total_params"] == found["params"]["total"] == weights == model_size(model)
    assert (found["name"], found["run"]) == ("char_rnn", "here")
    assert (found["input_shapes"], found["output_shape"]) == ([[3, 7]], [3, 7, 18])
    shown = gpunet("summary", "here")
    assert shown.out.startswith("char_rnn of the run here (CharRNN), input 1x64, evaluation mode\n")
    counted = 64 + 64 * 18
    assert (
        f" {counted:,} numbers in input, convolutions, poolings and linear layers (LSTM, Embedding not counted)\n"
        in (shown.out)
    )
    for options, named in (
        (("--input", "3,32,32"), "argument --input: char_rnn takes sequences, expected a number of steps such as 64"),
        (("--num-classes", 3), "argument --num-classes: is for a model by name; a run has its own"),
    ):
        failed = gpunet("summary", "here", *options)
        assert failed.code == 2
        assert named in failed.one_error()
    (tmp_path / "here" / "checkpoint.safetensors").unlink()  # what it has learned is of no account
    assert gpunet("summary", "here").out == shown.out
    config = json.loads((tmp_path / "here" / "config.json").read_text())
    (tmp_path / "here" / "config.json").write_text(json.dumps(config | {"cell": "elman"}))
    failed = gpunet("summary", "here")
    assert failed.code == 2
    assert "here/config.json: char_rnn: cell must be one of rnn, lstm, gru, got 'elman'" in failed.one_error()

    failed = gpunet("summary", "char_rnn", "--input", "3,32,32")
    assert failed.code == 2
    assert failed.one_error().count("char_rnn") == 1

    monkeypatch.setattr("gpunet.cli.models.list_models", lambda kind=None: ["char_rnn"])
    (line,) = gpunet("models").out.splitlines()
    assert re.match(r"char_rnn +886,880 parameters +56\.1 M multiply-adds at 64 steps +Graves 2013 \(", line)
    done = gpunet("summary", "char_rnn", "--json")
    assert done.code == 0
    assert done.json["total_params"] == 886_880
    assert done.json["input_shapes"] == [[1, 64]]


@pytest.mark.onnx
@pytest.mark.parametrize(("cell", "states"), [("rnn", ["h"]), ("gru", ["h"]), ("lstm", ["h", "c"])])
def test_onnx_of_a_run_reads_on_from_its_state(
    gpunet: Callable[..., Any], text: Path, cell: str, states: list[str]
) -> None:
    """Character by character in another program, the state handed on: the scores of the whole text at once."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from gpunet.autograd import from_numpy, no_grad

    assert gpunet("train", "--text", text, *SMALL, "--cell", cell, "--epochs", 1, "--out", "here").code == 0
    done = gpunet("export", "here", "--to", "onnx", "--out", "here.onnx", "--json")
    assert done.code == 0, done.err
    model, vocabulary = load_language_model("here")
    known, state = len(vocabulary), ["batch", 2, 8]
    assert done.json["inputs"] == {"input": ["batch", 1]} | {f"{name}_0": state for name in states}
    assert done.json["outputs"] == {"output": ["batch", 1, known]} | {f"{name}_n": state for name in states}
    x = np.random.default_rng(0).integers(0, known, (5, 7))
    with no_grad():
        expected = model(from_numpy(x))[0].numpy()
    session = onnxruntime.InferenceSession("here.onnx")
    carried = {f"{name}_0": np.zeros((5, 2, 8), np.float32) for name in states}
    for step in range(7):
        scores, *last = session.run(
            ["output", *(f"{name}_n" for name in states)], {"input": x[:, step : step + 1], **carried}
        )
        np.testing.assert_allclose(scores[:, 0], expected[:, step], atol=1e-4)
        carried = dict(zip(carried, last, strict=True))

    done = gpunet("export", "here", "--to", "onnx", "--out", "seven.onnx", "--input", 7, "--json")
    assert done.json["inputs"]["input"] == ["batch", 7]
    zeros = {name: np.zeros_like(part) for name, part in carried.items()}
    scores = onnxruntime.InferenceSession("seven.onnx").run(["output"], {"input": x, **zeros})[0]
    np.testing.assert_allclose(scores, expected, atol=1e-4)

    exported = onnx.load("here.onnx")
    metadata = {entry.key: entry.value for entry in exported.metadata_props}
    assert json.loads(metadata["gpunet.text"])["characters"] == vocabulary.characters
    assert {"embedding.weight", "decoder.bias"} <= {each.name for each in exported.graph.initializer}
