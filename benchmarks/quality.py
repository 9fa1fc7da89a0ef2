"""What each way to save work costs in quality: images of `shapes` through the engine, judged.

Prompts are the held-out ones of the checkpoint's card, image i from seed i, at 25 steps and
guidance 4 with eight jobs open; embeddings are the prior's, the same for every setting. The time of
UNet and MoVQ is taken around each forward, of the first prompts once more: settings take turns in
small chunks, each in every place of the order, so that a busy machine slows them all.
"""

import asyncio
import json
import sys
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
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size.engine_side import as_uint8, decode_request
from benchmarks.full_size.networks import FULL, scheduler
from benchmarks.full_size.side import Embeds
from benchmarks.machine import machine
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from kandinsky.catalog.presets import PRESETS, Preset
from kandinsky.v1 import sampling_pb2
from services.decoder.families import FAMILIES
from services.decoder.latent_decoder import LatentDecoder
from services.diffusion.split_unet import SplitUNet
from services.engine.batcher import Batcher
from services.engine.events import Finished
from services.engine.job import Job
from services.engine.limits import EngineLimits
from services.engine.phase import SplitNetwork
from services.loading.families import load
from services.loading.runtime_options import RuntimeOptions
from services.samplers.samplers import new_sampler
from services.transport.settings import StageSettings
from training.shapes.classifier import classify
from training.shapes.drawing import SIZE
from training.shapes.evaluate import ATTRIBUTES, BATCH, GUIDANCE, STEPS, generators
from training.shapes.vocabulary import Scene, held_out_prompts

OPEN, CHUNK = 8, 50
TIMED, TIMED_CHUNK = 96, 8
PUBLISHED = 500
"""Prompts behind the table of docs/quality.md."""
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "quality.md"
INTERVALS = ((0.0, 0.6), (0.2, 1.0), (0.3, 1.0))
BOTH = (((0.0, 0.8), 2), ((0.1, 0.9), 2), ((0.1, 0.8), 2), ((0.1, 0.8), 3), ((0.2, 0.8), 3))
SETTINGS: Mapping[str, Preset] = {
    "exact": Preset(),
    **{f"interval {low:g} to {high:g}": Preset((low, high)) for low, high in INTERVALS},
    **{f"cache {each}": Preset(step_cache_interval=each) for each in (2, 3, 5)},
    **{
        f"interval {low:g} to {high:g}, cache {each}": Preset((low, high), each)
        for (low, high), each in BOTH
    },
}
"""What is measured; the presets are of them."""


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
        prompts: with what they show.
        embeds: of the prompts.
        chunk: of them, before another setting's turn.
        settings: by name.
    """

    def __init__(
        self,
        prompts: Sequence[tuple[str, str, Scene]],
        embeds: Embeds,
        chunk: int,
        settings: Mapping[str, Preset],
    ) -> None:
        stage = StageSettings(model="shapes")
        family = load(FAMILIES, stage.entry.family)
        decoder: LatentDecoder = family(stage.loaders(Stage.DECODER), stage.entry)
        self._unet = Timed(decoder.denoiser.network)
        self._decode = decoder.autoencoder._decode = Timed(decoder.autoencoder._decode)
        self._decoder = replace(decoder, denoiser=replace(decoder.denoiser, network=self._unet))
        self._prompts, self._embeds = prompts, embeds
        self.scores = {name: Score() for name in settings}
        self._settings, self._chunk = settings, chunk

    def measure(self) -> Iterator[str]:
        """Takes every setting through each chunk; yields its progress."""
        limits = EngineLimits(max_batch_rows=2 * OPEN, max_batch_latent_area=2 * OPEN * SIZE**2)
        engine = Batcher(limits)
        try:
            for first in range(0, len(self._prompts), self._chunk):
                places = range(first, min(first + self._chunk, len(self._prompts)))
                turn = first // self._chunk % len(self._settings)
                order = list(self._settings.items())
                for name, preset in order[turn:] + order[:turn]:
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
        own = Embeds(self._embeds.positive[seed, None], self._embeds.negative[seed, None])
        request = decode_request(own, GUIDANCE, SIZE, STEPS)
        low, high = preset.guidance_interval
        request.sampling.guidance_interval.CopyFrom(
            sampling_pb2.GuidanceInterval(low=low, high=high)
        )
        request.sampling.step_cache_interval = preset.step_cache_interval
        generator = torch.Generator("cpu").manual_seed(seed)
        job = Job(str(seed), self._decoder.phases(request), generator)
        async for event in engine.run(job):
            if isinstance(event, Finished):
                return Image.fromarray(as_uint8(event.outputs["image"]))
        raise RuntimeError("the engine ended a job without an image")


def embeds_of(prompts: Sequence[str]) -> Embeds:
    """Image embeddings of the prompts, and of nothing."""
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
    return Embeds(*(torch.cat(each) for each in zip(*found, strict=True)))


def rows(scores: Mapping[str, Score], times: Mapping[str, Score]) -> list[dict[str, Any]]:
    """A line a setting: shares that are right, and the UNet's time saved, beside exact.

    Args:
        scores: of the images.
        times: of the forwards.
    """
    unet = times["exact"].seconds["unet"]
    return [
        {
            "setting": name,
            **{each: count / score.images for each, count in score.right.items()},
            "unet_seconds": times[name].seconds["unet"],
            "movq_seconds": times[name].seconds["movq decode"],
            "saved": 1 - times[name].seconds["unet"] / unet,
            "rows_whole": score.rows["unet, whole"],
            "rows_shallow": score.rows["unet, shallow"],
        }
        for name, score in scores.items()
    ]


@cache
def _shallow_share() -> float:
    """Operations of a shallow pass at full size, of a whole one's, at 768 pixels."""
    network = FULL.build("meta")
    unet = SplitUNet(network.unet, RuntimeOptions())
    inputs = network.unet_inputs(1, 768)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            _, deep = unet.keeping(**inputs)
        whole = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            unet.shallow(**inputs, deep=deep)
        return counter.get_total_flops() / whole


def full_size_saved(preset: Preset) -> float:
    """Share of the UNet's operations saved at full size: 50 steps of DDPM."""
    levels = new_sampler(scheduler(), 50).timesteps / 1000
    low, high = preset.guidance_interval
    rows = [2 if low <= level <= high else 1 for level in levels.tolist()]
    cost = 0.0
    for step, count in enumerate(rows):
        is_whole = step % preset.step_cache_interval == 0 or count > rows[step - 1]
        cost += count * (1 if is_whole else _shallow_share())
    return 1 - cost / (2 * len(rows))


def page(content: Mapping[str, Any], settings: Mapping[str, Preset]) -> str:
    """The table of docs/quality.md."""
    names = {preset: name for name, preset in PRESETS.items()}
    lines = [
        "| setting | preset | colour | background | shape | UNet, s | saved | MoVQ, s | "
        "operations saved at full size |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        preset = settings[row["setting"]]
        right = " | ".join(f"{row[name]:.1%}" for name in ATTRIBUTES)
        times = f"{row['unet_seconds']:.1f} | {row['saved']:.0%} | {row['movq_seconds']:.1f}"
        lines.append(
            f"| {row['setting']} | {names.get(preset, '')} | {right} | {times} | "
            f"{full_size_saved(preset):.0%} |"
        )
    return "\n".join(lines) + "\n"


def plot(content: Mapping[str, Any], path: Path) -> None:
    """Images whose shape is right over the UNet's time saved."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for row in content["rows"]:
        axes.scatter(100 * row["saved"], 100 * row["shape"], color="tab:blue")
        axes.annotate(
            row["setting"],
            (100 * row["saved"], 100 * row["shape"]),
            textcoords="offset points",
            xytext=(4, 4),
            fontsize=7,
        )
    axes.set_xlabel("UNet time saved, %")
    axes.set_ylabel("images with the right shape, %")
    axes.margins(x=0.2)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def publish(content: Mapping[str, Any], settings: Mapping[str, Preset]) -> None:
    """Puts table, plot and figures into docs."""
    figures = ROOT / "docs" / "quality.json"
    figures.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    plot(content, ROOT / "docs" / "images" / "quality.png")
    text = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- table: quality -->\n", "<!-- end of table -->\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}{page(content, settings)}{end}{after}", encoding="utf-8")


def main(prompts: int, out: Path) -> None:
    """Measures, prints, and writes JSON; with enough prompts, table and plot go to docs/."""
    torch.set_num_threads(1)
    chosen = held_out_prompts(prompts)
    embeds = embeds_of([prompt for prompt, _, _ in chosen])
    quality = Quality(chosen, embeds, CHUNK, SETTINGS)
    times = Quality(chosen[:TIMED], embeds, TIMED_CHUNK, SETTINGS)
    for progress in (*quality.measure(), *times.measure()):
        print(progress, flush=True)
    found = rows(quality.scores, times.scores)
    content: dict[str, Any] = {
        "prompts": prompts,
        "timed": min(prompts, TIMED),
        "rows": found,
        "settings": {name: asdict(each) for name, each in SETTINGS.items()},
        "machine": asdict(machine()),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for row in found:
        print(
            f"{row['setting']:28s} colour {row['colour']:6.1%} background {row['background']:6.1%} "
            f"shape {row['shape']:6.1%} saved {row['saved']:6.1%} "
            f"UNet {row['unet_seconds']:.1f} s MoVQ {row['movq_seconds']:.1f} s"
        )
    if prompts >= PUBLISHED:
        publish(content, SETTINGS)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PUBLISHED, ROOT / "out" / "quality")
