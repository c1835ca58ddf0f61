"""A disk that keeps what was synced, and of the rest whatever chance leaves.

`Disk` replays a record of shim.c event by event. `Disk.leave` writes the directory as a crash at that
moment could have left it:

- what a completed sync covers is there, whole: a file's bytes and size by a sync of the file, the names
  in a directory by a sync of the directory, a write through an O_DSYNC descriptor at its return;
- of a file's later writes any subset is lost, kept or torn at sectors of 512 bytes or pages of 4 KiB;
  the size may have grown without the bytes (zeros), or not;
- of a directory's later changes of names the first few are there, in order.

A file that was replaced or is lost leaves nothing behind. What the shim could not follow is a
`RecordError`.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

HEADER = struct.Struct("<IIQQQQ")
KEEP_SIZE = 1

Node: TypeAlias = "File | Directory"
Names: TypeAlias = "dict[str, File | Directory]"
Renaming: TypeAlias = "list[tuple[str, File | Directory | None]]"


class RecordError(Exception):
    """The record shows a call that the replay cannot follow; the message names it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record of the shim; `offset` is also a truncation's size and a fallocate's mode."""

    kind: str
    path: str
    inode: int
    offset: int
    durable: bool
    payload: bytes


def read_events(log: Path) -> Iterator[Event]:
    """All records of a log, in order. A last record that a kill cut short is left out."""
    data = memoryview(log.read_bytes())
    at = 0
    while at + HEADER.size <= len(data):
        kind, path_bytes, inode, offset, payload_bytes, durable = HEADER.unpack_from(data, at)
        at += HEADER.size
        if at + path_bytes + payload_bytes > len(data):
            return
        path = bytes(data[at : at + path_bytes]).decode()
        at += path_bytes
        payload = bytes(data[at : at + payload_bytes])
        at += payload_bytes
        yield Event(chr(kind), path, inode, offset, bool(durable), payload)


@dataclass(slots=True)
class Change:
    """A write (`data` at `offset`) or a new size (`offset`, when `data` is None) of a file."""

    offset: int
    data: bytes | None
    durable: bool


@dataclass
class File:
    """`image` is durable; `changes` came later, and some of them may be durable one by one."""

    image: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)
    folded: int = 0

    def sync_started(self) -> None:
        self.syncs.append(self.folded + len(self.changes))

    def sync_ended(self) -> None:
        until = self.syncs.pop(0) - self.folded
        for change in self.changes[: max(until, 0)]:
            change.durable = True
        while self.changes and self.changes[0].durable:
            apply(self.image, self.changes.pop(0))
            self.folded += 1

    def live(self) -> bytearray:
        """The bytes as the running process sees them."""
        image = bytearray(self.image)
        for change in self.changes:
            apply(image, change)
        return image

    def left(self, chance: random.Random) -> bytearray:
        """The bytes as a crash could leave them."""
        image = bytearray(self.image)
        keep = chance.choice([0.0, 1.0, 0.5, chance.random()])
        in_order = chance.random() < 0.3
        prefix = chance.randint(0, len(self.changes))
        for number, change in enumerate(self.changes):
            if change.durable or (number < prefix if in_order else chance.random() < keep):
                apply(image, change)
            elif change.data is not None:
                tear(image, change.offset, change.data, keep, chance)
        return image


def apply(image: bytearray, change: Change) -> None:
    if change.data is None:
        if change.offset < len(image):
            del image[change.offset :]
        grow(image, change.offset)
    else:
        grow(image, change.offset)
        image[change.offset : change.offset + len(change.data)] = change.data


def grow(image: bytearray, size: int) -> None:
    if size > len(image):
        image.extend(bytes(size - len(image)))


def tear(image: bytearray, offset: int, data: bytes, keep: float, chance: random.Random) -> None:
    """Keep some of a write's sectors or pages, or none of it; the size may grow all the same."""
    end = offset + len(data)
    if chance.random() < 0.5:
        grow(image, end)
    if chance.random() < 0.5 or keep in (0.0, 1.0):
        return
    grain = chance.choice([512, 4096])
    at = offset
    while at < end:
        stop = min(end, (at // grain + 1) * grain)
        if chance.random() < keep:
            grow(image, at)
            image[at:stop] = data[at - offset : stop - offset]
        at = stop


@dataclass
class Directory:
    """`names` is durable; each of `changes` sets or (None) takes away some names at once."""

    names: Names = field(default_factory=dict)
    changes: list[Renaming] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)
    folded: int = 0

    def sync_started(self) -> None:
        self.syncs.append(self.folded + len(self.changes))

    def sync_ended(self) -> None:
        until = self.syncs.pop(0)
        while self.folded < until:
            rename(self.names, self.changes.pop(0))
            self.folded += 1

    def after(self, count: int) -> Names:
        names = dict(self.names)
        for change in self.changes[:count]:
            rename(names, change)
        return names

    def live(self) -> Names:
        return self.after(len(self.changes))

    def left(self, chance: random.Random) -> Names:
        return self.after(chance.choice([0, len(self.changes), chance.randint(0, len(self.changes))]))


def rename(names: Names, change: Renaming) -> None:
    for name, node in change:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """The watched directory, replayed event by event from what was there at the start."""

    def __init__(self, start: Path | None = None) -> None:
        """`start`: a directory whose content was durable before the record began."""
        self.root = Directory() if start is None else load(start)
        self.by_inode: dict[int, File] = {}

    def replay(self, event: Event) -> None:
        match event.kind:
            case "M":
                return
            case "W":
                self.file(event).changes.append(Change(event.offset, event.payload, event.durable))
            case "T":
                self.file(event).changes.append(Change(event.offset, None, False))
            case "A":
                self.allocate(event)
            case "s":
                self.synced(event).sync_started()
            case "S":
                self.synced(event).sync_ended()
            case "C":
                directory, name = self.place(event.path)
                if name not in directory.live():
                    self.by_inode[event.inode] = File()
                    directory.changes.append([(name, self.by_inode[event.inode])])
            case "D":
                directory, name = self.place(event.path)
                directory.changes.append([(name, Directory())])
            case "U":
                directory, name = self.place(event.path)
                directory.changes.append([(name, None)])
            case "R":
                self.move(event)
            case _:
                raise RecordError(f"{event.path}: a call that the recorder cannot follow ({event.kind})")

    def file(self, event: Event) -> File:
        """The file that a descriptor is open on: by inode, as its name may have changed since."""
        if event.inode not in self.by_inode:
            node = self.find(event.path)
            if not isinstance(node, File):
                raise RecordError(f"{event.path}: written, and never created")
            self.by_inode[event.inode] = node
        return self.by_inode[event.inode]

    def synced(self, event: Event) -> Node:
        """By its name first: the inode of a file that is gone may be a directory's now."""
        try:
            return self.find(event.path)
        except RecordError:
            if event.inode in self.by_inode:
                return self.by_inode[event.inode]
            raise

    def find(self, path: str) -> Node:
        node: Node = self.root
        for name in path.split("/") if path else []:
            names = node.live() if isinstance(node, Directory) else {}
            if name not in names:
                raise RecordError(f"{path}: used, and never created")
            node = names[name]
        return node

    def place(self, path: str) -> tuple[Directory, str]:
        parent, _, name = path.rpartition("/")
        directory = self.find(parent)
        if not isinstance(directory, Directory):
            raise RecordError(f"{parent}: not a directory")
        return directory, name

    def move(self, event: Event) -> None:
        source, old = self.place(event.path)
        target, new = self.place(event.payload.decode())
        if source is not target:
            raise RecordError(f"{event.path}: moved to another directory")
        source.changes.append([(old, None), (new, source.live()[old])])

    def allocate(self, event: Event) -> None:
        offset, size = struct.unpack("<QQ", event.payload)
        if event.offset not in (0, KEEP_SIZE):
            raise RecordError(f"{event.path}: fallocate with mode {event.offset}")
        file = self.file(event)
        if event.offset == 0 and offset + size > len(file.live()):
            file.changes.append(Change(offset + size, None, False))

    def leave(self, target: Path, chance: random.Random | None) -> None:
        """Write what a crash now could leave to `target`; without `chance` what the process sees."""
        write(self.root, target, chance)


def load(path: Path) -> Directory:
    names: Names = {}
    for child in path.iterdir():
        if child.is_dir():
            names[child.name] = load(child)
        elif child.name != "lock.mdb":
            names[child.name] = File(bytearray(child.read_bytes()))
    return Directory(names)


def write(directory: Directory, target: Path, chance: random.Random | None) -> None:
    target.mkdir(exist_ok=True)
    for name, node in (directory.live() if chance is None else directory.left(chance)).items():
        if isinstance(node, Directory):
            write(node, target / name, chance)
        else:
            (target / name).write_bytes(node.live() if chance is None else node.left(chance))
