package contents

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
)

// AddQCOW2 adds to the list the structures of the sound qcow2 file at path that
// holds the disk: its header and its tables (QEMU's docs/interop/qcow2.txt). Of
// clusters it needs nothing: they are the disk.
func (l *List) AddQCOW2(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	regions, err := structures(f)
	if err != nil {
		return fmt.Errorf("list contents: %s: %w", path, err)
	}
	l.Regions = append(l.Regions, regions...)
	return nil
}

const qcow2HeaderSize = 112

// structures lists those of a qcow2 file.
func structures(f *os.File) ([]Region, error) {
	b := make([]byte, qcow2HeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	if string(b[:4]) != "QFI\xfb" || be.Uint32(b[4:]) != 3 || be.Uint32(b[100:]) != qcow2HeaderSize {
		return nil, errors.New("it is no qcow2 of version 3 as qemu-img writes it")
	}
	clusterBits, size := be.Uint32(b[20:]), int64(be.Uint64(b[24:]))
	if clusterBits < 9 || clusterBits > 21 {
		return nil, fmt.Errorf("clusters of 2^%d bytes", clusterBits)
	}
	cluster := int64(1) << clusterBits
	l1, l1Size := int64(be.Uint64(b[40:])), int64(be.Uint32(b[36:]))
	refcounts, refcountClusters := int64(be.Uint64(b[48:])), int64(be.Uint32(b[56:]))

	q := qcow2Structures{file: f, cluster: cluster}
	q.add("header", 0, qcow2HeaderSize)
	q.regions[0].Fields, q.regions[0].Bytes = "qcow2", hex.EncodeToString(b)
	q.add("header extensions", qcow2HeaderSize, cluster-qcow2HeaderSize)
	q.add("refcount table", refcounts, refcountClusters*cluster)
	q.add("L1 table", l1, l1Size*8)
	blocks, err := q.pointers(refcounts, refcountClusters*cluster/8)
	if err != nil {
		return nil, err
	}
	for i, at := range blocks {
		if at != 0 {
			q.add(fmt.Sprintf("refcount block %d", i), at, cluster)
		}
	}
	tables, err := q.pointers(l1, l1Size)
	if err != nil {
		return nil, err
	}
	span := cluster / 8 * cluster
	for i, at := range tables {
		if at != 0 {
			start := int64(i) * span
			q.add(fmt.Sprintf("L2 table %d, of bytes %d to %d of the disk", i, start, min(start+span, size)), at, cluster)
		}
	}
	return q.regions, q.digest()
}

type qcow2Structures struct {
	file    *os.File
	cluster int64
	regions []Region
}

func (q *qcow2Structures) add(name string, at, size int64) {
	q.regions = append(q.regions, Region{Part: QCOW2, Kind: Structure, Name: name, At: []Extent{{at, size}}, Size: size})
}

// pointers reads count entries of a table of offsets.
func (q *qcow2Structures) pointers(at, count int64) ([]int64, error) {
	b := make([]byte, 8*count)
	if _, err := q.file.ReadAt(b, at); err != nil {
		return nil, err
	}
	all := make([]int64, count)
	for i := range all {
		all[i] = int64(binary.BigEndian.Uint64(b[8*i:]) & 0x00fffffffffffe00)
	}
	return all, nil
}

func (q *qcow2Structures) digest() error {
	buffer := make([]byte, q.cluster)
	for i := range q.regions {
		r := &q.regions[i]
		if r.Fields != "" {
			continue
		}
		sum, _, err := r.hash(q.file, buffer)
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		r.SHA256 = sum
	}
	return nil
}

// CompareQCOW2 is [List.Compare] for the disk in the qcow2 file at path, and its
// own structures. While those are damaged, the disk is not looked at.
func (l *List) CompareQCOW2(ctx context.Context, path string) ([]Fault, error) {
	faults, err := l.compareStructures(path)
	if err != nil || len(faults) > 0 {
		return faults, err
	}
	disk, err := OpenQCOW2(path)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	return l.Compare(ctx, disk)
}

// compareStructures compares the structures of a qcow2 file.
func (l *List) compareStructures(path string) ([]Fault, error) {
	file, err := OpenRaw(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	var faults []Fault
	listed := false
	buffer := make([]byte, 1<<20)
	for i := range l.Regions {
		r := &l.Regions[i]
		if r.Part != QCOW2 {
			continue
		}
		listed = true
		if why, at := l.compare(r, file, buffer); why != "" {
			faults = append(faults, Fault{Place: r.String(), Why: why, start: at})
		}
	}
	if !listed {
		return nil, errors.New("the list of contents does not know the qcow2")
	}
	return faults, nil
}
