"""Packaging facts come from settings.ini; this file only hands them on, and puts the experiments' notebooks into wheels."""
from configparser import ConfigParser
from pathlib import Path
from shutil import copy

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read('settings.ini', encoding='utf-8')
facts = ini['DEFAULT']


class WithExperiments(build_py):
    "Copies nbs/experiments/*.ipynb to nl_irl/experiments/ in a wheel; an editable install reads them where they are."
    def run(self):
        super().run()
        if self.editable_mode: return
        folder = Path(self.build_lib)/'nl_irl'/'experiments'
        folder.mkdir(parents=True, exist_ok=True)
        for notebook in sorted(Path('nbs/experiments').glob('*.ipynb')): copy(notebook, folder)


setup(
    name=facts['lib_name'], version=facts['version'], description=facts['description'],
    keywords=facts['keywords'], author=facts['author'], license=facts['license'],
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    python_requires=f">={facts['min_python']},<3.{int(facts['max_python'].split('.')[1]) + 1}",
    packages=find_packages(include=['nl_irl*']), package_data={'nl_irl': ['py.typed', 'settings/*.toml', 'panels/stage.*']},
    install_requires=facts['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k, v in facts.items() if k.endswith('_requirements')},
    entry_points={'console_scripts': facts['console_scripts'].split()},
    cmdclass={'build_py': WithExperiments},
)
