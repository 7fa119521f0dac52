"Properties of generated houses: what a person who walks through one takes for granted."
import os
import subprocess
import sys
from collections import Counter

import networkx as nx
import numpy as np
import pytest

from nl_irl.worlds.floorplans import FLOOR_HEIGHT, shared_wall
from nl_irl.worlds.furniture import CATALOGUE, COLOURS, PALETTES, SIZES
from nl_irl.worlds.sight import LABELS, RANGE, TOP, generate_house, hidden, keep_top, view_weights, wall_axis, walls_of, world_of
from nl_irl.worlds.tables import checksum, view_index


@pytest.fixture(scope='module')
def houses():
    return [generate_house(f'h{k}', rng=np.random.default_rng([2026, k])) for k in range(60)]


def test_houses_look_like_homes(houses):
    kinds = [Counter(r.kind for r in h.rooms) for h in houses]
    assert all({'hallway', 'living room', 'kitchen', 'bathroom', 'bedroom'} <= set(k) for k in kinds)
    assert len(set().union(*kinds)) >= 15
    assert min(len(h.rooms) for h in houses) >= 6 and len({len(h.rooms) for h in houses}) > 6
    assert 0.15 < np.mean([h.floor.max() for h in houses]) < 0.55
    assert all(h.rooms[0].kind == 'hallway' for h in houses)


def test_some_rooms_are_reached_only_through_others(houses):
    through = [h for h in houses if any(all(h.rooms[a].kind != 'hallway' for a, b in (d.rooms for d in h.doors) if b == k)
                                        for k, r in enumerate(h.rooms) if r.kind != 'hallway')]
    assert len(through) > len(houses) / 2


def test_rooms_do_not_overlap_and_are_no_slivers(houses):
    for h in houses:
        for i, a in enumerate(h.rooms):
            (x0, y0, x1, y1) = a.bounds
            assert min(x1 - x0, y1 - y0) >= 1.2, (h.name, a)
            for b in h.rooms[:i]:
                wide, deep = min(x1, b.bounds[2]) - max(x0, b.bounds[0]), min(y1, b.bounds[3]) - max(y0, b.bounds[1])
                assert a.floor != b.floor or wide < 1e-6 or deep < 1e-6, (h.name, a, b)


def test_doors_lie_in_the_wall_of_their_rooms(houses):
    for h in houses:
        for door in h.doors:
            a, b = (h.rooms[k] for k in door.rooms)
            axis, at, low, high = shared_wall(a.bounds, b.bounds)
            along = door.position[1 - axis]
            assert a.floor == b.floor and door.position[2] == FLOOR_HEIGHT * a.floor and axis == wall_axis(door, h.rooms)
            assert door.position[axis] == pytest.approx(at) and low - 0.01 <= along - door.width / 2 and along + door.width / 2 <= high + 0.01, (h.name, door)


def test_viewpoints_stand_in_their_rooms_and_are_all_connected(houses):
    for h in houses:
        bounds = np.array([h.rooms[k].bounds for k in h.room])
        assert ((h.position[:, :2] > bounds[:, :2]) & (h.position[:, :2] < bounds[:, 2:])).all(), h.name
        assert set(h.room.tolist()) == set(range(len(h.rooms))), h.name
        assert nx.is_connected(nx.Graph(h.pairs.tolist())), h.name
        assert {tuple(p) for p in h.pairs.tolist()} == {tuple(p) for p in h.pairs[:, ::-1].tolist()} and (h.pairs[:, 0] != h.pairs[:, 1]).all()
        assert np.bincount(h.pairs[:, 0]).max() <= 12
        flat = [k for k, r in enumerate(h.rooms) if r.kind not in ('stairs', 'landing')]
        assert np.allclose(h.position[np.isin(h.room, flat), 2], FLOOR_HEIGHT * h.floor[np.isin(h.room, flat)])


def test_moves_go_through_doors_only(houses):
    for h in houses:
        linked = {frozenset(d.rooms) for d in h.doors}
        for a, b in h.pairs.tolist():
            rooms = h.rooms[h.room[a]], h.rooms[h.room[b]]
            if rooms[0].floor != rooms[1].floor:
                assert {r.kind for r in rooms} == {'stairs', 'landing'}, h.name
                continue
            assert rooms[0] is rooms[1] or frozenset((h.room[a], h.room[b])) in linked, (h.name, rooms)
            assert not hidden(h.position[[a]], h.position[[b]], walls_of(h.rooms, h.doors, rooms[0].floor)).any(), (h.name, a, b)


def test_stairs_climb_in_clear_steps(houses):
    for h in houses:
        rise = h.position[h.pairs[:, 1], 2] - h.position[h.pairs[:, 0], 2]
        run = np.linalg.norm((h.position[h.pairs[:, 1]] - h.position[h.pairs[:, 0]])[:, :2], axis=-1)
        slope = np.degrees(np.arctan2(rise, run))
        assert (rise != 0).any() == (h.floor.max() == 1)
        assert ((rise == 0) | ((np.abs(slope) > 15) & (np.abs(slope) < 45))).all(), h.name
        assert len(np.unique(h.position[:, 2])) == (5 if h.floor.max() else 1)


def test_moves_are_about_two_metres(houses):
    length = np.concatenate([np.linalg.norm(h.position[h.pairs[:, 0]] - h.position[h.pairs[:, 1]], axis=-1) for h in houses])
    assert 1.5 < length.mean() < 2.5 and np.percentile(length, 99.5) < 3.5 and length.max() < 6
    assert 2.5 < np.mean([len(h.pairs) / len(h.position) for h in houses]) < 5
    assert all(20 <= len(h.position) <= 130 for h in houses)


def test_things_stay_in_their_rooms_apart_and_clear_of_doors(houses):
    for h in houses:
        low = np.array([np.subtract(t.position, np.array(t.extent) / 2) for t in h.things])
        high = np.array([np.add(t.position, np.array(t.extent) / 2) for t in h.things])
        bounds = np.array([h.rooms[t.room].bounds for t in h.things])
        assert (low[:, :2] >= bounds[:, :2] - 0.01).all() and (high[:, :2] <= bounds[:, 2:] + 0.01).all(), h.name
        overlap = ((low[:, None] < high - 0.003) & (low < high[:, None] - 0.003)).all(-1)
        assert overlap.sum() == len(h.things), h.name
        for door in h.doors:
            near = (np.abs((low + high)[:, :2] / 2 - door.position[:2]) < (high - low)[:, :2] / 2 + 0.3).all(-1)
            blocking = near & (low[:, 2] < door.position[2] + 2) & (high[:, 2] > door.position[2] + 0.02)
            assert not blocking.any(), (h.name, door, [h.things[k] for k in np.flatnonzero(blocking)])


def test_no_one_stands_in_furniture(houses):
    inside = total = 0
    for h in houses:
        floor = [t for t in h.things if CATALOGUE[t.category].how in ('wall', 'middle', 'round')]
        centre, half = np.array([t.position[:2] for t in floor]), np.array([t.extent[:2] for t in floor]) / 2
        rooms = np.array([t.room for t in floor])
        inside += ((np.abs(h.position[:, None, :2] - centre) < half).all(-1) & (h.room[:, None] == rooms)).any(1).sum()
        total += len(h.position)
    assert inside <= 0.002 * total


def test_words_of_things_come_from_the_catalogue(houses):
    for h in houses:
        for t in h.things:
            kind = CATALOGUE[t.category]
            assert t.colour in PALETTES[kind.palette] and (t.size == '' or kind.sizes)
    assert len({t.category for h in houses for t in h.things}) >= 60 and {t.colour for h in houses for t in h.things} == {'', *COLOURS}
    assert {t.size for h in houses for t in h.things} == {'', *SIZES}


def test_rooms_of_one_kind_differ(houses):
    for h in houses:
        beds = [t.colour for t in h.things if t.category == 'bed']
        assert len(set(beds)) == min(len(beds), len(COLOURS)), h.name
        contents = [(r.kind, frozenset((t.category, t.colour, t.size) for t in h.things if t.room == k)) for k, r in enumerate(h.rooms) if r.kind == 'bedroom']
        assert len(set(contents)) == len(contents), h.name


def test_sight_is_what_rays_say(houses):
    """Against a plain walk along the ray in 2 cm steps, which asks of every step across a wall whether it was through an opening."""
    rng = np.random.default_rng(0)
    for h in houses[:8]:
        for v, t in zip(rng.integers(len(h.position), size=60), rng.integers(len(h.things), size=60)):
            floor, thing = h.floor[v], h.things[t]
            if h.rooms[thing.room].floor != floor:
                assert not h.sees[v, t]
                continue
            ray = h.position[v, :2] + np.linspace(0, 1, 2000)[:, None] * (np.array(thing.position[:2]) - h.position[v, :2])
            rooms = np.full(len(ray), -1)
            for k, r in enumerate(h.rooms):
                if r.floor == floor: rooms[((ray >= r.bounds[:2]) & (ray <= r.bounds[2:])).all(1)] = k
            change = np.flatnonzero(np.diff(rooms))
            through = [[d for d in h.doors if set(d.rooms) == {rooms[i], rooms[i + 1]}] for i in change]
            margins = [max((d.width / 2 - np.abs(ray[i] - d.position[:2]).max() for d in doors), default=-9) for i, doors in zip(change, through)]
            if any(abs(m) < 0.03 for m in margins): continue                                 # too close to a door post to tell
            assert h.sees[v, t] == all(m > 0 for m in margins), (h.name, v, thing)


def test_panoramas_show_what_is_near_and_in_sight(houses):
    h = houses[0]
    table, index = view_weights(h), {name: k for k, name in enumerate(LABELS)}
    for v in range(len(h.position)):
        near = np.array([np.hypot(*np.subtract(t.position, h.position[v])[:2]) < RANGE for t in h.things]) & h.sees[v]
        names = {n for t, s in zip(h.things, near) if s for n in (t.category, t.colour, t.size)}
        shown = {LABELS[k] for k in np.flatnonzero(table[v].max(0))} - {'door', 'archway', 'stairs'}
        assert shown <= names
        for t in (t for t, s in zip(h.things, near) if s and sorted(t.extent)[1] > 0.4):
            x, y, z = np.subtract(t.position, h.position[v]) - [0, 0, 1.5]
            view = view_index(np.arctan2(x, y), np.clip(np.arctan2(z, max(np.hypot(x, y), 0.4)), -0.7, 0.7))
            assert table[v, view, index[t.category]] > 0, (h.name, v, t)
    assert 0 <= table.min() and table.max() <= 1


def test_a_quarter_turn_turns_the_headings():
    """The weights are a function of relative geometry: turning a house by 90 degrees shifts its views by three headings."""
    import dataclasses
    h = generate_house('h', rng=np.random.default_rng(5))
    place = lambda p: (-p[1], p[0], *p[2:])
    turned = dataclasses.replace(
        h, rooms=tuple(dataclasses.replace(r, bounds=(-r.bounds[3], r.bounds[0], -r.bounds[1], r.bounds[2])) for r in h.rooms),
        doors=tuple(dataclasses.replace(d, position=place(d.position)) for d in h.doors),
        things=tuple(dataclasses.replace(t, position=place(t.position), extent=(t.extent[1], t.extent[0], t.extent[2])) for t in h.things),
        position=np.stack([-h.position[:, 1], h.position[:, 0], h.position[:, 2]], -1))
    a, b = (view_weights(x).reshape(len(h.position), 3, 12, -1) for x in (h, turned))
    assert np.allclose(np.roll(a, -3, axis=2), b, atol=1e-5)                                 # +x turns to +y: headings lose 90 degrees


def test_truncation_loses_little(houses):
    full = [view_weights(h) for h in houses[:20]]
    kept = sum(keep_top(table, TOP)[1].astype(float).sum() for table in full)
    assert kept > 0.995 * sum(table.sum() for table in full)


def test_a_world_of_houses_has_a_fixed_label_list(houses):
    one, two = world_of(houses[:1], 'a'), world_of(houses[1:4], 'b')
    assert one.labels == two.labels == LABELS and LABELS[0] == '' and one.far_label is None
    assert one.view_label.dtype == np.int16 and one.view_weight.dtype == np.float16 and two.view_label.shape[1:] == (36, TOP)
    assert np.isfinite(two.distance).all() and two.neighbor.shape[1] <= 12


def test_the_same_seed_gives_the_same_bytes_in_any_process(houses):
    script = ("import numpy as np\nfrom nl_irl.worlds.sight import generate_house, world_of\nfrom nl_irl.worlds.tables import checksum\n"
              "print(checksum(world_of([generate_house(f'h{k}', rng=np.random.default_rng([2026, k])) for k in range(6)], 'six')))")
    for salt in ('1', '77'):
        run = subprocess.run([sys.executable, '-c', script], env={**os.environ, 'PYTHONHASHSEED': salt}, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == checksum(world_of(houses[:6], 'six'))
