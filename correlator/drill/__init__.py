"""Proof on real packets: throw-away network namespaces, and a scanner that works from one of them.

The drill, the namespace tests and the benches stand on it; nothing that runs on a guarded host imports it.
"""
