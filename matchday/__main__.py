"""`python -m matchday`: the same as the console script."""

from matchday.cli import main

if __name__ == "__main__":
    main()
