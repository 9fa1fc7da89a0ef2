"""A request of every flow, started by name and read in the background."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kandinsky.v1 import generation_pb2 as generation
from tests.parity.conftest import Chain, flow_request
from tests.parity.test_flows import IMAGES, MASK, file
from tests.parity.test_flows_2_2 import HINT

IMAGE, OTHER = (file(image.crop((0, 0, 64, 64))) for image in IMAGES)
HOLE = file(MASK.crop((60, 0, 124, 64)))
NARROW = file(IMAGES[0].crop((0, 0, 32, 64)))
DEPTH = HINT[:, :64].numpy()

FLOWS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "text_to_image": ("tiny", ("a red cat",), {"negative_prompts": "dog"}),
    "mix": ("tiny", (["a cat", IMAGE], [0.7, 0.3]), {}),
    "interpolate_frames": ("tiny", ("a", OTHER, 2), {}),
    "image_to_image": ("tiny", (IMAGE, "a red cat"), {"strength": 0.9}),
    "inpaint": ("tiny", (IMAGE, HOLE, "a red cat"), {}),
    "outpaint": ("tiny", (NARROW, "a red cat"), {"left": 32}),
    "variation": ("tiny", (IMAGE,), {}),
    "control": ("tiny-control", (DEPTH, "a red cat"), {}),
    "text_guided_edit": ("tiny", (IMAGE, "a cat", "a dog"), {"amount": 0.4}),
}
"""By method of the SDK: the model that is asked, the method's arguments, and its options."""


@dataclass(frozen=True)
class Flow:
    """One flow of one family."""

    family: str
    name: str
    """The method of the SDK."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of every request of the family."""

    @property
    def jobs(self) -> int:
        """Decoder jobs of one request."""
        return 2 if self.name == "interpolate_frames" else 1

    @property
    def encodes(self) -> bool:
        """Whether its decoder job encodes an image that each step of its loop needs."""
        return self.name in ("inpaint", "outpaint")

    @property
    def most_redone(self) -> int:
        """Steps that are taken again at most, where the job moves between two of them."""
        return int(self.settings.get("step_cache_interval", 1)) - 1

    @property
    def apart(self) -> int:
        """Steps for which two jobs may go apart where one begins: whole passes go first."""
        return int(self.most_redone > 0)

    def __str__(self) -> str:
        saving = ", saving" if self.most_redone else ""
        return f"{self.family} {self.name}{saving}"


class Running:
    """One request under way, its events read in the background."""

    def __init__(self, chain: Chain, name: str, flow: Flow, **settings: Any) -> None:
        model, args, options = FLOWS[flow.name]
        given = {"steps": 8, "prior_steps": 3}
        if flow.name in ("variation", "text_guided_edit"):
            del given["prior_steps"]
        chosen = {"model": model, **options, **given, **flow.settings, **settings}
        request = flow_request(flow.name, *args, **chosen)
        self._call = chain.stub.Generate(request, metadata=(("x-request-id", name),))
        self.task = asyncio.create_task(self._read())

    async def image(self) -> generation.GeneratedImage:
        """The last image; the frames of one request are two jobs of one name."""
        return await self.task

    async def _read(self) -> generation.GeneratedImage:
        found = [event.image async for event in self._call if event.HasField("image")]
        return max(found, key=lambda image: image.index)

    def cancel(self) -> None:
        self._call.cancel()
