"""Which models exist: what a catalog file may say, and the sentence when it may not."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kandinsky.catalog.catalog import BUILT_IN, Catalog, read_entry
from kandinsky.catalog.entry import (
    CatalogEntry,
    CatalogError,
    FolderCheckpoint,
    HubCheckpoint,
    SharedStage,
)
from kandinsky.catalog.family import CanvasKind, GuideKind, Stage


def an_entry(**changes) -> dict:
    return {
        "name": "toy",
        "description": "A toy.",
        "family": "kandinsky-2-2",
        "stages": {
            "encoders": {"weights": {"folder": "weights/prior"}},
            "prior": {"weights": {"folder": "weights/prior"}},
            "decoder": {
                "weights": {"hub": "someone/toy", "revision": "main"},
                "inpaint": {"folder": "/weights/inpaint"},
            },
        },
        "size": {"height": 64, "width": 128, "min": 64, "max": 128},
        "samplers": {"decoder": {"steps": 5}},
        **changes,
    }


def written(folder: Path, entry: object, name: str = "toy.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(entry if isinstance(entry, str) else yaml.safe_dump(entry), encoding="utf-8")
    return path


def complaint(action, *parts: str) -> str:
    """The message of the CatalogError of `action`: one line, in which all of `parts` stand."""
    with pytest.raises(CatalogError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    for part in parts:
        assert part in message
    return message


def test_built_in_entries_load():
    catalog = Catalog.load()
    assert catalog.names == sorted(path.stem for path in BUILT_IN.glob("*.yaml"))
    assert {"shapes", "kandinsky-2-1", "kandinsky-2-2"} <= set(catalog.names)
    for name in catalog.names:
        entry = catalog[name]
        assert name in catalog
        assert entry.name == name
        assert entry.description.endswith(".")
        assert GuideKind.TEXT in entry.has_guides
        assert {CanvasKind.NOISE, CanvasKind.INPAINT} & {*entry.has_canvases}


def test_built_in_checkpoints_are_pinned_or_in_the_repository():
    for name in Catalog.load().names:
        entry = Catalog.load()[name]
        for home in entry.stages.values():
            if isinstance(home, SharedStage):
                continue
            for checkpoint in home.checkpoints.values():
                if isinstance(checkpoint, FolderCheckpoint):
                    assert BUILT_IN.parents[1] / "checkpoints" in checkpoint.folder.parents


def test_an_entry_reads_as_it_was_written(tmp_path):
    entry = read_entry(written(tmp_path, an_entry(dtype="bfloat16", device="cuda:1")))
    assert (entry.name, entry.dtype, entry.device) == ("toy", "bfloat16", "cuda:1")
    assert (entry.size.height, entry.size.width) == (64, 128)
    hub = entry.checkpoints(Stage.DECODER)["weights"]
    assert hub == HubCheckpoint(hub="someone/toy", revision="main")


def test_what_an_entry_leaves_out_is_its_family_s(tmp_path):
    entry = read_entry(written(tmp_path, an_entry()))
    assert (entry.has_guides, entry.has_canvases) == (entry.spec.guides, entry.spec.canvases)
    assert entry.sampler("prior") == entry.spec.sampler("prior")
    decoder, declared = entry.sampler("decoder"), entry.spec.sampler("decoder")
    assert (decoder.steps, decoder.guidance_scale) == (5, declared.guidance_scale)
    assert [each.group for each in entry.resolved_samplers] == ["prior", "decoder"]
    assert entry.sampler("super_resolution") is None


def test_a_model_overrides_its_samplers(tmp_path):
    numbers = {"steps": 7, "max_steps": 50, "guidance_scale": 2.5, "strength": 0.5}
    entry = read_entry(written(tmp_path, an_entry(samplers={"prior": numbers})))
    prior = entry.sampler("prior")
    assert {name: getattr(prior, name) for name in numbers} == numbers
    assert prior.min_steps == entry.spec.sampler("prior").min_steps


def test_a_model_may_have_some_of_its_family_s_guides_and_canvases(tmp_path):
    entry = read_entry(written(tmp_path, an_entry(guides=["mix"], canvases=["noise", "image"])))
    assert entry.has_guides == (GuideKind.MIX,)
    assert entry.has_canvases == (CanvasKind.NOISE, CanvasKind.IMAGE)


def test_the_entry_of_the_documentation_is_valid(tmp_path):
    page = (BUILT_IN.parents[1] / "docs/adding-a-model.md").read_text(encoding="utf-8")
    [complete, *_] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    entry = read_entry(written(tmp_path, complete))
    assert entry.model_fields_set == {*CatalogEntry.model_fields}
    rows = re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)
    assert rows[: len(CatalogEntry.model_fields)] == [*CatalogEntry.model_fields]
    for stage, role in re.findall(r"^\| `stages\.(\w+)\.(\w+)` \|", page, re.MULTILINE):
        assert role in {each.name for each in entry.spec.stage_roles(Stage(stage))}


def test_a_model_without_the_checkpoint_of_a_canvas_does_not_have_it(tmp_path):
    entry = an_entry()
    del entry["stages"]["decoder"]["inpaint"]
    found = read_entry(written(tmp_path, entry))
    assert found.has_canvases == (CanvasKind.NOISE, CanvasKind.IMAGE)


def test_an_entry_cannot_be_changed(tmp_path):
    entry = read_entry(written(tmp_path, an_entry()))
    for target, name in (
        (entry, "name"),
        (entry.limits, "max_images"),
        (entry.size, "height"),
        (entry.samplers["decoder"], "steps"),
    ):
        with pytest.raises(ValueError, match="frozen"):
            setattr(target, name, getattr(target, name))


def test_relative_checkpoints_are_taken_from_the_file_s_own_folder(tmp_path, monkeypatch):
    path = written(tmp_path / "models", an_entry())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    entry = read_entry(path)
    folder = (tmp_path / "models/weights/prior").resolve()
    assert entry.checkpoints(Stage.ENCODERS)["weights"] == FolderCheckpoint(folder=folder)
    absolute = entry.checkpoints(Stage.DECODER)["inpaint"]
    assert absolute == FolderCheckpoint(folder=Path("/weights/inpaint"))


def test_a_relative_catalog_folder_gives_absolute_checkpoints(tmp_path, monkeypatch):
    written(tmp_path / "models", an_entry())
    monkeypatch.chdir(tmp_path)
    home = Catalog.load([Path("models")])["toy"].checkpoints(Stage.ENCODERS)
    assert home["weights"].folder == (tmp_path / "models/weights/prior").resolve()


def test_a_checkpoint_keeps_the_variant_of_its_weights(tmp_path):
    path = written(tmp_path, _with("stages.encoders.weights.variant", "fp16"))
    weights = read_entry(path).checkpoints(Stage.ENCODERS)["weights"]
    assert (weights.variant, weights.folder.is_absolute()) == ("fp16", True)
    path = written(tmp_path, _with("stages.decoder.weights.variant", "fp16"))
    hub = read_entry(path).checkpoints(Stage.DECODER)["weights"]
    assert hub == HubCheckpoint(hub="someone/toy", revision="main", variant="fp16")


def _with(path: str, value: object) -> dict:
    """A good entry in which the key at a dotted path has another value."""
    entry = an_entry()
    *parents, key = path.split(".")
    part = entry
    for parent in parents:
        part = part.setdefault(parent, {})
    part[key] = value
    return entry


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("colour", "red"),
        ("limits.max_sise", 3),
        ("size.depth", 3),
        ("samplers.decoder.seed", 1),
        ("stages.decoder.replicas", 2),
        ("stages.decoder.weights.token", "x"),
        ("stages.encoders.weights.revision", "main"),
        ("stages.encoders.weights.variant", "../fp16"),
        ("stages.denoiser", {"model": "shapes"}),
        ("stages.prior", {"model": "shapes", "weights": {"folder": "x"}}),
        ("name", "Toy"),
        ("name", "toy_1"),
        ("name", ""),
        ("name", None),
        ("family", 3),
        ("family", "toys"),
        ("dtype", "int8"),
        ("guides", ["video"]),
        ("guides", ["text_and_image"]),
        ("guides", []),
        ("canvases", ["video"]),
        ("canvases", []),
        ("control", "maybe"),
        ("samplers.decoder.steps", 0),
        ("samplers.prior.steps", 1),
        ("samplers.prior.max_steps", 999),
        ("samplers.super_resolution", {"steps": 7}),
        ("size.height", "tall"),
        ("size.min", 0),
        ("description", None),
        ("samplers.decoder.guidance_scale", -1.0),
        ("samplers.decoder.guidance_scale", 100.5),
        ("samplers.decoder.guidance_scale", float("nan")),
        ("samplers.prior.guidance_scale", float("inf")),
        ("samplers.decoder.strength", 0),
        ("samplers.decoder.strength", 1.5),
        ("limits.max_images", 0),
        ("limits.max_images", 129),
        ("limits.max_prompt_characters", 0),
    ],
)
def test_a_bad_key_is_refused_by_file_and_key(tmp_path, key, value):
    path = written(tmp_path, _with(key, value))
    message = complaint(lambda: read_entry(path))
    assert re.match(rf"{path}: {key}[.: ]", message)


@pytest.mark.parametrize("key", ["name", "description", "family", "stages", "size"])
def test_a_missing_key_is_refused_by_file_and_key(tmp_path, key):
    entry = an_entry()
    del entry[key]
    path = written(tmp_path, entry)
    complaint(lambda: read_entry(path), str(path), f": {key}: ")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("size.height", 100, "size.height: 100 is not a multiple of 64"),
        ("size.width", 192, "size.width: 192 is outside 64 to 128"),
        ("size.min", 128, "size.height: 64 is outside 128 to 128"),
        (
            "samplers.decoder.steps",
            1001,
            "samplers.decoder.steps: 1001 default steps are outside 1 to 998",
        ),
        (
            "samplers.decoder.max_steps",
            4,
            "samplers.decoder.steps: 5 default steps are outside 1 to 4",
        ),
        ("family", "toys", "unknown family 'toys'; there are kandinsky-2-1, kandinsky-2-2"),
        (
            "stages",
            {"encoders": {"model": "shapes"}},
            "stages: Kandinsky 2.2 needs the stage prior",
        ),
        ("stages.decoder", {}, "stages.decoder: the role weights is required"),
        (
            "stages.encoders.decoder_text",
            {"folder": "x"},
            "stages.encoders.decoder_text: unknown role; use weights",
        ),
        ("samplers.upscaler", {}, "Kandinsky 2.2 has no such sampler; use prior, decoder"),
        ("guides", ["text_and_image"], "guides: Kandinsky 2.2 has no text_and_image; use text,"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(tmp_path, key, value, said):
    path = written(tmp_path, _with(key, value))
    complaint(lambda: read_entry(path), str(path), said)


def test_control_needs_a_family_that_reads_a_hint(tmp_path):
    assert read_entry(written(tmp_path, an_entry(control=True))).control
    other = an_entry(family="kandinsky-2-1", control=True)
    other["stages"]["encoders"] = {"model": "shapes"}
    path = written(tmp_path, other)
    complaint(lambda: read_entry(path), f"{path}: control: Kandinsky 2.1 follows no control hint")


@pytest.mark.parametrize(
    "text",
    ["name: [", "a: b: c", "\tname: toy", "name: !!python/object:os.system x", "a: 1\n---\nb: 2"],
)
def test_broken_yaml_is_refused_in_one_line(tmp_path, text):
    path = written(tmp_path, text)
    complaint(lambda: read_entry(path), str(path), "cannot be read as YAML")


@pytest.mark.parametrize("text", ["", "3", "- name", "just words", "null"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, text):
    path = written(tmp_path, text)
    complaint(lambda: read_entry(path), str(path), "must hold one mapping")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    complaint(lambda: read_entry(path), str(path))


def test_a_missing_file_is_refused(tmp_path):
    complaint(lambda: read_entry(tmp_path / "no.yaml"), str(tmp_path / "no.yaml"))


def test_a_missing_folder_is_refused(tmp_path):
    complaint(lambda: Catalog.load([tmp_path / "no"]), str(tmp_path / "no"), "does not exist")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    path = written(tmp_path, an_entry())
    complaint(lambda: Catalog.load([path]), str(path))


def test_a_model_that_is_not_there_is_named_beside_those_that_are():
    catalog = Catalog.load()
    assert "no-such" not in catalog
    complaint(lambda: catalog["no-such"], "'no-such'", *catalog.names)


def test_later_folders_replace_earlier_ones_by_name(tmp_path):
    written(tmp_path / "one", an_entry(name="shapes", description="One."), "any.yaml")
    written(tmp_path / "two", an_entry(name="shapes", description="Two."), "other.yaml")
    one, two = tmp_path / "one", tmp_path / "two"
    assert Catalog.load([one])["shapes"].description == "One."
    assert Catalog.load([one, two])["shapes"].description == "Two."
    assert Catalog.load([two, one])["shapes"].description == "One."
    assert Catalog.load([one, two]).names == Catalog.load().names


def test_other_files_in_a_folder_are_left_alone(tmp_path):
    written(tmp_path, an_entry())
    (tmp_path / "notes.txt").write_text("no: [yaml")
    assert "toy" in Catalog.load([tmp_path])


def test_a_shared_stage_runs_at_its_owner(tmp_path):
    shared = an_entry(name="second")
    shared["stages"]["encoders"] = {"model": "toy"}
    other = an_entry(name="third")
    other["stages"]["prior"] = {"model": "toy"}
    written(tmp_path, an_entry(), "toy.yaml")
    written(tmp_path, shared, "second.yaml")
    written(tmp_path, other, "third.yaml")
    catalog = Catalog.load([tmp_path])
    toy, second, third = catalog["toy"], catalog["second"], catalog["third"]
    assert second.stages[Stage.ENCODERS] == SharedStage(model="toy")
    assert second.application(Stage.ENCODERS) == toy.application(Stage.ENCODERS) == "toy-encoders"
    assert second.application(Stage.DECODER) == "second-decoder"
    complaint(lambda: second.checkpoints(Stage.ENCODERS), "second", "encoders")
    complaint(lambda: third.checkpoints(Stage.PRIOR), "third", "prior")


def test_the_owner_of_a_shared_stage_may_be_in_a_later_folder(tmp_path):
    shared = an_entry(name="second")
    shared["stages"]["encoders"] = {"model": "toy"}
    written(tmp_path / "one", shared)
    written(tmp_path / "two", an_entry())
    assert "second" in Catalog.load([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize(
    ("stage", "owner"),
    [("encoders", "nobody"), ("prior", "third"), ("encoders", "second"), ("encoders", "third")],
    ids=["no such model", "a sharer's prior", "itself", "a sharer"],
)
def test_a_shared_stage_that_nobody_runs_is_refused(tmp_path, stage, owner):
    second, third = an_entry(name="second"), an_entry(name="third")
    second["stages"][stage] = {"model": owner}
    third["stages"]["encoders"] = third["stages"]["prior"] = {"model": "toy"}
    for entry in (an_entry(), second, third):
        written(tmp_path, entry, f"{entry['name']}.yaml")
    complaint(lambda: Catalog.load([tmp_path])["second"], "second", stage, repr(owner))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*an_entry(), "prior", "x", 1]), inner, max_size=8)
        ),
    )
)
def test_any_yaml_is_an_entry_or_a_sentence(tmp_path_factory, content):
    path = written(tmp_path_factory.getbasetemp() / "any", content, "any.yaml")
    try:
        assert isinstance(read_entry(path), CatalogEntry)
    except CatalogError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
