"""Models as they are kept: manifests, bundles, where they lie, their shape models."""
