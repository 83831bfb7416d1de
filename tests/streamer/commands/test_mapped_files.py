"""A shop's own file is the same orders to every command that reads order files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from features.events.orders import Order, OrderType
from model.artifact.artifact import load as load_model
from model.commands import shared
from model.commands.cli import cli as model_cli
from model.data.synthetic import Shop, generate
from model.files.loading import Loaded, OrderStream
from streamer.commands import topics
from streamer.commands.cli import cli as streamer_cli
from streamer.records import MemoryPublisher, Message
from tests.support.exports.files import ASKS, Sold, net_cents, shop, shopify, stripe
from tests.support.exports.files import EXPORTS as SHAPES

HORIZON: Final = 30
CUTOFF: Final = "2023-06-30"
EXPORTS: Final = {"shopify": shopify, "stripe": stripe}
COMMANDS: Final = {
    "train": ["--out", "{tmp}/model", "--horizon", HORIZON],
    "clean": ["--out", "{tmp}/clean"],
    "evaluate": ["--model", "{model}"],
    "backtest": ["--model", "{model}"],
    "monitor": ["--model", "{model}"],
    "retrain": ["--horizon", HORIZON],
    "replay": ["--model", "{model}", "--out", "{tmp}/replayed"],
    "produce": [],
}
OF_STREAMER: Final = ("replay", "produce", "mapping", "try")


class Published(MemoryPublisher):
    """What `produce` sends, kept."""

    async def start(self) -> None:
        """There is nothing to reach."""

    async def close(self) -> None:
        """There is nothing to leave."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A file of a shop, how it is read, a model of it, and what `try` says of it."""

    path: Path
    sold: list[Sold]
    how: list[str]
    model: Path
    told: str

    def run(self, command: str, tmp_path: Path, *more: object) -> Result:
        of_command = [
            str(word).format(tmp=tmp_path, model=self.model) for word in COMMANDS[command]
        ]
        file = [tmp_path / "models", "--orders", self.path] if command == "retrain" else [self.path]
        return run(command, *file, *of_command, *more)


def run(command: str, *arguments: object) -> Result:
    cli = streamer_cli if command in OF_STREAMER else model_cli
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "nowhere:1"}
    return CliRunner().invoke(cli, [command, *map(str, arguments)], env=environ)


def sold() -> list[Sold]:
    """A shop's orders, each eighth of which was refunded in part."""
    made = generate(Shop(customers=150, days=240, arrival_days=150, seed=7)).orders
    placed = [one for one in made if one.type is OrderType.ORDER]
    return [
        Sold(
            1000 + number,
            int(re.sub(r"\D", "", one.user_id) or 0),
            datetime.fromtimestamp(one.ts_ms // 1000, UTC),
            one.amount_minor,
            one.amount_minor // 3 if number % 8 == 0 else 0,
        )
        for number, one in enumerate(placed)
    ]


@pytest.fixture(scope="module", params=EXPORTS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Shopify's CSV with the mapping that is proposed for it, Stripe's charges with its preset."""
    folder, name, orders = tmp_path_factory.mktemp(request.param), request.param, sold()
    path = folder / "orders_export.csv"
    EXPORTS[name](path, orders)
    how = ["--preset", name]
    if name == "shopify":
        (folder / "shop.toml").write_text(run("mapping", path).stdout)
        how = ["--mapping", str(folder / "shop.toml")]
    else:
        charges = json.loads(path.read_text())["data"]
        path = folder / "charges.jsonl"
        path.write_text("\n".join(map(json.dumps, charges)))
    told = run("try", path, *how, "--out", folder / "tried", "--horizon", HORIZON)
    trained = run("train", path, *how, "--out", folder / "model", "--horizon", HORIZON)
    assert (told.exit_code, trained.exit_code) == (0, 0), told.output + trained.output
    assert load_model(folder / "model").manifest.currency == "EUR"
    return Exported(path, orders, how, folder / "model", told.stdout)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """The orders that a command goes on with."""
    found: list[Order] = []
    load, streamed = shared.load, shared.streamed

    def loading(*arguments: Any, **more: Any) -> Loaded:
        loaded = load(*arguments, **more)
        found.extend(loaded.orders)
        return loaded

    @contextmanager
    def streaming(*arguments: Any, **more: Any) -> Iterator[OrderStream]:
        with streamed(*arguments, **more) as stream:
            found.extend(stream.orders)
            yield OrderStream(iter(found), stream.summary)

    monkeypatch.setattr(shared, "load", loading)
    monkeypatch.setattr(shared, "streamed", streaming)
    return found


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Sequence[Message]:
    """What goes to the broker."""
    publisher = Published()

    async def exist(_: object) -> dict[str, int]:
        return {}

    to_publisher: Callable[..., Published] = lambda *_: publisher  # noqa: E731
    monkeypatch.setattr(topics.servers, "ensure_topics", exist)
    monkeypatch.setattr(topics.servers, "kafka_publisher", to_publisher)
    return publisher.messages


def records_of(path: Path) -> int:
    with path.open(newline="") as file:
        if path.suffix == ".csv":
            return sum(1 for _ in csv.DictReader(file))
        return sum(1 for _ in file)


def net(orders: Sequence[Order]) -> int:
    return sum(one.amount_minor if one.type.of_order else -one.amount_minor for one in orders)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_counts_the_orders_of_try(
    command: str,
    exported: Exported,
    counted: list[Order],
    published: Sequence[Message],
    tmp_path: Path,
) -> None:
    done = exported.run(command, tmp_path, *exported.how)
    # 3: the newest week is odd to `monitor`.
    assert done.exit_code in (0, 3), done.output
    orders = sum(one.type.of_order for one in counted)
    refunds = sum(one.type is OrderType.REFUND for one in counted)
    cents = net(counted)
    assert cents == net_cents(exported.sold)
    assert f"{cents / 100:.2f} EUR net: {orders:,} orders, {refunds:,} refunds" in exported.told
    assert len(published) == (len(counted) if command == "produce" else 0)
    (read,) = re.findall(r"Read (\d+) records as (\d+) rows = (.*);", done.stderr.replace(",", ""))
    records, rows, parts = read
    assert parts.startswith(f"{orders} orders + {refunds} refunds + ")
    *_, skipped = numbers = [int(part.split()[0]) for part in parts.split(" + ")]
    assert (int(records), int(rows)) == (orders + skipped, sum(numbers))
    assert int(records) == records_of(exported.path)
    assert re.search(r"[\d,]+ skipped: ", done.stderr)


def test_produce_writes_orders_of_the_contract_keyed_by_customer(
    exported: Exported, published: Sequence[Message], tmp_path: Path
) -> None:
    assert exported.run("produce", tmp_path, *exported.how).exit_code == 0
    first, *_ = sent = [json.loads(message.value or b"") for message in published]
    assert {one["currency"] for one in sent} == {"EUR"}
    assert [message.key for message in published] == [one["user_id"].encode() for one in sent]
    assert {"order_id", "user_id", "ts", "amount", "type"} <= first.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_options_are_one_clear_line(
    command: str, exported: Exported, published: Sequence[Message], tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text('order_id = "a"\nuser_id = "b"\nts = "c"\namount = "d"\n')
    for options, code, says in (
        (["--preset", "shoplify"], 2, "'shoplify' is not one of"),
        (["--preset", "stripe", "--mapping", other], 2, "--preset and --mapping: give one of them"),
        (["--mapping", tmp_path / "none.toml"], 1, "none.toml cannot be read"),
        (["--mapping", other], 1, "fits no record: mapping"),
    ):
        done = exported.run(command, tmp_path, *options)
        assert done.exit_code == code, done.output
        assert isinstance(done.exception, SystemExit)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert says in line
    assert not published
    assert not (tmp_path / "replayed").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_contradicts_the_mapping_is_refused(
    command: str, published: Sequence[Message], exported: Exported, tmp_path: Path
) -> None:
    mapping = tmp_path / "own.toml"
    own = 'rows = "line-items"\nzone = "Europe/Berlin"\norder_id = "id"\nuser_id = "user"\n'
    mapping.write_text(f'{own}ts = "at"\namount = "paid"\ncurrency = "code"\n')
    rows = [f"{n},u{n % 9},2026-01-{n % 28 + 1:02d} 10:00:00,5.00,EUR" for n in range(99)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["id,user,at,paid,code", *rows]))
    own_file = Exported(path, [], ["--mapping", str(mapping)], exported.model, "")
    contradictions = [
        (["--rows", "orders"], "--rows orders: mapping"),
        (["--timezone", "UTC"], "(CLV_TIMEZONE) UTC: mapping"),
    ]
    if command in ("train", "clean", "retrain"):
        contradictions.append((["--currency", "USD"], "USD is the currency asked for"))
    for options, says in contradictions:
        done = own_file.run(command, tmp_path, *own_file.how, *options)
        assert (done.exit_code, says in done.stderr) == (1, True), done.output
    path.write_text(path.read_text().replace("EUR", "CHF"))
    if command in ("evaluate", "backtest", "monitor", "replay"):
        done = own_file.run(command, tmp_path, *own_file.how)
        assert (done.exit_code, "EUR is the currency asked for" in done.stderr) == (1, True)
    assert not published


def test_the_zone_of_a_mapping_is_that_of_the_days(exported: Exported, tmp_path: Path) -> None:
    """UTC in a mapping is how times are written: the shop's own is an option, and said."""
    text = "" if exported.how[0] == "--preset" else Path(exported.how[1]).read_text()
    for zone, asked, days in (
        ("Europe/Berlin", [], "Europe/Berlin"),
        ("Europe/Berlin", ["--timezone", "Europe/Berlin"], "Europe/Berlin"),
        ("UTC", ["--timezone", "Europe/Berlin"], "Europe/Berlin"),
        ("UTC", [], "UTC"),
    ):
        mapping = tmp_path / "zone.toml"
        mapping.write_text(f'zone = "{zone}"\n{text}')
        how = ["--mapping", mapping, *asked] if text else [*exported.how, "--timezone", days]
        how += ["--cutoff", CUTOFF]  # and no other model
        done = exported.run("train", tmp_path, *how)
        assert done.exit_code == 0, done.output
        assert load_model(tmp_path / "model").manifest.timezone == days
        told = (
            "of UTC, and so they are read; the shop's days are those of Europe/Berlin"
            in done.stderr
        )
        assert told is (bool(text) and zone == "UTC" and bool(asked))


def test_a_currency_that_nobody_names_is_asked_of_produce_and_none_to_train(
    exported: Exported, published: Sequence[Message], tmp_path: Path
) -> None:
    mapping, path = tmp_path / "plain.toml", tmp_path / "plain.csv"
    mapping.write_text('order_id = "id"\nuser_id = "user"\nts = "at"\namount = "paid"\n')
    rows = [f"{n},u{n % 9},2026-01-{n % 28 + 1:02d}T10:00:00Z,5.00" for n in range(99)]
    path.write_text("\n".join(["id,user,at,paid", *rows]))
    plain = Exported(path, [], [], exported.model, "")
    done = plain.run("produce", tmp_path, "--mapping", mapping)
    assert (done.exit_code, "set CLV_CURRENCY" in done.stderr) == (1, True)
    assert not published
    for options, code in (([], "XXX"), (["--currency", "CHF"], "CHF")):
        done = plain.run("clean", tmp_path, "--mapping", mapping, *options)
        assert done.exit_code == 0, done.output
        assert ("amounts are in currency units" in done.stderr) is (code == "XXX")
    assert plain.run("replay", tmp_path, "--mapping", mapping).exit_code == 0


@pytest.mark.parametrize("name", SHAPES)
def test_a_printed_mapping_reads_its_file_without_another_answer(
    name: str, counted: list[Order], tmp_path: Path
) -> None:
    path, mapping = tmp_path / name, tmp_path / "shop.toml"
    SHAPES[name](path, shop())
    zone = ["--timezone", ASKS[name]] if name in ASKS else []
    mapping.write_text(run("mapping", path, *zone).stdout)
    done = run("clean", path, "--mapping", mapping, "--out", tmp_path / "clean")
    assert done.exit_code == 0, done.output
    assert net(counted) == net_cents(shop())
