from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from streamer import log


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    log.configure("INFO", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("faust", "mode", "aiokafka", "aiohttp", "asyncio", "kafka"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_line_is_an_event_and_its_fields(lines: io.StringIO) -> None:
    log.get("streamer.x").info("order.rejected", partition=3, offset=12, reason="bad_json")
    stamp, level, rest = lines.getvalue().split(" ", 2)
    assert stamp.endswith("Z")
    assert level == "INFO"
    assert rest == "order.rejected partition=3 offset=12 reason=bad_json\n"


def test_values_cannot_forge_a_second_line(lines: io.StringIO) -> None:
    log.get("streamer.x").info("a.b", text='x\n2026 ERROR "forged" = yes\u2028')
    assert lines.getvalue().count("\n") == 1
    assert lines.getvalue().endswith('text="x\\n2026 ERROR \\"forged\\" = yes\\u2028"\n')


def test_libraries_speak_from_warning_on_and_never_of_messages(lines: io.StringIO) -> None:
    logging.getLogger("faust.topics").info("send: k=secret")
    logging.getLogger("aiokafka.conn").warning("closed")
    assert "secret" not in lines.getvalue()
    assert "WARNING aiokafka.conn message=closed" in lines.getvalue()
    log.configure("DEBUG", lines)
    logging.getLogger("faust.topics").debug("send: k=secret")
    logging.getLogger("aiokafka.conn").debug("Request secret")
    assert "secret" not in lines.getvalue()


def test_a_traceback_is_shown_at_debug_only(lines: io.StringIO) -> None:
    logger = log.get("streamer.x")
    log.configure("DEBUG", lines)
    try:
        raise ValueError("why")
    except ValueError as error:
        logger.exception("it.broke", error)
    assert "Traceback" in lines.getvalue()
    assert 'error="ValueError: why"' in lines.getvalue()


def test_an_error_that_nobody_foresaw_tells_its_place_and_not_what_it_quotes(
    lines: io.StringIO,
) -> None:
    customers: dict[str, int] = {}
    try:
        customers["alice"]
    except KeyError as error:
        log.get("streamer.x").exception("it.broke", error)
        logging.getLogger("asyncio").error("lost", exc_info=error)
    assert "alice" not in lines.getvalue()
    assert "Traceback" not in lines.getvalue()
    assert lines.getvalue().count('error="KeyError at test_log.py:') == 2


@pytest.mark.parametrize("secret", ["hunter2", 'pa ss"wo\\rd', "sp\u00e4t\tabends"])
@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_secret_is_blotted_out_wherever_it_comes_from(
    lines: io.StringIO, secret: str, level: str
) -> None:
    log.configure(level, lines, secrets=["hunter", secret])
    log.get("streamer.x").warning("a.b", url=f"redis://u:{secret}@h", text=repr(secret))
    logging.getLogger("aiokafka").warning("login %s %r", secret, {"password": secret})
    try:
        raise ValueError(f"cannot log in with {secret}")
    except ValueError as error:
        log.get("streamer.x").exception("it.broke", error)
        logging.getLogger("faust").error("broke", exc_info=error)
    assert secret not in lines.getvalue()
    assert repr(secret)[1:-1] not in lines.getvalue()
    assert lines.getvalue().count("***") >= 4
    assert "redis://u:***@h" in lines.getvalue()


def test_a_level_that_logging_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="level='LOUD'"):
        log.configure("LOUD")


def test_a_library_says_the_same_thing_once_in_a_while(lines: io.StringIO) -> None:
    for node in range(3):
        logging.getLogger("aiokafka").error("Unable to connect to node %s", node)
        log.get("streamer.x").warning("outage.waiting", what="store")
    assert lines.getvalue().count("Unable to connect") == 1
    assert lines.getvalue().count("outage.waiting") == 3
