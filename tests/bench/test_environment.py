"""Environment steps a CPU-second on one core, beside a plain Python environment in the style of the field's R2R agents and minigrid's BabyAI.

The plain one produces the same fields (panorama of twelve headings, padded candidates, mask, heading); it keeps one Python object an episode and rebuilds
its candidates each step. BabyAI shows a field of view of 7 by 7, direction and mission. The last rows tell what view features cost a batch of 64
demonstrations of 7 steps: their gather, and the passes of the policy with and without them.
"""
import numpy as np
import pytest
import torch

from nl_irl.environment import Environment, State, moves, observe, panorama, rows, step
from nl_irl.models.policy import GEOMETRY, Policy, PolicyConfig
from nl_irl.worlds.houses import houses

STEPS = 20


@pytest.fixture(scope='module')
def world():
    return houses('demo').world


class PlainEpisode:
    "One episode of the peer: state, and an observation built from lists at each step."
    def __init__(self, world, label, weight, viewpoint, heading):
        self.world, self.label, self.weight, self.viewpoint, self.heading = world, label, weight, viewpoint, heading

    def observe(self):
        degree = self.world.neighbor.shape[1]
        candidate, mask = np.zeros((degree, 5), np.float32), np.zeros(degree + 1, bool)
        mask[0] = True
        for slot, there in enumerate(self.world.neighbor[self.viewpoint]):
            if there < 0: continue
            heading, elevation, length = self.world.edge[self.viewpoint, slot]
            relative = heading - self.heading
            candidate[slot] = np.sin(relative), np.cos(relative), np.sin(elevation), np.cos(elevation), length / 5
            mask[slot + 1] = True
        return {'label': self.label[self.viewpoint], 'weight': self.weight[self.viewpoint], 'heading': self.heading, 'candidate': candidate, 'open': mask}

    def step(self, action):
        self.heading = self.world.edge[self.viewpoint, action - 1, 0]
        self.viewpoint = self.world.neighbor[self.viewpoint, action - 1]


@pytest.mark.parametrize('seen', ['panorama', 'moves only'])
@pytest.mark.parametrize('batch', [1, 64, 1024, 8192])
def test_ours(measure, world, batch, seen):
    env, look = Environment(world), observe if seen == 'panorama' else moves
    rng = np.random.default_rng(0)
    state = env.reset(rng.integers(len(world.ids), size=batch), rng.uniform(0, 6, batch))
    actions = [torch.as_tensor(1 + rng.integers(1, size=batch)) for _ in range(STEPS)]      # slot 0 exists everywhere

    def run():
        s = state
        for action in actions:
            look(env, s)
            s = step(env, s, action)
    measure(run, 'environment', f'nl_irl{", moves only" * (seen != "panorama")}', amount=batch * STEPS, unit='steps', size=batch)


@pytest.mark.parametrize('batch', [1, 64, 1024])
def test_plain_python(measure, world, batch):
    label, weight = panorama(world, far=False)
    rng = np.random.default_rng(0)
    episodes = [PlainEpisode(world, label, weight, int(v), 0.0) for v in rng.integers(len(world.ids), size=batch)]

    def run():
        for _ in range(STEPS):
            seen = [e.observe() for e in episodes]
            {k: np.stack([o[k] for o in seen]) for k in seen[0]}
            for e in episodes: e.step(1)
    measure(run, 'environment', 'plain Python', amount=batch * STEPS, unit='steps', size=batch)


@pytest.mark.parametrize('batch', [1, 64, 1024])
@pytest.mark.parametrize('level', ['BabyAI-GoToLocal-v0', 'BabyAI-BossLevel-v0'])
def test_babyai(benchmark, note, peer, level, batch):
    told = benchmark.pedantic(lambda: peer('babyai')[level][str(batch)], rounds=1)
    note('environment', level.removesuffix('-v0').replace('-', ' ') + ', SyncVectorEnv' * (batch > 1), told, 'steps/CPU-s', batch)


DIM, EPISODES, TIME, WORDS = 2048, 64, 7, 30


@pytest.fixture(scope='module')
def mapped(world, tmp_path_factory):
    "(viewpoint, 12, 2048) and (viewpoint, 36, 2048) float16, mapped into memory and in the page cache."
    def table(views):
        path = tmp_path_factory.mktemp('features')/f'{views}.npy'
        np.save(path, np.random.default_rng(0).random((len(world.ids), views, DIM), np.float32).astype(np.float16))
        return np.load(path, mmap_mode='r').view(np.ndarray)
    return {views: table(views) for views in (12, 36)}


@pytest.mark.parametrize('what', ['gather 12', 'gather 36, then mean', 'observe', 'observe, features', 'forward', 'forward, features',
                                  'update', 'update, features'])
def test_view_features(measure, world, mapped, what):
    features = mapped[12] if 'features' in what or 'gather' in what else None
    env = Environment(world, features=features)
    rng = np.random.default_rng(0)
    place = torch.as_tensor(rng.integers(len(world.ids), size=(EPISODES, TIME)))
    state = State(place, torch.rand(place.shape), torch.zeros(place.shape), torch.zeros(place.shape, dtype=torch.bool))
    policy = Policy(PolicyConfig(words=1000, labels=len(world.labels), features=0 if features is None else DIM))
    tokens, came, seen = torch.randint(1, 1000, (EPISODES, WORDS)), torch.zeros(EPISODES, TIME, GEOMETRY), observe(env, state)
    whole = torch.as_tensor(mapped[36].copy()) if '36' in what else None

    @torch.no_grad()
    def forward(): policy(policy.listen(tokens), seen, came)

    def update():
        policy(policy.listen(tokens), seen, came).logits.exp().sum().backward()
        policy.zero_grad()

    run = {'gather 12': lambda: rows(env.feature, place), 'observe': lambda: observe(env, state), 'forward': forward, 'update': update,
           'gather 36': lambda: rows(whole, place).view(EPISODES, TIME, 3, 12, DIM).mean(2)}[what.split(',')[0]]
    policy.train('update' in what)
    measure(run, f'view features: {what}', amount=EPISODES * TIME, unit='steps', size=EPISODES, rounds=9)
