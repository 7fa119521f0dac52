"""Minari datasets: what Minari's own tools write is read, what is broken, foreign or hostile is refused by name, and nothing that a dataset names is run."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from nl_irl.environment import Environment
from nl_irl.exchange import load_minari, minari_folder, save_minari
from nl_irl.gym import NavigationEnv
from nl_irl.text import build_vocabulary
from nl_irl.types import Episode, Task
from nl_irl.worlds.tables import Scan, assemble

RECORDED = Path(__file__).parent/'recorded'/'minari'
EPISODES = [Episode(Task('0_0', 'h', 'c', .1, 'Walk on to the end.'), tuple('cde'), level='goal'),
            Episode(Task('1_0', 'h', 'c', np.pi, 'Zurück, um zwei.'), tuple('cba'), 'back')]
WALKS = {'1_0': [1, 1, 0], '0_0': [2, 2, 2, 2, 2]}                      # what an agent did: the second ran out of time at the end of the corridor
NAME = 'nl_irl/corridor-v0'


def corridor():
    "Five viewpoints in a row, and a bed to be seen."
    place = np.array([[0, 2 * i, 0] for i in range(5)], float)
    pairs = np.array([[i, i + 1] for i in range(4)])
    shown = np.ones((5, 36, 1), np.int16), np.full((5, 36, 1), .5, np.float16)
    return assemble('corridor', [Scan('h', [*'abcde'], place, np.zeros(5), np.concatenate([pairs, pairs[:, ::-1]]))], ['', 'bed'], shown)


def walks(**options):
    "The corridor's environment."
    return NavigationEnv(Environment(corridor(), top=1), EPISODES, horizon=5, **options)


def collect(root, name, monkeypatch, **options):
    "Walk as `WALKS` says under Minari's collector, into the dataset `name` below `root`."
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(root))
    import minari
    env = minari.DataCollector(walks(), **options)
    for id, actions in WALKS.items():
        env.reset(seed=0, options={'episode': id})
        for action in actions: env.step(action)
    env.create_dataset(name)
    env.close()


def check_collected(found):
    "Whether `found` is what was walked: the headings with the digits of an observation, and where an agent's time ran out, the way that it went."
    assert [e.path for e in found] == [tuple('cba'), tuple('cde')]
    assert [(e.task.id, e.task.text, e.task.start, e.task.scan) for e in found] == [(e.task.id, e.task.text, 'c', 'h') for e in EPISODES[::-1]]
    assert [e.task.heading for e in found] == [float(np.float32(e.task.heading)) for e in EPISODES[::-1]]
    assert {(e.level, e.program) for e in found} == {('route', '')}


def test_what_the_collector_wrote_is_read():
    "Recorded by `collect` with Minari 0.5.4, since its collector takes jax."
    check_collected(load_minari('nl_irl/walked-v0', corridor(), RECORDED))


@pytest.mark.filterwarnings('ignore')
def test_what_the_collector_writes_is_read(tmp_path, monkeypatch):
    pytest.importorskip('jax')
    collect(tmp_path, 'nl_irl/walked-v0', monkeypatch, record_infos=True)
    check_collected(load_minari('nl_irl/walked-v0', corridor(), tmp_path))
    collect(tmp_path, 'nl_irl/bare-v0', monkeypatch)
    with pytest.raises(ValueError, match='episode 0: no infos/viewpoint.*record_infos=True'): load_minari('nl_irl/bare-v0', corridor(), tmp_path)


def test_it_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
    import minari
    save_minari(NAME, walks(), EPISODES, description='There and back.')
    assert minari.load_dataset(NAME).total_steps == 6 and minari.list_local_datasets()[NAME]['description'] == 'There and back.'
    assert load_minari(NAME, corridor()) == EPISODES


@pytest.mark.parametrize('episodes, options, says', [
    (EPISODES, {'encoder': build_vocabulary(e.task.text for e in EPISODES)}, 'instructions must be text'),
    ([Episode(Task('0_0', 'h', 'c', 0., 'Jump!'), ('c', 'e'))], {}, 'c has no edge to e'),
    ([Episode(Task('0_0', 'h', 'c', 0., 'Go!'))], {}, 'episode 0_0 has a path of 0 viewpoints, expected 1 to 5'),
    ([Episode(Task('0_0', 'h', 'c', 0., 'Go!'), tuple('cbcbcb'))], {}, 'episode 0_0 has a path of 6 viewpoints, expected 1 to 5'),
    ([Episode(Task('7_0', 'h', 'c', 0., 'Go!'), tuple('cb'))], {}, r"no episode has the id \['7_0'\]")])
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, episodes, options, says):
    with pytest.raises(ValueError, match=says): save_minari(NAME, walks(**options), episodes, tmp_path)
    assert not [p for p in tmp_path.rglob('*') if p.is_file()]


def test_an_older_dataset_stays(tmp_path):
    folder = save_minari(NAME, walks(), EPISODES, tmp_path)
    before = [p.read_bytes() for p in sorted(folder.iterdir())]
    with pytest.raises(ValueError, match='exists already; choose another name'): save_minari(NAME, walks(), EPISODES[:1], tmp_path)
    assert [p.read_bytes() for p in sorted(folder.iterdir())] == before


def test_without_its_packages_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'minari', None)
    with pytest.raises(ValueError, match=r"pip install 'nl_irl\[minari\]'"): save_minari(NAME, walks(), EPISODES, tmp_path)
    check_collected(load_minari('nl_irl/walked-v0', corridor(), RECORDED))                      # reading takes h5py alone
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ValueError, match=r"pip install 'nl_irl\[features\]'"): load_minari('nl_irl/walked-v0', corridor(), RECORDED)


# Damaged and hostile datasets

def facts(**changed):
    "Other facts in metadata.json."
    def apply(folder):
        found = json.loads((folder/'metadata.json').read_text()) | changed
        (folder/'metadata.json').write_text(json.dumps({k: v for k, v in found.items() if v is not None}))
    return apply


def data(change):
    "A change to the HDF5 file."
    def apply(folder):
        with h5py.File(folder/'main_data.hdf5', 'a') as file: change(file)
    return apply


def instead(name, value, **options):
    "Another array in the place of one of the first episode."
    def change(file):
        del file[f'episode_0/{name}']
        if value is not None: file['episode_0'].create_dataset(name, data=value, **options)
    return data(change)


def huge(name, **options):
    "An array that takes nothing in the file and everything in memory."
    def change(file):
        del file[f'episode_0/{name}']
        file['episode_0'].create_dataset(name, (1 << 40,), chunks=(1024,), **options)
    return data(change)


def elsewhere(make):
    "An array of the first episode that lies in another file."
    def change(file):
        group = file['episode_0/infos']
        del group['viewpoint']
        make(group)
    return data(change)


def virtual(group):
    layout = h5py.VirtualLayout((4,), 'f4')
    layout[:] = h5py.VirtualSource('/etc/passwd', 'x', (4,))
    group.create_virtual_dataset('viewpoint', layout)


def flip(folder):
    content = bytearray((folder/'main_data.hdf5').read_bytes())
    content[len(content) // 2] ^= 1
    (folder/'main_data.hdf5').write_bytes(content)


def cut(folder): (folder/'main_data.hdf5').write_bytes((folder/'main_data.hdf5').read_bytes()[:5000])
def put(name, content): return lambda folder: (folder/name).write_bytes(content)


STRING = h5py.string_dtype()
BAD = {
    'no metadata': (lambda f: (f/'metadata.json').unlink(), 'metadata.json: no such file'), 'empty metadata': (put('metadata.json', b''), 'not valid JSON'),
    'metadata of another kind': (put('metadata.json', b'[]'), 'metadata.json: expected an object'),
    'deep metadata': (put('metadata.json', b'[' * 10 ** 5), 'nested too deeply'),
    'arrow': (facts(data_format='arrow'), "metadata.json: data_format 'arrow', expected hdf5"),
    'another version': (facts(minari_version='1.0.0'), "minari_version '1.0.0', expected 0.4 or 0.5"),
    'no version': (facts(minari_version=None), 'minari_version None'),
    'no episodes': (facts(total_episodes=0), 'total_episodes 0, expected at least one'),
    'endless episodes': (facts(total_episodes=10 ** 12), '2 episodes, where metadata.json counts 1000000000000'),
    'episodes in words': (facts(total_episodes='2'), "total_episodes '2'"),
    'no data': (lambda f: (f/'main_data.hdf5').unlink(), 'main_data.hdf5: not a whole HDF5 file'),
    'empty data': (put('main_data.hdf5', b''), 'not a whole HDF5 file'),
    'cut': (cut, 'not a whole HDF5 file'), 'text': (put('main_data.hdf5', b'hello'), 'not a whole HDF5 file'),
    'an episode too few': (data(lambda f: f.__delitem__('episode_1')), '1 episodes, where metadata.json counts 2'),
    'other episodes': (data(lambda f: f.move('episode_1', 'walk_1')), 'episode 1: not as Minari writes it'),
    'no instructions': (instead('observations/instruction', None), 'episode 0: not as Minari writes it'),
    'instructions as numbers': (instead('observations/instruction', np.zeros((4, 8), int)), 'episode 0: instructions are numbers.*text=True'),
    'blank instructions': (instead('observations/instruction', [' '] * 4, dtype=STRING), 'episode 0: an instruction needs words'),
    'instructions that are no text': (instead('observations/instruction', [b'\xff'] * 4, dtype=STRING), 'episode 0: .*utf-8'),
    'no infos': (data(lambda f: f.__delitem__('episode_0/infos')), 'episode 0: no infos/viewpoint.*record_infos=True'),
    'viewpoints as numbers': (instead('infos/viewpoint', np.arange(4)), 'episode 0: not as Minari writes it'),
    'no viewpoints': (instead('infos/viewpoint', np.array([], STRING), dtype=STRING), 'episode 0: infos/viewpoint has the shape'),
    'unknown viewpoint': (instead('infos/viewpoint', ['c', 'z'], dtype=STRING), "episode 0: world corridor has no viewpoint 'z'"),
    'a missing edge': (instead('infos/viewpoint', ['c', 'a'], dtype=STRING), 'episode 0: c has no edge to a'),
    'NaN heading': (data(lambda f: f['episode_0'].attrs.__setitem__('heading', np.nan)), 'episode 0: episode 0_0: heading must be finite'),
    'heading a word': (data(lambda f: f['episode_0'].attrs.__setitem__('heading', 'north')), 'episode 0: could not convert'),
    'another level': (data(lambda f: f['episode_0'].attrs.__setitem__('level', 'all')), 'episode 0: level must be one of'),
    'endless viewpoints': (huge('infos/viewpoint', dtype=STRING), r'episode 0: infos/viewpoint has the shape \(1099511627776,\)'),
    'endless headings': (huge('observations/heading', dtype='f4'), 'episode 0: observations/heading has the shape'),
    'endless instructions': (huge('observations/instruction', dtype=STRING), 'episode 0: observations/instruction has the shape'),
    'a link to another file': (elsewhere(lambda g: g.__setitem__('viewpoint', h5py.ExternalLink('/etc/passwd', '/x'))), 'viewpoint points to another file'),
    'bytes of another file': (elsewhere(lambda g: g.create_dataset('viewpoint', (4,), 'S8', external=[('/etc/passwd', 0, 32)])), 'viewpoint points to another'),
    'an array made of another file': (elsewhere(virtual), 'viewpoint points to another file'),
    'a group in a circle': (elsewhere(lambda g: g.__setitem__('viewpoint', g)), 'episode 0: no infos/viewpoint'),
    'a link to nothing': (elsewhere(lambda g: g.__setitem__('viewpoint', h5py.SoftLink('/nowhere'))), 'episode 0: no infos/viewpoint'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_dataset_is_refused_in_one_sentence(tmp_path, name):
    spoil, says = BAD[name]
    folder = save_minari(NAME, walks(), EPISODES, tmp_path)
    (folder/'manifest.json').unlink()                                       # as in a dataset of others
    spoil(folder)
    with pytest.raises(ValueError, match=says) as error: load_minari(NAME, corridor(), tmp_path)
    assert str(error.value).startswith(str(folder)) and '\n' not in str(error.value) and len(str(error.value)) < 500, error.value


@pytest.mark.parametrize('spoil', [flip, cut, facts(minari_version='0.5.3')])
def test_one_of_ours_is_checked_byte_by_byte(tmp_path, spoil):
    folder = save_minari(NAME, walks(), EPISODES, tmp_path)
    spoil(folder)
    with pytest.raises(ValueError, match='differ from the checksum in manifest.json; restore or remake it'): load_minari(NAME, corridor(), tmp_path)


def test_nothing_that_a_dataset_names_is_run(tmp_path):
    "Without spaces Minari makes the environment of `env_spec`, here a program that leaves a mark; reading here does not."
    folder, mark = save_minari(NAME, walks(), EPISODES, tmp_path), tmp_path/'mark'
    (folder/'manifest.json').unlink()
    spec = dict(id='Evil-v0', entry_point='subprocess:run', reward_threshold=None, nondeterministic=False, max_episode_steps=None, order_enforce=False,
                disable_env_checker=True, kwargs={'args': ['touch', str(mark)]}, additional_wrappers=[], vector_entry_point=None)
    facts(env_spec=json.dumps(spec), observation_space=None, action_space=None)(folder)
    assert load_minari(NAME, corridor(), tmp_path) == EPISODES and not mark.exists()
    subprocess.run([sys.executable, '-c', 'import sys; from minari import MinariDataset; MinariDataset(sys.argv[1])', folder], capture_output=True)
    assert mark.exists(), 'Minari no longer runs what a dataset names: say so in nbs/78_exchange'


def test_another_world_is_refused():
    other = assemble('other', [Scan('h', ['x', 'y'], np.array([[0, 0, 0], [0, 1., 0]]), np.zeros(2), np.array([[0, 1], [1, 0]]))], ['', 'bed'],
                     (np.ones((2, 36, 1), np.int16), np.full((2, 36, 1), .5, np.float16)))
    with pytest.raises(ValueError, match="world other has no viewpoint 'c'"): load_minari('nl_irl/walked-v0', other, RECORDED)
    with pytest.raises(ValueError, match='no such folder; datasets lie below'): load_minari('nl_irl/none-v0', other, RECORDED)


def test_names_do_not_climb(tmp_path):
    for name in ('../x-v0', '/x-v0', 'x', 'a/../b-v0', '', 'x-v0\n', 'a b-v0'):
        with pytest.raises(ValueError, match='a Minari dataset has a name such as'): minari_folder(name, tmp_path)
