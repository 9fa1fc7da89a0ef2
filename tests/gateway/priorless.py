"""A family that no release serves: no prior, and a decoder that reads the states of texts."""

from kandinsky.catalog.family import (
    CanvasKind,
    CheckpointRole,
    ConditioningField,
    FamilySpec,
    GuideKind,
    SamplerSpec,
    Stage,
    Unconditional,
)

NAME = "priorless"
HOME = "tests.gateway.priorless:PRIORLESS"
"""For the registry of families."""

PRIORLESS = FamilySpec(
    name=NAME,
    title="Priorless",
    text_route=(Stage.ENCODERS, Stage.DECODER),
    guides=(GuideKind.TEXT, GuideKind.EMBEDDINGS),
    canvases=(CanvasKind.NOISE, CanvasKind.IMAGE),
    reads={
        Stage.DECODER: (
            ConditioningField("text_states", ("tokens", "embedding"), Unconditional.ZEROS),
            ConditioningField("text_mask", ("tokens",), Unconditional.ZEROS),
        )
    },
    samplers=(SamplerSpec("decoder", Stage.DECODER, 25, 3.0, strength=0.3),),
    size_multiple=64,
    latent_scale=8,
    roles=(
        CheckpointRole(Stage.ENCODERS, "weights", ("tokenizer", "text_encoder")),
        CheckpointRole(Stage.DECODER, "weights", ("unet", "scheduler", "movq")),
    ),
)
