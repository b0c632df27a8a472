"""The one-machine stack: every process of DCCF, supervised on one machine."""
