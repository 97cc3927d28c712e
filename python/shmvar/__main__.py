"""`python -m shmvar`: the command line."""

from shmvar._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
