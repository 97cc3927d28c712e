"""Every module that the extension module imports by name, for tools that find imports without running anything.

PyInstaller and its like see nothing of what compiled code imports: a frozen program would miss it with the first value
that needs it. This module is never imported; `shmvar` names it in a function that nobody calls.
"""

import _io as _io
import _pickle as _pickle
import array as array
import collections as collections
import contextlib
import copyreg as copyreg
import datetime as datetime
import decimal as decimal
import fractions as fractions
import operator as operator
import pathlib as pathlib
import pickle as pickle  # which shows what `_pickle` imports by name
import sys as sys
import threading as threading
import uuid as uuid

from shmvar import _aio as _aio
from shmvar import _arrays as _arrays
from shmvar import _core as _core
from shmvar import _errors as _errors
from shmvar import _green as _green
from shmvar import _line as _line
from shmvar import _views as _views

with contextlib.suppress(ImportError):  # arrays come from programs that have it
    import numpy as numpy
    from numpy import ma as ma

with contextlib.suppress(ImportError):
    from numpy._core import numeric as numeric  # since 2.0

with contextlib.suppress(ImportError):
    from numpy.core import numeric as numeric  # type: ignore[no-redef]
