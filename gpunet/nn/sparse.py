"""Tables of vectors, looked up by index."""

from __future__ import annotations

from typing import Any

import gpunet.nn.functional as F
from gpunet.autograd import Tensor, empty, no_grad
from gpunet.backend.errors import ShapeError
from gpunet.nn import init
from gpunet.nn.arguments import check_int
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Module):
    """A table (num_embeddings, embedding_dim)."""

    weight: Parameter
    sparse = False

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        given: Tensor | None,
        frozen: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.num_embeddings = check_int(name, "num_embeddings", num_embeddings, 0)
        self.embedding_dim = check_int(name, "embedding_dim", embedding_dim, 0)
        if sparse:
            raise ValueError(f"{name}: sparse gradients are not supported; use sparse=False")
        if padding_idx is not None:
            padding_idx = check_int(name, "padding_idx", padding_idx, -num_embeddings)
            if padding_idx >= num_embeddings:
                raise ValueError(f"{name}: padding_idx must be below num_embeddings, got {padding_idx}")
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        if given is None:
            shape = (self.num_embeddings, self.embedding_dim)
            self.weight = Parameter(empty(shape, device=device, dtype=dtype), requires_grad=not frozen)
            self.reset_parameters()
            return
        if tuple(given.shape) != (num_embeddings, embedding_dim):
            raise ShapeError(
                f"{name}: the given weight must have shape {(num_embeddings, embedding_dim)}, got {tuple(given.shape)}"
            )
        self.weight = Parameter(given, requires_grad=not frozen)

    def reset_parameters(self) -> None:
        """Draw from N(0, 1), and zeros for ``padding_idx``."""
        init.normal_(self.weight)
        if self.padding_idx is not None and self.weight.device.type != "meta":
            with no_grad():
                self.weight[self.padding_idx] = 0.0


def _check_pretrained(layer: str, embeddings: Tensor) -> tuple[int, int]:
    if embeddings.dim() != 2:
        raise ShapeError(
            f"{layer}.from_pretrained: embeddings must have 2 dimensions (num_embeddings, embedding_dim), "
            f"got shape {tuple(embeddings.shape)}"
        )
    rows, columns = embeddings.shape
    return rows, columns


class Embedding(_Table):
    """A table of vectors: indices (...) in, vectors (..., embedding_dim) out.

    Args:
        num_embeddings: number of vectors.
        embedding_dim: their length.
        padding_idx: an index whose vector starts at zero and gets no gradient.
        max_norm: vectors that are looked up are first shortened to this norm, in place.
        norm_type: order of that norm.
        scale_grad_by_freq: divide each vector's gradient by how often it was looked up.
        sparse: not supported.
        device: where the table lives.
        dtype: its floating type.

    Attributes:
        weight: (num_embeddings, embedding_dim), drawn from N(0, 1).

    Raises:
        ValueError: sizes or a padding index out of range, or ``sparse=True``.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            _freeze,
            device,
            dtype,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Input: int64 or int32 of any shape. Output: one more dimension, of ``embedding_dim``."""
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        return text

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An Embedding around given vectors, whose memory it shares.

        Args:
            embeddings: (num_embeddings, embedding_dim).
            freeze: ask for no gradient.
            padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse: as for the layer.

        Raises:
            ShapeError: not two dimensions.
        """
        rows, columns = _check_pretrained(cls.__name__, embeddings)
        return cls(
            rows,
            columns,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight=embeddings,
            _freeze=freeze,
        )


class EmbeddingBag(_Table):
    """Sums, means or maxima of bags of vectors: indices (B, L), or (M,) with offsets (B,), in; (B, embedding_dim) out.

    Args:
        num_embeddings: number of vectors.
        embedding_dim: their length.
        max_norm: vectors that are looked up are first shortened to this norm, in place.
        norm_type: order of that norm.
        scale_grad_by_freq: divide each vector's gradient by how often it was looked up.
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        sparse: not supported.
        include_last_offset: the last offset is the end of the last bag.
        padding_idx: an index that counts for nothing.
        device: where the table lives.
        dtype: its floating type.

    Attributes:
        weight: (num_embeddings, embedding_dim), drawn from N(0, 1).

    Raises:
        ValueError: sizes or a padding index out of range, an unknown mode, or ``sparse=True``.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"EmbeddingBag: mode must be 'sum', 'mean' or 'max', got {mode!r}")
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            False,
            device,
            dtype,
        )
        self.mode = mode
        self.include_last_offset = include_last_offset

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Reduce each bag.

        Args:
            input: (B, L), a bag a row, or (M,), all bags one after the other.
            offsets: (B,), where each bag begins in an input (M,).
            per_sample_weights: of the input's shape, the factor of each vector; for ``"sum"`` alone.

        Returns:
            (B, embedding_dim).
        """
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        text += f", mode={self.mode!r}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """An EmbeddingBag around given vectors, whose memory it shares.

        Args:
            embeddings: (num_embeddings, embedding_dim).
            freeze: ask for no gradient.
            max_norm, norm_type, scale_grad_by_freq, mode, sparse, include_last_offset, padding_idx: as for the layer.

        Raises:
            ShapeError: not two dimensions.
        """
        rows, columns = _check_pretrained(cls.__name__, embeddings)
        made = cls(
            rows,
            columns,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            embeddings,
            include_last_offset,
            padding_idx,
        )
        made.weight.requires_grad_(not freeze)
        return made
