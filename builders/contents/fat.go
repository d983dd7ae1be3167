package contents

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// fat lists a FAT32 file system, by Microsoft's specification of 2000.
type fat struct {
	maker *maker
	part  Partition

	clusterSize, dataStart int64 // bytes; where cluster 2 begins
	chain                  []byte
}

const (
	fatEntry       = 32
	fatEnd         = 0x0ffffff8
	fatMask        = 0x0fffffff
	fatLongName    = 0x0f
	fatVolumeLabel = 0x08
	fatDirectory   = 0x10
)

func (f *fat) list() error {
	boot, err := f.maker.read(f.part.Start, sectorSize)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if le.Uint16(boot[11:]) != sectorSize || boot[13] == 0 || boot[16] == 0 || le.Uint16(boot[22:]) != 0 {
		return errors.New("it is no FAT32")
	}
	reserved, fats, length := int64(le.Uint16(boot[14:])), int64(boot[16]), int64(le.Uint32(boot[36:]))
	info, backup := int64(le.Uint16(boot[48:])), int64(le.Uint16(boot[50:]))
	f.clusterSize = int64(boot[13]) * sectorSize
	f.dataStart = f.part.Start + (reserved+fats*length)*sectorSize
	if info != 1 || backup <= info || backup >= reserved {
		return fmt.Errorf("FSInfo at sector %d, backup boot sector at %d", info, backup)
	}

	name, start := f.part.Name, f.part.Start
	f.maker.fields(name, "boot sector", "fat32", start, sectorSize)
	f.maker.fields(name, "FSInfo sector", "fsinfo", start+sectorSize, sectorSize)
	f.maker.structure(name, "reserved sectors before the backup boot sector", start+2*sectorSize, (backup-2)*sectorSize)
	f.maker.fields(name, "backup boot sector", "fat32", start+backup*sectorSize, sectorSize)
	if rest := reserved - backup - 1; rest > 0 {
		f.maker.structure(name, "reserved sectors after the backup boot sector", start+(backup+1)*sectorSize, rest*sectorSize)
	}
	for i := range fats {
		f.maker.structure(name, fmt.Sprintf("file allocation table %d", i+1), start+(reserved+i*length)*sectorSize, length*sectorSize)
	}

	if f.chain, err = f.maker.read(start+reserved*sectorSize, length*sectorSize); err != nil {
		return err
	}
	return f.directory("/", le.Uint32(boot[44:]), 0)
}

// maxDepth is how deep directories may lie in each other.
const maxDepth = 64

// directory adds the directory at path and all below it.
func (f *fat) directory(path string, cluster uint32, depth int) error {
	if depth > maxDepth {
		return errors.New("directories lie in each other without end")
	}
	at, err := f.extents(cluster)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var content []byte
	for _, e := range at {
		b, err := f.maker.read(e.Start, e.Length)
		if err != nil {
			return err
		}
		content = append(content, b...)
	}
	f.maker.list.Regions = append(f.maker.list.Regions, Region{
		Part: f.part.Name, Kind: Directory, Name: path, At: at, Size: int64(len(content)),
	})

	for ; len(content) >= fatEntry && content[0] != 0; content = content[fatEntry:] {
		if err := f.entry(path, content[:fatEntry], depth); err != nil {
			return err
		}
	}
	return nil
}

// entry adds what one entry of a directory names, by its short name.
func (f *fat) entry(dir string, e []byte, depth int) error {
	le := binary.LittleEndian
	attributes := e[11]
	if e[0] == 0xe5 || e[0] == '.' || attributes == fatLongName || attributes&fatVolumeLabel != 0 {
		return nil
	}
	path := strings.TrimSuffix(dir, "/") + "/" + strings.TrimRight(string(e[:8]), " ")
	if extension := strings.TrimRight(string(e[8:11]), " "); extension != "" {
		path += "." + extension
	}
	cluster, size := uint32(le.Uint16(e[20:]))<<16|uint32(le.Uint16(e[26:])), int64(le.Uint32(e[28:]))
	if attributes&fatDirectory != 0 {
		return f.directory(path, cluster, depth+1)
	}

	r := Region{Part: f.part.Name, Kind: File, Name: path, Size: size}
	if size > 0 {
		var err error
		if r.At, err = f.extents(cluster); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	f.maker.list.Regions = append(f.maker.list.Regions, r)
	return nil
}

// extents follows a chain of clusters.
func (f *fat) extents(cluster uint32) ([]Extent, error) {
	var all []Extent
	for steps := 0; cluster < fatEnd; steps++ {
		if cluster < 2 || int64(cluster)*4+4 > int64(len(f.chain)) || steps > len(f.chain)/4 {
			return nil, fmt.Errorf("its chain of clusters leads to %d", cluster)
		}
		start := f.dataStart + int64(cluster-2)*f.clusterSize
		all = appendExtent(all, Extent{start, f.clusterSize})
		cluster = binary.LittleEndian.Uint32(f.chain[cluster*4:]) & fatMask
	}
	return all, nil
}

// appendExtent adds an extent, or makes the last one longer.
func appendExtent(all []Extent, e Extent) []Extent {
	if n := len(all) - 1; n >= 0 {
		last := all[n]
		if last.Start < 0 && e.Start < 0 || last.Start >= 0 && last.Start+last.Length == e.Start {
			all[n].Length += e.Length
			return all
		}
	}
	return append(all, e)
}
