"""`python -m rllib_dapo`: the command line where no script was installed, as in a submitted job."""

from rllib_dapo.cli import main

main()
