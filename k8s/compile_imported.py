"""Import modules, and keep the bytecode of all that this brings: `python compile_imported.py FOLDER MODULE ...`.

An image has a read-only root, so what is not compiled in it is compiled at every start; all that is installed would be
400 MB of bytecode. Bytecode is not compared with the time of its source, which not every builder and registry keeps.
"""

import importlib
import py_compile
import sys
from pathlib import Path

folder, *modules = sys.argv[1:]
for module in modules:
    importlib.import_module(module)
sources = {Path(file) for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))}
for source in sources:
    if source.suffix == ".py" and source.is_relative_to(folder):
        py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
