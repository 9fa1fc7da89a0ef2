"""A request on its way to a plan: checked against its model's catalog entry before any stage is
asked. What only a checkpoint can tell (token counts, embedding widths) is left to the stages.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.bounds import served
from gateway.counts import check_counts
from gateway.faults import Faults, counted
from gateway.inputs import REQUEST_PIXELS, Mask, Picture, read_mask, read_picture
from gateway.plan import (
    EMPTY_TEXT,
    Draft,
    Guide,
    ImagePlan,
    PendingStart,
    PriorStart,
    Start,
    needed_texts,
)
from gateway.settings import Settings, Size, resolve_settings
from gateway.undecoded import Undecoded
from kandinsky.catalog.catalog import CatalogEntry, Flow, Stage
from kandinsky.v1 import generation_pb2 as generation
from kandinsky.v1 import tensor_pb2
from kandinsky.wire.images import MAX_PIXELS


class Reading:
    """What was read of a request so far, and what is wrong with it.

    Args:
        request: any flow's request message.
        flow: the flow.
        models: what is served, by name.

    Raises:
        KandinskyError: MODEL_NOT_FOUND or FLOW_UNSUPPORTED; INVALID_FIELD where a list is longer
            than the model allows, with what is wrong with the settings besides.
    """

    settings: Settings
    """Set by `settle`."""
    _latents: list[tensor_pb2.Tensor]
    """Of each image, as `_prior_latents`; none where they come from the seed. By `check_images`."""
    _prior_latents: list[tensor_pb2.Tensor]

    def __init__(self, request: Any, flow: Flow, models: Mapping[str, CatalogEntry]) -> None:
        self.request = request
        self.flow = flow
        self.entry = served(request.model, flow, models)
        self.faults = Faults()
        self.texts: dict[str, str] = {}
        """Every text of the request, by its path."""
        self.shown: dict[str, Undecoded[Picture]] = {}
        """Pictures for the image encoder, by their path."""
        self._pixels_left = REQUEST_PIXELS
        self._strengths: dict[Stage, float] = {}
        check_counts(request, self.entry.limits.max_images, self.faults)
        if self.faults.any:  # of such a request nothing is read that grows with its lists
            self.settle(prior_runs=self.has_prior)
            self.check_seed(1)
            self.faults.raise_any()

    @property
    def has_prior(self) -> bool:
        """Whether the model's text route has a prior."""
        return Stage.PRIOR in self.entry.stages

    @property
    def reads_text(self) -> bool:
        """Whether the model's decoder is told the prompt itself."""
        return self.entry.decoder_reads_text or not self.has_prior

    @property
    def runs_prior(self) -> bool:
        """Whether a request of the text route runs the prior."""
        return self.has_prior and not self.request.HasField("image_embeds")

    def match(self, field: str, count: int, prompts: int) -> None:
        """Notes a list that is neither one for all prompts nor one for each."""
        self.faults.one_or_each(field, count, prompts, "prompt")

    def settle(self, *, prior_runs: bool, start: tuple[str, Size] | None = None) -> Settings:
        """Reads the settings, all but the seed.

        Args:
            prior_runs: whether this request runs the prior.
            start: path, and height and width, of the picture that it starts from, if it does.
        """
        self.settings = resolve_settings(
            self.request.settings, self.entry, self.faults, has_prior=prior_runs, start=start
        )
        return self.settings

    def text(self, field: str, text: str, *, required: bool = False) -> str | None:
        """Notes a text; its key, None where it is blank."""
        most = self.entry.limits.max_prompt_characters
        if len(text) > most:
            self.faults.add(field, f"has {len(text)} characters; the most is {most}")
        if text.strip():
            self.texts[field] = text
            return field
        if required:
            self.faults.add(field, "is empty")
        return None

    def told(self) -> str | None:
        """Key of the request's own `prompt`, which only a decoder that reads text is told."""
        if self.reads_text:
            return self.text("prompt", self.request.prompt) or EMPTY_TEXT
        if self.request.prompt:
            self.faults.add("prompt", "is not read by this model's decoder")
        return None

    def pictures(
        self, one: str, many: str, *, low: float = -1.0, latents: bool = True
    ) -> list[Undecoded[Picture]]:
        """The pictures of a field, or of its plural."""
        several = getattr(self.request, many)
        if not several:
            return self.picture(getattr(self.request, one), one, low=low, latents=latents)
        if self.request.HasField(one):
            self.faults.add(many, f"stand in for {one}; give one of the two")
        return [
            picture
            for i, image in enumerate(several)
            for picture in self.picture(image, f"{many}[{i}]", low=low, latents=latents)
        ]

    def picture(
        self, image: generation.InputImage, field: str, *, low: float = -1.0, latents: bool = True
    ) -> list[Undecoded[Picture]]:
        """The picture of a field; none, and a note, if it is none."""
        most = min(self._pixels_left, MAX_PIXELS)
        picture = read_picture(image, field, self.faults, most=most, low=low, latents=latents)
        if picture is None:
            return []
        self._pixels_left -= picture.pixels
        return [picture]

    def masks(self) -> list[Undecoded[Mask]]:
        """Read the masks of the field `mask`, or of `masks`, within the request's pixels."""
        request = self.request
        if request.masks and request.HasField("mask"):
            self.faults.add("masks", "stand in for mask; give one of the two")
        sent = {f"masks[{i}]": mask for i, mask in enumerate(request.masks)}
        found = []
        for field, image in (sent or {"mask": request.mask}).items():
            left = min(self._pixels_left, MAX_PIXELS)
            mask = read_mask(image, field, self.faults, most=left)
            if mask is not None:
                self._pixels_left -= mask.pixels
                found.append(mask)
        return found

    def show(self, picture: Undecoded[Picture]) -> str:
        """Has the image encoder see a picture; its key."""
        if picture.size is None:
            self.faults.add(picture.field, "the image encoder sees no latents; send pixels")
        else:
            self.shown[picture.field] = picture
        return picture.field

    def strength(self, field: str, steps: int, default: float | None = None) -> float | None:
        """A share of some steps, which must leave one; the default where it is absent."""
        given = self.request.HasField(field)
        value: float | None = getattr(self.request, field) if given else default
        if given and value is not None:
            self.faults.share(field, value)
        if value is not None:
            self._strengths[Stage.DECODER if field == "strength" else Stage.PRIOR] = value
        if value is not None and steps > 0 and 0 < value <= 1 and int(steps * value) < 1:
            none = f"{value:g} of {steps} steps leaves none; raise either"
            self.faults.add(*(field, none) if given else ("settings.steps", f"{field} {none}"))
        return value

    def prior_start(self, pictures: Sequence[Undecoded[Picture]]) -> list[PriorStart]:
        """What the prior starts from, by picture; none where it starts from noise."""
        if not self.request.HasField("prior_strength"):
            return []
        if self.settings.prior is None:
            self.faults.add("prior_strength", "no prior runs for this request")
            return []
        strength = self.strength("prior_strength", self.settings.prior.steps)
        return [PriorStart(self.show(picture), strength or 0) for picture in pictures]

    def rows(self, field: str, shape: Sequence[int | None]) -> list[tensor_pb2.Tensor]:
        """The rows of an optional floating-point tensor; none where it is absent."""
        if not self.request.HasField(field):
            return []
        tensor, most = getattr(self.request, field), self.entry.limits.max_images
        if tensor.shape and tensor.shape[0] > most:
            self.faults.add(f"{field}.shape", f"has {tensor.shape[0]} rows; the most is {most}")
            return []
        return self.faults.floats(field, tensor, shape)

    def one(self, field: str, rank: int) -> tensor_pb2.Tensor | None:
        """An optional floating-point tensor of a rank."""
        if not self.request.HasField(field):
            return None
        tensor: tensor_pb2.Tensor = getattr(self.request, field)
        self.faults.floats(field, tensor, (None,) * rank)
        return tensor

    def check_images(self, units: int, unit: str) -> None:
        """Check how many images are asked for, and what there is one of for each, and end the
        request if anything was wrong with it so far.

        Args:
            units: guides; 0 where they could not be read.
            unit: the name of what there is one guide each of.

        Raises:
            KandinskyError: INVALID_FIELD with everything that was found wrong.
        """
        most, each = self.entry.limits.max_images, self.settings.images_per_prompt
        total: int | None = None
        field = "settings.images_per_prompt"
        if each < 1:
            self.faults.add(field, f"{each} is less than 1")
        elif units * each > most:
            made = f"{each} makes {units * each} images of {counted(units, unit)}"
            self.faults.add(field, f"{made}; the most is {most}")
        else:
            total = units * each or None
        self._latents = self.rows("latents", (total, None, None, None))
        self._prior_latents = self._read_prior_latents((total, None))
        self.check_seed(total or 1)
        self.faults.raise_any()

    def plan(self, guides: Sequence[Guide], starts: Sequence[PendingStart]) -> Draft:
        """One entry an image: every guide, `images_per_prompt` times, after `check_images`.

        Args:
            guides: one a prompt, or whatever the flow has in place of prompts.
            starts: one for all, or one a guide.

        Raises:
            KandinskyError: INVALID_FIELD with what was found wrong since.
        """
        self.faults.raise_any()
        each = self.settings.images_per_prompt
        total = len(guides) * each
        seed = self.seed(total)
        latents, prior_latents = self._latents, self._prior_latents

        def images(made: Sequence[Start]) -> tuple[ImagePlan, ...]:
            return tuple(
                ImagePlan(
                    index=index,
                    seed=seed + index,
                    guide=guides[index // each],
                    start=made[index // each % len(made)],
                    latents=latents[index] if latents else None,
                    prior_latents=prior_latents[index] if prior_latents else None,
                )
                for index in range(total)
            )

        return self.draft(guides, starts, images, each)

    def draft(
        self,
        guides: Sequence[Guide],
        starts: Sequence[PendingStart],
        images: Callable[[Sequence[Start]], tuple[ImagePlan, ...]],
        each: int = 1,
    ) -> Draft:
        """The draft of `each` images a guide, with the texts and pictures that they need."""
        settings, count = self.settings, len(guides) * each
        canvas = settings.height * settings.width
        sizes = [canvas if start.crops is None else start.crops.pixels for start in starts]
        return Draft(
            entry=self.entry,
            flow=self.flow,
            settings=settings,
            texts=needed_texts(guides, self.texts, settings, zero=not self.shown),
            shown=self.shown,
            starts=tuple(starts),
            count=count,
            images=images,
            runs_prior=any(guide.runs_prior(settings) for guide in guides),
            strengths=self._strengths,
            output_pixels=tuple(sizes[index // each % len(sizes)] for index in range(count)),
        )

    def seed(self, images: int) -> int:
        """The first image's seed; drawn where the request has none."""
        message = self.request.settings
        return int(message.seed) if message.HasField("seed") else secrets.randbelow(2**63 - images)

    def check_seed(self, images: int) -> None:
        """Note a seed from which so many images cannot each have their own."""
        message = self.request.settings
        if message.HasField("seed"):
            self.faults.integer("settings.seed", message.seed, 0, 2**63 - 1 - images)

    def _read_prior_latents(self, shape: Sequence[int | None]) -> list[tensor_pb2.Tensor]:
        if "prior_latents" not in self.request.DESCRIPTOR.fields_by_name:
            return []
        if self.settings.prior is None and self.request.HasField("prior_latents"):
            self.faults.add("prior_latents", "no prior runs for this request")
            return []
        return self.rows("prior_latents", shape)
