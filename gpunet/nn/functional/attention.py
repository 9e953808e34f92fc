"""Attention: weighted means of values, the weights from how well queries match keys.

    weights = softmax(Q K^T / sqrt(d) + mask),   output = weights V             (Vaswani et al. 2017, equation 1)

Q is (..., L, d), K (..., S, d), V (..., S, d_v): each of L queries takes a mean over S values, so there is a key for
each value, while there may be any number of queries. The softmax runs over the keys: rows of weights sum to 1. A query
that the mask leaves no key has weights 0, and output 0; so has every query where there are no keys at all, S = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunet.autograd import Tensor, cat, zeros
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.nn.functional.dropout import dropout
from gpunet.nn.functional.linear import linear
from gpunet.ops.base import require_floating, require_same_dtype
from gpunet.ops.dtypes import BOOL, is_floating
from gpunet.ops.elementwise import broadcast_shapes

__all__ = ["attend_heads", "multi_head_attention_forward", "scaled_dot_product_attention"]


def _check_dropout(name: str, p: Any) -> float:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: dropout_p must lie in 0..1, got {p}")
    return float(p)


def _check_mask(name: str, argument: str, mask: Any, dtype: Any) -> None:
    """Refuse a mask that is neither bool nor of the scores' dtype."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name}: {argument} must be a Tensor, got {type(mask).__name__}")
    if mask.dtype != BOOL and mask.dtype != dtype:
        wanted = f"bool or of the query's dtype {np.dtype(dtype).name}"
        raise DTypeError(f"{name}: {argument} must be {wanted}, got {mask.dtype.name}")


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, dropout_p: float, need_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """The equation, and the weights if they are needed.

    Args:
        query, key, value: (..., L, d), (..., S, d), (..., S, d_v).
        mask: broadcasts with (..., L, S): bool, True where a query must not look, or floats to add; or None.
        scale: what the queries are multiplied by.
        dropout_p: probability of dropping a weight.
        need_weights: return them too, as they were used: after dropout.
    """
    scores = (query * scale) @ key.transpose(-2, -1)
    hidden = None
    if mask is not None:
        # Where no key is left softmax would be 0 / 0. Such rows keep their scores, and what comes of them is dropped.
        if mask.dtype == BOOL:
            hidden = mask.all(-1, keepdim=True)
            scores = scores.masked_fill(mask.logical_and(~hidden), -math.inf)
        else:
            hidden = (mask == -math.inf).all(-1, keepdim=True)
            scores = scores + mask.masked_fill(hidden, 0.0)
    weights = scores.softmax(-1)
    if hidden is not None and need_weights:
        weights = weights.masked_fill(hidden, 0.0)
    weights = dropout(weights, dropout_p)
    output = weights @ value
    if hidden is not None and not need_weights:  # the smaller of the two
        output = output.masked_fill(hidden, 0.0)
    return output, weights if need_weights else None


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K^T * scale + mask) V: Vaswani et al. 2017, equation 1.

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, E_v); the leading dimensions of all three broadcast.
        attn_mask: broadcasts to (..., L, S): bool, True where a query may look (the other way round than in
            ``MultiheadAttention``), or floats that are added to the scores.
        dropout_p: probability of dropping a weight, whether or not anything trains.
        is_causal: query i looks at keys 0..i; not together with ``attn_mask``.
        scale: 1 / sqrt(E) if None.
        enable_gqa: H_q heads of queries, in dimension -3, share H heads of keys and values: H_q / H in a row each.

    Returns:
        (..., L, E_v). Zeros for a query that may look nowhere, and for all where S is 0.

    Raises:
        ShapeError: sizes that do not fit, such as another number of values than of keys.
        DTypeError: dtypes that differ; a mask of integers.
        ValueError: ``attn_mask`` together with ``is_causal``; a dropout_p that is no probability.
    """
    name = "scaled_dot_product_attention"
    for argument, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim < 2:
            raise ShapeError(f"{name}: {argument} must have at least 2 dimensions, got shape {tuple(tensor.shape)}")
    require_floating(name, "query", query)
    require_same_dtype(name, query=query, key=key, value=value)
    width, keys = query.shape[-1], key.shape[-2]
    if key.shape[-1] != width:
        raise ShapeError(f"{name}: key must have the query's last size {width}, got shape {tuple(key.shape)}")
    if value.shape[-2] != keys:
        raise ShapeError(f"{name}: there must be a value for each of {keys} keys, got {value.shape[-2]} values")
    if enable_gqa:
        key, value = (_shared_heads(name, argument, query, x) for argument, x in (("key", key), ("value", value)))
    leading = broadcast_shapes(name, query.shape[:-2], key.shape[:-2], value.shape[:-2])
    mask = None
    if is_causal:
        if attn_mask is not None:
            raise ValueError(f"{name}: attn_mask and is_causal exclude each other")
        mask = query.new_ones((query.shape[-2], keys), dtype="bool").triu(1)
    elif attn_mask is not None:
        _check_mask(name, "attn_mask", attn_mask, query.dtype)
        wanted = (*leading, query.shape[-2], keys)
        lacking = len(wanted) - attn_mask.ndim
        pairs = zip(attn_mask.shape, wanted[max(lacking, 0) :], strict=False)
        if lacking < 0 or any(size not in (1, extent) for size, extent in pairs):
            raise ShapeError(f"{name}: attn_mask must broadcast to {wanted}, got shape {tuple(attn_mask.shape)}")
        mask = ~attn_mask if attn_mask.dtype == BOOL else attn_mask
        mask = mask.expand(*mask.shape[:-1], keys) if mask.ndim else mask.expand(keys)
    factor = (1 / math.sqrt(width) if width else 1.0) if scale is None else float(scale)
    return _attend(query, key, value, mask, factor, _check_dropout(name, dropout_p), False)[0]


def _shared_heads(name: str, argument: str, query: Tensor, shared: Tensor) -> Tensor:
    """Each head of the keys or values as often as queries' heads share it."""
    if query.ndim < 3 or shared.ndim < 3 or not shared.shape[-3] or query.shape[-3] % shared.shape[-3]:
        raise ShapeError(
            f"{name}: enable_gqa needs {argument}'s number of heads, dimension -3, to divide the query's, got shapes "
            f"{tuple(shared.shape)} and {tuple(query.shape)}"
        )
    times = query.shape[-3] // shared.shape[-3]
    return shared if times == 1 else shared.repeat_interleave(times, -3)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What ``nn.MultiheadAttention`` computes, which says more; sequences are (length, N, features).

    Args:
        query: (L, N, E), or (L, E).
        key: (S, N, E_k), or (S, E_k).
        value: (S, N, E_v), or (S, E_v).
        embed_dim_to_check: E, which the query must have.
        num_heads: H, which divides E.
        in_proj_weight: (3 E, E), the projections of query, key and value on top of each other.
        in_proj_bias: (3 E,), or None.
        bias_k, bias_v: (1, 1, E), one more key and its value, or None.
        add_zero_attn: one more key and its value of zeros.
        dropout_p: probability of dropping a weight.
        out_proj_weight, out_proj_bias: (E, E) and (E,) or None.
        training: False does without dropout.
        key_padding_mask: (N, S), or (S,).
        need_weights: return the weights.
        attn_mask: (L, S) or (N H, L, S).
        use_separate_proj_weight: take the next three in place of ``in_proj_weight``.
        q_proj_weight, k_proj_weight, v_proj_weight: (E, E), (E, E_k) and (E, E_v).
        static_k, static_v: (N H, S, E / H), in place of what is projected from key and value.
        average_attn_weights: the mean of the heads' weights.
        is_causal: says that ``attn_mask`` is the causal one; the mask is what counts.

    Returns:
        The output, of the query's shape, and the weights, or None.
    """
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    return attend_heads(
        (query, key, value),
        embed_dim_to_check,
        num_heads,
        separate if use_separate_proj_weight else in_proj_weight,
        in_proj_bias,
        (bias_k, bias_v),
        add_zero_attn,
        dropout_p if training else 0.0,
        lambda x: linear(x, out_proj_weight, out_proj_bias),
        (attn_mask, key_padding_mask),
        need_weights,
        average_attn_weights,
        is_causal,
        static=(static_k, static_v),
    )


_NAME = "multi_head_attention_forward"


def _check_sequences(inputs: tuple[Any, Any, Any], sizes: tuple[int, int, int], batch_first: bool) -> None:
    """Refuse what is not one query, key and value of the same batch, with a value for each key."""
    names = ("query", "key", "value")
    for name, x in zip(names, inputs, strict=True):
        if not isinstance(x, Tensor):
            raise TypeError(f"{_NAME}: {name} must be a Tensor, got {type(x).__name__}")
    query, key, value = inputs
    if query.ndim not in (2, 3):
        raise ShapeError(f"{_NAME}: query must have 2 or 3 dimensions, got shape {tuple(query.shape)}")
    for name, x, size in zip(names, inputs, sizes, strict=True):
        require_floating(_NAME, name, x)
        if x.ndim != query.ndim:
            raise ShapeError(
                f"{_NAME}: {name} must have {query.ndim} dimensions as the query has, got shape {tuple(x.shape)}"
            )
        if x.shape[-1] != size:
            raise ShapeError(f"{_NAME}: {name} must have {size} features, got shape {tuple(x.shape)}")
    along = 1 if batch_first and query.ndim == 3 else 0
    if key.shape[along] != value.shape[along]:
        raise ShapeError(
            f"{_NAME}: there must be a value for each key, got {key.shape[along]} keys and {value.shape[along]} values"
        )
    if query.ndim == 3:
        batches = [x.shape[1 - along] for x in inputs]
        if len(set(batches)) > 1:
            raise ShapeError(f"{_NAME}: query, key and value must be of one batch, got sizes {batches}")
    require_same_dtype(_NAME, query=query, key=key, value=value)


def _merged_masks(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, shape: tuple[int, int, int, int], query: Tensor
) -> Tensor | None:
    """Both masks as one that broadcasts with the scores' shape (N, H, L, S): bool, or floats to add."""
    batch, heads, queries, keys = shape
    if attn_mask is not None:
        _check_mask(_NAME, "attn_mask", attn_mask, query.dtype)
        if tuple(attn_mask.shape) not in ((queries, keys), (batch * heads, queries, keys)):
            raise ShapeError(
                f"{_NAME}: attn_mask must have shape (L, S) = {(queries, keys)} or (N * num_heads, L, S) = "
                f"{(batch * heads, queries, keys)}, got {tuple(attn_mask.shape)}"
            )
        if attn_mask.ndim == 3:
            attn_mask = attn_mask.reshape(shape)
    if key_padding_mask is None:
        return attn_mask
    _check_mask(_NAME, "key_padding_mask", key_padding_mask, query.dtype)
    text, wanted = ("(N, S)", (batch, keys)) if query.ndim == 3 else ("(S,)", (keys,))
    if tuple(key_padding_mask.shape) != wanted:
        raise ShapeError(
            f"{_NAME}: key_padding_mask must have shape {text} = {wanted}, got {tuple(key_padding_mask.shape)}"
        )
    padding = key_padding_mask.reshape(batch, 1, 1, keys)
    if attn_mask is None:
        return padding
    if attn_mask.dtype == padding.dtype == BOOL:
        return attn_mask.logical_or(padding)
    return _to_add(attn_mask, query) + _to_add(padding, query)


def _to_add(mask: Tensor, query: Tensor) -> Tensor:
    """A mask as floats to add to scores."""
    if is_floating(mask.dtype):
        return mask
    return query.new_zeros(mask.shape).masked_fill(mask, -math.inf)


def _projections(inputs: tuple[Tensor, Tensor, Tensor], size: int, weight: Any, bias: Tensor | None) -> list[Tensor]:
    """Query, key and value in the space where they are compared; what is one tensor is multiplied once."""
    query, key, value = inputs
    biases: tuple[Tensor | None, ...]
    if isinstance(weight, tuple):
        biases = (None,) * 3 if bias is None else bias.split(size)
        return [linear(x, w, b) for x, w, b in zip(inputs, weight, biases, strict=True)]
    if query is key and key is value:
        return list(linear(query, weight, bias).split(size, -1))
    if key is value:
        first, rest = weight.split([size, 2 * size])
        biases = (None, None) if bias is None else bias.split([size, 2 * size])
        return [linear(query, first, biases[0]), *linear(key, rest, biases[1]).split(size, -1)]
    return _projections(inputs, size, weight.split(size), bias)


def attend_heads(
    inputs: tuple[Tensor, Tensor, Tensor],
    embed_dim: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Tensor | None,
    extra: tuple[Tensor | None, Tensor | None],
    add_zero_attn: bool,
    dropout_p: float,
    out_proj: Callable[[Tensor], Tensor],
    masks: tuple[Tensor | None, Tensor | None],
    need_weights: bool,
    average_attn_weights: bool,
    is_causal: bool,
    *,
    batch_first: bool = False,
    static: tuple[Tensor | None, Tensor | None] = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """Attention of several heads, each in its own part of the features; see ``multi_head_attention_forward``.

    Args:
        inputs: query, key and value.
        in_proj_weight: (3 E, E), or one weight for each input.
        extra: ``bias_k`` and ``bias_v``.
        out_proj: the last projection.
        masks: ``attn_mask`` and ``key_padding_mask``.
        batch_first: sequences are (N, length, features).
    """
    if embed_dim % num_heads:
        raise ValueError(f"{_NAME}: embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}")
    separate = isinstance(in_proj_weight, tuple)
    sizes = tuple(weight.shape[1] for weight in in_proj_weight) if separate else (embed_dim,) * 3
    _check_sequences(inputs, (embed_dim, sizes[1], sizes[2]), batch_first)
    probability = _check_dropout(_NAME, dropout_p)
    attn_mask, key_padding_mask = masks
    if is_causal and attn_mask is None:
        raise ValueError(f"{_NAME}: is_causal says what attn_mask is, and needs it")
    query, key, _ = inputs
    batched = query.ndim == 3
    along = 1 if batched and batch_first else 0
    batch = query.shape[1 - along] if batched else 1
    head_size = embed_dim // num_heads
    keys = key.shape[along] if static[0] is None else static[0].shape[1]
    mask = _merged_masks(attn_mask, key_padding_mask, (batch, num_heads, query.shape[along], keys), query)

    def heads(x: Tensor) -> Tensor:
        """Features in parts: (N, H, length, E / H)."""
        parts = x.reshape(*(x.shape[:-1] if batched else (x.shape[0], 1)), num_heads, head_size)
        return parts.permute(0, 2, 1, 3) if along else parts.permute(1, 2, 0, 3)

    parts = [heads(x) for x in _projections(inputs, embed_dim, in_proj_weight, in_proj_bias)]
    for place, (name, given) in enumerate((("static_k", static[0]), ("static_v", static[1])), 1):
        if given is not None:
            if tuple(given.shape) != (batch * num_heads, keys, head_size):
                wanted = (batch * num_heads, keys, head_size)
                raise ShapeError(f"{_NAME}: {name} must have shape {wanted}, got {tuple(given.shape)}")
            parts[place] = given.reshape(batch, num_heads, keys, head_size)
    added = 0
    bias_k, bias_v = extra
    if bias_k is not None and bias_v is not None:
        for place, bias in ((1, bias_k), (2, bias_v)):
            one = bias.reshape(1, num_heads, 1, head_size).expand(batch, -1, -1, -1)
            parts[place] = cat([parts[place], one], 2)
        added += 1
    if add_zero_attn:
        nothing = zeros(batch, num_heads, 1, head_size, dtype=query.dtype, device=query.device)
        parts[1:] = [cat([part, nothing], 2) for part in parts[1:]]
        added += 1
    if added and mask is not None:  # what was added may be looked at by all
        free = mask.new_zeros((*mask.shape[:-1], added))
        mask = cat([mask, free], -1)

    q, k, v = parts
    output, weights = _attend(q, k, v, mask, math.sqrt(1.0 / head_size), probability, need_weights)
    output = output.permute(0, 2, 1, 3) if along else output.permute(2, 0, 1, 3)
    output = out_proj(output.reshape(query.shape))
    if weights is None:
        return output, None
    if average_attn_weights:
        weights = weights.mean(1)
    return output, weights if batched else weights.squeeze(0)
