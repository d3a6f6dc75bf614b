"""The module's panel. Imports qt, ctk and slicer, never torch."""
