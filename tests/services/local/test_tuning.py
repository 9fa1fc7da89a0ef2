"""How networks run is found by measuring, written to a file, and read from it as it was."""

from pathlib import Path

import pytest

from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.family import Stage
from services.engine.calibration import forward_seconds
from services.loading.runtime_options import RuntimeOptions
from services.local import tuning
from services.local.applications import Applications
from services.local.tuning import Tuning, TuningError, candidates, fastest

DEFAULT, COMPILED = RuntimeOptions(), RuntimeOptions(compile=True)
LAID_OUT = RuntimeOptions(compile=True, channels_last=True)
FOUND = {"shapes": {Stage.DECODER: LAID_OUT, Stage.PRIOR: DEFAULT}}


def test_the_fastest_over_all_row_counts_is_taken() -> None:
    times = [
        (DEFAULT, {2: 1.0, 32: 10.0}),
        (COMPILED, {2: 0.5, 32: 10.5}),  # 0.5 and 1.05 of the default's
        (LAID_OUT, {2: 0.9, 32: 8.0}),  # 0.9 and 0.8
    ]
    assert fastest(times) == COMPILED
    assert fastest([times[0], times[2]]) == LAID_OUT


def test_what_is_hardly_faster_does_not_replace_the_default() -> None:
    assert fastest([(DEFAULT, {2: 1.0}), (COMPILED, {2: 0.98})]) == DEFAULT
    assert fastest([(DEFAULT, {2: 1.0}), (COMPILED, {2: 1.5})]) == DEFAULT


def test_every_stage_is_tried_with_what_it_can() -> None:
    assert candidates(Stage.PRIOR, cuda=False) == [DEFAULT, COMPILED]
    assert len(candidates(Stage.DECODER, cuda=False)) == 4
    assert any(each.cuda_graphs for each in candidates(Stage.PRIOR, cuda=True))
    assert candidates(Stage.DECODER, cuda=True)[0] == DEFAULT


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    Tuning(device=tuning.device_name(), models=FOUND).write(path)
    assert Tuning.read(path).arguments() == {
        "shapes": {Stage.DECODER: {"compile": True, "channels_last": True}, Stage.PRIOR: {}}
    }
    assert "cuda_graphs" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("a: [", "cannot be read"),
        ("device: cpu", "models: Field required"),
        ("device: cpu\nmodels: {m: {decoder: {fast: true}}}", "models.m.decoder.fast"),
        ("device: cpu\nmodels: {m: {nowhere: {}}}", "models.m.nowhere"),
        ("device: Abacus\nmodels: {}", "is of Abacus, and this is"),
    ],
)
def test_what_is_no_such_file_is_one_sentence(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "runtime.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(TuningError, match=r"runtime\.yaml") as error:
        Tuning.read(path)
    assert said in str(error.value)


def test_a_stage_starts_with_what_was_found_for_its_model() -> None:
    entry = Catalog.load()["shapes"]
    found = Tuning(device="cpu", models=FOUND).arguments()
    config = Applications([entry], [], {}, 1, {}, runtime=found).config()
    runtime = {one["name"]: one["args"]["runtime"] for one in config}
    assert runtime == {
        "shapes-encoders": {},
        "shapes-prior": {},
        "shapes-decoder": {"compile": True, "channels_last": True},
    }


def test_each_way_is_measured_on_the_models_own_networks(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_measured = []

    def measured_seconds(phase, rows):
        rows_measured.append(list(rows))
        return {count: 1.0 / len(rows_measured) for count in forward_seconds(phase, rows)}

    monkeypatch.setattr(tuning, "forward_seconds", measured_seconds)
    monkeypatch.setattr(
        tuning, "candidates", lambda stage, cuda: [DEFAULT, RuntimeOptions(row_buckets=(4, 32))]
    )
    seen = []
    found = tuning.tune("tiny", [tiny_checkpoint], 1, lambda *each: seen.append(each))
    assert found[Stage.PRIOR] == found[Stage.DECODER] == RuntimeOptions(row_buckets=(4, 32))
    assert [(stage, sorted(times)) for stage, _, times in seen] == [
        (stage, list(tuning.ROWS)) for stage in (Stage.PRIOR, Stage.DECODER) for _ in range(2)
    ]
