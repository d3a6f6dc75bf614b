"""What to do about an error, in the words of each front end; by the error's code.

A code that is not here has the engine's own remedy, which suits every front end.
"""

COMMAND = {
    "data-unusable": "--check lists all problems, --skip-bad leaves bad cases out",
    "device-missing": "use --device auto or --device cpu",
    "holds-run": "use --resume to go on, or another output",
    "label-override": "correct --label",
    "label-unknown": "say which is which with --label VALUE=NAME (NAME may be background)",
    "model-needs-labels": "use meddiffusion synthesize with a label map, or another model",
    "model-without-labels": "use meddiffusion generate, or another model",
    "no-checkpoint": "start the run without --resume",
    "out-of-memory": "crop the label map to the region of interest or give it a coarser spacing, "
    "use --native, close other programs, or use --device cpu if this was a GPU",
    "output-exists": "use --overwrite to replace it, or choose another name",
    "resume": "see to it, then go on with --resume",
    "too-much": "crop the label map to the region of interest, use --native or a coarser label "
    "map, take fewer --steps or --samples, or say --yes to do it all the same",
    "unexpected": "please report it; with MEDDIFFUSION_DEBUG=1 all is said about it",
}
"""Of the ``meddiffusion`` command."""

MODULE = {
    "data-unusable": "the output of Check lists all problems, Skip bad cases leaves them out",
    "holds-run": "switch on Resume to go on, or choose another output folder",
    "label-override": "correct the Label table",
    "label-unknown": "say which is which in the Label table, as in 3=anterior,9=background",
    "no-checkpoint": "start the run without Resume",
    "output-exists": "switch on Overwrite to replace it, or choose another folder",
    "resume": "see to it, then go on with Resume",
    "too-much": "crop the label map to the region of interest, use a coarser one, take fewer Steps "
    "or Samples, or switch on Accept costs to do it all the same",
}
"""Of the CLI modules, whose parameters have the labels of their XML."""
