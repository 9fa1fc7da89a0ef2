"""Tensors to bytes and back: every dtype, every layout, and everything that is refused."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kandinsky.v1 import tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.errors import KandinskyError, Reason

DTYPES = {
    tensor_pb2.D_TYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.D_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.D_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.D_TYPE_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    tensor_pb2.D_TYPE_INT64: np.dtype("<i8"),
    tensor_pb2.D_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.D_TYPE_UINT8: np.dtype("u1"),
    tensor_pb2.D_TYPE_BOOL: np.dtype("?"),
}
TORCH_DTYPES = {
    tensor_pb2.D_TYPE_FLOAT64: torch.float64,
    tensor_pb2.D_TYPE_FLOAT32: torch.float32,
    tensor_pb2.D_TYPE_FLOAT16: torch.float16,
    tensor_pb2.D_TYPE_BFLOAT16: torch.bfloat16,
    tensor_pb2.D_TYPE_INT64: torch.int64,
    tensor_pb2.D_TYPE_INT32: torch.int32,
    tensor_pb2.D_TYPE_UINT8: torch.uint8,
    tensor_pb2.D_TYPE_BOOL: torch.bool,
}
FLOATS = [number for number, dtype in DTYPES.items() if number in (1, 2, 3, 4)]
every_dtype = pytest.mark.parametrize("number", DTYPES, ids=tensor_pb2.DType.Name)
SHAPES = [(), (0,), (1,), (7,), (3, 0, 2), (2, 3, 4), (1, 2, 1, 2, 1, 2, 1, 2)]
UNFIT = (np.complex64, np.int8, np.uint16, np.uint32, np.uint64, np.int16, "U3", "M8[s]", object)


def sample(number: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Seeded values over the dtype's range, its extremes among them."""
    dtype = DTYPES[number]
    random = np.random.default_rng(seed)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return random.standard_normal(shape).astype(dtype)


def wire(number: int = tensor_pb2.D_TYPE_FLOAT32, shape: tuple[int, ...] = (2,), data=None):
    size = math.prod(shape) * DTYPES[number].itemsize if data is None else 0
    return tensor_pb2.Tensor(dtype=number, shape=shape, data=bytes(size) if data is None else data)


def refused(tensor, part: str, **expected) -> str:
    """The description with which `decode` refuses a tensor, at `field.part`."""
    with pytest.raises(KandinskyError) as caught:
        tensors.decode(tensor, "canvas.latents", **expected)
    assert caught.value.reason is Reason.INVALID_FIELD
    [violation] = caught.value.violations
    assert violation.field == f"canvas.latents.{part}"
    return violation.description


def test_the_contract_has_no_dtype_that_these_tests_leave_out():
    assert set(tensor_pb2.DType.values()) == {tensor_pb2.D_TYPE_UNSPECIFIED, *DTYPES}
    assert set(TORCH_DTYPES) == set(DTYPES)


@every_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(number, shape):
    array = sample(number, shape)
    tensor = tensors.encode(array)
    assert (tensor.dtype, tuple(tensor.shape)) == (number, shape)
    back = tensors.decode(tensor_pb2.Tensor.FromString(tensor.SerializeToString()), "t")
    assert (back.dtype, back.shape) == (DTYPES[number], shape)
    assert back.tobytes() == array.tobytes()


@given(
    st.sampled_from([dtype for number, dtype in DTYPES.items() if number != 4]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None,
        )
    )
)
def test_round_trip_of_any_values(array):
    back = tensors.decode(tensors.encode(array), "t")
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()  # bytes, since -0.0 equals 0.0


@given(st.lists(st.integers(0, 2**16 - 1), max_size=40))
def test_every_bit_pattern_of_bfloat16_comes_back_or_is_not_finite(bits):
    array = np.array(bits, "<u2").view(ml_dtypes.bfloat16)
    tensor = tensors.encode(array)
    exponents = np.array(bits, "<u2") & 0x7F80
    if (exponents == 0x7F80).any():
        refused(tensor, "data")
    else:
        assert tensors.decode(tensor, "t").tobytes() == array.tobytes()


def test_the_bytes_are_little_endian_row_major():
    assert tensors.encode(np.array([1.0], np.float32)).data == b"\x00\x00\x80\x3f"
    assert tensors.encode(np.array([1.0], ml_dtypes.bfloat16)).data == b"\x80\x3f"
    assert tensors.encode(np.array([-2], np.int64)).data == b"\xfe" + b"\xff" * 7
    assert tensors.encode(np.array([[1, 2], [3, 4]], np.uint8)).data == b"\x01\x02\x03\x04"
    assert tensors.encode(np.array([True, False])).data == b"\x01\x00"


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">f2", ">i8", ">i4"])
def test_big_endian_arrays_are_swapped(dtype):
    array = np.array([[1, -2], [3, 4]], dtype)
    tensor = tensors.encode(array)
    assert tensor.data == array.astype(array.dtype.newbyteorder("<")).tobytes()
    np.testing.assert_array_equal(tensors.decode(tensor, "t"), array)


@every_dtype
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[::2, 1::3],
        lambda a: a[::-1, ::-1],
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[:1], (3, a.shape[1])),
    ],
    ids=["transposed", "strided", "reversed", "fortran", "broadcast"],
)
def test_arrays_of_any_layout_travel_row_major(number, view):
    array = view(sample(number, (6, 9)))
    back = tensors.decode(tensors.encode(array), "t")
    assert back.flags.c_contiguous
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()


@pytest.mark.parametrize("dtype", UNFIT, ids=lambda d: np.dtype(d).name)
def test_a_dtype_without_a_place_on_the_wire_is_a_type_error(dtype):
    with pytest.raises(TypeError, match="no wire dtype"):
        tensors.encode(np.zeros(2, dtype))


class CountingTensor:
    """A Tensor that counts the reads of its bytes; protobuf copies them at each."""

    def __init__(self, tensor: tensor_pb2.Tensor) -> None:
        self.dtype, self.shape = tensor.dtype, tensor.shape
        self.bytes, self.reads = tensor.data, 0

    @property
    def data(self) -> bytes:
        self.reads += 1
        return self.bytes


@every_dtype
@pytest.mark.parametrize("shape", [(3, 5), (), (64, 1024)], ids=str)
def test_decoding_reads_the_bytes_once_and_copies_nothing(number, shape):
    tensor = CountingTensor(tensors.encode(sample(number, shape)))
    array = tensors.decode(tensor, "t")
    assert tensor.reads == 1
    assert np.shares_memory(array, np.frombuffer(tensor.bytes, "u1"))
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_rows_reads_the_bytes_once():
    tensor = CountingTensor(tensors.encode(sample(tensor_pb2.D_TYPE_INT32, (50, 4))))
    assert len(tensors.rows(tensor)) == 50
    assert tensor.reads == 1


@every_dtype
@pytest.mark.parametrize("change", [-1, 1, -1000])
def test_bytes_that_do_not_fill_the_shape_are_refused(number, change):
    tensor = tensors.encode(sample(number, (3, 4)))
    tensor.data = tensor.data[:change] if change < 0 else tensor.data + b"\x00" * change
    assert f"holds {len(tensor.data)} bytes" in refused(tensor, "data")


@pytest.mark.parametrize(
    "shape",
    [
        (2**62, 4),  # the product is 2^64: 0 in 64 bits
        (2**32, 2**32),
        (2**63 - 1,) * 8,
        (2**61, 2**3),
    ],
    ids=str,
)
@pytest.mark.parametrize("data", [b"", bytes(8)], ids=["empty", "eight"])
def test_shapes_whose_product_overflows_are_refused(shape, data):
    assert "more than a message can hold" in refused(wire(shape=shape, data=data), "shape")


@pytest.mark.parametrize("shape", [(3,), (2, 2), (1, 1, 3), (), (2**20,)], ids=str)
def test_shapes_that_lie_are_refused(shape):
    description = refused(wire(shape=shape, data=bytes(8)), "data")
    assert f"takes {math.prod(shape) * 4}" in description


@pytest.mark.parametrize("shape", [(2**62, 2**62, 0), (0, 2**63 - 1)], ids=str)
def test_huge_extents_beside_a_zero_are_refused(shape):
    refused(wire(shape=shape, data=b""), "shape")


@pytest.mark.parametrize("shape", [(-1,), (-1, -2), (2, -1, 0), (-(2**63),)], ids=str)
def test_negative_extents_are_refused(shape):
    assert "negative" in refused(wire(shape=shape, data=bytes(8)), "shape")


def test_too_many_axes_are_refused():
    assert tensors.decode(wire(shape=(1,) * tensors.MAX_RANK), "t").ndim == tensors.MAX_RANK
    assert "axes" in refused(wire(shape=(1,) * (tensors.MAX_RANK + 1)), "shape")
    assert "axes" in refused(wire(shape=(0,) * 100_000), "shape")


@pytest.mark.parametrize("number", [0, 9, 1000, -1])
def test_unknown_dtypes_are_refused(number):
    tensor = tensor_pb2.Tensor(shape=[0])
    tensor.dtype = number
    assert str(number) in refused(tensor, "dtype")


@pytest.mark.parametrize("number", FLOATS, ids=tensor_pb2.DType.Name)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 5])
def test_values_that_are_not_finite_are_refused(number, value, place):
    array = np.zeros(6, DTYPES[number])
    tensors.decode(tensors.encode(array), "t")
    array[place] = value
    assert "not finite" in refused(tensors.encode(array), "data")


@given(st.binary(max_size=32))
def test_a_bool_is_a_byte_0_or_1(data):
    tensor = wire(tensor_pb2.D_TYPE_BOOL, (len(data),), data)
    if set(data) <= {0, 1}:
        assert tensors.decode(tensor, "t").tolist() == [byte == 1 for byte in data]
    else:
        assert "byte 0 or 1" in refused(tensor, "data")


@pytest.mark.parametrize("data", [b"\x02\x01", b"\x01\x02\x00", b"\x00\xff"])
def test_a_bool_of_2_is_refused_wherever_it_stands(data):
    refused(wire(tensor_pb2.D_TYPE_BOOL, (len(data),), data), "data")


@every_dtype
def test_only_the_dtypes_that_fit_are_taken(number):
    tensor = wire(number)
    assert tensors.decode(tensor, "t", dtypes={DTYPES[number]}).dtype == DTYPES[number]
    others = set(DTYPES.values()) - {DTYPES[number]}
    assert DTYPES[number].name in refused(tensor, "dtype", dtypes=others)
    assert (number in FLOATS) == (DTYPES[number] in tensors.FLOATS)


@pytest.mark.parametrize(
    ("expected", "fits"),
    [
        ((2, 3), True),
        ((None, 3), True),
        ((None, None), True),
        (None, True),
        ((3, 2), False),
        ((2,), False),
        ((2, 3, 1), False),
        ((), False),
        ((None, None, None), False),
    ],
)
def test_only_the_shapes_that_fit_are_taken(expected, fits):
    tensor = wire(shape=(2, 3))
    if fits:
        assert tensors.decode(tensor, "t", shape=expected).shape == (2, 3)
    else:
        assert "[2, 3] does not fit" in refused(tensor, "shape", shape=expected)


@given(
    dtype=st.integers(-1, 10),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 5), max_size=10),
    data=st.binary(max_size=64),
)
def test_whatever_comes_is_an_array_or_an_invalid_field(dtype, shape, data):
    tensor = tensor_pb2.Tensor(shape=shape, data=data)
    tensor.dtype = dtype
    try:
        array = tensors.decode(tensor, "field")
    except KandinskyError as error:
        assert error.reason is Reason.INVALID_FIELD
        assert error.violations[0].field.startswith("field.")
    else:
        assert list(array.shape) == shape
        assert array.tobytes() == data


@every_dtype
@pytest.mark.parametrize("shape", [(), (0,), (3, 4)], ids=str)
def test_torch_round_trip(number, shape):
    array = sample(number, shape)
    tensor = tensors.to_torch(tensors.encode(array), "t")
    assert tensor.dtype is TORCH_DTYPES[number]
    assert tuple(tensor.shape) == shape
    assert tensor.tolist() == array.tolist()
    back = tensors.from_torch(tensor)
    assert back == tensors.encode(array)


@every_dtype
def test_a_torch_tensor_has_memory_of_its_own(number):
    wired = tensors.encode(sample(number, (4,)))
    before = wired.data
    tensor = tensors.to_torch(wired, "t")
    tensor.zero_()
    assert wired.data == before


@every_dtype
def test_torch_views_travel_row_major(number):
    tensor = tensors.to_torch(tensors.encode(sample(number, (4, 6))), "t")
    for view in (tensor.T, tensor[::2, 1::2], tensor[:1].expand(3, 6)):
        back = tensors.to_torch(tensors.from_torch(view), "t")
        assert torch.equal(back, view)


def test_a_torch_tensor_that_needs_a_gradient_travels():
    tensor = torch.ones(2, requires_grad=True)
    assert tensors.to_torch(tensors.from_torch(tensor), "t").tolist() == [1.0, 1.0]


def test_to_torch_refuses_what_decode_refuses():
    with pytest.raises(KandinskyError, match="not finite"):
        tensors.to_torch(tensors.encode(np.array([math.nan])), "t")
    with pytest.raises(KandinskyError, match="does not fit"):
        tensors.to_torch(wire(), "t", shape=(3,))
    with pytest.raises(KandinskyError, match="does not fit here"):
        tensors.to_torch(wire(), "t", dtypes=tensors.UINT8)


@every_dtype
@pytest.mark.parametrize("shape", [(1, 2), (3,), (4, 2, 3), (2, 0), (0, 3)], ids=str)
def test_rows(number, shape):
    array = sample(number, shape)
    rows = tensors.rows(tensors.encode(array))
    assert len(rows) == shape[0]
    for row, wanted in zip(rows, array, strict=True):
        assert row == tensors.encode(np.asarray(wanted))
