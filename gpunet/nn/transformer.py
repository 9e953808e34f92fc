"""The encoder of a transformer: self-attention and a network at each position, each around a residual connection."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor
from gpunet.nn.arguments import call_mismatch, check_eps, check_int, check_probability
from gpunet.nn.attention import MultiheadAttention
from gpunet.nn.container import ModuleList
from gpunet.nn.dropout import Dropout
from gpunet.nn.linear import Linear
from gpunet.nn.module import Module
from gpunet.nn.normalization import LayerNorm

__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]

Activation = Callable[[Tensor], Tensor]
_ACTIVATIONS: dict[str, Activation] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention, then two linear layers at each position, each with a residual connection and a LayerNorm.

    After Vaswani et al. 2017 (post-norm, the default), and with ``norm_first`` as Xiong et al. 2020 ("On layer
    normalization in the transformer architecture", pre-norm):

        post-norm   x = norm1(x + MHA(x));       y = norm2(x + FF(x))
        pre-norm    x = x + MHA(norm1(x));       y = x + FF(norm2(x))
        FF(x) = linear2(dropout(activation(linear1(x))));  dropout follows MHA and FF too

    Args:
        d_model: features of input and output.
        nhead: heads of the attention; it divides d_model.
        dim_feedforward: features between the two linear layers.
        dropout: probability of every dropout, that of the attention's weights included.
        activation: ``"relu"``, ``"gelu"``, or a function of a tensor.
        layer_norm_eps: eps of both LayerNorms.
        batch_first: batches are (N, length, features), in place of (length, N, features).
        norm_first: pre-norm.
        bias: whether linear layers, attention and LayerNorms have biases.
        device: where the parameters live.
        dtype: their floating type.

    Raises:
        ValueError, TypeError: a size that is no positive integer, heads that do not divide d_model, no probability, an
            eps that is negative or no number, another activation.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = "TransformerEncoderLayer"
        size, heads = check_int(name, "d_model", d_model, 1), check_int(name, "nhead", nhead, 1)
        if size % heads:
            raise ValueError(f"{name}: d_model must be divisible by nhead, got {d_model} and {nhead}")
        between = check_int(name, "dim_feedforward", dim_feedforward, 1)
        check_probability(name, "dropout", dropout)
        check_eps(name, layer_norm_eps, "layer_norm_eps")
        if isinstance(activation, str):
            if activation not in _ACTIVATIONS:
                raise ValueError(f"{name}: activation must be 'relu', 'gelu' or a function, got {activation!r}")
            activation = _ACTIVATIONS[activation]
        elif not callable(activation):
            raise TypeError(f"{name}: activation must be 'relu', 'gelu' or a function, got {activation!r}")
        self.self_attn = MultiheadAttention(
            size, heads, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self.linear1 = Linear(size, between, bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(between, size, bias, device=device, dtype=dtype)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(size, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(size, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = activation

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
        *,
        need_weights: bool = False,
        average_attn_weights: bool = True,
    ) -> Any:
        """Every position looks at the others, and is changed.

        ``need_weights`` and ``average_attn_weights`` are gpunet's own.

        Args:
            src: (L, N, E), (N, L, E) with ``batch_first``, or (L, E) without a batch.
            src_mask: (L, L) or (N H, L, L): bool, True where a position must not look, or floats to add to the scores.
            src_key_padding_mask: (N, L), or (L,): bool, True where a position is padding, or floats to add.
            is_causal: says that ``src_mask``, which must be given, is the causal one. The mask is what counts.
            need_weights: return (output, weights), the weights as ``MultiheadAttention`` gives them.
            average_attn_weights: the mean of the heads' weights; False gives those of each.

        Returns:
            The shape of ``src``. A position that is padding has a value as any other, and so have positions without a
            key to look at; PyTorch in evaluation may give zeros for the former.
        """
        x = src
        attended, weights = self.self_attn(
            *(self.norm1(x) if self.norm_first else x,) * 3,
            attn_mask=src_mask,
            key_padding_mask=src_key_padding_mask,
            need_weights=need_weights,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        x = x + self.dropout1(attended)
        if self.norm_first:
            x = x + self._feed_forward(self.norm2(x))
        else:
            x = self.norm1(x)
            x = self.norm2(x + self._feed_forward(x))
        return (x, weights) if need_weights else x

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """Encoder layers one after the other.

    Args:
        encoder_layer: what each of them is a copy of, its weights included: a ``TransformerEncoderLayer``, or a Module
            that is called as one is, with ``src_mask``, ``src_key_padding_mask`` and ``is_causal``.
        num_layers: how many.
        norm: applied to the output of the last; None for nothing. A pre-norm encoder needs one.
        enable_nested_tensor: taken for nothing: there are no nested tensors.
        mask_check: taken for nothing.

    Raises:
        TypeError: ``encoder_layer`` is no Module, or none that is called so; the number is no integer.
        ValueError: it is not positive.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(encoder_layer, Module):
            raise TypeError(f"TransformerEncoder: encoder_layer must be a Module, got {type(encoder_layer).__name__}")
        mismatch = call_mismatch(encoder_layer, None, src_mask=None, src_key_padding_mask=None, is_causal=False)
        if mismatch:
            raise TypeError(
                "TransformerEncoder: encoder_layer must take (src, src_mask, src_key_padding_mask, is_causal), as "
                f"TransformerEncoderLayer does; {mismatch}"
            )
        self.num_layers = check_int("TransformerEncoder", "num_layers", num_layers, 1)
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(self.num_layers))
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
        *,
        need_weights: bool = False,
        average_attn_weights: bool = True,
    ) -> Any:
        """The input through all layers.

        ``need_weights`` and ``average_attn_weights`` are gpunet's own: they show where each layer looks.

        Args:
            src: (L, N, E), (N, L, E) where the layers are ``batch_first``, or (L, E) without a batch.
            mask: (L, L) or (N H, L, L): bool, True where a position must not look, or floats to add to the scores.
            src_key_padding_mask: (N, L), or (L,): bool, True where a position is padding, or floats to add.
            is_causal: says that ``mask`` is the causal one; True needs it. The mask is what counts.
            need_weights: return (output, list of weights), one entry for each layer.
            average_attn_weights: the mean of the heads' weights; False gives those of each.

        Returns:
            The shape of ``src``; see ``TransformerEncoderLayer``.
        """
        x, attentions = src, []
        extra = {"need_weights": True, "average_attn_weights": average_attn_weights} if need_weights else {}
        for layer in self.layers:
            x = layer(x, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal), **extra)
            if need_weights:
                x, weights = x
                attentions.append(weights)
        if self.norm is not None:
            x = self.norm(x)
        return (x, attentions) if need_weights else x
