"""Optimizers and learning rate schedules, under PyTorch's names."""

from gpunet.optim import lr_scheduler
from gpunet.optim.adam import Adam, AdamW
from gpunet.optim.optimizer import Optimizer
from gpunet.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
