package dashboard

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

func (d *Dashboard) chooseSource(w http.ResponseWriter, _ *http.Request) error {
	return d.render(w, http.StatusOK, "new.html", d.layout("Create workspace", listPath))
}

type repoView struct {
	layout
	Repo   string // as typed
	Faults faults
}

func (d *Dashboard) chooseRepository(w http.ResponseWriter, _ *http.Request) error {
	return d.render(w, http.StatusOK, "repo.html", repoView{layout: d.layout("Choose a repository", listPath)})
}

type configureView struct {
	layout
	Form   agent.NewWorkspace
	Faults faults
}

// configure shows the form of a new workspace: a blank one, or one with the
// repository in the query.
func (d *Dashboard) configure(w http.ResponseWriter, r *http.Request) error {
	repo := strings.TrimSpace(r.URL.Query().Get("repo"))
	if r.URL.Query().Has("repo") {
		if fault := repositoryFault(repo); fault != "" {
			v := repoView{layout: d.layout("Choose a repository", listPath), Repo: repo, Faults: faults{"repo": fault}}
			return d.render(w, http.StatusBadRequest, "repo.html", v)
		}
	}
	v := configureView{layout: d.layout("Configure workspace", listPath)}
	v.Form = agent.NewWorkspace{RepositoryID: repo, Name: suggestName(repo), AutoSyncPrefs: true}
	return d.render(w, http.StatusOK, "configure.html", v)
}

// repositoryFault says what is wrong with a repository, "" when nothing is.
func repositoryFault(repo string) string {
	if repo == "" {
		return "Enter a repository."
	}
	n := agent.NewWorkspace{Name: "any", RepositoryID: repo}
	if e, ok := n.Validate().(*agent.Error); ok {
		return faultsOf(e, "repositoryId")["repositoryId"]
	}
	return ""
}

var unfitForName = regexp.MustCompile(`[^a-z0-9]+`)

// suggestName makes a workspace's name of a repository's, "" when that does
// not give one.
func suggestName(repo string) string {
	if u, err := url.Parse(repo); err == nil {
		repo = u.Path
	}
	repo = strings.TrimSuffix(strings.TrimRight(repo, "/"), ".git")
	name := unfitForName.ReplaceAllString(strings.ToLower(repo[strings.LastIndexByte(repo, '/')+1:]), "-")
	name = strings.Trim(name[:min(len(name), 63)], "-")
	if len(name) < 3 {
		return ""
	}
	return name
}

// create makes the workspace and goes to its page. A fault is shown at its
// field, and everything that was typed stays.
func (d *Dashboard) create(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}

	v := configureView{layout: d.layout("Configure workspace", listPath)}
	v.Form = agent.NewWorkspace{
		Name:          strings.TrimSpace(r.PostForm.Get("name")),
		Description:   strings.TrimSpace(r.PostForm.Get("description")),
		RepositoryID:  strings.TrimSpace(r.PostForm.Get("repositoryId")),
		Token:         strings.TrimSpace(r.PostForm.Get("token")),
		AutoSyncPrefs: r.PostForm.Get("autoSyncPrefs") != "",
	}

	made, err := d.ControlPlane.CreateWorkspace(r.Context(), v.Form)
	if err == nil {
		http.Redirect(w, r, listPath+"/"+made.ID, http.StatusSeeOther)
		return nil
	}
	status, e := d.explain(r, err)
	field := "form"
	if status == http.StatusConflict {
		field = "name"
	}
	v.Faults = faultsOf(e, field)
	return d.render(w, status, "configure.html", v)
}

// badForm turns what reading a form can fail with into what users are told.
func badForm(err error) error {
	if strings.Contains(err.Error(), "request body too large") {
		return agent.Errorf(agent.CodeTooLarge, "That was more than a form may send.")
	}
	return agent.Errorf(agent.CodeValidation, "The form could not be read. Go back and send it again.")
}
