package newmodel

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"words with their spaces", "To be, or not", []string{"To", " be", ",", " or", " not"}},
		{"contractions", "I'll say it's 'Tis don't we'reve'x", []string{"I", "'ll", " say", " it", "'s", " '", "Tis", " don", "'t", " we", "'re", "ve", "'", "x"}},
		{"a capital is no contraction", "IT'S", []string{"IT", "'", "S"}},
		{"digits by themselves", "in 1984: 3.14", []string{"in", " ", "1", "9", "8", "4", ":", " ", "3", ".", "1", "4"}},
		{"numbers of other scripts", "x²٣Ⅷ", []string{"x", "²", "٣", "Ⅷ"}},
		{"spaces before a word", "a   b", []string{"a", "  ", " b"}},
		{"spaces before a number end a part", "a   1", []string{"a", "   ", "1"}},
		{"spaces at the end", "a  ", []string{"a", "  "}},
		{"lines", "a\nb\n\nc", []string{"a", "\n", "b", "\n", "\n", "c"}},
		{"carriage returns and tabs", "a\r\n\tb", []string{"a", "\r\n", "\t", "b"}},
		{"a space before a mark", "a \"b\" ...", []string{"a", " \"", "b", "\"", " ..."}},
		{"other spaces", "a\u00a0b\u3000c", []string{"a", "\u00a0", "b", "\u3000", "c"}},
		{"no space between words", "你好，世界", []string{"你好", "，", "世界"}},
		{"marks on letters", "e\u0301t", []string{"e", "\u0301", "t"}},
		{"emoji", "ok 👍🏽!", []string{"ok", " 👍🏽!"}},
		{"not UTF-8", "a\xff b", []string{"a", "\xff", " b"}},
	} {
		if got := slices.Collect(words(tt.text)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: words(%q) = %q, want %q", tt.name, tt.text, got, tt.want)
		}
	}
}

func TestSanitize(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "",
		"héllo 👍":          "héllo 👍",
		"a\xffb":           "a\ufffdb",
		"\xe4\xbd":         "\ufffd\ufffd", // the beginning of a character
		"\xe4\xbdA":        "\ufffd\ufffdA",
		"\xc1\xa1":         "a",            // too long a form
		"\xed\xa0\x80":     "\xed\xa0\x80", // a surrogate
		"\xf4\x90\x80\x80": "\ufffd",       // beyond Unicode
		"\xf8\x80":         "\ufffd\ufffd",
	} {
		if got := sanitize(in); got != want {
			t.Errorf("sanitize(%q) = %q, want %q", in, got, want)
		}
	}
}

// nasty are texts that tokenizers get wrong.
var nasty = []string{
	"", " ", "  ", "\n", "\r\n", "\t\t", "\x00", "a\x00b", "'", "''s", "'s's", "I'LL", "’s",
	"Hello, world!  How's  it going?\r\n\r\n\tFine.   \n",
	" .,!?' ; a , b . c ! d ? 's 'm 're",
	"1234567890 12,345.678 3.14e-10 0x1F ½ ² Ⅳ ٣ 一二三",
	"你好，世界。今天天气很好！", "こんにちは、世界。", "안녕하세요 세계", "สวัสดีชาวโลก", "नमस्ते दुनिया", "שלום עולם", "مرحبا بالعالم",
	"👍🏽👨‍👩‍👧‍👦🏳️‍🌈 🇩🇪", "e\u0301 n\u0303 \u200b\u200d\ufeff", "\u00a0\u2003\u3000 \u2028\u2029\u0085",
	"<|im_start|>user\nHi<|im_end|>\n<|endoftext|>",
	"func main() {\n\tfmt.Println(\"%d\\n\", x<<3 | 0b11)\n}\n",
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	"----------------====================~~~~~~~~~~~~~~~~~~~~",
	"\U0002ebf0\U0002ee5d\U0002ee5e \ue000 \U000f0000 \u0378",
	strings.Repeat("x", 5000) + strings.Repeat(" ", 3000) + "1",
}

// notUTF8 is what no text file should hold.
var notUTF8 = []string{
	"\xff", "\x80\x81", "a\xffb", "\xe4\xbd", "\xe4\xbdA", "\xc1\xa1\xc0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xf8\x88\x80\x80\x80",
	"caf\xe9 cr\xe8me", "\xf0\x9f\x91", " \xff 1\xfe\n\xfd", "\xef\xbf\xbd",
}

func FuzzWords(f *testing.F) {
	for _, s := range slices.Concat(nasty, notUTF8) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all := slices.Collect(words(text))
		if got := strings.Join(all, ""); got != text {
			t.Fatalf("words(%q) = %q, which is not the text", text, all)
		}
		if slices.Contains(all, "") {
			t.Fatalf("words(%q) = %q, with an empty word", text, all)
		}
		clean := sanitize(text)
		if utf8.ValidString(text) && clean != text || sanitize(clean) != clean {
			t.Fatalf("sanitize(%q) = %q, then %q", text, clean, sanitize(clean))
		}
		if got := small().decode(small().encode(text)); got != clean {
			t.Fatalf("Decode(Encode(%q)) = %q, want %q", text, got, clean)
		}
	})
}
