"""The peers of the benchmarks: what others post of the same swipes, on the same machine, as durably."""

from collections.abc import Sequence

from bench.peers import in_place, postgresql, redis, sqlite, tigerbeetle
from bench.peers.peer import Peer, Plan, Progress

_VARIANTS = {
    "postgresql-call": postgresql.a_call,
    "postgresql-batches": postgresql.batches,
    "redis": redis.one_at_a_time,
    "redis-pipelined": redis.pipelined,
    "sqlite": sqlite.run,
    "lmdb-in-place": in_place.run,
    "tigerbeetle": tigerbeetle.run,
}
NAMES = tuple(_VARIANTS)


def run(
    cards: int, seconds: float, runs: int, progress: Progress, only: Sequence[str] | None = None
) -> list[Peer]:
    """Each peer in turn, or some of NAMES; `progress` is told in words what is being done."""
    plan = Plan(cards, seconds, runs, progress)
    return [_VARIANTS[name](plan) for name in only or NAMES]


__all__ = ["NAMES", "Peer", "run"]
