//! starts the real containerd, registry, images and CRI, and tests Bulkhead against them
