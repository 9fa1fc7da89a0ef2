"""The named flows that prompts guide."""

from typing import Any, Unpack

from kandinsky.client import canvases, guides
from kandinsky.client.canvases import Canvas
from kandinsky.client.combination import Combination, Cost, Images
from kandinsky.client.options import InputImages, Masks, PromptOptions, Texts


class PromptFlows(Combination[Images, Cost]):
    """Flows whose guide is `text`, or `embeddings` where the caller has them.

    Errors as of `generate`.
    """

    def text_to_image(self, prompts: Texts = (), **options: Unpack[PromptOptions]) -> Images:
        """Generate images from prompts, in order of their index.

        Args:
            prompts: one or several; beside `image_embeds`, what a decoder that reads text reads.
            options: see `PromptOptions`.
        """
        return self._prompted("text_to_image", prompts, options)

    def image_to_image(
        self,
        image: InputImages,
        prompts: Texts = (),
        *,
        strength: float | None = None,
        prior_strength: float | None = None,
        **options: Unpack[PromptOptions],
    ) -> Images:
        """Generate images that start from an image.

        Args:
            image: one, or one for each prompt.
            prompts: what it becomes.
            strength: share of the steps that is run, above 0 up to 1.
            prior_strength: the prior starts from the image's embedding and runs this share of its
                steps.
            options: see `PromptOptions`.
        """
        canvas = canvases.image(image, strength=strength)
        return self._prompted(
            "image_to_image", prompts, options, canvas=canvas, prior_strength=prior_strength
        )

    def inpaint(
        self,
        image: InputImages,
        mask: Masks,
        prompts: Texts = (),
        *,
        strength: float | None = None,
        padding_mask_crop: int | None = None,
        **options: Unpack[PromptOptions],
    ) -> Images:
        """Generate the masked part of an image, and keep the rest.

        Args:
            image: one, or one for each prompt.
            mask: white is generated; one, or one for each prompt.
            prompts: what the image shows then.
            strength: share of the steps that is run, above 0 up to 1.
            padding_mask_crop: pixels around the mask's box; only that part is generated, at the
                full size.
            options: see `PromptOptions`.
        """
        canvas = canvases.inpaint(
            mask, image, strength=strength, padding_mask_crop=padding_mask_crop
        )
        return self._prompted("inpaint", prompts, options, canvas=canvas)

    def outpaint(
        self,
        image: InputImages,
        prompts: Texts = (),
        *,
        top: int = 0,
        bottom: int = 0,
        left: int = 0,
        right: int = 0,
        strength: float | None = None,
        **options: Unpack[PromptOptions],
    ) -> Images:
        """Continue an image past its edges.

        Args:
            image: one, or one for each prompt.
            prompts: what the image shows then.
            top: pixels to add above.
            bottom: pixels to add below.
            left: pixels to add on the left.
            right: pixels to add on the right.
            strength: share of the steps that is run, above 0 up to 1.
            options: see `PromptOptions`.
        """
        canvas = canvases.outpaint(
            image, top=top, bottom=bottom, left=left, right=right, strength=strength
        )
        return self._prompted("outpaint", prompts, options, canvas=canvas)

    def control(
        self,
        hint: InputImages,
        prompts: Texts = (),
        *,
        image: InputImages | None = None,
        strength: float | None = None,
        prior_strength: float | None = None,
        **options: Unpack[PromptOptions],
    ) -> Images:
        """Generate images that keep to a control hint, such as a depth map.

        Args:
            hint: near is white; one, or one for each prompt.
            prompts: what to draw.
            image: what to start from, one or one for each prompt. None: noise.
            strength: share of the steps that is run from `image`, above 0 up to 1.
            prior_strength: the prior starts from the image's embedding and runs this share of its
                steps.
            options: see `PromptOptions`.
        """
        starts = image is not None or strength is not None
        return self._prompted(
            "control",
            prompts,
            options,
            canvas=canvases.image(image, strength=strength) if starts else None,
            control=hint,
            prior_strength=prior_strength,
        )

    def _prompted(
        self,
        name: str,
        prompts: Texts,
        options: PromptOptions,
        *,
        canvas: Canvas | None = None,
        control: InputImages | None = None,
        prior_strength: float | None = None,
    ) -> Images:
        """Generate by prompts, or by `image_embeds` in their place."""
        passed: dict[str, Any] = {**options}
        own: dict[str, Any] = {"prior_strength": prior_strength}
        embeds = passed.pop("image_embeds", None)
        if embeds is None:
            guide = guides.text(prompts)
        else:
            guide = guides.image_embeds(embeds, passed.pop("negative_image_embeds", None))
            # Beside embeddings, only a decoder that reads text has a use for texts.
            own["decoder_texts"] = prompts or None
            own["decoder_negative_texts"] = passed.pop("negative_prompts", None)
        known = PromptOptions.__optional_keys__
        return self._flow(name, guide, passed, known, canvas=canvas, control=control, **own)
