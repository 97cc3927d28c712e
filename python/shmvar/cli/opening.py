"""Opens the segment that a command line names."""

import argparse

import shmvar


def for_reading(args: argparse.Namespace) -> shmvar.Segment:
    """The segment of `args.key`, which must exist, through a read-only handle. Values run code only with `--trust`."""
    return shmvar.attach(args.key, create=False, readonly=True, trust=getattr(args, "trust", False))


def or_created(args: argparse.Namespace) -> shmvar.Segment:
    """The segment of `args.key`, created with `--size` and `--perm` if there is none."""
    return shmvar.attach(args.key, args.size, perm=args.perm)
