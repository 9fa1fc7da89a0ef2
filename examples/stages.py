"""The stages by themselves: encode once, keep the embeddings, mix them, decode the mixes.

python examples/stages.py HOST:PORT, where the stages take calls; `kandinsky up` prints it.
"""

import sys

import grpc
from PIL import Image

from kandinsky.v1 import decoder_pb2, encoders_pb2, prior_pb2, sampling_pb2
from kandinsky.v1.decoder_pb2_grpc import DecoderServiceStub
from kandinsky.v1.encoders_pb2_grpc import EncoderServiceStub
from kandinsky.v1.prior_pb2_grpc import PriorServiceStub
from kandinsky.wire import tensors
from kandinsky.wire.channels import OPTIONS

channel = grpc.insecure_channel(sys.argv[1], options=OPTIONS)
stages = ("encoders", "prior", "decoder")
encoders, prior, decoder = ([("application", f"shapes-{stage}")] for stage in stages)
texts = ["a red circle on a white background", "a blue circle on a white background", ""]
asked = encoders_pb2.EncodeTextRequest(texts=texts)
encoded = EncoderServiceStub(channel).EncodeText(asked, metadata=encoders)
embeds = []
for text in encoded.encodings[:2]:
    sample = prior_pb2.SampleEmbeddingRequest(sampling={"steps": 25, "seed": 0})
    for side, encoding in (("", text), ("negative_", encoded.encodings[2])):
        for part, value in encoding.prior.ListFields():
            getattr(sample.conditioning, side + part.name).CopyFrom(value)
    *_, sampled = PriorServiceStub(channel).SampleEmbedding(sample, metadata=prior)
    embeds.append(tensors.decode(sampled.embedding.image_embed, "image_embed"))
for percent in (0, 50, 100):
    mixed = (embeds[0] * (100 - percent) + embeds[1] * percent) / 100
    decode = decoder_pb2.DecodeRequest(sampling={"steps": 25, "seed": 0})
    decode.conditioning.image_embed.CopyFrom(tensors.encode(mixed))
    decode.conditioning.negative_image_embed.CopyFrom(encoded.zero_image_embed)
    decode.start.CopyFrom(sampling_pb2.InitialLatents(height=128, width=128, noise={}))
    *_, done = DecoderServiceStub(channel).Decode(decode, metadata=decoder)
    Image.fromarray(tensors.decode(done.image.tensor, "image")).save(f"circle-{percent}.png")
