"""Values shared with PHP: its System V segments, semaphores, message queues, and its `serialize` format."""

from shmvar.php._errors import SerializeError, UnserializeError
from shmvar.php._native import dumps, loads
from shmvar.php._values import PhpCustom, PhpEnum, PhpObject

__all__ = ["PhpCustom", "PhpEnum", "PhpObject", "SerializeError", "UnserializeError", "dumps", "loads"]
