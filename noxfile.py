"""Test sessions. `nox` runs lint, types, the site, tests and the README's examples; `nox -l` lists the others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "docs", "tests", "docs-examples", "audit"]

TORCH = "torch==2.13.0"
"""Tested version of the extra `torch`; pip's own settings choose between the builds for CPUs and GPUs."""

DOCUMENTS = ("README.md", "docs/configuration.md", "docs/data.md", "docs/python.md")
"""Documents whose examples `docs-examples` runs; `wheel` runs the tutorial."""

PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


def workers() -> str:
    """One test process per core."""
    return str(os.cpu_count() or 1)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly and everywhere."""
    session.install(*group("types"), *group("test"), "nox", "-e", ".[report,root]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite on the newest versions; arguments go to pytest."""
    session.install(*group("test"), "cabinetry>=0.6", ".[bencheval,dask,onnx,report,root,stats,tune]")
    session.run("pytest", "-n", workers(), *session.posargs)


@nox.session
def golden(session: nox.Session) -> None:
    """Compare runs on toys and on real events with the golden files (ten minutes); arguments go to pytest."""
    session.install(*group("test"), ".")
    session.env["HIGGSBENCH_GOLDEN"] = "all"
    session.run("pytest", "tests/golden", *session.posargs)


@nox.session(name="tests-torch")
def tests_torch(session: nox.Session) -> None:
    """Run the model tests with torch and what needs it, which is too large to install in every session."""
    session.install(TORCH)
    session.install(*group("test"), ".[tabicl,tabpfn,torch]")
    session.run("pytest", "-n", workers(), "tests/models", "tests/runs/test_pretrain.py", *session.posargs)


@nox.session(name="tests-lowest")
def tests_lowest(session: nox.Session) -> None:
    """Run the test suite without its slowest tests on the lowest supported versions of the dependencies."""
    session.install(*group("test"), *lowest(), ".")
    session.run("pytest", "-n", workers(), "-m", "not slow", *session.posargs)


def lowest() -> list[str]:
    """Turn the lower bounds of pyproject.toml into pins."""
    bounds = [re.fullmatch(r"([\w.-]+)>=([\w.]+)", entry) for entry in PROJECT["project"]["dependencies"]]
    assert all(bounds), "every dependency needs a plain lower bound"
    return [f"{found[1]}=={found[2]}" for found in bounds if found]


@nox.session(name="tests-peers")
def tests_peers(session: nox.Session) -> None:
    """Run the model tests with the AutoML frameworks (extras autogluon and flaml) installed."""
    session.install(*group("test"), ".[autogluon,flaml]")
    session.run("pytest", "tests/models", *session.posargs)


@nox.session(name="tests-mlflow")
def tests_mlflow(session: nox.Session) -> None:
    """Run the tests of the export to MLflow, with the database store that MLflow uses on a single machine."""
    session.install(*group("test"), ".[mlflow]", "alembic", "sqlalchemy")
    session.run("pytest", "tests/export/test_mlflow.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in docs/_build; check its links, and that package registries can show the README."""
    folder = Path(session.create_tmp()).resolve()
    session.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), ".")
    (wheel,) = folder.glob("*.whl")
    session.install(*group("docs"), f"{wheel}[report]")
    session.run("twine", "check", "--strict", str(wheel))
    session.env["HIGGSBENCH_CACHE_DIR"] = str(folder / "cache")
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-q", "-j", "auto", "docs", "docs/_build")


@nox.session(name="docs-examples")
def docs_examples(session: nox.Session) -> None:
    """Run the notebooks and the examples of the documents in an empty folder from the wheel, as a new user would."""
    session.install(*group("examples"), ".[onnx,report,root]")
    folder = Path(session.create_tmp()).resolve()
    session.env["HIGGSBENCH_CACHE_DIR"] = str(folder / "cache")
    notebooks = shutil.copytree("examples", folder / "examples", dirs_exist_ok=True)
    session.run("jupyter", "execute", *(str(file) for file in sorted(notebooks.glob("*.ipynb"))))
    # With -P, Python imports the package from the wheel, not from this folder.
    session.run("python", "-P", "benchmarks/docs_examples.py", str(folder), *DOCUMENTS, *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build sdist and wheel; run the wheel by uvx and pipx, and the tutorial with it, in an empty folder.

    An argument is where sdist and wheel stay.
    """
    session.install(*group("wheel"))
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    kept, empty = Path(*(session.posargs or [str(folder / "dist")])).resolve(), folder / "empty"
    empty.mkdir(parents=True)
    session.run("python", "-m", "build", "--outdir", str(kept))
    session.run("twine", "check", "--strict", *(str(file) for file in kept.iterdir()))
    built = str(next(kept.glob("*.whl")))
    session.env["PIPX_HOME"] = str(folder / "pipx")
    command = ("higgsbench", "run", "quick", "--set", "data.events=3000", "--only", "xgboost", "--output")
    script, tutorial = (str(Path(name).resolve()) for name in ("benchmarks/docs_examples.py", "docs/tutorial.md"))
    with session.chdir(empty):
        session.run("uvx", "--from", built, *command, "by-uvx")
        session.run("pipx", "run", "--spec", built, *command, "by-pipx")
        with_report = ("uv", "run", "--isolated", "--no-project", "--with", f"{built}[report]")
        session.run(*with_report, "python", "-P", script, str(empty), tutorial)
    shutil.rmtree(folder)


@nox.session(venv_backend="none")
def docker(session: nox.Session) -> None:
    """Build the image and run it, where a docker daemon is present."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        session.skip("no docker daemon runs here, so the Dockerfile is not built")
    session.run("docker", "build", "--tag", "higgsbench:test", ".")
    command = ("run", "quick", "--set", "data.events=3000", "--only", "xgboost")
    session.run("docker", "run", "--rm", "higgsbench:test", *command)


@nox.session
def cluster(session: nox.Session) -> None:
    """Start a batch system of one node and run on it (ten minutes): Slurm as root, HTCondor as another user."""
    daemons, packages = ["slurmctld", "munged"], "slurm-wlm munge"
    if os.geteuid() != 0:
        daemons, packages = ["condor_master"], "condor"
    if not all(map(shutil.which, daemons)):
        session.skip(f"needs {' and '.join(daemons)}: apt-get install {packages}")
    session.install(*group("test"), ".[dask]")
    session.run("pytest", "tests/runs/engines/test_batch_systems.py", *session.posargs, env={"HIGGSBENCH_CLUSTER": "1"})


@nox.session
def audit(session: nox.Session) -> None:
    """Check the installed dependencies for known vulnerabilities; warn and pass if the service cannot be reached."""
    session.install("pip-audit", ".")
    found = session.run(
        *("pip-audit", "--progress-spinner", "off", "--timeout", "10", "--skip-editable"),
        silent=True,
        success_codes=[0, 1],
    )
    text = str(found)
    if re.search(r"^Found [0-9]+ known vulnerabilit", text, flags=re.MULTILINE):
        session.error(text)
    lost = len(re.findall(r"could not be audited", text))
    if lost:
        session.warn(f"{lost} packages are not known to the vulnerability service and were not audited")
    if "No known vulnerabilities found" not in text:
        session.warn(f"the vulnerability service failed and nothing was audited: {text.strip().splitlines()[-1:]}")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Corrupt 100,000 files of every kind and read them (half an hour); prints a table for reliability.md."""
    session.install(".", "hypothesis")
    session.run("python", "-m", "benchmarks.reliability.input", *session.posargs)


@nox.session(name="bench-quality")
def bench_quality(session: nox.Session) -> None:
    """Measure the recipes on the real sample and on simulated events (about two hours); writes quality.md."""
    session.install(TORCH)
    session.install(".[torch]")
    session.run("python", "-m", "benchmarks.quality", *session.posargs)


@nox.session(name="bench-reliability")
def bench_reliability(session: nox.Session) -> None:
    """Kill and damage runs, fill disks, run several at once (half an hour, partly as root); writes reliability.md."""
    session.install(".[report,dask]")
    session.run("python", "-m", "benchmarks.reliability", *session.posargs)


@nox.session(name="bench-presets")
def bench_presets(session: nox.Session) -> None:
    """Measure the presets over data sets, and each of their values (three hours; resumes from stored results)."""
    session.install(TORCH)
    session.install(".[torch]")
    session.run("python", "-m", "benchmarks.preset_suite")
    session.run("python", "-m", "benchmarks.presets", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory (about an hour on two quiet cores); writes performance.md. Takes `--part NAME`."""
    session.install(".[dask]", "pandas")
    session.run("python", "-m", "benchmarks.performance", *session.posargs)


@nox.session(name="bench-physics")
def bench_physics(session: nox.Session) -> None:
    """Measure features, the jet split, simulation, shifts and intervals; writes to results/reference/."""
    session.install(".[stats]")
    session.run("python", "-m", "benchmarks.features")
    session.run(
        "python", "-m", "benchmarks.simulation_closeness", "--markdown", "results/reference/simulation-closeness.md"
    )
    session.run("python", "-m", "benchmarks.validation_corruptions")
    session.run("python", "-m", "benchmarks.shifts")
    session.run("python", "-m", "benchmarks.intervals")
