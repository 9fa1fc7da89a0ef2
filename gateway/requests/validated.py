"""What validation makes of a request: frozen, every default applied, and read in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.planning.canvases import Canvas
from gateway.planning.guides import Guide
from gateway.requests.adapters import NamedAdapter
from gateway.requests.input_images import InputImage
from gateway.requests.settings import EventSettings, Settings
from gateway.requests.sources import Embedding, Text
from gateway.requests.undecoded import Undecoded
from kandinsky.catalog.entry import CatalogEntry


@dataclass(frozen=True)
class Negative:
    """What the images do not show; each one for all items, one for each, or none."""

    texts: tuple[Text, ...]
    image_embeds: tuple[Embedding, ...]
    images: tuple[Undecoded[InputImage], ...] = ()


@dataclass(frozen=True)
class ValidatedRequest:
    """A request that passed every check that needs neither a checkpoint nor a decoded image."""

    entry: CatalogEntry
    flow: str
    """Guide, canvas and control, such as `mix+inpaint`."""
    guide: Guide
    canvas: Canvas
    hints: tuple[Undecoded[InputImage], ...]
    """One for all items, one for each, or none."""
    negative: Negative
    settings: Settings
    adapters: tuple[NamedAdapter, ...]
    """That change the model's networks."""
    images_per_prompt: int
    seed: int
    """Of the first image; drawn where the request names none."""
    validate_only: bool

    def without_events(self) -> ValidatedRequest:
        """The same for a caller who sees nothing before the images: no preview is made."""
        unread = replace(self.settings, events=EventSettings(are_read=False))
        return replace(self, settings=unread)
