"""A retraining promotes what is better, once, and ends the same however often it is cut off."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from features.events.orders import FreeOrders, Order, OrderRules, OrderType
from features.times import MS_PER_DAY, calendar_of
from model.artifact import artifact, registry, signature
from model.artifact.artifact import Artifact, load
from model.artifact.signature import Trust
from model.commands.cli import cli
from model.data.fingerprint import data_of
from model.data.synthetic import write_csv
from model.data.training_rows import TrainingConfig
from model.estimators.clv import ClvModel
from model.evaluate.holdout import Holdout, predicted
from model.training import retrain as retraining
from model.training.build import Made, made
from model.training.retrain import (
    Busy,
    ModelComparison,
    RetrainError,
    RetrainOutcome,
    RetrainRequest,
    compare,
    retrain,
)
from model.training.retrain_text import text
from tests.support import modelling

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
ASKED = RetrainRequest(horizon_days=60, resamples=40)


@pytest.fixture(scope="module")
def _known() -> dict[object, Any]:
    return {}


@pytest.fixture(autouse=True)
def _trained_once(monkeypatch: pytest.MonkeyPatch, _known: dict[object, Any]) -> None:
    """The same orders give the same model; training it again and again would take a minute."""

    def once_made(log: Sequence[Order], config: TrainingConfig, day: int) -> Made:
        key = (retraining._key(data_of(log), config), day)
        if key not in _known:
            _known[key] = made(log, config, day)
        found: Made = _known[key]
        return found

    def once_predicted(
        log: Sequence[Order], model: ClvModel, day: int, horizon: int, attributes: None
    ) -> Holdout:
        key = (artifact.version_of(model), len(log), day, horizon)
        if key not in _known:
            _known[key] = predicted(log, model, day, horizon, attributes)
        found: Holdout = _known[key]
        return found

    monkeypatch.setattr(retraining, "made", once_made)
    monkeypatch.setattr(retraining, "predicted", once_predicted)


def _run(
    root: Path, orders: Sequence[Order] | None = None, asked: RetrainRequest = ASKED
) -> RetrainOutcome:
    return retrain(root, lambda currency: (orders or modelling.orders(), Counter()), asked)


def _misled() -> list[Order]:
    """The shop's orders with the amounts dealt out anew: who learns from them ranks by chance."""
    log = list(modelling.orders())
    amounts = random.Random(3).sample([order.amount_minor for order in log], len(log))
    users = random.Random(4).sample([order.user_id for order in log], len(log))
    return [
        msgspec.structs.replace(order, amount_minor=amount, user_id=user)
        for order, amount, user in zip(log, amounts, users, strict=True)
    ]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _made(tmp_path_factory.mktemp("bad") / "model", _misled(), 90)


@pytest.fixture
def no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the models are: how they are compared has its own tests, below."""

    def even(holdout: Holdout, *models: ClvModel, resamples: int, **risks: Any) -> ModelComparison:
        found = compare(holdout, *models, resamples=resamples, **risks)
        return msgspec.structs.replace(found, better=[], worse=[])

    monkeypatch.setattr(retraining, "compare", even)


@pytest.fixture(scope="module")
def last_month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _made(tmp_path_factory.mktemp("last") / "model", modelling.orders(), 30)


def _made(directory: Path, log: Sequence[Order], days_before: int) -> Path:
    day = modelling.cutoff_day() - days_before
    result = made([o for o in log if o.ts_ms < day * MS_PER_DAY], modelling.CONFIG, day)
    fields = msgspec.structs.replace(result.fields, data=None)
    artifact.save(directory, result.model, fields)
    return directory


def _current(root: Path, source: Path) -> str:
    version = registry.publish(root, source)
    registry.promote(root, version)
    return version


def test_without_a_current_model_the_first_is_promoted(tmp_path: Path) -> None:
    outcome = _run(tmp_path / "models")
    assert (outcome.action, outcome.why) == ("promoted", "there was no current model")
    manifest = load(tmp_path / "models").manifest
    assert manifest.model_version == outcome.candidate
    assert manifest.horizon_days == 60
    assert manifest.data is not None
    assert manifest.data.orders < outcome.data.orders


def test_what_is_better_is_promoted_and_history_says_why(tmp_path: Path, bad: Path) -> None:
    before = _current(tmp_path, bad)
    outcome = _run(tmp_path)
    assert outcome.action == "promoted"
    assert outcome.comparison is not None
    assert "gini" in outcome.comparison.better
    assert registry.current(tmp_path) == outcome.candidate
    change = registry.history(tmp_path)[-1]
    assert (change.before, change.why) == (before, f"retrain: {outcome.why}")
    assert "better in normalized Gini" in change.why


def test_what_is_no_better_is_kept_and_published_all_the_same(
    tmp_path: Path, last_month: Path, no_better: None
) -> None:
    before = _current(tmp_path, last_month)
    outcome = _run(tmp_path)
    assert outcome.action == "kept"
    assert "no better than chance" in outcome.why
    assert registry.current(tmp_path) == before
    assert {one.version for one in registry.versions(tmp_path)} == {before, outcome.candidate}
    assert registry.history(tmp_path)[-1].action == "keep"
    screen = text(outcome).splitlines()
    assert len(screen) < 24
    assert max(map(len, screen)) <= 80
    assert "Kept the current one: " in screen[-2] + screen[-1]


@pytest.mark.parametrize("verdict", ["promoted", "kept"])
def test_the_same_orders_are_judged_once(
    tmp_path: Path, bad: Path, verdict: str, request: pytest.FixtureRequest
) -> None:
    _current(tmp_path, bad)
    if verdict == "kept":
        request.getfixturevalue("no_better")
    first = _run(tmp_path)
    assert first.action == verdict
    history = registry.history(tmp_path)
    shuffled = random.Random(1).sample(modelling.orders(), len(modelling.orders()))
    # As from a topic: in other partitions, and some sent twice.
    twice = [order for order in shuffled[:50] if order.type is OrderType.ORDER]
    again = _run(tmp_path, [*shuffled, *twice])
    assert again.action == "nothing new"
    assert first.why in again.why
    assert registry.history(tmp_path) == history


def test_a_rollback_by_hand_holds_until_there_are_new_orders(tmp_path: Path, bad: Path) -> None:
    before = _current(tmp_path, bad)
    _run(tmp_path)
    registry.rollback(tmp_path)
    assert _run(tmp_path).action == "nothing new"
    assert registry.current(tmp_path) == before
    log = list(modelling.orders())
    more = msgspec.structs.replace(log[-1], order_id="new")
    assert _run(tmp_path, [*log, more]).action == "promoted"


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["save", "publish", "load", "promote", "history", "current"])
def test_cut_off_anywhere_the_next_run_comes_to_the_same_end(
    tmp_path: Path, bad: Path, where: str
) -> None:
    before = _current(tmp_path, bad)

    def killed(*_: object, **__: object) -> None:
        raise _Killed

    def not_to(name: str) -> object:
        usual = registry.replace_durably

        def write(path: Path, content: bytes) -> None:
            if path.name == name:
                raise _Killed
            usual(path, content)

        return write

    with pytest.MonkeyPatch.context() as patched:
        if where == "save":
            patched.setattr(artifact, "_replace", killed)
        elif where == "load":
            patched.setattr(retraining, "check_loads", killed)
        elif where in ("publish", "promote"):
            patched.setattr(registry, where, killed)
        else:
            patched.setattr(
                registry,
                "replace_durably",
                not_to("history.jsonl" if where == "history" else "current"),
            )
        with pytest.raises(_Killed):
            _run(tmp_path)
    assert registry.current(tmp_path) == before
    (tmp_path / ".candidate").mkdir(exist_ok=True)  # as after a kill that let nothing be tidied
    outcome = _run(tmp_path)
    assert outcome.action == "promoted"
    assert registry.current(tmp_path) == outcome.candidate
    assert _run(tmp_path).action == "nothing new"
    assert registry.rollback(tmp_path).version == before
    assert not list(tmp_path.glob(".*candidate*"))


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    with registry.locked(tmp_path, ".retrain"), pytest.raises(Busy, match="another retraining"):
        _run(tmp_path)


def test_who_promotes_meanwhile_wins(
    tmp_path: Path, bad: Path, last_month: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _current(tmp_path, bad)
    other = registry.publish(tmp_path, last_month)

    def meanwhile(directory: Path, trust: Trust) -> Artifact:
        registry.promote(tmp_path, other)
        return load(directory, trust)

    monkeypatch.setattr(retraining, "check_loads", meanwhile)
    with pytest.raises(registry.RegistryError, match="somebody else has promoted meanwhile"):
        _run(tmp_path)
    assert registry.current(tmp_path) == other


def test_a_log_that_has_lost_its_first_orders_is_refused(tmp_path: Path) -> None:
    _run(tmp_path)
    log = list(modelling.orders())
    with pytest.raises(RetrainError, match="give all orders from the start"):
        _run(tmp_path, log[len(log) // 4 :])


def test_a_current_model_that_has_seen_the_holdout_is_not_compared(tmp_path: Path) -> None:
    _current(tmp_path, _made(tmp_path / "made", modelling.orders(), -20))
    with pytest.raises(RetrainError, match="has seen a part of the newest holdout"):
        _run(tmp_path)


def test_a_current_model_that_no_worker_could_load_is_replaced(tmp_path: Path, bad: Path) -> None:
    version = _current(tmp_path, bad)
    (tmp_path / version / "model.json").write_bytes(b"damaged")
    outcome = _run(tmp_path)
    assert outcome.action == "promoted"
    assert "cannot be used: model" in outcome.why


def test_what_cannot_be_compared_is_a_mistake(tmp_path: Path, bad: Path) -> None:
    _current(tmp_path, bad)
    for asked, message in (
        (RetrainRequest(horizon_days=30), "--horizon 30: the current model has 60"),
        (RetrainRequest(currency="EUR"), "--currency EUR: the current model has USD"),
        (RetrainRequest(free_orders=FreeOrders.IGNORE), "CLV_FREE_ORDERS ignore: the current"),
    ):
        with pytest.raises(RetrainError, match=message):
            _run(tmp_path, asked=asked)


def test_a_first_model_has_the_zone_and_the_free_orders_that_are_asked_for(
    tmp_path: Path,
) -> None:
    berlin = calendar_of("Europe/Berlin")
    asked = replace(ASKED, free_orders=FreeOrders.IGNORE, calendar=berlin)
    read: list[OrderRules] = []

    def orders(rules: OrderRules) -> tuple[Sequence[Order], Counter[str]]:
        read.append(rules)
        return modelling.orders(), Counter()

    retrain(tmp_path / "models", orders, asked)
    manifest = load(tmp_path / "models").manifest
    assert (manifest.timezone, manifest.free_orders) == ("Europe/Berlin", FreeOrders.IGNORE)
    assert read[0].free_orders is FreeOrders.IGNORE


def test_where_models_must_be_signed_the_candidate_is(tmp_path: Path) -> None:
    root, private, public = tmp_path / "models", tmp_path / "key.pem", tmp_path / "keys"
    public.write_text(signature.generate(private))
    trust = Trust.of(public)
    with pytest.raises(RetrainError, match="name a private key"):
        _run(root, asked=RetrainRequest(horizon_days=60, trust=trust))
    _run(root, asked=RetrainRequest(horizon_days=60, trust=trust, private_key=private))
    load(root, trust)


def test_its_code_and_its_question_are_a_part_of_what_was_judged() -> None:
    data = retraining.data_of(modelling.orders())
    keys = {
        retraining._key(data, TrainingConfig(horizon_days=60)),
        retraining._key(data, TrainingConfig(horizon_days=61)),
        retraining._key(data, TrainingConfig(horizon_days=60, kind="linear")),
        retraining._key(msgspec.structs.replace(data, hash="0"), TrainingConfig(horizon_days=60)),
    }
    assert len(keys) == 4


class _Says:
    """A model that says what it is told to."""

    def __init__(self, clv: Floats, churn: Floats) -> None:
        self._clv, self._churn = clv, churn

    def clv(self, X: Floats) -> Floats:
        return self._clv

    def churn(self, X: Floats) -> Floats:
        return self._churn


def _compared(candidate: tuple[Floats, Floats], current: tuple[Floats, Floats]) -> ModelComparison:
    n = 400
    rng = np.random.default_rng(1)
    actual = np.round(rng.gamma(0.5, 50.0, n), 2)
    holdout = Holdout(
        cutoff_day=20_000,
        horizon_days=60,
        currency="USD",
        pairs=[],
        users=[str(i) for i in range(n)],
        X=np.zeros((n, 1)),
        actual=actual,
        churned=actual < 10,
        predictions={},
        chance=np.zeros(n),
        skipped={},
    )
    return compare(holdout, _Says(*candidate), _Says(*current), resamples=60)  # type: ignore[arg-type]


_ACTUAL = np.round(np.random.default_rng(1).gamma(0.5, 50.0, 400), 2)
_GONE = (_ACTUAL < 10).astype(np.float64)
_NOISE = np.random.default_rng(2).gamma(0.5, 50.0, 400)
GOOD = (_ACTUAL * 0.9 + 3, np.clip(_GONE, 0.1, 0.9))
POOR = (_NOISE, np.full(400, 0.5))


def test_what_beats_noise_is_better_in_all_that_decides() -> None:
    found = _compared(GOOD, POOR)
    assert found.better == ["gini", "mae", "rmse"]
    assert found.worse == []
    assert found.promotes


def test_what_noise_would_replace_is_kept() -> None:
    found = _compared(POOR, GOOD)
    assert set(found.worse) == {"gini", "mae", "rmse", "brier"}
    assert not found.promotes


def test_a_model_is_neither_better_nor_worse_than_itself() -> None:
    found = _compared(GOOD, GOOD)
    assert (found.better, found.worse, found.promotes) == ([], [], False)


def test_a_worse_probability_alone_is_enough_to_keep_the_current_model() -> None:
    found = _compared((GOOD[0], POOR[1]), (POOR[0], GOOD[1]))
    assert found.worse == ["brier"]
    assert not found.promotes


def test_better_sums_and_a_worse_ranking_are_not_promoted() -> None:
    flat = (np.full(400, _ACTUAL.mean()), GOOD[1])
    wild = (_ACTUAL * 40.0, GOOD[1])
    found = _compared(flat, wild)
    assert found.better == ["mae", "rmse"]
    assert found.worse == ["gini"]
    assert not found.promotes


def test_the_command_prints_one_screen_and_its_exit_codes_tell_apart(tmp_path: Path) -> None:
    write_csv(modelling.orders(), tmp_path / "orders.csv")
    root = tmp_path / "models"
    arguments = ["retrain", str(root), "--orders", str(tmp_path / "orders.csv"), "--horizon", "60"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "Promoted: there was no current model" in result.stdout
    again = CliRunner().invoke(cli, [*arguments, "--json"])
    assert again.exit_code == 0
    assert msgspec.json.decode(again.stdout)["action"] == "nothing new"
    with registry.locked(root, ".retrain"):
        assert CliRunner().invoke(cli, arguments).exit_code == 75
    assert CliRunner().invoke(cli, ["retrain", str(root)]).exit_code == 2
    missing = CliRunner().invoke(cli, ["retrain", str(root), "--orders", str(tmp_path / "no.csv")])
    assert missing.exit_code == 1
    assert len(missing.stderr.splitlines()) == 1
