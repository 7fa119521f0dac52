"""figures/panel-*.png for README.md: the panels in JupyterLab on the agent that comes along, light and dark. Needs chromium; look at them before a commit."""
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, 'tests')
from test_browser import CHROMIUM, FLAGS, jupyter, opened, stage  # noqa: E402

SOURCE = "from nl_irl.panels import Workbench\nbench = Workbench('agent')\nbench.panels['Trajectories'].finder.go('val_unseen/val_unseen-0_0')\nbench"


def shoot(page, name: str) -> None:
    "The panel as it is, without the notebook around it."
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    page.wait_for_timeout(1500)
    page.locator('.jp-OutputArea-output .widget-tab').screenshot(path=Path('figures')/f'panel-{name}.png')


def tour(browser, theme: str, names: dict[str, str]) -> None:
    "Pictures `names` (of Trajectories, Talk, Reward) in a JupyterLab of that `theme`."
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree('nbs/tutorials/agent', Path(folder)/'root'/'agent')).parent
        (home := Path(folder)/'home').mkdir()
        with jupyter(root, home, f'JupyterLab {theme}') as address:
            page = opened(browser, address, SOURCE, root, errors := [])
            tab = lambda name: page.locator(f'.lm-TabBar-tabLabel:has-text("{name}")').click()
            stage(page).wait_for()
            page.set_viewport_size({'width': 1440, 'height': 1900})
            for panel, name in names.items():
                tab(panel)
                page.wait_for_timeout(1500)
                if panel == 'Talk':
                    page.locator('input[placeholder="tell the agent where to go"]').fill('go to the library, the plumber is waiting there')
                    page.wait_for_selector('text=It never learned: plumber')
                    page.get_by_role('button', name='known map: reward + speaker').click()
                if panel in ('Trajectories', 'Talk'):
                    page.locator('input[aria-label="Step"]:visible').focus()
                    for _ in range(2): page.keyboard.press('ArrowRight')
                if panel == 'Reward': page.wait_for_selector("text=demonstration, another's sentence")
                shoot(page, name)
            page.close()
            assert not errors, errors


if __name__ == '__main__':
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tour(browser, 'Light', {'Trajectories': 'player', 'Talk': 'talk'})
        tour(browser, 'Dark', {'Reward': 'reward'})
