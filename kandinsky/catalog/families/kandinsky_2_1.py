"""Kandinsky 2.1: the prior of CLIP embeddings, and a decoder that reads text as well.

The decoder's UNet attends to the states of multilingual CLIP beside the image embedding. Defaults
are those of the Kandinsky pipelines of diffusers.
"""

from kandinsky.catalog.family import (
    CanvasKind,
    CheckpointLayout,
    CheckpointRole,
    ConditioningField,
    FamilySpec,
    GuideKind,
    SamplerSpec,
    Stage,
    Unconditional,
)

_ENCODER_PARTS = ("tokenizer", "text_encoder", "image_processor", "image_encoder")
_PRIOR_PARTS = ("prior", "scheduler")
_UNET_PARTS = ("unet", "scheduler")
_DECODER_PARTS = (*_UNET_PARTS, "movq")
_TEXT_PARTS = ("tokenizer", "text_encoder")
_UNET = {"encoder_hid_dim_type": "text_image_proj"}

KANDINSKY_2_1 = FamilySpec(
    name="kandinsky-2-1",
    title="Kandinsky 2.1",
    text_route=(Stage.ENCODERS, Stage.PRIOR, Stage.DECODER),
    guides=(
        GuideKind.TEXT,
        GuideKind.MIX,
        GuideKind.INTERPOLATION,
        GuideKind.IMAGE,
        GuideKind.TEXT_DIFF,
        GuideKind.EMBEDDINGS,
    ),
    canvases=(CanvasKind.NOISE, CanvasKind.IMAGE, CanvasKind.INPAINT, CanvasKind.OUTPAINT),
    reads={
        Stage.PRIOR: (
            ConditioningField("text_embed", ("embedding",), Unconditional.EMPTY_TEXT),
            ConditioningField("text_states", ("tokens", "embedding"), Unconditional.EMPTY_TEXT),
            ConditioningField("text_mask", ("tokens",), Unconditional.EMPTY_TEXT),
        ),
        Stage.DECODER: (
            ConditioningField("image_embed", ("embedding",), Unconditional.ZERO_IMAGE),
            ConditioningField("text_embed", ("embedding",), Unconditional.EMPTY_TEXT),
            ConditioningField("text_states", ("tokens", "embedding"), Unconditional.EMPTY_TEXT),
        ),
    },
    samplers=(
        # UnCLIPScheduler.set_timesteps divides by steps - 1.
        SamplerSpec("prior", Stage.PRIOR, 25, 4.0, min_steps=2, strength=0.3),
        SamplerSpec("decoder", Stage.DECODER, 100, 4.0, strength=0.3, step_cache=True),
    ),
    size_multiple=64,
    latent_scale=8,
    roles=(
        CheckpointRole(Stage.ENCODERS, "weights", _ENCODER_PARTS),
        CheckpointRole(Stage.ENCODERS, "decoder_text", _TEXT_PARTS),
        CheckpointRole(Stage.PRIOR, "weights", _PRIOR_PARTS),
        CheckpointRole(Stage.DECODER, "weights", _DECODER_PARTS),
        CheckpointRole(
            Stage.DECODER,
            "inpaint",
            _UNET_PARTS,
            required=False,
            canvases=(CanvasKind.INPAINT, CanvasKind.OUTPAINT),
        ),
    ),
    layouts=(
        CheckpointLayout(
            "prior of Kandinsky 2.1",
            ("KandinskyPriorPipeline",),
            ((Stage.ENCODERS, "weights"), (Stage.PRIOR, "weights")),
            (*_ENCODER_PARTS, *_PRIOR_PARTS),
        ),
        CheckpointLayout(
            "decoder of Kandinsky 2.1",
            ("KandinskyPipeline", "KandinskyImg2ImgPipeline"),
            ((Stage.DECODER, "weights"), (Stage.ENCODERS, "decoder_text")),
            (*_TEXT_PARTS, *_DECODER_PARTS),
            {**_UNET, "in_channels": 4},
            ("KandinskyCombinedPipeline", "KandinskyImg2ImgCombinedPipeline"),
        ),
        CheckpointLayout(
            "inpainting decoder of Kandinsky 2.1",
            ("KandinskyInpaintPipeline",),
            ((Stage.DECODER, "inpaint"),),
            _DECODER_PARTS,
            {**_UNET, "in_channels": 9},
            ("KandinskyInpaintCombinedPipeline",),
        ),
    ),
)
