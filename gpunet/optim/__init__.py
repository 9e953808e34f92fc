"""Optimizers and learning rate schedules, under PyTorch's names; random search, to compare them with."""

from gpunet import _missing
from gpunet.optim import lr_scheduler, swa_utils
from gpunet.optim.adam import Adam, AdamW
from gpunet.optim.adam_variants import Adamax, NAdam, RAdam
from gpunet.optim.adaptive_rates import ASGD, Adadelta, Adagrad, RMSprop, Rprop
from gpunet.optim.lbfgs import LBFGS
from gpunet.optim.optimizer import Optimizer
from gpunet.optim.random_search import random_search
from gpunet.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
    "random_search",
    "swa_utils",
]

_missing.explain(__name__)
