"""Settings of Sphinx for docs.py."""
project, html_title, language = 'nl_irl', 'nl_irl', 'en'
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.viewcode', 'sphinx_copybutton']
html_theme, html_show_sourcelink = 'furo', False
default_role = 'literal'                                            # single backticks are code, as in the notebooks
myst_enable_extensions, myst_heading_anchors = ['dollarmath', 'amsmath'], 3
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = 'off', 600, True
nb_execution_excludepatterns = ['[0-9][0-9]_*', 'experiments/*', 'experiments/paper/*', 'tutorials/habitat.ipynb', 'tutorials/course/teachers_page.ipynb']
autodoc_member_order = 'bysource'


def setup(app):
    "The fields of named tuples are told of in their docstrings, so they need no entries of their own."
    field = lambda member: 'Alias for field number' in (getattr(member, '__doc__', None) or '')
    app.connect('autodoc-skip-member', lambda app, what, name, member, skip, options: skip or field(member))
