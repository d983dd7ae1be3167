package http

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/api"
)

const (
	defaultRepositories = 30
	maxRepositories     = 100
	maxSearch           = 256 // GitHub refuses longer ones
)

// repositoryRoutes are the operations on repositories.
func (s *Server) repositoryRoutes() []route {
	return []route{
		{api.ListRepositories, s.listRepositories},
		{api.SearchRepositories, s.searchRepositories},
	}
}

// repositoryQuery reads the page that a client wants.
func repositoryQuery(q url.Values) (agent.RepositoryQuery, error) {
	page, err := number(q, api.QueryPage, 1)
	if err != nil {
		return agent.RepositoryQuery{}, err
	}
	size, err := number(q, api.QueryPerPage, defaultRepositories)
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
	q.Sort = values.Get(api.QuerySort)
	if !slices.Contains([]string{"", "created", "updated", "pushed", "full_name"}, q.Sort) {
		return invalid(api.QuerySort, "must be created, updated, pushed or full_name")
	}
	page, err := s.Repositories.ListRepositories(r.Context(), q)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.RepositoryList{
		Items:    api.List(page.Items, api.FromRepository),
		NextPage: api.PageNumber(page.NextPage),
	})
}

func (s *Server) searchRepositories(w http.ResponseWriter, r *http.Request) error {
	values := r.URL.Query()
	q, err := repositoryQuery(values)
	if err != nil {
		return err
	}
	q.Text = strings.TrimSpace(values.Get(api.QueryText))
	if q.Text == "" {
		return invalid(api.QueryText, "is required")
	}
	if len(q.Text) > maxSearch {
		return invalid(api.QueryText, "must be at most 256 bytes long")
	}

	page, err := s.Repositories.SearchRepositories(r.Context(), q)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, api.RepositorySearch{
		Items:      api.List(page.Items, api.FromRepository),
		TotalCount: page.Total,
		NextPage:   api.PageNumber(page.NextPage),
	})
}
