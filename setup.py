"""Packaging facts come from settings.ini; this file only hands them on."""
from configparser import ConfigParser
from setuptools import find_packages, setup

ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read('settings.ini', encoding='utf-8')
facts = ini['DEFAULT']

setup(
    name=facts['lib_name'], version=facts['version'], description=facts['description'],
    keywords=facts['keywords'], author=facts['author'], license=facts['license'],
    long_description=open('README.md', encoding='utf-8').read(), long_description_content_type='text/markdown',
    python_requires=f">={facts['min_python']}",
    packages=find_packages(include=['nl_irl*']), package_data={'nl_irl': ['py.typed', 'experiments/*.ipynb', 'worlds/*.json']},
    install_requires=facts['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k, v in facts.items() if k.endswith('_requirements')},
    entry_points={'console_scripts': facts['console_scripts'].split()},
)
