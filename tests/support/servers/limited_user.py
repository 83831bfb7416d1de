"""The Redis user of docs/security.md, which may do what the worker needs and no more."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

PAGE = Path(__file__).resolve().parents[3] / "docs" / "security.md"
_RULE = re.compile(r"^ACL SETUSER (\S+) (.+)$", re.MULTILINE)


def rules(cluster: bool = False) -> list[str]:
    """The arguments of ACL SETUSER behind the user's name, as the page has them; those of a cluster
    are one server's and a few more."""
    one, more = (match[2].split() for match in _RULE.finditer(PAGE.read_text()))
    return [*one, *more] if cluster else one


async def limited(clients: Sequence[Redis], namespace: str = "clv") -> tuple[str, str]:
    """Makes the user on every server; its name and password."""
    name, password = f"worker-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    given = [
        rule.replace(">PASSWORD", f">{password}").replace("~clv:*", f"~{namespace}:*")
        for rule in rules(cluster=len(clients) > 1)
    ]
    for client in clients:
        made: Any = await client.execute_command("ACL", "SETUSER", name, "reset", *given)
        assert made
    return name, password
