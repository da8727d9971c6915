"""How much work is a matrix multiply, a convolution or an attention?

A multiplication and an addition are two FLOPs, as in torch.utils.flop_counter. Work besides the products (a bias, a softmax) is
not counted: it is about a thousandth of theirs. The places of arguments are those of PyTorch's native_functions.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from .call import INT32, SCALAR_TYPES, DType, OperatorCall, Shape, TensorInput, UnrecordedError
from .work import MATRIX_PEAKS, Formula, Work, bytes_of


def _matrix_peak(dtype: DType) -> str:
    if dtype.name not in MATRIX_PEAKS:
        raise UnrecordedError(f"no datasheet has a peak of {dtype.name}")
    return dtype.name


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise UnrecordedError(what)


def _product(
    left: TensorInput, right: TensorInput, out: Shape, inner: int, added: TensorInput | None = None, result: DType | None = None
) -> Work:
    """The work of `inner` products for each element of `out`. The output's type is `result`, by default that of `left`."""
    written = prod(out) * (result or left.dtype).bytes
    return Work(2 * prod(out) * inner, bytes_of(left, right, added) + written, _matrix_peak(left.dtype))


def _matrices(left: TensorInput, right: TensorInput) -> tuple[Shape, int]:
    """The shape of the product of two matrices, or of two batches of matrices, and the length of the summed dimension."""
    a, b = left.shape, right.shape
    _require(len(a) == len(b) >= 2 and a[-1] == b[-2] and a[:-2] == b[:-2], f"{a} and {b} do not multiply")
    return (*a[:-1], b[-1]), a[-1]


def _result_dtype(call: OperatorCall, at: int) -> DType | None:
    """The type that an `out_dtype` argument asks for, or None if there is no such argument."""
    if call.is_missing(at) or call.is_tensor(at) or not call.value(at):
        return None
    try:
        return SCALAR_TYPES[call.value(at)]
    except KeyError:
        raise UnrecordedError(f"{call.value(at)!r} is no type") from None


def mm(call: OperatorCall) -> Work:
    """`mm` and `bmm` (self, mat2): [.., m, k] by [.., k, n]."""
    left, right = call.tensor(0), call.tensor(1)
    return _product(left, right, *_matrices(left, right), result=_result_dtype(call, 2))


def addmm(call: OperatorCall) -> Work:
    """`addmm` and `baddbmm` (self, mat1, mat2, beta): `self`, which is added, is not read if beta is 0."""
    left, right = call.tensor(1), call.tensor(2)
    ignored = len(call.values) > 3 and call.values[3] in ("0", "0.")
    return _product(left, right, *_matrices(left, right), added=None if ignored else call.tensor(0))


def addbmm(call: OperatorCall) -> Work:
    """`addbmm` (self, batch1, batch2): the batch's products are summed."""
    left, right = call.tensor(1), call.tensor(2)
    (batch, *out), inner = _matrices(left, right)
    return _product(left, right, tuple(out), inner * batch, added=call.tensor(0))


def mv(call: OperatorCall) -> Work:
    """`mv` (self, vec)."""
    return _matrix_vector(call.tensor(0), call.tensor(1))


def addmv(call: OperatorCall) -> Work:
    """`addmv` (self, mat, vec)."""
    return _matrix_vector(call.tensor(1), call.tensor(2), call.tensor(0))


def _matrix_vector(matrix: TensorInput, vector: TensorInput, added: TensorInput | None = None) -> Work:
    _require(len(matrix.shape) == 2 and vector.shape == matrix.shape[1:], "a matrix and a vector that do not multiply")
    return _product(matrix, vector, matrix.shape[:1], matrix.shape[1], added)


def dot(call: OperatorCall) -> Work:
    """`dot` (self, tensor)."""
    left, right = call.tensor(0), call.tensor(1)
    _require(len(left.shape) == 1 and left.shape == right.shape, "vectors that do not multiply")
    return _product(left, right, (), left.elements)


def linear(call: OperatorCall) -> Work:
    """`linear` (input, weight, bias): [.., k] by [n, k]."""
    rows, weight = call.tensor(0), call.tensor(1)
    _require(len(weight.shape) in (1, 2) and rows.shape[-1:] == weight.shape[-1:], "a weight that does not fit its input")
    return _product(rows, weight, (*rows.shape[:-1], *weight.shape[:-1]), weight.shape[-1], call.optional(2))


def matmul(call: OperatorCall) -> Work:
    """`matmul` (self, other): batch dimensions broadcast; a vector is a row on the left and a column on the right."""
    left, right = call.tensor(0), call.tensor(1)
    a, b = left.shape, right.shape
    _require(bool(a) and bool(b), "a scalar in a matrix multiply")
    rows, columns = (a[-2:-1] if len(a) > 1 else ()), (b[-1:] if len(b) > 1 else ())
    _require(a[-1] == (b[-2] if len(b) > 1 else b[0]), f"{a} and {b} do not multiply")
    return _product(left, right, (*broadcast(a[:-2], b[:-2]), *rows, *columns), a[-1])


def broadcast(*shapes: Shape) -> Shape:
    """The shape to which these shapes broadcast. Raises UnrecordedError if they do not."""
    rank = max(map(len, shapes), default=0)
    out = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        others = {size for size in sizes if size != 1}
        _require(len(others) <= 1, f"{shapes} do not broadcast")
        out.append(others.pop() if others else 1)
    return tuple(out)


def scaled_mm(call: OperatorCall) -> Work:
    """`_scaled_mm` (self, mat2, scale_a, scale_b, bias, scale_result, out_dtype): FP8 operands and their scales."""
    left, right = call.tensor(0), call.tensor(1)
    out, inner = _matrices(left, right)
    work = _product(left, right, out, inner, call.optional(4), _result_dtype(call, 6))
    return Work(work.flops, work.bytes + bytes_of(call.tensor(2), call.tensor(3)), work.peak)


def int_mm(call: OperatorCall) -> Work:
    """`_int_mm` (self, mat2): INT8 in, INT32 out."""
    left, right = call.tensor(0), call.tensor(1)
    return _product(left, right, *_matrices(left, right), result=INT32)


def int8_weight_mm(call: OperatorCall) -> Work:
    """`_weight_int8pack_mm` (self, mat2, scales): [m, k] by INT8 [n, k], computed in the type of self."""
    rows, weight = call.tensor(0), call.tensor(1)
    _require(len(rows.shape) == len(weight.shape) == 2 and rows.shape[1] == weight.shape[1], "a weight that does not fit")
    return _product(rows, weight, (rows.shape[0], weight.shape[0]), rows.shape[1], call.tensor(2))


def grouped_mm(call: OperatorCall) -> Work:
    """`_grouped_mm` (self, mat2, offs, bias, out_dtype): rows [m, k] in groups. Each group has its own matrix of [g, k, n]."""
    left, right = call.tensor(0), call.tensor(1)
    a, b = left.shape, right.shape
    _require(len(a) == 2 and len(b) == 3 and a[1] == b[1], "groups whose sizes lie on the device")
    work = _product(left, right, (a[0], b[2]), a[1], call.optional(3), _result_dtype(call, 4))
    return Work(work.flops, work.bytes + bytes_of(call.optional(2)), work.peak)


@dataclass(frozen=True)
class Convolution:
    """The places of a convolution's arguments after input and weight.

    `transposed` is the place of the flag that says whether the convolution is transposed, or the value itself.
    """

    stride: int
    padding: int
    dilation: int
    bias: int | None = None
    transposed: int | bool = False
    output_padding: int | None = None
    groups: int | None = None

    def __call__(self, call: OperatorCall) -> Work:
        """The work of one call. Raises UnrecordedError where the trace records too little.

        Each output element (transposed: input element) is a product with the kernel over the channels of its group.
        """
        image, weight = call.tensor(0), call.tensor(1)
        spatial = _spatial(image, weight)
        transposed = self.transposed if isinstance(self.transposed, bool) else call.flag(self.transposed)
        steps = [_per_dimension(call.integers(at), spatial) for at in (self.stride, self.padding, self.dilation)]
        _require(all(step > 0 for step in steps[0]), "a stride of nothing")
        if transposed:
            _require(self.output_padding is not None and self.groups is not None, "a transposed convolution without groups")
            extra = _per_dimension(call.integers(self.output_padding or 0), spatial)
            channels = weight.shape[1] * call.integer(self.groups or 0)
            out = [
                (size - 1) * step - 2 * pad + spread * (kernel - 1) + more + 1
                for size, kernel, step, pad, spread, more in zip(image.shape[2:], weight.shape[2:], *steps, extra, strict=True)
            ]
        else:
            channels = weight.shape[0]
            out = [
                (size + 2 * pad - spread * (kernel - 1) - 1) // step + 1
                for size, kernel, step, pad, spread in zip(image.shape[2:], weight.shape[2:], *steps, strict=True)
            ]
        _require(all(size >= 0 for size in out), "a kernel larger than its image")
        written = image.shape[0] * channels * prod(out) * image.dtype.bytes
        flops = _convolution_flops(image.shape if transposed else (image.shape[0], channels, *out), weight.shape)
        bias = None if self.bias is None else call.optional(self.bias)
        return Work(flops, bytes_of(image, weight, bias) + written, _matrix_peak(image.dtype))


def _spatial(image: TensorInput, weight: TensorInput) -> int:
    """The number of spatial dimensions."""
    _require(len(image.shape) == len(weight.shape) >= 3, f"an image of {image.shape} with a kernel of {weight.shape}")
    return len(image.shape) - 2


def _per_dimension(values: Shape, spatial: int) -> Shape:
    values = values * spatial if len(values) == 1 else values
    _require(len(values) == spatial, f"{values} for {spatial} dimensions")
    return values


def _convolution_flops(met: Shape, weight: Shape) -> int:
    """Two for every product of a weight and a position, where `met` is the shape [n, channels, ..] of the positions."""
    return 2 * met[0] * prod(met[2:]) * prod(weight)


def convolution_backward(call: OperatorCall) -> Work:
    """`convolution_backward` (grad_output, input, weight, .., transposed at 7, .., output_mask at 10).

    The mask says which gradients are wanted. The gradient of the input takes as many products as the forward, and so does the
    gradient of the weight.
    """
    grad, image, weight = (call.tensor(at) for at in range(3))
    _spatial(image, weight)
    wants_image, wants_weight, wants_bias = call.flags(10)
    flops = _convolution_flops(image.shape if call.flag(7) else grad.shape, weight.shape) * (wants_image + wants_weight)
    read = bytes_of(grad, weight if wants_image else None, image if wants_weight else None)
    written = image.size * wants_image + weight.size * wants_weight + grad.shape[1] * grad.dtype.bytes * wants_bias
    return Work(flops, read + written, _matrix_peak(image.dtype))


@dataclass(frozen=True)
class Attention:
    """The places of a fused attention's arguments.

    `heads` is the dimension of the heads: 1 in [batch, heads, tokens, width], 2 in [batch, tokens, heads, width]. `causal` is
    the place of a flag. Some operators have an integer at `mask_type` instead: 0 for no mask, 1 for causal aligned at the first
    query and key, 2 for causal aligned at the last query and key. The arguments at `absent` must be None: they are a window, or
    lengths that are known only on the device. A backward has `grad` as its first argument; query, key and value follow it.
    """

    heads: int
    causal: int | None = None
    mask_type: int | None = None
    bias: int | None = None
    absent: tuple[int, ...] = ()
    read_too: tuple[int, ...] | None = None
    """The places of the other tensors that a backward reads: the output and its log-sum-exp. None for a forward."""

    def __call__(self, call: OperatorCall) -> Work:
        """The work of one call. Raises UnrecordedError where the trace records too little.

        A forward computes the scores and their product with the values. A backward computes the scores again, and four
        gradients of these two products.
        """
        _require(all(call.is_missing(at) for at in self.absent), f"{call.name} with lengths or windows that are not told")
        backward = self.read_too is not None
        query, key, value = (call.tensor(at + backward) for at in range(3))
        for tensor in (query, key, value):
            _require(len(tensor.shape) == 4, f"{call.name} of {tensor.shape}")
        tokens = 3 - self.heads
        batch, heads, queries = query.shape[0], query.shape[self.heads], query.shape[tokens]
        keys, width, value_width = key.shape[tokens], key.shape[3], value.shape[3]
        _require(query.shape[3] == width and value.shape[tokens] == keys, f"{call.name} of shapes that do not fit")
        pairs = batch * heads * self._pairs(call, queries, keys)
        bias = None if self.bias is None else call.optional(self.bias)
        read = bytes_of(query, key, value, bias)
        if self.read_too is None:
            written = batch * heads * queries * value_width * query.dtype.bytes
            return Work(2 * pairs * (width + value_width), read + written, _matrix_peak(query.dtype))
        read += bytes_of(call.tensor(0), *(call.tensor(at) for at in self.read_too))
        flops = 2 * pairs * (3 * width + 2 * value_width)
        return Work(flops, read + query.size + key.size + value.size, _matrix_peak(query.dtype))

    def _pairs(self, call: OperatorCall, queries: int, keys: int) -> int:
        """The number of pairs of a query and a key for which a head computes a score."""
        if self.mask_type is not None:
            kind = call.integer(self.mask_type)
            _require(kind in (0, 1, 2), f"an unknown kind of mask, {kind}")
            return queries * keys if kind == 0 else _causal_pairs(queries, keys, keys - queries if kind == 2 else 0)
        if self.causal is None or not call.flag(self.causal):
            return queries * keys
        return _causal_pairs(queries, keys, 0)


def _causal_pairs(queries: int, keys: int, ahead: int) -> int:
    """The number of pairs under a causal mask: the sum of min(keys, max(0, i + 1 + ahead)) over the queries i."""
    first = min(max(0, -ahead), queries)  # the queries before this one see no key
    partial = min(max(0, keys - ahead), queries)  # from this query on all keys are seen
    rising = max(0, partial - first)
    lowest = first + 1 + ahead
    return rising * lowest + rising * (rising - 1) // 2 + (queries - max(partial, first)) * keys


_FORWARD = Convolution(stride=3, padding=4, dilation=5, bias=2)
_GENERAL = Convolution(stride=3, padding=4, dilation=5, bias=2, transposed=6, output_padding=7, groups=8)
_KERNEL_SIZE_FIRST = Convolution(stride=4, padding=5, dilation=6, bias=3)

FORMULAS: Mapping[str, Formula] = {
    "aten::mm": mm,
    "aten::bmm": mm,
    "aten::addmm": addmm,
    "aten::baddbmm": addmm,
    "aten::_addmm_activation": addmm,
    "aten::addbmm": addbmm,
    "aten::mv": mv,
    "aten::addmv": addmv,
    "aten::dot": dot,
    "aten::linear": linear,
    "aten::matmul": matmul,
    "aten::_scaled_mm": scaled_mm,
    "aten::_int_mm": int_mm,
    "aten::_weight_int8pack_mm": int8_weight_mm,
    "aten::_grouped_mm": grouped_mm,
    "aten::conv1d": _FORWARD,
    "aten::conv2d": _FORWARD,
    "aten::conv3d": _FORWARD,
    "aten::convolution": _GENERAL,
    "aten::_convolution": _GENERAL,
    "aten::convolution_overrideable": _GENERAL,
    "aten::cudnn_convolution": Convolution(stride=3, padding=2, dilation=4),
    "aten::cudnn_convolution_relu": _FORWARD,
    "aten::cudnn_convolution_transpose": Convolution(
        stride=4, padding=2, dilation=5, transposed=True, output_padding=3, groups=6
    ),
    "aten::miopen_convolution": Convolution(stride=4, padding=3, dilation=5, bias=2),
    "aten::miopen_depthwise_convolution": Convolution(stride=4, padding=3, dilation=5, bias=2),
    "aten::miopen_convolution_transpose": Convolution(
        stride=5, padding=3, dilation=6, bias=2, transposed=True, output_padding=4, groups=7
    ),
    "aten::_conv_depthwise2d": _KERNEL_SIZE_FIRST,
    "aten::conv_depthwise3d": _KERNEL_SIZE_FIRST,
    "aten::convolution_backward": convolution_backward,
    "aten::scaled_dot_product_attention": Attention(heads=1, causal=5, bias=3),
    "aten::_scaled_dot_product_flash_attention": Attention(heads=1, causal=4),
    "aten::_scaled_dot_product_efficient_attention": Attention(heads=1, causal=6, bias=3),
    "aten::_scaled_dot_product_cudnn_attention": Attention(heads=1, causal=6, bias=3),
    "aten::_scaled_dot_product_fused_attention_overrideable": Attention(heads=1, causal=5, bias=3),
    "aten::_flash_attention_forward": Attention(heads=2, causal=8, absent=(3, 4, 11, 12, 13, 15)),
    "aten::_efficient_attention_forward": Attention(heads=2, mask_type=9, bias=3, absent=(4, 5, 12, 13)),
    "aten::_cudnn_attention_forward": Attention(heads=1, causal=10, bias=3, absent=(4, 5)),
    "aten::_scaled_dot_product_flash_attention_backward": Attention(heads=1, causal=11, read_too=(4, 5)),
    "aten::_scaled_dot_product_efficient_attention_backward": Attention(heads=1, causal=11, bias=4, read_too=(5, 6)),
    "aten::_scaled_dot_product_cudnn_attention_backward": Attention(heads=1, causal=14, bias=8, read_too=(4, 5)),
    "aten::_flash_attention_backward": Attention(heads=2, causal=11, absent=(15, 16), read_too=(4, 5)),
    "aten::_efficient_attention_backward": Attention(heads=2, mask_type=14, bias=4, absent=(6, 7, 18), read_too=(5, 10)),
    "aten::_cudnn_attention_backward": Attention(heads=1, causal=14, bias=8, absent=(9, 10), read_too=(4, 5)),
}
