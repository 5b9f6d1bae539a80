//go:build tools

// Package tools names the program that the script `helm` builds, so that go.sum pins everything it is made of.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
