"""Run folders that are broken, foreign, of another version or cannot be written: a sentence with the file and the way out, status 2, nothing changed."""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_resume import TOY, Seeker, content, ends, experiment, start

from nl_irl import experiment as experiments, runs
from nl_irl.cli import main
from nl_irl.files import sha256, write_json
from nl_irl.runs import Recording, code_checksum, finish, lock
from nl_irl.training import train


def tree(folder: Path) -> dict[str, bytes]:
    "The bytes of all files below `folder`, but for the marks of who holds a run."
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file() and p.name not in ('.lock', '.runner')}


@pytest.fixture
def says(capfd, tmp_path, monkeypatch):
    "Run `nl-irl` in an empty folder, where `toy` is an experiment that comes with nl_irl: exit status, stdout, stderr."
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    cells = [new_code_cell(text, metadata={'tags': ['parameters']} if k == 0 else {}) for k, text in enumerate(TOY)]
    path = tmp_path.parent/f'{tmp_path.name}-toy.ipynb'
    nbformat.write(new_notebook(cells=cells), path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, 'experiments', lambda: {'toy': path})
    monkeypatch.setattr(experiments, 'execute', lambda *_: pytest.fail('it must be refused before a notebook runs'))
    def call(*arguments):
        capfd.readouterr()
        try: main([str(a) for a in arguments]); status = 0
        except SystemExit as end: status = end.code or 0
        return status, *capfd.readouterr()
    return call


def make(kind: str) -> Path:
    "A run folder of the experiment toy, cut off or finished, in the working directory."
    folder, values = Path('r'), {'seed': 0, 'updates': 60, 'pause': 0.02}
    request = {'experiment': 'toy', 'notebook': sha256(experiments.experiments()['toy']), 'code': code_checksum(), 'parameters': values}
    write_json(folder/'request.json', request)
    run, learner = Recording.create(folder, {'seed': 0}, experiment='toy'), Seeker()
    train(run, 'early', learner, updates=2, checks=2, keep=learner.weights)
    run.write_table('results', pd.DataFrame({name: ['1_0' if 'id' in name else 0.5] for name in ('id', 'path_id', 'TL', 'NE', 'SR', 'SPL')})
                    .assign(agent='cloned', split='val_seen', level='route'))
    run.write_table('trajectories', pd.DataFrame({'agent': ['cloned'], 'split': ['val_seen'], 'id': ['1_0'], 'viewpoints': [['a', 'b']],
                                                 'instruction': ['go'], 'probabilities': [[[1.0]]]}))
    if kind == 'finished': finish(run)
    else: run.close()
    return folder


def one(folder: Path, pattern: str) -> Path: return sorted(folder.glob(pattern))[0]


def flip(path: Path) -> None:
    "Change one bit in the middle of a file."
    bytes_ = bytearray(path.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    path.write_bytes(bytes_)


def spoil(folder: Path, how: str, pattern: str) -> None:
    "Break the first file of a run that `pattern` finds."
    path = one(folder, pattern)
    if how == 'flip': flip(path)
    elif how == 'cut': path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])
    elif how == 'binary': path.write_bytes(bytes(range(256)))
    elif how == 'gone': path.unlink()
    elif how.startswith('without '): path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != how.split()[1]}))
    elif how.startswith('with '): path.write_text(json.dumps(json.loads(path.read_text()) | json.loads(how[5:])))
    else: path.write_text(how)


JSON = ('', 'cut', 'binary', '[]', '3', 'null', '{}', '"run"', '[' * 5000)
CASES = [('finished', how, name, ('report', 'resume', 'run', 'submit')) for name, hows in {
             'config.json': (*JSON, 'flip'), 'manifest.json': (*JSON, 'with {"files": {}}', 'with {"files": []}'),
             'metrics.jsonl': ('flip', 'cut', 'binary', 'gone'),
             'results.parquet': ('flip', 'cut', 'gone'), 'trajectories.parquet': ('flip',), 'checkpoints/*.safetensors': ('flip', 'cut', 'gone'),
             'checkpoints/*.json': ('flip', 'gone')}.items() for how in hows]
CASES += [('finished', 'with {"format": 2}', 'config.json', ('report', 'resume', 'run', 'submit')), ('finished', '', 'request.json', ('resume', 'run'))]
CASES += [('cut off', how, name, ('resume', 'run')) for name, hows in {
              'config.json': (*JSON, 'with {"format": 2}', 'without threads', 'without parameters', 'with {"git": 3}', 'with {"data": []}'),
              'request.json': (*JSON, 'without parameters', 'with {"code": 3}'), 'snapshots/*.safetensors': ('flip', 'cut', '', 'gone'),
              'snapshots/*.json': (*JSON, 'with {"sha256": "f00d"}', 'with {"file": "../../x"}', 'without facts'),
              'checkpoints/*.safetensors': ('flip', 'gone'), 'checkpoints/*.json': ('cut', '[]')}.items() for how in hows]
COMMANDS = {'report': ('report', 'r'), 'resume': ('resume', 'r'), 'run': ('run', 'toy', '--out', 'r'),
            'submit': ('submit', 'r', '--split', 'val_seen', '-o', 'x.json')}
WAYS_OUT = ('restore', 'run again', 'run it again', 'remake', 'begins it anew', 'training begins anew', 'choose another', 'complete?')


@pytest.mark.parametrize('kind, how, name, commands', CASES, ids=lambda x: x[:20] if isinstance(x, str) else '')
def test_a_broken_run_is_refused_by_name(says, kind, how, name, commands):
    folder = make(kind)
    spoil(folder, how, name)
    before = tree(Path('.'))
    for command in commands:
        status, out, said = says(*COMMANDS[command])
        assert status == 2 and not out and 'Traceback' not in said, (command, said)
        lines = [line for line in said.splitlines() if line.startswith('nl-irl: ')]
        assert len(lines) == 1 and said.endswith(lines[0] + '\n') and len(lines[0]) < 500, said
        assert name.split('/')[0].removesuffix('.json').rstrip('s') in lines[0] and any(way in lines[0] for way in WAYS_OUT), lines[0]
        assert tree(Path('.')) == before, command


OTHERS = {
    'foreign files': (lambda r: shutil.rmtree(r) or r.mkdir() or (r/'thesis.tex').write_text('x'), {
        'run': 'r: holds files that nl-irl run did not make (thesis.tex); choose another --out', 'resume': 'r: nl-irl run began no run there',
        'report': 'r: not a run folder, it has no config.json', 'submit': 'r: not a run folder'}),
    'nothing': (shutil.rmtree, {'resume': 'r: nl-irl run began no run there', 'report': 'r: there is no such folder', 'submit': 'r: there is no such folder'}),
    'a file': (lambda r: shutil.rmtree(r) or r.write_text('x'), {
        'run': 'r: no run can be written there', 'resume': 'r: nl-irl run began no run there', 'report': 'r: not a run folder'}),
    'recorded by hand': (lambda r: (r/'request.json').unlink(), {'run': 'choose another --out', 'resume': 'goes on when its notebook is run again'}),
    'not finished': (lambda r: None, {'report': 'has not finished'}),
    'another request': (lambda r: spoil(r, 'with {"parameters": {"seed": 7}}', 'request.json'), {
        'run': 'r: holds an unfinished run that differs in seed (7 there, 0 here)'}),
    'other code': (lambda r: spoil(r, json.dumps({'code': 'c' * 64}).join(['with ', '']), 'request.json'), {
        'run': "r: holds an unfinished run that differs in nl_irl's code; choose another --out, or --replace it",
        'resume': "nl_irl's code changed since it was begun (nl_irl 0."}),
    'another notebook': (lambda r: spoil(r, json.dumps({'notebook': 'c' * 64}).join(['with ', '']), 'request.json'), {
        'resume': 'its notebook changed since it was begun'}),
    'a notebook of its own': (lambda r: spoil(r, 'with {"experiment": "own.ipynb"}', 'request.json'), {
        'resume': 'go on with nl-irl run own.ipynb -p seed 0 -p updates 60 -p pause 0.02 --out r'}),
    'held': (lambda r: Recording.create(r, {'seed': 0}, experiment='toy'), {'run': 'another process is writing this run'}),
    'being run': (lambda r: lock(r, name='.runner'), {'run': 'another process is writing this run', 'resume': 'another process is writing this run'})}


@pytest.mark.parametrize('name', OTHERS)
def test_what_is_no_run_to_go_on_with_is_refused(says, name):
    change, expected = OTHERS[name]
    folder = make('cut off')
    held = change(folder)
    before = tree(Path('.'))
    for command, words in expected.items():
        status, out, said = says(*COMMANDS[command])
        assert status == 2 and not out and 'Traceback' not in said and words in said, (command, said)
        assert tree(Path('.')) == before
    if name in ('held', 'being run'): held.close()


def test_a_broken_run_gives_way_to_replace(says, monkeypatch):
    folder = make('cut off')
    spoil(folder, 'flip', 'snapshots/*.safetensors')
    monkeypatch.setattr(experiments, 'execute', lambda path, folder, *_: finish(Recording.create(folder, {'seed': 1})))
    status, _, said = says(*COMMANDS['run'], '--replace')
    assert status == 0 and not (folder/'snapshots').exists(), said


def test_metrics_of_a_cut_off_run_are_not_needed_to_go_on(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    experiment(tmp_path/'whole')
    monkeypatch.setattr('test_resume.finish', lambda run: run.close())
    experiment(tmp_path/'run')
    monkeypatch.undo()
    (tmp_path/'run'/'metrics.jsonl').write_bytes(bytes(range(256)))
    experiment(tmp_path/'run')
    assert content(tmp_path/'run') == content(tmp_path/'whole')


def test_another_number_of_threads_or_other_data_is_refused(tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        Recording.create(tmp_path/'run', {}, data={'houses': 'a' * 64}).close()
        with pytest.raises(ValueError, match='unfinished run that differs in data.houses; make them equal'):
            Recording.create(tmp_path/'run', {}, data={'houses': 'b' * 64})
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match=r'differs in threads \(1 there, 2 here\)'): Recording.create(tmp_path/'run', {}, data={'houses': 'a' * 64})
    finally: torch.set_num_threads(before)


def failed(folder: Path, limit: int) -> str:
    "How `experiment` failed, in a process of its own, where no file may be longer than `limit` bytes: as on a full disk a write fails, or is cut short."
    reading, writing = os.pipe()
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try: experiment(folder)
        except BaseException as error: os.write(writing, f'{type(error).__name__}: {error}'.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading) as said: return said.read()


def test_on_a_full_disk_the_file_is_named_and_the_run_can_go_on(tmp_path, monkeypatch):
    made_by = runs.code_and_versions()
    monkeypatch.setattr(runs, 'code_and_versions', lambda: made_by)
    monkeypatch.setattr(runs, 'board', lambda folder: type('Board', (), {'close': lambda b: None, 'add_scalar': lambda b, *a: None})())
    torch.set_num_threads(1)
    experiment(tmp_path/'whole')
    longest = max(map(len, content(tmp_path/'whole').values()))
    for limit in (0, 20, 100, 1000, 3000, longest - 1):
        said = failed(tmp_path/'run', limit)
        assert said.startswith(f'OSError: {tmp_path}/run/') and 'cannot be written' in said and 'make room' in said, (limit, said)
    experiment(tmp_path/'run')
    assert content(tmp_path/'run') == content(tmp_path/'whole')


@pytest.fixture
def small_disk(tmp_path):
    "A folder with room for little; skipped where nothing can be mounted."
    disk = tmp_path/'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk], capture_output=True) if shutil.which('mount') else None
    if mounted is None or mounted.returncode: pytest.skip('a small tmpfs cannot be mounted here')
    yield disk
    subprocess.run(['umount', disk], check=True)


def test_on_a_full_tmpfs_it_stops_in_one_sentence_and_goes_on_when_there_is_room(small_disk, says):
    toy, folder = experiments.experiments()['toy'], small_disk/'run'
    status, said = ends(start(toy, 'run', 'toy', '--out', folder))
    assert status == 2 and 'Traceback' not in said and str(folder) in said, said
    assert f'nl-irl resume {folder}' in said and not (folder/'manifest.json').exists() and (folder/'config.json').exists(), said
    subprocess.run(['mount', '-o', 'remount,size=4m', small_disk], check=True)
    status, said = ends(start(toy, 'resume', folder))
    assert status == 0 and experiments.Run.open(folder).finished, said


@pytest.mark.parametrize('out', ['file', 'file/r', '/proc/r', 'shut/r'])
def test_a_folder_that_cannot_be_written_is_refused(says, out):
    Path('file').write_text('x')
    Path('shut').mkdir(mode=0o500)
    if out == 'shut/r' and os.geteuid() == 0: pytest.skip('a superuser writes into every folder')
    before = tree(Path('.'))
    status, stdout, said = says('run', 'toy', '--out', out)
    assert status == 2 and not stdout and f'{out}: no run can be written there' in said and 'choose another folder' in said, said
    assert tree(Path('.')) == before


@pytest.mark.parametrize('out', ['file/report.html', '/proc/report.html', 'r'])
def test_a_report_that_cannot_be_written_is_refused(says, out):
    make('finished')
    Path('file').write_text('x')
    before = tree(Path('.'))
    status, stdout, said = says('report', 'r', '-o', out)
    assert status == 2 and not stdout and 'Traceback' not in said and f'{out}: cannot be written' in said and 'choose another place' in said, said
    assert tree(Path('.')) == before


def test_tables_without_the_columns_that_a_report_needs_are_refused(says):
    run = Recording.create('own', {})
    run.write_table('results', pd.DataFrame({'agent': ['mine'], 'reward': [1.0]}))
    finish(run)
    status, _, said = says('report', 'own')
    assert status == 2 and 'own/results.parquet: lacks the columns split, level' in said and 'it has agent, reward' in said, said
