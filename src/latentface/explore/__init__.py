"""The methods, a file each, one signature; `registry` knows them by name."""

from latentface.explore.registry import METHODS, Method, find_method

__all__ = ["METHODS", "Method", "find_method"]
