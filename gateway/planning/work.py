"""What a planned request asks of each sampling stage, in the units of the stages' fair share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.planning.generation_plan import ImagePlan, StageWork
from gateway.requests.validated import ValidatedRequest
from kandinsky.catalog.family import Stage
from kandinsky.v1 import settings_pb2


def work_of(request: ValidatedRequest, images: Sequence[ImagePlan]) -> Mapping[Stage, StageWork]:
    """The work of each stage that samples for a request, in order."""
    found = [_of_prior(request, images), _of_decoder(request, images)]
    return {work.stage: work for work in found if work is not None}


def _of_prior(request: ValidatedRequest, images: Sequence[ImagePlan]) -> StageWork | None:
    settings = request.settings.prior
    # One run of a seed and text is made once, whatever number of images needs it.
    runs = {
        (
            image.seed,
            run.text.text,
            run.negative and run.negative.text,
            id(run.start),
            id(run.latents),
        )
        for image in images
        for run in image.prior_runs
    }
    if settings is None or not runs:
        return None
    share = 1.0 if settings.start is None else settings.start.strength
    return StageWork(
        stage=Stage.PRIOR,
        jobs=len(runs),
        steps=int(settings.steps * share),
        rows=1 + settings.guided,
        latent_area=1,
        kind=(request.entry.application(Stage.PRIOR), settings.guided),
    )


def _of_decoder(request: ValidatedRequest, images: Sequence[ImagePlan]) -> StageWork:
    settings, size = request.settings.decoder, request.settings.decoder.size
    is_latent = request.settings.output.format == settings_pb2.OUTPUT_FORMAT_LATENTS
    from_latents = frozenset(
        tuple(one.size is None for one in image.start.inputs) for image in images
    )
    area, upscaling = size.height * size.width, request.settings.super_resolution
    return StageWork(
        stage=Stage.DECODER,
        jobs=len(images),
        steps=int(settings.steps * request.canvas.strength),
        rows=1 + settings.guided,
        latent_area=area // request.entry.spec.latent_scale**2,
        kind=(
            request.entry.application(Stage.DECODER),
            settings.guided,
            request.flow,
            area,
            is_latent,
            from_latents,
            upscaling and upscaling.steps,
        ),
        further_cost=0 if upscaling is None or is_latent else area * upscaling.steps,
    )
