package llama

// Embeddings returns the embedding, [n_embd], of text: that of its last token, or the pooled one where the model pools.
// The model has to be loaded with EnableEmbeddings.
func (l *LLama) Embeddings(text string, opts ...PredictOption) ([]float32, error) {
	if l.ctx == nil {
		return []float32{}, errFreed
	}
	tokens, err := l.tokenize(text)
	if err != nil {
		return []float32{}, err
	}
	return l.embed(tokens, NewPredictOptions(opts...))
}

// TokenEmbeddings does what Embeddings does, for a text that is already tokenized. BOS is put in front where the model
// wants it and it is not there.
func (l *LLama) TokenEmbeddings(tokens []int, opts ...PredictOption) ([]float32, error) {
	if l.ctx == nil {
		return []float32{}, errFreed
	}
	v := l.model.Vocab()
	var ids []int32
	if v.AddBOS() && v.BOS() >= 0 && (len(tokens) == 0 || tokens[0] != int(v.BOS())) {
		ids = append(ids, v.BOS())
	}
	for _, id := range tokens {
		if id < 0 || id >= v.NTokens() {
			return []float32{}, errorf("token embeddings", "token %d, want one of the %d in the vocabulary", id, v.NTokens())
		}
		ids = append(ids, int32(id))
	}
	return l.embed(ids, NewPredictOptions(opts...))
}

func (l *LLama) embed(tokens []int32, po PredictOptions) ([]float32, error) {
	const op = "embeddings"
	if !l.embeddings {
		return []float32{}, errorf(op, "the model was loaded without embeddings")
	}
	if err := l.begin(po); err != nil {
		return []float32{}, err
	}
	if n := l.ctx.NCtxSeq(); len(tokens) == 0 || len(tokens) > n {
		return []float32{}, errorf(op, "%d tokens, want 1 to %d", len(tokens), n)
	}
	s := l.stream(po)
	s.reset(nil)
	l.past, l.restored = nil, false
	l.ctx.SetEmbeddings(true)
	defer l.ctx.SetEmbeddings(false)
	defer l.ctx.ClearMemory()
	if l.ctx.Pools() {
		s.batch = l.ctx.NBatch()
	}
	if err := s.eval(tokens); err != nil {
		return []float32{}, err
	}
	e := l.ctx.EmbeddingSeq(0)
	if e == nil {
		e = l.ctx.Embedding(s.last)
	}
	if e == nil {
		return []float32{}, errorf(op, "the model gives none")
	}
	return append([]float32(nil), e...), nil
}
