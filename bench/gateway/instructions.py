"""What a request and a chunk cost in instructions: bench/gateway/run.py --instructions.

Times need a quiet machine, counts do not: callgrind counts what tandem executes in user space, whatever else
runs. Two loads of streams that differ in their number of chunks only give the cost of a chunk. valgrind shows
the program a processor without SHA instructions and counts each byte of a `rep stosb`, so hashing and
clearing weigh more here than they do; what the kernel does for a system call is not counted.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

# A row of the table and the function whose calls, with everything that they call, are counted.
PARTS = [
    ("route: classify, fingerprint, decide", "tandem::gateway::dispatch::Dispatcher::Route("),
    ("- classify", "tandem::gateway::Classify("),
    ("- fingerprint of the conversation", "tandem::gateway::privacy::Conversations::FingerprintOf("),
    ("the upstream's answer, up to the client's bytes", "tandem::net::internal::ClientCall::Consume("),
    ("- repetition detector", "tandem::gateway::relay::RepetitionDetector::Push("),
    ("- chunk scanner", "tandem::gateway::upstream::ChunkScanner::Scan("),
    ("the decision's JSON in the record", "tandem::gateway::DecisionRecordJson"),
    ("receipts", "tandem::gateway::privacy::ReceiptSigner::Sign"),
    ("records in the database", "tandem::gateway::usage::SqlUsageStore::Append"),
    ("pins of conversations in the database", "tandem::gateway::privacy::Conversations::Write("),
    ("allocation, wherever it is", "malloc ["),
]
N_PLAIN = 200
N_STREAMS = 8
CHUNKS = (16, 256)


class Counted:
    """A tandem under callgrind; its counts since a moment."""

    def __init__(self, pid, work):
        self.pid, self.work, self.n = pid, work, 0

    def control(self, *options):
        subprocess.run(["callgrind_control", *options, str(self.pid)], check=True, stdout=subprocess.DEVNULL)

    def begin(self):
        self.control("-z")

    def end(self, name):
        """The file with the counts since begin()."""
        self.n += 1
        before = set(self.work.glob("callgrind.out.*"))
        self.control(f"--dump={name}")
        for _ in range(200):
            new = set(self.work.glob("callgrind.out.*")) - before
            # A dump is complete with its last line.
            if new and re.search(r"^totals: \d+", (path := new.pop()).read_text(), re.M):
                return path
            time.sleep(0.1)
        raise RuntimeError("callgrind wrote no dump")


def total(dump):
    return int(re.search(r"^totals: (\d+)", dump.read_text(), re.M).group(1))


def inclusive(dump):
    """Instructions by function, those of what it calls included."""
    text = subprocess.run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", str(dump)],
                          check=True, capture_output=True, text=True).stdout
    counts = []
    for line in text.splitlines():
        found = re.match(r"\s*([\d,]+) *(?:\([\d. ]+%\))? +(\S.*)", line)
        if found:
            counts.append((int(found.group(1).replace(",", "")), found.group(2)))
    return counts


def part(counts, function):
    # A function that was split or cloned has several lines; the largest has the others below it.
    return max((count for count, name in counts if f":{function}" in name.replace("(anonymous namespace)::", "")), default=0)


def report(before, plain, streams):
    per_chunk = (streams[CHUNKS[1]] - streams[CHUNKS[0]]) / (CHUNKS[1] - CHUNKS[0])
    print("| thousands of instructions | |\n|---|---|")
    print(f"| **a request that does not stream** | **{total(plain) / N_PLAIN / 1e3:,.0f}** |")
    counts = inclusive(plain)
    for title, function in PARTS:
        print(f"| - {title} | {part(counts, function) / N_PLAIN / 1e3:,.1f} |")
    print(f"| **a request that streams {CHUNKS[0]} chunks** | **{streams[CHUNKS[0]] / 1e3:,.0f}** |")
    print(f"| **a chunk** | **{per_chunk / 1e3:,.2f}** |")
    print(f"| (a second of nothing to do) | {before / 1e3:,.0f} |")


def measure(binary, start_upstream, load, start_tandem, keep):
    """`start_*` are run.py's; `load(port, headers, (stream, model, connections, requests))` runs the load client."""
    for program in ("valgrind", "callgrind_control", "callgrind_annotate"):
        if shutil.which(program) is None:
            raise RuntimeError(f"there is no {program}; ./dev setup installs valgrind")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        stripped = work / "tandem-stripped"  # Debian 12's valgrind cannot read clang 19's DWARF
        subprocess.run(["strip", "-g", "-o", str(stripped), binary], check=True)
        upstream = start_upstream()
        try:
            gateway = start_tandem(folder, str(stripped), ["valgrind", "--tool=callgrind", "--dump-line=no",
                                                           f"--callgrind-out-file={work}/callgrind.out.%p"])
            try:
                counted = Counted(gateway.process.pid, work)
                load(gateway, (False, "fake", 8, 40))
                load(gateway, (True, f"fake-n{CHUNKS[1]}", 4, 4))
                time.sleep(2)  # what was written behind the answers
                counted.begin()
                time.sleep(1)
                idle = total(counted.end("idle"))
                counted.begin()
                load(gateway, (False, "fake", 8, N_PLAIN))
                time.sleep(2)
                plain = counted.end("plain")
                streams = {}
                for n_chunks in CHUNKS:
                    counted.begin()
                    load(gateway, (True, f"fake-n{n_chunks}", 4, N_STREAMS))
                    time.sleep(2)
                    dump = counted.end(f"n{n_chunks}")
                    streams[n_chunks] = total(dump) / N_STREAMS
                if keep:
                    shutil.copy(plain, f"{keep}.request")
                    shutil.copy(dump, f"{keep}.stream")
                report(idle, plain, streams)
            finally:
                gateway.stop()
        finally:
            upstream.stop()
