// Package gcs stands for go-getter's getter of that name, which the template
// never needs: it takes no request.
package gcs

import "github.com/hashicorp/go-getter/s3/v2"

// Getter takes no request.
type Getter = s3.Getter
