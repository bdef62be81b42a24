"""Fuzzing of everything that reads bytes from outside: one target each, and the inputs that taught something.

A target is a module in `targets/` with `check(data)`, which raises where something is wrong: an exception that the code
does not promise, or two readers that take the same bytes differently. `make test` replays the corpus and tries a few
thousand mutations of it; `make fuzz ARGS="--seconds 60"` goes on for as long as it is let.
"""
