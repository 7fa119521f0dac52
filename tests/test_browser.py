"""Panels in JupyterLab, in a real browser: they play, are driven by keys, mouse and words, and show what the run holds. Needs chromium."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from nl_irl.panels import TalkToAgent
from nl_irl.panels.playback import Playback, select, shown_episode
from nl_irl.panels.stage import save_page
from nl_irl.panels.talk import told, why_not
from nl_irl.panels.workbench import follow_talk

TUTORIALS = Path(__file__).parents[1]/'nbs'/'tutorials'
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='no chromium: apt-get install chromium')
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def jupyter(root: Path, home: Path, theme: str):
    "The address of a JupyterLab that serves `root`; it ends with the block."
    kinds = ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTERLAB_SETTINGS_DIR', 'JUPYTERLAB_WORKSPACES_DIR', 'JUPYTER_RUNTIME_DIR')
    env = os.environ | {kind: str(home/kind) for kind in kinds}
    for name, what in (('apputils-extension/notification', {'fetchNews': 'false', 'checkForUpdates': False}), ('apputils-extension/themes', {'theme': theme}),
                       ('notebook-extension/tracker', {'windowingMode': 'none'})):                   # all cells are in the page
        file = home/'JUPYTERLAB_SETTINGS_DIR'/'@jupyterlab'/f'{name}.jupyterlab-settings'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(what))
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent/'jupyter-lab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0',
               '--IdentityProvider.token=', f'--ServerApp.root_dir={root}']
    with open(home/'server.log', 'wb') as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 180
        while True:
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api', timeout=5).close(); break
            except OSError:
                assert time.monotonic() < end and server.poll() is None, (home/'server.log').read_text()
                time.sleep(.3)
        yield f'http://127.0.0.1:{port}'
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try: server.wait(20)
        except subprocess.TimeoutExpired: os.killpg(server.pid, signal.SIGKILL)


def lab_page(browser, address: str, notebook: str, errors: list[str], *, seconds: int):
    "A page of JupyterLab with `notebook`, whose kernel is idle; what goes wrong in it is added to `errors`."
    page = browser.new_page(viewport={'width': 1280, 'height': 1400})
    page.set_default_timeout(1000 * seconds)
    page.on('pageerror', lambda e: errors.append(str(e)))
    dialog = page.locator('.jp-Dialog')                            # on a busy machine JupyterLab may ask which kernel to take
    page.add_locator_handler(dialog, lambda: dialog.locator('.jp-mod-accept').first.click(), no_wait_after=True)
    page.goto(f'{address}/lab/tree/{notebook}?reset')
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    return page


def run_cells(page) -> None:
    "Run all cells, again until a cell runs: a kernel says that it is idle before it listens."
    for _ in range(15):
        page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        page.click('.lm-Menu-itemLabel:text-is("Run All Cells")')
        page.wait_for_timeout(3000)
        if page.locator('.jp-CodeCell .jp-InputPrompt').first.inner_text().strip(' []:'): return


def opened(browser, address: str, source: str, root: Path, errors: list[str]):
    "A page of JupyterLab on a notebook with the one cell `source`, which is running."
    kernel = {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}
    nbformat.write(new_notebook(cells=[new_code_cell(source)], metadata={'kernelspec': kernel}), root/'panels.ipynb')
    page = lab_page(browser, address, 'panels.ipynb', errors, seconds=90)
    run_cells(page)
    return page


def stage(page): return page.locator('.nl-stage:visible')


def painted(page, canvas: str) -> int:
    "How many colours the first visible `canvas` shows."
    script = "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, s = new Set(); for (let i = 0; i < d.length; i += 4) s.add(d[i] * 65536 + d[i + 1] * 256 + d[i + 2]); return s.size }"  # noqa: E501
    return page.locator(f'{canvas}:visible').first.evaluate(script)


def answers(folder, text: str) -> list[str]:
    "What the panel says to 'why not there?' of each place of the house that it begins in."
    talk = TalkToAgent(folder, text=text).talk
    def of(place):
        talk.there = place
        return why_not(talk)
    return [of(place) for place in range(talk.first, talk.first + int(talk.world.scan_size[talk.world.scan[talk.first]]))]


@pytest.fixture
def copied(untrained, tmp_path):
    return Path(shutil.copytree(untrained, tmp_path/'root'/'run'))


def test_the_workbench_is_driven_in_jupyterlab(browser, copied, tmp_path):
    playback, errors = Playback(copied), []
    key = select(playback)[0]
    episode = shown_episode(playback, key)
    with jupyter(copied.parent, tmp_path/'home', 'JupyterLab Light') as address:
        page = opened(browser, address, "from nl_irl.panels import Workbench\nbench = Workbench('run')\nbench", copied.parent, errors)
        text = lambda: stage(page).inner_text()
        tab = lambda name: page.locator(f'.lm-TabBar-tabLabel:has-text("{name}")').click()

        stage(page).wait_for()                                                                     # the player shows what the run holds
        assert ''.join(w for w, _ in episode['words']) in text() and '/'.join(key) in page.locator('.widget-select:visible option').first.inner_text()
        assert episode['walks'][0]['scores'] in text() and painted(page, 'canvas.nl-map') > 20

        last = max(max(len(w['path']), len(w['action'])) for w in episode['walks']) - 1
        stage(page).focus()                                                                        # keys step, scrub and choose an agent
        page.keyboard.press('ArrowRight')
        page.wait_for_function("n => document.querySelector('.nl-where').textContent.startsWith(`Step 1 of ${n}`)", arg=last)
        page.keyboard.press('2')
        page.wait_for_function("s => document.querySelector('.nl-head span:last-child').textContent === s", arg=episode['walks'][1]['scores'])
        assert page.locator('.nl-foot button[aria-pressed="true"]:visible', has_text=episode['walks'][1]['name']).count() == 1
        taken = page.locator('.nl-taken:visible').first.inner_text()
        assert ('stop' in taken) == (episode['walks'][1]['action'][1] == 0)
        page.locator('input[aria-label="Step"]:visible').focus()
        page.keyboard.press('End')
        page.wait_for_function("n => document.querySelector('.nl-where').textContent.startsWith(`Step ${n} of ${n}`)", arg=last)
        page.keyboard.press('Home')
        stage(page).focus()
        page.keyboard.press('Space')                                                               # it plays to the end by itself
        page.wait_for_function("n => document.querySelector('.nl-where').textContent.startsWith(`Step ${n} of ${n}`)", arg=last, timeout=30_000)

        tab('Talk')                                                                                # words, clicks, unknown words, why not there
        box = page.locator('input[placeholder="tell the agent where to go"]')
        box.fill('find the zebra <b>now</b>')
        page.wait_for_selector('text=It never learned: zebra')
        page.wait_for_selector('.nl-unknown:visible:has-text("zebra")')
        page.click('button:has-text("why not there?")')
        area = page.locator('canvas.nl-map:visible').bounding_box()
        for x in (.3, .5, .7):
            for y in (.3, .5, .7): page.locator('canvas.nl-map:visible').click(position={'x': x * area['width'], 'y': y * area['height']})
        page.wait_for_selector('button:has-text("yours")')
        page.wait_for_function("possible => possible.some(s => document.body.innerText.includes(s))", arg=answers(copied, 'find the zebra <b>now</b>'))

        tab('Reward')
        page.wait_for_selector("text=demonstration, another's sentence")
        page.click('button:has-text("Measure 100")')
        page.wait_for_selector('text=auc: another instruction')
        page.wait_for_selector('.js-plotly-plot .main-svg:visible')

        tab('Relabelling')
        page.wait_for_selector('button:has-text("Accept")')
        page.click('button:has-text("Accept")')
        page.wait_for_selector('text=accepted; 1 accepted in this run')

        tab('Run')
        page.wait_for_selector('text=finished, 2 lines logged')
        page.close()
    assert not errors and json.loads((copied/'relabels.json').read_text())[0]['accepted']


def test_the_tour_runs_and_its_agent_answers(browser, tmp_path):
    root, errors, text = Path(shutil.copytree(TUTORIALS, tmp_path/'root')), [], 'go to the kitchen'
    with jupyter(root, tmp_path/'home', 'JupyterLab Light') as address:
        page = lab_page(browser, address, 'tour.ipynb', errors, seconds=180)
        run_cells(page)
        page.wait_for_function("document.querySelectorAll('.nl-stage').length === 2")                # both workbenches stand there
        assert not page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]:has-text("Traceback")').count()
        bench = page.locator('.jp-OutputArea-output:has(.nl-stage)').first                            # the trained agent comes first
        bench.scroll_into_view_if_needed()
        bench.locator('.lm-TabBar-tabLabel:has-text("Talk")').click()
        bench.locator('input[placeholder="tell the agent where to go"]').fill(text)
        talk = TalkToAgent(root/'agent', text=text)
        key = select(Playback(root/'agent'))[0]                                                      # which the workbench shows in all its tabs
        follow_talk(talk, key, Playback(root/'agent').task(key))
        talk.say(text=text)
        bench.locator(f'text={told(talk.talk)[-2]}').wait_for()                                      # what its generator would call the route
        page.close()
    assert not errors


def test_the_player_in_the_dark_at_800_pixels(browser, copied, tmp_path):
    errors = []
    with jupyter(copied.parent, tmp_path/'home', 'JupyterLab Dark') as address:
        page = opened(browser, address, "from nl_irl.panels import TrajectoryPlayer\nTrajectoryPlayer('run')", copied.parent, errors)
        page.set_viewport_size({'width': 800, 'height': 1400})
        stage(page).wait_for()
        page.wait_for_selector('.nl-narrow')
        light = stage(page).evaluate('e => getComputedStyle(e).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b) / 3')
        assert light < 60 and painted(page, 'canvas.nl-map') > 20
        assert stage(page).evaluate('e => e.scrollWidth <= e.clientWidth + 1')
        page.close()
    assert not errors


def test_a_saved_page_plays_without_kernel_and_network(browser, untrained, tmp_path):
    playback, errors, asked = Playback(untrained), [], []
    episodes = [shown_episode(playback, key) for key in select(playback)[:2]]
    file = save_page(tmp_path/'page.html', {e['scan']: playback.scene(e['scan']) for e in episodes}, episodes)
    page = browser.new_page(viewport={'width': 1100, 'height': 900})
    page.on('pageerror', lambda e: errors.append(str(e)))
    page.on('request', lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.select_option('#which', '1')
    assert ''.join(w for w, _ in episodes[1]['words']) in stage(page).inner_text()
    stage(page).focus()
    page.keyboard.press('End')
    assert page.locator('.nl-where').inner_text().startswith('Step ') and painted(page, 'canvas.nl-map') > 20
    assert asked == [file.as_uri()] and not errors
    page.close()
