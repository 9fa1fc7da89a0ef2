"""Kandinsky 2.2: a prior from CLIP text to CLIP image embedding, and a decoder that reads it.

Defaults are those of the KandinskyV22 pipelines of diffusers, but for the decoder's steps, which
its model card takes; what the checkpoints' own files say is read from them.
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
_UNET = {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image"}
_CONTROL_UNET = {"encoder_hid_dim_type": "image_proj", "addition_embed_type": "image_hint"}

KANDINSKY_2_2 = FamilySpec(
    name="kandinsky-2-2",
    title="Kandinsky 2.2",
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
            ConditioningField("hint", ("3", "height", "width")),
        ),
    },
    samplers=(
        # UnCLIPScheduler.set_timesteps divides by steps - 1.
        SamplerSpec("prior", Stage.PRIOR, 25, 4.0, min_steps=2, strength=0.3),
        SamplerSpec("decoder", Stage.DECODER, 50, 4.0, strength=0.3, step_cache=True),
    ),
    size_multiple=64,
    latent_scale=8,
    roles=(
        CheckpointRole(Stage.ENCODERS, "weights", _ENCODER_PARTS),
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
            "prior of Kandinsky 2.2",
            ("KandinskyV22PriorPipeline", "KandinskyV22PriorEmb2EmbPipeline"),
            ((Stage.ENCODERS, "weights"), (Stage.PRIOR, "weights")),
            (*_ENCODER_PARTS, *_PRIOR_PARTS),
        ),
        CheckpointLayout(
            "decoder of Kandinsky 2.2",
            ("KandinskyV22Pipeline", "KandinskyV22Img2ImgPipeline"),
            ((Stage.DECODER, "weights"),),
            _DECODER_PARTS,
            {**_UNET, "in_channels": 4},
            ("KandinskyV22CombinedPipeline", "KandinskyV22Img2ImgCombinedPipeline"),
        ),
        CheckpointLayout(
            "inpainting decoder of Kandinsky 2.2",
            ("KandinskyV22InpaintPipeline",),
            ((Stage.DECODER, "inpaint"),),
            _DECODER_PARTS,
            {**_UNET, "in_channels": 9},
            ("KandinskyV22InpaintCombinedPipeline",),
        ),
        CheckpointLayout(
            "depth-controlled decoder of Kandinsky 2.2",
            ("KandinskyV22ControlnetPipeline", "KandinskyV22ControlnetImg2ImgPipeline"),
            ((Stage.DECODER, "weights"),),
            _DECODER_PARTS,
            {**_CONTROL_UNET, "in_channels": 8},
        ),
    ),
)
