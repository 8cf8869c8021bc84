package main

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// only checks that the answers of one adapter among several are those that it gave alone: only ADAPTER ALL ALONE
func only(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: only ADAPTER ALL ALONE")
	}
	read := func(name string) (reports []chatReport) {
		for _, line := range strings.Split(strings.TrimSpace(ts.ReadFile(name)), "\n") {
			var r chatReport
			ts.Check(json.Unmarshal([]byte(line), &r))
			reports = append(reports, r)
		}
		return reports
	}
	var got []chatReport
	for _, r := range read(args[1]) {
		if r.Adapter == args[0] {
			r.Adapter = ""
			got = append(got, r)
		}
	}
	want := read(args[2])
	if len(got) != len(want) {
		ts.Fatalf("%d answers of %s, want %d", len(got), args[0], len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			ts.Fatalf("answer %d of %s is %q, want %q", i+1, args[0], got[i], want[i])
		}
	}
}

// lines checks that some lines of a file are the whole of another: lines FROM TO FILE WHOLE
func sameLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: lines FROM TO FILE WHOLE")
	}
	from, err := strconv.Atoi(args[0])
	ts.Check(err)
	to, err := strconv.Atoi(args[1])
	ts.Check(err)
	all := strings.SplitAfter(ts.ReadFile(args[2]), "\n")
	if got, want := strings.Join(all[min(from-1, len(all)):min(to, len(all))], ""), ts.ReadFile(args[3]); got != want {
		ts.Fatalf("lines %d to %d of %s are %q, want %q", from, to, args[2], got, want)
	}
}
