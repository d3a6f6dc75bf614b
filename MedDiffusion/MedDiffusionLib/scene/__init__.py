"""The scene ring: MRML nodes into engine volumes and back. Imports slicer and vtk, never qt."""
