//go:build tools

// Package tools names the programs that the script `helm` builds, so that go.sum pins everything they are made of.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
	_ "helm.sh/helm/v4/cmd/helm"
)
