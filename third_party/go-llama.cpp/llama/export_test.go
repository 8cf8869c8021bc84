package llama

// CleanLog is tested by itself: what llama.cpp logs is not ours to choose.
var CleanLog = cleanLog

// CheckRelease and CheckSize are tested by themselves: there is one library to link.
var (
	CheckRelease = checkRelease
	CheckSize    = checkSize
)
