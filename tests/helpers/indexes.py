"""What may stand for an index."""


class Indexed:
    """Is a number by `__index__` only."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number
