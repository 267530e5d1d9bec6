//! a verified image and a request to a grant or a refusal; pure
