"""Files made to do harm: pickles where numbers belong, sizes that fill the memory, paths and links out of their folder, programs in place of text.

Each is refused in one sentence that names the file, and nothing in it is run. (Damaged files are in test_bad_input, test_bad_runs and test_features; Minari
datasets in test_exchange; scenes that habitat-sim reads, in a process of its own, in test_habitat.)
"""

import hashlib
import io
import json
import pickle
import random
import shutil
import struct

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_features import views, write_hdf5, world  # noqa: F401
from test_resume import TOY

from nl_irl import experiment as experiments, learned
from nl_irl.cli import main
from nl_irl.benchmarks import load_benchmark
from nl_irl.experiment import notebook_parameters
from nl_irl.files import sha256, verify, write_json
from nl_irl.learned import load, open_run, reward_appraisal
from nl_irl.panels import RelabelInspector, TrajectoryPlayer
from nl_irl.panels.playback import Notes, of_run
from nl_irl.panels.relabels import Judgements, accepted
from nl_irl.panels.stage import save_page
from nl_irl.panels.talk import TalkToAgent
from nl_irl.records import read_record
from nl_irl.report import report
from nl_irl.runs import Recording, Run, finish, read_table, save_tensors
from nl_irl.sweeps import filled, read_sweep
from nl_irl.training import load_snapshot
from nl_irl.types import Instruction, Trajectory
from nl_irl.worlds.cache import cache_folder, cached_houses, houses_name, open_houses
from nl_irl.worlds.features import load_features, open_features
from nl_irl.worlds.scenes import encoder_of

SCRIPT = '<script>alert(1)</script><img src=x onerror="alert(2)">'


class Mark:
    "Pickled: whoever loads it makes the file `path`."
    def __init__(self, path): self.path = path
    def __reduce__(self): return open, (str(self.path), 'w')


@pytest.fixture
def mark(tmp_path):
    "A path at which a file appears when something hostile was run; checked at the end."
    path = tmp_path/'it-was-run'
    pickle.loads(pickle.dumps(Mark(path))).close()
    assert path.exists()                                                # so it would show
    path.unlink()
    yield path
    assert not path.exists()


def refused(act, *words):
    "`act` ends with a ValueError of one sentence with all `words`."
    with pytest.raises(ValueError) as error: act()
    said = str(error.value)
    assert '\n' not in said and len(said) < 600 and all(str(w) in said for w in words), said


def vouch(folder):
    "Make the manifest of a folder fit what is in it, as whoever hands on something hostile would."
    manifest = json.loads((folder/'manifest.json').read_text())
    write_json(folder/'manifest.json', manifest | {'files': {name: sha256(folder/name) for name in manifest['files'] if (folder/name).exists()}})
    return folder


@pytest.fixture
def run(untrained, tmp_path):
    "A copy of a finished run, to be spoiled."
    shutil.copytree(untrained, tmp_path/'run')
    return tmp_path/'run'


def change(file, *keys, value):
    "Set what stands at `keys` of a JSON file."
    whole = place = json.loads(file.read_text())
    for key in keys[:-1]: place = place[key]
    place[keys[-1]] = value
    file.write_text(json.dumps(whole))


def put_tensors(run, name, content):
    "Other bytes for the checkpoint `name`, with a checksum that fits."
    about = run/'checkpoints'/f'{name}.json'
    (run/'checkpoints'/json.loads(about.read_text())['file']).write_bytes(content)
    change(about, 'sha256', value=hashlib.sha256(content).hexdigest())
    vouch(run)


# Manifests

@pytest.mark.parametrize('name', ['../secret', '/etc/passwd', 'a/../../secret', '..'])
def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path, name):
    (tmp_path/'secret').write_text('x')
    (tmp_path/'folder').mkdir()
    write_json(tmp_path/'folder'/'manifest.json', {'files': {name: sha256(tmp_path/'secret')}})
    refused(lambda: verify(tmp_path/'folder'), tmp_path/'folder', 'outside of the folder')


# Checkpoints and snapshots

def header(content): return struct.pack('<Q', len(content)) + content


def torch_file(mark):
    content = io.BytesIO()
    torch.save({'weight': Mark(mark)}, content)
    return content.getvalue()


BYTES = {
    'a pickle': lambda mark: pickle.dumps(Mark(mark)), "torch's format": torch_file, 'nothing': lambda mark: b'',
    'an endless header': lambda mark: struct.pack('<Q', 2 ** 62) + b'{}', 'a deep header': lambda mark: header(b'[' * 10 ** 5),
    'a tensor past the end': lambda mark: header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    'an endless tensor': lambda mark: header(b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,0]}}')}


@pytest.mark.parametrize('what', BYTES)
def test_a_checkpoint_is_tensors_or_refused(run, mark, what):
    put_tensors(run, 'policy', BYTES[what](mark))
    refused(lambda: Run.open(run).load_checkpoint('policy'), run/'checkpoints'/'policy', 'no safetensors file')


@pytest.mark.parametrize('what', BYTES)
def test_a_snapshot_is_tensors_or_refused(tmp_path, mark, what):
    save_tensors(tmp_path/'snapshots', 'early', {'layout': torch.zeros(2, dtype=torch.uint8)}, {})
    content, about = BYTES[what](mark), tmp_path/'snapshots'/'early.json'
    (tmp_path/'snapshots'/json.loads(about.read_text())['file']).write_bytes(content)
    change(about, 'sha256', value=hashlib.sha256(content).hexdigest())
    refused(lambda: load_snapshot(tmp_path, 'early'), tmp_path/'snapshots'/'early', 'no safetensors file')


@pytest.mark.parametrize('layout', [b'', b'[]', b'{"items": [["progress", {"tensor": "none"}]]}', b'[' * 10 ** 5, b'\xff', b'{"items": 3}',
                                    b'{"items": [["progress", {"items": []}]]}', b'{"items": [[[], 1]]}'])
def test_a_snapshot_of_another_layout_is_refused(tmp_path, layout):
    save_tensors(tmp_path/'snapshots', 'early', {'layout': torch.frombuffer(bytearray(layout + b' '), dtype=torch.uint8)}, {})
    refused(lambda: load_snapshot(tmp_path, 'early'), tmp_path/'snapshots'/'early.json')


@pytest.mark.parametrize('file, words', [('../../secret.safetensors', 'does not describe a checkpoint'), ('/etc/passwd', 'does not describe a checkpoint'),
                                         ('..', 'missing, though policy.json names it'), ('', 'missing, though policy.json names it')])
def test_a_checkpoint_does_not_lead_out_of_its_folder(run, file, words):
    change(run/'checkpoints'/'policy.json', 'file', value=file)
    refused(lambda: Run.open(vouch(run)).load_checkpoint('policy'), 'policy.json', words)


CONFIGS = {'endless words': ('words', 10 ** 15), 'a large width': ('width', 10 ** 6), 'a negative width': ('width', -1), 'half a width': ('width', 16.5),
           'a width in words': ('width', 'wide'), 'NaN': ('width', float('nan')), 'a list': ('width', [64]), 'more digits than C has': ('words', 10 ** 30),
           'an unknown field': ('evil', 1)}


@pytest.mark.parametrize('what', CONFIGS)
def test_a_network_of_other_sizes_than_its_weights_is_not_built(run, what, monkeypatch):
    "Only without memory, on torch's meta device."
    (name, value), (kind, config), built = CONFIGS[what], learned.NETWORKS['policy'], []
    monkeypatch.setitem(learned.NETWORKS, 'policy', (lambda facts: (built.append(torch.empty(0).device.type), kind(facts))[1], config))
    change(run/'checkpoints'/'policy.json', 'facts', 'config', name, value=value)
    refused(lambda: load(Run.open(vouch(run)), 'policy'), run/'checkpoints'/'policy', 'not what this version keeps')
    assert built in ([], ['meta'])


@pytest.mark.parametrize('words', [[], 'abc', [1, 2], ['<pad>', '<unk>', '<start>', '<end>', 'a', 'a'], None, [['<pad>']]])
def test_a_vocabulary_is_words_or_refused(run, words):
    change(run/'checkpoints'/'policy.json', 'facts', 'words', value=words)
    refused(lambda: load(Run.open(vouch(run)), 'policy'), 'policy', 'not what this version keeps')


# What config.json says

@pytest.mark.parametrize('keys, value, words', [
    (('parameters', 'world'), ['houses'], 'names no world'), (('parameters', 'preset'), 3, 'names no world'),
    (('parameters', 'spacing'), 'wide', 'names no world'),
    (('parameters', 'world'), '../..', 'no world is named'), (('parameters', 'preset'), '../..', "preset '../..' is unknown"),
    (('settings', 'horizon'), 10 ** 12, 'no number for settings.horizon'), (('settings', 'horizon'), 'far', 'no number for settings.horizon'),
    (('settings', 'horizon'), None, 'no number for settings.horizon'), (('settings', 'route_irl'), [], 'no number for settings.route_irl.moves'),
    (('settings', 'route_irl', 'moves'), float('nan'), 'no number for settings.route_irl.moves'), (('git',), {'commit': 3}, 'config.json: git cannot be'),
    (('data',), {'houses': 3}, 'config.json: data cannot be')])
def test_a_configuration_that_leads_astray_is_refused(run, keys, value, words):
    change(run/'config.json', *keys, value=value)
    refused(lambda: reward_appraisal(open_run(Run.open(vouch(run))), 'dev_seen'), words)


@pytest.mark.parametrize('name', ['timm:hf-hub:someone/evil', 'timm:/etc/passwd', 'torchvision:../x', 'timm:', 'pickle:x'])
def test_an_encoder_is_a_name_and_no_address(name): refused(lambda: encoder_of(name), 'an encoder is')


# Tables

def test_a_table_runs_nothing(tmp_path, mark):
    "Arrow's extension types for Python were once pickles in the schema."
    field = pa.field('agent', pa.string(), metadata={'ARROW:extension:name': 'arrow.py_extension_type', 'ARROW:extension:metadata': pickle.dumps(Mark(mark))})
    pq.write_table(pa.table([pa.array(['a'])], schema=pa.schema([field])), tmp_path/'x.parquet')
    try: assert read_table(tmp_path/'x.parquet').agent.tolist() == ['a']
    except ValueError as error: assert 'x.parquet' in str(error)


FRAMES = {
    'numbers for names': ({'agent': [1, 2]}, 'column agent should hold text'), 'lists for names': ({'agent': [['a'], ['b']]}, 'column agent should hold text'),
    'nothing for names': ({'split': [None, None]}, 'column split should hold text'), 'bytes for names': ({'id': [b'\xff', b'a']}, 'column id should hold text'),
    'words for scores': ({'SR': ['1', '2']}, 'column SR should hold numbers'), 'lists for scores': ({'SR': [[1.], [2.]]}, 'column SR should hold numbers'),
    'a name for a path': ({'viewpoints': ['abc', 'de']}, 'column viewpoints should hold lists'),
    'numbers for a path': ({'viewpoints': [[1], [2]]}, 'column viewpoints should hold lists'),
    'words for probabilities': ({'probabilities': [[['a']], [['b']]]}, 'column probabilities should hold'),
    'flat probabilities': ({'probabilities': [[.5], [.5]]}, 'column probabilities should hold')}


@pytest.mark.parametrize('what', FRAMES)
def test_a_table_holds_what_its_columns_say(tmp_path, what):
    columns, words = FRAMES[what]
    pd.DataFrame(columns).to_parquet(tmp_path/'x.parquet')
    refused(lambda: read_table(tmp_path/'x.parquet'), tmp_path/'x.parquet', words)


def test_columns_of_one_name_are_refused(tmp_path):
    pq.write_table(pa.table([pa.array(['a']), pa.array(['b'])], names=['agent', 'agent']), tmp_path/'x.parquet')
    refused(lambda: read_table(tmp_path/'x.parquet'), tmp_path/'x.parquet')


def test_a_walk_that_no_world_has_is_refused(run):
    table = pd.read_parquet(run/'trajectories.parquet')
    table.assign(viewpoints=[['../../x']] * len(table)).to_parquet(run/'trajectories.parquet')
    refused(lambda: of_run(vouch(run)), run/'trajectories.parquet', "no viewpoint '../../x'")


# Lines of metrics and timings

@pytest.mark.parametrize('line', ['{"step": null}', '{"step": 1, "loss": "<b>"}', '{"step": 1, "loss": [1]}', '{"step": 1, "loss": NaN}', '{"step": 1e999}',
                                  '[' * 10 ** 5, '{"loss": 1}', '{"step": ' + '9' * 5000 + '}', '{"step": 1, "\\ud800": 1}', '{"step": true}'])
def test_a_line_of_metrics_is_numbers(run, line):
    (run/'metrics.jsonl').write_text(line + '\n')
    refused(lambda: Run.open(vouch(run)).metrics(), run/'metrics.jsonl', 'line 1')


@pytest.mark.parametrize('line', ['{"what": 3, "wall_s": 1, "cpu_s": 1}', '{"wall_s": 1, "cpu_s": 1}', '{"what": "a", "wall_s": "b", "cpu_s": 1}', '3'])
def test_a_line_of_timings_names_its_stage(tmp_path, line):
    folder = scored_run(tmp_path)
    (folder/'timings.jsonl').write_text(line + '\n')
    refused(lambda: report([vouch(folder)], tmp_path/'out.html'), folder/'timings.jsonl', 'line 1')


# Records

def record(facts, file):
    "A parquet file with `facts` where a record has its own."
    table = pa.Table.from_pandas(pd.DataFrame({'agent': ['a'], 'split': ['val'], 'id': ['1_0'], 'SR': [1]}))
    pq.write_table(table.replace_schema_metadata({b'nl_irl': facts if isinstance(facts, bytes) else json.dumps(facts).encode()}), file)


FACTS = {'format': 1, 'experiment': 'method', 'parameters': {}, 'command': '', 'cpu_s': {}, 'git': None, 'data': {}}


@pytest.mark.parametrize('facts', [b'', b'[' * 10 ** 5, b'\xff', [], {'format': 1}, *(FACTS | wrong for wrong in (
    {'format': 2}, {'experiment': 3}, {'parameters': []}, {'git': 'f00d'}))])
def test_a_record_says_what_records_say(tmp_path, facts):
    record(facts, tmp_path/'x.parquet')
    refused(lambda: read_record(tmp_path/'x.parquet'), tmp_path/'x.parquet', 'make it anew with nl-irl record')
    record(FACTS, tmp_path/'good.parquet')
    assert read_record(tmp_path/'good.parquet').results.path_id.tolist() == ['1']


# Arrays in the cache

def objects(path, mark):
    with open(path, 'wb') as file: np.save(file, np.array([Mark(mark)], object), allow_pickle=True)


def npy(header): return b'\x93NUMPY\x01\x00\x76\x00' + header.encode().ljust(117)[:117] + b'\n'


def archive(path, mark):
    with open(path, 'wb') as file: np.savez(file, a=np.zeros(2))


NPY = {'pickled objects': objects, 'a bare pickle': lambda path, mark: path.write_bytes(pickle.dumps(Mark(mark))), 'an archive': archive,
       'an endless array': lambda path, mark: path.write_bytes(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }")),
       'a program for a header': lambda path, mark: path.write_bytes(npy("open('it-was-run', 'w')")), 'nothing': lambda path, mark: path.write_bytes(b'')}


@pytest.fixture
def houses(tmp_path, monkeypatch):
    "The folder of the tiny houses, in a cache of its own."
    cached_houses('tiny')
    kept = cache_folder()/houses_name('tiny', 0)
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path/'cache'))
    shutil.copytree(kept, tmp_path/'cache'/kept.name)
    return tmp_path/'cache'/kept.name


@pytest.mark.parametrize('what', NPY)
def test_houses_with_a_hostile_array_are_made_anew(houses, mark, monkeypatch, what):
    monkeypatch.chdir(mark.parent)
    NPY[what](houses/'position.npy', mark)
    vouch(houses)
    refused(lambda: open_houses(houses), houses/'position.npy', 'no array of numbers')
    with pytest.warns(UserWarning, match='position.npy.*rebuilt'): assert len(cached_houses('tiny').houses) == 8
    assert len(open_houses(houses).houses) == 8


def test_houses_with_pickled_geometry_are_made_anew(houses, mark):
    with np.load(houses/'houses.npz') as file: arrays = dict(file)
    arrays[next(iter(arrays))] = np.array([Mark(mark)], object)
    with open(houses/'houses.npz', 'wb') as file: np.savez(file, allow_pickle=True, **arrays)
    vouch(houses)
    with pytest.warns(UserWarning, match='rebuilt'): assert len(cached_houses('tiny').houses) == 8


@pytest.mark.parametrize('what', NPY)
def test_features_with_a_hostile_array_are_converted_again(tmp_path, monkeypatch, mark, world, what):       # noqa: F811
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path/'cache'))
    path = write_hdf5(tmp_path/'x.h5', views())
    right = load_features(world, path).views.copy()
    folder, = (p for p in (tmp_path/'cache').iterdir() if p.is_dir())
    NPY[what](folder/'views.npy', mark)
    vouch(folder)
    refused(lambda: open_features(folder), folder/'views.npy', 'no array of numbers')
    with pytest.warns(UserWarning, match='converted again'): assert np.array_equal(load_features(world, path).views, right)


# HDF5

def linked(file): file['house_b'] = h5py.ExternalLink('/etc/passwd', '/x')
def outside(file): file.create_dataset('house_b', (36, 8), 'f4', external=[('/etc/passwd', 0, 36 * 8 * 4)])


def virtual(file):
    layout = h5py.VirtualLayout((36, 8), 'f4')
    layout[:] = h5py.VirtualSource('/etc/passwd', 'x', (36, 8))
    file.create_virtual_dataset('house_b', layout)


HDF5 = {
    'a link to another file': (linked, 'house_b points to another file'), 'bytes of another file': (outside, 'house_b points to another file'),
    'an array made of another file': (virtual, 'house_b points to another file'),
    'endless columns': (lambda f: f.create_dataset('house_b', (36, 1 << 40), 'f4', chunks=(36, 1024)), '1,099,511,627,776 columns are more than'),
    'endless views': (lambda f: f.create_dataset('house_b', (1 << 40, 8), 'f4', chunks=(1024, 8)), 'shape (1099511627776, 8)'),
    'a named type': (lambda f: f.__setitem__('house_b', np.dtype('f4')), 'a group, expected a dataset'),
    'Python objects': (lambda f: f.create_dataset('house_b', data=['a'] * 36, dtype=h5py.string_dtype()), 'numbers of type object')}


@pytest.mark.parametrize('what', HDF5)
def test_features_come_from_their_own_file_and_fit_into_memory(tmp_path, monkeypatch, world, what):         # noqa: F811
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path/'cache'))
    spoil, words = HDF5[what]
    with h5py.File(write_hdf5(tmp_path/'x.h5', views()), 'a') as file:
        del file['house_b']
        spoil(file)
    refused(lambda: load_features(world, tmp_path/'x.h5'), tmp_path/'x.h5', words)


# Plans in YAML

BOMB = 'a: &a [x, x]\n' + ''.join(f'{b}: &{b} [{", ".join([f"*{a}"] * 9)}]\n' for a, b in zip('abcdefgh', 'bcdefghi')) + 'out: *i\n'
MERGES = 'a: &a {x: 1}\n' + ''.join(f'{b}: &{b} {{<<: [{", ".join([f"*{a}"] * 9)}]}}\n' for a, b in zip('abcdefgh', 'bcdefghi'))
GRID = '{' + ', '.join(f'{c}: [{", ".join("0" * 9)}]' for c in 'abcdefghij') + '}'
PLANS = {
    'Python in a tag': ('out: !!python/object/apply:os.system ["touch it-was-run"]', 'could not determine a constructor'),
    'Python in a new tag': ('!!python/object/new:os.system ["touch it-was-run"]', 'could not determine a constructor'),
    'aliases that grow': (BOMB, 'an alias; write out what it stands for'), 'merges that grow': (MERGES, 'an alias; write out what it stands for'),
    'a list in itself': ('out: &a [*a]', 'an alias; write out what it stands for'), 'depth': ('out: ' + '[' * 5000, 'no YAML of values'),
    'endless digits': ('out: ' + '9' * 5000, 'no YAML of values'), 'no such day': ('out: 2001-99-99', 'no YAML of values'),
    'an empty number': ('out: !!int ""', 'no YAML of values'), 'binary': (b'\x80\x81', 'no YAML'), 'a null byte': (b'out: a\x00b', 'no YAML'),
    'a tab': ('\tout: x', 'no YAML'), 'two documents': ('out: x\n---\nout: y', 'no YAML'), 'keys of no kind': ('{[1]: 2}', 'no YAML'),
    'a list': ('[1]', 'should be a mapping'), 'a long list': ('[' + '1, ' * 9999 + ']', 'should be a mapping'),
    'a grid of billions': (f'{{experiment: toy, grid: {GRID}}}', 'cells, more than 10,000'),
    'a row out of its folder': ('{experiment: toy, cells: {"..": {}}}', 'names a folder'),
    'a row elsewhere': ('{experiment: toy, cells: {"/tmp/x": {}}}', 'names a folder'),
    'a row with a line end': ('{experiment: toy, cells: {"a\\n": {}}}', 'names a folder'),
    'a grid out of its folder': ('{experiment: toy, grid: {pause: ["../../x"]}}', 'can have no /'),
    'a row of no kind': ('{experiment: toy, cells: {a: 3}}', 'should be a mapping'),
    'another type': ('{experiment: toy, parameters: {seed: !!binary aGk=}}', 'seed takes int')}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    "A small notebook as the experiment `toy`."
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    nbformat.write(new_notebook(cells=[new_code_cell(t, metadata={'tags': ['parameters']} if k == 0 else {}) for k, t in enumerate(TOY)]), tmp_path/'toy.ipynb')
    monkeypatch.setattr(experiments, 'experiments', lambda: {'toy': tmp_path/'toy.ipynb'})
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('what', PLANS)
def test_a_hostile_plan_is_refused(toy, tmp_path, mark, what):
    content, words = PLANS[what]
    (tmp_path/'plan.yaml').write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: read_sweep(tmp_path/'plan.yaml'), tmp_path/'plan.yaml', words)


def test_names_in_braces_are_replaced_once():
    "Values that name each other do not grow."
    values = {c: f'{{{d}}}' * 9 for c, d in zip('abcdefgh', 'bcdefghi')}
    assert filled('{a}{i}', values) == '{b}' * 9 + '{i}' and filled('{seed}-{no}', {'seed': 3}) == '3-{no}' and filled(3, values) == 3


# Notebooks as experiments

SOURCES = {
    'a call': ("out = ''\nseed = __import__('os').system('touch it-was-run')", 'may only assign literals'),
    'an f-string': ("out = f'{open(\"it-was-run\", \"w\")}'", 'may only assign literals'),
    'an import': ("import os\nout = ''", 'may only assign literals'), 'a loop': ("out = ''\nwhile True: pass", 'may only assign literals'),
    'no Python': ('out = (', 'not Python'), 'a null byte': ("out = ''\x00", 'not Python'), 'depth': ('out = ' + '(' * 3000 + ')' * 3000, 'not Python'),
    'a long sum': ("out = ''\nx = " + '+'.join('1' * 3000), 'may only assign literals|not Python'),
    'no out': ('seed = 1', "lacks out = ''"), 'out a number': ('out = 3', "lacks out = ''")}


@pytest.mark.parametrize('what', SOURCES)
def test_the_parameters_of_a_notebook_are_literals(tmp_path, monkeypatch, mark, what):
    monkeypatch.chdir(tmp_path)
    source, words = SOURCES[what]
    (tmp_path/'own.ipynb').write_text(json.dumps({'cells': [{'cell_type': 'code', 'metadata': {'tags': ['parameters']}, 'source': source}]}))
    with pytest.raises(ValueError, match=words) as error: notebook_parameters(tmp_path/'own.ipynb')
    assert str(error.value).startswith(str(tmp_path/'own.ipynb'))


@pytest.mark.parametrize('content', [b'', b'[]', b'{}', b'[' * 10 ** 5, b'{"cells": 3}', b'{"cells": [3]}', b'\xff',
                                     b'{"cells": [{"metadata": []}]}', b'{"cells": [{"metadata": {"tags": 3}}]}', b'{"cells": {"a": 1}}',
                                     b'{"cells": [{"metadata": {"tags": ["parameters"]}, "source": 3}]}'])
def test_what_is_no_notebook_is_refused(tmp_path, content):
    (tmp_path/'own.ipynb').write_bytes(content)
    refused(lambda: notebook_parameters(tmp_path/'own.ipynb'), tmp_path/'own.ipynb')


def test_a_deep_parameter_on_the_command_line_is_refused(capsys, toy):
    with pytest.raises(SystemExit) as end: main(['run', 'toy', '-p', 'seed', '(' * 3000])
    assert end.value.code == 2 and 'seed takes int' in capsys.readouterr().err


# Notes and judgements

GOOD = {'scan': 'h', 'viewpoints': ['a', 'b'], 'heading': .5, 'text': 'Go.', 'accepted': True}


@pytest.mark.parametrize('said', [3, {}, [3], [{}], *([GOOD | wrong] for wrong in (
    {'viewpoints': []}, {'viewpoints': 'ab'}, {'viewpoints': [1]}, {'heading': 'north'}, {'heading': float('nan')}, {'accepted': 'yes'}, {'text': None},
    {'scan': ['h']}))])
def test_judgements_are_judgements(tmp_path, said):
    (tmp_path/'relabels.json').write_text(json.dumps([GOOD]))
    assert [e.path for e in accepted(tmp_path)] == [('a', 'b')]
    (tmp_path/'relabels.json').write_text(json.dumps(said))
    refused(lambda: Judgements(tmp_path), tmp_path/'relabels.json', 'no judgements')


@pytest.mark.parametrize('said', [3, [], {'val/1_0': 3}, {'val/1_0': []}])
def test_notes_are_notes(tmp_path, said):
    (tmp_path/'notes.json').write_text(json.dumps(said))
    refused(lambda: Notes(tmp_path/'notes.json'), tmp_path/'notes.json', 'no notes')


# HTML

def scored_run(tmp_path, name='own', agent='a'):
    "A finished run with scores and examples of one agent, whose every name is `agent`."
    run = Recording.create(tmp_path/name, {'text': agent}, experiment=agent, sees={agent: agent}, settings={agent: agent}, data={'houses': agent})
    run.log(1, loss=1.)
    scores = {m: [1., 0.] for m in ('TL', 'NE', 'SR', 'OSR', 'SPL', 'nDTW', 'SDTW', 'CLS')}
    about = {'agent': agent, 'split': agent, 'id': [f'{agent}_0', f'{agent}_1']}
    run.write_table('results', pd.DataFrame(about | {'level': [agent, 'route'], 'path_id': agent} | scores))
    run.write_table('trajectories', pd.DataFrame(about | {'instruction': agent, 'viewpoints': [['a', 'b']] * 2, 'probabilities': [[[1.]]] * 2}))
    run.add_time(agent, 1., 1.)
    return finish(run).folder


@pytest.mark.parametrize('text', [SCRIPT, '$\\frac{', '{{x}}', '%s%n', 'a' * 60], ids=['script', 'formula', 'template', 'format', 'long'])
def test_a_report_shows_names_as_text(tmp_path, text):
    page = report([scored_run(tmp_path, agent=text)], tmp_path/'out.html').read_text()
    assert '<script' not in page and '<img src=x' not in page and 'onerror="' not in page
    if text == SCRIPT: assert page.count('&lt;script&gt;') > 5


def test_a_report_embeds_pictures_alone(tmp_path):
    "A link in a run folder could lead anywhere."
    folder = scored_run(tmp_path)
    (tmp_path/'secret').write_text('secret')
    (folder/'figures').mkdir()
    (folder/'figures'/'x.png').symlink_to(tmp_path/'secret')
    refused(lambda: report([folder], tmp_path/'out.html'), 'no PNG')


def htmls(widget):
    "What a panel shows as HTML, in all of its parts."
    if type(widget).__name__ in ('HTML', 'HTMLMath'): yield widget.value
    for child in getattr(widget, 'children', ()): yield from htmls(child)


@pytest.fixture(scope='module')
def told():
    "The tiny houses, and a walk in one of them that was told a script."
    bench = load_benchmark('houses', preset='tiny')
    walk = bench.splits['val_unseen'][0]
    return bench, Trajectory(walk.task.scan, walk.path, instructions=(Instruction(SCRIPT),))


def test_a_panel_shows_instructions_as_text(untrained, told):
    "The stage sets text as text (nbs/91_stage), so what is left is HTML of widgets."
    player, talk, inspector = TrajectoryPlayer([told[1]], world=told[0]), TalkToAgent(untrained, text=SCRIPT), RelabelInspector(untrained)
    assert not player.message and SCRIPT in ''.join(word for word, _ in player.stage.episode['words'])
    talk.tell(SCRIPT)
    assert talk.said.value.startswith('&lt;script')
    for panel in (player, talk, inspector):
        assert not [value for value in htmls(panel) if '<script' in value or '<img' in value]
    assert list(htmls(talk)) and list(htmls(inspector))


def test_a_page_that_plays_offline_holds_instructions_as_data(told, tmp_path):
    player = TrajectoryPlayer([told[1]], world=told[0])
    page = save_page(tmp_path/'page.html', {told[1].scan: player.stage.scene}, [player.stage.episode | {'title': SCRIPT}]).read_text()
    assert SCRIPT not in page and '\\u003cscript>' in page and page.count('</script>') == 2


# A short fuzz: nothing but a ValueError that names the file

def mutated(content, rng):
    "`content` with some bytes changed, cut, put in or doubled."
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(content) or 1)
        match rng.randrange(5):
            case 0 if content: content[at] ^= 1 << rng.randrange(8)
            case 1 if content: content[at] = rng.choice([0, 34, 91, 123, 255])
            case 2: del content[at:]
            case 3: content[at:at] = rng.randbytes(rng.randrange(1, 12))
            case _: content[at:at] = content[at // 2:at // 2 + 40]
    return bytes(content)


FUZZED = {
    'config.json': Run.open, 'metrics.jsonl': lambda run: Run.open(run).metrics(), 'trajectories.parquet': lambda run: Run.open(run).table('trajectories'),
    'checkpoints/policy.json': lambda run: load(Run.open(run), 'policy'), 'manifest.json': Run.open}


@pytest.mark.parametrize('name', FUZZED)
def test_a_run_with_random_bytes_changed_is_read_or_refused(run, name):
    rng, content = random.Random(name), (run/name).read_bytes()
    refusals = 0
    for _ in range(40):
        (run/name).write_bytes(mutated(content, rng))
        if name != 'manifest.json': vouch(run)
        try: FUZZED[name](run)
        except ValueError as error:
            refusals += 1
            assert str(run) in str(error) and '\n' not in str(error), error
    assert refusals > 10
