//! a process confines itself as its plan says, and asks the kernel back
