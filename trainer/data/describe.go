package data

import "finetune/chat"

// TokenView is one token of an example for people to look at.
type TokenView struct {
	ID     int32
	Text   string // control tokens by name; may be part of a character
	InLoss bool   // learned as the target behind the token before
}

// Describe shows an example token by token, the way the model sees it.
func Describe(e Example, tok chat.Tokenizer) []TokenView {
	out := make([]TokenView, len(e.Tokens))
	for i, id := range e.Tokens {
		out[i] = TokenView{id, tok.Piece(id, true), i > 0 && e.LossMask[i]}
	}
	return out
}
