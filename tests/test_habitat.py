"""Against a real habitat-sim: what it sees of our houses, graphs over navmeshes, steering, and how it fails. Skipped, and counted, where it is missing."""

import json
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from nl_irl.worlds.simulator import Body, Lens, Simulator, how_to_get, there_is_habitat, to_habitat

pytestmark = pytest.mark.skipif(not there_is_habitat(), reason=how_to_get())


@pytest.fixture(scope='module')
def made():
    from nl_irl.worlds.cache import cached_houses
    return cached_houses('tiny')


@pytest.fixture(scope='module')
def folder(tmp_path_factory, made):
    "Two houses as scenes: the first of one storey, and the first of two."
    from nl_irl.worlds.mesh import export_glb
    path = tmp_path_factory.mktemp('scenes')
    for house in (flat(made), tall(made)): export_glb(house, path)
    return path


def storeys(house): return 1 + max(r.floor for r in house.rooms)
def flat(made): return next(h for h in made.houses if storeys(h) == 1)
def tall(made): return next(h for h in made.houses if storeys(h) == 2)


@pytest.fixture(scope='module')
def sim(folder, made):
    from nl_irl.worlds.scenes import stage_of
    with Simulator(stage_of(folder/f'{tall(made).name}.glb'), lens=Lens(size=192)) as sim: yield sim


def test_means_what_the_house_means(sim, made):
    names = [t.category for t in tall(made).things]
    meant = [sim.meanings[k] for k in sorted(sim.meanings)]
    assert meant[-len(names) - len(tall(made).doors):][:len(names)] == names


def test_sees_the_same_things_in_the_same_views(sim, made):
    "Of the things whose middle lies well inside a view, and before whose middle nothing stands, habitat sees the same one there."
    from nl_irl.worlds.scenes import cells
    from nl_irl.worlds.sight import EYE
    house, agreed, asked, solid, cell = tall(made), 0, 0, cells(sim.lens), np.pi / 6
    for v in range(0, len(house.position), 3):
        seen = sim.panorama(to_habitat(house.position[v]))
        for k in np.flatnonzero(house.sees[v]):
            away, extent = np.array(house.things[k].position) - house.position[v] - [0, 0, EYE], np.array(house.things[k].extent)
            far = np.hypot(*away[:2])
            heading, elevation = np.arctan2(away[0], away[1]), np.arctan2(away[2], far)
            row, column = int(np.clip(np.rint(elevation / cell), -1, 1)) + 1, int(np.rint(heading / cell)) % 12
            off, tilt = heading - np.rint(heading / cell) * cell, elevation - (row - 1) * cell
            inside = abs(off) < cell / 2 - .05 and abs(tilt) < cell / 2 - .05
            if not inside or not .5 < far < 8 or np.arctan(extent[:2].max() / 2 / far) < .03: continue
            pixel = pixel_at(off, elevation, row, sim.lens)
            straight = seen['depth'][row * 12 + column][pixel] * np.sqrt(1 + sum(ray ** 2 for ray in slopes(pixel, sim.lens)))
            if straight < np.linalg.norm(away) - np.linalg.norm(extent) / 2: continue                  # something stands before it
            asked += 1
            agreed += bool(((seen['semantic'][row * 12 + column] == 5 + k) & (solid[row] > 0)).any())
    print(f'{agreed} of {asked}')
    assert asked > 100 and agreed > .95 * asked


def slopes(pixel, lens):
    "How far the ray of a pixel goes up and to the right for each metre ahead."
    return [((x + .5) / lens.size * 2 - 1) * np.tan(np.radians(lens.field) / 2) for x in pixel]


def pixel_at(heading, elevation, row, lens):
    "Row and column of the pixel of a camera at elevation `row` that looks along heading and elevation (radians from its column)."
    tilt, half = np.pi / 6 * (row - 1), np.tan(np.radians(lens.field) / 2)
    d = np.array([np.cos(elevation) * np.sin(heading), np.sin(elevation), np.cos(elevation) * np.cos(heading)])
    forward, up = d[2] * np.cos(tilt) + d[1] * np.sin(tilt), d[1] * np.cos(tilt) - d[2] * np.sin(tilt)
    at = lambda x: int(np.clip((x / forward / half + 1) / 2 * lens.size, 0, lens.size - 1))
    return at(-up), at(d[0])


def test_navmesh_is_as_long_as_the_graph(sim, made):
    "Over moves: nearly all of the ways over the navmesh are within 10 % of the move's length."
    house = tall(made)
    feet = sim.snap(to_habitat(house.position))
    assert np.isfinite(feet).all() and np.abs(feet - to_habitat(house.position)).max() < .35
    a, b = house.pairs[house.pairs[:, 0] < house.pairs[:, 1]].T
    ratio = sim.distances(feet[a], feet[b]) / np.linalg.norm(house.position[a] - house.position[b], axis=-1)
    print(np.quantile(ratio, [0, .05, .5, .95, 1]).round(3), (np.abs(ratio - 1) < .1).mean())
    assert np.isfinite(ratio).all() and (np.abs(ratio - 1) < .1).mean() > .9


@pytest.fixture(scope='module')
def bare(tmp_path_factory, folder, made):
    "The same house without its viewpoints: a graph has to be found."
    path = tmp_path_factory.mktemp('bare')
    for file in folder.glob(f'{tall(made).name}*'):
        if not file.name.endswith('_connectivity.json'): shutil.copy(file, path)
    return path/f'{tall(made).name}.glb'


def test_graph_over_a_navmesh(bare):
    "The same from one seed; connected on both floors; moves are walked straight, and none is long."
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components
    from nl_irl.worlds.scenes import SceneConfig, graph_of, stage_of
    config = SceneConfig()
    with Simulator(stage_of(bare)) as sim:
        scan, again, other = (graph_of(sim, c, 'bare') for c in (config, config, SceneConfig(seed=1)))
        assert np.array_equal(scan.position, again.position) and np.array_equal(scan.pairs, again.pairs) and not np.array_equal(scan.position, other.position)
        a, b = scan.pairs.T
        length = np.linalg.norm(scan.position[a] - scan.position[b], axis=-1)
        feet = to_habitat(scan.position - [0, 0, config.lens.eye])
        straight = sim.straight(feet[a], feet[b], near=.1)
        over = sim.distances(feet[a], feet[b])
    assert set(scan.floor) == {0, 1} and connected_components(csr_array((np.ones(len(a)), (a, b)), shape=(len(feet),) * 2))[0] == 1
    print(len(feet), 'viewpoints', len(a) / len(feet), 'moves each', straight.mean(), (over / length).max())
    assert 25 < len(feet) < 120 and length.max() < config.reach and straight.all() and np.quantile(over / length, .9) < 1.05


def test_a_scene_becomes_a_world_once(bare, tmp_path, monkeypatch):
    "Photographed the first time, and from then on opened without a simulator."
    from PIL import Image
    from nl_irl.worlds import scenes
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path))
    config = scenes.SceneConfig(lens=Lens(size=96))
    first = scenes.load_scenes(bare, config)
    monkeypatch.setattr(scenes, 'build_scenes', None)
    again = scenes.load_scenes(bare, config)
    world = again.world
    assert world.ids == first.world.ids and np.array_equal(world.view_label, first.world.view_label)
    assert {'door', 'stairs'} < set(world.labels) and 'wall' not in world.labels and (world.view_weight > 0).any((1, 2)).all()
    from io import BytesIO
    assert Image.open(BytesIO(again.strip(world.ids[0]))).size[0] == 12 * 2 * round(48 * np.tan(np.pi / 12) / np.tan(np.pi / 6))
    assert again.features.headings.shape == (len(world.ids), 12, 112) and np.isfinite(again.features.headings.astype(float)).all()


@pytest.fixture(scope='module')
def as_scenes(folder, made):
    "The world of the tall house alone, with positions of cameras, as a scene has them."
    from nl_irl.worlds.connectivity import read_building
    from nl_irl.worlds.tables import VIEWS, assemble
    scan = read_building(folder/f'{tall(made).name}_connectivity.json').scan
    return assemble('one', [scan], [''], (np.zeros((len(scan.ids), VIEWS, 1), np.int16), np.zeros((len(scan.ids), VIEWS, 1), np.float16)))


def test_what_succeeds_on_the_graph_succeeds_in_the_house(sim, made, as_scenes):
    from nl_irl.continuous import drive, film, judged
    episodes = [e for e in chain(*made.splits.values()) if e.task.scan == tall(made).name and e.level != 'segment']
    drives = [drive(sim, as_scenes, e.path, e.task.heading) for e in episodes]
    table = judged(sim, as_scenes, episodes, drives)
    print(len(table), table[['SR', 'SPL', 'metres', 'actions', 'collisions']].mean().round(3).to_dict())
    assert table.SR.mean() >= .9 and table.SPL.mean() > .8 and (table.distance[table.SR == 1] < 3).all()
    frames = film(sim, drives[0], every=10)
    assert len(frames) == -(-len(drives[0].trajectory.poses) // 10) and frames[0].shape == (192, 192, 3)


def test_steering_with_gymnasium(sim, made, as_scenes):
    from gymnasium.utils.env_checker import check_env
    from nl_irl.continuous import ContinuousEnv
    episodes = [e for e in chain(*made.splits.values()) if e.task.scan == tall(made).name][:3]
    env = ContinuousEnv(sim, as_scenes, episodes, most=30)
    check_env(env, skip_render_check=True)
    seen, before = env.reset(options={'episode': 0})
    hits = 0
    for _ in range(29):
        seen, reward, done, cut, info = env.step(1)
        hits += info['collided']
    assert hits and not done and not cut and seen['depth'].shape == (192, 192) and np.linalg.norm(info['position'] - before['position']) > .2
    assert env.step(1)[3]                                                                   # cut off after 30
    seen, now = env.reset(options={'episode': 0})
    right = (before['heading'] + np.pi / 12) % (2 * np.pi)
    assert np.allclose(now['position'], before['position']) and env.step(3)[4]['heading'] == pytest.approx(right, abs=1e-4)
    _, reward, done, _, info = env.step(0)
    assert done and reward == float(info['distance'] < 3)


def test_bad_scenes(folder, tmp_path, made):
    "Each is one sentence that names the file, and this process lives on."
    from nl_irl.worlds.scenes import stage_of
    whole = folder/f'{flat(made).name}.glb'
    with pytest.raises(ValueError, match='no such file'): Simulator(tmp_path/'missing.glb')
    (tmp_path/'cut.glb').write_bytes(whole.read_bytes()[:4000])
    with pytest.raises(ValueError, match='cut.glb'): Simulator(tmp_path/'cut.glb')
    (tmp_path/'text.glb').write_text('no mesh')
    with pytest.raises(ValueError, match='text.glb'): Simulator(tmp_path/'text.glb')
    import trimesh
    up = {'up': [0, 1, 0], 'front': [0, 0, -1]}
    trimesh.creation.box((1, 3, 1)).apply_translation((0, 1.5, 0)).export(tmp_path/'post.glb')
    (tmp_path/'post.stage_config.json').write_text(json.dumps({'render_asset': 'post.glb'} | up))
    with pytest.raises(ValueError, match='post.*floor'): Simulator(stage_of(tmp_path/'post.glb'))
    with Simulator(stage_of(whole), render=False) as sim: sim.save_navmesh(tmp_path/'house.navmesh')
    for file in folder.glob(f'{flat(made).name}*'): shutil.copy(file, tmp_path)
    shutil.copy(tmp_path/'house.navmesh', tmp_path/f'{flat(made).name}.navmesh')
    with Simulator(stage_of(tmp_path/whole.name), render=False): pass                       # the navmesh beside is taken
    with pytest.raises(ValueError, match='radius 0.10 m, asked for 0.30'): Simulator(stage_of(tmp_path/whole.name), body=Body(.3), render=False)
    (tmp_path/f'{flat(made).name}.navmesh').write_text('no navmesh')
    with pytest.raises(ValueError, match='no navmesh that'): Simulator(stage_of(tmp_path/whole.name), render=False)


def test_without_meanings(folder, tmp_path, made, monkeypatch, capsys):
    "A scene whose semantics are missing has pictures, and says so."
    from nl_irl.worlds.scenes import SceneConfig, load_scenes
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path/'cache'))
    name = flat(made).name
    for suffix in ('.glb', '_connectivity.json'): shutil.copy(folder/f'{name}{suffix}', tmp_path)
    stage = {'render_asset': f'{name}.glb', 'up': [0, 1, 0], 'front': [0, 0, -1], 'requires_lighting': False}
    (tmp_path/f'{name}.stage_config.json').write_text(json.dumps(stage))
    with pytest.warns(UserWarning, match='no meaning'): found = load_scenes(tmp_path/f'{name}.glb', SceneConfig(lens=Lens(size=64)))
    assert found.world.labels == ('',) and found.features.views.astype(float).std() > .01 and len(found.strip(found.world.ids[0])) > 1000


def test_an_experiment_runs(folder, tmp_path, made):
    "`nl-irl export` and `nl-irl run ... -p world habitat`, as in the README."
    cli = Path(sys.executable).parent/'nl-irl'
    run = lambda *args: subprocess.run([cli, *map(str, args)], capture_output=True, text=True, cwd=tmp_path)
    made_ = run('export', tmp_path/'scenes', '--count', 1)
    assert made_.returncode == 0, made_.stderr
    learn = ('run', 'imitation', '-p', 'world', 'habitat', '-p')
    done = run(*learn, 'scene', tmp_path/'scenes', '-p', 'episodes', tmp_path/'scenes'/'episodes.json', '--out', tmp_path/'run')
    assert done.returncode == 0, done.stderr[-2000:]
    wrong = run(*learn, 'scene', 'nowhere.glb', '--out', tmp_path/'other')
    assert wrong.returncode and 'nowhere.glb: there is no such scene' in wrong.stderr
