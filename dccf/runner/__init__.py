"""Container execution: the contract in :mod:`dccf.runner.base`, Docker behind it, and a scripted fake."""
