"""Adversarial learning: the two traps of episodes that end, what is kept over a restart, what may enter the buffer, and degenerate demonstrations."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nl_irl.adversarial import Adversarial, AdversarialConfig, mismatched, sample
from nl_irl.batches import COMMANDED, RELABELLED, Batch, batch_of, stack
from nl_irl.benchmarks import load_benchmark, settings
from nl_irl.environment import STOP, Environment
from nl_irl.language.sentences import sentence
from nl_irl.models.discriminator import PAY, Walks, lift, log_policy, step_reward, watch
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.replay import AdmissionRule, Replay, admit, provenance
from nl_irl.rollout import Questions, rollout
from nl_irl.soft_control import bellman, soft_values, successors
from nl_irl.text import UNKNOWN, build_vocabulary
from nl_irl.training import pack_state, unpack_state
from nl_irl.types import Episode, Task
from nl_irl.worlds.describe import Guide, describe_route
from nl_irl.worlds.programs import walk_of
from nl_irl.worlds.tables import Scan, assemble


pytestmark = pytest.mark.usefixtures('one_thread')


# %% the traps, with tables in place of networks: a corridor of six, demonstrators walk two moves and stop

CORRIDOR = torch.tensor([[i - 1, i + 1 if i < 5 else -1] for i in range(6)])
OPEN = torch.cat([torch.ones(6, 1, dtype=torch.bool), CORRIDOR >= 0], 1)
THERE, HORIZON, DISCOUNT = successors(CORRIDOR), 12, .9


def visits(log_pi):
    "(6, 3) how often each step is made in HORIZON steps from the first place, and how many steps there are after STOP."
    here, made = F.one_hot(torch.tensor(0), 6).float(), torch.zeros(6, 3)
    for _ in range(HORIZON):
        step = here[:, None] * log_pi.exp()
        made += step
        here = torch.zeros(6).index_add(0, THERE[:, 1:].flatten().clamp(min=0), step[:, 1:].flatten())
    return made, HORIZON - made.sum()


EXPERT = torch.full((6, 3), -torch.inf)
for place in range(6): EXPERT[place, 2 if place < 2 else STOP if place == 2 else 1] = 0.


def play(form, ends, rounds=200):
    "The policy's steps after so many rounds of a discriminator's step and a soft-optimal policy; without `ends` rewards are taken as they are."
    f, after, mean = torch.zeros(6, 3), torch.zeros(()), torch.zeros(6, 3)
    for k in range(rounds):
        reward = step_reward(f, after, form) if ends else PAY[form](f)
        log_pi = soft_values(reward.masked_fill(~OPEN, -torch.inf), THERE, discount=DISCOUNT, alpha=.1)[1]
        (right, right_end), (wrong, wrong_end) = visits(EXPERT), visits(log_pi)
        d, d_end = torch.sigmoid(f), torch.sigmoid(after)
        f = (f + .1 * (right * (1 - d) - wrong * d)).clamp(-3, 3)                                # gradient of log D and log (1 - D)
        after = (after + .1 * (right_end * (1 - d_end) - wrong_end * d_end)).clamp(-3, 3)
        if k >= rounds // 2: mean += wrong / (rounds - rounds // 2)
    return mean


def test_rewards_that_are_never_negative_pay_for_wandering():
    naive, whole = play('gail', ends=False), play('gail', ends=True)
    assert play('gail', ends=False, rounds=1).sum() > 11.9 and naive.sum() > 10 and naive[2, STOP] < .5          # it wanders, and learning does not cure it
    assert abs(whole.sum() - 3) < .3 and whole[2, STOP] > .85


def test_rewards_that_are_never_positive_pay_for_stopping_at_once():
    naive, whole = play('log d', ends=False), play('log d', ends=True)
    early = lambda steps: steps[:2, STOP].sum()
    assert play('log d', ends=False, rounds=1).sum() < 1.1 and early(naive) > .15                                # it stops at once, and later too often
    assert abs(whole.sum() - 3) < .3 and whole[2, STOP] > .85 and early(whole) < early(naive) / 2


def test_a_cut_is_no_end():
    "Without STOP the state after the last move is worth what it is worth, and the last move itself is not learned from."
    action, target = torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, -1]])
    walks = Walks(Batch(*[None] * 3, action, target), *[None] * 4)
    aim, known = bellman(torch.zeros(2, 3), torch.full((2, 3), 7.), walks, 1.)
    assert aim[known].tolist() == [7, 7, 7, 0] and known[0].tolist() == [True, True, False] and walks.stopped.tolist() == [False, True]


# %% on a house of five places, and its mirror image

PLACE = np.array([[0, 0, 0], [0, 4, 0], [4, 4, 0], [-4, 4, 0], [0, 8, 0]], float)
PAIRS = np.array([[0, 1], [1, 2], [1, 3], [1, 4]])
TEXTS = ['go to the bed', 'find the desk', 'walk to the lamp']
GOALS = {'g': (2, 3, 4), 'h': (3, 2, 4)}


def toy_world():
    views = np.zeros((10, 36, 1), np.int16), np.zeros((10, 36, 1), np.float16)
    for there, label in ((2, 1), (3, 2), (4, 3), (7, 2), (8, 1), (9, 3)): views[0][there, 12:24], views[1][there, 12:24] = label, .8
    scans = [Scan(name, [f'{name}{k}' for k in range(5)], PLACE, np.zeros(5), np.concatenate([PAIRS, PAIRS[:, ::-1]])) for name in 'gh']
    return assemble('toy', scans, ['', 'bed', 'desk', 'lamp'], views)


TOY, VOCABULARY = toy_world(), build_vocabulary(TEXTS)
EPISODES = [Episode(Task(f'{name}{k}_0', name, f'{name}0', 0.0, text), (f'{name}0', f'{name}1', f'{name}{GOALS[name][k]}'))
            for name in 'gh' for k, text in enumerate(TEXTS)]
ENV, DATA = Environment(TOY, top=1), batch_of(TOY, EPISODES, VOCABULARY)
ENDS = {TOY.rows([e.goal])[0]: DATA.tokens[i] for i, e in enumerate(EPISODES)}
SMALL = AdversarialConfig(updates=60, warmup=5, houses=2, each=3, horizon=6, buffer=32, admission=AdmissionRule(begin=0., full=.1, most=1.))


def say_where(walks):
    "The sentence of the goal where each walk ends."
    ends = walks.viewpoint[:, -1].tolist()
    return walks._replace(tokens=torch.stack([ENDS.get(v, DATA.tokens[0]) for v in ends])), torch.tensor([0. if v in ENDS else -torch.inf for v in ends])


def small_policy(seed=0, dropout=0.):
    torch.manual_seed(seed)
    return Policy(PolicyConfig(words=len(VOCABULARY), labels=4, width=32, word_width=16, label_width=8, dropout=dropout, label_dropout=0.))


def learner(seed=0, data=DATA, dropout=0., relabel=say_where, **settings_):
    return Adversarial(small_policy(seed, dropout), ENV, data, replace(SMALL, **settings_), relabel=relabel, rng=np.random.default_rng(seed),
                       generator=torch.Generator().manual_seed(seed))


def one(batch, k=0): return Batch(*(x[k:k + 1] for x in batch))


@pytest.mark.parametrize('settings_', [dict(), dict(form='gail', alpha=.1)], ids=['airl', 'gail'])
def test_a_weak_policy_improves_and_demonstrations_rank_first(settings_):
    asked, before, after = Questions(DATA.tokens, DATA.viewpoint[:, 0].numpy(), DATA.heading[:, 0].numpy()), 0, 0
    arrived = lambda policy: sum(p[-1] == goal for p, goal in zip(rollout(policy, ENV, asked, horizon=6).paths, DATA.viewpoint[:, -1].tolist()))
    for seed in range(3):
        learning = learner(seed, updates=60, rate=1e-2, judge_rate=1e-2, ceiling=.95, improvement='tree', moves=3, **settings_)
        before += arrived(learning.actor.policy)
        for _ in range(60): learning.update()
        after += arrived(learning.actor.policy)
    wrong = mismatched(TOY, DATA, rng=np.random.default_rng(0))
    assert after >= 10 and after >= 2 * before                                        # of 18
    assert (learning.judging.mean_reward(DATA) > learning.judging.mean_reward(wrong)).all()


@pytest.mark.parametrize('improvement', ['sac', 'tree'])
def test_killed_and_resumed_it_goes_on_with_the_same_bits(improvement):
    first, second = (learner(seed, dropout=.2, improvement=improvement) for seed in (0, 1))
    for _ in range(4): first.update()
    tensors = {}
    layout = json.dumps(pack_state(first.state_dict(), tensors))
    second.load_state_dict(unpack_state(json.loads(layout), {name: x.clone() for name, x in tensors.items()}))
    def go_on(learning):
        torch.manual_seed(5)
        return [learning.update() for _ in range(4)]
    assert go_on(first) == go_on(second)
    ours, theirs = {}, {}
    assert json.dumps(pack_state(first.state_dict(), ours)) == json.dumps(pack_state(second.state_dict(), theirs))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    other = learner(0, buffer=16, improvement=improvement)
    with pytest.raises(ValueError, match='buffer'): other.load_state_dict(first.state_dict())


def test_masked_actions_are_never_likely_and_targets_move():
    learning = learner()
    before = copy.deepcopy(learning.actor.targets)
    for _ in range(3): learning.update()
    own = sample(learning.actor.policy, ENV, stack(*[DATA] * 20), horizon=6, generator=torch.Generator().manual_seed(0))
    walks = watch(ENV, own, learning.judging.base)
    assert walks.seen.open.gather(-1, own.action[..., None]).all()
    closed = ~walks.seen.open
    with torch.no_grad(): likely = log_policy(learning.actor.policy, walks).exp()
    assert closed.any() and not likely[closed].any() and (learning.judging.judge.rewards(walks)[closed] == -torch.inf).all()
    q = lift(learning.actor.critics[0], walks)
    assert torch.isfinite(q).all()
    moved = [not torch.equal(a, b) for a, b in zip(before.parameters(), learning.actor.targets.parameters())]
    assert sum(moved) > len(moved) / 2 and not any(p.requires_grad for p in learning.actor.targets.parameters())


@pytest.mark.parametrize('case', ['no relabel', 'nothing relabelled', 'single', 'unknown words', 'cold', 'no mismatched', 'word vectors'])
def test_corner_cases_work(case):
    data, options = DATA, {}
    if case == 'no relabel': options['relabel'] = None
    if case == 'nothing relabelled': options['relabel'] = lambda walks: (Batch(*(x[:0] for x in walks)), torch.zeros(0))
    if case == 'single': data = one(DATA)
    if case == 'unknown words': data = DATA._replace(tokens=torch.full_like(DATA.tokens, UNKNOWN))
    if case == 'cold': options['warm'] = False
    if case == 'no mismatched': options |= dict(mismatched=0., near=0., relabelled=0., imitation=.5, entropy=.5)
    if case == 'word vectors':
        torch.manual_seed(0)
        vectors = Policy(PolicyConfig(words=0, vectors=3, labels=4, width=16, word_width=8, label_width=8, landmark_width=8))
        learning = Adversarial(vectors, ENV, DATA._replace(tokens=torch.rand(6, 4, 3)), SMALL, rng=np.random.default_rng(0), generator=torch.Generator())
    else: learning = learner(data=data, **options)
    for _ in range(3): told = learning.update()
    assert all(np.isfinite(v) for v in told.values()) and told['judge_loss'] > 0


def test_bad_demonstrations_and_settings_are_refused():
    with pytest.raises(ValueError, match='no demonstration'): learner(data=Batch(*(x[:0] for x in DATA)))
    with pytest.raises(ValueError, match=r'rows \[2\] have none'): learner(data=DATA._replace(tokens=DATA.tokens.index_fill(0, torch.tensor(2), 0)))
    with pytest.raises(ValueError, match='airl'): learner(form='wgan')
    with pytest.raises(ValueError, match='tree'): learner(improvement='planning')
    with pytest.raises(ValueError, match='imitation'): learner(improvement='tree', imitation=1.)
    with pytest.raises(ValueError, match='weights'): AdversarialConfig(mismatched=-1.)
    with pytest.raises(ValueError, match='begin'): AdmissionRule(begin=.5, full=.2)
    with pytest.raises(ValueError, match='came back'): learner(relabel=lambda walks: (one(walks), torch.zeros(1))).update()
    broken = learner()
    with torch.no_grad(): broken.judging.judge.body.stop[2].bias.fill_(float('nan'))
    with pytest.raises(FloatingPointError, match='discriminator loss'): broken.update()


# %% the buffer, with sentences of the grammar

def test_the_ring_keeps_the_newest_bit_for_bit():
    replay, rng = Replay(7, time=4, words=5), np.random.default_rng(0)
    for k in range(9):
        ones = torch.ones(2, 3, dtype=torch.int64)
        some = Batch(ones + 4, k * ones, torch.zeros(2, 3), ones, ones)
        replay.add(some, provenance(some, COMMANDED, k))
    assert sorted(replay.of.made.tolist()) == [5, 6, 6, 7, 7, 8, 8] and len(replay) == 7
    assert (replay.batch.viewpoint[:, 0] == replay.of.made).all()
    again = Replay(7, time=4, words=5)
    again.load_state_dict(copy.deepcopy(replay.state_dict()))
    assert torch.equal(replay.draw(COMMANDED, 99, rng=np.random.default_rng(1)), again.draw(COMMANDED, 99, rng=np.random.default_rng(1)))
    assert len(set(replay.draw(COMMANDED, 99, rng=rng).tolist())) == 7
    with pytest.raises(ValueError, match='width'): replay.add(DATA._replace(tokens=torch.ones(6, 9).long()), provenance(DATA, COMMANDED, 0))


def test_words_of_the_grammar_are_admitted_once():
    "The grammar as a labeller that never errs: its sentences are fulfilled, and each walk enters once."
    bench = load_benchmark('houses', preset='tiny')
    vocabulary = build_vocabulary(e.task.text for e in bench.splits['train'])
    data = batch_of(bench.world, [e for e in bench.splits['train'] if e.level == 'route'], vocabulary)
    rng, guides = np.random.default_rng(0), {name: Guide(house) for name, house in bench.houses.items() if name in bench.world.scans[:4]}
    def say(walks):
        said = []
        for path, heading, n in zip(walks.viewpoint, walks.heading[:, 0].tolist(), (walks.target >= 0).sum(1).tolist()):
            scan = bench.world.scan[path[0]]
            guide = guides[bench.world.scans[scan]]
            program = describe_route(guide, walk_of(guide.ground, (path[:n] - bench.world.scan_start[scan]).tolist(), heading), rng=rng)
            said.append(sentence(program, rng=rng) if program else '')
        return walks._replace(tokens=torch.as_tensor(vocabulary.encode(said, 80))), torch.tensor([0. if s else -torch.inf for s in said])
    labelled, log_p = say(data)
    replay, rule = Replay(99, time=12), AdmissionRule(begin=.2, full=.4, most=1.)
    of = provenance(labelled, RELABELLED, 0, confidence=log_p)
    assert not admit(rule, replay, labelled, of, .1).any()
    fit = admit(rule, replay, labelled, of, 1.)
    assert fit.float().mean() > .8 and len(of.path[fit].unique()) == fit.sum() and torch.isfinite(log_p[fit]).all()
    replay.add(Batch(*(x[fit] for x in labelled)), type(of)(*(x[fit] for x in of)))
    assert not admit(rule, replay, labelled, of, 1.).any()


@pytest.mark.parametrize('world, preset', [('houses', 'tiny'), ('houses', 'tour'), ('houses', 'demo'), ('houses', 'full'), ('r2r', 'tiny'), ('r2r', 'full')])
def test_there_are_settings(world, preset): assert settings(world, preset).adversarial.updates > 0
