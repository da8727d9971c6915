"""Does what we ship work where nothing of the repository is at hand?"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from repository import ROOT

DATA = (
    "tracekit/kernels.toml",
    "tracekit/py.typed",
    *(f"tracekit/templates/{path.name}" for path in (ROOT / "templates").glob("*.*") if path.suffix != ".py"),
    *(f"tracekit/kernels/{path.name}" for path in (ROOT / "kernels").glob("*.cu*")),
)


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist, and the wheel that was built from it; in a copy, as a build writes into its source tree."""
    source, target = tmp_path_factory.mktemp("source") / "tree", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "analysis", "*.egg-info", "__pycache__"))
    run(sys.executable, "-m", "build", "--outdir", target, source, cwd=target)
    return target


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a clean environment with nothing but the wheel and what it needs."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", venv, cwd=venv)
    (wheel,) = dist.glob("*.whl")
    run(venv / "bin" / "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, cwd=venv)
    return venv / "bin"


def test_sdist_and_wheel_hold_the_data(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("torch_tracekit-*.whl"), dist.glob("torch_tracekit-*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert not set(DATA) - set(names)
    with tarfile.open(sdist) as archive:
        shipped = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "analyze/trace/loader.py", "tracekit/kernels.toml"} <= shipped


def test_a_clean_environment_analyses_and_reports_without_torch(installed: Path, tmp_path: Path) -> None:
    packages = run(installed / "pip", "list", "--format=freeze", cwd=tmp_path)
    assert "torch==" not in packages
    assert "torch-tracekit==" in packages.replace("_", "-")
    run(installed / "tracekit", "analyze", ROOT / "traces", cwd=tmp_path)
    run(installed / "tracekit", "report", "-o", "report.html", cwd=tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_collect_there_names_the_extra(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run([installed / "tracekit", "collect"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "tracekit: collect needs torch; pip install 'torch-tracekit[collect]'\n"
