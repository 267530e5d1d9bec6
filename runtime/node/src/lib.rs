//! what this node holds: the root-owned files of Bulkhead, read with their owners checked, and the kernel's features
