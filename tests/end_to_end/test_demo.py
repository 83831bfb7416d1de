"""The demo from one end to the other, on a small log instead of CDNOW."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.synthetic import Shop, generate, write_csv
from streamer.demo import demo
from streamer.demo.sample import SampleLog

SMALL = Shop(customers=150, days=420, arrival_days=60, seed=3)


@pytest.mark.usefixtures("embedded_kafka", "embedded_redis")  # skipped where there are none
def test_the_demo_trains_streams_and_looks_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    log = tmp_path / "orders.csv"
    orders = generate(SMALL).orders
    write_csv(orders, log)
    sample = SampleLog(log, "a small shop", is_real=False, why="")
    monkeypatch.setattr(demo, "sample_orders", lambda directory: sample)
    demo.run_demo(tmp_path / "demo", keep=False)
    said = capsys.readouterr().out
    assert said.startswith("Orders: a small shop\n")
    # In this order: what is run, what came of it, what history says, where to go.
    places = [
        said.index(part)
        for part in (
            "-m model train",
            "Embedded Kafka at 127.0.0.1:",
            f"{len(orders):,} orders of {SMALL.customers} customers",
            "Whom to call on",
            "It is history, so we know",
            "by the best simple sort",
            "Slipping away now",
            "Where to go from here",
            str(tmp_path / "demo" / "slipping.html"),
        )
    ]
    assert places == sorted(places)
    assert said.endswith("slipping.html\n")
    page = (tmp_path / "demo" / "slipping.html").read_text()
    assert "Who is slipping away" in page
    rows = (tmp_path / "demo" / "slipping.csv").read_text().splitlines()
    named = said[said.index("Slipping away now") :].splitlines()[0]
    assert f": {len(rows) - 1:,} customers" in named
    log_lines = (tmp_path / "demo" / "worker.log").read_text().splitlines()
    assert log_lines[-1].endswith("worker.ended")
    assert not [line for line in log_lines if " ERROR " in line]
