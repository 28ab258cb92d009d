"""Shadow models: training, planning, timing, reuse."""
