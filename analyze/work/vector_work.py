"""How much work is an operator that multiplies no matrices: norm, softmax, reduction, elementwise, copy, lookup?

Such operators mostly move bytes. Their FLOPs are counted by their definition; a function of one element (an exponential, a
GELU) counts as one. Each row that a lookup reads counts once, as if no row repeated. The places of arguments are those of
PyTorch's native_functions.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from .call import BOOL, FP32, INT64, SCALAR_TYPES, DType, OperatorCall, Shape, TensorInput, UnrecordedError
from .matrix_work import broadcast
from .work import Formula, Work, bytes_of, vector_peak

LAYER_NORM_FLOPS = 8
"""FLOPs for each element: mean 1, variance 3, normalising 2, scale and shift 2."""
RMS_NORM_FLOPS = 4
"""FLOPs for each element: mean of squares 2, normalising 1, scale 1."""
NORM_BACKWARD_FLOPS = 14
"""FLOPs for each element: two sums of products 4, the input's gradient 6, the gradients of scale and shift 4."""
SOFTMAX_FLOPS = 5
"""FLOPs for each element: maximum, subtraction, exponential, sum, division."""
SOFTMAX_BACKWARD_FLOPS = 4
"""FLOPs for each element: product, sum, subtraction, product."""


def _vector(flops: int, moved: int, like: TensorInput) -> Work:
    return Work(flops, moved, vector_peak(like.dtype))


# Elementwise


@dataclass(frozen=True)
class Elementwise:
    """One operation for each element of the result, which has the broadcast shape of the first `operands` arguments.

    Later arguments are numbers, or a tensor to write into (`out`). An operator whose name ends in `_` writes into its first
    argument.
    """

    operands: int
    result: DType | None = None
    """The type of the result, if it does not follow from the types of the operands."""
    floating: bool = False
    """Whether integer operands give a result in FP32."""
    first: int = 0
    """The place of the first operand whose type counts. The type of a condition does not count."""

    def __call__(self, call: OperatorCall) -> Work:
        """Every operand is read once, the result written once."""
        places = [at for at in range(self.operands) if call.is_tensor(at)]
        inputs = [call.tensor(at) for at in places]
        if not inputs:
            raise UnrecordedError(f"{call.name} without a tensor")
        shape = broadcast(*(tensor.shape for tensor in inputs))
        counted = [tensor for at, tensor in zip(places, inputs, strict=True) if at >= self.first]
        dtype = self.result or self._promoted(counted or inputs)
        outs = [call.tensor(at) for at in range(self.operands, len(call)) if call.is_tensor(at)]
        if call.name.endswith("_") and not call.name.endswith("__"):
            dtype = inputs[0].dtype
        elif outs:
            dtype = outs[-1].dtype
        flops = prod(shape)
        return Work(flops, bytes_of(*inputs) + flops * dtype.bytes, vector_peak(dtype))

    def _promoted(self, inputs: list[TensorInput]) -> DType:
        """The type of the result: the highest among the tensors with dimensions, or among all if none has dimensions.

        If the tensors with dimensions are integers and one without dimensions is floating, the result is FP32.
        """
        arrays = [tensor.dtype for tensor in inputs if tensor.shape]
        scalars = [tensor.dtype for tensor in inputs if not tensor.shape]
        best = max(arrays or scalars, key=lambda dtype: dtype.rank)
        if arrays and not best.is_floating and any(dtype.is_floating for dtype in scalars):
            best = FP32
        return FP32 if self.floating and not best.is_floating else best


_UNARY = "abs neg relu sign sgn square floor ceil round trunc frac bitwise_not hardtanh nan_to_num tril triu"
_FLOAT_UNARY = (
    "sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh sigmoid erf erfc reciprocal"
    " gelu silu mish softplus elu leaky_relu hardswish hardsigmoid"
)
_UNARY_TO_BOOL = "isnan isinf isfinite logical_not"
_BINARY = (
    "add sub rsub mul pow remainder fmod maximum minimum fmax fmin clamp_min clamp_max masked_fill"
    " bitwise_and bitwise_or bitwise_xor gelu_backward silu_backward sigmoid_backward tanh_backward threshold_backward"
    " elu_backward leaky_relu_backward hardtanh_backward hardswish_backward"
)
_FLOAT_BINARY = "div true_divide atan2"
_BINARY_TO_BOOL = "eq ne lt le gt ge logical_and logical_or logical_xor"
_TERNARY = "addcmul addcdiv lerp clamp"


def _elementwise() -> dict[str, Formula]:
    kinds = (
        (_UNARY, Elementwise(1)),
        (_FLOAT_UNARY, Elementwise(1, floating=True)),
        (_UNARY_TO_BOOL, Elementwise(1, result=BOOL)),
        (_BINARY, Elementwise(2)),
        (_FLOAT_BINARY, Elementwise(2, floating=True)),
        (_BINARY_TO_BOOL, Elementwise(2, result=BOOL)),
        (_TERNARY, Elementwise(3)),
        ("where", Elementwise(3, first=1)),
    )
    return {f"aten::{name}{tail}": formula for names, formula in kinds for name in names.split() for tail in ("", "_")}


# Copies, fills, concatenation


def copy(call: OperatorCall) -> Work:
    """`copy_` (self, src), which may also cast or change the layout."""
    target, source = call.tensor(0), call.tensor(1)
    return _vector(0, source.bytes + target.size, target)


def fill(call: OperatorCall) -> Work:
    """`fill_`, `zero_` and random fills (self): nothing is read."""
    return _vector(0, call.tensor(0).size, call.tensor(0))


def cat(call: OperatorCall) -> Work:
    """`cat` (tensors): all of them are read and written once."""
    elements = sum(map(prod, call.shapes(0)))
    return Work(0, 2 * elements * call.item_bytes(), "fp32")


@dataclass(frozen=True)
class ForEach:
    """One operation on many tensors at once.

    It does `flops` for each element, reads up to `lists` lists of tensors, and writes `written` lists. The trace does not
    record the type of a list. If the kernel's name says it, all lists are taken to have that type.
    """

    flops: int
    lists: int
    written: int = 1

    def __call__(self, call: OperatorCall) -> Work:
        """The work of one call. The first list gives the number of elements; an argument that is no list is a number."""
        elements = sum(map(prod, call.shapes(0)))
        read = sum(call.has_list(at) for at in range(self.lists))
        return Work(self.flops * elements, (read + self.written) * elements * call.item_bytes(), "fp32")


def fused_adam(call: OperatorCall) -> Work:
    """`_fused_adam_` and `_fused_adamw_` (self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs): all but grads are written.

    FLOPs for each element: two moving averages 7, bias corrections and root 4, the step 3.
    """
    elements = sum(map(prod, call.shapes(0)))
    kept = 4 if call.has_list(4) else 3
    return Work(14 * elements, (2 * kept + 1) * elements * call.item_bytes(), "fp32")


# Norms and softmax


def layer_norm(call: OperatorCall) -> Work:
    """`native_layer_norm` and `layer_norm` (input, normalized_shape, weight, bias).

    The mean and the deviation of each row are written too.
    """
    rows, weight = call.tensor(0), call.optional(2)
    inner = weight.elements if weight else prod(call.integers(1))
    if not inner or rows.elements % inner:
        raise UnrecordedError("a layer norm over nothing")
    kept = 2 * rows.elements // inner * FP32.bytes
    moved = bytes_of(rows, weight, call.optional(3)) + rows.size + kept
    return _vector(LAYER_NORM_FLOPS * rows.elements, moved, rows)


def rms_norm(call: OperatorCall) -> Work:
    """`_fused_rms_norm` and `rms_norm` (input, normalized_shape, weight)."""
    rows = call.tensor(0)
    return _vector(RMS_NORM_FLOPS * rows.elements, bytes_of(rows, call.optional(2)) + rows.size, rows)


def group_norm(call: OperatorCall) -> Work:
    """`native_group_norm` (input, weight, bias)."""
    rows = call.tensor(0)
    moved = bytes_of(rows, call.optional(1), call.optional(2)) + rows.size
    return _vector(LAYER_NORM_FLOPS * rows.elements, moved, rows)


def batch_norm(call: OperatorCall) -> Work:
    """`native_batch_norm` and similar (input, weight, bias, running_mean, running_var, ..). The image counts as read once."""
    image = call.tensor(0)
    small = [call.optional(at) for at in range(1, 5)]
    return _vector(LAYER_NORM_FLOPS * image.elements, bytes_of(image, *small) + image.size, image)


@dataclass(frozen=True)
class NormBackward:
    """The places of the tensors among the arguments of a norm's backward.

    `mask` is the place of the flags that say which gradients are wanted: of input, weight and bias. Without a mask all are.
    """

    grad: int = 0
    image: int = 1
    weight: int = 5
    statistics: tuple[int, ...] = ()
    mask: int | None = None

    def __call__(self, call: OperatorCall) -> Work:
        """The gradient of the output, the input, the weight and the statistics are read. The wanted gradients are written."""
        grad, image, weight = call.tensor(self.grad), call.tensor(self.image), call.optional(self.weight)
        wanted = (True, True, True) if self.mask is None else call.flags(self.mask)
        moved = bytes_of(grad, image, weight, *(call.optional(at) for at in self.statistics))
        moved += image.size * wanted[0]
        if weight is not None:
            moved += weight.size * sum(wanted[1:])
        return _vector(NORM_BACKWARD_FLOPS * image.elements, moved, image)


def softmax(call: OperatorCall) -> Work:
    """`_softmax` and `_log_softmax` (self, dim, half_to_float)."""
    rows = call.tensor(0)
    dtype = FP32 if not call.is_missing(2) and call.flag(2) else rows.dtype
    return _vector(SOFTMAX_FLOPS * rows.elements, rows.bytes + rows.elements * dtype.bytes, rows)


def softmax_backward(call: OperatorCall) -> Work:
    """`_softmax_backward_data` and `_log_softmax_backward_data` (grad_output, output, dim, input_dtype)."""
    grad, output = call.tensor(0), call.tensor(1)
    dtype = SCALAR_TYPES.get(call.value(3), grad.dtype) if call.values else grad.dtype
    moved = bytes_of(grad, output) + output.elements * dtype.bytes
    return _vector(SOFTMAX_BACKWARD_FLOPS * output.elements, moved, output)


# Reductions


@dataclass(frozen=True)
class Reduction:
    """A reduction over the dimensions in its second argument, or over all dimensions, with `flops` for each element."""

    flops: int = 1
    result: DType | None = None
    results: int = 1
    """How many tensors the operator returns if a dimension is given."""
    total: DType | None = None
    """The type of the result if integers are summed or multiplied."""
    index: DType | None = None
    """The type of the second result, the indices."""

    def __call__(self, call: OperatorCall) -> Work:
        """The input is read once. The shape of the result follows from the dimensions."""
        rows = call.tensor(0)
        if call.is_tensor(1) and call.tensor(1).shape:
            return Elementwise(2)(call)  # max and min of two tensors
        kept, is_whole = self._kept(call, rows)
        dtype = self.result or (self.total if self.total and not rows.dtype.is_floating else rows.dtype)
        written = kept * (dtype.bytes + (self.index.bytes if self.index and not is_whole else 0))
        return _vector(self.flops * rows.elements, rows.bytes + written, rows)

    def _kept(self, call: OperatorCall, rows: TensorInput) -> tuple[int, bool]:
        """How many elements the result has, and whether the reduction is over all dimensions because none are given."""
        if len(call) > 2 and not call.values:
            raise UnrecordedError(f"the dimensions of {call.name} are not recorded")
        if call.is_missing(1):
            return 1, True
        if call.types[1] not in ("Scalar", "ScalarList"):
            raise UnrecordedError(f"{call.name} over something that is not recorded")
        text = call.value(1)
        if text in ("True", "False") or (call.types[1] == "Scalar" and len(call) == 2):
            return 1, True  # var(self, unbiased), mean(self, dtype), norm(self, p)
        dims = call.integers(1)
        rank = len(rows.shape)
        if not all(-rank <= dim < rank for dim in dims):
            raise UnrecordedError(f"{call.name} over {dims} of {rows.shape}")
        gone = {dim % rank for dim in dims} if dims else set(range(rank))
        return prod(size for dim, size in enumerate(rows.shape) if dim not in gone), False


def scan(call: OperatorCall) -> Work:
    """`cumsum` and `cumprod` (self, dim): the result has as many elements as the input. For integers it is INT64."""
    rows = call.tensor(0)
    dtype = rows.dtype if rows.dtype.is_floating else INT64
    return _vector(rows.elements, rows.bytes + rows.elements * dtype.bytes, rows)


# Lookups


def lookup(table: TensorInput, index: TensorInput, elements: int) -> Work:
    """Read `elements` elements of a table at the places in an index, and write them elsewhere."""
    return _vector(0, 2 * elements * table.dtype.bytes + index.bytes, table)


def embedding(call: OperatorCall) -> Work:
    """`embedding` (weight, indices): one row for each index."""
    table, index = call.tensor(0), call.tensor(1)
    return lookup(table, index, index.elements * prod(table.shape[1:]))


def embedding_backward(call: OperatorCall) -> Work:
    """`embedding_dense_backward` (grad_output, indices, num_weights): it writes the gradient of the whole table."""
    grad, index, rows = call.tensor(0), call.tensor(1), call.integer(2)
    written = rows * grad.shape[-1] * grad.dtype.bytes if grad.shape else 0
    return _vector(grad.elements, bytes_of(grad, index) + written, grad)


def index_select(call: OperatorCall) -> Work:
    """`index_select` (self, dim, index): for each index, all elements of the other dimensions."""
    table, index = call.tensor(0), call.tensor(2)
    return lookup(table, index, index.elements * _others(table.shape, call.integer(1)))


def _others(shape: Shape, dim: int) -> int:
    if not -len(shape) <= dim < len(shape):
        raise UnrecordedError(f"dimension {dim} of {shape}")
    return prod(size for at, size in enumerate(shape) if at != dim % len(shape))


def gather(call: OperatorCall) -> Work:
    """`gather` (self, dim, index): one element for each index."""
    table, index = call.tensor(0), call.tensor(2)
    return lookup(table, index, index.elements)


def index_copy(call: OperatorCall) -> Work:
    """`index_copy_` (self, dim, index, source): the source is read, and written to the places in the index."""
    table, index, source = call.tensor(0), call.tensor(2), call.tensor(3)
    return _vector(0, source.bytes + source.elements * table.dtype.bytes + index.bytes, table)


def index_add(call: OperatorCall) -> Work:
    """`index_add_` and `scatter_add_` (self, dim, index, source): the elements that are added to are read as well."""
    table, index, source = call.tensor(0), call.tensor(2), call.tensor(3)
    return _vector(source.elements, source.bytes + 2 * source.elements * table.dtype.bytes + index.bytes, table)


# Pooling and dropout


def max_pool(call: OperatorCall) -> Work:
    """`max_pool2d_with_indices` (self, kernel, stride, padding, dilation, ceil_mode): values and INT64 indices are written."""
    image = call.tensor(0)
    kernel, padding, dilation = _pair(call, 1), _pair(call, 3), _pair(call, 4)
    stride = _pair(call, 2) if call.integers(2) else kernel
    out = _pooled(image.shape, kernel, stride, padding, dilation, call.flag(5))
    return _vector(out * prod(kernel), image.bytes + out * (image.dtype.bytes + INT64.bytes), image)


def max_pool_backward(call: OperatorCall) -> Work:
    """`max_pool2d_with_indices_backward` (grad_output, self, .., indices at 7)."""
    grad, image, index = call.tensor(0), call.tensor(1), call.tensor(7)
    return _vector(grad.elements, bytes_of(grad, index) + image.size, image)


def average_pool(call: OperatorCall) -> Work:
    """`avg_pool2d` (self, kernel, stride, padding, ceil_mode)."""
    image = call.tensor(0)
    kernel, padding = _pair(call, 1), _pair(call, 3)
    stride = _pair(call, 2) if call.integers(2) else kernel
    out = _pooled(image.shape, kernel, stride, padding, (1, 1), call.flag(4))
    return _vector(out * prod(kernel), image.bytes + out * image.dtype.bytes, image)


def _pair(call: OperatorCall, at: int) -> Shape:
    values = call.integers(at)
    values = values * 2 if len(values) == 1 else values
    if len(values) != 2 or min(values) < 0:
        raise UnrecordedError(f"{values} for two dimensions")
    return values


def _pooled(shape: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape, ceil: bool) -> int:
    """How many elements the result has. With `ceil`, a window may reach beyond the edge if it begins before the edge."""
    if len(shape) < 3 or 0 in stride:
        raise UnrecordedError(f"pooling of {shape}")
    out = []
    for size, k, step, pad, spread in zip(shape[-2:], kernel, stride, padding, dilation, strict=True):
        room = size + 2 * pad - spread * (k - 1) - 1
        count = (-(-room // step) if ceil else room // step) + 1
        out.append(count - 1 if ceil and (count - 1) * step >= size + pad else count)
    if min(out) < 0:
        raise UnrecordedError("a window larger than its image")
    return prod(shape[:-2]) * prod(out)


def dropout(call: OperatorCall) -> Work:
    """`native_dropout` (input): the result and its mask are written."""
    rows = call.tensor(0)
    return _vector(2 * rows.elements, rows.bytes + rows.size + rows.elements * BOOL.bytes, rows)


_SUM = Reduction(total=INT64)
_EXTREME = Reduction(index=INT64)
_VARIANCE = Reduction(flops=4)
_CUDNN_BATCH_BACKWARD = NormBackward(grad=1, image=0, weight=2, statistics=(5, 6))

FORMULAS: Mapping[str, Formula] = {
    **_elementwise(),
    "aten::copy_": copy,
    **dict.fromkeys(("aten::fill_", "aten::zero_", "aten::normal_", "aten::uniform_", "aten::random_"), fill),
    **dict.fromkeys(("aten::exponential_", "aten::bernoulli_"), fill),
    "aten::cat": cat,
    **{f"aten::_foreach_{name}": ForEach(1, lists=2) for name in ("add_", "sub_", "mul_", "div_", "add", "sub", "mul", "div")},
    **{f"aten::_foreach_{name}": ForEach(1, lists=1) for name in ("sqrt", "sqrt_", "neg", "neg_", "reciprocal_")},
    **{f"aten::_foreach_{name}": ForEach(3, lists=3) for name in ("addcmul_", "addcdiv_", "lerp_")},
    "aten::_foreach_zero_": ForEach(0, lists=0),
    "aten::_foreach_copy_": ForEach(0, lists=1),
    "aten::_fused_adam_": fused_adam,
    "aten::_fused_adamw_": fused_adam,
    "aten::layer_norm": layer_norm,
    "aten::native_layer_norm": layer_norm,
    "aten::native_layer_norm_backward": NormBackward(weight=5, statistics=(3, 4), mask=7),
    "aten::rms_norm": rms_norm,
    "aten::_fused_rms_norm": rms_norm,
    "aten::_fused_rms_norm_backward": NormBackward(weight=4, statistics=(3,), mask=5),
    "aten::native_group_norm": group_norm,
    "aten::native_group_norm_backward": NormBackward(weight=4, statistics=(2, 3), mask=9),
    "aten::native_batch_norm": batch_norm,
    "aten::cudnn_batch_norm": batch_norm,
    "aten::miopen_batch_norm": batch_norm,
    "aten::_batch_norm_with_update": batch_norm,
    "aten::native_batch_norm_backward": NormBackward(weight=2, statistics=(5, 6), mask=9),
    "aten::cudnn_batch_norm_backward": _CUDNN_BATCH_BACKWARD,
    "aten::miopen_batch_norm_backward": _CUDNN_BATCH_BACKWARD,
    "aten::batch_norm_backward": NormBackward(weight=2, statistics=(5, 6), mask=9),
    "aten::_softmax": softmax,
    "aten::_log_softmax": softmax,
    "aten::_softmax_backward_data": softmax_backward,
    "aten::_log_softmax_backward_data": softmax_backward,
    "aten::sum": _SUM,
    "aten::prod": _SUM,
    "aten::mean": Reduction(),
    "aten::amax": Reduction(),
    "aten::amin": Reduction(),
    "aten::max": _EXTREME,
    "aten::min": _EXTREME,
    "aten::argmax": Reduction(result=INT64),
    "aten::argmin": Reduction(result=INT64),
    "aten::all": Reduction(result=BOOL),
    "aten::any": Reduction(result=BOOL),
    "aten::var": _VARIANCE,
    "aten::std": _VARIANCE,
    "aten::cumsum": scan,
    "aten::cumprod": scan,
    "aten::embedding": embedding,
    "aten::embedding_dense_backward": embedding_backward,
    "aten::index_select": index_select,
    "aten::gather": gather,
    "aten::index_copy_": index_copy,
    "aten::index_add_": index_add,
    "aten::scatter_add_": index_add,
    "aten::max_pool2d_with_indices": max_pool,
    "aten::max_pool2d_with_indices_backward": max_pool_backward,
    "aten::avg_pool2d": average_pool,
    "aten::native_dropout": dropout,
}
