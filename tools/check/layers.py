#!/usr/bin/env python3
"""Checks that every include under src/ follows tools/layers.txt.

A wing is entered only by its door: from outside, engine/, fleet/ and gateway/ are the headers that lie
directly in that folder, and the rooms that DOORS lists.
With --table prints the room table for ARCHITECTURE.md, which must contain exactly that table.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
TEST = re.compile(r"(_test\.cc$|/testing/)")
# Rooms of a wing that its door's signature is made of, so that they are part of the door.
DOORS = {room: {"app"} for room in (
    "gateway/provider", "gateway/admin", "gateway/auth", "gateway/dispatch", "gateway/relay",
    "gateway/router", "gateway/upstream", "gateway/privacy", "gateway/usage", "fleet/deploy",
    "fleet/depot")}


def read_layers():
    rooms = {}
    for number, line in enumerate((ROOT / "tools/layers.txt").read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        room, _, allowed = line.partition(":")
        names = set()
        for name in allowed.split():
            if name.endswith("/*"):
                names |= {r for r in rooms if r.startswith(name[:-1])}
            elif name in rooms:
                names.add(name)
            else:
                sys.exit(f"tools/layers.txt:{number}: {room} names {name}, which is not above it")
        rooms[room.strip()] = names
    return rooms


def room_of(path, rooms):
    """The deepest listed room that holds `path`, a path relative to src/."""
    parts = pathlib.PurePath(path).parts[:-1]
    for n in range(len(parts), 0, -1):
        name = "/".join(parts[:n])
        if name in rooms:
            return name
    return None


def sentence(room):
    """The room's charter, from its CMakeLists.txt's first comment line."""
    listing = SRC / room / "CMakeLists.txt"
    for line in listing.read_text().splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    return ""


def table(rooms):
    rows = ["| room | its one job | may include |", "|---|---|---|"]
    for room, allowed in rooms.items():
        if (SRC / room / "CMakeLists.txt").exists():
            names = " ".join(f"`{name}`" for name in rooms if name in allowed) or "–"
            rows.append(f"| `{room}` | {sentence(room)} | {names} |")
    return "\n".join(rows)


def main():
    rooms = read_layers()
    if "--table" in sys.argv:
        print(table(rooms))
        return
    problems = []
    for file in sorted([*SRC.rglob("*.h"), *SRC.rglob("*.cc")]):
        path = file.relative_to(SRC).as_posix()
        room = room_of(path, rooms)
        if room is None:
            problems.append(f"src/{path}: lies in no room of tools/layers.txt")
            continue
        for name in INCLUDE.findall(file.read_text()):
            target = room_of(name, rooms)
            if not (SRC / name).exists():
                problems.append(f'src/{path}: includes "{name}", which is not below src/')
            elif target == room or target in rooms[room]:
                continue
            elif room in DOORS.get(target, ()):
                continue
            elif TEST.search(path) and not (target.startswith(("engine", "fleet", "gateway", "app"))
                                            and target.split("/")[0] != room.split("/")[0]):
                continue  # a test may use the floor and its own wing
            else:
                problems.append(f"src/{path}: {room} may not include {target} ({name})")
    for room in rooms:
        listing = SRC / room / "CMakeLists.txt"
        if listing.exists() and not sentence(room):
            problems.append(f"src/{room}/CMakeLists.txt: its first comment line must say the room's job")
    architecture = ROOT / "ARCHITECTURE.md"
    if architecture.exists() and table(rooms) not in architecture.read_text():
        problems.append("ARCHITECTURE.md: the room table is not that of tools/layers.txt; "
                        "replace it by the output of tools/check/layers.py --table")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


main()
