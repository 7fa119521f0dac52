"""How long a panel takes to open on a run of 10,000 trajectories, beside reading the same run with pandas and torch alone: `make bench`.

Each opens the run anew, with its world from the cache, as a user's cell does; what a browser draws afterwards is not in it. Then one step of the player, from
the key to the second frame that the browser shows, beside drawing the same step with matplotlib.
"""
import shutil
from pathlib import Path

import pandas as pd
import pytest

from nl_irl.learned import keep, open_run
from nl_irl.panels import RelabelInspector, RewardExplorer, RunMonitor, TalkToAgent, TrajectoryPlayer, Workbench
from nl_irl.panels.playback import Playback, select, shown_episode
from nl_irl.panels.stage import save_page
from nl_irl.plots.frames import draw_step, pixels
from nl_irl.runs import Recording, Run, finish

AGENT = Path(__file__).parents[2]/'nbs'/'tutorials'/'agent'
WALKS = 10_000


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    "A run of the agent that comes along, in whose table of trajectories stand 10,000 demonstrations."
    agent = open_run(Run.open(AGENT))
    walked = agent.bench.splits['train'][:WALKS]
    run = Recording.create(tmp_path_factory.mktemp('runs')/'large', agent.run.config['parameters'], settings=agent.run.config['settings'])
    for step in range(200): run.log(step, loss=1 / (1 + step))
    keep(run, agent.vocabulary, **agent.networks)
    run.write_table('trajectories', pd.DataFrame([dict(
        agent='demonstrator', split='train', id=e.task.id, scan=e.task.scan, instruction=e.task.text, viewpoints=list(e.path),
        entropy=[.5] * len(e.path), probabilities=[[.2] * 5] * len(e.path), attention=[[.1] * 10] * len(e.path)) for e in walked]))
    assert len(walked) == WALKS
    return finish(run).folder


def read_alone(folder):
    "The peer: tables and weights, without a world and without checks."
    from safetensors.torch import load_file
    return pd.read_parquet(folder/'trajectories.parquet'), [load_file(f) for f in folder.glob('checkpoints/*.safetensors')]


@pytest.mark.parametrize('panel', [TrajectoryPlayer, RelabelInspector, RewardExplorer, TalkToAgent, RunMonitor, Workbench, read_alone])
def test_opening(measure, large, panel):
    who = 'pandas and torch alone' if panel is read_alone else f'nl_irl, {panel.__name__}'
    def run():
        opened = panel(large)
        assert panel is read_alone or not opened.message
    measure(run, 'opening a run of 10,000 trajectories', who, rounds=3)


STEP = """key => new Promise(done => {
  document.querySelector('.nl-stage').dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))
  requestAnimationFrame(() => requestAnimationFrame(done))
})"""


@pytest.fixture
def walked(untrained):
    "A scene, an episode in it, and its world and house."
    playback = Playback(untrained)
    episode = shown_episode(playback, select(playback)[0])
    return playback.scene(episode['scan']), episode, playback.bench.world, playback.bench.houses[episode['scan']]


def test_step_in_a_browser(benchmark, note, walked, tmp_path):
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
    note('one step of the player', 'nl_irl', list(benchmark.stats.stats.data), 's')


def test_step_with_matplotlib(benchmark, note, walked):
    scene, episode, world, house = walked
    benchmark.pedantic(lambda: pixels(draw_step(world, scene, episode, 1, house=house), 100), rounds=5, warmup_rounds=1)
    note('one step of the player', 'matplotlib', list(benchmark.stats.stats.data), 's')
