"""Multi-head attention."""

from __future__ import annotations

from typing import Any

from gpunet.autograd import Tensor, empty
from gpunet.nn import init
from gpunet.nn.arguments import check_int, check_probability
from gpunet.nn.functional.attention import attend_heads
from gpunet.nn.linear import Linear
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Several heads, each taking weighted means of the values, joined by a projection: Vaswani et al. 2017, 3.2.2.

        head_h = softmax(Q_h K_h^T / sqrt(E / H)) V_h
        output = concat(head_1, ..., head_H) W_O^T + b_O

    Q_h, K_h and V_h are parts of size E / H of the projections Q = query W_Q^T + b_Q and so on. There is a value for
    each key; queries may be more or fewer, and there are as many outputs as queries. Keys that match a query equally
    well, as all do where Q = 0, get equal weights.

    Args:
        embed_dim: E, features of the query and the output.
        num_heads: H; it divides E.
        dropout: probability of dropping a weight in training.
        bias: whether the projections have biases.
        add_bias_kv: learn one more key and its value, which every query may look at.
        add_zero_attn: add a key and its value of zeros.
        kdim: features of the key; E if None.
        vdim: features of the value; E if None.
        batch_first: batches are (N, length, features), in place of (length, N, features).
        device: where the parameters live.
        dtype: their floating type.

    Attributes:
        in_proj_weight: (3 E, E), W_Q, W_K and W_V on top of each other, Xavier uniform; None where kdim or vdim differ.
        q_proj_weight, k_proj_weight, v_proj_weight: (E, E), (E, kdim), (E, vdim) in that case, Xavier uniform each.
        in_proj_bias: (3 E,), zeros, or None.
        bias_k, bias_v: (1, 1, E), Xavier normal, or None.
        out_proj: the last projection, a Linear layer whose bias starts at zero.

    Raises:
        ValueError, TypeError: a size that is no positive integer, heads that do not divide E, no probability.
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None
    out_proj: Linear

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = "MultiheadAttention"
        self.embed_dim = check_int(name, "embed_dim", embed_dim, 1)
        self.num_heads = check_int(name, "num_heads", num_heads, 1)
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{name}: embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}")
        self.kdim = self.embed_dim if kdim is None else check_int(name, "kdim", kdim, 1)
        self.vdim = self.embed_dim if vdim is None else check_int(name, "vdim", vdim, 1)
        self.dropout = check_probability(name, "dropout", dropout)
        self.head_dim = self.embed_dim // self.num_heads
        self.add_zero_attn = add_zero_attn
        self.batch_first = batch_first

        def parameter(wanted: bool, *shape: int) -> Parameter | None:
            return Parameter(empty(shape, device=device, dtype=dtype)) if wanted else None

        size, one_size = self.embed_dim, self.kdim == self.vdim == self.embed_dim
        self.register_parameter("in_proj_weight", parameter(one_size, 3 * size, size))
        self.register_parameter("q_proj_weight", parameter(not one_size, size, size))
        self.register_parameter("k_proj_weight", parameter(not one_size, size, self.kdim))
        self.register_parameter("v_proj_weight", parameter(not one_size, size, self.vdim))
        self.register_parameter("in_proj_bias", parameter(bias, 3 * size))
        self.register_parameter("bias_k", parameter(add_bias_kv, 1, 1, size))
        self.register_parameter("bias_v", parameter(add_bias_kv, 1, 1, size))
        self.out_proj = Linear(size, size, bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew and set the biases to zero."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """For each query a mean of the values, weighted by how well their keys match it.

        Args:
            query: (L, N, E), (N, L, E) with ``batch_first``, or (L, E) without a batch.
            key: S in place of L, kdim in place of E.
            value: S in place of L, vdim in place of E.
            key_padding_mask: (N, S), or (S,) without a batch: bool, True where a key is padding, or floats to add to
                its scores.
            need_weights: return the weights, not None.
            attn_mask: (L, S), or (N H, L, S) for each sample and head: bool, True where a query must not look, or
                floats to add to the scores.
            average_attn_weights: the mean over the heads; False gives those of each.
            is_causal: says that ``attn_mask``, which must be given, is the causal one. The mask is what counts.

        Returns:
            The output, of the query's shape, and the weights: (N, L, S), or (N, H, L, S) of each head; without N
            where there is no batch. S is one larger for each of ``add_bias_kv`` and ``add_zero_attn``. Rows sum to 1
            (in training before dropout); a query that may look at no key has zeros, where PyTorch has NaN.
            Without any key, S = 0, all have zeros before the last projection, as in PyTorch.

        Raises:
            ShapeError: another number of values than of keys; sizes that do not fit; a mask of another shape.
            DTypeError: dtypes that differ; a mask that is neither bool nor of the query's dtype.
            ValueError: ``is_causal`` without ``attn_mask``.
        """
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        return attend_heads(
            (query, key, value),
            self.embed_dim,
            self.num_heads,
            separate if self.in_proj_weight is None else self.in_proj_weight,
            self.in_proj_bias,
            (self.bias_k, self.bias_v),
            self.add_zero_attn,
            self.dropout if self.training else 0.0,
            self.out_proj,
            (attn_mask, key_padding_mask),
            need_weights,
            average_attn_weights,
            is_causal,
            batch_first=self.batch_first,
        )
