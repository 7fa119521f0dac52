"""Runs that are killed, interrupted and resumed end with the same bytes as runs that never were."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook
from torch import nn

from nl_irl import runs
from nl_irl.runs import Recording, Run, finish
from nl_irl.training import train

# A small experiment, called `toy` as if it came with nl_irl. Its updates wait, so that kills fall into all of its parts without costing much; it has no
# optimizer of torch's, whose import takes longer than all the rest.
TOY = ["seed = 0\nupdates = 60\npause = 0.02\nout = ''", '''
import time
import numpy as np, pandas as pd, torch
from nl_irl.runs import Recording, finish
from nl_irl.training import train

class Seeker:
    def __init__(self):
        torch.manual_seed(seed)
        self.weights, self.drift, self.rng = torch.nn.Linear(4, 1), torch.zeros(1, 4), np.random.default_rng(seed)
    def update(self):
        time.sleep(pause)
        loss = self.weights(torch.rand(8, 4) + torch.as_tensor(self.rng.random((8, 4), np.float32))).square().mean()
        slope, = torch.autograd.grad(loss, self.weights.weight)
        self.drift = 0.9 * self.drift + slope
        with torch.no_grad(): self.weights.weight -= 0.01 * self.drift
        return {'loss': loss.item()}
    def state_dict(self): return {'weights': self.weights.state_dict(), 'drift': self.drift, 'rng': self.rng.bit_generator.state}
    def load_state_dict(self, state):
        self.weights.load_state_dict(state['weights']); self.drift = state['drift']; self.rng.bit_generator.state = state['rng']
''', '''
torch.set_num_threads(1)
run = Recording.create(out, dict(seed=seed, updates=updates), experiment='toy')
learner = Seeker()
check = lambda update: {'norm': learner.weights.weight.norm().item()}
for stage in ('early', 'late'): tried = train(run, stage, learner, updates=updates, checks=3, check=check, keep=learner.weights, every=0.1)
''', "best = max(tried, key=lambda u: tried[u]['norm'])\nrun.load_checkpoint(f'late_{best}')",
    "time.sleep(10 * pause); run.write_table('drawn', pd.DataFrame({'number': np.random.default_rng([seed, 1]).random(5)}))",
    "time.sleep(10 * pause); finish(run)"]
DRIVER = '''
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)         # it is ignored where tests run in the background
sys.modules['rfc3987_syntax'] = None            # jsonschema does without it; its import takes seconds
import nl_irl.experiment as experiment
from nl_irl.cli import main
experiment.experiments = lambda: {'toy': pathlib.Path(sys.argv[1])}
main(sys.argv[2:])
'''
APART = ('timings.jsonl', 'request.json', 'manifest.json', 'notebook.ipynb', '.lock', '.runner')         # the manifest lists the timings


@pytest.fixture(scope='module')
def toy(tmp_path_factory) -> Path:
    "The notebook."
    cells = [new_code_cell(text.strip(), metadata={'tags': ['parameters']} if k == 0 else {}) for k, text in enumerate(TOY)]
    path = tmp_path_factory.mktemp('experiments')/'toy.ipynb'
    nbformat.write(new_notebook(cells=cells, metadata={'kernelspec': {'name': 'python3', 'display_name': 'python3', 'language': 'python'}}), path)
    return path


def start(toy: Path, *arguments: object, **variables: str) -> subprocess.Popen:
    "`nl-irl` in a process group of its own, with `variables` added to those of the environment."
    return subprocess.Popen([sys.executable, '-c', DRIVER, str(toy), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env=os.environ | {'OMP_NUM_THREADS': '1'} | variables)


def ends(process: subprocess.Popen) -> tuple[int, str]:
    "Exit status and stderr, once it has ended."
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def content(folder: Path) -> dict[str, bytes]:
    "All that two equal runs have in common, by name."
    there = {str(p.relative_to(folder)): p for p in sorted(folder.rglob('*')) if p.is_file()}
    return {name: p.read_bytes() for name, p in there.items() if name not in APART and p.parent.name != 'tensorboard' and p.suffix != '.html'}


def remains(folder: Path) -> list[str]:
    "The processes that still work for the run in `folder`: a kernel's variables name it."
    found = []
    for process in Path('/proc').glob('[0-9]*'):
        try: found += [process.name] * (str(folder).encode() in (process/'environ').read_bytes())
        except OSError: continue
    return found


def nothing_remains(folder: Path) -> None:
    "Wait a little for all processes of the run in `folder` to end; an AssertionError if they do not."
    end = time.monotonic() + 5
    while remains(folder) and time.monotonic() < end: time.sleep(0.1)
    assert not remains(folder), 'a kernel outlived its parent'


def wait_for(folder: Path, pattern: str, words: bytes, process: subprocess.Popen) -> None:
    "Wait until `words` stand in a file of `folder` that `pattern` finds."
    end = time.monotonic() + 120
    while not any(words in path.read_bytes() for path in folder.glob(pattern)):
        assert process.poll() is None, f'it ended, and no {pattern} said {words}: {process.stderr.read()}'
        assert time.monotonic() < end, f'no {pattern} ever said {words}'
        time.sleep(0.02)


@pytest.fixture(scope='module')
def whole(toy, tmp_path_factory) -> tuple[dict[str, bytes], float]:
    "What a run leaves that was never killed, and the seconds that it took."
    folder, begun = tmp_path_factory.mktemp('whole')/'run', time.monotonic()
    status, said = ends(start(toy, 'run', 'toy', '--out', folder))
    assert status == 0, said
    seconds, left = time.monotonic() - begun, content(folder)
    status, said = ends(start(toy, 'resume', folder))
    assert status == 0 and 'has finished' in said and content(folder) == left
    return left, seconds


def test_killed_at_random_moments_it_ends_with_the_same_bytes(toy, whole, tmp_path):
    left, seconds = whole
    seed = random.randrange(2 ** 32)
    print(f'moments from seed {seed}')
    moments, folder = np.sort(np.random.default_rng(seed).uniform(0, seconds, 3)), tmp_path/'run'
    command = lambda: ('resume', folder) if (folder/'request.json').exists() else ('run', 'toy', '--out', folder)
    for moment in moments:
        process = start(toy, *command())
        try: process.wait(moment)
        except subprocess.TimeoutExpired: os.killpg(process.pid, signal.SIGKILL)
        status, said = ends(process)
        assert status in (0, -signal.SIGKILL), said
        nothing_remains(folder)
    status, said = ends(start(toy, *command()))
    assert status == 0, said
    assert content(folder) == left
    assert not (folder/'snapshots').exists() and not list(folder.rglob('.*.tmp')) and not (folder/'partial.ipynb').exists()


def test_ctrl_c_and_sigterm_save_and_say_how_to_go_on(toy, whole, tmp_path):
    folder = tmp_path/'run'
    for number, stage, command in ((signal.SIGINT, 'early', ('run', 'toy', '--out', folder)), (signal.SIGTERM, 'late', ('resume', folder))):
        process = start(toy, *command)
        wait_for(folder, f'snapshots/{stage}.json', b'"update": 20', process)
        os.killpg(process.pid, number)
        status, said = ends(process)
        assert status == 128 + number and said.endswith(f'nl-irl: stopped; go on with nl-irl resume {folder}\n') and 'Traceback' not in said, said
        nothing_remains(folder)
        assert not Run.open(folder).finished
    snapshot = runs.load_facts(folder/'snapshots', 'late')['facts']
    assert 20 <= snapshot['update'] < 60
    status, said = ends(start(toy, 'resume', folder))
    assert status == 0 and 'goes on from where it was cut off' in said and content(folder) == whole[0], said
    timings = runs.read_timings(folder)
    assert timings.what.tolist() == ['early', 'late'] and (timings.wall_s > 60 * 0.02).all()            # over all parts: the updates wait


def test_another_process_is_refused_and_a_folder_that_was_moved_can_be_gone_on_with(toy, whole, tmp_path):
    folder, moved = tmp_path/'run', tmp_path/'moved'
    process = start(toy, 'run', 'toy', '--out', folder)
    wait_for(folder, 'snapshots/late.json', b'"update"', process)
    for command in (('resume', folder), ('run', 'toy', '--out', folder, '--replace')):
        status, said = ends(start(toy, *command))
        assert status == 2 and 'another process is writing this run' in said
    folder.rename(moved)
    status, said = ends(process)
    assert status == 2 and said.endswith(f'{folder}: was moved or removed while it ran; nl-irl resume goes on with it where it is now\n'), said
    status, said = ends(start(toy, 'resume', moved))
    assert status == 0 and content(moved) == whole[0], said


def test_a_clock_that_is_set_back_changes_nothing(toy, whole, tmp_path):
    "The clock of a run goes back an hour a second; then it is killed, and resumed at a time long before that of its files."
    (tmp_path/'clock').mkdir()
    (tmp_path/'clock'/'sitecustomize.py').write_text('import time\nreal, steady = time.time(), time.monotonic\nfirst = steady()\n'
                                                     'time.time = lambda: real - 3600 * (steady() - first)\n'
                                                     "with open(__file__ + '.used', 'a') as used: used.write('x')\n")
    folder = tmp_path/'run'
    process = start(toy, 'run', 'toy', '--out', folder, PYTHONPATH=f"{tmp_path/'clock'}:{os.environ.get('PYTHONPATH', '')}")
    wait_for(folder, 'snapshots/late.json', b'"update"', process)
    os.killpg(process.pid, signal.SIGKILL)
    ends(process)
    nothing_remains(folder)
    assert len((tmp_path/'clock'/'sitecustomize.py.used').read_text()) > 1, 'the kernel has such a clock, too'
    for file in folder.rglob('*'): os.utime(file, (later := time.time() + 1e6, later))
    status, said = ends(start(toy, 'resume', folder))
    assert status == 0 and content(folder) == whole[0], said


@pytest.mark.parametrize('name', ['imitation', 'method'])
def test_killed_and_resumed_an_experiment_equals_one_that_started_beside_it(name, tmp_path):
    "Two runs start together, sets of strings in another order in each; one is killed at a random moment from the first snapshot on, and resumed."
    act = "import sys; sys.modules['rfc3987_syntax'] = None; from nl_irl.experiment import resume_experiment, run_experiment; "
    begin = lambda what: subprocess.Popen([sys.executable, '-c', act + what], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                          start_new_session=True, env=os.environ | {'PYTHONHASHSEED': str(random.randrange(2 ** 32))})
    whole, killed = (begin(f"run_experiment('{name}', {{}}, '{folder}')") for folder in ('whole', 'killed'))
    seed = random.randrange(2 ** 32)
    print(f'moment from seed {seed}')
    wait_for(tmp_path/'killed', 'snapshots/*.json', b'"update"', killed)
    time.sleep(random.Random(seed).uniform(0, 5 if name == 'imitation' else 15))
    os.killpg(killed.pid, signal.SIGKILL)
    assert ends(killed)[0] == -signal.SIGKILL
    nothing_remains(tmp_path/'killed')
    for process in (whole, begin("resume_experiment('killed')")):
        status, said = ends(process)
        assert status == 0, said
    assert content(tmp_path/'killed') == content(tmp_path/'whole')


# %% in this process

class Seeker:
    "A learner with an optimizer that has a state, and noise from torch's global generator and one of its own."
    def __init__(self):
        torch.manual_seed(0)
        self.weights, self.rng = nn.Linear(4, 1), np.random.default_rng(0)
        self.optimizer = torch.optim.AdamW(self.weights.parameters(), lr=0.1)

    def update(self):
        loss = self.weights(torch.rand(8, 4) + torch.as_tensor(self.rng.random((8, 4), np.float32))).square().mean()
        self.optimizer.zero_grad(); loss.backward(); self.optimizer.step()
        return {'loss': loss.item()}

    def state_dict(self):
        return {'weights': self.weights.state_dict(), 'optimizer': self.optimizer.state_dict(), 'rng': self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.weights.load_state_dict(state['weights']); self.optimizer.load_state_dict(state['optimizer']); self.rng.bit_generator.state = state['rng']


def experiment(folder: Path) -> None:
    "What a notebook does."
    run, learner = Recording.create(folder, {'seed': 0}), Seeker()
    for stage in ('early', 'late'):
        train(run, stage, learner, updates=3, checks=2, check=lambda update: {'bias': learner.weights.bias.item()}, keep=learner.weights, every=0)
    run.log(3, drawn=torch.rand(1).item())
    run.write_table('drawn', pd.DataFrame({'number': np.random.default_rng(1).random(3)}))
    finish(run)


def killed_at(folder: Path, operation: int) -> bool:
    "Whether `experiment` was killed, in a process of its own, before its file operation of that number; a line that it was writing is half there."
    if not (child := os.fork()):
        count = 0
        def deadly(act):
            def acts(*arguments, **keywords):
                nonlocal count
                count += 1
                if count == operation:
                    if act is runs.append_line: arguments[0].write(b'{"st')
                    os._exit(9)
                return act(*arguments, **keywords)
            return acts
        for name in ('replace', 'fsync', 'unlink', 'ftruncate', 'rmdir'): setattr(os, name, deadly(getattr(os, name)))
        runs.append_line = deadly(runs.append_line)
        try: experiment(folder)
        except BaseException: os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), 'it must be killed or come to its end'
    return status == 9


def test_killed_before_any_file_operation_it_ends_with_the_same_bytes(tmp_path, monkeypatch):
    made_by = runs.code_and_versions()
    monkeypatch.setattr(runs, 'code_and_versions', lambda: made_by)                                 # it is slow
    monkeypatch.setattr(runs, 'board', lambda folder: type('Board', (), {'close': lambda b: None, 'add_scalar': lambda b, *a: None})())
    torch.set_num_threads(1)
    experiment(tmp_path/'whole')
    left, folder, seed, operation = content(tmp_path/'whole'), tmp_path/'run', random.randrange(2 ** 32), 0
    print(f'operations from seed {seed}')
    rng = np.random.default_rng(seed)
    while killed_at(folder, operation := operation + int(rng.integers(1, 6))):
        if not (folder/'manifest.json').exists(): killed_at(folder, int(rng.integers(1, 40)))                   # a second time, or it comes to its end
        if not (folder/'manifest.json').exists(): experiment(folder)
        assert content(folder) == left or (folder/'snapshots').exists() and Run.open(folder).finished, operation
        shutil.rmtree(folder)
    assert operation > 50
