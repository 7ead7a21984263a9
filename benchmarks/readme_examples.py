"""Run the commands of a Markdown file's `sh` blocks, one by one, in a folder like a fresh clone.

    python benchmarks/readme_examples.py README.md FOLDER

Commands that set the environment up (`pip`, `nox`, `git`) are the caller's business and are skipped, said so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

SETUP = ("pip ", "nox", "git ", "cd ")


def commands(text: str) -> list[str]:
    """Return the commands of all `sh` blocks; a chain a && b is two commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.S | re.M)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [part.strip() for line in lines if line and not line.startswith("#") for part in line.split("&&")]


def main() -> int:
    document, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(document.parent / "configs", folder / "configs", dirs_exist_ok=True)
    failed = 0
    found = commands(document.read_text())
    for command in found:
        if command.startswith(SETUP):
            print(f"skipped (set-up): {command}")
            continue
        begin = time.perf_counter()
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S602
        state = "ok" if done.returncode == 0 else f"FAILED with exit code {done.returncode}"
        print(f"{state} ({time.perf_counter() - begin:.0f} s): {command}", flush=True)
        if done.returncode:
            failed += 1
            print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
    print(f"{len(found)} commands, {failed} failed")
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
