"""python -m labelfix: the same program as the console script."""

from labelfix.cli import main

if __name__ == "__main__":
    main()
