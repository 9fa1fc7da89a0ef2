"""Versatile Diffusion: a UNet that attends to a text, to an image, or to both in any share.

Defaults are those of the VersatileDiffusion pipelines of diffusers.
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

_ENCODER_PARTS = ("tokenizer", "text_encoder", "image_feature_extractor", "image_encoder")
_DECODER_PARTS = ("image_unet", "text_unet", "vae", "scheduler")

VERSATILE_DIFFUSION = FamilySpec(
    name="versatile-diffusion",
    title="Versatile Diffusion",
    text_route=(Stage.ENCODERS, Stage.DECODER),
    guides=(
        GuideKind.TEXT,
        GuideKind.IMAGE,
        GuideKind.TEXT_AND_IMAGE,
        GuideKind.EMBEDDINGS,
    ),
    canvases=(CanvasKind.NOISE,),
    reads={
        Stage.DECODER: (
            ConditioningField("text_states", ("tokens", "embedding"), Unconditional.EMPTY_TEXT),
            ConditioningField(
                "image_states",
                ("patches", "embedding"),
                Unconditional.BLANK_IMAGE,
                optional=True,
            ),
            ConditioningField("mix_ratio", ("1",)),
        ),
    },
    samplers=(SamplerSpec("decoder", Stage.DECODER, 50, 7.5),),
    size_multiple=64,
    latent_scale=8,
    roles=(
        CheckpointRole(Stage.ENCODERS, "weights", _ENCODER_PARTS),
        CheckpointRole(Stage.DECODER, "weights", _DECODER_PARTS),
    ),
    layouts=(
        CheckpointLayout(
            "Versatile Diffusion",
            ("VersatileDiffusionPipeline", "VersatileDiffusionDualGuidedPipeline"),
            ((Stage.ENCODERS, "weights"), (Stage.DECODER, "weights")),
            (*_ENCODER_PARTS, *_DECODER_PARTS),
        ),
    ),
)
