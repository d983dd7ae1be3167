package api

import (
	"net/http"

	"github.com/rockpool/rootvm/agent"
)

// The operations on repositories.
var (
	ListRepositories   = Operation{Method: http.MethodGet, Pattern: "/api/github/repos", Query: []string{QuerySort, QueryPage, QueryPerPage}}
	SearchRepositories = Operation{Method: http.MethodGet, Pattern: "/api/github/repos/search", Query: []string{QueryText, QueryPage, QueryPerPage}}
)

// Repository is an [agent.Repository], with the names that GitHub's own API
// uses.
type Repository struct {
	FullName      string `json:"full_name"`
	Owner         string `json:"owner"`
	OwnerType     string `json:"owner_type"`
	OwnerAvatar   string `json:"owner_avatar"`
	Description   Text   `json:"description"`
	Private       bool   `json:"private"`
	DefaultBranch string `json:"default_branch"`
	UpdatedAt     Time   `json:"updated_at"`
}

// FromRepository is r on the wire.
func FromRepository(r agent.Repository) Repository {
	return Repository{
		FullName:      r.FullName,
		Owner:         r.Owner,
		OwnerType:     r.OwnerType,
		OwnerAvatar:   r.OwnerAvatar,
		Description:   Text(r.Description),
		Private:       r.Private,
		DefaultBranch: r.DefaultBranch,
		UpdatedAt:     Time(r.UpdatedAt),
	}
}

// RepositoryList is a page of repositories.
type RepositoryList struct {
	Items    []Repository `json:"items"`
	NextPage *int         `json:"next_page"` // null on the last page
}

// RepositorySearch is a page of repositories that were searched for.
type RepositorySearch struct {
	Items      []Repository `json:"items"`
	TotalCount int          `json:"total_count"`
	NextPage   *int         `json:"next_page"` // null on the last page
}

// PageNumber is the number of a page, null for 0.
func PageNumber(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}
