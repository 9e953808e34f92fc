"""Autoregressive models of a series: from a window of fixed length (Yule 1927), and from a state that sums up the past.

    AR(tau)      x_t = c_1 x_{t-1} + ... + c_tau x_{t-tau} + b + noise e_t,  e_t from N(0, 1)
    latent AR    h_t = g(h_{t-1}, x_{t-1}),  x_t = W h_t + b + noise

Both predict a series from its own past, P(x_t given x_{t-1}, ..., x_1). The first assumes that tau values are enough;
the second makes of a past of any length a state of one size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gpunet.nn.functional as F
from gpunet import nn
from gpunet.autograd import Tensor, as_tensor, cat, enable_grad, no_grad, stack
from gpunet.backend.devices import array_module
from gpunet.backend.errors import DeviceError, ShapeError
from gpunet.data.sequences import windows
from gpunet.optim import SGD

__all__ = ["AR", "LatentAR"]


class AR(nn.Module):
    """AR(tau): a linear regression of the next value on the last ``tau``.

    Args:
        tau: values of the past that a prediction takes.
        bias: whether there is a constant b.
        device, dtype: of the parameters.

    Attributes:
        linear: ``nn.Linear(tau, 1)``; its weights are in the order of time, so the last belongs to x_{t-1}.
        noise: standard deviation of what the model leaves unexplained, as a fit finds it; 1 before.

    Raises:
        TypeError, ValueError: tau below 1.
    """

    noise: Tensor

    def __init__(self, tau: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        _check_count("tau", tau)
        self.tau = int(tau)
        self.linear = nn.Linear(self.tau, 1, bias=bias, device=device, dtype=dtype)
        self.register_buffer("noise", self.linear.weight.detach().new_ones(()))

    @property
    def coefficients(self) -> Tensor:
        """c_1, ..., c_tau, (tau,): the first belongs to the value before, x_{t-1}."""
        return self.linear.weight.detach().flip(1).reshape(self.tau)

    def forward(self, x: Tensor) -> Tensor:
        """Windows (N, tau), as ``gn.data.windows`` makes them, to the value after each, (N,)."""
        if x.ndim != 2 or x.shape[1] != self.tau:
            raise ShapeError(f"AR: input must be windows (N, {self.tau}), got shape {tuple(x.shape)}")
        return self.linear(x).squeeze(1)

    def fit(self, series: Tensor | np.ndarray) -> AR:
        """Take the coefficients whose predictions have the least squared error, in closed form and in float64.

        Args:
            series: (T,).

        Returns:
            the model itself.

        Raises:
            ShapeError: not a series of one number a step, or too short: T - tau windows must be as many as there are
                coefficients.
            ValueError: a NaN or an infinity in the series.
            DeviceError: the model is on ``meta``.
        """
        past, following = self._regression(series)
        xp = array_module(past)
        solution = xp.linalg.lstsq(past, following, rcond=None)[0]
        weight, bias = self.linear.weight, self.linear.bias
        with no_grad():
            weight.copy_(_tensor(solution[: self.tau].reshape(1, -1), weight))
            if bias is not None:
                bias.copy_(_tensor(solution[self.tau :], bias))
            self.noise.copy_(_tensor(xp.sqrt(((past @ solution - following) ** 2).mean()), weight))
        return self

    def fit_by_gradient_descent(
        self, series: Tensor | np.ndarray, steps: int = 1000, lr: float | None = None, momentum: float = 0.0
    ) -> list[float]:
        """Walk towards the same coefficients downhill, along the gradient over all windows.

        Args:
            series: (T,).
            steps: how many.
            lr: the step's size; None is 1 / L, L being the largest curvature (eigenvalue of the second derivative) of
                the mean squared error: the largest that goes down from everywhere.
            momentum: of the steps.

        Returns:
            the mean squared error before each step, and after the last.

        Raises:
            ShapeError, ValueError: as ``fit``; steps below 1, or a rate that is not positive.
        """
        _check_count("steps", steps)
        if lr is not None and not lr > 0:
            raise ValueError(f"lr: must be positive, or None, got {lr!r}")
        past, following = self._regression(series)
        xp = array_module(past)
        if lr is None:
            lr = 1 / float(xp.linalg.eigvalsh(2 * past.T @ past / len(past))[-1])
        weight = self.linear.weight
        x, y = _tensor(past[:, : self.tau], weight), _tensor(following, weight)
        optimizer = SGD(self.linear.parameters(), lr=lr, momentum=momentum)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            with enable_grad():
                loss = F.mse_loss(self(x), y)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.item()))
        with no_grad():
            losses.append(float(F.mse_loss(self(x), y).item()))
            self.noise.fill_(math.sqrt(losses[-1]))
        return losses

    def predict(self, series: Tensor) -> Tensor:
        """One step ahead from every window: (T,) to (T - tau + 1,); the last is the value after the series.

        Entry i is the prediction of value tau + i, from the true values before it.
        """
        return self(windows(self._series(series), self.tau))

    @no_grad()
    def roll_out(self, series: Tensor, steps: int) -> Tensor:
        """Predict ``steps`` values after the series, each from the predictions before it.

        Errors add up: beyond some steps the prediction of a stationary process is no better than its mean.

        Args:
            series: (T,), T at least tau; what counts is its last tau values.
            steps: how many.

        Returns:
            (steps,).
        """
        _check_count("steps", steps)
        values = list(windows(self._series(series), self.tau)[-1].unbind(0))
        for _ in range(steps):
            values.append(self(stack(values[-self.tau :]).unsqueeze(0))[0])
        return stack(values[self.tau :])

    def log_prob(self, series: Tensor) -> Tensor:
        """log P(x_tau, ..., x_{T-1} given x_0, ..., x_{tau-1}), a number: the sum over t of log P(x_t given its past).

        Each value is normal around its prediction, with the standard deviation ``noise``.

        Raises:
            ShapeError: a series that is not longer than tau.
        """
        series = self._series(series)
        if series.shape[0] <= self.tau:
            raise ShapeError(f"series: must be longer than tau = {self.tau}, got {series.shape[0]} values")
        error = (series[self.tau :] - self.predict(series[:-1])) / self.noise
        return -(error * error).sum() / 2 - error.shape[0] * (self.noise.log() + math.log(2 * math.pi) / 2)

    def _series(self, series: Any, dtype: Any = None) -> Tensor:
        """A series on the model's device, in a dtype or the model's own."""
        if not isinstance(series, (Tensor, np.ndarray)):
            raise TypeError(f"series: must be a Tensor or an array, got {type(series).__name__}")
        if series.ndim != 1:
            raise ShapeError(f"series: must be (T,), one number a step, got shape {tuple(series.shape)}")
        weight = self.linear.weight
        return as_tensor(series).to(device=weight.device, dtype=dtype or weight.dtype)

    def _regression(self, series: Any) -> tuple[Any, Any]:
        """All windows, with a column of ones if there is a constant, and the values after them; float64 arrays."""
        exact = self._series(series, np.dtype(np.float64)).detach()
        unknowns = self.tau + (self.linear.bias is not None)
        if exact.shape[0] - self.tau < unknowns:
            raise ShapeError(
                f"series: {exact.shape[0]} values are too few for the {unknowns} unknowns of AR({self.tau}); at least "
                f"{self.tau + unknowns} are needed"
            )
        if exact.device.type == "meta":
            raise DeviceError("series: a fit needs values, which 'meta' does not have")
        values, past = exact._array, windows(exact, self.tau)._array[:-1]
        xp = array_module(values)
        if not bool(xp.isfinite(values).all()):
            raise ValueError("series: holds a NaN or an infinity")
        if unknowns > self.tau:
            past = xp.concatenate([past, xp.ones((len(past), 1))], axis=1)
        return past, values[self.tau :]


class LatentAR(nn.Module):
    """A recurrent network that sums up the past in a state and predicts the next value from it.

    The state has the same size after one value and after a million.

    Args:
        hidden_size: numbers of the state of a layer.
        input_size: numbers of a step of the series.
        cell: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        num_layers: recurrent layers above each other.
        device, dtype: of the parameters.

    Attributes:
        rnn: ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``.
        head: ``nn.Linear(hidden_size, input_size)``.

    Raises:
        ValueError: another cell.
    """

    def __init__(
        self,
        hidden_size: int = 32,
        input_size: int = 1,
        cell: str = "gru",
        num_layers: int = 1,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kinds = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        if cell not in kinds:
            raise ValueError(f"cell: must be one of {', '.join(kinds)}, got {cell!r}")
        self.rnn = kinds[cell](input_size, hidden_size, num_layers, device=device, dtype=dtype)
        self.head = nn.Linear(hidden_size, input_size, device=device, dtype=dtype)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """A series (T, B, input_size) or (T, input_size) to (predictions, state).

        Prediction t is that of x_{t+1}, from x_0, ..., x_t; its shape is the series'. The state is the layer's, as
        ``gn.training.tbptt`` carries it on.
        """
        output, state = self.rnn(x, state)
        return self.head(output), state

    @no_grad()
    def roll_out(self, series: Tensor | np.ndarray, steps: int, state: Any = None) -> Tensor:
        """Predict ``steps`` values after the series, each from the predictions before it.

        Args:
            series: (T, B, input_size) or (T, input_size), of any length above 0; (T,) where input_size is 1.
            steps: how many.
            state: before the series; None are zeros.

        Returns:
            (steps, ...), as a step of the series.

        Raises:
            ShapeError: a series (T,) of a model whose steps are several numbers.
            TypeError, ValueError: no Tensor nor array; steps below 1.
        """
        _check_count("steps", steps)
        if not isinstance(series, (Tensor, np.ndarray)):
            raise TypeError(f"series: must be a Tensor or an array, got {type(series).__name__}")
        weight = self.head.weight
        series = as_tensor(series).to(device=weight.device, dtype=weight.dtype)
        if series.ndim == 1:
            if self.head.out_features != 1:
                raise ShapeError(
                    f"series: must be (T, B, {self.head.out_features}) or (T, {self.head.out_features}), got shape "
                    f"{tuple(series.shape)}"
                )
            return self.roll_out(series.unsqueeze(1), steps, state).squeeze(1)
        output, state = self(series, state)
        predictions = [output[-1:]]
        for _ in range(steps - 1):
            output, state = self(predictions[-1], state)
            predictions.append(output)
        return cat(predictions)


def _tensor(array: Any, like: Tensor) -> Tensor:
    return Tensor._wrap(array_module(array).asarray(array), like.device).to(like.dtype)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: must be an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: must be at least 1, got {value}")
