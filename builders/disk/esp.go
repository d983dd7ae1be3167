package disk

import (
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/rockpool/rootvm/builders"
)

// fatID is the serial number of the ESP's volume: the first eight hexadecimal
// digits of its UUID.
func fatID(spec builders.Spec) string {
	id, _, _ := strings.Cut(spec.UUID("esp"), "-")
	return id
}

// espCommands are the calls of mtools(1), each a program with its arguments,
// that make the FAT32 volume in its partition of the disk and put file at name
// there. (go-diskfs 1.9.4 writes FAT too, but the time of day into "." and "..",
// and a ".." that fsck.fat objects to.)
func espCommands(spec builders.Spec, esp Partition, name, file, disk string) [][]string {
	image := disk + "@@" + strconv.FormatInt(esp.Start, 10)
	commands := [][]string{{
		"mformat", "-i", image, "-F", "-T", strconv.FormatInt(esp.Size/sectorSize, 10),
		"-h", "255", "-s", "63", "-c", "1", "-N", fatID(spec), "-v", "ESP", "::",
	}}
	mkdir := []string{"mmd", "-i", image}
	for i, c := range name {
		if c == '/' && i > 0 {
			mkdir = append(mkdir, "::"+name[:i])
		}
	}
	return append(commands, mkdir, []string{"mcopy", "-i", image, file, "::" + name})
}

// writeESP makes the EFI system partition with one file, the firmware's
// removable media path.
func writeESP(ctx context.Context, tb Toolbox, spec builders.Spec, esp Partition, name string, content []byte, disk string) error {
	file := disk + ".esp"
	if err := os.WriteFile(file, content, 0o644); err != nil {
		return err
	}
	defer os.Remove(file)
	for _, c := range espCommands(spec, esp, name, file, disk) {
		if err := run(tb.Command(ctx, c[0], c[1:]...), environment(tb, spec)...); err != nil {
			return fmt.Errorf("put %s on the ESP: %w", path.Base(name), err)
		}
	}
	return nil
}
