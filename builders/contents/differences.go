package contents

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Differences says in which files and structures the disk of one list differs
// from that of another, as faults of the latter in the order of the former. What
// differs in its place alone is counted.
func Differences(want, got *List) []Fault {
	var faults []Fault
	if want.DiskSize != got.DiskSize {
		faults = append(faults, Fault{Place: "disk", Why: fmt.Sprintf("has %d bytes instead of %d", got.DiskSize, want.DiskSize)})
	}
	others := map[string]Region{}
	for _, r := range got.Regions {
		others[r.key()] = r
	}

	moved := 0
	for _, r := range want.Regions {
		other, ok := others[r.key()]
		delete(others, r.key())
		switch why := r.differences(other); {
		case !ok:
			faults = append(faults, Fault{Place: r.String(), Why: "is missing"})
		case why != "":
			faults = append(faults, Fault{Place: r.String(), Why: why})
		case !slices.Equal(r.At, other.At) || r.Inode != other.Inode:
			moved++
		}
	}
	for _, r := range got.Regions {
		if _, left := others[r.key()]; left {
			faults = append(faults, Fault{Place: r.String(), Why: "should not be there"})
		}
	}
	if moved > 0 {
		faults = append(faults, Fault{Place: "disk", Why: fmt.Sprintf("%d files and structures are the same and lie elsewhere", moved)})
	}
	return faults
}

// key names a region whatever its kind is.
func (r Region) key() string { return r.Part + "\x00" + r.Name }

// differences says in which way another region is not as this one, places aside.
func (r Region) differences(other Region) string {
	if r.Kind != other.Kind {
		return fmt.Sprintf("is a %s instead of a %s", other.Kind, r.Kind)
	}
	if r.Fields != "" && r.Fields == other.Fields {
		want, err1 := hex.DecodeString(r.Bytes)
		got, err2 := hex.DecodeString(other.Bytes)
		if err1 == nil && err2 == nil && len(want) == len(got) {
			return layouts[r.Fields].differences(want, got)
		}
	}

	var all []string
	differs := func(field string, got, want any) {
		if got != want {
			all = append(all, fmt.Sprintf("%s is %v instead of %v", field, got, want))
		}
	}
	differs("mode", other.Mode, r.Mode)
	differs("uid", other.UID, r.UID)
	differs("gid", other.GID, r.GID)
	differs("time", other.Time, r.Time)
	differs("target", other.Target, r.Target)
	differs("size", other.Size, r.Size)
	if r.Kind != Directory && (r.SHA256 != other.SHA256 || r.Zero != other.Zero) {
		all = append(all, "its content is another one")
	}
	return strings.Join(all, ", ")
}
