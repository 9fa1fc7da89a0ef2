"""What each way to save work costs in quality: images of `shapes` through the engine, judged.

Prompts are the held-out ones of the checkpoint's card, image i from seed i, at 25 steps and
guidance 4 with eight jobs open; embeddings are the prior's, the same for every setting. The time of
UNet and MoVQ is taken around each forward; settings take turns, chunk by chunk, so that a busy
machine slows them all.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import KandinskyV22PriorPipeline
from PIL import Image

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from kandinsky.catalog.presets import Preset
from kandinsky.v1 import decoder_pb2, sampling_pb2
from kandinsky.wire import tensors
from services.decoder.families import FAMILIES
from services.decoder.latent_decoder import LatentDecoder
from services.engine.batcher import Batcher
from services.engine.events import Finished
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.phase import SplitNetwork
from services.loading.families import load
from services.transport.settings import StageSettings
from training.shapes.classifier import classify
from training.shapes.drawing import SIZE
from training.shapes.evaluate import ATTRIBUTES, BATCH, GUIDANCE, STEPS, generators
from training.shapes.vocabulary import Scene, held_out_prompts

OPEN, CHUNK = 8, 50
SETTINGS: Mapping[str, Preset] = {
    "exact": Preset(),
    **{
        f"interval {low:g} to {high:g}": Preset((low, high))
        for low, high in ((0.0, 0.6), (0.2, 1.0), (0.3, 1.0))
    },
    **{f"cache {each}": Preset(step_cache_interval=each) for each in (2, 3, 5)},
    **{
        f"interval {low:g} to {high:g}, cache {each}": Preset((low, high), each)
        for low, high in ((0.2, 1.0), (0.3, 1.0), (0.1, 0.8), (0.2, 0.8))
        for each in (2, 3)
    },
}
"""What is measured beside the presets."""


@dataclass
class Score:
    """Of one setting."""

    images: int = 0
    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ATTRIBUTES, 0))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of forwards, by network."""
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """That passed, likewise."""


class Timed(SplitNetwork):
    """A network whose forwards are timed.

    Args:
        network: which.
        score: takes the times; set before each chunk.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self.name = network.name
        self.score = Score()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, *arguments: Any, **named: Any) -> torch.Tensor:
        return self._timed("whole", self._network, *arguments, **named)

    def keeping(self, *arguments: Any, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self._timed("whole", self._network.keeping, *arguments, **named)

    def shallow(self, *arguments: Any, **named: Any) -> torch.Tensor:
        return self._timed("shallow", self._network.shallow, *arguments, **named)

    def _timed(self, kind: str, call: Any, inputs: torch.Tensor, *rest: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        found = call(inputs, *rest, **named)
        self.score.seconds[self.name] += time.perf_counter() - begun
        self.score.rows[f"{self.name}, {kind}"] += len(inputs)
        return found


class Quality:
    """Makes and judges the images of every setting, chunk by chunk.

    Args:
        prompts: how many.
        settings: by name.
    """

    def __init__(self, prompts: int, settings: Mapping[str, Preset]) -> None:
        stage = StageSettings(model="shapes")
        family = load(FAMILIES, stage.entry.family)
        decoder: LatentDecoder = family(stage.loaders(Stage.DECODER), stage.entry)
        self._unet = Timed(decoder.denoiser.network)
        self._decode = decoder.autoencoder._decode = Timed(decoder.autoencoder._decode)
        self._decoder = replace(decoder, denoiser=replace(decoder.denoiser, network=self._unet))
        self._prompts = held_out_prompts(prompts)
        self._embeds = _embeds([prompt for prompt, _, _ in self._prompts])
        self.scores = {name: Score() for name in settings}
        self._settings = settings

    def measure(self) -> Iterator[str]:
        """Takes every setting through each chunk; yields its progress."""
        limits = EngineLimits(max_batch_rows=2 * OPEN, max_batch_latent_area=2 * OPEN * SIZE**2)
        engine = Batcher(limits)
        try:
            for first in range(0, len(self._prompts), CHUNK):
                places = range(first, min(first + CHUNK, len(self._prompts)))
                for name, preset in self._settings.items():
                    self._unet.score = self._decode.score = self.scores[name]
                    images = asyncio.run(self._make(engine, places, preset))
                    for place, image in zip(places, images, strict=True):
                        self._judge(self.scores[name], image, self._prompts[place][2])
                yield f"{places.stop} of {len(self._prompts)} prompts"
        finally:
            engine.close()

    def _judge(self, score: Score, image: Image.Image, scene: Scene) -> None:
        seen = classify(image)
        score.images += 1
        for name in ATTRIBUTES:
            score.right[name] += getattr(seen, name) == getattr(scene, name)

    async def _make(
        self, engine: Batcher, places: Sequence[int], preset: Preset
    ) -> list[Image.Image]:
        room = asyncio.Semaphore(OPEN)

        async def one(place: int) -> Image.Image:
            async with room:
                return await self._image(engine, place, preset)

        return await asyncio.gather(*(one(place) for place in places))

    async def _image(self, engine: Batcher, seed: int, preset: Preset) -> Image.Image:
        request = decoder_pb2.DecodeRequest(output=decoder_pb2.DECODE_OUTPUT_PIXELS)
        embeds, negative = self._embeds
        request.conditioning.image_embed.CopyFrom(tensors.from_torch(embeds[seed]))
        request.conditioning.negative_image_embed.CopyFrom(tensors.from_torch(negative[seed]))
        request.sampling.steps, request.sampling.guidance_scale = STEPS, GUIDANCE
        low, high = preset.guidance_interval
        request.sampling.guidance_interval.CopyFrom(
            sampling_pb2.GuidanceInterval(low=low, high=high)
        )
        request.sampling.step_cache_interval = preset.step_cache_interval
        request.start.noise.SetInParent()
        request.start.height = request.start.width = SIZE
        generator = torch.Generator("cpu").manual_seed(seed)
        job = Job(str(seed), self._decoder.phases(request), generator)
        async for event in engine.run(job):
            if isinstance(event, Finished):
                pixels = event.outputs["image"][0].permute(1, 2, 0)
                return Image.fromarray((pixels * 255).round().to(torch.uint8).numpy())
        raise RuntimeError("the engine ended a job without an image")


@cache
def _embeds_of(prompts: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    folder = Catalog.load()["shapes"].checkpoints(Stage.PRIOR)["weights"].folder
    prior = KandinskyV22PriorPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    prior.set_progress_bar_config(disable=True)
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for at in range(0, len(prompts), BATCH):
        some = list(prompts[at : at + BATCH])
        seeds = range(at, at + len(some))
        made = prior(
            some, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators(seeds)
        )
        found.append((made.image_embeds, made.negative_image_embeds))
    return torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])


def _embeds(prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image embeddings of the prompts, and of nothing; [prompts, D] both."""
    return _embeds_of(tuple(prompts))


def rows(scores: Mapping[str, Score]) -> list[dict[str, Any]]:
    """A line a setting: shares that are right, and the UNet's time saved, beside exact."""
    exact = scores["exact"]
    unet = exact.seconds["unet"]
    return [
        {
            "setting": name,
            **{each: count / score.images for each, count in score.right.items()},
            "unet_seconds": score.seconds["unet"],
            "movq_seconds": score.seconds["movq decode"],
            "saved": 1 - score.seconds["unet"] / unet,
            "rows_whole": score.rows["unet, whole"],
            "rows_shallow": score.rows["unet, shallow"],
        }
        for name, score in scores.items()
    ]


def main(prompts: int, out: Path, names: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes JSON."""
    torch.set_num_threads(1)
    settings = {name: SETTINGS[name] for name in names} if names else SETTINGS
    quality = Quality(prompts, settings)
    for progress in quality.measure():
        print(progress, flush=True)
        out.mkdir(parents=True, exist_ok=True)
        content = {"prompts": prompts, "rows": rows(quality.scores)}
        content["settings"] = {name: asdict(each) for name, each in settings.items()}
        (out / "quality.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for row in rows(quality.scores):
        print(
            f"{row['setting']:28s} colour {row['colour']:6.1%} background {row['background']:6.1%} "
            f"shape {row['shape']:6.1%} saved {row['saved']:6.1%} "
            f"UNet {row['unet_seconds']:.1f} s MoVQ {row['movq_seconds']:.1f} s"
        )
