package agent

import (
	"context"
	"time"
)

// Repository is one that a workspace can be made from.
type Repository struct {
	FullName      string // owner/name, as [NewWorkspace.RepositoryID] takes it
	Owner         string
	OwnerType     string // "User" or "Organization"
	OwnerAvatar   string // address of a picture
	Description   string
	Private       bool
	DefaultBranch string
	UpdatedAt     time.Time
}

// RepositoryQuery asks for one page of repositories.
type RepositoryQuery struct {
	Text    string // what to search for; unused when listing
	Sort    string // created, updated, pushed or full_name; "" is updated
	Page    int    // from 1
	PerPage int    // 1 to 100
}

// RepositoryPage is one page of repositories.
type RepositoryPage struct {
	Items    []Repository
	Total    int // of the whole search
	NextPage int // 0 on the last page
}

// Repositories finds repositories of a forge.
type Repositories interface {
	// ListRepositories returns the user's own repositories, and an empty page
	// when the forge does not know who the user is.
	ListRepositories(ctx context.Context, q RepositoryQuery) (RepositoryPage, error)
	// SearchRepositories searches all public repositories. A forge that does
	// not answer, or not any more for a while, is a [CodeUnavailable] error.
	SearchRepositories(ctx context.Context, q RepositoryQuery) (RepositoryPage, error)
}
