"""Is a model useful: does a segmenter get better by synthetic volumes?

An experiment is a folder. Its cells (a seed, a number of real cases, an arm) and what they need
(generators, synthetic volumes) are tasks, each with a folder of its own that is held while it is
worked on and whole once it is done: any number of processes share them, and whatever was
interrupted goes on.
"""
