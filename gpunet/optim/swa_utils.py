"""Averages of a model's weights over training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

from gpunet.autograd import Tensor, no_grad, tensor
from gpunet.nn import Module
from gpunet.optim.lr_scheduler.base import LRScheduler, for_each_group
from gpunet.optim.optimizer import Optimizer

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

AverageFunction = Callable[[Tensor, Tensor, Any], Tensor]
MultiAverageFunction = Callable[[list[Tensor], list[Tensor], Any], None]


def get_ema_avg_fn(decay: float = 0.999) -> AverageFunction:
    """The exponential moving average, for ``AveragedModel(avg_fn=...)``.

    Raises:
        ValueError: a decay outside 0 to 1.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"get_ema_avg_fn: decay must be between 0 and 1, got {decay}")

    @no_grad()
    def ema_update(ema_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return ema_param * decay + current_param * (1 - decay)

    return ema_update


def get_swa_avg_fn() -> AverageFunction:
    """The mean of all weights so far (Izmailov et al. 2018), for ``AveragedModel(avg_fn=...)``."""

    @no_grad()
    def swa_update(averaged_param: Tensor, current_param: Tensor, num_averaged: Any) -> Tensor:
        return averaged_param + (current_param - averaged_param) / (float(num_averaged) + 1)

    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverageFunction:
    """``get_ema_avg_fn`` for lists of tensors, in place."""
    return _over_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverageFunction:
    """``get_swa_avg_fn`` for lists of tensors, in place."""
    return _over_lists(get_swa_avg_fn())


def _over_lists(average: AverageFunction) -> MultiAverageFunction:
    @no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Any) -> None:
        for kept, new in zip(averaged, current, strict=True):
            kept.copy_(average(kept, new, num_averaged))

    return update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's: stochastic weight averaging, or an EMA.

    Args:
        model: the model that is trained.
        device: where to keep the averages.
        avg_fn: the new average from the old one, the model's parameter and the number averaged; the mean if None.
        multi_avg_fn: the same for lists of tensors, in place.
        use_buffers: average the buffers too, instead of copying them.

    Attributes:
        module: the copy.
        n_averaged: number of updates, a 0-d int64 tensor.

    Raises:
        ValueError: both avg_fn and multi_avg_fn.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: AverageFunction | None = None,
        multi_avg_fn: MultiAverageFunction | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: only one of avg_fn and multi_avg_fn must be given, got both")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's output."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the model's present parameters into the averages."""
        ours, theirs = (
            list(chain(m.parameters(), m.buffers())) if self.use_buffers else list(m.parameters())
            for m in (self.module, model)
        )
        averaged = [mine.detach() for mine in ours]
        current = [their.detach().to(mine.device) for mine, their in zip(ours, theirs, strict=True)]
        if self.n_averaged.item() == 0:
            for kept, new in zip(averaged, current, strict=True):
                kept.copy_(new)
        elif self.multi_avg_fn is not None:
            self.multi_avg_fn(averaged, current, self.n_averaged)
        else:
            _over_lists(self.avg_fn or get_swa_avg_fn())(averaged, current, self.n_averaged)
        if not self.use_buffers:
            for kept, new in zip(self.module.buffers(), model.buffers(), strict=True):
                kept.detach().copy_(new.detach().to(kept.device))
        self.n_averaged += 1


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of a model's BatchNorm layers anew, as means over a loader's batches.

    Args:
        loader: batches; of a tuple or a list the first is the input.
        model: such as an ``AveragedModel``, whose weights have no statistics of their own.
        device: where to move the batches.
    """
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "reset_running_stats")]
    if not layers:
        return
    training, momenta = model.training, [layer.momentum for layer in layers]
    model.train()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
    for batch in loader:
        images = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(images if device is None else images.to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """Anneal the rate to a constant, for stochastic weight averaging (Izmailov et al. 2018).

    Args:
        optimizer: whose rates are set.
        swa_lr: the rate to go to, or one for each group.
        anneal_epochs: number of steps on the way.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        last_epoch: number of the last step done; -1 to start.

    Raises:
        ValueError: an unknown strategy, or anneal_epochs that is no integer of at least 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"SWALR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"SWALR: anneal_epochs must be an integer of at least 0, got {anneal_epochs!r}")
        for group, rate in zip(
            optimizer.param_groups, for_each_group("SWALR", "swa_lr", swa_lr, optimizer), strict=True
        ):
            group["swa_lr"] = rate
        self.anneal_epochs = anneal_epochs
        self._anneal_strategy = anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How far the way is gone after a number of steps."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self) -> list[float]:
        """The current rates, moved one step on."""
        self._expect_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group, rate in zip(self.optimizer.param_groups, self._rates(), strict=True):
            target = group["swa_lr"]
            start = target if before == 1 else (rate - before * target) / (1 - before)
            rates.append(target * now + start * (1 - now))
        return rates
