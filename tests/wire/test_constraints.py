"""Checks by the contract's constraints: each kind of them, on the fields that have it."""

import math
import sys

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor

from kandinsky.v1 import generation_pb2, tensor_pb2
from kandinsky.v1.constraint_pb2 import constraint
from kandinsky.wire import tensors
from kandinsky.wire.constraints import check, one_or_each

GOOD = {"model": "shapes", "guide": {"text": {"prompts": ["a"]}}}


def request(**fields):
    return generation_pb2.GenerateRequest(**{**GOOD, **fields})


def mix(*sources, **fields):
    return request(guide={"mix": {"sources": sources, **fields}})


def floats(*shape, value=0.0):
    return tensors.encode(np.full(shape, value, np.float32))


WRONG = {
    "no guide": (request(guide=None), "guide: is required"),
    "a guide of no kind": (
        request(guide={}),
        "guide: is required; give one of text, mix, interpolation, image, text_diff, "
        "text_and_image or embeddings",
    ),
    "no prompts": (
        request(guide={"text": {}}),
        "guide.text.prompts: is empty; give at least one",
    ),
    "a blank prompt": (
        request(guide={"text": {"prompts": ["a", " \n"]}}),
        "guide.text.prompts[1]: is empty",
    ),
    "a source of no kind": (
        mix({"source": {}, "weight": 1}),
        "guide.mix.sources[0].source: is required; give one of text, image or image_embed",
    ),
    "no source": (mix({"weight": 1}), "guide.mix.sources[0].source: is required"),
    "no weight": (mix({"source": {"text": "a"}}), "guide.mix.sources[0].weight: is required"),
    "a weight that is not finite": (
        mix({"source": {"text": "a"}, "weight": -math.inf}),
        "guide.mix.sources[0].weight: -inf is not finite",
    ),
    "an unknown value of an enum": (
        mix({"source": {"text": "a"}, "weight": 1}, interpolation=7),
        "guide.mix.interpolation: unknown interpolation 7; use LINEAR or SPHERICAL",
    ),
    "an image of no kind": (
        request(canvas={"image": {"images": [{}]}}),
        "canvas.image.images[0]: is required; give one of encoded, pixels or latents",
    ),
    "too little": (request(decoder={"steps": 0}), "decoder.steps: 0 is less than 1"),
    "not above": (
        request(canvas={"image": {"strength": 0}}),
        "canvas.image.strength: 0 is not above 0, up to 1",
    ),
    "NaN is not above": (
        request(prior={"start": {"strength": math.nan}}),
        "prior.start.strength: nan is not finite",
    ),
    "outside": (request(decoder={"eta": 1.5}), "decoder.eta: 1.5 is outside 0 to 1"),
    "too few axes": (
        request(decoder={"latents": floats(2, 3)}),
        "decoder.latents.shape: [2, 3] does not fit; it must be [any, any, any, any]",
    ),
    "a tensor of nothing": (
        request(prior={"latents": floats(2, 0)}),
        "prior.latents.shape: [2, 0] holds no value",
    ),
    "a tensor that is not finite": (
        request(prior={"latents": floats(1, 4, value=math.nan)}),
        "prior.latents.data: holds a value that is not finite",
    ),
    "a tensor of integers": (
        request(negative={"image_embeds": tensors.encode(np.zeros((1, 4), np.int32))}),
        "negative.image_embeds.dtype: int32 does not fit here; use bfloat16, float16, float32, "
        "float64",
    ),
    "a tensor of nine axes, wherever": (
        request(
            canvas={
                "image": {"images": [{"pixels": tensor_pb2.Tensor(dtype=2, shape=[1] * 9)}]},
            }
        ),
        "canvas.image.images[0].pixels.shape: has 9 axes; the most is 8",
    ),
    "too many in a list": (
        request(negative={"texts": [" "] * 9}),
        "negative.texts: there are 9; the most is 8",
    ),
    "too many rows": (
        request(prior={"start": {"image_embeds": floats(9, 4)}}),
        "prior.start.image_embeds.shape: has 9 rows; the most is 8",
    ),
}


@pytest.mark.parametrize(("wrong", "sentence"), WRONG.values(), ids=WRONG)
def test_the_violation(wrong, sentence):
    [violation] = check(wrong, most=8)
    assert f"{violation.field}: {violation.description}" == sentence


def test_everything_is_found_at_once():
    wrong = request(guide={"text": {}}, seed=-1, decoder={"height": -1, "eta": 2})
    fields = [violation.field for violation in check(wrong)]
    assert fields == ["guide.text.prompts", "seed", "decoder.height", "decoder.eta"]


def test_absent_fields_are_right():
    assert check(request(seed=0, prior={}, decoder={}, output={}, events={}, negative={})) == []


def test_any_number_is_right_where_no_limit_is_known():
    assert check(request(guide={"text": {"prompts": ["a"] * 1000}})) == []


def scalars(descriptor, at=(), seen=()):
    """Path and rule of every number with a bound in a message's tree; oneofs and lists aside."""
    for field in descriptor.fields:
        rule = field.GetOptions().Extensions[constraint]
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.message_type.full_name not in seen and not field.is_repeated:
                inner = (*seen, field.message_type.full_name)
                yield from scalars(field.message_type, (*at, field.name), inner)
        elif not field.is_repeated and any(rule.HasField(name) for name in ("min", "max", "above")):
            yield (*at, field.name), rule


BOUNDED = list(scalars(generation_pb2.GenerateRequest.DESCRIPTOR))


def with_value(path, value):
    """A message that holds a number at a path, and is right elsewhere if that can be."""
    message = request()
    inner = message
    for name in path[:-1]:
        inner = getattr(inner, name)
    setattr(inner, path[-1], value)
    return message


@pytest.mark.parametrize(("path", "rule"), BOUNDED, ids=[".".join(path) for path, _ in BOUNDED])
def test_every_bound_of_the_contract_holds_on_both_sides(path, rule):
    inside, outside = [], []
    if rule.HasField("min"):
        inside.append(rule.min)
        outside.append(rule.min - 1)
    if rule.HasField("max"):
        inside.append(rule.max)
        outside.append(rule.max + 1)
    if rule.HasField("above"):
        outside.append(rule.above)
    is_float = _is_float(path)
    for values, found in ((inside, False), (outside, True)):
        for value in values:
            message = with_value(path, value if is_float else int(value))
            fields = [violation.field for violation in check(message)]
            assert (".".join(path) in fields) is found, value
    if is_float:
        for value in (math.nan, math.inf, -math.inf):
            assert ".".join(path) in [v.field for v in check(with_value(path, value))]


def _is_float(path):
    descriptor = generation_pb2.GenerateRequest.DESCRIPTOR
    for name in path[:-1]:
        descriptor = descriptor.fields_by_name[name].message_type
    return descriptor.fields_by_name[path[-1]].type == FieldDescriptor.TYPE_DOUBLE


def test_one_or_each():
    counted = request(
        guide={"text": {"prompts": ["a", "b"]}},
        negative={"texts": ["x"], "image_embeds": floats(3, 4)},
        canvas={"inpaint": {"masks": [{}, {}]}},
        prior={"latents": floats(5, 4), "negative_texts": ["y"] * 4},
        decoder={"latents": floats(6, 1, 1, 1)},
    )
    assert one_or_each(counted) == {
        "canvas.inpaint.masks": 2,
        "negative.texts": 1,
        "negative.image_embeds.shape": 3,
        "prior.negative_texts": 4,
    }
    assert one_or_each(counted, of_image=True) == {
        "prior.latents.shape": 5,
        "decoder.latents.shape": 6,
    }


@pytest.mark.parametrize("count", [9, 100_000])
def test_what_is_too_long_costs_no_more_than_what_is_not(count):
    """No element of a list that is too long is read, and no row of such a tensor."""
    wrong = request(
        guide={"text": {"prompts": ["a"] * count}},
        prior={"latents": floats(count, 1)},
        canvas={"inpaint": {"masks": [{}] * count}},
    )
    assert instructions(wrong) == pytest.approx(instructions(SHORT), abs=50)


SHORT = request(
    guide={"text": {"prompts": ["a"] * 9}},
    prior={"latents": floats(9, 1)},
    canvas={"inpaint": {"masks": [{}] * 9}},
)


def instructions(message):
    """Bytecode instructions that a check takes, caches filled."""
    check(message, most=8)
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        check(message, most=8)
    finally:
        sys.settrace(None)
    return count
