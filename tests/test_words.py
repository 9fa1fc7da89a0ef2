"""The vocabulary: names and prose words that were retired stand nowhere.

What replaces each is the value beside it.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KINDS = (".py", ".proto", ".md", ".yaml", ".toml", "Makefile", "Dockerfile")
EXEMPT = ("tests/test_words.py", "examples/fonts/")
MEASURED = re.compile(r"<!-- table: [a-z-]+ -->\n.*?<!-- end of table -->\n", re.DOTALL)
"""Tables of docs/benchmarks.md: made from figures, in the words of the commit they are of."""

IDENTIFIERS: Mapping[str, str] = {
    "Walk": "DenoisingSchedule",
    "News": "ProgressReporter",
    "Turns": "FairShare, ModelOffloader",
    "Trail": "ResumeState",
    "Pace": "StepTimeEstimator",
    "Line": "FairQueue",
    "Places": "InFlightQuota",
    "Repaint": "Inpaint",
    "Picture": "InputImage, ImageTask",
    "Pictures": "ImageCodecPool",
    "Gathering": "Results",
    "MixCondition": "WeightedSource",
    "DecoderCanvas": "InitialLatents",
    "GenerationSettings": "PriorSettings, DecoderSettings, OutputSettings, EventSettings",
    "TextToImageRequest": "GenerateRequest",
    "MixRequest": "GenerateRequest",
    "InterpolateFramesRequest": "GenerateRequest",
    "ImageToImageRequest": "GenerateRequest",
    "InpaintRequest": "GenerateRequest",
    "OutpaintRequest": "GenerateRequest",
    "VariationRequest": "GenerateRequest",
    "ControlRequest": "GenerateRequest",
    "TextGuidedEditRequest": "GenerateRequest",
    "TextToImageUnary": "GenerateImages",
    "max_batch_pixels": "max_batch_latent_area",
    "inpaint_checkpoint": "the role inpaint",
    "decoder_text_checkpoint": "the role decoder_text",
    "checkpoint_every": "snapshot_every",
    "unwanted_since": "abandoned_at",
    "noised": "add_noise",
    "put_picture": "input_image",
    "to_picture": "to_task",
}
WORDS: Mapping[str, str] = {
    "pictures?": "image",
    "anew": "again; generated",
    "told": "reported, named",
    "news": "events, progress",
    "repaint(s|ed|ing)?": "inpaint, generate",
    "shall": "must; the present tense",
    "wants?": "needs, reads; asks for",
}


def sources() -> Iterator[tuple[str, str]]:
    """Path and text of every file that a reader reads."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if name.endswith(KINDS) and not name.startswith(EXEMPT) and (ROOT / name).is_file():
            yield name, MEASURED.sub("", (ROOT / name).read_text(encoding="utf-8"))


def found(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` of everything that matches."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in sources()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_a_retired_name_is_gone(name: str) -> None:
    assert found(re.compile(rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])")) == [], IDENTIFIERS[name]


@pytest.mark.parametrize("word", WORDS)
def test_a_retired_word_is_gone(word: str) -> None:
    """Also as a part of a name: `_given_picture`."""
    pattern = re.compile(rf"(?<![A-Za-z]){word}(?![A-Za-z])", re.IGNORECASE)
    assert found(pattern) == [], WORDS[word]
