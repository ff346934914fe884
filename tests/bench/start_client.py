"""The measuring client of tests/bench/start.sh: runs over HTTP against daemons that it is given.

A run is timed from before its POST to when a poll of its operation shows a terminal state, on one
kept connection, a poll each POLL_SECONDS. Every run counts; one that fails ends the measurement.
"""

import argparse
import http.client
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse

POLL_SECONDS = 0.005
BUSY_POLL_SECONDS = 0.05  # where many clients share the cores with what they measure
COMMAND = "echo x > /root/f"
PHASES = ["queue_us", "overlay_us", "boot_us", "mount_us", "exec_us", "unmount_us", "close_us",
          "seal_us"]


class Daemon:
    def __init__(self, given):
        self.name, rest = given.split("=", 1)
        self.url, pid, self.log, self.cgroup, *self.tokens = rest.split(",")
        self.pid = int(pid)

    def waits(self):
        """How many VMs have come to wait since its start."""
        with open(self.log) as lines:
            return sum("a vm waits" in line for line in lines)

    def has(self, text):
        with open(self.log) as lines:
            return any(text in line for line in lines)


class Client:
    def __init__(self, daemon, token=0, poll_seconds=POLL_SECONDS):
        address = urllib.parse.urlsplit(daemon.url)
        self.link = http.client.HTTPConnection(address.hostname, address.port, timeout=120)
        self.head = {"Authorization": "Bearer " + daemon.tokens[token]}
        self.poll_seconds = poll_seconds

    def call(self, method, path, body=None):
        self.link.request(method, path, body and json.dumps(body), self.head)
        answer = self.link.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {text!r}")
        return json.loads(text)

    def spawn(self, image="tag:busybox:latest", command=COMMAND):
        return self.call("POST", "/v1/instances",
                         {"image": image, "command": command, "shell": True, "timeout": 600})["uuid"]

    def wait(self, operation):
        while True:
            state = self.call("GET", "/v1/operations/" + operation)
            if state["status"] == "SUCCESS":
                return state
            if state["status"] in ("FAILED", "CANCELLED"):
                sys.exit(f"a run did not succeed: {state}")
            time.sleep(self.poll_seconds)

    def run(self):
        return self.wait(self.spawn())


def wait_until(what, seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def timed(action):
    begin = time.monotonic()
    out = action()
    return (time.monotonic() - begin) * 1000, out


def row(name, figures, digits=1):
    ordered = sorted(figures)
    cells = [statistics.median(ordered), ordered[0], ordered[-1]]
    print(f"| {name} | {len(ordered)} | " + " | ".join(f"{cell:.{digits}f}" for cell in cells) + " |")


def head(first):
    print(f"\n| {first} | n | median | least | greatest |\n|---|---|---|---|---|")


def bar(line, figure, limit, is_ok, reason=""):
    print(f"bar: start.{line} {figure:.3g} {limit} {'ok' if is_ok else 'short'}{reason}")


def processes_of(root):
    """That process and all that come from it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    parents[int(entry)] = int(stat.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass  # it ended
    out = [root]
    for pid in out:
        out += [child for child, parent in parents.items() if parent == pid]
    return out


def cpu_seconds_of(daemon):
    """Of all its processes, those that have ended too."""
    with open(daemon.cgroup + "/cpu.stat") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec")) / 1e6


def qemus_of(root):
    out = []
    for pid in processes_of(root):
        try:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("qemu-system"):
                out.append(pid)
        except OSError:
            pass
    return out


def pss_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class Podman:
    """What one does with it for a run whose file system is kept: run, commit, rm."""

    def __init__(self, command, layout):
        self.command = shlex.split(command)
        self.reason = ""
        self.count = 0
        try:
            # By a relative path: it takes the path for the image's name, which must be lower case.
            self.folder = os.path.dirname(layout)
            self.image = self.call("pull", "-q", "oci:" + os.path.basename(layout)).split()[-1]
            self.run()
        except (OSError, subprocess.SubprocessError) as error:
            self.reason = " ".join(str(getattr(error, "stderr", "") or error).split())[:200]

    def call(self, *words):
        return subprocess.run(self.command + list(words), check=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              cwd=self.folder).stdout

    def run(self):
        self.count += 1
        name = f"run{self.count}"
        self.call("run", "--name", name, "--network=none", "--ulimit", "nofile=1024:1024",
                  "--ulimit", "nproc=1000:1000", self.image, "sh", "-c", COMMAND)
        self.call("commit", "-q", name)
        self.call("rm", name)


def phase_table(operations):
    head("phase, ms")
    for phase in PHASES:
        row(phase.removesuffix("_us"), [o["metrics"]["phases"][phase] / 1000 for o in operations], 2)


def wait_for_templates(daemons):
    for daemon in daemons:
        wait_until(f"a template of {daemon.name}", 300,
                   lambda: daemon.has("template made") or daemon.has("template loaded"))


def latency(daemons, given):
    ways = {"pool": "pool", "restore": "template", "boot": "cold"}
    wait_for_templates([daemons["pool"], daemons["restore"]])
    podman = Podman(given.podman, given.layout)
    clients = {name: Client(daemons[name]) for name in ways}
    wait_until("a VM waits", 60, lambda: daemons["pool"].waits() > 0)
    taken = 0  # of the VMs that came to wait
    for name, client in clients.items():  # the first run of a daemon reads its files
        taken += client.run()["metrics"]["vm_start"] == "pool"
    ms = {name: [] for name in [*ways, "podman"]}
    operations = {name: [] for name in ways}
    for _ in range(given.count):
        for name in ms:
            # Making the next VM ready belongs to no request: nothing is timed meanwhile.
            wait_until("a VM waits", 60, lambda: daemons["pool"].waits() > taken)
            if name == "podman":
                if not podman.reason:
                    ms[name].append(timed(podman.run)[0])
                continue
            took, operation = timed(clients[name].run)
            ms[name].append(took)
            operations[name].append(operation)
            taken += operation["metrics"]["vm_start"] == "pool"
    head("request to terminal state, ms")
    for name, figures in ms.items():
        if figures:
            row("podman run + commit + rm" if name == "podman" else name, figures)
    print()
    for name, done in operations.items():
        seen = [operation["metrics"]["vm_start"] for operation in done]
        print(f"{name}: the way of each run: " +
              ", ".join(f"{seen.count(way)} {way}" for way in sorted(set(seen))))
        if set(seen) != {ways[name]}:
            print(f"  not all went the way that is measured: {seen}")
        phase_table(done)
    print()
    for line, name, limit in (("1", "pool", 0.4), ("1", "restore", 1.15)):
        if podman.reason:
            print(f"bar: start.{line} - {limit} skip podman does not run here: {podman.reason}")
        else:
            ratio = statistics.median(ms[name]) / statistics.median(ms["podman"])
            bar(line, ratio, limit, ratio <= limit, f" {name} against podman")


def load(daemons, given):
    wait_for_templates(daemons.values())
    # What one costs, alone: from a template, with its teardown.
    alone = daemons["alone"]
    client = Client(alone)
    client.run()
    wait_until("its VM is gone", 30, lambda: not qemus_of(alone.pid))
    before = cpu_seconds_of(alone)
    for _ in range(given.count):
        client.run()
    wait_until("their VMs are gone", 30, lambda: not qemus_of(alone.pid))
    one = (cpu_seconds_of(alone) - before) / given.count

    usual = daemons["usual"]
    runs, clients = 200, 8
    left = iter(range(runs))
    lock = threading.Lock()
    done, ends = [], []

    def follow():
        mine = Client(usual, 0, BUSY_POLL_SECONDS)
        while True:
            with lock:
                if next(left, None) is None:
                    return
            operation = mine.run()
            with lock:
                done.append(operation)
                ends.append(time.monotonic())

    spent = cpu_seconds_of(usual)
    begin = time.monotonic()
    threads = [threading.Thread(target=follow) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(done) != runs:
        sys.exit(f"{runs - len(done)} of {runs} runs did not succeed")
    seconds = max(ends) - begin
    cores = os.cpu_count()
    seen = [operation["metrics"]["vm_start"] for operation in done]
    print(f"{runs} runs from {clients} clients in {seconds:.1f} s, none failed: "
          f"{runs / seconds:.2f} a second; " +
          ", ".join(f"{seen.count(way)} {way}" for way in sorted(set(seen))))
    print(f"processor time: {(cpu_seconds_of(usual) - spent) / runs * 1000:.0f} ms for each, with "
          "what was made ready meanwhile")
    print(f"one restore, run and teardown alone: {one * 1000:.0f} ms of a core (n {given.count}); "
          f"{cores} cores could do {cores / one:.2f} a second")
    phase_table(done)
    share = runs / seconds / (cores / one)
    bar("3", share, 0.75, share >= 0.75, " of what the cores could do")
    fairness(usual)


def fairness(usual):
    """Another project has 199 runs queued; ours has one at a time."""
    many, one = Client(usual, 0, BUSY_POLL_SECONDS), Client(usual, 1, BUSY_POLL_SECONDS)
    queued = [many.spawn() for _ in range(199)]
    waits = [one.run()["metrics"]["phases"]["queue_us"] / 1000 for _ in range(30)]
    still = sum(many.call("GET", "/v1/operations/" + o)["status"] == "PENDING" for o in queued)
    theirs = [many.wait(operation)["metrics"]["phases"] for operation in queued]
    slots = [sum(phases[p] for p in PHASES if p != "queue_us") / 1000 for phases in theirs]
    head("another project's 199 runs are queued, ms")
    row("wait of a project's only run", waits)
    row("time in a slot of theirs", slots)
    row("wait of theirs", [phases["queue_us"] / 1000 for phases in theirs])
    print(f"{still} of theirs were still queued after the last of ours")
    ratio = statistics.median(waits) / statistics.median(slots)
    bar("3", ratio, 1, ratio <= 1 and still > 0, " wait against the time of one run in a slot")


def memory(daemons, given):
    daemon = daemons["many"]
    begin = time.monotonic()
    wait_until(f"{given.count} VMs wait", 600, lambda: daemon.waits() >= given.count)
    print(f"{given.count} VMs wait after {time.monotonic() - begin:.0f} s")
    figures = [pss_mib(pid) for pid in qemus_of(daemon.pid)]
    head("a waiting VM's memory (PSS), MiB")
    row("each", figures)
    print(f"all {len(figures)}: {sum(figures):.0f} MiB")
    middle = statistics.median(figures)
    bar("5", middle, 45, middle <= 45 and len(figures) == given.count, " MiB of a waiting VM")


def main():
    words = argparse.ArgumentParser()
    words.add_argument("part", choices=["latency", "load", "memory"])
    words.add_argument("--daemon", action="append", required=True)
    words.add_argument("--podman")
    words.add_argument("--layout")
    words.add_argument("--count", type=int, default=int(os.environ.get("COUNT", 30)))
    given = words.parse_args()
    daemons = {daemon.name: daemon for daemon in map(Daemon, given.daemon)}
    {"latency": latency, "load": load, "memory": memory}[given.part](daemons, given)


if __name__ == "__main__":
    main()
