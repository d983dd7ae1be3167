package agent

import (
	"fmt"
	"io"
	"math/big"
	"strings"
)

// idLength is the length of 2^128-1 in base 36.
const idLength = 25

// NewID returns 128 bits of random as 25 lowercase base-36 digits, padded
// with zeros, so that ids sort as their numbers do.
func NewID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	s := new(big.Int).SetBytes(b[:]).Text(36)
	return strings.Repeat("0", idLength-len(s)) + s, nil
}

// ValidID reports whether s has the shape of an id.
func ValidID(s string) bool {
	if len(s) != idLength {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'z') })
}
