//! asks containerd over gRPC and the judge over pipes; the only crate that speaks to containerd's API
