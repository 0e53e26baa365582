"""The six tables of `docs/detection-quality.md`: how good the detectors are, ours beside river's, frouros' and MOA's.

`python -m benchmarks.detection_quality` measures all of them; see `__main__` for the options.
"""
