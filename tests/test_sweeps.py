"""Sweeps: killed in the middle and gone on with, bad files, failed cells, and a Ray cluster that loses a machine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from nl_irl.cli import main
from nl_irl.sweeps import read_sweep, standing, sweep

SLOW = '''import time
import torch
from nl_irl.runs import Recording, finish
from nl_irl.training import train
assert seed < 8, 'no seed of 8'
run = Recording.create(out, {'seed': seed, 'updates': updates}, experiment='slow')
class Slow:
    "Adds up random numbers, a tenth of a second each."
    total = torch.zeros(())
    def update(self):
        time.sleep(.1)
        self.total = self.total + torch.rand(())
        return {'total': self.total.item()}
    def state_dict(self): return {'total': self.total}
    def load_state_dict(self, state): self.total = state['total']
torch.manual_seed(seed)
train(run, 'adding', Slow(), updates=updates, checks=1, every=0)
finish(run)'''


@pytest.fixture
def plan(tmp_path):
    "A function that writes a sweep of the slow notebook; its file."
    cells = new_code_cell("seed = 0\nupdates = 5\nout = ''", metadata={'tags': ['parameters']}), new_code_cell(SLOW)
    nbformat.write(new_notebook(cells=list(cells)), tmp_path/'slow.ipynb')
    def write(**more):
        about = {'experiment': str(tmp_path/'slow.ipynb'), 'out': str(tmp_path/'runs'), 'grid': {'seed': [0, 1]}} | more
        (tmp_path/'plan.yaml').write_text(json.dumps(about))                           # JSON is YAML
        return tmp_path/'plan.yaml'
    return write


def wait_for(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.1)


def metrics(cells): return [(c.folder/'metrics.jsonl').read_bytes() for c in cells]


def test_a_run_that_cannot_be_recorded_is_named_and_the_others_run(plan, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended: main(['sweep', str(plan()), '--record', str(tmp_path/'records')])
    assert not ended.value.code and capfd.readouterr().out.count('no record was kept') == 2
    assert [standing(c).state for c in read_sweep(tmp_path/'plan.yaml')] == ['done', 'done']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_was_killed_goes_on_where_its_runs_were(plan, tmp_path, number):
    file = plan(parameters={'updates': 300})
    heard = 'import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '                  # it is ignored where tests run in the background
    command = [sys.executable, '-c', f'{heard}from nl_irl.cli import main; main()', 'sweep', str(file), '--workers', '2']
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    cells = read_sweep(file)
    wait_for(lambda: all((c.folder/'snapshots'/'adding.json').exists() for c in cells))
    os.kill(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (130 if number == signal.SIGINT else -number) and ('go on with the same command' in said) == (number == signal.SIGINT)
    for c in cells: wait_for(lambda c=c: standing(c).state == 'cut off' and not (c.folder/'.progress').exists())
    assert [s.state for s in sweep(cells, workers=2)] == ['done', 'done']
    whole = read_sweep(plan(parameters={'updates': 300}, out=str(tmp_path/'whole')))
    sweep(whole, workers=2)
    assert metrics(cells) == metrics(whole) and len(set(metrics(whole))) == 2


def test_failed_cells_are_listed_left_alone_and_retried(plan, capfd):
    file = plan(grid={'seed': [8, 1]})
    def call(*more):
        capfd.readouterr()
        try: main(['sweep', str(file), *more]); status = 0
        except SystemExit as end: status = end.code or 0
        return status, capfd.readouterr().out
    status, out = call()
    assert status == 1 and 'no seed of 8' in out and '1 done' in out and '1 failed' in out
    log = read_sweep(file)[0].folder.with_name('seed=8.log')
    before = log.stat().st_size
    assert call()[0] == 1 and log.stat().st_size == before                              # left alone
    assert call('--retry')[0] == 1 and log.stat().st_size > before
    status, out = call('--list')
    assert status == 1 and 'failed   nl-irl run' in out and 'done     nl-irl run' in out


@pytest.mark.parametrize('text, words', [
    ('experiment: [', 'no YAML'), ('- 1', 'should be a mapping'), ('experiments: method', "has no ['experiments']; it has experiment"),
    ('{experiment: metod}', "no experiment 'metod'"), ('{experiment: method, cells: {a/b: {}}}', "'a/b' names a folder"),
    ('{experiment: method, cells: {a: {sed: 1}}}', "cells: a: method has no parameter 'sed'"), ('{experiment: method, grid: {seed: []}}', 'lists no value'),
    ('{experiment: method, grid: {seed: [one]}}', "seed takes int (as 0), got 'one'"), ('{cells: {a: {}}}', 'a has no experiment')])
def test_a_bad_sweep_is_refused_before_anything_runs(tmp_path, text, words):
    (tmp_path/'bad.yaml').write_text(text)
    with pytest.raises(ValueError) as error: read_sweep(tmp_path/'bad.yaml')
    assert words in str(error.value) and not (tmp_path/'runs').exists()


def test_what_is_not_there_is_named(tmp_path, plan):
    with pytest.raises(ValueError, match=r'none\.yaml: no such file'): read_sweep(tmp_path/'none.yaml')
    with pytest.raises(ValueError, match="engine is one of local, ray, got 'slurm'"): sweep(read_sweep(plan()), engine='slurm')


def test_a_cluster_that_loses_a_machine_loses_nothing(plan, tmp_path):
    pytest.importorskip('ray', reason='Ray is not installed')
    import ray
    from ray.cluster_utils import Cluster
    cells = read_sweep(plan(parameters={'updates': 60}, grid={'seed': [0, 1, 2]}))
    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 1})
    try:
        lost = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        found = []
        thread = threading.Thread(target=lambda: found.extend(sweep(cells, engine='ray')))
        thread.start()
        wait_for(lambda: sum((c.folder/'snapshots'/'adding.json').exists() for c in cells) == 2)
        cluster.remove_node(lost, allow_graceful=False)
        thread.join(240)
        assert [s.state for s in found] == ['done'] * 3
    finally:
        ray.shutdown()
        cluster.shutdown()
    whole = read_sweep(plan(parameters={'updates': 60}, grid={'seed': [0, 1, 2]}, out=str(tmp_path/'whole')))
    sweep(whole, workers=3)
    assert metrics(cells) == metrics(whole)
