"""Objects that can be used as an index."""


class Indexed:
    """Is a number only through `__index__`."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number
