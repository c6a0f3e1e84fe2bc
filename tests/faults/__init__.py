"""The fault drill: real consumers as processes on a real broker, killed, frozen and cut off while they work.

python -m tests.faults [--short] [--seed N] [--only NAME]
"""
