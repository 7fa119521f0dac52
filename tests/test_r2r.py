"""Room-to-Room itself: the official scorer's numbers, the release's counts, and what the tables say about the buildings."""

import json
import os
import time

import networkx as nx
import numpy as np
import pytest

from nl_irl.data import check_parts, data_folder
from nl_irl.scoring import read_submission, score_paths, summary, write_submission
from nl_irl.worlds.boxes import HEADINGS, locate, rays, read_boxes, sightings
from nl_irl.worlds.connectivity import read_buildings
from nl_irl.worlds.r2r import DEV_UNSEEN, episodes, load_r2r, trajectories
from nl_irl.worlds.tables import distance_between, shortest_path

pytestmark = pytest.mark.r2r
OFFICIAL = {'TL': 'length', 'NE': 'nav_error', 'SR': 'success_rate', 'OSR': 'oracle success_rate', 'SPL': 'spl', 'nDTW': 'ndtw', 'SDTW': 'sdtw'}
COUNTS = {'train': (3930, 11790, 11803), 'dev_seen': (280, 840, 841), 'dev_unseen': (465, 1395, 1395), 'train_all': (4675, 14025, 14039),
          'val_seen': (340, 1020, 1021), 'val_unseen': (783, 2349, 2349), 'test': (1391, 4173, 4173)}


@pytest.fixture(scope='module')
def world():
    return load_r2r()


@pytest.fixture(scope='module')
def val_seen(world):
    return episodes(None, 'val_seen', world)


@pytest.fixture(scope='module')
def golden():
    folder = data_folder()/'golden'/'r2r_scorer'
    if not folder.is_dir(): pytest.skip(f'{folder}: no trajectories with scores of the official scorer; they are not part of the release')
    return folder


@pytest.mark.parametrize('agent', ['random', 'noisy', 'shortest'])
def test_scores_of_the_official_scorer(world, val_seen, golden, agent):
    paths = read_submission(golden/f'val_seen_{agent}.json', world, val_seen)
    found, official = summary(score_paths(world, val_seen, paths)), json.loads((golden/f'val_seen_{agent}.scores.json').read_text())
    for name, theirs in OFFICIAL.items(): assert found[name] == pytest.approx(official[theirs], abs=1e-9), name


@pytest.mark.parametrize('split', COUNTS)
def test_counts(world, split):
    paths, official, everything = COUNTS[split]
    found = episodes(None, split, world)
    assert len(trajectories(None, split, world)) == len({e.path_id for e in found}) == paths and len(found) == official
    assert len(episodes(None, split, world, 'all')) == everything
    assert len({e.task.id for e in found}) == official and all(bool(e.path) == (split != 'test') for e in found)


def test_the_release_is_what_it_was():
    assert {f.path: f.state for f in check_parts()} == dict.fromkeys((f.path for f in check_parts()), 'ok')


def test_splits_do_not_overlap(world):
    "dev_unseen shares no building with train, dev_seen no path, and val_unseen nothing with either."
    of = {split: trajectories(None, split, world) for split in COUNTS}
    scans = {split: {t.scan for t in found.values()} for split, found in of.items()}
    assert scans['dev_unseen'] == set(DEV_UNSEEN) and not scans['dev_unseen'] & scans['train'] and scans['dev_seen'] <= scans['train']
    assert not scans['val_unseen'] & scans['train_all'] and not scans['test'] & scans['train_all'] and scans['val_seen'] <= scans['train_all']
    parts = [set(of[s]) for s in ('train', 'dev_seen', 'dev_unseen')]
    assert set().union(*parts) == set(of['train_all']) and sum(map(len, parts)) == len(of['train_all'])


@pytest.mark.parametrize('split', ['val_seen', 'val_unseen'])
def test_shortest_paths_always_succeed(world, split):
    found = episodes(None, split, world)
    paths = [[world.ids[i] for i in shortest_path(world, *world.rows([e.task.start, e.goal]))] for e in found]
    scores = summary(score_paths(world, found, paths))
    assert scores['SR'] == scores['OSR'] == 1 and scores['SPL'] == pytest.approx(1) and scores['NE'] == 0
    assert round(scores['TL'], 2) == {'val_seen': 10.18, 'val_unseen': 9.48}[split]


def test_references_and_staying(world):
    "Demonstrations follow edges; eight references of val_unseen are no shortest paths; who stays at the start is as far away as the field says."
    found = episodes(None, 'val_unseen', world)
    table = score_paths(world, found, [e.path for e in found])
    assert (table.SR == 1).all() and (table.nDTW == 1).all() and table[table.SPL < 1 - 1e-9].path_id.nunique() == 8
    for split, metres in (('val_seen', 10.18), ('val_unseen', 9.48)):
        found = episodes(None, split, world)
        assert round(summary(score_paths(world, found, [[e.task.start] for e in found]))['NE'], 2) == metres


def test_distances_against_networkx(world):
    "All distances of three buildings, to the last digits."
    for building in read_buildings(data_folder()/'connectivity')[::40]:
        graph, position = nx.Graph(), building.scan.position
        for a, b in building.scan.pairs: graph.add_edge(building.scan.ids[a], building.scan.ids[b], weight=float(np.linalg.norm(position[a] - position[b])))
        for start, lengths in nx.all_pairs_dijkstra_path_length(graph):
            ends = list(lengths)
            found = distance_between(world, world.rows([start]), world.rows(ends))
            np.testing.assert_allclose(found, [lengths[e] for e in ends], atol=1e-9)


def test_the_buildings(world):
    assert len(world.scans) == 90 and len(world.ids) == 10567 and world.neighbor.shape[1] == 13
    assert np.isclose((world.neighbor >= 0).sum(), 2 * 21468) and world.distance.dtype == np.float64
    storeys = np.array([world.floor[world.scan == s].max() + 1 for s in range(90)])
    assert storeys.min() == 1 and storeys.max() <= 5 and (storeys > 1).sum() > 45
    climb = np.abs(np.sin(world.edge[..., 1]) * world.edge[..., 2])[world.neighbor >= 0]
    same = (world.floor[:, None] == world.floor[world.neighbor])[world.neighbor >= 0]
    assert climb[same].mean() < 0.15 and climb[~same].mean() > 0.4 and same.mean() > 0.97


def test_view_12_looks_north_and_the_next_to_its_right(world):
    """Rays of the same object from several viewpoints meet only if view 12 + h looks along heading 30 h degrees and rows rise.

    The median angle between a ray and its object's place is 1 degree; a turn by one view, a mirrored circle or upside-down rows spoil it.
    """
    building = [(world.scans[s], i) for s, i in zip(world.scan, world.ids)]
    boxes = read_boxes(data_folder()/'reverie'/'BBox', building)
    best = sightings(boxes)
    origin, object = world.position[boxes.viewpoint[best]].astype(float), boxes.object[best]
    several = np.bincount(object)[object] > 1
    row, heading = np.divmod(boxes.view[best], HEADINGS)

    def spread(row, heading):
        "The median angle in degrees between rays and the direction of what they are said to point at."
        ray = rays(row * HEADINGS + heading % HEADINGS, boxes.rectangle[best])
        to = locate(origin, ray, object, len(boxes.names))[object] - origin
        cosine = (to * ray).sum(1) / np.linalg.norm(to, axis=1)
        return np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1)))[several])

    assert spread(row, heading) < 1.5
    for wrong in (spread(row, heading + 1), spread(row, heading - 1), spread(row, heading + 6), spread(row, -heading), spread(2 - row, heading)):
        assert wrong > 4


def test_object_tables(world):
    "What the tables hold: labels from training buildings, shares of headings where nothing is seen, weights in order."
    assert world.labels[0] == '' and {'bed', 'kitchen', 'couch', 'stair', 'sink'} < set(world.labels) and len(world.labels) == 171
    empty = lambda *tables: 1 - np.any([(t.reshape(-1, 3, HEADINGS, t.shape[-1]) > 0).any((1, 3)) for t in tables], 0).mean()
    assert 0.57 < empty(world.view_label) < 0.61 and empty(world.view_label, world.far_label) < 0.31
    for label, weight in ((world.view_label, world.view_weight), (world.far_label, world.far_weight)):
        assert label.dtype == np.int16 and weight.dtype == np.float16 and 0 <= label.min() and label.max() < len(world.labels)
        assert ((label > 0) == (weight > 0)).all() and (np.diff(weight.astype(np.float32), axis=-1) <= 0).all() and weight.max() <= 1


def test_loading_is_fast(world):
    "From the cache in under 2 CPU-seconds; 2,349 trajectories scored in under 0.3."
    start = time.process_time()
    load_r2r()
    assert time.process_time() - start < 2
    found = episodes(None, 'val_unseen', world)
    paths = [e.path for e in found]
    start = time.process_time()
    score_paths(world, found, paths)
    assert time.process_time() - start < 0.3


def test_submissions_round_trip(world, tmp_path):
    "Also of the test split, whose answer nobody here has; DUET's nested hops are the same paths."
    found = episodes(None, 'test', world)
    paths = [[world.ids[i] for i in shortest_path(world, row, int(world.neighbor[row, 0]))] for row in world.rows(e.task.start for e in found)]
    write_submission(tmp_path/'test.json', world, found, paths)
    assert [list(p) for p in read_submission(tmp_path/'test.json', world, found)] == paths
    records = json.loads((tmp_path/'test.json').read_text())
    assert len(records) == 4173 and records[0]['trajectory'][0] == [found[0].task.start, found[0].task.heading, 0.0]
    nested = [dict(instr_id=e.task.id, trajectory=[p[:1], p[1:]]) for e, p in zip(found, paths)]
    (tmp_path/'nested.json').write_text(json.dumps(nested))
    assert [list(p) for p in read_submission(tmp_path/'nested.json', world, found)] == paths
    with pytest.raises(ValueError, match='4173 of 4173 episodes withhold their answer'): score_paths(world, found, paths)


@pytest.mark.parametrize('change, words', [
    (lambda r: r.pop(7), ['lacks 1 of 1020']),
    (lambda r: r.append(r[7]), ['record 1020', 'came before']),
    (lambda r: r.append(dict(instr_id='757_3', trajectory=[])), ['757_3', 'protocol all']),
    (lambda r: r[7]['trajectory'].pop(0), ['starts at', 'put the start first']),
    (lambda r: r[7]['trajectory'].pop(1), ['there is no edge']),
    (lambda r: r[7].update(trajectory=[]), ['empty path']),
    (lambda r: r[7]['trajectory'][1].__setitem__(0, 'nowhere'), ["'nowhere'", 'no viewpoint']),
    (lambda r: r[7]['trajectory'][1].__setitem__(1, float('nan')), ['record 7', 'heading', 'finite']),
    (lambda r: r[7]['trajectory'].append(3), ['record 7', '3 is no [viewpoint, heading, elevation]'])])
def test_a_bad_submission_is_refused(world, val_seen, golden, tmp_path, change, words):
    records = json.loads((golden/'val_seen_shortest.json').read_text())
    change(records)
    (tmp_path/'bad.json').write_text(json.dumps(records))
    with pytest.raises(ValueError) as error: read_submission(tmp_path/'bad.json', world, val_seen)
    for word in ['bad.json', *words]: assert word in str(error.value), (word, str(error.value))


def test_the_same_tables_in_any_process(world, tmp_path):
    "A second build, in another process, has the same checksum."
    import subprocess
    import sys

    from nl_irl.worlds.tables import checksum

    code = 'from nl_irl.worlds.r2r import load_r2r; from nl_irl.worlds.tables import checksum; print(checksum(load_r2r()))'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=os.environ | {'NL_IRL_CACHE': str(tmp_path)}, check=True)
    assert out.stdout.strip() == checksum(world)
