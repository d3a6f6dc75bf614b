"""Stand-ins of Slicer's pure-Python parts that the wheel lacks, for what this project uses.

Written anew, with Slicer's names and behavior; the folder joins ``slicer.__path__``. The tests
also run on Slicer's own files (``SLICER_SOURCE_DIR``), which keeps these honest.
"""
