"""Progress moves by epoch, begins before torch is imported, and changes nothing that is computed."""

import io
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

import hampkit
from hampkit.cli.progress import STARTING, Bars
from hampkit.launch.progress import PARTS, Jobs, reported

SMALL = {"rows": 300, "features": 8, "classes": 3, "epochs": 3}


class Reports(list):
    def track(self, what, done, total):
        self.append((what, done, total))

    def of(self, word):
        return [(done, total) for what, done, total in self if word in what]


def epoch(job, done, total, models=1):
    return {"job": job, "models": models, "epoch": done, "epochs": total}


def test_a_job_reports_its_epochs_but_not_too_often():
    for interval, epochs in ((0.0, [1, 2, 3, 4]), (math.inf, [4])):
        sent = []
        track = reported("a", 2, sent.append, interval)
        for k in range(1, 5):
            track("training", k, 4)
        assert [e["epoch"] for e in sent if interval == 0.0 or e["epoch"] > 1] == epochs
        assert {(e["job"], e["models"], e["epochs"]) for e in sent} == {("a", 2, 4)}


def test_positions_of_several_jobs_are_added_up():
    reports = Reports()
    jobs = Jobs(reports.track, "models", 8, done=2)
    jobs.show()
    jobs.move(epoch("a", 1, 4, models=2))
    jobs.move(epoch("b", 2, 4, models=2))
    jobs.finish("a", 2)
    jobs.move(epoch("b", 4, 4, models=2))
    jobs.finish("b", 2)
    assert reports == [("models", n, 8 * PARTS) for n in (200, 250, 350, 500, 600, 600)]


def test_a_job_of_several_trainings_never_moves_back():
    """A teacher of 2 epochs, then a student of 6; once a job is finished, the others' positions are known."""
    reports = Reports()
    jobs = Jobs(reports.track, "models", 2)
    for job in ("a", "b"):
        for done, total in ((1, 2), (2, 2), (1, 6), (3, 6), (6, 6)):
            jobs.move(epoch(job, done, total))
        jobs.finish(job)
    positions = [done for _, done, _ in reports]
    assert positions == [50, 100, 100, 100, 100, 100, 112, 125, 138, 162, 200, 200]


def trained(folder, progress, workers=1, recipe="toy/undefended"):
    run = hampkit.shadow(recipe, 4, options={**SMALL, "flip": 0.3}, runs_dir=folder, workers=workers, progress=progress)
    return {p.relative_to(run): np.load(p) for p in sorted(run.rglob("*.npy"))}


def test_shadow_models_report_epochs_and_are_the_same_without_progress(tmp_path):
    reports = Reports()
    seen = trained(tmp_path / "seen", hampkit.Progress(reports.track))
    unseen = trained(tmp_path / "unseen", hampkit.Progress())
    assert seen.keys() == unseen.keys()
    assert all((seen[k] == unseen[k]).all() for k in seen)
    positions = [done for done, total in reports.of("shadow models of") if total == 4 * PARTS]
    assert positions == sorted(positions)
    assert (positions[0], positions[-1]) == (0, 4 * PARTS)
    assert any(done % PARTS for done in positions), "only whole models were reported"


def test_a_target_that_is_a_job_sends_its_epochs_and_nothing_else(tmp_path):
    from hampkit.workflows import target_jobs

    folder = hampkit.train("toy/undefended", options=SMALL, runs_dir=tmp_path).folder
    shutil.rmtree(folder / "models")
    sent = []
    target_jobs.worker({"data_dir": None, "runs_dir": str(tmp_path)})(folder.name, sent.append)
    *epochs, end = sent
    assert end == {"name": folder.name, "failure": ""}
    assert {(e["job"], e["epochs"]) for e in epochs} == {(folder.name, 3)}
    assert epochs[-1]["epoch"] == 3


@pytest.mark.slow
def test_epochs_of_worker_processes_are_reported(tmp_path):
    reports = Reports()
    seen = trained(tmp_path / "seen", hampkit.Progress(reports.track), workers=2)
    unseen = trained(tmp_path / "unseen", hampkit.Progress())
    assert all((seen[k] == unseen[k]).all() for k in unseen)
    positions = [done for done, _ in reports.of("shadow models of")]
    assert positions == sorted(positions)
    assert any(done % PARTS for done in positions)


def test_a_plan_reports_at_once(tmp_path):
    reports = Reports()
    hampkit.plan("toy/undefended", 4, options=SMALL, runs_dir=tmp_path, progress=hampkit.Progress(reports.track))
    assert reports[0][:2] == ("reading toy", 0)
    measured = reports.of("measuring")
    assert len(measured) > 2
    assert measured[-1][0] == measured[-1][1]


FIRST = """
import io, sys

class Terminal(io.StringIO):
    def isatty(self):
        return True

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.__stdout__.write("seen" if "starting" in terminal.getvalue() else "not seen")
            sys.__stdout__.flush()
            raise SystemExit(7)

sys.meta_path.insert(0, Watch())
sys.stderr = terminal = Terminal()
sys.argv = ["hampkit", *sys.argv[1:]]
from hampkit.__main__ import main
main()
"""
COMMANDS = ["run", "train toy/hamp", "shadow toy/hamp --models 4", "plan toy/hamp --shadows 4", "attack x", "compare toy",
            "report x", "data fetch digits"]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_sign_comes_before_torch_is_imported(tmp_path, command, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    done = subprocess.run(
        [sys.executable, "-c", FIRST, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (7, "seen"), done.stderr


@pytest.fixture
def bars(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    return Bars(True)


def test_bars_of_finished_work_make_room(bars):
    with bars.shown():
        assert list(bars.tasks) == [STARTING]
        bars.track("reading", 0, 1)
        assert list(bars.tasks) == ["reading"]
        bars.track("reading", 1, 1)
        bars.track("training", 1, 4)
        assert list(bars.tasks) == ["training"]
        bars.track("training", 4, 4)
        bars.track("training", 1, 8)
        (task,) = bars.bars.tasks
        assert (task.completed, task.total, task.finished) == (1, 8, False)


def test_nothing_is_shown_where_stderr_is_no_terminal(capsys):
    bars = Bars(True)
    with bars.shown():
        bars.track("training", 1, 4)
    assert capsys.readouterr() == ("", "")
