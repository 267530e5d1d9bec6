//! digest and blobs to image facts; linked by the judge, never by the shim
