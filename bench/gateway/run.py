#!/usr/bin/env python3
"""What a request and a chunk cost on their way through a gateway: Tandem, and beside it what is there.

Usage: bench/gateway/run.py [--rounds 3] [--only tandem,nginx] [--quick] [--json FILE] [--binary tandem]
       bench/gateway/run.py --instructions [--keep PREFIX]

One fake upstream and one load client on loopback (from ../shared/tools where that is at hand, else
bench/gateway's own), every gateway in turn in each round, so that a busy machine is busy for all. CPU
is what the scheduler gave the gateway's threads, which neighbours hardly change; latencies they do,
so the machine's state stands beside each round. Figures are medians over the rounds.
--instructions counts what Tandem executes for a request and a chunk instead (instructions.py); it needs no
quiet machine.
Peers: Portkey (`npm ci --ignore-scripts` in peers/ first), nginx and haproxy (Debian packages).
"""
import argparse
import glob
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import instructions

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "tools"
BUILD = ROOT / "build" / "release"
UPSTREAM_PORT = 9131
N_ABORTS = 20
ABORT_LIMIT_MS = 100
# name: (streams, model, connections, requests, warm-up, what the CPU is divided by)
STEPS = {
    "alone": (False, "fake", 1, 400, 40, "req"),
    "plain": (False, "fake", 16, 4000, 200, "req"),
    "burst": (True, "fake-n256", 16, 160, 16, "chunks"),
    "paced": (True, "fake-n64-i5", 50, 150, 50, "chunks"),
}
ABORT_MODEL = "fake-n200-i20"
MODELS = sorted({step[1] for step in STEPS.values()} | {ABORT_MODEL})


def log(text):
    print(text, file=sys.stderr, flush=True)


def wait_for_port(port, process):
    for _ in range(1200):
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"does not listen on {port}")


class Program:
    """A process with its children, ended with its process group."""

    def __init__(self, name, port, command, headers=(), path="/v1/chat/completions", env=None, out=None):
        self.name, self.port, self.headers, self.path = name, port, list(headers), path
        self.process = subprocess.Popen(command, start_new_session=True, env={**os.environ, **(env or {})},
                                        stdout=out or subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            wait_for_port(port, self.process)
        except RuntimeError:
            self.stop()
            raise

    def pids(self):
        pids, found = [self.process.pid], True
        while found:
            found = False
            for path in glob.glob("/proc/[0-9]*/stat"):
                try:
                    fields = open(path).read().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                pid, parent = int(path.split("/")[2]), int(fields[1])
                if parent in pids and pid not in pids:
                    pids.append(pid)
                    found = True
        return pids

    def cpu_us(self, pids):
        total = 0
        for pid in pids:
            for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
                total += int(open(path).read().split()[0])
        return total / 1000

    def resident_mib(self):
        total = 0
        for pid in self.pids():
            for line in open(f"/proc/{pid}/status"):
                if line.startswith("VmRSS"):
                    total += int(line.split()[1])
        return total / 1024

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


def build_tools(work, own):
    """The commands of the fake upstream and the load client."""
    if not own and (SHARED / "fakeup.c").exists() and shutil.which("cc"):
        for name in ("fakeup", "gwload"):
            subprocess.run(["cc", "-O2", "-w", str(SHARED / f"{name}.c"), "-o", f"{work}/{name}", "-lpthread"],
                           check=True)
        return f"{work}/fakeup", f"{work}/gwload", "shared"
    targets = ["bench_gateway_fake_upstream", "bench_gateway_load_client"]
    subprocess.run(["cmake", "--build", str(BUILD), "--target", *targets], check=True, stdout=sys.stderr)
    return *(str(BUILD / "bench" / "gateway" / target) for target in targets), "own"


def start_tandem(work, port, binary, upstream, under=(), models=MODELS):
    data = f"{work}/tandem"
    key = subprocess.run([binary, "keys", "create", "bench", "--data-dir", data], check=True,
                         capture_output=True, text=True).stdout.split()[-1]
    command = [*under, binary, "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", data]
    for model in models:
        command += ["--upstream", f"{model}={upstream}"]
    no_proxy = {name: "" for name in ("http_proxy", "https_proxy", "all_proxy")}
    return Program("tandem", port, command, [f"Authorization: Bearer {key}"], env=no_proxy)


def start_portkey(_work, port, upstream):
    server = HERE / "peers" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not server.exists():
        raise RuntimeError("not installed: cd bench/gateway/peers && npm ci --ignore-scripts")
    return Program("portkey", port, ["node", str(server), f"--port={port}", "--headless"],
                   ["x-portkey-provider: openai", f"x-portkey-custom-host: {upstream}",
                    "Authorization: Bearer sk-none"], env={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"})


def start_nginx(work, port, _upstream):
    if not shutil.which("nginx"):
        raise RuntimeError("not installed")
    path = pathlib.Path(work) / "nginx.conf"
    path.write_text(f"""daemon off; worker_processes 1; pid {work}/nginx.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {work}/nb; proxy_temp_path {work}/np;
  fastcgi_temp_path {work}/nf; uwsgi_temp_path {work}/nu; scgi_temp_path {work}/ns;
  keepalive_requests 1000000;
  upstream up {{ server 127.0.0.1:{UPSTREAM_PORT}; keepalive 128; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://up; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_buffering off; }} }} }}
""")
    return Program("nginx", port, ["nginx", "-c", str(path), "-p", work])


def start_haproxy(work, port, _upstream):
    if not shutil.which("haproxy"):
        raise RuntimeError("not installed")
    path = pathlib.Path(work) / "haproxy.cfg"
    path.write_text(f"""global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-no-delay
frontend in
  bind 127.0.0.1:{port}
  default_backend up
backend up
  http-reuse always
  server s 127.0.0.1:{UPSTREAM_PORT}
""")
    return Program("haproxy", port, ["haproxy", "-db", "-f", str(path)])


def count_instructions(options):
    with tempfile.TemporaryDirectory() as work:
        upstream_binary, client, _ = build_tools(work, own=True)
        models = ["fake", *(f"fake-n{n}" for n in instructions.CHUNKS)]
        instructions.measure(
            options.binary,
            lambda: Program("upstream", UPSTREAM_PORT, [upstream_binary, str(UPSTREAM_PORT)]),
            lambda gateway, step: load(client, gateway.port, gateway.path, gateway.headers, (*step, 0, "")),
            lambda folder, binary, under: start_tandem(folder, 9141, binary, f"http://127.0.0.1:{UPSTREAM_PORT}/v1",
                                                       under, models),
            options.keep)


def load(client, port, path, headers, step):
    streams, model, connections, requests, warm_up, _ = step
    command = [client, "-p", str(port), "-P", path, "-m", model, "-c", str(connections), "-n", str(requests),
               "-w", str(warm_up)] + (["-s"] if streams else [])
    for header in headers:
        command += ["-H", header]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0 or not done.stdout.strip():
        raise RuntimeError(f"load client: {done.stderr.strip()[-200:]}")
    return json.loads(done.stdout)


def stats():
    connection = http.client.HTTPConnection("127.0.0.1", UPSTREAM_PORT, timeout=10)
    connection.request("GET", "/stats")
    return json.loads(connection.getresponse().read())


def abort_once(gateway):
    """Leaves in the middle of a stream; ms until the upstream knows, or None."""
    body = json.dumps({"model": ABORT_MODEL, "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    head = [f"POST {gateway.path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json",
            f"Content-Length: {len(body)}", *gateway.headers]
    before = stats()["aborted_while_busy"]
    client = socket.create_connection(("127.0.0.1", gateway.port), 10)
    client.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())
    seen = b""
    while seen.count(b"data: ") < 5:
        piece = client.recv(65536)
        if not piece:
            raise RuntimeError("the stream ended early: " + seen[-200:].decode(errors="replace"))
        seen += piece
    left = time.monotonic()
    client.close()
    while time.monotonic() - left < 3:
        if stats()["aborted_while_busy"] > before:
            return (time.monotonic() - left) * 1000
        time.sleep(0.001)
    return None


def machine():
    with open("/proc/stat") as file:
        ticks = [int(x) for x in file.readline().split()[1:]]
    return {"load": os.getloadavg()[0], "busy": sum(ticks) - ticks[3] - ticks[4] - ticks[7], "all": sum(ticks),
            "steal": ticks[7]}


def measure(gateway, client, direct, steps):
    figures = {}
    pids = gateway.pids()
    for name, step in steps.items():
        # The warm-up is not in the client's counts, but it is in the CPU time.
        before = gateway.cpu_us(pids)
        result = load(client, gateway.port, gateway.path, gateway.headers, step)
        used = gateway.cpu_us(pids) - before
        bad = result["errors"] + result["non2xx"] + result["no_done"]
        if bad:
            raise RuntimeError(f"{name}: {bad} of {result['req']} requests went wrong")
        n = result["req"] + step[4]
        if step[5] == "chunks":
            n *= result["chunks"] / result["req"]
        figures[f"{name}_cpu_us"] = used / n
        if name == "alone":
            straight = load(client, UPSTREAM_PORT, "/v1/chat/completions", [], step)
            figures["added_p50_us"] = result["lat_us"]["p50"] - straight["lat_us"]["p50"]
        if name == "paced":
            figures["transit_added_p50_us"] = result["transit_us"]["p50"] - direct["transit_us"]["p50"]
    figures["resident_mib"] = gateway.resident_mib()
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="tandem,nginx,haproxy,portkey")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests: does it run at all")
    parser.add_argument("--own-tools", action="store_true", help="even where ../shared/tools is at hand")
    parser.add_argument("--binary", default=str(BUILD / "tandem"))
    parser.add_argument("--json", default="")
    parser.add_argument("--instructions", action="store_true", help="count instructions under callgrind")
    parser.add_argument("--keep", default="", help="with --instructions: prefix of the files in which the profiles are left")
    options = parser.parse_args()
    if options.instructions:
        return count_instructions(options)
    steps = {name: (s, m, c, max(n // (10 if options.quick else 1), c), w, per)
             for name, (s, m, c, n, w, per) in STEPS.items()}

    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)  # nginx's worker is another user
        upstream_binary, client, tools = build_tools(work, options.own_tools)
        log(f"tools: {tools}")
        upstream_url = f"http://127.0.0.1:{UPSTREAM_PORT}/v1"
        starters = {
            "tandem": lambda: start_tandem(work, 9141, options.binary, upstream_url),
            "nginx": lambda: start_nginx(work, 9142, upstream_url),
            "haproxy": lambda: start_haproxy(work, 9143, upstream_url),
            "portkey": lambda: start_portkey(work, 9144, upstream_url),
        }
        programs = [Program("upstream", UPSTREAM_PORT, [upstream_binary, str(UPSTREAM_PORT)])]
        gateways, absent, rounds = [], {}, []
        try:
            for name in options.only.split(","):
                try:
                    gateways.append(starters[name]())
                    programs.append(gateways[-1])
                except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                    absent[name] = str(error)
                    log(f"{name}: left out: {error}")
            for gateway in list(gateways):
                try:
                    load(client, gateway.port, gateway.path, gateway.headers, (True, "fake-n256", 2, 4, 0, ""))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    absent[gateway.name] = str(error)
            idle = {gateway.name: gateway.resident_mib() for gateway in gateways}
            for number in range(options.rounds):
                before = machine()
                direct = load(client, UPSTREAM_PORT, "/v1/chat/completions", [], steps["paced"])
                results = {}
                for gateway in gateways:
                    try:
                        results[gateway.name] = measure(gateway, client, direct, steps)
                    except (RuntimeError, subprocess.TimeoutExpired) as error:
                        absent[gateway.name] = str(error)
                        log(f"{gateway.name}: {error}")
                after = machine()
                share = (after["busy"] - before["busy"]) / max(1, after["all"] - before["all"])
                steal = (after["steal"] - before["steal"]) / max(1, after["all"] - before["all"])
                state = {"load_before": before["load"], "load_after": after["load"], "busy": round(share, 3),
                         "steal": round(steal, 4)}
                log(f"round {number + 1}: {state}")
                rounds.append({"machine": state, "gateways": results})
            aborts = {}
            for gateway in gateways:
                try:
                    aborts[gateway.name] = [abort_once(gateway) for _ in range(N_ABORTS)]
                except (RuntimeError, OSError) as error:
                    log(f"{gateway.name}: aborts: {error}")
        finally:
            for program in programs:
                program.stop()

    report = {"tools": tools, "rounds": rounds, "absent": absent, "aborts_ms": aborts, "idle_mib": idle,
              "median": {}}
    for name in {name for one in rounds for name in one["gateways"]}:
        of = [one["gateways"][name] for one in rounds if name in one["gateways"]]
        median = {key: statistics.median(one[key] for one in of) for key in of[0]}
        median["idle_mib"] = idle[name]
        times = aborts.get(name, [])
        median["aborts_in_time"] = sum(1 for ms in times if ms is not None and ms <= ABORT_LIMIT_MS)
        median["aborts_worst_ms"] = max((ms if ms is not None else 3000.0 for ms in times), default=-1)
        report["median"][name] = median
    columns = [("plain_cpu_us", "us CPU/request"), ("added_p50_us", "added p50 us"),
               ("burst_cpu_us", "us CPU/chunk, burst"), ("paced_cpu_us", "us CPU/chunk, paced"),
               ("transit_added_p50_us", "added us, paced chunk"), ("idle_mib", "idle MiB"),
               ("resident_mib", "loaded MiB"), ("aborts_in_time", f"aborts of {N_ABORTS}"),
               ("aborts_worst_ms", "worst ms")]
    print("| gateway | " + " | ".join(title for _, title in columns) + " |")
    print("|" + "---|" * (len(columns) + 1))
    for name in options.only.split(","):
        if name in report["median"]:
            row = report["median"][name]
            print(f"| {name} | " + " | ".join(f"{row[key]:.2f}" if key == "burst_cpu_us" else f"{row[key]:.0f}"
                                              if key == "aborts_in_time" else f"{row[key]:.1f}"
                                              for key, _ in columns) + " |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if "tandem" in report["median"] or "tandem" not in options.only else 1)


if __name__ == "__main__":
    main()
