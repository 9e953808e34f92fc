"""Bad input: exit code 2, one line on standard error that names the argument and the rule, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TRAIN = ("train", "--device", "cpu", "--epochs", "1")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "--model", "cifar_resnet21"], "unknown model 'cifar_resnet21'; did you mean 'cifar_resnet"),
        (["train", "--model", "xyzzy"], "unknown model 'xyzzy'; known are alexnet, "),
        (["train", "--recipe", ""], "argument --recipe: cifar_resnet20 has default, paper, got ''"),
        (["train", "--recipe", "papers"], "argument --recipe: cifar_resnet20 has default, paper, got 'papers'"),
        (["train", "--data", "digit"], "unknown data set 'digit'; did you mean digits?"),
        (["train", "--data", "nothing.npz"], "nothing.npz: no such file"),
        (["train", "--data", "nothing.npz"], "error: argument --data: "),
        (["train", "--epochs", "0"], "argument --epochs: must be at least 1, got 0"),
        (["train", "--epochs", "-3"], "argument --epochs: must be at least 1, got -3"),
        (["train", "--epochs", "two"], "argument --epochs: expected a whole number, got 'two'"),
        (["train", "--epochs", "1.5"], "argument --epochs: expected a whole number, got '1.5'"),
        (["train", "--batch-size", "0"], "argument --batch-size: must be at least 1, got 0"),
        (["train", "--lr", "0"], "argument --lr: must be above 0, got 0"),
        (["train", "--lr", "-0.1"], "argument --lr: must be above 0, got -0.1"),
        (["train", "--lr", "nan"], "argument --lr: must be a finite number, got nan"),
        (["train", "--lr", "inf"], "argument --lr: must be a finite number, got inf"),
        (["train", "--lr", "fast"], "argument --lr: expected a number, got 'fast'"),
        (["train", "--weight-decay", "-1"], "argument --weight-decay: must not be negative, got -1"),
        (["train", "--seed", "-1"], "argument --seed: must lie in 0..2**63-1, got -1"),
        (["train", "--seed", "9223372036854775808"], "argument --seed: must lie in 0..2**63-1"),
        (["train", "--device", "gpu"], "argument --device: device: unknown device 'gpu'"),
        (["train", "--device", "meta"], "argument --device: 'meta' holds no data"),
        (["train", "--checkpoint-every", "-1"], "argument --checkpoint-every: must not be negative"),
        (["train", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["train", "somewhere"], "unrecognized arguments: somewhere (see 'gpunet train --help')"),
        (["--colour"], "unrecognized arguments: --colour (see 'gpunet --help')"),
        (["train", "--out", ""], "argument --out: must not be empty"),
        (["train", "--resume", ""], "argument --resume: must not be empty"),
        (["predict", "", "a.png"], "argument RUN: must not be empty"),
        (["train", "--resume", "nowhere"], "no run folder at nowhere: there is nothing there"),
        (["train", "--resume", "."], "is not a run folder: it holds no config.json"),
        (["train", "--resume", ".", "--out", "x"], "--out does not go with --resume"),
        (["predict"], "the following arguments are required: RUN, IMAGE"),
        (["predict", "nowhere", "a.png"], "no run folder at nowhere"),
        (["predict", ".", "a.png", "--crop", "round"], "argument --crop: invalid choice: 'round'"),
        (["models", "--all"], "unrecognized arguments: --all"),
    ],
)
def test_bad_argument(gpunet: Callable[..., Any], tmp_path: Path, arguments: list[str], expected: str) -> None:
    failed = gpunet(*arguments)
    assert failed.code == 2
    assert expected in failed.one_error()
    assert failed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_recipe_that_does_not_go_with_the_images(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpunet.models.recipes import get_recipe

    # 8x8 pixels have no part of 12x12.
    monkeypatch.setattr("gpunet.cli.train_images.get_recipe", lambda *names: get_recipe(*names).replace(crop=12))
    failed = gpunet(*TRAIN)
    assert failed.code == 2
    expected = "the model cifar_resnet20 does not take the images of digits: its recipe does not go with them: "
    assert expected in failed.one_error()
    assert failed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"line {n}" for n in range(16)], " line 14 line 15"),
        ([f"line {n}" for n in range(17)], " line 14 line 15 ... and 1 more (set GPUNET_DEBUG=1 to see all)"),
        ([*(f"line {n}" for n in range(20)), "  and 100 more"], " line 15 ... and 104 more (set GPUNET_DEBUG=1 "),
        ([*(f"line {n}" for n in range(15)), "  and 100 more"], " line 13 line 14 and 100 more"),
    ],
)
def test_long_lists_are_counted(capfd: pytest.CaptureFixture[str], lines: list[str], expected: str) -> None:
    """What a message has cut off itself is among what is left out."""
    from gpunet.cli.console import complain

    complain("\n".join(lines))
    printed = capfd.readouterr().err
    assert printed.count("\n") == 1
    assert expected in printed
    assert printed.endswith("(set GPUNET_DEBUG=1 to see all)\n") == (len(lines) > 16)


@pytest.mark.parametrize("command", ["bench", "report"])
def test_commands_of_later_do_not_exist(gpunet: Callable[..., Any], command: str) -> None:
    failed = gpunet(command)
    assert failed.code == 2
    assert f"unknown command {command!r}" in failed.one_error()


def test_cuda_without_a_gpu_says_why(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    from gpunet.backend.devices import cuda_unavailable_reason

    reason = cuda_unavailable_reason()
    if reason is None:
        pytest.skip("this machine has a GPU")
    failed = gpunet("train", "--device", "cuda")
    assert failed.code == 2
    assert " ".join(reason.split()) in failed.one_error()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5", " "])
def test_number_of_threads_that_is_none(
    gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    monkeypatch.setenv("GPUNET_NUM_THREADS", count)
    for command in (TRAIN, ("models",)):
        failed = gpunet(*command)
        assert failed.code == 2
        assert "must be a whole number of at least 1" in failed.one_error()
        assert "GPUNET_NUM_THREADS=" in failed.one_error()
    assert gpunet("--help").code == 0


@pytest.mark.parametrize("name", ["meta", "gpu"])
def test_device_of_the_environment(gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("GPUNET_DEVICE", name)
    failed = gpunet("train", "--epochs", "1")
    assert failed.code == 2
    assert f"error: GPUNET_DEVICE={name}: " in failed.one_error()
    assert "--device" not in failed.one_error()


# ------------------------------------------------------------------------------------------------ where to write


def test_out_that_is_a_file(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/run"):
        failed = gpunet(*TRAIN, "--out", out)
        assert failed.code == 2
        assert f"cannot write to the folder {Path(out)}: " in failed.one_error()
    assert (tmp_path / "file").read_text() == "mine"
    assert "folder file: it is a file" in gpunet(*TRAIN, "--out", "file").one_error()


def test_out_that_is_not_empty(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    failed = gpunet(*TRAIN, "--out", "folder")
    assert failed.code == 2
    assert "the folder folder is not empty" in failed.one_error()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["thesis.txt"]


def test_out_that_may_not_be_written(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o500)
    if os.access(tmp_path / "folder", os.W_OK):
        pytest.skip("this user may write everywhere")
    failed = gpunet(*TRAIN, "--out", "folder/run")
    assert failed.code == 2
    assert "Permission denied" in failed.one_error()


def test_runs_folder_that_is_a_file(gpunet: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    failed = gpunet(*TRAIN)
    assert failed.code == 2
    assert "cannot write to the folder runs" in failed.one_error()


def test_no_space_for_the_folder(gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from gpunet.training import run

    def fill(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_file_atomically", fill)
        failed = gpunet(*TRAIN, "--out", "here")
    assert failed.code == 2
    assert "cannot write to the folder here: No space left on device" in failed.one_error()
    # The same command works when there is room again.
    assert gpunet(*TRAIN, "--model", "lenet", "--out", "here").code == 0


# ------------------------------------------------------------------------------------------------ runs to go on with


@pytest.fixture
def small_run(gpunet: Callable[..., Any], tmp_path: Path) -> Path:
    assert gpunet(*TRAIN, "--model", "lenet", "--out", "here").code == 0
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("--model", "cifar_resnet20", "lenet"),
        ("--epochs", "2", "1"),
        ("--batch-size", "32", "64"),
        ("--lr", "0.5", "0.05"),
        ("--seed", "1", "0"),
        ("--data", "other.npz", "digits"),
    ],
)
def test_resume_with_another_setting(
    gpunet: Callable[..., Any], small_run: Path, option: str, value: str, kept: str
) -> None:
    failed = gpunet("train", "--resume", "here", option, value)
    assert failed.code == 2
    message = failed.one_error()
    assert f"{option} " in message
    assert f"does not go with --resume: the run in here has {kept}" in message


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        (("recipe", "epochs"), 5, "recipe.epochs was 1 and is now 5"),
        (("recipe", "batch_size"), 32, "recipe.batch_size was 64 and is now 32"),
        (("recipe", "learning_rate"), 0.5, "recipe.learning_rate was 0.05 and is now 0.5"),
        (("seed",), 7, "seed was 0 and is now 7"),
    ],
)
def test_resume_after_an_edit(
    gpunet: Callable[..., Any], small_run: Path, where: tuple[str, ...], value: Any, expected: str
) -> None:
    edit_config(small_run, where, value)
    before = (small_run / "checkpoint.safetensors").read_bytes()
    failed = gpunet("train", "--resume", "here")
    assert failed.code == 2
    assert f"the run was begun with other settings: {expected}" in failed.one_error()
    assert (small_run / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["data", "device"])
def test_error_names_the_file_that_was_edited(gpunet: Callable[..., Any], small_run: Path, name: str) -> None:
    edit_config(small_run, (name,), "nothing")
    failed = gpunet("train", "--resume", "here")
    assert failed.code == 2
    assert f"error: {Path('here') / 'config.json'}: {name!r}: " in failed.one_error()
    assert f"--{name}" not in failed.one_error()


def edit_config(run: Path, where: tuple[str, ...], value: Any) -> None:
    config = json.loads((run / "config.json").read_text())
    part = config
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    (run / "config.json").write_text(json.dumps(config))


def test_resume_with_the_same_settings(gpunet: Callable[..., Any], small_run: Path) -> None:
    assert gpunet("train", "--resume", "here", "--model", "lenet", "--epochs", "1", "--seed", "0").code == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "config.json is not valid JSON"),
        ("{", "config.json is not valid JSON"),
        ("[" * 100_000, "config.json is not valid JSON"),
        ("[]", "config.json was not written by gpunet"),
        ("{}", "config.json was not written by gpunet"),
        ('{"format": true}', "config.json was not written by gpunet"),
        ('{"format": 99}', "has format 99, this gpunet reads up to 1"),
        ('{"format": 1}', "config.json has no 'model'"),
    ],
)
def test_config_that_is_none(gpunet: Callable[..., Any], small_run: Path, content: str, expected: str) -> None:
    (small_run / "config.json").write_text(content)
    for command in (("train", "--resume", "here"), ("predict", "here", "x.png")):
        failed = gpunet(*command)
        assert failed.code == 2
        assert expected in failed.one_error()


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        (("model",), 7, "'model' must be of type str, got 7"),
        (("model",), "no_such_model", "no_such_model"),
        (("model",), "__name__", "unknown model '__name__'"),
        (("model",), "get_model", "unknown model 'get_model'"),
        (("recipe",), None, "'recipe' must be of type dict, got None"),
        (("recipe", "epochs"), "20", "'recipe.epochs' must be of type int, got '20'"),
        (("recipe", "epochs"), 0, "recipe: epochs: must be at least 1, got 0"),
        (("recipe", "batch_size"), True, "'recipe.batch_size' must be of type int, got True"),
        (("recipe", "momentum"), 1.0, "recipe: momentum: must lie in 0..1 (1 not included), got 1.0"),
        (("recipe", "learning_rate"), -1, "recipe: learning_rate: must be above 0 and finite, got -1.0"),
        (("recipe", "learning_rate"), "x", "'recipe.learning_rate' must be of type float"),
        (("dataset",), {}, "'dataset': data set description: field 'classes' is missing"),
        (("dataset", "std"), [0.0], "std: must be positive"),
    ],
)
def test_config_with_a_wrong_value(
    gpunet: Callable[..., Any], small_run: Path, where: tuple[str, ...], value: Any, expected: str
) -> None:
    edit_config(small_run, where, value)
    for command in (("train", "--resume", "here"), ("predict", "here", "x.png")):
        failed = gpunet(*command)
        assert failed.code == 2
        assert expected in failed.one_error()


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped", "another", "weights"])
def test_damaged_checkpoint(gpunet: Callable[..., Any], small_run: Path, tmp_path: Path, damage: str) -> None:
    from gpunet.interop import save
    from gpunet.training import load_model

    path = small_run / "checkpoint.safetensors"
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_bytes(b"this is no checkpoint at all\n" * 100)
    elif damage == "flipped":
        path.write_bytes(content[:8] + bytes(byte ^ 255 for byte in content[8:40]) + content[40:])
    elif damage == "another":
        other = gpunet("train", "--epochs", "1", "--device", "cpu", "--out", "other")
        assert other.code == 0
        path.write_bytes((tmp_path / "other" / "checkpoint.safetensors").read_bytes())
    else:
        save(load_model(small_run).state_dict(), path)
    before = path.read_bytes()
    for command in (("train", "--resume", "here"), ("predict", "here", "x.png")):
        failed = gpunet(*command)
        assert failed.code == 2
        assert "checkpoint.safetensors" in failed.one_error()
        assert len(failed.one_error()) < 1000
    assert path.read_bytes() == before


# --------------------------------------------------------------------------------------------- in a process


def test_python_m_gpunet(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpunet", "train", "--epochs", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "gpunet: error: argument --epochs: expected a whole number, got 'none' (see 'gpunet train --help')"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="no process is sent Ctrl-C alone there")
@pytest.mark.parametrize("program", ["-m", "gpunet", "other"])
def test_ctrl_c_while_the_program_starts(tmp_path: Path, program: str) -> None:
    """One line from the command; in another program that imports gpunet, Ctrl-C is what it always is."""
    # What takes long in starting is to import NumPy; this one takes for ever.
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "numpy.py").write_text("print('here', flush=True)\nimport time\ntime.sleep(60)\n")
    (tmp_path / program).write_text(
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gpunet.cli import main\nsys.exit(main())\n"
    )
    arguments = ["-m", "gpunet"] if program == "-m" else [str(tmp_path / program)]
    path = os.pathsep.join([str(tmp_path / "slow"), str(Path(__file__).resolve().parents[2])])
    with subprocess.Popen(
        [sys.executable, *arguments, "train"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    if program == "other":
        assert "KeyboardInterrupt" in err
    else:
        assert (process.returncode, err) == (130, "gpunet: interrupted\n")


def test_debug_shows_where_an_error_came_from(gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUNET_DEBUG", "1")
    failed = gpunet("train", "--model", "nothing")
    assert failed.code == 2
    assert "Traceback" in failed.err


def test_unexpected_errors_are_one_line_too(gpunet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunet.cli import train_images

    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("a\nfault of ours")

    monkeypatch.setattr(train_images, "prepare", fail)
    failed = gpunet("train")
    assert failed.code == 1
    assert "unexpected ZeroDivisionError: a fault of ours" in failed.one_error()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["models"], ["--help"], [], ["train", "--help"], ["--version"]])
def test_output_that_cannot_be_written(tmp_path: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gpunet", *arguments],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == "gpunet: error: cannot write to standard output: No space left on device\n"
