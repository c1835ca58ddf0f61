"""`python -m onecard` is the command line."""

from onecard.cli import app

app(prog_name="onecard")
