"""Jobs in processes: whatever a user's code does in one, the command hears of it and never waits for ever."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hampkit import UserError
from hampkit.launch.local import run_jobs


@pytest.fixture
def jobs(monkeypatch):
    """Run a function of this file over jobs in two processes: what it told. A command that waits for ever fails the test."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def run(name, count=4):
        told, raised = [], []

        def call():
            try:
                run_jobs(f"test_launch:{name}", {}, list(range(count)), 2, told.append)
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), "it waits for ever"
        if raised:
            raise raised[0]
        return sorted(m["job"] for m in told)

    return run


def leaves(context):
    return lambda job, tell: os._exit(0)


def exits(context):
    return lambda job, tell: sys.exit(3)


def exits_while_it_is_made(context):
    sys.exit()


def dies(context):
    return lambda job, tell: os.kill(os.getpid(), 9)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaves", "a worker process ended with code 0 before its work was done"),
        ("exits", r"SystemExit\(3\) in .*test_launch.py, line \d+: .*raise an error"),
        ("exits_while_it_is_made", r"SystemExit\(None\) in .*test_launch.py, line \d+"),
        ("dies", r"ended with code -9 before its work was done \(out of memory\?\)"),
    ],
)
def test_a_worker_that_ends_too_early_is_named(jobs, name, said):
    with pytest.raises(UserError, match=said):
        jobs(name)


def dies_and_leaves_a_child(context):
    def work(job, tell):
        child = os.fork()
        if not child:
            time.sleep(90)
            os._exit(0)
        with open(os.environ["CHILDREN"], "a") as file:
            file.write(f"{child}\n")
        os._exit(3)

    return work


def test_a_worker_that_ends_is_named_though_what_it_forked_holds_its_output_open(jobs, tmp_path, monkeypatch):
    children = tmp_path / "children"
    monkeypatch.setenv("CHILDREN", str(children))
    try:
        with pytest.raises(UserError, match="ended with code 3 before its work was done"):
            jobs("dies_and_leaves_a_child")
    finally:
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)


def is_interrupted(context):
    return lambda job, tell: os.kill(os.getpid(), signal.SIGINT)


def test_a_worker_that_is_interrupted_says_nothing_itself(jobs, capfd):
    with pytest.raises(UserError, match="ended with code -2 before its work was done"):
        jobs("is_interrupted")
    assert capfd.readouterr() == ("", ""), "Ctrl-C reaches every process; a traceback of each would bury the one line"


def prints(context):
    def work(job, tell):
        os.write(1, b"not JSON\n")
        ctypes.CDLL(None).puts(b"nor this")
        ctypes.CDLL(None).fflush(None)
        subprocess.run([sys.executable, "-c", "print('a process of a process')"], check=True)
        print("and this")
        print("once more", file=sys.__stdout__, flush=True)
        tell({"job": job})

    return work


def test_what_code_in_a_worker_prints_is_no_answer(jobs, capfd):
    assert jobs("prints") == [0, 1, 2, 3]
    out, err = capfd.readouterr()
    assert out == "", "and the command's own output stays clean"
    for text in ("not JSON", "nor this", "a process of a process", "and this", "once more"):
        assert err.count(text) == 4, text


def reads(context):
    def work(job, tell):
        found = subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout + sys.stdin.buffer.read()
        tell({"job": job, "found": found.decode()} if found else {"job": job})

    return work


def test_what_code_in_a_worker_reads_is_no_job(jobs):
    assert jobs("reads", 6) == list(range(6))


def chatters(context):
    def work(job, tell):
        tell({"job": job})

    return work


def test_a_line_that_is_no_answer_is_an_error_and_the_process_goes(jobs, monkeypatch):
    from hampkit.launch import local as launch

    def no_json(text):
        raise ValueError("no JSON")

    monkeypatch.setattr(launch.json, "loads", no_json)
    with pytest.raises(UserError, match=r"wrote a line that is not an event \(no JSON\)"):
        jobs("chatters")
