//go:build tools

// Package runc names what build.sh builds.
package runc

import _ "github.com/opencontainers/runc"
