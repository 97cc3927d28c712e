"""What `shmvar.php` has in the extension module: its classes and functions are made when this module is imported."""

from shmvar._core import _php_members

globals().update(_php_members())
