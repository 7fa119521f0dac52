"""Bad input to the data folder and to Room-to-Room's files: each is refused with where it is and what to do."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

from nl_irl.data import PARTS, VARIABLE, data_folder, need, report
from nl_irl.worlds import r2r
from nl_irl.worlds.cache import cache_folder
from nl_irl.worlds.r2r import episodes, load_r2r
from nl_irl.worlds.tables import checksum

PLACES, OPEN = {'a': (0, 0), 'b': (0, 3), 'c': (0, 5), 'd': (2, 3)}, {'a': 'b', 'b': 'acd', 'c': 'b', 'd': 'b'}
PATH = dict(scan='h', path_id=3, path=['a', 'b', 'd'], heading=0.0, distance=5.0, instructions=['Turn right.', 'Go in.', 'To the bed.'])
BED = {'7': dict(name='king#bed', visible_pos=[15], bbox2d=[[300, 200, 120, 160]])}


def record(name):
    "The connectivity record of one viewpoint of the toy building."
    ways = [j in OPEN[name] for j in PLACES]
    return dict(image_id=name, pose=[1, 0, 0, PLACES[name][0], 0, 1, 0, PLACES[name][1], 0, 0, 1, 1.5, 0, 0, 0, 1], included=True, height=1.5,
                unobstructed=ways, visible=ways)


def write(folder, name, content):
    "Write `content` as JSON, or as it is where it is text."
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A toy release: one building, one path, boxes for each viewpoint; its world is cached under the same folder."
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(r2r, 'LEAST_VIEWPOINTS', 1)
    write(tmp_path, 'data/connectivity/h_connectivity.json', [record(i) for i in PLACES])
    write(tmp_path, 'data/r2r/R2R_train.json', [PATH])
    for i in PLACES: write(tmp_path, f'data/reverie/BBox/h_{i}.json', {i: BED if i == 'b' else {}})
    return tmp_path / 'data'


def damage(name, change):
    "A change to the toy's connectivity record `name`."
    def apply(folder):
        records = [record(i) for i in PLACES]
        change(next(r for r in records if r['image_id'] == name))
        write(folder, 'connectivity/h_connectivity.json', records)
    return apply


def boxes(content):
    "Another box file for viewpoint b."
    return lambda folder: write(folder, 'reverie/BBox/h_b.json', content)


BROKEN = {
    'no connectivity': (lambda f: (f / 'connectivity' / 'h_connectivity.json').unlink(), ['connectivity', 'peteanderson80', '--data', VARIABLE]),
    'no boxes': (lambda f: [p.unlink() for p in (f / 'reverie' / 'BBox').iterdir()], ['reverie/BBox', 'YuankaiQi', 'nl-irl data']),
    'no training file': (lambda f: (f / 'r2r' / 'R2R_train.json').unlink(), ['R2R_train.json', 'download.sh']),
    'connectivity cut short': (lambda f: write(f, 'connectivity/h_connectivity.json', '[{"image_id": "a"'), ['h_connectivity.json', 'line 1']),
    'connectivity is no list': (lambda f: write(f, 'connectivity/h_connectivity.json', {}), ['h_connectivity.json', 'expected a list']),
    'record without pose': (damage('b', lambda r: r.pop('pose')), ['h_connectivity.json', 'record 1', 'pose']),
    'short pose': (damage('c', lambda r: r.update(pose=[1, 2])), ['record 2', '16']),
    'short matrix': (damage('a', lambda r: r['unobstructed'].pop()), ['record 0', '3 entries', 'unobstructed']),
    'one box file missing': (lambda f: (f / 'reverie' / 'BBox' / 'h_c.json').unlink(), ['h_c.json', 'no such file']),
    'boxes of another viewpoint': (boxes({'a': {}}), ['h_b.json', 'viewpoint b']),
    'boxes without name': (boxes({'b': {'7': {'visible_pos': [], 'bbox2d': []}}}), ['h_b.json', 'object 7', 'name']),
    'view 36': (boxes({'b': {'7': dict(name='bed', visible_pos=[36], bbox2d=[[0, 0, 1, 1]])}}), ['h_b.json', 'object 7', '0 to 35']),
    'boxes cut short': (boxes('{"b": {'), ['h_b.json', 'line 1']),
}


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_release_is_refused_with_the_way_out(folder, name):
    apply, words = BROKEN[name]
    apply(folder)
    with pytest.raises(ValueError) as error: load_r2r(folder)
    for word in words: assert word in str(error.value), (word, str(error.value))


@pytest.mark.parametrize('change, words', [
    (dict(path=['a', 'c']), ['path 3', 'a has no edge to c']),
    (dict(path=['a', 'z']), ['path 3', "'z'", 'belong']),
    (dict(path=[]), ['record 0', 'path', 'the start first']),
    (dict(scan='g'), ['path 3', 'another building']),
    (dict(heading=None), ['record 0', 'heading', 'radians']),
    (dict(heading=float('inf')), ['record 0', 'heading']),
    (dict(instructions=[]), ['record 0', 'instructions', 'sentences']),
    (dict(path_id=[1]), ['record 0', 'path_id'])])
def test_a_bad_record_is_refused(folder, change, words):
    world = load_r2r(folder, boxes=False)
    write(folder, 'x.json', [PATH | change])
    with pytest.raises(ValueError) as error: episodes(folder, folder / 'x.json', world)
    for word in ['x.json', *words]: assert word in str(error.value), (word, str(error.value))


def test_unknown_split_and_protocol(folder):
    world = load_r2r(folder, boxes=False)
    with pytest.raises(ValueError, match='the splits are train, dev_seen, dev_unseen'): episodes(folder, 'valseen', world)
    with pytest.raises(ValueError, match='official, all'): episodes(folder, 'train_all', world, 'both')
    with pytest.raises(ValueError, match='R2R_val_seen.json'): episodes(folder, 'val_seen', world)


def test_no_folder_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / 'nowhere'))
    with pytest.raises(ValueError, match='does not exist') as error: load_r2r()
    for part in ('connectivity', 'R2R_train.json', 'BBox', '--data', VARIABLE, 'https://'): assert part in str(error.value)
    facts = report()
    assert [f.path for f in facts] == [p.path for p in PARTS] and {f.state for f in facts} == {'missing'}
    assert data_folder('~/x').is_absolute() and data_folder(tmp_path) == tmp_path


def test_need_names_only_what_is_missing(folder):
    with pytest.raises(ValueError) as error: need(folder, 'connectivity', 'r2r/R2R_test.json')
    assert 'R2R_test.json' in str(error.value) and '\n  connectivity' not in str(error.value)


def test_a_report_tells_a_copy_from_the_release(folder):
    states = {f.path: f.state for f in report(folder)}
    assert states['connectivity'] == states['r2r/R2R_train.json'] == states['reverie/BBox'] == 'differs' and states['r2r/R2R_test.json'] == 'missing'
    write(folder, 'reverie/BBox/h_b.json', '{')
    assert {f.path: f.state for f in report(folder)}['reverie/BBox'] == 'damaged'


def test_the_world_is_rebuilt_when_its_sources_change(folder):
    first = checksum(load_r2r(folder))
    assert checksum(load_r2r(folder)) == first and len(list(cache_folder().iterdir())) == 1
    write(folder, 'reverie/BBox/h_c.json', {'c': {'9': dict(name='sink', visible_pos=[12], bbox2d=[[0, 0, 100, 100]])}})
    changed = load_r2r(folder)
    assert checksum(changed) != first and 'sink' in changed.labels and len(list(cache_folder().iterdir())) == 2


@pytest.mark.parametrize('spoil', [lambda f: f.write_bytes(f.read_bytes()[:-1] + b'\x7f'), lambda f: f.write_bytes(b''), lambda f: f.unlink()])
@pytest.mark.parametrize('name', ['distance.npy', 'names.json', 'view_label.npy'])
def test_a_damaged_cache_is_reported_and_rebuilt(folder, spoil, name):
    first = checksum(load_r2r(folder))
    spoil(next(cache_folder().glob(f'*/{name}')))
    with pytest.warns(UserWarning, match=f'{name}.*rebuilt'): world = load_r2r(folder)
    assert checksum(world) == first
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert checksum(load_r2r(folder)) == first


def test_a_manifest_that_is_damaged_is_rebuilt(folder):
    first = checksum(load_r2r(folder))
    next(cache_folder().glob('*/manifest.json')).write_text('{"fi')
    with pytest.warns(UserWarning, match='manifest.json'): assert checksum(load_r2r(folder)) == first


def test_two_processes_may_build_at_once(folder):
    "Both end with the same world, and nothing temporary is left."
    code = 'import sys; from nl_irl.worlds.r2r import load_r2r; from nl_irl.worlds.tables import checksum; print(checksum(load_r2r(sys.argv[1])))'
    start = lambda: subprocess.Popen([sys.executable, '-c', code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    both = [start(), start()]
    sums = {p.communicate(timeout=120)[0] for p in both}
    assert len(sums) == 1 and len(sums.pop().strip()) == 64 and all(p.returncode == 0 for p in both)
    assert not [p for p in cache_folder().iterdir() if p.name.startswith('.')]


def test_flags_leave_out_what_they_name(folder):
    whole = load_r2r(folder)
    assert whole.far_label.any() and whole.view_label.any()
    assert load_r2r(folder, far=False).far_label is None and not load_r2r(folder, boxes=False).view_label.any()
    for name in ('position', 'neighbor', 'distance'): np.testing.assert_array_equal(getattr(whole, name), getattr(load_r2r(folder, boxes=False), name))
