"""Training runs: the loop, what it keeps in a folder, and how it goes on after an interruption."""

from gpunet.models.recipes import Recipe, get_recipe, list_recipes, recipe_for, register_recipe
from gpunet.training.bptt import Block, TruncatedBPTT, detach_state, tbptt
from gpunet.training.checkpoint import Checkpointer, load_checkpoint, read_checkpoint, save_checkpoint
from gpunet.training.classification import (
    TrainingConfig,
    build_model,
    describe_run,
    evaluation_transform,
    load_model,
    prepare,
    read_settings,
    training_transform,
)
from gpunet.training.language import (
    LanguageConfig,
    LanguageTrainer,
    bits_per_character,
    character_loss,
    describe_language_run,
    load_language_model,
    prepare_language,
    read_language_settings,
)
from gpunet.training.metrics import RunningMean, accuracy, correct_count
from gpunet.training.run import RunFolder, RunFolderError
from gpunet.training.schedules import ErrorWarmup, make_schedule
from gpunet.training.trainer import Callback, NonFiniteError, Trainer

__all__ = [
    # The loop
    "Trainer",
    "Callback",
    "NonFiniteError",
    "ErrorWarmup",
    "make_schedule",
    # Sequences
    "tbptt",
    "TruncatedBPTT",
    "Block",
    "detach_state",
    # Runs
    "Recipe",
    "get_recipe",
    "list_recipes",
    "recipe_for",
    "register_recipe",
    "TrainingConfig",
    "build_model",
    "training_transform",
    "evaluation_transform",
    "prepare",
    "describe_run",
    "read_settings",
    "load_model",
    "RunFolder",
    "RunFolderError",
    # Language models
    "LanguageConfig",
    "LanguageTrainer",
    "prepare_language",
    "describe_language_run",
    "read_language_settings",
    "load_language_model",
    "character_loss",
    "bits_per_character",
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
