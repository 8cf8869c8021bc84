package trainer

// placeStatistics finds the statistics in the engine, and puts those of a checkpoint there.
func (l *loop) placeStatistics() {
	earlier, all := l.statistics, l.engine.Statistics()
	l.statistics = nil
	for i, p := range l.statisticsParams {
		l.statistics = append(l.statistics, all[p.Name])
		if earlier != nil {
			copy(l.statistics[i], earlier[i])
		}
	}
	l.engine.PlaceStatistics()
	l.engine.AddTokens(l.earlierTokens)
}

// keepStatistics notes what the statistics are before a step.
func (l *loop) keepStatistics() {
	if l.kept == nil {
		l.kept = clones(l.statistics)
	}
	for i, sums := range l.statistics {
		copy(l.kept[i], sums)
	}
	l.keptTokens = l.engine.Tokens()
}

// restoreStatistics takes out of the statistics what a step that was not taken has added.
func (l *loop) restoreStatistics() {
	for i, sums := range l.kept {
		copy(l.statistics[i], sums)
	}
	l.engine.PlaceStatistics()
	l.engine.AddTokens(l.keptTokens - l.engine.Tokens())
}
