"""Houses that are generated in parts, by several processes, are those that one process generates at once; what is there is not made again."""
import time
from multiprocessing import get_context

import numpy as np
import pytest

from nl_irl.worlds import cache
from nl_irl.worlds.cache import cache_folder, cached, cached_houses, save_folder
from nl_irl.worlds.houses import PRESETS, houses
from nl_irl.worlds.tables import checksum

COUNT = 8                               # of preset tiny


@pytest.fixture
def apart(monkeypatch, tmp_path):
    monkeypatch.setenv('NL_IRL_CACHE', str(tmp_path))
    monkeypatch.setattr(cache, 'SHARD', 3)


def test_parts_make_the_whole(apart):
    assert sum((PRESETS['tiny'].train, PRESETS['tiny'].dev, PRESETS['tiny'].val)) == COUNT
    joined, whole = cached_houses('tiny'), houses('tiny')
    assert checksum(joined.world) == checksum(whole.world)
    assert (joined.splits, joined.trajectories) == (whole.splits, whole.trajectories)
    assert [(h.name, h.rooms, h.doors, h.things) for h in joined.houses] == [(h.name, h.rooms, h.doors, h.things) for h in whole.houses]
    assert not joined.world.view_label.flags.writeable and isinstance(joined.world.view_label.base, np.memmap)
    assert len([f for f in cache_folder().iterdir() if f.is_dir()]) == 4               # three parts, and the tables of all


def test_what_is_there_is_not_made_again_and_damage_is_mended(apart, monkeypatch):
    right = checksum(cached_houses('tiny').world)
    made = []
    monkeypatch.setattr(cache, 'houses', lambda *args, **rest: made.append(rest['part']) or houses(*args, **rest))
    assert checksum(cached_houses('tiny').world) == right and not made
    broken = sorted(cache_folder().glob('*-00003'))[0]/'houses.json'
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.warns(UserWarning, match='houses.json'): assert checksum(cached_houses('tiny').world) == right
    assert made == [slice(3, 6)]


def make_once(log):
    "Build a folder of the cache, slowly, and note that in `log`."
    def build():
        with open(log, 'a') as file: file.write('built\n')
        time.sleep(1)
        return 'made'
    def write(made, folder): save_folder(folder, lambda there: (there/'x.txt').write_text(made))
    return cached('slow', build, write, lambda folder: (folder/'x.txt').read_text())


def test_of_several_processes_one_builds(apart, tmp_path):
    log = tmp_path/'log'
    with get_context('fork').Pool(3) as pool: assert pool.map(make_once, [log] * 3, chunksize=1) == ['made'] * 3
    assert log.read_text() == 'built\n'
