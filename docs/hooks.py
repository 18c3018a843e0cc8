"""What mkdocs asks for when it builds the site: pages that are made, and links that lead out of docs/.

Pages link to files of the repository as they do on its own page. On the site such a link goes to the repository's host;
one to a file that does not exist is a warning, and `make docs` fails.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages that lie at the top of the repository, by their name on the site."""
LINK = re.compile(r"(!?\[[^]]*]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(\))")
DEFINES = re.compile(r"^(def|class) [A-Za-z]|^[A-Za-z]\w*( *:.+)? *=", re.MULTILINE)
log = logging.getLogger("mkdocs.plugins.hooks")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give the API's pages their places in the menu."""
    pages = [{f"fipo.{room}": f"api/{room}.md"} for room in _rooms()]
    config.nav = [*(config.nav or []), {"API": ["api/index.md", *pages]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from the top of the repository, and one for each room of the API."""
    for name, source in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    for room, modules in _rooms().items():
        body = "\n\n".join(f"::: {module}" for module in modules)
        files.append(File.generated(config, f"api/{room}.md", content=f"# fipo.{room}\n\n{body}\n"))
    words = "Every room of the package, from its docstrings; [architecture](../architecture.md) draws how they stand."
    lines = [f"- [fipo.{room}]({room}.md): {_summary(room)}" for room in _rooms()]
    files.append(File.generated(config, "api/index.md", content="\n".join(["# API", "", words, "", *lines, ""])))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead each link to where its target is on the site, or in the repository."""
    source = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)
    on_site = {origin: name for name, origin in PAGES.items()}

    def lead(found: re.Match[str]) -> str:
        before, target, anchor, after = found[1], found[2], found[3] or "", found[4]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        name = on_site.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if name and files.get_file_from_path(name):
            return f"{before}{posixpath.relpath(name, here or '.')}{anchor}{after}"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which does not exist", source, target)
        return f"{before}{config.repo_url}/{kind}/main/{path}{anchor}{after}"

    return LINK.sub(lead, markdown)


def _rooms() -> dict[str, list[str]]:
    """The rooms of the package, with those of their modules that define something."""
    rooms: dict[str, list[str]] = {}
    for file in sorted((ROOT / "fipo").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        in_a_room = parts[1] != "__init__" and parts[-1] != "__main__"
        if in_a_room and DEFINES.search(file.read_text(encoding="utf-8")):
            rooms.setdefault(parts[1], []).append(".".join(parts).removesuffix(".__init__"))
    return rooms


def _summary(room: str) -> str:
    path = ROOT / "fipo" / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = re.match(r'"""(.+?)(?:\n\n|""")', file.read_text(encoding="utf-8"), re.DOTALL)
    return " ".join(found[1].split()) if found else ""
