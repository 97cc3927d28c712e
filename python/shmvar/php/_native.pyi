"""What `shmvar.php` has in the extension module."""

__all__: list[str] = []
