"""The conditioning of a stage's request, from what the encoders and the prior have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gateway.planning import embeddings
from gateway.planning.generation_plan import GenerationPlan, ImagePlan
from gateway.planning.stage_request import M, StageRequest
from gateway.requests.input_images import InputImage
from gateway.requests.sources import Embedding, Source, Text
from gateway.requests.undecoded import Undecoded
from gateway.stages.stages import Encoded
from kandinsky.catalog.family import ConditioningField, Stage, Unconditional
from kandinsky.v1 import decoder_pb2, encoders_pb2, prior_pb2, tensor_pb2
from kandinsky.wire import tensors

Sampled = Mapping[str, prior_pb2.SampledEmbedding]
"""What the prior runs of an image made, by their texts."""


class Encodings:
    """The encoders' answers, by what was encoded.

    Args:
        plan: of the request.
        answers: of its texts and images.
    """

    def __init__(self, plan: GenerationPlan, answers: Encoded) -> None:
        self._texts = {text.text: answers.texts[text.field] for text in plan.texts}
        self._skipped: dict[str, encoders_pb2.TextEncoding] = {}
        self._images = answers.images
        self.zero_image_embed = answers.zero_image_embed
        """[D], where the family has an image encoder."""

    def text(self, text: Text, stage: Stage) -> encoders_pb2.TextEmbedding:
        """A text of the plan as a sampling stage reads it."""
        if text.encoded is not None:
            given = {name: embedding.tensor for name, embedding in text.encoded.items()}
            return encoders_pb2.TextEmbedding(**given)
        encoding = self._texts[text.text]
        return encoding.prior if stage is Stage.PRIOR else encoding.decoder

    def skip(self, plan: GenerationPlan, answers: Mapping[str, encoders_pb2.TextEncoding]) -> None:
        """Have what the decoder reads encoded without the encoder's last layers from now on.

        Args:
            plan: of the request.
            answers: of its skipped texts, by their fields.
        """
        self._skipped = {text.text: answers[text.field] for text in plan.skipped_texts}

    def read_text(self, text: Text, stage: Stage) -> encoders_pb2.TextEmbedding:
        """As `text`, of one that guidance steers toward."""
        if stage is Stage.DECODER and text.text in self._skipped:
            return self._skipped[text.text].decoder
        return self.text(text, stage)

    def embedding(self, source: Source, sampled: Sampled) -> tensor_pb2.Tensor:
        """The image embedding of a source, [D]; a text's is what the prior sampled."""
        if isinstance(source, Text):
            return sampled[source.text].image_embed
        if isinstance(source, Embedding):
            return source.tensor
        return self._images[source.field].image_embed

    def image(self, source: Undecoded[InputImage]) -> encoders_pb2.EncodeImageResponse:
        """All that the image encoder made of an image."""
        return self._images[source.field]


def put_conditioning(
    request: StageRequest[decoder_pb2.DecodeRequest],
    plan: GenerationPlan,
    image: ImagePlan,
    encodings: Encodings,
    sampled: Sampled,
) -> None:
    """Set what the decoder reads for an image, but for its hint.

    Raises:
        KandinskyError: INVALID_FIELD if embeddings that a request gave do not fit together.
    """
    conditioning, guided = image.conditioning, plan.request.settings.decoder.guided
    for name, given in (conditioning.given or {}).items():
        if guided or not name.startswith("negative_"):
            request.set(f"conditioning.{name}", given.tensor, given.field)
    if conditioning.text is not None:
        put_text(request, plan, Stage.DECODER, conditioning.text, encodings)
        if guided:
            negative = conditioning.negative_text
            put_negative_text(request, plan, Stage.DECODER, conditioning.text, negative, encodings)
    if conditioning.mix_ratio is not None:
        ratio = tensors.encode(np.array([conditioning.mix_ratio], np.float32))
        request.set("conditioning.mix_ratio", ratio, "guide")
    if (shown := conditioning.image) is not None:
        encoding = encodings.image(shown)
        request.set("conditioning.image_states", encoding.image_states, shown.field)
        if guided:
            away, states = conditioning.negative_image, encoding.blank_image_states
            if away is not None:
                states = encodings.image(away).image_states
            origin = shown.field if away is None else away.field
            request.set("conditioning.negative_image_states", states, origin)
    if conditioning.sources and conditioning.given is None:
        embed = _image_embed(image, encodings, sampled)
        origin = conditioning.sources[0].source.field
        request.set("conditioning.image_embed", embed, origin)
        if guided:
            source, part = conditioning.negative_source, _part(plan, "image_embed")
            request.set(
                "conditioning.negative_image_embed",
                encodings.embedding(source, sampled)
                if source is not None
                else _unconditional(part, embed, None, encodings),
                source.field if source is not None else origin,
            )


def _image_embed(image: ImagePlan, encodings: Encodings, sampled: Sampled) -> tensor_pb2.Tensor:
    parts, diff = image.conditioning.sources, image.conditioning.text_diff
    embed = embeddings.blend(
        [encodings.embedding(part.source, sampled) for part in parts],
        [part.weight for part in parts],
        [part.source.field for part in parts],
        spherical=image.conditioning.spherical,
    )
    if diff is None:
        return embed
    source, target = (
        encodings.text(text, Stage.PRIOR).text_embed for text in (diff.source, diff.target)
    )
    return embeddings.text_diff(embed, source, target, diff.amount, diff.target.field)


def put_text(
    request: StageRequest[M],
    plan: GenerationPlan,
    stage: Stage,
    text: Text,
    encodings: Encodings,
) -> None:
    """Set the text's part of a sampling stage's conditioning."""
    encoding = encodings.read_text(text, stage)
    for part in _text_parts(plan, stage):
        request.set(f"conditioning.{part.name}", _tensor(encoding, part), _origin(text, part))


def put_negative_text(
    request: StageRequest[M],
    plan: GenerationPlan,
    stage: Stage,
    text: Text,
    negative: Text | None,
    encodings: Encodings,
) -> None:
    """Set the other side of guidance; by the family's rule where nothing is named."""
    for part in _text_parts(plan, stage):
        if negative is not None:
            made, origin = _tensor(encodings.text(negative, stage), part), _origin(negative, part)
        else:
            own = _tensor(encodings.text(text, stage), part)
            made, origin = _unconditional(part, own, stage, encodings), text.field
        request.set(f"conditioning.negative_{part.name}", made, origin)


def _unconditional(
    part: ConditioningField,
    own: tensor_pb2.Tensor | None,
    stage: Stage | None,
    encodings: Encodings,
) -> tensor_pb2.Tensor | None:
    """What the unconditional side reads by the family's rule, where a request names nothing."""
    match part.unconditional:
        case Unconditional.ZEROS:
            if own is None:
                return None
            return tensor_pb2.Tensor(dtype=own.dtype, shape=own.shape, data=bytes(len(own.data)))
        case Unconditional.LEARNED:
            return None
        case Unconditional.ZERO_IMAGE:
            return encodings.zero_image_embed
        case Unconditional.EMPTY_TEXT if stage is not None:
            return _tensor(encodings.text(Text("", ""), stage), part)
    raise ValueError(f"{part.name} has no unconditional side")


def _text_parts(plan: GenerationPlan, stage: Stage) -> Sequence[ConditioningField]:
    return [part for part in plan.request.entry.spec.reads[stage] if part.of_text]


def _origin(text: Text, part: ConditioningField) -> str:
    """Path in the request of what a part of a text's encoding was made from."""
    return text.field if text.encoded is None else text.encoded[part.name].field


def _part(plan: GenerationPlan, name: str) -> ConditioningField:
    [part] = [one for one in plan.request.entry.spec.reads[Stage.DECODER] if one.name == name]
    return part


def _tensor(
    encoding: encoders_pb2.TextEmbedding, part: ConditioningField
) -> tensor_pb2.Tensor | None:
    """A part of an encoding; None where the encoders made none."""
    tensor: tensor_pb2.Tensor = getattr(encoding, part.name)
    return tensor if encoding.HasField(part.name) else None
