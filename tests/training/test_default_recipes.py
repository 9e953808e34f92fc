"""What ``gpunet train --model NAME`` does for every model when nothing else is said."""

from __future__ import annotations

import pytest

import gpunet as gn
from gpunet.data import DIGITS_INFO
from gpunet.models import list_models
from gpunet.models.recipes import Recipe, get_recipe
from gpunet.training.classification import build_model


@pytest.mark.parametrize("name", list_models("image"))
def test_every_model_takes_the_digits(name: str) -> None:
    """By the default recipe, in training too, where GoogLeNet's auxiliary heads see the images."""
    recipe = get_recipe(name)
    side = recipe.resize or 8
    with gn.device("meta"):
        model = build_model(name, DIGITS_INFO, recipe).train()
        channels = next(p for p in model.parameters() if p.ndim == 4).shape[1]
        scores = model(gn.empty(2, channels, side, side))
    for each in scores if isinstance(scores, tuple) else (scores,):
        assert tuple(each.shape) == (2, 10)


def test_models_that_take_small_images_get_them_as_they_are() -> None:
    def train_on_digits_as_they_are(name: str, recipe: Recipe) -> None:
        model = build_model(name, DIGITS_INFO, recipe.replace(resize=0)).train()
        channels = next(p for p in model.parameters() if p.ndim == 4).shape[1]
        model(gn.empty(2, channels, 8, 8))

    for name in list_models("image"):
        recipe = get_recipe(name)
        if recipe.resize:
            with gn.device("meta"), pytest.raises(ValueError, match=r"in layer|too small|must have shape"):
                train_on_digits_as_they_are(name, recipe)
