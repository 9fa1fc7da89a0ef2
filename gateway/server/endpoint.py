"""The endpoint: how a request reaches its handler, and the handler's answers its caller.

Every RPC is registered as a stream both ways that carries bytes, which on the wire is no different
from a unary one: so its message is read once the request is admitted, and its answer is sent while
it still counts as in flight. A handler takes a message and returns or yields messages.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from gateway.server.admission import Admission, Admitted
from gateway.server.messages import Messages
from kandinsky.wire.messages import request_class


class Endpoint:
    """Serves the methods of a service.

    Args:
        admission: bounds and outcomes of all requests.
        messages: reads them and writes their answers.
    """

    def __init__(self, admission: Admission, messages: Messages) -> None:
        self._admission = admission
        self._messages = messages

    def register(
        self, service: ServiceDescriptor, handlers: object, server: grpc.aio.Server
    ) -> None:
        """Add a service to a server.

        Args:
            service: the service.
            handlers: has a coroutine for each unary method, and an async generator for each that
                streams, by the method's name.
            server: not started yet.
        """
        methods = {
            method.name: grpc.stream_stream_rpc_method_handler(
                self._method(method, getattr(handlers, method.name))
            )
            for method in service.methods
        }
        generic = grpc.method_handlers_generic_handler(service.full_name, methods)
        server.add_generic_rpc_handlers((generic,))

    def _method(self, method: MethodDescriptor, handler: Callable[[Any, Admitted], Any]) -> Any:
        kind = request_class(method)

        async def answer(context: grpc.aio.ServicerContext[Any, Any], admitted: Admitted) -> None:
            async with self._messages.read(context, admitted.call.tenant, kind) as request:
                model = getattr(request, "model", None)
                if model is not None:
                    structlog.contextvars.bind_contextvars(model=model)
                if not method.server_streaming:
                    await self._messages.write(context, await handler(request, admitted))
                    return
                async with aclosing(handler(request, admitted)) as answers:
                    async for message in answers:
                        await self._messages.write(context, message)

        async def serve(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            # Holds no message itself: this frame outlives a failed request (Admission.admit).
            async with self._admission.admit(context, method.name) as admitted:
                await answer(context, admitted)

        return serve
