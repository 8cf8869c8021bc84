package data

import (
	"fmt"
	"strings"
)

// Describe tells in three lines what was read for training, and held out of it: records and their format, tokens, and what
// was left out. val may be nil.
func Describe(train, val *Windows) []string {
	s := train.stats
	held := Stats{}
	if val != nil {
		held = val.stats
	}
	return []string{
		"data: " + s.recordsText(held),
		"tokens: " + s.tokensText(held),
		"left out: " + s.leftOutText(held),
	}
}

func (s Stats) recordsText(held Stats) string {
	text := fmt.Sprintf("%s to train on, %d held out", plural(s.Records, "record"), held.Records)
	if s.Source == nil {
		return "plain text, " + text
	}
	return fmt.Sprintf("format %s (%s) in %s, %s, %d near-duplicates", s.Source.Format, strings.Join(s.Source.Fields, ", "), plural(s.Source.Files, "file"), text, s.Source.Duplicates)
}

func (s Stats) tokensText(held Stats) string {
	text := fmt.Sprintf("%d, of which %d are learned; held out %d, of which %d are measured", s.Tokens, s.TrainedTokens, held.Tokens, held.TrainedTokens)
	if least, middle, most, ok := s.Lengths.rank(); ok {
		text += fmt.Sprintf("; a record has %d to %d, half of them at most %d", least, most, middle)
	}
	return text
}

func (s Stats) leftOutText(held Stats) string {
	bad := 0
	if s.Source != nil {
		bad = s.Source.Bad
	}
	return fmt.Sprintf("%d empty answers, %d bad records, %d too long, %d with a part that the template loses, %d without anything to learn; %d records cut",
		s.Empty+held.Empty, bad, s.Skipped+held.Skipped, s.LostSkipped+held.LostSkipped, s.NoLoss+held.NoLoss, s.Cut+held.Cut)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
