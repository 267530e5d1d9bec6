//! binds a container to the image that is really mounted: asks containerd and the judge
