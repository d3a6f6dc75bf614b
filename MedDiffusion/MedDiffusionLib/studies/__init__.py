"""Reader studies: a study as a folder, made blind, checked, answered and analysed."""
