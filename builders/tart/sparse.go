package tart

import (
	"context"
	"io"
	"os"

	"github.com/rockpool/rootvm/builders"
)

// extent is a part of a file, in bytes.
type extent struct{ start, end int64 }

// extents are the parts of the file between start and end that are data; what
// lies between them reads as zeros. One that is not known to be a hole is data.
func extents(f *os.File, start, end int64) ([]extent, error) {
	var all []extent
	for start < end {
		from, to, err := builders.NextData(f, start, end)
		if err != nil {
			return nil, err
		}
		if from < to {
			all = append(all, extent{from, to})
		}
		start = to
	}
	return all, nil
}

// overlaps reports whether one of the extents, which are in order, lies in part
// between start and end, and returns those that do not lie wholly before start.
func overlaps(all []extent, start, end int64) (rest []extent, ok bool) {
	for len(all) > 0 && all[0].end <= start {
		all = all[1:]
	}
	return all, len(all) > 0 && all[0].start < end
}

// copyStep is how much is copied between two looks at the context.
const copyStep = 64 << 20

// copySparse copies size bytes and leaves holes where from has them. On file
// systems that can share blocks, the copy shares them.
func copySparse(ctx context.Context, to, from *os.File, size int64) error {
	data, err := extents(from, 0, size)
	if err != nil {
		return err
	}

	for _, e := range data {
		for start := e.start; start < e.end; start += copyStep {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if _, err := from.Seek(start, io.SeekStart); err != nil {
				return err
			}
			if _, err := to.Seek(start, io.SeekStart); err != nil {
				return err
			}
			if _, err := io.CopyN(to, from, min(copyStep, e.end-start)); err != nil {
				return err
			}
		}
	}

	return to.Truncate(size)
}
