# Slicer's writes MedDiffusionConfig.cmake into the build tree, for extensions that build on this
# one. None does, and it is not installed.
