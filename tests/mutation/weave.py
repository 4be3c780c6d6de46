"""Takes each check of the broker out in turn and asks whether a test fails.

cargo-mutants says what to take out. It builds once for each of its mutants, which for the broker's own modules is a day on two
cores. This weaves all of them into one copy of the sources, each behind a switch (`MUTANT=17`), builds that once, sees which
tests come by each switch, and runs those, the most particular first, until one fails.

    weave.py OUT [K/N]    the part K, from 0, of N. What it finds is in OUT/results, with the test that caught each, for these very
                          sources and tests: it goes on where it was cut off, and begins anew when one of them has changed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tree_sitter_rust
from tree_sitter import Language, Parser

# What verifies, binds, decides, counts and revokes.
PACKAGES = {
    "countersign": "src/assertion/**/*.rs src/domain/attribute.rs src/config/resolve/accept.rs src/exchange/*.rs src/policy/*.rs src/revocation/*.rs src/client/*.rs src/rates.rs".split(),
    "countersign-verify": ["verify/src/[!w]*.rs"],
}
# How many are tried at once.
AT_ONCE = os.cpu_count() or 2
# What is for people is not a check.
PEOPLE = "fmt::|::describe|::name |Debug|Display|_text |name_of |replace said "
# Tests that build, and those that see nothing of these modules.
SKIPPED = ("architecture::", "wycheproof", "snapshots::", "docs::")
CHOSEN = [arg for package in PACKAGES for arg in ("--package", package)]
SWITCH = """
#[doc(hidden)]
pub fn woven(mutant: usize) -> bool {
    use std::io::Write as _;
    static ACTIVE: std::sync::LazyLock<usize> =
        std::sync::LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0));
    static SEEN: std::sync::LazyLock<Option<std::fs::File>> = std::sync::LazyLock::new(|| {
        std::env::var("MUTANTS_SEEN").ok().and_then(|path| std::fs::File::options().append(true).create(true).open(path).ok())
    });
    static MARKS: [std::sync::atomic::AtomicBool; COUNT] = [const { std::sync::atomic::AtomicBool::new(false) }; COUNT];
    if let (Some(mut file), Some(mark)) = (SEEN.as_ref(), MARKS.get(mutant))
        && !mark.swap(true, std::sync::atomic::Ordering::Relaxed)
    {
        let _ = file.write_all(format!("{mutant}\\n").as_bytes());
    }
    *ACTIVE == mutant
}
"""


def listed(root):
    found = []
    for package, patterns in PACKAGES.items():
        files = [arg for pattern in patterns for path in sorted(root.glob(pattern)) for arg in ("--file", str(path.relative_to(root)))]
        command = ["cargo", "mutants", "--package", package, *files, "--exclude-re", PEOPLE, "--list", "--json"]
        found += json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)
    return found


class Source:
    """One file and the mutants in it, as regions that nest."""

    def __init__(self, path):
        self.raw = path.read_bytes()
        self.lines = self.raw.decode().split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line.encode()) + 1)
        self.tree = Parser(Language(tree_sitter_rust.language())).parse(self.raw)
        self.regions = {}
        self.places = []

    def at(self, place):
        line = place["line"] - 1
        return self.starts[line] + len(self.lines[line][: place["column"] - 1].encode())

    def add(self, number, mutant):
        start, end = self.at(mutant["span"]["start"]), self.at(mutant["span"]["end"])
        node = self.tree.root_node.descendant_for_byte_range(start, end)
        raw = lambda a, b: self.raw[a:b].decode()
        home = "crate" if mutant["file"].startswith("verify/") else "countersign_verify"
        switch, genre, new = f"{home}::woven({number})", mutant["genre"], mutant["replacement"]
        if genre == "FnValue":
            wrap = lambda text: f"if {switch} {{ return {new}; }} {text}"
        elif genre == "MatchArmGuard":
            wrap = (lambda text: f"({switch} || ({text}))") if new == "true" else (lambda text: f"(!{switch} && ({text}))")
        elif genre == "MatchArm":
            while node.type != "match_arm":
                node = node.parent
            pattern = node.child_by_field_name("pattern")
            guard = pattern.child_by_field_name("condition")
            if guard:
                start, end = guard.start_byte, guard.end_byte
                wrap = lambda text: f"(!{switch} && ({text}))"
            else:
                start = end = pattern.end_byte
                wrap = lambda text: f"{text} if !{switch}"
        elif genre == "UnaryOperator":
            node = node.parent
            start, end, after = node.start_byte, node.end_byte, end
            operand = raw(after, end)
            wrap = lambda text: f"(if {switch} {{ {operand} }} else {{ {text} }})"
        elif genre == "BinaryOperator":
            node = node.parent
            changed = raw(node.start_byte, start) + new + raw(end, node.end_byte)
            start, end = node.start_byte, node.end_byte
            wrap = lambda text: f"(if {switch} {{ {changed} }} else {{ {text} }})"
        else:
            return False
        self.regions.setdefault((start, end), []).append((number, wrap))
        return True

    def woven(self, dropped):
        """The text with all of it woven in; `places` says which bytes of it are of which mutants."""
        order = sorted(self.regions, key=lambda region: (region[0], -region[1]))

        def render(start, end, regions):
            text, at, index = "", start, 0
            while index < len(regions):
                region = regions[index]
                inner = [other for other in regions[index + 1 :] if other[1] <= region[1] and other[0] < region[1]]
                index += 1 + len(inner)
                text += self.raw[at : region[0]].decode()
                piece = render(*region, inner)
                for number, wrap in self.regions[region]:
                    if number not in dropped:
                        piece = f"\x01{number}\x02" + wrap(piece) + f"\x03{number}\x02"
                text, at = text + piece, region[1]
            return text + self.raw[at:end].decode()

        marked = render(0, len(self.raw), order)
        out, self.places, open_at = [], [], {}
        length = 0
        for part in re.split("(\x01\\d+\x02|\x03\\d+\x02)", marked):
            if part.startswith("\x01"):
                open_at[int(part[1:-1])] = length
            elif part.startswith("\x03"):
                self.places.append((open_at[int(part[1:-1])], length, int(part[1:-1])))
            else:
                out.append(part)
                length += len(part.encode())
        return "".join(out)

    def guilty(self, start, end):
        inside = [place for place in self.places if place[0] <= start and end <= place[1]]
        return min(inside, key=lambda place: place[1] - place[0])[2] if inside else None


def build(copy, sources, count, env):
    """Leaves out what does not compile until the rest does."""
    dropped = set()
    library = (copy / "verify/src/lib.rs").read_text()
    while True:
        for name, source in sources.items():
            (copy / name).write_text(source.woven(dropped))
        with open(copy / "verify/src/lib.rs", "w") as file:
            source = sources.get("verify/src/lib.rs")
            file.write((source.woven(dropped) if source else library) + SWITCH.replace("COUNT", str(count)))
        command = ["cargo", "check", "--locked", *CHOSEN, "--lib", "--keep-going", "--message-format=json"]
        run = subprocess.run(command, cwd=copy, env=env, capture_output=True)
        if run.returncode == 0:
            return dropped
        found = set()
        for line in run.stdout.splitlines():
            message = json.loads(line).get("message") or {}
            if message.get("level") != "error":
                continue
            for span in message["spans"]:
                if span["is_primary"] and span["file_name"] in sources:
                    found.add(sources[span["file_name"]].guilty(span["byte_start"], span["byte_end"]))
        found.discard(None)
        if not found - dropped:
            for line in run.stdout.splitlines():
                print((json.loads(line).get("message") or {}).get("rendered") or "", end="")
            sys.exit("the rest does not compile either")
        dropped |= found
        print(f"{len(dropped)} do not compile", flush=True)


def tests_of(binary):
    listing = subprocess.run([binary, "--list", "--format", "terse"], capture_output=True, text=True, check=True).stdout
    names = [line.removesuffix(": test") for line in listing.splitlines() if line.endswith(": test")]
    return [(binary, name) for name in names if not any(word in name for word in SKIPPED)]


def run(tests, copy, env, seconds):
    """The tests that fail, in one process a binary; one that takes too long fails."""
    for binary in sorted({test[0] for test in tests}):
        names = [name for other, name in tests if other == binary]
        # The first that fails is enough.
        command = [binary, "-Z", "unstable-options", "--fail-fast", "--exact", *names]
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(
                command, cwd=copy, env=dict(env, RUSTC_BOOTSTRAP="1"), stdout=said, stderr=subprocess.DEVNULL, start_new_session=True
            )
            try:
                failed = child.wait(seconds) != 0
            except subprocess.TimeoutExpired:
                return tests
            finally:
                stop(child)
            if failed:
                said.seek(0)
                named = re.findall(r"^test (\S+) \.\.\. FAILED$", said.read(), re.MULTILINE)
                return [(binary, name) for name in named if name in names] or tests
    return []


def stop(child):
    try:
        os.killpg(child.pid, 9)
    except ProcessLookupError:
        pass
    child.wait()


def tree(copy):
    """Stands for every file that is built or run."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(copy)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def main():
    root, out = Path(__file__).resolve().parents[2], Path(sys.argv[1]).resolve()
    part, parts = (int(number) for number in sys.argv[2].split("/")) if len(sys.argv) > 2 else (0, 1)
    out.mkdir(parents=True, exist_ok=True)
    copy = out / "woven"
    shutil.rmtree(copy, ignore_errors=True)
    for name in subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout.splitlines():
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy / name)
    results = out / "results" / tree(copy)
    results.mkdir(parents=True, exist_ok=True)
    mutants = dict(enumerate(listed(root), 1))
    sources = {}
    unwoven = {n for n, m in mutants.items() if not sources.setdefault(m["file"], Source(root / m["file"])).add(n, m)}
    env = dict(os.environ, CARGO_TARGET_DIR=str(out / "target"), RUSTFLAGS="--cap-lints allow", CARGO_PROFILE_DEV_DEBUG="0")
    unwoven |= build(copy, sources, len(mutants) + 1, env)
    (results / "unwoven.txt").write_text("".join(mutants[n]["name"] + "\n" for n in sorted(unwoven)))
    print(f"{len(mutants)} mutants, {len(unwoven)} of them not woven in", flush=True)
    command = ["cargo", "test", "--locked", "--no-run", *CHOSEN, "--lib", "--tests", "--bins", "--message-format=json"]
    built = subprocess.run(command, cwd=copy, env=env, check=True, stdout=subprocess.PIPE)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    binaries = [m["executable"] for m in messages if m.get("executable") and m["profile"]["test"] and m["target"]["kind"] != ["bin"]]
    tests = [test for binary in binaries for test in tests_of(binary)]
    seen, cost = {}, {}

    def traced(test):
        trace = out / f"seen-{abs(hash(test))}"
        trace.unlink(missing_ok=True)
        began = time.monotonic()
        if run([test], copy, dict(env, MUTANTS_SEEN=str(trace)), 300):
            print(f"fails with nothing taken out, left out: {test[1]}", flush=True)
            return
        cost[test] = time.monotonic() - began
        seen[test] = {int(line) for line in trace.read_text().split()} if trace.exists() else set()
        trace.unlink(missing_ok=True)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(traced, tests))
    print(f"{len(seen)} tests, {sum(cost.values()):.0f} s one by one", flush=True)
    files = [results / name for name in ("caught.txt", "missed.txt")]
    done = {line.split("\t")[0] for file in files if file.exists() for line in file.read_text().splitlines()}
    writing = threading.Lock()

    def tried(number):
        name = mutants[number]["name"]
        able = sorted((test for test in seen if number in seen[test]), key=lambda test: (cost[test] > 3, len(seen[test]), cost[test]))
        began, by = time.monotonic(), None
        with_it = dict(env, MUTANT=str(number))
        for chunk in [able[:8], able[8:]]:
            failed = run(chunk, copy, with_it, 40 + 3 * sum(cost[test] for test in chunk)) if chunk else []
            # Once more and alone: a test that fails for being one of many on a busy machine has caught nothing.
            by = next((test for test in failed if run([test], copy, with_it, 40 + 3 * cost[test])), None)
            if by:
                break
        with writing, open(results / ("caught.txt" if by else "missed.txt"), "a") as file:
            file.write(f"{name}\t{by[1]}\n" if by else f"{name}\n")
        print(f"{'caught' if by else 'MISSED'} {time.monotonic() - began:5.1f} s of {len(able)} tests  {name}", flush=True)

    left = [n for n, m in mutants.items() if n not in unwoven and m["name"] not in done and n % parts == part]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(tried, left))
    counts = {file.stem: len(file.read_text().splitlines()) if file.exists() else 0 for file in files}
    print(f"{counts['caught']} caught, {counts['missed']} missed, {len(unwoven)} not woven in: see {results}")


main()
