"""Run folders under bad luck: kills, second writers, flipped bytes, foreign files. Each ends in what was there before, or a ValueError that names the file."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from nl_irl.experiment import experiments
from nl_irl.records import read_records
from nl_irl.runs import Recording, Run, code_checksum, finish
from nl_irl.worlds.scenes import scene_sources

WRITER = '''
import sys, torch
from nl_irl.runs import Recording
run = Recording.create(sys.argv[1], {'seed': 0})
step = 0
while True:
    step += 1
    run.log(step, loss=1 / step)
    run.save_checkpoint('last', {'weight': torch.full((50_000,), float(step))}, step=step)
    if step == 1: print('started', flush=True)
'''


def record(folder, parameters=None):
    "A small finished run."
    run = Recording.create(folder, parameters or {'seed': 0}, experiment='test')
    with run.timed('training'):
        for step in (1, 2): run.log(step, loss=1 / step)
    run.save_checkpoint('last', {'weight': torch.arange(4.)}, step=2)
    run.write_table('results', pd.DataFrame({'agent': ['cloned'], 'SR': [1.0]}))
    return finish(run)


@pytest.mark.parametrize('wait', [0.0, 0.11, 0.37])
def test_a_killed_run_is_whole_up_to_its_last_line(tmp_path, wait):
    with subprocess.Popen([sys.executable, '-c', WRITER, tmp_path/'run'], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == 'started\n'
        with pytest.raises(ValueError, match='another process'): Recording.create(tmp_path/'run', {})
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
    run = Run.open(tmp_path/'run')
    steps = run.metrics().step.tolist()
    assert not run.finished and steps == list(range(1, len(steps) + 1))
    weights, facts = run.load_checkpoint('last')
    assert facts['step'] in (len(steps), len(steps) - 1) and (weights['weight'] == facts['step']).all()
    with pytest.raises(ValueError, match='unfinished run that differs in seed'): Recording.create(tmp_path/'run', {})      # the lock went with the process


def test_equal_runs_write_equal_files(tmp_path):
    a, b = record(tmp_path/'a'), record(tmp_path/'b')
    for name in ('config.json', 'metrics.jsonl', 'results.parquet', 'checkpoints/last.json'):
        assert (a.folder/name).read_bytes() == (b.folder/name).read_bytes(), name


@pytest.mark.parametrize('name', ['config.json', 'metrics.jsonl', 'timings.jsonl', 'results.parquet', 'checkpoints/last.json'])
def test_a_flipped_bit_is_noticed(tmp_path, name):
    folder = record(tmp_path/'run').folder
    content = bytearray((folder/name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder/name).write_bytes(content)
    with pytest.raises(ValueError, match=name.split('.')[0]): Run.open(folder)


@pytest.mark.parametrize('content', ['', 'x', '[]', '{}', '{"format": 0}', '{"format": 1e9}', 'null', '"format"'])
def test_a_foreign_config_is_refused(tmp_path, content):
    (tmp_path/'config.json').write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)): Run.open(tmp_path)


@pytest.mark.parametrize('content', ['', '[]', '{}', 'null', '{"files": 3}', '{"files": {"gone.parquet": "f00d"}}'])
def test_a_foreign_manifest_is_refused(tmp_path, content):
    folder = record(tmp_path/'run').folder
    (folder/'manifest.json').write_text(content)
    with pytest.raises(ValueError, match='manifest'): Run.open(folder)


def test_loading_executes_nothing(tmp_path):
    "A pickle in place of tensors is refused, also where every checksum was made to fit."
    class Bomb:
        def __reduce__(self): return os.mkdir, (str(tmp_path/'exploded'),)
    run = record(tmp_path/'run')
    folder = run.folder/'checkpoints'
    about = json.loads((folder/'last.json').read_text())
    (folder/about['file']).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match='checksum'): run.load_checkpoint('last')
    import hashlib
    (folder/'last.json').write_text(json.dumps(about | {'sha256': hashlib.sha256((folder/about['file']).read_bytes()).hexdigest()}))
    with pytest.raises(ValueError, match='no safetensors file'): run.load_checkpoint('last')
    assert not (tmp_path/'exploded').exists()


@pytest.mark.parametrize('content', ['', '[]', '{}', '{"file": "x"}'])
def test_a_broken_checkpoint_is_named(tmp_path, content):
    run = record(tmp_path/'run')
    (run.folder/'checkpoints'/'last.json').write_text(content)
    with pytest.raises(ValueError, match='last.json'): run.load_checkpoint('last')
    with pytest.raises(ValueError, match=r"no checkpoint 'best'; there are \['last'\]"): run.load_checkpoint('best')


@pytest.mark.parametrize('name', ['', 'a/b', '../a', 'a-b', 'a b'])
def test_a_checkpoint_name_stays_in_its_folder(tmp_path, name):
    run = Recording.create(tmp_path/'run', {})
    with pytest.raises(ValueError, match='named with letters'): run.save_checkpoint(name, {})
    run.close()


def test_tied_and_transposed_tensors_come_back(tmp_path):
    run, weight = Recording.create(tmp_path/'run', {}), torch.arange(6).view(2, 3)
    run.save_checkpoint('tied', {'a': weight, 'b': weight, 'c': weight.T})
    tensors, _ = finish(run).load_checkpoint('tied')
    assert all(torch.equal(x, y) for x, y in zip(tensors.values(), (weight, weight, weight.T)))


def test_config_says_what_made_the_run(tmp_path):
    config = record(tmp_path/'run', {'seed': 3}).config
    assert config['parameters'] == {'seed': 3} and config['experiment'] == 'test' and config['code'] == code_checksum()
    assert config['versions']['torch'] == torch.__version__ and config['threads'] == torch.get_num_threads()


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises((ValueError, TypeError)): Recording.create(tmp_path/'run', {'rate': float('nan')})
    assert not (tmp_path/'run'/'config.json').exists()


def test_the_order_in_which_a_disk_lists_files_changes_nothing(tmp_path, monkeypatch):
    for name in 'abc':
        (tmp_path/'scenes'/name).mkdir(parents=True)
        (tmp_path/'scenes'/name/f'{name}.glb').touch()
    records = Path(__file__).parents[1]/'figures'/'data'
    def found(packed):
        run = record(tmp_path/packed)
        return (code_checksum(), [r.file for r in read_records(records)], [s.name for s in scene_sources(tmp_path/'scenes')], sorted(experiments().items()),
                [p.read_bytes() for p in sorted(run.folder.glob('*.parquet'))], list(json.loads((run.folder/'manifest.json').read_text())['files']))
    listed = found('one')
    for name in ('glob', 'rglob', 'iterdir'):
        plain = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda *args, plain=plain: reversed(list(plain(*args))))
    assert found('two') == listed and len(listed[1]) > 10 and listed[2] == ['a', 'b', 'c']
