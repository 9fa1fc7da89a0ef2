"""All named flows; the clients, and `requests`, differ in what they do with a flow's request."""

from kandinsky.client.combination import Cost, Images
from kandinsky.client.embedding_flows import EmbeddingFlows
from kandinsky.client.options import CallOptions
from kandinsky.client.prompt_flows import PromptFlows
from kandinsky.v1.generation_pb2 import GenerateRequest


class Flows(PromptFlows[Images, Cost], EmbeddingFlows[Images, Cost]):
    """The named flows, each defined once, and `generate` and `estimate` for any combination."""


class Requests(Flows[GenerateRequest, GenerateRequest]):
    """The flows as requests, for `stream`; each raises `TypeError` for options of a call."""

    def _images(self, request: GenerateRequest, call: CallOptions) -> GenerateRequest:
        if call:
            raise TypeError(f"a request has no option {', '.join(sorted(call))}; pass it to stream")
        return request

    _cost = _images


requests = Requests()
"""Build the requests that the methods of a client send."""
