"""`python -m rllib_dapo`: the command where no script `rllib-dapo` was installed, as in a submitted job."""

from rllib_dapo.cli import main

main()
