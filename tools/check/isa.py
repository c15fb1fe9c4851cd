#!/usr/bin/env python3
"""Checks objects built for one instruction set: they may not give the linker anything to share.

An inline function or template instance compiled with -mavx2 is a weak symbol; the linker keeps one copy
for the whole program, and it may be this one, which then runs on a machine without AVX2. So: no weak
definition, and every strong one carries the name of its instruction set.
usage: isa.py BUILD_DIR
"""
import pathlib
import re
import subprocess
import sys

SETS = ("avx2", "avx512vnni", "neon_dotprod", "neon_i8mm")
# C++ runtime data that every object may refer to is undefined here, so it does not show up.
DEFINED = re.compile(r"^[0-9a-f]+ ([A-Za-z]) (.*)$")


def main():
    build = pathlib.Path(sys.argv[1])
    objects = [o for o in build.glob("src/engine/kernels/**/*.o") if any(s in o.name for s in SETS)]
    if not objects:
        sys.exit(f"isa.py: no object for an instruction set below {build}/src/engine/kernels")
    problems = 0
    for file in sorted(objects):
        isa = next(s for s in SETS if s in file.name)
        listing = subprocess.run(["nm", "-C", "--defined-only", str(file)], capture_output=True,
                                 text=True, check=True).stdout
        for line in listing.splitlines():
            match = DEFINED.match(line)
            if not match:
                continue
            kind, name = match.groups()
            if kind in "WVvwu":
                print(f"{file.name}: weak symbol {name}: the linker may use it on other machines")
                problems += 1
            elif kind in "TDRB" and isa.replace("_", "") not in name.lower().replace("_", ""):
                print(f"{file.name}: symbol {name} does not carry '{isa}' in its name")
                problems += 1
    print(f"isa: {len(objects)} objects checked")
    sys.exit(1 if problems else 0)


main()
