#!/usr/bin/env python3
"""Constructs that this code base does without, each with its replacement and the reason."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# (pattern, paths it applies to, paths that are exempt, what to do instead)
RULES = [
    (r"#\s*include\s+<(boost/(beast|asio))", r"^src/", r"^src/net/",
     "Beast and Asio stay inside net/ (18 s a file): use net/http_server.h or net/http_client.h"),
    (r"#\s*include\s+<openssl/", r"^src/", r"^src/(crypto|net)/",
     "OpenSSL stays inside crypto/ and net/: use crypto/digest.h, crypto/random.h"),
    (r"#\s*include\s+<sqlite3\.h>", r"^src/", r"^src/store/", "SQL goes through store/database.h"),
    (r"#\s*include\s+<libpq", r"^src/", r"^src/store/", "SQL goes through store/database.h"),
    (r"#\s*include\s+<curl/", r"^src/", r"^src/net/", "downloads go through net/download.h"),
    (r"#\s*include\s+<regex>", r"^src/", r"^$", "std::regex backtracks without bound: use PCRE2"),
    (r"#\s*include\s+<iostream>", r"^src/", r"^$",
     "static initialisers and slow streams: use fmt, base/log.h"),
    (r"(?<![\w.>])(std::)?s?rand\s*\(", r"^(src|tools)/.*\.(cc|h)$", r"^$",
     "not reproducible: take a seeded generator as an argument, or crypto/random.h for secrets"),
    (r"\bstd::(normal|uniform_real|uniform_int|discrete|bernoulli)_distribution", r"^src/.*\.(cc|h)$",
     r"_test\.cc$", "its results differ between standard libraries: same seed must give same text"),
    (r"\b(sleep_for|sleep_until|usleep|nanosleep)\s*\(", r"_test\.cc$|/testing/", r"^$",
     "tests do not sleep: wait for an event, or move a FakeClock"),
    (r"-march=native|-ffast-math", r"(CMakeLists\.txt|\.cmake|CMakePresets\.json)$", r"^$",
     "the binary must run elsewhere and add up the same: flags per file, by instruction set"),
    (r"\busing namespace std\b", r"\.(cc|h)$", r"^$", "name what is used"),
    (r"\bTODO\b|\bFIXME\b|\bXXX\b", r"\.(cc|h|py|cmake|mjs|sh)$|^dev$", r"^tools/check/banned\.py$",
     "open an issue; the code says what is"),
    (r"\b(strcpy|strcat|sprintf|gets)\s*\(", r"\.(cc|h|c)$", r"^$", "unbounded: use fmt or std::string"),
    (r"\bassert\s*\(", r"^src/.*\.(cc|h)$", r"^$", "gone in release builds: TANDEM_CHECK or an Error"),
]


def main():
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    problems = 0
    for path in listing.stdout.splitlines():
        rules = [r for r in RULES if re.search(r[1], path) and not re.search(r[2], path)]
        file = ROOT / path
        if not rules or not file.is_file():
            continue
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            for pattern, _, _, instead in rules:
                if re.search(pattern, line):
                    print(f"{path}:{number}: {line.strip()[:80]}\n    {instead}")
                    problems += 1
    sys.exit(1 if problems else 0)


main()
