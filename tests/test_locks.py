"""Two commands in one runs folder: one waits for the other, takes what that one finished, and both end well."""

import shutil
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout

import hampkit
from hampkit.config.recipe import load_recipe
from hampkit.errors import Notice, RunBusy, UserError
from hampkit.launch import local as launch
from hampkit.launch.local import LocalProcesses
from hampkit.runs import locks
from hampkit.runs.locks import held_by_parent, locked
from hampkit.runs.store import Run
from hampkit.workflows import attack, shadow, target_jobs, train
from hampkit.workflows import compare as comparing
from hampkit.workflows import report as reporting
from hampkit.workflows import run as running
from hampkit.workflows.prepare import prepare
from hampkit.workflows.session import Session

OPTIONS = {"rows": 300, "features": 48, "classes": 3, "epochs": 1, "neural.epochs": 1}
WORDS = [f"{key}={value}" for key, value in OPTIONS.items()]


@pytest.fixture
def held(monkeypatch):
    """Hold a run's lock in another thread; the first warning that somebody waits for it calls ``finish`` and frees it."""
    free, holders = threading.Event(), []

    def hold(runs_dir, name, finish=lambda: None):
        taken = threading.Event()

        def holder():
            with locked(runs_dir, name, wait=True):
                taken.set()
                free.wait(60)

        def warn(message, category, stacklevel):
            warnings.warn(message, category, stacklevel)
            if not free.is_set():
                finish()
                free.set()

        monkeypatch.setattr(locks, "warnings", SimpleNamespace(warn=warn))
        holders.append(threading.Thread(target=holder))
        holders[-1].start()
        assert taken.wait(60)

    yield hold
    free.set()
    for thread in holders:
        thread.join()


@contextmanager
def other_process(runs_dir, name):
    """A process that holds a run's lock until its input ends or it is killed."""
    code = (
        "import sys; from pathlib import Path; from hampkit.runs.locks import locked\n"
        "with locked(Path(sys.argv[1]), sys.argv[2], wait=True): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(runs_dir), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def problem_of(recipe, runs_dir):
    settings = Session(runs_dir=runs_dir, device="cpu")
    return prepare(load_recipe(recipe, {key: str(value) for key, value in OPTIONS.items()}), settings), settings


@pytest.fixture
def trained(monkeypatch):
    """The names of the runs whose targets are trained in this process, in their order."""
    names, real = [], train._write

    def write(problem, folder):
        names.append(problem.folder)
        real(problem, folder)

    monkeypatch.setattr(train, "_write", write)
    return names


# --- the lock -------------------------------------------------------------------------------------------------------


def test_a_held_lock_is_waited_for_and_the_run_is_named(tmp_path, held):
    held(tmp_path, "a-00000000")
    with (
        pytest.warns(Notice, match=r"process is working on .*a-00000000; waiting .*Ctrl-C"),
        locked(tmp_path, "a-00000000", wait=True),
    ):
        pass


def test_without_waiting_it_has_its_own_error(tmp_path, held):
    held(tmp_path, "a-00000000")
    with (
        pytest.raises(RunBusy, match=r"another process is working on .*a-00000000"),
        locked(tmp_path, "a-00000000", wait=False),
    ):
        pass
    assert issubclass(RunBusy, UserError)


def test_who_dies_while_waited_for_frees_the_lock(tmp_path, monkeypatch):
    with other_process(tmp_path, "a-00000000") as process:
        monkeypatch.setattr(locks, "warnings", SimpleNamespace(warn=lambda *message, stacklevel: process.kill()))
        with locked(tmp_path, "a-00000000", wait=True):
            assert process.wait() != 0


@pytest.mark.parametrize(
    "mine", [lambda folder: locked(folder, "b-00000000", wait=True), lambda folder: held_by_parent("b-00000000")]
)
def test_who_holds_a_lock_never_waits_for_another(tmp_path, held, mine):
    """Else two processes could wait for each other for ever."""
    held(tmp_path, "a-00000000")
    with mine(tmp_path):
        with (
            pytest.raises(RunBusy, match=r"a-00000000 is locked.* works on b-00000000 cannot wait"),
            locked(tmp_path, "a-00000000", wait=True),
        ):
            pass
        with locked(tmp_path, "c-00000000", wait=True):
            pass  # a free one can be taken
    with locked(tmp_path, "b-00000000", wait=True):
        pass


def test_a_run_within_itself_is_an_error(tmp_path):
    text = r"this process already works on .*a-00000000: a defense cannot train"
    with (
        locked(tmp_path, "a-00000000", wait=True),
        pytest.raises(RunBusy, match=text),
        locked(tmp_path, "a-00000000", wait=True),
    ):
        pass


def test_a_file_in_place_of_the_folder_of_locks_is_named(tmp_path):
    (tmp_path / ".locks").write_text("")
    with pytest.raises(UserError, match=r"\.locks is a file.*remove"), locked(tmp_path, "a-00000000", wait=True):
        pass


def test_a_runs_folder_that_cannot_be_written_is_not_mended_by_another_out(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*runs: .*copy it .* or use another --runs-dir"):
        locked(tmp_path / "runs", "a-00000000", wait=True).__enter__()


def test_a_run_that_cannot_be_written_is_named_with_the_remedy(tmp_path, monkeypatch):
    from hampkit.runs import store

    def refuse(**words):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.tempfile, "mkdtemp", refuse)
    with pytest.raises(UserError, match=r"cannot write to .*a-00000000: Permission denied; .*copy it"):
        Run(tmp_path / "a-00000000").step("attacks", lambda folder: None)


def test_a_worker_for_shadow_models_counts_as_a_holder(tmp_path, held, monkeypatch):
    """Its parent holds the run's lock and waits for it."""
    from hampkit.shadow_models import train as shadow_training
    from hampkit.shadow_models.mode import ExecutionMode

    problem, settings = problem_of("toy/undefended", tmp_path)
    run = train.create(problem, settings)
    context = {
        "run": str(run.folder),
        "data_dir": None,
        "device": "cpu",
        "shadows": {"models": 4},
        "mode": vars(ExecutionMode()),
        "attacks": [],
    }
    held(tmp_path, "a-00000000")

    def train_job(*_):
        with locked(tmp_path, "a-00000000", wait=True):
            pass

    monkeypatch.setattr(shadow_training, "train_job", train_job)
    with pytest.raises(RunBusy, match=f"{run.name} cannot wait"):
        shadow.worker(context)([0], lambda message: None)


def busy(context):
    def work(job, tell):
        raise RunBusy("somebody is there")

    return work


def test_a_worker_passes_it_on_as_what_it_is(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(RunBusy, match="somebody is there"):
        launch.run_jobs("test_locks:busy", {}, [1], 1, lambda message: None)


# --- commands -------------------------------------------------------------------------------------------------------


def test_run_waits_and_takes_what_the_other_process_finished(tmp_path, held, trained, monkeypatch):
    recipes = ("toy/undefended", "toy/hamp")
    hampkit.run(*recipes, options=OPTIONS, attacks=["loss"], runs_dir=tmp_path / "theirs")
    names = [problem_of(recipe, tmp_path)[0].folder for recipe in recipes]
    assert trained == names
    trained.clear()
    mine = tmp_path / "mine"
    held(mine, names[0], finish=lambda: shutil.copytree(tmp_path / "theirs" / names[0], mine / names[0]))
    with pytest.warns(Notice, match=f"working on .*{names[0]}; waiting"):
        hampkit.run(*recipes, options=OPTIONS, attacks=["loss"], runs_dir=mine, wait=True)
    assert trained == names[1:], "the other run was made while the first was held, and the first not again"
    a, b = (tmp_path / place / "results.json" for place in ("mine", "theirs"))
    assert a.read_bytes() == b.read_bytes()


def test_run_trains_itself_what_the_other_process_gave_up(tmp_path, held, trained):
    name = problem_of("toy/undefended", tmp_path)[0].folder
    held(tmp_path, name)
    with pytest.warns(Notice, match="waiting"):
        hampkit.run("toy/undefended", options=OPTIONS, attacks=["loss"], runs_dir=tmp_path, wait=True)
    assert trained == [name]


def test_the_wait_is_one_line_on_standard_error(cli, held):
    name = problem_of("toy/undefended", Path("runs"))[0].folder
    held(Path("runs"), name)
    code, out, err = cli("run", "toy/undefended", *WORDS, "--wait")
    assert code == 0
    assert err.splitlines() == [
        f"hampkit: warning: another process is working on runs/{name}; waiting until it is done"
        " (Ctrl-C ends this command and loses nothing)"
    ]
    assert "working on" not in out


@pytest.mark.parametrize("command", ["train", "shadow", "attack"])
def test_every_command_is_refused_or_waits(cli, held, refused, command):
    problem, settings = problem_of("toy/undefended", Path("runs"))
    train.train(problem, settings)
    held(Path("runs"), problem.folder)
    words = {
        "train": ["toy/undefended", *WORDS],
        "shadow": ["toy/undefended", *WORDS, "--models", "4", "--workers", "1"],
        "attack": [f"runs/{problem.folder}", "loss"],
    }
    refused(cli(command, *words[command]), problem.folder, "wait for it with --wait", "wait=True")
    code, _, err = cli(command, *words[command], "--wait")
    assert code == 0
    assert err.count(f"{problem.folder}; waiting until it is done") == 1


@pytest.mark.parametrize("alone", [-1.0, 10.0])
def test_targets_that_another_process_holds_are_passed_over(tmp_path, held, monkeypatch, alone):
    monkeypatch.setattr(target_jobs, "ALONE", alone)
    problems = [problem_of(recipe, tmp_path)[0] for recipe in ("toy/undefended", "toy/hamp")]
    settings = Session(runs_dir=tmp_path, device="cpu", launcher=LocalProcesses(1))
    held(tmp_path, problems[1].folder)
    assert target_jobs.train_targets(problems, settings) == {}
    assert [Run(tmp_path / p.folder).done(train.TARGET) for p in problems] == [True, False]


def test_a_worker_passes_over_a_target_that_another_process_took(tmp_path, held):
    problem, settings = problem_of("toy/undefended", tmp_path)
    train.create(problem, settings)
    held(tmp_path, problem.folder)
    told = []
    target_jobs.worker({"data_dir": None, "runs_dir": str(tmp_path)})(problem.folder, told.append)
    assert told == [{"name": problem.folder, "failure": ""}]
    assert not Run(tmp_path / problem.folder).done(train.TARGET)


def test_compare_leaves_out_no_defense_that_another_process_is_training(tmp_path, held, monkeypatch):
    monkeypatch.setattr(comparing, "_names", lambda defenses: ["undefended", "round"])
    first = hampkit.compare("toy", options=OPTIONS, runs_dir=tmp_path / "theirs", workers=1)
    (name,) = first.entries[1].runs
    mine = tmp_path / "mine"
    held(mine, name, finish=lambda: shutil.copytree(tmp_path / "theirs" / name, mine / name))
    with pytest.warns(Notice, match=f"working on .*{name}; waiting"):
        found = hampkit.compare("toy", options=OPTIONS, runs_dir=mine, workers=1, wait=True)
    assert [e.defense for e in found.entries] == ["undefended", "round"]
    assert found.left_out == {}
    assert [e.leak for e in found.entries] == [e.leak for e in first.entries]


def test_compare_takes_no_held_lock_for_a_failed_training(tmp_path, monkeypatch):
    real = comparing.evaluate

    def evaluate(problem, settings):
        if problem.recipe.defense.name == "round":
            raise RunBusy("round is locked")
        return real(problem, settings)

    monkeypatch.setattr(comparing, "evaluate", evaluate)
    monkeypatch.setattr(comparing, "_names", lambda defenses: ["undefended", "round"])
    with pytest.raises(RunBusy, match="round is locked"):
        hampkit.compare("toy", options=OPTIONS, runs_dir=tmp_path)
    assert not (tmp_path / "compare.json").exists()


# --- what is read after the lock is free ----------------------------------------------------------------------------


@pytest.mark.parametrize("call", [hampkit.run, hampkit.compare])
def test_a_report_shows_its_own_evaluation_though_another_process_judged_anew(tmp_path, monkeypatch, call):
    def again():
        if call is hampkit.run:
            hampkit.run("toy/undefended", "toy/hamp", options=OPTIONS, attacks=["loss"], runs_dir=tmp_path)
        else:
            hampkit.compare("toy", defenses=["undefended", "hamp"], options=OPTIONS, runs_dir=tmp_path)
        return [(tmp_path / name).read_bytes() for name in ("report.html", "results.json")]

    module = running if call is hampkit.run else comparing
    real, before = module.evaluate, again()

    def evaluate(*given):
        found = real(*given)
        (found.run.folder / "details.json").write_text('{"curves": {}, "scores": {}, "provenance": {}}')
        return found

    monkeypatch.setattr(module, "evaluate", evaluate)
    assert again() == before


def test_json_is_what_this_command_found(cli, monkeypatch):
    assert cli("run", "toy/undefended", *WORDS, "--quiet")[0] == 0
    expected = Path("runs/results.json").read_text()
    real = running.report_on

    def report_on(*given):
        results = real(*given)
        results.files["json"].write_text("{}\n")  # by another process with the same folder
        return results

    monkeypatch.setattr(running, "report_on", report_on)
    assert cli("run", "toy/undefended", *WORDS, "--json") == (0, expected, "")


@pytest.mark.slow
def test_two_commands_that_start_together_both_end_well(tmp_path):
    command = [
        sys.executable,
        "-m",
        "hampkit",
        "run",
        "toy/undefended",
        "toy/hamp",
        "toy/mixup",
        *WORDS,
        "--wait",
        "--runs-dir",
    ]
    both = [subprocess.Popen([*command, "runs", "--out", out, "--quiet"], cwd=tmp_path) for out in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "a/results.json").read_bytes() == (tmp_path / "b/results.json").read_bytes()


@pytest.mark.parametrize("call", [hampkit.run, hampkit.compare])
def test_the_files_of_a_report_are_written_under_one_lock(tmp_path, monkeypatch, call):
    """Else report.html may be of one command and results.json of another."""
    written = []

    def write(path, *given):
        with pytest.raises(Timeout):
            FileLock(path.parent / ".locks" / "report.lock").acquire(timeout=0)
        written.append(path.name)

    module = comparing if call is hampkit.compare else reporting
    monkeypatch.setattr(module, "write_json", write)
    monkeypatch.setattr(module, "write_file", write)
    if call is hampkit.run:
        call("toy/undefended", options=OPTIONS, attacks=["loss"], runs_dir=tmp_path)
    else:
        call("toy", defenses=["undefended"], options=OPTIONS, runs_dir=tmp_path)
    assert len(written) >= 3


def test_a_report_refuses_a_result_and_details_of_two_attacks(tmp_path, monkeypatch):
    """What a kill between the two files leaves: a table of one attack beside the charts of another."""
    run = tmp_path / hampkit.run("toy/undefended", options=OPTIONS, attacks=["loss"], runs_dir=tmp_path).models[0].run
    real = attack.write_json

    def killed(path, document):
        if path.name == "result.json" and path.parent == run:
            raise KeyboardInterrupt
        real(path, document)

    monkeypatch.setattr(attack, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        hampkit.attack(run, "loss", options={"judge.candidates": "all"})
    monkeypatch.setattr(attack, "write_json", real)
    with pytest.raises(UserError, match=f"was edited, or belongs to another attack.*hampkit attack {run}"):
        hampkit.write_report(run, out=tmp_path)
    hampkit.attack(run, "loss", options={"judge.candidates": "all"})
    hampkit.write_report(run, out=tmp_path)
