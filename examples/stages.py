"""The stages by themselves: encode once, keep the embedding, decode it as often as you like.

python examples/stages.py HOST:PORT, where the stages take calls; `kandinsky up` prints it.
"""

import sys

import grpc
from PIL import Image

from kandinsky.v1 import decoder_pb2, encoders_pb2, prior_pb2
from kandinsky.v1.decoder_pb2_grpc import DecoderServiceStub
from kandinsky.v1.encoders_pb2_grpc import EncoderServiceStub
from kandinsky.v1.prior_pb2_grpc import PriorServiceStub
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS

channel = grpc.insecure_channel(sys.argv[1], options=OPTIONS)
texts = encoders_pb2.EncodeTextRequest(texts=["a red circle on a white background", ""])
encoded = EncoderServiceStub(channel).EncodeText(
    texts, metadata=[("application", "shapes-encoders")]
)
sample = prior_pb2.SampleEmbeddingRequest(sampling={"steps": 25, "seed": 0})
for side, text in zip(("", "negative_"), encoded.encodings, strict=True):
    for part, value in text.prior.ListFields():
        getattr(sample.conditioning, side + part.name).CopyFrom(value)
*_, sampled = PriorServiceStub(channel).SampleEmbedding(
    sample, metadata=[("application", "shapes-prior")]
)
for seed in range(3):
    decode = decoder_pb2.DecodeRequest(sampling={"steps": 25, "seed": seed})
    decode.conditioning.image_embed.CopyFrom(sampled.embedding.image_embed)
    decode.conditioning.negative_image_embed.CopyFrom(encoded.zero_image_embed)
    decode.canvas.height, decode.canvas.width = 128, 128
    decode.canvas.noise.SetInParent()
    *_, done = DecoderServiceStub(channel).Decode(
        decode, metadata=[("application", "shapes-decoder")]
    )
    Image.fromarray(tensors.decode(done.image.tensor, "image")).save(f"circle-{seed}.png")
