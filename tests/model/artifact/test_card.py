"""The card says what the manifest says, in Markdown that holds together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from features.times import MS_PER_DAY
from model.artifact.artifact import save
from model.artifact.card import card
from model.artifact.manifest import Manifest
from model.data.attributes import Column
from model.data.fingerprint import data_of
from model.evaluate.holdout import as_json, evaluate
from tests.support import modelling


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    day = modelling.cutoff_day()
    fields = msgspec.structs.replace(
        modelling.fields(),
        metrics=as_json(evaluate(modelling.orders(), modelling.model(), day, 60)),
        data=data_of(o for o in modelling.orders() if o.ts_ms < day * MS_PER_DAY),
        cleaning={"rows": 12_345, "set_aside": {"bad_ts": 2}},
    )
    return save(tmp_path_factory.mktemp("card") / "model", modelling.model(), fields)


def test_attributes_and_what_cleaning_counted_are_told_in_words(manifest: Manifest) -> None:
    assert "from a customer's orders alone" in card(manifest)
    column = Column("channel", ("web",))
    names = (*manifest.feature_names, column.feature)
    cleaning = {"outlier_from": 492.96538, "outlier_share": 0.076, "outliers_dropped": False}
    fields = {"attributes": (column,), "feature_names": names, "cleaning": cleaning}
    text = card(msgspec.structs.replace(manifest, **fields))
    assert f"| sees | {len(manifest.feature_names)} features" in text
    assert "and what else is known of them: channel" in text
    for line in ("| outlier from | 492.97 |", "| outlier share | 7.6% |", "| dropped | no |"):
        assert line.removeprefix("| ") in text


def _tables(text: str) -> list[list[str]]:
    """The lines of each table."""
    blocks = (block.splitlines() for block in text.split("\n\n"))
    return [block for block in blocks if block[0].startswith("|")]


def test_texts_of_the_manifest_are_no_markup(manifest: Manifest) -> None:
    evil = "<script>alert(1)</script>|![x](http://evil.example/)\n# Trust me\x1b[2J"
    column = Column(evil, (evil,))
    changed = msgspec.structs.replace(
        manifest,
        model_version=evil,
        kind=evil,
        trained_from=evil,
        libraries={evil: evil},
        attributes=(column,),
        feature_names=(*manifest.feature_names, column.feature),
        cleaning={evil: {evil: 1}},
        search={"chosen": evil, "trials": [{evil: evil}]},
    )
    text = card(changed)
    assert "alert(1)" in text
    for markup in ("<script", "![x]", "\n# Trust", "\x1b"):
        assert markup not in text
    plain = card(manifest).splitlines()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == len([line for line in plain if line.startswith("#")]) + 1


def test_it_stands_beside_the_model(tmp_path: Path) -> None:
    made = save(tmp_path / "model", modelling.model(), modelling.fields())
    assert (tmp_path / "model" / "MODEL_CARD.md").read_text() == card(made)


def test_it_has_what_a_reader_needs_to_trust_it(manifest: Manifest) -> None:
    text = card(manifest)
    assert text.startswith(f"# Model {manifest.model_version}\n")
    assert manifest.data is not None
    for fact in (
        manifest.sha256,
        manifest.data.hash,
        f"{manifest.data.orders:,}",
        manifest.cutoff,
        "next 60 days in USD",
        "BG/NBD + GG",
        "same again",
        "**Level",
        "ROC AUC",
        "| set aside: bad ts | 2 |",
        "| rows | 12,345 |",
        "holds numbers and runs nothing",
    ):
        assert fact in text, fact
    calibration = next(table for table in _tables(text) if table[0].startswith("| tenth"))
    assert len(calibration) == 12


def test_every_table_is_a_rectangle_and_prose_fits(manifest: Manifest) -> None:
    for table in _tables(card(manifest)):
        assert len({line.count("|") for line in table}) == 1
    lines = [line for line in card(manifest).splitlines() if not line.startswith("|")]
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (1.02, "**Level.** The sum of all predictions was 1.02 of what came."),
        (0.61, "**Level: off by 39%.** It predicted too little: 0.61 of what came."),
        (1.4, "**Level: off by 40%.** It predicted too much: 1.40 of what came."),
        (None, "the level is not known"),
    ],
)
def test_a_level_that_is_off_is_said_in_bold(
    manifest: Manifest, bias: float | None, message: str
) -> None:
    metrics = msgspec.to_builtins(manifest.metrics)
    metrics["clv"]["model"]["bias"] = bias
    assert message in card(msgspec.structs.replace(manifest, metrics=metrics))


def test_reports_at_other_cutoffs_have_a_table(manifest: Manifest) -> None:
    text = card(msgspec.structs.replace(manifest, cutoffs=[manifest.metrics, manifest.metrics]))
    (table,) = [table for table in _tables(text) if table[0].startswith("| cutoff")]
    assert len(table) == 2 + 2 * len(manifest.metrics["clv"])


@pytest.mark.parametrize("metrics", [{}, {"clv": {}}, {"of": "a later version"}])
def test_a_model_without_a_report_says_so(manifest: Manifest, metrics: dict[str, object]) -> None:
    bare = msgspec.structs.replace(manifest, metrics=metrics, data=None, cleaning={}, search={})
    text = card(bare)
    assert "Not known: the orders end less than 60 days after the cutoff" in text
    assert "None" not in text


def test_a_search_is_told_with_its_first_trials(manifest: Manifest) -> None:
    search = {"criterion": "mae", "trials": [{"kind": "mlp", "score": 0.987654, "folds": []}] * 9}
    text = card(msgspec.structs.replace(manifest, search=search))
    assert "| criterion | mae |" in text
    assert "The first of 9 trials" in text
    assert text.count("| mlp | 0.9877 |") == 5
