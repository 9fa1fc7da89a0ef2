"""A family's encoders, composed of one for each reader."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from kandinsky.v1 import adapters_pb2, encoders_pb2, tensor_pb2
from kandinsky.wire.errors import KandinskyError, Reason, invalid
from services.adapters.named import refuse
from services.encoders.service import EncodersFamily


class TextEncoder(ABC):
    """Texts to the embeddings of one reader."""

    kind: str
    """Word before `tokens` in errors; "" for the family's main encoder."""
    most_tokens: int

    @abstractmethod
    def count(self, text: str) -> int:
        """Tokens of a text, with those that the tokenizer adds."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[encoders_pb2.TextEmbedding]:
        """Encode texts in one batch, each padded to the tokenizer's full length."""

    def encode_changed(
        self, texts: Sequence[str], clip_skip: int | None, adapters: Sequence[adapters_pb2.Adapter]
    ) -> list[encoders_pb2.TextEmbedding]:
        """As `encode`; see EncodersFamily."""
        refuse(adapters)
        raise invalid("clip_skip", "this model takes none")

    def check_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> int:
        """See EncodersFamily."""
        refuse(adapters)
        return 0

    def check(self, text: str, field: str) -> None:
        """Refuse a text that the encoder would have to cut.

        Raises:
            KandinskyError: INVALID_FIELD naming `field`.
        """
        self.check_count(self.count(text), field)

    def check_count(self, count: int, field: str) -> None:
        """Refuse a text of so many tokens; as above."""
        kind = f"{self.kind} " if self.kind else ""
        if count > self.most_tokens:
            raise invalid(field, f"takes {count} {kind}tokens; the most is {self.most_tokens}")


class ImageEncoder(ABC):
    """Images to embeddings."""

    zero_image_embed: tensor_pb2.Tensor | None
    """[D]: the output for a zero tensor; None of an encoder of states."""

    @abstractmethod
    def encode(self, images: Sequence[np.ndarray]) -> list[encoders_pb2.EncodeImageResponse]:
        """Encode images, each uint8 [H, W, 3], in one batch."""


class ComposedEncoders(EncodersFamily):
    """A text encoder for the prior, one for the decoder, an image encoder; each may be left out.

    Args:
        prior: encodes texts for the prior.
        decoder: encodes texts for the decoder.
        image: encodes images.
    """

    def __init__(
        self,
        prior: TextEncoder | None = None,
        decoder: TextEncoder | None = None,
        image: ImageEncoder | None = None,
    ) -> None:
        self._readers = {
            name: encoder
            for name, encoder in (("prior", prior), ("decoder", decoder))
            if encoder is not None
        }
        self._encoders = set(self._readers.values())
        """One may be the prior's and the decoder's."""
        self._image = image
        self.zero_image_embed = None if image is None else image.zero_image_embed

    def check_text(self, text: str, field: str) -> None:
        for encoder in self._encoders:
            encoder.check(text, field)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> list[encoders_pb2.TextEncoding]:
        encoded = {encoder: encoder.encode(texts) for encoder in self._encoders}
        return _encodings({name: encoded[each] for name, each in self._readers.items()})

    @torch.inference_mode()
    def encode_texts_changed(
        self, texts: Sequence[str], clip_skip: int | None, adapters: Sequence[adapters_pb2.Adapter]
    ) -> list[encoders_pb2.TextEncoding]:
        encoded = {
            name: each.encode_changed(texts, clip_skip, adapters)
            for name, each in self._readers.items()
        }
        return _encodings(encoded)

    def check_adapters(self, adapters: Sequence[adapters_pb2.Adapter]) -> int:
        return sum(encoder.check_adapters(adapters) for encoder in self._encoders)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[np.ndarray]) -> list[encoders_pb2.EncodeImageResponse]:
        if self._image is None:
            raise KandinskyError(
                Reason.FLOW_UNSUPPORTED,
                "this model has no image encoder",
                metadata={"flow": "image"},
            )
        return self._image.encode(images)


def _encodings(
    by_reader: Mapping[str, Sequence[encoders_pb2.TextEmbedding]],
) -> list[encoders_pb2.TextEncoding]:
    """Each text's embeddings together; of no reader, no text."""
    return [
        encoders_pb2.TextEncoding(**dict(zip(by_reader, embeddings, strict=True)))
        for embeddings in zip(*by_reader.values(), strict=True)
    ]
