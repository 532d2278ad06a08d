"""``python -m entrypoints`` is ``gapless``."""

from entrypoints.cli import main

if __name__ == "__main__":
    main()
