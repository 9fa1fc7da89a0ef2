"""Reads values of a request into types, each with its path, and records what is wrong with them.

What the contract refuses is recorded before: such a value is not read, and where one is left out
the request is refused in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from gateway.requests.input_images import REQUEST_PIXELS, InputImage, Mask, read_image, read_mask
from gateway.requests.sources import Embedding, Text
from gateway.requests.undecoded import Undecoded
from gateway.requests.violations import Violations
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import SamplerSpec
from kandinsky.v1 import input_image_pb2, tensor_pb2
from kandinsky.wire import tensors
from kandinsky.wire.images import MAX_PIXELS

T = TypeVar("T")


class ValueReader:
    """Reads the values of one request.

    Args:
        entry: the model that it names.
        violations: hold what the contract finds wrong with it; take what is wrong besides.
    """

    def __init__(self, entry: CatalogEntry, violations: Violations) -> None:
        self.entry = entry
        self.violations = violations
        self._pixels_left = REQUEST_PIXELS

    def sampler(self, group: str) -> SamplerSpec:
        """The sampler of a settings group.

        Raises:
            ValueError: the model has none such.
        """
        sampler = self.entry.sampler(group)
        if sampler is None:
            raise ValueError(f"{self.entry.name} has no sampler {group!r}")
        return sampler

    def text(self, text: str, path: str) -> Text:
        """A text, checked against the model's limit of characters."""
        most = self.entry.limits.max_prompt_characters
        if len(text) > most:
            self.violations.add(path, f"has {len(text)} characters; the most is {most}")
        return Text(path, text if text.strip() else "")

    def texts(self, texts: Sequence[str], path: str) -> tuple[Text, ...]:
        """The texts of a list."""
        if self.violations.at(path):
            return ()
        return tuple(self.text(text, f"{path}[{i}]") for i, text in enumerate(texts))

    def rows(self, tensor: tensor_pb2.Tensor, path: str) -> tuple[Embedding, ...]:
        """The rows of a tensor that the contract bounds; none where it is left out."""
        if not tensor.shape or self.violations.within(path):
            return ()
        return tuple(Embedding(path, row) for row in tensors.rows(tensor))

    def image(
        self,
        image: input_image_pb2.InputImage,
        path: str,
        *,
        low: float = -1.0,
        latents: bool = True,
    ) -> Undecoded[InputImage] | None:
        """An image by its headers; None, and a violation, where it is none.

        Args:
            image: as sent.
            path: of it.
            low: the least value that float pixels may have; the greatest is 1.
            latents: whether a latent may stand for the image.
        """
        most = min(self._pixels_left, MAX_PIXELS)
        return self._held(
            read_image(image, path, self.violations, most=most, low=low, latents=latents)
        )

    def images(
        self,
        images: Sequence[input_image_pb2.InputImage],
        path: str,
        *,
        low: float = -1.0,
        latents: bool = True,
    ) -> tuple[Undecoded[InputImage], ...]:
        """The images of a list; arguments as of `image`."""
        return self._each(
            images, path, lambda image, at: self.image(image, at, low=low, latents=latents)
        )

    def masks(
        self, masks: Sequence[input_image_pb2.InputImage], path: str
    ) -> tuple[Undecoded[Mask], ...]:
        """The masks of a list by their headers."""

        def mask(sent: input_image_pb2.InputImage, at: str) -> Undecoded[Mask] | None:
            most = min(self._pixels_left, MAX_PIXELS)
            return self._held(read_mask(sent, at, self.violations, most=most))

        return self._each(masks, path, mask)

    def encoder_images(
        self, images: Iterable[Undecoded[InputImage]]
    ) -> tuple[Undecoded[InputImage], ...]:
        """The same images, of which the image encoder reads the pixels."""
        images = tuple(images)
        for image in images:
            if image.size is None:
                self.violations.add(image.field, "the image encoder reads no latents; send pixels")
        return images

    def leaves_a_step(
        self,
        steps: int,
        share: float,
        *,
        share_field: str | None,
        share_name: str,
        steps_field: str,
    ) -> None:
        """Record a violation where a share of some steps is none.

        Args:
            steps: of the loop.
            share: of the steps, that is run.
            share_field: path of the share; None where it is the model's default.
            share_name: its name.
            steps_field: path of the steps.
        """
        at_fault = share_field or steps_field
        if steps < 1 or not 0 < share <= 1 or self.violations.at(at_fault):
            return
        if int(steps * share) < 1:
            none = f"{share:g} of {steps} steps leaves none; raise either"
            self.violations.add(at_fault, none if share_field else f"{share_name} {none}")

    def _each(
        self,
        sent: Sequence[input_image_pb2.InputImage],
        path: str,
        read: Callable[[input_image_pb2.InputImage, str], Undecoded[T] | None],
    ) -> tuple[Undecoded[T], ...]:
        if self.violations.at(path):
            return ()
        found = (read(image, f"{path}[{i}]") for i, image in enumerate(sent))
        return tuple(image for image in found if image is not None)

    def _held(self, image: Undecoded[T] | None) -> Undecoded[T] | None:
        if image is not None:
            self._pixels_left -= image.pixels
        return image
