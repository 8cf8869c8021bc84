package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"finetune/run"

	"github.com/spf13/pflag"
)

// variablePrefix begins the names of the variables of the environment that are settings: FINETUNE_MAX_MEMORY is --max-memory.
const variablePrefix = "FINETUNE_"

// otherVariables are those that are no settings.
var otherVariables = []string{"FINETUNE_CACHE", aloneVariable, workerVariable, tokenVariable, "FINETUNE_NO_SKIP"}

// testVariables begins the names of those that tests use.
const testVariables = variablePrefix + "TEST_"

// variableOf returns the variable of a setting.
func variableOf(key string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// settingsFromEnvironment sets the flags that are settings of a run and not on the command line by their variables, where these are set
// and not empty. Of a run that is resumed only those are that may change: the others are the run's own.
func settingsFromEnvironment(f *pflag.FlagSet, resume bool, getenv func(string) string) error {
	fields := reflect.TypeFor[run.Config]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		key := field.Tag.Get("yaml")
		flag, value := f.Lookup(key), getenv(variableOf(key))
		if flag == nil || flag.Changed || value == "" || resume && field.Tag.Get("resume") != "free" {
			continue
		}
		if err := f.Set(key, value); err != nil {
			if bad := (*pflag.InvalidValueError)(nil); errors.As(err, &bad) {
				return &usageError{fmt.Sprintf("%s: want %s, got %q", variableOf(key), valueNoun(flag.Value.Type()), value)}
			}
			return &usageError{fmt.Sprintf("%s: %v", variableOf(key), err)}
		}
	}
	return nil
}

// unknownVariables returns the variables that look like settings and are none.
func unknownVariables() (names []string) {
	known := map[string]bool{}
	for _, name := range otherVariables {
		known[name] = true
	}
	fields := reflect.TypeFor[run.Config]()
	for i := range fields.NumField() {
		known[variableOf(fields.Field(i).Tag.Get("yaml"))] = true
	}
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); value != "" && strings.HasPrefix(name, variablePrefix) && !strings.HasPrefix(name, testVariables) && !known[name] {
			names = append(names, name)
		}
	}
	return names
}
