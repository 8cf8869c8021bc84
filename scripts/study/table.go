package main

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
)

func tableCommand(args []string) error {
	flags := flag.NewFlagSet("table", flag.ContinueOnError)
	path := flags.String("results", "scripts/study/results.jsonl", "file of results")
	if err := flags.Parse(args); err != nil {
		return err
	}
	made, err := readResults(*path)
	if err != nil {
		return err
	}
	slices.SortStableFunc(made, func(a, b run) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Method+a.Start, b.Method+b.Start),
			cmp.Compare(a.Rho, b.Rho), cmp.Compare(a.LR, b.LR), cmp.Compare(a.Seed, b.Seed))
	})
	for _, r := range made {
		fmt.Printf("%s base %.4f loss %.4f\n", r, r.Base, r.Loss)
	}
	return nil
}
