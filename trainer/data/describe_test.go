package data

import "finetune/chat"

// tokenView is one token of an example for people to look at.
type tokenView struct {
	ID     int32
	Text   string // control tokens by name; may be part of a character
	InLoss bool   // learned as the target behind the token before
}

// describe shows an example token by token, the way the model sees it.
func describe(e example, tok chat.Tokenizer) []tokenView {
	out := make([]tokenView, len(e.Tokens))
	for i, id := range e.Tokens {
		out[i] = tokenView{id, tok.Piece(id, true), i > 0 && e.LossMask[i]}
	}
	return out
}
