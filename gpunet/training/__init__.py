"""Training runs: the loop, what it keeps in a folder, and how it goes on after an interruption."""

from gpunet.training.checkpoint import Checkpointer, load_checkpoint, read_checkpoint, save_checkpoint
from gpunet.training.classification import (
    TrainingConfig,
    build_model,
    describe_run,
    load_model,
    prepare,
    read_settings,
)
from gpunet.training.metrics import RunningMean, accuracy, correct_count
from gpunet.training.recipes import Recipe, recipe_for
from gpunet.training.run import RunFolder, RunFolderError
from gpunet.training.trainer import Callback, NonFiniteError, Trainer

__all__ = [
    # The loop
    "Trainer",
    "Callback",
    "NonFiniteError",
    # Runs
    "Recipe",
    "recipe_for",
    "TrainingConfig",
    "build_model",
    "prepare",
    "describe_run",
    "read_settings",
    "load_model",
    "RunFolder",
    "RunFolderError",
    # Checkpoints
    "Checkpointer",
    "save_checkpoint",
    "load_checkpoint",
    "read_checkpoint",
    # Numbers
    "RunningMean",
    "accuracy",
    "correct_count",
]
