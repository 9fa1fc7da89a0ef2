"""Models as ListModels answers them: what the family declares, and what the entry overrides."""

from __future__ import annotations

from kandinsky.catalog.adapters import AdapterError
from kandinsky.catalog.entry import CatalogEntry
from kandinsky.catalog.family import SamplerSpec
from kandinsky.v1 import models_pb2

_CONTROL = {
    False: models_pb2.CONTROL_SUPPORT_NONE,
    True: models_pb2.CONTROL_SUPPORT_REQUIRED,
}


def model_message(entry: CatalogEntry) -> models_pb2.Model:
    """A model, and what may be asked of it."""
    return models_pb2.Model(
        name=entry.name,
        description=entry.description,
        family=entry.family,
        guides=[f"GUIDE_KIND_{kind.name}" for kind in entry.has_guides],
        canvases=[f"CANVAS_KIND_{kind.name}" for kind in entry.has_canvases],
        control=_CONTROL[entry.control],
        decoder_reads_text=entry.spec.decoder_reads_text,
        height=entry.size.height,
        width=entry.size.width,
        limits=models_pb2.ModelLimits(
            size_multiple=entry.spec.size_multiple,
            min_size=entry.size.min,
            max_size=entry.size.max,
            max_prompt_characters=entry.limits.max_prompt_characters,
            max_images=entry.limits.max_images,
        ),
        samplers=[_sampler(sampler) for sampler in entry.resolved_samplers],
        adapters=_adapters(entry),
    )


def _adapters(entry: CatalogEntry) -> list[str]:
    """Names of its adapters; none where they cannot be read now."""
    try:
        return [] if entry.adapter_folder is None else sorted(entry.adapter_folder.adapters)
    except AdapterError:
        return []


def _sampler(sampler: SamplerSpec) -> models_pb2.Sampler:
    return models_pb2.Sampler(
        group=sampler.group,
        steps=sampler.steps,
        min_steps=sampler.min_steps,
        max_steps=sampler.max_steps,
        guidance_scale=sampler.guidance_scale,
        strength=sampler.strength,
    )
