"""The journal of a closed engine, read with py-lmdb, and the limit: its blocks appended by a bare loop.

docs/journal-format.md says what is read here: database `blocks`, key: sequence of the first entry, 8 bytes
big endian; the number of entries stands at offset 4. The limit's loop does what no durable journal can leave
out, and nothing else: one put at the end and one durable commit a block, the blocks being those that the
measured run wrote. It gives its older pages back to the system as the engine does, because that makes it
faster. Reading the blocks is outside the measured time.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb

from bench.chain import expect
from bench.options import scratch

MAP_BYTES = 1 << 40
# Blocks that are read before they are appended: they must fit in memory together.
CHUNK_BYTES = 1 << 28
# As the engine does: so much of the end stays in the page cache, and so much is given back at once.
CACHED_BYTES = 256 << 20
STEP_BYTES = 8 << 20

Block = tuple[bytes, bytes]


def blocks(data: Path, first: int, end: int) -> Iterator[tuple[bytes, memoryview]]:
    """Key and value of the blocks that begin with an entry from `first` on and before `end`.

    A value is the mapped file itself, and good until the next one is taken.
    """
    with (
        lmdb.open(str(data / "journal"), readonly=True, lock=False, max_dbs=8, map_size=MAP_BYTES) as opened,
        opened.begin(db=opened.open_db(b"blocks", create=False), buffers=True) as reading,
        reading.cursor() as cursor,
    ):
        if cursor.set_range(first.to_bytes(8, "big")):
            for key, block in cursor:
                if int.from_bytes(key, "big") >= end:
                    return
                yield bytes(key), block


def entries_of(block: bytes | memoryview) -> int:
    """Number of entries of a block."""
    return int.from_bytes(block[4:8], "little")


def bytes_per_entry(data: Path, first: int, end: int) -> float:
    """Bytes of the blocks with the entries from `first` on and before `end`, for each of these."""
    entries = size = 0
    for _, block in blocks(data, first, end):
        entries += entries_of(block)
        size += len(block)
    expect(entries == end - first, f"the journal has {entries} entries from {first} on, not {end - first}")
    return round(size / entries, 1)


def limit(data: Path, first: int, end: int, seconds: float) -> float:
    """Entries a second at which these blocks are appended to a fresh environment, for at most `seconds`."""
    entries, spent = 0, 0.0
    # What others have yet to write is not charged to this loop.
    os.sync()
    with (
        scratch("limit") as directory,
        lmdb.open(str(directory), map_size=MAP_BYTES, max_dbs=1, lock=False) as opened,
        open(directory / "data.mdb", "rb") as file,
    ):
        stored = opened.open_db(b"blocks")
        written_bytes = given_back = 0
        for chunk in _chunks(blocks(data, first, end)):
            start = time.perf_counter()
            for key, block in chunk:
                with opened.begin(write=True, db=stored) as writing:
                    writing.put(key, block, append=True)
                written_bytes += len(block)
                if written_bytes - CACHED_BYTES >= given_back + STEP_BYTES:
                    length = written_bytes - CACHED_BYTES - given_back
                    os.posix_fadvise(file.fileno(), given_back, length, os.POSIX_FADV_DONTNEED)
                    given_back += length
            spent += time.perf_counter() - start
            entries += sum(entries_of(block) for _, block in chunk)
            if spent >= seconds:
                break
        with opened.begin(db=stored, buffers=True) as reading:
            written = sum(entries_of(block) for _, block in reading.cursor())
    expect(written == entries > 0, f"the bare loop wrote {written} entries, not {entries}")
    return entries / spent


def _chunks(found: Iterator[tuple[bytes, memoryview]]) -> Iterator[list[Block]]:
    chunk: list[Block] = []
    size = 0
    for key, block in found:
        chunk.append((key, bytes(block)))
        size += len(block)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
