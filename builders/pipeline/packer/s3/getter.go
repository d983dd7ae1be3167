// Package s3 stands for go-getter's getter of that name, which the template
// never needs: it takes no request.
package s3

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/hashicorp/go-getter/v2"
)

// Getter implements [getter.Getter].
type Getter struct {
	Timeout time.Duration
}

var errLeftOut = errors.New("this Packer was built without S3 and Google Cloud Storage")

// Detect takes no request.
func (*Getter) Detect(*getter.Request) (bool, error) { return false, nil }

// Mode fails.
func (*Getter) Mode(context.Context, *url.URL) (getter.Mode, error) { return 0, errLeftOut }

// Get fails.
func (*Getter) Get(context.Context, *getter.Request) error { return errLeftOut }

// GetFile fails.
func (*Getter) GetFile(context.Context, *getter.Request) error { return errLeftOut }
