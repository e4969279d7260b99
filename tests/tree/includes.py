#!/usr/bin/env python3
"""Includes go down only, and x.cc includes x.h first, which shows that it compiles
alone: fails and names each #include that does otherwise.

usage: includes.py ROOT
"""

import pathlib
import re
import sys

# What each folder of src/ may include besides itself. `include/nd` is "nd".
ALLOWED = {
    "base": {"nd"},
    "soft": {"base"},
    "verbs": {"base", "nd"},
    "transport": {"base", "nd", "verbs"},
    "control": {"base", "nd", "verbs", "transport"},
    "api": {"base", "nd", "verbs", "transport", "control"},
    "ndping": {"base", "nd", "verbs", "transport", "control", "api"},
}
# What each room of a floor may include of its floor besides itself.
ROOMS = {
    "soft": {
        "wire": set(),
        "rc": {"wire"},
        "cm": {"wire"},
        "net": {"wire", "rc"},
        "device": {"wire", "rc", "cm", "net"},
        "abi": {"wire", "cm", "net", "device"},
    },
    "transport": {
        "frame": set(),
        "session": {"frame"},
        "memory": set(),
        "link": {"frame", "session", "memory"},
        "reactor": {"frame", "session", "memory", "link"},
        "endpoint": {"frame", "session", "memory", "link", "reactor"},
    },
    "ndping": {
        "text": set(),
        "engine": {"text"},
        "message": {"text", "engine"},
        "harness": {"text", "engine", "message"},
        "rping": {"text"},
        "local": {"text"},
        "report": {"text", "harness", "local"},
        "cli": {"text", "harness", "rping", "local", "report"},
    },
}
# Headers that only some floors know.
FOREIGN = {
    re.compile(r"infiniband/|rdma/"): {
        "verbs", "soft", "transport", "control", "api", "ndping",
    },
    re.compile(r"grpcpp/|google/protobuf/"): {"control", "api", "ndping"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def room_error(floor: str, room: str, header: str) -> str:
    """Why a room must not include a header of its own floor, or nothing."""
    rooms = ROOMS.get(floor)
    if rooms is None:
        return ""
    if room not in rooms:
        return f"{floor} has no room {room}"
    other = header.split("/")[1]
    if other == room or other in rooms[room]:
        return ""
    return f"{floor}/{room} must not include {header}"


def errors_of(path: pathlib.Path, place: tuple[str, ...]) -> list[str]:
    floor = place[0]
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        where = f"{path}:{number}"
        room = header.split("/")[0]
        if quote == '"' and room in ALLOWED and room != floor:
            if room not in ALLOWED[floor]:
                found.append(f"{where}: {floor} must not include {header}")
        if quote == '"' and room == floor:
            if error := room_error(floor, place[1], header):
                found.append(f"{where}: {error}")
        if quote == '"' and "/" not in header:
            found.append(f"{where}: name {header} from the top of src/")
        for pattern, floors in FOREIGN.items():
            if pattern.match(header) and floor not in floors:
                found.append(f"{where}: {floor} must not know {header}")
    return found


def own_header_errors(path: pathlib.Path, src: pathlib.Path) -> list[str]:
    """Of a source that has a header: that must come before any other."""
    header = path.with_suffix(".h")
    if path.suffix != ".cc" or not header.exists():
        return []
    own = str(header.relative_to(src))
    includes = filter(None, map(INCLUDE.match, path.read_text().splitlines()))
    first = next((match.group(2) for match in includes), None)
    return [] if first == own else [f"{path}: include {own} first"]


def public_errors(path: pathlib.Path) -> list[str]:
    return [
        f"{path}:{number}: a public header includes only std, nd/ and absl/status/"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := INCLUDE.match(line))
        and "/" in match.group(2)
        and not match.group(2).startswith(("nd/", "sys/", "absl/status/"))
    ]


def main(root: pathlib.Path) -> int:
    errors = []
    files = 0
    for path in sorted((root / "src").rglob("*")):
        if path.suffix in (".h", ".cc"):
            files += 1
            errors += errors_of(path, path.relative_to(root / "src").parts)
            errors += own_header_errors(path, root / "src")
    for path in sorted((root / "include").rglob("*.h")):
        files += 1
        errors += public_errors(path)
    print("\n".join(errors) or f"{files} files include downwards only")
    return bool(errors) or files == 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
