"""`python -m hubel`."""

from hubel.cli.main import main

if __name__ == "__main__":
    main()
