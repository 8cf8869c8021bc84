package serve

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode"
)

// mostScale is the largest scale of an adapter that is not a mistake.
const mostScale = 1e4

// checkNames refuses models that a request could not name.
func checkNames(models []Model) error {
	if len(models) == 0 {
		return fmt.Errorf("serve: no model, want the base at least")
	}
	seen := map[string]bool{}
	for _, m := range models {
		switch {
		case m.Name == "" || strings.ContainsFunc(m.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
			return fmt.Errorf("model name %q: want letters that can be printed", m.Name)
		case m.Adapter != nil && strings.Contains(m.Name, ":"):
			return fmt.Errorf("adapter name %q: want one without a colon, behind which requests give a scale", m.Name)
		case seen[m.Name]:
			return fmt.Errorf("model name %q: given to two", m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}

// model returns the one that a request names, an adapter with the scale behind the colon if there is one. The base needs no name.
func (s *Server) model(name string) (Model, error) {
	if name == "" {
		return s.models[0], nil
	}
	for _, m := range s.models {
		if m.Name == name {
			return m, nil
		}
	}
	if i := strings.LastIndexByte(name, ':'); i > 0 {
		scale, err := strconv.ParseFloat(name[i+1:], 32)
		for _, m := range s.models {
			if m.Adapter == nil || m.Name != name[:i] {
				continue
			}
			if err != nil || !(math.Abs(scale) <= mostScale) {
				return m, bad("model", "want a scale from -%g to %g behind the colon, got %.40q", mostScale, mostScale, name[i+1:])
			}
			m.Name, m.Scale = name, float32(scale)
			return m, nil
		}
	}
	err := problem(http.StatusNotFound, "model_not_found", "there is no model %.100q, want one of %s", name, s.names())
	param := "model"
	err.Param = &param
	return Model{}, err
}

func (s *Server) names() string {
	var names []string
	for _, m := range s.models {
		names = append(names, strconv.Quote(m.Name))
	}
	return strings.Join(names, ", ")
}

// listedModel is a model as /v1/models has it.
type listedModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // when the server began
	OwnedBy string `json:"owned_by"`
}

func (s *Server) listed(m Model) listedModel {
	return listedModel{m.Name, "model", s.began.Unix(), "finetune"}
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	all := struct {
		Object string        `json:"object"`
		Data   []listedModel `json:"data"`
	}{Object: "list"}
	for _, m := range s.models {
		all.Data = append(all.Data, s.listed(m))
	}
	send(w, http.StatusOK, all)
}

func (s *Server) describe(w http.ResponseWriter, r *http.Request) {
	m, err := s.model(r.PathValue("name"))
	if err != nil {
		refuse(w, apiErrorOf(err))
		return
	}
	send(w, http.StatusOK, s.listed(m))
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, map[string]string{"status": "ok"})
}
