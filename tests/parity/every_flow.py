"""A request of every flow, started by name and read in the background."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kandinsky.v1 import generation_pb2 as generation
from kandinsky.wire import tensors
from tests.parity.conftest import Chain
from tests.parity.test_flows import MASK, PICTURES, file
from tests.parity.test_flows_2_2 import HINT

PICTURE, OTHER = file(PICTURES[0].crop((0, 0, 64, 64))), file(PICTURES[1].crop((0, 0, 64, 64)))
HOLE = {"encoded": file(MASK.crop((60, 0, 124, 64)))["encoded"]}
NARROW = file(PICTURES[0].crop((0, 0, 32, 64)))
DEPTH = {"pixels": tensors.from_torch(HINT[:, :64].contiguous())}

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "TextToImage": ("tiny", {"prompts": ["a red cat"], "negative_prompts": ["dog"]}),
    "Mix": (
        "tiny",
        {"conditions": [{"text": "a cat", "weight": 0.7}, {"image": PICTURE, "weight": 0.3}]},
    ),
    "InterpolateFrames": ("tiny", {"first": {"text": "a"}, "last": {"image": OTHER}, "frames": 2}),
    "ImageToImage": ("tiny", {"prompts": ["a red cat"], "image": PICTURE, "strength": 0.7}),
    "Inpaint": ("tiny", {"prompts": ["a red cat"], "image": PICTURE, "mask": HOLE}),
    "Outpaint": ("tiny", {"prompts": ["a red cat"], "image": NARROW, "left": 32}),
    "Variation": ("tiny", {"image": PICTURE}),
    "Control": ("tiny-control", {"prompts": ["a red cat"], "hint": DEPTH}),
    "TextGuidedEdit": (
        "tiny",
        {"image": PICTURE, "source_prompt": "a cat", "target_prompt": "a dog", "amount": 0.4},
    ),
}
"""By RPC: the model that is asked, and the fields beside its settings."""


@dataclass(frozen=True)
class Flow:
    """One flow of one family."""

    family: str
    rpc: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Of every request of the family."""

    @property
    def jobs(self) -> int:
        """Decoder jobs of one request."""
        return REQUESTS[self.rpc][1].get("frames", 1)

    @property
    def encodes(self) -> bool:
        """Whether its decoder job encodes an image before its loop."""
        return self.rpc in ("ImageToImage", "Inpaint", "Outpaint")

    def __str__(self) -> str:
        return f"{self.family} {self.rpc}"


class Running:
    """One request under way, its events read in the background."""

    def __init__(self, chain: Chain, name: str, flow: Flow, **settings: Any) -> None:
        model, fields = REQUESTS[flow.rpc]
        given = {"steps": 8, "prior_steps": 3, "output_format": generation.OUTPUT_FORMAT_PIXELS}
        if flow.rpc in ("Variation", "TextGuidedEdit"):
            del given["prior_steps"]
        message = getattr(generation, f"{flow.rpc}Request")(
            model=model, settings={**given, **flow.settings, **settings}, **fields
        )
        self._call = getattr(chain.stub, flow.rpc)(message, metadata=(("x-request-id", name),))
        self.task = asyncio.create_task(self._read())

    async def image(self) -> generation.GeneratedImage:
        """The last image; the frames of one request are two jobs of one name."""
        return await self.task

    async def _read(self) -> generation.GeneratedImage:
        found = [event.image async for event in self._call if event.HasField("image")]
        return max(found, key=lambda image: image.index)

    def cancel(self) -> None:
        self._call.cancel()
