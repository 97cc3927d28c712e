"""`python -m shmvar`: the command line."""

from shmvar.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
