"""Run the examples of Markdown files: `sh` blocks command by command, `python` blocks one after the other.

    python -m benchmarks.docs_examples FOLDER README.md docs/tutorial.md

Each document gets a folder of its own, with the configurations of a clone if this is one, and one Python session for
all its blocks. Commands that set up the environment (`pip`, `nox`, `git`) are left to the caller and are skipped with a
message. Blocks in other languages (`console` for what needs the user's own files) are not run. `--outputs` prints what
the examples print.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SETUP = ("pip ", "nox", "git ", "cd ")
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", flags=re.S | re.M)


def commands(block: str) -> list[str]:
    """Return the commands of an `sh` block; a chain a && b is two commands."""
    lines = [line.split(" #")[0].strip() for line in block.splitlines()]
    return [part.strip() for line in lines if line and not line.startswith("#") for part in line.split("&&")]


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of what is to be run, in the order of the document."""
    for language, block in BLOCK.findall(text):
        if language == "python":
            yield language, block
        else:
            yield from ((language, command) for command in commands(block))


def run_shell(command: str, folder: Path) -> tuple[bool, str]:
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S602
    return done.returncode == 0, done.stdout + done.stderr


def run_python(block: str, session: dict[str, Any], folder: Path) -> tuple[bool, str]:
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            exec(compile(block, "example", "exec"), session)  # noqa: S102
        except Exception:
            return False, out.getvalue() + traceback.format_exc()
    return True, out.getvalue()


def run_document(document: Path, folder: Path, *, outputs: bool) -> tuple[int, int]:
    """Run a document's examples; return how many there were and how many failed."""
    folder.mkdir(parents=True, exist_ok=True)
    if Path("configs").is_dir():
        shutil.copytree(Path("configs"), folder / "configs", dirs_exist_ok=True)
    # Functions of a session must look like those of a script; otherwise workers search for their module.
    session: dict[str, Any] = {"__name__": "__main__"}
    count = failed = 0
    for language, text in examples(document.read_text(encoding="utf-8")):
        count += 1
        title = text if language == "sh" else f"python: {text.strip().splitlines()[0]} ..."
        if language == "sh" and text.startswith(SETUP):
            print(f"skipped (set-up): {title}")
            continue
        begin = time.perf_counter()
        good, output = run_shell(text, folder) if language == "sh" else run_python(text, session, folder)
        failed += not good
        print(f"{'ok' if good else 'FAILED'} ({time.perf_counter() - begin:.0f} s): {title}", flush=True)
        if outputs or not good:
            print(output if outputs else output[-4000:])
    return count, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("documents", type=Path, nargs="+")
    parser.add_argument("--outputs", action="store_true")
    given = parser.parse_args()
    bad = 0
    for document in given.documents:
        folder = given.folder.resolve() / document.stem
        os.environ.setdefault("HIGGSBENCH_CACHE_DIR", str(given.folder.resolve() / "cache"))
        count, failed = run_document(document, folder, outputs=given.outputs)
        print(f"{document}: {count} examples, {failed} failed", flush=True)
        bad += failed or not count
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
