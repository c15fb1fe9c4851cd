#!/usr/bin/env python3
"""Disassembles the hot loops of the tile kernels and fails on spills.

A micro-kernel is written so that its sums fit the registers; when a compiler's scheduling or a careless
edit makes one more value live, it stores a vector to the stack in the innermost loop, which can halve
the rate and fails no other test. Hot are the functions that hold a whole strip or panel (*_strip_*,
*_panel_*): they get their memory by pointer, so that a vector stored to the stack inside a loop is a
spill.
usage: spills.py BUILD_DIR [OBJDUMP]
"""
import pathlib
import re
import subprocess
import sys

HOT = re.compile(r"\b\w*(_strip_|_panel_)\w*_(avx2|avx512vnni|neon_dotprod|neon_i8mm)\b(<.*?>)?\(")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
# A jump to an address in the same function.
JUMP = re.compile(r"^(j[a-z]+|b|b\.[a-z]+|cbn?z|tbn?z)$")
TARGET = re.compile(r"0x([0-9a-f]+)")
X86_STORE = re.compile(r"^\w*word ptr \[rsp[^\]]*\], *[xyz]mm")
ARM_STORE = re.compile(r"^q\d+,( *q\d+,)? *\[(sp|x29)")


def is_spill(name, operands):
    if name.startswith("vmov") or name.startswith("mov"):
        return bool(X86_STORE.match(operands))
    return name in ("str", "stp", "stur") and bool(ARM_STORE.match(operands))


def spills(instructions):
    """instructions: [(address, name, operands)] of one function."""
    loops = []
    for address, name, operands in instructions:
        target = TARGET.search(operands.split("<")[0]) if JUMP.match(name) else None
        if target and instructions[0][0] <= int(target.group(1), 16) <= address:
            loops.append((int(target.group(1), 16), address))
    return loops, [(address, name, operands) for address, name, operands in instructions
                   if is_spill(name, operands) and any(a <= address <= b for a, b in loops)]


def functions(listing):
    name, instructions = None, []
    for line in listing.splitlines():
        start = FUNCTION.match(line)
        if start:
            if name:
                yield name, instructions
            name, instructions = start.group(1), []
            continue
        instruction = INSTRUCTION.match(line)
        if instruction and name:
            address, opcode, operands = instruction.groups()
            instructions.append((int(address, 16), opcode, operands))
    if name:
        yield name, instructions


def main():
    build = pathlib.Path(sys.argv[1])
    objdump = sys.argv[2] if len(sys.argv) > 2 else "llvm-objdump-19"
    objects = sorted(build.glob("src/engine/kernels/**/tiles_*.o"))
    checked = problems = 0
    for file in objects:
        listing = subprocess.run([objdump, "-d", "-C", "--no-show-raw-insn", "--x86-asm-syntax=intel",
                                  str(file)], capture_output=True, text=True, check=True).stdout
        for name, instructions in functions(listing):
            hot = HOT.search(name)
            if not hot:
                continue
            checked += 1
            loops, found = spills(instructions)
            if not loops:
                print(f"{file.name}: {hot.group(0)[:-1]} has no loop: inlined or renamed?")
                problems += 1
            if found:
                address, opcode, operands = found[0]
                print(f"{file.name}: {hot.group(0)[:-1]} spills {len(found)} times, first at "
                      f"{address:x}: {opcode} {operands}")
            problems += len(found)
    # Fewer would mean that the pattern has lost the kernels, not that they are clean.
    if checked < 24:
        sys.exit(f"spills.py: only {checked} hot functions below {build}: were they renamed?")
    print(f"spills: {checked} hot functions checked")
    sys.exit(1 if problems else 0)


main()
