#!/usr/bin/env python3
"""Runs clang-tidy on the source files that changed, or with --all on every one (about 30 minutes of one
core).

usage: tidy.py BUILD_DIR [--all]   (BUILD_DIR has compile_commands.json)
Changed: against the merge base with $TANDEM_BASE (default origin/main, then main), working tree
included. On that base itself, as in CI's fresh clone, what the last commit changed. A changed header
counts for every source file of its folder.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def git(*args):
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def changed_files():
    """Paths relative to ROOT, or None where there is nothing to compare with: check everything."""
    head = git("rev-parse", "HEAD")
    for base in (os.environ.get("TANDEM_BASE"), "origin/main", "main"):
        if not base or not git("rev-parse", "--verify", "-q", base):
            continue
        merge_base = git("merge-base", "HEAD", base)
        names = set(git("diff", "--name-only", merge_base).splitlines())
        if merge_base == head and not names:
            names = set(git("diff", "--name-only", "HEAD~1").splitlines())
        return names | set(git("ls-files", "--others", "--exclude-standard").splitlines())
    return None


def main():
    build = pathlib.Path(sys.argv[1])
    database = json.loads((build / "compile_commands.json").read_text())
    sources = sorted({pathlib.Path(e["file"]).resolve().relative_to(ROOT).as_posix()
                      for e in database if pathlib.Path(e["file"]).resolve().is_relative_to(ROOT)})
    # Tests are linted by the compiler's warnings; gtest's macros make clang-tidy slow and noisy.
    sources = [s for s in sources if s.startswith(("src/", "tools/")) and not s.endswith("_test.cc")]
    changed = None if "--all" in sys.argv else changed_files()
    if changed is not None:
        folders = {os.path.dirname(f) for f in changed if f.endswith(".h")}
        sources = [s for s in sources if s in changed or os.path.dirname(s) in folders]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(subprocess.run, ["clang-tidy-19", "--quiet", "-p", str(build), source],
                            cwd=ROOT, capture_output=True, text=True): source for source in sources}
        for done, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            result = job.result()
            if result.returncode != 0:
                failed += 1
                print(f"--- {jobs[job]}\n{result.stdout}", flush=True)
            elif sys.stderr.isatty():
                print(f"\rtidy: {done}/{len(sources)}", end="", file=sys.stderr)
    print(f"tidy: {len(sources)} files, {failed} with findings")
    sys.exit(1 if failed else 0)


main()
