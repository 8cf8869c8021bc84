package data

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// RankTokenizer is a vocabulary that knows what stands around two texts, as llama.Vocab does.
type RankTokenizer interface {
	tokenizer
	BOS() int32 // −1, as the others, where there is none
	EOS() int32
	SEP() int32
	AddBOS() bool
	AddEOS() bool
	AddSEP() bool
}

// RankTokens returns the tokens of a query with a document as llama-server's rerank endpoint puts them together: by the model's
// template of that name, if it has one, in which {query} and {document} stand, or else
//
//	BOS query EOS SEP document EOS
//
// with those of the three that the vocabulary adds; where it adds nothing between the two, with a line end there. Names of special
// tokens count as such by a template only. A document of which there are more than most tokens with all around it loses its end,
// which cut reports; 0 is no limit. A query that leaves no room for a document is an error.
func RankTokens(tok RankTokenizer, template, query, document string, most int) (ids []int32, cut bool, err error) {
	if template != "" {
		return templateTokens(tok, template, query, document, most)
	}
	eos := tok.EOS()
	if eos < 0 {
		eos = tok.SEP()
	}
	add := func(wanted bool, id int32) {
		if wanted && id >= 0 {
			ids = append(ids, id)
		}
	}
	add(tok.AddBOS(), tok.BOS())
	first, err := tok.Tokenize(query, false, false)
	if err != nil {
		return nil, false, err
	}
	ids = append(ids, first...)
	before := len(ids)
	add(tok.AddEOS(), eos)
	add(tok.AddSEP(), tok.SEP())
	if len(ids) == before {
		document = "\n" + document
	}
	second, err := tok.Tokenize(document, false, false)
	if err != nil {
		return nil, false, err
	}
	before = len(ids)
	add(tok.AddEOS(), eos)
	behind := slices.Clone(ids[before:])
	if room := most - len(ids); most > 0 && len(second) > room {
		if room < 1 {
			return nil, false, noRoom(len(ids), most)
		}
		second, cut = second[:room], true
	}
	return slices.Concat(ids[:before], second, behind), cut, nil
}

func noRoom(tokens, most int) error {
	return &FormatError{Msg: fmt.Sprintf("query of %d tokens with what stands around it, which leaves no room for a document in %d", tokens, most)}
}

// templateTokens does what RankTokens does by a template. The longest beginning of the document is taken that fits.
func templateTokens(tok RankTokenizer, template, query, document string, most int) (ids []int32, cut bool, err error) {
	around := strings.ReplaceAll(template, "{query}", query) // in llama-server's order
	with := func(document string) []int32 {
		all, e := tok.Tokenize(strings.ReplaceAll(around, "{document}", document), false, true)
		if e != nil {
			err = e
		}
		return all
	}
	ids = with(document)
	if err != nil || most == 0 || len(ids) <= most {
		return ids, false, err
	}
	letters := []rune(document)
	n := sort.Search(len(letters), func(n int) bool { return len(with(string(letters[:n+1]))) > most })
	ids = with(string(letters[:n]))
	for ; n > 0 && len(ids) > most; n-- { // fewer letters may be more tokens
		ids = with(string(letters[:n-1]))
	}
	if err == nil && n == 0 {
		err = noRoom(len(ids), most)
	}
	return ids, true, err
}
