"""``python -m dccf`` and the command ``dccf``."""

from dccf.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
