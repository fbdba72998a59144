"""`python -m augmentor`, which launchers of several processes need."""

from augmentor.cli import main

main()
