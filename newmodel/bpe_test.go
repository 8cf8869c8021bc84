package newmodel

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// small is a tokenizer over a few texts.
var small = sync.OnceValue(func() *BPE {
	b, err := TrainBPE(slices.Values(append([]string{strings.Repeat(verse, 3)}, nasty...)), 400)
	if err != nil {
		panic(err)
	}
	return b
})

const verse = `The owl and the pussy-cat went to sea
In a beautiful pea-green boat,
They took some honey, and plenty of money,
Wrapped up in a five-pound note.
The owl looked up to the stars above,
And sang to a small guitar,
"O lovely Pussy! O Pussy, my love,
What a beautiful Pussy you are!"
`

func TestTrainBPEByHand(t *testing.T) {
	// low ×5, lower ×2, newest ×6, widest ×3, the example of Sennrich, Haddow and Birch
	// (2016) without its end-of-word mark: es 9, then est 9, then lo 7, then low 7.
	text := strings.Repeat("low\n", 5) + strings.Repeat("lower\n", 2) + strings.Repeat("newest\n", 6) + strings.Repeat("widest\n", 3)
	b, err := TrainBPE(slices.Values([]string{text}), LeastTokens+4)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"es", "est", "lo", "low"}
	if got := b.pieces[LeastTokens:]; !slices.Equal(got, want) {
		t.Errorf("merged are %q, want %q", got, want)
	}
	if got, want := b.decode(b.encode("lowest")), "lowest"; got != want || len(b.encode("lowest")) != 2 {
		t.Errorf("Encode(%q) = %d, want the tokens of low and est", want, b.encode("lowest"))
	}
}

// naiveMerges learns by counting every pair of every word afresh for each merge.
func naiveMerges(counts map[string]int64, n int) []pair {
	all := map[string][]int32{}
	for word := range counts {
		for i := range len(word) {
			all[word] = append(all[word], int32(word[i]))
		}
	}
	var merges []pair
	for len(merges) < n {
		pairs := map[pair]int64{}
		for word, tokens := range all {
			for i := range len(tokens) - 1 {
				pairs[pair{tokens[i], tokens[i+1]}] += counts[word]
			}
		}
		best := pair{-1, -1}
		for p, c := range pairs {
			b := pairs[best]
			if c >= leastPair && (c > b || c == b && (p.left < best.left || p.left == best.left && p.right < best.right)) {
				best = p
			}
		}
		if best.left < 0 {
			break
		}
		for word, tokens := range all {
			all[word] = merged(slices.Clone(tokens), best, firstMerge+int32(len(merges)))
		}
		merges = append(merges, best)
	}
	return merges
}

func TestTrainBPEIsTheNaiveOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{verse}
	for alphabet := 2; alphabet < 6; alphabet++ { // few letters: many ties, and pairs of equal tokens
		var b strings.Builder
		for range 300 {
			b.WriteByte(' ')
			for range 1 + random.IntN(9) {
				b.WriteByte(byte('a' + random.IntN(alphabet)))
			}
		}
		texts = append(texts, b.String())
	}
	for i, text := range texts {
		counts := countWords(slices.Values([]string{text}))
		want := naiveMerges(counts, 60)
		b, err := TrainBPE(slices.Values([]string{text}), LeastTokens+len(want))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.merges, want) {
			t.Errorf("text %d: merges are\n%v, want\n%v", i, b.merges, want)
		}
	}
}

func TestTrainBPECountsWordsOnly(t *testing.T) {
	lines := strings.SplitAfter(verse, "\n")
	one, err := TrainBPE(slices.Values([]string{verse}), 300)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(lines)
	other, err := TrainBPE(slices.Values(lines), 300)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(one.merges, other.merges) {
		t.Error("the order of the texts changes the tokenizer")
	}
}

func TestTrainBPERefuses(t *testing.T) {
	for size, want := range map[int]string{
		0:             "want 259",
		258:           "want 259",
		maxTokens + 1: "want 259",
		5000:          "a vocabulary of 5000 tokens, the texts give 3",
	} {
		_, err := TrainBPE(slices.Values([]string{verse}), size)
		var bad *SpecError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("TrainBPE(%d tokens) = %v, want a *SpecError that says %q", size, err, want)
		}
	}
	if _, err := TrainBPE(slices.Values([]string{}), LeastTokens); err != nil {
		t.Errorf("TrainBPE of nothing into bytes = %v", err)
	}
}

// naiveWord merges again and again the leftmost of the pairs that were learned first.
func naiveWord(b *BPE, word string) []int32 {
	var tokens []int32
	for i := range len(word) {
		tokens = append(tokens, int32(word[i]))
	}
	for {
		at, to := -1, int32(b.Len())
		for i := range len(tokens) - 1 {
			if m, ok := b.merged[pair{tokens[i], tokens[i+1]}]; ok && m < to {
				at, to = i, m
			}
		}
		if at < 0 {
			return tokens
		}
		tokens = slices.Concat(tokens[:at], []int32{to}, tokens[at+2:])
	}
}

func TestEncodeIsTheNaiveOne(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	b := small()
	for range 3000 {
		word := make([]byte, 1+random.IntN(20))
		for i := range word {
			word[i] = verse[random.IntN(len(verse))]
		}
		if got, want := b.word(string(word)), naiveWord(b, string(word)); !slices.Equal(got, want) {
			t.Fatalf("word(%q) = %v, want %v", word, got, want)
		}
	}
}

func TestEncodeIsWhatTrainingSaw(t *testing.T) {
	trainer := newBPETrainer(countWords(slices.Values([]string{verse})))
	for trainer.merge() {
	}
	b := newBPE(trainer.merges)
	for _, w := range trainer.words {
		if got := b.word(b.decode(w.tokens)); !slices.Equal(got, w.tokens) {
			t.Errorf("word(%q) = %v, want %v", b.decode(w.tokens), got, w.tokens)
		}
	}
	bytes, tokens := b.Count(slices.Values([]string{verse, "x"}))
	if want := int64(len(b.encode(verse)) + 1); tokens != want || bytes != int64(len(verse)+1) {
		t.Errorf("Count = %d bytes, %d tokens, want %d, %d", bytes, tokens, len(verse)+1, want)
	}
}

func TestLongWordsAreLearnedAndEncoded(t *testing.T) {
	long := strings.Repeat("ab", 3*maxWord)
	b, err := TrainBPE(slices.Values([]string{long}), LeastTokens+9) // ab, abab, … of 512 bytes
	if err != nil {
		t.Fatal(err)
	}
	if ids := b.encode(long); b.decode(ids) != long || len(ids) != len(long)/512 {
		t.Errorf("Encode of %d bytes gives %d tokens", len(long), len(ids))
	}
}

func TestDecodeLeavesUnknownOut(t *testing.T) {
	if got := small().decode([]int32{-1, 'a', 1 << 20, endOfTurn}); got != "a<|im_end|>" {
		t.Errorf("Decode = %q", got)
	}
}

func TestByteRunesDiffer(t *testing.T) {
	seen := map[rune]bool{}
	for b := range 256 {
		r := ByteRune(byte(b))
		if seen[r] || r <= ' ' || r >= 0x144 {
			t.Errorf("ByteRune(%#02x) = %q", b, r)
		}
		seen[r] = true
	}
	if ByteRune(' ') != 'Ġ' || ByteRune('\n') != 'Ċ' || ByteRune('A') != 'A' {
		t.Error("ByteRune is not GPT-2's")
	}
}

func BenchmarkTrainBPE(b *testing.B) {
	var text strings.Builder
	words := rand.NewZipf(rand.New(rand.NewPCG(5, 6)), 1.1, 10, 1<<20)
	for text.Len() < 4<<20 {
		text.WriteString(" " + strconv.FormatUint(words.Uint64()*2654435761, 26))
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, err := TrainBPE(slices.Values([]string{text.String()}), 2048); err != nil {
			b.Fatal(err)
		}
	}
}
