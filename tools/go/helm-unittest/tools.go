//go:build tools

// Package tools names the program that this module exists for, so that `go mod tidy` keeps it.
package tools

import _ "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"
