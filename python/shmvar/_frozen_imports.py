"""Imports of every module that the extension module imports by name, for tools that freeze programs.

PyInstaller and similar tools look for imports in Python code without running it, and see none in compiled code: a
frozen program would lack such a module when the first value needs it. This module is never imported. `shmvar` names it
in a function that is never called, where those tools find it. A test compares this list with the Rust sources.
"""

import _collections_abc as _collections_abc
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
import pickle as pickle  # its imports are those of `_pickle`, which cannot be seen
import sys as sys
import threading as threading
import uuid as uuid

from shmvar._arrays_in_place import make as make
from shmvar._core import Segment as Segment
from shmvar._display import html as html
from shmvar._dump import dump as dump
from shmvar._errors import Error as Error
from shmvar._greenlets import place as place
from shmvar._mapping_views import SegmentKeys as SegmentKeys
from shmvar._memoize import memoize as memoize
from shmvar._missing_names import explained as explained
from shmvar._queue import enter as enter_queue  # noqa: F401
from shmvar._queue_errors import QueueEmptyError as QueueEmptyError
from shmvar._read_only_arrays import loads as loads
from shmvar._task_queue import enter as enter
from shmvar._task_watcher import Watcher as Watcher
from shmvar._untrusted_error import UntrustedValueError as UntrustedValueError
from shmvar.php._errors import UnserializeError as UnserializeError
from shmvar.php._info import SegmentInfo as SegmentInfo
from shmvar.php._message_queue_info import MessageQueueInfo as MessageQueueInfo
from shmvar.php._native import _reattach as _reattach
from shmvar.php._values import PhpObject as PhpObject
from shmvar.php._views import SegmentItems as SegmentItems

with contextlib.suppress(ImportError):  # for programs that have segments on a server
    import shmvar._remote as _remote  # noqa: F401

with contextlib.suppress(ImportError):  # arrays come from programs that have numpy
    import numpy as numpy
    from numpy import ma as ma

with contextlib.suppress(ImportError):
    from numpy._core import numeric as numeric  # since numpy 2.0

with contextlib.suppress(ImportError):
    from numpy.core import numeric as numeric  # type: ignore[no-redef]
