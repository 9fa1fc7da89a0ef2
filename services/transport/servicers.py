"""What Serve's gRPC proxy serves: the three services, with the request's bytes as the request.

The proxy passes the bytes on as they are, and the replica decodes them
(`services.transport.rpc`): so a message that cannot be decoded is answered by this system, and the
proxy decodes nothing. A Serve configuration names these functions under
`grpc_options.grpc_servicer_functions`.
"""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from kandinsky.v1 import decoder_pb2, encoders_pb2, prior_pb2


def _adder(service: ServiceDescriptor) -> Callable[[Any, Any], None]:
    def add(servicer: Any, server: Any) -> None:
        handlers = {}
        for method in service.methods:
            make = (
                grpc.unary_stream_rpc_method_handler
                if method.server_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            handlers[method.name] = make(
                getattr(servicer, method.name),
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
        generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
        server.add_generic_rpc_handlers((generic,))

    return add


add_encoders = _adder(encoders_pb2.DESCRIPTOR.services_by_name["EncoderService"])
add_prior = _adder(prior_pb2.DESCRIPTOR.services_by_name["PriorService"])
add_decoder = _adder(decoder_pb2.DESCRIPTOR.services_by_name["DecoderService"])
