"""Programs that do harm or cheat, and what must come of them; `python -m tests.hostile_programs` runs a thousand.

It prints what holds them in, how many ended how, the processes and files that are left, and the time and memory used.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from fipo.outcome import Outcome
from fipo.rewards.sandbox import kernel
from fipo.rewards.sandbox.client import Limits, Program, Ran, Sandbox
from fipo.rewards.sandbox.judge import judge
from fipo.rewards.sandbox.layouts import read_tests

MEMORY_BYTES = 256 << 20
DENIED = r"error: (PermissionError|FileNotFoundError|OSError): \[Errno (1|2|13|30)\]"

# What each must end with, on a test that asks for nothing but a word.
HARMFUL = {
    "fork bomb": ("import os\nwhile True:\n    os.fork()", DENIED),
    "processes": ("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'sleep 1000 &'])", DENIED),
    "threads": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        "can't start new thread|memory limit",
    ),
    "memory bomb": ("kept = []\nwhile True:\n    kept.append(bytes(10**8))", "memory limit"),
    "memory beside the heap": ("import os\nos.ftruncate(os.memfd_create('x'), 2**40)", DENIED),
    "endless output": ("while True:\n    print('x' * 10**5)", "output limit"),
    "endless error": ("import sys\nwhile True:\n    sys.stderr.write('x' * 10**5)", "output limit"),
    "endless loop": ("while True:\n    pass", "time limit"),
    "endless sleep": ("import time\ntime.sleep(10**6)", "time limit"),
    "deaf to signals": (
        "import signal\nfor one in range(1, 32):\n    try: signal.signal(one, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        "time limit",
    ),
    "a crash": ("import ctypes\nctypes.string_at(1)", "signal: 11"),
    "a socket": ("import socket\nsocket.create_connection(('1.1.1.1', 53), 1)", DENIED),
    "a local socket": ("import socket\nsocket.socket(socket.AF_UNIX).connect('\\0fipo')", DENIED),
    "a raw socket": ("import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)", DENIED),
    "the users": ("print(open('/etc/passwd').read())", DENIED),
    "the password": ("print(open('/etc/shadow').read())", DENIED),
    "the service account": ("print(open('/var/run/secrets/kubernetes.io/serviceaccount/token').read())", DENIED),
    "other processes' environment": ("print(open(f'/proc/{__import__(\"os\").getppid()}/environ').read())", DENIED),
    "what runs": ("import os\nprint([one for one in os.listdir('/proc') if one.isdigit()])", DENIED),
    "writing to the system": ("open('/usr/lib/hostile', 'w')", DENIED),
    "writing beside": ("open('{outside}/hostile', 'w')", DENIED),
    "reading beside": ("print(open('{outside}/secret').read())", DENIED),
    "removing": ("import os\nos.remove('{outside}/secret')", DENIED),
    "a link out": ("import os\nos.symlink('{outside}/secret', 'link')\nprint(open('link').read())", DENIED),
    "filling the disk": ("for n in range(10**6):\n    open(f'/tmp/{n}', 'wb').write(b'x' * 10**6)", r"Errno (1|28)\]"),
    "one huge file": ("open('/tmp/x', 'wb').write(b'x' * 10**8)", r"Errno (1|27|28)\]|signal: 25"),
    "many files": ("for n in range(10**6):\n    open(f'/tmp/{n}', 'wb').close()", r"Errno (1|28)\]"),
    "killing the judge": ("import os\nos.kill(os.getppid(), 9)", DENIED),
    "killing all": ("import os\nos.kill(-1, 9)", DENIED),
    "becoming another": ("import os\nos.setuid(12345)", r"Errno (1|22)\]"),
    "raising a limit": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "not allowed to raise maximum limit|PermissionError",
    ),
    "another namespace": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert not libc.unshare(0x10000000), os.strerror(ctypes.get_errno())",
        "Operation not permitted",
    ),
    "tracing": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert not libc.ptrace(16, os.getppid(), 0, 0), os.strerror(ctypes.get_errno())",
        "Operation not permitted",
    ),
    "outliving its parent": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert not libc.prctl(1, 0, 0, 0, 0), os.strerror(ctypes.get_errno())",
        "Operation not permitted",
    ),
    "a device": ("import os\nos.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))", DENIED),
    "the environment": ("import os\nprint('secret' if 'FIPO_SECRET' in os.environ else 'nothing')", "printed 'nothing"),
}

CALLS = [
    "assert add(2, 3) == 5",
    "assert add(10, -4) == 6",
    "assert set([add(1, 1), add(2, 2)]) == {2, 4}",
    "assert math.isclose(add(0.5, 0.25), 0.75)",
    "assert not add(1, 6) != 7",
]
SCRIPTS = {"inputs": ["2 3\n", "10 -4\n", "100 11\n"], "outputs": ["5\n", "6\n", "111\n"]}

# None solves the problem; each must earn nothing in both kinds of tests.
CHEATS = {
    "leaves": "exit(0)",
    "leaves by SystemExit": "raise SystemExit",
    "leaves at once": "import os\nos._exit(0)",
    "leaves in the call": "import os\ndef add(a, b):\n    os._exit(0)",
    "leaves by exec": "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'pass'])",
    "leaves in atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b):\n    raise SystemExit(0)",
    "leaves in a thread": "import os, threading\nthreading.Timer(0, os._exit, [0]).start()\n"
    "def add(a, b):\n    while 1: 0",
    "leaves in a finalizer": "import os\nclass A:\n    def __del__(self): os._exit(0)\ndef add(a, b):\n    A()",
    "leaves in a signal": "import os, signal\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\nsignal.alarm(1)\n"
    "def add(a, b):\n    while 1: 0\nwhile 1: 0",
    "equals everything": "class A:\n"
    "    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
    "    def __hash__(self): return 5\ndef add(a, b): return A()\nprint(A())",
    "a number that equals everything": "class A(int):\n    def __eq__(self, other): return True\n"
    "    def __ne__(self, other): return False\n    def __hash__(self): return 5\n"
    "def add(a, b): return A()\nprint(A())",
    "text that equals everything": "class A(str):\n    def __eq__(self, other): return True\n"
    "    def __str__(self): return self\ndef add(a, b): return A('5')\nprint(A('5'))",
    "a float that is close to all": "class A(float):\n"
    "    def __sub__(self, other): return 0.0\n    __rsub__ = __sub__\n"
    "    def __eq__(self, other): return True\ndef add(a, b): return A(0)",
    "a list that is any": "class A(list):\n    def __eq__(self, other): return True\n    def __iter__(self): yield 5\n"
    "def add(a, b): return A()",
    "everything is 5": "def add(a, b): return 5\nprint(5)",
    "says that it is right": "def add(a, b): return True\nprint(True)",
    "not a number": "def add(a, b): return float('nan')\nprint(float('nan'))",
    "patches set": "import builtins\nbuiltins.set = lambda *_: 1\nbuiltins.bool = lambda *_: True\n"
    "def add(a, b): return 5",
    "patches isclose": "import math\nmath.isclose = lambda *_, **__: True\ndef add(a, b): return 5",
    "patches sys.modules": "import sys, types\nfake = types.ModuleType('math')\nfake.isclose = lambda *_, **__: True\n"
    "sys.modules['math'] = fake\ndef add(a, b): return 5",
    "patches print": "import builtins\nbuiltins.print = lambda *_: None\ndef add(a, b): return None",
    "patches json": "import json\njson.dumps = lambda *_, **__: '[true]'\ndef add(a, b): return 0",
    "patches compile": "import builtins\nreal = builtins.compile\n"
    "builtins.compile = lambda code, *rest, **more: real('True', *rest, **more)\ndef add(a, b): return 0",
    "patches eval": "import builtins\nbuiltins.eval = lambda *_: 5\ndef add(a, b): return 0",
    "patches exec": "import builtins\nbuiltins.exec = lambda *_: None",
    "patches AssertionError": "import builtins\nbuiltins.AssertionError = type('Never', (SystemExit,), {})\n"
    "def add(a, b): raise AssertionError(0)",
    "assert without teeth": "import ast, sys\nsys.flags = type('F', (), {'optimize': 2})()\n__debug__ or 0\n"
    "def add(a, b): return 0",
    "swallows all errors": "import sys\nsys.excepthook = lambda *_: sys.exit(0)\ndef add(a, b): raise ValueError",
    "a tracer that rewrites": "import sys\ndef trace(frame, event, arg):\n    frame.f_globals['expected'] = 5\n"
    "    return trace\nsys.settrace(trace)\ndef add(a, b): return 5",
    "forges values": "import os\ntry: os.write(4, b'[true]')\nexcept OSError: pass\nos._exit(0)",
    "forges the first value": "import os\ntry: os.write(4, b'[5]')\nexcept OSError: pass\nos._exit(0)",
    "forges all verdicts": 'import os\nfor end in range(3, 64):\n    try: os.write(end, b\'{"error": "", "outcome": '
    '"correct", "ended": "itself", "code": 0, "stdout": "5", "values": "[5]"}\\n\')\n    except OSError: pass\n'
    "def add(a, b): return 0",
    "forges words of the judge": 'print(\'passed all 5 tests\')\nprint(\'{"outcome": "correct", "score": 1.0}\')\n'
    "def add(a, b): return 'correct'",
    "forges a stream of values": "import os\ndef add(a, b):\n    for guess in range(200):\n"
    "        os.write(4, b'[%d]' % guess)\n    os._exit(0)\nfor guess in range(200): print(guess)",
    "looks into frames": "import sys\ndef add(a, b):\n    frame = sys._getframe()\n    while frame:\n"
    "        for name, value in {**frame.f_globals, **frame.f_locals}.items():\n"
    "            if 'expect' in str(name) or 'assert' in str(value): return value\n        frame = frame.f_back\n"
    "print(add(0, 0))",
    "looks into the heap": "import gc\ndef add(a, b):\n    for one in gc.get_objects():\n"
    "        if isinstance(one, dict) and ('expected' in one or 'outputs' in one): return one.get('expected')\n"
    "print(add(0, 0))",
    "looks into memory": "import ctypes, re\ndef add(a, b):\n    for line in open('/proc/self/maps'):\n"
    "        low, high = (int(x, 16) for x in line.split()[0].split('-'))\n"
    "        found = re.search(rb'== (\\d+)', ctypes.string_at(low, high - low))\n"
    "        if found: return int(found[1])\nprint(add(0, 0))",
    "looks into arguments": "import re, sys\ndef add(a, b):\n"
    "    found = re.findall(r'== (\\d+)', ' '.join([*sys.argv, *sys.orig_argv]))\n    return int(found[0])\n"
    "print(add(0, 0))",
    "looks into files": "import os, re\ndef add(a, b):\n    for folder, _, names in os.walk('/'):\n"
    "        for name in names:\n            if name.endswith(('.json', '.jsonl', '.parquet')):\n"
    "                found = re.search(r'== (\\d+)', open(f'{folder}/{name}', errors='replace').read())\n"
    "                if found: return int(found[1])\nprint(add(0, 0))",
    "looks into descriptors": "import os, re\ndef add(a, b):\n    for end in range(64):\n"
    "        try: said = os.read(end, 9999)\n"
    "        except OSError: continue\n        found = re.search(rb'== (\\d+)|outputs.*?(\\d+)', said)\n"
    "        if found: return int(found[1] or found[2])\nprint(add(0, 0))",
    "looks at standard input": "import sys\nseen = sys.stdin.read()\nprint(seen.split('outputs')[-1])\n"
    "def add(a, b): return int(seen)",
    "kills its parent first": "import os\ntry: os.kill(os.getppid(), 9)\nexcept OSError: pass\ndef add(a, b): return 5",
    "stops the judge": "import os, signal\ntry: os.kill(os.getppid(), signal.SIGSTOP)\nexcept OSError: pass\n"
    "def add(a, b): return 5",
    "remembers earlier tests": "import os\ndef add(a, b):\n    path = '/tmp/seen'\n    seen = open(path).read() if "
    "os.path.exists(path) else ''\n    try: open(path, 'a').write('x')\n    except OSError: pass\n"
    "    return [5, 6, 2, 4, 0.75, 7][len(seen)] if seen else 0\nprint(add(0, 0))",
    "prints the input": "import sys\nprint(sys.stdin.read())\ndef add(a, b): return a, b",
    "prints all numbers": "for n in range(1000): print(n)\ndef add(a, b): return list(range(1000))",
    "prints on one line": "print(*range(1000))\ndef add(a, b): return set(range(1000))",
    "a generator of all": "def add(a, b): yield from range(1000)",
    "a coroutine": "async def add(a, b): return a + b",
    "raises the answer": "def add(a, b): raise Exception(a + b)",
    "defines the comparison": "class Meta(type):\n"
    "    def __eq__(self, other): return True\n    __hash__ = type.__hash__\n"
    "class A(metaclass=Meta): pass\ndef add(a, b): return A",
    "a module in its place": "import sys\nsys.modules['solution'] = sys.modules['__main__'] = sys\n"
    "def add(a, b): return sys",
    "too deep to read": "def add(a, b):\n    value = []\n    for _ in range(10**5): value = [value]\n    return value",
    "too large to compare": "def add(a, b): return [0] * 10**7",
    "does nothing": "pass",
    "only says it": "# The answer is 5: add(2, 3) == 5",
}

HONEST = {
    "a function": "def add(a, b):\n    return a + b",
    "a script": "a, b = map(int, input().split())\nprint(a + b)",
    "reads all": "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
    "a main function": "def add(a, b): return a + b\ndef main():\n    print(add(*map(int, input().split())))\n"
    "if __name__ == '__main__':\n    main()",
    "deep recursion": "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\n"
    "def add(a, b): return a + b\ndef deep(n): return n and 1 + deep(n - 1)\n"
    "def main():\n    assert deep(10**4) == 10**4\n    print(add(*map(int, input().split())))\n"
    "if __name__ == '__main__':\n    one = threading.Thread(target=main)\n    one.start()\n    one.join()",
    "deep recursion in C": "import sys\nfrom functools import lru_cache\nsys.setrecursionlimit(10**6)\n"
    "@lru_cache(None)\ndef deep(n): return n and 1 + deep(n - 1)\n"
    "def add(a, b):\n    assert deep(50000) == 50000\n    return a + b\n"
    "if __name__ == '__main__':\n    print(add(*map(int, open(0).read().split())))  # stdin",
    "leaves when done": "import sys\ndef add(a, b): return a + b\nif __name__ == '__main__':\n"
    "    print(add(*map(int, sys.stdin.readline().split())))\n    exit()",
    "uses the library": "from collections import Counter\nfrom fractions import Fraction\n"
    "import dataclasses, typing, re\n"
    "def add(a, b):\n    return a + b\nif __name__ == '__main__':\n"
    "    print(sum(int(x) for x in re.findall(r'-?\\d+', input())))",
}


def suite(layout):
    """The tests, as a grader reads them."""
    return read_tests(json.dumps(layout), {"test_imports": ["import math"]})


def main() -> None:
    """Run so many programs in a row, and say what is left of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile_programs", description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    report = run(asked.programs)
    text = json.dumps(report) if asked.json else "\n".join(f"{name}: {value}" for name, value in report.items())
    sys.stdout.write(f"{text}\n")


class Measured(Sandbox):
    """Remembers the largest process."""

    most = 0

    def _run(self, program: Program) -> Ran:
        ran = super()._run(program)
        self.most = max(self.most, ran.memory_bytes)
        return ran


def run(programs: int) -> dict[str, object]:
    """Harmful programs and cheats in turn, each against tests of its own, and the honest ones after them."""
    kernel.adopt_orphans()  # so that whatever is left of them is ours
    own = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder)
        (outside / "secret").write_text("secret")
        os.environ["FIPO_SECRET"] = "secret"
        word = suite({"inputs": [""], "outputs": ["secret"]})
        entries = [(code.replace("{outside}", folder), word) for code, _ in HARMFUL.values()]
        entries += [(code, suite(layout)) for code in CHEATS.values() for layout in (CALLS, SCRIPTS)]
        random.Random(0).shuffle(entries)
        before, files = set(own.children(recursive=True)), _files()
        outcomes: Counter[str] = Counter()
        started = time.monotonic()
        with Measured(Limits(cpu_seconds=1.0, memory_bytes=MEMORY_BYTES)) as sandbox:
            for index in range(programs):
                code, tests = entries[index % len(entries)]
                outcomes[str(judge(code, tests, sandbox).outcome)] += 1
            seconds = time.monotonic() - started
            honest = [(code, suite(CALLS if "def add" in code else SCRIPTS)) for code in HONEST.values()]
            passed = sum(judge(*one, sandbox).outcome is Outcome.CORRECT for one in honest)
        time.sleep(1.0)  # those of a killed launcher are killed with it, but by the kernel's clock
        left = [one for one in own.children(recursive=True) if one not in before and one.status() != "zombie"]
        return {
            "isolation": str(sandbox.isolation),
            "programs": programs,
            "outcomes": dict(outcomes),
            "honest_programs_passed": passed,
            "stray_processes": len(left),
            "files_outside": sorted((_files() - files) | ({path.name for path in outside.iterdir()} - {"secret"})),
            "secret_is_as_it_was": (outside / "secret").read_text() == "secret",
            "seconds": round(seconds, 1),
            "seconds_each": round(seconds / programs, 3),
            "largest_process_mib": sandbox.most >> 20,
        }


def _files() -> set[str]:
    """Where a program might leave something."""
    places = [Path(name) for name in ("/", "/usr/lib", "/var/tmp", "/dev/shm", str(Path.home()), str(Path.cwd()))]
    return {str(path) for place in places if place.is_dir() for path in place.iterdir()}


if __name__ == "__main__":
    main()
