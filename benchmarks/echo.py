"""A stage that computes nothing, so that a call of it costs what a hop costs.

It answers two RPCs of the stages' contract, with the same Tensor: behind Ray Serve by `build`, as a
plain gRPC server in a process of its own by `python -m benchmarks.echo`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from ray import serve

from benchmarks.child import wait_for_the_end
from kandinsky.v1 import decoder_pb2, decoder_pb2_grpc, encoders_pb2, encoders_pb2_grpc
from kandinsky.v1 import sampling_pb2 as sampling
from kandinsky.wire.channels import OPTIONS
from services.transport.servicers import add_decoder, add_encoders


class Echo(encoders_pb2_grpc.EncoderServiceServicer, decoder_pb2_grpc.DecoderServiceServicer):
    """Returns what it is sent, read from bytes as stages do; the rest is refused."""

    async def EncodeImage(self, data: bytes, grpc_context: Any) -> encoders_pb2.EncodeImageResponse:
        """The request's tensor."""
        request = encoders_pb2.EncodeImageRequest.FromString(data)
        return encoders_pb2.EncodeImageResponse(image_embed=request.pixels)

    async def Decode(
        self, data: bytes, grpc_context: Any
    ) -> AsyncIterator[decoder_pb2.DecodeEvent]:
        """As many events as there are steps, each with the tensor of `generator_state`."""
        request = decoder_pb2.DecodeRequest.FromString(data)
        preview = sampling.Preview(pixels=request.generator_state)
        for _ in range(request.sampling.steps):
            yield decoder_pb2.DecodeEvent(preview=preview)


def build(args: Mapping[str, Any]) -> serve.Application:
    """The application, of one replica; it takes no arguments."""
    return serve.deployment(Echo).options(ray_actor_options={"num_cpus": 0}).bind()


async def _serve_plainly() -> None:
    server = grpc.aio.server(options=OPTIONS)
    add_encoders(Echo(), server)
    add_decoder(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(wait_for_the_end)
    await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(_serve_plainly())
