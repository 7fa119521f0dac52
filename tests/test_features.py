"""View features: what is wrong with a file is said by name, processes share one conversion, and an agent uses what it is shown."""
import base64
import errno
import os
import re
import subprocess
import sys
import textwrap
import tracemalloc
from collections import Counter

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from nl_irl.environment import Environment, observe
from nl_irl.batches import batch_of
from nl_irl.imitation import imitation_loss
from nl_irl.models.policy import Eyes, Policy, PolicyConfig
from nl_irl.rollout import run_episodes
from nl_irl.text import build_vocabulary
from nl_irl.types import Instruction, Trajectory
from nl_irl.worlds import features as module
from nl_irl.worlds.features import Table, load_features
from nl_irl.worlds.tables import Scan, assemble, episodes_of

IDS, DIM = ('a', 'b', 'c'), 8


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path/'cache'
    monkeypatch.setenv('NL_IRL_CACHE', str(folder))
    return folder


@pytest.fixture(scope='module')
def world():
    corridor, pairs = np.arange(3)[:, None] * [0., 2, 0], np.array([[0, 1], [1, 0], [1, 2], [2, 1]])
    return blind('corridor', IDS, corridor, pairs)


def blind(name, ids, position, pairs):
    "A world of one scan, 'house', in which there is nothing to see."
    nothing = np.zeros((len(ids), 36, 1), np.int16), np.zeros((len(ids), 36, 1), np.float16)
    return assemble(name, [Scan('house', ids, position, np.zeros(len(ids)), pairs)], [''], nothing)


def views(dim=DIM, seed=0): return np.random.default_rng(seed).normal(size=(3, 36, dim)).astype(np.float32)


def line(id, x, scan='house'): return '\t'.join([scan, id, '640', '480', '60', base64.b64encode(x.tobytes()).decode()]) + '\n'


def write_tsv(path, data, ids=IDS):
    path.write_text(''.join(line(id, x) for id, x in zip(ids, data)))
    return path


def write_hdf5(path, data, ids=IDS, **options):
    with h5py.File(path, 'w') as file:
        for id, x in zip(ids, data): file.create_dataset(f'house_{id}', data=x, **options)
    return path


def spoiled(value, view=20, column=5, seed=0):
    data = views(seed=seed)
    data[1, view, column] = value
    return data


def nothing_left(cache): return not [p for p in cache.rglob('*') if not p.name.endswith('.lock')]


@pytest.mark.parametrize('name, write, options', [
    ('resnet.tsv', write_tsv, {}), ('clip.hdf5', write_hdf5, {}), ('clip.h5', write_hdf5, {'dtype': 'float16'}),
    ('vit.hdf5', write_hdf5, {'dtype': 'float64', 'compression': 'gzip', 'chunks': (36, 4)}), ('CLIP.TSV', write_tsv, {})])
def test_tables_hold_the_source_in_the_order_of_the_world(tmp_path, world, name, write, options):
    data, order = views(), [2, 0, 1]
    features = load_features(world, write(tmp_path/name, data[order], [IDS[i] for i in order], **options))
    assert features.views.shape == (3, 36, DIM) and features.headings.shape == (3, 12, DIM) and features.views.dtype == features.headings.dtype == np.float16
    assert np.array_equal(features.views, data.astype(np.float16))
    for heading in range(12):
        mean = np.mean([data[:, 12 * row + heading] for row in range(3)], 0)
        assert np.allclose(features.headings[:, heading], mean, atol=2e-3)
    assert not features.views.flags.writeable and not features.headings.flags.writeable


def test_other_viewpoints_and_scans_are_passed_over(tmp_path, world):
    data = views()
    path = write_tsv(tmp_path/'x.tsv', data)
    path.write_text(line('a', data[2], 'elsewhere') + 'elsewhere\tz\t640\t480\t60\tnot base64\n' + path.read_text() + '\n')
    assert np.array_equal(load_features(world, path).views, data.astype(np.float16))


@pytest.mark.parametrize('columns, width, kept', [(768, 0, 768), (1768, 0, 768), (3048, 0, 2048), (1768, 1768, 1768), (1768, 512, 512), (1800, 0, 1800)])
def test_class_logits_behind_the_features_are_left_out(tmp_path, world, columns, width, kept):
    data = views(columns)
    features = load_features(world, write_hdf5(tmp_path/'vit.hdf5', data), width=width)
    assert np.array_equal(features.views, data[..., :kept].astype(np.float16)) and features.headings.shape == (3, 12, kept)


def cut(path, share):
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])
    return path


def with_group(path):
    with h5py.File(write_hdf5(path, views()[:2]), 'a') as file: file.create_group('house_c')
    return path


def rotten_chunk(path):
    "A compressed dataset with a byte of its chunk turned over."
    with h5py.File(write_hdf5(path, views(), compression='gzip', chunks=(36, DIM)), 'r') as file:
        chunk = file['house_b'].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 255
    path.write_bytes(content)
    return path


def with_text(path, text):
    path.write_bytes(text)
    return path


BAD = {
    'too few views in a line': ('x.tsv', lambda p: write_tsv(p, views()[:, :35]), 'line 1.*1120 bytes are not 36 views'),
    'another width in a line': ('x.tsv', lambda p: write_tsv(p, [views()[0], views(9)[0], views()[0]]), r'line 2 \(viewpoint b\): 9 columns.*before have 8'),
    'NaN in a line': ('x.tsv', lambda p: write_tsv(p, spoiled(np.nan)), r'line 2 \(viewpoint b\): view 20, column 5 is nan.*compute'),
    'infinity in a line': ('x.tsv', lambda p: write_tsv(p, spoiled(-np.inf)), 'line 2.*view 20, column 5 is -inf.*compute'),
    'too large for half precision': ('x.tsv', lambda p: write_tsv(p, spoiled(1e6)), 'line 2.*view 20, column 5 is 1000000.0.*half precision'),
    'broken base64': ('x.tsv', lambda p: with_text(p, write_tsv(p, views()).read_bytes()[:-9] + b'12\n'), 'line 3.*broken base64.*Fetch it again'),
    'a foreign character': ('x.tsv', lambda p: with_text(p, write_tsv(p, views()).read_bytes()[:-9] + b'!12345678\n'), 'line 3.*broken base64'),
    'cut within a line': ('x.tsv', lambda p: cut(p, .9) if write_tsv(p, views()) else p, 'line 3.*complete.*Fetch it again'),
    'cut between fields': ('x.tsv', lambda p: with_text(p, (line('a', views()[0]) + 'house\tb\t640').encode()), 'line 2: 3 fields.*expected 6'),
    'no tabs': ('x.tsv', lambda p: with_text(p, b'scanId,viewpointId,features\n'), 'line 1: 1 fields.*scanId, viewpointId'),
    'an archive named .tsv': ('x.tsv', lambda p: with_text(p, os.urandom(99).replace(b'\n', b'') * 200_000), 'line 1: longer than.*unpack'),
    'a line too few': ('x.tsv', lambda p: write_tsv(p, views()[:2]), 'no features for 1 of 3 viewpoints of world corridor, such as house_c'),
    'a line twice': ('x.tsv', lambda p: write_tsv(p, [*views(), views()[1]], 'abcb'), r'line 4 \(viewpoint b\): a second entry'),
    'an empty file': ('x.tsv', lambda p: with_text(p, b''), 'no features for 3 of 3'),
    'too few views in a dataset': ('x.h5', lambda p: write_hdf5(p, views()[:, :12]), r'dataset house_a: shape \(12, 8\), expected \(36, dim\)'),
    'a dataset of tokens': ('x.h5', lambda p: write_hdf5(p, views()[..., None]), r'dataset house_a: shape \(36, 8, 1\)'),
    'another width in a dataset': ('x.h5', lambda p: write_hdf5(p, [views()[0], views(9)[0], views()[0]]), 'dataset house_b: 9 columns.*before have 8'),
    'NaN in a dataset': ('x.hdf5', lambda p: write_hdf5(p, spoiled(np.nan)), 'dataset house_b: view 20, column 5 is nan'),
    'integers': ('x.hdf5', lambda p: write_hdf5(p, views().astype(int)), 'dataset house_a: numbers of type int64, expected floats'),
    'a dataset too few': ('x.hdf5', lambda p: write_hdf5(p, views()[:2]), 'no features for 1 of 3.*house_c'),
    'a group': ('x.hdf5', with_group, 'dataset house_c: a group'),
    'a cut HDF5': ('x.hdf5', lambda p: cut(write_hdf5(p, views()), .5), 'not a whole HDF5 file.*fetch it again'),
    'a rotten chunk': ('x.hdf5', rotten_chunk, 'dataset house_b: cannot be read.*Fetch it again'),
    'text named .hdf5': ('x.hdf5', lambda p: with_text(p, b'hello'), 'not a whole HDF5 file'),
    'another form': ('x.lmdb', lambda p: with_text(p, b''), 'come as .tsv, .hdf5, .h5'),
    'an archive': ('x.tsv.zip', lambda p: with_text(p, b''), 'unpack an archive'),
    'no file': ('x.tsv', lambda p: p, 'no such file'),
    'a folder': ('x.h5', lambda p: p.mkdir() or p, 'no such file, or not a readable one'),
}


@pytest.mark.parametrize('name, write, says', BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_in_one_sentence_and_leaves_nothing(tmp_path, cache, world, name, write, says):
    path = write(tmp_path/name)
    with pytest.raises(ValueError) as error: load_features(world, path)
    message = str(error.value)
    assert message.startswith(str(path)) and re.search(says, message.replace('\n', ' ')) and message.count('\n') == 0
    assert nothing_left(cache)


def test_a_width_beyond_the_columns_is_refused(tmp_path, cache, world):
    with pytest.raises(ValueError, match='line 1.*8 columns, 9 features were asked for'): load_features(world, write_tsv(tmp_path/'x.tsv', views()), width=9)
    assert nothing_left(cache)


def test_without_h5py_the_way_out_is_said(tmp_path, cache, world, monkeypatch):
    path = write_hdf5(tmp_path/'x.hdf5', views())
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ValueError, match=r"x.hdf5.*pip install 'nl_irl\[features\]'"): load_features(world, path)
    assert nothing_left(cache)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, cache, world, monkeypatch):
    path, write, written = write_tsv(tmp_path/'x.tsv', views()), Table.write, []
    def full(self, row, values):
        if len(written) == 3: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write(self, row, values))
    monkeypatch.setattr(Table, 'write', full)
    with pytest.raises(ValueError, match='x.tsv: could not be converted.*No space left on device.*NL_IRL_CACHE'): load_features(world, path)
    assert len(written) == 3 and nothing_left(cache)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, world, monkeypatch):
    monkeypatch.setenv('NL_IRL_CACHE', str(with_text(tmp_path/'file', b'')/'cache'))
    with pytest.raises(ValueError, match='Not a directory.*NL_IRL_CACHE'): load_features(world, write_tsv(tmp_path/'x.tsv', views()))


def test_converted_once_and_again_only_for_a_reason(tmp_path, cache, world, monkeypatch):
    calls, convert = Counter(), module.convert
    def counted(world, path, *rest):
        calls[path.name] += 1
        convert(world, path, *rest)
    monkeypatch.setattr(module, 'convert', counted)
    path = write_tsv(tmp_path/'x.tsv', views())
    first, again = load_features(world, path), load_features(world, path)
    assert calls['x.tsv'] == 1 and first.checksum == again.checksum

    write_tsv(path, views(seed=1))
    os.utime(path, ns=(1, 1))
    assert np.array_equal(load_features(world, path).views, views(seed=1).astype(np.float16)) and calls['x.tsv'] == 2

    reordered = blind('reordered', 'cba', world.position, np.array([[0, 1], [1, 0], [1, 2], [2, 1]]))
    assert np.array_equal(load_features(reordered, path).views, views(seed=1)[::-1].astype(np.float16)) and calls['x.tsv'] == 3


@pytest.mark.parametrize('file', ['views.npy', 'headings.npy', 'manifest.json'])
def test_a_damaged_cache_is_reported_and_made_again(tmp_path, cache, world, file):
    path = write_tsv(tmp_path/'x.tsv', views())
    load_features(world, path)
    damaged, = cache.glob(f'features-*/{file}')
    content = bytearray(damaged.read_bytes())
    content[-9] ^= 1
    damaged.write_bytes(content)
    with pytest.warns(UserWarning, match=f'{damaged.parent}.*converted again'): features = load_features(world, path)
    assert np.array_equal(features.views, views().astype(np.float16))


def test_what_a_killed_conversion_left_is_removed(tmp_path, cache, world):
    path = write_tsv(tmp_path/'x.tsv', views())
    folder = module.features_folder(world, path, 0)
    left = folder.with_name(f'.{folder.name}.1.tmp')
    left.mkdir(parents=True)
    with_text(left/'views.npy', b'half of it')
    with_text(left/'other.npy', b'')
    assert np.array_equal(load_features(world, path).views, views().astype(np.float16))
    assert not left.exists() and sorted(p.name for p in folder.iterdir()) == ['headings.npy', 'manifest.json', 'views.npy']


def test_memory_does_not_grow_with_the_file(tmp_path):
    n, data = 200, views(256)
    a, ids = np.arange(n - 1), [f'v{i}' for i in range(n)]
    world = blind('long', ids, np.arange(n)[:, None] * [0., 2, 0], np.concatenate([np.stack([a, a + 1], 1), np.stack([a + 1, a], 1)]))
    path = write_tsv(tmp_path/'x.tsv', [data[i % 3] for i in range(n)], ids)
    tracemalloc.start()
    features = load_features(world, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(features.views[-1], data[(n - 1) % 3].astype(np.float16))
    assert path.stat().st_size > 9e6 and features.views.nbytes > 3e6 and peak < 2e6


READ = textwrap.dedent('''
    import sys
    import numpy as np
    from nl_irl.worlds import features as module
    from nl_irl.worlds.tables import Scan, assemble
    n, convert = 60, module.convert
    def told(*arguments):
        print('converts', flush=True)
        convert(*arguments)
    module.convert = told
    place, a = np.arange(n)[:, None] * [0., 2, 0], np.arange(n - 1)
    pairs = np.concatenate([np.stack([a, a + 1], 1), np.stack([a + 1, a], 1)])
    nothing = np.zeros((n, 36, 1), np.int16), np.zeros((n, 36, 1), np.float16)
    world = assemble('long', [Scan('house', [f'v{i}' for i in range(n)], place, np.zeros(n), pairs)], [''], nothing)
    print('starts', flush=True); sys.stdin.readline()
    features = module.load_features(world, sys.argv[1])
    print('sum', float(features.views.sum(dtype=float)), flush=True); sys.stdin.readline()
    where, at = open('/proc/self/smaps').read().splitlines(), None
    sizes = {'Rss': 0, 'Pss': 0, 'Private_Dirty': 0}
    for text in where:
        if '-' in text.split()[0]: at = text.endswith('/views.npy')
        elif at and text.split(':')[0] in sizes: sizes[text.split(':')[0]] += int(text.split()[1])
    print(*sizes.values(), flush=True); sys.stdin.readline()
''')


@pytest.mark.skipif(not os.path.exists('/proc/self/smaps'), reason='counts shared pages as Linux tells them')
def test_processes_that_start_together_share_one_conversion_and_its_pages(tmp_path):
    data = np.random.default_rng(0).normal(size=(60, 36, 512)).astype(np.float32)
    path = write_tsv(tmp_path/'x.tsv', data, [f'v{i}' for i in range(60)])
    both = [subprocess.Popen([sys.executable, '-c', READ, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    def all_go():
        for p in both: p.stdin.write('\n'); p.stdin.flush()
    said = [p.stdout.readline() for p in both]
    all_go()
    converted, sums = 0, []
    for p in both:
        while (text := p.stdout.readline()).startswith('converts'): converted += 1
        sums.append(text)
    all_go()
    pages = [tuple(map(int, p.stdout.readline().split())) for p in both]
    all_go()
    assert [p.wait(60) for p in both] == [0, 0] and said == ['starts\n'] * 2
    assert converted == 1 and sums[0] == sums[1] == f'sum {float(data.astype(np.float16).sum(dtype=float))}\n'
    for resident, shared_out, dirty in pages:                     # kB: each counts half of what both hold
        assert resident > 2000 and shared_out < .6 * resident and dirty == 0


def test_without_features_eyes_take_the_random_numbers_and_parameters_they_took():
    config = PolicyConfig(words=9, labels=6, width=16, word_width=8, label_width=4)
    torch.manual_seed(0)
    eyes, after = Eyes(config), torch.rand(3)
    torch.manual_seed(0)
    label, expected = nn.Embedding(6, 4, padding_idx=0), torch.rand(3)
    assert [name for name, _ in eyes.named_parameters()] == ['label.weight']
    assert torch.equal(eyes.label.weight, label.weight) and torch.equal(after, expected)


def test_the_environment_shows_the_rows_of_the_mapped_file(tmp_path, world):
    features = load_features(world, write_tsv(tmp_path/'x.tsv', views()))
    env = Environment(world, features=features.headings)
    assert env.feature.data_ptr() == features.headings.ctypes.data
    state = env.reset(np.array([[2, 0], [0, 1]]), np.zeros((2, 2)))
    seen = observe(env, state).feature
    assert seen.dtype == torch.float16 and np.array_equal(seen.numpy(), features.headings[[[2, 0], [0, 1]]])
    assert observe(Environment(world), state).feature.shape == (2, 2, 12, 0)
    for wrong in features.headings[:2], features.views, features.headings[..., 0]:
        with pytest.raises(ValueError, match=r'features of world corridor must be \(3, 12, dim\)'): Environment(world, features=wrong)


# A world where only features tell the way: crossings with four exits that look alike, and a mark in the features towards one of them.
CROSSINGS, TRAINED, WIDTH = 120, 80, 16


@pytest.fixture(scope='module')
def crossings():
    "The world, an episode a crossing, and features (viewpoint, 36, dim) of noise, with the mark in all three views of the heading that is right."
    rng = np.random.default_rng(0)
    exits = np.array([[0., 2, 0], [2, 0, 0], [0, -2, 0], [-2, 0, 0]])                        # headings 0, 3, 6 and 9
    position = (np.arange(CROSSINGS)[:, None, None] * [100., 0, 0] + np.concatenate([np.zeros((1, 3)), exits])[None]).reshape(-1, 3)
    middle = np.arange(CROSSINGS) * 5
    pairs = (middle[:, None, None] + np.array([[0, k] for k in range(1, 5)] + [[k, 0] for k in range(1, 5)])).reshape(-1, 2)
    ids = [f'{c}-{k}' for c in range(CROSSINGS) for k in range(5)]
    world, right = blind('crossings', ids, position, pairs), rng.integers(4, size=CROSSINGS)
    features, mark = rng.normal(size=(len(ids), 36, WIDTH)).astype(np.float32) / 2, rng.normal(size=WIDTH).astype(np.float32)
    for row in range(3): features[middle, 12 * row + 3 * right] += mark
    turn = rng.uniform(0, 2 * np.pi, CROSSINGS)
    walks = [Trajectory('house', (f'{c}-0', f'{c}-{1 + right[c]}'), instructions=(Instruction('go'),), heading=float(turn[c])) for c in range(CROSSINGS)]
    return world, [episodes_of(world, walk, str(c))[0] for c, walk in enumerate(walks)], features


def learn(world, episodes, table, updates=60):
    "A small policy that imitates `episodes`, and its vocabulary; `table` (viewpoint, 12, dim) or None."
    vocabulary, before = build_vocabulary(['go']), torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    policy = Policy(PolicyConfig(words=len(vocabulary), labels=1, width=32, word_width=16, label_width=16, dropout=.1,
                                 features=0 if table is None else table.shape[-1])).train()
    env, data, optimizer = Environment(world, features=table), batch_of(world, episodes, vocabulary), torch.optim.Adam(policy.parameters(), 1e-2)
    for _ in range(updates):
        optimizer.zero_grad()
        imitation_loss(policy, env, data)[0].backward()
        optimizer.step()
    torch.set_num_threads(before)
    return policy, vocabulary


def success(policy, vocabulary, world, episodes, table):
    "The share of `episodes` whose path is walked exactly."
    done = run_episodes(policy, Environment(world, features=table), [e.task for e in episodes], vocabulary, horizon=3)
    paths = [p for r in done for p in r.paths]
    return np.mean([[world.ids[v] for v in path] == list(e.path) for path, e in zip(paths, episodes)])


@pytest.mark.parametrize('name, write', [('x.tsv', write_tsv), ('x.hdf5', write_hdf5)])
def test_an_agent_finds_the_way_that_only_features_show(tmp_path, crossings, name, write):
    world, episodes, views = crossings
    table = load_features(world, write(tmp_path/name, views, world.ids)).headings
    policy, vocabulary = learn(world, episodes[:TRAINED], table)
    other = episodes[TRAINED:]
    assert success(policy, vocabulary, world, other, table) >= .95
    assert success(policy, vocabulary, world, other, np.zeros_like(table)) <= .5                       # one in four is chance
    assert success(policy, vocabulary, world, other, table[:, ::-1].copy()) <= .5                      # the mark on another heading


def test_without_features_the_same_agent_does_not_find_it(crossings):
    world, episodes, _ = crossings
    policy, vocabulary = learn(world, episodes[:TRAINED], None)
    assert success(policy, vocabulary, world, episodes[TRAINED:], None) <= .5


def test_policy_and_environment_must_agree_on_features(crossings):
    world, episodes, views = crossings
    policy, vocabulary = learn(world, episodes[:4], views[:, :12], updates=1)
    with pytest.raises(ValueError, match='takes features of width 16, the environment shows 0'): success(policy, vocabulary, world, episodes[:2], None)
