"""What Sphinx is told. The pages are written by `build.py`; this file is copied beside them."""

import json
from pathlib import Path

_FACTS = json.loads((Path(__file__).parent / "facts.json").read_text())

project = "shmvar"
author = "the authors of shmvar"
copyright = "the authors of shmvar. MIT or Apache-2.0"
version = release = _FACTS["version"]
extensions = ["myst_parser"]
exclude_patterns = ["pictures"]

myst_heading_anchors = 6
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # sections of a page may begin at any level
highlight_language = "none"
smartquotes = False  # 5 and "5" are different indexes
add_module_names = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "shmvar"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_permalinks_icon = "#"
html_favicon = "static/icon.svg"
html_theme_options = {
    "light_logo": "icon.svg",
    "dark_logo": "icon.svg",
    # Fonts of the system: nothing is loaded from elsewhere.
    "light_css_variables": {"color-brand-primary": "#1f6b52", "color-brand-content": "#1a6a8a"},
    "dark_css_variables": {"color-brand-primary": "#6fcaa8", "color-brand-content": "#7cc4e0"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
