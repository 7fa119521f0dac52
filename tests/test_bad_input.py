"""Bad input to Room-to-Room: each file, folder and word that is wrong is refused in one sentence with its place and the way out, and nothing stays."""

import gzip
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nl_irl import files
from nl_irl.cli import main
from nl_irl.data import PARTS, VARIABLE, check_parts, data_folder, need
from nl_irl.scoring import read_submission, write_submission
from nl_irl.worlds import r2r
from nl_irl.worlds.cache import cache_folder, open_world
from nl_irl.worlds.r2r import build_r2r, episodes, load_r2r
from nl_irl.worlds.tables import checksum

PLACES, OPEN = {'a': (0, 0), 'b': (0, 3), 'c': (0, 5), 'd': (2, 3)}, {'a': 'b', 'b': 'acd', 'c': 'b', 'd': 'b'}
PATH = dict(scan='h', path_id=3, path=['a', 'b', 'd'], heading=0.0, distance=5.0, instructions=['Turn right.', 'Go in.', 'To the bed.'])
BED = dict(name='king#bed', visible_pos=[15], bbox2d=[[300, 200, 120, 160]])
STEPS = [['a', 0.0, 0.0], ['b', 0.0, 0.0], ['d', 1.57, 0.0]]
ANSWERS = [dict(instr_id=f'3_{k}', trajectory=STEPS) for k in range(3)]


def viewpoint(name):
    "The connectivity record of one viewpoint of the toy building."
    ways = [j in OPEN[name] for j in PLACES]
    return dict(image_id=name, pose=[1, 0, 0, PLACES[name][0], 0, 1, 0, PLACES[name][1], 0, 0, 1, 1.5, 0, 0, 0, 1], included=True, height=1.5,
                unobstructed=ways, visible=ways)


GRAPH, TRAIN, SEEN, BOX, MINE = ('connectivity/h_connectivity.json', 'r2r/R2R_train.json', 'r2r/R2R_val_seen.json', 'reverie/BBox/h_b.json',
                                 'mine.json')
RELEASE = {GRAPH: [viewpoint(i) for i in PLACES], TRAIN: [PATH], SEEN: [PATH], MINE: ANSWERS, BOX: {'b': {'7': BED}}}
RELEASE |= {f'reverie/BBox/h_{i}.json': {i: {}} for i in 'acd'}


def write(folder, name, content):
    "Write `content` as JSON, or as it is where it is text or bytes."
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def tree(folder):
    "The bytes of every file below `folder`, None for a folder."
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob('*')}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A toy release: one building, one path, boxes for each viewpoint, a submission; its world is cached beside it."
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(r2r, 'LEAST_VIEWPOINTS', 1)
    (tmp_path / 'data').mkdir()
    monkeypatch.chdir(tmp_path / 'data')
    for name, content in RELEASE.items(): write(tmp_path / 'data', name, content)
    return tmp_path / 'data'


@pytest.fixture
def world(folder):
    "The toy's world without objects."
    return load_r2r(folder, boxes=False)


def put(name, content):
    "A change to the release: other content for one file."
    return lambda folder: write(folder, name, content)


def change(name, /, *keys, **fields):
    "A change to the release: at `keys` of one file's JSON these fields are set; those set to None are removed."
    def apply(folder):
        whole = place = json.loads((folder / name).read_text())
        for key in keys: place = place[key]
        place.update(fields)
        for field in [k for k, v in fields.items() if v is None]: del place[field]
        write(folder, name, whole)
    return apply


def remove(name):
    "A change to the release: a file or folder is gone."
    def apply(folder):
        path = folder / name
        for file in [path] if path.is_file() else path.iterdir(): file.unlink()
        if path.is_dir(): path.rmdir()
    return apply


def instead(name):
    "A change to the release: a folder in a file's place, or a file in a folder's."
    def apply(folder):
        was_file = (folder / name).is_file()
        remove(name)(folder)
        (folder / name).mkdir() if was_file else (folder / name).write_text('')
    return apply


SCORE = ['score', MINE, '--split', 'val_seen', '--data', '.']


def score(folder, *arguments):
    "Score on the command line."
    main(list(arguments) or SCORE)


def load(folder):
    "What an experiment does with the boxes, and the command line does not."
    load_r2r(folder)


DEEP = 300 * '[' + 300 * ']'
CONTENTS = {                                                            # whatever a file is for, and what of it is said
    'empty': (b'', 'line 1, column 1'), 'cut short': (b'[{"image_id": "a", "na', 'line 1, column'), 'binary': (bytes(range(128, 256)), 'at byte 0'),
    'compressed': (gzip.compress(b'[]'), 'compressed, or in another encoding'), 'UTF-16': ('[]'.encode('utf-16'), 'in another encoding'),
    'Latin-1': ('["é"]'.encode('latin-1'), 'at byte 2'), 'too deep to read': (b'[' * 10 ** 5, 'deep'), 'deep': (DEEP, 'expected|no object|needs'),
    'a number': (b'3', 'expected'), 'a word': (b'"a"', 'expected'), 'null': (b'null', 'expected'), 'NaN': (b'NaN', 'expected'),
    'half a character': (rb'["\ud800"]', 'no characters'), 'endless digits': (b'9' * 5000, 'digits'),
    'list of lists': (b'[[]]', 'no object|needs|expected'), 'list of null': (b'[null]', 'no object|needs|expected')}

CASES = {f'{name}: {what}': (put(name, content), run, [name, words]) for name, run in ((GRAPH, score), (SEEN, score), (MINE, score), (BOX, load), (TRAIN, load))
         for what, (content, words) in CONTENTS.items()}
CASES |= {
    'graph: empty list': (put(GRAPH, []), score, [GRAPH, 'expected a list of viewpoints']),
    'graph: an object': (put(GRAPH, {}), score, [GRAPH, 'expected a list of viewpoints']),
    'path file: empty list': (put(SEEN, []), score, [SEEN, 'expected a list of records']),
    'box file: a list': (put(BOX, []), load, [BOX, 'viewpoint b', 'REVERIE']),
    'box file: of another viewpoint': (put(BOX, {'a': {}}), load, [BOX, 'viewpoint b']),
    'box file: no objects but a list': (put(BOX, {'b': [1]}), load, [BOX, 'viewpoint b']),
    'submission: an object': (put(MINE, {}), score, [MINE, 'expected a list']),
}

LACKS = ['nl-irl data', '--data', VARIABLE]
CASES |= {
    'no data folder': (lambda f: None, lambda f: score(f, *SCORE[:-1], 'nowhere'), ['nowhere does not exist', 'connectivity', 'https://', *LACKS]),
    'data folder: no such user': (lambda f: None, lambda f: score(f, *SCORE[:-1], '~nobody-of-this-name/x'), ['~nobody', 'does not exist', *LACKS]),
    'data folder: empty': (lambda f: (f / 'new').mkdir(), lambda f: score(f, *SCORE[:-1], 'new'), ['new lacks', 'connectivity', *LACKS]),
    'data folder: a file': (lambda f: None, lambda f: score(f, *SCORE[:-1], MINE), [f'{MINE} is no folder', *LACKS]),
    'no graphs': (remove('connectivity'), score, ['lacks', 'connectivity: from', 'peteanderson80', *LACKS]),
    'graphs: empty folder': (remove(GRAPH), score, ['connectivity: it has no JSON files', *LACKS]),
    'graphs: a file': (instead('connectivity'), score, ['connectivity: a file is in its place', *LACKS]),
    'graphs: of other names': (lambda f: (f / GRAPH).rename(f / 'connectivity' / 'h.json'), score, ['connectivity: no *_connectivity.json files']),
    'graph: a folder': (lambda f: (f / 'connectivity' / 'x_connectivity.json').mkdir(), score, ['x_connectivity.json', 'Is a directory']),
    'no paths': (remove(SEEN), score, [f'{SEEN}: from', 'download.sh', *LACKS]),
    'paths: a folder': (instead(SEEN), score, [f'{SEEN}: a folder is in its place', *LACKS]),
    'no training paths': (remove(TRAIN), load, [TRAIN, 'download.sh', *LACKS]),
    'no boxes': (remove('reverie/BBox'), load, ['reverie/BBox: from', 'YuankaiQi', *LACKS]),
    'boxes: a file': (instead('reverie/BBox'), load, ['reverie/BBox: a file is in its place', *LACKS]),
    'no box file of one viewpoint': (remove('reverie/BBox/h_c.json'), load, ['h_c.json: no such file']),
    'box file: a folder': (instead(BOX), load, [BOX, 'Is a directory']),
    'no submission': (remove(MINE), score, [f'{MINE}: no such file']),
    'submission: a folder': (instead(MINE), score, [MINE, 'Is a directory']),
    'submission: below a file': (lambda f: None, lambda f: score(f, 'score', f'{SEEN}/x.json', *SCORE[2:]), [f'{SEEN}/x.json', 'Not a directory']),
}


def graph(words, *keys, **fields): return change(GRAPH, *keys, **fields), score, [GRAPH, *words]
def paths(words, **fields): return change(SEEN, 0, **fields), score, [SEEN, *words]
def boxes(words, **fields): return change(BOX, 'b', '7', **fields), load, [BOX, "object '7'", *words]
def mine(words, **fields): return change(MINE, 1, **fields), score, [MINE, *words]


WAYS, POSE = [True, False, True, True], viewpoint('c')['pose']
CASES |= {f'graph: {name}': case for name, case in {
    'record without pose': graph(['record 1', 'pose', 'Matterport3D'], 1, pose=None),
    'short pose': graph(['record 2', '16 finite numbers'], 2, pose=[1, 2]),
    'pose of words': graph(['record 2', '16 finite numbers'], 2, pose=['1'] * 16),
    'pose a number': graph(['record 2', '16 finite numbers'], 2, pose=1),
    'NaN in a pose': graph(['record 2', '16 finite numbers'], 2, pose=[*POSE[:3], float('nan'), *POSE[4:]]),
    'infinite pose': graph(['record 2', '16 finite numbers'], 2, pose=[*POSE[:3], float('-inf'), *POSE[4:]]),
    'pose on the moon': graph(['record 2', '16 finite numbers', 'metres'], 2, pose=[*POSE[:11], 384e6, *POSE[12:]]),
    'NaN height': graph(['record 0', 'height nan', 'metres'], 0, height=float('nan')),
    'height a word': graph(["height '1.5'"], 0, height='1.5'),
    'short row': graph(['record 1', '3 entries in unobstructed for 4 records', 'complete'], 1, unobstructed=WAYS[:3]),
    'long row': graph(['record 1', '5 entries in visible for 4 records'], 1, visible=[*WAYS, True]),
    'row of numbers': graph(['record 1', 'unobstructed', 'true and false'], 1, unobstructed=[1, 0, 1, 1]),
    'row a word': graph(['record 1', 'visible', 'true and false'], 1, visible='tftt'),
    'a way in one direction': graph(['record 1 (b)', 'record 0 (a)', 'other way round'], 0, unobstructed=[False] * 4),
    'included a word': graph(['record 3', "included 'no'", 'true or false'], 3, included='no'),
    'id a number': graph(['record 3', 'image_id 7', 'name'], 3, image_id=7), 'no name': graph(['record 3', "image_id '../x'"], 3, image_id='../x'),
    'an id twice': graph(['records 0 and 3', 'viewpoint a', 'keep one'], 3, image_id='a'),
    'nobody included': (put(GRAPH, [viewpoint(i) | dict(included=False) for i in PLACES]), score, [GRAPH, 'no viewpoint is included']),
    'a viewpoint in two buildings': (put('connectivity/i_connectivity.json', [viewpoint('a') | dict(unobstructed=[False], visible=[False])]), score,
                                     ['i_connectivity.json', 'viewpoint a', 'h_connectivity.json already']),
}.items()}
CASES |= {f'paths: {name}': case for name, case in {
    'an edge that is not there': paths(['path 3', 'a has no edge to c', 'move 1 of 1'], path=['a', 'c']),
    'standing still': paths(['path 3', 'a has no edge to a'], path=['a', 'a']),
    'unknown viewpoint': paths(['path 3', "no viewpoint 'z'", 'belong'], path=['a', 'z']),
    'unknown scan': paths(['path 3', "no scan 'g'", 'belong'], scan='g'),
    'empty path': paths(['record 0', 'path []', 'the start first'], path=[]),
    'path a word': paths(['record 0', "path 'abd'", 'the start first'], path='abd'),
    'path of numbers': paths(['record 0', 'path [1, 2]'], path=[1, 2]),
    'scan a number': paths(['record 0', 'scan 5'], scan=5),
    'heading a word': paths(['record 0', "heading 'north'", 'radians'], heading='north'),
    'NaN heading': paths(['record 0', 'heading nan', 'finite radians'], heading=float('nan')),
    'infinite heading': paths(['record 0', 'heading inf', 'finite radians'], heading=float('inf')),
    'huge heading': paths(['record 0', 'heading 1000', 'finite radians'], heading=10 ** 400),
    'no heading': paths(['record 0', "lacks 'heading'"], heading=None),
    'no instructions': paths(['record 0', 'instructions []', 'sentences'], instructions=[]),
    'blank instruction': paths(['record 0', "instructions [' ']", 'sentences'], instructions=[' ']),
    'instruction a word': paths(['record 0', "instructions 'Go.'", 'sentences'], instructions='Go.'),
    'id a list': paths(['record 0', 'path_id [1]'], path_id=[1]),
    'a path twice': (put(SEEN, [PATH, PATH]), score, [SEEN, 'records 0 and 1', 'path_id 3']),
}.items()}
CASES |= {f'boxes: {name}': case for name, case in {
    'no name': boxes(['needs name, visible_pos and bbox2d'], name=None), 'name a number': boxes(['name 7', 'words'], name=7),
    'an object that is a word': (put(BOX, {'b': {'7': 'bed'}}), load, [BOX, "object '7'", "got 'bed'"]),
    'view 36': boxes(['visible_pos [36]', '0 to 35'], visible_pos=[36]), 'view -1': boxes(['visible_pos [-1]', '0 to 35'], visible_pos=[-1]),
    'half a view': boxes(['visible_pos [1.5]', '0 to 35'], visible_pos=[1.5]), 'views a number': boxes(['visible_pos 15', '0 to 35'], visible_pos=15),
    'view a word': boxes(["visible_pos ['15']", '0 to 35'], visible_pos=['15']),
    'too few boxes': boxes(['for each of its 1 views'], bbox2d=[]), 'box of three': boxes(['x, y, w, h'], bbox2d=[[1, 2, 3]]),
    'box a number': boxes(['x, y, w, h'], bbox2d=[3]), 'NaN box': boxes(['x, y, w, h'], bbox2d=[[float('nan'), 0, 9, 9]]),
    'box without area': boxes(['x, y, w, h'], bbox2d=[[0, 0, 0, 9]]), 'box turned over': boxes(['x, y, w, h'], bbox2d=[[9, 9, -5, 9]]),
    'box of words': boxes(['x, y, w, h'], bbox2d=[['0', '0', '9', '9']]), 'box beyond the picture': boxes(['x, y, w, h'], bbox2d=[[0, 0, 999, 9]]),
}.items()}
CASES |= {f'submission: {name}': case for name, case in {
    'nothing in it': (put(MINE, []), score, [MINE, 'lacks 3 of 3', "'3_0'", 'every instruction']),
    'an id missing': (put(MINE, ANSWERS[:2]), score, [MINE, 'lacks 1 of 3', "'3_2'", 'every instruction']),
    'an id twice': (put(MINE, [*ANSWERS, ANSWERS[1]]), score, [MINE, 'record 3', "'3_1' came before", 'once']),
    'an unknown id': (put(MINE, [*ANSWERS, dict(instr_id='9_0', trajectory=STEPS)]), score, [MINE, '1 unknown', "'9_0'", 'another split']),
    'id a number': mine(['record 1', 'instr_id 3', 'name'], instr_id=3),
    'no id': mine(['record 1', 'needs instr_id and trajectory'], instr_id=None),
    'no trajectory': mine(['record 1', 'needs instr_id and trajectory'], trajectory=None),
    'another start': mine(['3_1 starts at b', 'its episode at a', 'put the start first'], trajectory=STEPS[1:]),
    'a teleport': mine(['3_1 moves from a to d', 'no edge', 'list all'], trajectory=[STEPS[0], STEPS[2]]),
    'unknown viewpoint': mine(['3_1', "'z'", 'no viewpoint of world r2r'], trajectory=[STEPS[0], ['z', 0, 0]]),
    'empty trajectory': mine(['3_1', 'empty path', 'start a'], trajectory=[]),
    'trajectory a word': mine(["record 1 ('3_1')", 'must be a list'], trajectory='abd'),
    'trajectory too deep': mine(["record 1 ('3_1')", 'is no [viewpoint, heading, elevation]'], trajectory=json.loads(DEEP)),
    'a step of numbers': mine(["record 1 ('3_1')", '3 is no [viewpoint'], trajectory=[STEPS[0], 3]),
    'a step without elevation': mine(["record 1 ('3_1')", '0.5 is no [viewpoint'], trajectory=[['a', 0.5]]),
    'NaN heading': mine(["record 1 ('3_1')", "heading and elevation of 'b'", 'finite radians', 'nan'], trajectory=[STEPS[0], ['b', float('nan'), 0]]),
    'infinite elevation': mine(["record 1 ('3_1')", 'finite radians', 'inf'], trajectory=[STEPS[0], ['b', 0, float('inf')]]),
    'heading null': mine(["record 1 ('3_1')", 'finite radians', 'None'], trajectory=[STEPS[0], ['b', None, None]]),
    'heading true': mine(["record 1 ('3_1')", 'finite radians', 'True'], trajectory=[STEPS[0], ['b', True, 0]]),
}.items()}

TEST = 'r2r/R2R_test.json'
CASES |= {
    'unknown split': (lambda f: None, lambda f: score(f, 'score', MINE, '--split', 'valseen', '--data', '.'), ['valseen', 'the splits are train, dev_seen']),
    'split: a folder': (lambda f: None, lambda f: score(f, 'score', MINE, '--split', 'r2r', '--data', '.'), ['r2r: neither a file nor a split']),
    'unknown protocol': (lambda f: None, lambda f: score(f, *SCORE, '--protocol', 'both'), ["'both'", 'official, all']),
    'a split without answers': (put(TEST, [PATH | dict(path=['a'])]), lambda f: score(f, 'score', MINE, '--split', 'test', '--data', '.'),
                                ['3 of 3', 'withhold their answer', "'3_0'", 'leaderboard']),
}


@pytest.mark.parametrize('name', CASES)
def test_one_sentence_and_nothing_left(folder, capsys, name):
    "The command line ends with status 2, one message without a traceback and nothing on stdout; no file is written but what was in the cache."
    damage, run, words = CASES[name]
    damage(folder)
    before = tree(folder)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        if run is load:
            with pytest.raises(ValueError) as error: run(folder)
            said = str(error.value)
        else:
            with pytest.raises(SystemExit) as end: run(folder)
            out, said = capsys.readouterr()
            assert end.value.code == 2 and not out and said.count('nl-irl: ') == 1 and 'Traceback' not in said, said
    for word in words: assert any(w in said for w in word.split('|')), (word, said)
    assert len(said) < 400 or VARIABLE in said, said
    if words[0].startswith(('connectivity', 'reverie', TRAIN)) and run in (load, score): assert 'nl-irl data' in said, said
    assert tree(folder) == before
    assert not [p for p in cache_folder().glob('.*') if p.suffix != '.lock']


def test_the_release_as_it_is_scores(folder, capsys):
    "Also with the mark that Windows writes before UTF-8."
    write(folder, MINE, json.dumps(ANSWERS).encode('utf-8-sig'))
    with pytest.raises(SystemExit) as end: main([*SCORE, '--json'])
    assert not end.value.code and json.loads(capsys.readouterr().out)['SR'] == 1


# The console script itself, in a process of its own: no traceback by any way out.
PROCESSES = {'no data folder': ([*SCORE[:-1], 'nowhere'], 'nowhere does not exist'), 'submission: a teleport': (SCORE, 'moves from a to d'),
             'graph: NaN in a pose': (SCORE, 'record 2')}


@pytest.mark.parametrize('name', PROCESSES)
def test_the_console_script(folder, name):
    arguments, words = PROCESSES[name]
    CASES[name][0](folder)
    done = subprocess.run([Path(sys.executable).parent / 'nl-irl', *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and not done.stdout and words in done.stderr, done
    assert done.stderr.startswith('nl-irl: ') and 'Traceback' not in done.stderr and 'File "' not in done.stderr, done.stderr


def test_bad_data_in_an_experiment(folder, capfd):
    "What a cell refuses ends like what the command line refuses: status 2 and its sentence; the run folder holds no run."
    CASES['boxes: view 36'][0](folder)
    sources = {'parameters': "data = ''\nout = ''", 'body': 'from nl_irl.worlds.r2r import load_r2r\nload_r2r(data)'}
    cells = [dict(id=tag, cell_type='code', metadata={'tags': [tag]}, source=source, outputs=[], execution_count=None) for tag, source in sources.items()]
    kernel = {'name': 'python3', 'language': 'python', 'display_name': 'Python'}
    write(folder, 'own.ipynb', dict(cells=cells, metadata={'kernelspec': kernel}, nbformat=4, nbformat_minor=5))
    with pytest.raises(SystemExit) as end: main(['run', 'own.ipynb', '-p', 'data', '.', '--out', 'run'])
    out, said = capfd.readouterr()
    assert end.value.code == 2 and not out and 'Traceback' not in said and 'failed' not in said
    assert f"nl-irl: {BOX}: object '7' has visible_pos [36], expected a list of views, 0 to 35" in said
    assert not {'config.json', 'manifest.json', 'notebook.ipynb'} & {p.name for p in (folder / 'run').iterdir()}


# Output

@pytest.mark.parametrize('out', ['r2r', f'{MINE}/sub.json', f'{MINE}/new/sub.json'])
def test_a_submission_that_cannot_be_written(folder, world, out):
    "A folder in the file's place, a file in the folder's: one sentence, and nothing half-written."
    asked, before = episodes(folder, 'val_seen', world), tree(folder)
    with pytest.raises(OSError, match=rf'{out}: cannot be written \(.*\); make room for it, or choose another place'):
        write_submission(out, world, asked, [e.path for e in asked])
    assert tree(folder) == before


def test_a_full_disk_leaves_the_older_file(tmp_path, monkeypatch):
    def full(*_): raise OSError(28, 'No space left on device')
    files.write_bytes(tmp_path / 'x', b'old')
    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(OSError, match=r'x: cannot be written \(No space left on device\)'): files.write_bytes(tmp_path / 'x', b'new')
    assert tree(tmp_path) == {Path('x'): b'old'}


# The data folder

def test_no_folder_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / 'nowhere'))
    with pytest.raises(ValueError, match='does not exist') as error: load_r2r()
    for part in ('connectivity', 'R2R_train.json', 'BBox', '--data', VARIABLE, 'https://'): assert part in str(error.value)
    facts = check_parts()
    assert [f.path for f in facts] == [p.path for p in PARTS] and {f.state for f in facts} == {'missing'}
    assert data_folder('~/x').is_absolute() and data_folder(tmp_path) == tmp_path


def test_need_names_only_what_is_missing(folder):
    with pytest.raises(ValueError) as error: need(folder, 'connectivity', 'r2r/R2R_test.json')
    assert 'R2R_test.json' in str(error.value) and '\n  connectivity' not in str(error.value)


def test_a_report_tells_a_copy_from_the_release(folder):
    states = {f.path: f.state for f in check_parts(folder)}
    assert states['connectivity'] == states[TRAIN] == states['reverie/BBox'] == 'differs' and states[TEST] == 'missing'


@pytest.mark.parametrize('what', CONTENTS)
@pytest.mark.parametrize('name', [GRAPH, SEEN, BOX])
def test_a_report_of_damage_names_the_file(folder, capsys, name, what):
    "`nl-irl data` reports and does not fail: status 1, as for what is missing."
    write(folder, name, CONTENTS[what][0])
    with pytest.raises(SystemExit) as end: main(['data', '--data', '.'])
    out, err = capsys.readouterr()
    line, = (line for line in out.splitlines() if line.startswith('damaged'))
    assert end.value.code == 1 and not err and Path(name).name in line and len(line) < 300, line


@pytest.mark.parametrize('name', ['connectivity', 'reverie/BBox', TRAIN])
def test_a_report_of_the_wrong_kind(folder, name):
    instead(name)(folder)
    fact, = (f for f in check_parts(folder) if f.path == name)
    assert fact.state == 'missing' and 'in its place' in fact.detail


# The cache

def worlds(): return [p for p in cache_folder().iterdir() if p.is_dir()]


def test_the_world_is_rebuilt_when_its_sources_change(folder):
    first = checksum(load_r2r(folder))
    assert checksum(load_r2r(folder)) == first and len(worlds()) == 1
    write(folder, 'reverie/BBox/h_c.json', {'c': {'9': dict(name='sink', visible_pos=[12], bbox2d=[[0, 0, 100, 100]])}})
    changed = load_r2r(folder)
    assert checksum(changed) != first and 'sink' in changed.labels and len(worlds()) == 2


@pytest.mark.parametrize('spoil', [lambda f: f.write_bytes(f.read_bytes()[:-1] + b'\x7f'), lambda f: f.write_bytes(b''), lambda f: f.unlink()])
@pytest.mark.parametrize('name', ['distance.npy', 'names.json', 'view_label.npy', 'manifest.json'])
def test_a_damaged_cache_is_reported_and_rebuilt(folder, spoil, name):
    first = checksum(load_r2r(folder))
    spoil(next(cache_folder().glob(f'*/{name}')))
    with pytest.warns(UserWarning, match=f'{name}.*rebuilt'): world = load_r2r(folder)
    assert checksum(world) == first
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert checksum(load_r2r(folder)) == first


@pytest.mark.parametrize('manifest', [[], {}, *({'files': files} for files in ([], {}, {'position.npy': None}, {'../x': 'y'}, {'\0': 'y'}))])
def test_a_foreign_manifest_is_reported_and_rebuilt(folder, manifest):
    first = checksum(load_r2r(folder))
    next(cache_folder().glob('*/manifest.json')).write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match='rebuilt'): assert checksum(load_r2r(folder)) == first


@pytest.mark.parametrize('spoil, words', [('file', 'Not a directory|File exists'), ('place', 'Not a directory'), ('full', 'No space left')])
def test_a_cache_that_cannot_be_written(folder, monkeypatch, spoil, words):
    "The world is built and used all the same, with a warning that names the folder and the way out, and nothing half-written stays."
    def full(*_, **__): raise OSError(28, 'No space left on device')
    first = checksum(load_r2r(folder))
    kept, = worlds()
    kept.rename(folder.parent / 'elsewhere')
    if spoil == 'file': shutil.rmtree(cache_folder()), cache_folder().write_text('')
    if spoil == 'place': kept.write_text('')
    if spoil == 'full': monkeypatch.setattr('nl_irl.worlds.cache.np.save', full)
    before = tree(folder.parent)
    with pytest.warns(UserWarning, match=f'{kept}: the world cannot be kept here .*({words}).*NL_IRL_CACHE'): assert checksum(load_r2r(folder)) == first
    assert tree(folder.parent) == before


def test_two_processes_may_build_at_once(folder):
    "Both end with the same world, and nothing temporary is left."
    code = 'import sys; from nl_irl.worlds.r2r import load_r2r; from nl_irl.worlds.tables import checksum; print(checksum(load_r2r(sys.argv[1])))'
    start = lambda: subprocess.Popen([sys.executable, '-c', code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    both = [start(), start()]
    sums = {p.communicate(timeout=120)[0] for p in both}
    assert len(sums) == 1 and len(sums.pop().strip()) == 64 and all(p.returncode == 0 for p in both)
    assert not [p for p in cache_folder().glob('.*') if p.suffix != '.lock']


def test_flags_leave_out_what_they_name(folder):
    whole = load_r2r(folder)
    assert whole.far_label.any() and whole.view_label.any()
    assert load_r2r(folder, far=False).far_label is None and not load_r2r(folder, boxes=False).view_label.any()
    for name in ('position', 'neighbor', 'distance'): np.testing.assert_array_equal(getattr(whole, name), getattr(load_r2r(folder, boxes=False), name))


# Whatever happens to the bytes or the values of a file: what reads it gives sound tables, or a ValueError that names a file of the release.

def sound(world):
    "Assert that all tables of `world` are what they should be, and not NaN."
    assert all(np.isfinite(t).all() for t in (world.position, world.edge, world.view_weight, world.far_weight)) and not np.isnan(world.distance).any()
    assert (world.view_weight >= 0).all() and world.view_weight.max() <= 1 and ((world.view_label > 0) == (world.view_weight > 0)).all()


READERS = {GRAPH: lambda folder, world: sound(build_r2r(folder, True)), BOX: lambda folder, world: sound(build_r2r(folder, True)),
           SEEN: lambda folder, world: episodes(folder, 'val_seen', world),
           MINE: lambda folder, world: read_submission(folder / MINE, world, episodes(folder, 'val_seen', world))}
ODD = ['null', 'true', 'false', '0', '-1', '1.5', '1' * 30, '-1e300', '1e999', 'NaN', '-Infinity', '""', '"a"', r'"\u0000"', r'"\ud800"', '"../x"',
       '[]', '[[]]', '{}', '{"a": 1}', DEEP, f'"{"x" * 5000}"']


def places_in(value):
    "All (container, key) below a JSON value."
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [(value, key) for key, _ in items] + [place for _, below in items for place in places_in(below)]


@st.composite
def spoiled(draw, name):
    "Bytes near those of the file `name`: cut, with bytes changed, or with values changed, doubled or removed."
    value, how = json.loads(json.dumps(RELEASE[name])), draw(st.sampled_from(['cut', 'bytes', 'values', 'values', 'values']))
    if how == 'values':
        for _ in range(draw(st.integers(1, 3))):
            if not (spots := places_in(value)): break
            inside, key = draw(st.sampled_from(spots))
            act = draw(st.sampled_from(['set', 'set', 'remove', 'again']))
            if act == 'set': inside[key] = json.loads(draw(st.sampled_from(ODD)))
            elif act == 'remove': del inside[key]
            elif isinstance(inside, list): inside.append(inside[key])
            else: inside[f'{key}2'] = inside[key]
        return json.dumps(value).encode()
    content = bytearray(json.dumps(value).encode())
    if how == 'cut': return bytes(content[:draw(st.integers(0, len(content) - 1))])
    for _ in range(draw(st.integers(1, 3))): content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


@pytest.mark.parametrize('name', READERS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(folder, world, name, data):
    write(folder, name, data.draw(spoiled(name)))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        try: READERS[name](folder, world)
        except ValueError as error:
            assert str(folder) in str(error) and '.json' in str(error), str(error)
            assert type(error) is ValueError and len(str(error)) < 500, str(error)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_cached_world_is_noticed(folder, data):
    right = checksum(load_r2r(folder))
    file = data.draw(st.sampled_from(sorted(p for p in next(cache_folder().glob('[!.]*')).iterdir())))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    if file.name != 'manifest.json':
        with pytest.raises(ValueError, match=file.name): open_world(file.parent)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert checksum(load_r2r(folder)) == right
