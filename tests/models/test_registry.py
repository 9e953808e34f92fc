"""The registry of models."""

from __future__ import annotations

import pytest

import gpunet as gn
from gpunet import models


def test_every_listed_model_can_be_made_by_name_and_by_function():
    names = models.list_models()
    assert names == sorted(names)
    assert {"lenet", "cifar_resnet20", "cifar_resnet32", "cifar_resnet44", "cifar_resnet56", "cifar_resnet110"} <= set(
        names
    )
    for name in names:
        assert callable(getattr(models, name))
        options = {"num_classes": 3} if name in models.list_models("image") else {}
        with gn.device("meta"):
            assert isinstance(models.get_model(name, **options), gn.nn.Module)


def test_kinds_of_models():
    images, sequences = models.list_models("image"), models.list_models("sequence")
    assert "char_rnn" in sequences
    assert "lenet" in images
    assert sorted(images + sequences) == models.list_models()
    with pytest.raises(ValueError, match="kind: must be one of image, sequence, got 'sound'"):
        models.list_models("sound")
    with pytest.raises(ValueError, match="kind: must be one of"):
        models.register_model(kind="sound")


def test_an_unknown_name_gets_close_ones():
    with pytest.raises(
        models.UnknownModelError, match=r"unknown model 'cifar_resnet21'; did you mean cifar_resnet.. or"
    ) as e:
        models.get_model("cifar_resnet21")
    assert isinstance(e.value, ValueError)
    with pytest.raises(ValueError, match="did you mean lenet"):
        models.get_model("LeNet")
    with pytest.raises(ValueError, match="there are alexnet, "):
        models.get_model("qqqq")
    with pytest.raises(ValueError, match="unknown model None"):
        models.get_model(None)  # type: ignore[arg-type]


def test_a_name_is_given_once():
    def lenet() -> gn.nn.Module:
        return gn.nn.Identity()

    with pytest.raises(ValueError, match="a model named 'lenet' is registered already"):
        models.register_model(lenet)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="depth"):
        models.get_model("cifar_resnet20", depth=3)
