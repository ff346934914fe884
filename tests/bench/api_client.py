"""The measuring client of tests/bench/api.sh: the daemon's answers beside its peers', in turns.

Whatever is compared is checked to be the same first: bytes of a download, lines that were found,
the size of an answer.
"""

import argparse
import filecmp
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

RECEIVE_BYTES = 256 << 10
MIB = 1 << 20


class Daemon:
    def __init__(self, given):
        url, pid, token = given.split(",")
        self.url, self.pid = url, int(pid)
        self.lines = f"Authorization: Bearer {token}\r\n"


class Link:
    """A kept connection that sends GET and reads answers whose length is announced."""

    def __init__(self, url, lines=""):
        place = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((place.hostname, place.port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = f"Host: {place.netloc}\r\n{lines}"
        self.buffer = bytearray(RECEIVE_BYTES)

    def get(self, path, take=None):
        """How many bytes the body had. `take` gets them piece by piece."""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\n{self.lines}\r\n".encode())
        have = b""
        while b"\r\n\r\n" not in have:
            more = self.socket.recv(4096)
            if not more:
                sys.exit(f"GET {path}: the connection was closed")
            have += more
        head, rest = have.split(b"\r\n\r\n", 1)
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        if not head.startswith(b"HTTP/1.1 200") or not length:
            sys.exit(f"GET {path}: {head!r}")
        left = total = int(length[1])
        if rest:
            take and take(rest)
            left -= len(rest)
        while left:
            count = self.socket.recv_into(self.buffer)
            if count <= 0:
                sys.exit(f"GET {path}: {left} bytes are missing")
            take and take(memoryview(self.buffer)[:count])
            left -= count
        return total


def fetch(url, lines=""):
    """The body of one answer, whole."""
    out = bytearray()
    place = urllib.parse.urlsplit(url)
    link = Link(url, lines)
    link.get(place.path + ("?" + place.query if place.query else ""), out.extend)
    return bytes(out)


def timed(action):
    begin = time.monotonic()
    out = action()
    return time.monotonic() - begin, out


def table(first, rows, digits=1):
    print(f"\n| {first} | n | median | least | greatest |\n|---|---|---|---|---|")
    for name, figures in rows.items():
        cells = [statistics.median(figures), min(figures), max(figures)]
        print(f"| {name} | {len(figures)} | " +
              " | ".join(f"{cell:,.{digits}f}" for cell in cells) + " |")
    print(flush=True)


def bar(line, figure, limit, is_ok, text):
    print(f"bar: api.{line} {figure:.3g} {limit} {'ok' if is_ok else 'short'} {text}", flush=True)


def memory_mib(pid):
    """Resident now, and the most since `forget_peak`."""
    with open(f"/proc/{pid}/status") as lines:
        found = dict(line.split(":", 1) for line in lines)
    return tuple(int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def pss_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def forget_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as out:
        out.write("5")


def download(daemon, given):
    """A file of an image, and the same bytes from nginx; a new connection each time."""
    sides = {"coppice": (daemon.url, given.ours, daemon.lines),
             "nginx": (given.theirs, urllib.parse.urlsplit(given.theirs).path, "")}
    for url, path, lines in sides.values():  # fills the page cache too
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(given.plain)) as copy:
            Link(url, lines).get(path, copy.write)
            copy.flush()
            if not filecmp.cmp(copy.name, given.plain, shallow=False):
                sys.exit(f"{path}: other bytes than those of {given.plain}")
    forget_peak(daemon.pid)
    before, _ = memory_mib(daemon.pid)
    speeds = {name: [] for name in sides}
    for _ in range(given.count):
        for name, (url, path, lines) in sides.items():
            link = Link(url, lines)
            seconds, count = timed(lambda: link.get(path))
            speeds[name].append(count / MIB / seconds)
            link.socket.close()
    after, peak = memory_mib(daemon.pid)
    table("a file of 1 GiB, MiB/s", speeds, 0)
    print(f"resident memory of the daemon, MiB: {before:.1f} before, {peak:.1f} at most, "
          f"{after:.1f} after")
    ratio = statistics.median(speeds["coppice"]) / statistics.median(speeds["nginx"])
    bar("5", ratio, 0.5, ratio >= 0.5, "download, times nginx's speed")
    grown = peak - before
    bar("5", grown, 16, grown <= 16, "MiB of memory that downloads took at most")


def list_directory(daemon, given):
    link = Link(daemon.url, daemon.lines)
    entries = len(json.loads(fetch(daemon.url + given.ours, daemon.lines))["files"])
    times = [timed(lambda: link.get(given.ours))[0] * 1000 for _ in range(500)]
    table("a warm listing, ms", {f"{entries} entries": times}, 2)
    ordered = sorted(times)
    print(f"p99 {ordered[int(len(ordered) * 0.99)]:.2f} ms")
    bar("5", statistics.median(times), 2, statistics.median(times) <= 2, "ms of a listing, p50")


# One with a word that must be there, one with only a class, one of two words.
PATTERNS = [r"class [A-Z][a-z]+Distribution\b", r"import_module\([A-Za-z]+\)",
            r"NotADirectoryError|IsADirectoryError", r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T"]


def plain_grep(pattern, folder, options):
    """Lines as (path in the image, number); what it says of binary files is none."""
    done = subprocess.run(["grep", options, "-n", "-e", pattern, "."], cwd=folder,
                          capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    out = []
    for line in done.stdout.split(b"\n"):
        found = re.match(rb"\./(.*?):(\d+):", line)
        if found:
            out.append((found[1].decode(), int(found[2])))
    return out


def image_grep(daemon, given, pattern):
    query = urllib.parse.urlencode({"pattern": pattern, "path": "/usr/lib/python3"})
    answer = json.loads(fetch(f"{daemon.url}{given.ours}?{query}", daemon.lines))
    if answer["truncated"]:
        sys.exit(f"grep {pattern}: the answer is cut")
    return [(match["path"].removeprefix("/usr/lib/python3/"), match["line_number"])
            for match in answer["matches"]]


def grep(daemon, given):
    ratios, rows = {}, {}
    for pattern in PATTERNS:
        plain = plain_grep(pattern, given.plain, "-rIE")
        if not 0 < len(plain) < 100:
            print(f"{pattern}: {len(plain)} lines here, not between 1 and 99: left out")
            continue
        if sorted(image_grep(daemon, given, pattern)) != sorted(plain):
            sys.exit(f"grep {pattern}: the image has other lines than the folder")
        ways = {"coppice": lambda: image_grep(daemon, given, pattern),
                "grep -rE": lambda: plain_grep(pattern, given.plain, "-rE"),
                "grep -rIE": lambda: plain_grep(pattern, given.plain, "-rIE")}
        name = pattern.replace("|", r"\|")
        times = {way: [] for way in ways}
        for _ in range(given.count):
            for way, action in ways.items():
                times[way].append(timed(action)[0] * 1000)
        rows |= {f"`{name}`, {len(plain)} lines, {way}": ms for way, ms in times.items()}
        ours = statistics.median(times["coppice"])
        ratios[pattern] = [ours / statistics.median(times[way]) for way in list(ways)[1:]]
    table("a search of /usr/lib/python3, ms", rows)
    if not ratios:
        print("bar: api.5 - 3 skip no pattern has between 1 and 99 lines here")
    for pattern, (times, text_times) in ratios.items():
        bar("5", times, 3, times <= 3, f"times grep -rE for {pattern}; {text_times:.2f} times -rIE")


def wrk(url, lines, seconds):
    """Requests a second, and the 99th percentile of the latency in ms."""
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", url]
    for line in lines.split("\r\n"):
        command += ["-H", line] if line else []
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    unit = {"us": 0.001, "ms": 1, "s": 1000}
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", out)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), float(late[1]) * unit[late[2]]


def poll(daemon, given):
    """One core for the server, each in its turn, the other for the load."""
    ours, theirs = fetch(daemon.url + given.ours, daemon.lines), fetch(given.theirs)
    if ours != theirs:
        sys.exit("the answer changed since nginx's file was made of it")
    children = subprocess.run(["pgrep", "-P", str(given.theirs_pid)], check=True,
                              capture_output=True, text=True).stdout.split()
    for pid in [daemon.pid, *map(int, children)]:
        subprocess.run(["taskset", "-a", "-c", "-p", "0", str(pid)], check=True,
                       stdout=subprocess.DEVNULL)
    sides = {"coppice": (daemon.url + given.ours, daemon.lines), "nginx": (given.theirs, "")}
    rates, late = {name: [] for name in sides}, {name: [] for name in sides}
    for url, lines in sides.values():
        wrk(url, lines, 1)
    for _ in range(given.count):
        for name, (url, lines) in sides.items():
            rate, p99 = wrk(url, lines, given.seconds)
            rates[name].append(rate)
            late[name].append(p99)
    subprocess.run(["taskset", "-a", "-c", "-p", f"0-{os.cpu_count() - 1}", str(daemon.pid)],
                   check=True, stdout=subprocess.DEVNULL)
    print(f"answers of {len(ours)} bytes over 32 connections, {given.seconds} s each")
    table("requests a second", rates, 0)
    table("p99, ms", late, 2)
    ratio = statistics.median(rates["coppice"]) / statistics.median(rates["nginx"])
    bar("6", ratio, 0.5, ratio >= 0.5, "GET of an operation, times nginx's rate; p99 "
        f"{statistics.median(late['coppice']):.2f} against {statistics.median(late['nginx']):.2f} ms")


def idle(daemon, given):
    count = 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 100), hard))
    first = Link(daemon.url, daemon.lines)
    for _ in range(1000):  # what it takes once for all
        first.get(given.ours)
    first.buffer = bytearray(4096)
    before = (*memory_mib(daemon.pid)[:1], pss_mib(daemon.pid))
    links = []
    for _ in range(count):
        link = Link(daemon.url, daemon.lines)
        link.buffer = first.buffer
        link.get(given.ours)
        links.append(link)
    after = (*memory_mib(daemon.pid)[:1], pss_mib(daemon.pid))
    for link in links:  # they were all held
        link.get(given.ours)
    again = (*memory_mib(daemon.pid)[:1], pss_mib(daemon.pid))
    print(f"\n| {count:,} idle connections | resident, MiB | PSS, MiB |\n|---|---|---|")
    for name, (rss, pss) in {"before": before, "after a request on each": after,
                             "after another": again}.items():
        print(f"| {name} | {rss:.1f} | {pss:.1f} |")
    grown = max(after[1], again[1]) - before[1]
    print(f"{grown * 1024 / count:.2f} KiB each\n")
    bar("6", grown, 100, grown <= 100, f"MiB of memory (PSS) for {count} idle connections")


def main():
    parts = {"download": download, "list": list_directory, "grep": grep, "poll": poll,
             "idle": idle}
    words = argparse.ArgumentParser()
    words.add_argument("part", choices=parts)
    words.add_argument("--daemon", type=Daemon, required=True)
    words.add_argument("--ours", required=True)
    words.add_argument("--theirs")
    words.add_argument("--theirs-pid", type=int)
    words.add_argument("--plain")
    words.add_argument("--seconds", type=int, default=5)
    words.add_argument("--count", type=int, default=int(os.environ.get("COUNT", 9)))
    given = words.parse_args()
    parts[given.part](given.daemon, given)


if __name__ == "__main__":
    main()
