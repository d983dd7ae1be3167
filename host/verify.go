package host

import (
	"context"
	"fmt"
	"os"

	"github.com/rockpool/rootvm/builders/release"
)

// Verify checks a file or directory of a release against its signed list of
// digests, offline. keyFile has the public keys that may have signed; empty: the
// one that the program is stamped with.
func (a *App) Verify(ctx context.Context, path, keyFile string) error {
	keys := []byte(a.ReleaseKey)
	if keyFile != "" {
		var err error
		if keys, err = os.ReadFile(keyFile); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
	}
	checked, err := release.Check(ctx, path, keys)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	files := "1 file"
	if checked.Files != 1 {
		files = fmt.Sprintf("%d files", checked.Files)
	}
	fmt.Fprintf(a.Out, "%s is what %s signed: %s\n", path, checked.Key, files)
	return nil
}
