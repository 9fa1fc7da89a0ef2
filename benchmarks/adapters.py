"""What it costs that requests have LoRAs of their own: together, and a batch for each LoRA."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import yaml
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict

from benchmarks.report import Report, bars
from benchmarks.setup import Say, Setup
from benchmarks.workload import inpaintings
from kandinsky import Client
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogEntry, FolderCheckpoint, StageCheckpoints
from kandinsky.catalog.family import Stage
from services.local.child import serving

LORAS, IMAGES, STEPS, RANK = 8, 16, 25, 8
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2")
NAME, OTHERWISE = "adapted", "shapes-sd-inpaint"
"""The model that is served, and that it is made of where the setup's takes no adapters."""
Batch = Sequence[tuple[int, str | None]]
"""Indices of images that are asked for at once, each with the name of its LoRA."""


def measure(setup: Setup, say: Say) -> Report:
    """The same images without LoRAs, with eight in company, and with one LoRA after the other."""
    entry = setup.entry if setup.entry.spec.adapters else Catalog.load()[OTHERWISE]
    names = [f"lora-{i}" for i in range(LORAS)]
    mine = [(i, names[i % LORAS]) for i in range(IMAGES)]
    ways: dict[str, list[Batch]] = {
        "no LoRA": [[(i, None) for i in range(IMAGES)]],
        f"{LORAS} LoRAs, together": [mine],
        f"{LORAS} LoRAs, a batch each": [[m for m in mine if m[1] == name] for name in names],
        "one LoRA for all": [[(i, names[0]) for i in range(IMAGES)]],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with TemporaryDirectory() as folder:
        catalog = _write_model(entry, Path(folder), names)
        with (
            serving(NAME, ["--catalog", str(catalog)]) as address,
            Client(address, timeout=600) as client,
            ThreadPoolExecutor(IMAGES) as pool,
        ):
            for number in range(2 if setup.quick else 6):
                for way, batches in ways.items():
                    say(f"round {number}: {way}")
                    taken = _seconds(client, entry, batches, pool)
                    if number:  # the first loads the LoRAs
                        seconds[way].append(taken)
    apart = median(seconds[f"{LORAS} LoRAs, a batch each"])
    rows = [
        {
            "16 images with": way,
            "seconds": median(taken),
            "images/s": IMAGES / median(taken),
            "times a batch each": apart / median(taken),
        }
        for way, taken in seconds.items()
    ]
    return Report(
        title="LoRAs in one batch",
        rows=rows,
        note=(
            f"{IMAGES} requests to inpaint, {entry.size.height} pixels, {STEPS} steps, the "
            f"model {entry.name}, one decoder with one thread. LoRAs of rank {RANK} of all "
            "attention and residual layers, loaded before. A batch each: the requests of one LoRA "
            "at once, then those of the next. Medians over interleaved rounds."
        ),
        plot=bars(rows, "16 images with", "images/s"),
        raw=seconds,
    )


def _seconds(
    client: Client, entry: CatalogEntry, batches: Sequence[Batch], pool: ThreadPoolExecutor
) -> float:
    prompts, images, masks = inpaintings(entry, IMAGES)

    def ask(task: tuple[int, str | None]) -> None:
        index, lora = task
        client.inpaint(
            images[index],
            masks[index],
            prompts[index],
            model=NAME,
            seed=index,
            steps=STEPS,
            height=entry.size.height,
            width=entry.size.width,
            adapters=None if lora is None else [lora],
        )

    begun = time.perf_counter()
    for batch in batches:
        list(pool.map(ask, batch))
    return time.perf_counter() - begun


def _write_model(entry: CatalogEntry, folder: Path, names: Sequence[str]) -> Path:
    """The entry with adapters, as a catalog's only file; returns the catalog."""
    home = entry.stages[Stage.DECODER]
    weights = home.checkpoints["weights"] if isinstance(home, StageCheckpoints) else None
    if not isinstance(weights, FolderCheckpoint):
        raise LookupError(f"{entry.name} is not a folder on this disk")
    unet = UNet2DConditionModel.from_pretrained(weights.folder / "unet")
    unet.add_adapter(LoraConfig(r=RANK, init_lora_weights=False, target_modules=list(LAYERS)))
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
        StableDiffusionInpaintPipeline.save_lora_weights(
            folder,
            {key: 0.02 * torch.randn_like(value) for key, value in layers.items()},
            weight_name=f"{name}.safetensors",
        )
    manifest = {name: {"file": f"{name}.safetensors"} for name in names}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    catalog = folder / "catalog"
    catalog.mkdir()
    declared = entry.model_dump(mode="json", exclude_defaults=True)
    stages = {stage: part["checkpoints"] for stage, part in declared["stages"].items()}
    changed = {"name": NAME, "stages": stages, "adapters": str(folder)}
    (catalog / f"{NAME}.yaml").write_text(yaml.safe_dump({**declared, **changed}))
    return catalog
