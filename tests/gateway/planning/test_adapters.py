"""Adapters of a request as the decoder takes them."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from gateway.planning.adapters import decoder_adapters
from gateway.planning.conditioning import Encodings
from gateway.requests.adapters import NamedAdapter
from gateway.requests.undecoded import Undecoded
from gateway.stages.stages import Encoded
from kandinsky.catalog.family import AdapterKind
from kandinsky.v1.adapters_pb2 import Adapter
from kandinsky.v1.encoders_pb2 import EncodeImageResponse
from kandinsky.wire import tensors


def test_what_is_the_same_for_all_images_is_sent_once() -> None:
    fields = ("first", "second", "third")
    blank = np.zeros((4, 2), np.float32)
    answers = {
        field: EncodeImageResponse(
            image_embed=tensors.encode(np.full(3, i, np.float32)),
            image_states=tensors.encode(np.full((4, 2), i, np.float32)),
            blank_image_states=tensors.encode(blank),
        )
        for i, field in enumerate(fields)
    }
    images = tuple(Undecoded[Any](field, (8, 8), lambda: None) for field in fields)
    named = NamedAdapter(Adapter(name="shown", scale=0.5), AdapterKind.IP_ADAPTER, images)
    plan: Any = SimpleNamespace(texts=(), request=SimpleNamespace(adapters=(named,)))
    [made] = decoder_adapters(plan, Encodings(plan, Encoded({}, answers)))
    prompt = made.image_prompt
    assert (made.name, made.scale) == ("shown", 0.5)
    assert tensors.decode(prompt.image_embeds, "embeds")[:, 0].tolist() == [0, 1, 2]
    assert tensors.decode(prompt.image_states, "states")[:, 0, 0].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(tensors.decode(prompt.negative_image_states, "away"), blank[None])
