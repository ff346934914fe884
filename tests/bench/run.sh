#!/bin/bash
# Benchmarks: tests/bench/run.sh GROUP [PART...]
#
#   job           where the time of one run goes, phase by phase
