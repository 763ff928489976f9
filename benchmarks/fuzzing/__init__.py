"""The catalogue of odd inputs, and the processes in which they are tried: the pieces of benchmarks/fuzz.py."""
