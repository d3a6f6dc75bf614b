"""From a label map to volumes: settings, labels, the synthesizer, batches, provenance."""
