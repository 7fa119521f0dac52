"""How long a panel takes to open on a run of 10,000 trajectories, beside reading the same run with pandas and torch alone: `make bench`.

Each opens the run anew, with its world from the cache, as a user's cell does; what a browser draws afterwards is not in it. Then one step of the player, from
the key to the second frame that the browser shows, beside drawing the same step with matplotlib.
"""
import dataclasses
import shutil

import pandas as pd
import pytest
import torch

from nl_irl.benchmarks import load_benchmark, settings
from nl_irl.learned import keep
from nl_irl.models.generator import GeneratorConfig, GoalGenerator
from nl_irl.models.policy import Policy, PolicyConfig
from nl_irl.models.reward import RouteReward
from nl_irl.panels import RelabelInspector, RewardExplorer, RunMonitor, TalkToAgent, TrajectoryPlayer, Workbench
from nl_irl.panels.playback import Playback, select, shown
from nl_irl.panels.stage import save_page
from nl_irl.plots.frames import draw_step, pixels
from nl_irl.runs import Recording, finish
from nl_irl.text import build_vocabulary

WALKS = 10_000


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    "A run on demo houses whose agent has walked 10,000 demonstrations, with networks of demo size that have learned nothing."
    torch.manual_seed(0)
    bench, chosen = load_benchmark('houses', preset='demo'), settings('houses', 'demo')
    walked = bench.splits['train'][:WALKS]
    vocabulary = build_vocabulary(e.task.text for e in walked)
    sizes = dict(words=len(vocabulary), labels=len(bench.world.labels))
    goals = GoalGenerator(GeneratorConfig(**sizes, **chosen.generator))
    goals.know(bench.world.labels, vocabulary)
    run = Recording.create(tmp_path_factory.mktemp('runs')/'large', {'world': 'houses', 'preset': 'demo'}, settings=dataclasses.asdict(chosen))
    for step in range(200): run.log(step, loss=1 / (1 + step))
    keep(run, vocabulary, policy=Policy(PolicyConfig(**sizes, **chosen.policy)), reward=RouteReward(PolicyConfig(**sizes, **chosen.reward)), generator=goals)
    run.write_table('trajectories', pd.DataFrame([dict(
        agent='demonstrator', split='train', id=e.task.id, scan=e.task.scan, instruction=e.task.text, viewpoints=list(e.path),
        entropy=[.5] * len(e.path), probabilities=[[.2] * 5] * len(e.path), attention=[[.1] * 10] * len(e.path)) for e in walked]))
    return finish(run).folder


def read_alone(folder):
    "The peer: tables and weights, without a world and without checks."
    from safetensors.torch import load_file
    return pd.read_parquet(folder/'trajectories.parquet'), [load_file(f) for f in folder.glob('checkpoints/*.safetensors')]


@pytest.mark.benchmark(group='open a run of 10,000 trajectories')
@pytest.mark.parametrize('panel', [TrajectoryPlayer, RelabelInspector, RewardExplorer, TalkToAgent, RunMonitor, Workbench, read_alone])
def test_opening(benchmark, large, panel):
    opened = benchmark.pedantic(lambda: panel(large), rounds=3, warmup_rounds=1)
    assert panel is read_alone or not opened.message


STEP = """key => new Promise(done => {
  document.querySelector('.nl-stage').dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))
  requestAnimationFrame(() => requestAnimationFrame(done))
})"""


@pytest.fixture
def walked(untrained):
    "A scene, an episode in it, and its world and house."
    playback = Playback(untrained)
    episode = shown(playback, select(playback)[0])
    return playback.scene(episode['scan']), episode, playback.bench.world, playback.bench.houses[episode['scan']]


@pytest.mark.benchmark(group='one step of the player')
def test_step_in_a_browser(benchmark, walked, tmp_path):
    playwright, chromium = pytest.importorskip('playwright.sync_api'), shutil.which('chromium') or shutil.which('google-chrome')
    if not chromium: pytest.skip('no chromium: apt-get install chromium')
    scene, episode, *_ = walked
    file = save_page(tmp_path/'page.html', {episode['scan']: scene}, [episode])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu'])
        page = browser.new_page(viewport={'width': 1280, 'height': 900})
        page.goto(file.as_uri())
        keys = iter(['ArrowRight', 'ArrowLeft'] * 10_000)
        benchmark.pedantic(lambda: page.evaluate(STEP, next(keys)), rounds=40, warmup_rounds=2)
        browser.close()


@pytest.mark.benchmark(group='one step of the player')
def test_step_with_matplotlib(benchmark, walked):
    scene, episode, world, house = walked
    benchmark.pedantic(lambda: pixels(draw_step(world, scene, episode, 1, house=house), 100), rounds=5, warmup_rounds=1)
