//go:build pins

// Package pins keeps go.mod whole while the packages that use these modules
// are being written.
package pins

import (
	_ "github.com/coder/websocket"
	_ "github.com/containers/buildah"
	_ "github.com/containers/buildah/define"
	_ "github.com/containers/buildah/imagebuildah"
	_ "github.com/containers/podman/v5/pkg/bindings/containers"
	_ "github.com/containers/podman/v5/pkg/bindings/images"
	_ "github.com/containers/podman/v5/pkg/bindings/network"
	_ "github.com/containers/podman/v5/pkg/bindings/system"
	_ "github.com/containers/podman/v5/pkg/bindings/volumes"
	_ "github.com/containers/podman/v5/pkg/specgen"
	_ "github.com/getkin/kin-openapi/openapi3"
	_ "github.com/getkin/kin-openapi/openapi3filter"
	_ "github.com/google/go-containerregistry/pkg/registry"
	_ "github.com/opencontainers/image-spec/specs-go/v1"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/spdx/tools-golang/json"
	_ "go.podman.io/common/pkg/config"
	_ "go.podman.io/image/v5/copy"
	_ "go.podman.io/image/v5/docker"
	_ "go.podman.io/image/v5/oci/archive"
	_ "go.podman.io/image/v5/oci/layout"
	_ "go.podman.io/storage"
	_ "go.podman.io/storage/pkg/unshare"
)
