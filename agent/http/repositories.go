package http

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

const (
	defaultRepositories = 30
	maxRepositories     = 100
	maxSearch           = 256 // GitHub refuses longer ones
)

// repositoryQuery reads the page that a client wants.
func repositoryQuery(q url.Values) (agent.RepositoryQuery, error) {
	page, err := number(q, "page", 1)
	if err != nil {
		return agent.RepositoryQuery{}, err
	}
	size, err := number(q, "per_page", defaultRepositories)
	if err != nil {
		return agent.RepositoryQuery{}, err
	}
	return agent.RepositoryQuery{Page: max(1, page), PerPage: max(1, min(size, maxRepositories))}, nil
}

func (s *Server) listRepositories(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	q, err := repositoryQuery(values)
	if err != nil {
		return err
	}
	q.Sort = values.Get("sort")
	if !slices.Contains([]string{"", "created", "updated", "pushed", "full_name"}, q.Sort) {
		return invalid("sort", "must be created, updated, pushed or full_name")
	}
	page, err := s.Repositories.ListRepositories(r.Context(), q)
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, repositoryList{Items: list(page.Items, shapeRepository), NextPage: optional(page.NextPage)})
	return nil
}

func (s *Server) searchRepositories(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	q, err := repositoryQuery(values)
	if err != nil {
		return err
	}
	q.Text = strings.TrimSpace(values.Get("q"))
	if q.Text == "" {
		return invalid("q", "is required")
	}
	if len(q.Text) > maxSearch {
		return invalid("q", "must be at most 256 bytes long")
	}
	page, err := s.Repositories.SearchRepositories(r.Context(), q)
	if err != nil {
		return err
	}
	s.json(w, http.StatusOK, repositoryList{
		Items:      list(page.Items, shapeRepository),
		TotalCount: &page.Total,
		NextPage:   optional(page.NextPage),
	})
	return nil
}
