"""Products of Tensors: of matrices and vectors, over any indices, and their diagonals and distances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpunet.autograd import function
from gpunet.autograd.arithmetic import check_tensors
from gpunet.autograd.sorting import Sorting
from gpunet.backend.errors import DTypeError, ShapeError
from gpunet.ops import REGISTRY
from gpunet.ops.einsum import EINSUM, label_sizes, parse_equation
from gpunet.ops.reduce import normalize_axis

if TYPE_CHECKING:
    from gpunet.autograd.tensor import Tensor

__all__ = ["Products", "einsum"]


def einsum(equation: str, *operands: Any) -> Tensor:
    """The sum over products of indexed tensors, in Einstein's notation: ``einsum("bij,bjk->bik", x, y)``.

    Args:
        equation: a letter for each dimension of each operand, ``...`` for any number of broadcasting ones, and after
            ``->`` those of the result; without it, the letters that stand once, in alphabetical order.
        operands: tensors of one dtype, or one sequence of them. More than two are multiplied two at a time, the pair
            with the smallest product first.

    Raises:
        ValueError: not an equation.
        ShapeError: it does not fit the operands.
        DTypeError: operands of different dtypes, or bool.
    """
    if not isinstance(equation, str):
        raise TypeError(f"einsum: equation must be a string, got {type(equation).__name__}")
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not operands:
        raise ValueError("einsum: at least one operand must be given")
    check_tensors("einsum", **{f"operand {position}": value for position, value in enumerate(operands)})
    labels, output = parse_equation(equation, [operand.shape for operand in operands])
    sizes = label_sizes(labels, [operand.shape for operand in operands])
    terms = list(zip(operands, labels, strict=True))
    while len(terms) > 2:
        best: tuple[int, int, int, tuple[str, ...]] | None = None
        for first, second in itertools.combinations(range(len(terms)), 2):
            others = (own for place, (_, own) in enumerate(terms) if place not in (first, second))
            wanted = {*output, *itertools.chain.from_iterable(others)}
            kept = tuple(label for label in dict.fromkeys(terms[first][1] + terms[second][1]) if label in wanted)
            size = math.prod(sizes[label] for label in kept)
            if best is None or size < best[0]:
                best = (size, first, second, kept)
        assert best is not None
        _, first, second, kept = best
        (x, a), (y, b) = terms[first], terms[second]
        terms = [term for place, term in enumerate(terms) if place not in (first, second)]
        terms.append((function.apply(EINSUM, x, y, operands=(a, b), output=kept), kept))
    return function.apply(EINSUM, *(x for x, _ in terms), operands=tuple(own for _, own in terms), output=output)


def _letters(count: int, start: int = 0) -> tuple[str, ...]:
    return tuple(chr(ord("a") + start + position) for position in range(count))


class Products(Sorting):
    """Products. Mixed into Tensor."""

    __slots__ = ()

    def _product(self, name: str, other: Any, ranks: tuple[int, int]) -> Tensor:
        """A matrix product of fixed ranks."""
        check_tensors(name, other=other)
        found = (self.ndim, other.ndim)
        if found != ranks:
            raise ShapeError(
                f"{name}: operands must be {ranks[0]}-d and {ranks[1]}-d, got {found[0]}-d and {found[1]}-d"
            )
        if ranks[0] == 3 and self.shape[0] != other.shape[0]:
            raise ShapeError(f"{name}: batches must be of one size, got {self.shape[0]} and {other.shape[0]}")
        inner = other.shape[max(0, ranks[1] - 2)]
        if self.shape[-1] != inner:
            raise ShapeError(
                f"{name}: inner sizes must agree, got {self.shape[-1]} and {inner} "
                f"of shapes {tuple(self.shape)} and {tuple(other.shape)}"
            )
        if self.dtype != other.dtype:
            raise DTypeError(
                f"{name}: other has dtype {other.dtype.name}, but input has {self.dtype.name}; they must be the same"
            )
        return self @ other

    def mm(self, mat2: Any) -> Tensor:
        """Product of two matrices."""
        return self._product("mm", mat2, (2, 2))

    def mv(self, vec: Any) -> Tensor:
        """Product of a matrix and a vector."""
        return self._product("mv", vec, (2, 1))

    def bmm(self, mat2: Any) -> Tensor:
        """Products of two batches of matrices, (B, N, M) and (B, M, P)."""
        return self._product("bmm", mat2, (3, 3))

    def dot(self, other: Any) -> Tensor:
        """Inner product of two vectors."""
        return self._product("dot", other, (1, 1))

    def vdot(self, other: Any) -> Tensor:
        """Inner product of two vectors."""
        return self._product("vdot", other, (1, 1))

    def _added(self, name: str, product: Tensor, beta: float, alpha: float) -> Tensor:
        """beta * self + alpha * product; with a beta of 0 self does not matter, not even its NaNs."""
        if self.dtype != product.dtype:
            raise DTypeError(
                f"{name}: input has dtype {self.dtype.name}, but the product has {product.dtype.name}; "
                "they must be the same"
            )
        if alpha != 1:
            product = product * alpha
        shape = product.shape
        if beta == 0:
            return product
        result = (self if beta == 1 else self * beta) + product
        if result.shape != shape:
            raise ShapeError(f"{name}: input of shape {tuple(self.shape)} does not broadcast to {tuple(shape)}")
        return result

    def addmm(self, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * self + alpha * mat1 @ mat2, for matrices."""
        check_tensors("addmm", mat1=mat1, mat2=mat2)
        return self._added("addmm", mat1._product("addmm", mat2, (2, 2)), beta, alpha)

    def addmv(self, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * self + alpha * mat @ vec, for a matrix and a vector."""
        check_tensors("addmv", mat=mat, vec=vec)
        return self._added("addmv", mat._product("addmv", vec, (2, 1)), beta, alpha)

    def addr(self, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * self + alpha * the outer product of two vectors."""
        check_tensors("addr", vec1=vec1, vec2=vec2)
        return self._added("addr", vec1._outer("addr", vec2), beta, alpha)

    def baddbmm(self, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * self + alpha * batch1 @ batch2, for batches of matrices."""
        check_tensors("baddbmm", batch1=batch1, batch2=batch2)
        return self._added("baddbmm", batch1._product("baddbmm", batch2, (3, 3)), beta, alpha)

    def addbmm(self, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * self + alpha * the sum of the batch's products batch1 @ batch2."""
        check_tensors("addbmm", batch1=batch1, batch2=batch2)
        return self._added("addbmm", batch1._product("addbmm", batch2, (3, 3)).sum(0), beta, alpha)

    def _outer(self, name: str, other: Any) -> Tensor:
        check_tensors(name, vec2=other)
        if (self.ndim, other.ndim) != (1, 1):
            raise ShapeError(f"{name}: operands must be 1-d and 1-d, got {self.ndim}-d and {other.ndim}-d")
        return self.reshape(-1, 1) * other

    def outer(self, vec2: Tensor) -> Tensor:
        """Outer product of two vectors: z_ij = x_i y_j."""
        return self._outer("outer", vec2)

    def ger(self, vec2: Tensor) -> Tensor:
        """Outer product of two vectors: z_ij = x_i y_j."""
        return self._outer("ger", vec2)

    def inner(self, other: Tensor) -> Tensor:
        """Sums of products over the last dimension of both; with a 0-d tensor the product."""
        check_tensors("inner", other=other)
        if not self.ndim or not other.ndim:
            return self * other
        if self.shape[-1] != other.shape[-1]:
            raise ShapeError(f"inner: last dimensions must agree, got {self.shape[-1]} and {other.shape[-1]}")
        return self._tensordot(other, (self.ndim - 1,), (other.ndim - 1,))

    def _tensordot(self, other: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
        a, b = list(_letters(self.ndim)), list(_letters(other.ndim, self.ndim))
        for first, second in zip(mine, theirs, strict=True):
            b[second] = a[first]
        output = [label for label in (*a, *b) if (label in a) != (label in b)]
        return function.apply(EINSUM, self, other, operands=(tuple(a), tuple(b)), output=tuple(output))

    def tensordot(self, other: Tensor, dims: Any = 2) -> Tensor:
        """Sums of products over the last ``dims`` dimensions of self and the first of other, or over two lists of them.

        Raises:
            ShapeError: the dimensions do not exist, or differ in size.
        """
        check_tensors("tensordot", other=other)
        if hasattr(dims, "__index__"):
            count = dims.__index__()
            if not 0 <= count <= min(self.ndim, other.ndim):
                raise ShapeError(f"tensordot: dims must lie in 0..{min(self.ndim, other.ndim)}, got {count}")
            mine: list[int] = list(range(self.ndim - count, self.ndim))
            theirs: list[int] = list(range(count))
        else:
            first, second = (list(part) if hasattr(part, "__len__") else [part] for part in dims)
            if len(first) != len(second):
                raise ShapeError(
                    f"tensordot: dims must name as many dimensions of both, got {len(first)} and {len(second)}"
                )
            mine = [normalize_axis("tensordot", axis, self.ndim) for axis in first]
            theirs = [normalize_axis("tensordot", axis, other.ndim) for axis in second]
            if len(set(mine)) != len(mine) or len(set(theirs)) != len(theirs):
                raise ShapeError(f"tensordot: dims names a dimension twice: {first} and {second}")
        for axis, counterpart in zip(mine, theirs, strict=True):
            if self.shape[axis] != other.shape[counterpart] and 1 not in (self.shape[axis], other.shape[counterpart]):
                raise ShapeError(
                    f"tensordot: dimension {axis} of size {self.shape[axis]} does not agree with dimension "
                    f"{counterpart} of size {other.shape[counterpart]}"
                )
        return self._tensordot(other, mine, theirs)

    def kron(self, other: Tensor) -> Tensor:
        """Kronecker product: every element of self times all of other."""
        check_tensors("kron", other=other)
        ndim = max(self.ndim, other.ndim)
        a = (1,) * (ndim - self.ndim) + tuple(self.shape)
        b = (1,) * (ndim - other.ndim) + tuple(other.shape)
        spread = self.reshape([size for extent in a for size in (extent, 1)])
        repeated = other.reshape([size for extent in b for size in (1, extent)])
        return (spread * repeated).reshape([x * y for x, y in zip(a, b, strict=True)])

    def cross(self, other: Tensor, dim: int | None = None) -> Tensor:
        """Vector product along a dimension of size 3, by default the first such one; other dimensions broadcast."""
        check_tensors("cross", other=other)
        if self.ndim != other.ndim:
            raise ShapeError(f"cross: operands must have as many dimensions, got {self.ndim} and {other.ndim}")
        if dim is None:
            sizes = [axis for axis, extent in enumerate(self.shape) if extent == 3]
            if not sizes:
                raise ShapeError(f"cross: no dimension of input has size 3, got shape {tuple(self.shape)}")
            dim = sizes[0]
        axis = normalize_axis("cross", dim, self.ndim)
        if self.shape[axis] != 3 or other.shape[axis] != 3:
            raise ShapeError(f"cross: dimension {dim} must have size 3, got {self.shape[axis]} and {other.shape[axis]}")
        x, y = self.unbind(axis), other.unbind(axis)
        parts = [x[i] * y[j] - x[j] * y[i] for i, j in ((1, 2), (2, 0), (0, 1))]
        return function.apply(REGISTRY["stack"], *parts, dim=axis)

    # Diagonals -------------------------------------------------------------------------------------------------------

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """A view of the diagonals of two dimensions, which become the last dimension."""
        return function.apply(REGISTRY["diagonal"], self, offset=offset, dim1=dim1, dim2=dim2)

    def diag_embed(self, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
        """The last dimension as diagonals of matrices that are 0 elsewhere."""
        return function.apply(REGISTRY["diag_embed"], self, offset=offset, dim1=dim1, dim2=dim2)

    def diag(self, diagonal: int = 0) -> Tensor:
        """A vector as the diagonal of a matrix, or the diagonal of a matrix as a vector."""
        if self.ndim == 1:
            return self.diag_embed(diagonal)
        if self.ndim != 2:
            raise ShapeError(f"diag: input must be 1-d or 2-d, got shape {tuple(self.shape)}")
        return self.diagonal(diagonal).clone()

    def trace(self) -> Tensor:
        """Sum of the diagonal of a matrix."""
        if self.ndim != 2:
            raise ShapeError(f"trace: input must be 2-d, got shape {tuple(self.shape)}")
        return self.diagonal().sum()

    # Distances -------------------------------------------------------------------------------------------------------

    def dist(self, other: Tensor, p: float = 2) -> Tensor:
        """The p-norm of self - other."""
        check_tensors("dist", other=other)
        difference = self - other
        return function.apply(REGISTRY["norm"], difference, p=float(p), dim=None, keepdim=False, public="dist")

    def cdist(self, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
        """Distances of points: d_ij is the p-norm of x_i - y_j, for (..., P, M) and (..., R, M).

        ``compute_mode`` is taken and not needed: differences are always formed.
        """
        check_tensors("cdist", x2=x2)
        return function.apply(REGISTRY["cdist"], self, x2, p=float(p))
