"""Pickles of numpy arrays and dtypes, written opcode by opcode: for streams that no pickler writes."""

INT = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def dtype(kind, state):
    return b"cnumpy\ndtype\nX" + len(kind).to_bytes(4, "little") + kind + b"\x89\x88\x87R" + state


def over(data, kind, shape, order=b"C"):
    """The opcodes of an array over `data`."""
    buffer = b"\x96" + len(data).to_bytes(8, "little") + data
    order = b"X\x01\x00\x00\x00" + order
    return b"cnumpy._core.numeric\n_frombuffer\n(" + buffer + kind + shape + order + b"tR."


I8 = dtype(b"i8", INT)
BOOL = dtype(b"b1", INT.replace(b"<", b"|"))
