"""Stable Diffusion inpainting: a decoder that reads CLIP's states and generates under a mask.

Defaults are those of StableDiffusionInpaintPipeline of diffusers.
"""

from kandinsky.catalog.family import (
    AdapterKind,
    CanvasKind,
    CheckpointLayout,
    CheckpointRole,
    ConditioningField,
    FamilySpec,
    GuideKind,
    Resampling,
    SamplerSpec,
    Stage,
    Unconditional,
)

_ENCODER_PARTS = ("tokenizer", "text_encoder")
_DECODER_PARTS = ("unet", "scheduler", "vae")

STABLE_DIFFUSION_INPAINTING = FamilySpec(
    name="stable-diffusion-inpainting",
    title="Stable Diffusion inpainting",
    text_route=(Stage.ENCODERS, Stage.DECODER),
    guides=(GuideKind.TEXT, GuideKind.EMBEDDINGS),
    canvases=(CanvasKind.INPAINT, CanvasKind.OUTPAINT),
    reads={
        Stage.DECODER: (
            ConditioningField("text_states", ("tokens", "embedding"), Unconditional.EMPTY_TEXT),
        ),
    },
    samplers=(
        SamplerSpec(
            "decoder",
            Stage.DECODER,
            50,
            7.5,
            options=("timesteps", "sigmas", "clip_skip", "free_u", "masked_image_latents"),
        ),
    ),
    adapters=tuple(AdapterKind),
    size_multiple=64,
    latent_scale=8,
    roles=(
        CheckpointRole(Stage.ENCODERS, "weights", _ENCODER_PARTS),
        CheckpointRole(Stage.ENCODERS, "image_encoder", ("image_encoder",), required=False),
        CheckpointRole(Stage.DECODER, "weights", _DECODER_PARTS),
        CheckpointRole(
            Stage.DECODER,
            "safety_checker",
            ("safety_checker", "feature_extractor"),
            required=False,
        ),
    ),
    layouts=(
        CheckpointLayout(
            "Stable Diffusion inpainting",
            ("StableDiffusionInpaintPipeline",),
            ((Stage.ENCODERS, "weights"), (Stage.DECODER, "weights")),
            (*_ENCODER_PARTS, *_DECODER_PARTS),
            {"_class_name": "UNet2DConditionModel", "encoder_hid_dim_type": None},
        ),
    ),
    resampling=Resampling.LANCZOS,
)
