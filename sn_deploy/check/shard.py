"""Parts of a check that run apart: each takes whole batches, so that every batch is the same as in one run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container
from dataclasses import dataclass

from sn_deploy.errors import SnDeployError


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (from 1) of ``count``: the batches whose index modulo ``count`` is ``number`` - 1."""

    number: int = 1
    count: int = 1

    def takes(self, batch_index: int) -> bool:
        """Whether the batch is in this part."""
        return batch_index % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Shard()


def first_missing(count: int, found: Container[int], most: int) -> list[int]:
    """Of the parts 1 to ``count`` the first that aren't in ``found``, ``most`` at most: a file may claim any count."""
    return list(itertools.islice((number for number in range(1, count + 1) if number not in found), most))


def parse_shard(text: str, *, where: str = "--shard") -> Shard:
    """``2/8`` as a shard.

    Raises:
        SnDeployError: it isn't of that form, or there is no such part.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise SnDeployError(f"can't be read: {text!r}", where=where, expected="PART/PARTS, 1/8 to 8/8")
    return Shard(int(match[1]), int(match[2]))
