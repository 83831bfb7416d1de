"""What is wrong, as an answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp.web import Response

from streamer.web.lobby import PROBLEM_CONTENT_TYPE, told


def problem(
    status: int,
    detail: str,
    *,
    retry_after_s: int | None = None,
    errors: Sequence[msgspec.Struct] = (),
) -> Response:
    """An answer that says what is wrong, as RFC 9457 has it; `errors` says it in detail."""
    body = told(status, detail)
    if errors:
        body["errors"] = errors
    response = Response(
        body=msgspec.json.encode(body), status=status, content_type=PROBLEM_CONTENT_TYPE
    )
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
