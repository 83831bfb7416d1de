"""Replaying an order log: the same bytes however it is cut, and in memory that customers bound."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings

from features.events.orders import Order, OrderRules
from features.facts.ledger import IdMemory
from model.data.synthetic import Shop, generate, write_csv
from model.files.order_log import OrderLogError, Row, read_orders
from streamer.commands.cli import cli
from streamer.pipeline.batch import Pipeline
from streamer.records import MemoryPublisher, Message
from streamer.replay.replay import LogFiles, Pace, Replay, Replayed, replay_log
from tests.support.fakes import an_order, at, by_time, done, every, judge, pipeline
from tests.support.logs import LATENESSES_MS, shop_logs

HEADER = "order_id,user_id,ts,amount"
AT_ONCE = Pace()
FILES = ("warnings.jsonl", "scores.jsonl", "dead-letters.jsonl")


@pytest.fixture(scope="session")
def shop_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "orders.csv"
    write_csv(generate(Shop(customers=60, days=300, arrival_days=200, seed=3)).orders, path)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python -m streamer` with these arguments."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env={})
    return result.exit_code, result.stdout, result.stderr


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in FILES}


def replayed(
    directory: Path,
    rows: Iterable[Row],
    through: Pipeline | None = None,
    until_ms: int | None = None,
    pace: Pace = AT_ONCE,
) -> tuple[Replayed, dict[str, bytes]]:
    """What a replay of rows says of itself, and the files that it writes."""
    through = through or pipeline()
    with LogFiles(directory, through.topics) as files:
        replay = Replay(through, files, pace=pace)
        result = done(replay_log(rows, replay, files, until_ms=until_ms))
    return result, contents(directory)


class Sleeps:
    """A sleep that only counts."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked_s.append(seconds)


# --- what comes out -------------------------------------------------------------------------------


def test_two_replays_write_the_same_bytes(model: Path, shop_csv: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        code, _, _ = run("replay", shop_csv, "--model", model, "--out", tmp_path / name)
        assert code == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (tmp_path / "one" / "warnings.jsonl").stat().st_size
    assert (tmp_path / "one" / "scores.jsonl").stat().st_size


@given(orders=shop_logs(), lateness_ms=LATENESSES_MS)
def test_a_speed_changes_nothing_but_the_time_it_takes(
    tmp_path_factory: pytest.TempPathFactory, orders: list[Order], lateness_ms: int
) -> None:
    directory, through = tmp_path_factory.mktemp("paced"), pipeline(lateness_ms=lateness_ms)
    orders.sort(key=lambda order: order.ts_ms)
    _, at_once = replayed(directory / "at-once", orders, through)
    _, paced = replayed(directory / "paced", orders, through, pace=Pace(86_400.0, Sleeps()))
    assert at_once == paced


@given(orders=shop_logs())
@settings(max_examples=20)
def test_an_unsorted_log_gives_the_same_messages_at_any_speed(
    tmp_path_factory: pytest.TempPathFactory, orders: list[Order]
) -> None:
    directory = tmp_path_factory.mktemp("unsorted")
    _, at_once = replayed(directory / "at-once", orders)
    _, paced = replayed(directory / "paced", orders, pace=Pace(86_400.0, Sleeps()))
    for name in FILES:
        assert sorted(at_once[name].splitlines()) == sorted(paced[name].splitlines())


def test_lines_come_in_the_order_of_as_of(model: Path, shop_csv: Path, tmp_path: Path) -> None:
    run("replay", shop_csv, "--model", model, "--out", tmp_path)
    for name in FILES[:2]:
        lines = [json.loads(line) for line in (tmp_path / name).read_bytes().splitlines()]
        stamps = [(line["as_of"].removesuffix("Z"), line["user_id"]) for line in lines]
        assert stamps == sorted(stamps)


def test_files_hold_the_very_bytes_that_kafka_would_get(tmp_path: Path) -> None:
    orders = by_time(every("ada", 7, 3, 1_200), every("ben", 10, 9, 5_000))
    _, files = replayed(tmp_path, orders)
    publisher = MemoryPublisher()
    replay = Replay(pipeline(), publisher)
    done(replay.start())
    done(replay.feed(orders))
    topics = pipeline().topics
    for topic, name in ((topics.warnings, FILES[0]), (topics.scores, FILES[1])):
        said = [message.value for message in publisher.of(topic)]
        assert said
        assert sorted(files[name].splitlines()) == sorted(value for value in said if value)


def test_lines_are_held_back_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.replay.files._MOST_HELD", 10)
    topics = pipeline().topics
    with LogFiles(tmp_path, topics) as files:
        for day in range(100):
            value = f'{{"user_id":"ada","as_of":"2025-01-{day % 28 + 1:02d}T00:00:00Z"}}'
            done(files.publish([Message(topics.scores, b"ada", value.encode())]))
            files.release(0)
        early = (tmp_path / "scores.jsonl").read_bytes().count(b"\n")
    assert early >= 90
    assert (tmp_path / "scores.jsonl").read_bytes().count(b"\n") == 100


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_every_kind_of_file_gives_what_the_csv_gives(
    kind: str, model: Path, shop_csv: Path, tmp_path: Path
) -> None:
    other = converted(shop_csv, tmp_path / f"orders.{kind}")
    for path, name in ((shop_csv, "csv"), (other, "other")):
        code, _, stderr = run("replay", path, "--model", model, "--out", tmp_path / name)
        assert code == 0, stderr
    assert contents(tmp_path / "csv") == contents(tmp_path / "other")


def converted(path: Path, target: Path) -> Path:
    """The CSV in another form."""
    if target.name.endswith(".csv.gz"):
        target.write_bytes(gzip.compress(path.read_bytes()))
        return target
    names, *rows = (line.split(",") for line in path.read_text().splitlines())
    documents = [dict(zip(names, row, strict=True)) for row in rows]
    if target.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(documents), target)
        return target
    text = "".join(
        re.sub(r'"amount": "([^"]*)"', r'"amount": \1', json.dumps(document)) + "\n"
        for document in documents
    )
    data = text.encode()
    target.write_bytes(gzip.compress(data) if target.suffix == ".gz" else data)
    return target


# --- time -----------------------------------------------------------------------------------------


def test_orders_at_until_or_later_are_left_out_and_time_passes_up_to_it(tmp_path: Path) -> None:
    # A CLV of 48 + the weekly revenue, less one for each day of silence: silence fires in time.
    orders = every("ada", 7, 3, amount_minor=1_200)
    without, _ = replayed(tmp_path / "without", orders)
    with_time, files = replayed(tmp_path / "with", [*orders, an_order("ada", 90)], None, at(90))
    assert without.counters.warnings == 0
    assert with_time.counters.orders == 3
    assert with_time.counters.warnings == files["warnings.jsonl"].count(b"\n") == 1


def test_until_is_the_same_as_a_shorter_log(tmp_path: Path) -> None:
    orders = by_time(every("ada", 7, 20), every("ben", 10, 15), every("cleo", 3, 30))
    until_ms = at(60)
    shorter = [order for order in orders if order.ts_ms < until_ms]
    _, whole = replayed(tmp_path / "whole", orders, until_ms=until_ms)
    _, cut = replayed(tmp_path / "cut", shorter, until_ms=until_ms)
    assert whole == cut


def test_a_speed_lets_a_day_take_its_share_of_a_second(tmp_path: Path) -> None:
    sleeps = Sleeps()
    orders = every("ada", 7, 4)
    replayed(tmp_path, orders, pace=Pace(2 * 86_400.0, sleeps))
    assert sleeps.asked_s == [3.5, 3.5, 3.5]


def test_without_a_speed_nobody_waits(tmp_path: Path) -> None:
    sleeps = Sleeps()
    replayed(tmp_path, every("ada", 7, 4), pace=Pace(None, sleeps))
    assert sleeps.asked_s == []


# --- memory ---------------------------------------------------------------------------------------


def test_rows_are_read_as_they_are_needed(tmp_path: Path) -> None:
    ahead: list[int] = []
    fed = Fed()

    def rows() -> Iterable[Order]:
        for number in range(10_000):
            ahead.append(number + 1 - fed.count)
            yield an_order(f"user-{number % 7}", number / 1_000)

    through = pipeline(publish_scores=False)
    with LogFiles(tmp_path, through.topics) as files:
        done(replay_log(rows(), Replay(through, files), files, progress=fed.add))
    assert max(ahead) <= 2_001


class Fed:
    """Counts the rows that progress was told of."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, rows: int) -> None:
        self.count += rows


def test_a_customer_is_kept_once_and_counted_once(tmp_path: Path) -> None:
    orders = by_time(*(every(f"user-{n}", 5, 6) for n in range(30)))
    through = pipeline()
    with LogFiles(tmp_path, through.topics) as files:
        replay = Replay(through, files)
        result = done(replay_log(orders, replay, files))
    assert result.customers == replay.store.customers(through.topics.orders) == 30
    assert replay.store.customers("another-topic") == 0


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("empty.csv", "", r"empty.csv is empty; it must have at least a header"),
        ("empty.jsonl", "", r"empty.jsonl is empty"),
        ("column.csv", "order_id,user_id,ts\na,b,c\n", r"column.csv has no column amount; there"),
        ("kind.txt", f"{HEADER}\n", r"kind.txt is of an unknown kind; .* \.csv"),
        ("fake.csv.gz", f"{HEADER}\n", r"fake.csv.gz cannot be read as a gzip file"),
        ("fake.parquet", f"{HEADER}\n", r"fake.parquet cannot be read as a Parquet file"),
    ],
)
def test_a_file_that_is_no_order_log_ends_in_one_line(
    name: str, text: str, told: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    code, stdout, stderr = run("replay", tmp_path / name, "--model", model, "--out", tmp_path)
    assert code == 1
    assert stdout == ""
    assert stderr.count("\n") == 1
    assert re.search(told, stderr)


def test_a_missing_log_ends_in_one_line(model: Path, tmp_path: Path) -> None:
    code, _, stderr = run("replay", tmp_path / "no.csv", "--model", model, "--out", tmp_path)
    assert code == 1
    assert re.fullmatch(r"Error: order log .*no.csv does not exist; check the path\n", stderr)


def test_a_missing_model_ends_in_one_line(shop_csv: Path, tmp_path: Path) -> None:
    code, _, stderr = run("replay", shop_csv, "--model", tmp_path / "none", "--out", tmp_path)
    assert code == 1
    assert re.fullmatch(
        r"Error: model .*none is refused: .*; train one or check the path\n", stderr
    )


def test_a_model_has_to_be_named(shop_csv: Path, tmp_path: Path) -> None:
    code, _, stderr = run("replay", shop_csv, "--out", tmp_path)
    assert code == 1
    assert "CLV_MODEL is not set" in stderr


@pytest.mark.parametrize("until", ["gestern", "2011-06-01T10:00:00"])
def test_an_until_that_is_no_instant_is_a_usage_error(
    until: str, model: Path, shop_csv: Path, tmp_path: Path
) -> None:
    code, _, stderr = run("replay", shop_csv, "--model", model, "--out", tmp_path, "--until", until)
    assert code == 2
    assert repr(until) in stderr


def test_a_log_without_an_order_ends_with_an_error(model: Path, tmp_path: Path) -> None:
    code, _, stderr = replay_text(tmp_path, model, HEADER)
    assert code == 1
    assert "it has no rows below its header" in stderr


def test_one_customer_with_one_order_is_scored(model: Path, tmp_path: Path) -> None:
    code, stdout, _ = replay_text(tmp_path, model, HEADER, "a,ann,2026-03-01T00:00:00Z,5")
    assert code == 0
    assert stdout.startswith("1 order of 1 customer (0 repeats)\n         0 warnings")
    assert (tmp_path / "out" / "scores.jsonl").read_bytes().count(b"\n") == 1


def test_an_unsorted_log_is_brought_into_event_time(model: Path, tmp_path: Path) -> None:
    code, stdout, stderr = replay_text(
        tmp_path,
        model,
        HEADER,
        "b,ann,2026-03-02T00:00:00Z,5",
        "a,ann,2026-03-01T00:00:00Z,5",
        "c,ann,2026-03-02T00:30:00Z,5",
        "d,ann,2026-03-01T23:45:00Z,5",
    )
    assert code == 0
    assert stdout.startswith("4 orders of 1 customer (0 repeats)")
    assert "        2 rows not in event time: sorted\n" in stderr


def test_the_same_order_twice_counts_once(model: Path, tmp_path: Path) -> None:
    order = "a,ann,2026-03-01T00:00:00Z,5"
    code, stdout, _ = replay_text(tmp_path, model, HEADER, order, order)
    assert code == 0
    assert stdout.startswith("2 orders of 1 customer (1 repeat)")
    assert (tmp_path / "out" / "scores.jsonl").read_bytes().count(b"\n") == 1


def test_a_date_that_cannot_be_read_is_named_with_its_line(model: Path, tmp_path: Path) -> None:
    code, stdout, stderr = replay_text(
        tmp_path,
        model,
        HEADER,
        "a,ann,2026-03-01T00:00:00Z,5",
        "b,ann,01/02/2026,5",
        "c,ann,02/02/2026,5",
        "d,ann,2026-03-01T00:00:00,5",
    )
    assert code == 0
    assert "3 set aside" in stdout
    bad_ts, naive_ts, *summary = stderr.splitlines()
    assert summary[0] == "Read 4 rows = 1 order + 3 set aside; 1 customer"
    path = tmp_path / "orders.csv"
    assert bad_ts.startswith(f"2 rows set aside (bad_ts), the first: {path}, line 3: bad_ts: ts")
    assert naive_ts.startswith(f"1 row set aside (naive_ts), the first: {path}, line 5: naive_ts")
    letters = (tmp_path / "out" / "dead-letters.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"] for line in letters] == [
        "orders.csv:3",
        "orders.csv:4",
        "orders.csv:5",
    ]


def test_all_logs_are_looked_for_before_the_first_is_read(
    model: Path, shop_csv: Path, tmp_path: Path
) -> None:
    with pytest.raises(OrderLogError, match="does not exist"):
        read_orders([shop_csv, tmp_path / "no.csv"], OrderRules())
    out = tmp_path / "out"
    code, _, _ = run("replay", shop_csv, tmp_path / "no.csv", "--model", model, "--out", out)
    assert code == 1
    assert not out.exists()


def replay_text(tmp_path: Path, model: Path, *lines: str) -> tuple[int, str, str]:
    path = tmp_path / "orders.csv"
    path.write_text("\n".join(lines) + "\n")
    return run("replay", path, "--model", model, "--out", tmp_path / "out")


# --- the command on a terminal --------------------------------------------------------------------


def test_no_bar_when_piped(model: Path, shop_csv: Path, tmp_path: Path) -> None:
    code, stdout, stderr = run("replay", shop_csv, "--model", model, "--out", tmp_path)
    assert code == 0
    assert stderr.startswith("Read ")
    assert "\r" not in stdout + stderr
    assert max(map(len, stdout.replace(str(tmp_path), "out").splitlines())) <= 80


def test_a_bar_on_a_terminal_within_its_columns(
    model: Path, shop_csv: Path, tmp_path: Path
) -> None:
    written = on_a_terminal(
        80, "replay", str(shop_csv), "--model", str(model), "--out", str(tmp_path)
    )
    shown = [line for line in re.split(r"[\r\n]+", written) if line.strip()]
    assert any(line.startswith("replaying: ") for line in shown)
    bars = [line for line in shown if str(tmp_path) not in line]
    assert max(map(len, bars)) <= 80


def on_a_terminal(columns: int, *arguments: str) -> str:
    """What the command writes to a terminal so wide."""
    import fcntl
    import os
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "streamer", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=Path(__file__).parents[3],
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65_536):
            written += piece
    except OSError:  # Linux, when the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    return written.decode()


@pytest.mark.parametrize("option", ["--until", "--speed", "--model", "--out"])
def test_help_names_every_option_and_an_example(option: str) -> None:
    code, stdout, _ = run("replay", "--help")
    assert code == 0
    assert option in stdout
    assert "Example:" in stdout
    assert max(map(len, click.unstyle(stdout).splitlines())) <= 80


def test_dead_letters_stand_in_the_order_of_the_log(model: Path, tmp_path: Path) -> None:
    rows = [f"o{n},ann,{'never' if n % 3 == 0 else at(n / 9)},5" for n in range(4_500)]
    code, stdout, _ = replay_text(tmp_path, model, HEADER, *rows)
    assert (code, "1,500 set aside" in stdout) == (0, True)
    letters = (tmp_path / "out" / "dead-letters.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"] for line in letters] == [
        f"orders.csv:{n + 2}" for n in range(0, 4_500, 3)
    ]


def test_an_order_beyond_the_id_memory_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    through = pipeline(judge(memory=IdMemory(days=30)))
    _, files = replayed(tmp_path, [an_order("ann", 60), an_order("ann", 1)], through)
    (letter,) = [json.loads(line) for line in files["dead-letters.jsonl"].splitlines()]
    assert letter["reason"] == "beyond_id_memory"
    assert letter["source_topic"] == "orders"
