"""Recipes of the papers, against what the papers and the released solvers say."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

import gpunet as gn
from gpunet.backend.random import default_generator
from gpunet.data import get_dataset
from gpunet.models import list_models
from gpunet.models.recipes import Recipe, get_recipe, list_recipes, register_recipe
from gpunet.training import TrainingConfig, evaluation_transform, prepare, training_transform

IMAGENET, CIFAR = 1_281_167, 45_000


def steps(recipe: Recipe, images: int) -> int:
    return math.ceil(images / recipe.batch_size) * recipe.epochs


def test_every_paper_has_a_recipe() -> None:
    without = {name for name in list_models("image") if "paper" not in list_recipes(name)}
    # LeNet's is not SGD; the papers on the others have no recipe of their own for them.
    assert without == {"alexnet", "googlenet", "lenet", "nin_imagenet"}


@pytest.mark.parametrize(
    "model, expected",
    [
        (
            "alexnet2012",
            {
                "batch_size": 128,
                "learning_rate": 0.01,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "epochs": 90,
                "colour": 0.1,
            },
        ),
        ("vgg16", {"batch_size": 256, "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "epochs": 74}),
        ("googlenet_paper", {"momentum": 0.9, "decay": 0.96, "auxiliary_weight": 0.3}),
        ("resnet50", {"batch_size": 256, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "decay": 0.1}),
        ("cifar_resnet56", {"batch_size": 128, "learning_rate": 0.1, "weight_decay": 1e-4, "warmup_learning_rate": 0}),
        ("cifar_resnet110", {"batch_size": 128, "warmup_learning_rate": 0.01, "warmup_error": 0.8, "crop_padding": 4}),
        ("cifar_densenet40_12", {"batch_size": 64, "epochs": 300, "nesterov": True, "weight_decay": 1e-4}),
        ("densenet121", {"batch_size": 256, "epochs": 90, "nesterov": True, "momentum": 0.9}),
    ],
)
def test_what_the_papers_say(model: str, expected: dict[str, Any]) -> None:
    """Table A12 of the facts."""
    recipe = get_recipe(model, "paper")
    assert {name: getattr(recipe, name) for name in expected} == expected
    assert recipe.label_smoothing == recipe.rotation == recipe.shift == recipe.zoom == 0
    assert recipe.flip
    assert recipe.source


def test_milestones_in_steps() -> None:
    """CIFAR: 64,000 steps, changes at 32,000 and 48,000. VGG: 370,000. Caffe's AlexNet: every 100,000 of 450,000."""
    cifar = get_recipe("cifar_resnet20", "paper")
    total = steps(cifar, CIFAR)
    assert total == pytest.approx(64_000, rel=0.002)
    assert [share * total for share in cifar.milestones] == pytest.approx([32_000, 48_000], rel=0.002)
    assert steps(get_recipe("vgg16", "paper"), IMAGENET) == pytest.approx(370_000, rel=0.01)
    assert steps(get_recipe("resnet50", "paper"), IMAGENET) == pytest.approx(600_000, rel=0.01)
    caffe = get_recipe("alexnet2012", "caffe")
    total = steps(caffe, IMAGENET)
    assert [share * total for share in caffe.milestones] == pytest.approx([1e5, 2e5, 3e5, 4e5], rel=0.01)
    quick = get_recipe("googlenet_paper", "caffe")
    assert steps(quick, IMAGENET) == pytest.approx(2_400_000, rel=0.01)
    assert (quick.schedule, quick.decay) == ("polynomial", 0.5)
    densenet = get_recipe("densenet121", "paper")
    assert [share * densenet.epochs for share in densenet.milestones] == pytest.approx([30, 60])


def test_names_are_taken_once() -> None:
    with pytest.raises(ValueError, match="cifar_resnet20 has a recipe named 'paper' already"):
        register_recipe("paper", Recipe(), "cifar_resnet20")


def test_a_run_warms_up_as_the_paper_does() -> None:
    splits = get_dataset("digits")
    recipe = get_recipe("cifar_resnet110", "paper").replace(epochs=1)
    trainer = prepare(TrainingConfig(model="cifar_resnet20", recipe=recipe), splits, gn.device("cpu"))
    assert trainer.optimizer.param_groups[0]["lr"] == 0.01
    rates = []
    for inputs, labels in trainer._remaining_batches():
        trainer.train_step(inputs, labels)
        rates.append(trainer.last_learning_rate)
        if len(rates) == 3:
            break
    assert rates == [0.01] * 3
    state = trainer.state_dict()
    resumed = prepare(TrainingConfig(model="cifar_resnet20", recipe=recipe), splits, gn.device("cpu"))
    resumed.load_state_dict(state)
    assert resumed.scheduler.state_dict() == trainer.scheduler.state_dict()
    assert resumed.scheduler.mean_error < 1.0


def test_images_of_papers_for_imagenet() -> None:
    """Grey digits become 227x227 RGB: scaled to 256, cut at random, mirrored, lit; the middle for evaluation."""
    splits = get_dataset("digits")
    recipe = get_recipe("alexnet2012", "paper")
    images = splits.train.images[:4]
    change = training_transform(recipe, splits.info, "vgg16")
    names = [type(step).__name__ for step in change.transforms]
    expected = ["Resize", "RandomCrop", "RandomHorizontalFlip", "Grayscale", "PCALighting", "Normalize"]
    assert names == expected
    still = evaluation_transform(recipe, splits.info, "vgg16")
    assert [type(step).__name__ for step in still.transforms] == ["Resize", "CenterCrop", "Grayscale", "Normalize"]
    assert still(images[0]).shape == (3, 227, 227)
    assert change(images[0]).shape == (3, 227, 227)
    plain = training_transform(recipe.replace(augment=False), splits.info, "vgg16")
    np.testing.assert_array_equal(plain(images[0]), still(images[0]))


@pytest.mark.parametrize("model", ["alexnet2012", "alexnet2012_grouped", "resnet50", "vgg16", "densenet121"])
def test_grey_images_have_no_colours(model: str) -> None:
    """The recipes of ImageNet's models train on grey images: as they are where the model takes them, else as RGB."""
    splits = get_dataset("digits")
    recipe = get_recipe(model, "paper")
    assert recipe.colour > 0
    grey = model.startswith("alexnet")
    change = training_transform(recipe, splits.info, model)
    assert ("PCALighting" in [type(step).__name__ for step in change.transforms]) is not grey
    assert change(splits.train.images[0]).shape == (1 if grey else 3, recipe.crop, recipe.crop)


def test_a_recipe_is_rehearsed_and_nothing_is_drawn() -> None:
    splits = get_dataset("digits")
    recipe = Recipe(crop=12)  # of 8x8 pixels
    with pytest.raises(ValueError, match="its recipe does not go with them: "):
        prepare(TrainingConfig(recipe=recipe), splits, gn.device("cpu"))
    numbers = []
    for config in (TrainingConfig(), TrainingConfig(recipe=Recipe(augment=False))):
        prepare(config, splits, gn.device("cpu"))
        numbers.append(default_generator("data").numpy().random(4))
    gn.manual_seed(0)
    numbers.append(default_generator("data").numpy().random(4))
    np.testing.assert_array_equal(numbers[0], numbers[2])
    np.testing.assert_array_equal(numbers[1], numbers[2])


def test_crops_of_the_image_itself() -> None:
    splits = get_dataset("digits")
    recipe = get_recipe("cifar_resnet20", "paper")
    change = training_transform(recipe, splits.info, "cifar_resnet20")
    assert [type(step).__name__ for step in change.transforms] == ["RandomCrop", "RandomHorizontalFlip", "Normalize"]
    assert change(splits.train.images[0]).shape == (1, 8, 8)
    still = evaluation_transform(recipe, splits.info, "cifar_resnet20")
    assert [type(step).__name__ for step in still.transforms] == ["Normalize"]


def test_images_that_are_not_square_keep_their_size() -> None:
    """8x11 pixels at 20 to the shorter side are 20x27: 27.5 is cut off, in training as in evaluation."""
    info = dataclasses.replace(get_dataset("digits").info, input_shape=(1, 8, 11))
    recipe = get_recipe("cifar_resnet20", "paper").replace(resize=20)
    image = np.zeros((1, 8, 11), np.float32)
    assert training_transform(recipe, info, "cifar_resnet20")(image).shape == (1, 20, 27)
    assert evaluation_transform(recipe, info, "cifar_resnet20")(image).shape == (1, 20, 27)
