"""Flower with DCCF's defaults."""
