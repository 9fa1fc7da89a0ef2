"""Karlo, an unCLIP: a prior of CLIP embeddings, a decoder of small images, super-resolution.

Defaults are those of the UnCLIP pipelines of diffusers.
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

_TEXT_PARTS = ("tokenizer", "text_encoder")
_IMAGE_PARTS = ("feature_extractor", "image_encoder")
_PRIOR_PARTS = ("prior", "prior_scheduler")
_DECODER_PARTS = (
    "decoder",
    "text_proj",
    "decoder_scheduler",
    "super_res_first",
    "super_res_last",
    "super_res_scheduler",
)
_TEXT = (
    ConditioningField("text_embed", ("embedding",), Unconditional.EMPTY_TEXT),
    ConditioningField("text_states", ("tokens", "embedding"), Unconditional.EMPTY_TEXT),
    ConditioningField("text_mask", ("tokens",), Unconditional.EMPTY_TEXT),
)

KARLO = FamilySpec(
    name="karlo",
    title="Karlo",
    text_route=(Stage.ENCODERS, Stage.PRIOR, Stage.DECODER),
    guides=(
        GuideKind.TEXT,
        GuideKind.MIX,
        GuideKind.INTERPOLATION,
        GuideKind.IMAGE,
        GuideKind.TEXT_DIFF,
        GuideKind.EMBEDDINGS,
    ),
    canvases=(CanvasKind.NOISE,),
    reads={
        Stage.PRIOR: _TEXT,
        Stage.DECODER: (
            ConditioningField("image_embed", ("embedding",), Unconditional.LEARNED),
            *_TEXT,
        ),
    },
    samplers=(
        # UnCLIPScheduler.set_timesteps divides by steps - 1.
        SamplerSpec("prior", Stage.PRIOR, 25, 4.0, min_steps=2, strength=0.3),
        SamplerSpec("decoder", Stage.DECODER, 25, 8.0, min_steps=2, fixed_scheduler=True),
        SamplerSpec("super_resolution", Stage.DECODER, 7, 1.0, min_steps=2, fixed_scheduler=True),
    ),
    size_multiple=32,
    latent_scale=4,
    one_generator=True,
    roles=(
        CheckpointRole(Stage.ENCODERS, "weights", _TEXT_PARTS),
        CheckpointRole(Stage.ENCODERS, "image", _IMAGE_PARTS),
        CheckpointRole(Stage.PRIOR, "weights", _PRIOR_PARTS),
        CheckpointRole(Stage.DECODER, "weights", _DECODER_PARTS),
    ),
    layouts=(
        CheckpointLayout(
            "Karlo",
            ("UnCLIPPipeline",),
            (
                (Stage.ENCODERS, "weights"),
                (Stage.PRIOR, "weights"),
                (Stage.DECODER, "weights"),
            ),
            (*_TEXT_PARTS, *_PRIOR_PARTS, *_DECODER_PARTS),
        ),
        CheckpointLayout(
            "image variation of Karlo",
            ("UnCLIPImageVariationPipeline",),
            (
                (Stage.ENCODERS, "weights"),
                (Stage.ENCODERS, "image"),
                (Stage.DECODER, "weights"),
            ),
            (*_TEXT_PARTS, *_IMAGE_PARTS, *_DECODER_PARTS),
        ),
    ),
)
