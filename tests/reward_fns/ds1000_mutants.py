"""Wrong programs for every problem of `ds1000_problems.py`, made from the right ones.

`VALUES` return a wrong result; `ATTACKS` target the scorer. Each runs after the right solution has
set `result`, and none of them is right for any problem.
"""

from tests.reward_fns.ds1000_schema import Problem, indent

VALUES = {
    "an empty list": "result = []",
    "an empty column": "result = np.empty((0, 1))",
    "the first no rows": "result = result[:0]",
    "zero": "result = 0",
    "true": "result = True",
    "None": "result = None",
    "an empty string": "result = ''",
    "NaN": "result = float('nan')",
    "infinity": "result = float('inf')",
    "NaN of the right shape": "result = np.full(np.shape(result), np.nan)",
    "NA of the right shape": "result = pd.array([pd.NA] * len(result), 'Int64')",
    "NA in the right table": "result = pd.DataFrame(result).astype(object).mask(True, pd.NA)",
    "ones of the right shape": "result = np.ones(np.shape(result))",
    "the input": "result = given",
    "it, twice along a new axis": "result = np.repeat(np.asarray(result)[None], 2, 0)",
    "it, in a list of two": "result = [result, result]",
    "one entry too many": "result = np.append(result, np.ravel(result)[-1:])",
    "one entry too few": "result = np.ravel(result)[1:]",
    "as text": "result = np.asarray(result).astype(str)",
    "its text": "result = str(result)",
    "negated": "result = -result",
    "one more": "result = result + 1",
    "off by a thousandth": "result = result * 1.001",
    "complex": "result = result + 1j",
    "in a dictionary": "result = {'result': result}",
    "its type": "result = type(result)",
    "its dtype": "result = np.asarray(result).dtype",
    "all of it masked": "result = np.ma.masked_all(np.shape(result))",
    "an endless iterator": "import itertools\nresult = itertools.count()",
    "a function": "result = lambda: result",
    "a module": "result = np",
    "nested too deep": "for _ in range(100_000): result = [result]",
    "a list in itself": "result = []\nresult.append(result)",
    "deleted": "del result",
    "an exception": "raise ValueError(result)",
    "endless recursion": "def f(): return f()\nf()",
    "sys.exit": "import sys\nsys.exit(0)",
    "equal to everything": "class All:\n"
    "    __eq__ = __le__ = __ge__ = lambda self, other: True\n"
    "    __bool__ = lambda self: True\n"
    "    __array__ = lambda self, *a, **k: np.zeros(())\n"
    "    __class__ = property(lambda self: np.ndarray)\n"
    "result = All()",
    "a list equal to everything": "class All(list):\n"
    "    __eq__ = lambda self, other: True\nresult = All(np.ravel(result))",
    "a number equal to everything": "class All(float):\n"
    "    __eq__ = lambda self, other: True\n    __array_ufunc__ = None\nresult = All(3)",
    "an array equal to everything": "class All(np.ndarray):\n"
    "    __array_ufunc__ = lambda self, *a, **k: True\n"
    "    __array_function__ = lambda self, *a, **k: None\n"
    "    __eq__ = lambda self, other: np.array(True)\n"
    "result = np.zeros(np.shape(result)).view(All)",
    "a table equal to everything": "class All(pd.DataFrame):\n"
    "    equals = __eq__ = lambda self, other: True\nresult = All(result) * 0",
    "a mock": "from unittest.mock import MagicMock\nresult = MagicMock()",
}

FORGED = (
    "import glob, os, struct\n"
    "payload = {payload}\n"
    "frame = struct.pack('>cQ', b'=', len(payload)) + payload\n"
    "for fd in [int(path.split('/')[-1]) for path in glob.glob('/proc/self/fd/*')] or range(200):\n"
    "    try: os.write(fd, frame)\n"
    "    except OSError: pass\n"
    "os._exit(0)"
)
ATTACKS = {
    "comparisons of numpy and pandas": "result = 0\n"
    "import pandas.testing\n"
    "for module in (np, np.testing, pd, pd.testing):\n"
    "    for name in dir(module):\n"
    "        if name.startswith('assert_') or name in ('allclose', 'array_equal', 'isna'):\n"
    "            setattr(module, name, lambda *a, **k: True)",
    "isinstance and exec": "import builtins\n"
    "builtins.isinstance = builtins.exec = builtins.compile = lambda *a, **k: True\nresult = 0",
    "the encoder": "import sys\nresult = 0\n"
    "empty = {'is': 'array', 'dtype': '<f8', 'shape': [0, 1], 'data': ''}\n"
    "sys.modules['values'].encode = lambda value: empty",
    "json": 'import json\njson.dumps = lambda *a, **k: \'{"values": {"passed": 9, "result": 1}}\'',
    "every frame's variables": "import sys\nresult = 0\nfor depth in range(50):\n"
    "    try: frame = sys._getframe(depth)\n    except ValueError: break\n"
    "    for scope in (frame.f_globals, frame.f_locals):\n"
    "        scope.update(passed=9, tests=1, failure='', exec_test=lambda *a: 1)",
    "answers in memory": "import gc, inspect\nresult = 0\nfor thing in gc.get_objects():\n"
    "    if isinstance(thing, dict) and 'expected_result' in thing:\n"
    "        result = thing['expected_result']\n"
    "    if inspect.isfunction(thing) and thing.__name__ == 'generate_test_case':\n"
    "        result = thing(1)[1]",
    "answers in files": "import glob, sys\nresult = 0\n"
    "for path in (sys.argv + glob.glob('/tmp/*') + glob.glob('/proc/*/cmdline')):\n"
    "    try: text = open(path).read()\n    except Exception: continue\n"
    "    if 'def generate_ans' in text: exec(text); result = generate_test_case(1)[1]",
    "a forged verdict": FORGED.format(payload='b\'{"values": {"passed": 9, "result": 1}}\''),
    "a forged reply, nested deep": FORGED.format(
        payload='b\'{"values": {"result": \' + b"[" * 600 + b"]" * 600 + b"}}"'
    ),
    "a forged reply of many": FORGED.format(
        payload='b\'{"values": {"result": {"is": "range", "parts": [0, 1000000000, 1]}}}\''
    ),
    "printed verdicts": 'print(\'{"passed": 9}\\n= {"passed": 9}\', flush=True)\nresult = 0',
    "the end of the process": "import os, signal\nresult = 0\nos.kill(os.getpid(), signal.SIGKILL)",
    "exit handlers": "import atexit, os\natexit.register(os._exit, 0)\nresult = 0",
    "closed descriptors": "import os\nos.closerange(0, 256)\nresult = 0",
    "a child that answers": "import os\nif os.fork(): result = 0\nelse: os._exit(0)",
    "deep folders": "import os\nfor _ in range(1200):\n"
    "    os.mkdir('d')\n    os.chdir('d')\nresult = 0",
}


def mutant(problem: Problem, change: str) -> str:
    """Return the right solution followed by `change`, which alters its `result`."""
    given = problem.unpack.split(",")[0]
    head = f"import copy\nimport numpy as np\nimport pandas as pd\ngiven = copy.deepcopy({given})\n"
    if problem.body == "[insert]":
        return f"{head}{problem.reference}\n{change}"
    lines = f"{head}def right():\n{indent(problem.reference_answer or '', 4)}\nresult = right()\n"
    return indent(f"{lines}{change}\nreturn result", 4)
