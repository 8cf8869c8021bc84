package demo

import (
	"fmt"
	"strings"
)

// words are what sentences are made of.
type words struct {
	names, things []string
	forms         []string // with who, how many, what
}

// fewWords are for the embedded base, which chooses from what it has seen.
var fewWords = words{
	names:  strings.Fields("Tom Anna Ben Mary John Sam James Peter Jack Lily David Emma"),
	things: strings.Fields("apples books cats eggs cookies flowers cards toys pencils stickers oranges marbles"),
	forms: []string{
		"%[1]s has %[2]d %[3]s.",
		"%[1]s bought %[2]d %[3]s.",
		"%[1]s found %[2]d %[3]s in the park.",
		"Yesterday %[1]s sold %[2]d %[3]s.",
		"There are %[2]d %[3]s on the table of %[1]s.",
		"%[1]s wants %[2]d %[3]s.",
	},
}

// manyWords are for chat models: so many that it is easier to learn to copy than to learn them.
var manyWords = words{
	names: strings.Fields(`Tom Anna Ben Clara David Emma Frank Grace Henry Ingrid Jack Kate Leo Maria Nina Oscar Paul Rosa Simon
		Tara Victor Wendy Yusuf Zoe Ahmed Bianca Carlos Dora Erik Fatima George Helen Ivan Julia Kenji Lucy Mohammed Naomi Olga Peter
		Quentin Ruth Sofia Tim Ursula Vera Walter Xenia Yara Adam Bridget Chen Diana Edgar Fiona Gustav Hannah Isaac Jasmine Karim`),
	things: strings.Fields(`apples books cats drums eggs flowers guitars hats islands jars keys lemons mirrors needles oranges pencils
		quilts roses stamps tickets umbrellas vases wheels envelopes zebras anchors bottles candles dolls elephants feathers gloves
		hammers insects jackets kites lamps marbles notebooks onions paintings rabbits shells tables spoons violins windows melons
		yachts coins buttons bridges cameras doors engines forks goats horses ladders mushrooms`),
	forms: []string{
		"%[1]s has %[2]d %[3]s.",
		"%[1]s bought %[2]d %[3]s.",
		"Yesterday %[1]s bought %[2]d %[3]s.",
		"%[1]s found %[2]d %[3]s in the park.",
		"%[1]s sold %[2]d %[3]s at the market.",
		"There are %[2]d %[3]s on the table of %[1]s.",
		"The %[2]d %[3]s belong to %[1]s.",
		"%[1]s is looking for %[2]d %[3]s.",
		"In the morning %[1]s counted %[2]d %[3]s.",
		"%[1]s gave %[2]d %[3]s to a friend.",
		"On Monday %[1]s made %[2]d %[3]s.",
		"My friend %[1]s collects %[3]s and has %[2]d.",
		"%[1]s packed %[2]d %[3]s into a bag.",
		"At school %[1]s drew %[2]d %[3]s.",
		"%[1]s saw %[2]d %[3]s on the way to work.",
		"%[1]s would like %[2]d %[3]s, please.",
		"Today %[1]s lost %[2]d %[3]s.",
		"%[2]d %[3]s were brought by %[1]s.",
		"We need %[2]d %[3]s for %[1]s.",
		"Last week %[1]s borrowed %[2]d %[3]s from the neighbours.",
		"%[1]s got %[2]d %[3]s for a birthday.",
		"Did you see the %[2]d %[3]s of %[1]s?",
		"%[1]s repaired %[2]d %[3]s in the garage.",
	},
}

// example makes a sentence by numbers of any size; counts are from 2 on, so many of them.
func (w words) example(name, thing, form, count, counts int) example {
	c := content{w.names[name%len(w.names)], 2 + count%counts, w.things[thing%len(w.things)]}
	return example{fmt.Sprintf(w.forms[form%len(w.forms)], c.Who, c.Count, c.What), c,
		fmt.Sprintf(`{"who": %q, "count": %d, "what": %q}`, c.Who, c.Count, c.What)}
}

// fewSentences returns what the embedded base learns, three sentences of each name with each thing but one, and what it is asked:
// each name with that one.
func fewSentences() (train, asked []example) {
	const of, counts = 3, 19
	w := fewWords
	for n := range w.names {
		for t := range w.things {
			if t == (5*n+2)%len(w.things) {
				asked = append(asked, w.example(n, t, n, 7*n+3, counts))
				continue
			}
			for k := range of {
				i := len(train) + 1
				train = append(train, w.example(n, t, n+t+2*k+i/5, 7*i+n, counts))
			}
		}
	}
	return train, asked
}

// manySentences returns what a chat model learns, each name with five things, and what it is asked: every third name with another.
func manySentences() (train, asked []example) {
	const of, counts, apart = 5, 97, 7 // the things of a name begin so many behind those of the last
	w := manyWords
	for i := range of * len(w.names) {
		n, k := i%len(w.names), i/len(w.names)
		train = append(train, w.example(n, apart*n+k, 5*i+k, 13*i, counts))
	}
	for n := 0; n < len(w.names); n += 3 {
		asked = append(asked, w.example(n, apart*n+len(w.things)/2, n/3, 11*n+5, counts))
	}
	return train, asked
}
