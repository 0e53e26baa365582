"""The closed loop in one process: a model that drifts, the monitor, and a pipeline that answers its triggers."""
