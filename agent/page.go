package agent

import (
	"encoding/base64"
	"strings"
	"time"
)

// Limits of a page of a list.
const (
	DefaultPageSize = 25
	MaxPageSize     = 100
)

// PageSize clamps what a client asked for.
func PageSize(asked int) int { return max(1, min(asked, MaxPageSize)) }

// Cursor is a place in a list that is sorted newest first: after the item
// with this creation time and, among those of the same time, this id. The
// zero value is the start of the list.
type Cursor struct {
	CreatedAt time.Time
	ID        string
}

// Encode returns the cursor as clients carry it: opaque and safe in a query.
func (c Cursor) Encode() string {
	if c.ID == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(c.CreatedAt.UTC().Format(time.RFC3339Nano) + " " + c.ID))
}

// DecodeCursor reads what [Cursor.Encode] wrote; "" is the start of the list.
// Anything else is a validation error.
func DecodeCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	invalid := &Error{
		Code:    CodeValidation,
		Message: "The cursor is not one that this list gave out",
		Fields:  []Field{{Path: "cursor", Message: "is not valid"}},
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return Cursor{}, invalid
	}

	at, id, ok := strings.Cut(string(b), " ")
	if !ok || !ValidID(id) {
		return Cursor{}, invalid
	}
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || t.UTC().Format(time.RFC3339Nano) != at { // one spelling for each place
		return Cursor{}, invalid
	}
	return Cursor{CreatedAt: t.UTC(), ID: id}, nil
}
