"""AdapterService: a model's adapters at run time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from gateway.requests.flow import served_entry
from gateway.requests.violations import Violations
from gateway.server.admission import Admitted
from gateway.stages.stages import StageAccess
from kandinsky.catalog.adapters import NAME_RULE, AdapterError, AdapterFolder, is_name
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.v1 import adapters_pb2
from kandinsky.wire import constraints
from kandinsky.wire.adapter_files import from_message, pinned, to_message
from kandinsky.wire.errors import invalid

log = structlog.get_logger()


class AdapterService:
    """Changes the manifests of models' adapters: the handlers of an Endpoint.

    Args:
        models: what is served, by name.
        access: how stages are reached.
    """

    def __init__(self, models: Mapping[str, CatalogEntry], access: StageAccess) -> None:
        self._models = models
        self._access = access

    async def LoadAdapter(
        self, request: adapters_pb2.LoadAdapterRequest, admitted: Admitted
    ) -> adapters_pb2.LoadAdapterResponse:
        """Give an adapter a name, once the model's stages could use it.

        Raises:
            KandinskyError: MODEL_NOT_FOUND; INVALID_FIELD for what the stages cannot use, or a name
                that is taken; what a stage raises.
        """
        entry, folder = self._found(request)
        adapter = from_message(request.adapter, "adapter")
        if adapter.kind not in entry.spec.adapters:
            raise invalid("adapter.kind", f"{entry.spec.title} takes no {adapter.kind}")
        if not is_name(request.name):
            raise invalid("name", NAME_RULE)
        try:
            content = await asyncio.to_thread(pinned, folder, adapter)
        except AdapterError as error:
            raise invalid("adapter.file", str(error)) from error
        message = adapters_pb2.Adapter(name=request.name, pinned=content)
        stages = self._access.stages(entry, admitted.call)
        changes = await stages.check_adapter(message, "adapter.file")
        if not changes:
            raise invalid("adapter.file", "changes nothing of this model")
        try:
            await asyncio.to_thread(folder.put, request.name, adapter)
        except AdapterError as error:
            raise invalid("name", str(error)) from error
        log.info("adapter loaded", name=request.name, file=adapter.file, changes=changes)
        return adapters_pb2.LoadAdapterResponse(changes=changes)

    async def UnloadAdapter(
        self, request: adapters_pb2.UnloadAdapterRequest, admitted: Admitted
    ) -> adapters_pb2.UnloadAdapterResponse:
        """Take a name away.

        Raises:
            KandinskyError: MODEL_NOT_FOUND; INVALID_FIELD for a name that stands for nothing.
        """
        _, folder = self._found(request)
        try:
            await asyncio.to_thread(folder.remove, request.name)
        except AdapterError as error:
            raise invalid("name", str(error)) from error
        log.info("adapter unloaded", name=request.name)
        return adapters_pb2.UnloadAdapterResponse()

    async def ListAdapters(
        self, request: adapters_pb2.ListAdaptersRequest, admitted: Admitted
    ) -> adapters_pb2.ListAdaptersResponse:
        """List a model's adapters.

        Raises:
            KandinskyError: MODEL_NOT_FOUND; INVALID_FIELD for a model without adapters, or whose
                manifest cannot be read.
        """
        _, folder = self._found(request)
        try:
            adapters = await asyncio.to_thread(lambda: folder.adapters)
        except AdapterError as error:
            raise invalid("model", str(error)) from error
        return adapters_pb2.ListAdaptersResponse(
            adapters=[
                adapters_pb2.NamedAdapter(name=name, adapter=to_message(adapters[name]))
                for name in sorted(adapters)
            ]
        )

    def _found(
        self,
        request: adapters_pb2.LoadAdapterRequest
        | adapters_pb2.UnloadAdapterRequest
        | adapters_pb2.ListAdaptersRequest,
    ) -> tuple[CatalogEntry, AdapterFolder]:
        """The model of a request, and the folder of its adapters."""
        Violations(constraints.check(request)).raise_any()
        entry = served_entry(request.model, self._models)
        if entry.adapter_folder is None:
            raise invalid("model", "has no folder of adapters in its catalog entry")
        return entry, entry.adapter_folder
