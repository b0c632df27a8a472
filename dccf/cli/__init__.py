"""The command line: ``dccf run`` and the other verbs, one module per group."""
