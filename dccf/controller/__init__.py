"""The controller: sweeps that keep jobs moving, any number of controllers at once."""
