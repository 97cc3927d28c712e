"""`UntrustedValueError`: the one error of the package that derives from an error of pickle.

It has a module of its own so that `import shmvar` does not import pickle. `shmvar.UntrustedValueError` imports this
module when somebody asks for it, and the extension module when it raises the error.
"""

from _pickle import UnpicklingError

from shmvar._errors import Error


class UntrustedValueError(Error, UnpicklingError):
    """The value needs code to be rebuilt, and the segment is not trusted. The text names the class that it needs."""


UntrustedValueError.__module__ = "shmvar"
