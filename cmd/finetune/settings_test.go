package main

import (
	"reflect"
	"testing"

	"finetune/run"

	"github.com/spf13/pflag"
)

func TestEverySettingHasItsFlag(t *testing.T) {
	c := run.DefaultConfig()
	flags := pflag.NewFlagSet("train", pflag.ContinueOnError)
	settingFlags(flags, &c)
	fields := reflect.ValueOf(&c).Elem()
	for i := range fields.NumField() {
		field := fields.Type().Field(i)
		if field.Tag.Get("flag") == "-" {
			continue
		}
		flag := flags.Lookup(field.Tag.Get("yaml"))
		if flag == nil {
			t.Errorf("%s: no flag --%s", field.Name, field.Tag.Get("yaml"))
			continue
		}
		// A value set through the flag must arrive in the field of that key.
		before := fields.Field(i).Interface()
		value := "7"
		if flag.Value.Type() == "bool" {
			value = "true"
		}
		if err := flag.Value.Set(value); err != nil {
			t.Errorf("--%s: %v", flag.Name, err)
		}
		if fields.Field(i).Interface() == before {
			t.Errorf("--%s does not set %s", flag.Name, field.Name)
		}
	}
}

func TestFlagsGoBeforeTheFile(t *testing.T) {
	c := run.DefaultConfig()
	flags := pflag.NewFlagSet("train", pflag.ContinueOnError)
	settingFlags(flags, &c)
	other := flags.Bool("resume", false, "") // a flag that is no setting
	if err := flags.Parse([]string{"--rank=4", "--lr=0.002", "--resume"}); err != nil {
		t.Fatal(err)
	}
	file := run.DefaultConfig()
	file.Rank, file.LR, file.Ctx = 64, 0.5, 128
	if err := overlay(flags, &c, file); err != nil {
		t.Fatal(err)
	}
	want := file
	want.Rank, want.LR = 4, 0.002 // --lr was given, if only with its default
	if c != want || !*other {
		t.Errorf("settings = %+v, want %+v", c, want)
	}
}
