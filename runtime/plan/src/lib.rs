//! an OCI spec and a grant to a plan; pure
