"""What becomes of a scene, without a simulator: on answers that habitat-sim gave once (`python tests/test_scenes.py` asks anew), and where it is missing."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from nl_irl.worlds import simulator
from nl_irl.worlds.scenes import SceneConfig, graph_of, parts, photograph, world_of_shots
from nl_irl.worlds.simulator import Lens, Simulator

FILE = Path(__file__).parent/'recorded'/'scene.npz'
CONFIG = SceneConfig(spacing=2., reach=4., lens=Lens(size=16))
NUMBERS = ('floor', 'snap', 'clearance', 'straight', 'panorama')


class Recording(Simulator):
    "A simulator whose answers are kept."
    def __init__(self, *what, **how):
        self.kept = {}
        super().__init__(*what, **how)

    def ask(self, what, *args):
        answer = super().ask(what, *args)
        if what.__name__.removeprefix('_') in NUMBERS:
            name = f"{len(self.kept):03}{what.__name__}"
            self.kept[name] = answer if not isinstance(answer, dict) else np.concatenate([answer['rgb'], answer['semantic'][..., None].astype(np.uint8)], -1)
        return answer


class Replay(Simulator):
    "Those answers, in their order."
    def __init__(self, file: Path):
        with np.load(file, allow_pickle=False) as kept: found = {name: kept[name] for name in kept}
        self.scene, self.lens, self.areas, self.heights = 'recorded.glb', CONFIG.lens, found.pop('areas').tolist(), found.pop('heights').tolist()
        self.meanings = {int(k): str(name) for k, name in zip(*(found.pop(n) for n in ('numbers', 'names')))}
        self.answers = iter(sorted(found.items()))

    def ask(self, what, *args):
        name, answer = next(self.answers)
        assert name.endswith(what.__name__), f'{what.__name__} is asked where {name} was recorded; record anew'
        return {'rgb': answer[..., :3], 'semantic': answer[..., 3].astype(np.uint32)} if what.__name__ == '_panorama' else answer


@pytest.fixture(scope='module')
def shot(): return photograph(Replay(FILE), CONFIG, 'recorded')


def test_a_graph_over_a_navmesh(shot):
    scan = shot.scan
    a, b = scan.pairs.T
    length = np.linalg.norm(scan.position[a] - scan.position[b], axis=-1)
    assert len(scan.ids) > 8 and set(parts(scan.pairs, len(scan.ids))) == {0} and length.max() < CONFIG.reach and set(scan.floor) == {0}
    assert {(i, j) for i, j in scan.pairs.tolist()} == {(j, i) for i, j in scan.pairs.tolist()}
    assert np.array_equal(graph_of(Replay(FILE), CONFIG, 'recorded').position, scan.position)


def test_what_is_seen_becomes_labels(shot):
    world = world_of_shots([shot], 'scenes', 12)
    assert {'door', 'car', 'sofa', 'painting'} < set(world.labels) and not {'unknown', 'wall', 'floor', 'ceiling'} & set(world.labels)
    label, weight = world.view_label.reshape(-1, 3, 12, 12), world.view_weight.astype(float).reshape(-1, 3, 12, 12)
    rug, window = ([(weight * (label == world.labels.index(name)))[:, row].sum() for row in range(3)] for name in ('rug', 'window'))
    assert rug[0] > rug[1] and rug[2] == 0 and window[1] > max(window[0], window[2])                       # one looks down on a rug, and straight at a window
    assert shot.features.shape == (len(shot.scan.ids), 36, 112) and len(shot.strips) == len(shot.scan.ids)


def test_without_habitat(monkeypatch, tmp_path):
    "One sentence says what to run, and everything else goes on."
    monkeypatch.setattr(simulator, 'there_is_habitat', lambda: False)
    with pytest.raises(ValueError, match='conda install -c conda-forge -c aihabitat-nightly habitat-sim'): Simulator(tmp_path/'house.glb')
    assert 'conda install' in simulator.drawing_fault()
    for system, words in (('Linux', 'headless'), ('Darwin', 'habitat-sim'), ('Windows', 'WSL')):
        monkeypatch.setattr(simulator.platform, 'system', lambda system=system: system)
        assert words in simulator.how_to_get() and ('headless' in simulator.how_to_get()) == (system != 'Darwin')


def test_what_ends_the_other_process_is_an_error_here(tmp_path):
    "Its last words are told, and this process lives on."
    other = simulator.Other()
    other.log.write_text('cannot find EGL\n')
    other.process.kill()
    with pytest.raises(ValueError, match=r'ended its process \(cannot find EGL; drawing needs EGL: apt-get install libegl1'): other.ask(simulator._floor, 0)
    other.close()
    other = simulator.Other()
    with pytest.raises(ValueError, match="KeyError: 'finder'"): other.ask(simulator._floor, 0)
    other.close()
    assert not other.log.exists()


def test_missing_scene(tmp_path):
    command = [Path(sys.executable).parent/'nl-irl', 'run', 'imitation', '-p', 'world', 'habitat', '-p', 'scene', 'nowhere.glb', '--out', tmp_path/'run']
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode and 'nowhere.glb: there is no such scene; name a GLB, a folder of them, or a .scene_dataset_config.json' in done.stderr
    assert 'Traceback' not in done.stderr


if __name__ == '__main__':
    from nl_irl.worlds.cache import cached_houses
    from nl_irl.worlds.mesh import export_glb
    from nl_irl.worlds.scenes import stage_of
    with tempfile.TemporaryDirectory() as folder:
        scene = export_glb(cached_houses('tiny').houses[0], folder)
        scene.with_name('house000_connectivity.json').unlink()
        with Recording(stage_of(scene), lens=CONFIG.lens, pictures=('rgb', 'semantic')) as sim:
            photograph(sim, CONFIG, 'recorded')
            FILE.parent.mkdir(exist_ok=True)
            np.savez_compressed(FILE, **sim.kept, areas=sim.areas, heights=sim.heights, numbers=list(sim.meanings), names=list(sim.meanings.values()))
    print(FILE, FILE.stat().st_size)
