//! cgroup v1, hybrid and v2: create, join, limits, stats, remove
