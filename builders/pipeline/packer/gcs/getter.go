// Package gcs stands for go-getter's getter of that name, as s3 does.
package gcs

import "github.com/hashicorp/go-getter/s3/v2"

// Getter takes no request.
type Getter = s3.Getter
