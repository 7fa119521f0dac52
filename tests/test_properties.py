"""Properties that hold whatever comes: parsers answer or refuse, what is written is read back, metrics keep their order, and a house may turn."""

import json
import shlex

import numpy as np
from hypothesis import assume, example, given, settings, strategies as st
from test_metrics import random_house

from nl_irl.cli import join_pairs
from nl_irl.experiment import Parameter, command_line, settle
from nl_irl.files import brief, read_json, write_json
from nl_irl.language.grammar import read
from nl_irl.language.sentences import parse
from nl_irl.runs import read_lines
from nl_irl.scoring import read_submission, score_paths, write_submission
from nl_irl.sweeps import read_yaml
from nl_irl.text import SPECIAL, build_vocabulary, detokenize, tokenize
from nl_irl.types import Episode, Task
from nl_irl.worlds.floorplans import AREA, Plan, read_plan, turn_plan
from nl_irl.worlds.mirror import mirror_text
from nl_irl.worlds.tables import Scan, assemble

few, many = settings(max_examples=60, deadline=None), settings(max_examples=300, deadline=None)


# Words

KNOWN = '''go to the turn left right bedroom kitchen bed red chair , . then and stop in front of beside walk past a door hallway second on your into out up
leave straight'''.split()
said = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(KNOWN), max_size=60).map(' '.join))


@many
@given(said)
@example('turn left and ' * 500)
@example('the ' * 5000)
def test_a_sentence_means_a_program_or_nothing(text):
    meaning = parse(text)
    assert meaning is None or read(str(meaning)) == meaning


@many
@given(st.one_of(st.text(max_size=80), st.text('abc(), ', max_size=40)))
@example('a(' * 5000 + ')' * 5000)
@example('a(b')
def test_a_program_reads_back_or_is_refused(text):
    try: assert str(read(text)) == text
    except ValueError as error: assert 'program' in str(error)


@many
@given(st.text(max_size=200))
def test_words_are_put_together_and_taken_apart(text):
    words = tokenize(text)
    assert tokenize(detokenize(words)) == words
    vocabulary = build_vocabulary([text])
    assert vocabulary.words[:len(SPECIAL)] == SPECIAL and set(vocabulary.words[len(SPECIAL):]) == set(words)
    assert vocabulary.decode(vocabulary.encode([text])) == [detokenize(words) if words else '<unk>']


TURNING = 'turn to your left right Left RIGHT hand side of the clockwise counterclockwise lefthand rightmost there , .'.split()


@many
@given(st.lists(st.sampled_from(TURNING), max_size=30))
def test_a_mirror_of_a_mirror_says_the_same(words):
    text = ' '.join(words)
    assume('RIGHT' not in text and not set(words) & {'there', ','})       # "right there" is no side; capitals are kept as a title's
    assert mirror_text(mirror_text(text)) == text


# Plans

@few
@given(st.text('AB. \n', min_size=1, max_size=40), st.dictionaries(st.sampled_from('ABC'), st.sampled_from([*AREA, 'hallway', 'sauna', '']), max_size=3),
       st.lists(st.text('ABC', max_size=3), max_size=3), st.sampled_from([1., .5, 0., -1., 1e9]))
def test_a_drawing_is_a_plan_or_refused(drawing, kinds, doors, cell):
    try: plan = read_plan(drawing, kinds, doors, cell=cell, rng=np.random.default_rng(0))
    except ValueError: return
    assert isinstance(plan, Plan) and len(plan.rooms) == len(kinds) and len(plan.doors) == len(doors)


DRAWING, KINDS, DOORS = 'HHHHHH\nBBBKKK\nBBBKKK\nBBBKKK', {'H': 'hallway', 'B': 'bedroom', 'K': 'kitchen'}, ['HB', 'HK']


def measures(plan):
    "What turning must not change: kinds and doors of rooms; their sizes and how far doors are apart, to a centimetre or two."
    sizes = [sorted(r.bounds[k + 2] - r.bounds[k] for k in (0, 1)) for r in plan.rooms]
    apart = [np.linalg.norm(np.subtract(a.position, b.position)) for a in plan.doors for b in plan.doors]
    return [r.kind for r in plan.rooms] + [d.rooms for d in plan.doors], np.concatenate([np.ravel(sizes), apart])


def alike(a, b): return measures(a)[0] == measures(b)[0] and np.allclose(measures(a)[1], measures(b)[1], atol=.04)


@few
@given(st.integers(0, 7), st.booleans(), st.integers(0, 2 ** 32 - 1))
def test_a_turned_plan_is_the_same_house(quarter, mirror, seed):
    plan = read_plan(DRAWING, KINDS, DOORS, rng=np.random.default_rng(seed))
    turned = turn_plan(plan, quarter, mirror)
    assert alike(turned, plan) and min(min(r.bounds) for r in turned.rooms) == 0
    back = turned
    for _ in range(quarter % 4): back = turn_plan(back, 3, False)
    assert alike(turn_plan(back, 0, mirror), plan)


# Metrics

def journeys(seed):
    "A world, some episodes in it, and a walk for each that may stand still or turn back."
    rng, graph, _, world = random_house(seed)
    walk = lambda start, most: [start] + [start := int(rng.choice([*graph[start], start])) for _ in range(rng.integers(most))]
    starts = rng.integers(len(world.ids), size=5)
    once = lambda path: tuple(str(p) for k, p in enumerate(path) if k == 0 or p != path[k - 1])
    episodes = [Episode(Task(f'{k}_0', 'h', str(s), float(rng.uniform(-7, 7)), 'Go.'), once(walk(int(s), 6))) for k, s in enumerate(starts)]
    return rng, world, episodes, [once(walk(int(s), 9)) for s in starts]


def moved(world, position, order):
    "The same house elsewhere: places at `position`, in another `order` of the tables."
    pairs = np.argwhere(world.neighbor >= 0)
    pairs = np.column_stack([pairs[:, 0], world.neighbor[pairs[:, 0], pairs[:, 1]]])
    place = np.argsort(order)
    return assemble('moved', [Scan('h', [world.ids[k] for k in order], position[order], np.zeros(len(order)), place[pairs])], [''],
                    (world.view_label[order], world.view_weight[order]))


seeds = st.integers(0, 2 ** 32 - 1)


@few
@given(seeds)
def test_metrics_keep_their_order(seed):
    _, world, episodes, paths = journeys(seed)
    found = score_paths(world, episodes, paths)
    for name in ('SR', 'OSR', 'SPL', 'nDTW', 'SDTW', 'CLS'): assert found[name].between(0, 1).all(), name
    assert (found.SPL <= found.SR).all() and (found.SR <= found.OSR).all() and (found.SDTW <= found.nDTW).all() and (found.SDTW <= found.SR).all()
    assert (found.TL >= 0).all() and (found.NE >= 0).all()


@few
@given(seeds, st.floats(0, 2 * np.pi), st.booleans())
def test_a_house_that_is_turned_mirrored_or_listed_otherwise_scores_the_same(seed, angle, mirror):
    rng, world, episodes, paths = journeys(seed)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) * [-1 if mirror else 1, 1, 1]
    other = moved(world, world.position @ turn.T + rng.uniform(-50, 50, 3), rng.permutation(len(world.ids)))
    a, b = score_paths(world, episodes, paths), score_paths(other, episodes, paths)
    near = (np.abs(a.NE - 3) < 1e-3).to_numpy()                           # rounding may decide there whether it arrived
    for name in ('TL', 'NE', 'SR', 'SPL', 'nDTW', 'SDTW', 'CLS'): assert np.allclose(a[name][~near], b[name][~near], atol=1e-3), name


@few
@given(seeds)
def test_stopping_at_the_goal_never_scores_less_than_stopping_before(seed):
    _, world, episodes, _ = journeys(seed)
    whole, part = (score_paths(world, episodes, [e.path[:n or None] for e in episodes]) for n in (0, 1))
    assert (whole.SR == 1).all() and (whole.nDTW >= part.nDTW - 1e-12).all() and (whole.OSR >= part.OSR).all()


@few
@given(seeds)
def test_a_submission_is_read_as_it_was_written(tmp_path_factory, seed):
    _, world, episodes, paths = journeys(seed)
    file = tmp_path_factory.mktemp('s')/'s.json'
    write_submission(file, world, episodes, paths)
    assert read_submission(file, world, episodes) == paths
    heading = [trajectory['trajectory'][0][1] for trajectory in json.loads(file.read_text())]
    assert np.allclose(heading, [e.task.heading for e in episodes])


# Parameters and files

value = st.one_of(st.booleans(), st.integers(-10 ** 9, 10 ** 9), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20))


@many
@given(st.dictionaries(st.sampled_from('abcdef'), value, max_size=5))
def test_a_command_spells_its_parameters(given_values):
    "What `command_line` writes is read back by the command line, whatever is in a text."
    known = {name: Parameter(name, type(v)()) for name, v in given_values.items()}
    words = join_pairs(shlex.split(command_line({'experiment': 'toy', 'parameters': given_values}, 'out'))[1:])
    pairs = [words[k + 1].split('=', 1) for k, w in enumerate(words) if w == '-p' and k + 1 < len(words)]
    assume('-p' not in given_values.values())
    assert settle(known, {name: known[name].parse(text) for name, text in pairs}, 'toy') == given_values


@many
@given(st.sampled_from([0, 0., True, (), [], {}, None, '']), st.text(max_size=60))
@example(0, '(' * 5000)
@example(0, '1' * 5000)
def test_any_text_is_a_parameter_or_refused(default, text):
    try: found = Parameter('x', default).parse(text)
    except ValueError: return
    assert default is None or type(found) is type(default)


JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)),
                    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5), max_leaves=20)


@few
@given(JSON)
def test_json_is_read_as_it_was_written(tmp_path_factory, content):
    file = tmp_path_factory.mktemp('j')/'x.json'
    write_json(file, content)
    assert read_json(file) == content and len(brief(content)) <= 80


@few
@given(st.binary(max_size=60))
def test_any_bytes_are_values_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp('b')/'x'
    file.write_bytes(content)
    for reader in (read_json, read_yaml, lambda path: read_lines(path, ['step'])):
        try: reader(file)
        except ValueError as error: assert str(file) in str(error)


YAML = st.text('ab:-[]{},&*!|>#"\' \n0123456789.~<=%@', max_size=60)


@many
@given(YAML)
@example('a: &b [*b]')
@example('!!timestamp x')
@example('!!float ""')
@example('!!set {1, 2}')
@example('<<: [1]')
@example('=')
def test_any_yaml_is_values_or_refused(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp()/'x.yaml'
    file.write_text(text)
    try: read_yaml(file)
    except ValueError as error: assert str(file) in str(error) and '\n' not in str(error)
