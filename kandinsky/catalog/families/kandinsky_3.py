"""Kandinsky 3: a decoder that reads the states of a T5 encoder; it has no prior.

Defaults are those of the Kandinsky3 pipelines of diffusers.
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

_ENCODER_PARTS = ("tokenizer", "text_encoder")
_DECODER_PARTS = ("unet", "scheduler", "movq")

KANDINSKY_3 = FamilySpec(
    name="kandinsky-3",
    title="Kandinsky 3",
    text_route=(Stage.ENCODERS, Stage.DECODER),
    guides=(GuideKind.TEXT, GuideKind.EMBEDDINGS),
    canvases=(CanvasKind.NOISE, CanvasKind.IMAGE),
    reads={
        Stage.DECODER: (
            ConditioningField("text_states", ("tokens", "embedding"), Unconditional.ZEROS),
            ConditioningField("text_mask", ("tokens",), Unconditional.ZEROS),
        ),
    },
    samplers=(SamplerSpec("decoder", Stage.DECODER, 25, 3.0, strength=0.3),),
    size_multiple=64,
    latent_scale=8,
    roles=(
        CheckpointRole(Stage.ENCODERS, "weights", _ENCODER_PARTS),
        CheckpointRole(Stage.DECODER, "weights", _DECODER_PARTS),
    ),
    layouts=(
        CheckpointLayout(
            "Kandinsky 3",
            ("Kandinsky3Pipeline", "Kandinsky3Img2ImgPipeline"),
            ((Stage.ENCODERS, "weights"), (Stage.DECODER, "weights")),
            (*_ENCODER_PARTS, *_DECODER_PARTS),
            {"_class_name": "Kandinsky3UNet"},
        ),
    ),
)
