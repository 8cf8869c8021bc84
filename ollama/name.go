package ollama

import (
	"fmt"
	"regexp"
)

// modelName is [host/][namespace/]model[:tag] with the lengths that Ollama allows (types/model/name.go).
var modelName = regexp.MustCompile(`^(?:(?:\w[\w.:-]{0,349}/)?\w[\w-]{0,79}/)?\w[\w.-]{0,79}(?::\w[\w.-]{0,79})?$`)

// CheckName refuses what Ollama would not take as the name of a model. The forms are model, model:tag,
// namespace/model:tag and host/namespace/model:tag.
func CheckName(name string) error {
	if !modelName.MatchString(name) {
		return fmt.Errorf("ollama: name %q: want letters, digits, _, - and . as in tom/my-model:latest", name)
	}
	return nil
}
