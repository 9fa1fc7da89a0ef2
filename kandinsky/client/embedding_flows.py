"""The named flows that not prompts alone guide: blends, frames, images, text diffs."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from kandinsky.client import canvases, guides
from kandinsky.client.combination import Combination, Cost, Images
from kandinsky.client.options import (
    ConditioningSource,
    GenerationOptions,
    InputImage,
    InputImages,
    Interpolation,
    Texts,
)


class EmbeddingFlows(Combination[Images, Cost]):
    """Flows whose guide is `mix`, `interpolation`, `image`, `text_and_image` or `text_diff`.

    Errors as of `generate`.
    """

    def mix(
        self,
        conditions: Sequence[ConditioningSource],
        weights: Sequence[float],
        *,
        interpolation: Interpolation | None = None,
        negative_prompt: str | None = None,
        negative_prior_prompt: str | None = None,
        negative_image_embed: Any = None,
        prompt: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Images:
        """Generate images from a weighted blend of texts, images and embeddings.

        Args:
            conditions: what to blend.
            weights: one for each condition.
            interpolation: `linear`, the default, or `spherical`.
            negative_prompt: what the images do not show.
            negative_prior_prompt: what prior runs steer away from.
            negative_image_embed: array [D], in place of a negative prompt.
            prompt: for a decoder that reads text.
            options: see `GenerationOptions`.
        """
        guide = guides.mix(conditions, weights, interpolation=interpolation)
        return self._flow(
            "mix",
            guide,
            options,
            _OPTIONS,
            negative_prompts=negative_prompt,
            prior_negative_texts=negative_prior_prompt,
            negative_image_embeds=_row(negative_image_embed),
            decoder_texts=prompt,
        )

    def interpolate_frames(
        self,
        first: ConditioningSource,
        last: ConditioningSource,
        frames: int,
        *,
        interpolation: Interpolation | None = None,
        negative_prompt: str | None = None,
        negative_prior_prompt: str | None = None,
        negative_image_embed: Any = None,
        prompt: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Images:
        """Generate frames from one conditioning source to another, all of one seed.

        Args:
            first: what the first frame shows.
            last: what the last frame shows.
            frames: how many, first and last included.
            interpolation: `linear`, the default, or `spherical`.
            negative_prompt: what the frames do not show.
            negative_prior_prompt: what prior runs steer away from.
            negative_image_embed: array [D], in place of a negative prompt.
            prompt: for a decoder that reads text.
            options: see `GenerationOptions`; latents of decoder and prior are one row.
        """
        guide = guides.interpolation(first, last, frames, interpolation=interpolation)
        return self._flow(
            "interpolate_frames",
            guide,
            options,
            _OPTIONS,
            negative_prompts=negative_prompt,
            prior_negative_texts=negative_prior_prompt,
            negative_image_embeds=_row(negative_image_embed),
            decoder_texts=prompt,
        )

    def variation(
        self,
        image: InputImages,
        *,
        negative_image_embeds: Any = None,
        negative_images: InputImages | None = None,
        prompt: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Images:
        """Generate images like an image, or like each of several.

        Args:
            image: one or several.
            negative_image_embeds: array [1 or images, D], to steer away from.
            negative_images: one, or one for each image; for a decoder that attends to an image.
            prompt: for a decoder that reads text.
            options: see `GenerationOptions`.
        """
        return self._flow(
            "variation",
            guides.image(image),
            options,
            _OPTIONS,
            negative_image_embeds=negative_image_embeds,
            negative_images=negative_images,
            decoder_texts=prompt,
        )

    def dual_guided(
        self,
        prompts: Texts,
        image: InputImages,
        *,
        text_to_image_strength: float | None = None,
        negative_prompts: Texts | None = None,
        negative_images: InputImages | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Images:
        """Generate images that prompts and images guide at once, by a decoder that attends to both.

        Args:
            prompts: one or several.
            image: one for all prompts, or one for each.
            text_to_image_strength: share of the text, 0 to 1; default 0.5.
            negative_prompts: None, one for all, or one for each prompt.
            negative_images: likewise, of images.
            options: see `GenerationOptions`.
        """
        guide = guides.text_and_image(prompts, image, text_to_image_strength=text_to_image_strength)
        return self._flow(
            "dual_guided",
            guide,
            options,
            _OPTIONS,
            negative_prompts=negative_prompts,
            negative_images=negative_images,
        )

    def text_guided_edit(
        self,
        image: InputImage,
        source_prompt: str,
        target_prompt: str,
        *,
        amount: float | None = None,
        strength: float | None = None,
        negative_image_embed: Any = None,
        prompt: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Images:
        """Change an image as two texts differ.

        Args:
            image: what to change.
            source_prompt: what it shows.
            target_prompt: what the result shows.
            amount: how far the embedding is rotated toward the texts' difference, 0 to 1 of a
                right angle.
            strength: share of the steps that is run from the image. None: start from noise.
            negative_image_embed: array [D], to steer away from.
            prompt: for a decoder that reads text.
            options: see `GenerationOptions`.
        """
        return self._flow(
            "text_guided_edit",
            guides.text_diff(image, source_prompt, target_prompt, amount=amount),
            options,
            _OPTIONS,
            canvas=None if strength is None else canvases.image(strength=strength),
            negative_image_embeds=_row(negative_image_embed),
            decoder_texts=prompt,
        )


_OPTIONS = GenerationOptions.__optional_keys__


def _row(embed: Any) -> Any:
    """[D] as [1, D]; None stays."""
    return None if embed is None else np.asarray(embed)[None]
