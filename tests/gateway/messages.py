"""Requests as dicts: a good one of every flow, and what they are made of."""

import copy
import io

import numpy as np
from PIL import Image

from kandinsky.v1 import generation_pb2
from kandinsky.wire import images, tensors


def file(image, format="PNG", **options):
    made = io.BytesIO()
    image.save(made, format, **options)
    return {"encoded": made.getvalue()}


def level(value, height=64, width=128):
    """A file of one level."""
    return {"encoded": images.encode(np.full((height, width, 3), value, np.uint8), "png")}


def tensor(array):
    return {"pixels": tensors.encode(np.asarray(array))}


def mask(height=64, width=128):
    values = np.zeros((height, width), np.uint8)
    values[:, width // 2 :] = 255
    return tensor(values)


def latents(*shape):
    return {"latents": tensors.encode(np.zeros(shape, np.float32))}


def floats(*shape, value=0.0):
    return tensors.encode(np.full(shape, value, np.float32))


def text(*prompts):
    return {"text": {"prompts": prompts}}


def mix(*sources, **fields):
    """Pairs of a source and its weight."""
    weighted = [{"source": source, "weight": weight} for source, weight in sources]
    return {"mix": {"sources": weighted, **fields}}


def variation(*sent):
    return {"image": {"images": sent}}


def text_diff(*sent, source="a", target="b", **fields):
    return {"text_diff": {"images": sent, "source": source, "target": target, **fields}}


SENT = file(Image.new("RGB", (128, 64), (200, 30, 40)))
WHITE = tensor(np.full((64, 128), 255, np.uint8))
FLOWS = {
    "text": {"guide": text("a")},
    "mix": {"guide": mix(({"text": "a"}, 1))},
    "interpolation": {
        "guide": {"interpolation": {"first": {"text": "a"}, "last": {"text": "b"}, "frames": 2}}
    },
    "variation": {"guide": variation(SENT)},
    "text_diff": {"guide": text_diff(SENT)},
    "text+image": {"guide": text("a"), "canvas": {"image": {"images": [SENT]}}},
    "text+inpaint": {
        "guide": text("a"),
        "canvas": {"inpaint": {"images": [SENT], "masks": [WHITE]}},
    },
    "text+outpaint": {
        "guide": text("a"),
        "canvas": {"outpaint": {"images": [SENT], "left": 64}},
    },
    "text+control": {"guide": text("a"), "control": {"hints": [SENT]}, "model": "hinted"},
    "embeddings": {
        "guide": {
            "embeddings": {
                "conditionings": [
                    {"image_embed": floats(4), "negative_image_embed": floats(4)},
                ]
            }
        }
    },
}
"""A good request of each flow, to the model `tiny` unless it names another."""


def request(flow="text", changes=None, **fields):
    """The request of a flow with fields replaced or added.

    Args:
        flow: a key of FLOWS.
        changes: by dotted path; None takes a field out.
        fields: top-level fields, in place of the flow's.
    """
    made = copy.deepcopy({"model": "tiny", **FLOWS[flow], **fields})
    for path, value in (changes or {}).items():
        *parents, name = path.split(".")
        inner = made
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is None:
            inner.pop(name, None)
        else:
            inner[name] = value
    return generation_pb2.GenerateRequest(**made)
