"""Customer attributes: read with errors that say where, filled in, encoded, and in every score."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from features.columns.vector import FEATURE_NAMES, vectors
from features.times import MS_PER_DAY
from model.artifact.artifact import load, save, version_of
from model.artifact.signature import Trust
from model.commands.cli import cli
from model.commands.monitor import ALARM
from model.data.attributes import (
    Attributes,
    AttributesError,
    Column,
    attributes_for,
    read_attributes,
)
from model.data.synthetic import write_csv
from model.data.training_rows import population, snapshots, training_set
from model.decide.policy import Policy
from model.estimators.clv import ClvModel, FeatureError
from model.estimators.kinds import fit
from model.explain.shapley import explain
from model.monitor.weekly import rate_of
from model.shadow.process import ShadowTask, judge_of
from streamer.assemble import pipeline_of
from streamer.replay.order_log import OrderLog
from streamer.settings import Settings
from tests.support import modelling
from tests.support.fakes import done, pipeline, records
from tests.support.shadowing import agreement_of, followed

_QUICK = {"boosting": {"max_iter": 8, "max_leaf_nodes": 4}, "mlp": {"epochs": 3, "width": 8}}


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@cache
def _spend() -> dict[str, int]:
    """What everybody spent over the whole log: what an attribute can tell of."""
    spend: dict[str, int] = {}
    for order in modelling.orders():
        spend[order.user_id] = spend.get(order.user_id, 0) + order.amount_minor
    return spend


@cache
def _text() -> str:
    """An attribute that says much (club), two that say nothing, some values and users missing."""
    rich = float(np.median(list(_spend().values())))
    lines = ["user_id,club,age,channel"]
    for number, (user, spent) in enumerate(sorted(_spend().items())):
        if number % 7:
            club = "" if number % 11 == 0 else "gold" if spent > rich else "none at all"
            age = "" if number % 5 == 0 else str(20 + number % 50)
            lines.append(f"{user},{club},{age},{'web' if number % 2 else 'shop'}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def table(tmp_path: Path) -> Attributes:
    return read_attributes(_written(tmp_path / "attributes.csv", _text()))


def _model(table: Attributes, kind: str = "blend") -> ClvModel:
    config = replace(modelling.CONFIG, attributes=table, kind=kind, options=_QUICK.get(kind, {}))
    rows = training_set(modelling.orders(), config, modelling.cutoff_day())
    return fit(rows, config, population(modelling.orders(), modelling.cutoff_day(), table))


# --- the file ---


def test_numbers_texts_and_what_is_missing(tmp_path: Path) -> None:
    text = "\ufeffage,user_id,gender\n34,ann,f\n,bob,m\nNA,cid,\n-1.5,dan,f\n"
    table = read_attributes(_written(tmp_path / "a.csv", text))
    assert table.columns == (Column("age"), Column("gender", ("f", "m")))
    found = table.rows(["dan", "ann", "bob", "cid", "nobody"])
    np.testing.assert_array_equal(
        found, [[-1.5, 0], [34, 0], [math.nan, 1], [math.nan] * 2, [math.nan] * 2]
    )


def test_a_text_that_training_never_saw_has_a_code_of_its_own(tmp_path: Path) -> None:
    known = (Column("gender", ("f", "m")),)
    table = read_attributes(_written(tmp_path / "a.csv", "user_id,age,gender\na,1,x\n"), known)
    assert table.rows(["a"]).tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["are empty", "user_id"]),
        ("id,age\n", ["line 1", "no column user_id", "id, age"]),
        ("user_id\nann\n", ["line 1", "nothing but user_id"]),
        ("user_id,age,age\n", ["line 1", "'age' is there twice"]),
        ("user_id,\n", ["line 1", "without a name"]),
        ("user_id,age\nann,1\nbob\n", ["line 3", "1 fields where the header has 2"]),
        ("user_id,age\nann,1\n,2\n", ["line 3, column user_id", "is empty; name one"]),
        (
            "user_id,age\nann,1\nann,2\n",
            ["line 3, column user_id", "'ann' is on line 2", "keep one"],
        ),
        ("user_id,age\nann,1\nbob,2\ncid,old\n", ["line 4, column age", "'old'", "leave it empty"]),
        ("user_id,age\nann,1\nbob,inf\n", ["line 3, column age", "'inf'"]),
        ('user_id,age\n"ann,1\n', ["no CSV", "unclosed quote"]),
    ],
)
def test_a_fault_is_named_with_line_column_value_and_remedy(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(AttributesError) as raised:
        read_attributes(_written(tmp_path / "a.csv", text))
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_files_that_are_not_there_or_not_text_and_names_in_disguise(tmp_path: Path) -> None:
    with pytest.raises(AttributesError, match="No such file"):
        read_attributes(tmp_path / "no.csv")
    (tmp_path / "latin.csv").write_bytes("user_id,name\nann,Zoë\n".encode("latin-1"))
    with pytest.raises(AttributesError, match="not UTF-8 at byte"):
        read_attributes(tmp_path / "latin.csv")
    many = "".join(f"u{i},street {i}\n" for i in range(60))
    with pytest.raises(AttributesError, match=r"column where: 60 different texts.* drop the col"):
        read_attributes(_written(tmp_path / "many.csv", f"user_id,where\n{many}"))


def test_what_the_model_knows_has_to_be_there(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.csv", "user_id,age\nann,1\n")
    with pytest.raises(AttributesError, match="no column gender, which the model was trained with"):
        attributes_for([Column("gender", ("f",))], path)
    with pytest.raises(AttributesError, match=r"\(gender\).*set CLV_ATTRIBUTES"):
        attributes_for([Column("gender", ("f",))], None)
    assert attributes_for([], None) is None
    assert attributes_for([], tmp_path / "no.csv") is None


# --- in a model ---


@pytest.mark.parametrize("kind", ["blend", "linear", "boosting", "mlp"])
def test_an_attribute_that_tells_much_moves_the_clv_and_survives_saving(
    table: Attributes, tmp_path: Path, kind: str
) -> None:
    model = _model(table, kind)
    assert model.feature_names[len(FEATURE_NAMES) :] == (
        "attribute_club", "attribute_age", "attribute_channel"
    )  # fmt: skip
    X = table.beside(modelling.known(), None)
    gold, plain = X.copy(), X.copy()
    gold[:, len(FEATURE_NAMES)] = 0.0
    plain[:, len(FEATURE_NAMES)] = 1.0
    assert model.clv(gold).sum() > 1.1 * model.clv(plain).sum()
    save(tmp_path / "m", model, _fields(table))
    again = load(tmp_path / "m", Trust(pickles=True))
    assert again.manifest.attributes == table.columns
    assert again.model.clv(gold).tobytes() == model.clv(gold).tobytes()
    assert version_of(again.model) == again.manifest.model_version


def _fields(table: Attributes) -> Any:
    """The fields of a manifest whose canaries know attributes, or miss some."""
    import msgspec

    users = sorted(table.places)
    X = table.beside(modelling.known()[:5], users[:5])
    return msgspec.structs.replace(
        modelling.fields(), canary_features=X.tolist(), typical=X[0].tolist()
    )


def test_missing_and_unseen_values_are_scored(table: Attributes) -> None:
    model = _model(table)
    X = table.beside(modelling.known(), None)
    assert np.isfinite(model.clv(X)).all()
    assert model.clv(modelling.known()).tolist() == model.clv(X).tolist()
    X[:, len(FEATURE_NAMES) :] = [3.0, 1e12, 3.0]
    assert np.isfinite(model.clv(X)).all()
    X[0, -1] = np.inf
    with pytest.raises(FeatureError, match="attribute_channel is not finite"):
        model.clv(X)


def test_a_stream_feature_may_not_be_missing(table: Attributes) -> None:
    X = table.beside(modelling.known()[:2], None)
    X[1, 3] = np.nan
    with pytest.raises(FeatureError, match=FEATURE_NAMES[3]):
        _model(table).clv(X)


def test_a_row_with_attributes_scores_the_same_in_any_batch(table: Attributes) -> None:
    model = _model(table)
    users = [user for user, _ in zip(_spend(), modelling.known(), strict=False)]
    X = table.beside(modelling.known()[: len(users)], users)
    for score in (model.clv, model.churn):
        parts = [score(X[at : at + 7]) for at in range(0, len(X), 7)]
        assert np.concatenate(parts).tobytes() == score(X).tobytes()


def test_columns_that_are_empty_or_all_the_same_are_borne(tmp_path: Path) -> None:
    users = "".join(f"{user},,7,x\n" for user in _spend())
    path = _written(tmp_path / "a.csv", f"user_id,empty,same,word\n{users}")
    for kind in ("blend", "boosting", "linear"):
        model = _model(read_attributes(path), kind)
        assert np.isfinite(model.clv(modelling.known())).all()


def test_rows_have_the_attributes_of_their_own_users(table: Attributes) -> None:
    config = replace(modelling.CONFIG, attributes=table)
    rows = training_set(modelling.orders(), config, modelling.cutoff_day())
    day = int(rows.day[-1])
    (snapshot,) = snapshots(modelling.orders(), [day], 60)
    own = rows.X[rows.day == day][:, len(FEATURE_NAMES) :]
    np.testing.assert_array_equal(own, table.rows(snapshot.users))
    plain = training_set(modelling.orders(), modelling.CONFIG, modelling.cutoff_day())
    assert rows.X[:, : len(FEATURE_NAMES)].tobytes() == plain.X.tobytes()


# --- from end to end ---


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an order log, attributes, and a model trained on both."""
    folder = tmp_path_factory.mktemp("shop")
    write_csv(modelling.orders(), folder / "orders.csv")
    _written(folder / "attributes.csv", _text())
    result = _run(
        "train", folder / "orders.csv", "--out", folder / "model", "--horizon", 60,
        "--attributes", folder / "attributes.csv", "--cutoff", "2023-12-01",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder


def test_training_evaluating_and_backtesting_with_attributes(shop: Path) -> None:
    given = ("--model", shop / "model", "--attributes", shop / "attributes.csv", "--json")
    evaluated = _run("evaluate", shop / "orders.csv", *given, "--cutoff", "2023-12-01")
    assert evaluated.exit_code == 0, evaluated.output
    found = json.loads(evaluated.stdout)["clv"]["model"]
    assert found == load(shop / "model").manifest.metrics["clv"]["model"]
    result = _run("backtest", shop / "orders.csv", *given, "--retrain-every", 30)
    assert result.exit_code == 0, result.output


def test_without_the_file_the_model_is_not_used(shop: Path) -> None:
    result = _run("evaluate", shop / "orders.csv", "--model", shop / "model")
    assert result.exit_code == 1
    assert "(club, age, channel) and there is no file of them" in result.output
    with pytest.raises(AttributesError, match="set CLV_ATTRIBUTES"):
        pipeline_of(Settings.load({}, needs=()), load(shop / "model"))


def test_replay_scores_customers_by_their_attributes(shop: Path, tmp_path: Path) -> None:
    log = OrderLog.of([shop / "orders.csv"])
    swapped = _text().replace(",gold,", ",x,").replace(",none at all,", ",gold,")
    other = _written(tmp_path / "b.csv", swapped.replace(",x,", ",none at all,"))
    until = "2023-03-15"
    one, two = (
        {
            score.user_id: score.clv
            for score in log.replay(
                shop / "model", until=until, settings={"CLV_ATTRIBUTES": str(path)}
            ).scores
        }
        for path in (shop / "attributes.csv", other)
    )
    changed = {user for user in one if one[user] != two[user]}
    lines = _text().splitlines()[1:]
    told = {line.split(",")[0] for line in lines if line.split(",")[1]}
    assert changed
    assert changed <= told


def test_retraining_keeps_the_attributes_of_the_current_model(shop: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    assert _run("registry", "publish", root, shop / "model", "--promote").exit_code == 0
    arguments = ("retrain", root, "--orders", shop / "orders.csv")
    refused = _run(*arguments)
    assert refused.exit_code == 1
    assert "there is no file of them" in refused.output
    result = _run(*arguments, "--attributes", shop / "attributes.csv", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["comparison"] is not None
    manifest = load(root / found["candidate"]).manifest
    assert manifest.attributes == load(shop / "model").manifest.attributes
    again = _run(*arguments, "--attributes", shop / "attributes.csv", "--json")
    assert json.loads(again.stdout)["action"] == "nothing new"


def test_a_customers_explanation_has_its_attributes(shop: Path) -> None:
    loaded = load(shop / "model")
    scorer = loaded.scorer(shop / "attributes.csv")
    (snapshot,) = snapshots(modelling.orders(), [modelling.cutoff_day()], 60)
    X = scorer.rows(snapshot.pairs, snapshot.users)
    clv_minor, _ = scorer.rate(X)
    found = explain(scorer, X[:40])
    assert [one.clv_minor for one in found] == clv_minor[:40].tolist()
    assert any(dict(one.contributions)["attributes"] for one in found)


def test_monitoring_scores_customers_by_their_attributes(shop: Path, tmp_path: Path) -> None:
    given = ("monitor", shop / "orders.csv", "--model", shop / "model", "--json")
    assert "there is no file of them" in _run(*given).output
    found = _run(*given, "--attributes", shop / "attributes.csv")
    assert found.exit_code in (0, ALARM), found.output
    swapped = _written(tmp_path / "b.csv", _text().replace(",gold,", ",none at all,"))
    other = _run(*given, "--attributes", swapped)
    one, two = (json.loads(run.stdout)["weeks"] for run in (found, other))
    biases = [
        [(b["day"], b["days"]) for week in weeks for b in week["biases"]] for weeks in (one, two)
    ]
    assert biases[0] == biases[1] != []
    lower = [
        (theirs["bias"], ours["bias"])
        for ours, theirs in zip(
            (b for week in one for b in week["biases"]),
            (b for week in two for b in week["biases"]),
            strict=True,
        )
    ]
    # Without its rich customers the shop is expected to bring less.
    assert all(less < more for less, more in lower)


def test_a_customer_is_monitored_with_the_attributes_of_his_own(shop: Path) -> None:
    scorer = load(shop / "model").scorer(shop / "attributes.csv")
    (snapshot,) = snapshots(modelling.orders(), [modelling.cutoff_day()], 60)
    rate = rate_of(scorer, snapshot.users)
    # Some of them only, and not in order: places are of the customers and not of the rows.
    place = np.arange(len(snapshot.users))[::-3]
    X = vectors(snapshot.pairs)[place]
    expected, _ = scorer.rate(scorer.rows(snapshot.pairs, snapshot.users))
    assert rate(X, place).tolist() == expected[place].tolist()


def test_a_shadow_model_scores_customers_by_their_attributes(shop: Path, tmp_path: Path) -> None:
    users = sorted(_spend())[:40]
    log = records([order for order in modelling.orders() if order.user_id in users])
    task = _task(shop, shop / "attributes.csv")
    live = judge_of(task, task.live)
    pipe, _, runner, publisher = followed(log, through=pipeline(live), batch=100)
    done(runner.tick(log[-1].timestamp + 80 * MS_PER_DAY))
    found = agreement_of(pipe.frames, judge_of(task, task.shadow), live)
    warned = [m for m in publisher.of("churn-warnings") if b'"kind":"warning"' in (m.value or b"")]
    assert (found.failed, found.customers) == (0, len(users))
    assert (found.spearman, found.mean_ratio) == (1.0, 1.0)
    assert (found.both, found.added, found.removed) == (len(warned), 0, 0)
    assert warned
    # The live model said what the worker published, so it knew whom it scored.
    swapped = _written(tmp_path / "b.csv", _text().replace(",gold,", ",none at all,"))
    poorer = judge_of(_task(shop, swapped), task.shadow)
    ratio = agreement_of(pipe.frames, poorer, live).mean_ratio
    assert ratio is not None
    assert ratio < 0.95
    with pytest.raises(AttributesError, match="set CLV_ATTRIBUTES"):
        judge_of(_task(shop, None), task.shadow)


def _task(shop: Path, attributes: Path | None) -> ShadowTask:
    model = str(shop / "model")
    known = None if attributes is None else str(attributes)
    return ShadowTask(model, model, [], False, Policy(floor_percentile=0), 400, 1000, known)
