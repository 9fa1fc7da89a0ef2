"""Messages as large as the contract allows, through Serve's proxy."""

import grpc
import numpy as np

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc, encoders_pb2, encoders_pb2_grpc
from kandinsky.wire import tensors
from kandinsky.wire.channels import MESSAGE_BYTES, OPTIONS
from tests.endtoend.conftest import System


def test_stages_take_and_send_messages_of_many_mebibytes(system: System) -> None:
    entry = Catalog.load()["shapes"]
    with grpc.insecure_channel(system.stages, options=OPTIONS) as channel:
        image = encoders_pb2.EncodeImageRequest(
            pixels=tensors.encode(np.zeros((4600, 4600, 3), np.uint8))
        )
        assert 60 * 2**20 < image.ByteSize() < MESSAGE_BYTES
        seen = encoders_pb2_grpc.EncoderServiceStub(channel).EncodeImage(
            image, metadata=[("application", entry.application(Stage.ENCODERS))], timeout=60
        )
        assert seen.image_embed.shape

        latents = decoder_pb2.DecodeLatentsRequest(
            latents=tensors.encode(np.zeros((4, 80, 80), np.float32)),
            output=decoder_pb2.DECODE_OUTPUT_FLOAT_PIXELS,
        )
        made = decoder_pb2_grpc.DecoderServiceStub(channel).DecodeLatents(
            latents, metadata=[("application", entry.application(Stage.DECODER))], timeout=60
        )
        assert list(made.pixels.shape) == [640, 640, 3]
        assert made.ByteSize() > 4 * 2**20  # gRPC's own limit
