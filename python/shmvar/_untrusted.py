"""The one error of the package that needs pickle, kept apart so that importing the package does not import that."""

from _pickle import UnpicklingError

from shmvar._errors import Error


class UntrustedValueError(Error, UnpicklingError):
    """A value that needs code, in a segment that is not trusted. Names the class."""


UntrustedValueError.__module__ = "shmvar"
